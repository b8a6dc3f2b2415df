//! Whole requests, from their frame to the frames of their replies: all that a shard does for them
//! between the socket and the disk. Its partitions are its own, so no message crosses shards.
//!
//! For a produce that is the ordered phase (decoding, validating, sequence, append) and, once the
//! write is durable, the completion; the write itself and what follows from it at once is not
//! measured. For a fetch it is everything: session, plan and reply; nothing has to be waited for.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use millrace::api::broker::{Broker, Connection, Ways};
use millrace::api::dispatch::{Handled, Outcome, dispatch};
use millrace::api::fetch_session::FetchSessions;
use millrace::base::clock::Clock;
use millrace::base::ids::{
    LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, ShardId, TopicId,
    TopicIdPartition, Uuid,
};
use millrace::config::{BrokerConfig, Layers, TopicConfig, Values};
use millrace::controller::ControllerHandle;
use millrace::coordinator::group::coordinators::{Coordinators, GroupRouter};
use millrace::coordinator::group::runtime;
use millrace::metadata::{MetadataDelta, MetadataImage, MetadataRecord};
use millrace::partition::core::Shared;
use millrace::partition::open::OpenPartition;
use millrace::partition::router::Router;
use millrace::partition::table::PartitionTable;
use millrace::protocol::frame::{self, LENGTH_BYTES, Reply};
use millrace::protocol::messages::fetch_request::FetchRequest;
use millrace::protocol::messages::partition_record::PartitionRecord;
use millrace::protocol::messages::topic_record::TopicRecord;
use millrace::record::{BatchBuilder, Codec, RecordToWrite};
use millrace::runtime::TaskQueue;
use millrace::shard::budget::Budget;
use millrace::shard::mailbox;
use millrace::storage::directory::LogDirectory;
use millrace::storage::log::Log;

use super::protocol::{FETCH_VERSION, PRODUCE_VERSION, fetch, framed, produce};
use super::storage::{SEGMENT_BYTES, make_room, settle, storage};
use super::{NOW, Part, at_once};

