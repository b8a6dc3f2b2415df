//! DescribeTopicPartitions: topics page by page, in the order of their names (KIP-966). Any shard;
//! pure.

use std::collections::BTreeSet;

use bytestring::ByteString;

use super::super::authorized_operations;
use super::unknown_name;
use super::view::{self, PartitionView, View};
use crate::base::ids::NodeId;
use crate::metadata::image::{PartitionImage, TopicImage};
use crate::metadata::topic_name;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use crate::protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};

/// Answers a request.
pub fn respond(
    view: View<'_>,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let cursor = request.cursor.as_ref();
    let from = cursor.map_or("", |cursor| &cursor.topic_name);
    let names = request.topics.iter().map(|topic| &topic.name);
    let names: BTreeSet<&ByteString> = names.filter(|name| ***name >= *from).collect();
    let wants_all = request.topics.is_empty();
    if let Some(cursor) = cursor {
        let is_listed = wants_all || names.contains(&cursor.topic_name);
        if !is_listed || cursor.partition_index < 0 {
            return refuse(request, ErrorCode::InvalidRequest);
        }
    }
    let page = Page {
        view,
        first: cursor.map(|cursor| (&*cursor.topic_name, cursor.partition_index as usize)),
        room: room(view, request),
        response: DescribeTopicPartitionsResponse::default(),
    };
    if wants_all {
        let topics = view.image.topics_from(from);
        page.fill(topics.map(|topic| (&topic.name, Some(&**topic))))
    } else {
        let topic = |name| view.image.topic_named(name).map(|topic| &**topic);
        page.fill(names.into_iter().map(|name| (name, topic(name))))
    }
}

/// How many partitions the reply may hold: at least one, or the client would never get on.
fn room(view: View<'_>, request: &DescribeTopicPartitionsRequest) -> usize {
    let asked = u32::try_from(request.response_partition_limit).unwrap_or(0);
    let limit = view.config.max_request_partition_size_limit;
    asked.min(limit).max(1) as usize
}

/// A reply in the making.
struct Page<'a> {
    view: View<'a>,
    /// The topic of the request's cursor, and the partition to begin with in it.
    first: Option<(&'a str, usize)>,
    /// How many more partitions there is room for.
    room: usize,
    response: DescribeTopicPartitionsResponse,
}

impl<'a> Page<'a> {
    /// Takes topics, sorted by name, up to the page's end; a name without a topic gets an error.
    fn fill(
        mut self,
        topics: impl Iterator<Item = (&'a ByteString, Option<&'a TopicImage>)>,
    ) -> DescribeTopicPartitionsResponse {
        for (name, topic) in topics {
            let next = match topic {
                // An unknown topic takes no room, but a full page does not tell of it either.
                _ if self.room == 0 => Some(0),
                Some(topic) => self.push(topic),
                None => {
                    self.push_unknown(name);
                    None
                }
            };
            if let Some(partition_index) = next {
                self.response.next_cursor = Some(Cursor {
                    topic_name: name.clone(),
                    partition_index,
                });
                break;
            }
        }
        self.response
    }

    /// Adds what fits of a topic; the first partition that does not fit, if one does not.
    fn push(&mut self, topic: &TopicImage) -> Option<i32> {
        let begin = match self.first {
            Some((name, partition)) if *topic.name == *name => partition,
            _ => 0,
        };
        let rows = topic.iter().skip(begin).take(self.room);
        let partitions: Vec<_> = rows
            .map(|(index, image)| DescribeTopicPartitionsResponsePartition {
                partition_index: index.0,
                ..partition(
                    self.view.partition(&topic.topic_id_partition(index), image),
                    image,
                )
            })
            .collect();
        self.room -= partitions.len();
        let end = begin.saturating_add(partitions.len());
        self.response
            .topics
            .push(DescribeTopicPartitionsResponseTopic {
                name: Some(topic.name.clone()),
                topic_id: topic.id,
                is_internal: topic_name::is_internal(&topic.name),
                partitions,
                topic_authorized_operations: authorized_operations::TOPIC,
                ..DescribeTopicPartitionsResponseTopic::default()
            });
        let is_cut = end < topic.partitions.len();
        // Kafka's partition numbers are 32-bit integers.
        is_cut.then_some(end as i32)
    }

    fn push_unknown(&mut self, name: &ByteString) {
        self.response
            .topics
            .push(DescribeTopicPartitionsResponseTopic {
                error_code: unknown_name(name).into(),
                name: Some(name.clone()),
                is_internal: topic_name::is_internal(name),
                topic_authorized_operations: authorized_operations::TOPIC,
                ..DescribeTopicPartitionsResponseTopic::default()
            });
    }
}

/// One partition, all but its number. A leader that cannot be reached is no error here, only none.
fn partition(
    view: PartitionView<'_>,
    image: &PartitionImage,
) -> DescribeTopicPartitionsResponsePartition {
    let ids = |nodes: &[NodeId]| view.nodes(nodes, true);
    DescribeTopicPartitionsResponsePartition {
        leader_id: view.leader().map_or(view::NO_NODE, |node| node.0),
        leader_epoch: image.leader_epoch.0,
        replica_nodes: ids(&image.replicas),
        isr_nodes: ids(&image.isr),
        eligible_leader_replicas: Some(ids(&image.eligible_leader_replicas)),
        last_known_elr: Some(ids(&image.last_known_eligible_leader_replicas)),
        offline_replicas: view.offline_replicas(),
        ..DescribeTopicPartitionsResponsePartition::default()
    }
}

/// A cursor that makes no sense: the reply has a place for an error in its topics alone.
fn refuse(
    request: &DescribeTopicPartitionsRequest,
    code: ErrorCode,
) -> DescribeTopicPartitionsResponse {
    let row = |name: &ByteString| DescribeTopicPartitionsResponseTopic {
        error_code: code.into(),
        name: Some(name.clone()),
        ..DescribeTopicPartitionsResponseTopic::default()
    };
    let topics = request.topics.iter().map(|topic| row(&topic.name));
    DescribeTopicPartitionsResponse {
        topics: topics.collect(),
        ..DescribeTopicPartitionsResponse::default()
    }
}
