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
    BATCH_HEADER_BYTES, BLOCK_BYTES, COLD_READ_BYTES_MAX, OVERDRAWN_READ_BYTES_MAX,
    READ_AHEAD_BYTES_MAX, READ_PIECE_BYTES,
};
use crate::runtime::yield_now;

use super::error::{FileError, LogError};
use super::file::File;
use super::index::{self, Place};
use super::layout;
use super::log::{Appender, Log, State};
use super::read_cache::{Piece, PieceKey};
use super::segment::Segment;
use super::shard::ShardStorage;
use super::turn::Turn;
use super::unit::SealedUnit;

/// So many pieces does one read ask for at a time, so that others come between.
const PIECES_ASKED_MAX: usize = 8;

/// So many batches are walked before other tasks get their turn.
const BATCHES_BEFORE_YIELD_MAX: usize = 8 << 10;

/// So much of a unit that is being filled is copied for a reader.
const COPIED_READ_BYTES_MAX: usize = 16 << 10;

/// What may lie between the place that an index gives and the batch that is looked for, mostly.
const FIND_BYTES: u64 = 8 << 10;

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
    start: Option<SearchStart>,
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
        self.state.borrow().check_readable(range.from)?;
        if range.from >= range.upper {
            return Ok(ReadPlan::Memory(Vec::new()));
        }
        let state = self.state.borrow();
        if !state.is_in_memory(range.from) {
            return Ok(self.plan_cold(&state, range));
        }
        drop(state);
        Ok(ReadPlan::Memory(self.read_memory(range)))
    }

    /// How many bytes a read from `from` up to `upper` would find in memory; `None` if it would
    /// have to look at the disk. Errors as [`Log::read`] does. It takes hold of none of them.
    pub fn bytes_in_memory(&self, from: Offset, upper: Offset) -> Result<Option<usize>, LogError> {
        let state = self.state.borrow();
        state.check_readable(from)?;
        if from >= upper {
            return Ok(Some(0));
        }
        if !state.is_in_memory(from) {
            return Ok(None);
        }
        let all = ReadRange {
            from,
            upper,
            bytes_max: usize::MAX,
            at_least_one: true,
        };
        let mut bytes = 0;
        let open = state.walk_tail(all, |_, batches| bytes += batches.len());
        Ok(Some(bytes + open.map_or(0, |open| open.len())))
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

    /// Of what is in memory readers get handles, and copies while slow ones hold too much.
    fn read_memory(self: &Rc<Self>, mut range: ReadRange) -> Vec<Bytes> {
        let is_overdrawn = self.shard.is_overdrawn();
        if is_overdrawn {
            range.bytes_max = range.bytes_max.min(OVERDRAWN_READ_BYTES_MAX);
        }
        let units = &self.shard.units;
        let mut chunks = Vec::new();
        let open = self.state.borrow().walk_tail(range, |unit, batches| {
            chunks.push(match is_overdrawn {
                true => units.copy(&unit.unit.as_bytes()[batches]),
                false => unit.unit.slice(batches),
            });
        });
        if let Some(batches) = open {
            // A reader that keeps up has little of the open unit. To copy that costs less than to
            // seal a unit for it and to begin another.
            let is_copied = is_overdrawn || batches.len() <= COPIED_READ_BYTES_MAX;
            chunks.push(match is_copied {
                true => units.copy(&self.open_unit().as_bytes()[batches]),
                false => self.seal_open().slice(batches),
            });
        }
        chunks
    }

    fn plan_cold(self: &Rc<Self>, state: &State, range: ReadRange) -> ReadPlan {
        let after = state
            .segments
            .partition_point(|segment| segment.base_offset <= range.from);
        let segment = &state.segments[after.saturating_sub(1)];
        let (file_limit, limit_offset, carry) = state.file_limit(segment);
        let cache = &self.shard.read_cache;
        let end_of_another = cache.end_at(self.number, segment.base_offset, range.from);
        let of_another = end_of_another.map(|end| SearchStart::at(end, range.from));
        let indexed = || segment.index.lookup(range.from);
        let indexed = || indexed().map(|place| SearchStart::of(place, segment.base_offset));
        ReadPlan::Cold(ColdRead {
            log: Rc::clone(self),
            range,
            segment: segment.base_offset,
            start: of_another.or_else(indexed),
            index_entries: segment.index.in_files().0,
            file_limit,
            carry,
            stop_at: (range.upper < limit_offset).then_some(range.upper),
            goes_on: end_of_another.is_some(),
        })
    }
}

