//! The sparse indexes of a segment: offset to position, and timestamp to offset, as Kafka's files.
//!
//! `.index` holds 8-byte entries (last offset of a batch relative to the segment's base, position
//! of that batch), `.timeindex` 12-byte entries (largest timestamp so far, last offset of the batch
//! that has it, relative), all big-endian and ascending. The entries that are not yet in the files
//! are the *tail*, in memory on the log's shard; checkpoints, rolls and clean stops append the tail
//! to the files. Entries in files are searched by reads on the blocking pool, so an idle segment
//! holds no memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::base::clock::TimestampMs;
use crate::base::ids::Offset;

/// Bytes of an entry of `.index`.
pub const OFFSET_ENTRY_BYTES: u64 = 8;
/// Bytes of an entry of `.timeindex`.
pub const TIME_ENTRY_BYTES: u64 = 12;
/// What a segment without records has as its largest timestamp.
pub const NO_TIMESTAMP: TimestampMs = -1;

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Last offset of the batch, relative to the segment's base.
    pub relative_offset: u32,
    /// Position of the batch in the segment.
    pub position: u32,
}

impl OffsetEntry {
    /// The entry as it stands in the file.
    pub fn decode(bytes: &[u8; OFFSET_ENTRY_BYTES as usize]) -> Self {
        Self {
            relative_offset: be_u32(&bytes[..4]),
            position: be_u32(&bytes[4..]),
        }
    }
}

/// Where to look for an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// From the segment's start.
    Start,
    /// From the batch of this entry.
    Entry(OffsetEntry),
}

/// The largest timestamp up to some batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// The timestamp.
    pub timestamp: TimestampMs,
    /// Last offset of the batch that has it, relative to the segment's base.
    pub relative_offset: u32,
}

impl TimeEntry {
    /// The entry as it stands in the file.
    pub fn decode(bytes: &[u8; TIME_ENTRY_BYTES as usize]) -> Self {
        Self {
            timestamp: be_i64(&bytes[..8]),
            relative_offset: be_u32(&bytes[8..]),
        }
    }
}

/// The part of a segment's indexes that is not yet in its files.
#[derive(Clone, Debug)]
pub struct IndexTail {
    base_offset: Offset,
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    offsets_in_file: u32,
    times_in_file: u32,
    last_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
    offset_of_max_timestamp: Offset,
    bytes_since_entry: u64,
}

impl IndexTail {
    /// The indexes of a new segment.
    pub fn new(base_offset: Offset) -> Self {
        Self::with_files(base_offset, 0, 0, NO_TIMESTAMP, base_offset)
    }

    /// Goes on from files of so many entries, the last of which has `max_timestamp`.
    pub fn with_files(
        base_offset: Offset,
        offsets_in_file: u32,
        times_in_file: u32,
        max_timestamp: TimestampMs,
        offset_of_max_timestamp: Offset,
    ) -> Self {
        Self {
            base_offset,
            offsets: Vec::new(),
            times: Vec::new(),
            offsets_in_file,
            times_in_file,
            last_timestamp: if times_in_file > 0 {
                max_timestamp
            } else {
                NO_TIMESTAMP
            },
            max_timestamp,
            offset_of_max_timestamp,
            bytes_since_entry: 0,
        }
    }

    /// Takes note of a batch appended at `position`.
    pub fn append(
        &mut self,
        last_offset: Offset,
        position: u32,
        batch_bytes: u32,
        max_timestamp: TimestampMs,
        interval_bytes: u64,
    ) {
        self.note_timestamp(last_offset, max_timestamp);
        if self.bytes_since_entry > interval_bytes {
            let relative_offset = self.relative(last_offset);
            self.offsets.push(OffsetEntry {
                relative_offset,
                position,
            });
            self.note_time();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += u64::from(batch_bytes);
    }

    /// Takes note of the largest timestamp of a batch.
    pub fn note_timestamp(&mut self, last_offset: Offset, max_timestamp: TimestampMs) {
        if max_timestamp > self.max_timestamp {
            self.max_timestamp = max_timestamp;
            self.offset_of_max_timestamp = last_offset;
        }
    }

    /// Adds the entry of the largest timestamp, which a segment gets when it ends.
    pub fn note_time(&mut self) {
        if self.max_timestamp > self.last_timestamp {
            let relative_offset = self.relative(self.offset_of_max_timestamp);
            self.times.push(TimeEntry {
                timestamp: self.max_timestamp,
                relative_offset,
            });
            self.last_timestamp = self.max_timestamp;
        }
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.0 - self.base_offset.0).expect("a segment rolls before 2^31 offsets")
    }

    /// The largest timestamp so far, [`NO_TIMESTAMP`] if there is none.
    pub fn max_timestamp(&self) -> TimestampMs {
        self.max_timestamp
    }

    /// Last offset of the batch that has the largest timestamp.
    pub fn offset_of_max_timestamp(&self) -> Offset {
        self.offset_of_max_timestamp
    }

    /// Entries in all, in the fuller of the two indexes.
    pub fn entries(&self) -> u32 {
        let offsets = self.offsets_in_file + self.offsets.len() as u32;
        offsets.max(self.times_in_file + self.times.len() as u32)
    }

    /// Entries of the two indexes that are in files.
    pub fn in_files(&self) -> (u32, u32) {
        (self.offsets_in_file, self.times_in_file)
    }

    /// Whether all entries are in the files.
    pub fn is_flushed(&self) -> bool {
        self.offsets.is_empty() && self.times.is_empty()
    }

