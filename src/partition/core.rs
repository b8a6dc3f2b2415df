//! One partition: appends in order, the high watermark, and what waits for it. Its shard's alone.
//!
//! An append is validated, checked against its producer's sequence and given its offset without
//! awaiting, in the order of arrival. Only where the log has no room (it is parked, must roll, or
//! must grow) do arrivals queue up, in order, behind the one task that makes room.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use crate::base::clock::{Clock, TimestampMs};
use crate::base::ids::{LeaderEpoch, Offset, TopicIdPartition};
use crate::base::limits::DECOMPRESSED_BATCH_BYTES_MAX;
use crate::base::payload::Chunk;
use crate::config::{self, TopicConfig};
use crate::record::compression::Decompressor;
use crate::record::header::{BatchHeader, TimestampType, set_max_timestamp};
use crate::record::validate::{self, Rules};
use crate::shard::queues::{Queue, spawn_into};
use crate::shard::reply::Sender;
use crate::storage::error::LogError;
use crate::storage::layout;
use crate::storage::log::{Assigned, Incoming, Log, ProgressListener};
use crate::storage::reader::{ReadPlan, ReadRange};
use crate::storage::retention::Retention;

use super::leader_epoch::LeaderEpochs;
use super::message::{
    Acks, AppendError, AppendRequest, Appended, EpochEndOffset, PartitionError, ReadRequest,
};
use super::producer_state::{KeptBatch, Origin, ProducerError, ProducerStates, Verdict};
use super::watch::{News, Watcher, Watchers};

/// What the partitions of a shard share.
#[derive(Debug)]
pub struct Shared {
    /// The time.
    pub clock: Clock,
    /// Where the tasks that make room run.
    pub queue: Queue,
    /// Scratch memory for checking compressed batches, one at a time.
    pub decompressor: RefCell<Decompressor>,
}

impl Shared {
    /// Partitions that go by `clock` and whose tasks run in `queue`.
    pub fn new(clock: Clock, queue: Queue) -> Rc<Self> {
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
    shared: Rc<Shared>,
    log: Rc<Log>,
    config: RefCell<Rc<TopicConfig>>,
    leader_epoch: Cell<LeaderEpoch>,
    pub(super) producers: RefCell<ProducerStates>,
    pub(super) epochs: RefCell<LeaderEpochs>,
    /// Appends that wait for room.
    backlog: RefCell<VecDeque<Arrival>>,
    making_room: Cell<bool>,
    /// Appends that wait to be acknowledged, by the offset that must be.
    unacknowledged: RefCell<VecDeque<Unacknowledged>>,
    watchers: RefCell<Watchers>,
}

/// An append of what is one batch, by its header no larger than it may be: room is made for it.
#[derive(Debug)]
struct Arrival {
    header: BatchHeader,
    request: AppendRequest,
}

#[derive(Debug)]
struct Unacknowledged {
    needed: Offset,
    appended: Appended,
    reply: Sender<Result<Appended, AppendError>>,
}

/// How an append ended that left nothing in the log.
enum Refusal {
    Duplicate(KeptBatch),
    Error(AppendError),
}

impl From<validate::RecordError> for Refusal {
    fn from(error: validate::RecordError) -> Self {
        Self::Error(error.into())
    }
}

impl From<ProducerError> for Refusal {
    fn from(error: ProducerError) -> Self {
        Self::Error(error.into())
    }
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
            backlog: RefCell::default(),
            making_room: Cell::new(false),
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
        let text = {
            let mut epochs = self.epochs.borrow_mut();
            epochs
                .assign(epoch, self.log.end())
                .then(|| epochs.to_checkpoint())
        };
        let Some(text) = text else { return Ok(()) };
        let written = self.log.in_directory(move |directory, path| {
            directory.replace_file(&path.join(layout::LEADER_EPOCHS), text.as_bytes())
        });
        written.await
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

