//! Reads of a log: an owned plan is taken in one go, then carried out with nothing borrowed.
//!
//! Bytes in the tail are handed out by reference. Older ones are located and brought into the page
//! cache on the blocking pool, so that the `sendfile` which follows does not stall a reactor; twice
//! as much behind them follows while they are sent. A shard's cold reads take turns at the disk,
//! and so does its reading ahead. A file slice covers only bytes below the tail's first block; the
//! bytes of that block come from memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::base::limits::{
    BATCH_HEADER_BYTES, COLD_READ_BYTES_MAX, COLD_READ_TURN_BYTES, OVERDRAWN_READ_BYTES_MAX,
};
use crate::base::payload::{Chunk, FileSlice};

use super::directory::LogDirectory;
use super::error::{FileError, LogError};
use super::index;
use super::layout;
use super::log::{Appender, Log, State};
use super::residency;
use super::segment::Segment;
use super::shard::{DiskTurns, ShardStorage};
use super::tail::TailUnit;

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadRange {
    /// The first offset wanted; the batch that holds it is returned whole.
    pub from: Offset,
    /// Nothing from here on is shown.
    pub upper: Offset,
    /// How many bytes at most.
    pub bytes_max: usize,
    /// Return the first batch even if it is larger than `bytes_max` (KIP-74).
    pub at_least_one: bool,
}

/// What a read comes to.
#[derive(Debug)]
pub enum ReadPlan {
    /// The bytes are in memory; none if there is nothing to read or nothing fits.
    Memory(Vec<Chunk>),
    /// The bytes are in a file: [`ColdRead::run`] finds them.
    Cold(ColdRead),
}

/// A read of an older part of the log.
#[derive(Debug)]
pub struct ColdRead {
    log: Rc<Log>,
    range: ReadRange,
    job: LocateJob,
    /// The bytes from `job.file_limit` to `job.limit`: their block may be written to.
    carry: Bytes,
}

/// What the blocking pool needs to know to find the bytes.
#[derive(Debug)]
struct LocateJob {
    segment: Offset,
    partition: PathBuf,
    file: Option<Arc<File>>,
    /// Where to begin to look; `None` asks the index file.
    position: Option<u64>,
    index_entries: u32,
    /// The file is sent up to here.
    file_limit: u64,
    /// Where the batches end that this job may return.
    limit: u64,
    /// The batches are walked to find this offset, where the limit lies beyond it.
    stop_at: Option<Offset>,
}

struct Located {
    file: Arc<File>,
    start: u64,
    end: u64,
}

impl Log {
    /// Plans a read. Errors if `from` is outside the log or in a damaged part of it.
    pub fn read(self: &Rc<Self>, range: ReadRange) -> Result<ReadPlan, LogError> {
        let state = self.state.borrow();
        state.check_readable(range.from)?;
        if range.from >= range.upper {
            return Ok(ReadPlan::Memory(Vec::new()));
        }
        match state.is_in_tail(range.from) {
            true => Ok(ReadPlan::Memory(self.read_tail(&state, range))),
            false => Ok(self.plan_cold(&state, range)),
        }
    }

    /// How many bytes a read from `from` up to `upper` would find in memory; `None` if it would
    /// have to look at the disk. Errors as [`Log::read`] does. It takes hold of none of them.
    pub fn bytes_in_memory(&self, from: Offset, upper: Offset) -> Result<Option<usize>, LogError> {
        let state = self.state.borrow();
        state.check_readable(from)?;
        if from >= upper {
            return Ok(Some(0));
        }
        if !state.is_in_tail(from) {
            return Ok(None);
        }
        let all = ReadRange {
            from,
            upper,
            bytes_max: usize::MAX,
            at_least_one: true,
        };
        let mut bytes = 0;
        state.walk_tail(all, |_, batches| bytes += batches.len());
        Ok(Some(bytes))
    }

    /// Why `offset`, which was there when a read was planned, no longer is; `None` if it is.
    fn deleted(&self, offset: Offset) -> Option<LogError> {
        let state = self.state.borrow();
        if state.closed {
            return Some(LogError::Closed);
        }
        (offset < state.start).then_some(LogError::OutOfRange {
            requested: offset,
            start: state.start,
            end: state.end,
        })
    }