    /// The bytes to append to the two files, each with the position it goes to.
    pub fn to_flush(&self) -> [(u64, Vec<u8>); 2] {
        let offsets = self.offsets.iter().flat_map(|entry| {
            let mut bytes = [0; OFFSET_ENTRY_BYTES as usize];
            bytes[..4].copy_from_slice(&entry.relative_offset.to_be_bytes());
            bytes[4..].copy_from_slice(&entry.position.to_be_bytes());
            bytes
        });
        let times = self.times.iter().flat_map(|entry| {
            let mut bytes = [0; TIME_ENTRY_BYTES as usize];
            bytes[..8].copy_from_slice(&entry.timestamp.to_be_bytes());
            bytes[8..].copy_from_slice(&entry.relative_offset.to_be_bytes());
            bytes
        });
        [
            (
                u64::from(self.offsets_in_file) * OFFSET_ENTRY_BYTES,
                offsets.collect(),
            ),
            (
                u64::from(self.times_in_file) * TIME_ENTRY_BYTES,
                times.collect(),
            ),
        ]
    }

    /// The first `offsets` and `times` entries of the tail are in the files now.
    pub fn flushed(&mut self, offsets: usize, times: usize) {
        self.offsets.drain(..offsets);
        self.times.drain(..times);
        self.offsets_in_file += offsets as u32;
        self.times_in_file += times as u32;
        if self.offsets.is_empty() && self.times.is_empty() {
            self.offsets = Vec::new();
            self.times = Vec::new();
        }
    }

    /// Entries of the tail, offsets and times.
    pub fn tail_len(&self) -> (usize, usize) {
        (self.offsets.len(), self.times.len())
    }

    /// The last indexed batch whose last offset is at most `offset`, if it is in the tail;
    /// otherwise the files know.
    pub fn lookup(&self, offset: Offset) -> Option<Place> {
        let relative = offset.0 - self.base_offset.0;
        let after = self
            .offsets
            .partition_point(|entry| i64::from(entry.relative_offset) <= relative);
        match after.checked_sub(1) {
            Some(index) => Some(Place::Entry(self.offsets[index])),
            None if self.offsets_in_file == 0 => Some(Place::Start),
            None => None,
        }
    }

    /// The last entry with a timestamp below `timestamp`, if it is in the tail: all records of the
    /// segment up to its offset are older.
    pub fn lookup_time(&self, timestamp: TimestampMs) -> Option<Offset> {
        let after = self
            .times
            .partition_point(|entry| entry.timestamp < timestamp);
        match after.checked_sub(1) {
            Some(index) => Some(
                self.base_offset
                    .plus(i64::from(self.times[index].relative_offset)),
            ),
            None if self.times_in_file == 0 => Some(self.base_offset),
            None => None,
        }
    }
}

/// The last batch in an `.index` file of `entries` whose last offset is at most `relative_offset`;
/// or the one that stands so many entries before it.
pub fn lookup_in_file(
    file: &File,
    entries: u32,
    relative_offset: i64,
    back: u32,
) -> io::Result<Place> {
    let mut is_at_most = |index| {
        let entry = offset_entry_in_file(file, index)?;
        Ok(i64::from(entry.relative_offset) <= relative_offset)
    };
    let after = first_that_does_not(entries, &mut is_at_most)?;
    match after.checked_sub(1).and_then(|last| last.checked_sub(back)) {
        Some(index) => Ok(Place::Entry(offset_entry_in_file(file, index)?)),
        None => Ok(Place::Start),
    }
}

fn offset_entry_in_file(file: &File, index: u32) -> io::Result<OffsetEntry> {
    let mut entry = [0; OFFSET_ENTRY_BYTES as usize];
    file.read_exact_at(&mut entry, u64::from(index) * OFFSET_ENTRY_BYTES)?;
    Ok(OffsetEntry::decode(&entry))
}

/// Relative offset of the last entry in a `.timeindex` file of `entries` with a timestamp below
/// `timestamp`; 0 if there is none.
pub fn lookup_time_in_file(file: &File, entries: u32, timestamp: TimestampMs) -> io::Result<u32> {
    let mut is_older = |index| Ok(time_entry_in_file(file, index)?.timestamp < timestamp);
    match first_that_does_not(entries, &mut is_older)?.checked_sub(1) {
        Some(index) => Ok(time_entry_in_file(file, index)?.relative_offset),
        None => Ok(0),
    }
}

/// The entry at `index` of a `.timeindex` file.
pub fn time_entry_in_file(file: &File, index: u32) -> io::Result<TimeEntry> {
    let mut entry = [0; TIME_ENTRY_BYTES as usize];
    file.read_exact_at(&mut entry, u64::from(index) * TIME_ENTRY_BYTES)?;
    Ok(TimeEntry::decode(&entry))
}

/// The position that an entry of an `.index` file names.
pub fn position_in_file(file: &File, index: u32) -> io::Result<u64> {
    Ok(u64::from(offset_entry_in_file(file, index)?.position))
}

/// How many entries of an `.index` file of `entries` are of batches below `position`.
pub fn entries_below(file: &File, entries: u32, position: u64) -> io::Result<u32> {
    first_that_does_not(entries, &mut |index| {
        Ok(position_in_file(file, index)? < position)
    })
}

/// The first entry of a file for which `holds` does not, which holds for a prefix of it.
fn first_that_does_not(
    entries: u32,
    holds: &mut dyn FnMut(u32) -> io::Result<bool>,
) -> io::Result<u32> {
    let (mut low, mut high) = (0, entries);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

fn be_i64(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}
