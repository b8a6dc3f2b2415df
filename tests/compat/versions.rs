//! What the broker advertises, against the table of what Apache Kafka 4.3.1 offers.

use std::collections::BTreeMap;

use bytes::BytesMut;
use kacrab_protocol::generated::{ApiKey, ApiVersionsRequestData, ApiVersionsResponseData};

use crate::support::broker::{Broker, Peer};
use crate::support::wire::{Wire, text};

/// Key, name, first and last version of every API of Kafka 4.3.1, tab-separated.
const TABLE: &str = include_str!("kafka-4.3.1-apis.tsv");

/// The APIs that a broker without groups, transactions and security serves.
const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::CreatePartitions,
    ApiKey::DescribeCluster,
    ApiKey::GetTelemetrySubscriptions,
    ApiKey::PushTelemetry,
    ApiKey::DescribeTopicPartitions,
];

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
        for (key, range) in &advertised {
            assert_eq!(
                table.get(key),
                Some(range),
                "API {key}, asked with version {version}"
            );
        }
        match broker.peer() {
            Peer::Millrace => assert_serves(&advertised),
            Peer::Kafka => assert_eq!(advertised, without_telemetry(&table)),
        }
    }
}

fn assert_serves(advertised: &Ranges) {
    for &api in SERVED {
        let key = api as i16;
        assert!(advertised.contains_key(&key), "{api:?} is not advertised");
    }
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
        for feature in &answer.supported_features {
            let name = feature.name.to_string();
            assert!(
                version >= 4 || feature.min_version >= 1,
                "{name} starts at 0 (KAFKA-17011)"
            );
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
