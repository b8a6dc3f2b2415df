//! The one walk over the records of a batch that all checks share, over memory or over a
//! decompressed stream. Any shard; it looks at every length and no key, value or header.

use crate::base::clock::TimestampMs;
use crate::record::compression::{BodyStream, Codec, CompressionError};
use crate::record::header::{BatchHeader, NO_TIMESTAMP, TimestampType};
use crate::record::validate::{MalformedRecord, RecordError, RefusedRecords};
use crate::record::varint::{read_varint, read_varlong, unzigzag32};

/// The shortest record: its length, attributes, two deltas, a null key, a null value, no headers.
const RECORD_BYTES_MIN: u64 = 7;

/// Reads forward through the records of a batch.
pub(crate) trait Cursor {
    /// The next byte.
    fn byte(&mut self) -> Result<u8, WalkFault>;
    /// The next bytes as a varint.
    #[inline(always)]
    fn varint(&mut self) -> Result<i32, WalkFault> {
        read_varint(|| self.byte())?.ok_or(WalkFault::Malformed(MalformedRecord::Varint))
    }
    /// The next bytes as a varlong.
    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, WalkFault> {
        read_varlong(|| self.byte())?.ok_or(WalkFault::Malformed(MalformedRecord::Varint))
    }
    /// Passes over `count` bytes.
    fn skip(&mut self, count: u64) -> Result<(), WalkFault>;
    /// How many bytes were read or skipped.
    fn position(&self) -> u64;
    /// Whether nothing is left.
    fn is_at_end(&mut self) -> Result<bool, WalkFault>;
}

/// Why a cursor or a record stops the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalkFault {
    Malformed(MalformedRecord),
    Compression(CompressionError),
}

impl From<CompressionError> for WalkFault {
    fn from(error: CompressionError) -> Self {
        Self::Compression(error)
    }
}

/// Uncompressed records in memory.
pub(crate) struct SliceCursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> SliceCursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Almost every varint of a record has one or two bytes: they are looked at together, with one
    /// look at what is left.
    #[inline(always)]
    fn short_varint(&mut self) -> Option<u32> {
        let [first, second] = *self.bytes.get(self.position..)?.first_chunk::<2>()?;
        if first < 0x80 {
            self.position += 1;
            return Some(u32::from(first));
        }
        if second < 0x80 {
            self.position += 2;
            return Some(u32::from(first & 0x7f) | u32::from(second) << 7);
        }
        None
    }
}

impl Cursor for SliceCursor<'_> {
    #[inline(always)]
    fn byte(&mut self) -> Result<u8, WalkFault> {
        let byte = self.bytes.get(self.position);
        self.position += 1;
        byte.copied()
            .ok_or(WalkFault::Malformed(MalformedRecord::Cut))
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<i32, WalkFault> {
        if let Some(short) = self.short_varint() {
            return Ok(unzigzag32(short));
        }
        read_varint(|| self.byte())?.ok_or(WalkFault::Malformed(MalformedRecord::Varint))
    }

    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, WalkFault> {
        if let Some(short) = self.short_varint() {
            return Ok(i64::from(unzigzag32(short)));
        }
        read_varlong(|| self.byte())?.ok_or(WalkFault::Malformed(MalformedRecord::Varint))
    }

    #[inline(always)]
    fn skip(&mut self, count: u64) -> Result<(), WalkFault> {
        if count > (self.bytes.len() - self.position) as u64 {
            return Err(WalkFault::Malformed(MalformedRecord::Cut));
        }
        self.position += count as usize;
        Ok(())
    }

    #[inline(always)]
    fn position(&self) -> u64 {
        self.position as u64
    }

    #[inline(always)]
    fn is_at_end(&mut self) -> Result<bool, WalkFault> {
        Ok(self.position == self.bytes.len())
    }
}

impl Cursor for BodyStream<'_> {
    #[inline(always)]
    fn byte(&mut self) -> Result<u8, WalkFault> {
        if !self.fill()? {
            return Err(WalkFault::Malformed(MalformedRecord::Cut));
        }
        let byte = self.ready()[0];
        self.consume(1);
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, mut count: u64) -> Result<(), WalkFault> {
        while count > 0 {
            if !self.fill()? {
                return Err(WalkFault::Malformed(MalformedRecord::Cut));
            }
            let ready = self
                .ready()
                .len()
                .min(usize::try_from(count).unwrap_or(usize::MAX));
            self.consume(ready);
            count -= ready as u64;
        }
        Ok(())
    }

    #[inline(always)]
    fn position(&self) -> u64 {
        BodyStream::position(self)
    }

    fn is_at_end(&mut self) -> Result<bool, WalkFault> {
        Ok(!self.fill()?)
    }
}

/// What is checked of each record beyond its form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordChecks {
    /// Every record must have a key.
    pub(crate) keys_required: bool,
    /// The earliest and the latest timestamp allowed, where producers set them.
    pub(crate) timestamps_ms: Option<(TimestampMs, TimestampMs)>,
}

/// What a whole walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walked {
    /// The highest timestamp, or [`NO_TIMESTAMP`].
    pub(crate) max_timestamp: TimestampMs,
    /// The size of the records when not compressed.
    pub(crate) body_bytes: u64,
}

