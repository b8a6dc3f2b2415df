//! The checks that a batch from a client must pass before it is appended. Any shard; nothing is
//! changed, and an uncompressed batch is checked without allocating.
//!
//! They are those of Kafka's `ProduceRequest.validateRecords`, `UnifiedLog.append` and
//! `LogValidator`, in their order, in four steps that a caller may take one by one: [`frame`],
//! [`check_append`], [`check_crc`] with a CRC computed while the bytes were copied, and
//! [`check_records`]. [`validate_produce`] takes them all.
//!
//! Stricter than Kafka, in what no known client sends: record offsets must count up from 0, lengths
//! below -1 are no nulls, bytes after the batch are refused instead of dropped, an idempotent
//! producer's epoch is not negative, and decompressed records have a cap.

use crate::base::clock::TimestampMs;
use crate::base::ids::{Offset, ProducerEpoch, ProducerId};
use crate::base::limits::REFUSED_RECORDS_NAMED_MAX;
use crate::record::batches::{BatchFault, first_batch};
use crate::record::compression::{Codec, CompressionError, Decompressor};
use crate::record::header::{BatchHeader, LOG_OVERHEAD_BYTES, RECORDS_AT, TimestampType, crc_of};
use crate::record::walk::{RecordChecks, SliceCursor, WalkFault, can_hold, walk};

/// What a topic and a request allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `max.message.bytes`: the size of a batch, as it is compressed.
    pub batch_bytes_max: u32,
    /// `segment.bytes`: a batch must fit into one segment.
    pub segment_bytes: u32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// Whether every record needs a key: `cleanup.policy` holds `compact`.
    pub keys_required: bool,
    /// Whether the request's version knows Zstandard: Produce 7 and later (KIP-110).
    pub zstd_allowed: bool,
    /// The cap on the records of a compressed batch when decompressed, in bytes.
    pub decompressed_bytes_max: u64,
}

/// What is known of a batch that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The header as the client sent it.
    pub header: BatchHeader,
    /// The timestamp type that the batch must be stored with.
    pub timestamp_type: TimestampType,
    /// The maximum timestamp that it must be stored with: the highest of its records, or, for
    /// LogAppendTime, now. Pass both to [`crate::record::header::set_max_timestamp`].
    pub max_timestamp: TimestampMs,
    /// The size of its records when not compressed, in bytes.
    pub body_bytes: u64,
}

impl Validated {
    /// Whether the header must be changed before it is stored, and with it the CRC.
    pub fn needs_timestamp(&self) -> bool {
        self.header.timestamp_type() != self.timestamp_type
            || self.header.max_timestamp != self.max_timestamp
    }
}

