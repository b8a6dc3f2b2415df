//! One partition: its log, the high watermark, and what waits for it. Its shard's alone. How it
//! takes appends stands in `append.rs`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use crate::base::clock::{Clock, TimestampMs};
use crate::base::ids::{LeaderEpoch, Offset, TopicIdPartition};
use crate::config::TopicConfig;
use crate::record::compression::Decompressor;
use crate::runtime::TaskQueue;
use crate::shard::reply::Sender;
use crate::storage::error::LogError;
use crate::storage::layout;
use crate::storage::log::{Log, ProgressListener};
use crate::storage::retention::Retention;

use super::append::Backlog;
use super::leader_epoch::LeaderEpochs;
use super::message::{Appended, EpochEndOffset, PartitionError, ReadRequest, RefusedAppend};
use super::producer_state::ProducerStates;
use super::watch::{News, Watcher, Watchers};

/// What the partitions of a shard share.
#[derive(Debug)]
pub struct Shared {
    /// The time.
    pub clock: Clock,
    /// Where the tasks that make room run.
    pub queue: TaskQueue,
    /// Scratch memory for checking small compressed batches, one at a time.
    pub decompressor: RefCell<Decompressor>,
}

impl Shared {
    /// Partitions that go by `clock` and whose tasks run in `queue`.
    pub fn new(clock: Clock, queue: TaskQueue) -> Rc<Self> {
        Rc::new(Self {
            clock,
            queue,
            decompressor: RefCell::default(),
        })
    }
}

/// A partition that this broker leads.
#[derive(Debug)]
pub struct Partition {
    id: TopicIdPartition,
    pub(super) shared: Rc<Shared>,
    pub(super) log: Rc<Log>,
    pub(super) config: RefCell<Rc<TopicConfig>>,
    leader_epoch: Cell<LeaderEpoch>,
    pub(super) producers: RefCell<ProducerStates>,
    pub(super) epochs: RefCell<LeaderEpochs>,
    /// Whether their file is as they are. Until it is no batch is taken: see
    /// [`Partition::write_epochs`].
    pub(super) epochs_written: Cell<bool>,
    pub(super) backlog: Backlog,
    /// Appends that wait to be acknowledged, by the offset that must be.
    pub(super) unacknowledged: RefCell<VecDeque<Unacknowledged>>,
    watchers: RefCell<Watchers>,
}

/// An append in the log that its acks do not let be answered yet.
#[derive(Debug)]
pub(super) struct Unacknowledged {
    pub needed: Offset,
    pub appended: Appended,
    pub reply: Sender<Result<Appended, RefusedAppend>>,
}

impl Partition {
    /// A partition over its log, with what was recovered of its producers and epochs.
    pub fn new(
        id: TopicIdPartition,
        shared: Rc<Shared>,
        log: Rc<Log>,
        config: Rc<TopicConfig>,
        leader_epoch: LeaderEpoch,
        producers: ProducerStates,
        epochs: LeaderEpochs,
    ) -> Rc<Self> {
        let partition = Rc::new(Self {
            id,
            shared,
            log: Rc::clone(&log),
            config: RefCell::new(config),
            leader_epoch: Cell::new(leader_epoch),
            producers: RefCell::new(producers),
            epochs: RefCell::new(epochs),
            epochs_written: Cell::new(true),
            backlog: Backlog::default(),
            unacknowledged: RefCell::default(),
            watchers: RefCell::default(),
        });
        log.listen(Rc::new(Listener(Rc::downgrade(&partition))));
        partition
    }

    /// Which partition it is.
    pub fn id(&self) -> TopicIdPartition {
        self.id
    }

    /// Its log.
    pub fn log(&self) -> &Rc<Log> {
        &self.log
    }

    /// The topic's settings in force.
    pub fn config(&self) -> Rc<TopicConfig> {
        self.config.borrow().clone()
    }

    /// Puts other settings of the topic in force.
    pub fn reconfigure(&self, config: Rc<TopicConfig>) {
        self.log
            .reconfigure(super::open::log_config(self.id, &config));
        *self.config.borrow_mut() = config;
    }

