//! Checks one segment and its indexes. Of the segment's batches none is in memory; of its indexes,
//! which are small, all.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::base::ids::Offset;
use crate::cli::progress::Progress;
use crate::partition::leader_epoch::LeaderEpochs;
use crate::record::BatchHeader;
use crate::storage::index::{IndexTail, OffsetEntry, TimeEntry};
use crate::storage::layout;
use crate::storage::walk::{Bounds, Damage, SegmentWalk};

/// Read in one go.
const PIECE_BYTES: u64 = 1 << 20;

/// `index.interval.bytes` by default: nothing here knows what a topic has set.
const INDEX_INTERVAL_BYTES: u64 = 4096;

/// A segment's file as the next start makes it: with what the journals hold of it.
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) base: Offset,
    file: File,
    /// How long it is, with what the journals hold.
    pub(super) bytes: u64,
    /// Bytes of the journals, later ones over earlier ones.
    patches: Vec<(u64, Vec<u8>)>,
}

/// What a segment holds.
#[derive(Debug)]
pub(in crate::cli) struct Checked {
    pub(in crate::cli) batches: u64,
    pub(in crate::cli) records: u64,
    /// Of sound batches.
    pub(in crate::cli) bytes: u64,
    pub(in crate::cli) damages: Vec<Damage>,
    /// Where the disk gave no more, and why.
    pub(in crate::cli) unreadable: Option<(u64, String)>,
    /// Behind the last sound batch: the offset and the position.
    pub(in crate::cli) end: (Offset, u64),
    /// What is wrong with the indexes.
    pub(in crate::cli) index_faults: Vec<(PathBuf, String)>,
    /// The indexes as they should be.
    pub(in crate::cli) indexes: IndexTail,
}

impl SegmentFile {
    pub(super) fn open(
        path: &Path,
        base: Offset,
        patches: Vec<(u64, Vec<u8>)>,
    ) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let ends = patches.iter().map(|(at, bytes)| at + bytes.len() as u64);
        Ok(Self {
            path: path.to_owned(),
            base,
            file,
            bytes: ends.fold(length, u64::max),
            patches,
        })
    }

    /// Reads as much of what stands at a position as there is.
    fn read(&self, start: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], start + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let there = self.bytes.saturating_sub(start).min(buffer.len() as u64) as usize;
        if filled < there {
            buffer[filled..there].fill(0);
        }
        let end = start + there as u64;
        for (at, bytes) in &self.patches {
            let (from, to) = ((*at).max(start), (at + bytes.len() as u64).min(end));
            if from < to {
                let source = (from - at) as usize..(to - at) as usize;
                let target = (from - start) as usize..(to - start) as usize;
                buffer[target].copy_from_slice(&bytes[source]);
            }
        }
        Ok(there)
    }

    /// Whether there are only zeros from a position on.
    pub(super) fn is_zero_from(&self, mut position: u64) -> io::Result<bool> {
        let mut buffer = vec![0; PIECE_BYTES as usize];
        while position < self.bytes {
            let read = self.read(position, &mut buffer)?;
            if buffer[..read].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            position += read as u64;
        }
        Ok(true)
    }

    /// Checks it, and its indexes. `is_open` says that it is the last segment of a log that was not
    /// stopped: its indexes may go further than it does.
    pub(super) fn check(
        &self,
        bounds: Bounds,
        is_open: bool,
        epochs: &mut LeaderEpochs,
        progress: &mut Progress,
        done: u64,
    ) -> io::Result<Checked> {
        let mut walk = SegmentWalk::new(bounds);
        let mut looked = Looked::new(self, epochs)?;
        let (mut damages, mut unreadable) = (Vec::new(), None);
        let mut buffer = vec![0; PIECE_BYTES.min(bounds.limit.max(1)) as usize];
        while let Some(start) = walk.wants() {
            let length = (walk.limit() - start).min(PIECE_BYTES) as usize;
            let read = match self.read(start, &mut buffer[..length]) {
                Ok(read) => read,
                Err(error) => {
                    unreadable = Some((start, error.to_string()));
                    break;
                }
            };
            if read < length {
                walk.ends_at(start + read as u64);
            }
            let mut sound = |at, header: &BatchHeader| looked.sound(at, header);
            while let Some(damage) = walk.take(start, &buffer[..read], &mut sound) {
                damages.push(damage);
            }
            progress.at(done + start);
        }
        if unreadable.is_none() {
            damages.extend(walk.finish());
        }
        // As when the segment ends.
        looked.indexes.note_time();
        let end = walk.reached();
        let is_whole = unreadable.is_none();
        let index_faults = match is_whole {
            true => looked.index_faults(&damages, end, is_open),
            false => Vec::new(),
        };
        Ok(Checked {
            batches: looked.batches,
            records: looked.records,
            bytes: looked.bytes,
            damages,
            unreadable,
            end,
            index_faults,
            indexes: looked.indexes,
        })
    }
}

