//! The cluster as one client sees it: brokers have the addresses of the listener that it came in
//! by. Any shard; pure.

use bytestring::ByteString;

use crate::base::ids::{NodeId, ShardId, TopicIdPartition, Uuid};
use crate::config::BrokerConfig;
use crate::metadata::image::{BrokerImage, MetadataImage, PartitionImage};
use crate::shard::advertised::AdvertisedShards;

/// The id that the protocol sends where there is no broker or leader.
pub const NO_NODE: i32 = -1;

/// Kafka's reserved ids of log directories: one that is not known since the records are old, one
/// that was not assigned yet, one that is gone.
const MIGRATING: Uuid = Uuid(0);
const UNASSIGNED: Uuid = Uuid(1);
const LOST: Uuid = Uuid(2);

/// What the replies about the cluster are made from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The metadata.
    pub image: &'a MetadataImage,
    /// This broker's settings.
    pub config: &'a BrokerConfig,
    /// The cluster's id.
    pub cluster_id: &'a ByteString,
    /// The name of the listener that the client came in by.
    pub listener: &'a str,
    /// How many brokers clients take each broker for.
    pub advertised: AdvertisedShards,
}

/// A broker as clients know it.
#[derive(Clone, Copy, Debug)]
pub struct AdvertisedBroker<'a> {
    /// The id that clients know it by.
    pub id: NodeId,
    /// The host that the client connects to.
    pub host: &'a ByteString,
    /// The port that the client connects to.
    pub port: u16,
    /// What is registered.
    pub image: &'a BrokerImage,
}

/// Why a leader cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is none, or it is not registered.
    Leader,
    /// It cannot be reached by the client's listener.
    Listener,
}

impl<'a> View<'a> {
    /// The brokers that the client could reach, fenced or not, and where.
    pub fn brokers(self) -> impl Iterator<Item = AdvertisedBroker<'a>> {
        let reachable = self.image.brokers().filter_map(move |broker| {
            let endpoint = broker.endpoint(self.listener)?;
            Some((&**broker, endpoint))
        });
        reachable.flat_map(move |(broker, endpoint)| {
            self.advertised.iter().filter_map(move |shard| {
                Some(AdvertisedBroker {
                    id: self.advertised.node(broker.id, shard),
                    host: &endpoint.host,
                    port: self.advertised.port(endpoint.port, shard)?,
                    image: broker,
                })
            })
        })
    }

    /// The broker that clients send changes of the metadata to. Each takes them and passes them on,
    /// so it is the one that the client already talks to, unless that one is fenced.
    pub fn controller_id(self) -> i32 {
        let mut alive = self.image.brokers().filter(|broker| !broker.is_fenced);
        let own = self.image.broker(self.config.node_id);
        let own = own.filter(|broker| !broker.is_fenced);
        own.or_else(|| alive.next())
            .map_or(NO_NODE, |broker| broker.id.0)
    }

    /// One partition.
    pub fn partition(self, id: &TopicIdPartition, image: &'a PartitionImage) -> PartitionView<'a> {
        PartitionView {
            cluster: self,
            image,
            owner: self.advertised.owner(id),
        }
    }

    fn is_reachable(self, broker: &BrokerImage) -> bool {
        !broker.is_fenced && broker.endpoint(self.listener).is_some()
    }
}

/// A partition as one client sees it.
#[derive(Clone, Copy, Debug)]
pub struct PartitionView<'a> {
    cluster: View<'a>,
    image: &'a PartitionImage,
    /// The shard that has it, on each broker that has it.
    owner: ShardId,
}

impl PartitionView<'_> {
    /// Its leader, if the client can reach it.
    pub fn leader(self) -> Result<NodeId, Missing> {
        let leader = self.image.leader.ok_or(Missing::Leader)?;
        let broker = self.cluster.image.broker(leader).ok_or(Missing::Leader)?;
        match broker.endpoint(self.cluster.listener) {
            Some(_) => Ok(self.node(leader)),
            None => Err(Missing::Listener),
        }
    }

    /// The ids of `nodes`; only of those that the client can reach, unless `shows_unreachable`.
    pub(super) fn nodes(self, nodes: &[NodeId], shows_unreachable: bool) -> Vec<i32> {
        let is_reachable = |node: &&NodeId| {
            let broker = self.cluster.image.broker(**node);
            broker.is_some_and(|broker| self.cluster.is_reachable(broker))
        };
        nodes
            .iter()
            .filter(|node| shows_unreachable || is_reachable(node))
            .map(|node| self.node(*node).0)
            .collect()
    }

    /// The replicas that serve nobody now: their broker or their log directory is away.
    pub(super) fn offline_replicas(self) -> Vec<i32> {
        let is_online = |at: usize, node: NodeId| {
            self.cluster.image.broker(node).is_some_and(|broker| {
                let directory = self.image.directories.get(at).copied();
                self.cluster.is_reachable(broker)
                    && is_online(broker, directory.unwrap_or(MIGRATING))
            })
        };
        let replicas = self.image.replicas.iter().enumerate();
        replicas
            .filter(|(at, node)| !is_online(*at, **node))
            .map(|(_, node)| self.node(*node).0)
            .collect()
    }

    fn node(self, broker: NodeId) -> NodeId {
        self.cluster.advertised.node(broker, self.owner)
    }
}

/// Whether the log directory works. A broker that names none has none left; that it has not
/// registered them yet, as Kafka's before 3.7, cannot be here.
fn is_online(broker: &BrokerImage, directory: Uuid) -> bool {
    let online = &broker.log_directories;
    directory == UNASSIGNED
        || directory == MIGRATING
        || (directory != LOST && online.contains(&directory))
}
