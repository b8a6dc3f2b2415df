//! Reads of a log: an owned plan is taken in one go, then carried out with nothing borrowed.
//!
//! Bytes in the tail are handed out by reference, and so are older ones, out of the pieces that the
//! shard's read cache brings from the disk. A reader that goes on where another read has ended has
//! what comes next loaded before it asks. What is read of a file lies below the tail's first block;
//! the bytes of that block come from memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::base::limits::{
    BATCH_HEADER_BYTES, COLD_READ_BYTES_MAX, OVERDRAWN_READ_BYTES_MAX, READ_AHEAD_BYTES_MAX,
    READ_PIECE_BYTES,
};

use super::error::{FileError, LogError};
use super::file::File;
use super::index;
use super::layout;
use super::log::{Appender, Log, State};
use super::read_cache::{PieceKey, ReadCache};
use super::segment::Segment;
use super::shard::ShardStorage;
use super::tail::TailUnit;
use super::unit::SealedUnit;

/// So many pieces does one read ask for at a time, so that others come between.
const PIECES_ASKED_MAX: usize = 4;

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
    Memory(Vec<Bytes>),
    /// The bytes are not in the tail: [`ColdRead::run`] brings them.
    Cold(ColdRead),
}

/// A read of an older part of the log.
#[derive(Debug)]
pub struct ColdRead {
    log: Rc<Log>,
    range: ReadRange,
    segment: Offset,
    /// Where to begin to look; `None` asks the index file.
    position: Option<u64>,
    index_entries: u32,
    /// The file is read up to here.
    file_limit: u64,
    /// The batches between the file's limit and `limit`: their block may be written to.
    carry: Bytes,
    /// The batches are walked to find this offset, where the limit lies beyond it.
    stop_at: Option<Offset>,
    /// Whether another read has ended where this one begins.
    goes_on: bool,
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

    fn read_tail(&self, state: &State, mut range: ReadRange) -> Vec<Bytes> {
        if !self.shard.is_overdrawn() {
            return state.read_tail(range);
        }
        range.bytes_max = range.bytes_max.min(OVERDRAWN_READ_BYTES_MAX);
        let mut chunks = Vec::new();
        state.walk_tail(range, |unit, batches| {
            let bytes = &unit.unit.as_bytes()[batches];
            chunks.push(self.shard.tails.copy(bytes));
        });
        chunks
    }

