//! The state of the cluster at one offset of the metadata log. Every shard holds the same one;
//! nothing here changes it.
//!
//! The maps are persistent trees that share what two images have in common, so that an image of a
//! hundred thousand topics is cloned, changed in one place and dropped in microseconds.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytestring::ByteString;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use super::topic_name;
use crate::base::ids::{
    LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerId, TopicId, TopicIdPartition, Uuid,
};

/// Settings by key, as they were written.
pub type ConfigValues = BTreeMap<String, String>;

/// The metadata of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataImage {
    pub(super) next_offset: Offset,
    pub(super) topic_ids: RedBlackTreeMapSync<ByteString, TopicId>,
    pub(super) topics: HashTrieMapSync<TopicId, Arc<TopicImage>>,
    /// The names that are the same once `.` is read as `_`, by that key.
    pub(super) colliding_names: HashTrieMapSync<String, Arc<Vec<ByteString>>>,
    pub(super) configs: HashTrieMapSync<ConfigResource, Arc<ConfigValues>>,
    pub(super) brokers: Arc<BTreeMap<NodeId, Arc<BrokerImage>>>,
    pub(super) features: Arc<BTreeMap<ByteString, i16>>,
    pub(super) next_producer_id: ProducerId,
}

/// The image before the first record.
impl Default for MetadataImage {
    fn default() -> Self {
        Self {
            next_offset: Offset(0),
            topic_ids: RedBlackTreeMapSync::new_sync(),
            topics: HashTrieMapSync::new_sync(),
            colliding_names: HashTrieMapSync::new_sync(),
            configs: HashTrieMapSync::new_sync(),
            brokers: Arc::default(),
            features: Arc::default(),
            next_producer_id: ProducerId(0),
        }
    }
}

/// What a topic's or a broker's settings are kept under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// The topic of this name. Its settings go when it is deleted.
    Topic(ByteString),
    /// One broker.
    Broker(NodeId),
    /// All brokers that have no value of their own.
    BrokerDefault,
}

/// One incarnation of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name, the same in a later incarnation.
    pub name: ByteString,
    /// Its id, never the same again.
    pub id: TopicId,
    /// Its partitions, by number; their numbers have no gaps.
    pub partitions: Vec<Arc<PartitionImage>>,
}

impl TopicImage {
    /// The partition of this number.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Arc<PartitionImage>> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// Its partitions and their numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionIndex, &Arc<PartitionImage>)> {
        (0..).map(PartitionIndex).zip(&self.partitions)
    }

    /// The full name of one of its partitions.
    pub fn topic_id_partition(&self, partition: PartitionIndex) -> TopicIdPartition {
        TopicIdPartition {
            topic_id: self.id,
            partition,
        }
    }
}

/// Who holds a partition and who leads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionImage {
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The log directory of each replica, in the same order; zero where none was assigned.
    pub directories: Vec<Uuid>,
    /// The replicas that are in sync.
    pub isr: Vec<NodeId>,
    /// The replicas on their way out.
    pub removing_replicas: Vec<NodeId>,
    /// The replicas on their way in.
    pub adding_replicas: Vec<NodeId>,
    /// Its leader, unless no replica can lead.
    pub leader: Option<NodeId>,
    /// Whether the leader was elected out of sync and has not made good for it yet.
    pub is_recovering: bool,
    /// The reign; it changes with every leader and never goes back.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes to anything here.
    pub partition_epoch: i32,
    /// Replicas that may lead although they are not in sync (KIP-966).
    pub eligible_leader_replicas: Vec<NodeId>,
    /// The last ones that could, when none is left (KIP-966).
    pub last_known_eligible_leader_replicas: Vec<NodeId>,
}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its `node.id`.
    pub id: NodeId,
    /// The offset of its registration: a later one fences this one.
    pub epoch: i64,
    /// A random id of the process that registered.
    pub incarnation: Uuid,
    /// Where clients reach it, by listener.
    pub endpoints: Vec<Endpoint>,
    /// Its `broker.rack`.
    pub rack: Option<ByteString>,
    /// Whether it may not lead or serve.
    pub is_fenced: bool,
    /// Whether it is handing over its partitions before it stops.
    pub in_controlled_shutdown: bool,
    /// The ids of its log directories that work.
    pub log_directories: Vec<Uuid>,
}

impl BrokerImage {
    /// Where clients of `listener` reach it.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|each| each.listener == listener)
    }

    /// Whether it can be given partitions and lead them.
    pub fn is_active(&self) -> bool {
        !self.is_fenced && !self.in_controlled_shutdown
    }
}

/// An advertised listener of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub listener: ByteString,
    /// The host that clients connect to.
    pub host: ByteString,
    /// The port that clients connect to.
    pub port: u16,
    /// The id of its security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

impl MetadataImage {
    /// The offset behind the last record that is part of it.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The id of the topic that has this name now.
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.topic_ids.get(name).copied()
    }

    /// The topic of this id.
    pub fn topic(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(&id)
    }

    /// The topic that has this name now.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topic(self.topic_id(name)?)
    }

    /// One partition.
    pub fn partition(&self, of: TopicIdPartition) -> Option<&Arc<PartitionImage>> {
        self.topic(of.topic_id)?.partition(of.partition)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topic_ids.values().map(|id| self.listed(*id))
    }

    /// The topics whose names are `name` or behind it, by name.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        let range = self.topic_ids.range(ByteString::from(name)..);
        range.map(|(_, id)| self.listed(*id))
    }

    /// A topic whose name differs from `name` at most in `.` and `_`; `name` itself counts.
    pub fn colliding_topic(&self, name: &str) -> Option<&ByteString> {
        let key = topic_name::collision_key(name)?;
        self.colliding_names.get(&key)?.first()
    }

    /// What was set on a topic or on brokers; never defaults. None if nothing was.
    pub fn config(&self, resource: &ConfigResource) -> Option<&Arc<ConfigValues>> {
        self.configs.get(resource)
    }

    /// What was set on the topic that has this name now.
    pub fn topic_config(&self, name: &ByteString) -> Option<&Arc<ConfigValues>> {
        self.config(&ConfigResource::Topic(name.clone()))
    }

    /// The broker of this id, fenced or not.
    pub fn broker(&self, id: NodeId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// All registered brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.values()
    }

    /// The level of a feature; `None` where it is off or was never set.
    pub fn feature(&self, name: &str) -> Option<i16> {
        self.features.get(name).copied()
    }

    /// The levels of all features that are on, by name.
    pub fn features(&self) -> impl Iterator<Item = (&ByteString, i16)> {
        self.features.iter().map(|(name, level)| (name, *level))
    }

    /// The first producer id that no broker has been given yet.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    fn listed(&self, id: TopicId) -> &Arc<TopicImage> {
        self.topic(id).expect("a name's id is that of a topic")
    }
}
