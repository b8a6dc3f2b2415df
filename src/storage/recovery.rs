//! What is done with a partition's files at start. Runs on the blocking pool, before any append.
//!
//! After a clean stop the files are trusted as they are. After a crash only what lies behind the
//! recovery point is scanned; below it nothing is ever cut. The rules, each with its test:
//!
//! - A: after a clean stop the active segment is as long as the checkpoint says: no scan.
//! - B: a whole batch, CRC right, base offset the next expected: accepted. The CRC does not cover
//!   the base offset.
//! - C: zeros, or fewer bytes than a header, to the end of a segment: cut off; the space was
//!   preallocated.
//! - D: bytes that are no whole batch, and no whole batch behind them: cut off, a torn write.
//! - E: as D, but whole batches lie behind: cut off, kept aside as `.cut`, and reported.
//! - F: the next segment begins at the next expected offset, and nothing but zeros was cut before
//!   it: the scan goes on in it. If it begins later, what is missing is refused and reported: the
//!   segment before was durable when this one was made.
//! - G: a later segment after a cut, or one that begins too early: kept aside, reported.
//! - H: a segment is shorter than the recovery point: what it has is kept, its missing offsets are
//!   refused and reported, and the log goes on behind the recovery point, in a segment of its own:
//!   within one segment a batch follows the other without a gap.
//! - I: the segment of the recovery point is gone: as H, with nothing left.
//! - J: no segment at all: an empty one is made at the log's start.
//! - K: index entries at or behind the scan's start are dropped, and made anew by the scan.
//! - L: a segment below the recovery point ends before the next one begins: as F. Its end is found
//!   by the headers behind its last index entry.
//! - M: a segment that lies wholly below the log's start is deleted: its deletion had failed.
//! - N: an index without its segment, or a file that was being written to replace another one: it
//!   is removed. A crash came in between.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::clock::TimestampMs;
use crate::base::ids::Offset;
use crate::base::limits::BATCH_HEADER_BYTES;
use crate::record::header::{BatchHeader, MAGIC_AT, MAGIC_V2, crc_of};

use super::directory::LogDirectory;
use super::error::FileError;
use super::index::{self, IndexTail, NO_TIMESTAMP, OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES};
use super::layout;
use super::log::Assigned;
use super::segment::Segment;

/// How far a log was durable when it was last recorded: nothing below is scanned or cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryPoint {
    /// The log start offset.
    pub log_start: Offset,
    /// The first offset that may not be durable.
    pub offset: Offset,
    /// Base offset of the segment that it lies in.
    pub segment: Offset,
    /// Its position in that segment.
    pub position: u64,
}

/// What recovery needs to know of a partition.
#[derive(Clone, Debug)]
pub struct RecoveryInput {
    /// The partition's directory.
    pub path: PathBuf,
    /// What the checkpoint says, if it knows the partition.
    pub point: Option<RecoveryPoint>,
    /// Whether the broker stopped cleanly after it wrote that.
    pub clean: bool,
    /// What its `partition.metadata` says, by which the journal knows one incarnation from another.
    pub identity: String,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// The time.
    pub now: TimestampMs,
}

/// What recovery found.
#[derive(Debug)]
pub struct Recovered {
    pub(super) identity: String,
    pub(super) segments: Vec<Segment>,
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) damaged: Vec<Range<Offset>>,
    /// Bytes that were scanned.
    pub scanned_bytes: u64,
    /// Whether anything but space that was preallocated had to be cut off.
    pub is_cut: bool,
    /// What an operator should know, a sentence each.
    pub reports: Vec<String>,
}

impl Recovered {
    /// The offset that the next record gets.
    pub fn end(&self) -> Offset {
        self.end
    }
}

/// What the recovery of all logs came to, counted by all shards.
#[derive(Debug, Default)]
pub struct RecoveryTally {
    logs: AtomicU64,
    scanned_bytes: AtomicU64,
    cut: AtomicU64,
}

