//! One shard's life: storage, partitions, metadata, requests; then all of it in reverse.
//!
//! The order of a start: the metadata is replayed on shard 0 and published; each shard opens its
//! partitions and answers; checkpoints are written for this number of shards; partitions that were
//! moved are told; the broker is registered; the listeners open. The order of a stop: listeners
//! close and requests end, the controller and the mailboxes stop, logs close, the last checkpoint
//! is written. The shards meet between the steps.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::mem::take;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_channel::mpsc;
use futures_lite::StreamExt as _;
use futures_lite::future::or;

use super::Exit;
use super::due::Due;
use super::plan::{ShardEnds, ShardListener, ShardPlan};
use super::scrub::scrub;
use super::service::ApiService;
use crate::api::apply::{self, OpenedAtStart};
use crate::api::broker::{Broker, Ways};
use crate::api::fetch_session::FetchSessions;
use crate::base::clock::{Clock, TimestampMs};
use crate::base::ids::{NodeId, PartitionIndex, ShardId, TopicId, TopicIdPartition};
use crate::base::limits::METADATA_RECORDS_PER_COMMAND_MAX;
use crate::controller::handle::CONTROLLER_SHARD;
use crate::controller::{
    self, Call, Controller, ControllerError, ControllerHandle, ImageChange, LoadError,
    LoadedMetadata, MetadataLog, Publisher, Unavailable,
};
use crate::coordinator::group;
use crate::coordinator::group::coordinators::{Coordinators, GroupMessage, GroupRouter};
use crate::metadata::{MetadataImage, topic_name};
use crate::net::listener::Listening;
use crate::net::server::{self, ServerConfig};
use crate::partition::checkpointer::{CHECKPOINT_EVERY_BYTES, CheckpointFailure, Checkpointer};
use crate::partition::core::Shared;
use crate::partition::message::PartitionMessage;
use crate::partition::router::Router;
use crate::partition::table::PartitionTable;
use crate::runtime::{Task, TaskQueue, Timer};
use crate::shard::budget::Budget;
use crate::shard::executor::ShardContext;
use crate::shard::frames::Frames;
use crate::shard::mailbox::{Closer, Receiver};
use crate::shard::reply;
use crate::shard::shutdown::Stop;
use crate::storage::error::{FileError, LogError};
use crate::storage::layout;
use crate::storage::log::Log;
use crate::storage::shard::ShardStorage;
use crate::storage::sweep::{Claim, Claims, sweep};

/// Why a shard ended without being asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The metadata could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The controller failed.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// A checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointFailure),
    /// The data directory could not be searched for what deleted partitions left.
    #[error(transparent)]
    Sweep(#[from] FileError),
    /// A listener failed.
    #[error("a listener failed: {0}")]
    Listener(#[from] std::io::Error),
    /// The broker could not be registered.
    #[error("the broker could not be registered: {0}")]
    Register(Unavailable),
    /// Another shard stopped first.
    #[error("the broker stopped while it started")]
    Stopped,
}

impl ServeError {
    /// The code with which the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Load(LoadError::File(_))
            | Self::Controller(ControllerError::Log(_))
            | Self::Checkpoint(_)
            | Self::Sweep(_)
            | Self::Register(Unavailable::NoRoom) => Exit::Io,
            Self::Load(_) => Exit::Configuration,
            Self::Controller(_) | Self::Listener(_) | Self::Register(_) | Self::Stopped => {
                Exit::Failure
            }
        }
    }

    /// Whether it only tells that another shard has ended: that one knows why.
    pub fn is_of_another(&self) -> bool {
        matches!(
            self,
            Self::Stopped
                | Self::Controller(ControllerError::Shard(_))
                | Self::Register(Unavailable::Stopped)
        )
    }
}

/// How long a log is held open after its last append.
const PARK_AFTER_MS: i64 = 30_000;
/// How often the work that nobody waits for is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often it is looked whether there is room for partitions that found none.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// How long requests in progress may take to end in a stop.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Close the mailboxes of a shard.
struct Closers {
    partitions: Closer<PartitionMessage>,
    groups: Closer<GroupMessage>,
    calls: Closer<Call>,
    images: Closer<ImageChange>,
}

