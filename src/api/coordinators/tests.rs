//! What FindCoordinator answers in every version.

use super::*;

fn ask(version: i16, key_type: i8) -> FindCoordinatorResponse {
    let request = FindCoordinatorRequest {
        key: "group".into(),
        key_type,
        coordinator_keys: vec!["one".into(), "two".into()],
    };
    respond(version, request)
}

#[test]
fn a_single_coordinator_is_not_available() {
    for version in 0..MANY_SINCE {
        let answer = ask(version, 0);
        assert_eq!(answer.error_code, 15, "version {version}");
        assert_eq!((answer.node_id, answer.port), (-1, -1));
        assert!(answer.coordinators.is_empty());
    }
}

#[test]
fn each_of_many_coordinators_is_answered() {
    for version in MANY_SINCE..=6 {
        let answer = ask(version, 1);
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
    assert_eq!(ask(3, 9).error_code, 42);
    for (version, kind, code) in [(5, 2, 42), (6, 2, 15), (6, 3, 42), (6, -1, 42)] {
        let answer = ask(version, kind);
        assert_eq!(answer.coordinators[0].error_code, code, "{version} {kind}");
    }
}
