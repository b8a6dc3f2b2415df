//! What the handshake answers, case by case. Tests only.

use super::*;
use crate::api::metadata::fixtures::Cluster;
use crate::protocol::messages::api_versions_response::ApiVersionsResponse;
use crate::protocol::wire::Message;

fn request(name: &str, version: &str) -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: name.into(),
        client_software_version: version.into(),
    }
}

/// What a client of this version reads.
fn received(response: &ApiVersionsResponse, version: i16) -> ApiVersionsResponse {
    let bytes = response.to_bytes(version).expect("it can be sent");
    ApiVersionsResponse::from_bytes(bytes, version).expect("it can be read")
}

#[test]
fn every_version_names_all_that_is_served() {
    let cluster = Cluster::new();
    for version in 0..=4 {
        let response = respond(&cluster.image, version, &request("a", "1"));
        let response = received(&response, version);
        assert_eq!(response.error_code, 0);
        let served = SUPPORTED
            .iter()
            .map(|api| (api.key.code(), api.min_version, api.max_version));
        let named = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, api.min_version, api.max_version));
        assert!(named.eq(served), "version {version}");
        // Before version 3 there are no features.
        let features = response.finalized_features.iter();
        let features: Vec<_> = features
            .map(|key| (&*key.name, key.max_version_level))
            .collect();
        if version >= 3 {
            assert_eq!(features, [("metadata.version", 30)]);
            assert_eq!(
                response.finalized_features_epoch,
                cluster.image.next_offset().0 - 1
            );
            let [metadata_version] = response.supported_features.as_slice() else {
                panic!("one feature: {:?}", response.supported_features);
            };
            assert_eq!(&*metadata_version.name, "metadata.version");
            assert_eq!(
                (metadata_version.min_version, metadata_version.max_version),
                (30, 30)
            );
        } else {
            assert!(features.is_empty());
            assert_eq!(response.finalized_features_epoch, -1);
        }
    }
}

#[test]
fn a_cluster_without_metadata_has_no_epoch() {
    let image = MetadataImage::default();
    let response = respond(&image, 4, &request("a", "1"));
    assert_eq!(response.finalized_features_epoch, -1);
    assert!(response.finalized_features.is_empty());
}

#[test]
fn clients_must_say_what_they_are() {
    let cases = [
        ("apache-kafka-java", "4.3.1", true),
        ("a", "1", true),
        ("a..b--c.9", "v1.0-rc.1", true),
        ("", "1", false),
        ("a", "", false),
        ("-a", "1", false),
        ("a-", "1", false),
        ("a", ".1", false),
        ("a", "1.", false),
        ("a b", "1", false),
        ("a_b", "1", false),
        ("ä", "1", false),
        ("a", "1\n", false),
    ];
    let image = MetadataImage::default();
    for (name, version, is_right) in cases {
        for request_version in [3, 4] {
            let response = respond(&image, request_version, &request(name, version));
            let response = received(&response, request_version);
            let code = if is_right { 0 } else { 42 };
            assert_eq!(response.error_code, code, "{name:?} {version:?}");
            assert_eq!(
                response.api_keys.is_empty(),
                !is_right,
                "{name:?} {version:?}"
            );
        }
        // Older clients say nothing.
        assert_eq!(respond(&image, 2, &request(name, version)).error_code, 0);
    }
}

#[test]
fn any_other_version_is_told_the_range_in_version_0() {
    let response = received(&unsupported_version(), FALLBACK_VERSION);
    assert_eq!(response.error_code, 35);
    let [itself] = response.api_keys.as_slice() else {
        panic!("only the range of ApiVersions: {:?}", response.api_keys);
    };
    assert_eq!(
        (itself.api_key, itself.min_version, itself.max_version),
        (18, 0, 4)
    );
}
