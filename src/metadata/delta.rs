//! Takes an image to the next one by replaying records, and says what came of it. Pure; shard 0
//! builds deltas, every shard acts on their [`Changes`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytestring::ByteString;

use super::features;
use super::image::{
    BrokerImage, ConfigResource, Endpoint, MetadataImage, PartitionImage, TopicImage,
};
use super::records::MetadataRecord;
use super::topic_name;
use crate::base::ids::{
    LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerId, TopicId, TopicIdPartition,
};
use crate::protocol::messages::config_record::ConfigRecord;
use crate::protocol::messages::feature_level_record::FeatureLevelRecord;
use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
use crate::protocol::messages::partition_record::PartitionRecord;
use crate::protocol::messages::producer_ids_record::ProducerIdsRecord;
use crate::protocol::messages::register_broker_record::RegisterBrokerRecord;
use crate::protocol::messages::topic_record::TopicRecord;

/// A partition's leader in a record, where it has none.
const NO_LEADER: i32 = -1;
/// The leader in a change that leaves it and its epoch alone.
const NO_LEADER_CHANGE: i32 = -2;
/// The recovery state in a change that leaves it alone.
const NO_RECOVERY_CHANGE: i8 = -1;
/// Kafka's ids of the resources that have settings.
const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;

/// A record that contradicts the image: the log is damaged, or from a version that this one does
/// not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// A record that came before. Gaps are no error: records of the log itself have offsets too.
    #[error("offset {found}, where {expected} is the next")]
    OutOfOrder {
        /// The next offset.
        expected: Offset,
        /// The record's.
        found: Offset,
    },
    /// A topic of that name or id is already there.
    #[error("topic {name} with id {id} is already there")]
    TopicExists {
        /// The new topic's name.
        name: ByteString,
        /// Its id.
        id: TopicId,
    },
    /// No topic has that id.
    #[error("no topic has the id {id}")]
    UnknownTopic {
        /// The id.
        id: TopicId,
    },
    /// A partition that is not the next of its topic, or whose parts contradict each other.
    #[error("partition {partition} is not one that its topic can have: {reason}")]
    InvalidPartition {
        /// Which one.
        partition: TopicIdPartition,
        /// Why not.
        reason: &'static str,
    },
    /// Settings of something that has none, or that is not there.
    #[error("settings of {name}, resource type {resource_type}, which cannot have any")]
    InvalidConfigResource {
        /// Kafka's id of its type.
        resource_type: i8,
        /// Its name.
        name: ByteString,
    },
    /// A feature or level that this version cannot run with.
    #[error("feature {name} at level {level}, which this release does not support")]
    UnsupportedFeature {
        /// Its name.
        name: ByteString,
        /// Its level.
        level: i16,
    },
    /// Producer ids that were given out before.
    #[error("producer ids from {found} on, which were given out up to {next}")]
    ProducerIdsReused {
        /// The first that is free.
        next: ProducerId,
        /// The record's.
        found: ProducerId,
    },
}

/// What a shard has to do to follow from one image to the next. Deletions come first, since a new
/// topic may have the name of a deleted one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Topics that are gone, as they were, by id.
    pub deleted: Vec<Arc<TopicImage>>,
    /// Partitions that are new, of new topics and of those that grew. By topic id and number.
    pub created: Vec<TopicIdPartition>,
    /// Partitions that were there before and are different now. By topic id and number.
    pub changed: Vec<PartitionChange>,
    /// What has other settings than before; a new topic or a deleted one is not among them.
    pub configs: Vec<ConfigResource>,
}

/// A partition before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionChange {
    /// Which one.
    pub partition: TopicIdPartition,
    /// As it was.
    pub before: Arc<PartitionImage>,
    /// As it is.
    pub after: Arc<PartitionImage>,
}

/// The next image in the making.
#[derive(Debug)]
pub struct MetadataDelta {
    base: MetadataImage,
    image: MetadataImage,
    /// Topics that are being changed; they take the place of the image's when it is asked for.
    open: BTreeMap<TopicId, TopicImage>,
    touched_topics: BTreeSet<TopicId>,
    touched_configs: BTreeSet<ConfigResource>,
}

impl MetadataDelta {
    /// A delta on top of `base`.
    pub fn new(base: &MetadataImage) -> Self {
        Self {
            base: base.clone(),
            image: base.clone(),
            open: BTreeMap::new(),
            touched_topics: BTreeSet::new(),
            touched_configs: BTreeSet::new(),
        }
    }

