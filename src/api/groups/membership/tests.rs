//! Members' requests and responses as clients of every version send and read them.

use bytes::Bytes;

use super::*;
use crate::coordinator::group::command::{JoinedMember, NO_GENERATION};
use crate::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use crate::protocol::wire::Message;

const GROUP_ERRORS: [GroupError; 3] = [
    GroupError::UnknownMemberId,
    GroupError::RebalanceInProgress,
    GroupError::FencedInstanceId,
];

/// What the other side reads.
fn over_the_wire<M: Message>(message: &M, version: i16) -> M {
    let bytes = message.to_bytes(version).expect("it can be sent");
    M::from_bytes(bytes, version).expect("it can be read")
}

fn client() -> Client {
    Client {
        id: "client".into(),
        host: "/10.0.0.7".into(),
    }
}

#[test]
fn addresses_print_as_java_prints_them() {
    let rows = [
        ("10.0.0.7", "/10.0.0.7"),
        ("::1", "/0:0:0:0:0:0:0:1"),
        ("2001:db8::a:0:b", "/2001:db8:0:0:0:a:0:b"),
        ("::ffff:10.0.0.7", "/10.0.0.7"),
    ];
    for (address, expected) in rows {
        let address = address.parse().expect("an address");
        let client = Client::new(None, address);
        assert_eq!((&*client.id, &*client.host), ("", expected));
    }
}

#[test]
fn a_join_says_what_its_version_understands() {
    for version in JoinGroupRequest::VERSIONS {
        let request = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            member_id: "m".into(),
            group_instance_id: (version >= 5).then(|| "i".into()),
            protocol_type: "consumer".into(),
            protocols: vec![
                JoinGroupRequestProtocol {
                    name: "range".into(),
                    metadata: Bytes::from_static(&[1]),
                },
                JoinGroupRequestProtocol {
                    name: "sticky".into(),
                    metadata: Bytes::new(),
                },
            ],
            reason: Some("why not".into()),
        };
        let command = join(version, over_the_wire(&request, version), client(), 99);
        assert_eq!((&*command.group, &*command.member_id), ("g", "m"));
        assert_eq!(
            (&*command.client_id, &*command.client_host),
            ("client", "/10.0.0.7")
        );
        assert_eq!((&*command.protocol_type, command.random), ("consumer", 99));
        assert_eq!(command.session_timeout_ms, 10_000);
        // Not -1, with which members would throw each other out for ever.
        let rebalance_timeout = if version == 0 { 10_000 } else { 60_000 };
        assert_eq!(
            command.rebalance_timeout_ms, rebalance_timeout,
            "version {version}"
        );
        assert_eq!(
            command.instance_id.is_some(),
            version >= 5,
            "version {version}"
        );
        assert_eq!(
            command.knows_member_id_required,
            version >= 4,
            "version {version}"
        );
        assert_eq!(
            command.knows_skip_assignment,
            version >= 9,
            "version {version}"
        );
        let reason = (version >= 8).then_some("why not");
        assert_eq!(command.reason.as_deref(), reason, "version {version}");
        let protocols: Vec<_> = command.protocols.iter().map(|each| &*each.name).collect();
        assert_eq!(protocols, ["range", "sticky"]);
        assert_eq!(command.protocols[0].metadata, Bytes::from_static(&[1]));
    }
}

#[test]
fn a_reason_is_kept_no_longer_than_clients_mean_it() {
    let kept = |reason: &str| {
        let request = JoinGroupRequest {
            reason: Some(reason.into()),
            ..JoinGroupRequest::default()
        };
        let joining = join(9, request, client(), 0).reason;
        let request = LeaveGroupRequest {
            members: vec![MemberIdentity {
                reason: Some(reason.into()),
                ..MemberIdentity::default()
            }],
            ..LeaveGroupRequest::default()
        };
        assert_eq!(leave(5, request).members[0].reason, joining);
        joining
    };
    assert_eq!(kept(""), None);
    assert_eq!(kept("ü").as_deref(), Some("ü"));
    let longest = "ü".repeat(255);
    assert_eq!(kept(&longest).as_deref(), Some(&*longest));
    assert_eq!(kept(&longest.repeat(9)).as_deref(), Some(&*longest));
}

