//! OffsetFetch. Pure; any shard.

#[cfg(test)]
mod tests;

use bytestring::ByteString;

use super::partitions::named;
use crate::api::errors::group_error;
use crate::base::ids::{LeaderEpoch, TopicId};
use crate::coordinator::group::command::FetchOffsets;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::{FetchedOffset, TopicPartition};
use crate::metadata::image::MetadataImage;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequest;
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

/// The first version with an error for the whole request.
const GROUP_ERROR_SINCE: i16 = 2;
/// The first version that asks about several groups (KIP-709).
const MANY_SINCE: i16 = 8;
/// The first version that names topics by id alone (KIP-848).
const TOPIC_IDS_SINCE: i16 = 10;
/// Where there is no committed offset.
const NO_OFFSET: i64 = -1;

/// What a client asks of one group, whatever the version.
#[derive(Debug)]
struct GroupQuery {
    group: ByteString,
    /// None for all topics.
    topics: Option<Vec<TopicQuery>>,
}

#[derive(Clone, Debug)]
struct TopicQuery {
    name: ByteString,
    id: TopicId,
    partitions: Vec<i32>,
}

/// What is left of one group's part of a request.
#[derive(Debug)]
pub struct PendingFetch {
    version: i16,
    group: ByteString,
    /// The topics that the coordinator was asked about; none for all.
    asked: Option<Vec<TopicQuery>>,
    /// Those that are not known, which come last.
    refused: Vec<TopicQuery>,
    require_stable: bool,
}

/// What is asked of each group of the request, in its order.
///
/// Topics by name need not exist: whatever is stored is answered. Of one that exists only what was
/// committed for it, not for a deleted one that had the name before.
pub fn fetch(
    version: i16,
    request: OffsetFetchRequest,
    image: &MetadataImage,
) -> impl Iterator<Item = PendingFetch> {
    let require_stable = request.require_stable;
    let queries = queries(version, request).into_iter();
    queries.map(move |query| {
        let (asked, refused) = sort(version, query.topics, image);
        PendingFetch {
            version,
            group: query.group,
            asked,
            refused,
            require_stable,
        }
    })
}

/// About what the answer of a group takes, in bytes: in memory more than on the wire.
pub fn bytes_of(found: &[FetchedOffset]) -> usize {
    let metadata = |offset: &FetchedOffset| match &offset.committed {
        Ok(Some(committed)) => committed.metadata.len(),
        _ => 0,
    };
    size_of_val(found) + found.iter().map(metadata).sum::<usize>()
}

/// The response, of the parts in the order of the request.
pub fn fetched(version: i16, groups: Vec<OffsetFetchResponseGroup>) -> OffsetFetchResponse {
    if version >= MANY_SINCE {
        return OffsetFetchResponse {
            groups,
            ..OffsetFetchResponse::default()
        };
    }
    // These versions ask about one group.
    let group = groups.into_iter().next().unwrap_or_default();
    let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(old_partition).collect(),
    };
    OffsetFetchResponse {
        topics: group.topics.into_iter().map(topic).collect(),
        error_code: group.error_code,
        ..OffsetFetchResponse::default()
    }
}

impl PendingFetch {
    /// What the coordinator is asked.
    pub fn command(&self) -> FetchOffsets {
        FetchOffsets {
            group: self.group.clone(),
            partitions: self.asked.as_deref().map(partitions_of),
            require_stable: self.require_stable,
        }
    }

    /// What the answer takes at least, as [`bytes_of`] counts, whatever the group has.
    pub fn bytes_min(&self) -> usize {
        let asked = self.asked.iter().flatten();
        let partitions: usize = asked.map(|topic| topic.partitions.len()).sum();
        partitions * size_of::<FetchedOffset>()
    }

    /// The group's part of the response. `image` is for the ids of topics that the client has not
    /// named; a topic without one is left out where the version has no names.
    pub fn respond(
        self,
        reply: Result<Vec<FetchedOffset>, GroupError>,
        image: &MetadataImage,
    ) -> OffsetFetchResponseGroup {
        let found = match reply {
            Ok(found) => found,
            Err(error) => return self.refuse(group_error(error)),
        };
        let mut topics = match self.asked {
            Some(asked) => topics_as_asked(asked, found),
            None => all_topics(self.version, found, image),
        };
        let refused = self.refused.into_iter();
        topics.extend(refused.map(|topic| refused_topic(topic, ErrorCode::UnknownTopicId)));
        OffsetFetchResponseGroup {
            group_id: self.group,
            topics,
            ..OffsetFetchResponseGroup::default()
        }
    }

    /// The first versions have no place for it but the partitions.
    fn refuse(self, error: ErrorCode) -> OffsetFetchResponseGroup {
        if self.version >= GROUP_ERROR_SINCE {
            return OffsetFetchResponseGroup {
                group_id: self.group,
                error_code: error.into(),
                ..OffsetFetchResponseGroup::default()
            };
        }
        let topics = self.asked.into_iter().flatten();
        OffsetFetchResponseGroup {
            group_id: self.group,
            topics: topics.map(|topic| refused_topic(topic, error)).collect(),
            ..OffsetFetchResponseGroup::default()
        }
    }
}

