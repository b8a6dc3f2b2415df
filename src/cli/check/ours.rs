//! The project's own clients: they speak the protocol themselves, send again only what they know
//! how to send again, and see epochs and watermarks that a library keeps to itself. A thread each.

mod fetch;
mod group;
mod link;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::group::{JOINED_WITHIN, SESSION_MS};

use self::group::Membership;
use self::link::{Links, Sent, accept, code_of, versions};
use super::history::{Answer, At, Call, What};
use super::process::{Batch, Consuming, Producing, World};
use super::recorder::Failed;
use super::value;
use crate::base::ids::{ProducerEpoch, ProducerId};
use crate::cli::time::now_ms;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::init_producer_id_request::InitProducerIdRequest;
use crate::protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use crate::protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use crate::record::builder::{BatchBuilder, RecordToWrite};
use crate::record::compression::{Codec, Decompressor};
use crate::record::header::sequence_plus;

/// How long a batch is sent again, before its producer ends without knowing what became of it.
const DELIVERED_WITHIN: Duration = Duration::from_secs(15);

/// How long the broker may take for a request, by its own clock.
const TIMEOUT_MS: i32 = 10_000;

const ASKED_AGAIN: Duration = Duration::from_millis(50);

/// A producer whose requests are several in flight, sent again in their order.
pub struct Producer {
    world: Arc<World>,
    process: u32,
    name: String,
    is_idempotent: bool,
    links: Links,
    identity: Option<(ProducerId, ProducerEpoch)>,
    /// The next sequence of each partition.
    sequences: BTreeMap<i32, i32>,
}

/// A batch without an answer.
struct Pending {
    op: u64,
    partition: i32,
    bytes: Bytes,
    /// How often it was sent.
    attempts: u32,
}

/// What an answer says of a batch.
enum Verdict {
    Done(Result<Answer, Failed>),
    Again,
}

impl Producer {
    pub fn new(world: &Arc<World>, process: u32, name: &str, is_idempotent: bool) -> Self {
        Self {
            world: Arc::clone(world),
            process,
            name: name.to_owned(),
            is_idempotent,
            links: Links::new(world, process),
            identity: None,
            sequences: BTreeMap::new(),
        }
    }

    /// Whether it has an identity, if it wants one.
    fn identify(&mut self) -> Result<(), String> {
        if !self.is_idempotent || self.identity.is_some() {
            return Ok(());
        }
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: TIMEOUT_MS,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let leader = self.links.leader(0)?.address;
        let answer = self
            .links
            .ask(leader, versions::INIT_PRODUCER_ID, &request)?;
        accept(answer.error_code)?;
        let epoch = ProducerEpoch(answer.producer_epoch);
        self.identity = Some((ProducerId(answer.producer_id), epoch));
        Ok(())
    }

    fn begin(&mut self, batch: &Batch) -> Pending {
        let mut builder = BatchBuilder::new(Codec::None);
        let records = batch.values.len() as i32;
        if let Some((id, epoch)) = self.identity {
            let next = self.sequences.entry(batch.partition).or_insert(0);
            builder = builder.producer(id, epoch, *next);
            *next = sequence_plus(*next, records);
        }
        for text in &batch.values {
            let bytes = value::encode(text, batch.is_too_large);
            let record = RecordToWrite {
                timestamp: now_ms(),
                key: Some(self.name.as_bytes()),
                value: Some(&bytes),
                headers: &[],
            };
            builder.append(&record).expect("a record of some bytes");
        }
        let bytes = builder.build().expect("a batch without compression");
        let call = Call::Send {
            producer: self.name.clone(),
            is_idempotent: self.is_idempotent,
            partition: batch.partition,
            values: batch.values.clone(),
        };
        Pending {
            op: self.world.recorder.invoke(self.process, call),
            partition: batch.partition,
            bytes: bytes.into(),
            attempts: 0,
        }
    }

    fn end(&self, pending: &Pending, outcome: &Result<Answer, Failed>) {
        let recorder = &self.world.recorder;
        recorder.complete(self.process, pending.op, outcome);
    }

