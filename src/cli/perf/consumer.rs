//! A consumer over one connection: one fetch in flight, the next one sent before the records of the
//! last are looked at. The load's thread.

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;

use super::super::CliError;
use super::cluster::{CLIENT_ID, error_of};
use super::producer::due_of;
use super::socket::Socket;
use super::tally::{Tally, Window};
use super::versions;
use crate::base::limits::DECOMPRESSED_BATCH_BYTES_MAX;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame;
use crate::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use crate::protocol::messages::fetch_response::PartitionData;
use crate::record::batches::{BatchFault, Batches};
use crate::record::compression::Decompressor;
use crate::record::view::RecordSet;

/// A fetch without a session, as KIP-227 numbers it.
const NO_SESSION_EPOCH: i32 = -1;

/// What a fetch asks for.
#[derive(Clone, Copy, Debug)]
pub struct Fetching {
    /// `fetch.max.wait.ms`.
    pub wait_ms: i32,
    /// `fetch.min.bytes`.
    pub bytes_min: i32,
    /// `fetch.max.bytes`.
    pub bytes_max: i32,
    /// `max.partition.fetch.bytes`.
    pub partition_bytes_max: i32,
}

/// Where a consumer stops.
#[derive(Clone, Debug)]
pub enum Until {
    /// It goes on until the run ends.
    Stopped,
    /// At these offsets, by partition.
    Offsets(BTreeMap<i32, i64>),
    /// There it starts again at those: the offsets where it ends, and where it begins.
    Again(BTreeMap<i32, i64>, BTreeMap<i32, i64>),
}

#[derive(Debug)]
struct Partition {
    index: i32,
    position: i64,
}

/// One consumer, on one connection.
#[derive(Debug)]
pub struct Consumer {
    topic: ByteString,
    fetching: Fetching,
    partitions: Vec<Partition>,
    until: Until,
    /// Whose records have the moments at which they were due.
    run: Option<u64>,
    correlation_id: i32,
    sent: Option<u64>,
    window: Window,
    decompressor: Decompressor,
    pub tally: Tally,
}

impl Consumer {
    /// A consumer of the partitions of `from`, which says where it begins.
    pub fn new(
        topic: &ByteString,
        from: &BTreeMap<i32, i64>,
        until: Until,
        fetching: Fetching,
        run: Option<u64>,
    ) -> Self {
        let partition = |(index, position): (&i32, &i64)| Partition {
            index: *index,
            position: *position,
        };
        Self {
            topic: topic.clone(),
            fetching,
            partitions: from.iter().map(partition).collect(),
            until,
            run,
            correlation_id: 0,
            sent: None,
            window: Window {
                from: 0,
                to: u64::MAX,
            },
            decompressor: Decompressor::default(),
            tally: Tally::default(),
        }
    }

    /// Sets what is measured.
    pub fn bound(&mut self, window: Window) {
        self.window = window;
    }

    /// Whether it looks at when records were due.
    pub fn is_timed(&self) -> bool {
        self.run.is_some()
    }

    /// Whether it has read all that it was to read.
    pub fn is_done(&self) -> bool {
        match &self.until {
            Until::Offsets(ends) => self.is_at(ends),
            Until::Stopped | Until::Again(..) => false,
        }
    }

    fn is_at(&self, ends: &BTreeMap<i32, i64>) -> bool {
        let is_there = |it: &Partition| ends.get(&it.index).is_none_or(|end| it.position >= *end);
        self.partitions.iter().all(is_there)
    }

