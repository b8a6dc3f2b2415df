//! The brokers that clients are told of: one, or each shard as one of its own
//! (`millrace.advertise.shards`), so that a client that was never changed speaks to the core that
//! owns a partition. Pure; any shard.
//!
//! Shard 0 goes by the broker's own id and ports. Shard n has an id that is n thousands higher and
//! ports that are n higher. All nodes of a cluster must have the same number of shards then.

use super::placement;
use crate::base::ids::{NodeId, ShardId, TopicIdPartition};

/// A broker whose shards are advertised has an id below this, and its shards are this far apart.
pub const NODE_IDS_A_SHARD: i32 = 1000;

/// How many brokers clients take each broker for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdvertisedShards(u16);

impl AdvertisedShards {
    /// The broker is advertised as one, however many shards it has.
    pub const TOGETHER: Self = Self(1);

    /// Each of so many shards is advertised; at least one.
    pub fn each(shards: u16) -> Self {
        assert!(shards > 0, "a broker has at least one shard");
        Self(shards)
    }

    /// All that are advertised.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        (0..self.0).map(ShardId)
    }

    /// Who is advertised as the owner of a partition.
    pub fn owner(self, id: &TopicIdPartition) -> ShardId {
        placement::owner(id, self.0)
    }

    /// Who a client speaks to whose connection `shard` has.
    pub fn of_connection(self, shard: ShardId) -> ShardId {
        ShardId(shard.0 % self.0)
    }

    /// The id under which a shard of `broker` is advertised.
    pub fn node(self, broker: NodeId, shard: ShardId) -> NodeId {
        NodeId(broker.0 + i32::from(shard.0) * NODE_IDS_A_SHARD)
    }

    /// The broker behind an id that a client names. An id that is no shard's stays what it is.
    pub fn broker(self, node: NodeId) -> NodeId {
        let shards = i32::from(self.0);
        if shards > 1 && (0..shards * NODE_IDS_A_SHARD).contains(&node.0) {
            NodeId(node.0 % NODE_IDS_A_SHARD)
        } else {
            node
        }
    }

    /// The port of a shard, where the broker's is `first`; none past the last port there is.
    pub fn port(self, first: u16, shard: ShardId) -> Option<u16> {
        first.checked_add(shard.0)
    }
}