impl RecoveryTally {
    /// One more log was recovered.
    pub fn add(&self, recovered: &Recovered) {
        self.logs.fetch_add(1, Ordering::Relaxed);
        self.scanned_bytes
            .fetch_add(recovered.scanned_bytes, Ordering::Relaxed);
        self.cut
            .fetch_add(u64::from(recovered.is_cut), Ordering::Relaxed);
    }

    /// How many logs there were.
    pub fn logs(&self) -> u64 {
        self.logs.load(Ordering::Relaxed)
    }

    /// Bytes that were scanned.
    pub fn scanned_bytes(&self) -> u64 {
        self.scanned_bytes.load(Ordering::Relaxed)
    }

    /// How many logs something was cut off from.
    pub fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }
}

/// Bytes read from a segment in one go.
const SCAN_BYTES: usize = 1 << 20;
/// Bytes read in one go where only headers are looked at.
const WALK_BYTES: usize = 8 << 10;

/// Brings a partition's files into a state that can be appended to, and says what they hold.
/// `accept` sees the header of each batch that was scanned and accepted, in order.
pub fn recover(
    directory: &LogDirectory,
    input: &RecoveryInput,
    accept: &mut dyn FnMut(&BatchHeader),
) -> Result<Recovered, FileError> {
    let mut recovery = Recovery {
        directory,
        input,
        found: Recovered {
            identity: input.identity.clone(),
            segments: Vec::new(),
            start: Offset(0),
            end: Offset(0),
            damaged: Vec::new(),
            scanned_bytes: 0,
            is_cut: false,
            reports: Vec::new(),
        },
        is_behind_gap: false,
    };
    recovery.run(accept)?;
    Ok(recovery.found)
}

struct Recovery<'a> {
    directory: &'a LogDirectory,
    input: &'a RecoveryInput,
    found: Recovered,
    /// Whether the log's end lies behind what the last segment holds.
    is_behind_gap: bool,
}

