//! Metadata: which topics there are, who leads their partitions, and where the brokers are reached.
//! Any shard; pure.
//!
//! A topic that is missing may be created by asking for it. As in Kafka the answer does not wait
//! for that: it says that the topic is unknown, and every client asks again.

pub mod cluster;
pub mod topic_partitions;
pub mod view;

#[cfg(test)]
pub(in crate::api) mod fixtures;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ahash::AHashSet;
use bytestring::ByteString;

use self::view::{Missing, PartitionView, View};
use super::authorized_operations;
use crate::base::ids::{PartitionIndex, TopicId};
use crate::metadata::image::{PartitionImage, TopicImage};
use crate::metadata::topic_name;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use crate::protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};

/// The first version in which no topics are none, and null topics are all.
const NULL_IS_ALL_SINCE: i16 = 1;
/// The first version that tells a missing listener from a missing leader.
const LISTENER_NOT_FOUND_SINCE: i16 = 6;
/// The first version in which a topic may be asked for by its id alone (KIP-516).
const TOPIC_IDS_SINCE: i16 = 12;

/// A reply, and what it leaves to be done.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// The reply.
    pub response: MetadataResponse,
    /// Topics that the reply calls unknown and that may be created for having been asked for, each
    /// once.
    pub to_create: Vec<ByteString>,
}

/// Answers a request.
pub fn respond(view: View<'_>, version: i16, request: &MetadataRequest) -> Answer {
    let asked = match Asked::of(version, request) {
        Ok(asked) => asked,
        Err(code) => return refuse(request, code),
    };
    let rows = Rows {
        view,
        version,
        operations: if request.include_topic_authorized_operations {
            authorized_operations::TOPIC
        } else {
            authorized_operations::NOT_ASKED
        },
    };
    let may_create = view.config.auto_create_topics_enable && request.allow_auto_topic_creation;
    let mut to_create = Vec::new();
    let topics = match asked {
        Asked::All => view.image.topics().map(|topic| rows.known(topic)).collect(),
        Asked::Ids(ids) => {
            let topic = |id| view.image.topic(id).ok_or(id);
            let row = |id| topic(id).map_or_else(unknown_id, |topic| rows.known(topic));
            ids.into_iter().map(row).collect()
        }
        Asked::Names(names) => {
            let row = |name: &ByteString| match view.image.topic_named(name) {
                Some(topic) => rows.known(topic),
                None => {
                    if may_create && topic_name::validate(name).is_ok() {
                        to_create.push(name.clone());
                    }
                    rows.unknown(name)
                }
            };
            names.into_iter().map(row).collect()
        }
    };
    let response = MetadataResponse {
        brokers: brokers(view),
        cluster_id: Some(view.cluster_id.clone()),
        controller_id: view.controller_id(),
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            authorized_operations::CLUSTER
        } else {
            authorized_operations::NOT_ASKED
        },
        ..MetadataResponse::default()
    };
    Answer {
        response,
        to_create,
    }
}

/// What the request is about, each once, in its order.
enum Asked<'a> {
    All,
    Names(Vec<&'a ByteString>),
    Ids(Vec<TopicId>),
}

impl<'a> Asked<'a> {
    fn of(version: i16, request: &'a MetadataRequest) -> Result<Self, ErrorCode> {
        let Some(topics) = &request.topics else {
            return Ok(Self::All);
        };
        if topics.is_empty() && version < NULL_IS_ALL_SINCE {
            return Ok(Self::All);
        }
        let has_id = |topic: &MetadataRequestTopic| topic.topic_id != TopicId::ZERO;
        let is_refused = |topic: &MetadataRequestTopic| topic.name.is_none() || has_id(topic);
        if version < TOPIC_IDS_SINCE && topics.iter().any(is_refused) {
            return Err(ErrorCode::InvalidRequest);
        }
        // One id makes it a request by ids, which does not look at names.
        if topics.iter().any(has_id) {
            let ids = topics.iter().map(|topic| topic.topic_id);
            let mut ids = each_once(ids, topics.len());
            ids.retain(|id| *id != TopicId::ZERO);
            return Ok(Self::Ids(ids));
        }
        // Neither a name nor an id. Kafka stumbles over it and answers UNKNOWN_SERVER_ERROR.
        let names: Option<Vec<_>> = topics.iter().map(|topic| topic.name.as_ref()).collect();
        let names = names.ok_or(ErrorCode::InvalidRequest)?;
        Ok(Self::Names(each_once(names.into_iter(), topics.len())))
    }
}

