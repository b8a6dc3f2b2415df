//! On which brokers the replicas of a partition stand: chosen here, or named by the request and
//! checked here; and in which of a broker's log directories. Pure.
//!
//! In Kafka a broker chooses the directory and reports it afterwards (KIP-858). Here it is chosen
//! with the replica, as long as the controller and the only broker are one process: so it is
//! durable before a file is made, and no partition is made where the metadata does not say.

use std::collections::{BTreeMap, BTreeSet};

use super::error::TopicError;
use crate::base::ids::{NodeId, PartitionIndex, TopicId, Uuid};
use crate::metadata::{BrokerImage, MetadataImage};
use crate::protocol::messages::partition_record::PartitionRecord;

/// The brokers of a partition's replicas, the preferred leader first.
pub(super) type Replicas = Vec<NodeId>;

/// Places the replicas of `count` partitions from `first` on: round robin over the brokers that are
/// there, so that leaders and replicas spread. Racks are not looked at.
///
/// # Errors
/// There are fewer brokers than replicas; the text is what Kafka appends to its message.
pub(super) fn place(
    image: &MetadataImage,
    first: usize,
    count: usize,
    replication_factor: usize,
) -> Result<Vec<Replicas>, String> {
    let brokers: Vec<NodeId> = image.brokers().map(|broker| broker.id).collect();
    let active = image.brokers().filter(|broker| broker.is_active()).count();
    if active == 0 {
        return Err("All brokers are currently fenced.".to_owned());
    }
    if replication_factor > brokers.len() {
        return Err(format!(
            "The target replication factor of {replication_factor} cannot be reached because only \
             {} broker(s) are registered or some brokers have all their log directories cordoned.",
            brokers.len()
        ));
    }
    let replicas = |partition: usize| {
        let broker = |replica: usize| brokers[(partition + replica) % brokers.len()];
        (0..replication_factor).map(broker).collect()
    };
    Ok((first..first + count).map(replicas).collect())
}

/// Checks replicas that a request names, as Kafka's `validateManualPartitionAssignment`.
///
/// # Errors
/// What is wrong with them.
pub(super) fn check_assignment(
    image: &MetadataImage,
    replicas: &[NodeId],
    replication_factor: Option<usize>,
) -> Result<(), TopicError> {
    let invalid = |text: String| Err(TopicError::InvalidReplicaAssignment(text));
    if replicas.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".into());
    }
    let mut sorted = replicas.to_vec();
    sorted.sort();
    let mut seen = BTreeSet::new();
    for broker in sorted {
        if image.broker(broker).is_none() {
            return invalid(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is \
                 registered."
            ));
        }
        if !seen.insert(broker) {
            return invalid(format!(
                "The manual partition assignment includes the broker {broker} more than once."
            ));
        }
    }
    match replication_factor {
        Some(factor) if factor != replicas.len() => invalid(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is \
             not consistent with previous partitions, which have {factor} replica(s).",
            replicas.len()
        )),
        _ => Ok(()),
    }
}

/// The record of a new partition: in sync are the replicas whose brokers are there, and the first
/// of those leads. `None` if none of them is there.
pub(super) fn partition_record(
    image: &MetadataImage,
    topic_id: TopicId,
    partition: PartitionIndex,
    replicas: &[NodeId],
    directories: &mut DirectoryChoice<'_>,
) -> Option<PartitionRecord> {
    let is_active = |id: &&NodeId| image.broker(**id).is_some_and(|broker| broker.is_active());
    let isr: Vec<i32> = replicas.iter().filter(is_active).map(|id| id.0).collect();
    let directory = |id: &NodeId| match image.broker(*id) {
        Some(broker) => directories.choose(broker),
        None => NO_DIRECTORY,
    };
    Some(PartitionRecord {
        partition_id: partition.0,
        topic_id,
        leader: *isr.first()?,
        replicas: replicas.iter().map(|id| id.0).collect(),
        isr,
        leader_epoch: 0,
        partition_epoch: 0,
        directories: replicas.iter().map(directory).collect(),
        ..PartitionRecord::default()
    })
}

/// The directory of a replica whose broker has registered none.
pub(super) const NO_DIRECTORY: Uuid = Uuid(0);

/// Chooses the log directories of new replicas: of those of its broker that work, the one with the
/// fewest partitions, as Kafka's `LogManager` does. It remembers what it has chosen.
#[derive(Debug)]
pub(super) struct DirectoryChoice<'a> {
    image: &'a MetadataImage,
    /// How many partitions each directory has; counted once there is a choice.
    partitions: Option<BTreeMap<Uuid, usize>>,
}

impl<'a> DirectoryChoice<'a> {
    /// Goes by the partitions of `image`.
    pub fn new(image: &'a MetadataImage) -> Self {
        Self {
            image,
            partitions: None,
        }
    }

    fn choose(&mut self, broker: &BrokerImage) -> Uuid {
        match broker.log_directories[..] {
            [] => NO_DIRECTORY,
            [only] => only,
            [..] => self.least_used(&broker.log_directories),
        }
    }

    /// Of several that have as few, the first.
    fn least_used(&mut self, of: &[Uuid]) -> Uuid {
        let partitions = self.partitions.get_or_insert_with(|| {
            let mut partitions = BTreeMap::new();
            let topics = self.image.topics();
            for (_, partition) in topics.flat_map(|topic| topic.iter()) {
                for directory in &partition.directories {
                    *partitions.entry(*directory).or_default() += 1;
                }
            }
            partitions
        });
        let count = |id: &&Uuid| partitions.get(*id).copied().unwrap_or(0);
        let least = of.iter().min_by_key(count).copied();
        let least = least.unwrap_or(NO_DIRECTORY);
        *partitions.entry(least).or_default() += 1;
        least
    }
}