struct RunningController {
    running: Task<()>,
    /// The topics that its log says were deleted, until the data directory was swept.
    deleted_topics: HashSet<TopicId>,
    /// Why it ended without being asked.
    failure: reply::Receiver<ControllerError>,
    log: Rc<Log>,
    /// Whether the metadata knows of this start.
    is_registered: bool,
}

/// What a shard holds while it runs.
struct Shard {
    plan: Rc<ShardPlan>,
    context: ShardContext,
    broker: Rc<Broker>,
    follower: Rc<apply::Follower>,
    storage: Rc<ShardStorage>,
    table: Rc<PartitionTable>,
    checkpointer: Checkpointer,
}

fn coordinators_of(
    plan: &ShardPlan,
    clock: &Clock,
    queue: TaskQueue,
    table: &Rc<PartitionTable>,
) -> Rc<Coordinators> {
    let shared = group::runtime::Shared::new(
        &plan.config,
        plan.group_bytes,
        clock.clone(),
        queue,
        Rc::clone(table),
    );
    Coordinators::new(Rc::new(shared))
}

/// Runs one shard from start to stop.
pub async fn serve(
    plan: ShardPlan,
    ends: ShardEnds,
    context: ShardContext,
) -> Result<(), ServeError> {
    let plan = Rc::new(plan);
    let (partitions, partition_messages) = ends.partitions.open();
    let (groups, group_messages) = ends.groups.open();
    let (calls, call_messages) = ends.calls.open();
    let (images, image_messages) = ends.images.open();
    let closers = Closers {
        partitions: partition_messages.closer(),
        groups: group_messages.closer(),
        calls: call_messages.closer(),
        images: image_messages.closer(),
    };

    let storage = ShardStorage::new(plan.directories.clone(), plan.storage, TaskQueue::Storage);
    let clock = Clock::system();
    let queue = TaskQueue::Requests;
    let table = PartitionTable::new(Rc::clone(&storage), Shared::new(clock.clone(), queue));
    let coordinators = coordinators_of(&plan, &clock, queue, &table);
    let ways = Ways {
        partitions: Router::new(Rc::clone(&table), Rc::new(partitions)),
        groups: GroupRouter::new(Rc::clone(&coordinators), groups),
        controller: ControllerHandle::new(calls),
    };
    let broker = new_broker(&plan, &context, clock, ways);
    take_partition_messages(partition_messages, Rc::clone(&table));
    take_group_messages(group_messages, Rc::clone(&coordinators));
    let follower = apply::Follower::new(Rc::clone(&broker), plan.opened_at_start.clone());
    take_image_changes(image_messages, Rc::clone(&follower));

    let shard = Shard {
        checkpointer: Checkpointer::new(context.shard, Rc::clone(&table)),
        plan,
        context,
        broker,
        follower,
        storage,
        table,
    };
    let mut controller = if shard.context.shard == CONTROLLER_SHARD {
        Some(
            shard
                .start_controller(Publisher::new(images), call_messages)
                .await?,
        )
    } else {
        None
    };
    shard.meet().await?;
    shard.checkpoint().await?;
    shard.meet().await?;
    shard.assign_directories().await;
    if let Some(controller) = &mut controller {
        shard.register(controller).await?;
    }
    shard.meet().await?;
    shard.run(controller.as_mut()).await?;
    shard.stop(&closers, controller).await
}

/// A broker that knows no metadata yet.
fn new_broker(plan: &ShardPlan, context: &ShardContext, clock: Clock, ways: Ways) -> Rc<Broker> {
    Broker::new(
        Arc::clone(&plan.config),
        clock,
        plan.cluster_id.clone(),
        ways,
        FetchSessions::new(
            plan.config.max_incremental_fetch_session_cache_slots as usize,
            context.shard,
            context.shards,
            plan.session_seed,
        ),
        Budget::new(plan.wait_bytes),
        Arc::new(MetadataImage::default()),
    )
}

fn take_partition_messages(messages: Receiver<PartitionMessage>, table: Rc<PartitionTable>) {
    TaskQueue::Requests.detach(async move {
        messages.run(|_, message| table.handle(message)).await;
    });
}

