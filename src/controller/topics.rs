//! Plans for creating and deleting topics: Kafka's `ReplicationControlManager`, with the checks on
//! a request that its `ControllerApis` makes. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;

use super::Plan;
use super::error::{TOO_MANY_PARTITIONS, TOO_MANY_RECORDS, TopicError};
use super::placement::{self, DirectoryChoice, Replicas};
use crate::base::ids::{NodeId, PartitionIndex, TopicId};
use crate::base::limits::{METADATA_RECORDS_PER_COMMAND_MAX, PARTITIONS_PER_REQUEST_MAX};
use crate::config::{BrokerConfig, TopicConfig, Values};
use crate::metadata::{MetadataImage, MetadataRecord, topic_name};
use crate::protocol::messages::config_record::ConfigRecord;
use crate::protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use crate::protocol::messages::delete_topics_request::DeleteTopicsRequest;
use crate::protocol::messages::remove_topic_record::RemoveTopicRecord;
use crate::protocol::messages::topic_record::TopicRecord;

/// Kafka's id of topics among the resources that have settings.
const TOPIC_RESOURCE: i8 = 2;

/// A topic that was created, or that could be if the request only asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id. Of a request that only asks, one that it will not have.
    pub topic_id: TopicId,
    /// How many partitions it has.
    pub partitions_count: i32,
    /// How many replicas each of them has.
    pub replication_factor: i16,
    /// What is set on it, as it was written.
    pub configs: Values,
}

/// The answer for one name of a request to create topics.
pub type CreateTopicResult = (ByteString, Result<CreatedTopic, TopicError>);

/// The answer for one topic of a request to delete topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its name, if the request gave it or its id is known.
    pub name: Option<ByteString>,
    /// Its id, if the request gave it or its name is known; otherwise zero.
    pub topic_id: TopicId,
    /// Whether it was deleted.
    pub result: Result<(), TopicError>,
}

/// Plans `request`. Every name is answered once: first the ones that could be, in their order, then
/// the ones that stand there more than once, then the metadata's own.
pub fn create_topics(
    image: &MetadataImage,
    config: &BrokerConfig,
    request: &CreateTopicsRequest,
    new_topic_id: &mut dyn FnMut() -> TopicId,
) -> Plan<Vec<CreateTopicResult>> {
    let (once, repeated) = once_or_repeated(request.topics.iter().map(|topic| &topic.name));
    let topics: Vec<_> = request
        .topics
        .iter()
        .filter(|topic| once.contains(&topic.name) && topic.name != topic_name::CLUSTER_METADATA)
        .collect();
    let total: u64 = topics.iter().map(|it| partitions_wanted(it, config)).sum();
    if total > PARTITIONS_PER_REQUEST_MAX as u64 {
        return refuse_all(request, TOO_MANY_PARTITIONS);
    }

    let mut records = Vec::new();
    let mut results = Vec::new();
    let mut directories = DirectoryChoice::new(image);
    for topic in topics {
        let created = create_topic(image, config, topic, new_topic_id, &mut directories);
        let result = created.map(|(created, more)| {
            records.extend(more);
            created
        });
        if records.len() > METADATA_RECORDS_PER_COMMAND_MAX {
            return refuse_all(request, TOO_MANY_RECORDS);
        }
        results.push((topic.name.clone(), result));
    }
    let duplicate = TopicError::InvalidRequest("Duplicate topic name.");
    results.extend(
        repeated
            .iter()
            .map(|name| (name.clone(), Err(duplicate.clone()))),
    );
    if let Some(name) = once.get(topic_name::CLUSTER_METADATA) {
        let prohibited = "Creation of internal topic __cluster_metadata is prohibited.";
        results.push((name.clone(), Err(TopicError::InvalidRequest(prohibited))));
    }
    if request.validate_only {
        records.clear();
    }
    Plan {
        records,
        reply: results,
    }
}

fn refuse_all(request: &CreateTopicsRequest, text: &'static str) -> Plan<Vec<CreateTopicResult>> {
    let refuse = |topic: &CreatableTopic| {
        let error = TopicError::PolicyViolation(text);
        (topic.name.clone(), Err(error))
    };
    Plan::only_reply(request.topics.iter().map(refuse).collect())
}

fn partitions_wanted(topic: &CreatableTopic, config: &BrokerConfig) -> u64 {
    match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => u64::from(config.num_partitions),
        (0, count) => count.max(0) as u64,
        (assigned, _) => assigned as u64,
    }
}

