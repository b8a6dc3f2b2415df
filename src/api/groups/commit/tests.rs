//! Commits of every version, and in which order their partitions are answered.

use super::*;
use crate::api::metadata::fixtures::{ABC, B, Cluster};
use crate::protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use crate::protocol::wire::Message;

const UNKNOWN_ID: TopicId = TopicId(0xdead);

fn over_the_wire<M: Message>(message: &M, version: i16) -> M {
    let bytes = message.to_bytes(version).expect("it can be sent");
    M::from_bytes(bytes, version).expect("it can be read")
}

fn topic(name: &str, topic_id: TopicId, partitions: &[i32]) -> OffsetCommitRequestTopic {
    let partition = |index: &i32| OffsetCommitRequestPartition {
        partition_index: *index,
        committed_offset: 100 + i64::from(*index),
        committed_leader_epoch: 7,
        committed_metadata: None,
    };
    OffsetCommitRequestTopic {
        name: name.into(),
        topic_id,
        partitions: partitions.iter().map(partition).collect(),
    }
}

fn request(topics: Vec<OffsetCommitRequestTopic>) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: 3,
        member_id: "m".into(),
        topics,
        ..OffsetCommitRequest::default()
    }
}

/// Topic by name or, where there is none, by id; and its partitions with their codes.
type Row = (String, TopicId, Vec<(i32, i16)>);

fn rows(response: &OffsetCommitResponse) -> Vec<Row> {
    let row = |topic: &OffsetCommitResponseTopic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|each| (each.partition_index, each.error_code));
        (topic.name.to_string(), topic.topic_id, partitions.collect())
    };
    response.topics.iter().map(row).collect()
}

#[test]
fn a_commit_says_what_its_version_understands() {
    let cluster = Cluster::new();
    for version in OffsetCommitRequest::VERSIONS {
        for retention_time_ms in [-1, 1234] {
            let sent = OffsetCommitRequest {
                group_instance_id: (version >= 7).then(|| "i".into()),
                retention_time_ms,
                ..request(vec![topic("abc", ABC, &[1, 0])])
            };
            let sent = over_the_wire(&sent, version);
            let (command, _) = commit(version, sent, &cluster.image);
            let command = command.expect("something to commit");
            assert_eq!((&*command.group, &*command.member_id), ("g", "m"));
            assert_eq!(command.generation, 3);
            assert_eq!(
                command.instance_id.is_some(),
                version >= 7,
                "version {version}"
            );
            assert_eq!(
                command.knows_group_id_not_found,
                version >= 9,
                "version {version}"
            );
            let kept = (2..=4).contains(&version) && retention_time_ms == 1234;
            assert_eq!(
                command.retention_ms,
                kept.then_some(1234),
                "version {version}"
            );
            let expected = [1, 0].map(|partition| OffsetToCommit {
                topic: "abc".into(),
                topic_id: ABC,
                partition,
                offset: 100 + i64::from(partition),
                leader_epoch: if version >= 6 { 7 } else { -1 },
                metadata: None,
            });
            assert_eq!(command.offsets, expected, "version {version}");
        }
    }
}

#[test]
fn every_partition_is_answered_in_every_version() {
    let cluster = Cluster::new();
    for version in OffsetCommitRequest::VERSIONS {
        let sent = request(vec![topic("abc", ABC, &[0, 1]), topic("b", B, &[0])]);
        let respond = |results| {
            let sent = over_the_wire(&sent, version);
            let (_, pending) = commit(version, sent, &cluster.image);
            rows(&over_the_wire(&pending.respond(results), version))
        };
        let by = |name: &str, id: TopicId| match version {
            10.. => (String::new(), id),
            _ => (name.to_owned(), TopicId::ZERO),
        };
        let ((abc, abc_id), (b, b_id)) = (by("abc", ABC), by("b", B));
        let too_large = Err(GroupError::OffsetMetadataTooLarge);
        let expected = vec![
            (abc.clone(), abc_id, vec![(0, 0), (1, 12)]),
            (b.clone(), b_id, vec![(0, 0)]),
        ];
        let answer = respond(Ok(vec![Ok(()), too_large, Ok(())]));
        assert_eq!(answer, expected, "version {version}");
        let expected = vec![
            (abc, abc_id, vec![(0, 27), (1, 27)]),
            (b, b_id, vec![(0, 27)]),
        ];
        let answer = respond(Err(GroupError::RebalanceInProgress));
        assert_eq!(answer, expected, "version {version}");
    }
}

