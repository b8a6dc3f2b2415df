//! What the logs of one shard share: directories, units, tail budget, descriptors.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::rc::{Rc, Weak};

use crate::base::clock::TimestampMs;
use crate::base::ids::Offset;
use crate::runtime::{DmaBuffer, TaskQueue};

use super::ahead::ZEROS_BYTES_MAX;
use super::directories::LogDirectories;
use super::directory::LogDirectory;
use super::file::File;
use super::journal::JournalLimits;
use super::log::Log;
use super::read_cache::ReadCache;
use super::site::Site;
use super::tail::TailBudget;
use super::unit::UnitHome;

/// How much of the machine a shard's storage may use.
#[derive(Clone, Copy, Debug)]
pub struct StorageLimits {
    /// Bytes of units kept after they were written.
    pub tail_bytes_max: usize,
    /// What is kept of older data that was read, in bytes.
    pub read_cache_bytes_max: usize,
    /// Writes in flight in a directory, of all logs together.
    pub writes_max: u64,
    /// Logs held open for appends.
    pub open_logs_max: usize,
    /// Segments held open for reads.
    pub open_reads_max: usize,
    /// The shard's journal; without it each log is written to its segment at once.
    pub journal: Option<JournalLimits>,
}

/// The storage of one shard.
#[derive(Debug)]
pub struct ShardStorage {
    directories: LogDirectories,
    /// In the order of the directories.
    sites: Vec<Rc<Site>>,
    pub(super) units: UnitHome,
    pub(super) tails: Rc<TailBudget>,
    pub(super) reads: ReadFiles,
    zeros: OnceCell<Rc<DmaBuffer>>,
    pub(super) read_cache: Rc<ReadCache>,
    queue: TaskQueue,
    open_logs_max: usize,
    /// Logs held open, by their numbers.
    open: RefCell<HashMap<u64, Weak<Log>>>,
    appended_bytes: Cell<u64>,
    logs: Cell<u64>,
}

impl ShardStorage {
    /// Storage of the shard that runs on this thread; its tasks run in `queue`. What the limits say
    /// of the journal and of writes holds for those in each directory.
    pub fn new(
        directories: impl Into<LogDirectories>,
        limits: StorageLimits,
        queue: TaskQueue,
    ) -> Rc<Self> {
        let directories = directories.into();
        let site = |directory| Site::new(directory, limits, queue);
        Rc::new(Self {
            sites: directories.all().iter().map(site).collect(),
            directories,
            units: UnitHome::new(),
            tails: TailBudget::new(limits.tail_bytes_max),
            reads: ReadFiles::new(limits.open_reads_max),
            zeros: OnceCell::new(),
            read_cache: ReadCache::new(limits.read_cache_bytes_max, queue),
            queue,
            open_logs_max: limits.open_logs_max,
            open: RefCell::default(),
            appended_bytes: Cell::new(0),
            logs: Cell::new(0),
        })
    }

    /// All log directories.
    pub fn directories(&self) -> &LogDirectories {
        &self.directories
    }

    /// The log directory of the metadata, which is the only one as a rule.
    pub fn directory(&self) -> &LogDirectory {
        self.directories.first()
    }

    /// The directory that a log at `path` is in.
    pub(super) fn site_of(&self, path: &Path) -> Rc<Site> {
        let holds = |site: &&Rc<Site>| path.parent() == Some(site.directory.path());
        let site = self.sites.iter().find(holds);
        Rc::clone(site.unwrap_or(&self.sites[0]))
    }

    /// The journal of the first directory.
    #[cfg(test)]
    pub(super) fn journal(&self) -> &super::journal::Journal {
        &self.sites[0].journal
    }

    /// Bytes that the tails keep in memory.
    pub fn tail_bytes(&self) -> usize {
        self.tails.bytes()
    }

