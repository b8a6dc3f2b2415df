//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup. Pure; any shard.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use bytes::Bytes;
use bytestring::ByteString;

use crate::api::errors::group_error;
use crate::base::limits::GROUP_REASON_CHARS_MAX;
use crate::coordinator::group::command::{
    Heartbeat, JoinGroup, JoinReply, LeaveGroup, LeaveReply, LeavingMember, Protocol, SyncGroup,
    SyncReply,
};
use crate::coordinator::group::error::GroupError;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::heartbeat_response::HeartbeatResponse;
use crate::protocol::messages::join_group_request::JoinGroupRequest;
use crate::protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use crate::protocol::messages::leave_group_request::LeaveGroupRequest;
use crate::protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};
use crate::protocol::messages::sync_group_request::SyncGroupRequest;
use crate::protocol::messages::sync_group_response::SyncGroupResponse;

/// JoinGroup: before it a member has no rebalance timeout of its own.
const REBALANCE_TIMEOUT_SINCE: i16 = 1;
/// JoinGroup: the first version that knows MEMBER_ID_REQUIRED (KIP-394).
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// JoinGroup: the first version with a protocol type, and with a protocol's name that may be null.
const NULLABLE_PROTOCOL_SINCE: i16 = 7;
/// JoinGroup: the first version that can tell a leader not to assign (KIP-814).
const SKIP_ASSIGNMENT_SINCE: i16 = 9;
/// SyncGroup: the first version that must name protocol and type (KIP-559).
const SYNCED_PROTOCOL_SINCE: i16 = 5;
/// LeaveGroup: the first version that names several members (KIP-345).
const MANY_LEAVE_SINCE: i16 = 3;

/// Who asks, as a group remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `client.id`; empty where the request has none.
    pub id: ByteString,
    /// The address as Java prints it: a slash, and no part of an IPv6 address left out.
    pub host: ByteString,
}

impl Client {
    /// A client with an id, or without one, that is connected from `address`.
    pub fn new(id: Option<ByteString>, address: IpAddr) -> Self {
        let host = match address.to_canonical() {
            IpAddr::V4(address) => format!("/{address}"),
            IpAddr::V6(address) => {
                let parts = address.segments().map(|part| format!("{part:x}"));
                format!("/{}", parts.join(":"))
            }
        };
        Self {
            id: id.unwrap_or_default(),
            host: host.into(),
        }
    }
}

