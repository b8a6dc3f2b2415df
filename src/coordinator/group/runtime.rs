//! Runs the machine of one partition of `__consumer_offsets` on the shard that owns the partition:
//! loads it from the log, keeps its time, appends its records and sends its replies.
//!
//! One append is under way at a time, with the records of all operations that came meanwhile, so
//! that many commits share a write. A machine whose timers are not due holds no task but a sleeping
//! one, and an empty one none.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use glommio::Task;
use glommio::timer::Timer;

use super::command::{Append, Command, Effects, Now, Reply, ReplyId};
use super::config::GroupConfig;
use super::error::GroupError;
use super::machine::Machine;
use super::record::GroupRecord;
use crate::base::clock::Clock;
use crate::base::ids::{LeaderEpoch, Offset, TopicId, TopicIdPartition};
use crate::base::limits::DECOMPRESSED_BATCH_BYTES_MAX;
use crate::config::BrokerConfig;
use crate::partition::message::{
    Acks, AppendError, AppendRequest, PartitionError, PartitionMessage, ReadRequest,
};
use crate::partition::table::PartitionTable;
use crate::protocol::error::EncodeError;
use crate::record::batches::Batches;
use crate::record::builder::{BatchBuilder, BuildError, RecordToWrite};
use crate::record::compression::{Codec, Decompressor};
use crate::record::validate::RecordError;
use crate::record::view::RecordSet;
use crate::shard::queues::Queue;
use crate::shard::reply::{self, Sender};

/// What the coordinators of a shard share.
#[derive(Debug)]
pub struct Shared {
    /// The time that goes into records.
    pub clock: Clock,
    /// The moment from which timers count.
    pub began: Instant,
    /// Where its tasks run.
    pub queue: Queue,
    /// The shard's partitions.
    pub table: Rc<PartitionTable>,
    /// The settings of groups.
    pub config: GroupConfig,
    /// The largest batch that the log takes, in bytes.
    pub batch_bytes_max: usize,
    /// `offsets.load.buffer.size`: bytes of the log that are read in one go while it is loaded.
    pub load_bytes: usize,
    /// `offsets.topic.compression.codec`.
    pub codec: Codec,
}

impl Shared {
    /// What the coordinators of the shard that owns `table` go by.
    pub fn new(
        config: &BrokerConfig,
        clock: Clock,
        queue: Queue,
        table: Rc<PartitionTable>,
    ) -> Self {
        let codec = config.groups.offsets_topic_compression_codec;
        Self {
            clock,
            began: Instant::now(),
            queue,
            table,
            config: config.into(),
            batch_bytes_max: config.topic_defaults.max_message_bytes as usize,
            load_bytes: config.groups.offsets_load_buffer_size as usize,
            codec: Codec::from_id(codec).expect("the settings allow no other codec"),
        }
    }
}

/// The coordinator of the groups of one partition.
#[derive(Debug)]
pub struct Coordinator {
    shared: Rc<Shared>,
    id: TopicIdPartition,
    machine: RefCell<Machine>,
    waiting: RefCell<HashMap<ReplyId, Sender<Reply>>>,
    next_reply: Cell<u64>,
    to_append: RefCell<VecDeque<Queued>>,
    is_appending: Cell<bool>,
    alarm: RefCell<Option<Alarm>>,
    /// Topics that were deleted while the log is still being read.
    deleted_topics: RefCell<Option<Vec<(ByteString, TopicId)>>>,
}

/// The task that wakes a machine. Dropping it cancels the task.
#[derive(Debug)]
struct Alarm {
    at: Duration,
    sleeping: Task<()>,
}

impl Coordinator {
    /// A coordinator that loads what is in the log of `id`, which this shard owns, and refuses
    /// requests until that is done.
    pub fn start(shared: &Rc<Shared>, id: TopicIdPartition) -> Rc<Self> {
        let coordinator = Rc::new(Self {
            shared: Rc::clone(shared),
            id,
            machine: RefCell::new(Machine::new(shared.config.clone(), id.partition)),
            waiting: RefCell::default(),
            next_reply: Cell::new(0),
            to_append: RefCell::default(),
            is_appending: Cell::new(false),
            alarm: RefCell::default(),
            deleted_topics: RefCell::new(Some(Vec::new())),
        });
        let loading = Rc::clone(&coordinator);
        shared
            .queue
            .spawn(async move { loading.load().await })
            .detach();
        coordinator
    }

    /// Carries out a request. It is answered now or later; a coordinator that ends drops `reply`.
    pub fn handle(self: &Rc<Self>, command: Command, reply: Sender<Reply>) {
        let id = ReplyId(self.next_reply.replace(self.next_reply.get() + 1));
        self.waiting.borrow_mut().insert(id, reply);
        self.with_machine(|machine, now, out| machine.handle(command, id, now, out));
    }

