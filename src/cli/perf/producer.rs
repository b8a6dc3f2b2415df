//! A producer over one connection: as fast as its window of requests allows, or each record at the
//! moment at which it is due, whatever became of those before it. The load's thread.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use bytestring::ByteString;

use super::super::CliError;
use super::cluster::{CLIENT_ID, error_of};
use super::load::{Batch, Building, STAMP_BYTES, Workload, of_producer};
use super::socket::Socket;
use super::tally::{Tally, Window};
use super::versions;
use crate::base::ids::{ProducerEpoch, ProducerId};
use crate::base::limits::BATCH_HEADER_BYTES;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::{self, Frame};
use crate::protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use crate::record::header::sequence_plus;

/// How long a broker may take for a request.
const TIMEOUT_MS: i32 = 30_000;

/// Where nothing is acknowledged, so many bytes may wait to be sent.
const OUT_BYTES_MAX: usize = 4 << 20;

const NANOSECONDS: f64 = 1e9;

/// How a producer writes.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// -1 for all in-sync replicas, 1 for the leader, 0 for no answer.
    pub acks: i16,
    /// Requests in flight.
    pub window: usize,
}

/// Where its records come from.
#[derive(Debug)]
pub enum Source {
    /// Batches that are sent again and again.
    Prepared(Rc<Vec<Batch>>),
    /// Records at their moments.
    Paced(Box<Pace>),
}

/// What goes into one request.
#[derive(Debug)]
struct Due {
    /// By the place of their partitions.
    batches: Vec<(usize, Batch)>,
    /// When their records were due, where each has its moment.
    due: Vec<u64>,
}

/// Records that are due one after the other.
#[derive(Debug)]
pub struct Pace {
    pub workload: Workload,
    pub per_second: f64,
    /// When the first one is due, in nanoseconds since the run began.
    pub began: u64,
    /// Since when the wall's clock reads 0 in nanoseconds of the run.
    pub wall_ms: i64,
    /// What tells the records of this run.
    pub run: u64,
    /// How many were sent.
    pub sent: u64,
}

impl Pace {
    fn due_at(&self, number: u64) -> u64 {
        self.began + (number as f64 * NANOSECONDS / self.per_second) as u64
    }

    fn next_due(&self) -> u64 {
        self.due_at(self.sent)
    }
}

#[derive(Debug)]
struct Partition {
    index: i32,
    sequence: i32,
}

#[derive(Debug)]
struct InFlight {
    correlation_id: i32,
    sent: u64,
    /// When its records were due, where each has its moment.
    due: Vec<u64>,
    records: u64,
    bytes: u64,
}

/// One producer, on one connection.
#[derive(Debug)]
pub struct Producer {
    topic: ByteString,
    manner: Manner,
    partitions: Vec<Partition>,
    next_partition: usize,
    next_batch: usize,
    correlation_id: i32,
    in_flight: VecDeque<InFlight>,
    identity: Option<(ProducerId, ProducerEpoch)>,
    source: Source,
    /// How many records all producers may still send.
    left: Rc<Cell<u64>>,
    window: Window,
    pub tally: Tally,
}

impl Producer {
    /// `offset` is where it begins to go round the partitions and the batches, so that producers do
    /// not go in step.
    pub fn new(
        topic: &ByteString,
        partitions: &[i32],
        manner: Manner,
        source: Source,
        offset: usize,
    ) -> Self {
        let partition = |index: &i32| Partition {
            index: *index,
            sequence: 0,
        };
        Self {
            topic: topic.clone(),
            manner,
            partitions: partitions.iter().map(partition).collect(),
            next_partition: offset % partitions.len(),
            next_batch: offset,
            correlation_id: 0,
            in_flight: VecDeque::new(),
            identity: None,
            source,
            left: Rc::new(Cell::new(u64::MAX)),
            window: Window {
                from: 0,
                to: u64::MAX,
            },
            tally: Tally::default(),
        }
    }

    /// Makes it an idempotent one.
    pub fn identify(&mut self, id: i64, epoch: i16) {
        self.identity = Some((ProducerId(id), ProducerEpoch(epoch)));
    }

