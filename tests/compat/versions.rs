//! What the broker advertises, against the table of what Apache Kafka 4.3.1 offers.

use std::collections::BTreeMap;

use bytes::BytesMut;
use kacrab_protocol::generated::{ApiKey, ApiVersionsRequestData, ApiVersionsResponseData};

use crate::support::broker::{Broker, Peer};
use crate::support::wire::{Wire, text};

/// Key, name, first and last version of every API of Kafka 4.3.1, tab-separated.
const TABLE: &str = include_str!("../data/apis-of-kafka-4.3.1.tsv");

/// The APIs that a broker without transactions, security and the newer group protocols serves.
const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::OffsetDelete,
    ApiKey::DescribeCluster,
    ApiKey::GetTelemetrySubscriptions,
    ApiKey::PushTelemetry,
    ApiKey::DescribeTopicPartitions,
];

/// The level of the feature `metadata.version` that Kafka 4.3 begins with, `4.3-IV0`.
const METADATA_VERSION_4_3: i16 = 30;

const API_VERSIONS: i16 = ApiKey::ApiVersions as i16;

type Ranges = BTreeMap<i16, (i16, i16)>;

fn table() -> Ranges {
    let row = |line: &str| {
        let fields: Vec<_> = line.split('\t').collect();
        let number = |at: usize| fields[at].parse::<i16>().expect("a number in the table");
        (number(0), (number(2), number(3)))
    };
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(row)
        .collect()
}

/// Kafka serves telemetry only when a plugin that receives it is configured.
fn without_telemetry(table: &Ranges) -> Ranges {
    let telemetry = [
        ApiKey::GetTelemetrySubscriptions as i16,
        ApiKey::PushTelemetry as i16,
    ];
    let mut rest = table.clone();
    rest.retain(|key, _| !telemetry.contains(key));
    rest
}

fn request(version: i16) -> BytesMut {
    let mut body = BytesMut::new();
    ApiVersionsRequestData::default()
        .with_client_software_name(text("compat"))
        .with_client_software_version(text("1.0"))
        .write(&mut body, version)
        .expect("an encodable request");
    body
}

fn advertised(wire: &mut Wire, version: i16) -> Ranges {
    let mut answer = wire
        .ask(API_VERSIONS, version, &request(version))
        .expect("ApiVersions never closes the connection");
    let answer = ApiVersionsResponseData::read(&mut answer, version).expect("a decodable answer");
    assert_eq!(answer.error_code, 0);
    ranges(&answer)
}

fn ranges(answer: &ApiVersionsResponseData) -> Ranges {
    answer
        .api_keys
        .iter()
        .map(|api| (api.api_key, (api.min_version, api.max_version)))
        .collect()
}

#[test]
fn every_advertised_range_is_kafkas_own() {
    let broker = Broker::start();
    let table = table();
    let mut wire = Wire::connect(broker.port());
    for version in 0..=4 {
        let advertised = advertised(&mut wire, version);
        let expected = match broker.peer() {
            Peer::Millrace => served(&table),
            Peer::Kafka => without_telemetry(&table),
        };
        assert_eq!(advertised, expected, "asked with version {version}");
    }
}

/// All of Kafka's versions of what is served, and nothing else.
fn served(table: &Ranges) -> Ranges {
    let row = |api: &ApiKey| (*api as i16, table[&(*api as i16)]);
    SERVED.iter().map(row).collect()
}

#[test]
fn a_version_that_is_too_new_is_answered_in_the_first_format() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.port());
    for version in [5, 99, i16::MAX] {
        let mut answer = wire
            .ask(API_VERSIONS, version, &request(4))
            .expect("ApiVersions never closes the connection");
        let answer = ApiVersionsResponseData::read(&mut answer, 0).expect("the v0 body");
        assert_eq!(answer.error_code, 35, "UNSUPPORTED_VERSION");
        let own = ranges(&answer).get(&API_VERSIONS).copied();
        assert_eq!(
            own,
            Some((0, 4)),
            "the client learns which versions it may use"
        );
    }
    assert!(
        !advertised(&mut wire, 3).is_empty(),
        "the connection serves on"
    );
}

#[test]
fn features_are_told_from_version_3_on() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.port());
    for version in 3..=4 {
        let mut answer = wire
            .ask(API_VERSIONS, version, &request(version))
            .expect("ApiVersions never closes the connection");
        let answer =
            ApiVersionsResponseData::read(&mut answer, version).expect("a decodable answer");
        let supported = answer.supported_features.iter();
        let supported: Vec<_> = supported
            .map(|it| (it.name.to_string(), it.min_version, it.max_version))
            .collect();
        let finalized = answer.finalized_features.iter();
        let finalized: Vec<_> = finalized
            .map(|it| (it.name.to_string(), it.max_version_level))
            .collect();
        let level = ("metadata.version".to_owned(), METADATA_VERSION_4_3);
        assert!(finalized.contains(&level), "{version}: {finalized:?}");
        let is_off_at_0 = supported.iter().any(|(_, lowest, _)| *lowest == 0);
        match broker.peer() {
            Peer::Millrace => {
                let (name, level) = level;
                assert_eq!(supported, [(name, level, level)], "{version}");
            }
            // Clients of version 3 stumble at a feature that starts at 0 (KAFKA-17011).
            Peer::Kafka => assert_eq!(is_off_at_0, version >= 4, "{version}: {supported:?}"),
        }
    }
}

#[test]
fn a_client_software_name_has_to_follow_its_pattern() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.port());
    for (name, version) in [("", "1"), ("bad name", "1"), ("good", ""), ("-dash", "1")] {
        let mut body = BytesMut::new();
        ApiVersionsRequestData::default()
            .with_client_software_name(text(name))
            .with_client_software_version(text(version))
            .write(&mut body, 3)
            .expect("an encodable request");
        let mut answer = wire
            .ask(API_VERSIONS, 3, &body)
            .expect("ApiVersions never closes the connection");
        let answer = ApiVersionsResponseData::read(&mut answer, 3).expect("a decodable answer");
        assert_eq!(
            answer.error_code, 42,
            "INVALID_REQUEST for {name:?} {version:?}"
        );
    }
}
