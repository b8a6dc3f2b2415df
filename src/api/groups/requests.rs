//! Takes requests to groups to the coordinators that have them, and waits for their answers. Any
//! shard; nothing is decided here.

use std::rc::Rc;

use uuid::Uuid;

use super::room::AnswerRoom;
use super::{commit, delete, describe, fetch, membership};
use crate::api::broker::{Broker, Connection};
use crate::base::ids::TopicIdPartition;
use crate::base::limits::GROUPS_ASKED_AT_ONCE_MAX;
use crate::coordinator::group::command::{Command, Reply};
use crate::coordinator::group::coordinators::Pending;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::partitioning::partition_of;
use crate::metadata::image::MetadataImage;
use crate::metadata::topic_name;
use crate::protocol::frame::RequestHeader;
use crate::protocol::messages::delete_groups_request::DeleteGroupsRequest;
use crate::protocol::messages::delete_groups_response::DeleteGroupsResponse;
use crate::protocol::messages::describe_groups_request::DescribeGroupsRequest;
use crate::protocol::messages::describe_groups_response::DescribeGroupsResponse;
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::heartbeat_response::HeartbeatResponse;
use crate::protocol::messages::join_group_request::JoinGroupRequest;
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::messages::leave_group_request::LeaveGroupRequest;
use crate::protocol::messages::leave_group_response::LeaveGroupResponse;
use crate::protocol::messages::list_groups_request::ListGroupsRequest;
use crate::protocol::messages::list_groups_response::ListGroupsResponse;
use crate::protocol::messages::offset_commit_request::OffsetCommitRequest;
use crate::protocol::messages::offset_commit_response::OffsetCommitResponse;
use crate::protocol::messages::offset_delete_request::OffsetDeleteRequest;
use crate::protocol::messages::offset_delete_response::OffsetDeleteResponse;
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequest;
use crate::protocol::messages::offset_fetch_response::OffsetFetchResponse;
use crate::protocol::messages::sync_group_request::SyncGroupRequest;
use crate::protocol::messages::sync_group_response::SyncGroupResponse;

/// The partition of `__consumer_offsets` that has `group`, if the topic exists and has any.
pub fn partition_of_group(image: &MetadataImage, group: &str) -> Option<TopicIdPartition> {
    let topic = image.topic_named(topic_name::GROUP_METADATA)?;
    let partition = partition_of(group, topic.partitions.len())?;
    Some(topic.topic_id_partition(partition))
}

async fn send(broker: &Broker, command: Command) -> Pending {
    let id = partition_of_group(&broker.image(), command.group());
    broker.groups.send(id, command).await
}

/// Sends a command and takes the answer that is of its kind.
macro_rules! ask {
    ($broker:expr, $kind:ident($request:expr)) => {
        match send($broker, Command::$kind($request)).await.answer().await {
            Reply::$kind(reply) => reply,
            other => unreachable!("a command is answered by its own kind, not by {other:?}"),
        }
    };
}

/// JoinGroup; the answer comes when the rebalance is through.
pub async fn join(
    broker: &Rc<Broker>,
    connection: &Connection,
    header: &RequestHeader,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let id = (!header.client_id.is_empty()).then(|| header.client_id.clone());
    let client = membership::Client::new(id, connection.peer.ip());
    let random = Uuid::new_v4().as_u128();
    let command = membership::join(header.version, request, client, random);
    membership::joined(header.version, ask!(broker, Join(command)))
}

/// SyncGroup; the answer comes when the leader has assigned.
pub async fn sync(
    broker: &Rc<Broker>,
    version: i16,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    match membership::sync(version, request) {
        Ok(command) => membership::synced(ask!(broker, Sync(command))),
        Err(error) => membership::synced(Err(error)),
    }
}

/// Heartbeat.
pub async fn heartbeat(broker: &Rc<Broker>, request: HeartbeatRequest) -> HeartbeatResponse {
    let command = membership::heartbeat(request);
    membership::heartbeat_answer(ask!(broker, Heartbeat(command)))
}

/// LeaveGroup.
pub async fn leave(
    broker: &Rc<Broker>,
    version: i16,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let command = membership::leave(version, request);
    membership::left(version, ask!(broker, Leave(command)))
}

/// OffsetCommit; the answer comes when the offsets are durable.
pub async fn commit_offsets(
    broker: &Rc<Broker>,
    version: i16,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let (command, pending) = commit::commit(version, request, &broker.image());
    match command {
        Some(command) => pending.respond(ask!(broker, Commit(command))),
        None => pending.respond_without(),
    }
}