fn create_topic(
    image: &MetadataImage,
    config: &BrokerConfig,
    topic: &CreatableTopic,
    new_topic_id: &mut dyn FnMut() -> TopicId,
    directories: &mut DirectoryChoice<'_>,
) -> Result<(CreatedTopic, Vec<MetadataRecord>), TopicError> {
    check_name(image, &topic.name)?;
    let configs = check_configs(config, topic)?;
    let replicas = if topic.assignments.is_empty() {
        chosen_replicas(image, config, topic)?
    } else {
        assigned_replicas(image, topic)?
    };

    let topic_id = new_topic_id();
    let name = topic.name.clone();
    let mut records = vec![TopicRecord { name, topic_id }.into()];
    records.extend(configs.iter().map(|(key, value)| {
        MetadataRecord::from(ConfigRecord {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic.name.clone(),
            name: key.as_str().into(),
            value: Some(value.as_str().into()),
        })
    }));
    for (index, brokers) in (0..).map(PartitionIndex).zip(&replicas) {
        let record = placement::partition_record(image, topic_id, index, brokers, directories);
        let record = record.ok_or_else(|| nobody_there(topic, index, brokers))?;
        records.push(record.into());
    }
    let created = CreatedTopic {
        topic_id,
        partitions_count: replicas.len() as i32,
        replication_factor: replicas.first().map_or(0, |brokers| brokers.len() as i16),
        configs,
    };
    Ok((created, records))
}

fn check_name(image: &MetadataImage, name: &ByteString) -> Result<(), TopicError> {
    if image.topic_id(name).is_some() {
        let name = name.clone();
        return Err(TopicError::AlreadyExists { name });
    }
    topic_name::validate(name)?;
    match image.colliding_topic(name) {
        Some(existing) => Err(TopicError::CollidingName {
            name: name.clone(),
            existing: existing.clone(),
        }),
        None => Ok(()),
    }
}

/// What the request sets, as it was written: defaults are never stored.
fn check_configs(config: &BrokerConfig, topic: &CreatableTopic) -> Result<Values, TopicError> {
    let without_value = topic.configs.iter().filter(|each| each.value.is_none());
    let keys: Vec<&str> = without_value.map(|each| &*each.name).collect();
    if !keys.is_empty() {
        let keys = keys.join(",");
        return Err(TopicError::NullConfigs { keys });
    }
    let set = topic.configs.iter().filter_map(|each| {
        let value = each.value.as_ref()?;
        Some((each.name.to_string(), value.to_string()))
    });
    let configs: Values = set.collect();
    TopicConfig::new(&config.layers, &configs)?;
    Ok(configs)
}

fn chosen_replicas(
    image: &MetadataImage,
    config: &BrokerConfig,
    topic: &CreatableTopic,
) -> Result<Vec<Replicas>, TopicError> {
    let replication_factor = match topic.replication_factor {
        -1 => config.default_replication_factor as usize,
        factor if factor > 0 => factor as usize,
        _ => {
            return Err(TopicError::InvalidReplicationFactor(
                "Replication factor must be larger than 0, or -1 to use the default value.".into(),
            ));
        }
    };
    let count = match topic.num_partitions {
        -1 => config.num_partitions as usize,
        count if count > 0 => count as usize,
        _ => {
            return Err(TopicError::InvalidPartitions(
                "Number of partitions was set to an invalid non-positive value.".into(),
            ));
        }
    };
    placement::place(image, 0, count, replication_factor).map_err(|reason| {
        TopicError::InvalidReplicationFactor(format!(
            "Unable to replicate the partition {replication_factor} time(s): {reason}"
        ))
    })
}

fn assigned_replicas(
    image: &MetadataImage,
    topic: &CreatableTopic,
) -> Result<Vec<Replicas>, TopicError> {
    let invalid = |text: String| TopicError::InvalidReplicaAssignment(text);
    if topic.replication_factor != -1 {
        return Err(TopicError::InvalidRequest(
            "A manual partition assignment was specified, but replication factor was not set to \
             -1.",
        ));
    }
    if topic.num_partitions != -1 {
        return Err(TopicError::InvalidRequest(
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        ));
    }
    let mut assigned: BTreeMap<i32, Replicas> = BTreeMap::new();
    let mut replication_factor = None;
    for assignment in &topic.assignments {
        let index = assignment.partition_index;
        if assigned.contains_key(&index) {
            return Err(invalid(format!(
                "Found multiple manual partition assignments for partition {index}"
            )));
        }
        let brokers: Replicas = assignment.broker_ids.iter().copied().map(NodeId).collect();
        placement::check_assignment(image, &brokers, replication_factor)?;
        replication_factor = Some(brokers.len());
        assigned.insert(index, brokers);
    }
    if !assigned.keys().copied().eq(0..assigned.len() as i32) {
        return Err(invalid(
            "partitions should be a consecutive 0-based integer sequence".into(),
        ));
    }
    Ok(assigned.into_values().collect())
}