fn take_group_messages(messages: Receiver<GroupMessage>, coordinators: Rc<Coordinators>) {
    TaskQueue::Requests.detach(async move {
        messages
            .run(|_, message| coordinators.handle(message))
            .await;
    });
}

/// Image changes are applied one after the other, each as long as it takes.
fn take_image_changes(messages: Receiver<ImageChange>, follower: Rc<apply::Follower>) {
    let (sender, mut changes) = mpsc::unbounded();
    TaskQueue::Requests.detach(async move {
        // The controller waits for each change, so no more than one is ever here.
        messages
            .run(|_, change| drop(sender.unbounded_send(change)))
            .await;
    });
    TaskQueue::Requests.detach(async move {
        while let Some(ImageChange {
            image,
            changes,
            applied,
        }) = changes.next().await
        {
            follower.apply(image, &changes).await;
            let _gone = applied.send(());
        }
    });
}

impl Shard {
    /// Meets the other shards; an error if one of them has ended.
    async fn meet(&self) -> Result<(), ServeError> {
        self.context.barrier.wait().await;
        if self.context.stop.is_requested() {
            Err(ServeError::Stopped)
        } else {
            Ok(())
        }
    }

    /// Writes the first checkpoint, in place of those of the last run. A shard that was not told of
    /// its partitions has nothing to say, and may not take away what these say. Without room for it
    /// those stay: a start after a crash scans more, and what can be read is served meanwhile.
    async fn checkpoint(&self) -> Result<(), ServeError> {
        if !self.follower.has_applied() {
            return Err(ServeError::Stopped);
        }
        match self.checkpointer.checkpoint().await {
            Err(error) if error.is_no_room() => {
                tracing::error!(
                    %error,
                    "no room for a checkpoint: that of the last run stays, and a start after a \
                     crash scans more"
                );
                Ok(())
            }
            written => Ok(written?),
        }
    }

    /// On the controller's shard: replays the metadata, hands it to all shards, and takes calls.
    async fn start_controller(
        &self,
        publisher: Publisher,
        calls: Receiver<Call>,
    ) -> Result<RunningController, ServeError> {
        let id = TopicIdPartition {
            topic_id: TopicId::METADATA,
            partition: PartitionIndex(0),
        };
        let opened = &self.plan.opened_at_start;
        let point = opened.point(&id).map(|(_, point)| point);
        let clock = self.broker.clock.clone();
        let began = Instant::now();
        let loaded =
            controller::load::open(&self.storage, point, opened.clean, clock.now_ms()).await?;
        let LoadedMetadata {
            log,
            image,
            changes,
            leader_epoch,
            deleted_topics,
        } = loaded;
        self.checkpointer.include(id, Rc::clone(&log));
        publisher
            .publish(&image, &changes)
            .await
            .map_err(ControllerError::from)?;
        tell_recovery(opened, began.elapsed());
        let stored = MetadataLog::Stored {
            log: Rc::clone(&log),
            clock: clock.clone(),
        };
        let config = Arc::clone(&self.plan.config);
        let directories = self.plan.directories.clone();
        let controller = Controller::new(
            stored,
            image,
            leader_epoch,
            publisher,
            config,
            clock,
            directories,
        );
        let (failed, failure) = reply::channel();
        let running = TaskQueue::Requests.spawn(async move {
            if let Err(error) = controller.run(calls).await {
                let _stopping = failed.send(error);
            }
        });
        Ok(RunningController {
            running,
            deleted_topics,
            failure,
            log,
            is_registered: false,
        })
    }

    /// Has the metadata say where the shard's partitions were found, where somebody has moved them.
    async fn assign_directories(&self) {
        let (image, node) = (self.broker.image(), self.broker.node_id);
        let moved = self.table.all().into_iter().filter_map(|partition| {
            let own = partition.log().directory().id()?;
            let placed = apply::directory_of(image.partition(partition.id())?, node);
            (placed != Some(own)).then(|| (partition.id(), own))
        });
        let moved: Vec<_> = moved.collect();
        for moved in moved.chunks(METADATA_RECORDS_PER_COMMAND_MAX) {
            let controller = &self.broker.controller;
            let assigned = controller.assign_directories(node, moved.to_vec()).await;
            let partitions = moved.len();
            match assigned {
                Ok(()) => tracing::info!(
                    partitions,
                    "partitions were found in other log directories than those they had"
                ),
                Err(error) => tracing::error!(
                    partitions,
                    %error,
                    "where partitions were found is not in the metadata"
                ),
            }
        }
    }