    /// Looks at the machine, which does not change.
    pub fn look<T>(&self, at: impl FnOnce(&Machine) -> T) -> T {
        at(&self.machine.borrow())
    }

    /// Removes the offsets that were committed for a topic that is deleted; as soon as the log is
    /// loaded, if it is not.
    pub fn topic_deleted(self: &Rc<Self>, topic: &ByteString, id: TopicId) {
        if let Some(waiting) = &mut *self.deleted_topics.borrow_mut() {
            waiting.push((topic.clone(), id));
            return;
        }
        self.with_machine(|machine, now, out| machine.topic_deleted(topic, id, now, out));
    }

    /// Gives the partition up: whoever waits is sent to another coordinator.
    pub fn stop(self: &Rc<Self>) {
        self.with_machine(|machine, _, out| machine.unload(out));
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.shared.began.elapsed(),
            wall_ms: self.shared.clock.now_ms(),
        }
    }

    fn with_machine(self: &Rc<Self>, work: impl FnOnce(&mut Machine, Now, &mut Effects)) {
        let mut out = Effects::default();
        work(&mut self.machine.borrow_mut(), self.now(), &mut out);
        for (id, answer) in out.replies {
            if let Some(reply) = self.waiting.borrow_mut().remove(&id) {
                // The client may have gone meanwhile.
                let _gone = reply.send(answer);
            }
        }
        let queued = out.appends.into_iter().map(Queued::new);
        self.to_append.borrow_mut().extend(queued);
        self.start_appending();
        self.sleep();
    }

    fn start_appending(self: &Rc<Self>) {
        let nothing = self.to_append.borrow().is_empty();
        if nothing || self.is_appending.replace(true) {
            return;
        }
        let coordinator = Rc::clone(self);
        let task = async move {
            while let Some(batch) = coordinator.next_batch() {
                let done = coordinator.append(&batch).await;
                coordinator.with_machine(|machine, now, out| {
                    for Append { records, after } in batch.into_iter().map(|it| it.append) {
                        if done.is_ok() {
                            records
                                .iter()
                                .for_each(|record| machine.replay(record, now));
                        }
                        machine.appended(after, done, now, out);
                    }
                });
            }
            coordinator.is_appending.set(false);
        };
        self.shared.queue.spawn(task).detach();
    }

    /// The operations at the front whose records fit into one batch, at least one, if there is any.
    /// One whose records cannot be written stands alone, so that only it fails.
    fn next_batch(&self) -> Option<VecDeque<Queued>> {
        let mut waiting = self.to_append.borrow_mut();
        let mut bytes = 0;
        let fitting = waiting.iter().take_while(|queued| {
            bytes += queued.bytes();
            queued.records.is_ok() && bytes <= self.shared.batch_bytes_max
        });
        let count = fitting.count().max(1).min(waiting.len());
        let rest = waiting.split_off(count);
        let batch = mem::replace(&mut *waiting, rest);
        (!batch.is_empty()).then_some(batch)
    }

    /// Appends the records of some operations as one batch, and waits until it is committed.
    async fn append(&self, batch: &VecDeque<Queued>) -> Result<(), GroupError> {
        let records = self.build(batch).map_err(|error| {
            tracing::error!(%error, "records of a group cannot be written");
            GroupError::Unexpected
        })?;
        let (reply, answer) = reply::channel();
        let request = AppendRequest {
            id: self.id,
            records,
            acks: Acks::All,
            zstd_allowed: true,
            reply,
        };
        self.shared.table.handle(PartitionMessage::Append(request));
        match answer.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(of_append(&error)),
            Err(_gone) => Err(GroupError::NotCoordinator),
        }
    }

    fn build(&self, batch: &VecDeque<Queued>) -> Result<Bytes, WriteError> {
        let mut builder = BatchBuilder::new(self.shared.codec);
        let timestamp = self.shared.clock.now_ms();
        for queued in batch {
            for (key, value) in queued.records.as_ref().map_err(|error| error.clone())? {
                builder.append(&RecordToWrite {
                    timestamp,
                    key: Some(key),
                    value: value.as_deref(),
                    headers: &[],
                })?;
            }
        }
        Ok(builder.build()?.into())
    }

    /// Sees to it that the machine is woken when its next timer is due, by one sleeping task.
    fn sleep(self: &Rc<Self>) {
        let Some(deadline) = self.machine.borrow().deadline() else {
            self.alarm.take();
            return;
        };
        let set = self.alarm.borrow().as_ref().map(|alarm| alarm.at);
        if set.is_some_and(|at| at <= deadline) {
            return;
        }
        let coordinator = Rc::downgrade(self);
        let left = deadline.saturating_sub(self.shared.began.elapsed());
        let sleeping = self.shared.queue.spawn(async move {
            Timer::new(left).await;
            let Some(coordinator) = coordinator.upgrade() else {
                return;
            };
            // This task is its own alarm, and is not to be cancelled by the next one.
            if let Some(alarm) = coordinator.alarm.take() {
                alarm.sleeping.detach();
            }
            coordinator.with_machine(|machine, now, out| machine.tick(now, out));
        });
        let alarm = Alarm {
            at: deadline,
            sleeping,
        };
        // Cancels the one that would have rung later.
        drop(self.alarm.replace(Some(alarm)));
    }

    async fn load(self: Rc<Self>) {
        let began = Instant::now();
        match self.replay_log().await {
            Ok(records) => {
                self.with_machine(|machine, now, out| machine.loaded(now, out));
                let deleted = self.deleted_topics.take();
                for (topic, id) in deleted.into_iter().flatten() {
                    self.topic_deleted(&topic, id);
                }
                let milliseconds = began.elapsed().as_millis();
                let partition = self.id.partition.0;
                tracing::debug!(partition, records, milliseconds, "groups loaded");
            }
            // The log went away with its partition.
            Err(_) if self.look(Machine::is_unloaded) => {}
            Err(error) => {
                // Requests go on being refused: nobody may be told that a group has no offsets.
                let partition = self.id.partition.0;
                tracing::error!(partition, %error, "the groups of a partition cannot be loaded");
                self.stop();
            }
        }
    }

    /// Replays the log from its start to its end. Returns how many records there were.
    async fn replay_log(&self) -> Result<u64, LoadError> {
        let (mut next, mut records) = (Offset(0), 0);
        let mut decompressor = Decompressor::default();
        loop {
            let (reply, answer) = reply::channel();
            let request = ReadRequest {
                id: self.id,
                from: next,
                bytes_max: self.shared.load_bytes,
                current_leader_epoch: LeaderEpoch::UNKNOWN,
                last_fetched_epoch: None,
                committed_only: false,
            };
            let read = PartitionMessage::Read(vec![request], self.shared.load_bytes, reply);
            self.shared.table.handle(read);
            let found = answer.await.map_err(|_gone| LoadError::Gone)?;
            glommio::yield_if_needed().await;
            let found = found.into_iter().next().ok_or(LoadError::Gone)?;
            if let Some(error) = found.error {
                return Err(error.into());
            }
            if next < found.log_start {
                next = found.log_start;
                continue;
            }
            let bytes = found.chunks.concat();
            let before = next;
            for batch in Batches::new(&bytes).map_while(Result::ok) {
                next = batch.0.next_offset();
                if !batch.0.is_control() {
                    records += self.replay_batch(batch.1, &mut decompressor)?;
                }
            }
            if next == before {
                return Ok(records);
            }
        }
    }

    fn replay_batch(
        &self,
        batch: &[u8],
        decompressor: &mut Decompressor,
    ) -> Result<u64, LoadError> {
        let set = RecordSet::open(batch, DECOMPRESSED_BATCH_BYTES_MAX, decompressor)?;
        let mut count = 0;
        for record in set.iter() {
            let record = record?;
            let key = record.key.unwrap_or_default().to_vec().into();
            let value = record.value.map(|value| value.to_vec().into());
            count += 1;
            if let Some(record) = GroupRecord::decode(&key, value.as_ref())? {
                self.machine.borrow_mut().replay(&record, self.now());
            }
        }
        Ok(count)
    }
}