    fn read_tail(&self, state: &State, mut range: ReadRange) -> Vec<Chunk> {
        if !self.shard.is_overdrawn() {
            return state.read_tail(range);
        }
        range.bytes_max = range.bytes_max.min(OVERDRAWN_READ_BYTES_MAX);
        let mut chunks = Vec::new();
        state.walk_tail(range, |unit, batches| {
            let bytes = &unit.unit.as_bytes()[batches];
            chunks.push(Chunk::Memory(self.shard.tails.copy(bytes)));
        });
        chunks
    }

    fn plan_cold(self: &Rc<Self>, state: &State, range: ReadRange) -> ReadPlan {
        let after = state
            .segments
            .partition_point(|segment| segment.base_offset <= range.from);
        let segment = &state.segments[after.saturating_sub(1)];
        let (limit, limit_offset, carry) = state.file_limit(segment);
        let job = LocateJob {
            segment: segment.base_offset,
            partition: self.path.clone(),
            file: self.shard.reads.get(self.number, segment.base_offset),
            position: segment.index.lookup(range.from),
            index_entries: segment.index.in_files().0,
            file_limit: limit,
            limit: limit + carry.len() as u64,
            stop_at: (range.upper < limit_offset).then_some(range.upper),
        };
        ReadPlan::Cold(ColdRead {
            log: Rc::clone(self),
            range,
            job,
            carry,
        })
    }
}

impl ShardStorage {
    /// Whether reads from memory are small now, since slow consumers hold as much as they may.
    pub fn is_overdrawn(&self) -> bool {
        self.tails.is_overdrawn(self.units.live_bytes())
    }

    /// Bytes that such reads have copied and that replies still hold.
    pub fn copied_bytes(&self) -> usize {
        self.tails.copied_bytes()
    }
}

impl State {
    fn check_readable(&self, from: Offset) -> Result<(), LogError> {
        let (start, end) = (self.start, self.end);
        if from < start || from > end {
            return Err(LogError::OutOfRange {
                requested: from,
                start,
                end,
            });
        }
        match self.damaged.iter().any(|damaged| damaged.contains(&from)) {
            true => Err(LogError::Damaged(from)),
            false => Ok(()),
        }
    }

    fn is_in_tail(&self, from: Offset) -> bool {
        let oldest = self.tail.front();
        oldest.is_some_and(|oldest| oldest.base_offset <= from)
    }

    fn read_tail(&self, range: ReadRange) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        self.walk_tail(range, |unit, batches| {
            chunks.push(Chunk::Memory(unit.unit.slice(batches)));
        });
        chunks
    }

    /// Shows `take` the batches that a read is to have, unit by unit, none of them empty.
    fn walk_tail(&self, range: ReadRange, mut take: impl FnMut(&TailUnit, Range<usize>)) {
        let first = self
            .tail
            .partition_point(|unit| unit.next_offset <= range.from);
        let (mut from, mut left) = (range.from, range.bytes_max);
        let mut at_least_one = range.at_least_one;
        for unit in self.tail.range(first..) {
            let batches = unit.batches(from, range.upper, left, at_least_one);
            let ends_early = batches.end < unit.unit.len();
            if !batches.is_empty() {
                left = left.saturating_sub(batches.len());
                at_least_one = false;
                take(unit, batches);
            }
            if ends_early {
                break;
            }
            from = unit.next_offset;
        }
    }

    /// How far a segment's file may be sent, the offset after the last batch that is not in the
    /// tail, and the bytes from memory that lie between.
    fn file_limit(&self, segment: &Segment) -> (u64, Offset, Bytes) {
        let in_memory = self
            .tail
            .iter()
            .find(|unit| unit.segment == segment.base_offset);
        if let Some(unit) = in_memory {
            return (
                unit.position,
                unit.base_offset,
                unit.unit.slice(0..unit.carry),
            );
        }
        let is_active = segment.base_offset == self.active().base_offset;
        let next = self
            .segments
            .iter()
            .find(|next| next.base_offset > segment.base_offset);
        let end = next.map_or(self.end, |next| next.base_offset);
        match &self.appender {
            Appender::Ready(ready) if is_active => match &ready.open {
                // Only what was there when the log was opened is in the file.
                Some(open) => (
                    open.position + open.carry as u64,
                    open.base_offset,
                    Bytes::new(),
                ),
                None => (segment.size, end, Bytes::new()),
            },
            _ => (segment.size, end, Bytes::new()),
        }
    }
}

