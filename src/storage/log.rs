//! A partition's log: appends, the frontiers, and what the tasks behind it need. One shard's alone.
//!
//! An append is synchronous: it copies a batch into the open unit and gives it its offset. What
//! makes it durable runs behind it, only while there is work: little of it goes into the shard's
//! journal, together with what other logs have, and into its segment later; much of it goes
//! straight into its segment, in order and one write at a time. A write completes when it is
//! durable, unless the log is told never to sync. So *written* and *durable* are contiguous
//! prefixes of the log, and so is what is *settled*, which is in its segment:
//!
//! `start <= durable <= written <= end`, `start <= settled <= written`
//!
//! An append needs room: an open segment, preallocated far enough. [`Log::has_room`] tells, and
//! [`Log::prepare`] makes room (opens a parked log, preallocates, rolls); while it runs the caller
//! keeps arrivals in order. So when no room is left on the disk, that shows before any byte is
//! accepted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::base::clock::TimestampMs;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::limits::BLOCK_BYTES;
use crate::record::header::ATTRIBUTES_AT;
use crate::runtime::{Part, Semaphore};

use super::ahead::Ahead;
use super::directory::LogDirectory;
use super::error::LogError;
use super::file::File;
use super::journal::Journaled;
use super::pace::Pace;
use super::segment::Segment;
use super::shard::ShardStorage;
use super::site::Site;
use super::tail::{Marks, TailUnit};
use super::unit::{SealedUnit, Unit};

/// The settings of a log that act in storage. Kafka's topic settings of the same names.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`, less this log's share of `segment.jitter.ms`.
    pub segment_ms: i64,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// Whether a write completes only when it is durable: `millrace.flush` is not `never`.
    pub syncs_writes: bool,
}

/// What has to be known of a batch to make room for it.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    /// Its size in bytes.
    pub bytes: usize,
    /// Its largest timestamp, by which its segment may be too old for it.
    pub timestamp: TimestampMs,
    /// The time of the append.
    pub now: TimestampMs,
}

/// What the caller lays down for a batch once it has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Assigned {
    /// Offset after its last record, less its first: at least 1.
    pub offsets: i64,
    /// The epoch of the leader that appends it.
    pub leader_epoch: LeaderEpoch,
    /// Its largest timestamp.
    pub max_timestamp: TimestampMs,
}

/// One partition's log.
#[derive(Debug)]
pub struct Log {
    pub(super) shard: Rc<ShardStorage>,
    /// The log directory that it is in.
    pub(super) site: Rc<Site>,
    /// Names the log among those of its shard.
    pub(super) number: u64,
    /// The partition's directory.
    pub(super) path: PathBuf,
    /// Where the directory's own name begins in its path.
    name_at: usize,
    /// How far it is in the journal's files.
    pub(super) journaled: Journaled,
    pub(super) config: RefCell<Rc<LogConfig>>,
    pub(super) state: RefCell<State>,
    /// Held by what opens, rolls or parks the log, one at a time. See [`Log::begin_transition`].
    pub(super) transition: Semaphore,
    /// Held by what works on the directory's files by their names. See [`Log::in_directory`].
    pub(super) files: Semaphore,
    on_progress: RefCell<Option<Rc<dyn ProgressListener>>>,
    /// Tasks that wait for the next progress.
    waiting: RefCell<Vec<Waker>>,
    /// Counts progress, so that a waiter can tell that there was some.
    progress: Cell<u64>,
    /// What `partition.metadata` says.
    identity: String,
    /// Files of deleted segments under the name that tells so, until somebody takes them.
    pub(super) deleted: RefCell<Vec<PathBuf>>,
}

/// Told when a frontier has moved or the log has failed.
pub trait ProgressListener: std::fmt::Debug {
    /// Look at the log's frontiers again.
    fn progressed(&self);
}

#[derive(Debug)]
pub(super) struct State {
    pub start: Offset,
    pub end: Offset,
    pub written: Offset,
    pub durable: Offset,
    /// All below it is in its segment; from here on it is in memory, and in the journal as far as
    /// it is durable.
    pub settled: Offset,
    /// In order of base offset; never empty; the last is the active one.
    pub segments: VecDeque<Segment>,
    pub tail: VecDeque<TailUnit>,
    pub appender: Appender,
    /// Offsets that damage has taken, in order; reads of them are refused.
    pub damaged: Vec<std::ops::Range<Offset>>,
    pub closed: bool,
}