    /// Takes an append. Its answer comes when its acks ask for it.
    pub fn append(self: &Rc<Self>, request: AppendRequest) {
        let arrival = match self.look_at(&request) {
            Ok(header) => Arrival { header, request },
            Err(error) => {
                // Nobody waits for it any more: its connection is gone.
                let _gone = request.reply.send(Err(error));
                return;
            }
        };
        let must_wait = self.making_room.get() || !self.log.has_room(self.incoming(&arrival));
        if !must_wait {
            return self.append_now(arrival);
        }
        self.backlog.borrow_mut().push_back(arrival);
        if !self.making_room.replace(true) {
            let partition = Rc::clone(self);
            spawn_into(
                self.shared.queue,
                async move { partition.make_room().await },
            );
        }
    }

    /// What has to hold of a batch before room is made for it. It costs no look at the records.
    fn look_at(&self, request: &AppendRequest) -> Result<BatchHeader, AppendError> {
        let rules = rules(&self.config.borrow(), request.zstd_allowed);
        let header = validate::frame(&request.records, &rules)?;
        validate::check_append(&header, &rules)?;
        if header.is_transactional() {
            return Err(AppendError::NoTransaction(header.producer_id));
        }
        Ok(header)
    }

    /// Makes room for the appends that wait, one after the other, until none waits.
    async fn make_room(self: Rc<Self>) {
        loop {
            let incoming = self
                .backlog
                .borrow()
                .front()
                .map(|next| self.incoming(next));
            let Some(incoming) = incoming else { break };
            let prepared = self.log.prepare(incoming).await;
            let arrival = self.backlog.borrow_mut().pop_front();
            let arrival = arrival.expect("it is still in front");
            match prepared {
                Ok(()) => self.append_now(arrival),
                Err(error) => {
                    let refused = AppendError::Partition(error.into());
                    let _gone = arrival.request.reply.send(Err(refused));
                }
            }
            self.append_waiting();
        }
        self.making_room.set(false);
    }

    /// Appends what waits as far as there is room.
    fn append_waiting(self: &Rc<Self>) {
        loop {
            let next = {
                let mut backlog = self.backlog.borrow_mut();
                let fits = |next: &Arrival| self.log.has_room(self.incoming(next));
                let fits = backlog.front().is_some_and(fits);
                fits.then(|| backlog.pop_front()).flatten()
            };
            match next {
                Some(arrival) => self.append_now(arrival),
                None => return,
            }
        }
    }

    /// What the log has to know to make room. The records are not checked yet: a timestamp that
    /// they may not have does not end a segment.
    fn incoming(&self, arrival: &Arrival) -> Incoming {
        let now = self.shared.clock.now_ms();
        let config = self.config.borrow();
        let timestamp = match config.message_timestamp_type {
            config::TimestampType::CreateTime => {
                let latest = now.saturating_add(saturate(config.message_timestamp_after_max_ms));
                arrival.header.max_timestamp.min(latest)
            }
            config::TimestampType::LogAppendTime => now,
        };
        Incoming {
            bytes: arrival.request.records.len(),
            timestamp,
            now,
        }
    }

    fn append_now(self: &Rc<Self>, arrival: Arrival) {
        let Arrival { header, request } = arrival;
        let AppendRequest {
            records,
            acks,
            zstd_allowed,
            reply,
            ..
        } = request;
        let now = self.shared.clock.now_ms();
        let (needed, appended) = match self.try_append(header, records, zstd_allowed, now) {
            Ok(appended) => (self.log.end(), appended),
            Err(Refusal::Duplicate(original)) => {
                let config = self.config.borrow();
                let append_time =
                    config.message_timestamp_type == config::TimestampType::LogAppendTime;
                let appended = Appended {
                    base_offset: original.base_offset,
                    log_append_time: if append_time { original.timestamp } else { -1 },
                    log_start: self.log.start(),
                };
                (original.last_offset.plus(1), appended)
            }
            Err(Refusal::Error(error)) => {
                let _gone = reply.send(Err(error));
                return;
            }
        };
        // acks=1 and acks=all differ by the followers that all waits for; there are none.
        if acks == Acks::None || needed <= self.high_watermark() {
            let _gone = reply.send(Ok(appended));
            return;
        }
        let waiting = Unacknowledged {
            needed,
            appended,
            reply,
        };
        let mut unacknowledged = self.unacknowledged.borrow_mut();
        // A duplicate may need less than what already waits.
        let at = unacknowledged.partition_point(|other| other.needed <= needed);
        unacknowledged.insert(at, waiting);
    }