/// Walks all records that `header` promises, and makes sure that nothing comes after them.
pub(crate) fn walk(
    cursor: &mut impl Cursor,
    header: &BatchHeader,
    codec: Codec,
    checks: RecordChecks,
) -> Result<Walked, RecordError> {
    let mut refused = RefusedRecords::default();
    let mut max_timestamp = NO_TIMESTAMP;
    let append_time = match header.timestamp_type() {
        TimestampType::CreateTime => None,
        TimestampType::LogAppendTime => Some(header.max_timestamp),
    };
    for index in 0..header.records_count {
        let record = read_record(cursor, index)
            .map_err(|fault| RecordError::from_walk(fault, index, codec))?;
        let timestamp = match append_time {
            None => header.base_timestamp.wrapping_add(record.timestamp_delta),
            Some(append_time) => append_time,
        };
        max_timestamp = max_timestamp.max(timestamp);
        if checks.keys_required && !record.has_key {
            refused.add_without_key(index);
        } else if let Some((earliest, latest)) = checks.timestamps_ms
            && timestamp != NO_TIMESTAMP
            && !(earliest..=latest).contains(&timestamp)
        {
            refused.add_timestamp(index, timestamp);
        } else if append_time.is_some()
            && (timestamp == NO_TIMESTAMP || checks.timestamps_ms.is_none())
        {
            refused.add_append_time(index);
        }
    }
    let count = header.records_count;
    let at_end = cursor.is_at_end();
    if !at_end.map_err(|fault| RecordError::from_walk(fault, count, codec))? {
        return Err(RecordError::BytesAfterRecords { count });
    }
    refused.into_result()?;
    Ok(Walked {
        max_timestamp,
        body_bytes: cursor.position(),
    })
}

struct WalkedRecord {
    timestamp_delta: i64,
    has_key: bool,
}

#[inline(always)]
fn read_record(cursor: &mut impl Cursor, index: i32) -> Result<WalkedRecord, WalkFault> {
    let length = cursor.varint()?;
    if u64::try_from(length).is_err() {
        return Err(WalkFault::Malformed(MalformedRecord::Length { length }));
    }
    let end = cursor.position() + length as u64;
    // The attributes of a record have no use yet, and Kafka does not look at them.
    cursor.byte()?;
    let timestamp_delta = cursor.varlong()?;
    let offset_delta = cursor.varint()?;
    if offset_delta != index {
        return Err(WalkFault::Malformed(MalformedRecord::OffsetDelta {
            offset_delta,
        }));
    }
    let has_key = skip_nullable(cursor, end)?;
    skip_nullable(cursor, end)?;
    let headers = cursor.varint()?;
    if headers != 0 {
        skip_headers(cursor, headers, end)?;
    }
    if cursor.position() != end {
        return Err(WalkFault::Malformed(MalformedRecord::Length { length }));
    }
    Ok(WalkedRecord {
        timestamp_delta,
        has_key,
    })
}

fn skip_headers(cursor: &mut impl Cursor, headers: i32, end: u64) -> Result<(), WalkFault> {
    let left = end.saturating_sub(cursor.position());
    if u64::try_from(headers).is_err() || headers as u64 > left {
        return Err(WalkFault::Malformed(MalformedRecord::Headers { headers }));
    }
    for _ in 0..headers {
        if !skip_nullable(cursor, end)? {
            return Err(WalkFault::Malformed(MalformedRecord::HeaderKey));
        }
        skip_nullable(cursor, end)?;
    }
    Ok(())
}

/// Passes over a length and that many bytes; false where it is null.
#[inline(always)]
fn skip_nullable(cursor: &mut impl Cursor, end: u64) -> Result<bool, WalkFault> {
    let length = cursor.varint()?;
    match u64::try_from(length) {
        Ok(length) if length <= end.saturating_sub(cursor.position()) => {
            cursor.skip(length)?;
            Ok(true)
        }
        Err(_) if length == -1 => Ok(false),
        _ => Err(WalkFault::Malformed(MalformedRecord::FieldLength {
            length,
        })),
    }
}

/// Whether `body_bytes` can hold so many records at all: spares the walk over a batch that lies.
pub(crate) fn can_hold(body_bytes: u64, records_count: i32) -> bool {
    u64::try_from(records_count).is_ok_and(|count| count <= body_bytes / RECORD_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Short varints are read together, and by no other rule than one byte after the other.
        #[test]
        fn both_ways_read_the_same(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            let mut plain = bytes.iter().copied();
            let mut next = || plain.next().ok_or(());
            let (mut short, mut long) = (SliceCursor::new(&bytes), SliceCursor::new(&bytes));
            let expected = read_varint(&mut next).ok().flatten();
            prop_assert_eq!(short.varint().ok(), expected);
            let left = plain.len();
            if expected.is_some() {
                prop_assert_eq!(short.position() as usize, bytes.len() - left);
            }
            let mut plain = bytes.iter().copied();
            let expected = read_varlong(|| plain.next().ok_or(())).ok().flatten();
            prop_assert_eq!(long.varlong().ok(), expected);
            if expected.is_some() {
                prop_assert_eq!(long.position() as usize, bytes.len() - plain.len());
            }
        }
    }
}
