//! Metadata records in the batches of their log. Pure; the log itself belongs to shard 0.

use bytes::Bytes;

use super::delta::{MetadataDelta, ReplayError};
use super::records::{MetadataRecord, RecordError};
use crate::base::clock::TimestampMs;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::protocol::error::EncodeError;
use crate::record::builder::{BatchBuilder, BuildError, RecordToWrite};
use crate::record::compression::{Codec, Decompressor};
use crate::record::validate;
use crate::record::view::RecordSet;

/// A batch of the metadata log that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// It is no batch, or its records are malformed.
    #[error("a malformed batch of metadata: {0}")]
    Batch(#[from] validate::RecordError),
    /// A record without a value.
    #[error("the record at offset {offset} has no value")]
    NoValue {
        /// Where it stands.
        offset: Offset,
    },
    /// A record that is no metadata.
    #[error("the record at offset {offset}: {error}")]
    Record {
        /// Where it stands.
        offset: Offset,
        /// What is wrong with it.
        error: RecordError,
    },
}

/// A batch of the metadata log that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayBatchError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] BatchError),
    /// A record contradicts the image.
    #[error("the record at offset {offset}: {error}")]
    Replay {
        /// Where it stands.
        offset: Offset,
        /// What is wrong with it.
        error: ReplayError,
    },
}

/// Records that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A record does not fit its format.
    #[error("a record that cannot be written: {0}")]
    Record(#[from] EncodeError),
    /// The batch does not fit its format.
    #[error("a batch that cannot be written: {0}")]
    Batch(#[from] BuildError),
}

/// One batch, so that its records are in the log together or not at all.
///
/// # Errors
/// If a record or the batch is longer than its format allows.
pub fn to_batch(
    records: &[MetadataRecord],
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    now_ms: TimestampMs,
) -> Result<Bytes, WriteError> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.base_offset = base_offset;
    builder.leader_epoch = leader_epoch;
    for record in records {
        let value = record.to_value()?;
        builder.append(&RecordToWrite {
            timestamp: now_ms,
            value: Some(&value),
            ..RecordToWrite::default()
        })?;
    }
    Ok(builder.build()?.into())
}

/// Reads one whole batch, whose CRC the log has checked: its records and their offsets. A control
/// batch, which belongs to the log's replication, holds none.
///
/// # Errors
/// The first record that is no metadata.
pub fn from_batch(batch: &[u8]) -> Result<Vec<(Offset, MetadataRecord)>, BatchError> {
    // What the broker writes is not compressed, and Kafka does not compress its metadata either.
    let set = RecordSet::open(batch, 0, &mut Decompressor::new())?;
    if set.header().is_control() {
        return Ok(Vec::new());
    }
    let mut records = Vec::new();
    for record in &set {
        let record = record?;
        let offset = record.offset;
        let value = record.value.ok_or(BatchError::NoValue { offset })?;
        let record = MetadataRecord::from_value(Bytes::copy_from_slice(value))
            .map_err(|error| BatchError::Record { offset, error })?;
        records.push((offset, record));
    }
    Ok(records)
}

/// Replays one whole batch, whose CRC the log has checked, into `delta`: how a log is loaded, and
/// how what was just appended to it is applied.
///
/// # Errors
/// The first record that cannot be replayed. The delta is of no use any more.
pub fn replay(batch: &[u8], delta: &mut MetadataDelta) -> Result<(), ReplayBatchError> {
    for (offset, record) in from_batch(batch)? {
        delta
            .replay(offset, &record)
            .map_err(|error| ReplayBatchError::Replay { offset, error })?;
    }
    Ok(())
}
