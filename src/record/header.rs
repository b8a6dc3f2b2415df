//! The 61-byte header of a v2 batch, by value, and the fields that a leader assigns in place.
//! Any shard; it never looks at the records behind the header.
//!
//! All integers are big-endian. The layout is the one of Kafka's documentation, "Record Batch".

use std::ops::Range;

use crate::base::clock::TimestampMs;
use crate::base::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use crate::base::limits::BATCH_HEADER_BYTES;
use crate::record::compression::Codec;

/// Where the base offset stands, an i64.
pub const BASE_OFFSET_AT: usize = 0;
/// Where the batch length stands, an i32: the bytes that follow it.
pub const BATCH_LENGTH_AT: usize = 8;
/// Where the partition leader epoch stands, an i32.
pub const LEADER_EPOCH_AT: usize = 12;
/// Where the format version stands, an i8, in this and in every older format.
pub const MAGIC_AT: usize = 16;
/// Where the CRC-32C stands, a u32.
pub const CRC_AT: usize = 17;
/// Where the attributes stand, an i16. The CRC covers everything from here on.
pub const ATTRIBUTES_AT: usize = 21;
/// Where the last record's offset stands, relative to the base offset, an i32.
pub const LAST_OFFSET_DELTA_AT: usize = 23;
/// Where the base timestamp stands, an i64.
pub const BASE_TIMESTAMP_AT: usize = 27;
/// Where the maximum timestamp stands, an i64.
pub const MAX_TIMESTAMP_AT: usize = 35;
/// Where the producer id stands, an i64.
pub const PRODUCER_ID_AT: usize = 43;
/// Where the producer epoch stands, an i16.
pub const PRODUCER_EPOCH_AT: usize = 51;
/// Where the base sequence stands, an i32.
pub const BASE_SEQUENCE_AT: usize = 53;
/// Where the number of records stands, an i32.
pub const RECORDS_COUNT_AT: usize = 57;
/// Where the records begin.
pub const RECORDS_AT: usize = BATCH_HEADER_BYTES;

/// What the batch length does not count: base offset and batch length themselves.
pub const LOG_OVERHEAD_BYTES: usize = 12;
/// The only format that is written; older ones are refused.
pub const MAGIC_V2: i8 = 2;
/// A timestamp that was not set.
pub const NO_TIMESTAMP: TimestampMs = -1;
/// The base sequence of a producer that is not idempotent.
pub const NO_SEQUENCE: i32 = -1;

const CODEC_MASK: i16 = 0b0000_0111;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

const _: () = assert!(RECORDS_COUNT_AT + 4 == BATCH_HEADER_BYTES);

/// Who sets the timestamps of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer, record by record.
    #[default]
    CreateTime,
    /// The leader: every record of the batch has the batch's maximum timestamp.
    LogAppendTime,
}