/// Why a batch is refused. Each names the error code that Kafka would answer with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not even the start of a batch. INVALID_RECORD.
    #[error("no record batch where exactly one is expected")]
    NoBatch,
    /// The batch's length reaches past the bytes that were sent. INVALID_RECORD.
    #[error("the batch says {needed_bytes} bytes but only {remaining_bytes} were sent")]
    Incomplete {
        /// The size that the batch states.
        needed_bytes: usize,
        /// The bytes that were sent.
        remaining_bytes: usize,
    },
    /// A length that no batch can have. CORRUPT_MESSAGE.
    #[error("no batch has a length of {batch_length}")]
    Length {
        /// The length field.
        batch_length: i32,
    },
    /// Message format 0 or 1, of before Kafka 0.11. INVALID_RECORD.
    #[error("message format {magic} is no longer taken, only 2 is")]
    OldMagic {
        /// The format version, 0 or 1.
        magic: i8,
    },
    /// No message format. CORRUPT_MESSAGE.
    #[error("there is no message format {magic}")]
    UnknownMagic {
        /// The format version.
        magic: i8,
    },
    /// More follows the first batch. INVALID_RECORD.
    #[error("{bytes} bytes follow the batch where exactly one batch is expected")]
    MoreThanOneBatch {
        /// The bytes after the first batch.
        bytes: usize,
    },
    /// Zstandard in a request version that does not know it. UNSUPPORTED_COMPRESSION_TYPE.
    #[error("zstd is only taken from produce requests of version 7 and later")]
    ZstdNotAllowed,
    /// A codec id from 5 to 7. Kafka fails on it with UNKNOWN_SERVER_ERROR, from an unchecked
    /// exception; UNSUPPORTED_COMPRESSION_TYPE says what is wrong.
    #[error("there is no compression codec {id}")]
    UnknownCodec {
        /// The id in the attributes.
        id: u8,
    },
    /// Clients number from 0; the leader assigns the offsets. INVALID_RECORD.
    #[error("the base offset of a produced batch must be 0, not {base_offset}")]
    BaseOffset {
        /// What the header says.
        base_offset: Offset,
    },
    /// Over `max.message.bytes`. MESSAGE_TOO_LARGE.
    #[error("the batch is {batch_bytes} bytes, over the maximum of {batch_bytes_max}")]
    BatchTooLarge {
        /// The batch's size.
        batch_bytes: usize,
        /// The topic's `max.message.bytes`.
        batch_bytes_max: u32,
    },
    /// Over `segment.bytes`. RECORD_LIST_TOO_LARGE.
    #[error("the batch is {batch_bytes} bytes, over a segment's {segment_bytes}")]
    LargerThanSegment {
        /// The batch's size.
        batch_bytes: usize,
        /// The topic's `segment.bytes`.
        segment_bytes: u32,
    },
    /// CORRUPT_MESSAGE.
    #[error("the batch's CRC is {computed:#010x}, its header says {stored:#010x}")]
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// No records, or fewer than none. INVALID_RECORD.
    #[error("a batch with {records_count} records")]
    RecordsCount {
        /// What the header says.
        records_count: i32,
    },
    /// The offset range is not that of the number of records. INVALID_RECORD.
    #[error("{records_count} records but a last offset delta of {last_offset_delta}")]
    OffsetRange {
        /// What the header says.
        records_count: i32,
        /// What the header says.
        last_offset_delta: i32,
    },
    /// Only brokers write control batches. INVALID_RECORD.
    #[error("clients may not write control batches")]
    ControlBatch,
    /// An idempotent producer without a sequence. INVALID_RECORD.
    #[error("sequence {base_sequence} and epoch {producer_epoch} of producer {producer_id}")]
    Sequence {
        /// The producer.
        producer_id: ProducerId,
        /// Its epoch.
        producer_epoch: ProducerEpoch,
        /// The sequence that the header says.
        base_sequence: i32,
    },
    /// A record that cannot be read. INVALID_RECORD.
    #[error("record {index} is malformed: {fault}")]
    Malformed {
        /// Which record, from 0.
        index: i32,
        /// What is wrong with it.
        fault: MalformedRecord,
    },
    /// More bytes than the records. INVALID_RECORD.
    #[error("bytes follow the {count} records of the batch")]
    BytesAfterRecords {
        /// How many records there were.
        count: i32,
    },
    /// The CRC is right, but the records do not decompress. Kafka fails on it with
    /// UNKNOWN_SERVER_ERROR, from an unchecked exception; INVALID_RECORD says what is wrong, and
    /// like it is not retried.
    #[error("the {codec} records of the batch: {error}")]
    Compression {
        /// The batch's codec.
        codec: Codec,
        /// What went wrong.
        error: CompressionError,
    },
    /// Over the cap on decompressed records. MESSAGE_TOO_LARGE; Kafka has no cap.
    #[error("the {codec} records are over {bytes_max} bytes when decompressed")]
    DecompressedTooLarge {
        /// The batch's codec.
        codec: Codec,
        /// The cap.
        bytes_max: u64,
    },
    /// At least one record's timestamp is refused. INVALID_TIMESTAMP, with the records named.
    #[error("{}", .0.summary("timestamps"))]
    InvalidTimestamps(RefusedRecords),
    /// Records without a key in a compacted topic. INVALID_RECORD, with the records named.
    #[error("{}", .0.summary("records"))]
    InvalidRecords(RefusedRecords),
}

impl RecordError {
    pub(crate) fn from_walk(fault: WalkFault, index: i32, codec: Codec) -> Self {
        match fault {
            WalkFault::Malformed(fault) => Self::Malformed { index, fault },
            WalkFault::Compression(CompressionError::TooLarge { bytes_max }) => {
                Self::DecompressedTooLarge { codec, bytes_max }
            }
            WalkFault::Compression(error) => Self::Compression { codec, error },
        }
    }
}