#[test]
fn a_leader_hears_of_its_generation() {
    for version in JoinGroupResponse::VERSIONS {
        let reply = JoinReply {
            result: Ok(()),
            generation: 3,
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            leader: "m".into(),
            skip_assignment: true,
            member_id: "m".into(),
            members: vec![JoinedMember {
                member_id: "m".into(),
                instance_id: Some("i".into()),
                metadata: Bytes::from_static(&[1, 2]),
            }],
        };
        let response = over_the_wire(&joined(version, reply), version);
        let expected = JoinGroupResponse {
            throttle_time_ms: 0,
            error_code: 0,
            generation_id: 3,
            protocol_type: (version >= 7).then(|| "consumer".into()),
            protocol_name: Some("range".into()),
            leader: "m".into(),
            skip_assignment: version >= 9,
            member_id: "m".into(),
            members: vec![JoinGroupResponseMember {
                member_id: "m".into(),
                group_instance_id: (version >= 5).then(|| "i".into()),
                metadata: Bytes::from_static(&[1, 2]),
            }],
        };
        assert_eq!(response, expected, "version {version}");
    }
}

#[test]
fn a_refused_join_has_no_protocol() {
    for version in JoinGroupResponse::VERSIONS {
        for protocol_name in [None, Some(ByteString::new())] {
            let reply = JoinReply {
                protocol_name,
                ..JoinReply::refused(GroupError::MemberIdRequired, "given".into())
            };
            let response = over_the_wire(&joined(version, reply), version);
            let expected = JoinGroupResponse {
                error_code: 79,
                generation_id: NO_GENERATION,
                protocol_type: None,
                protocol_name: (version < 7).then(ByteString::new),
                member_id: "given".into(),
                ..JoinGroupResponse::default()
            };
            assert_eq!(response, expected, "version {version}");
        }
    }
}

#[test]
fn a_sync_names_protocol_and_type_from_version_5_on() {
    let named = |name: Option<&str>| name.map(ByteString::from);
    for version in SyncGroupRequest::VERSIONS {
        for (protocol_type, protocol_name) in [
            (Some("consumer"), Some("range")),
            (None, Some("range")),
            (Some("consumer"), None),
            (None, None),
        ] {
            let request = SyncGroupRequest {
                group_id: "g".into(),
                generation_id: 3,
                member_id: "m".into(),
                group_instance_id: (version >= 3).then(|| "i".into()),
                protocol_type: named(protocol_type),
                protocol_name: named(protocol_name),
                assignments: vec![SyncGroupRequestAssignment {
                    member_id: "n".into(),
                    assignment: Bytes::from_static(&[7]),
                }],
            };
            let is_named = protocol_type.is_some() && protocol_name.is_some();
            let command = match sync(version, over_the_wire(&request, version)) {
                Ok(command) => command,
                Err(error) => {
                    assert!(version >= 5 && !is_named, "version {version}");
                    assert_eq!(error, GroupError::InconsistentProtocol);
                    continue;
                }
            };
            assert!(version < 5 || is_named, "version {version}");
            assert_eq!((&*command.group, command.generation), ("g", 3));
            assert_eq!(&*command.member_id, "m");
            assert_eq!(
                command.instance_id.is_some(),
                version >= 3,
                "version {version}"
            );
            assert_eq!(
                command.protocol_type.is_some(),
                version >= 5,
                "version {version}"
            );
            assert_eq!(
                command.protocol_name.is_some(),
                version >= 5,
                "version {version}"
            );
            let assigned = (ByteString::from("n"), Bytes::from_static(&[7]));
            assert_eq!(command.assignments, [assigned]);
        }
    }
}