    /// The topics that were there at some time since the base and are not in the image.
    pub fn gone_topics(&self) -> impl Iterator<Item = TopicId> {
        let is_there =
            |id: &TopicId| self.open.contains_key(id) || self.image.topics.contains_key(id);
        self.touched_topics
            .iter()
            .copied()
            .filter(move |id| !is_there(id))
    }

    /// The image so far.
    pub fn image(&mut self) -> &MetadataImage {
        for (id, topic) in std::mem::take(&mut self.open) {
            self.image.topics.insert_mut(id, Arc::new(topic));
        }
        &self.image
    }

    /// The image with all that was replayed, and how it differs from the one at the start.
    pub fn finish(mut self) -> (MetadataImage, Changes) {
        self.image();
        let changes = self.changes();
        (self.image, changes)
    }

    /// Replays the record at `offset`.
    ///
    /// # Errors
    /// It contradicts the image. The delta is of no use any more.
    pub fn replay(&mut self, offset: Offset, record: &MetadataRecord) -> Result<(), ReplayError> {
        if offset < self.image.next_offset {
            return Err(ReplayError::OutOfOrder {
                expected: self.image.next_offset,
                found: offset,
            });
        }
        self.image.next_offset = offset.plus(1);
        match record {
            MetadataRecord::Topic(record) => self.replay_topic(record),
            MetadataRecord::Partition(record) => self.replay_partition(record),
            MetadataRecord::PartitionChange(record) => self.replay_partition_change(record),
            MetadataRecord::RemoveTopic(record) => self.replay_remove_topic(record.topic_id),
            MetadataRecord::Config(record) => self.replay_config(record),
            MetadataRecord::RegisterBroker(record) => {
                self.replay_register_broker(record);
                Ok(())
            }
            MetadataRecord::FeatureLevel(record) => self.replay_feature_level(record),
            MetadataRecord::ProducerIds(record) => self.replay_producer_ids(record),
            MetadataRecord::NoOp(_) => Ok(()),
        }
    }

    fn replay_topic(&mut self, record: &TopicRecord) -> Result<(), ReplayError> {
        let (name, id) = (owned(&record.name), record.topic_id);
        let is_taken = self.image.topic_ids.contains_key(&name)
            || self.image.topics.contains_key(&id)
            || self.open.contains_key(&id);
        if is_taken {
            return Err(ReplayError::TopicExists { name, id });
        }
        self.image.topic_ids.insert_mut(name.clone(), id);
        if let Some(key) = topic_name::collision_key(&name) {
            let mut names = self.colliding(&key);
            names.push(name.clone());
            self.image.colliding_names.insert_mut(key, Arc::new(names));
        }
        let partitions = Vec::new();
        self.open.insert(
            id,
            TopicImage {
                name,
                id,
                partitions,
            },
        );
        self.touched_topics.insert(id);
        Ok(())
    }

    fn replay_remove_topic(&mut self, id: TopicId) -> Result<(), ReplayError> {
        let name = self.open_topic(id)?.name.clone();
        self.open.remove(&id);
        self.image.topics.remove_mut(&id);
        self.image.topic_ids.remove_mut(&name);
        if let Some(key) = topic_name::collision_key(&name) {
            let mut names = self.colliding(&key);
            names.retain(|each| *each != name);
            if names.is_empty() {
                self.image.colliding_names.remove_mut(&key);
            } else {
                self.image.colliding_names.insert_mut(key, Arc::new(names));
            }
        }
        self.image.configs.remove_mut(&ConfigResource::Topic(name));
        Ok(())
    }

    fn replay_partition(&mut self, record: &PartitionRecord) -> Result<(), ReplayError> {
        let topic = self.open_topic(record.topic_id)?;
        let partition = topic.topic_id_partition(PartitionIndex(record.partition_id));
        let invalid = |reason| ReplayError::InvalidPartition { partition, reason };
        if usize::try_from(record.partition_id) != Ok(topic.partitions.len()) {
            return Err(invalid("it is not the next one"));
        }
        let image = PartitionImage {
            replicas: nodes(&record.replicas),
            directories: record.directories.clone(),
            isr: nodes(&record.isr),
            removing_replicas: nodes(&record.removing_replicas),
            adding_replicas: nodes(&record.adding_replicas),
            leader: leader(record.leader),
            is_recovering: record.leader_recovery_state != 0,
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: record.partition_epoch,
            eligible_leader_replicas: nullable_nodes(record.eligible_leader_replicas.as_ref()),
            last_known_eligible_leader_replicas: nullable_nodes(record.last_known_elr.as_ref()),
        };
        check_partition(&image).map_err(invalid)?;
        topic.partitions.push(Arc::new(image));
        Ok(())
    }