/// What is wrong with the form of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRecord {
    /// The batch ends inside it.
    #[error("the batch ends inside it")]
    Cut,
    /// A number is longer or wider than its type.
    #[error("a number is too long")]
    Varint,
    /// Its length is not what its fields take.
    #[error("its fields do not take its length of {length} bytes")]
    Length {
        /// What the record says.
        length: i32,
    },
    /// It is out of its place in the batch.
    #[error("its offset delta is {offset_delta}")]
    OffsetDelta {
        /// What the record says.
        offset_delta: i32,
    },
    /// A key, value or header is longer than the record, or its length is below -1.
    #[error("a field has a length of {length} bytes")]
    FieldLength {
        /// What the record says.
        length: i32,
    },
    /// More headers than bytes, or fewer than none.
    #[error("{headers} headers")]
    Headers {
        /// What the record says.
        headers: i32,
    },
    /// A header's key is null.
    #[error("a header without a key")]
    HeaderKey,
}

/// Why a well-formed record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedRecord {
    /// The topic is compacted.
    #[error("a compacted topic takes no record without a key")]
    NoKey,
    /// The timestamp is too far from now.
    #[error("the timestamp {timestamp} is too far from the broker's clock")]
    Timestamp {
        /// In milliseconds.
        timestamp: TimestampMs,
    },
    /// Only the broker sets the timestamp type LogAppendTime.
    #[error("a producer must not set the timestamp type to LogAppendTime")]
    AppendTime,
}

/// The records of a batch that were refused, by their index in it. The rest of the batch goes with
/// them (KIP-467).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedRecords {
    /// The first of them, at most [`REFUSED_RECORDS_NAMED_MAX`].
    pub named: Vec<(i32, RefusedRecord)>,
    /// How many there are in all.
    pub count: u32,
    has_timestamp: bool,
}

impl RefusedRecords {
    #[cold]
    pub(crate) fn add_without_key(&mut self, index: i32) {
        self.add(index, RefusedRecord::NoKey);
    }

    #[cold]
    pub(crate) fn add_timestamp(&mut self, index: i32, timestamp: TimestampMs) {
        self.has_timestamp = true;
        self.add(index, RefusedRecord::Timestamp { timestamp });
    }

    #[cold]
    pub(crate) fn add_append_time(&mut self, index: i32) {
        self.has_timestamp = true;
        self.add(index, RefusedRecord::AppendTime);
    }

    /// One refused timestamp makes it INVALID_TIMESTAMP, as in Kafka.
    pub(crate) fn into_result(self) -> Result<(), RecordError> {
        match (self.count, self.has_timestamp) {
            (0, _) => Ok(()),
            (_, true) => Err(RecordError::InvalidTimestamps(self)),
            (_, false) => Err(RecordError::InvalidRecords(self)),
        }
    }

    fn add(&mut self, index: i32, why: RefusedRecord) {
        self.count += 1;
        if self.named.len() < REFUSED_RECORDS_NAMED_MAX {
            self.named.push((index, why));
        }
    }

    fn summary(&self, what: &str) -> String {
        match self.named.first() {
            Some((index, why)) => {
                format!(
                    "{} invalid {what}, the first is record {index}: {why}",
                    self.count
                )
            }
            None => format!("{} invalid {what}", self.count),
        }
    }
}

/// Checks a batch from a produce request in full. `now_ms` is the broker's clock.
pub fn validate_produce(
    records: &[u8],
    rules: &Rules,
    now_ms: TimestampMs,
    decompressor: &mut Decompressor,
) -> Result<Validated, RecordError> {
    let header = frame(records, rules)?;
    check_append(&header, rules)?;
    check_crc(&header, crc_of(records))?;
    check_records(records, &header, rules, now_ms, decompressor)
}

/// Step 1: `records` is exactly one whole batch of format 2.
pub fn frame(records: &[u8], rules: &Rules) -> Result<BatchHeader, RecordError> {
    let header = first_batch(records, 0).map_err(|fault| match fault {
        BatchFault::Incomplete { .. } if BatchHeader::parse(records).is_none() => {
            RecordError::NoBatch
        }
        // Kafka's own sizes are 31 bits wide: what does not fit is no length at all.
        BatchFault::Incomplete { needed_bytes, .. } if needed_bytes > i32::MAX as usize => {
            let batch_length = (needed_bytes - LOG_OVERHEAD_BYTES) as i32;
            RecordError::Length { batch_length }
        }
        BatchFault::Incomplete {
            needed_bytes,
            remaining_bytes,
            ..
        } => RecordError::Incomplete {
            needed_bytes,
            remaining_bytes,
        },
        BatchFault::Length { batch_length, .. } => RecordError::Length { batch_length },
        BatchFault::Magic { magic, .. } if (0..=1).contains(&magic) => {
            RecordError::OldMagic { magic }
        }
        BatchFault::Magic { magic, .. } => RecordError::UnknownMagic { magic },
    })?;
    if !rules.zstd_allowed && header.codec() == Ok(Codec::Zstd) {
        return Err(RecordError::ZstdNotAllowed);
    }
    if records.len() > header.size_in_bytes() {
        let bytes = records.len() - header.size_in_bytes();
        return Err(RecordError::MoreThanOneBatch { bytes });
    }
    Ok(header)
}

