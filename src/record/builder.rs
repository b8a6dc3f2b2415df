//! Builds v2 batches: for the broker's own logs, the command line and tests. Any shard; batches of
//! clients never pass through here.

use crate::base::clock::TimestampMs;
use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::base::limits::BATCH_HEADER_BYTES;
use crate::record::compression::{Codec, CompressionError, compress};
use crate::record::header::{
    BatchHeader, CRC_AT, LOG_OVERHEAD_BYTES, MAGIC_V2, NO_SEQUENCE, NO_TIMESTAMP, TimestampType,
    attributes, crc_of,
};
use crate::record::varint::{put_varint, put_varlong, varint_bytes, varlong_bytes};

/// A record to append to a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordToWrite<'a> {
    /// In milliseconds since the epoch, or -1.
    pub timestamp: TimestampMs,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers in their order.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Why a batch cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The record or the batch does not fit the format's 31-bit lengths.
    #[error("a record or batch is larger than the format allows")]
    TooLarge,
    /// The records could not be compressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// A batch in the making. Offsets count up from the base offset.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// The first record's offset; 0 for a batch that is sent to a broker.
    pub base_offset: Offset,
    /// The leader's epoch, or -1.
    pub leader_epoch: LeaderEpoch,
    /// How the records are compressed.
    pub codec: Codec,
    /// Who sets the timestamps.
    pub timestamp_type: TimestampType,
    /// The idempotent producer, or none.
    pub producer_id: ProducerId,
    /// Its epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence, or -1.
    pub base_sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub is_transactional: bool,
    /// Whether it holds control records.
    pub is_control: bool,
    body: Vec<u8>,
    records_count: i32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
}

impl BatchBuilder {
    /// An empty batch with nothing special about it.
    pub fn new(codec: Codec) -> Self {
        Self {
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch::UNKNOWN,
            codec,
            timestamp_type: TimestampType::CreateTime,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: NO_SEQUENCE,
            is_transactional: false,
            is_control: false,
            body: Vec::new(),
            records_count: 0,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    /// Makes it a batch of an idempotent producer.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch) = (id, epoch);
        self.base_sequence = base_sequence;
        self
    }

    /// How many records it holds.
    pub fn records_count(&self) -> i32 {
        self.records_count
    }

    /// The size it would have in bytes if it were not compressed.
    pub fn uncompressed_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.body.len()
    }

    /// Appends a record at the next offset.
    pub fn append(&mut self, record: &RecordToWrite<'_>) -> Result<(), BuildError> {
        let base = match self.records_count {
            0 => record.timestamp,
            _ => self.base_timestamp,
        };
        let timestamp_delta = record.timestamp.wrapping_sub(base);
        let length = record_bytes(record, timestamp_delta, self.records_count)?;
        let body_bytes = self.uncompressed_bytes() + length as usize;
        let next_count = self.records_count.checked_add(1);
        if body_bytes > i32::MAX as usize {
            return Err(BuildError::TooLarge);
        }
        let next_count = next_count.ok_or(BuildError::TooLarge)?;
        put_varint(&mut self.body, length);
        self.body.push(0);
        put_varlong(&mut self.body, timestamp_delta);
        put_varint(&mut self.body, self.records_count);
        put_nullable(&mut self.body, record.key);
        put_nullable(&mut self.body, record.value);
        put_varint(&mut self.body, record.headers.len() as i32);
        for (key, value) in record.headers {
            put_nullable(&mut self.body, Some(key.as_bytes()));
            put_nullable(&mut self.body, *value);
        }
        self.records_count = next_count;
        self.base_timestamp = base;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        Ok(())
    }

    /// The batch, with its CRC.
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        let compressed = match self.codec {
            Codec::None => None,
            codec => Some(compress(codec, &self.body)?),
        };
        let body = compressed.as_deref().unwrap_or(&self.body);
        let size = BATCH_HEADER_BYTES + body.len();
        let length = i32::try_from(size - LOG_OVERHEAD_BYTES).map_err(|_| BuildError::TooLarge)?;
        let header = BatchHeader {
            base_offset: self.base_offset,
            batch_length: length,
            partition_leader_epoch: self.leader_epoch,
            magic: MAGIC_V2,
            crc: 0,
            attributes: attributes(
                self.codec,
                self.timestamp_type,
                self.is_transactional,
                self.is_control,
            ),
            last_offset_delta: (self.records_count - 1).max(0),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            records_count: self.records_count,
        };
        let mut batch = Vec::with_capacity(size);
        batch.extend_from_slice(&header.to_bytes());
        batch.extend_from_slice(body);
        let crc = crc_of(&batch);
        batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        Ok(batch)
    }
}

fn record_bytes(
    record: &RecordToWrite<'_>,
    timestamp_delta: i64,
    offset_delta: i32,
) -> Result<i32, BuildError> {
    let count = i32::try_from(record.headers.len()).map_err(|_| BuildError::TooLarge)?;
    let mut bytes = 1 + varlong_bytes(timestamp_delta) + varint_bytes(offset_delta);
    bytes += nullable_bytes(record.key)? + nullable_bytes(record.value)? + varint_bytes(count);
    for (key, value) in record.headers {
        bytes += nullable_bytes(Some(key.as_bytes()))? + nullable_bytes(*value)?;
    }
    i32::try_from(bytes).map_err(|_| BuildError::TooLarge)
}

fn nullable_bytes(field: Option<&[u8]>) -> Result<usize, BuildError> {
    let Some(field) = field else {
        return Ok(varint_bytes(-1));
    };
    let length = i32::try_from(field.len()).map_err(|_| BuildError::TooLarge)?;
    Ok(varint_bytes(length) + field.len())
}

/// Appends a length and the bytes. The caller has checked that the length fits.
fn put_nullable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put_varint(out, -1),
        Some(field) => {
            put_varint(out, field.len() as i32);
            out.extend_from_slice(field);
        }
    }
}

#[cfg(test)]
mod tests;
