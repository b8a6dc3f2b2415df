//! CreateTopics, DeleteTopics and CreatePartitions: the controller decides, here its answer becomes
//! a response. Any shard.

use std::rc::Rc;
use std::time::Instant;

use bytestring::ByteString;

use super::broker::Broker;
use super::errors::{text_of, topic_error, unavailable};
use crate::base::ids::{NodeId, TopicId};
use crate::base::log_limit::LeftOut;
use crate::config::{BrokerConfig, Source};
use crate::controller::topics::CreateTopicResult;
use crate::controller::{CreatedPartitions, CreatedTopic, DeletedTopic, TopicError};
use crate::metadata::topic_name;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::RequestHeader;
use crate::protocol::messages::create_partitions_request::CreatePartitionsRequest;
use crate::protocol::messages::create_partitions_response::{
    CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use crate::protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use crate::protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use crate::protocol::messages::delete_topics_request::DeleteTopicsRequest;
use crate::protocol::messages::delete_topics_response::{
    DeletableTopicResult, DeleteTopicsResponse,
};
use crate::shard::reply;

/// From here on the response shows what the new topic is like.
const FIRST_CREATE_VERSION_WITH_CONFIGS: i16 = 5;
/// Replicas of `__consumer_offsets` where nobody has said how many, and brokers enough.
const OFFSETS_REPLICAS: usize = 3;

/// From here on a broker on which topics cannot be deleted has a code for it.
const FIRST_DELETE_VERSION_WITH_DISABLED: i16 = 3;

/// Answers CreateTopics.
pub async fn create(
    broker: &Broker,
    header: &RequestHeader,
    mut request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let assignments = request.topics.iter_mut().flat_map(|t| &mut t.assignments);
    for assignment in assignments {
        name_brokers(broker, &mut assignment.broker_ids);
    }
    let names: Vec<_> = request
        .topics
        .iter()
        .map(|topic| topic.name.clone())
        .collect();
    let topics = match broker.controller.create_topics(request).await {
        Ok(results) => {
            let config = &*broker.config;
            let show = |result| creatable_result(config, header.version, result);
            results.into_iter().map(show).collect()
        }
        Err(error) => {
            let (code, text) = (unavailable(error), ByteString::from(error.to_string()));
            let refuse = |name| refused_creation(name, code, text.clone());
            names.into_iter().map(refuse).collect()
        }
    };
    CreateTopicsResponse {
        topics,
        ..CreateTopicsResponse::default()
    }
}

/// Puts brokers for the shards that clients take for brokers.
fn name_brokers(broker: &Broker, ids: &mut [i32]) {
    for id in ids {
        *id = broker.advertised.broker(NodeId(*id)).0;
    }
}

fn creatable_result(
    config: &BrokerConfig,
    version: i16,
    (name, result): CreateTopicResult,
) -> CreatableTopicResult {
    let created = match result {
        Ok(created) => created,
        Err(error) => {
            let text = text_of(&error);
            return refused_creation(name, topic_error(&error), text);
        }
    };
    CreatableTopicResult {
        name,
        topic_id: created.topic_id,
        error_message: None,
        num_partitions: created.partitions_count,
        replication_factor: created.replication_factor,
        configs: Some(match version >= FIRST_CREATE_VERSION_WITH_CONFIGS {
            true => effective_configs(config, &created),
            false => Vec::new(),
        }),
        ..CreatableTopicResult::default()
    }
}

fn refused_creation(name: ByteString, error: ErrorCode, text: ByteString) -> CreatableTopicResult {
    tracing::debug!(%name, code = %error, error = %text, "topic not created");
    CreatableTopicResult {
        name,
        error_code: error.into(),
        error_message: Some(text),
        ..CreatableTopicResult::default()
    }
}

/// Every setting of the new topic. As in Kafka, those that were given are shown as they were
/// written, where DescribeConfigs shows what they mean.
fn effective_configs(config: &BrokerConfig, created: &CreatedTopic) -> Vec<CreatableTopicConfigs> {
    let described = config.describe_topic(&created.configs);
    let show = |described: crate::config::Described| {
        let given = created.configs.get(&described.name);
        let value = match given.filter(|_| !described.sensitive) {
            Some(given) => Some(given.clone()),
            None => described.value,
        };
        CreatableTopicConfigs {
            name: described.name.into(),
            value: value.map(Into::into),
            read_only: described.read_only,
            config_source: match given {
                Some(_) => Source::Topic.id(),
                None => described.source.id(),
            },
            is_sensitive: described.sensitive,
        }
    };
    described.into_iter().map(show).collect()
}

/// Creates topics with the broker's defaults behind a request that asked for them: it is answered
/// without them, as in Kafka, and the client asks again. What is being created already, is internal
/// or has no valid name is left out.
pub fn create_behind(broker: &Rc<Broker>, names: &[ByteString]) {
    let mut being_created = broker.topics_being_created.borrow_mut();
    let names: Vec<ByteString> = names
        .iter()
        .filter(|name| may_be_created(name))
        // A copy, so that the creation does not keep the request's frame.
        .map(|name| ByteString::from(&**name))
        .filter(|name| being_created.insert(name.clone()))
        .collect();
    drop(being_created);
    if !names.is_empty() {
        let broker = Rc::clone(broker);
        let creation = async move {
            create_on_demand(&broker, names.clone()).await;
            let mut being_created = broker.topics_being_created.borrow_mut();
            for name in &names {
                being_created.remove(name);
            }
            drop(being_created);
            if names.iter().any(|name| name == topic_name::GROUP_METADATA) {
                for waiting in broker.waiting_for_group_metadata.take() {
                    // The client may have gone meanwhile.
                    let _gone = waiting.send(());
                }
            }
        };
        crate::runtime::spawn_local(creation).detach();
    }
}

/// Kafka creates its internal topics so too, with the settings that their coordinators need. Where
/// there is no such coordinator yet, a topic with other settings would be in its way later.
fn may_be_created(name: &str) -> bool {
    topic_name::validate(name).is_ok()
        && (name == topic_name::GROUP_METADATA || !topic_name::is_internal(name))
        && name != topic_name::CLUSTER_METADATA
}

/// Creates `__consumer_offsets`, unless somebody on this shard does, and waits until the shard
/// knows it. What goes wrong is logged; the next who needs the topic tries again.
pub async fn create_group_metadata(broker: &Rc<Broker>) {
    let (created, is_created) = reply::channel();
    broker.waiting_for_group_metadata.borrow_mut().push(created);
    create_behind(broker, &[topic_name::GROUP_METADATA.into()]);
    let _done = is_created.await;
}

/// A topic that somebody needs: with the broker's defaults, or, if it is `__consumer_offsets`, as
/// the coordinator of groups wants it.
fn topic_on_demand(broker: &Broker, name: &ByteString) -> CreatableTopic {
    let topic = CreatableTopic {
        name: name.clone(),
        num_partitions: -1,
        replication_factor: -1,
        ..CreatableTopic::default()
    };
    if name != topic_name::GROUP_METADATA {
        return topic;
    }
    let groups = &broker.config.groups;
    let image = broker.image();
    let active = image.brokers().filter(|broker| broker.is_active()).count();
    let replicas = groups.offsets_topic_replication_factor;
    let replicas = replicas.unwrap_or(active.clamp(1, OFFSETS_REPLICAS) as u32);
    let segment_bytes = groups.offsets_topic_segment_bytes.to_string();
    let configs = [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("segment.bytes", &segment_bytes),
    ];
    CreatableTopic {
        num_partitions: groups.offsets_topic_num_partitions as i32,
        replication_factor: replicas as i16,
        configs: configs
            .map(|(name, value)| CreatableTopicConfig {
                name: name.into(),
                value: Some(value.into()),
            })
            .into(),
        ..topic
    }
}

async fn create_on_demand(broker: &Broker, names: Vec<ByteString>) {
    let topics = names.iter().map(|name| topic_on_demand(broker, name));
    let request = CreateTopicsRequest {
        topics: topics.collect(),
        ..CreateTopicsRequest::default()
    };
    match broker.controller.create_topics(request).await {
        Ok(results) => {
            for (name, result) in results {
                match result {
                    // Another shard was asked for it too.
                    Ok(_) | Err(TopicError::AlreadyExists { .. }) => {}
                    Err(error) => tell(broker, |left_out| {
                        tracing::warn!(%name, %error, left_out, "no topic created on demand");
                    }),
                }
            }
        }
        Err(error) => tell(broker, |left_out| {
            tracing::warn!(%error, left_out, "no topics created on demand");
        }),
    }
}

/// Writes one line, with how many were left out before it, if one may be written.
fn tell(broker: &Broker, line: impl FnOnce(LeftOut)) {
    if let Some(left_out) = broker.creation_log_limit.permit(Instant::now()) {
        line(left_out);
    }
}

/// Answers DeleteTopics.
pub async fn delete(
    broker: &Broker,
    header: &RequestHeader,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let asked = named_for_deletion(&request);
    let refuse_all = |error: ErrorCode, text: ByteString| {
        let refuse = |(name, topic_id)| DeletableTopicResult {
            name,
            topic_id,
            error_code: error.into(),
            error_message: Some(text.clone()),
        };
        asked.iter().cloned().map(refuse).collect()
    };
    let responses = if !broker.config.delete_topic_enable {
        let error = match header.version >= FIRST_DELETE_VERSION_WITH_DISABLED {
            true => ErrorCode::TopicDeletionDisabled,
            false => ErrorCode::InvalidRequest,
        };
        refuse_all(error, "Topic deletion is disabled.".into())
    } else {
        match broker.controller.delete_topics(request).await {
            Ok(results) => results.into_iter().map(deletable_result).collect(),
            Err(error) => {
                let (code, text) = (unavailable(error), ByteString::from(error.to_string()));
                refuse_all(code, text)
            }
        }
    };
    DeleteTopicsResponse {
        responses,
        ..DeleteTopicsResponse::default()
    }
}

fn named_for_deletion(request: &DeleteTopicsRequest) -> Vec<(Option<ByteString>, TopicId)> {
    let by_name = request.topic_names.iter();
    let by_name = by_name.map(|name| (Some(name.clone()), TopicId::ZERO));
    let by_either = request.topics.iter();
    let by_either = by_either.map(|topic| (topic.name.clone(), topic.topic_id));
    by_name.chain(by_either).collect()
}

fn deletable_result(deleted: DeletedTopic) -> DeletableTopicResult {
    let error = deleted.result.err();
    if let Some(error) = &error {
        let name = deleted.name.as_deref().unwrap_or_default();
        tracing::debug!(name, topic_id = %deleted.topic_id, %error, "topic not deleted");
    }
    DeletableTopicResult {
        name: deleted.name,
        topic_id: deleted.topic_id,
        error_code: error.as_ref().map_or(ErrorCode::None, topic_error).into(),
        error_message: error.map(|error| text_of(&error)),
    }
}

/// Answers CreatePartitions.
pub async fn create_partitions(
    broker: &Broker,
    mut request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let assignments = request.topics.iter_mut().flat_map(|t| &mut t.assignments);
    for assignment in assignments.flatten() {
        name_brokers(broker, &mut assignment.broker_ids);
    }
    let names: Vec<_> = request
        .topics
        .iter()
        .map(|topic| topic.name.clone())
        .collect();
    let results = match broker.controller.create_partitions(request).await {
        Ok(results) => results.into_iter().map(partitions_result).collect(),
        Err(error) => {
            let (code, text) = (unavailable(error), ByteString::from(error.to_string()));
            let refuse = |name| CreatePartitionsTopicResult {
                name,
                error_code: code.into(),
                error_message: Some(text.clone()),
            };
            names.into_iter().map(refuse).collect()
        }
    };
    CreatePartitionsResponse {
        results,
        ..CreatePartitionsResponse::default()
    }
}

fn partitions_result((name, result): CreatedPartitions) -> CreatePartitionsTopicResult {
    let error = result.err();
    if let Some(error) = &error {
        tracing::debug!(%name, %error, "partitions not created");
    }
    CreatePartitionsTopicResult {
        name,
        error_code: error.as_ref().map_or(ErrorCode::None, topic_error).into(),
        // Kafka says no more than the code about a topic that is not there.
        error_message: error
            .filter(|error| *error != TopicError::UnknownTopic)
            .map(|error| text_of(&error)),
    }
}

#[cfg(test)]
mod tests;
