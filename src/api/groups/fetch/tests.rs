//! Fetches of committed offsets in every version, answered and refused.

use super::*;
use crate::api::metadata::fixtures::{ABC, B, Cluster};
use crate::coordinator::group::record::CommittedOffset;
use crate::protocol::messages::offset_fetch_request as asked;
use crate::protocol::wire::Message;

const UNKNOWN_ID: TopicId = TopicId(0xdead);

fn over_the_wire<M: Message>(message: &M, version: i16) -> M {
    let bytes = message.to_bytes(version).expect("it can be sent");
    M::from_bytes(bytes, version).expect("it can be read")
}

type Topics<'a> = &'a [(&'a str, TopicId, &'a [i32])];

/// A request about one group in the form of `version`; no topics for all.
fn request(version: i16, group: &str, topics: Option<Topics<'_>>) -> OffsetFetchRequest {
    let request = if version < 8 {
        let topic =
            |(name, _, partitions): &(&str, TopicId, &[i32])| asked::OffsetFetchRequestTopic {
                name: (*name).into(),
                partition_indexes: partitions.to_vec(),
            };
        OffsetFetchRequest {
            group_id: group.into(),
            topics: topics.map(|topics| topics.iter().map(topic).collect()),
            require_stable: version >= 7,
            ..OffsetFetchRequest::default()
        }
    } else {
        OffsetFetchRequest {
            groups: vec![group_request(group, topics)],
            require_stable: true,
            ..OffsetFetchRequest::default()
        }
    };
    over_the_wire(&request, version)
}

fn group_request(group: &str, topics: Option<Topics<'_>>) -> asked::OffsetFetchRequestGroup {
    let topic =
        |(name, topic_id, partitions): &(&str, TopicId, &[i32])| asked::OffsetFetchRequestTopics {
            name: (*name).into(),
            topic_id: *topic_id,
            partition_indexes: partitions.to_vec(),
        };
    asked::OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: topics.map(|topics| topics.iter().map(topic).collect()),
        ..asked::OffsetFetchRequestGroup::default()
    }
}

fn found(topic: &str, partition: i32, offset: Option<i64>) -> FetchedOffset {
    FetchedOffset {
        topic: topic.into(),
        topic_id: TopicId::ZERO,
        partition,
        committed: Ok(offset.map(|offset| CommittedOffset {
            offset,
            leader_epoch: 5,
            metadata: "note".into(),
            commit_timestamp: 0,
            expire_timestamp: None,
            topic_id: TopicId::ZERO,
        })),
    }
}

/// Partition, offset, leader epoch, metadata, code.
type Partition = (i32, i64, i32, Option<String>, i16);
/// Name, id, partitions.
type Topic = (String, TopicId, Vec<Partition>);

/// The one group's topics and its error as the client reads them.
fn received(version: i16, group: OffsetFetchResponseGroup) -> (i16, Vec<Topic>) {
    let mut response = over_the_wire(&fetched(version, vec![group]), version);
    if version < 8 {
        let topic = |topic: OffsetFetchResponseTopic| {
            let partition = |each: OffsetFetchResponsePartition| {
                let metadata = each.metadata.map(String::from);
                let (offset, epoch) = (each.committed_offset, each.committed_leader_epoch);
                (
                    each.partition_index,
                    offset,
                    epoch,
                    metadata,
                    each.error_code,
                )
            };
            let partitions = topic.partitions.into_iter().map(partition).collect();
            (topic.name.to_string(), TopicId::ZERO, partitions)
        };
        let topics = response.topics.into_iter().map(topic).collect();
        return (response.error_code, topics);
    }
    let group = response.groups.pop().expect("one group");
    assert!(response.groups.is_empty());
    assert_eq!(&*group.group_id, "g");
    let topic = |topic: OffsetFetchResponseTopics| {
        let partition = |each: OffsetFetchResponsePartitions| {
            let metadata = each.metadata.map(String::from);
            let (offset, epoch) = (each.committed_offset, each.committed_leader_epoch);
            (
                each.partition_index,
                offset,
                epoch,
                metadata,
                each.error_code,
            )
        };
        let partitions = topic.partitions.into_iter().map(partition).collect();
        (topic.name.to_string(), topic.topic_id, partitions)
    };
    (
        group.error_code,
        group.topics.into_iter().map(topic).collect(),
    )
}

/// How a topic is named in `version`.
fn by(version: i16, name: &str, id: TopicId) -> (String, TopicId) {
    match version {
        10.. => (String::new(), id),
        _ => (name.to_owned(), TopicId::ZERO),
    }
}

fn row(version: i16, name: &str, id: TopicId, partitions: Vec<Partition>) -> Topic {
    let (name, id) = by(version, name, id);
    (name, id, partitions)
}