/// The topics: their names, ids and partitions.
const WRITTEN_ONE: TopicId = TopicId(0x1001);
const WRITTEN_MANY: TopicId = TopicId(0x1002);
const READ_ONE: TopicId = TopicId(0x2001);
const READ_MANY: TopicId = TopicId(0x2002);
type Topics = [(&'static str, TopicId, i32); 2];
const WRITTEN: Topics = [
    ("written-one", WRITTEN_ONE, 1),
    ("written-many", WRITTEN_MANY, 100),
];
const READ: Topics = [("read-one", READ_ONE, 1), ("read-many", READ_MANY, 100)];

/// A shard's broker, and a client's connection to it.
struct Served {
    broker: Rc<Broker>,
    connection: Rc<Connection>,
}

impl Served {
    async fn new(directory: &LogDirectory, topics: &Topics) -> Rc<Self> {
        let clock = Clock::manual(NOW);
        let queue = TaskQueue::Requests;
        let storage = storage(directory, 64 << 20);
        let table = PartitionTable::new(storage, Shared::new(clock.clone(), queue));
        let values = [("node.id", "1"), ("log.dirs", "/nowhere")];
        let values = values.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = BrokerConfig::new(Layers::of_start(Values::from(values)));
        let config = config.expect("right settings");
        let groups =
            runtime::Shared::new(&config, 1 << 20, clock.clone(), queue, Rc::clone(&table));
        for &(name, topic_id, partitions) in topics {
            for index in 0..partitions {
                let wanted = partition(name, topic_id, index);
                table.open(wanted).await.expect("a new partition");
            }
        }
        let ways = Ways {
            partitions: Router::new(table, Rc::new(mailbox::mesh(1, 8).remove(0).open().0)),
            groups: GroupRouter::new(
                Coordinators::new(Rc::new(groups)),
                mailbox::mesh(1, 8).remove(0).open().0,
            ),
            controller: ControllerHandle::new(mailbox::mesh(1, 8).remove(0).open().0),
        };
        let sessions = FetchSessions::new(8, ShardId(0), 1, 7);
        let image = Arc::new(image(topics));
        let cluster_id = ByteString::from_static("a-cluster");
        let (config, waits) = (Arc::new(config), Budget::new(1 << 20));
        let broker = Broker::new(config, clock, cluster_id, ways, sessions, waits, image);
        let connection = Rc::new(Connection {
            listener: Arc::from("PLAINTEXT"),
            peer: SocketAddr::from(([127, 0, 0, 1], 40_000)),
        });
        Rc::new(Self { broker, connection })
    }

    /// A request's ordered phase, which for a fetch is all of it.
    fn handle(&self, frame: Bytes) -> Handled {
        at_once(pin!(dispatch(&self.broker, &self.connection, frame)))
    }

    fn answer(&self, frame: Bytes) -> Reply {
        match self.handle(frame) {
            Handled::Now(outcome) => replied(outcome),
            Handled::Later(_) => panic!("a fetch has one phase"),
        }
    }

    fn logs(&self, topic_id: TopicId) -> Vec<Rc<Log>> {
        let table = self.broker.router.table();
        let partitions = (0..).map_while(|index| {
            let partition = PartitionIndex(index);
            table.get(&TopicIdPartition {
                topic_id,
                partition,
            })
        });
        partitions.map(|it| Rc::clone(it.log())).collect()
    }

    /// Writes a batch to each partition of a topic. `phase` is called around the two phases.
    async fn write(&self, topic_id: TopicId, records: &Bytes, phase: impl Fn(bool)) {
        let logs = self.logs(topic_id);
        let request = produce(topic_id, logs.len() as i32, records);
        let frame = framed(PRODUCE_VERSION, &request);
        for log in &logs {
            make_room(log, records.len()).await;
        }
        phase(true);
        let handled = self.handle(frame);
        phase(false);
        for log in &logs {
            settle(log).await;
        }
        let Handled::Later(mut completion) = handled else {
            panic!("a produce has two phases");
        };
        phase(true);
        drop(replied(at_once(completion.as_mut())));
        phase(false);
    }
}

fn replied(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Reply(reply) => reply,
        Outcome::NoReply => panic!("it was to be replied to"),
        Outcome::Close(reason) => panic!("the connection was closed: {reason}"),
    }
}

fn partition(topic: &str, topic_id: TopicId, index: i32) -> OpenPartition {
    OpenPartition {
        id: TopicIdPartition {
            topic_id,
            partition: PartitionIndex(index),
        },
        topic: topic.to_owned(),
        leader_epoch: LeaderEpoch(1),
        config: TopicConfig {
            segment_bytes: SEGMENT_BYTES as u32,
            ..TopicConfig::default()
        },
        directory: None,
        is_new: true,
        point: None,
        clean: false,
        tally: Arc::default(),
    }
}

fn image(topics: &Topics) -> MetadataImage {
    let mut records: Vec<MetadataRecord> = Vec::new();
    for &(name, topic_id, partitions) in topics {
        let name = ByteString::from_static(name);
        records.push(TopicRecord { name, topic_id }.into());
        let this = NodeId(1).0;
        let partition = |partition_id| PartitionRecord {
            partition_id,
            topic_id,
            replicas: vec![this],
            isr: vec![this],
            leader: this,
            leader_epoch: 1,
            partition_epoch: 0,
            directories: vec![Uuid(77)],
            ..PartitionRecord::default()
        };
        records.extend((0..partitions).map(|index| partition(index).into()));
    }
    let mut delta = MetadataDelta::new(&MetadataImage::default());
    for (offset, record) in (0..).map(Offset).zip(&records) {
        delta.replay(offset, record).expect("a right record");
    }
    delta.finish().0
}

/// Batches of an idempotent producer, one after the other.
struct Producer {
    records: usize,
    next_sequence: Cell<i32>,
}

impl Producer {
    fn new(records: usize) -> Self {
        Self {
            records,
            next_sequence: Cell::new(0),
        }
    }

    /// Its next batch, of records of 1 KiB.
    fn next(&self) -> Bytes {
        let sequence = self.next_sequence.get();
        self.next_sequence.set(sequence + self.records as i32);
        let builder = BatchBuilder::new(Codec::None);
        let mut builder = builder.producer(ProducerId(4), ProducerEpoch(0), sequence);
        for _ in 0..self.records {
            let record = RecordToWrite {
                timestamp: NOW,
                key: None,
                value: Some(&[b'v'; 1024]),
                headers: &[],
            };
            builder.append(&record).expect("a record that fits");
        }
        builder.build().expect("a batch").into()
    }
}

/// A produce request of one batch to each partition of a topic.
fn produces(served: &Rc<Served>, name: &'static str, topic_id: TopicId, records: usize) -> Part {
    let producer = Rc::new(Producer::new(records));
    let served = Rc::clone(served);
    let bytes = (served.logs(topic_id).len() * records * 1024) as u64;
    Part::metered(name, 1, bytes, move |meter| {
        let (served, producer) = (Rc::clone(&served), Rc::clone(&producer));
        async move {
            let records = producer.next();
            let phase = |begins| match begins {
                true => meter.start(),
                false => meter.stop(),
            };
            served.write(topic_id, &records, phase).await;
        }
    })
}

/// A fetch request without a session that finds all it wants in memory.
fn fetches(served: &Rc<Served>, name: &'static str, request: &FetchRequest, bytes: usize) -> Part {
    const CALLS: u64 = 8;
    let frame = framed(FETCH_VERSION, request);
    let served = Rc::clone(served);
    Part::new(name, CALLS, 0, move || {
        for _ in 0..CALLS {
            let reply = served.answer(frame.clone());
            assert!(reply.length > bytes, "{} bytes", reply.length);
        }
    })
}

/// A fetch request in a session in which nothing has happened.
fn polls(served: &Rc<Served>, name: &'static str) -> Part {
    let begin = FetchRequest {
        session_epoch: 0,
        ..fetch(READ_MANY, served.logs(READ_MANY).len() as i32, 8)
    };
    let reply = served.answer(framed(FETCH_VERSION, &begin)).chunks.concat();
    let reply = Bytes::from(reply).slice(LENGTH_BYTES..);
    let (_, reply) =
        frame::parse_response::<FetchRequest>(reply, FETCH_VERSION).expect("a right reply");
    assert_ne!(reply.session_id, 0);
    let served = Rc::clone(served);
    let epoch = Rc::new(Cell::new(0));
    let length = Rc::new(RefCell::new(0));
    Part::metered(name, 1, 0, move |meter| {
        let (served, length) = (Rc::clone(&served), Rc::clone(&length));
        epoch.set(epoch.get() + 1);
        let request = FetchRequest {
            session_id: reply.session_id,
            session_epoch: epoch.get(),
            topics: Vec::new(),
            ..begin.clone()
        };
        async move {
            let frame = framed(FETCH_VERSION, &request);
            meter.start();
            let reply = served.answer(frame);
            meter.stop();
            *length.borrow_mut() = reply.length;
            assert!(reply.length < 32, "there is news: {} bytes", reply.length);
        }
    })
}

pub async fn parts(directory: &LogDirectory) -> Vec<Part> {
    // Appends drop the oldest units of their shard's tails: not those that are read here.
    let written = Served::new(directory, &WRITTEN).await;
    let read = Served::new(directory, &READ).await;
    let producer = Producer::new(64);
    for _ in 0..32 {
        read.write(READ_ONE, &producer.next(), |_| {}).await;
    }
    let producer = Producer::new(1);
    for _ in 0..8 {
        read.write(READ_MANY, &producer.next(), |_| {}).await;
    }
    vec![
        produces(&written, "produce/1x64KiB", WRITTEN_ONE, 64),
        produces(&written, "produce/100x1KiB", WRITTEN_MANY, 1),
        fetches(&read, "fetch/1MiB", &fetch(READ_ONE, 1, 64), 900 << 10),
        fetches(
            &read,
            "fetch/100x4KiB",
            &fetch(READ_MANY, 100, 4),
            400 << 10,
        ),
        polls(&read, "fetch/in-session-no-news"),
    ]
}
