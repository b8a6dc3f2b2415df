//! librdkafka's clients, as a run uses them. They retry by themselves, and tell what became of a
//! send or a commit only at the end of it: whatever error that is, an earlier try may have been
//! written. So none of their errors is definite. A thread each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::history::{Answer, At, Call, Record, Watermarks, What};
use super::ours::SESSION_MS;
use super::process::{Batch, Consuming, LIFE_MS, Producing, World};
use super::recorder::Failed;
use super::value;
use crate::cli::CliError;
use crate::cli::connect::create;
use crate::cli::native::generation_of;

/// How long a record is sent again, and how long the end waits for all of them.
const DELIVERED_WITHIN_MS: u32 = 15_000;
const SETTLED_WITHIN: Duration = Duration::from_millis(DELIVERED_WITHIN_MS as u64 + 5_000);

/// How long the library waits for an answer, before it takes the connection for lost.
const SOCKET_TIMEOUT_MS: u32 = 10_000;

// A client of a run ends before any of its requests is given up. The library sends a commit again
// whose connection was lost, and numbers records anew behind one that timed out: either would look
// like a fault of the broker.
const _: () = assert!(LIFE_MS.1 < SOCKET_TIMEOUT_MS as u64);
const _: () = assert!(SOCKET_TIMEOUT_MS < DELIVERED_WITHIN_MS);

/// How long a question may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// A poll ends after this time, or with so many records.
const POLLED_FOR: Duration = Duration::from_millis(50);
const RECORDS_MAX: usize = 200;

/// Records under way, at most.
const QUEUED_MAX: i32 = 500;

/// Tells the recorder what the library reports to callbacks.
struct Reports {
    world: Arc<World>,
    process: u32,
    name: String,
    assignment: Mutex<Option<u64>>,
}

impl Reports {
    fn new(world: &Arc<World>, process: u32, name: &str) -> Self {
        Self {
            world: Arc::clone(world),
            process,
            name: name.to_owned(),
            assignment: Mutex::new(None),
        }
    }

    fn assignment(&self) -> Option<u64> {
        *self
            .assignment
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn assigned(&self, generation: Option<i32>, from: Vec<(i32, Option<i64>)>) {
        let recorder = &self.world.recorder;
        let number = recorder.assigned(self.process, &self.name, generation, from);
        self.set(Some(number));
    }

    /// Makes it the assignment; the one before is revoked.
    fn set(&self, assignment: Option<u64>) {
        let mut current = self
            .assignment
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(assignment) = std::mem::replace(&mut *current, assignment) {
            let what = What::Revoked { assignment };
            self.world.recorder.note(self.process, what);
        }
    }
}

impl ClientContext for Reports {
    // Lost connections are what a run is about: the history has what they lead to.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            let (client, error) = (self.name.clone(), reason.to_owned());
            let what = What::Disabled { client, error };
            self.world.recorder.note(self.process, what);
        }
    }
}

impl ConsumerContext for Reports {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                let elements = list.elements();
                let from = elements.iter().map(|it| (it.partition(), None));
                self.assigned(generation_of(consumer.client()), from.collect());
            }
            Rebalance::Revoke(_) | Rebalance::Error(_) => self.set(None),
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, op: usize) {
        let outcome = match result {
            Ok(message) => Ok(Answer::Send {
                // Of a record that had arrived before, the broker tells no offset.
                offset: (message.offset() >= 0).then_some(message.offset()),
                attempts: None,
            }),
            Err((error, _)) => Err(Failed::perhaps(error)),
        };
        let recorder = &self.world.recorder;
        recorder.complete(self.process, op as u64, &outcome);
    }
}

/// The properties of both: a broker that comes back is found soon.
fn config(world: &World, own: &[(&str, &str)]) -> ClientConfig {
    let mut config = world.config.clone();
    config.set("socket.timeout.ms", SOCKET_TIMEOUT_MS.to_string());
    let shared = [
        ("reconnect.backoff.ms", "20"),
        ("reconnect.backoff.max.ms", "500"),
        ("retry.backoff.ms", "20"),
        ("retry.backoff.max.ms", "500"),
    ];
    for (key, value) in shared.iter().chain(own) {
        config.set(*key, *value);
    }
    config
}

pub struct Producer {
    world: Arc<World>,
    process: u32,
    name: String,
    is_idempotent: bool,
    producer: BaseProducer<Reports>,
}

impl Producer {
    pub fn new(
        world: &Arc<World>,
        process: u32,
        name: &str,
        is_idempotent: bool,
    ) -> Result<Self, CliError> {
        let timeout_ms = DELIVERED_WITHIN_MS.to_string();
        let idempotence = is_idempotent.to_string();
        let own = [
            ("acks", "all"),
            ("enable.idempotence", &*idempotence),
            ("message.timeout.ms", &*timeout_ms),
            ("linger.ms", "5"),
            // A batch is never too large for the topic.
            ("batch.num.messages", "10"),
            ("compression.type", "lz4"),
        ];
        let mut config = config(world, &own);
        config.remove("group.id");
        Ok(Self {
            world: Arc::clone(world),
            process,
            name: name.to_owned(),
            is_idempotent,
            producer: create(&config, Reports::new(world, process, name))?,
        })
    }
}