/// How the active segment is held.
#[derive(Debug)]
pub(super) enum Appender {
    /// No descriptor, no buffer; the file has its exact length.
    Parked,
    /// Open for appends.
    Ready(Box<Ready>),
}

#[derive(Debug)]
pub(super) struct Ready {
    pub file: Rc<File>,
    /// How far the file is preallocated.
    pub allocated: u64,
    /// How much is preallocated in one go.
    pub pace: Pace,
    /// Which of its blocks are written.
    pub ahead: Ahead,
    pub open: Option<OpenUnit>,
    /// Sealed and not yet on the way to its segment.
    pub queue: VecDeque<Sealed>,
    /// Bytes of batches in `queue`.
    pub queued_bytes: usize,
    /// Bytes appended that are not known to be durable.
    pub pending_bytes: usize,
    /// Whether the journal comes to it by itself.
    pub enlisted: bool,
    /// The count of logs that share the journal in which this one was counted.
    pub journal_count: u64,
    /// The queue is written up to here, however little it is.
    pub due: Offset,
    /// What is on its way, to the segment or into the journal, ends here.
    pub in_flight_to: Offset,
    pub writing: bool,
    pub growing: bool,
    /// It is being closed: appends wait.
    pub parking: bool,
    /// The bytes of the last, partial block, if the last unit is not in the tail: after opening,
    /// and when memory ran short.
    pub carry: Vec<u8>,
    /// Capacity that the next unit gets at least; follows the rate.
    pub unit_bytes: usize,
    /// When the last append came.
    pub used_ms: TimestampMs,
}

/// The unit that is being filled.
#[derive(Debug)]
pub(super) struct OpenUnit {
    pub unit: Unit,
    pub position: u64,
    pub carry: usize,
    pub base_offset: Offset,
    pub marks: Marks,
    pub pending: Pending,
}

/// A unit on its way to the disk.
#[derive(Debug)]
pub(super) struct Sealed {
    pub unit: SealedUnit,
    pub position: u64,
    /// How many of its first bytes repeat the unit before.
    pub carry: usize,
    pub next_offset: Offset,
    pub pending: Pending,
}

/// How much of a unit is durable, by the journal.
#[derive(Debug)]
pub(super) struct Pending {
    /// Its bytes from here on are not known to be durable.
    pub from: usize,
    /// What is on its way into the journal.
    taken: Option<TakenTo>,
    /// What the appends were made from: it keeps their memory accounted for until it is durable.
    pub guards: Vec<Bytes>,
}

/// How far a unit has been taken into the journal.
#[derive(Clone, Copy, Debug)]
struct TakenTo {
    offset: Offset,
    bytes: usize,
    guards: usize,
}

impl Pending {
    /// Of a unit in which nothing is new but what comes behind so many bytes.
    fn new(from: usize) -> Self {
        Self {
            from,
            taken: None,
            guards: Vec::new(),
        }
    }

    /// What goes into the journal now: all that is pending of a unit of so many bytes, which ends
    /// before `next_offset`.
    pub fn take(&mut self, bytes: usize, next_offset: Offset) -> Range<usize> {
        self.taken = Some(TakenTo {
            offset: next_offset,
            bytes,
            guards: self.guards.len(),
        });
        self.from..bytes
    }

    /// All below `durable` is.
    fn became_durable(&mut self, durable: Offset) {
        if let Some(taken) = self.taken.take_if(|taken| taken.offset <= durable) {
            self.from = taken.bytes;
            self.guards.drain(..taken.guards);
        }
    }

    /// Nothing of it is written any more.
    pub fn give_up(&mut self) {
        self.taken = None;
        self.guards.clear();
    }
}

impl OpenUnit {
    /// Whether the journal has or gets some of it.
    fn was_taken(&self) -> bool {
        self.pending.from > self.carry || self.pending.taken.is_some()
    }

    /// Bytes of batches in it that are not known to be durable.
    pub fn pending_bytes(&self) -> usize {
        self.unit.len() - self.pending.from
    }
}

impl Sealed {
    /// Bytes of batches that only it holds.
    pub fn bytes(&self) -> usize {
        self.unit.len() - self.carry
    }

    /// Bytes of batches in it that are not known to be durable.
    pub fn pending_bytes(&self) -> usize {
        self.unit.len() - self.pending.from
    }
}