    /// On the controller's shard: has what no partition claims unlinked or set aside.
    async fn sweep(&self, deleted_topics: HashSet<TopicId>) -> Result<(), ServeError> {
        let claims = Arc::new(Claims {
            directories: claims_of(&self.broker.image(), self.broker.node_id),
            deleted_topics,
        });
        let directories = self.storage.directories();
        for directory in directories.all() {
            if directories.have_lost(directory) {
                continue;
            }
            let claims = Arc::clone(&claims);
            let swept = directory.off_reactor(move |directory| sweep(directory, &claims));
            let swept = match swept.await {
                Err(error) if directories.is_dispensable(directory) => {
                    tracing::error!(%error, "a log directory is not searched for what was deleted");
                    continue;
                }
                swept => swept?,
            };
            let now = Instant::now();
            for path in swept {
                self.table.doomed().add(path, now, Duration::ZERO);
            }
        }
        Ok(())
    }

    /// On the controller's shard: makes the broker one that clients are told of.
    async fn register(&self, controller: &mut RunningController) -> Result<(), ServeError> {
        self.sweep(take(&mut controller.deleted_topics)).await?;
        let registration = self.plan.registration.clone();
        let registered = self.broker.controller.register_broker(registration).await;
        let is_known = || self.broker.image().broker(self.broker.node_id).is_some();
        match registered {
            Ok(_) => controller.is_registered = true,
            Err(Unavailable::NoRoom) if is_known() => tracing::error!(
                "no room to register the broker: clients are told what the last run was \
                 registered with, until there is room"
            ),
            Err(error) => return Err(ServeError::Register(error)),
        }
        Ok(())
    }

    /// Lets clients connect, and says so once they can on every shard.
    async fn listen(&self) -> Result<Vec<(String, Listening)>, ServeError> {
        let mut listening = Vec::new();
        for ShardListener { name, socket } in self.plan.take_listeners() {
            listening.push((name, socket.listen()?));
        }
        self.meet().await?;
        if self.context.shard == ShardId(0) {
            self.plan.tell_ready(self.context.shards);
        }
        Ok(listening)
    }

    /// Serves until the stop is requested, or the controller has failed.
    async fn run(&self, controller: Option<&mut RunningController>) -> Result<(), ServeError> {
        let listening = self.listen().await?;
        let background = TaskQueue::Background.spawn(maintain(
            Rc::clone(&self.plan),
            Rc::clone(&self.broker),
            Rc::clone(&self.table),
            Rc::clone(&self.storage),
            self.checkpointer.clone(),
            self.context.stop.clone(),
        ));
        let retrying = TaskQueue::Background.spawn(retry(Rc::clone(&self.follower)));
        let unlinking = TaskQueue::Background.spawn(unlink_deleted(Rc::clone(&self.table)));
        let metadata = controller.as_ref().map(|running| Rc::clone(&running.log));
        let scrubbing = self.spawn_scrub(metadata);
        let budget = Budget::new(self.plan.frame_bytes);
        let frames = Frames::new(budget, Budget::new(self.plan.reserve_bytes));
        let mut serving = Vec::new();
        for (name, socket) in listening {
            let service = Rc::new(ApiService::new(Rc::clone(&self.broker), &name));
            let config = ServerConfig {
                name,
                request_bytes_max: self.plan.request_bytes_max,
                idle_max: self
                    .plan
                    .config
                    .connections_max_idle_ms
                    .map(Duration::from_millis),
                drain_max: DRAIN_MAX,
            };
            let (frames, quota) = (frames.clone(), self.plan.quota.clone());
            let context = self.context.clone();
            serving.push(TaskQueue::Requests.spawn(async move {
                server::serve(socket, service, frames, quota, config, &context).await
            }));
        }
        let served = async {
            for served in serving {
                served.await?;
            }
            Ok(())
        };
        let is_registered = controller.as_ref().is_none_or(|it| it.is_registered);
        let failed = async {
            if let Some(controller) = controller
                && let Ok(error) = (&mut controller.failure).await
            {
                return Err(ServeError::from(error));
            }
            pending().await
        };
        // Who waits for a rebalance would hold up the stop.
        let (stop, broker) = (self.context.stop.clone(), Rc::clone(&self.broker));
        let dismissing = TaskQueue::Requests.spawn(async move {
            stop.requested().await;
            broker.groups.coordinators().stop_all();
        });
        let following = self.spawn_follow_directories(is_registered);
        let ended = or(failed, served).await;
        following.cancel().await;
        dismissing.cancel().await;
        // What a log has begun it must end: a segment half rolled is in the way of appends. Where
        // it was a failure that ended the shard, nobody has asked for the stop yet.
        self.context.stop.request();
        background.await;
        retrying.cancel().await;
        unlinking.cancel().await;
        scrubbing.cancel().await;
        ended
    }

