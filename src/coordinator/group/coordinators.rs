//! The coordinators of one shard, one for each partition of `__consumer_offsets` that the shard
//! owns, and the way from a request to the one that has its group, on whatever shard that is.
//!
//! A group's requests from one shard reach its coordinator in the order in which they were sent.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use bytestring::ByteString;
use futures_lite::future::or;

use super::command::{Command, Reply};
use super::error::GroupError;
use super::machine;
use super::reads::{DescribedGroup, ListFilter, ListedGroup};
use super::runtime::{Coordinator, Shared};
use crate::base::ids::{ShardId, TopicId, TopicIdPartition};
use crate::runtime::Timer;
use crate::shard::mailbox::{Closed, Mailboxes};
use crate::shard::placement;
use crate::shard::reply::{self, Receiver, Sender};

/// What a list of groups of one partition is, or why there is none.
pub type Listed = Result<Vec<ListedGroup>, GroupError>;

/// A request to the coordinators of one shard. Messages cross shards: owned data only.
#[derive(Debug)]
pub enum GroupMessage {
    /// Carry out a command for a group of this partition of `__consumer_offsets`.
    Handle(TopicIdPartition, Box<Command>, Sender<Reply>),
    /// Describe a group of this partition.
    Describe(
        TopicIdPartition,
        ByteString,
        Sender<Result<DescribedGroup, GroupError>>,
    ),
    /// List the groups of some partitions that the shard owns.
    List(ListFilter, Vec<TopicIdPartition>, Sender<Vec<Listed>>),
}

/// The coordinators of one shard.
#[derive(Debug)]
pub struct Coordinators {
    shared: Rc<Shared>,
    by_partition: RefCell<BTreeMap<TopicIdPartition, Rc<Coordinator>>>,
    is_stopped: Cell<bool>,
}

impl Coordinators {
    /// None yet.
    pub fn new(shared: Rc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            shared,
            by_partition: RefCell::default(),
            is_stopped: Cell::new(false),
        })
    }

    /// Starts the coordinator of a partition that this shard owns and has opened.
    pub fn start(&self, id: TopicIdPartition) {
        if !self.is_stopped.get() {
            let coordinator = Coordinator::start(&self.shared, id);
            let before = self.by_partition.borrow_mut().insert(id, coordinator);
            debug_assert!(before.is_none(), "a partition has one coordinator");
        }
    }

    /// Gives up a partition that goes away: whoever waits is sent to another coordinator.
    pub fn stop(&self, id: &TopicIdPartition) {
        let coordinator = self.by_partition.borrow_mut().remove(id);
        if let Some(coordinator) = coordinator {
            coordinator.stop();
        }
    }

    /// Gives up all partitions, for good. No request waits here any longer.
    pub fn stop_all(&self) {
        self.is_stopped.set(true);
        for coordinator in std::mem::take(&mut *self.by_partition.borrow_mut()).into_values() {
            coordinator.stop();
        }
    }

    /// Has the offsets removed that were committed for a topic that is deleted.
    pub fn topic_deleted(&self, topic: &ByteString, id: TopicId) {
        for coordinator in self.by_partition.borrow().values() {
            coordinator.topic_deleted(topic, id);
        }
    }

    /// Handles a request; it is answered now or later.
    pub fn handle(&self, message: GroupMessage) {
        match message {
            GroupMessage::Handle(id, command, reply) => match self.find(&id) {
                Ok(coordinator) => coordinator.handle(*command, reply),
                Err(error) => drop(reply.send(command.refusal(error))),
            },
            GroupMessage::Describe(id, group, reply) => {
                let found = self.find(&id);
                let described = found.and_then(|it| it.look(|machine| machine.describe(&group)));
                let _gone = reply.send(described);
            }
            GroupMessage::List(filter, partitions, reply) => {
                let lists = partitions.iter().map(|id| self.list(id, &filter));
                let _gone = reply.send(lists.collect());
            }
        }
    }

    /// The groups of a partition. One that is not open, or whose log could not be loaded, may stay
    /// so: a list must not lack its groups.
    fn list(&self, id: &TopicIdPartition, filter: &ListFilter) -> Listed {
        let coordinator = match self.find(id) {
            Ok(coordinator) => coordinator,
            Err(GroupError::LoadInProgress) => return Err(GroupError::NotAvailable),
            Err(error) => return Err(error),
        };
        match coordinator.look(|machine| machine.list(filter)) {
            Err(GroupError::NotCoordinator) => Err(GroupError::NotAvailable),
            listed => listed,
        }
    }

    /// Requests come for partitions that are this shard's, so one that is not here yet is about to
    /// be.
    fn find(&self, id: &TopicIdPartition) -> Result<Rc<Coordinator>, GroupError> {
        match self.by_partition.borrow().get(id) {
            Some(coordinator) => Ok(Rc::clone(coordinator)),
            None if self.is_stopped.get() => Err(GroupError::NotCoordinator),
            None => Err(GroupError::LoadInProgress),
        }
    }
}