impl Recovery<'_> {
    fn run(&mut self, accept: &mut dyn FnMut(&BatchHeader)) -> Result<(), FileError> {
        let files = self.segment_files()?;
        let first = files.first().map(|(base, _)| *base);
        let point = self.input.point;
        // A segment that retention unlinked moves the start on, whatever the checkpoint says.
        let start = point.map_or(Offset(0), |point| point.log_start);
        self.found.start = first.map_or(start, |first| first.max(start));
        self.found.end = self.found.start;
        let mut cut = false;
        for (index, (base, size)) in files.iter().copied().enumerate() {
            if cut || (base < self.found.end && !self.found.segments.is_empty()) {
                self.set_aside(base)?;
                continue;
            }
            self.damage_before(base);
            self.is_behind_gap = false;
            match point.filter(|point| base < point.segment) {
                Some(point) => {
                    let next = files.get(index + 1).map(|(next, _)| *next);
                    let next = next.map_or(point.segment, |next| next.min(point.segment));
                    self.trust(base, size, next)?;
                }
                None => {
                    let is_cut = self.scan(base, size, accept)?;
                    let next = files.get(index + 1).map(|(next, _)| *next);
                    cut = match is_cut {
                        Cut::Zeros => next != Some(self.found.end),
                        Cut::Bytes => true,
                        Cut::Nothing => false,
                    };
                }
            }
        }
        self.reach_the_point();
        let last = self.found.segments.last().map(|last| last.base_offset);
        let is_gone = point.is_some_and(|point| last.is_none_or(|last| last < point.segment));
        if last.is_none() || is_gone || self.is_behind_gap {
            self.make_segment(self.found.end)?;
        }
        Ok(())
    }

    fn segment_files(&self) -> Result<Vec<(Offset, u64)>, FileError> {
        let entries = self.directory.list(&self.input.path)?;
        // What the last run had deleted and not unlinked yet.
        let names = || entries.iter().map(|entry| entry.name.as_str());
        for name in names().filter(|name| layout::is_deleted_file(name)) {
            let removed = self.directory.remove_file(&self.input.path.join(name));
            if let Err(error) = removed {
                tracing::error!(%error, "a deleted file is left to the next start");
            }
        }
        let mut segments = Vec::new();
        for name in names() {
            if let Some((base, layout::LOG)) = layout::parse_segment_file(name) {
                let size = self.directory.size_of(&self.input.path.join(name))?;
                segments.extend(size.map(|size| (base, size)));
            }
        }
        let bases: HashSet<Offset> = segments.iter().map(|(base, _)| *base).collect();
        let is_left_over = |name: &&str| match layout::parse_segment_file(name) {
            Some((base, layout::INDEX | layout::TIME_INDEX)) => !bases.contains(&base),
            _ => layout::is_temporary(name),
        };
        for name in names().filter(is_left_over) {
            self.directory.remove_left_over(&self.input.path.join(name));
        }
        let start = self.input.point.map_or(Offset(0), |point| point.log_start);
        // A segment ends at the latest where the next one begins.
        let ends_below = |pair: &&[(Offset, u64)]| pair[1].0 <= start;
        let below = segments.windows(2).take_while(ends_below).count();
        for (base, _) in segments.drain(..below) {
            self.remove_segment(base);
        }
        Ok(segments)
    }

    /// Removes a deleted segment (rule M). A failure is told: it is left to the next start.
    fn remove_segment(&self, base: Offset) {
        for extension in [layout::LOG, layout::INDEX, layout::TIME_INDEX] {
            let file = layout::segment_file(&self.input.path, base, extension);
            if let Err(error) = self.directory.remove_file(&file) {
                tracing::error!(%error, "a deleted segment is left to the next start");
            }
        }
    }

    /// Takes a segment below the recovery point as it is; it should reach up to `next`.
    fn trust(&mut self, base: Offset, size: u64, next: Offset) -> Result<(), FileError> {
        let (segment, end) = self.load(base, size, next)?;
        self.found.segments.push(segment);
        self.found.end = end;
        Ok(())
    }

    /// A gap before a segment that should follow at once is damage (rules F, H, I and L).
    fn damage_before(&mut self, base: Offset) {
        let expected = self.found.end;
        if !self.found.segments.is_empty() && expected < base {
            self.damaged(expected, base);
        }
        self.found.end = base;
    }

    fn damaged(&mut self, from: Offset, to: Offset) {
        let last = to.0 - 1;
        self.report(format!(
            "offsets {from} to {last} were durable and are missing"
        ));
        self.found.damaged.push(from..to);
    }

    /// Scans a segment from where it is not yet known to be durable, and cuts it where it ends.
    /// Says what was cut off, and later segments with it (rule G).
    fn scan(
        &mut self,
        base: Offset,
        size: u64,
        accept: &mut dyn FnMut(&BatchHeader),
    ) -> Result<Cut, FileError> {
        let point = self.input.point.filter(|point| point.segment == base);
        let from = point.map_or(0, |point| point.position);
        if let Some(point) = point {
            self.found.end = point.offset;
        }
        if size < from {
            self.keep_what_is_left(base, size, from)?;
            return Ok(Cut::Nothing);
        }
        let (mut segment, _) = self.load(base, from, self.found.end)?;
        segment.size = from;
        if self.input.clean && size == from {
            self.found.segments.push(segment);
            return Ok(Cut::Nothing);
        }
        let path = layout::segment_file(&self.input.path, base, layout::LOG);
        let mut scan = Scan::open(self.directory, &path, from, size)?;
        // What lies further on than an index can name is no part of a segment.
        while scan.position <= u32::MAX.into()
            && let Some(header) = scan.next_batch(base, self.found.end)?
        {
            let assigned = Assigned {
                offsets: header.next_offset().0 - header.base_offset.0,
                leader_epoch: header.partition_leader_epoch,
                max_timestamp: header.max_timestamp,
            };
            let interval = self.input.index_interval_bytes;
            segment.append(
                header.base_offset,
                header.size_in_bytes(),
                &assigned,
                interval,
            );
            self.found.end = header.next_offset();
            accept(&header);
        }
        self.found.scanned_bytes += segment.size - from;
        let cut = match segment.size < size {
            true => self.cut(&mut scan, base, segment.size, size)?,
            false => Cut::Nothing,
        };
        // What was written and not synced survived this crash, but might not survive the next.
        self.directory.sync_file(&path)?;
        self.found.segments.push(segment);
        // The roll that makes the next segment cuts zeros first, but that may be lost.
        Ok(cut)
    }

    /// A segment lost durable bytes (rule H): what it still has is kept, the rest is refused.
    fn keep_what_is_left(
        &mut self,
        base: Offset,
        size: u64,
        durable: u64,
    ) -> Result<(), FileError> {
        self.report(format!(
            "segment {base} has {size} bytes, but {durable} were durable"
        ));
        let path = layout::segment_file(&self.input.path, base, layout::LOG);
        let mut scan = Scan::open(self.directory, &path, 0, size)?;
        let mut end = base;
        while let Some(header) = scan.next_batch(base, end)? {
            end = header.next_offset();
        }
        let (segment, _) = self.load(base, scan.position, end)?;
        self.directory.truncate_file(&path, scan.position)?;
        self.found.segments.push(segment);
        self.found.end = end;
        self.reach_the_point();
        Ok(())
    }

    fn cut(&mut self, scan: &mut Scan, base: Offset, at: u64, size: u64) -> Result<Cut, FileError> {
        if let Some(behind) = scan.find_batch(at)? {
            let aside = layout::segment_file(&self.input.path, base, layout::CUT);
            self.directory.copy_into(&aside, &scan.file, at, size)?;
            self.report(format!(
                "segment {base} is damaged at position {at}, but has a whole batch at {behind}: \
                 what follows offset {} was moved to {}",
                self.found.end,
                aside.display()
            ));
        }
        self.found.is_cut |= scan.found_bytes;
        let path = layout::segment_file(&self.input.path, base, layout::LOG);
        let cut = match scan.is_zero_from(at)? {
            true => Cut::Zeros,
            false => Cut::Bytes,
        };
        self.directory.truncate_file(&path, at)?;
        Ok(cut)
    }

    /// What comes after a cut is no part of the log any more (rule G).
    fn set_aside(&mut self, base: Offset) -> Result<(), FileError> {
        let path = layout::segment_file(&self.input.path, base, layout::LOG);
        let aside = layout::segment_file(&self.input.path, base, layout::CUT);
        self.report(format!(
            "segment {base} does not follow offset {}: it was moved to {}",
            self.found.end,
            aside.display()
        ));
        self.found.is_cut = true;
        self.directory.rename(&path, &aside)?;
        for extension in [layout::INDEX, layout::TIME_INDEX] {
            let index = layout::segment_file(&self.input.path, base, extension);
            self.directory.remove_file(&index)?;
        }
        Ok(())
    }

    /// The log never ends below what was durable: what is missing is refused, not given out again.
    fn reach_the_point(&mut self) {
        let Some(point) = self.input.point else {
            return;
        };
        if self.found.end < point.offset {
            self.damaged(self.found.end, point.offset);
            self.found.end = point.offset;
            self.is_behind_gap = true;
        }
    }

    fn make_segment(&mut self, base: Offset) -> Result<(), FileError> {
        let path = layout::segment_file(&self.input.path, base, layout::LOG);
        self.directory.write_whole_file(&path, &[])?;
        self.directory.sync_directory(&self.input.path)?;
        self.found.segments.push(Segment::new(base, self.input.now));
        Ok(())
    }

    /// What is known of a segment whose first `valid` bytes count (rule K for its indexes), and the
    /// offset after its last batch there, at most `next`. The headers behind the last index entry
    /// are read.
    fn load(&self, base: Offset, valid: u64, next: Offset) -> Result<(Segment, Offset), FileError> {
        let path = layout::segment_file(&self.input.path, base, layout::LOG);
        let mut scan = Scan::open(self.directory, &path, 0, valid)?;
        scan.read_bytes = WALK_BYTES;
        let failed = |source: io::Error| FileError::new("read", &path, source);
        let changed_ms = scan.file.metadata().map_err(failed)?.mtime() * 1000;
        let (mut offsets, mut indexed_to) = self.offset_entries(base, valid)?;
        let (times, last_time) = self.time_entries(base, valid)?;
        // Before those behind the index: what was read last is read again from memory.
        let first_timestamp = scan.header_at(0)?.map(|header| header.max_timestamp);
        if scan.header_at(indexed_to)?.is_none() {
            // The index is not this segment's.
            (offsets, indexed_to) = (0, 0);
        }
        let mut index = IndexTail::with_files(
            base,
            offsets,
            times,
            last_time.map_or(NO_TIMESTAMP, |time| time.timestamp),
            base.plus(last_time.map_or(0, |time| i64::from(time.relative_offset))),
        );
        // Without a time index any batch may have the largest timestamp.
        let from = if times > 0 { indexed_to } else { 0 };
        let (mut size, mut end) = (from, base);
        while let Some(header) = scan.header_at(size)? {
            let is_next = header.base_offset == end;
            // Which offset the last index entry's batch has, only the batch says.
            let is_first = size == from && from > 0 && header.base_offset > base;
            let batch_end = size + header.size_in_bytes() as u64;
            if !(is_next || is_first) || header.next_offset() > next || batch_end > valid {
                break;
            }
            (size, end) = (batch_end, header.next_offset());
            index.note_timestamp(end.plus(-1), header.max_timestamp);
        }
        let segment = Segment {
            base_offset: base,
            size,
            index,
            first_timestamp,
            changed_ms,
        };
        Ok((segment, end))
    }

    /// Entries of the offset index for batches below `valid`, and the position that the last names.
    fn offset_entries(&self, base: Offset, valid: u64) -> Result<(u32, u64), FileError> {
        let path = layout::segment_file(&self.input.path, base, layout::INDEX);
        let Some((file, entries)) = self.open_index(&path, OFFSET_ENTRY_BYTES)? else {
            return Ok((0, 0));
        };
        let failed = |source: io::Error| FileError::new("read", &path, source);
        let entries = index::entries_below(&file, entries, valid).map_err(failed)?;
        let position = match entries {
            0 => 0,
            _ => index::position_in_file(&file, entries - 1).map_err(failed)?,
        };
        Ok((entries, position))
    }

    /// Entries of the time index, and the last of them. Where the segment is scanned, those of
    /// batches that the scan will see again are dropped.
    fn time_entries(
        &self,
        base: Offset,
        valid: u64,
    ) -> Result<(u32, Option<index::TimeEntry>), FileError> {
        let path = layout::segment_file(&self.input.path, base, layout::TIME_INDEX);
        let Some((file, mut entries)) = self.open_index(&path, TIME_ENTRY_BYTES)? else {
            return Ok((0, None));
        };
        let failed = |source: io::Error| FileError::new("read", &path, source);
        let point = self.input.point.filter(|point| point.segment == base);
        let first_scanned = point.map(|point| point.offset);
        let mut last = None;
        while entries > 0 {
            let entry = index::time_entry_in_file(&file, entries - 1).map_err(failed)?;
            let offset = base.plus(i64::from(entry.relative_offset));
            let is_scanned = valid == 0 || first_scanned.is_some_and(|first| offset >= first);
            if !is_scanned {
                last = Some(entry);
                break;
            }
            entries -= 1;
        }
        Ok((entries, last))
    }

    fn open_index(&self, path: &Path, entry: u64) -> Result<Option<(File, u32)>, FileError> {
        match self.directory.open_for_reads(path) {
            Ok(file) => {
                let length = file
                    .metadata()
                    .map_err(|e| FileError::new("stat", path, e))?
                    .len();
                Ok(Some((file, (length / entry) as u32)))
            }
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn report(&mut self, report: String) {
        self.found.reports.push(report);
    }
}

/// What was cut off the end of a segment.
enum Cut {
    Nothing,
    /// What was preallocated and never written.
    Zeros,
    Bytes,
}

/// Reads a segment batch by batch, checking each.
struct Scan {
    file: File,
    path: PathBuf,
    position: u64,
    size: u64,
    /// How much is read in one go, at the least.
    read_bytes: usize,
    buffer: Vec<u8>,
    /// Position of the buffer's first byte.
    buffered_at: u64,
    /// Whether a search for batches has met anything but zeros.
    found_bytes: bool,
}

impl Scan {
    fn open(
        directory: &LogDirectory,
        path: &Path,
        position: u64,
        size: u64,
    ) -> Result<Self, FileError> {
        let file = directory.open_for_reads(path)?;
        let buffered_at = position;
        Ok(Self {
            file,
            path: path.to_owned(),
            position,
            size,
            read_bytes: SCAN_BYTES,
            buffer: Vec::new(),
            buffered_at,
            found_bytes: false,
        })
    }

    /// The bytes at `at`, `length` of them; `None` if the file ends before.
    fn bytes(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, FileError> {
        if at + length as u64 > self.size {
            return Ok(None);
        }
        let within = at >= self.buffered_at
            && at + length as u64 <= self.buffered_at + self.buffer.len() as u64;
        if !within {
            let wanted = (length.max(self.read_bytes) as u64).min(self.size - at) as usize;
            self.buffer.resize(wanted, 0);
            let read = self.file.read_exact_at(&mut self.buffer, at);
            read.map_err(|source| FileError::new("read", &self.path, source))?;
            self.buffered_at = at;
        }
        let start = (at - self.buffered_at) as usize;
        Ok(Some(&self.buffer[start..start + length]))
    }

    /// The header at `at`, if it may be one.
    fn header_at(&mut self, at: u64) -> Result<Option<BatchHeader>, FileError> {
        let bytes = self.bytes(at, BATCH_HEADER_BYTES)?;
        Ok(bytes.and_then(BatchHeader::parse).filter(|header| {
            header.magic == MAGIC_V2
                && header.batch_length >= (BATCH_HEADER_BYTES - 12) as i32
                && header.last_offset_delta >= 0
        }))
    }

    /// The whole batch at `at`, if there is one.
    fn batch_at(&mut self, at: u64) -> Result<Option<BatchHeader>, FileError> {
        let Some(header) = self.header_at(at)? else {
            return Ok(None);
        };
        let Some(batch) = self.bytes(at, header.size_in_bytes())? else {
            return Ok(None);
        };
        Ok((crc_of(batch) == header.crc).then_some(header))
    }

    /// The whole batch at the position, if it is the one of `expected` and can lie in the segment
    /// that begins at `base`; goes on behind it.
    fn next_batch(
        &mut self,
        base: Offset,
        expected: Offset,
    ) -> Result<Option<BatchHeader>, FileError> {
        // What a segment's indexes can name, and what has an offset behind it.
        let last_max = base.plus(i32::MAX.into()).min(Offset(i64::MAX - 1));
        let is_next = |header: &BatchHeader| {
            header.base_offset == expected && (base..=last_max).contains(&header.last_offset())
        };
        let batch = self.batch_at(self.position)?.filter(is_next);
        if let Some(header) = &batch {
            self.position += header.size_in_bytes() as u64;
        }
        Ok(batch)
    }

    /// Whether there are only zeros from `at` on, where a search for a batch has found none.
    fn is_zero_from(&mut self, at: u64) -> Result<bool, FileError> {
        // A search ends where no header has room.
        let from = self.size.saturating_sub(BATCH_HEADER_BYTES as u64).max(at);
        let rest = self.bytes(from, (self.size - from) as usize)?;
        let is_zero = rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
        Ok(is_zero && !self.found_bytes)
    }

    /// The position of a whole batch at or behind `at`, where the log's next batch is not.
    fn find_batch(&mut self, at: u64) -> Result<Option<u64>, FileError> {
        let mut position = at;
        while let Some(bytes) = self.bytes(position, BATCH_HEADER_BYTES)? {
            if bytes.iter().all(|byte| *byte == 0) {
                // Preallocated blocks are zeros, many of them: no batch begins in such a stretch.
                position += (BATCH_HEADER_BYTES - MAGIC_AT) as u64;
                continue;
            }
            // The magic byte rules out nearly every position without a closer look.
            let may_begin = bytes[MAGIC_AT] == MAGIC_V2 as u8;
            self.found_bytes = true;
            if may_begin && self.batch_at(position)?.is_some() {
                return Ok(Some(position));
            }
            position += 1;
        }
        Ok(None)
    }
}
