//! Groups as clients of every version see them.

use bytes::Bytes;

use super::*;
use crate::coordinator::group::state::GroupState;
use crate::protocol::messages::describe_groups_response::DescribeGroupsResponse;
use crate::protocol::wire::Message;

fn stable() -> DescribedGroup {
    DescribedGroup {
        state: GroupState::Stable,
        protocol_type: "consumer".into(),
        protocol: "range".into(),
        members: vec![DescribedMember {
            member_id: "m".into(),
            instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/10.0.0.7".into(),
            metadata: Bytes::from_static(&[1]),
            assignment: Bytes::from_static(&[2]),
        }],
    }
}

/// What a client of this version reads.
fn received(version: i16, group: described::DescribedGroup) -> described::DescribedGroup {
    let response = DescribeGroupsResponse {
        groups: vec![group],
        ..DescribeGroupsResponse::default()
    };
    let bytes = response.to_bytes(version).expect("it can be sent");
    let response = DescribeGroupsResponse::from_bytes(bytes, version).expect("it can be read");
    response.groups.into_iter().next().expect("one group")
}

/// Operations are asked for from version 3 on.
fn with_operations(version: i16) -> Vec<bool> {
    if version >= 3 {
        vec![false, true]
    } else {
        vec![false]
    }
}

/// READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS, or that nobody asked.
fn operations(are_asked_for: bool) -> i32 {
    if are_asked_for {
        0b1101_0100_1000
    } else {
        i32::MIN
    }
}

#[test]
fn a_group_is_as_large_as_its_members_are() {
    let mut group = stable();
    let one = bytes_of(&group);
    assert_eq!(one, size_of::<DescribedMember>() + "mic/10.0.0.7".len() + 2);
    group.members.push(group.members[0].clone());
    assert_eq!(bytes_of(&group), 2 * one);
}

#[test]
fn a_group_is_described_with_its_members() {
    for version in DescribeGroupsResponse::VERSIONS {
        for asked in with_operations(version) {
            let group = describe(version, asked, "g".into(), Ok(stable()));
            let expected = described::DescribedGroup {
                error_code: 0,
                error_message: None,
                group_id: "g".into(),
                group_state: "Stable".into(),
                protocol_type: "consumer".into(),
                protocol_data: "range".into(),
                members: vec![DescribedGroupMember {
                    member_id: "m".into(),
                    group_instance_id: (version >= 4).then(|| "i".into()),
                    client_id: "c".into(),
                    client_host: "/10.0.0.7".into(),
                    member_metadata: Bytes::from_static(&[1]),
                    member_assignment: Bytes::from_static(&[2]),
                }],
                authorized_operations: operations(asked),
            };
            assert_eq!(received(version, group), expected, "version {version}");
        }
    }
}

#[test]
fn a_group_that_is_not_there_is_dead() {
    for version in DescribeGroupsResponse::VERSIONS {
        for asked in with_operations(version) {
            let unknown = Err(GroupError::GroupIdNotFound);
            let group = received(version, describe(version, asked, "g".into(), unknown));
            let (code, message, allowed) = match version {
                6.. => (69, Some("Group g not found.".into()), i32::MIN),
                _ => (0, None, operations(asked)),
            };
            let expected = described::DescribedGroup {
                error_code: code,
                error_message: message,
                group_id: "g".into(),
                group_state: "Dead".into(),
                authorized_operations: allowed,
                ..described::DescribedGroup::default()
            };
            assert_eq!(group, expected, "version {version}");
        }
    }
}

#[test]
fn a_coordinator_that_cannot_tell_shows_no_state() {
    for version in DescribeGroupsResponse::VERSIONS {
        for asked in with_operations(version) {
            let loading = Err(GroupError::LoadInProgress);
            let group = received(version, describe(version, asked, "g".into(), loading));
            let expected = described::DescribedGroup {
                error_code: 14,
                group_id: "g".into(),
                ..described::DescribedGroup::default()
            };
            assert_eq!(group, expected, "version {version}");
        }
    }
}

fn listed_group(id: &str, state: GroupState, protocol_type: &str) -> ListedGroup {
    ListedGroup {
        group: id.into(),
        protocol_type: protocol_type.into(),
        state,
    }
}

#[test]
fn lists_are_gathered_from_all_partitions() {
    for version in ListGroupsResponse::VERSIONS {
        let partitions = [
            Ok(vec![listed_group("a", GroupState::Stable, "consumer")]),
            Err(GroupError::NotCoordinator),
            Ok(vec![]),
            Ok(vec![listed_group("b", GroupState::Empty, "")]),
        ];
        let bytes = list(partitions).to_bytes(version).expect("it can be sent");
        let response = ListGroupsResponse::from_bytes(bytes, version).expect("it can be read");
        let row = |group_id: &str, protocol_type: &str, state: &str| listed::ListedGroup {
            group_id: group_id.into(),
            protocol_type: protocol_type.into(),
            group_state: if version >= 4 {
                state.into()
            } else {
                "".into()
            },
            group_type: if version >= 5 {
                "classic".into()
            } else {
                "".into()
            },
        };
        let expected = [row("a", "consumer", "Stable"), row("b", "", "Empty")];
        assert_eq!(response.error_code, 0);
        assert_eq!(response.groups, expected, "version {version}");
    }
}

#[test]
fn one_partition_that_loads_fails_the_list() {
    for error in [GroupError::LoadInProgress, GroupError::NotAvailable] {
        let partitions = [
            Ok(vec![listed_group("a", GroupState::Stable, "consumer")]),
            Err(error),
        ];
        let response = list(partitions);
        assert_eq!(response.error_code, i16::from(group_error(error)));
        assert!(response.groups.is_empty());
    }
}

#[test]
fn filters_reach_the_coordinator() {
    for version in ListGroupsRequest::VERSIONS {
        let request = ListGroupsRequest {
            states_filter: if version >= 4 {
                vec!["Stable".into()]
            } else {
                vec![]
            },
            types_filter: if version >= 5 {
                vec!["classic".into()]
            } else {
                vec![]
            },
        };
        let bytes = request.to_bytes(version).expect("it can be sent");
        let request = ListGroupsRequest::from_bytes(bytes, version).expect("it can be read");
        let filter = filter(request);
        assert_eq!(
            filter.states.len(),
            usize::from(version >= 4),
            "version {version}"
        );
        assert_eq!(
            filter.types.len(),
            usize::from(version >= 5),
            "version {version}"
        );
    }
}