    /// Sets how much is sent, by all together, and what of it is measured.
    pub fn bound(&mut self, left: &Rc<Cell<u64>>, window: Window) {
        self.left = Rc::clone(left);
        self.window = window;
    }

    /// Whether each record has its moment.
    pub fn is_paced(&self) -> bool {
        matches!(self.source, Source::Paced(_))
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Records that are due and not acknowledged.
    pub fn overdue(&self, at: u64) -> u64 {
        let Source::Paced(pace) = &self.source else {
            return 0;
        };
        let end = at.min(self.window.to);
        let due = (end.saturating_sub(pace.began) as f64 * pace.per_second / NANOSECONDS) as u64;
        let in_flight: u64 = self.in_flight.iter().map(|it| it.records).sum();
        due.saturating_sub(pace.sent) + in_flight
    }

    /// Sends what may be sent. When it has to be asked again, where that is not when an answer
    /// comes.
    pub fn fill(&mut self, socket: &mut Socket, now: u64) -> Result<Option<u64>, CliError> {
        while self.has_room(socket) && self.left.get() > 0 {
            let request = match &mut self.source {
                Source::Prepared(batches) => {
                    let batch = batches[self.next_batch % batches.len()].clone();
                    self.next_batch += 1;
                    let partition = self.next_partition;
                    self.next_partition = (partition + 1) % self.partitions.len();
                    let (batches, due) = (vec![(partition, batch)], Vec::new());
                    Due { batches, due }
                }
                Source::Paced(pace) if pace.next_due() > now => {
                    return Ok((pace.next_due() < self.window.to).then(|| pace.next_due()));
                }
                Source::Paced(pace) if pace.next_due() >= self.window.to => return Ok(None),
                Source::Paced(pace) => {
                    let partitions = self.partitions.len();
                    pace.take_due(now.min(self.window.to - 1), self.left.get(), partitions)?
                }
            };
            self.send(socket, request, now)?;
        }
        Ok(None)
    }

    fn has_room(&self, socket: &Socket) -> bool {
        match self.manner.acks {
            0 => socket.out_bytes() < OUT_BYTES_MAX,
            _ => self.in_flight.len() < self.manner.window,
        }
    }

    fn send(&mut self, socket: &mut Socket, request: Due, now: u64) -> Result<(), CliError> {
        let Due { batches, due } = request;
        let records = batches.iter().map(|(_, batch)| batch.records).sum();
        let bytes = batches
            .iter()
            .map(|(_, batch)| batch.bytes.len() as u64)
            .sum();
        self.left.set(self.left.get().saturating_sub(records));
        self.correlation_id = self.correlation_id.wrapping_add(1);
        socket.queue(self.request(&batches)?);
        let sent = InFlight {
            correlation_id: self.correlation_id,
            sent: now,
            due,
            records,
            bytes,
        };
        match self.manner.acks {
            0 => self.count(&sent, now),
            _ => self.in_flight.push_back(sent),
        }
        Ok(())
    }

    fn request(&mut self, batches: &[(usize, Batch)]) -> Result<Frame, CliError> {
        let partition_data = batches.iter().map(|(at, batch)| PartitionProduceData {
            index: self.partitions[*at].index,
            records: Some(batch.bytes.clone()),
        });
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.manner.acks,
            timeout_ms: TIMEOUT_MS,
            topic_data: vec![TopicProduceData {
                name: self.topic.clone(),
                partition_data: partition_data.collect(),
                ..Default::default()
            }],
        };
        let frame = frame::request(versions::PRODUCE, self.correlation_id, &CLIENT_ID, &request);
        let mut frame = frame.map_err(|error| CliError::failed("a request", error))?;
        if let Some((id, epoch)) = self.identity {
            for (at, batch) in batches {
                let partition = &mut self.partitions[*at];
                let header = of_producer(&batch.bytes, id, epoch, partition.sequence);
                partition.sequence = sequence_plus(partition.sequence, batch.records as i32);
                replace_header(&mut frame, &batch.bytes, header.expect("it is a batch"));
            }
        }
        Ok(frame)
    }