/// The header of a v2 batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The first record's offset.
    pub base_offset: Offset,
    /// The bytes that follow this field: the batch without its first 12 bytes.
    pub batch_length: i32,
    /// The epoch of the leader that took the batch.
    pub partition_leader_epoch: LeaderEpoch,
    /// The format version, [`MAGIC_V2`].
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type and flags; read them through the accessors.
    pub attributes: i16,
    /// The last record's offset relative to the base offset. Compaction keeps it.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to, in milliseconds; in a batch that compaction
    /// has marked, the delete horizon.
    pub base_timestamp: TimestampMs,
    /// The highest timestamp of the records, in milliseconds.
    pub max_timestamp: TimestampMs,
    /// The idempotent producer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// The producer's incarnation, or -1.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence number, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
    /// How many records the batch holds. Compaction lowers it.
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, or `None` where fewer than 61 bytes are there.
    /// It only copies the fields: nothing is checked.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BATCH_HEADER_BYTES] = bytes.first_chunk()?;
        Some(Self {
            base_offset: Offset(i64::from_be_bytes(field(bytes, BASE_OFFSET_AT))),
            batch_length: i32::from_be_bytes(field(bytes, BATCH_LENGTH_AT)),
            partition_leader_epoch: LeaderEpoch(i32::from_be_bytes(field(bytes, LEADER_EPOCH_AT))),
            magic: i8::from_be_bytes(field(bytes, MAGIC_AT)),
            crc: u32::from_be_bytes(field(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(field(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(bytes, LAST_OFFSET_DELTA_AT)),
            base_timestamp: i64::from_be_bytes(field(bytes, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_AT)),
            producer_id: ProducerId(i64::from_be_bytes(field(bytes, PRODUCER_ID_AT))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(bytes, PRODUCER_EPOCH_AT))),
            base_sequence: i32::from_be_bytes(field(bytes, BASE_SEQUENCE_AT)),
            records_count: i32::from_be_bytes(field(bytes, RECORDS_COUNT_AT)),
        })
    }

    /// The header as it stands in a batch.
    pub fn to_bytes(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        put(
            &mut bytes,
            BASE_OFFSET_AT,
            &self.base_offset.0.to_be_bytes(),
        );
        put(
            &mut bytes,
            BATCH_LENGTH_AT,
            &self.batch_length.to_be_bytes(),
        );
        let epoch = self.partition_leader_epoch.0.to_be_bytes();
        put(&mut bytes, LEADER_EPOCH_AT, &epoch);
        put(&mut bytes, MAGIC_AT, &self.magic.to_be_bytes());
        put(&mut bytes, CRC_AT, &self.crc.to_be_bytes());
        put(&mut bytes, ATTRIBUTES_AT, &self.attributes.to_be_bytes());
        let delta = self.last_offset_delta.to_be_bytes();
        put(&mut bytes, LAST_OFFSET_DELTA_AT, &delta);
        put(
            &mut bytes,
            BASE_TIMESTAMP_AT,
            &self.base_timestamp.to_be_bytes(),
        );
        put(
            &mut bytes,
            MAX_TIMESTAMP_AT,
            &self.max_timestamp.to_be_bytes(),
        );
        put(
            &mut bytes,
            PRODUCER_ID_AT,
            &self.producer_id.0.to_be_bytes(),
        );
        let epoch = self.producer_epoch.0.to_be_bytes();
        put(&mut bytes, PRODUCER_EPOCH_AT, &epoch);
        put(
            &mut bytes,
            BASE_SEQUENCE_AT,
            &self.base_sequence.to_be_bytes(),
        );
        put(
            &mut bytes,
            RECORDS_COUNT_AT,
            &self.records_count.to_be_bytes(),
        );
        bytes
    }

    /// The size of the whole batch in bytes. A negative length field counts as 0.
    #[inline]
    pub fn size_in_bytes(&self) -> usize {
        LOG_OVERHEAD_BYTES + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// The last record's offset, also when compaction has removed that record. It saturates, so
    /// that a hostile header cannot wrap around.
    #[inline]
    pub fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .0
                .saturating_add(self.last_offset_delta.into()),
        )
    }

    /// The offset after the batch.
    #[inline]
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// The last record's sequence number, wrapped from `i32::MAX` to 0, or [`NO_SEQUENCE`].
    #[inline]
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            base => sequence_plus(base, self.last_offset_delta),
        }
    }

    /// Whether the batch is of an idempotent or transactional producer.
    #[inline]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > ProducerId::NONE
    }

    /// How the records are compressed, or the id that no codec has.
    #[inline]
    pub fn codec(&self) -> Result<Codec, u8> {
        Codec::from_id(self.codec_id())
    }

    /// The id of the codec as it stands in the attributes, 0 to 7.
    #[inline]
    pub fn codec_id(&self) -> u8 {
        (self.attributes & CODEC_MASK) as u8
    }

    /// Who sets the timestamps.
    #[inline]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[inline]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds control records: transaction markers and those of the quorum.
    #[inline]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// When compaction may drop the batch's tombstones, in milliseconds since the epoch, where it
    /// has marked them (KIP-534).
    #[inline]
    pub fn delete_horizon_ms(&self) -> Option<TimestampMs> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }
}

