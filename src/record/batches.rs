//! Walks batches that lie one after the other, as in a segment, a fetch or a produce request.
//! Any shard; it checks framing only, never a CRC or a record, and allocates nothing.

use bytes::Bytes;

use crate::base::limits::BATCH_HEADER_BYTES;
use crate::record::header::{BATCH_LENGTH_AT, BatchHeader, LOG_OVERHEAD_BYTES, MAGIC_AT, MAGIC_V2};

/// The size of the smallest message of any format, the oldest one's, without its first 12 bytes.
const LEGACY_OVERHEAD_BYTES: i32 = 14;

/// Why a walk over batches ended before the bytes did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchFault {
    /// The bytes end inside a batch that looks sound so far: a cut fetch, or a torn write.
    #[error(
        "the batch at byte {position} is incomplete: {remaining_bytes} of {needed_bytes} bytes"
    )]
    Incomplete {
        /// Where the batch begins.
        position: usize,
        /// Its size, or, where even that is cut off, the size of what must be there first.
        needed_bytes: usize,
        /// What is there of it.
        remaining_bytes: usize,
    },
    /// A length that no batch can have.
    #[error("the batch at byte {position} is corrupt: a length field of {batch_length}")]
    Length {
        /// Where the batch begins.
        position: usize,
        /// The length field as it stands there.
        batch_length: i32,
    },
    /// A format of before Kafka 0.11 (0 or 1), or none at all.
    #[error("the batch at byte {position} has format version {magic}, not 2")]
    Magic {
        /// Where the batch begins.
        position: usize,
        /// The format version as it stands there.
        magic: i8,
    },
}

impl BatchFault {
    /// Whether more bytes could complete what is there.
    pub fn is_incomplete(&self) -> bool {
        matches!(self, Self::Incomplete { .. })
    }
}

/// The header of the batch at the start of `bytes`, once all of the batch is there.
/// `position` is where that is for an error to name.
pub fn first_batch(bytes: &[u8], position: usize) -> Result<BatchHeader, BatchFault> {
    let incomplete = |needed_bytes| BatchFault::Incomplete {
        position,
        needed_bytes,
        remaining_bytes: bytes.len(),
    };
    let length: &[u8; 4] = bytes
        .get(BATCH_LENGTH_AT..)
        .and_then(<[u8]>::first_chunk)
        .ok_or(incomplete(BATCH_HEADER_BYTES))?;
    let batch_length = i32::from_be_bytes(*length);
    let corrupt_length = BatchFault::Length {
        position,
        batch_length,
    };
    if batch_length < LEGACY_OVERHEAD_BYTES {
        return Err(corrupt_length);
    }
    let Some(magic) = bytes.get(MAGIC_AT).map(|magic| *magic as i8) else {
        return Err(incomplete(BATCH_HEADER_BYTES));
    };
    if magic != MAGIC_V2 {
        return Err(BatchFault::Magic { position, magic });
    }
    let size = LOG_OVERHEAD_BYTES + batch_length as usize;
    if size < BATCH_HEADER_BYTES {
        return Err(corrupt_length);
    }
    if bytes.len() < size {
        return Err(incomplete(size));
    }
    Ok(BatchHeader::parse(bytes).expect("a batch is at least a header long"))
}

/// The batches in a slice, each with its header. It ends after the first fault.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    is_done: bool,
}

impl<'a> Batches<'a> {
    /// A walk from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            is_done: false,
        }
    }

    /// Where the next batch begins: the whole batches so far take this many bytes.
    pub fn position(&self) -> usize {
        self.position
    }

    fn advance(&mut self) -> Option<Result<BatchHeader, BatchFault>> {
        if self.is_done || self.position == self.bytes.len() {
            return None;
        }
        let header = first_batch(&self.bytes[self.position..], self.position);
        match &header {
            Ok(header) => self.position += header.size_in_bytes(),
            Err(_) => self.is_done = true,
        }
        Some(header)
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.position;
        let header = self.advance()?;
        Some(header.map(|header| (header, &self.bytes[start..self.position])))
    }
}

/// As [`Batches`], yielding counted references instead of borrows.
#[derive(Clone, Debug)]
pub struct SharedBatches {
    bytes: Bytes,
    position: usize,
    is_done: bool,
}

impl SharedBatches {
    /// A walk from the start of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            position: 0,
            is_done: false,
        }
    }

    /// Where the next batch begins: the whole batches so far take this many bytes.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl Iterator for SharedBatches {
    type Item = Result<(BatchHeader, Bytes), BatchFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut walk = Batches {
            bytes: &self.bytes,
            position: self.position,
            is_done: self.is_done,
        };
        let header = walk.advance()?;
        let start = self.position;
        (self.position, self.is_done) = (walk.position, walk.is_done);
        Some(header.map(|header| (header, self.bytes.slice(start..self.position))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixtures;

    #[test]
    fn concatenated_batches_come_out_one_by_one_in_both_forms() {
        let batches: Vec<_> = (1..4).map(fixtures::plain_batch).collect();
        let all = batches.concat();
        let walked: Vec<_> = Batches::new(&all)
            .map(|batch| batch.expect("whole").1)
            .collect();
        assert_eq!(walked, batches);
        let shared: Vec<_> = SharedBatches::new(Bytes::from(all))
            .map(|batch| batch.expect("whole").1)
            .collect();
        assert_eq!(shared, batches);
    }

    #[test]
    fn a_cut_anywhere_is_an_incomplete_tail_and_never_a_corrupt_one() {
        let first = fixtures::plain_batch(2);
        let all = [first.clone(), fixtures::plain_batch(3)].concat();
        for cut in 0..all.len() {
            let mut walk = Batches::new(&all[..cut]);
            let whole = walk.by_ref().take_while(Result::is_ok).count();
            assert_eq!(whole, usize::from(cut >= first.len()), "cut at {cut}");
            let position = if whole == 1 { first.len() } else { 0 };
            assert_eq!(walk.position(), position);
            assert!(walk.next().is_none());
            if cut != position {
                let fault = Batches::new(&all[..cut]).find_map(Result::err);
                let fault = fault.expect("a tail is left");
                assert!(fault.is_incomplete(), "cut at {cut}: {fault}");
            }
        }
    }

    #[test]
    fn lengths_and_formats_that_no_batch_has_are_corrupt() {
        let good = fixtures::plain_batch(1);
        for batch_length in [i32::MIN, -1, 0, 13, 14, 48] {
            let mut bytes = good.clone();
            bytes[BATCH_LENGTH_AT..][..4].copy_from_slice(&batch_length.to_be_bytes());
            let expected = BatchFault::Length {
                position: 0,
                batch_length,
            };
            assert_eq!(Batches::new(&bytes).next(), Some(Err(expected)));
        }
        for magic in [i8::MIN, -1, 0, 1, 3, i8::MAX] {
            let mut bytes = good.clone();
            bytes[MAGIC_AT] = magic as u8;
            let expected = BatchFault::Magic { position: 0, magic };
            assert_eq!(Batches::new(&bytes).next(), Some(Err(expected)));
        }
        let mut bytes = good.clone();
        bytes[BATCH_LENGTH_AT..][..4].copy_from_slice(&i32::MAX.to_be_bytes());
        let fault = Batches::new(&bytes).next().expect("one").expect_err("cut");
        assert!(fault.is_incomplete());
    }
}