const LISTED: Topics<'static> = &[("b", B, &[0]), ("abc", ABC, &[1, 7]), ("b", B, &[])];

fn one_plan(
    version: i16,
    topics: Option<Topics<'_>>,
    image: &MetadataImage,
) -> (FetchOffsets, PendingFetch) {
    let plans: Vec<_> = fetch(version, request(version, "g", topics), image).collect();
    let [plan] = <[_; 1]>::try_from(plans).expect("one group");
    (plan.command(), plan)
}

#[test]
fn listed_partitions_are_answered_in_their_order() {
    let cluster = Cluster::new();
    for version in OffsetFetchRequest::VERSIONS {
        let (command, pending) = one_plan(version, Some(LISTED), &cluster.image);
        assert_eq!(&*command.group, "g");
        assert_eq!(command.require_stable, version >= 7, "version {version}");
        // Names are those of the topics that are there now.
        let at = |topic: &str, topic_id: TopicId, partition: i32| TopicPartition {
            topic: topic.into(),
            topic_id,
            partition,
        };
        let expected = vec![at("b", B, 0), at("abc", ABC, 1), at("abc", ABC, 7)];
        assert_eq!(command.partitions, Some(expected), "version {version}");

        let unstable = FetchedOffset {
            committed: Err(GroupError::UnstableOffsetCommit),
            ..found("abc", 7, None)
        };
        let answer = vec![found("b", 0, Some(42)), found("abc", 1, None), unstable];
        let answer = pending.respond(Ok(answer), &cluster.image);
        let epoch = if version >= 5 { 5 } else { -1 };
        let empty = Some(String::new());
        let expected = vec![
            row(
                version,
                "b",
                B,
                vec![(0, 42, epoch, Some("note".to_owned()), 0)],
            ),
            row(
                version,
                "abc",
                ABC,
                vec![(1, -1, -1, empty.clone(), 0), (7, -1, -1, empty, 88)],
            ),
            row(version, "b", B, vec![]),
        ];
        assert_eq!(
            received(version, answer),
            (0, expected),
            "version {version}"
        );
    }
}

#[test]
fn all_offsets_of_a_group_are_answered_topic_by_topic() {
    let cluster = Cluster::new();
    for version in OffsetFetchRequest::VERSIONS.skip(1) {
        let (command, pending) = one_plan(version, None, &cluster.image);
        assert_eq!(command.partitions, None, "version {version}");
        let answer = vec![
            found("abc", 0, Some(1)),
            found("abc", 2, Some(2)),
            found("deleted", 0, Some(3)),
        ];
        let answer = pending.respond(Ok(answer), &cluster.image);
        let epoch = if version >= 5 { 5 } else { -1 };
        let at = |at: i32, offset: i64| (at, offset, epoch, Some("note".to_owned()), 0);
        let mut expected = vec![row(version, "abc", ABC, vec![at(0, 1), at(2, 2)])];
        // Without a name there is no way to say which topic it was.
        if version < 10 {
            expected.push(row(version, "deleted", TopicId::ZERO, vec![at(0, 3)]));
        }
        assert_eq!(
            received(version, answer),
            (0, expected),
            "version {version}"
        );
    }
}

#[test]
fn nothing_asked_is_not_everything() {
    let cluster = Cluster::new();
    for version in OffsetFetchRequest::VERSIONS {
        let (command, pending) = one_plan(version, Some(&[]), &cluster.image);
        assert_eq!(command.partitions, Some(vec![]), "version {version}");
        let answer = pending.respond(Ok(vec![]), &cluster.image);
        assert_eq!(received(version, answer), (0, vec![]), "version {version}");
    }
}

#[test]
fn an_error_of_the_group_stands_where_its_version_has_a_place() {
    let cluster = Cluster::new();
    for version in OffsetFetchRequest::VERSIONS {
        let (_, pending) = one_plan(version, Some(LISTED), &cluster.image);
        let answer = pending.respond(Err(GroupError::NotCoordinator), &cluster.image);
        let expected = if version == 1 {
            let refused = |at: i32| (at, -1, -1, Some(String::new()), 16);
            let topics = vec![
                row(version, "b", B, vec![refused(0)]),
                row(version, "abc", ABC, vec![refused(1), refused(7)]),
                row(version, "b", B, vec![]),
            ];
            (0, topics)
        } else {
            (16, vec![])
        };
        assert_eq!(received(version, answer), expected, "version {version}");
    }
}

