//! Which shard owns a partition. Pure: every shard computes the same answer, and nothing is stored,
//! so a broker that starts with another number of shards finds its partitions.

use crate::base::ids::{ShardId, TopicIdPartition};

/// The shard that owns `id`. The partitions of a topic go round the shards, each topic beginning at
/// another one, so that both one large topic and many small ones spread evenly.
pub fn owner(id: &TopicIdPartition, shards: u16) -> ShardId {
    assert!(shards > 0, "a broker has at least one shard");
    let bits = id.topic_id.0;
    // A random UUID's bits are its own hash, but for the version and variant: fold them in.
    let first = (bits ^ (bits >> 64)) as u64 % u64::from(shards);
    ShardId(((first + id.partition.0 as u64) % u64::from(shards)) as u16)
}
