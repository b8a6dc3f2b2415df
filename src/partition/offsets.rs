//! Finds offsets by name or by timestamp, as Kafka's ListOffsets asks for them.
//!
//! A search by timestamp goes from the time index to a batch and then record by record, decoding
//! compressed batches. It reads the log as a consumer does, in pieces, and gives way between them.

use bytes::Bytes;

use crate::base::clock::TimestampMs;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::limits::DECOMPRESSED_BATCH_BYTES_MAX;
use crate::record::batches::Batches;
use crate::record::compression::Decompressor;
use crate::record::header::crc_of;
use crate::record::view::RecordSet;
use crate::storage::error::LogError;
use crate::storage::reader::{ReadPlan, ReadRange};

use super::core::Partition;
use super::message::{FoundOffset, OffsetQuery, OffsetSpec, PartitionError};
use super::planted;

/// Bytes read in one go while searching.
const SEARCH_BYTES: usize = 256 << 10;

const NONE: FoundOffset = FoundOffset {
    offset: Offset(-1),
    timestamp: -1,
    leader_epoch: LeaderEpoch::UNKNOWN,
};

/// Answers one query, of a partition that may be asked it.
pub async fn find(
    partition: &Partition,
    query: &OffsetQuery,
) -> Result<FoundOffset, PartitionError> {
    let end = partition.readable_end(query.committed_only);
    match query.spec {
        OffsetSpec::Latest => Ok(FoundOffset {
            offset: planted::told(end),
            timestamp: -1,
            leader_epoch: partition.leader_epoch(),
        }),
        OffsetSpec::Earliest => {
            let offset = partition.log().start();
            let epoch = partition.epochs.borrow().epoch_for_offset(offset);
            let leader_epoch = epoch.unwrap_or(partition.leader_epoch());
            Ok(FoundOffset {
                offset,
                timestamp: -1,
                leader_epoch,
            })
        }
        OffsetSpec::MaxTimestamp => {
            let Some(offset) = partition.log().largest_timestamp_offset() else {
                return Ok(NONE);
            };
            search(partition, offset, end, TimestampMs::MIN, largest).await
        }
        OffsetSpec::Timestamp(timestamp) => {
            let Some(from) = partition.log().seek_timestamp(timestamp).await? else {
                return Ok(NONE);
            };
            search(partition, from, end, timestamp, |records| {
                first_at(records, timestamp)
            })
            .await
        }
    }
}

/// Reads on from `from` until `choose` finds a record in a batch below `end` whose largest
/// timestamp is at least `timestamp`.
async fn search(
    partition: &Partition,
    from: Offset,
    end: Offset,
    timestamp: TimestampMs,
    choose: impl Fn(&RecordSet<'_>) -> Option<(Offset, TimestampMs)>,
) -> Result<FoundOffset, PartitionError> {
    let mut decompressor = Decompressor::default();
    let mut next = from;
    while next < end {
        let bytes = read(partition, next, end).await?;
        let before = next;
        for item in Batches::new(&bytes) {
            // The last batch of a piece may be cut: the next piece begins with it.
            let Ok((header, batch)) = item else { break };
            next = header.next_offset();
            if header.max_timestamp < timestamp {
                continue;
            }
            // Nothing that a damaged batch says is passed on.
            if crc_of(batch) != header.crc {
                return Err(LogError::Damaged(header.base_offset).into());
            }
            let records = RecordSet::open(batch, DECOMPRESSED_BATCH_BYTES_MAX, &mut decompressor);
            let records = records.map_err(|_| LogError::Damaged(header.base_offset))?;
            if let Some((offset, timestamp)) = choose(&records) {
                let leader_epoch = header.partition_leader_epoch;
                return Ok(FoundOffset {
                    offset,
                    timestamp,
                    leader_epoch,
                });
            }
        }
        if next == before {
            break;
        }
    }
    Ok(NONE)
}

async fn read(partition: &Partition, from: Offset, upper: Offset) -> Result<Bytes, LogError> {
    let range = ReadRange {
        from,
        upper,
        bytes_max: SEARCH_BYTES,
        at_least_one: true,
    };
    let chunks = match partition.log().read(range)? {
        ReadPlan::Memory(chunks) => chunks,
        ReadPlan::Cold(cold) => cold.run().await?,
    };
    Ok(chunks.concat().into())
}

/// The first record of at least `timestamp`.
fn first_at(records: &RecordSet<'_>, timestamp: TimestampMs) -> Option<(Offset, TimestampMs)> {
    let mut records = records.iter().flatten();
    records
        .find(|record| record.timestamp >= timestamp)
        .map(|r| (r.offset, r.timestamp))
}

/// The first record with the largest timestamp of the batch.
fn largest(records: &RecordSet<'_>) -> Option<(Offset, TimestampMs)> {
    let max = records.header().max_timestamp;
    let mut records = records.iter().flatten();
    records
        .find(|record| record.timestamp == max)
        .map(|r| (r.offset, r.timestamp))
}
