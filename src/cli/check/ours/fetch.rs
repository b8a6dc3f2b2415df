//! Reading: Fetch without a session, and ListOffsets.

use std::net::SocketAddr;
use std::time::Duration;

use super::Consumer;
use super::link::{accept, versions};
use crate::base::limits::DECOMPRESSED_BATCH_BYTES_MAX;
use crate::cli::check::history::{Answer, Record, Watermarks};
use crate::cli::check::recorder::Failed;
use crate::cli::check::value;
use crate::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use crate::protocol::messages::fetch_response::PartitionData;
use crate::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::record::batches::{BatchFault, Batches};
use crate::record::header::crc_of;
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

/// The value of what is no whole batch, which nobody has sent.
const BROKEN: &str = "a batch whose CRC is wrong";

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
        let mut asked = Vec::new();
        for partition in partitions {
            if self.links.leader(partition)? == leader {
                asked.push(FetchPartition {
                    partition,
                    current_leader_epoch: -1,
                    fetch_offset: self.positions[&partition],
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
        let answer = self.links.ask(leader, versions::FETCH, &request)?;
        accept(answer.error_code)?;
        let (mut records, mut watermarks) = (Vec::new(), Vec::new());
        for data in answer.responses.into_iter().flat_map(|it| it.partitions) {
            let partition = data.partition_index;
            accept(data.error_code).map_err(|why| format!("partition {partition}: {why}"))?;
            watermarks.push(Watermarks {
                partition,
                start: data.log_start_offset,
                high: data.high_watermark,
                epoch: None,
            });
            let position = self.positions.get(&partition).copied().unwrap_or(0);
            records.extend(self.records(data, position)?);
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

    /// The records from `position` on.
    fn records(&mut self, data: PartitionData, position: i64) -> Result<Vec<Record>, String> {
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
            let epoch = Some(header.partition_leader_epoch.0);
            if crc_of(batch) != header.crc {
                records.push(Record {
                    partition,
                    offset: header.base_offset.0,
                    value: BROKEN.to_owned(),
                    epoch,
                });
                break;
            }
            let bytes_max = DECOMPRESSED_BATCH_BYTES_MAX;
            let set = RecordSet::open(batch, bytes_max, &mut self.decompressor);
            let set = set.map_err(|error| error.to_string())?;
            for record in &set {
                let record = record.map_err(|error| error.to_string())?;
                if record.offset.0 >= position {
                    records.push(Record {
                        partition,
                        offset: record.offset.0,
                        value: value::decode(record.value),
                        epoch,
                    });
                }
            }
        }
        Ok(records)
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
            epoch: (epoch >= 0).then_some(epoch),
        })
    }

    fn list_offset(
        &mut self,
        leader: SocketAddr,
        partition: i32,
        timestamp: i64,
    ) -> Result<(i64, i32), String> {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: self.world.setup.topic.as_str().into(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition,
                    current_leader_epoch: -1,
                    timestamp,
                }],
            }],
            ..Default::default()
        };
        let answer = self.links.ask(leader, versions::LIST_OFFSETS, &request)?;
        let mut rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let row = rows.next().ok_or("an answer without the partition")?;
        accept(row.error_code)?;
        Ok((row.offset, row.leader_epoch))
    }
}
