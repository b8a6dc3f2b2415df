//! Reading: Fetch without a session, and ListOffsets.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Consumer;
use super::link::{Leader, accept, code_of, versions};
use crate::base::limits::DECOMPRESSED_BATCH_BYTES_MAX;
use crate::cli::check::history::{Answer, Record, Watermarks};
use crate::cli::check::recorder::Failed;
use crate::cli::check::value;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use crate::protocol::messages::fetch_response::PartitionData;
use crate::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::record::batches::{BatchFault, Batches};
use crate::record::compression::Decompressor;
use crate::record::header::{BatchHeader, crc_of};
use crate::record::view::RecordSet;

/// How long a fetch waits for records.
const WAIT: Duration = Duration::from_millis(50);

/// Small, so that there are many fetches, and some end inside a batch.
const FETCH_BYTES_MAX: i32 = 64 << 10;
const PARTITION_BYTES_MAX: i32 = 8 << 10;

/// A fetch without a session, as KIP-227 numbers it.
const NO_SESSION_EPOCH: i32 = -1;

/// The timestamps of ListOffsets that stand for the ends of a log.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// The value at each offset of a damaged batch, which nobody has sent.
const BROKEN: &str = "a batch whose CRC is wrong";

/// Behind any offset that a log can have.
const OFFSET_MAX: i64 = 1 << 62;

/// The most records that a batch of the topic can have; a damaged one may say that it has more.
const BATCH_RECORDS_MAX: i64 = value::MESSAGE_BYTES_MAX as i64;

impl Consumer {
    /// Fetches from one of the brokers that lead what is to be read.
    pub(super) fn fetch(&mut self) -> Result<Answer, Failed> {
        let fetched = self.try_fetch();
        fetched.map_err(|why| self.lost(why))
    }

    fn try_fetch(&mut self) -> Result<Answer, String> {
        let mut partitions: Vec<i32> = self.positions.keys().copied().collect();
        // What was in front may be sent late otherwise.
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % partitions.len();
        partitions.rotate_left(first);
        let leader = self.links.leader(partitions[0])?;
        let (mut asked, mut known) = (Vec::new(), BTreeSet::new());
        for partition in partitions {
            let of_partition = self.links.leader(partition)?;
            if of_partition.address == leader.address {
                let fetch_offset = self.positions[&partition];
                if self.world.recorder.is_known(partition, fetch_offset) {
                    known.insert(partition);
                }
                asked.push(FetchPartition {
                    partition,
                    current_leader_epoch: of_partition.epoch,
                    fetch_offset,
                    last_fetched_epoch: -1,
                    log_start_offset: -1,
                    partition_max_bytes: PARTITION_BYTES_MAX,
                    ..Default::default()
                });
            }
        }
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: WAIT.as_millis() as i32,
            min_bytes: 1,
            max_bytes: FETCH_BYTES_MAX,
            session_epoch: NO_SESSION_EPOCH,
            topics: vec![FetchTopic {
                topic: self.world.setup.topic.as_str().into(),
                partitions: asked,
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.links.ask(leader.address, versions::FETCH, &request)?;
        accept(answer.error_code)?;
        let (mut records, mut watermarks) = (Vec::new(), Vec::new());
        for data in answer.responses.into_iter().flat_map(|it| it.partitions) {
            let is_known = known.contains(&data.partition_index);
            watermarks.push(self.marks(&data, is_known)?);
            let position = self.positions.get(&data.partition_index);
            let position = position.copied().unwrap_or(0);
            let read = records_of(data, position, &mut self.decompressor);
            records.extend(read.map_err(|why| self.links.bad(why))?);
        }
        // Nothing of an answer counts that is wrong in a part.
        for record in &records {
            self.positions.insert(record.partition, record.offset + 1);
        }
        Ok(Answer::Poll {
            records,
            watermarks,
        })
    }

    /// What a fetch shows of a log beside records.
    fn marks(&self, data: &PartitionData, is_known: bool) -> Result<Watermarks, String> {
        let partition = data.partition_index;
        let (start, high) = (data.log_start_offset, data.high_watermark);
        match code_of(data.error_code) {
            ErrorCode::None if start > high => Err(self.links.bad(format_args!(
                "the log of partition {partition} begins at {start} and ends at {high}"
            ))),
            ErrorCode::None => Ok(Watermarks {
                partition,
                start,
                high,
                stable: (data.last_stable_offset >= 0).then_some(data.last_stable_offset),
                epoch: None,
            }),
            ErrorCode::OffsetOutOfRange if is_known => Err(self.links.bad(format_args!(
                "an offset of partition {partition} is out of range that was there before"
            ))),
            code => Err(format!("partition {partition}: {code}")),
        }
    }

    /// Where the log of a partition begins and ends, and its leader's epoch.
    pub(super) fn list_offsets(&mut self, partition: i32) -> Result<Watermarks, String> {
        let leader = self.links.leader(partition)?;
        let (start, _) = self.list_offset(leader, partition, EARLIEST)?;
        let (high, epoch) = self.list_offset(leader, partition, LATEST)?;
        Ok(Watermarks {
            partition,
            start,
            high,
            stable: None,
            epoch: (leader.epoch >= 0 && epoch >= 0).then_some(epoch),
        })
    }

    fn list_offset(
        &mut self,
        leader: Leader,
        partition: i32,
        timestamp: i64,
    ) -> Result<(i64, i32), String> {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: self.world.setup.topic.as_str().into(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition,
                    current_leader_epoch: leader.epoch,
                    timestamp,
                }],
            }],
            ..Default::default()
        };
        let answer = self
            .links
            .ask(leader.address, versions::LIST_OFFSETS, &request)?;
        let mut rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let Some(row) = rows.next() else {
            return Err(self
                .links
                .bad("offsets without the partition that was asked for"));
        };
        accept(row.error_code)?;
        Ok((row.offset, row.leader_epoch))
    }
}

