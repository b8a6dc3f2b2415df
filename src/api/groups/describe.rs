//! DescribeGroups and ListGroups. Pure; any shard.

#[cfg(test)]
mod tests;

use bytestring::ByteString;

use crate::api::authorized_operations;
use crate::api::errors::{group_error, text_of};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::reads::{
    DescribedGroup, DescribedMember, GROUP_TYPE, ListFilter, ListedGroup,
};
use crate::protocol::messages::describe_groups_response::{
    self as described, DescribedGroupMember,
};
use crate::protocol::messages::list_groups_request::ListGroupsRequest;
use crate::protocol::messages::list_groups_response::{self as listed, ListGroupsResponse};

/// DescribeGroups: the first version in which an unknown group is an error (KIP-1043).
const UNKNOWN_IS_ERROR_SINCE: i16 = 6;
/// The state of a group that does not exist.
const DEAD: &str = "Dead";

/// A group's part of a DescribeGroups response.
pub fn describe(
    version: i16,
    with_operations: bool,
    group_id: ByteString,
    answer: Result<DescribedGroup, GroupError>,
) -> described::DescribedGroup {
    let authorized_operations = if with_operations {
        authorized_operations::GROUP
    } else {
        authorized_operations::NOT_ASKED
    };
    match answer {
        Ok(group) => described::DescribedGroup {
            group_id,
            group_state: group.state.name().into(),
            protocol_type: group.protocol_type,
            protocol_data: group.protocol,
            members: group.members.into_iter().map(member).collect(),
            authorized_operations,
            ..described::DescribedGroup::default()
        },
        Err(GroupError::GroupIdNotFound) if version < UNKNOWN_IS_ERROR_SINCE => {
            described::DescribedGroup {
                group_id,
                group_state: DEAD.into(),
                authorized_operations,
                ..described::DescribedGroup::default()
            }
        }
        Err(error @ GroupError::GroupIdNotFound) => described::DescribedGroup {
            error_code: group_error(error).into(),
            error_message: Some(text_of(&format!("Group {group_id} not found."))),
            group_id,
            group_state: DEAD.into(),
            ..described::DescribedGroup::default()
        },
        Err(error) => described::DescribedGroup {
            error_code: group_error(error).into(),
            group_id,
            ..described::DescribedGroup::default()
        },
    }
}

/// About what the members of a group take in an answer, in bytes.
pub fn bytes_of(group: &DescribedGroup) -> usize {
    let members = group.members.iter().map(|member| {
        let instance_id = member.instance_id.as_ref().map_or(0, |id| id.len());
        let names = member.member_id.len() + member.client_id.len() + member.client_host.len();
        instance_id + names + member.metadata.len() + member.assignment.len()
    });
    size_of_val(&*group.members) + members.sum::<usize>()
}

fn member(member: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}

/// Which groups ListGroups asks for.
pub fn filter(request: ListGroupsRequest) -> ListFilter {
    ListFilter {
        states: request.states_filter,
        types: request.types_filter,
    }
}

/// The ListGroups response, of what each partition of `__consumer_offsets` answered. One that has
/// just moved away is left to its new coordinator; any other that cannot tell fails the whole,
/// since nobody sees that a list lacks groups.
pub fn list(
    partitions: impl IntoIterator<Item = Result<Vec<ListedGroup>, GroupError>>,
) -> ListGroupsResponse {
    let mut groups = Vec::new();
    for answer in partitions {
        match answer {
            Ok(some) => groups.extend(some.into_iter().map(group)),
            Err(GroupError::NotCoordinator) => {}
            Err(error) => {
                return ListGroupsResponse {
                    error_code: group_error(error).into(),
                    ..ListGroupsResponse::default()
                };
            }
        }
    }
    ListGroupsResponse {
        groups,
        ..ListGroupsResponse::default()
    }
}

fn group(group: ListedGroup) -> listed::ListedGroup {
    listed::ListedGroup {
        group_id: group.group,
        protocol_type: group.protocol_type,
        group_state: group.state.name().into(),
        group_type: GROUP_TYPE.into(),
    }
}
