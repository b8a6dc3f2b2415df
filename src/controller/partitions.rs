//! Plans for giving topics more partitions: Kafka's `ReplicationControlManager.createPartitions`.
//! Pure.
//!
//! Otherwise than in Kafka, `__consumer_offsets` is refused. Kafka's brokers look for groups by the
//! count that they saw when they started: after growth each finds them elsewhere from its next
//! start on, without their offsets. Ours would at once.

use bytestring::ByteString;

use super::Plan;
use super::error::{TOO_MANY_RECORDS, TopicError};
use super::placement::{self, DirectoryChoice, Replicas};
use super::topics::once_or_repeated;
use crate::base::ids::{NodeId, PartitionIndex};
use crate::base::limits::METADATA_RECORDS_PER_COMMAND_MAX;
use crate::metadata::{MetadataImage, MetadataRecord, topic_name};
use crate::protocol::messages::create_partitions_request::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};

/// The answer for one name of a request for more partitions.
pub type CreatedPartitions = (ByteString, Result<(), TopicError>);

/// Plans `request`. Every name is answered once: first the ones that stand there more than once,
/// then the others in their order.
pub fn create_partitions(
    image: &MetadataImage,
    request: &CreatePartitionsRequest,
) -> Plan<Vec<CreatedPartitions>> {
    let (once, repeated) = once_or_repeated(request.topics.iter().map(|topic| &topic.name));
    let duplicate = TopicError::InvalidRequest("Duplicate topic name.");
    let mut results: Vec<CreatedPartitions> = repeated
        .into_iter()
        .map(|name| (name, Err(duplicate.clone())))
        .collect();
    let mut records = Vec::new();
    let mut directories = DirectoryChoice::new(image);
    for topic in &request.topics {
        if !once.contains(&topic.name) {
            continue;
        }
        let result = grow(
            image,
            topic,
            METADATA_RECORDS_PER_COMMAND_MAX - records.len(),
            &mut directories,
        );
        let result = result.map(|more| records.extend(more));
        results.push((topic.name.clone(), result));
    }
    if request.validate_only {
        records.clear();
    }
    Plan {
        records,
        reply: results,
    }
}

fn grow(
    image: &MetadataImage,
    topic: &CreatePartitionsTopic,
    records_max: usize,
    directories: &mut DirectoryChoice<'_>,
) -> Result<Vec<MetadataRecord>, TopicError> {
    let there = image.topic_named(&topic.name);
    let there = there.ok_or(TopicError::UnknownTopic)?;
    let count = there.partitions.len();
    if there.name == topic_name::GROUP_METADATA {
        return Err(TopicError::InvalidPartitions(format!(
            "The topic {} keeps its {count} partition(s): their number decides in which one a \
             group is found, and existing groups would lose their offsets.",
            topic.name
        )));
    }
    let wanted = usize::try_from(topic.count).unwrap_or(0);
    if wanted == count {
        return Err(TopicError::InvalidPartitions(format!(
            "Topic already has {count} partition(s)."
        )));
    }
    if wanted < count {
        return Err(TopicError::InvalidPartitions(format!(
            "The topic {} currently has {count} partition(s); {} would not be an increase.",
            topic.name, topic.count
        )));
    }
    let replication_factor = there.partitions.first().map_or(1, |it| it.replicas.len());
    let additional = wanted - count;
    if let Some(assignments) = &topic.assignments
        && assignments.len() != additional
    {
        return Err(TopicError::InvalidReplicaAssignment(format!(
            "Attempted to add {additional} additional partition(s), but only {} assignment(s) were \
             specified.",
            assignments.len()
        )));
    }
    if additional > records_max {
        return Err(TopicError::PolicyViolation(TOO_MANY_RECORDS));
    }
    let replicas = match &topic.assignments {
        Some(assignments) => {
            let brokers = assignments.iter().map(|each| &each.broker_ids[..]);
            assigned_replicas(image, brokers, replication_factor)?
        }
        None => placement::place(image, count, additional, replication_factor)
            .map_err(TopicError::InvalidReplicationFactor)?,
    };
    let partitions = (count as i32..).map(PartitionIndex).zip(&replicas);
    let record = |(index, brokers): (PartitionIndex, &Replicas)| {
        let record = placement::partition_record(image, there.id, index, brokers, directories);
        let record = record.ok_or_else(|| nobody_there(topic, index, replication_factor));
        record.map(MetadataRecord::from)
    };
    partitions.map(record).collect()
}

fn assigned_replicas<'a>(
    image: &MetadataImage,
    assignments: impl Iterator<Item = &'a [i32]>,
    replication_factor: usize,
) -> Result<Vec<Replicas>, TopicError> {
    let check = |brokers: &[i32]| {
        let brokers: Replicas = brokers.iter().copied().map(NodeId).collect();
        placement::check_assignment(image, &brokers, Some(replication_factor))?;
        Ok(brokers)
    };
    assignments.map(check).collect()
}

fn nobody_there(
    topic: &CreatePartitionsTopic,
    index: PartitionIndex,
    replication_factor: usize,
) -> TopicError {
    if topic.assignments.is_some() {
        TopicError::InvalidReplicaAssignment(format!(
            "All brokers specified in the manual partition assignment for partition {index} are \
             fenced or in controlled shutdown."
        ))
    } else {
        TopicError::InvalidReplicationFactor(format!(
            "Unable to replicate the partition {replication_factor} time(s): All brokers are \
             currently fenced or in controlled shutdown."
        ))
    }
}