    /// Sends a fetch, if none is under way.
    pub fn fill(&mut self, socket: &mut Socket, now: u64) -> Result<(), CliError> {
        if self.sent.is_some() || self.is_done() {
            return Ok(());
        }
        if let Until::Again(ends, starts) = &self.until
            && self.is_at(ends)
        {
            for partition in &mut self.partitions {
                partition.position = starts[&partition.index];
            }
        }
        let partition = |it: &Partition| FetchPartition {
            partition: it.index,
            current_leader_epoch: -1,
            fetch_offset: it.position,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: self.fetching.partition_bytes_max,
            ..Default::default()
        };
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: self.fetching.wait_ms,
            min_bytes: self.fetching.bytes_min,
            max_bytes: self.fetching.bytes_max,
            session_epoch: NO_SESSION_EPOCH,
            topics: vec![FetchTopic {
                topic: self.topic.clone(),
                partitions: self.partitions.iter().map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = frame::request(versions::FETCH, self.correlation_id, &CLIENT_ID, &request);
        socket.queue(frame.map_err(|error| CliError::failed("a request", error))?);
        self.sent = Some(now);
        // What was in front may be sent late otherwise: whoever is behind goes first next time.
        self.partitions.rotate_left(1);
        Ok(())
    }

    /// Takes an answer, and asks again before it looks at the records.
    pub fn answered(
        &mut self,
        answer: &Bytes,
        socket: &mut Socket,
        now: u64,
    ) -> Result<(), CliError> {
        let parsed = frame::parse_response::<FetchRequest>(answer.clone(), versions::FETCH);
        let (id, response) = parsed.map_err(|error| CliError::failed("an answer", error))?;
        let sent = self.sent.take();
        let Some(sent) = sent.filter(|_| id == self.correlation_id) else {
            return Err(CliError::failed("an answer", "it belongs to no request"));
        };
        check(response.error_code, || format!("reading '{}'", self.topic))?;
        let mut all = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        for partition in response.responses.into_iter().flat_map(|it| it.partitions) {
            let (batches, count) = self.advance(partition)?;
            records += count;
            bytes += batches.len() as u64;
            all.push(batches);
        }
        self.fill(socket, now)?;
        socket.flush().map_err(CliError::io("a connection"))?;
        match self.run {
            Some(run) => self.look_at(run, &all, now)?,
            None if records > 0 && self.window.contains(now) => {
                self.tally.requests += 1;
                self.tally.records += records;
                self.tally.bytes += bytes;
                self.tally.took(now.saturating_sub(sent), records);
            }
            None => {}
        }
        Ok(())
    }

    /// Moves the position behind what was read. The batches, and how many records are in them.
    fn advance(&mut self, partition: PartitionData) -> Result<(Bytes, u64), CliError> {
        let index = partition.partition_index;
        let what = || format!("reading '{}-{index}'", self.topic);
        check(partition.error_code, what)?;
        let batches = partition.records.unwrap_or_default().to_bytes();
        let mut walk = Batches::new(&batches);
        let (mut records, mut next) = (0, None);
        for batch in &mut walk {
            match batch {
                Ok((header, _)) => {
                    records += header.records_count.max(0) as u64;
                    next = Some(header.next_offset().0);
                }
                // The end of a fetch may be cut off.
                Err(BatchFault::Incomplete { .. }) => break,
                Err(fault) => return Err(CliError::failed(what(), fault)),
            }
        }
        let read = walk.position();
        let known = self.partitions.iter_mut().find(|it| it.index == index);
        if let (Some(known), Some(next)) = (known, next) {
            known.position = next;
        }
        Ok((batches.slice(..read), records))
    }

    /// Counts the records of the run, and how long ago they were due.
    fn look_at(&mut self, run: u64, all: &[Bytes], now: u64) -> Result<(), CliError> {
        let failed = |error: &dyn std::fmt::Display| CliError::failed("a batch", error);
        for batches in all {
            for batch in Batches::new(batches) {
                let (_, batch) = batch.map_err(|fault| failed(&fault))?;
                let bytes_max = DECOMPRESSED_BATCH_BYTES_MAX;
                let set = RecordSet::open(batch, bytes_max, &mut self.decompressor);
                let set = set.map_err(|error| failed(&error))?;
                let mut records = 0;
                for record in &set {
                    let record = record.map_err(|error| failed(&error))?;
                    let due = record.value.and_then(|value| due_of(run, value));
                    let due = due.filter(|due| self.window.contains(*due));
                    if let Some(due) = due {
                        records += 1;
                        self.tally.took(now.saturating_sub(due), 1);
                    }
                }
                self.tally.records += records;
                self.tally.bytes += if records > 0 { batch.len() as u64 } else { 0 };
            }
        }
        self.tally.requests += 1;
        Ok(())
    }
}

fn check(code: i16, what: impl Fn() -> String) -> Result<(), CliError> {
    match error_of(code) {
        ErrorCode::None => Ok(()),
        error => Err(CliError::failed(what(), error)),
    }
}