    /// Sends what is pending, all before any answer is waited for.
    fn transmit(&mut self, pending: &mut [Pending]) -> Result<Vec<Sent>, String> {
        // No answer may come between those to the batches.
        let leaders = pending.iter().map(|it| self.links.leader(it.partition));
        let leaders: Vec<_> = leaders.collect::<Result<_, _>>()?;
        let mut sent = Vec::new();
        for (pending, leader) in pending.iter_mut().zip(leaders) {
            let request = ProduceRequest {
                transactional_id: None,
                acks: -1,
                timeout_ms: TIMEOUT_MS,
                topic_data: vec![TopicProduceData {
                    name: self.world.setup.topic.as_str().into(),
                    partition_data: vec![PartitionProduceData {
                        index: pending.partition,
                        records: Some(pending.bytes.clone()),
                    }],
                    ..Default::default()
                }],
            };
            pending.attempts += 1;
            let sending = self.links.send(leader.address, versions::PRODUCE, &request);
            sent.push(sending?);
        }
        Ok(sent)
    }

    /// Sends what is pending and takes its answers. What is left has none yet, or is to be sent
    /// again. The first outcome that is no success, if there is one.
    fn attempt(&mut self, pending: &mut Vec<Pending>) -> Result<Option<Failed>, String> {
        let sent = self.transmit(pending)?;
        let (mut left, mut failed) = (Vec::new(), None);
        let mut lost = None;
        for (batch, sent) in std::mem::take(pending).into_iter().zip(sent) {
            let until = Instant::now() + link::ANSWERED_WITHIN;
            let answer = match &lost {
                None => self
                    .links
                    .answer::<ProduceRequest>(sent, versions::PRODUCE, until),
                Some(_) => Ok(None),
            };
            match self.row(answer) {
                Ok(row) => {
                    let mut before = left.iter().map(|left: &Pending| left.partition);
                    let is_behind = before.any(|partition| partition == batch.partition);
                    match verdict(&batch, &row, is_behind) {
                        Verdict::Done(outcome) => {
                            self.end(&batch, &outcome);
                            failed = failed.or(outcome.err());
                        }
                        Verdict::Again => left.push(batch),
                    }
                }
                Err(why) => {
                    lost.get_or_insert(why);
                    left.push(batch);
                }
            }
        }
        *pending = left;
        match lost {
            Some(why) => Err(why),
            None => Ok(failed),
        }
    }

    /// What an answer says of its batch.
    fn row(
        &self,
        answer: Result<Option<ProduceResponse>, String>,
    ) -> Result<PartitionProduceResponse, String> {
        let answer = answer?.ok_or("no answer")?;
        let topics = answer.responses.into_iter();
        let mut rows = topics.flat_map(|topic| topic.partition_responses);
        rows.next()
            .ok_or_else(|| self.links.bad("an answer without what became of the batch"))
    }
}

impl Producing for Producer {
    fn send(&mut self, batches: &[Batch]) -> bool {
        if self.identify().is_err() {
            self.links.forget();
            return true;
        }
        let before = self.sequences.clone();
        let mut pending: Vec<_> = batches.iter().map(|batch| self.begin(batch)).collect();
        let end = Instant::now() + DELIVERED_WITHIN;
        let mut goes_on = true;
        let mut why = String::new();
        while !pending.is_empty() && Instant::now() < end {
            match self.attempt(&mut pending) {
                Ok(None) => {}
                // What was refused took no sequence, and nothing was sent behind it.
                Ok(Some(failed)) if failed.is_definite && batches.len() == 1 => {
                    self.sequences = before.clone();
                }
                Ok(Some(_)) => goes_on = false,
                Err(lost) => {
                    self.links.forget();
                    why = lost;
                }
            }
            if !pending.is_empty() {
                std::thread::sleep(ASKED_AGAIN);
            }
        }
        for batch in &pending {
            self.end(
                batch,
                &Err(Failed::perhaps(format_args!("given up: {why}"))),
            );
        }
        goes_on && pending.is_empty()
    }