    fn plan_cold(self: &Rc<Self>, state: &State, range: ReadRange) -> ReadPlan {
        let after = state
            .segments
            .partition_point(|segment| segment.base_offset <= range.from);
        let segment = &state.segments[after.saturating_sub(1)];
        let (file_limit, limit_offset, carry) = state.file_limit(segment);
        let end_of_another = self.shard.read_cache.end_at(self.number, range.from);
        ReadPlan::Cold(ColdRead {
            log: Rc::clone(self),
            range,
            segment: segment.base_offset,
            position: end_of_another.or_else(|| segment.index.lookup(range.from)),
            index_entries: segment.index.in_files().0,
            file_limit,
            carry,
            stop_at: (range.upper < limit_offset).then_some(range.upper),
            goes_on: end_of_another.is_some(),
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

    fn read_tail(&self, range: ReadRange) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        self.walk_tail(range, |unit, batches| {
            chunks.push(unit.unit.slice(batches));
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
    /// Brings the bytes: whole batches, as many as are wanted and there.
    pub async fn run(self) -> Result<Vec<Bytes>, LogError> {
        self.collect().await.map_err(|error| match error {
            // Files that are gone are no failure once the log says so.
            ReadError::File(error) => self.log.deleted(self.range.from).unwrap_or_else(|| {
                tracing::error!(%error, "read failed");
                LogError::Failed(error.to_string())
            }),
            ReadError::Damaged => LogError::Damaged(self.range.from),
        })
    }

    async fn collect(&self) -> Result<Vec<Bytes>, ReadError> {
        let shard = &self.log.shard;
        let (from, bytes_max) = (self.range.from, self.range.bytes_max as u64);
        let mut stretch = Stretch {
            cache: &shard.read_cache,
            log: self.log.number,
            segment: self.segment,
            file: self.file().await?,
            file_limit: self.file_limit,
            carry: self.carry.clone(),
            first: 0,
            pieces: Vec::new(),
        };
        let first = stretch.find(self.position().await?, from).await?;
        let stops_before = |batch: &Batch| self.stop_at.is_some_and(|stop| batch.base >= stop);
        if stops_before(&first) || (!self.range.at_least_one && first.bytes() > bytes_max) {
            return Ok(Vec::new());
        }
        let wanted = first.start + bytes_max.min(COLD_READ_BYTES_MAX);
        let wanted = wanted.max(first.end).min(stretch.limit());
        if self.goes_on {
            let ahead = 2 * (wanted - first.start).min(READ_AHEAD_BYTES_MAX);
            stretch.read_ahead(wanted, wanted + ahead);
        }
        stretch.reach(first.end, Need::Must).await?;
        stretch.reach(wanted, Need::IfAffordable).await?;
        let (start, wanted) = (first.start, wanted.min(stretch.reached()));
        let mut last = first;
        while let Some(next) = stretch.batch_at(last.end)? {
            if next.end > wanted || stops_before(&next) {
                break;
            }
            last = next;
        }
        // What follows the end of a segment lies in another.
        if last.end < stretch.limit() && self.log.deleted(from).is_none() {
            let number = self.log.number;
            shard.read_cache.ended(number, last.next_offset, last.end);
        }
        if !shard.read_cache.is_overdrawn() {
            return Ok(stretch.slices(start, last.end));
        }
        let end = last
            .end
            .min(first.end.max(start + OVERDRAWN_READ_BYTES_MAX as u64));
        let slices = stretch.slices(start, end);
        Ok(slices.iter().map(|slice| shard.tails.copy(slice)).collect())
    }

    /// The segment's file, open for reads.
    async fn file(&self) -> Result<Rc<File>, FileError> {
        let (shard, number) = (&self.log.shard, self.log.number);
        if let Some(file) = shard.reads.get(number, self.segment) {
            return Ok(file);
        }
        let path = layout::segment_file(&self.log.path, self.segment, layout::LOG);
        let file = Rc::new(File::open_to_read(&shard.directory, &path).await?);
        if self.log.deleted(self.range.from).is_none() {
            shard.reads.put(number, self.segment, Rc::clone(&file));
        }
        Ok(file)
    }

    /// A position at or before the batch that holds the first offset.
    async fn position(&self) -> Result<u64, FileError> {
        if let Some(position) = self.position {
            return Ok(position);
        }
        let path = layout::segment_file(&self.log.path, self.segment, layout::INDEX);
        let (entries, relative) = (self.index_entries, self.range.from.0 - self.segment.0);
        let looked_up = self.log.shard.directory.off_reactor(move |directory| {
            let file = directory.open_for_reads(&path)?;
            index::lookup_in_file(&file, entries, relative)
                .map_err(|source| FileError::new("read", &path, source))
        });
        looked_up.await
    }
}

enum ReadError {
    File(Rc<FileError>),
    /// What stands where a batch should stand is none.
    Damaged,
}

impl From<Rc<FileError>> for ReadError {
    fn from(error: Rc<FileError>) -> Self {
        Self::File(error)
    }
}

impl From<FileError> for ReadError {
    fn from(error: FileError) -> Self {
        Self::File(Rc::new(error))
    }
}

/// Whether a stretch is also brought in while replies hold too much memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Must,
    IfAffordable,
}

/// A stretch of a segment, collected piece after piece; behind the file's limit lies the carry.
struct Stretch<'a> {
    cache: &'a Rc<ReadCache>,
    log: u64,
    segment: Offset,
    file: Rc<File>,
    file_limit: u64,
    carry: Bytes,
    /// The number of the first piece.
    first: u64,
    pieces: Vec<SealedUnit>,
}

/// Where a batch lies.
#[derive(Clone, Copy, Debug)]
struct Batch {
    start: u64,
    end: u64,
    base: Offset,
    next_offset: Offset,
}

impl Batch {
    fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

impl Stretch<'_> {
    fn limit(&self) -> u64 {
        self.file_limit + self.carry.len() as u64
    }

    /// How far it goes without a gap.
    fn reached(&self) -> u64 {
        let start = self.first * READ_PIECE_BYTES;
        let end = self.pieces.last().map_or(start, |last| {
            start + (self.pieces.len() as u64 - 1) * READ_PIECE_BYTES + last.len() as u64
        });
        match end >= self.file_limit {
            true => self.limit(),
            false => end,
        }
    }

    fn key(&self, number: u64) -> PieceKey {
        PieceKey {
            log: self.log,
            segment: self.segment,
            number,
        }
    }

    /// How many bytes of a piece lie before `position`.
    fn bytes_before(number: u64, position: u64) -> usize {
        let bytes = position.saturating_sub(number * READ_PIECE_BYTES);
        bytes.min(READ_PIECE_BYTES) as usize
    }

    /// Has the pieces that begin between two positions loaded before they are wanted.
    fn read_ahead(&self, from: u64, to: u64) {
        let to = to.min(self.file_limit);
        for number in from.div_ceil(READ_PIECE_BYTES)..to.div_ceil(READ_PIECE_BYTES) {
            let length = Self::bytes_before(number, self.file_limit);
            self.cache.read_ahead(self.key(number), &self.file, length);
        }
    }

    /// Goes on to `to`, or to the limit.
    async fn reach(&mut self, to: u64, need: Need) -> Result<(), ReadError> {
        let to = to.min(self.file_limit);
        // The last one may have been loaded when the file was shorter.
        if self.reached() < to && !self.reached().is_multiple_of(READ_PIECE_BYTES) {
            self.pieces.pop();
        }
        let mut asked = VecDeque::new();
        let mut next = self.first + self.pieces.len() as u64;
        loop {
            while asked.len() < PIECES_ASKED_MAX
                && next * READ_PIECE_BYTES < to
                && (need == Need::Must || !self.cache.is_overdrawn())
            {
                let needed = Self::bytes_before(next, to);
                let length = Self::bytes_before(next, self.file_limit);
                let piece = self
                    .cache
                    .demand(self.key(next), &self.file, needed, length);
                asked.push_back((piece, needed));
                next += 1;
            }
            let Some((piece, needed)) = asked.pop_front() else {
                return Ok(());
            };
            let piece = piece.loaded().await?;
            if piece.len() < needed {
                // The file has ended before what was written to it.
                return Err(ReadError::Damaged);
            }
            self.pieces.push(piece);
        }
    }

    /// The batch that holds `offset`, or the first one after it, looking from `position` on.
    async fn find(&mut self, mut position: u64, offset: Offset) -> Result<Batch, ReadError> {
        loop {
            // What lies before is not wanted.
            let number = position / READ_PIECE_BYTES;
            let passed = (number.saturating_sub(self.first) as usize).min(self.pieces.len());
            self.pieces.drain(..passed);
            if self.pieces.is_empty() {
                self.first = number;
            }
            self.first = self.first.max(number);
            let header_end = position + BATCH_HEADER_BYTES as u64;
            self.reach(header_end, Need::Must).await?;
            // The offset is of this segment, so a file that ends before it has lost it.
            let batch = self.batch_at(position)?.ok_or(ReadError::Damaged)?;
            if batch.next_offset > offset {
                return Ok(batch);
            }
            position = batch.end;
        }
    }

    /// The batch that begins at `start`; none if its header is not within reach.
    fn batch_at(&self, start: u64) -> Result<Option<Batch>, ReadError> {
        if start + BATCH_HEADER_BYTES as u64 > self.reached() {
            return Ok(None);
        }
        let mut header = [0; BATCH_HEADER_BYTES];
        let mut filled = 0;
        while filled < header.len() {
            let (part, rest) = (self.part(start + filled as u64), &mut header[filled..]);
            let length = part.len().min(rest.len());
            rest[..length].copy_from_slice(&part[..length]);
            filled += length;
        }
        let field =
            |at: usize| i32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let base = i64::from_be_bytes(header[..8].try_into().expect("eight bytes"));
        let (length, last_delta) = (field(8), field(23));
        if length < (BATCH_HEADER_BYTES - 12) as i32 || last_delta < 0 || header[16] != 2 {
            return Err(ReadError::Damaged);
        }
        Ok(Some(Batch {
            start,
            end: start + 12 + length as u64,
            base: Offset(base),
            next_offset: Offset(base).plus(i64::from(last_delta) + 1),
        }))
    }

    /// The piece at `position`, which is within reach and below the file's limit, and the range of
    /// its bytes from there on.
    fn piece_at(&self, position: u64) -> (&SealedUnit, Range<usize>) {
        let number = position / READ_PIECE_BYTES;
        let piece = &self.pieces[(number - self.first) as usize];
        let end = Self::bytes_before(number, self.file_limit).min(piece.len());
        (piece, (position % READ_PIECE_BYTES) as usize..end)
    }

    /// What lies at `position`, which is within reach, as far as it is in one piece.
    fn part(&self, position: u64) -> &[u8] {
        if position >= self.file_limit {
            return &self.carry[(position - self.file_limit) as usize..];
        }
        let (piece, range) = self.piece_at(position);
        &piece.as_bytes()[range]
    }

    /// Handles to what lies between two positions within reach.
    fn slices(&self, mut start: u64, end: u64) -> Vec<Bytes> {
        let mut slices = Vec::with_capacity(self.pieces.len() + 1);
        while start < end.min(self.file_limit) {
            let (piece, range) = self.piece_at(start);
            let length = (range.len() as u64).min(end - start);
            slices.push(piece.slice(range.start..range.start + length as usize));
            start += length;
        }
        if start < end {
            let from = (start - self.file_limit) as usize;
            slices.push(self.carry.slice(from..(end - self.file_limit) as usize));
        }
        slices
    }
}
