//! The way to the controller from any shard: a call goes to shard 0, its answer comes back when the
//! change is durable and applied everywhere.

use crate::base::ids::{NodeId, ShardId, TopicIdPartition, Uuid};
use crate::protocol::messages::create_partitions_request::CreatePartitionsRequest;
use crate::protocol::messages::create_topics_request::CreateTopicsRequest;
use crate::protocol::messages::delete_topics_request::DeleteTopicsRequest;
use crate::shard::mailbox::Mailboxes;
use crate::shard::reply;

use super::brokers::BrokerRegistration;
use super::partitions::CreatedPartitions;
use super::producer_ids::{ProducerIdBlock, ProducerIdsExhausted};
use super::topics::{CreateTopicResult, DeletedTopic};

/// The shard that the controller runs on.
pub const CONTROLLER_SHARD: ShardId = ShardId(0);

/// The answer to a call: what its planner replied, once it holds.
pub type Answer<R> = reply::Sender<Result<R, Unavailable>>;

/// Why a call was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// No room is left for the metadata log. Nothing was changed.
    #[error("no room is left for the metadata log")]
    NoRoom,
    /// Too many calls wait already. Nothing was changed.
    #[error("too many changes to the metadata are waiting")]
    Busy,
    /// The controller has stopped or failed: whether the change was made is not known.
    #[error("the controller has stopped")]
    Stopped,
}

/// A command for the controller and where its answer goes.
#[derive(Debug)]
pub enum Call {
    /// Create topics.
    CreateTopics(CreateTopicsRequest, Answer<Vec<CreateTopicResult>>),
    /// Delete topics.
    DeleteTopics(DeleteTopicsRequest, Answer<Vec<DeletedTopic>>),
    /// Give topics more partitions.
    CreatePartitions(CreatePartitionsRequest, Answer<Vec<CreatedPartitions>>),
    /// Give a broker a block of producer ids.
    AllocateProducerIds(
        NodeId,
        Answer<Result<ProducerIdBlock, ProducerIdsExhausted>>,
    ),
    /// Say in which log directories replicas of a broker are.
    AssignDirectories(NodeId, Vec<(TopicIdPartition, Uuid)>, Answer<()>),
    /// One of the log directories of this process's broker has failed.
    TellDirectoryFailed(Answer<()>),
    /// Register a broker; the answer is its epoch.
    RegisterBroker(Box<BrokerRegistration>, Answer<i64>),
}

/// Sends calls to the controller. Every shard has one; clones share it.
#[derive(Clone, Debug)]
pub struct ControllerHandle {
    mailboxes: Mailboxes<Call>,
}

impl ControllerHandle {
    /// A handle over this shard's end of the mesh of calls.
    pub fn new(mailboxes: Mailboxes<Call>) -> Self {
        Self { mailboxes }
    }

    /// Creates topics, or only checks whether it could.
    ///
    /// # Errors
    /// As for every call here: the whole request was not carried out, or it is not known.
    pub async fn create_topics(
        &self,
        request: CreateTopicsRequest,
    ) -> Result<Vec<CreateTopicResult>, Unavailable> {
        self.call(|answer| Call::CreateTopics(request, answer))
            .await
    }

    /// Deletes topics, with their settings and their data.
    ///
    /// # Errors
    /// See [`ControllerHandle::create_topics`].
    pub async fn delete_topics(
        &self,
        request: DeleteTopicsRequest,
    ) -> Result<Vec<DeletedTopic>, Unavailable> {
        self.call(|answer| Call::DeleteTopics(request, answer))
            .await
    }

    /// Gives topics more partitions, or only checks whether it could.
    ///
    /// # Errors
    /// See [`ControllerHandle::create_topics`].
    pub async fn create_partitions(
        &self,
        request: CreatePartitionsRequest,
    ) -> Result<Vec<CreatedPartitions>, Unavailable> {
        self.call(|answer| Call::CreatePartitions(request, answer))
            .await
    }

    /// Takes a block of producer ids for `broker`: nobody else will ever get one of them.
    ///
    /// # Errors
    /// See [`ControllerHandle::create_topics`]; the inner error is that there are none left.
    pub async fn allocate_producer_ids(
        &self,
        broker: NodeId,
    ) -> Result<Result<ProducerIdBlock, ProducerIdsExhausted>, Unavailable> {
        self.call(|answer| Call::AllocateProducerIds(broker, answer))
            .await
    }

    /// Has the metadata say in which of its log directories replicas of `broker` were found.
    ///
    /// # Errors
    /// See [`ControllerHandle::create_topics`].
    pub async fn assign_directories(
        &self,
        broker: NodeId,
        found: Vec<(TopicIdPartition, Uuid)>,
    ) -> Result<(), Unavailable> {
        self.call(|answer| Call::AssignDirectories(broker, found, answer))
            .await
    }

    /// Has the metadata say which log directories of this process's broker are left, once one has
    /// failed.
    ///
    /// # Errors
    /// See [`ControllerHandle::create_topics`].
    pub async fn tell_directory_failed(&self) -> Result<(), Unavailable> {
        self.call(Call::TellDirectoryFailed).await
    }

    /// Registers a broker that starts, and returns its epoch.
    ///
    /// # Errors
    /// See [`ControllerHandle::create_topics`].
    pub async fn register_broker(
        &self,
        registration: BrokerRegistration,
    ) -> Result<i64, Unavailable> {
        self.call(|answer| Call::RegisterBroker(Box::new(registration), answer))
            .await
    }

    async fn call<R: Send>(&self, call: impl FnOnce(Answer<R>) -> Call) -> Result<R, Unavailable> {
        let (answer, answered) = reply::channel();
        let sent = self.mailboxes.send(CONTROLLER_SHARD, call(answer)).await;
        sent.map_err(|_| Unavailable::Stopped)?;
        answered.await.unwrap_or(Err(Unavailable::Stopped))
    }
}

impl Call {
    /// Answers that the call was not carried out.
    pub(super) fn refuse(self, why: Unavailable) {
        // Whoever asked may be gone: then nobody is interested in the answer.
        match self {
            Self::CreateTopics(_, answer) => drop(answer.send(Err(why))),
            Self::DeleteTopics(_, answer) => drop(answer.send(Err(why))),
            Self::CreatePartitions(_, answer) => drop(answer.send(Err(why))),
            Self::AllocateProducerIds(_, answer) => drop(answer.send(Err(why))),
            Self::AssignDirectories(_, _, answer) => drop(answer.send(Err(why))),
            Self::TellDirectoryFailed(answer) => drop(answer.send(Err(why))),
            Self::RegisterBroker(_, answer) => drop(answer.send(Err(why))),
        }
    }
}
