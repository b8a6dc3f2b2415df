//! What is little of many logs, made durable by one write: the shard's journal. One shard's alone.
//!
//! A direct write that completes when it is durable costs about the same for 100 bytes as for
//! 100 KiB. So what logs have pending, where that is little, goes together into one file, and into
//! the segments later, when there is more of it: `kernel-notes/sync.md`. Two files take turns. When
//! one is full, what it holds is written to the segments, while the other one is filled; then it is
//! free. Where neither is, logs are written to their segments at once, as without a journal.
//!
//! What must stay true:
//! - each commit holds all of a log from where it is durable on, so commits may complete in any
//!   order;
//! - a file is written again only when all that it holds is in its segments, durably;
//! - what a commit holds of a log is in memory until it is in its segment;
//! - after a start that is not clean the files are replayed before anything else is read, and
//!   removed after any; before a clean stop it is closed, and then all is written to the segments;
//! - a segment that is no longer its log's last one was complete and durable when the next was
//!   made: what is replayed into it, if it is still there, is what it holds. Whoever changes what
//!   stands in a segment, or cuts one, has to have the journal's files turned first.

#[cfg(feature = "faults")]
pub mod format;
pub mod replay;

#[cfg(not(feature = "faults"))]
mod format;

use std::cell::{Cell, Ref, RefCell};
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::base::ids::{Offset, ShardId};
use crate::base::limits::BLOCK_BYTES;
use crate::runtime::{DmaBuffer, Part, TaskQueue, yield_now};

use super::ahead::ZEROS_BYTES_MAX;
use super::directory::LogDirectory;
use super::error::FileError;
use super::file::File;
use super::layout;
use super::log::Log;
use super::unit::{SealedUnit, Unit};
pub(super) use format::is_beside;
use format::{CommitSize, Entry, Secret};

/// A journal of a shard.
#[derive(Clone, Copy, Debug)]
pub struct JournalLimits {
    /// Whose it is.
    pub shard: ShardId,
    /// What each of the two files holds, in bytes: whole blocks, at least 4 MiB.
    pub file_bytes: u64,
    /// The memory that what is in one file may take, in bytes.
    pub memory_bytes_max: usize,
    /// After so many small writes to segments the files are made.
    pub made_after_writes: u64,
}

/// Where bytes of a log belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Base offset of the segment.
    pub segment: Offset,
    /// Where in its file.
    pub position: u64,
}

/// More than so much of a log that is pending goes straight into its segment; less, where many logs
/// share the journal, but never less than a block.
const PENDING_MAX: usize = 512 << 10;
const PENDING_MIN: usize = BLOCK_BYTES as usize;
/// So many times what a log has pending is to become one write to its segment.
const WRITES_JOINED: u64 = 4;
/// No more logs join a commit once it has so many bytes.
const COMMIT_BYTES: usize = 1 << 20;
/// What a commit may take with the last log that joined it.
const COMMIT_BYTES_MAX: u64 = 2 << 20;

/// So many commits are in flight at a time, as a rule of different logs: with one alone, what comes
/// just after it was begun would wait for it and for its own.
const IN_FLIGHT_MAX: u32 = 2;
/// A commit is not begun while more logs come, from one look at the ring to the next: so a shard
/// with much to do makes few, and one with little to do waits for nothing.
const GATHERED_LOGS_MAX: usize = 64;
/// Nor does it wait for longer, which is about what its write takes.
const GATHERING_MAX: Duration = Duration::from_micros(300);
/// Where there was no room for the files, it is looked for again after so many writes.
const WRITES_BEFORE_RETRY: u64 = 100_000;
/// So many logs are written out of a full file at a time, so that commits come between.
const LANES: u32 = 8;

/// The journal of a shard.
#[derive(Debug)]
pub(super) struct Journal {
    directory: LogDirectory,
    limits: Option<JournalLimits>,
    queue: TaskQueue,
    phase: Cell<Phase>,
    files: RefCell<Vec<JournalFile>>,
    active: Cell<usize>,
    /// Logs with something pending, in the order in which they came.
    enlisted: RefCell<Vec<Weak<Log>>>,
    /// Tasks that commit, each with one commit in flight at most.
    committing: Cell<u32>,
    /// Whether one of them waits for more to come.
    gathering: Cell<bool>,
    sequence: Cell<u64>,
    share: Share,
}