    /// The epoch of this leader.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch.get()
    }

    /// Begins a new leader epoch where the log ends: appends carry it from here on.
    pub async fn lead(&self, epoch: LeaderEpoch) -> Result<(), LogError> {
        self.leader_epoch.set(epoch);
        // Those that wait know the epoch before.
        self.watchers.borrow_mut().fire_all();
        if self.epochs.borrow_mut().assign(epoch, self.log.end()) {
            self.epochs_written.set(false);
        }
        self.write_epochs().await
    }

    /// Writes the leader epochs, if that is still to be done: on a full disk there may have been no
    /// room for it, and reads go on without.
    pub(super) async fn write_epochs(&self) -> Result<(), LogError> {
        if self.epochs_written.get() {
            return Ok(());
        }
        let epochs = self.epochs.borrow().clone();
        let text = epochs.to_checkpoint();
        let written = self.log.in_directory(move |directory, path| {
            directory.replace_file(&path.join(layout::LEADER_EPOCHS), text.as_bytes())
        });
        written.await?;
        if epochs == *self.epochs.borrow() {
            self.epochs_written.set(true);
        }
        Ok(())
    }

    /// Every record below it survives what the acks promise, and may be shown. With one replica it
    /// is what this log would not lose.
    pub fn high_watermark(&self) -> Offset {
        self.log.acknowledged()
    }

    /// Every record below it may be shown to readers of committed transactions.
    pub fn last_stable_offset(&self) -> Offset {
        let unstable = self.producers.borrow().first_unstable_offset();
        unstable.map_or(self.high_watermark(), |first| {
            first.min(self.high_watermark())
        })
    }

    /// Whether the epoch that a client knows is this leader's; clients may not know any.
    pub fn check_epoch(&self, requested: LeaderEpoch) -> Result<(), PartitionError> {
        let current = self.leader_epoch();
        if requested == LeaderEpoch::UNKNOWN || requested == current {
            Ok(())
        } else if requested < current {
            Err(PartitionError::FencedLeaderEpoch { requested, current })
        } else {
            Err(PartitionError::UnknownLeaderEpoch { requested, current })
        }
    }

    /// Where the client's history and this log's part, if they do. Kafka's `Partition.readRecords`:
    /// an epoch that this log has not seen cannot be compared, and what lies before the log's start
    /// is out of range first of all.
    pub fn parts_from(&self, request: &ReadRequest) -> Result<Option<EpochEndOffset>, LogError> {
        let Some(epoch) = request.last_fetched_epoch else {
            return Ok(None);
        };
        let (from, start, end) = (request.from, self.log.start(), self.log.end());
        let epoch_end = self.epochs.borrow().end_offset_for(epoch, end);
        let Some(epoch_end) = epoch_end.filter(|_| from >= start) else {
            return Err(LogError::OutOfRange {
                requested: from,
                start,
                end,
            });
        };
        let parts = epoch_end.epoch < epoch || epoch_end.end_offset < from;
        Ok(parts.then_some(EpochEndOffset {
            leader_epoch: epoch_end.epoch,
            end_offset: epoch_end.end_offset,
        }))
    }

    /// Deletes what the topic's retention lets go, and returns the log start offset.
    pub async fn retain(&self, now: TimestampMs) -> Result<Offset, LogError> {
        let config = self.config();
        let retention = match config.cleanup_policy.delete {
            true => Retention {
                retention_ms: config.retention_ms,
                retention_bytes: config.retention_bytes,
                log_start: self.log.start(),
            },
            false => Retention {
                log_start: self.log.start(),
                ..Retention::default()
            },
        };
        let start = self
            .log
            .retain(retention, self.high_watermark(), now)
            .await?;
        self.producers.borrow_mut().on_log_start(start);
        self.epochs.borrow_mut().truncate_from_start(start);
        Ok(start)
    }

    /// Forgets producers that have been silent for `expiration_ms`.
    pub fn forget_producers(&self, now: TimestampMs, expiration_ms: i64) {
        self.producers
            .borrow_mut()
            .remove_expired(now, expiration_ms);
    }

    /// What a fetch is shown ends here.
    pub fn readable_end(&self, committed_only: bool) -> Offset {
        match committed_only {
            true => self.last_stable_offset(),
            false => self.high_watermark(),
        }
    }

    /// Counts what there is for a fetch that waits, and then what comes, until it has enough.
    /// Kafka's `DelayedFetch`.
    pub fn watch(&self, mut watcher: Watcher) {
        if watcher.goes_on(|watcher| self.news(watcher)) {
            self.watchers.borrow_mut().add(watcher);
        }
    }

    /// What there is to show behind what a waiting fetch has counted. What is not in memory any
    /// more is not counted but read at once, as Kafka does with what lies in an older segment.
    fn news(&self, watcher: &Watcher) -> News {
        if self.log.check().is_err() {
            return News::Look;
        }
        let upper = self.readable_end(watcher.committed_only);
        match self.log.bytes_in_memory(watcher.next, upper) {
            Ok(Some(bytes)) => News::Bytes(bytes, upper.max(watcher.next)),
            Ok(None) | Err(_) => News::Look,
        }
    }

    /// A frontier has moved, or the log has failed.
    fn progressed(&self) {
        let high_watermark = self.high_watermark();
        self.producers
            .borrow_mut()
            .on_high_watermark(high_watermark);
        loop {
            let reached = {
                let mut waiting = self.unacknowledged.borrow_mut();
                let reached = waiting
                    .front()
                    .is_some_and(|first| first.needed <= high_watermark);
                reached.then(|| waiting.pop_front()).flatten()
            };
            let Some(reached) = reached else { break };
            let _gone = reached.reply.send(Ok(reached.appended));
        }
        if let Err(error) = self.log.check() {
            let failed = PartitionError::from(error);
            for waiting in self.unacknowledged.take() {
                let _gone = waiting.reply.send(Err(self.refused(failed.clone().into())));
            }
            self.watchers.borrow_mut().fire_all();
        }
        let mut watchers = self.watchers.borrow_mut();
        watchers.look_again(|watcher| self.news(watcher));
    }
}

/// Hears of the log's progress.
#[derive(Debug)]
struct Listener(Weak<Partition>);

impl ProgressListener for Listener {
    fn progressed(&self) {
        if let Some(partition) = self.0.upgrade() {
            partition.progressed();
        }
    }
}