    /// On the controller's shard: sees to it that the metadata knows of this broker, if it does not
    /// yet, and which directories are left.
    fn spawn_follow_directories(&self, is_registered: bool) -> Task<()> {
        let (plan, broker) = (Rc::clone(&self.plan), Rc::clone(&self.broker));
        let is_its_shard = self.context.shard == CONTROLLER_SHARD;
        TaskQueue::Background.spawn(async move {
            if is_its_shard {
                if !is_registered {
                    register_late(&plan, &broker).await;
                }
                follow_directories(&plan, &broker).await;
            }
        })
    }

    /// By itself, since a pass takes hours.
    fn spawn_scrub(&self, metadata: Option<Rc<Log>>) -> Task<()> {
        let (plan, table) = (Rc::clone(&self.plan), Rc::clone(&self.table));
        TaskQueue::Background.spawn(async move { scrub(&plan.config, table, metadata).await })
    }

    /// Stops in order; what is acknowledged is durable already, and the next start needs no scan.
    async fn stop(
        &self,
        closers: &Closers,
        controller: Option<RunningController>,
    ) -> Result<(), ServeError> {
        self.context.barrier.wait().await;
        self.storage.close_journal();
        closers.calls.close();
        if let Some(controller) = controller {
            controller.running.await;
            let parked = controller.log.park().await;
            parked.map_err(CheckpointFailure::from)?;
        }
        self.context.barrier.wait().await;
        closers.groups.close();
        closers.partitions.close();
        closers.images.close();
        let directories = self.storage.directories();
        for partition in self.table.all() {
            let log = partition.log();
            match log.park().await {
                Ok(()) | Err(LogError::Closed) => {}
                // It was told when it failed, and the next start checks what is in it.
                Err(_) if directories.have_lost(log.directory()) => {}
                Err(error) => return Err(CheckpointFailure::from(error).into()),
            }
        }
        self.checkpointer.checkpoint().await?;
        Ok(())
    }
}

/// All partitions that there are, and where the metadata places them; and its own log.
fn claims_of(image: &MetadataImage, node: NodeId) -> HashMap<String, Claim> {
    let partitions = image.topics().flat_map(|topic| {
        topic.iter().map(move |(index, partition)| {
            let claim = Claim {
                topic_id: topic.id,
                directory: apply::directory_of(partition, node),
            };
            (layout::partition_directory(&topic.name, index), claim)
        })
    });
    let metadata = layout::partition_directory(topic_name::CLUSTER_METADATA, PartitionIndex(0));
    let claim = Claim {
        topic_id: TopicId::METADATA,
        directory: None,
    };
    partitions.chain([(metadata, claim)]).collect()
}