impl ShardStorage {
    /// Whether reads of tails are small now, since slow consumers hold as much as they may.
    pub fn is_overdrawn(&self) -> bool {
        let live = self.units.live_bytes() + self.units.copied_bytes();
        self.tails.is_overdrawn(live)
    }

    /// Bytes that small reads have copied and that replies still hold.
    pub fn copied_bytes(&self) -> usize {
        self.units.copied_bytes() + self.read_cache.copied_bytes()
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

    /// How far a segment's file may be sent, the offset after the last batch that is not in the
    /// tail, and the bytes from memory that lie between.
    fn file_limit(&self, segment: &Segment) -> (u64, Offset, Bytes) {
        let in_memory = self
            .tail
            .iter()
            .find(|unit| unit.segment == segment.base_offset);
        if let Some(unit) = in_memory {
            // A copy of less than a block: a handle would keep the whole unit.
            let carry = Bytes::copy_from_slice(&unit.unit.as_bytes()[..unit.carry]);
            return (unit.position, unit.base_offset, carry);
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
    /// The most memory that what it collects takes, in bytes, unless its first batch is larger.
    pub fn memory_max(&self) -> u64 {
        let bytes = self.bytes_max();
        let pieces = (bytes.div_ceil(READ_PIECE_BYTES) + 1) * READ_PIECE_BYTES;
        match self.goes_on {
            true => pieces,
            // A buffer may take nearly twice what is read into it.
            false => pieces.min(2 * (bytes + FIND_BYTES + 2 * BLOCK_BYTES)),
        }
    }

    /// As many bytes as there may be of what is wanted.
    fn bytes_max(&self) -> u64 {
        let end = self.file_limit + self.carry.len() as u64;
        let from = self.start.map_or(0, |start| start.position);
        let there = end.saturating_sub(from);
        there
            .min(self.range.bytes_max as u64)
            .min(COLD_READ_BYTES_MAX)
            .min(self.log.shard.turn_bytes_max() - READ_PIECE_BYTES)
    }

    /// Brings the bytes: whole batches, as many as are wanted and there, in a turn of its own.
    pub async fn run(self) -> Result<Vec<Bytes>, LogError> {
        let shard = Rc::clone(&self.log.shard);
        let turn = shard.turn_to_read(self.memory_max()).await;
        self.run_in(&turn).await
    }

    /// As [`ColdRead::run`], in a turn with others. A batch that is larger than asked for may only
    /// be wanted by the first of them, which is run alone.
    pub async fn run_in(self, turn: &Turn) -> Result<Vec<Bytes>, LogError> {
        let from = self.range.from;
        self.collect(turn).await.map_err(|error| match error {
            // Files that are gone are no failure once the log says so.
            ReadError::File(error) => self.log.deleted(from).unwrap_or_else(|| {
                tracing::error!(%error, "read failed");
                LogError::Failed(error.to_string())
            }),
            ReadError::Astray { position } | ReadError::Damaged { position } => {
                let deleted = self.log.deleted(from);
                deleted.unwrap_or_else(|| self.tell_damage(position))
            }
        })
    }

    fn tell_damage(&self, position: u64) -> LogError {
        let (from, log) = (self.range.from, &self.log);
        let file = layout::segment_file(&log.path, self.segment, layout::LOG);
        let file = file.display();
        tracing::error!(%file, position, offset = from.0, "no batch where one was written");
        LogError::Damaged(from)
    }

    async fn collect(&self, turn: &Turn) -> Result<Vec<Bytes>, ReadError> {
        let (log, from) = (&self.log, self.range.from);
        let cache = &log.shard.read_cache;
        let bytes_max = match turn.is_small() {
            true => self.bytes_max().min(OVERDRAWN_READ_BYTES_MAX as u64),
            false => self.bytes_max(),
        };
        let mut stretch = Stretch::new(self, self.file().await?, bytes_max);
        let first = self.find_first(&mut stretch).await?;
        let stops_before = |batch: &Batch| self.stop_at.is_some_and(|stop| batch.base >= stop);
        if stops_before(&first) || (!self.range.at_least_one && first.bytes() > bytes_max) {
            return Ok(Vec::new());
        }
        if first.bytes() > COLD_READ_BYTES_MAX {
            stretch.check_next(&first).await?;
        }
        if first.bytes() > bytes_max {
            // It is collected whole. Nobody waits while holding what others wait for.
            stretch.let_go();
            turn.exceed(first.bytes() + READ_PIECE_BYTES).await;
            stretch.begin_at(first.start);
        }
        let wanted = (first.start + bytes_max)
            .max(first.end)
            .min(stretch.limit());
        stretch.ask(wanted)?;
        if self.is_read_ahead_of() && !turn.is_small() {
            let ahead = READ_AHEAD_BYTES_MAX.min(2 * (wanted - first.start));
            stretch.read_ahead(wanted, wanted + ahead);
        }
        stretch.reach(wanted).await?;
        let (mut last, mut walked) = (first, 0);
        // Damage that follows does not take what is sound before it.
        while let Ok(Some(next)) = stretch.batch_at(last.end)
            && next.end <= wanted
            && next.base == last.next_offset
            && !stops_before(&next)
        {
            last = next;
            walked += 1;
            if walked % BATCHES_BEFORE_YIELD_MAX == 0 {
                yield_now().await;
            }
        }
        // What follows the end of a segment lies in another.
        if last.end < stretch.limit() {
            let from = (log.number, from);
            cache.ended(from, last.next_offset, self.segment, last.end);
        }
        turn.gives();
        let slices = stretch.slices(first.start, last.end);
        match turn.is_small() {
            true => Ok(slices.iter().map(|slice| cache.copy(slice)).collect()),
            false => Ok(slices),
        }
    }

    /// Whether what comes next is loaded before the reader asks.
    fn is_read_ahead_of(&self) -> bool {
        self.goes_on && self.log.shard.read_cache.reads_ahead()
    }

    /// The segment's file, open for reads.
    async fn file(&self) -> Result<Rc<File>, ReadError> {
        let (log, shard) = (&self.log, &self.log.shard);
        if let Some(file) = shard.reads.get(log.number, self.segment) {
            return Ok(file);
        }
        let path = layout::segment_file(&log.path, self.segment, layout::LOG);
        // No file changes its name meanwhile: the runtime asks by the name again once it is open.
        let files = log.files.acquire_permit(1).await;
        let _files = files.expect("the semaphore is never closed");
        if let Some(file) = shard.reads.get(log.number, self.segment) {
            return Ok(file);
        }
        let file = Rc::new(File::open_to_read(&log.site.directory, &path).await?);
        if log.deleted(self.range.from).is_none() {
            shard.reads.put(log.number, self.segment, Rc::clone(&file));
        }
        Ok(file)
    }

    /// The batch that holds the first offset. Where an index leads astray, it is looked for from
    /// further and further before: an index that is damaged takes nothing with it.
    async fn find_first(&self, stretch: &mut Stretch<'_>) -> Result<Batch, ReadError> {
        let (mut start, mut back) = (self.start, 0);
        loop {
            let from = match start.take() {
                Some(start) => start,
                None => self.look_up(back).await?,
            };
            match stretch.find(from, self.range.from).await {
                Err(ReadError::Astray { .. }) if from.position > 0 => {
                    // What was loaded there begins behind where it is looked for next.
                    stretch.let_go();
                    back = (2 * back).max(1);
                }
                found => return found,
            }
        }
    }

    /// Asks the index file for a position at or before the batch that holds the first offset, so
    /// many entries before the nearest.
    async fn look_up(&self, back: u32) -> Result<SearchStart, FileError> {
        let path = layout::segment_file(&self.log.path, self.segment, layout::INDEX);
        let (entries, relative) = (self.index_entries, self.range.from.0 - self.segment.0);
        if entries == 0 {
            return Ok(SearchStart::of(Place::Start, self.segment));
        }
        let looked_up = self.log.site.directory.off_reactor(move |directory| {
            let file = directory.open_for_reads(&path)?;
            index::lookup_in_file(&file, entries, relative, back)
                .map_err(|source| FileError::new("read", &path, source))
        });
        Ok(SearchStart::of(looked_up.await?, self.segment))
    }
}

/// Where a search begins, and the offset that the batch there begins or ends with. No CRC covers
/// the base offset of a batch: only those around it tell whether it is right.
#[derive(Clone, Copy, Debug)]
struct SearchStart {
    position: u64,
    base: Option<Offset>,
    last: Option<Offset>,
}

impl SearchStart {
    fn at(position: u64, base: Offset) -> Self {
        Self {
            position,
            base: Some(base),
            last: None,
        }
    }

    fn of(place: Place, segment: Offset) -> Self {
        match place {
            Place::Start => Self::at(0, segment),
            Place::Entry(entry) => Self {
                position: entry.position.into(),
                base: None,
                last: Some(segment.plus(entry.relative_offset.into())),
            },
        }
    }

    fn fits(&self, batch: &Batch) -> bool {
        self.base.is_none_or(|base| base == batch.base)
            && self
                .last
                .is_none_or(|last| last.plus(1) == batch.next_offset)
    }
}

enum ReadError {
    File(Rc<FileError>),
    /// At the position where a search began stands not the batch that was to be there.
    Astray {
        position: u64,
    },
    /// What stands at this position of the segment is no batch that belongs there.
    Damaged {
        position: u64,
    },
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

/// A piece that has come, and where in the file it begins.
struct Held {
    start: u64,
    unit: SealedUnit,
}

impl Held {
    fn end(&self) -> u64 {
        self.start + self.unit.len() as u64
    }
}

/// A stretch of a segment, collected piece after piece; behind the file's limit lies the carry.
struct Stretch<'a> {
    read: &'a ColdRead,
    file: Rc<File>,
    /// How much is loaded from where the stretch begins, at least, unless pieces are loaded whole.
    likely_bytes: u64,
    /// Where the stretch begins, and no more than what is wanted of it from there on.
    start: u64,
    /// In order and without a gap between them; the first holds `start`.
    pieces: VecDeque<Held>,
    /// Asked for, with where it has to reach; they follow `pieces`.
    asked: VecDeque<(Rc<Piece>, u64)>,
}

impl<'a> Stretch<'a> {
    fn new(read: &'a ColdRead, file: Rc<File>, likely_bytes: u64) -> Self {
        Self {
            read,
            file,
            likely_bytes,
            start: 0,
            pieces: VecDeque::new(),
            asked: VecDeque::new(),
        }
    }

    /// Where the file's part ends and the carry's begins.
    fn file_limit(&self) -> u64 {
        self.read.file_limit
    }

    fn limit(&self) -> u64 {
        self.file_limit() + self.read.carry.len() as u64
    }

    /// How far it goes without a gap.
    fn reached(&self) -> u64 {
        let end = self.pieces.back().map_or(self.start, Held::end);
        match end >= self.file_limit() {
            true => self.limit(),
            false => end,
        }
    }

    fn key(&self, position: u64) -> PieceKey {
        PieceKey {
            log: self.read.log.number,
            segment: self.read.segment,
            number: position / READ_PIECE_BYTES,
        }
    }

    /// What is loaded of the piece that holds `wanted`: all that is behind it, if the reader is one
    /// that is read ahead of, else what it is likely to take.
    fn load_for(&self, wanted: &Range<u64>) -> Range<u64> {
        let piece_end = (wanted.start / READ_PIECE_BYTES + 1) * READ_PIECE_BYTES;
        let end = match self.read.is_read_ahead_of() {
            true => piece_end,
            false => {
                let likely = self.start + self.likely_bytes + FIND_BYTES;
                likely
                    .next_multiple_of(BLOCK_BYTES)
                    .max(wanted.end)
                    .min(piece_end)
            }
        };
        let start = wanted.start - wanted.start % BLOCK_BYTES;
        start..end.min(self.file_limit()).max(wanted.end)
    }

    /// Has the pieces that begin between two positions loaded before they are wanted.
    fn read_ahead(&self, from: u64, to: u64) {
        let log = &self.read.log;
        if log.deleted(self.read.range.from).is_some() {
            return;
        }
        let cache = &log.shard.read_cache;
        let mut start = from.next_multiple_of(READ_PIECE_BYTES);
        while start < to.min(self.file_limit()) {
            let end = (start + READ_PIECE_BYTES).min(self.file_limit());
            cache.read_ahead(self.key(start), &self.file, start..end);
            start += READ_PIECE_BYTES;
        }
        cache.start_loads();
    }

    /// Asks for what is missing up to `to`, or to the limit, as much as may be asked for at a time.
    fn ask(&mut self, to: u64) -> Result<(), ReadError> {
        let to = to.min(self.file_limit());
        let reached = self.reached();
        let mut next = self.asked.back().map_or(reached, |(_, reaches)| *reaches);
        let cache = &self.read.log.shard.read_cache;
        while next < to && self.asked.len() < PIECES_ASKED_MAX {
            if self.read.log.deleted(self.read.range.from).is_some() {
                return Err(ReadError::Damaged { position: next });
            }
            let piece_end = (next / READ_PIECE_BYTES + 1) * READ_PIECE_BYTES;
            let wanted = next..to.min(piece_end);
            let load = self.load_for(&wanted);
            let reaches = wanted.end;
            let piece = cache.demand(self.key(next), &self.file, wanted, load);
            self.asked.push_back((piece, reaches));
            next = reaches;
        }
        cache.start_loads();
        Ok(())
    }

    /// Goes on to `to`, or to the limit.
    async fn reach(&mut self, to: u64) -> Result<(), ReadError> {
        while self.reached() < to.min(self.file_limit()) {
            // Several at a time, so that they are read together.
            if self.asked.len() <= PIECES_ASKED_MAX / 2 {
                self.ask(to)?;
            }
            let (piece, reaches) = self.asked.pop_front().expect("something is missing");
            let held = Held {
                start: piece.start(),
                unit: piece.loaded().await?,
            };
            if held.end() < reaches {
                // The file has ended before what was written to it.
                return Err(ReadError::Damaged {
                    position: held.end(),
                });
            }
            self.pieces.push_back(held);
        }
        Ok(())
    }

    /// Keeps nothing: it is about to begin before what it has.
    fn let_go(&mut self) {
        self.asked.clear();
        self.pieces.clear();
    }

    /// Begins anew at `position`, not before what it has; what lies before is not wanted.
    fn begin_at(&mut self, position: u64) {
        self.start = position;
        self.asked.clear();
        while self
            .pieces
            .front()
            .is_some_and(|held| held.end() <= position)
        {
            self.pieces.pop_front();
        }
    }

    /// The batch that holds `offset`, looking from `start` on.
    async fn find(&mut self, start: SearchStart, offset: Offset) -> Result<Batch, ReadError> {
        let (mut position, mut expected) = (start.position, None);
        let mut walked = 0;
        loop {
            walked += 1;
            if walked % BATCHES_BEFORE_YIELD_MAX == 0 {
                yield_now().await;
            }
            self.begin_at(position);
            self.reach(position + BATCH_HEADER_BYTES as u64).await?;
            // The offset is of this segment, so a file that ends before it has lost it.
            let batch = self.batch_at(position).ok().flatten();
            let batch = match expected {
                None => batch.filter(|batch| start.fits(batch) && batch.base <= offset),
                Some(base) => batch.filter(|batch| batch.base == base),
            };
            let batch = batch.ok_or(match expected {
                None => ReadError::Astray { position },
                Some(_) => ReadError::Damaged { position },
            })?;
            if batch.next_offset > offset {
                return Ok(batch);
            }
            (position, expected) = (batch.end, Some(batch.next_offset));
        }
    }

    /// Looks whether a batch follows `batch`, which is too large to be read on its word alone.
    async fn check_next(&self, batch: &Batch) -> Result<(), ReadError> {
        if batch.end == self.limit() {
            return Ok(());
        }
        let mut behind = Stretch::new(self.read, Rc::clone(&self.file), 0);
        let start = SearchStart::at(batch.end, batch.next_offset);
        let next = behind.find(start, batch.next_offset).await;
        next.map(drop).map_err(|error| match error {
            ReadError::Astray { .. } => ReadError::Damaged {
                position: batch.start,
            },
            error => error,
        })
    }

    /// The batch that begins at `start`; none if its header is not within reach.
    fn batch_at(&self, start: u64) -> Result<Option<Batch>, ReadError> {
        if start + BATCH_HEADER_BYTES as u64 > self.reached() {
            return Ok(None);
        }
        let mut copy = [0; BATCH_HEADER_BYTES];
        let header = match self.part(start).first_chunk() {
            Some(header) => header,
            None => {
                self.copy(start, &mut copy);
                &copy
            }
        };
        let damaged = ReadError::Damaged { position: start };
        let int32 =
            |at: usize| i32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let base = i64::from_be_bytes(header[..8].try_into().expect("eight bytes"));
        let (length, last_delta) = (int32(8), int32(23));
        let end = start + 12 + length.max(0) as u64;
        let next_offset = base.checked_add(i64::from(last_delta) + 1);
        let (true, Some(next_offset)) = (base >= 0 && last_delta >= 0, next_offset) else {
            return Err(damaged);
        };
        let is_whole = length >= (BATCH_HEADER_BYTES - 12) as i32 && end <= self.limit();
        if !is_whole || header[16] != 2 {
            return Err(damaged);
        }
        Ok(Some(Batch {
            start,
            end,
            base: Offset(base),
            next_offset: Offset(next_offset),
        }))
    }

    /// Copies what lies at `position`, all of it within reach.
    fn copy(&self, position: u64, out: &mut [u8]) {
        let mut filled = 0;
        while filled < out.len() {
            let (part, rest) = (self.part(position + filled as u64), &mut out[filled..]);
            let length = part.len().min(rest.len());
            rest[..length].copy_from_slice(&part[..length]);
            filled += length;
        }
    }

    /// The piece at `position`, which is within reach and below the file's limit, and the range of
    /// its bytes from there on.
    fn piece_at(&self, position: u64) -> (&SealedUnit, Range<usize>) {
        // They may overlap where one was loaded again, longer.
        let after = self.pieces.partition_point(|held| held.start <= position);
        let held = &self.pieces[after - 1];
        let end = held.end().min(self.file_limit());
        (
            &held.unit,
            (position - held.start) as usize..(end - held.start) as usize,
        )
    }

    /// What lies at `position`, which is within reach, as far as it is in one piece.
    fn part(&self, position: u64) -> &[u8] {
        if position >= self.file_limit() {
            return &self.read.carry[(position - self.file_limit()) as usize..];
        }
        let (piece, range) = self.piece_at(position);
        &piece.as_bytes()[range]
    }

    /// Handles to what lies between two positions within reach.
    fn slices(&self, mut start: u64, end: u64) -> Vec<Bytes> {
        let mut slices = Vec::with_capacity(self.pieces.len() + 1);
        let file_limit = self.file_limit();
        while start < end.min(file_limit) {
            let (piece, range) = self.piece_at(start);
            let length = (range.len() as u64).min(end - start);
            slices.push(piece.slice(range.start..range.start + length as usize));
            start += length;
        }
        if start < end {
            let (from, to) = (start - file_limit, end - file_limit);
            slices.push(self.read.carry.slice(from as usize..to as usize));
        }
        slices
    }
}
