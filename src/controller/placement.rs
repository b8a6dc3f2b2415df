//! On which brokers the replicas of a partition stand: chosen here, or named by the request and
//! checked here. Pure.

use std::collections::BTreeSet;

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
) -> Option<PartitionRecord> {
    let is_active = |id: &&NodeId| image.broker(**id).is_some_and(|broker| broker.is_active());
    let isr: Vec<i32> = replicas.iter().filter(is_active).map(|id| id.0).collect();
    let directory = |id: &NodeId| {
        image
            .broker(*id)
            .map_or(Uuid(0), |it| default_directory(it))
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

/// The directory of a new replica, where the broker has no choice; otherwise it picks one and
/// reports it (KIP-858).
fn default_directory(broker: &BrokerImage) -> Uuid {
    match broker.log_directories[..] {
        [only] => only,
        _ => Uuid(0),
    }
}
