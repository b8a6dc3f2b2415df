//! The quorum of one: plans calls, makes their records durable, applies them, publishes the image,
//! answers. Shard 0; the only writer of the metadata log.
//!
//! Calls that have come in while the log was syncing are planned one after the other, each on the
//! image that the ones before it make, and become durable together. Nothing is answered, and no
//! shard sees anything, before that. A log directory that has failed is taken out of the broker's
//! registration before anything is planned, so that no partition is placed in it.

use std::sync::Arc;

use bytes::Bytes;
use futures_channel::mpsc;
use futures_lite::{StreamExt as _, future};

use super::Plan;
use super::brokers::{BrokerRegistration, assign_directories, register_broker};
use super::events;
use super::handle::{Answer, Call, Unavailable};
use super::log::{MetadataLog, MetadataLogError};
use super::partitions::create_partitions;
use super::producer_ids::allocate_producer_ids;
use super::publisher::{Publisher, ShardGone};
use super::topics::{create_topics, delete_topics};
use crate::base::clock::Clock;
use crate::base::ids::{LeaderEpoch, ShardId, TopicId};
use crate::base::limits::{CONTROLLER_CALLS_TOGETHER_MAX, CONTROLLER_CALLS_WAITING_MAX};
use crate::config::BrokerConfig;
use crate::metadata::batch::{self, ReplayBatchError, WriteError};
use crate::metadata::{MetadataDelta, MetadataImage, MetadataRecord};
use crate::shard::mailbox::Receiver;
use crate::storage::directories::LogDirectories;