/// A shard's way to all groups of the broker.
#[derive(Debug)]
pub struct GroupRouter {
    coordinators: Rc<Coordinators>,
    mailboxes: Mailboxes<GroupMessage>,
}

/// A command that was sent and is not answered yet.
#[derive(Debug)]
pub struct Pending {
    answer: Result<Receiver<Reply>, Reply>,
    /// The answer where the coordinator has gone.
    gone: Reply,
    /// The answer where the log takes until this moment. None where other members are waited for.
    late: Option<(Instant, Reply)>,
}

impl Pending {
    /// Waits for the answer.
    pub async fn answer(self) -> Reply {
        let answer = match self.answer {
            Ok(answer) => async { answer.await.unwrap_or(self.gone) },
            Err(reply) => return reply,
        };
        match self.late {
            None => answer.await,
            Some((end, reply)) => {
                let late = async {
                    Timer::new(end.saturating_duration_since(Instant::now())).await;
                    reply
                };
                or(answer, late).await
            }
        }
    }
}

impl GroupRouter {
    /// Routes between `coordinators`, the own shard's, and the other shards' mailboxes.
    pub fn new(coordinators: Rc<Coordinators>, mailboxes: Mailboxes<GroupMessage>) -> Self {
        Self {
            coordinators,
            mailboxes,
        }
    }

    /// The own shard's coordinators.
    pub fn coordinators(&self) -> &Rc<Coordinators> {
        &self.coordinators
    }

    /// Sends a command to the coordinator of `id`, the partition of its group; without one, where
    /// `__consumer_offsets` does not exist, it is refused.
    pub async fn send(&self, id: Option<TopicIdPartition>, command: Command) -> Pending {
        let gone = command.refusal(GroupError::NotCoordinator);
        let late = match &command {
            Command::Join(_) | Command::Sync(_) => None,
            command => {
                let patience = self.coordinators.shared.commit_timeout;
                let end = Instant::now() + patience;
                Some((end, command.refusal(GroupError::NotAvailable)))
            }
        };
        let Some(id) = id else {
            let invalid = machine::invalid(&command, &self.coordinators.shared.config);
            let answer = Err(invalid.unwrap_or_else(|| gone.clone()));
            return Pending { answer, gone, late };
        };
        let (reply, answer) = reply::channel();
        let message = GroupMessage::Handle(id, Box::new(command), reply);
        self.pass(self.owner(&id), message).await;
        Pending {
            answer: Ok(answer),
            gone,
            late,
        }
    }

    /// Has a group described, as [`machine::Machine::describe`] does. There is no answer where the
    /// coordinator is gone, and where `__consumer_offsets` does not exist.
    pub async fn describe(
        &self,
        id: Option<TopicIdPartition>,
        group: ByteString,
    ) -> Receiver<Result<DescribedGroup, GroupError>> {
        let (reply, answer) = reply::channel();
        if let Some(id) = id {
            let message = GroupMessage::Describe(id, group, reply);
            self.pass(self.owner(&id), message).await;
        }
        answer
    }

    /// Lists the groups of `partitions`, shard by shard: one answer for each of them.
    pub async fn list(
        &self,
        filter: &ListFilter,
        partitions: impl IntoIterator<Item = TopicIdPartition>,
    ) -> Vec<Listed> {
        let mut by_shard: BTreeMap<ShardId, Vec<TopicIdPartition>> = BTreeMap::new();
        for id in partitions {
            by_shard.entry(self.owner(&id)).or_default().push(id);
        }
        let mut answers = Vec::with_capacity(by_shard.len());
        for (shard, partitions) in by_shard {
            let (reply, answer) = reply::channel();
            let message = GroupMessage::List(filter.clone(), partitions, reply);
            self.pass(shard, message).await;
            answers.push(answer);
        }
        let mut lists = Vec::new();
        for answer in answers {
            match answer.await {
                Ok(some) => lists.extend(some),
                Err(_gone) => lists.push(Err(GroupError::NotCoordinator)),
            }
        }
        lists
    }

    fn owner(&self, id: &TopicIdPartition) -> ShardId {
        placement::owner(id, self.mailboxes.shards())
    }

    /// A shard that has stopped drops the message, and with it its reply.
    async fn pass(&self, to: ShardId, message: GroupMessage) {
        if to == self.mailboxes.shard() {
            return self.coordinators.handle(message);
        }
        if let Err(Closed(message)) = self.mailboxes.send(to, message).await {
            drop(message);
        }
    }
}