/// The records that a fetch has from `position` on. An error is what no broker may send: a stored
/// batch may be damaged, and is passed over, but a fetch is made of whole batches.
fn records_of(
    data: PartitionData,
    position: i64,
    decompressor: &mut Decompressor,
) -> Result<Vec<Record>, String> {
    let partition = data.partition_index;
    let batches = data.records.unwrap_or_default().to_bytes();
    let mut records = Vec::new();
    for batch in Batches::new(&batches) {
        let (header, batch) = match batch {
            Ok(batch) => batch,
            // The end of a fetch may be cut off.
            Err(BatchFault::Incomplete { .. }) => break,
            Err(fault) => return Err(fault.to_string()),
        };
        let base = header.base_offset.0;
        if !(0..OFFSET_MAX).contains(&base) {
            return Err(format!("a batch at offset {base}"));
        }
        let record = |offset: i64, value: String| Record {
            partition,
            offset,
            value,
            epoch: Some(header.partition_leader_epoch.0),
        };
        if crc_of(batch) != header.crc {
            let offsets = damaged(&header, position);
            records.extend(offsets.map(|offset| record(offset, BROKEN.to_owned())));
            continue;
        }
        let set = RecordSet::open(batch, DECOMPRESSED_BATCH_BYTES_MAX, decompressor);
        let set = set.map_err(|error| error.to_string())?;
        for read in &set {
            let read = read.map_err(|error| error.to_string())?;
            if read.offset.0 >= position {
                records.push(record(read.offset.0, value::decode(read.value)));
            }
        }
    }
    Ok(records)
}

/// The offsets from `position` on that a damaged batch takes, one at least, so that whoever reads
/// on is behind it. How many there are may be what is damaged.
fn damaged(header: &BatchHeader, position: i64) -> std::ops::RangeInclusive<i64> {
    let first = header.base_offset.0.max(position);
    let last = header.last_offset().0;
    let is_likely = (first..first + BATCH_RECORDS_MAX).contains(&last);
    first..=if is_likely { last } else { first }
}

#[cfg(test)]
mod tests;
