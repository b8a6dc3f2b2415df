//! FindCoordinator: which broker coordinates a group or a transaction. Any shard; pure.
//!
//! No broker coordinates any yet, and that is the answer: clients keep asking, as they do while a
//! coordinator moves. It has to be served all the same, since librdkafka takes a broker without it
//! for one of before Kafka 0.8.2 and silently sends uncompressed what it was told to send as lz4.

#[cfg(test)]
mod tests;

use super::metadata::view::NO_NODE;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use crate::protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};

/// The first version that asks for many at once (KIP-699).
const MANY_SINCE: i16 = 4;
/// The first version that may ask for a share group's coordinator (KIP-932).
const SHARE_SINCE: i16 = 6;
/// Groups and transactions; a share group's is kind 2.
const KINDS: std::ops::RangeInclusive<i8> = 0..=1;
const SHARE: i8 = 2;

/// Answers a request.
pub fn respond(version: i16, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let kind = request.key_type;
    let is_known = KINDS.contains(&kind) || (kind == SHARE && version >= SHARE_SINCE);
    let code = if is_known {
        ErrorCode::CoordinatorNotAvailable
    } else {
        ErrorCode::InvalidRequest
    };
    if version < MANY_SINCE {
        return FindCoordinatorResponse {
            error_code: code.into(),
            node_id: NO_NODE,
            port: NO_PORT,
            ..FindCoordinatorResponse::default()
        };
    }
    let coordinators = request.coordinator_keys.into_iter();
    FindCoordinatorResponse {
        coordinators: coordinators
            .map(|key| Coordinator {
                key,
                node_id: NO_NODE,
                port: NO_PORT,
                error_code: code.into(),
                ..Coordinator::default()
            })
            .collect(),
        ..FindCoordinatorResponse::default()
    }
}

const NO_PORT: i32 = -1;