impl ColdRead {
    /// Finds the bytes and brings them into the page cache.
    pub async fn run(self) -> Result<Vec<Chunk>, LogError> {
        let Self {
            log,
            range,
            job,
            carry,
        } = self;
        let (segment, file_limit, known) = (job.segment, job.file_limit, job.file.is_some());
        let path = layout::segment_file(&job.partition, segment, layout::LOG);
        let shard = &log.shard;
        let turn = shard.cold_reads.turn().await;
        let located = shard
            .directory
            .off_reactor(move |dir| job.locate(dir, range))
            .await;
        drop(turn);
        let located = located.map_err(|error| match error {
            LocateError::File(error) => log.deleted(range.from).unwrap_or_else(|| failed(&error)),
            LocateError::Damaged => LogError::Damaged(range.from),
        })?;
        let Some(Located { file, start, end }) = located else {
            return Ok(Vec::new());
        };
        if !known && log.deleted(range.from).is_none() {
            shard.reads.put(log.number, segment, Arc::clone(&file));
        }
        let mut chunks = Vec::with_capacity(2);
        let from_file = end.min(file_limit);
        if start < from_file {
            let mut resident = (start + COLD_READ_TURN_BYTES).min(from_file);
            while resident < from_file {
                let next = (resident + COLD_READ_TURN_BYTES).min(from_file);
                let brought = bring_in(shard, &shard.cold_reads, &file, resident, next).await;
                brought.map_err(|source| failed(&FileError::new("read", &path, source)))?;
                resident = next;
            }
            let ahead = from_file + 2 * (end - start).min(COLD_READ_TURN_BYTES);
            log.read_ahead(segment, &file, from_file, ahead.min(file_limit));
            chunks.push(Chunk::File(FileSlice {
                file,
                position: start,
                length: (from_file - start) as u32,
            }));
        }
        if end > file_limit {
            let first = (start.max(file_limit) - file_limit) as usize;
            let last = (end - file_limit) as usize;
            chunks.push(Chunk::Memory(carry.slice(first..last)));
        }
        Ok(chunks)
    }
}

fn failed(error: &FileError) -> LogError {
    tracing::error!(%error, "read failed");
    LogError::Failed(error.to_string())
}

/// Brings a range into the page cache when its turn comes.
async fn bring_in(
    shard: &ShardStorage,
    turns: &DiskTurns,
    file: &Arc<File>,
    start: u64,
    end: u64,
) -> io::Result<()> {
    let _turn = turns.turn().await;
    let file = Arc::clone(file);
    let bring = move |_: &LogDirectory| residency::bring_in(&file, start, end);
    shard.directory.off_reactor(bring).await
}

impl Log {
    /// Starts to bring in what a consumer that reads on will ask for next, from `from` to `to`, but
    /// for what the read before has started already.
    fn read_ahead(&self, segment: Offset, file: &Arc<File>, from: u64, to: u64) {
        let started = self.read_ahead_to.replace((segment, to));
        let begun = started.0 == segment && (from..=to).contains(&started.1);
        let mut from = if begun { started.1 } else { from };
        if from >= to {
            return;
        }
        let (shard, file) = (Rc::clone(&self.shard), Arc::clone(file));
        self.shard.spawn(async move {
            while from < to {
                let next = (from + COLD_READ_TURN_BYTES).min(to);
                let brought = bring_in(&shard, &shard.reads_ahead, &file, from, next).await;
                if brought.is_err() {
                    // Whoever wants these bytes meets the failure again, and reports it.
                    return;
                }
                from = next;
            }
        });
    }
}

enum LocateError {
    File(FileError),
    /// What stands where a batch should stand is none.
    Damaged,
}