/// The attributes of a batch.
pub(crate) fn attributes(
    codec: Codec,
    timestamp_type: TimestampType,
    is_transactional: bool,
    is_control: bool,
) -> i16 {
    let mut attributes = i16::from(codec.id());
    if timestamp_type == TimestampType::LogAppendTime {
        attributes |= LOG_APPEND_TIME_BIT;
    }
    if is_transactional {
        attributes |= TRANSACTIONAL_BIT;
    }
    if is_control {
        attributes |= CONTROL_BIT;
    }
    attributes
}

/// The sequence number `increment` records after `sequence`: after `i32::MAX` comes 0.
#[inline]
pub fn sequence_plus(sequence: i32, increment: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(increment);
    (sum & i64::from(i32::MAX)) as i32
}

/// The sequence number `decrement` records before `sequence`: before 0 comes `i32::MAX`.
#[inline]
pub fn sequence_minus(sequence: i32, decrement: i32) -> i32 {
    let difference = i64::from(sequence) - i64::from(decrement);
    (difference & i64::from(i32::MAX)) as i32
}

/// The bytes of a batch of `size_in_bytes` that its CRC covers.
pub fn crc_range(size_in_bytes: usize) -> Range<usize> {
    ATTRIBUTES_AT..size_in_bytes.max(ATTRIBUTES_AT)
}

/// The CRC-32C of one whole batch. Who copies the batch anyway computes it on the way with
/// [`crc_append`] over [`crc_range`].
pub fn crc_of(batch: &[u8]) -> u32 {
    batch.get(ATTRIBUTES_AT..).map_or(0, crc32c::crc32c)
}

/// Carries a CRC-32C on over the next piece of a batch; begin with 0.
pub fn crc_append(crc: u32, piece: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, piece)
}

/// Assigns the base offset of the batch at the start of `batch`. The CRC does not cover it.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_base_offset(batch: &mut [u8], base_offset: Offset) {
    put(batch, BASE_OFFSET_AT, &base_offset.0.to_be_bytes());
}

/// Assigns the leader epoch of the batch at the start of `batch`. The CRC does not cover it.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_leader_epoch(batch: &mut [u8], epoch: LeaderEpoch) {
    put(batch, LEADER_EPOCH_AT, &epoch.0.to_be_bytes());
}

/// Assigns timestamp type and maximum timestamp of one whole batch and, where that changes
/// something, computes its CRC anew. Returns the new CRC if it changed.
///
/// For LogAppendTime the maximum is the time of the append; for CreateTime it is the highest
/// timestamp of the records, which a producer may have stated wrongly.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_max_timestamp(
    batch: &mut [u8],
    timestamp_type: TimestampType,
    max_timestamp: TimestampMs,
) -> Option<u32> {
    let header = BatchHeader::parse(batch).expect("a whole batch is longer than its header");
    if header.timestamp_type() == timestamp_type && header.max_timestamp == max_timestamp {
        return None;
    }
    let attributes = match timestamp_type {
        TimestampType::CreateTime => header.attributes & !LOG_APPEND_TIME_BIT,
        TimestampType::LogAppendTime => header.attributes | LOG_APPEND_TIME_BIT,
    };
    put(batch, ATTRIBUTES_AT, &attributes.to_be_bytes());
    put(batch, MAX_TIMESTAMP_AT, &max_timestamp.to_be_bytes());
    let crc = crc_of(batch);
    put(batch, CRC_AT, &crc.to_be_bytes());
    Some(crc)
}

#[inline(always)]
fn field<const N: usize>(bytes: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    *bytes[at..]
        .first_chunk()
        .expect("the field is inside the header")
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