    fn serve(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn settle(&mut self) {}

    fn crash(mut self: Box<Self>, batches: &[Batch]) {
        if self.identify().is_err() {
            return;
        }
        let mut pending: Vec<_> = batches.iter().map(|batch| self.begin(batch)).collect();
        // Whether it arrives is not known either way.
        let _ = self.transmit(&mut pending);
        for batch in &pending {
            self.end(batch, &Err(Failed::perhaps("the client crashed")));
        }
    }
}

/// What the answer says of a batch. Whether it was written is only known of one that was sent once.
/// One that `is_behind` another of its partition that is to be sent again is sent again with it.
fn verdict(batch: &Pending, row: &PartitionProduceResponse, is_behind: bool) -> Verdict {
    use ErrorCode as Code;
    let code = code_of(row.error_code);
    let attempts = Some(batch.attempts);
    Verdict::Done(match code {
        Code::None => {
            let offset = (row.base_offset >= 0).then_some(row.base_offset);
            Ok(Answer::Send { offset, attempts })
        }
        // It was there before.
        Code::DuplicateSequenceNumber => {
            let offset = None;
            Ok(Answer::Send { offset, attempts })
        }
        Code::MessageTooLarge
        | Code::RecordListTooLarge
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
            if batch.attempts == 1 =>
        {
            Err(Failed::surely(code))
        }
        Code::OutOfOrderSequenceNumber if is_behind => return Verdict::Again,
        code if code.is_retriable() => return Verdict::Again,
        code => Err(Failed::perhaps(code)),
    })
}

/// A consumer of partitions that it chose, or that its group assigned.
pub struct Consumer {
    world: Arc<World>,
    process: u32,
    name: String,
    links: Links,
    assignment: Option<u64>,
    /// Where it reads on.
    positions: BTreeMap<i32, i64>,
    /// Which partition is asked for first.
    turn: usize,
    /// In a group, or about to be.
    membership: Option<Membership>,
    decompressor: Decompressor,
}

impl Consumer {
    pub fn new(world: &Arc<World>, process: u32, name: &str) -> Self {
        Self {
            world: Arc::clone(world),
            process,
            name: name.to_owned(),
            links: Links::new(world, process),
            assignment: None,
            positions: BTreeMap::new(),
            turn: 0,
            membership: None,
            decompressor: Decompressor::default(),
        }
    }

    /// Reads these from now on, as `generation` of the group says or the consumer itself.
    fn take(&mut self, from: &[At], generation: Option<i32>) {
        let offsets = from.iter().map(|(at, offset)| (*at, Some(*offset)));
        let recorder = &self.world.recorder;
        let assignment = recorder.assigned(self.process, &self.name, generation, offsets.collect());
        self.assignment = Some(assignment);
        self.positions = from.iter().copied().collect();
    }

    /// Reads nothing more.
    fn give_up(&mut self) {
        if let Some(assignment) = self.assignment.take() {
            let what = What::Revoked { assignment };
            self.world.recorder.note(self.process, what);
        }
        self.positions.clear();
    }

    fn poll(&mut self) -> Result<Answer, Failed> {
        let before = self.assignment;
        if self.membership.is_some() {
            self.stay_member()?;
        }
        if self.assignment != before || self.positions.is_empty() {
            std::thread::sleep(ASKED_AGAIN);
            return Ok(Answer::Poll {
                records: Vec::new(),
                watermarks: Vec::new(),
            });
        }
        self.fetch()
    }

    /// What a failure to talk to a broker is.
    fn lost(&mut self, why: String) -> Failed {
        self.links.forget();
        Failed::perhaps(why)
    }
}

impl Consuming for Consumer {
    fn assignment(&self) -> Option<u64> {
        self.assignment
    }

    fn generation(&self) -> Option<i32> {
        self.membership.as_ref()?.generation
    }

    fn assign(&mut self, from: &[At]) -> Result<(), Failed> {
        self.give_up();
        self.take(from, None);
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), Failed> {
        self.membership = Some(Membership::default());
        Ok(())
    }

    fn call(&mut self, call: &Call) -> Result<Answer, Failed> {
        match call {
            Call::Send { .. } => Err(Failed::surely("a consumer sends nothing")),
            Call::Poll { .. } => self.poll(),
            Call::Watermarks { partition } => {
                let marks = self
                    .list_offsets(*partition)
                    .map_err(|why| self.lost(why))?;
                Ok(Answer::Watermarks(marks))
            }
            Call::Commit { offsets, .. } => self.commit_as_member(offsets),
            Call::Committed { partitions } => {
                let offsets = self.fetch_committed(partitions);
                let offsets = offsets.map_err(|why| self.lost(why))?;
                Ok(Answer::Committed { offsets })
            }
        }
    }

    fn leave(&mut self) {
        self.give_up();
        self.leave_group();
    }
}