#[test]
fn topics_of_unknown_ids_come_last() {
    let cluster = Cluster::new();
    let topics: Topics<'_> = &[
        ("", UNKNOWN_ID, &[0, 1]),
        ("", ABC, &[0]),
        ("", TopicId::ZERO, &[0]),
    ];
    let (command, pending) = one_plan(10, Some(topics), &cluster.image);
    let asked = command.partitions.expect("a list");
    let asked: Vec<_> = asked
        .iter()
        .map(|each| (&*each.topic, each.partition))
        .collect();
    assert_eq!(asked, [("abc", 0)]);
    let answer = pending.respond(Ok(vec![found("abc", 0, Some(9))]), &cluster.image);
    let refused = |at: i32| (at, -1, -1, Some(String::new()), 100);
    let expected = vec![
        (
            String::new(),
            ABC,
            vec![(0, 9, 5, Some("note".to_owned()), 0)],
        ),
        (String::new(), UNKNOWN_ID, vec![refused(0), refused(1)]),
        (String::new(), TopicId::ZERO, vec![refused(0)]),
    ];
    assert_eq!(received(10, answer), (0, expected));
}

#[test]
fn names_need_not_exist() {
    let cluster = Cluster::new();
    for version in 1..=9 {
        let topics: Topics<'_> = &[("unknown", UNKNOWN_ID, &[3])];
        let (command, pending) = one_plan(version, Some(topics), &cluster.image);
        let asked = TopicPartition {
            topic: "unknown".into(),
            topic_id: TopicId::ZERO,
            partition: 3,
        };
        assert_eq!(command.partitions, Some(vec![asked]), "version {version}");
        let answer = pending.respond(Ok(vec![found("unknown", 3, None)]), &cluster.image);
        let partitions = vec![(3, -1, -1, Some(String::new()), 0)];
        let expected = vec![row(version, "unknown", UNKNOWN_ID, partitions)];
        assert_eq!(
            received(version, answer),
            (0, expected),
            "version {version}"
        );
    }
}

#[test]
fn groups_are_answered_one_by_one_from_version_8_on() {
    let cluster = Cluster::new();
    for version in 8..=10 {
        let request = OffsetFetchRequest {
            groups: vec![
                group_request("g", Some(&[("b", B, &[0])])),
                group_request("h", None),
                group_request("g", Some(&[])),
            ],
            ..OffsetFetchRequest::default()
        };
        let plans = fetch(version, over_the_wire(&request, version), &cluster.image);
        let plans: Vec<_> = plans.collect();
        let groups: Vec<_> = plans
            .iter()
            .map(|plan| plan.command().group.to_string())
            .collect();
        assert_eq!(groups, ["g", "h", "g"]);
        let replies = [
            Ok(vec![found("b", 0, Some(1))]),
            Err(GroupError::LoadInProgress),
            Ok(vec![]),
        ];
        let answers = plans.into_iter().zip(replies);
        let answers = answers.map(|(pending, reply)| pending.respond(reply, &cluster.image));
        let response = over_the_wire(&fetched(version, answers.collect()), version);
        let groups = response.groups.iter();
        let groups: Vec<_> = groups
            .map(|group| (&*group.group_id, group.error_code, group.topics.len()))
            .collect();
        assert_eq!(
            groups,
            [("g", 0, 1), ("h", 14, 0), ("g", 0, 0)],
            "version {version}"
        );
    }
}

#[test]
fn what_was_committed_for_a_deleted_topic_is_not_the_next_ones() {
    let cluster = Cluster::new();
    let of = |id: TopicId, partition: i32| {
        let mut offset = found("abc", partition, Some(7));
        if let Ok(Some(committed)) = &mut offset.committed {
            committed.topic_id = id;
        }
        offset
    };
    for version in OffsetFetchRequest::VERSIONS.skip(1) {
        let (_, pending) = one_plan(version, None, &cluster.image);
        let answer = vec![of(UNKNOWN_ID, 0), of(ABC, 1), of(TopicId::ZERO, 2)];
        let answer = pending.respond(Ok(answer), &cluster.image);
        let (code, topics) = received(version, answer);
        let partitions = topics.iter().flat_map(|(_, _, partitions)| partitions);
        let partitions: Vec<_> = partitions.map(|partition| partition.0).collect();
        assert_eq!((code, partitions), (0, vec![1, 2]), "version {version}");
    }
}

#[test]
fn an_answers_bytes_are_those_of_its_partitions_and_their_metadata() {
    let cluster = Cluster::new();
    let (_, pending) = one_plan(9, Some(LISTED), &cluster.image);
    let nothing = [0, 1, 2].map(|partition| found("b", partition, None));
    assert_eq!(pending.bytes_min(), bytes_of(&nothing));
    let note = bytes_of(&[found("b", 0, Some(1))]);
    assert_eq!(note, bytes_of(&nothing) / 3 + "note".len());
    let (_, all) = one_plan(9, None, &cluster.image);
    assert_eq!((all.bytes_min(), bytes_of(&[])), (0, 0));
}