/// How many logs share the journal, and so how much of each may go through it: what is written from
/// it to a segment is to be several times what went into it at once, or nothing is won. Counted
/// over as many bytes as a file holds.
#[derive(Debug)]
struct Share {
    /// Names the present count; from 1.
    count: Cell<u64>,
    bytes: Cell<u64>,
    logs: Cell<u64>,
    logs_before: Cell<u64>,
    pending_max: Cell<usize>,
}

impl Share {
    fn new() -> Self {
        Self {
            count: Cell::new(1),
            bytes: Cell::new(0),
            logs: Cell::new(0),
            logs_before: Cell::new(0),
            pending_max: Cell::new(PENDING_MAX),
        }
    }

    /// A log that was last counted in `counted` has pending what takes so many bytes of a file.
    fn note(&self, counted: &mut u64, bytes: usize, file_bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes as u64);
        if self.bytes.get() >= file_bytes {
            self.bytes.set(0);
            self.logs_before.set(self.logs.replace(0));
            self.count.set(self.count.get() + 1);
        }
        if std::mem::replace(counted, self.count.get()) != self.count.get() {
            self.logs.set(self.logs.get() + 1);
        }
        let logs = self.logs.get().max(self.logs_before.get());
        let share = (file_bytes / logs.max(1) / WRITES_JOINED) as usize;
        self.pending_max.set(share.clamp(PENDING_MIN, PENDING_MAX));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There are no files, until so many more writes would have been spared by them.
    Absent(u64),
    Making,
    Open,
    /// Neither file is free.
    Full,
    /// The shard stops: all goes to the segments.
    Closed,
}

#[derive(Debug)]
struct JournalFile {
    file: Rc<File>,
    secret: Secret,
    /// Where the next commit goes.
    position: u64,
    /// Whether nothing that it holds is needed.
    is_free: bool,
    /// Memory of the units in it, in bytes.
    memory_bytes: usize,
    /// How many times it was filled.
    fills: u64,
    /// The logs that are in it; each knows how far.
    logs: Vec<Weak<Log>>,
}

/// How far a log is in each of the files.
pub(super) type Journaled = [Reached; 2];

/// How far a log is in one file.
#[derive(Debug, Default)]
pub(super) struct Reached {
    /// In which filling of the file, from 1.
    fill: Cell<u64>,
    offset: Cell<Offset>,
}

/// A commit on its way to the disk.
struct Commit {
    file: Rc<File>,
    position: u64,
    parts: Vec<Part>,
    logs: Vec<(Rc<Log>, Offset)>,
}

/// What goes into a commit of a unit of a log.
pub(super) struct Taken {
    /// Where the bytes belong.
    pub at: At,
    /// None is the log's open unit, which goes on being filled: little of it is taken, and copied.
    pub unit: Option<SealedUnit>,
    /// Which of its bytes.
    pub range: Range<usize>,
    /// What the unit takes if none of it was taken before, in bytes.
    pub memory_bytes: usize,
}

impl Taken {
    /// What lies in the first block of its bytes before them.
    fn carry(&self) -> usize {
        self.range.start % BLOCK_BYTES as usize
    }

    /// The blocks that go beside the head of the commit as they are, if they do.
    fn beside(&self) -> Option<Part> {
        let unit = self.unit.as_ref()?;
        let blocks = self.range.start - self.carry()..unit.padded_len();
        is_beside(self.range.len()).then(|| Part::of(unit.for_write(), blocks))
    }
}

