//! Walks what stands in a segment and checks each batch: format, length, CRC, and that its offsets
//! follow those before. Any shard; pure: whoever reads the file hands the bytes in, piece by piece,
//! so no batch has to be in memory as a whole.
//!
//! Within a segment a batch follows the other without a gap, in bytes and in offsets. Where that
//! ends, the damage goes on to the next whole batch: first where the lengths say that it begins,
//! since what clients send may look like batches, and else wherever there is one.

#[cfg(test)]
mod tests;

use crate::base::ids::Offset;
use crate::base::limits::BATCH_HEADER_BYTES;
use crate::record::header::{ATTRIBUTES_AT, BatchHeader, MAGIC_AT, MAGIC_V2, crc_append};

/// So many batches that turn out to be none are summed up in one search; then nothing is sound up
/// to the segment's end. Records that look like batches would keep it busy for hours.
const SUMS_IN_SEARCH_MAX: u32 = 1000;

/// What a segment is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The offset of its first batch.
    pub base: Offset,
    /// Its batches end at this position.
    pub limit: u64,
    /// The offset after its last batch, where that is known.
    pub end: Option<Offset>,
}

/// Why something is not the batch that should stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is nothing but zeros where a header should be.
    #[error("there are zeros where a batch should begin")]
    Zeros,
    /// Another format version than 2.
    #[error("no batch begins here: it would have format version {0}, not 2")]
    Magic(i8),
    /// A length that no batch has.
    #[error("no batch begins here: it would have a length field of {0}")]
    Length(i32),
    /// The batch would go on behind the end.
    #[error("the batch would have {needed_bytes} bytes, and {left_bytes} are left")]
    CutOff {
        /// What its length says.
        needed_bytes: u64,
        /// What is there up to the end.
        left_bytes: u64,
    },
    /// Its bytes are not those that its CRC was computed over.
    #[error("the CRC of the batch is {stored:#010x}, and that of its bytes {computed:#010x}")]
    Crc {
        /// What it says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// It does not follow the batch before.
    #[error("the batch has base offset {found}, and {expected} should follow")]
    BaseOffset {
        /// What it says.
        found: Offset,
        /// The offset after the batch before.
        expected: Offset,
    },
    /// Its last offset lies before its first, or behind all that the segment can have.
    #[error("the batch cannot end {0} offsets behind its first one")]
    LastOffset(i32),
    /// The file ends before what was written to it.
    #[error("the file ends here, and more was written to it")]
    FileEnds,
    /// The batches end before the offset that the next segment or the log goes on with.
    #[error("the segment ends here, and batches are missing")]
    Missing,
}

/// A stretch of a segment without a sound batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins.
    pub position: u64,
    /// Where the next sound batch begins, or the segment ends.
    pub end: u64,
    /// The first offset that it may have taken.
    pub first: Offset,
    /// The offset after the last that it has taken: with which it goes on. `None` if nothing tells.
    pub next: Option<Offset>,
    /// What is wrong at its beginning.
    pub fault: Fault,
}

impl Damage {
    /// The last offset that it has taken, where that is known and there is any.
    pub fn last(&self) -> Option<Offset> {
        let next = self.next.filter(|next| *next > self.first);
        next.map(|next| next.plus(-1))
    }
}

/// A walk through one segment.
#[derive(Debug)]
pub struct SegmentWalk {
    bounds: Bounds,
    /// All before it was looked at: what is sound, or was told.
    position: u64,
    /// The offset that goes on there.
    expected: Offset,
    /// What is wrong from `position` on, if something is.
    broken: Option<Fault>,
    /// Where the next batch is looked for.
    at: u64,
    /// The offset that begins there, if the lengths before are right; else any batch will do.
    chain: Option<Offset>,
    /// The batch at `at`, which is being summed up.
    summing: Option<Summing>,
    /// What a search has summed up in vain.
    sums: u32,
    is_cut: bool,
    is_over: bool,
}

#[derive(Debug)]
struct Summing {
    header: BatchHeader,
    crc: u32,
    next: u64,
    end: u64,
}

impl SegmentWalk {
    /// From the segment's beginning.
    pub fn new(bounds: Bounds) -> Self {
        Self::from(bounds, 0, bounds.base)
    }