fn queries(version: i16, request: OffsetFetchRequest) -> Vec<GroupQuery> {
    if version < MANY_SINCE {
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| TopicQuery {
                name: topic.name,
                id: TopicId::ZERO,
                partitions: topic.partition_indexes,
            });
            topics.collect()
        });
        let group = request.group_id;
        return vec![GroupQuery { group, topics }];
    }
    let groups = request.groups.into_iter().map(|group| {
        let topics = group.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| TopicQuery {
                name: topic.name,
                id: topic.topic_id,
                partitions: topic.partition_indexes,
            });
            topics.collect()
        });
        let group = group.group_id;
        GroupQuery { group, topics }
    });
    groups.collect()
}

/// The topics that the coordinator is asked about, with their names and, of those that exist, their
/// ids; and those of unknown ids.
fn sort(
    version: i16,
    topics: Option<Vec<TopicQuery>>,
    image: &MetadataImage,
) -> (Option<Vec<TopicQuery>>, Vec<TopicQuery>) {
    let mut refused = Vec::new();
    if version < TOPIC_IDS_SINCE {
        let known = topics.map(|mut topics| {
            for topic in &mut topics {
                topic.id = image.topic_id(&topic.name).unwrap_or(TopicId::ZERO);
            }
            topics
        });
        return (known, refused);
    }
    let known = topics.map(|topics| {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            match named(image, true, "", topic.id) {
                Some(image) => known.push(TopicQuery {
                    name: image.name.clone(),
                    ..topic
                }),
                None => refused.push(topic),
            }
        }
        known
    });
    (known, refused)
}

fn partitions_of(topics: &[TopicQuery]) -> Vec<TopicPartition> {
    let partitions = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| TopicPartition {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition: *partition,
        })
    });
    partitions.collect()
}

/// The coordinator answers partition by partition, in the order in which it was asked.
fn topics_as_asked(
    asked: Vec<TopicQuery>,
    found: Vec<FetchedOffset>,
) -> Vec<OffsetFetchResponseTopics> {
    let mut found = found.into_iter();
    let topics = asked.into_iter().map(|topic| {
        let partitions = found.by_ref().take(topic.partitions.len());
        OffsetFetchResponseTopics {
            name: topic.name,
            topic_id: topic.id,
            partitions: partitions.map(partition).collect(),
        }
    });
    topics.collect()
}

/// All that a group has, topic by topic.
fn all_topics(
    version: i16,
    found: Vec<FetchedOffset>,
    image: &MetadataImage,
) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for offset in found {
        let topic_id = image.topic_id(&offset.topic).unwrap_or(TopicId::ZERO);
        if is_of_another(&offset, topic_id) {
            continue;
        }
        match topics.last_mut() {
            Some(topic) if topic.name == offset.topic => topic.partitions.push(partition(offset)),
            _ => topics.push(OffsetFetchResponseTopics {
                name: offset.topic.clone(),
                topic_id,
                partitions: vec![partition(offset)],
            }),
        }
    }
    if version >= TOPIC_IDS_SINCE {
        topics.retain(|topic| topic.topic_id != TopicId::ZERO);
    }
    topics
}

/// Whether an offset was committed for a deleted topic whose name is now that of `topic_id`.
fn is_of_another(offset: &FetchedOffset, topic_id: TopicId) -> bool {
    let committed = offset.committed.as_ref().ok().and_then(Option::as_ref);
    let stored = committed.map_or(TopicId::ZERO, |committed| committed.topic_id);
    stored != TopicId::ZERO && topic_id != TopicId::ZERO && stored != topic_id
}

fn partition(found: FetchedOffset) -> OffsetFetchResponsePartitions {
    let none = OffsetFetchResponsePartitions {
        partition_index: found.partition,
        committed_offset: NO_OFFSET,
        committed_leader_epoch: LeaderEpoch::UNKNOWN.0,
        // Never null: clients take that for an answer of old releases.
        metadata: Some(ByteString::new()),
        error_code: ErrorCode::None.into(),
    };
    match found.committed {
        Ok(None) => none,
        Ok(Some(committed)) => OffsetFetchResponsePartitions {
            committed_offset: committed.offset,
            committed_leader_epoch: committed.leader_epoch,
            metadata: Some(committed.metadata),
            ..none
        },
        Err(error) => OffsetFetchResponsePartitions {
            error_code: group_error(error).into(),
            ..none
        },
    }
}

fn refused_topic(topic: TopicQuery, error: ErrorCode) -> OffsetFetchResponseTopics {
    let refused = |partition_index: i32| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: NO_OFFSET,
        error_code: error.into(),
        ..OffsetFetchResponsePartitions::default()
    };
    OffsetFetchResponseTopics {
        name: topic.name,
        topic_id: topic.id,
        partitions: topic.partitions.into_iter().map(refused).collect(),
    }
}

fn old_partition(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    }
}