/// What was seen of a segment so far, beside its indexes.
struct Looked<'a> {
    base: Offset,
    epochs: &'a mut LeaderEpochs,
    batches: u64,
    records: u64,
    bytes: u64,
    indexes: IndexTail,
    offsets: IndexFile<OffsetEntry>,
    times: IndexFile<TimeEntry>,
}

/// An index, and how far its entries were compared.
struct IndexFile<T> {
    path: PathBuf,
    entries: Vec<T>,
    next: usize,
    /// What is wrong with it as a whole.
    fault: Option<String>,
    /// Bytes behind the last whole entry.
    extra_bytes: u64,
    /// Entries that no batch fits.
    unmatched: Vec<(usize, T)>,
}

impl<T: Copy> IndexFile<T> {
    fn read<const N: usize>(
        path: PathBuf,
        decode: impl Fn(&[u8; N]) -> T,
        follows: impl Fn(&T, &T) -> bool,
    ) -> io::Result<Self> {
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let (whole, extra) = bytes.as_chunks::<N>();
        let entries: Vec<T> = whole.iter().map(decode).collect();
        let wrong = entries
            .windows(2)
            .position(|two| !follows(&two[0], &two[1]));
        Ok(Self {
            path,
            // Entries that don't ascend are compared with nothing.
            next: wrong.map_or(0, |_| entries.len()),
            fault: wrong.map(|index| format!("entry {} does not follow the one before", index + 1)),
            entries,
            extra_bytes: extra.len() as u64,
            unmatched: Vec::new(),
        })
    }

    /// Passes the entries that come before a batch, and returns the one that may be the batch's.
    fn advance(&mut self, is_before: impl Fn(&T) -> bool) -> Option<(usize, T)> {
        while let Some(entry) = self.entries.get(self.next) {
            if !is_before(entry) {
                return Some((self.next, *entry));
            }
            self.unmatched.push((self.next, *entry));
            self.next += 1;
        }
        None
    }

    fn rest(&mut self) {
        let rest = self.entries.iter().copied().enumerate().skip(self.next);
        self.unmatched.extend(rest);
        self.next = self.entries.len();
    }
}

impl<'a> Looked<'a> {
    fn new(segment: &SegmentFile, epochs: &'a mut LeaderEpochs) -> io::Result<Self> {
        let file = |extension| segment.path.with_extension(extension);
        let offsets = IndexFile::read(file(layout::INDEX), OffsetEntry::decode, |one, other| {
            one.relative_offset < other.relative_offset && one.position < other.position
        });
        let times = IndexFile::read(file(layout::TIME_INDEX), TimeEntry::decode, |one, other| {
            one.relative_offset < other.relative_offset && one.timestamp < other.timestamp
        });
        Ok(Self {
            base: segment.base,
            epochs,
            batches: 0,
            records: 0,
            bytes: 0,
            indexes: IndexTail::new(segment.base),
            offsets: offsets?,
            times: times?,
        })
    }