    /// From a place where a batch ends, on with the offset after it.
    pub fn from(bounds: Bounds, position: u64, expected: Offset) -> Self {
        let mut walk = Self {
            bounds,
            position,
            expected,
            broken: None,
            at: position,
            chain: None,
            summing: None,
            sums: 0,
            is_cut: false,
            is_over: false,
        };
        walk.expect_at(position, expected);
        walk
    }

    /// Where the segment's batches end.
    pub fn limit(&self) -> u64 {
        self.bounds.limit
    }

    /// Where the bytes begin that it has to be given next, as many as a header has at least, unless
    /// the limit comes before. `None` when nothing is left to look at.
    pub fn wants(&self) -> Option<u64> {
        if let Some(summing) = &self.summing {
            return Some(summing.next);
        }
        (!self.is_over && self.left() >= BATCH_HEADER_BYTES as u64).then_some(self.at)
    }

    /// The file ends before the limit.
    pub fn ends_at(&mut self, file_end: u64) {
        self.bounds.limit = self.bounds.limit.min(file_end);
        self.is_cut = true;
        self.summing = None;
        self.position = self.position.min(self.bounds.limit);
        let (position, expected) = (self.position, self.expected);
        match self.broken {
            None => self.expect_at(position, expected),
            Some(_) => self.search_from(position + 1),
        }
    }

    /// Takes the bytes that stand at `start`, up to the next damage, which is returned: then it may
    /// be given the same bytes again. `sound` sees each sound batch with its position.
    pub fn take(
        &mut self,
        start: u64,
        bytes: &[u8],
        sound: &mut dyn FnMut(u64, &BatchHeader),
    ) -> Option<Damage> {
        loop {
            let wanted = self.wants()?;
            let skipped = usize::try_from(wanted.checked_sub(start)?).ok()?;
            let rest = bytes.get(skipped..).filter(|rest| !rest.is_empty())?;
            let damage = match &mut self.summing {
                Some(summing) => match summing.add(rest) {
                    true => self.summed_up(sound),
                    false => None,
                },
                None => {
                    let rest = match self.chain {
                        Some(_) => rest,
                        None => self.search_in(rest),
                    };
                    let Some(header) = BatchHeader::parse(rest) else {
                        // The header goes on behind these bytes, or none begins in them.
                        if self.wants() == Some(wanted) {
                            return None;
                        }
                        continue;
                    };
                    self.look_at(header, rest, sound)
                }
            };
            if damage.is_some() {
                return damage;
            }
        }
    }

    /// What is wrong at the end, once there is nothing left to look at.
    pub fn finish(&mut self) -> Option<Damage> {
        if self.is_over {
            return None;
        }
        self.is_over = true;
        let ends_early = self.bounds.end.is_some_and(|end| end != self.expected);
        if self.broken.is_none() && !self.is_cut && !ends_early {
            return None;
        }
        let fault = match self.is_cut {
            true => Fault::FileEnds,
            false => Fault::Missing,
        };
        Some(Damage {
            position: self.position,
            end: self.bounds.limit,
            first: self.expected,
            // At the limit the lengths have come out right.
            next: self.bounds.end.or(self.chain),
            fault: self.broken.unwrap_or(fault),
        })
    }

    /// The offset that goes on behind the last sound batch, and where that one ends.
    pub fn reached(&self) -> (Offset, u64) {
        (self.expected, self.position)
    }

    fn left(&self) -> u64 {
        self.bounds.limit.saturating_sub(self.at)
    }

    /// A batch with this offset should begin at a position.
    fn expect_at(&mut self, at: u64, offset: Offset) {
        (self.at, self.chain) = (at, Some(offset));
        let left = self.left();
        if left >= BATCH_HEADER_BYTES as u64 {
            return;
        }
        let is_end = left == 0 && at == self.bounds.limit;
        let is_right = self.bounds.end.is_none_or(|end| end == offset);
        match self.broken {
            None if is_end => {}
            None => self.breaks(Fault::CutOff {
                needed_bytes: BATCH_HEADER_BYTES as u64,
                left_bytes: left,
            }),
            Some(_) if is_end && is_right => {}
            Some(_) => self.search_from(self.position + 1),
        }
    }

    /// Nothing sound stands at the position.
    fn breaks(&mut self, fault: Fault) {
        self.broken = Some(fault);
        self.sums = 0;
        self.search_from(self.position + 1);
    }

    /// Looks for any batch from here on.
    fn search_from(&mut self, at: u64) {
        (self.at, self.chain) = (at, None);
        if self.sums >= SUMS_IN_SEARCH_MAX {
            self.at = self.bounds.limit;
        }
    }

