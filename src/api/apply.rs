//! Follows the metadata on one shard: its partitions are made, changed and deleted as it says.
//!
//! A change is applied when its partitions are there and the new image is the shard's. Deletions
//! come first, since a new topic may have the name of a deleted one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;

use super::broker::Broker;
use crate::base::ids::{NodeId, TopicIdPartition, Uuid};
use crate::config::{ConfigError, TopicConfig};
use crate::coordinator::group::coordinators::Coordinators;
use crate::metadata::delta::Changes;
use crate::metadata::image::{ConfigResource, MetadataImage, PartitionImage, TopicImage};
use crate::metadata::topic_name;
use crate::partition::open::OpenPartition;
use crate::runtime::Semaphore;
use crate::storage::checkpoint::RecoveryPoints;
use crate::storage::recovery::{RecoveryPoint, RecoveryTally};

/// Partitions opened at once: as many as the blocking pool has threads, and some on the way.
const OPENING_MAX: usize = 8;

/// Kafka's ids for a replica whose directory is not known yet.
const NO_DIRECTORY: [Uuid; 2] = [Uuid(0), Uuid(1)];

/// A topic has settings that this broker does not understand.
#[derive(Debug, thiserror::Error)]
#[error("topic {topic}: {error}")]
struct ApplyError {
    topic: ByteString,
    error: ConfigError,
}

/// What the last run left for this one.
#[derive(Debug, Default)]
pub struct OpenedAtStart {
    /// How far each log was durable, as the checkpoints in each log directory say, in their order.
    pub points: Vec<RecoveryPoints>,
    /// Whether the broker stopped cleanly after it recorded that.
    pub clean: bool,
    /// Where the shards count what they recover.
    pub tally: Arc<RecoveryTally>,
}

impl OpenedAtStart {
    /// How far a log was durable, and the number of the directory that says so: of several, as
    /// there may be after somebody has moved it, the one that says most.
    pub fn point(&self, id: &TopicIdPartition) -> Option<(usize, RecoveryPoint)> {
        let points = self.points.iter().enumerate();
        let points = points.filter_map(|(number, points)| Some((number, *points.get(id)?)));
        points.max_by_key(|(_, point)| point.offset)
    }
}

/// Follows the metadata on one shard.
#[derive(Debug)]
pub struct Follower {
    broker: Rc<Broker>,
    /// Counts for the first image alone: what comes later is new.
    at_start: RefCell<Arc<OpenedAtStart>>,
    /// Partitions for whose files there was no room.
    waiting: RefCell<BTreeMap<TopicIdPartition, OpenPartition>>,
    has_applied: Cell<bool>,
    /// Held while partitions come and go, by one at a time.
    changing: Semaphore,
}

impl Follower {
    /// A follower that has seen nothing yet.
    pub fn new(broker: Rc<Broker>, at_start: Arc<OpenedAtStart>) -> Rc<Self> {
        Rc::new(Self {
            broker,
            at_start: RefCell::new(at_start),
            waiting: RefCell::default(),
            has_applied: Cell::new(false),
            changing: Semaphore::new(1),
        })
    }

    /// Whether an image has been applied: before that the shard knows none of its partitions.
    pub fn has_applied(&self) -> bool {
        self.has_applied.get()
    }

    /// Applies one change. A partition that cannot be opened is reported, and is not here for its
    /// clients; the image is applied all the same. Where only room is missing, [`Follower::retry`]
    /// brings it up later.
    pub async fn apply(&self, image: Arc<MetadataImage>, changes: &Changes) {
        let _one = self.changing.acquire_permit(1).await;
        let at_start = self.at_start.take();
        let table = Rc::clone(self.broker.router.table());
        let delay = self.broker.config.topic_defaults.file_delete_delay_ms;
        let delay = Duration::from_millis(delay);
        for topic in &changes.deleted {
            for (partition, _) in topic.iter() {
                let id = topic.topic_id_partition(partition);
                self.waiting.borrow_mut().remove(&id);
                self.coordinators().stop(&id);
                if let Err(error) = table.delete(&id, delay).await {
                    // Its files go at the next start: no topic claims them.
                    let topic = &topic.name;
                    tracing::error!(%topic, %partition, %error, "partition not deleted");
                }
            }
        }
        for topic in &changes.deleted {
            self.coordinators().topic_deleted(&topic.name, topic.id);
        }
        let mut wanted = Vec::new();
        for id in changes.created.iter().filter(|id| self.is_mine(id)) {
            let Some(topic) = image.topic(id.topic_id) else {
                continue;
            };
            if let Some(point) = at_start.point(id) {
                table.expect(*id, point);
            }
            match self.to_open(&image, topic, *id, &at_start) {
                Ok(open) => wanted.push(open),
                Err(error) => tell_not_opened(&error),
            }
        }
        self.open(wanted).await;
        for change in &changes.changed {
            let partition = table.get(&change.partition);
            let is_new_epoch = change.after.leader_epoch != change.before.leader_epoch;
            if let Some(waiting) = self.waiting.borrow_mut().get_mut(&change.partition) {
                waiting.leader_epoch = change.after.leader_epoch;
            }
            if let Some(partition) = partition.filter(|_| is_new_epoch)
                && let Err(error) = partition.lead(change.after.leader_epoch).await
            {
                tracing::error!(partition = %change.partition, %error, "leader epoch not recorded");
            }
        }
        for resource in &changes.configs {
            if let ConfigResource::Topic(name) = resource {
                self.reconfigure(&image, name);
            }
        }
        self.broker.set_image(image);
        self.has_applied.set(true);
    }