/// Why the controller stopped. The process must end: the image may be behind the log.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The log has failed.
    #[error(transparent)]
    Log(#[from] MetadataLogError),
    /// A shard has stopped.
    #[error(transparent)]
    Shard(#[from] ShardGone),
    /// A planner made records that cannot be written: a mistake in this program.
    #[error("a plan that cannot be written: {0}")]
    Write(#[from] WriteError),
    /// What was written cannot be replayed: a mistake in this program.
    #[error("a plan that cannot be replayed: {0}")]
    Replay(#[from] ReplayBatchError),
}

/// The state of the quorum of one.
#[derive(Debug)]
pub struct Controller {
    log: MetadataLog,
    image: Arc<MetadataImage>,
    leader_epoch: LeaderEpoch,
    publisher: Publisher,
    config: Arc<BrokerConfig>,
    clock: Clock,
    /// Those of the broker of this process.
    directories: LogDirectories,
    /// What that has said of itself.
    registration: Option<BrokerRegistration>,
}

/// Sends an answer, or says that there is none.
type Finish = Box<dyn FnOnce(Result<(), Unavailable>)>;

impl Controller {
    /// A controller over a log that was replayed into `image`. `leader_epoch` is the term that it
    /// leads in: one more than any in the log. `directories` are those of this process's broker.
    pub fn new(
        log: MetadataLog,
        image: Arc<MetadataImage>,
        leader_epoch: LeaderEpoch,
        publisher: Publisher,
        config: Arc<BrokerConfig>,
        clock: Clock,
        directories: LogDirectories,
    ) -> Self {
        Self {
            log,
            image,
            leader_epoch,
            publisher,
            config,
            clock,
            directories,
            registration: None,
        }
    }

    /// Carries out the calls that come through `calls` until the mailbox is closed.
    ///
    /// # Errors
    /// The controller cannot go on; every call that waits is answered with
    /// [`Unavailable::Stopped`].
    pub async fn run(mut self, calls: Receiver<Call>) -> Result<(), ControllerError> {
        events::tell_compaction(&self.image, &self.config);
        let (mut queue, mut waiting) = mpsc::channel(CONTROLLER_CALLS_WAITING_MAX);
        let closer = calls.closer();
        let take = calls.run(move |_: ShardId, call| enqueue(&mut queue, call));
        let work = async move {
            let result = self.work(&mut waiting).await;
            // After a failure nobody takes calls any more, and those that wait are dropped.
            closer.close();
            result
        };
        let ((), result) = future::zip(take, work).await;
        result
    }

    async fn work(&mut self, waiting: &mut mpsc::Receiver<Call>) -> Result<(), ControllerError> {
        while let Some(first) = waiting.next().await {
            let mut calls = vec![first];
            while calls.len() < CONTROLLER_CALLS_TOGETHER_MAX
                && let Some(Some(next)) = future::poll_once(waiting.next()).await
            {
                calls.push(next);
            }
            self.carry_out(calls).await?;
        }
        Ok(())
    }

    async fn carry_out(&mut self, calls: Vec<Call>) -> Result<(), ControllerError> {
        let mut delta = MetadataDelta::new(&self.image);
        let mut batches = Vec::new();
        let mut finishes = Vec::with_capacity(calls.len());
        if let Some(left) = self.registration_left(delta.image()) {
            let plan = register_broker(delta.image(), &self.config, &left);
            batches.push(self.replay(&plan.records, &mut delta)?);
        }
        for call in calls {
            let (records, finish) = self.plan(call, delta.image());
            finishes.push(finish);
            if !records.is_empty() {
                batches.push(self.replay(&records, &mut delta)?);
            }
        }
        let outcome = match batches.is_empty() {
            true => Ok(()),
            false => self.commit(&batches, delta).await?,
        };
        for finish in finishes {
            finish(outcome);
        }
        Ok(())
    }

    /// The registration of this process's broker without the log directories that have failed since
    /// it was applied. Where that of the metadata has, nothing can be registered.
    fn registration_left(&self, image: &MetadataImage) -> Option<BrokerRegistration> {
        let registration = self.registration.as_ref()?;
        let left = self.directories.ids_in_service();
        let applied = &image.broker(registration.node_id)?.log_directories;
        if left == *applied || self.directories.first().failure().is_some() {
            return None;
        }
        Some(BrokerRegistration {
            log_directories: left,
            // Nothing was lost that was shown: this is no start.
            was_clean_shutdown: true,
            ..registration.clone()
        })
    }

    /// What a call changes and how it is answered.
    fn plan(&mut self, call: Call, image: &MetadataImage) -> (Vec<MetadataRecord>, Finish) {
        match call {
            Call::CreateTopics(request, answer) => {
                let plan = create_topics(image, &self.config, &request, &mut TopicId::random);
                planned(plan, answer)
            }
            Call::DeleteTopics(request, answer) => planned(delete_topics(image, &request), answer),
            Call::CreatePartitions(request, answer) => {
                planned(create_partitions(image, &request), answer)
            }
            Call::AllocateProducerIds(broker, answer) => {
                planned(allocate_producer_ids(image, broker), answer)
            }
            Call::AssignDirectories(broker, found, answer) => {
                planned(assign_directories(image, broker, &found), answer)
            }
            // What there is to do is done before any call.
            Call::TellDirectoryFailed(answer) => planned(Plan::only_reply(()), answer),
            Call::RegisterBroker(registration, answer) => {
                let plan = register_broker(image, &self.config, &registration);
                self.registration = Some(*registration);
                planned(plan, answer)
            }
        }
    }

    /// Makes a batch of `records` and replays what stands in it, as a restart would.
    fn replay(
        &self,
        records: &[MetadataRecord],
        delta: &mut MetadataDelta,
    ) -> Result<Bytes, ControllerError> {
        let next = delta.image().next_offset();
        let batch = batch::to_batch(records, next, self.leader_epoch, self.clock.now_ms())?;
        batch::replay(&batch, delta)?;
        Ok(batch)
    }

    /// Makes the batches durable and their image the one that every shard holds. The inner error
    /// says that nothing was changed.
    async fn commit(
        &mut self,
        batches: &[Bytes],
        delta: MetadataDelta,
    ) -> Result<Result<(), Unavailable>, ControllerError> {
        match self.log.append(batches).await {
            Ok(()) => {}
            Err(MetadataLogError::NoRoom) => return Ok(Err(Unavailable::NoRoom)),
            Err(error) => return Err(error.into()),
        }
        let (image, changes) = delta.finish();
        self.image = Arc::new(image);
        let told = events::of(&self.image, &changes, &self.config);
        self.publisher
            .publish(&self.image, &Arc::new(changes))
            .await?;
        events::tell(&told);
        Ok(Ok(()))
    }
}

fn enqueue(queue: &mut mpsc::Sender<Call>, call: Call) {
    match queue.try_send(call) {
        Ok(()) => {}
        Err(refused) if refused.is_full() => refused.into_inner().refuse(Unavailable::Busy),
        // The controller has failed, and what is dropped unanswered reads as stopped.
        Err(_) => {}
    }
}

fn planned<R: 'static>(plan: Plan<R>, answer: Answer<R>) -> (Vec<MetadataRecord>, Finish) {
    let Plan { records, reply } = plan;
    let finish = move |outcome: Result<(), Unavailable>| {
        // Whoever asked may be gone: then nobody is interested in the answer.
        drop(answer.send(outcome.map(|()| reply)));
    };
    (records, Box::new(finish))
}