/// A request to join. `random` is for the id that the member may be given.
///
/// A group keeps what it says for as long as the member lives: it is copied out of the request's
/// frame, which is memory for requests in progress.
pub fn join(version: i16, request: JoinGroupRequest, client: Client, random: u128) -> JoinGroup {
    let rebalance_timeout_ms = if version < REBALANCE_TIMEOUT_SINCE {
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms
    };
    let protocols = request.protocols.into_iter().map(|protocol| Protocol {
        name: copy_of(&protocol.name),
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    });
    JoinGroup {
        group: copy_of(&request.group_id),
        member_id: copy_of(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(copy_of),
        client_id: copy_of(&client.id),
        client_host: client.host,
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: copy_of(&request.protocol_type),
        protocols: protocols.collect(),
        knows_member_id_required: version >= MEMBER_ID_REQUIRED_SINCE,
        knows_skip_assignment: version >= SKIP_ASSIGNMENT_SINCE,
        random,
        reason: reason_of(request.reason.as_ref()),
    }
}

/// The response to a request to join.
pub fn joined(version: i16, reply: JoinReply) -> JoinGroupResponse {
    let protocol_name = reply.protocol_name.filter(|name| !name.is_empty());
    let protocol_name = match version {
        NULLABLE_PROTOCOL_SINCE.. => protocol_name,
        _ => Some(protocol_name.unwrap_or_default()),
    };
    let members = reply
        .members
        .into_iter()
        .map(|member| JoinGroupResponseMember {
            member_id: member.member_id,
            group_instance_id: member.instance_id,
            metadata: member.metadata,
        });
    JoinGroupResponse {
        error_code: code(reply.result).into(),
        generation_id: reply.generation,
        protocol_type: reply.protocol_type,
        protocol_name,
        leader: reply.leader,
        skip_assignment: reply.skip_assignment && version >= SKIP_ASSIGNMENT_SINCE,
        member_id: reply.member_id,
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

/// A request for an assignment, with copies of what the group keeps.
///
/// # Errors
/// What answers it at once: it does not name the protocol and its type, as it must.
pub fn sync(version: i16, request: SyncGroupRequest) -> Result<SyncGroup, GroupError> {
    let is_named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if version >= SYNCED_PROTOCOL_SINCE && !is_named {
        return Err(GroupError::InconsistentProtocol);
    }
    let assignments = request.assignments.into_iter();
    let assignments = assignments.map(|assigned| {
        let assignment = Bytes::copy_from_slice(&assigned.assignment);
        (copy_of(&assigned.member_id), assignment)
    });
    Ok(SyncGroup {
        group: copy_of(&request.group_id),
        generation: request.generation_id,
        member_id: copy_of(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(copy_of),
        protocol_type: request.protocol_type.as_ref().map(copy_of),
        protocol_name: request.protocol_name.as_ref().map(copy_of),
        assignments: assignments.collect(),
    })
}

/// The response to a request for an assignment.
pub fn synced(reply: Result<SyncReply, GroupError>) -> SyncGroupResponse {
    match reply {
        Ok(reply) => SyncGroupResponse {
            protocol_type: reply.protocol_type,
            protocol_name: reply.protocol_name,
            assignment: reply.assignment,
            ..SyncGroupResponse::default()
        },
        Err(error) => SyncGroupResponse {
            error_code: group_error(error).into(),
            ..SyncGroupResponse::default()
        },
    }
}

/// A sign of life.
pub fn heartbeat(request: HeartbeatRequest) -> Heartbeat {
    Heartbeat {
        group: request.group_id,
        generation: request.generation_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
    }
}

/// The response to a sign of life.
pub fn heartbeat_answer(reply: Result<(), GroupError>) -> HeartbeatResponse {
    HeartbeatResponse {
        error_code: code(reply).into(),
        ..HeartbeatResponse::default()
    }
}

/// A request to leave.
pub fn leave(version: i16, request: LeaveGroupRequest) -> LeaveGroup {
    let members = if version < MANY_LEAVE_SINCE {
        vec![LeavingMember {
            member_id: request.member_id,
            instance_id: None,
            reason: None,
        }]
    } else {
        let members = request.members.into_iter().map(|member| LeavingMember {
            reason: reason_of(member.reason.as_ref()),
            member_id: member.member_id,
            instance_id: member.group_instance_id,
        });
        members.collect()
    };
    LeaveGroup {
        group: request.group_id,
        members,
    }
}

/// The response to a request to leave. Where only one member can be named, its error is the
/// response's.
pub fn left(version: i16, reply: Result<LeaveReply, GroupError>) -> LeaveGroupResponse {
    let members = match reply {
        Ok(reply) => reply.members,
        Err(error) => {
            return LeaveGroupResponse {
                error_code: group_error(error).into(),
                ..LeaveGroupResponse::default()
            };
        }
    };
    if version < MANY_LEAVE_SINCE {
        let result = members.first().map_or(Ok(()), |(_, result)| *result);
        return LeaveGroupResponse {
            error_code: code(result).into(),
            ..LeaveGroupResponse::default()
        };
    }
    let members = members.into_iter().map(|(member, result)| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        error_code: code(result).into(),
    });
    LeaveGroupResponse {
        members: members.collect(),
        ..LeaveGroupResponse::default()
    }
}

/// A copy that does not hold the frame that `text` is a part of.
fn copy_of(text: &ByteString) -> ByteString {
    ByteString::from(&**text)
}

/// A client's reason, of which only so much is kept as well-behaved clients send.
fn reason_of(reason: Option<&ByteString>) -> Option<ByteString> {
    let reason = reason.filter(|reason| !reason.is_empty())?;
    let kept = reason.chars().take(GROUP_REASON_CHARS_MAX);
    Some(kept.collect::<String>().into())
}

fn code(result: Result<(), GroupError>) -> ErrorCode {
    result.err().map_or(ErrorCode::None, group_error)
}