/// OffsetFetch: some groups are asked at once, and as many as there is room for in an answer.
pub async fn fetch_offsets(
    broker: &Rc<Broker>,
    version: i16,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let image = broker.image();
    let mut room = AnswerRoom::new();
    let mut rest = fetch::fetch(version, request, &image);
    let mut groups = Vec::new();
    loop {
        let mut waiting = Vec::new();
        for pending in rest.by_ref().take(GROUPS_ASKED_AT_ONCE_MAX) {
            let answer = match room.take(pending.bytes_min()) {
                Ok(()) => Ok(send(broker, Command::Fetch(pending.command())).await),
                Err(error) => Err(error),
            };
            waiting.push((answer, pending));
        }
        if waiting.is_empty() {
            return fetch::fetched(version, groups);
        }
        for (answer, pending) in waiting {
            let mut reply = match answer {
                Ok(answer) => match answer.answer().await {
                    Reply::Fetch(reply) => reply,
                    other => unreachable!("a fetch is not answered by {other:?}"),
                },
                Err(error) => Err(error),
            };
            if let Ok(found) = &reply {
                let bytes = fetch::bytes_of(found).saturating_sub(pending.bytes_min());
                reply = room.take(bytes).and(reply);
            }
            groups.push(pending.respond(reply, &image));
            crate::runtime::yield_if_needed().await;
        }
    }
}

/// OffsetDelete.
pub async fn delete_offsets(
    broker: &Rc<Broker>,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let (command, pending) = delete::delete_offsets(request, &broker.image());
    pending.respond(ask!(broker, DeleteOffsets(command)))
}

/// DeleteGroups: the groups are asked all at once.
pub async fn delete_groups(
    broker: &Rc<Broker>,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut waiting = Vec::new();
    for group in delete::delete_groups(request) {
        let command = Command::DeleteGroup {
            group: group.clone(),
        };
        waiting.push((group, send(broker, command).await));
    }
    let mut results = Vec::with_capacity(waiting.len());
    for (group, answer) in waiting {
        let Reply::DeleteGroup(result) = answer.answer().await else {
            unreachable!("a command is answered by its own kind");
        };
        results.push((group, result));
    }
    delete::groups_deleted(results)
}

/// DescribeGroups: as for OffsetFetch.
pub async fn describe_groups(
    broker: &Rc<Broker>,
    version: i16,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let with_operations = request.include_authorized_operations;
    let image = broker.image();
    let mut room = AnswerRoom::new();
    let mut groups = Vec::with_capacity(request.groups.len());
    for some in request.groups.chunks(GROUPS_ASKED_AT_ONCE_MAX) {
        let mut waiting = Vec::with_capacity(some.len());
        for group in some {
            let id = partition_of_group(&image, group);
            let answer = match room.take(0) {
                Ok(()) => Ok(broker.groups.describe(id, group.clone()).await),
                Err(error) => Err(error),
            };
            waiting.push((group.clone(), answer));
        }
        for (group, answer) in waiting {
            let answer = match answer {
                Ok(answer) => answer.await.unwrap_or(Err(GroupError::NotCoordinator)),
                Err(error) => Err(error),
            };
            let answer = answer.and_then(|it| room.take(describe::bytes_of(&it)).map(|()| it));
            groups.push(describe::describe(version, with_operations, group, answer));
            crate::runtime::yield_if_needed().await;
        }
    }
    DescribeGroupsResponse {
        groups,
        ..DescribeGroupsResponse::default()
    }
}

/// ListGroups, of all shards.
pub async fn list_groups(broker: &Rc<Broker>, request: ListGroupsRequest) -> ListGroupsResponse {
    let filter = describe::filter(request);
    let image = broker.image();
    let topic = image.topic_named(topic_name::GROUP_METADATA);
    let partitions = topic.into_iter().flat_map(|topic| {
        let all = topic.iter();
        all.map(|(partition, _)| topic.topic_id_partition(partition))
    });
    // Clients ask every broker that they know and put the lists together: where shards are brokers
    // to them, each tells of its own groups.
    let own = broker.advertised.of_connection(broker.router.shard());
    let partitions = partitions.filter(|id| broker.advertised.owner(id) == own);
    describe::list(broker.groups.list(&filter, partitions).await)
}
