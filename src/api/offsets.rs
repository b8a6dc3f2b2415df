//! ListOffsets and OffsetForLeaderEpoch: offsets by name, by timestamp, and by leader epoch.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::broker::Broker;
use super::errors::partition_error;
use crate::base::ids::{LeaderEpoch, PartitionIndex, ShardId, TopicIdPartition};
use crate::partition::message::{
    EpochQuery, FoundOffset, OffsetQuery, OffsetSpec, PartitionError, PartitionMessage,
};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::list_offsets_request::ListOffsetsRequest;
use crate::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use crate::protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderEpochRequest;
use crate::protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use crate::shard::reply::{self, Sender};

const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;
/// The first version that tells the leader epoch of an offset.
const LEADER_EPOCH_SINCE: i16 = 4;
/// What negative timestamps name, and the first version in which each does; Kafka's
/// `timestampMinSupportedVersion`.
const NAMED_SINCE: [(i64, i16); 6] = [
    (EARLIEST, 1),
    (LATEST, 1),
    (MAX_TIMESTAMP, 7),
    (EARLIEST_LOCAL, 8),
    (LATEST_TIERED, 9),
    (EARLIEST_PENDING_UPLOAD, 11),
];
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Answers ListOffsets.
pub async fn list(
    broker: &Rc<Broker>,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let committed_only = request.isolation_level == READ_COMMITTED;
    let isolation_is_known = (READ_UNCOMMITTED..=READ_COMMITTED).contains(&request.isolation_level);
    let mut wanted = Vec::new();
    let mut asked_for = times_asked_for(&request);
    for (at, topic) in request.topics.iter().enumerate() {
        for partition in &topic.partitions {
            let times = asked_for.remove(&(&topic.name[..], partition.partition_index));
            let target = match times {
                Some(_) if !isolation_is_known => Err(ErrorCode::UnknownServerError),
                Some(1) if !is_named(partition.timestamp, version) => {
                    Err(ErrorCode::UnsupportedVersion)
                }
                Some(1) => target(broker, &topic.name, partition.partition_index),
                Some(_) => Err(ErrorCode::InvalidRequest),
                // It has been answered where it was first asked for.
                None => continue,
            };
            let query = target.map(|id| {
                spec(partition.timestamp).map(|spec| OffsetQuery {
                    id,
                    spec,
                    current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
                    committed_only,
                })
            });
            wanted.push(((at, partition.partition_index), query));
        }
    }
    let mut topics: Vec<_> = request
        .topics
        .iter()
        .map(|topic| ListOffsetsTopicResponse {
            name: topic.name.clone(),
            ..ListOffsetsTopicResponse::default()
        })
        .collect();
    // Without tiered storage nothing is tiered: known, and nowhere.
    let asked = wanted.iter().filter_map(|(_, query)| query.ok().flatten());
    let asked = asked.map(|query| (query.id, query)).collect();
    let mut found = ask(broker, asked, PartitionMessage::ListOffsets)
        .await
        .into_iter();
    for ((at, partition_index), query) in wanted {
        let result = match query {
            Err(code) => Err(code),
            Ok(None) => Ok(None),
            Ok(Some(_)) => match found.next() {
                Some(Ok(offset)) => Ok(Some(offset)),
                Some(Err(error)) => Err(partition_error(&error)),
                None => Err(ErrorCode::NotLeaderOrFollower),
            },
        };
        if let Err(code) = result {
            let topic = &topics[at].name;
            tracing::debug!(%topic, partition = partition_index, %code, "no offset listed");
        }
        topics[at]
            .partitions
            .push(list_row(version, partition_index, result));
    }
    ListOffsetsResponse {
        topics,
        ..ListOffsetsResponse::default()
    }
}

/// Whether a timestamp is one, or names an offset to clients of this version.
fn is_named(timestamp: i64, version: i16) -> bool {
    let names = |(named, since): (i64, i16)| named == timestamp && since <= version;
    timestamp >= 0 || NAMED_SINCE.into_iter().any(names)
}

/// Which offset a timestamp of the request names; `None` for what only tiered storage has.
fn spec(timestamp: i64) -> Option<OffsetSpec> {
    match timestamp {
        LATEST => Some(OffsetSpec::Latest),
        EARLIEST | EARLIEST_LOCAL => Some(OffsetSpec::Earliest),
        MAX_TIMESTAMP => Some(OffsetSpec::MaxTimestamp),
        timestamp if timestamp >= 0 => Some(OffsetSpec::Timestamp(timestamp)),
        _ => None,
    }
}