    fn replay_partition_change(
        &mut self,
        record: &PartitionChangeRecord,
    ) -> Result<(), ReplayError> {
        let topic = self.open_topic(record.topic_id)?;
        let partition = topic.topic_id_partition(PartitionIndex(record.partition_id));
        let invalid = |reason| ReplayError::InvalidPartition { partition, reason };
        let index = usize::try_from(record.partition_id).ok();
        let slot = index.and_then(|index| topic.partitions.get_mut(index));
        let slot = slot.ok_or(invalid("the topic has no such partition"))?;
        let image = changed_partition(slot, record);
        check_partition(&image).map_err(invalid)?;
        *slot = Arc::new(image);
        Ok(())
    }

    fn replay_config(&mut self, record: &ConfigRecord) -> Result<(), ReplayError> {
        let resource = self.config_resource(record)?;
        let values = self.image.configs.get(&resource);
        let mut values = values.map(|values| (**values).clone()).unwrap_or_default();
        match &record.value {
            Some(value) => values.insert(record.name.to_string(), value.to_string()),
            None => values.remove(&*record.name),
        };
        self.touched_configs.insert(resource.clone());
        if values.is_empty() {
            self.image.configs.remove_mut(&resource);
        } else {
            self.image.configs.insert_mut(resource, Arc::new(values));
        }
        Ok(())
    }

    fn replay_register_broker(&mut self, record: &RegisterBrokerRecord) {
        let endpoints = record.end_points.iter().map(|endpoint| Endpoint {
            listener: owned(&endpoint.name),
            host: owned(&endpoint.host),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
        });
        let id = NodeId(record.broker_id);
        let broker = BrokerImage {
            id,
            epoch: record.broker_epoch,
            incarnation: record.incarnation_id,
            endpoints: endpoints.collect(),
            rack: record.rack.as_ref().map(owned),
            is_fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            log_directories: record.log_dirs.clone(),
        };
        Arc::make_mut(&mut self.image.brokers).insert(id, Arc::new(broker));
    }

    fn replay_feature_level(&mut self, record: &FeatureLevelRecord) -> Result<(), ReplayError> {
        let (name, level) = (owned(&record.name), record.feature_level);
        if !features::is_supported(&name, level) {
            return Err(ReplayError::UnsupportedFeature { name, level });
        }
        Arc::make_mut(&mut self.image.features).insert(name, level);
        Ok(())
    }

    fn replay_producer_ids(&mut self, record: &ProducerIdsRecord) -> Result<(), ReplayError> {
        let (next, found) = (
            self.image.next_producer_id,
            ProducerId(record.next_producer_id),
        );
        if found <= next {
            return Err(ReplayError::ProducerIdsReused { next, found });
        }
        self.image.next_producer_id = found;
        Ok(())
    }

    /// The topic, to be changed.
    fn open_topic(&mut self, id: TopicId) -> Result<&mut TopicImage, ReplayError> {
        self.touched_topics.insert(id);
        match self.open.entry(id) {
            std::collections::btree_map::Entry::Occupied(open) => Ok(open.into_mut()),
            std::collections::btree_map::Entry::Vacant(free) => {
                let topic = self.image.topics.get(&id);
                let topic = topic.ok_or(ReplayError::UnknownTopic { id })?;
                Ok(free.insert((**topic).clone()))
            }
        }
    }

    fn colliding(&self, key: &String) -> Vec<ByteString> {
        let names = self.image.colliding_names.get(key);
        names.map(|names| names.to_vec()).unwrap_or_default()
    }

    fn config_resource(&self, record: &ConfigRecord) -> Result<ConfigResource, ReplayError> {
        let name = owned(&record.resource_name);
        let resource = match record.resource_type {
            TOPIC_RESOURCE if self.image.topic_ids.contains_key(&name) => {
                Some(ConfigResource::Topic(name))
            }
            BROKER_RESOURCE if name.is_empty() => Some(ConfigResource::BrokerDefault),
            BROKER_RESOURCE => name.parse().ok().map(NodeId).map(ConfigResource::Broker),
            _ => None,
        };
        resource.ok_or_else(|| ReplayError::InvalidConfigResource {
            resource_type: record.resource_type,
            name: owned(&record.resource_name),
        })
    }