/// Step 2: the header allows an append by a client, as far as sizes go.
pub fn check_append(header: &BatchHeader, rules: &Rules) -> Result<(), RecordError> {
    let batch_bytes = header.size_in_bytes();
    if header.base_offset != Offset(0) {
        return Err(RecordError::BaseOffset {
            base_offset: header.base_offset,
        });
    }
    if batch_bytes as u64 > u64::from(rules.batch_bytes_max) {
        return Err(RecordError::BatchTooLarge {
            batch_bytes,
            batch_bytes_max: rules.batch_bytes_max,
        });
    }
    if batch_bytes as u64 > u64::from(rules.segment_bytes) {
        return Err(RecordError::LargerThanSegment {
            batch_bytes,
            segment_bytes: rules.segment_bytes,
        });
    }
    Ok(())
}

/// Step 3: `computed`, the CRC-32C over [`crate::record::header::crc_range`], is the header's.
pub fn check_crc(header: &BatchHeader, computed: u32) -> Result<(), RecordError> {
    if computed == header.crc {
        return Ok(());
    }
    Err(RecordError::Crc {
        stored: header.crc,
        computed,
    })
}

/// Step 4: the header is consistent and the records are what it says. `batch` is the whole batch
/// that `header` was read from.
pub fn check_records(
    batch: &[u8],
    header: &BatchHeader,
    rules: &Rules,
    now_ms: TimestampMs,
    decompressor: &mut Decompressor,
) -> Result<Validated, RecordError> {
    let codec = header
        .codec()
        .map_err(|id| RecordError::UnknownCodec { id })?;
    check_header(header)?;
    let body = batch.get(RECORDS_AT..).ok_or(RecordError::NoBatch)?;
    let timestamps_ms = match rules.timestamp_type {
        TimestampType::LogAppendTime => None,
        TimestampType::CreateTime => Some((
            now_ms.saturating_sub(rules.timestamp_before_max_ms),
            now_ms.saturating_add(rules.timestamp_after_max_ms),
        )),
    };
    let checks = RecordChecks {
        keys_required: rules.keys_required,
        timestamps_ms,
    };
    let walked = if codec == Codec::None {
        if !can_hold(body.len() as u64, header.records_count) {
            let fault = MalformedRecord::Cut;
            let index = header.records_count - 1;
            return Err(RecordError::Malformed { index, fault });
        }
        walk(&mut SliceCursor::new(body), header, codec, checks)?
    } else {
        let stream = decompressor.stream(codec, body, rules.decompressed_bytes_max);
        let mut stream = stream.map_err(|error| RecordError::Compression { codec, error })?;
        walk(&mut stream, header, codec, checks)?
    };
    let max_timestamp = match rules.timestamp_type {
        TimestampType::CreateTime => walked.max_timestamp,
        TimestampType::LogAppendTime => now_ms,
    };
    Ok(Validated {
        header: *header,
        timestamp_type: rules.timestamp_type,
        max_timestamp,
        body_bytes: walked.body_bytes,
    })
}

fn check_header(header: &BatchHeader) -> Result<(), RecordError> {
    let (records_count, last_offset_delta) = (header.records_count, header.last_offset_delta);
    if records_count <= 0 {
        return Err(RecordError::RecordsCount { records_count });
    }
    if last_offset_delta != records_count - 1 {
        return Err(RecordError::OffsetRange {
            records_count,
            last_offset_delta,
        });
    }
    if header.is_control() {
        return Err(RecordError::ControlBatch);
    }
    if header.has_producer_id() && (header.base_sequence < 0 || header.producer_epoch.0 < 0) {
        return Err(RecordError::Sequence {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