    fn sound(&mut self, at: u64, header: &BatchHeader) {
        let size = header.size_in_bytes() as u64;
        self.batches += 1;
        self.records += u64::try_from(header.records_count).unwrap_or(0);
        self.bytes += size;
        self.epochs
            .assign(header.partition_leader_epoch, header.base_offset);
        // No segment is larger than what a position in an index can name.
        if let (Ok(position), Ok(size)) = (u32::try_from(at), u32::try_from(size)) {
            self.indexes.append(
                header.last_offset(),
                position,
                size,
                header.max_timestamp,
                INDEX_INTERVAL_BYTES,
            );
        }
        let relative = |offset: Offset| offset.0 - self.base.0;
        let (first, last) = (relative(header.base_offset), relative(header.last_offset()));
        if let Some((index, entry)) = self.offsets.advance(|it| u64::from(it.position) < at)
            && u64::from(entry.position) == at
        {
            self.offsets.next += 1;
            if i64::from(entry.relative_offset) != last {
                self.offsets.unmatched.push((index, entry));
            }
        }
        let entry = self
            .times
            .advance(|it| i64::from(it.relative_offset) < first);
        if let Some((index, entry)) = entry
            && i64::from(entry.relative_offset) <= last
        {
            self.times.next += 1;
            let is_its = i64::from(entry.relative_offset) == last;
            if !is_its || entry.timestamp != header.max_timestamp {
                self.times.unmatched.push((index, entry));
            }
        }
    }

    /// What is wrong with the indexes, once all batches were seen. An entry of a damaged batch is
    /// right as far as is known.
    fn index_faults(
        &mut self,
        damages: &[Damage],
        (end_offset, end): (Offset, u64),
        is_open: bool,
    ) -> Vec<(PathBuf, String)> {
        let base = self.base;
        let offset_of = |relative: u32| base.plus(i64::from(relative));
        let in_damage = |position: u64, offset: Offset| {
            damages.iter().any(|damage| {
                let is_taken = damage.first <= offset && damage.next.is_none_or(|it| offset < it);
                is_taken || (damage.position..damage.end).contains(&position)
            })
        };
        self.offsets.rest();
        self.times.rest();
        let offsets = self.offsets.unmatched.iter().find(|(_, entry)| {
            let position = u64::from(entry.position);
            let is_behind = is_open && position >= end;
            !is_behind && !in_damage(position, offset_of(entry.relative_offset))
        });
        let times = self.times.unmatched.iter().find(|(_, entry)| {
            let offset = offset_of(entry.relative_offset);
            let is_behind = is_open && offset >= end_offset;
            !is_behind && !in_damage(u64::MAX, offset)
        });
        let offsets = offsets.map(|(index, entry)| {
            let (offset, position) = (offset_of(entry.relative_offset), entry.position);
            format!("entry {index} says that offset {offset} ends the batch at {position}")
        });
        let times = times.map(|(index, entry)| {
            let (offset, timestamp) = (offset_of(entry.relative_offset), entry.timestamp);
            format!("entry {index} says that offset {offset} ends a batch up to {timestamp}")
        });
        let extra = |bytes: u64| {
            let is_wrong = bytes > 0 && !is_open;
            is_wrong.then(|| format!("{bytes} bytes at its end are no whole entry"))
        };
        let both = [
            (
                &self.offsets.path,
                self.offsets.fault.clone().or(offsets),
                self.offsets.extra_bytes,
            ),
            (
                &self.times.path,
                self.times.fault.clone().or(times),
                self.times.extra_bytes,
            ),
        ];
        let faults = both.into_iter().filter_map(|(path, fault, extra_bytes)| {
            let fault = fault.or_else(|| extra(extra_bytes))?;
            Some((path.clone(), fault))
        });
        faults.collect()
    }
}