    fn coordinators(&self) -> &Coordinators {
        self.broker.groups.coordinators()
    }

    /// What follows when a partition of this shard is there.
    fn opened(&self, partition: &OpenPartition) {
        if partition.topic == topic_name::GROUP_METADATA {
            self.coordinators().start(partition.id);
        }
    }

    fn reconfigure(&self, image: &MetadataImage, name: &ByteString) {
        let Some(topic) = image.topic_named(name) else {
            return;
        };
        match self.config_of(image, name) {
            Ok(config) => {
                let config = Rc::new(config);
                for (partition, _) in topic.iter() {
                    let id = topic.topic_id_partition(partition);
                    self.broker.router.table().reconfigure(&id, &config);
                    if let Some(waiting) = self.waiting.borrow_mut().get_mut(&id) {
                        waiting.config = TopicConfig::clone(&config);
                    }
                }
            }
            Err(error) => tracing::error!(%error, "settings not applied"),
        }
    }

    fn is_mine(&self, id: &TopicIdPartition) -> bool {
        self.broker.router.owner(id) == self.broker.router.shard()
    }

    fn to_open(
        &self,
        image: &MetadataImage,
        topic: &TopicImage,
        id: TopicIdPartition,
        at_start: &OpenedAtStart,
    ) -> Result<OpenPartition, ApplyError> {
        let partition = topic
            .partition(id.partition)
            .expect("a partition of this topic");
        Ok(OpenPartition {
            id,
            topic: topic.name.to_string(),
            leader_epoch: partition.leader_epoch,
            config: self.config_of(image, &topic.name)?,
            directory: directory_of(partition, self.broker.node_id),
            is_new: self.has_applied(),
            point: at_start.point(&id),
            clean: at_start.clean,
            tally: Arc::clone(&at_start.tally),
        })
    }

    fn config_of(
        &self,
        image: &MetadataImage,
        name: &ByteString,
    ) -> Result<TopicConfig, ApplyError> {
        let config = self.broker.topic_config(image, name);
        config.map_err(|error| ApplyError {
            topic: name.clone(),
            error,
        })
    }

    /// Tries again to bring up the partitions for whose files there was no room. The first one that
    /// finds none again ends the attempt: it tells for the others.
    pub async fn retry(&self) {
        let _one = self.changing.acquire_permit(1).await;
        loop {
            let next = self.waiting.borrow_mut().pop_first();
            let Some((id, next)) = next else { return };
            match self.broker.router.table().open(next.clone()).await {
                Ok(()) => {
                    self.opened(&next);
                    let (topic, partition) = (&next.topic, id.partition);
                    tracing::info!(%topic, %partition, "partition opened: there is room again");
                }
                Err(error) if error.is_no_room() => {
                    self.waiting.borrow_mut().insert(id, next);
                    return;
                }
                Err(error) => tell_not_opened(&error),
            }
        }
    }

    /// Opens partitions, several at once.
    async fn open(&self, wanted: Vec<OpenPartition>) {
        let mut rest = wanted.into_iter();
        let mut opening = VecDeque::with_capacity(OPENING_MAX);
        loop {
            while opening.len() < OPENING_MAX
                && let Some(next) = rest.next()
            {
                let (table, wanted) = (Rc::clone(self.broker.router.table()), next.clone());
                let opened = crate::runtime::spawn_local(async move { table.open(wanted).await });
                opening.push_back((next, opened));
            }
            let Some((first, opened)) = opening.pop_front() else {
                return;
            };
            match opened.await {
                Ok(()) => self.opened(&first),
                Err(error) if error.is_no_room() => {
                    tracing::error!(%error, "partition not opened yet: there is no room for it");
                    self.waiting.borrow_mut().insert(first.id, first);
                }
                Err(error) => tell_not_opened(&error),
            }
        }
    }
}

/// The log directory that the metadata names for a broker's replica.
pub fn directory_of(partition: &PartitionImage, broker: NodeId) -> Option<Uuid> {
    let is_its = |replica: &NodeId| *replica == broker;
    let at = partition.replicas.iter().position(is_its)?;
    let directory = partition.directories.get(at).copied();
    directory.filter(|id| !NO_DIRECTORY.contains(id))
}

/// The others are served, and this one is not until somebody has done something about it.
fn tell_not_opened(error: &dyn Display) {
    tracing::error!(
        %error,
        "partition not opened, its clients are refused: mend what the error names, then start \
         the broker again"
    );
}

#[cfg(test)]
mod tests;
