//! Reads the records of a batch without copying them. Any shard; for brokers' own logs, for
//! searches by timestamp, for tests and command lines. The append path uses the walk instead.

use std::borrow::Cow;

use crate::base::clock::TimestampMs;
use crate::base::ids::Offset;
use crate::record::compression::{Codec, CompressionError, Decompressor};
use crate::record::header::{BatchHeader, NO_SEQUENCE, RECORDS_AT, TimestampType, sequence_plus};
use crate::record::validate::{MalformedRecord, RecordError};
use crate::record::varint::{read_varint, read_varlong};

/// The records of one batch: the batch's own bytes, or, of a compressed one, all of them
/// decompressed.
#[derive(Clone, Debug)]
pub struct RecordSet<'a> {
    header: BatchHeader,
    body: Cow<'a, [u8]>,
}

impl<'a> RecordSet<'a> {
    /// Opens one whole batch. Compressed records are decompressed at once, at most `bytes_max`
    /// bytes of them. The CRC is not checked.
    pub fn open(
        batch: &'a [u8],
        bytes_max: u64,
        decompressor: &mut Decompressor,
    ) -> Result<Self, RecordError> {
        let header = BatchHeader::parse(batch).ok_or(RecordError::NoBatch)?;
        let codec = header
            .codec()
            .map_err(|id| RecordError::UnknownCodec { id })?;
        let body = &batch[RECORDS_AT..];
        let body = match codec {
            Codec::None => Cow::Borrowed(body),
            _ => match decompressor.decompress(codec, body, bytes_max) {
                Ok(body) => Cow::Owned(body),
                Err(CompressionError::TooLarge { bytes_max }) => {
                    return Err(RecordError::DecompressedTooLarge { codec, bytes_max });
                }
                Err(error) => return Err(RecordError::Compression { codec, error }),
            },
        };
        Ok(Self { header, body })
    }

    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records in their order. It ends after the first error.
    pub fn iter(&self) -> Records<'_> {
        Records {
            header: self.header,
            rest: &self.body,
            index: 0,
        }
    }
}

impl<'a> IntoIterator for &'a RecordSet<'_> {
    type Item = Result<RecordView<'a>, RecordError>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.iter()
    }
}

/// A record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its offset, if the batch's base offset has been assigned.
    pub offset: Offset,
    /// Its timestamp in milliseconds: its own, or, under LogAppendTime, the batch's.
    pub timestamp: TimestampMs,
    /// Its producer's sequence number, or [`NO_SEQUENCE`].
    pub sequence: i32,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// The headers of a record, in their order, each a key and a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl Headers<'_> {
    /// How many are left.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let mut fields = Fields { rest: self.bytes };
        // Both were read once before, when the record was.
        let key = fields.nullable().ok()??;
        let value = fields.nullable().ok()?;
        self.bytes = fields.rest;
        Some((key, value))
    }
}

/// Walks the records of a batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    header: BatchHeader,
    rest: &'a [u8],
    index: i32,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.records_count {
            let count = self.index;
            return (!std::mem::take(&mut self.rest).is_empty())
                .then_some(Err(RecordError::BytesAfterRecords { count }));
        }
        let index = self.index;
        self.index += 1;
        match self.read() {
            Ok(record) => Some(Ok(record)),
            Err(fault) => {
                (self.index, self.rest) = (self.header.records_count, &[]);
                Some(Err(RecordError::Malformed { index, fault }))
            }
        }
    }
}

impl<'a> Records<'a> {
    fn read(&mut self) -> Result<RecordView<'a>, MalformedRecord> {
        let mut outer = Fields { rest: self.rest };
        let length = outer.varint()?;
        let bytes = usize::try_from(length).map_err(|_| MalformedRecord::Length { length })?;
        let mut fields = Fields {
            rest: outer.take(bytes)?,
        };
        self.rest = outer.rest;
        fields.take(1)?;
        let timestamp_delta = fields.varlong()?;
        let offset_delta = fields.varint()?;
        let key = fields.nullable()?;
        let value = fields.nullable()?;
        let headers = fields.headers()?;
        if !fields.rest.is_empty() {
            return Err(MalformedRecord::Length { length });
        }
        let header = &self.header;
        let base_offset = header.base_offset.0;
        Ok(RecordView {
            offset: Offset(base_offset.wrapping_add(offset_delta.into())),
            timestamp: match header.timestamp_type() {
                TimestampType::CreateTime => header.base_timestamp.wrapping_add(timestamp_delta),
                TimestampType::LogAppendTime => header.max_timestamp,
            },
            sequence: match header.base_sequence {
                base if base < 0 => NO_SEQUENCE,
                base => sequence_plus(base, offset_delta),
            },
            key,
            value,
            headers,
        })
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], MalformedRecord> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(MalformedRecord::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, MalformedRecord> {
        let (first, rest) = self.rest.split_first().ok_or(MalformedRecord::Cut)?;
        self.rest = rest;
        Ok(*first)
    }

    fn varint(&mut self) -> Result<i32, MalformedRecord> {
        read_varint(|| self.byte())?.ok_or(MalformedRecord::Varint)
    }

    fn varlong(&mut self) -> Result<i64, MalformedRecord> {
        read_varlong(|| self.byte())?.ok_or(MalformedRecord::Varint)
    }

    fn nullable(&mut self) -> Result<Option<&'a [u8]>, MalformedRecord> {
        let length = self.varint()?;
        match usize::try_from(length) {
            Ok(bytes) => self
                .take(bytes)
                .map(Some)
                .map_err(|_| MalformedRecord::FieldLength { length }),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(MalformedRecord::FieldLength { length }),
        }
    }

    fn headers(&mut self) -> Result<Headers<'a>, MalformedRecord> {
        let headers = self.varint()?;
        let count = u32::try_from(headers).map_err(|_| MalformedRecord::Headers { headers })?;
        if count as usize > self.rest.len() {
            return Err(MalformedRecord::Headers { headers });
        }
        let bytes = self.rest;
        for _ in 0..count {
            self.nullable()?.ok_or(MalformedRecord::HeaderKey)?;
            self.nullable()?;
        }
        let bytes = &bytes[..bytes.len() - self.rest.len()];
        Ok(Headers { count, bytes })
    }
}

#[cfg(test)]
mod tests;