impl LocateJob {
    /// On the blocking pool: finds the batch that holds the first offset, and how far to read.
    fn locate(
        self,
        directory: &LogDirectory,
        range: ReadRange,
    ) -> Result<Option<Located>, LocateError> {
        let path = layout::segment_file(&self.partition, self.segment, layout::LOG);
        let failed = |source: io::Error| LocateError::File(FileError::new("read", &path, source));
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                let opened = directory.open_for_reads(&path).map_err(LocateError::File)?;
                residency::without_readahead(&opened).map_err(failed)?;
                Arc::new(opened)
            }
        };
        let position = self
            .hint(directory, range.from)
            .map_err(LocateError::File)?;
        let mut walk = Walk {
            file: &file,
            position,
            limit: self.limit,
        };
        let (start, first_end) = loop {
            match walk.next().map_err(failed)? {
                Step::Batch { next_offset, .. } if next_offset <= range.from => {}
                Step::Batch {
                    start,
                    end,
                    base_offset,
                    ..
                } => {
                    if self.stop_at.is_some_and(|stop| base_offset >= stop) {
                        return Ok(None);
                    }
                    break (start, end);
                }
                // The offset is of this segment, so a file that ends before it has lost it.
                Step::End | Step::Damage => return Err(LocateError::Damaged),
            }
        };
        if !range.at_least_one && first_end - start > range.bytes_max as u64 {
            return Ok(None);
        }
        let mut end = (start + COLD_READ_BYTES_MAX.min(range.bytes_max as u64))
            .max(first_end)
            .min(self.limit);
        if let Some(stop) = self.stop_at {
            end = end.min(walk.end_before(stop, first_end, end).map_err(failed)?);
        }
        let first_turn = (start + COLD_READ_TURN_BYTES).min(end.min(self.file_limit));
        residency::bring_in(&file, start, first_turn).map_err(failed)?;
        Ok(Some(Located { file, start, end }))
    }

    /// A position at or before the batch that holds `offset`.
    fn hint(&self, directory: &LogDirectory, offset: Offset) -> Result<u64, FileError> {
        if let Some(position) = self.position {
            return Ok(position);
        }
        let path = layout::segment_file(&self.partition, self.segment, layout::INDEX);
        let file = directory.open_for_reads(&path)?;
        let relative = offset.0 - self.segment.0;
        index::lookup_in_file(&file, self.index_entries, relative)
            .map_err(|source| FileError::new("read", &path, source))
    }
}

/// Steps from batch to batch of a file by their headers.
struct Walk<'a> {
    file: &'a File,
    position: u64,
    limit: u64,
}

enum Step {
    Batch {
        start: u64,
        end: u64,
        base_offset: Offset,
        next_offset: Offset,
    },
    End,
    Damage,
}

impl Walk<'_> {
    /// Where the batches below `stop` end that fit before `end`, at least at `shown`.
    fn end_before(&mut self, stop: Offset, mut shown: u64, end: u64) -> io::Result<u64> {
        while let Step::Batch {
            end: next,
            base_offset,
            ..
        } = self.next()?
        {
            if base_offset >= stop || next > end {
                break;
            }
            shown = next;
        }
        Ok(shown)
    }

    fn next(&mut self) -> io::Result<Step> {
        let start = self.position;
        if start + BATCH_HEADER_BYTES as u64 > self.limit {
            return Ok(Step::End);
        }
        let mut header = [0; BATCH_HEADER_BYTES];
        self.file.read_exact_at(&mut header, start)?;
        let field =
            |at: usize| i32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let base = i64::from_be_bytes(header[..8].try_into().expect("eight bytes"));
        let (length, last_delta) = (field(8), field(23));
        if length < (BATCH_HEADER_BYTES - 12) as i32 || last_delta < 0 || header[16] != 2 {
            return Ok(Step::Damage);
        }
        let end = start + 12 + length as u64;
        self.position = end;
        Ok(Step::Batch {
            start,
            end,
            base_offset: Offset(base),
            next_offset: Offset(base).plus(i64::from(last_delta) + 1),
        })
    }
}