    /// Takes an answer.
    pub fn answered(&mut self, answer: &Bytes, now: u64) -> Result<(), CliError> {
        let parsed = frame::parse_response::<ProduceRequest>(answer.clone(), versions::PRODUCE);
        let (id, response) = parsed.map_err(|error| CliError::failed("an answer", error))?;
        let sent = self.in_flight.pop_front();
        let Some(sent) = sent.filter(|sent| sent.correlation_id == id) else {
            return Err(CliError::failed("an answer", "it belongs to no request"));
        };
        let partitions = response
            .responses
            .iter()
            .flat_map(|it| &it.partition_responses);
        for partition in partitions {
            let error = error_of(partition.error_code);
            if error != ErrorCode::None {
                let why = partition.error_message.clone().unwrap_or_default();
                let what = format!("writing to '{}-{}'", self.topic, partition.index);
                return Err(CliError::failed(what, format_args!("{error} {why}")));
            }
        }
        self.count(&sent, now);
        Ok(())
    }

    fn count(&mut self, sent: &InFlight, now: u64) {
        let (records, took) = if sent.due.is_empty() {
            let is_measured = self.window.contains(now);
            let records = if is_measured { sent.records } else { 0 };
            (records, [(sent.sent, records)].to_vec())
        } else {
            let due = sent.due.iter().filter(|due| self.window.contains(**due));
            let took: Vec<_> = due.map(|due| (*due, 1)).collect();
            (took.len() as u64, took)
        };
        if records == 0 {
            return;
        }
        self.tally.requests += 1;
        self.tally.records += records;
        self.tally.bytes += sent.bytes * records / sent.records;
        for (since, records) in took {
            self.tally.took(now.saturating_sub(since), records);
        }
    }
}

impl Pace {
    /// The records that are due at `now`, a batch for each partition that has any, and when each
    /// was due. They go round the partitions.
    fn take_due(&mut self, now: u64, most: u64, partitions: usize) -> Result<Due, CliError> {
        let failed = |error| CliError::failed("a batch", error);
        let mut building: Vec<Option<Building>> = (0..partitions).map(|_| None).collect();
        let mut due = Vec::new();
        while self.next_due() <= now && (due.len() as u64) < most {
            let at = self.next_due();
            let partition = (self.sent % partitions as u64) as usize;
            let batch = building[partition].get_or_insert_with(|| self.workload.begin());
            if !due.is_empty() && self.workload.is_full(batch) {
                break;
            }
            let timestamp = self.wall_ms + (at / 1_000_000) as i64;
            let stamp = stamp(self.run, at);
            self.workload
                .append(batch, timestamp, Some(stamp))
                .map_err(failed)?;
            self.sent += 1;
            due.push(at);
        }
        let batches = building.into_iter().enumerate();
        let batches = batches.filter_map(|(at, building)| Some((at, building?)));
        let finish = |(at, building): (usize, Building)| Ok((at, building.finish()?));
        let batches: Result<Vec<_>, _> = batches
            .filter(|(_, building)| !building.is_empty())
            .map(finish)
            .collect();
        let batches = batches.map_err(failed)?;
        Ok(Due { batches, due })
    }
}

/// What a record of a run begins with: the run, and when it was due.
fn stamp(run: u64, due: u64) -> [u8; STAMP_BYTES] {
    let mut stamp = [0; STAMP_BYTES];
    stamp[..8].copy_from_slice(&run.to_be_bytes());
    stamp[8..].copy_from_slice(&due.to_be_bytes());
    stamp
}

/// When the record of this value was due, if it is one of the run.
pub fn due_of(run: u64, value: &[u8]) -> Option<u64> {
    let stamp: &[u8; STAMP_BYTES] = value.first_chunk()?;
    let (of_run, due) = stamp.split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
    (number(of_run)? == run).then(|| number(due))?
}

/// Puts another header in front of a batch that a frame sends.
fn replace_header(frame: &mut Frame, batch: &Bytes, header: Bytes) {
    let is_batch = |chunk: &Bytes| chunk.as_ptr() == batch.as_ptr() && chunk.len() == batch.len();
    let at = frame.chunks.iter().position(is_batch);
    let at = at.expect("a batch is a piece of its own");
    frame.chunks[at] = batch.slice(BATCH_HEADER_BYTES..);
    frame.chunks.insert(at, header);
}
