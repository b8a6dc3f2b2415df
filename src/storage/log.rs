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
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::base::clock::TimestampMs;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::limits::BLOCK_BYTES;
use crate::record::header::ATTRIBUTES_AT;
use crate::runtime::Semaphore;

use super::directory::LogDirectory;
use super::error::LogError;
use super::journal::Journaled;
use super::layout;
use super::ready::{OpenUnit, Ready};
use super::segment::Segment;
use super::shard::ShardStorage;
use super::site::Site;
use super::tail::TailUnit;

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
    /// Whether appends leave the directory's reserve alone, as they do in a client's topic.
    pub(super) keeps_reserve: bool,
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
        let name = &path.as_os_str().as_bytes()[name_at..];
        Rc::new(Self {
            keeps_reserve: !layout::is_own_topic(name),
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
    /// is, or refuses it, which leaves no trace. `guard` is kept until the batch is durable.
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
