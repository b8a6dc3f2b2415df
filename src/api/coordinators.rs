//! FindCoordinator: which broker coordinates a group or a transaction. Any shard.
//!
//! The first question about a group has `__consumer_offsets` made. Transactions have no coordinator
//! yet, and share groups neither: clients are told to ask again, as while a coordinator moves.

#[cfg(test)]
mod tests;

use std::rc::Rc;

use bytestring::ByteString;

use super::broker::{Broker, Connection};
use super::groups::requests::partition_of_group;
use super::metadata::view::{AdvertisedBroker, NO_NODE, View};
use super::topics;
use crate::metadata::topic_name;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use crate::protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};

/// The first version that asks for many at once (KIP-699).
const MANY_SINCE: i16 = 4;
/// The first version that may ask for a share group's coordinator (KIP-932).
const SHARE_SINCE: i16 = 6;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;
const NO_PORT: i32 = -1;
/// How many letters a topic's id has where it is written out: 16 bytes in base64.
const TOPIC_ID_LENGTH: usize = 22;
/// Kafka's sentence for INVALID_REQUEST.
const INVALID_REQUEST: &str = "This most likely occurs because of a request being malformed by \
    the client library or the message was sent to an incompatible broker. See the broker logs for \
    more details.";
const NOT_AVAILABLE: &str = "The coordinator is not available.";

/// Answers a request. Where a group is asked for and `__consumer_offsets` does not exist, it is
/// created first.
pub async fn find(
    broker: &Rc<Broker>,
    connection: &Connection,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let is_missing = |broker: &Broker| {
        let image = broker.image();
        image.topic_named(topic_name::GROUP_METADATA).is_none()
    };
    if request.key_type == GROUP && is_missing(broker) {
        topics::create_group_metadata(broker).await;
    }
    let image = broker.image();
    respond(broker.view(&image, connection), version, request)
}

/// Answers from what `view` shows.
fn respond(
    view: View<'_>,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let kind = request.key_type;
    if version >= MANY_SINCE {
        let keys = request.coordinator_keys.into_iter();
        return FindCoordinatorResponse {
            coordinators: keys
                .map(|key| {
                    let mut row = row(key, |key| coordinator(view, version, kind, key));
                    // As in Kafka, only what is wrong with the whole request is put into words.
                    if !(GROUP..=SHARE).contains(&kind) {
                        row.error_message = Some(ByteString::from_static(INVALID_REQUEST));
                    }
                    row
                })
                .collect(),
            ..FindCoordinatorResponse::default()
        };
    }
    let found = row(request.key, |key| coordinator(view, version, kind, key));
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: Some(ByteString::from_static(
            match ErrorCode::from_code(found.error_code) {
                Some(ErrorCode::None) => "NONE",
                Some(ErrorCode::InvalidRequest) => INVALID_REQUEST,
                _ => NOT_AVAILABLE,
            },
        )),
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponse::default()
    }
}

/// Where a key's coordinator is for the client, or why it is not known.
fn coordinator<'a>(
    view: View<'a>,
    version: i16,
    kind: i8,
    key: &str,
) -> Result<AdvertisedBroker<'a>, ErrorCode> {
    match kind {
        GROUP => {
            let id = partition_of_group(view.image, key);
            let leader = id.and_then(|id| {
                let image = view.image.partition(id)?;
                view.partition(&id, image).leader().ok()
            });
            let mut alive = view.brokers().filter(|broker| !broker.image.is_fenced);
            alive
                .find(|broker| Some(broker.id) == leader)
                .ok_or(ErrorCode::CoordinatorNotAvailable)
        }
        TRANSACTION => Err(ErrorCode::CoordinatorNotAvailable),
        SHARE if version >= SHARE_SINCE && is_share_key(key) => {
            Err(ErrorCode::CoordinatorNotAvailable)
        }
        _ => Err(ErrorCode::InvalidRequest),
    }
}

/// Whether a key is that of a share partition: `<group>:<topic id>:<partition>`, of which the group
/// may hold colons itself.
fn is_share_key(key: &str) -> bool {
    let mut parts = key.rsplitn(3, ':');
    let partition = parts.next().map(str::parse::<i32>);
    let topic_id = parts.next();
    matches!(partition, Some(Ok(_)))
        && topic_id.is_some_and(|id| id.len() == TOPIC_ID_LENGTH)
        && parts.next().is_some_and(|group| !group.trim().is_empty())
}

fn row<'a>(
    key: ByteString,
    find: impl FnOnce(&str) -> Result<AdvertisedBroker<'a>, ErrorCode>,
) -> Coordinator {
    match find(&key) {
        Ok(broker) => Coordinator {
            key,
            node_id: broker.id.0,
            host: broker.host.clone(),
            port: broker.port.into(),
            error_message: Some(ByteString::new()),
            ..Coordinator::default()
        },
        Err(code) => Coordinator {
            key,
            node_id: NO_NODE,
            port: NO_PORT,
            error_code: code.into(),
            error_message: Some(ByteString::new()),
            ..Coordinator::default()
        },
    }
}