/// The bytes of a unit, lent while a commit is put together.
enum Lent<'a> {
    Sealed(&'a SealedUnit),
    Open(Ref<'a, Unit>),
}

impl<'a> Lent<'a> {
    fn of(log: &'a Log, taken: &'a Taken) -> Self {
        match &taken.unit {
            Some(unit) => Self::Sealed(unit),
            None => Self::Open(log.open_unit()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sealed(unit) => unit.as_bytes(),
            Self::Open(unit) => unit.as_bytes(),
        }
    }
}

impl Journal {
    /// A journal in `directory`, whose files are made when it is worth it.
    pub fn new(
        directory: LogDirectory,
        limits: Option<JournalLimits>,
        queue: TaskQueue,
    ) -> Rc<Self> {
        let made_after = limits.map_or(0, |limits| limits.made_after_writes);
        Rc::new(Self {
            // Where writes go through the page cache nothing is known of what they cost.
            limits: limits.filter(|_| directory.is_direct()),
            directory,
            queue,
            phase: Cell::new(Phase::Absent(made_after)),
            files: RefCell::default(),
            active: Cell::new(0),
            enlisted: RefCell::default(),
            committing: Cell::new(0),
            gathering: Cell::new(false),
            sequence: Cell::new(0),
            share: Share::new(),
        })
    }

    /// Whether it takes what is pending.
    pub fn is_open(&self) -> bool {
        self.phase.get() == Phase::Open && self.directory.failure().is_none()
    }

    /// Whether it takes so many bytes of one log.
    pub fn takes(&self, pending_bytes: usize) -> bool {
        pending_bytes <= self.share.pending_max.get() && self.is_open()
    }

    /// A log has so many bytes pending, which go here or to its segment. `counted` is the log's, 0
    /// at first.
    pub fn note(&self, counted: &mut u64, pending_bytes: usize) {
        let limits = self.limits.filter(|_| pending_bytes <= PENDING_MAX);
        if let Some(limits) = limits {
            let taken_bytes = format::taken_by(pending_bytes);
            self.share.note(counted, taken_bytes, limits.file_bytes);
        }
    }

    /// Takes nothing more, for good. What it holds goes to the segments when the logs are parked.
    pub fn close(&self) {
        self.phase.set(Phase::Closed);
    }

    /// Whether something of it is under way.
    #[cfg(test)]
    pub fn is_busy(&self) -> bool {
        self.committing.get() > 0 || self.phase.get() == Phase::Making
    }

    /// So much goes to a segment at once: a small write the journal would have spared.
    pub fn passed_by(self: &Rc<Self>, bytes: usize) {
        if bytes > PENDING_MAX {
            return;
        }
        let (Phase::Absent(writes), Some(limits)) = (self.phase.get(), self.limits) else {
            return;
        };
        if writes > 1 {
            return self.phase.set(Phase::Absent(writes - 1));
        }
        self.phase.set(Phase::Making);
        let journal = Rc::clone(self);
        self.queue.detach(async move { journal.make(limits).await });
    }

    /// Comes to `log` with the next commit, by [`Log::take_pending`].
    pub fn enlist(self: &Rc<Self>, log: &Rc<Log>) {
        self.enlisted.borrow_mut().push(Rc::downgrade(log));
        self.start_committing();
    }

    fn start_committing(self: &Rc<Self>) {
        if !self.gathering.get() && self.committing.get() < IN_FLIGHT_MAX {
            self.committing.set(self.committing.get() + 1);
            let journal = Rc::clone(self);
            self.queue.detach(async move { journal.commit_all().await });
        }
    }

    /// Makes the files, of blocks that are written.
    async fn make(self: Rc<Self>, limits: JournalLimits) {
        match self.make_files(limits).await {
            Ok(files) => {
                *self.files.borrow_mut() = files;
                if self.phase.get() == Phase::Making {
                    self.phase.set(Phase::Open);
                }
            }
            Err(error) => {
                let removed = match error.is_no_room() || error.is_no_descriptor() {
                    true => self.remove_files(limits).await,
                    false => Err(error),
                };
                match removed {
                    Ok(()) => tracing::warn!(
                        "no room for a journal of small appends: each is a write of its own"
                    ),
                    Err(error) => self.directory.fail(&error),
                }
                if self.phase.get() == Phase::Making {
                    self.phase.set(Phase::Absent(WRITES_BEFORE_RETRY));
                }
            }
        }
    }

    async fn make_files(&self, limits: JournalLimits) -> Result<Vec<JournalFile>, FileError> {
        let mut zeros = DmaBuffer::new(ZEROS_BYTES_MAX);
        zeros.as_bytes_mut().fill(0);
        let zeros = Rc::new(zeros);
        let secret = *uuid::Uuid::new_v4().as_bytes();
        let mut files = Vec::new();
        for index in 0..2 {
            let name = layout::journal_file(limits.shard, index);
            let path = self.directory.path().join(name);
            let file = File::create(&self.directory, &path, true).await?;
            file.preallocate(0, limits.file_bytes).await?;
            let mut position = 0;
            while position < limits.file_bytes {
                let bytes = (limits.file_bytes - position).min(ZEROS_BYTES_MAX as u64);
                let part = Part::new(Rc::clone(&zeros), bytes as usize);
                file.write(vec![part], position).await?;
                position += bytes;
            }
            let head = format::encode_head(&secret);
            let length = head.len();
            file.write(vec![Part::new(Rc::new(head), length)], 0)
                .await?;
            files.push(JournalFile {
                file: Rc::new(file),
                secret,
                position: BLOCK_BYTES,
                is_free: true,
                memory_bytes: 0,
                fills: 1,
                logs: Vec::new(),
            });
        }
        let synced = self
            .directory
            .off_reactor(|directory| directory.sync_directory(directory.path()));
        synced.await?;
        Ok(files)
    }

    async fn remove_files(&self, limits: JournalLimits) -> Result<(), FileError> {
        let removed = self.directory.off_reactor(move |directory| {
            (0..2).try_for_each(|index| {
                let name = layout::journal_file(limits.shard, index);
                directory.remove_file(&directory.path().join(name))
            })
        });
        removed.await
    }

    /// Commits what logs have pending, and what has gathered meanwhile, until there is nothing.
    async fn commit_all(self: Rc<Self>) {
        while self.gather().await
            && let Some(commit) = self.next_commit()
        {
            let written = commit.file.write(commit.parts, commit.position).await;
            if let Err(error) = &written {
                self.directory.fail(error);
            }
            for (log, next_offset) in commit.logs {
                match &written {
                    Ok(()) => log.journaled(next_offset),
                    // What it can still do is to tell those who wait.
                    Err(_) => log.go_on(),
                }
            }
        }
    }

    /// Waits while more logs come. Ends the task if another one does that.
    async fn gather(&self) -> bool {
        if self.gathering.replace(true) {
            self.committing.set(self.committing.get() - 1);
            return false;
        }
        let began = Instant::now();
        let mut logs = 0;
        loop {
            let before = std::mem::replace(&mut logs, self.enlisted.borrow().len());
            if logs == before || logs >= GATHERED_LOGS_MAX || began.elapsed() >= GATHERING_MAX {
                break;
            }
            yield_now().await;
        }
        self.gathering.set(false);
        true
    }

    /// The next commit; ends the task if there is none.
    fn next_commit(self: &Rc<Self>) -> Option<Commit> {
        if self.is_open() && !self.has_room() {
            // Another commit is still to come to the file: who makes that one turns.
            if self.committing.get() > 1 {
                self.committing.set(self.committing.get() - 1);
                return None;
            }
            self.turn();
        }
        let mut logs = Vec::new();
        let mut taken: Vec<(Rc<Log>, Taken)> = Vec::new();
        let mut size = CommitSize::new();
        loop {
            // Those that find it closed go to their segments, and those that come back wait.
            let enlisted = self.enlisted.take();
            let mut rest = enlisted.into_iter();
            for log in rest.by_ref().filter_map(|log| log.upgrade()) {
                let goes_to = log.take_pending(|part| {
                    let (name, identity) = (log.name(), log.identity());
                    size.add(name, identity, part.carry(), part.range.len());
                    taken.push((Rc::clone(&log), part));
                });
                logs.extend(goes_to.map(|next_offset| (log, next_offset)));
                if size.bytes() >= COMMIT_BYTES {
                    break;
                }
            }
            let mut enlisted = self.enlisted.borrow_mut();
            let came_back = std::mem::take(&mut *enlisted);
            enlisted.extend(rest);
            enlisted.extend(came_back);
            if !taken.is_empty() || enlisted.is_empty() {
                break;
            }
        }
        if taken.is_empty() {
            self.committing.set(self.committing.get() - 1);
            return None;
        }
        if !self.enlisted.borrow().is_empty() {
            // More than one commit takes.
            self.start_committing();
        }
        Some(self.put_together(&taken, size, logs))
    }

    fn put_together(
        &self,
        taken: &[(Rc<Log>, Taken)],
        size: CommitSize,
        logs: Vec<(Rc<Log>, Offset)>,
    ) -> Commit {
        assert!(size.bytes() as u64 <= COMMIT_BYTES_MAX, "a commit has room");
        let sequence = self.sequence.get() + 1;
        self.sequence.set(sequence);
        let lent = taken.iter().map(|(log, part)| Lent::of(log, part));
        let lent: Vec<_> = lent.collect();
        let entries = taken.iter().zip(&lent).map(|((log, part), lent)| {
            let entry = Entry {
                name: log.name(),
                identity: log.identity(),
                at: part.at,
                bytes: &lent.as_bytes()[part.range.clone()],
            };
            (entry, part.carry())
        });
        let active = self.active.get();
        let mut files = self.files.borrow_mut();
        let file = &mut files[active];
        let head = format::encode(&file.secret, sequence, entries, size);
        let length = head.len();
        let mut parts = vec![Part::new(Rc::new(head), length)];
        // The blocks that go to the segment later go here as they are.
        parts.extend(taken.iter().filter_map(|(_, part)| part.beside()));
        let position = file.position;
        file.position += size.bytes() as u64;
        file.is_free = false;
        let memory = taken.iter().map(|(_, part)| part.memory_bytes);
        file.memory_bytes += memory.sum::<usize>();
        for (log, next_offset) in &logs {
            let reached = &log.journaled[active];
            reached.offset.set(*next_offset);
            if reached.fill.replace(file.fills) != file.fills {
                file.logs.push(Rc::downgrade(log));
            }
        }
        Commit {
            file: Rc::clone(&file.file),
            position,
            parts,
            logs,
        }
    }

    fn has_room(&self) -> bool {
        let files = self.files.borrow();
        let file = &files[self.active.get()];
        self.limits.is_some_and(|limits| {
            file.position + COMMIT_BYTES_MAX <= limits.file_bytes
                && file.memory_bytes < limits.memory_bytes_max
        })
    }

    /// Goes on in the other file if it is free, and frees the one that is full.
    fn turn(self: &Rc<Self>) {
        let full = self.active.get();
        let other = 1 - full;
        let logs = {
            let mut files = self.files.borrow_mut();
            if !files[other].is_free {
                self.phase.set(Phase::Full);
                return;
            }
            self.active.set(other);
            std::mem::take(&mut files[full].logs)
        };
        let logs = Rc::new(RefCell::new(logs.into_iter()));
        let lanes = Rc::new(Cell::new(LANES));
        for _ in 0..LANES {
            let (journal, logs, lanes) = (Rc::clone(self), Rc::clone(&logs), Rc::clone(&lanes));
            self.queue.detach(async move {
                loop {
                    let next = logs.borrow_mut().next();
                    let Some(log) = next else { break };
                    if let Some(log) = log.upgrade() {
                        let reached = log.journaled[full].offset.get();
                        log.write_out(reached);
                        log.written_out(reached).await;
                    }
                }
                lanes.set(lanes.get() - 1);
                if lanes.get() == 0 {
                    journal.freed(full);
                }
            });
        }
    }

    fn freed(&self, index: usize) {
        let file = &mut self.files.borrow_mut()[index];
        file.position = BLOCK_BYTES;
        file.memory_bytes = 0;
        file.fills += 1;
        file.is_free = true;
        if self.phase.get() == Phase::Full {
            self.phase.set(Phase::Open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_logs_share_it_the_less_goes_through() {
        const FILE_BYTES: u64 = 16 << 20;
        let share = Share::new();
        for (logs, pending, most) in [
            (6, 60_000, PENDING_MAX),
            // 262 of them fill a file.
            (1000, 64_096, 16_008),
            (100, 3_000, 41_943),
            (10_000, 1_000, PENDING_MIN),
            (1, 100, PENDING_MAX),
        ] {
            let mut counted = vec![0; logs];
            for turn in 0..3 * FILE_BYTES as usize / pending {
                share.note(&mut counted[turn % logs], pending, FILE_BYTES);
            }
            let got = share.pending_max.get();
            assert!(got.abs_diff(most) <= most / 100, "{logs} logs: {got}");
        }
    }
}
