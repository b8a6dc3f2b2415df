//! ApiVersions: what the broker speaks, before anything else is said. Any shard; pure.
//!
//! It is answered whatever the state of the connection, and never closes it.

use super::features;
use crate::metadata::image::MetadataImage;
use crate::protocol::api::{ApiKey, SUPPORTED, Served};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::api_versions_request::ApiVersionsRequest;
use crate::protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};

#[cfg(test)]
mod tests;

/// The version in which [`unsupported_version`] is answered, whatever was asked.
pub const FALLBACK_VERSION: i16 = 0;

/// The first version in which clients say what they are (KIP-511).
const CLIENT_SOFTWARE_SINCE: i16 = 3;
/// The first version whose clients understand a feature that can be off (KAFKA-17011).
const OPTIONAL_FEATURES_SINCE: i16 = 4;

/// Answers a request of a version that is served.
pub fn respond(
    image: &MetadataImage,
    version: i16,
    request: &ApiVersionsRequest,
) -> ApiVersionsResponse {
    let software = [
        &request.client_software_name,
        &request.client_software_version,
    ];
    if version >= CLIENT_SOFTWARE_SINCE && !software.into_iter().all(|text| is_software(text)) {
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest.into(),
            ..ApiVersionsResponse::default()
        };
    }
    ApiVersionsResponse {
        api_keys: SUPPORTED.iter().map(api_version).collect(),
        supported_features: features::supported(version >= OPTIONAL_FEATURES_SINCE),
        finalized_features_epoch: features::epoch(image),
        finalized_features: features::finalized(image),
        ..ApiVersionsResponse::default()
    }
}

/// Answers a request of any other version, in [`FALLBACK_VERSION`]: the client asks again within
/// the range that this names (KIP-511).
pub fn unsupported_version() -> ApiVersionsResponse {
    let itself = SUPPORTED
        .iter()
        .filter(|served| served.key == ApiKey::ApiVersions);
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.into(),
        api_keys: itself.map(api_version).collect(),
        ..ApiVersionsResponse::default()
    }
}

fn api_version(served: &Served) -> ApiVersion {
    ApiVersion {
        api_key: served.key.code(),
        min_version: served.min_version,
        max_version: served.max_version,
    }
}

/// Whether `text` is a name or version of a client as KIP-511 has it: letters and digits, between
/// them also dashes and dots.
fn is_software(text: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    is_edge(bytes.first()) && is_edge(bytes.last()) && bytes.iter().all(is_allowed)
}
