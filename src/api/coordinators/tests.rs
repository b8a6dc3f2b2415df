//! What FindCoordinator answers in every version.

use super::*;
use crate::api::metadata::fixtures::{self, Cluster, OFFSETS};

fn ask_by(listener: &str, version: i16, key_type: i8) -> FindCoordinatorResponse {
    let request = FindCoordinatorRequest {
        key: "group".into(),
        key_type,
        coordinator_keys: vec!["one".into(), "two".into()],
    };
    respond(Cluster::new().view(listener), version, request)
}

fn ask(version: i16, key_type: i8) -> FindCoordinatorResponse {
    ask_by("OTHER", version, key_type)
}

#[test]
fn a_group_is_with_the_leader_of_its_partition() {
    for version in 0..MANY_SINCE {
        let answer = ask(version, GROUP);
        assert_eq!(answer.error_code, 0, "version {version}");
        assert_eq!(answer.error_message.as_deref(), Some("NONE"));
        assert_eq!((answer.node_id, answer.port), (1, 9001));
        assert_eq!(&*answer.host, "other-1");
        assert!(answer.coordinators.is_empty());
    }
    for version in MANY_SINCE..=6 {
        let answer = ask(version, GROUP);
        let rows = answer.coordinators.iter();
        let rows: Vec<_> = rows
            .map(|row| (&*row.key, row.error_code, row.node_id, row.port))
            .collect();
        assert_eq!(rows, [("one", 0, 1, 9001), ("two", 0, 1, 9001)]);
    }
}

/// The topic's id is 0x0ff = 3 * 85, so its one partition is on shard 0.
#[test]
fn a_group_is_with_the_shard_of_its_partition() {
    let mut cluster = Cluster::new();
    let groups = 7;
    for partition in 1..groups {
        cluster.replay(fixtures::partition(OFFSETS, partition, &[1], Some(1)));
    }
    for group in ["one", "two", "three", "four"] {
        let view = cluster.view_of_shards("OTHER");
        let request = FindCoordinatorRequest {
            coordinator_keys: vec![group.into()],
            ..FindCoordinatorRequest::default()
        };
        let answer = respond(view, MANY_SINCE, request);
        let row = &answer.coordinators[0];
        let partition = partition_of_group(&cluster.image, group)
            .expect("a partition")
            .partition;
        let shard = partition.0 % 3;
        assert_eq!(
            (row.node_id, row.port),
            (1 + shard * 1000, 9001 + shard),
            "{group}"
        );
    }
}

#[test]
fn a_leader_out_of_reach_is_no_coordinator() {
    let answer = ask_by("NONE", 6, GROUP);
    let row = &answer.coordinators[0];
    assert_eq!((row.error_code, row.node_id, row.port), (15, -1, -1));
    assert_eq!(row.error_message.as_deref(), Some(""));
    let answer = ask_by("NONE", 3, GROUP);
    assert_eq!((answer.error_code, answer.node_id), (15, -1));
    let told = answer.error_message;
    assert_eq!(told.as_deref(), Some("The coordinator is not available."));
}

#[test]
fn each_of_many_coordinators_is_answered() {
    for version in MANY_SINCE..=6 {
        let answer = ask(version, TRANSACTION);
        assert_eq!(answer.error_code, 0, "version {version}");
        let rows: Vec<_> = answer
            .coordinators
            .iter()
            .map(|row| (&row.key[..], row.error_code, row.node_id))
            .collect();
        assert_eq!(rows, [("one", 15, -1), ("two", 15, -1)]);
    }
}

#[test]
fn an_unknown_kind_is_an_invalid_request() {
    for version in 1..MANY_SINCE {
        let answer = ask(version, 9);
        assert_eq!(answer.error_code, 42, "version {version}");
        assert_eq!(answer.error_message.as_deref(), Some(INVALID_REQUEST));
    }
    // The kind is known, but not to this version: Kafka says nothing about it.
    for (version, kind, told) in [
        (5, 2, ""),
        (6, 3, INVALID_REQUEST),
        (6, -1, INVALID_REQUEST),
    ] {
        for row in ask(version, kind).coordinators {
            assert_eq!(row.error_code, 42, "{version} {kind}");
            assert_eq!(row.error_message.as_deref(), Some(told), "{version} {kind}");
        }
    }
}

#[test]
fn a_share_coordinator_is_asked_for_by_a_share_partition() {
    let ask = |key: &str| {
        let request = FindCoordinatorRequest {
            key_type: SHARE,
            coordinator_keys: vec![key.into()],
            ..FindCoordinatorRequest::default()
        };
        let answer = respond(Cluster::new().view("OTHER"), SHARE_SINCE, request);
        let row = &answer.coordinators[0];
        assert_eq!(row.error_message.as_deref(), Some(""), "{key}");
        row.error_code
    };
    for key in [
        "group:AAECAwQFBgcICQoLDA0ODw:0",
        "a:b:AAECAwQFBgcICQoLDA0ODw:12",
    ] {
        assert_eq!(ask(key), 15, "{key}");
    }
    let id = "AAECAwQFBgcICQoLDA0ODw";
    let keys = [
        "group".to_owned(),
        format!("group:{id}"),
        format!("group:{id}:x"),
        format!(":{id}:0"),
        "group:short:0".to_owned(),
    ];
    for key in keys {
        assert_eq!(ask(&key), 42, "{key}");
    }
}
