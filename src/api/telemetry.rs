//! GetTelemetrySubscriptions and PushTelemetry: metrics of clients, which nobody here subscribes to
//! (KIP-714). Any shard; it keeps nothing.
//!
//! A subscription follows from the client's instance alone, so any shard and any broker, also one
//! that was restarted, knows it again. Clients that are asked for no metrics push none; those that
//! push all the same are answered as Kafka answers without a receiver: accepted, and forgotten.

#[cfg(test)]
mod tests;

use crate::base::ids::{TopicId, Uuid};
use crate::config::BrokerConfig;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::{
    get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequest,
    get_telemetry_subscriptions_response::GetTelemetrySubscriptionsResponse,
    push_telemetry_request::PushTelemetryRequest, push_telemetry_response::PushTelemetryResponse,
};

/// When a client without a subscription asks again, in milliseconds: Kafka's default.
const PUSH_INTERVAL_MS: i32 = 300_000;
/// ZStandard, LZ4, gzip and Snappy, in the order in which Kafka prefers them.
const ACCEPTED_COMPRESSION_TYPES: [i8; 4] = [4, 3, 1, 2];
/// No compression up to ZStandard.
const COMPRESSION_TYPES: std::ops::RangeInclusive<i8> = 0..=4;
/// Ids that no client has: those that Kafka keeps for itself.
const RESERVED: [Uuid; 2] = [Uuid(0), Uuid(1)];

/// Answers GetTelemetrySubscriptions. A client that has no id yet gets one.
pub fn subscriptions(
    config: &BrokerConfig,
    request: &GetTelemetrySubscriptionsRequest,
) -> GetTelemetrySubscriptionsResponse {
    let client_instance_id = match request.client_instance_id {
        Uuid(0) => Uuid(TopicId::random().0),
        known => known,
    };
    GetTelemetrySubscriptionsResponse {
        client_instance_id,
        subscription_id: subscription_id(client_instance_id),
        accepted_compression_types: ACCEPTED_COMPRESSION_TYPES.to_vec(),
        push_interval_ms: PUSH_INTERVAL_MS,
        telemetry_max_bytes: telemetry_max_bytes(config),
        delta_temporality: true,
        requested_metrics: Vec::new(),
        ..GetTelemetrySubscriptionsResponse::default()
    }
}

/// Answers PushTelemetry.
pub fn push(config: &BrokerConfig, request: &PushTelemetryRequest) -> PushTelemetryResponse {
    let client = request.client_instance_id;
    let code = if RESERVED.contains(&client) {
        ErrorCode::InvalidRequest
    } else if request.subscription_id != subscription_id(client) {
        ErrorCode::UnknownSubscriptionId
    } else if !COMPRESSION_TYPES.contains(&request.compression_type) {
        ErrorCode::UnsupportedCompressionType
    } else if request.metrics.len() > config.telemetry_max_bytes as usize {
        ErrorCode::TelemetryTooLarge
    } else {
        ErrorCode::None
    };
    PushTelemetryResponse {
        error_code: code.into(),
        ..PushTelemetryResponse::default()
    }
}

fn telemetry_max_bytes(config: &BrokerConfig) -> i32 {
    i32::try_from(config.telemetry_max_bytes).unwrap_or(i32::MAX)
}

/// Kafka's: the CRC of what is subscribed to, here nothing, and of the interval, mixed with the
/// client's id.
fn subscription_id(client: Uuid) -> i32 {
    let subscribed = crc32c::crc32c(format!("[]{PUSH_INTERVAL_MS}").as_bytes());
    let halves = (client.0 >> 64) as u64 ^ client.0 as u64;
    (subscribed ^ (halves >> 32) as u32 ^ halves as u32) as i32
}