fn nobody_there(topic: &CreatableTopic, index: PartitionIndex, brokers: &Replicas) -> TopicError {
    if topic.assignments.is_empty() {
        TopicError::InvalidReplicationFactor(format!(
            "Unable to replicate the partition {} time(s): All brokers are currently fenced or in \
             controlled shutdown.",
            brokers.len()
        ))
    } else {
        TopicError::InvalidReplicaAssignment(format!(
            "All brokers specified in the manual partition assignment for partition {index} are \
             fenced or in controlled shutdown."
        ))
    }
}

/// Plans `request`. Every topic is answered once; whether topics may be deleted at all is asked
/// before.
pub fn delete_topics(
    image: &MetadataImage,
    request: &DeleteTopicsRequest,
) -> Plan<Vec<DeletedTopic>> {
    let mut results = Vec::new();
    let (names, ids) = asked_for(request, &mut results);
    let (names, repeated_names) = once_or_repeated(names.into_iter());
    let (ids, repeated_ids) = once_or_repeated(ids.iter());
    for name in repeated_names {
        let error = TopicError::InvalidRequest("Duplicate topic name.");
        results.push(refused(Some(name), TopicId::ZERO, error));
    }
    for id in &repeated_ids {
        let error = TopicError::InvalidRequest("Duplicate topic id.");
        results.push(refused(None, *id, error));
    }
    let mut doomed: BTreeMap<TopicId, ByteString> = BTreeMap::new();
    for id in ids {
        match image.topic(id) {
            Some(topic) => drop(doomed.insert(id, topic.name.clone())),
            None => results.push(refused(None, id, TopicError::UnknownTopicId)),
        }
    }
    for name in names {
        let Some(id) = image.topic_id(&name) else {
            results.push(refused(Some(name), TopicId::ZERO, TopicError::UnknownTopic));
            continue;
        };
        if repeated_ids.contains(&id) || doomed.remove(&id).is_some() {
            let error = "The provided topic name maps to an ID that was already supplied.";
            results.push(refused(Some(name), id, TopicError::InvalidRequest(error)));
        } else {
            doomed.insert(id, name);
        }
    }
    let is_excessive = doomed.len() > METADATA_RECORDS_PER_COMMAND_MAX;
    let mut records = Vec::new();
    for (topic_id, name) in doomed {
        let name = Some(name);
        if is_excessive {
            let error = TopicError::PolicyViolation(TOO_MANY_RECORDS);
            results.push(refused(name, topic_id, error));
        } else {
            records.push(RemoveTopicRecord { topic_id }.into());
            results.push(DeletedTopic {
                name,
                topic_id,
                result: Ok(()),
            });
        }
    }
    Plan {
        records,
        reply: results,
    }
}

/// The names and ids of the request; what is neither or both is refused.
fn asked_for<'a>(
    request: &'a DeleteTopicsRequest,
    results: &mut Vec<DeletedTopic>,
) -> (Vec<&'a ByteString>, Vec<TopicId>) {
    let mut names: Vec<&ByteString> = request.topic_names.iter().collect();
    let mut ids = Vec::new();
    for topic in &request.topics {
        match (&topic.name, topic.topic_id) {
            (None, TopicId::ZERO) => {
                let error = "Neither topic name nor id were specified.";
                let error = TopicError::InvalidRequest(error);
                results.push(refused(None, TopicId::ZERO, error));
            }
            (None, id) => ids.push(id),
            (Some(name), TopicId::ZERO) => names.push(name),
            (Some(name), id) => {
                let error = "You may not specify both topic name and topic id.";
                let error = TopicError::InvalidRequest(error);
                results.push(refused(Some(name.clone()), id, error));
            }
        }
    }
    (names, ids)
}

fn refused(name: Option<ByteString>, topic_id: TopicId, error: TopicError) -> DeletedTopic {
    DeletedTopic {
        name,
        topic_id,
        result: Err(error),
    }
}

/// The values that come once, and those that come more than once.
pub(super) fn once_or_repeated<'a, T: Clone + Ord + 'a>(
    all: impl Iterator<Item = &'a T>,
) -> (BTreeSet<T>, BTreeSet<T>) {
    let (mut once, mut repeated) = (BTreeSet::new(), BTreeSet::new());
    for value in all {
        if !repeated.contains(value) && !once.insert(value.clone()) {
            once.remove(value);
            repeated.insert(value.clone());
        }
    }
    (once, repeated)
}
