//! OffsetDelete and DeleteGroups. Pure; any shard.

#[cfg(test)]
mod tests;

use ahash::AHashSet;
use bytestring::ByteString;

use super::partitions::{Partitions, TopicAnswer, named};
use crate::api::errors::group_error;
use crate::base::ids::TopicId;
use crate::coordinator::group::command::DeleteOffsets;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::{OffsetResult, TopicPartition};
use crate::metadata::image::MetadataImage;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::delete_groups_request::DeleteGroupsRequest;
use crate::protocol::messages::delete_groups_response::{
    DeletableGroupResult, DeleteGroupsResponse,
};
use crate::protocol::messages::offset_delete_request::OffsetDeleteRequest;
use crate::protocol::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

/// What is left of an OffsetDelete that is on its way to the coordinator.
#[derive(Debug)]
pub struct PendingDelete {
    partitions: Partitions,
}

/// The command, and what is needed for the response. The coordinator is asked even where no
/// partition is left: it may refuse the whole.
pub fn delete_offsets(
    request: OffsetDeleteRequest,
    image: &MetadataImage,
) -> (DeleteOffsets, PendingDelete) {
    let mut partitions = Partitions::default();
    let mut to_delete = Vec::new();
    for topic in request.topics {
        let Some(known) = named(image, false, &topic.name, TopicId::ZERO) else {
            partitions.refuse_topic(&topic.name, TopicId::ZERO);
            for partition in topic.partitions {
                let (name, error) = (&topic.name, ErrorCode::UnknownTopicOrPartition);
                partitions.refuse(name, TopicId::ZERO, partition.partition_index, error);
            }
            continue;
        };
        let existing = partitions.existing(known, topic.partitions, |each| each.partition_index);
        to_delete.extend(existing.into_iter().map(|partition| TopicPartition {
            topic: known.name.clone(),
            topic_id: TopicId::ZERO,
            partition: partition.partition_index,
        }));
    }
    let command = DeleteOffsets {
        group: request.group_id,
        partitions: to_delete,
    };
    (command, PendingDelete { partitions })
}

impl PendingDelete {
    /// The response, once the coordinator has answered: one result for each partition of the
    /// command, or one error for the whole, beside which there are no topics.
    pub fn respond(self, results: Result<Vec<OffsetResult>, GroupError>) -> OffsetDeleteResponse {
        match results {
            Ok(results) => {
                let topics = self.partitions.answered(Ok(results)).into_iter();
                OffsetDeleteResponse {
                    topics: topics.map(topic_response).collect(),
                    ..OffsetDeleteResponse::default()
                }
            }
            Err(error) => OffsetDeleteResponse {
                error_code: group_error(error).into(),
                ..OffsetDeleteResponse::default()
            },
        }
    }
}

fn topic_response(answer: TopicAnswer) -> OffsetDeleteResponseTopic {
    let partition = |(partition_index, error): (i32, ErrorCode)| OffsetDeleteResponsePartition {
        partition_index,
        error_code: error.into(),
    };
    OffsetDeleteResponseTopic {
        name: answer.name,
        partitions: answer.partitions.into_iter().map(partition).collect(),
    }
}

/// The groups to delete, each once, in the order in which they are first named.
pub fn delete_groups(request: DeleteGroupsRequest) -> Vec<ByteString> {
    let mut seen = AHashSet::with_capacity(request.groups_names.len());
    let mut groups = request.groups_names;
    groups.retain(|group| seen.insert(group.clone()));
    groups
}

/// The response: each group and what became of it.
pub fn groups_deleted(
    results: impl IntoIterator<Item = (ByteString, Result<(), GroupError>)>,
) -> DeleteGroupsResponse {
    let results = results
        .into_iter()
        .map(|(group_id, result)| DeletableGroupResult {
            group_id,
            error_code: result.err().map_or(ErrorCode::None, group_error).into(),
        });
    DeleteGroupsResponse {
        results: results.collect(),
        ..DeleteGroupsResponse::default()
    }
}