    /// Bytes appended to the shard's logs since it started.
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes.get()
    }

    pub(super) fn appended(&self, bytes: usize) {
        self.read_cache.appended();
        self.appended_bytes
            .set(self.appended_bytes.get() + bytes as u64);
    }

    /// From now on each append goes to its segment at once, and logs that are parked hold all that
    /// was appended to them: before a clean stop.
    pub fn close_journal(&self) {
        self.sites.iter().for_each(|site| site.journal.close());
    }

    pub(super) fn next_log_number(&self) -> u64 {
        self.logs.replace(self.logs.get() + 1)
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.queue.detach(task);
    }

    /// Zeros to write ahead of appends, as many as a write may take along.
    pub(super) fn zeros(&self) -> Rc<DmaBuffer> {
        let zeros = self.zeros.get_or_init(|| {
            let mut zeros = DmaBuffer::new(ZEROS_BYTES_MAX);
            zeros.as_bytes_mut().fill(0);
            Rc::new(zeros)
        });
        Rc::clone(zeros)
    }

    /// A log was opened. Past the bound those are parked that were not written for the longest: an
    /// eighth of all, so that not every log that is opened has to look at all others.
    pub(super) fn opened(&self, log: &Rc<Log>) {
        let mut open = self.open.borrow_mut();
        open.insert(log.number, Rc::downgrade(log));
        if open.len() <= self.open_logs_max {
            return;
        }
        open.retain(|_, log| log.strong_count() > 0);
        let others = open.values().filter_map(Weak::upgrade);
        let mut others: Vec<_> = others
            .filter(|other| !Rc::ptr_eq(other, log))
            .filter_map(|other| Some((other.used_ms()?, other)))
            .collect();
        drop(open);
        let surplus = (others.len() + 1).saturating_sub(self.open_logs_max);
        if surplus > 0 {
            others.sort_by_key(|(used_ms, _)| *used_ms);
            others.truncate(surplus + self.open_logs_max / 8);
            others
                .into_iter()
                .for_each(|(_, other)| self.spawn_park(other));
        }
    }

    /// A log is no longer held open.
    pub(super) fn closed(&self, log: &Log) {
        self.open.borrow_mut().remove(&log.number);
    }

    /// Parks the logs that were not written since `before`, and frees what other shards are done
    /// with.
    pub fn park_idle(&self, before: TimestampMs) {
        self.units.welcome();
        self.read_cache.welcome();
        let idle: Vec<_> = {
            let mut open = self.open.borrow_mut();
            open.retain(|_, log| log.strong_count() > 0);
            let logs = open.values().filter_map(Weak::upgrade);
            logs.filter(|log| log.used_ms().is_some_and(|used| used < before))
                .collect()
        };
        idle.into_iter().for_each(|log| self.spawn_park(log));
    }

    /// Nothing more is read of a segment, which is deleted; readers that hold some of it keep it.
    pub(super) fn forget_reads(&self, log: u64, segment: Offset) {
        self.reads.remove(log, segment);
        self.read_cache.forget(log, segment);
    }

    fn spawn_park(&self, log: Rc<Log>) {
        self.spawn(async move {
            // A failure has been logged, and the next append meets it again.
            let _ = log.park().await;
        });
    }
}

/// Descriptors of segments opened for reads, the least recently used go first.
#[derive(Debug)]
pub(super) struct ReadFiles {
    files_max: usize,
    uses: Cell<u64>,
    files: RefCell<HashMap<(u64, Offset), OpenFile>>,
}

/// A descriptor and when it was used last, counted in uses.
type OpenFile = (Rc<File>, u64);

impl ReadFiles {
    fn new(files_max: usize) -> Self {
        Self {
            files_max,
            uses: Cell::new(0),
            files: RefCell::default(),
        }
    }

    fn used(&self) -> u64 {
        self.uses.set(self.uses.get() + 1);
        self.uses.get()
    }

    pub fn get(&self, log: u64, segment: Offset) -> Option<Rc<File>> {
        let mut files = self.files.borrow_mut();
        let (file, used) = files.get_mut(&(log, segment))?;
        *used = self.used();
        Some(Rc::clone(file))
    }

    pub fn put(&self, log: u64, segment: Offset, file: Rc<File>) {
        let mut files = self.files.borrow_mut();
        files.insert((log, segment), (file, self.used()));
        if files.len() > self.files_max {
            // A scan of the bounded table, once for each segment opened.
            let oldest = files
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| *key);
            oldest.map(|key| files.remove(&key));
        }
    }

    /// Forgets a segment that is deleted; readers that hold its descriptor read on.
    pub fn remove(&self, log: u64, segment: Offset) {
        self.files.borrow_mut().remove(&(log, segment));
    }
}