/// Why the log of a partition could not be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("the shard stops")]
    Gone,
    #[error(transparent)]
    Partition(#[from] PartitionError),
    #[error(transparent)]
    Batch(#[from] RecordError),
    #[error(transparent)]
    Record(#[from] super::record::RecordError),
}

/// Why records could not be made into a batch.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// An operation's records on their way to the log, as they are written there.
#[derive(Debug)]
struct Queued {
    append: Append,
    records: Result<Vec<(Bytes, Option<Bytes>)>, EncodeError>,
}

impl Queued {
    fn new(append: Append) -> Self {
        let records = append.records.iter();
        let records = records.map(|record| Ok((record.key()?, record.value()?)));
        Self {
            records: records.collect(),
            append,
        }
    }

    /// About what the records take in a batch.
    fn bytes(&self) -> usize {
        const OVERHEAD: usize = 32;
        let records = self.records.iter().flatten();
        let lengths = records.map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len));
        lengths.map(|length| length + OVERHEAD).sum()
    }
}

/// What a client is told of a failed append. It may find the record there all the same.
fn of_append(error: &AppendError) -> GroupError {
    match error {
        AppendError::Partition(_) => GroupError::NotCoordinator,
        AppendError::Record(_) | AppendError::Producer(_) | AppendError::NoTransaction(_) => {
            GroupError::Unexpected
        }
    }
}