#[test]
fn an_assignment_comes_with_its_protocol_from_version_5_on() {
    for version in SyncGroupResponse::VERSIONS {
        let reply = SyncReply {
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignment: Bytes::from_static(&[1, 2, 3]),
        };
        let response = over_the_wire(&synced(Ok(reply)), version);
        let expected = SyncGroupResponse {
            throttle_time_ms: 0,
            error_code: 0,
            protocol_type: (version >= 5).then(|| "consumer".into()),
            protocol_name: (version >= 5).then(|| "range".into()),
            assignment: Bytes::from_static(&[1, 2, 3]),
        };
        assert_eq!(response, expected, "version {version}");
        for error in GROUP_ERRORS {
            let response = over_the_wire(&synced(Err(error)), version);
            let expected = SyncGroupResponse {
                error_code: group_error(error).into(),
                protocol_type: None,
                protocol_name: None,
                ..SyncGroupResponse::default()
            };
            assert_eq!(response, expected, "version {version}");
        }
    }
}

#[test]
fn heartbeats_go_both_ways() {
    for version in HeartbeatRequest::VERSIONS {
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: 3,
            member_id: "m".into(),
            group_instance_id: (version >= 3).then(|| "i".into()),
        };
        let command = heartbeat(over_the_wire(&request, version));
        assert_eq!((&*command.group, &*command.member_id), ("g", "m"));
        assert_eq!(command.generation, 3);
        assert_eq!(
            command.instance_id.is_some(),
            version >= 3,
            "version {version}"
        );

        let response = over_the_wire(&heartbeat_answer(Ok(())), version);
        assert_eq!(response.error_code, 0);
        for error in GROUP_ERRORS {
            let response = over_the_wire(&heartbeat_answer(Err(error)), version);
            assert_eq!(response.error_code, i16::from(group_error(error)));
        }
    }
}

#[test]
fn one_member_leaves_before_version_3_and_many_after() {
    for version in LeaveGroupRequest::VERSIONS {
        let mut request = LeaveGroupRequest {
            group_id: "g".into(),
            ..LeaveGroupRequest::default()
        };
        let leaving = |id: &str, instance: Option<&str>| LeavingMember {
            member_id: id.into(),
            instance_id: instance.map(ByteString::from),
            reason: (version >= 5).then(|| "done".into()),
        };
        let expected = if version < 3 {
            request.member_id = "m".into();
            vec![leaving("m", None)]
        } else {
            let identity = |id: &str, instance: Option<&str>| MemberIdentity {
                member_id: id.into(),
                group_instance_id: instance.map(ByteString::from),
                reason: Some("done".into()),
            };
            request.members = vec![identity("m", None), identity("", Some("i"))];
            vec![leaving("m", None), leaving("", Some("i"))]
        };
        let command = leave(version, over_the_wire(&request, version));
        assert_eq!((&*command.group, command.members), ("g", expected));
    }
}

#[test]
fn the_error_of_a_single_leaver_is_that_of_the_response() {
    let member = |id: &str, instance: Option<&str>| LeavingMember {
        member_id: id.into(),
        instance_id: instance.map(ByteString::from),
        reason: None,
    };
    let unknown = Err(GroupError::UnknownMemberId);
    for version in LeaveGroupResponse::VERSIONS {
        let whole = left(version, Err(GroupError::NotCoordinator));
        let whole = over_the_wire(&whole, version);
        assert_eq!((whole.error_code, whole.members.len()), (16, 0));

        let reply = LeaveReply {
            members: vec![(member("m", None), unknown)],
        };
        let one = over_the_wire(&left(version, Ok(reply)), version);
        if version < 3 {
            assert_eq!((one.error_code, one.members.len()), (25, 0));
            continue;
        }
        let reply = LeaveReply {
            members: vec![
                (member("m", None), unknown),
                (member("", Some("i")), Ok(())),
            ],
        };
        let many = over_the_wire(&left(version, Ok(reply)), version);
        let row = |response: &MemberResponse| {
            let instance = response.group_instance_id.as_deref().map(str::to_owned);
            (
                response.member_id.to_string(),
                instance,
                response.error_code,
            )
        };
        let rows: Vec<_> = many.members.iter().map(row).collect();
        let expected = [
            ("m".to_owned(), None, 25),
            (String::new(), Some("i".to_owned()), 0),
        ];
        assert_eq!((many.error_code, rows), (0, expected.to_vec()));
        let none = left(version, Ok(LeaveReply { members: vec![] }));
        let none = over_the_wire(&none, version);
        assert_eq!((none.error_code, none.members.len()), (0, 0));
    }
}