    fn try_append(
        &self,
        header: BatchHeader,
        records: bytes::Bytes,
        zstd_allowed: bool,
        now: TimestampMs,
    ) -> Result<Appended, Refusal> {
        let rules = rules(&self.config.borrow(), zstd_allowed);
        let guard = Some(records.clone());
        let mut max_timestamp = header.max_timestamp;
        let base_offset = self.log.append(&records, now, guard, |copy, crc| {
            validate::check_crc(&header, crc)?;
            let mut decompressor = self.shared.decompressor.borrow_mut();
            let checked = validate::check_records(copy, &header, &rules, now, &mut decompressor)?;
            if let Verdict::Duplicate(original) =
                self.producers.borrow().check(&header, Origin::Client)?
            {
                return Err(Refusal::Duplicate(original));
            }
            if checked.needs_timestamp() {
                set_max_timestamp(copy, checked.timestamp_type, checked.max_timestamp);
            }
            max_timestamp = checked.max_timestamp;
            Ok(Assigned {
                offsets: i64::from(header.last_offset_delta) + 1,
                leader_epoch: self.leader_epoch(),
                max_timestamp: checked.max_timestamp,
            })
        })?;
        let stored = BatchHeader {
            base_offset,
            max_timestamp,
            ..header
        };
        self.producers.borrow_mut().apply(&stored, None);
        let append_time = rules.timestamp_type == TimestampType::LogAppendTime;
        Ok(Appended {
            base_offset,
            log_append_time: if append_time { now } else { -1 },
            log_start: self.log.start(),
        })
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
        let range = ReadRange {
            from: watcher.next,
            upper,
            bytes_max: usize::MAX,
            at_least_one: true,
        };
        match self.log.read(range) {
            Ok(ReadPlan::Memory(chunks)) => {
                let bytes = chunks.iter().map(Chunk::len).sum();
                News::Bytes(bytes, upper.max(watcher.next))
            }
            Ok(ReadPlan::Cold(_)) | Err(_) => News::Look,
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
                let _gone = waiting.reply.send(Err(failed.clone().into()));
            }
            self.watchers.borrow_mut().fire_all();
        }
        let mut watchers = self.watchers.borrow_mut();
        watchers.look_again(|watcher| self.news(watcher));
    }
}

/// What Kafka checks of a batch, by the topic's settings.
fn rules(config: &TopicConfig, zstd_allowed: bool) -> Rules {
    Rules {
        batch_bytes_max: config.max_message_bytes,
        segment_bytes: config.segment_bytes,
        timestamp_type: match config.message_timestamp_type {
            config::TimestampType::CreateTime => TimestampType::CreateTime,
            config::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: saturate(config.message_timestamp_before_max_ms),
        timestamp_after_max_ms: saturate(config.message_timestamp_after_max_ms),
        keys_required: config.cleanup_policy.compact,
        zstd_allowed,
        decompressed_bytes_max: DECOMPRESSED_BATCH_BYTES_MAX,
    }
}

fn saturate(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX)
}

#[derive(Debug)]
struct Listener(Weak<Partition>);

impl ProgressListener for Listener {
    fn progressed(&self) {
        if let Some(partition) = self.0.upgrade() {
            partition.progressed();
        }
    }
}