/// A write to the segment.
#[derive(Debug)]
pub(super) struct Write {
    /// Whole blocks.
    pub parts: Vec<Part>,
    /// Where they go.
    pub position: u64,
    /// The offset after the last batch in them.
    pub next_offset: Offset,
    /// How many zeros go behind them.
    pub zero_bytes: usize,
    /// Dropped when it has completed.
    pub guards: Vec<Bytes>,
}

/// What the journal holds of a log goes into its segment once it is so much: large writes cost
/// little.
const SETTLE_BYTES: usize = 1 << 20;
/// A write has so many parts at most.
const PARTS_MAX: usize = 64;
/// The smallest unit.
const UNIT_BYTES_MIN: usize = BLOCK_BYTES as usize;
/// A unit grows to this; a larger batch gets a unit of its own.
const UNIT_BYTES_MAX: usize = 1 << 20;
/// One that is filled little by little, over several commits of the journal, grows to this: there
/// may be one for each log.
const SLOW_UNIT_BYTES_MAX: usize = 64 << 10;
/// Bytes copied and checked in one go, so that the check finds them in the first-level cache.
const COPY_BYTES: usize = 16 << 10;

impl Log {
    pub(super) fn new(
        shard: Rc<ShardStorage>,
        path: PathBuf,
        identity: String,
        config: LogConfig,
        state: State,
    ) -> Rc<Self> {
        assert!(!state.segments.is_empty());
        let name_bytes = path.file_name().map_or(0, |name| name.len());
        let name_at = path.as_os_str().len() - name_bytes;
        Rc::new(Self {
            number: shard.next_log_number(),
            site: shard.site_of(&path),
            shard,
            name_at,
            path,
            journaled: Journaled::default(),
            config: RefCell::new(Rc::new(config)),
            state: RefCell::new(state),
            transition: Semaphore::new(1),
            files: Semaphore::new(1),
            on_progress: RefCell::new(None),
            waiting: RefCell::default(),
            progress: Cell::new(0),
            identity,
            deleted: RefCell::default(),
        })
    }

    /// Has `listener` told of every move of a frontier from now on.
    pub fn listen(&self, listener: Rc<dyn ProgressListener>) {
        *self.on_progress.borrow_mut() = Some(listener);
    }