    /// Goes on to where a header may begin. The magic byte rules out nearly every place.
    fn search_in<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let Some(places) = (rest.len() + 1).checked_sub(BATCH_HEADER_BYTES) else {
            return &[];
        };
        let magics = &rest[MAGIC_AT..MAGIC_AT + places];
        let passed = magics.iter().position(|byte| *byte == MAGIC_V2 as u8);
        let passed = passed.unwrap_or(places);
        self.at += passed as u64;
        &rest[passed..]
    }

    fn look_at(
        &mut self,
        header: BatchHeader,
        bytes: &[u8],
        sound: &mut dyn FnMut(u64, &BatchHeader),
    ) -> Option<Damage> {
        let end = self.at + header.size_in_bytes() as u64;
        let Err(fault) = self.check(&header, bytes) else {
            self.summing = Some(Summing {
                header,
                crc: crc_append(0, &bytes[ATTRIBUTES_AT..BATCH_HEADER_BYTES]),
                next: self.at + BATCH_HEADER_BYTES as u64,
                end,
            });
            return match end == self.at + BATCH_HEADER_BYTES as u64 {
                true => self.summed_up(sound),
                false => None,
            };
        };
        match (self.chain, self.broken) {
            (None, _) => self.search_from(self.at + 1),
            (Some(_), Some(_)) => self.search_from(self.position + 1),
            (Some(offset), None) => {
                self.breaks(fault);
                if matches!(fault, Fault::BaseOffset { .. }) && header.last_offset_delta >= 0 {
                    self.expect_at(end, offset.plus(i64::from(header.last_offset_delta) + 1));
                }
            }
        }
        None
    }

    /// What rules out that a batch with this header stands where it was found.
    fn check(&self, header: &BatchHeader, bytes: &[u8]) -> Result<(), Fault> {
        if bytes[..BATCH_HEADER_BYTES].iter().all(|byte| *byte == 0) {
            return Err(Fault::Zeros);
        }
        if header.magic != MAGIC_V2 {
            return Err(Fault::Magic(header.magic));
        }
        let needed_bytes = header.size_in_bytes() as u64;
        if needed_bytes < BATCH_HEADER_BYTES as u64 {
            return Err(Fault::Length(header.batch_length));
        }
        let left_bytes = self.left();
        if needed_bytes > left_bytes {
            return Err(Fault::CutOff {
                needed_bytes,
                left_bytes,
            });
        }
        let (found, expected) = (header.base_offset, self.chain.unwrap_or(self.expected));
        let follows = match self.chain {
            Some(_) => found == expected,
            // A segment has no more offsets than this.
            None => found >= expected && found.0 - self.bounds.base.0 <= i64::from(i32::MAX),
        };
        if !follows {
            return Err(Fault::BaseOffset { found, expected });
        }
        // Nor has it any that its indexes cannot name.
        let last_max = self.bounds.base.plus(i32::MAX.into());
        let is_inside = header.last_offset() <= last_max
            && self
                .bounds
                .end
                .is_none_or(|end| header.next_offset() <= end);
        match header.last_offset_delta >= 0 && is_inside {
            true => Ok(()),
            false => Err(Fault::LastOffset(header.last_offset_delta)),
        }
    }

    fn summed_up(&mut self, sound: &mut dyn FnMut(u64, &BatchHeader)) -> Option<Damage> {
        let Summing {
            header, crc, end, ..
        } = self.summing.take()?;
        if crc == header.crc {
            let damage = self.broken.take().map(|fault| Damage {
                position: self.position,
                end: self.at,
                first: self.expected,
                next: Some(header.base_offset),
                fault,
            });
            sound(self.at, &header);
            (self.position, self.expected) = (end, header.next_offset());
            self.expect_at(end, self.expected);
            return damage;
        }
        if self.chain.is_none() {
            self.sums += 1;
            self.search_from(self.at + 1);
            return None;
        }
        if self.broken.is_none() {
            self.breaks(Fault::Crc {
                stored: header.crc,
                computed: crc,
            });
        }
        self.expect_at(end, header.next_offset());
        None
    }
}

impl Summing {
    /// Adds what is there of the batch. Whether that was the last of it.
    fn add(&mut self, bytes: &[u8]) -> bool {
        let left = self.end - self.next;
        let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.crc = crc_append(self.crc, &bytes[..taken]);
        self.next += taken as u64;
        self.next == self.end
    }
}