impl Producing for Producer {
    fn send(&mut self, batches: &[Batch]) -> bool {
        if self.producer.in_flight_count() > QUEUED_MAX {
            return true;
        }
        let recorder = &self.world.recorder;
        for batch in batches {
            for text in &batch.values {
                let call = Call::Send {
                    producer: self.name.clone(),
                    is_idempotent: self.is_idempotent,
                    partition: batch.partition,
                    values: vec![text.clone()],
                };
                let op = recorder.invoke(self.process, call);
                let bytes = value::encode(text, false);
                let topic = &self.world.setup.topic;
                let record = BaseRecord::with_opaque_to(topic, op as usize)
                    .partition(batch.partition)
                    .key(self.name.as_bytes())
                    .payload(&bytes);
                if let Err((error, _)) = self.producer.send(record) {
                    recorder.complete(self.process, op, &Err(Failed::perhaps(error)));
                    return false;
                }
            }
        }
        self.producer.client().fatal_error().is_none()
    }

    fn serve(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            self.producer.poll(left);
            if left.is_zero() {
                return;
            }
        }
    }

    fn settle(&mut self) {
        // What is left untold after this is told when the client is dropped.
        let _ = self.producer.flush(SETTLED_WITHIN);
    }

    fn crash(mut self: Box<Self>, batches: &[Batch]) {
        self.send(batches);
    }
}

pub struct Consumer {
    world: Arc<World>,
    consumer: BaseConsumer<Reports>,
}

impl Consumer {
    pub fn new(world: &Arc<World>, process: u32, name: &str) -> Result<Self, CliError> {
        let session_ms = SESSION_MS.to_string();
        let own = [
            // Without a group's name the library assigns nothing.
            ("group.id", &*world.group),
            ("session.timeout.ms", &*session_ms),
            ("heartbeat.interval.ms", "500"),
            ("partition.assignment.strategy", "range"),
            ("auto.offset.reset", "earliest"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("check.crcs", "true"),
            ("fetch.wait.max.ms", "50"),
            ("fetch.error.backoff.ms", "20"),
            ("fetch.message.max.bytes", "65536"),
        ];
        let config = config(world, &own);
        Ok(Self {
            world: Arc::clone(world),
            consumer: create(&config, Reports::new(world, process, name))?,
        })
    }

    fn list(&self, offsets: &[At]) -> Result<TopicPartitionList, Failed> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            let offset = Offset::Offset(*offset);
            let added = list.add_partition_offset(&self.world.setup.topic, *partition, offset);
            added.map_err(Failed::surely)?;
        }
        Ok(list)
    }

    fn poll(&mut self) -> Result<Answer, Failed> {
        let before = self.assignment();
        let end = Instant::now() + POLLED_FOR;
        let mut records = Vec::new();
        while records.len() < RECORDS_MAX {
            let left = end.saturating_duration_since(Instant::now());
            // A change of the assignment is served by a poll of its own, which gives no record.
            match self.consumer.poll(left) {
                Some(Ok(message)) => records.push(record(&message)),
                Some(Err(error)) if records.is_empty() => return Err(Failed::perhaps(error)),
                Some(Err(_)) => break,
                None if left.is_zero() => break,
                None => {}
            }
            if self.consumer.context().assignment() != before {
                break;
            }
        }
        let watermarks = Vec::new();
        Ok(Answer::Poll {
            records,
            watermarks,
        })
    }

    fn commit(&mut self, offsets: &[At]) -> Result<Answer, Failed> {
        let list = self.list(offsets)?;
        let committed = self.consumer.commit(&list, CommitMode::Sync);
        committed.map_err(Failed::perhaps)?;
        Ok(Answer::Commit)
    }

    fn committed(&mut self, partitions: &[i32]) -> Result<Answer, Failed> {
        let wanted: Vec<At> = partitions.iter().map(|it| (*it, 0)).collect();
        let list = self.list(&wanted)?;
        let found = self.consumer.committed_offsets(list, ANSWERED_WITHIN);
        let found = found.map_err(Failed::perhaps)?;
        let offset = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            element.error().map_err(Failed::perhaps)?;
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            Ok((element.partition(), offset))
        };
        let offsets = found.elements().into_iter().map(offset);
        let offsets = offsets.collect::<Result<_, Failed>>()?;
        Ok(Answer::Committed { offsets })
    }

    fn watermarks(&mut self, partition: i32) -> Result<Answer, Failed> {
        let topic = &self.world.setup.topic;
        let found = self
            .consumer
            .fetch_watermarks(topic, partition, ANSWERED_WITHIN);
        let (start, high) = found.map_err(Failed::perhaps)?;
        Ok(Answer::Watermarks(Watermarks {
            partition,
            start,
            high,
            stable: None,
            epoch: None,
        }))
    }
}

impl Consuming for Consumer {
    fn assignment(&self) -> Option<u64> {
        self.consumer.context().assignment()
    }

    // The library has one of its own, which may be newer than the one that was noted.
    fn generation(&self) -> Option<i32> {
        None
    }

    fn assign(&mut self, from: &[At]) -> Result<(), Failed> {
        let list = self.list(from)?;
        self.consumer.assign(&list).map_err(Failed::perhaps)?;
        let from = from.iter().map(|(at, offset)| (*at, Some(*offset)));
        self.consumer.context().assigned(None, from.collect());
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), Failed> {
        let subscribed = self.consumer.subscribe(&[&self.world.setup.topic]);
        subscribed.map_err(Failed::perhaps)
    }

    fn call(&mut self, call: &Call) -> Result<Answer, Failed> {
        match call {
            Call::Send { .. } => Err(Failed::surely("a consumer sends nothing")),
            Call::Poll { .. } => self.poll(),
            Call::Watermarks { partition } => self.watermarks(*partition),
            Call::Commit { offsets, .. } => self.commit(offsets),
            Call::Committed { partitions } => self.committed(partitions),
        }
    }

    // It does so when it is dropped, however that comes: it cannot do else.
    fn leave(&mut self) {}
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        partition: message.partition(),
        offset: message.offset(),
        value: value::decode(message.payload()),
        epoch: None,
    }
}