    /// Waits until a task behind the log has got something done, or the log has failed.
    pub(super) async fn next_progress(&self) {
        let before = self.progress.get();
        poll_fn(|context| {
            if self.progress.get() != before {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Lets those know who wait for [`Log::next_progress`], and nobody else.
    pub(super) fn wake_waiting(&self) {
        self.progress.set(self.progress.get() + 1);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn progressed(&self) {
        self.wake_waiting();
        let listener = self.on_progress.borrow().clone();
        if let Some(listener) = listener {
            listener.progressed();
        }
    }

    /// The first offset that is kept.
    pub fn start(&self) -> Offset {
        self.state.borrow().start
    }

    /// The offset that the next record gets.
    pub fn end(&self) -> Offset {
        self.state.borrow().end
    }

    /// All below it has been written: it survives the broker's death.
    pub fn written(&self) -> Offset {
        self.state.borrow().written
    }

    /// All below it has been synced: it survives a power loss.
    pub fn durable(&self) -> Offset {
        self.state.borrow().durable
    }

    /// Bytes of batches that are kept.
    pub fn size_bytes(&self) -> u64 {
        self.state
            .borrow()
            .segments
            .iter()
            .map(|segment| segment.size)
            .sum()
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.state.borrow().segments.len()
    }

    /// Every record below it is acknowledged at whatever acks, and may be shown: the durable
    /// frontier, or the written one where the file was opened never to be synced. Never goes back.
    pub fn acknowledged(&self) -> Offset {
        let state = self.state.borrow();
        match &state.appender {
            // What is in the file came while the settings said never to sync, whatever they say
            // now: nothing more is appended to it once they say otherwise.
            Appender::Ready(ready) if !ready.file.syncs_writes() => state.written,
            _ => state.durable,
        }
    }

    /// The settings in force.
    pub fn config(&self) -> Rc<LogConfig> {
        self.config.borrow().clone()
    }

    /// Puts other settings in force; a roll that they ask for comes with the next append. What was
    /// not synced is, if they now say so.
    pub fn reconfigure(self: &Rc<Self>, config: LogConfig) {
        *self.config.borrow_mut() = Rc::new(config);
        if self.syncs_writes() && self.is_open_unsynced() {
            let log = Rc::clone(self);
            self.shard.spawn(async move {
                // A failure has been told, and whoever waits for the log meets it too.
                let Ok(_transition) = log.begin_transition().await else {
                    return;
                };
                let _settled = log.settle().await;
            });
        }
    }

    /// The log directory that it is in.
    pub fn directory(&self) -> &LogDirectory {
        &self.site.directory
    }

    /// The partition's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the partition's directory.
    pub(super) fn name(&self) -> &[u8] {
        &self.path.as_os_str().as_bytes()[self.name_at..]
    }

    /// What its `partition.metadata` says.
    pub(super) fn identity(&self) -> &[u8] {
        self.identity.as_bytes()
    }

    /// An error if appends cannot be taken any more.
    pub fn check(&self) -> Result<(), LogError> {
        if self.state.borrow().closed {
            return Err(LogError::Closed);
        }
        self.site.directory.check()
    }

    pub(super) fn syncs_writes(&self) -> bool {
        self.config.borrow().syncs_writes
    }

    /// Whether what is written becomes durable by a sync only.
    pub(super) fn is_open_unsynced(&self) -> bool {
        match &self.state.borrow().appender {
            Appender::Ready(ready) => !ready.file.syncs_writes(),
            Appender::Parked => false,
        }
    }

    /// Whether the log is open, but not as the settings now say.
    pub(super) fn is_open_otherwise(&self) -> bool {
        match &self.state.borrow().appender {
            Appender::Ready(ready) => ready.file.syncs_writes() != self.syncs_writes(),
            Appender::Parked => false,
        }
    }

    /// Whether a batch can be appended right now. Where not, [`Log::prepare`] makes room or says
    /// why there is none.
    pub fn has_room(&self, incoming: Incoming) -> bool {
        let state = self.state.borrow();
        if state.closed || self.site.directory.failure().is_some() {
            return false;
        }
        let Appender::Ready(ready) = &state.appender else {
            return false;
        };
        let segment = state.active();
        let needed = (segment.size + incoming.bytes as u64).next_multiple_of(BLOCK_BYTES);
        !ready.parking
            && needed <= ready.allocated
            && ready.file.syncs_writes() == self.syncs_writes()
            && !self.must_roll(&state, incoming)
    }

    /// Kafka's `LogSegment.shouldRoll`: a segment's age is told by its records, from its first
    /// batch to the one that comes, so that old records copied today share segments as they did.
    pub(super) fn must_roll(&self, state: &State, incoming: Incoming) -> bool {
        let config = self.config.borrow();
        let segment = state.active();
        if segment.size == 0 {
            return false;
        }
        let full = segment.size + incoming.bytes as u64 > config.segment_bytes;
        let age = match segment.first_timestamp {
            Some(first) if first >= 0 => incoming.timestamp.saturating_sub(first),
            _ => incoming.now.saturating_sub(segment.changed_ms),
        };
        let old = age > config.segment_ms;
        let indexed = u64::from(segment.index.entries() + 1) * 12 > config.segment_index_bytes;
        let offsets = state.end.0 - segment.base_offset.0 > i64::from(i32::MAX / 2);
        full || old || indexed || offsets
    }

    /// Appends one batch. It is copied, its CRC computed on the way, and `check` sees the copy with
    /// the CRC of its bytes from the attributes on: it may patch the copy, and says what the batch
    /// is, or refuses it, which leaves no trace. `guard` is kept until the batch is written.
    ///
    /// Returns the offset of its first record.
    ///
    /// # Panics
    /// If [`Log::has_room`] is not true for it.
    pub fn append<E>(
        self: &Rc<Self>,
        batch: &[u8],
        now: TimestampMs,
        guard: Option<Bytes>,
        check: impl FnOnce(&mut [u8], u32) -> Result<Assigned, E>,
    ) -> Result<Offset, E> {
        let mut borrow = self.state.borrow_mut();
        let state = &mut *borrow;
        let Appender::Ready(ready) = &mut state.appender else {
            panic!("no room was made")
        };
        let segment = state.segments.back_mut().expect("a log has a segment");
        assert!(
            segment.size + batch.len() as u64 <= ready.allocated,
            "no room was made"
        );
        if ready
            .open
            .as_ref()
            .is_some_and(|open| open.unit.room() < batch.len())
        {
            let was_taken = ready.open.as_ref().is_some_and(OpenUnit::was_taken);
            let sealed = ready.seal(self, segment.base_offset, state.end);
            state.tail.push_back(sealed);
            ready.grow_unit(was_taken);
        }
        let begins_unit = ready.open.is_none();
        if begins_unit {
            ready.begin_unit(&self.shard, segment, &state.tail, state.end, batch.len());
        }
        let open = ready.open.as_mut().expect("just opened");
        let copy = open.unit.spare(batch.len());
        let crc = copy_with_crc(batch, copy);
        let assigned = match check(copy, crc) {
            Ok(assigned) => assigned,
            Err(refused) => {
                if begins_unit {
                    // Nothing would ever write it, and no budget counts it.
                    ready.open = None;
                }
                return Err(refused);
            }
        };
        copy[..8].copy_from_slice(&state.end.0.to_be_bytes());
        copy[12..16].copy_from_slice(&assigned.leader_epoch.0.to_be_bytes());
        open.marks.note(state.end, open.unit.len());
        open.unit.commit(batch.len());
        open.pending.guards.extend(guard);
        ready.pending_bytes += batch.len();
        segment.append(
            state.end,
            batch.len(),
            &assigned,
            self.config.borrow().index_interval_bytes,
        );
        ready.used_ms = now;
        ready.pace.appended(batch.len() as u64);
        let base = state.end;
        state.end = base.plus(assigned.offsets);
        // What is under way comes back to it.
        let is_seen_to = ready.enlisted || (ready.writing && ready.in_flight_to > state.durable);
        drop(borrow);
        self.shard.appended(batch.len());
        if !is_seen_to {
            self.go_on();
        }
        Ok(base)
    }

    /// When the last append came, if the log is open and not about to be parked.
    pub(super) fn used_ms(&self) -> Option<TimestampMs> {
        match &self.state.borrow().appender {
            Appender::Ready(ready) if !ready.parking => Some(ready.used_ms),
            _ => None,
        }
    }

    /// Drops the oldest unit of the tail if it may go.
    pub(super) fn drop_oldest_unit(&self) {
        let mut state = self.state.borrow_mut();
        let settled = state.settled;
        let is_settled = |unit: &mut TailUnit| unit.next_offset <= settled;
        let Some(dropped) = state.tail.pop_front_if(is_settled) else {
            return;
        };
        let State { tail, appender, .. } = &mut *state;
        if let Appender::Ready(ready) = appender
            && tail.is_empty()
            && ready.open.is_none()
        {
            // The next unit begins with the partial block that this one ended with.
            let bytes = dropped.unit.as_bytes();
            ready.carry = bytes[bytes.len() - bytes.len() % BLOCK_BYTES as usize..].to_vec();
        }
    }
}

impl State {
    /// Base offset of the oldest segment.
    pub(super) fn first_base(&self) -> Offset {
        self.segments
            .front()
            .expect("a log has a segment")
            .base_offset
    }

    pub(super) fn active(&self) -> &Segment {
        self.segments.back().expect("a log has a segment")
    }
}

impl Ready {
    /// Of a file that holds `size` bytes, the last of them `carry`, and has no room for more.
    pub(super) fn new(file: Rc<File>, size: u64, carry: Vec<u8>, now: TimestampMs) -> Self {
        Self {
            file,
            allocated: size,
            pace: Pace::new(now),
            ahead: Ahead::new(size),
            open: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            pending_bytes: 0,
            enlisted: false,
            journal_count: 0,
            due: Offset(0),
            in_flight_to: Offset(0),
            writing: false,
            growing: false,
            parking: false,
            carry,
            unit_bytes: UNIT_BYTES_MIN,
            used_ms: now,
        }
    }

    /// Begins a unit where the segment ends, with the bytes of the partial block before.
    fn begin_unit(
        &mut self,
        shard: &ShardStorage,
        segment: &Segment,
        tail: &VecDeque<TailUnit>,
        base_offset: Offset,
        batch_bytes: usize,
    ) {
        let carry = (segment.size % BLOCK_BYTES) as usize;
        let capacity = self
            .unit_bytes
            .max((carry + batch_bytes).next_power_of_two());
        let mut unit = shard.units.unit(capacity.max(UNIT_BYTES_MIN));
        let before = match tail.back() {
            Some(last) if last.segment == segment.base_offset => last.unit.as_bytes(),
            _ => &self.carry,
        };
        unit.spare(carry)
            .copy_from_slice(&before[before.len() - carry..]);
        unit.commit(carry);
        self.open = Some(OpenUnit {
            unit,
            position: segment.size - carry as u64,
            carry,
            base_offset,
            marks: Marks::default(),
            pending: Pending::new(carry),
        });
    }

    /// A unit was full. Of those that are filled between two commits there are few.
    fn grow_unit(&mut self, was_taken: bool) {
        let bytes_max = match was_taken {
            true => SLOW_UNIT_BYTES_MAX.max(self.unit_bytes),
            false => UNIT_BYTES_MAX,
        };
        self.unit_bytes = (self.unit_bytes * 2).min(bytes_max);
    }

    /// Whether something of it is to go into its segment now.
    pub(super) fn must_write(&self, settled: Offset, by_journal: bool) -> bool {
        (self.pending_bytes > 0 && !by_journal)
            || self.due > settled
            || self.queued_bytes >= SETTLE_BYTES
            || self.queue.len() >= PARTS_MAX
    }

    /// Takes what is to be written next out of the queue: units that follow each other.
    pub(super) fn take_write(&mut self) -> Option<Write> {
        let mut sealed = self.queue.pop_front()?;
        let position = sealed.position;
        let mut write = Write {
            parts: Vec::new(),
            position,
            next_offset: sealed.next_offset,
            zero_bytes: 0,
            guards: Vec::new(),
        };
        let mut end = position;
        loop {
            // A unit repeats the partial block that the one before ends with.
            if let Some(last) = write.parts.last_mut() {
                last.cut(last.bytes() - (end - sealed.position) as usize);
            }
            self.queued_bytes -= sealed.bytes();
            let bytes = sealed.unit.padded_len();
            write.parts.push(Part::new(sealed.unit.for_write(), bytes));
            end = sealed.position + bytes as u64;
            write.next_offset = sealed.next_offset;
            write.guards.append(&mut sealed.pending.guards);
            let fits = |next: &mut Sealed| {
                next.position + next.unit.padded_len() as u64 - position <= UNIT_BYTES_MAX as u64
            };
            match self.queue.pop_front_if(fits) {
                Some(next) if write.parts.len() < PARTS_MAX => sealed = next,
                Some(next) => {
                    self.queue.push_front(next);
                    break;
                }
                None => break,
            }
        }
        write.parts.retain(|part| part.bytes() > 0);
        write.zero_bytes = self.ahead.zeros(position, end - position, self.allocated);
        self.in_flight_to = self.in_flight_to.max(write.next_offset);
        Some(write)
    }

    /// All below `durable` is: nothing of it is pending any more.
    pub(super) fn became_durable(&mut self, durable: Offset) {
        self.pending_bytes = 0;
        if let Some(open) = &mut self.open {
            open.pending.became_durable(durable);
            self.pending_bytes += open.pending_bytes();
        }
        // Durable is a prefix of the log.
        for sealed in self.queue.iter_mut().rev() {
            sealed.pending.became_durable(durable);
            if sealed.next_offset <= durable {
                let was_known = sealed.pending.from == sealed.unit.len();
                sealed.pending.from = sealed.unit.len();
                sealed.pending.give_up();
                if was_known {
                    break;
                }
            }
            self.pending_bytes += sealed.pending_bytes();
        }
    }

    /// Ends the open unit and puts it into the queue.
    pub(super) fn seal(&mut self, log: &Rc<Log>, segment: Offset, next_offset: Offset) -> TailUnit {
        let open = self.open.take().expect("a unit to seal");
        let unit = open.unit.seal(&log.shard.units);
        if unit.len() <= unit.memory_bytes() / 4 {
            self.unit_bytes = (self.unit_bytes / 2).max(UNIT_BYTES_MIN);
        }
        self.carry = Vec::new();
        let memory_bytes = unit.memory_bytes();
        self.queued_bytes += unit.len() - open.carry;
        self.queue.push_back(Sealed {
            unit: unit.clone(),
            position: open.position,
            carry: open.carry,
            next_offset,
            pending: open.pending,
        });
        TailUnit {
            unit,
            segment,
            position: open.position,
            carry: open.carry,
            base_offset: open.base_offset,
            next_offset,
            marks: open.marks,
            place: log.shard.tails.place(log, memory_bytes),
        }
    }
}

/// Copies a batch and computes the CRC of the part that Kafka's covers.
fn copy_with_crc(batch: &[u8], copy: &mut [u8]) -> u32 {
    let head = ATTRIBUTES_AT.min(batch.len());
    copy[..head].copy_from_slice(&batch[..head]);
    let mut crc = 0;
    for (from, to) in batch[head..]
        .chunks(COPY_BYTES)
        .zip(copy[head..].chunks_mut(COPY_BYTES))
    {
        to.copy_from_slice(from);
        crc = crc32c::crc32c_append(crc, to);
    }
    crc
}