/// The work that nobody waits for: checkpoints, retention, parking, forgetting producers. It ends
/// with the stop, between two of them, and must not be dropped before.
async fn maintain(
    plan: Rc<ShardPlan>,
    broker: Rc<Broker>,
    table: Rc<PartitionTable>,
    storage: Rc<ShardStorage>,
    checkpointer: Checkpointer,
    stop: Stop,
) {
    let config = &plan.config;
    let started = Instant::now();
    let check = Duration::from_millis(config.log_retention_check_interval_ms);
    let first_check = Duration::from_millis(config.log_initial_task_delay_ms);
    let mut retention = Due::new(started, first_check, check);
    let expiration = Duration::from_millis(config.producer_id_expiration_check_interval_ms);
    let mut forgetting = Due::new(started, expiration, expiration);
    let mut checkpointed_bytes = storage.appended_bytes();
    loop {
        or(Timer::new(TICK), stop.requested()).await;
        if stop.is_requested() {
            return;
        }
        let now = broker.now();
        storage.park_idle(now - PARK_AFTER_MS);
        if storage.appended_bytes() - checkpointed_bytes >= CHECKPOINT_EVERY_BYTES {
            checkpointed_bytes = storage.appended_bytes();
            if let Err(error) = checkpointer.checkpoint().await {
                tracing::error!(%error, "checkpoint not written: a start after a crash scans more");
            }
        }
        if retention.is_due(Instant::now()) {
            retain(&table, now, &stop).await;
        }
        if forgetting.is_due(Instant::now()) {
            for partition in table.all() {
                partition.forget_producers(now, config.producer_id_expiration_ms as i64);
            }
        }
    }
}

/// Says what a start after an unclean stop had to do, once every shard has done it.
fn tell_recovery(opened: &OpenedAtStart, took: Duration) {
    let tally = &opened.tally;
    if !opened.clean && tally.logs() > 0 {
        tracing::info!(
            milliseconds = took.as_millis() as u64,
            "unclean shutdown: {} partitions checked, {} bytes, {} cut",
            tally.logs(),
            tally.scanned_bytes(),
            tally.cut()
        );
    }
}

/// Registers the broker once there is room for that.
async fn register_late(plan: &ShardPlan, broker: &Broker) {
    loop {
        Timer::new(RETRY_EVERY).await;
        let registration = plan.registration.clone();
        match broker.controller.register_broker(registration).await {
            Ok(_) => {
                tracing::info!("the broker is registered: there is room again");
                return;
            }
            Err(Unavailable::NoRoom | Unavailable::Busy) => {}
            // The shard ends with the controller.
            Err(Unavailable::Stopped) => return,
        }
    }
}

/// Has the controller told of a directory that has failed, also where it has nothing else to do: so
/// clients learn that its replicas are offline. Where it is the directory of the metadata, nothing
/// can be registered.
async fn follow_directories(plan: &ShardPlan, broker: &Broker) {
    let mut told = plan.registration.log_directories.clone();
    loop {
        Timer::new(TICK).await;
        let left = plan.directories.ids_in_service();
        if left == told || plan.directories.first().failure().is_some() {
            continue;
        }
        match broker.controller.tell_directory_failed().await {
            Ok(()) => {
                let (left, of) = (left.len(), plan.directories.of_partitions().len());
                tracing::warn!("{left} of {of} log directories are left");
            }
            Err(error) => {
                tracing::error!(%error, "the log directories that are left are not registered");
                continue;
            }
        }
        told = left;
    }
}

/// By itself, since bringing a partition up takes long.
async fn retry(follower: Rc<apply::Follower>) {
    loop {
        Timer::new(RETRY_EVERY).await;
        follower.retry().await;
    }
}

/// By itself, since a topic of many partitions takes long.
async fn unlink_deleted(table: Rc<PartitionTable>) {
    loop {
        Timer::new(TICK).await;
        table.unlink_deleted().await;
    }
}

async fn retain(table: &PartitionTable, now: TimestampMs, stop: &Stop) {
    for partition in table.all() {
        if stop.is_requested() {
            return;
        }
        if partition.log().directory().failure().is_some() {
            continue;
        }
        match table.retain(&partition, now).await {
            Ok(()) | Err(LogError::Closed) => {}
            Err(error) => {
                let partition = partition.log().path().display();
                tracing::error!(%partition, %error, "retention could not delete segments");
            }
        }
    }
}