fn list_row(
    version: i16,
    partition_index: i32,
    result: Result<Option<FoundOffset>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let (code, found) = match result {
        Ok(found) => (ErrorCode::None, found),
        Err(code) => (code, None),
    };
    let epoch = found
        .filter(|_| version >= LEADER_EPOCH_SINCE)
        .map(|found| found.leader_epoch);
    ListOffsetsPartitionResponse {
        partition_index,
        error_code: code.into(),
        timestamp: found.map_or(-1, |found| found.timestamp),
        offset: found.map_or(-1, |found| found.offset.0),
        leader_epoch: epoch.unwrap_or(LeaderEpoch::UNKNOWN).0,
    }
}

/// How often each partition is asked for: twice is once too often.
fn times_asked_for(request: &ListOffsetsRequest) -> HashMap<(&str, i32), usize> {
    let mut times = HashMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            *times
                .entry((&topic.name[..], partition.partition_index))
                .or_default() += 1;
        }
    }
    times
}

/// Answers OffsetForLeaderEpoch.
pub async fn for_leader_epochs(
    broker: &Rc<Broker>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut wanted = Vec::new();
    for (at, topic) in request.topics.iter().enumerate() {
        for partition in &topic.partitions {
            let target = target(broker, &topic.topic, partition.partition);
            let query = target.map(|id| EpochQuery {
                id,
                current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
                leader_epoch: LeaderEpoch(partition.leader_epoch),
            });
            wanted.push((at, partition.partition, query));
        }
    }
    let mut topics: Vec<_> = request
        .topics
        .iter()
        .map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            ..OffsetForLeaderTopicResult::default()
        })
        .collect();
    let asked = wanted
        .iter()
        .filter_map(|(_, _, query)| query.as_ref().ok().copied());
    let asked = asked.map(|query| (query.id, query)).collect();
    let mut found = ask(broker, asked, PartitionMessage::EpochEnds)
        .await
        .into_iter();
    for (at, partition, query) in wanted {
        let answer = query.and_then(|_| match found.next() {
            Some(Ok(end)) => Ok(end),
            Some(Err(error)) => Err(partition_error(&error)),
            None => Err(ErrorCode::NotLeaderOrFollower),
        });
        topics[at].partitions.push(EpochEndOffset {
            error_code: answer
                .as_ref()
                .err()
                .copied()
                .unwrap_or(ErrorCode::None)
                .into(),
            partition,
            leader_epoch: answer.as_ref().map_or(-1, |end| end.leader_epoch.0),
            end_offset: answer.as_ref().map_or(-1, |end| end.end_offset.0),
        });
    }
    OffsetForLeaderEpochResponse {
        topics,
        ..OffsetForLeaderEpochResponse::default()
    }
}

fn target(broker: &Broker, topic: &str, partition: i32) -> Result<TopicIdPartition, ErrorCode> {
    let image = broker.image();
    let partition = PartitionIndex(partition);
    let topic = image
        .topic_named(topic)
        .filter(|topic| topic.partition(partition).is_some());
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(topic.topic_id_partition(partition))
}

type Answers<A> = Vec<Result<A, PartitionError>>;

/// Asks each partition's owner, and gives the answers in the order of the queries.
async fn ask<Q, A: Send>(
    broker: &Rc<Broker>,
    queries: Vec<(TopicIdPartition, Q)>,
    message: impl Fn(Vec<Q>, Sender<Answers<A>>) -> PartitionMessage,
) -> Answers<A> {
    let mut by_owner: BTreeMap<ShardId, (Vec<usize>, Vec<Q>)> = BTreeMap::new();
    let mut answers: Answers<A> = Vec::with_capacity(queries.len());
    for (index, (id, query)) in queries.into_iter().enumerate() {
        answers.push(Err(PartitionError::NotHere));
        let (indexes, queries) = by_owner.entry(broker.router.owner(&id)).or_default();
        indexes.push(index);
        queries.push(query);
    }
    let mut waiting = Vec::with_capacity(by_owner.len());
    for (owner, (indexes, queries)) in by_owner {
        let (sender, answer) = reply::channel();
        broker.router.send(owner, message(queries, sender)).await;
        waiting.push((indexes, answer));
    }
    for (indexes, answer) in waiting {
        // A shard that has stopped leaves its partitions as not here.
        for (index, found) in indexes.into_iter().zip(answer.await.unwrap_or_default()) {
            answers[index] = found;
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_timestamp_means_something_from_its_version_on() {
        for version in 1..=11 {
            let named: Vec<_> = (-8..=1).filter(|at| is_named(*at, version)).collect();
            let lowest = match version {
                1..=6 => -2,
                7 => -3,
                8 => -4,
                9..=10 => -5,
                _ => -6,
            };
            let expected: Vec<_> = (lowest..=1).collect();
            assert_eq!(named, expected, "version {version}");
            assert!(!is_named(i64::MIN, version));
        }
    }
}