#[test]
fn what_does_not_exist_is_answered_first() {
    let cluster = Cluster::new();
    let topics = vec![
        topic("b", B, &[0]),
        topic("abc", ABC, &[9, 0, -1, 2]),
        topic("unknown", UNKNOWN_ID, &[0, 1]),
        topic("unknown", UNKNOWN_ID, &[2]),
    ];
    // By name: the halves of a topic share the entry that was made first.
    let sent = over_the_wire(&request(topics.clone()), 9);
    let (command, pending) = commit(9, sent, &cluster.image);
    let command = command.expect("something to commit");
    let asked: Vec<_> = command
        .offsets
        .iter()
        .map(|each| (&*each.topic, each.partition))
        .collect();
    assert_eq!(asked, [("b", 0), ("abc", 0), ("abc", 2)]);
    let answer = pending.respond(Err(GroupError::IllegalGeneration));
    let expected = vec![
        (
            "abc".to_owned(),
            TopicId::ZERO,
            vec![(9, 3), (-1, 3), (0, 22), (2, 22)],
        ),
        (
            "unknown".to_owned(),
            TopicId::ZERO,
            vec![(0, 3), (1, 3), (2, 3)],
        ),
        ("b".to_owned(), TopicId::ZERO, vec![(0, 22)]),
    ];
    assert_eq!(rows(&over_the_wire(&answer, 9)), expected);
    // By id.
    let sent = over_the_wire(&request(topics), 10);
    let (_, pending) = commit(10, sent, &cluster.image);
    let answer = pending.respond(Ok(vec![Ok(()); 3]));
    let expected = vec![
        (String::new(), ABC, vec![(9, 3), (-1, 3), (0, 0), (2, 0)]),
        (
            String::new(),
            UNKNOWN_ID,
            vec![(0, 100), (1, 100), (2, 100)],
        ),
        (String::new(), B, vec![(0, 0)]),
    ];
    assert_eq!(rows(&over_the_wire(&answer, 10)), expected);
}

#[test]
fn with_nothing_left_the_coordinator_is_not_asked() {
    let cluster = Cluster::new();
    for version in OffsetCommitRequest::VERSIONS {
        for topics in [
            vec![],
            vec![topic("abc", ABC, &[])],
            vec![topic("abc", ABC, &[7]), topic("unknown", UNKNOWN_ID, &[0])],
        ] {
            let expected: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
            let sent = over_the_wire(&request(topics), version);
            let (command, pending) = commit(version, sent, &cluster.image);
            assert!(command.is_none(), "version {version}");
            let answer = rows(&over_the_wire(&pending.respond_without(), version));
            let refused: Vec<_> = answer.iter().flat_map(|(_, _, each)| each).collect();
            assert_eq!(refused.len(), expected, "version {version}");
            assert!(refused.iter().all(|(_, code)| [3, 100].contains(code)));
        }
    }
}

#[test]
fn a_partition_that_is_named_twice_is_answered_twice() {
    let cluster = Cluster::new();
    let topics = vec![topic("abc", ABC, &[0, 0]), topic("abc", ABC, &[0])];
    let (command, pending) = commit(9, request(topics), &cluster.image);
    assert_eq!(command.map(|command| command.offsets.len()), Some(3));
    let answer = rows(&pending.respond(Ok(vec![Ok(()); 3])));
    let entries: Vec<_> = answer
        .into_iter()
        .map(|(_, _, partitions)| partitions)
        .collect();
    assert_eq!(entries, [vec![(0, 0), (0, 0)], vec![(0, 0)]]);
}

#[test]
fn no_partition_goes_without_an_answer() {
    let cluster = Cluster::new();
    let (_, pending) = commit(9, request(vec![topic("abc", ABC, &[0, 1])]), &cluster.image);
    let answer = rows(&pending.respond(Ok(vec![Ok(())])));
    assert_eq!(answer, [("abc".to_owned(), ABC, vec![(0, 0), (1, -1)])]);
}