    fn changes(&self) -> Changes {
        let (base, image) = (&self.base, &self.image);
        let mut changes = Changes::default();
        for id in &self.touched_topics {
            match (base.topic(*id), image.topic(*id)) {
                (Some(before), None) => changes.deleted.push(before.clone()),
                (before, Some(after)) => changes.add_topic(before.map(|topic| &**topic), after),
                (None, None) => {}
            }
        }
        for resource in &self.touched_configs {
            let is_kept = match resource {
                ConfigResource::Topic(name) => {
                    let id = image.topic_id(name);
                    id.is_some() && id == base.topic_id(name)
                }
                ConfigResource::Broker(_) | ConfigResource::BrokerDefault => true,
            };
            if is_kept && base.config(resource) != image.config(resource) {
                changes.configs.push(resource.clone());
            }
        }
        changes
    }
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add_topic(&mut self, before: Option<&TopicImage>, after: &TopicImage) {
        for (index, image) in after.iter() {
            let partition = after.topic_id_partition(index);
            match before.and_then(|topic| topic.partition(index)) {
                None => self.created.push(partition),
                Some(was) if was != image => self.changed.push(PartitionChange {
                    partition,
                    before: was.clone(),
                    after: image.clone(),
                }),
                Some(_) => {}
            }
        }
    }
}

/// The partition after the change. As in Kafka, naming a leader begins a new epoch, also if it is
/// the one that leads already. Behind the last epoch comes a negative one, which nobody takes.
fn changed_partition(partition: &PartitionImage, record: &PartitionChangeRecord) -> PartitionImage {
    let changed = |new: Option<&Vec<i32>>, old: &[NodeId]| match new {
        Some(new) => nodes(new),
        None => old.to_vec(),
    };
    let is_led_anew = record.leader != NO_LEADER_CHANGE;
    PartitionImage {
        replicas: changed(record.replicas.as_ref(), &partition.replicas),
        directories: match &record.directories {
            Some(directories) => directories.clone(),
            None => partition.directories.clone(),
        },
        isr: changed(record.isr.as_ref(), &partition.isr),
        removing_replicas: changed(
            record.removing_replicas.as_ref(),
            &partition.removing_replicas,
        ),
        adding_replicas: changed(record.adding_replicas.as_ref(), &partition.adding_replicas),
        leader: match is_led_anew {
            true => leader(record.leader),
            false => partition.leader,
        },
        is_recovering: match record.leader_recovery_state {
            NO_RECOVERY_CHANGE => partition.is_recovering,
            state => state != 0,
        },
        leader_epoch: LeaderEpoch(partition.leader_epoch.0.wrapping_add(is_led_anew.into())),
        partition_epoch: partition.partition_epoch.wrapping_add(1),
        eligible_leader_replicas: changed(
            record.eligible_leader_replicas.as_ref(),
            &partition.eligible_leader_replicas,
        ),
        last_known_eligible_leader_replicas: changed(
            record.last_known_elr.as_ref(),
            &partition.last_known_eligible_leader_replicas,
        ),
    }
}

fn check_partition(partition: &PartitionImage) -> Result<(), &'static str> {
    let is_replica = |node: &NodeId| partition.replicas.contains(node);
    if partition.replicas.is_empty() {
        Err("it has no replica")
    } else if partition.directories.len() != partition.replicas.len()
        && !partition.directories.is_empty()
    {
        Err("it has not one directory a replica")
    } else if !partition.isr.iter().all(is_replica) {
        Err("a node in sync is no replica")
    } else if partition.leader.is_some_and(|node| !is_replica(&node)) {
        Err("its leader is no replica")
    } else if partition.leader_epoch.0 < 0 || partition.partition_epoch < 0 {
        Err("its epoch is negative")
    } else {
        Ok(())
    }
}

fn leader(id: i32) -> Option<NodeId> {
    (id != NO_LEADER).then_some(NodeId(id))
}

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn nullable_nodes(ids: Option<&Vec<i32>>) -> Vec<NodeId> {
    ids.map(|ids| nodes(ids)).unwrap_or_default()
}

/// A copy, so that an image does not keep the buffer alive that the record came in.
fn owned(text: &ByteString) -> ByteString {
    ByteString::from(&**text)
}
