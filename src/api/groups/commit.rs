//! OffsetCommit. Pure; any shard.

#[cfg(test)]
mod tests;

use bytestring::ByteString;

use super::partitions::{Partitions, TopicAnswer, named};
use crate::base::ids::TopicId;
use crate::coordinator::group::command::CommitOffsets;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::{OffsetResult, OffsetToCommit};
use crate::metadata::image::MetadataImage;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

/// The first version that knows GROUP_ID_NOT_FOUND (KIP-848).
const GROUP_ID_NOT_FOUND_SINCE: i16 = 9;
/// The first version that names topics by id alone (KIP-848).
const TOPIC_IDS_SINCE: i16 = 10;
/// The retention time of a client that leaves it to the broker.
const NO_RETENTION: i64 = -1;

/// What is left of a request that is on its way to the coordinator.
#[derive(Debug)]
pub struct PendingCommit {
    partitions: Partitions,
}

/// The command, and what is needed for the response. None where no partition is left to commit:
/// then the response is [`PendingCommit::respond_without`].
///
/// A partition that does not exist has no offset to commit; the topic's id is stored with those
/// that do.
pub fn commit(
    version: i16,
    request: OffsetCommitRequest,
    image: &MetadataImage,
) -> (Option<CommitOffsets>, PendingCommit) {
    let uses_ids = version >= TOPIC_IDS_SINCE;
    let mut partitions = Partitions::default();
    let mut offsets = Vec::new();
    for topic in request.topics {
        let Some(known) = named(image, uses_ids, &topic.name, topic.topic_id) else {
            refuse(&mut partitions, uses_ids, &topic);
            continue;
        };
        let existing = partitions.existing(known, topic.partitions, |each| each.partition_index);
        offsets.extend(existing.into_iter().map(|partition| OffsetToCommit {
            topic: known.name.clone(),
            topic_id: known.id,
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata,
        }));
    }
    let pending = PendingCommit { partitions };
    if pending.partitions.is_all_refused() {
        return (None, pending);
    }
    let retention_ms = Some(request.retention_time_ms).filter(|ms| *ms != NO_RETENTION);
    let command = CommitOffsets {
        group: request.group_id,
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        knows_group_id_not_found: version >= GROUP_ID_NOT_FOUND_SINCE,
        retention_ms,
        offsets,
    };
    (Some(command), pending)
}

fn refuse(partitions: &mut Partitions, uses_ids: bool, topic: &OffsetCommitRequestTopic) {
    let (name, id, error) = if uses_ids {
        (ByteString::new(), topic.topic_id, ErrorCode::UnknownTopicId)
    } else {
        let name = topic.name.clone();
        (name, TopicId::ZERO, ErrorCode::UnknownTopicOrPartition)
    };
    // A topic without partitions has its entry as well.
    partitions.refuse_topic(&name, id);
    for partition in &topic.partitions {
        partitions.refuse(&name, id, partition.partition_index, error);
    }
}

impl PendingCommit {
    /// The response, once the coordinator has answered: one result for each partition of the
    /// command, or one error for all.
    pub fn respond(self, results: Result<Vec<OffsetResult>, GroupError>) -> OffsetCommitResponse {
        let topics = self.partitions.answered(results).into_iter();
        OffsetCommitResponse {
            topics: topics.map(topic_response).collect(),
            ..OffsetCommitResponse::default()
        }
    }

    /// The response where there was nothing to ask the coordinator.
    pub fn respond_without(self) -> OffsetCommitResponse {
        self.respond(Ok(Vec::new()))
    }
}

fn topic_response(answer: TopicAnswer) -> OffsetCommitResponseTopic {
    let partition = |(partition_index, error): (i32, ErrorCode)| OffsetCommitResponsePartition {
        partition_index,
        error_code: error.into(),
    };
    OffsetCommitResponseTopic {
        name: answer.name,
        topic_id: answer.id,
        partitions: answer.partitions.into_iter().map(partition).collect(),
    }
}