fn each_once<T: Eq + std::hash::Hash + Copy>(
    items: impl Iterator<Item = T>,
    count: usize,
) -> Vec<T> {
    let mut seen = AHashSet::with_capacity(count);
    items.filter(|item| seen.insert(*item)).collect()
}

/// A request that makes no sense: every topic has the error, and from version 13 on the reply.
fn refuse(request: &MetadataRequest, code: ErrorCode) -> Answer {
    let topics = request.topics.iter().flatten();
    let row = |topic: &MetadataRequestTopic| MetadataResponseTopic {
        error_code: code.into(),
        name: Some(topic.name.clone().unwrap_or_default()),
        topic_id: topic.topic_id,
        ..MetadataResponseTopic::default()
    };
    let response = MetadataResponse {
        topics: topics.map(row).collect(),
        error_code: code.into(),
        ..MetadataResponse::default()
    };
    Answer {
        response,
        to_create: Vec::new(),
    }
}

/// The code for a name that no topic has.
fn unknown_name(name: &str) -> ErrorCode {
    match topic_name::validate(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    }
}

fn unknown_id(topic_id: TopicId) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: ErrorCode::UnknownTopicId.into(),
        name: None,
        topic_id,
        ..MetadataResponseTopic::default()
    }
}

/// Writes the topics of one reply.
struct Rows<'a> {
    view: View<'a>,
    version: i16,
    operations: i32,
}

impl Rows<'_> {
    fn unknown(&self, name: &ByteString) -> MetadataResponseTopic {
        MetadataResponseTopic {
            error_code: unknown_name(name).into(),
            name: Some(name.clone()),
            is_internal: topic_name::is_internal(name),
            topic_authorized_operations: self.operations,
            ..MetadataResponseTopic::default()
        }
    }

    fn known(&self, topic: &TopicImage) -> MetadataResponseTopic {
        let row = |(index, image): (PartitionIndex, &Arc<PartitionImage>)| {
            let view = self.view.partition(&topic.topic_id_partition(index), image);
            MetadataResponsePartition {
                partition_index: index.0,
                ..self.partition(view, image)
            }
        };
        MetadataResponseTopic {
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: topic_name::is_internal(&topic.name),
            partitions: topic.iter().map(row).collect(),
            topic_authorized_operations: self.operations,
            ..MetadataResponseTopic::default()
        }
    }

    /// One partition, all but its number.
    fn partition(
        &self,
        view: PartitionView<'_>,
        image: &PartitionImage,
    ) -> MetadataResponsePartition {
        // Version 0 knows nothing of brokers out of reach: it leaves them out, with an error.
        let shows_unreachable = self.version > 0;
        let replica_nodes = view.nodes(&image.replicas, shows_unreachable);
        let isr_nodes = view.nodes(&image.isr, shows_unreachable);
        let leader = view.leader();
        let code = match leader {
            Ok(_) if replica_nodes.len() < image.replicas.len() => ErrorCode::ReplicaNotAvailable,
            Ok(_) if isr_nodes.len() < image.isr.len() => ErrorCode::ReplicaNotAvailable,
            Ok(_) => ErrorCode::None,
            Err(Missing::Listener) if self.version >= LISTENER_NOT_FOUND_SINCE => {
                ErrorCode::ListenerNotFound
            }
            Err(_) => ErrorCode::LeaderNotAvailable,
        };
        MetadataResponsePartition {
            error_code: code.into(),
            leader_id: leader.map_or(view::NO_NODE, |node| node.0),
            leader_epoch: image.leader_epoch.0,
            replica_nodes,
            isr_nodes,
            offline_replicas: view.offline_replicas(),
            ..MetadataResponsePartition::default()
        }
    }
}

fn brokers(view: View<'_>) -> Vec<MetadataResponseBroker> {
    let alive = view.brokers().filter(|broker| !broker.image.is_fenced);
    alive
        .map(|broker| MetadataResponseBroker {
            node_id: broker.id.0,
            host: broker.host.clone(),
            port: broker.port.into(),
            rack: broker.image.rack.clone(),
        })
        .collect()
}
