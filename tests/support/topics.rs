//! Creates topics by a raw CreateTopics request, so that a test depends on no client's admin part.

use std::time::Duration;

use kacrab_protocol::generated::{
    ApiKey, CreatableTopic, CreatableTopicConfig, CreatePartitionsRequestData,
    CreatePartitionsResponseData, CreatePartitionsTopic, CreateTopicsRequestData,
    CreateTopicsResponseData,
};

use super::broker::{Broker, Peer};
use super::requests;
use super::wire::{Wire, text};

/// Creates `name` with `partitions` and `configs`; it must succeed.
pub fn create(broker: &Broker, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    create_at(broker.port(), broker.peer(), name, partitions, configs);
}

/// As [`create`], at the broker on `port`, which is a `peer`.
pub fn create_at(port: u16, peer: Peer, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let mut wire = Wire::connect(port);
    create_on(&mut wire, name, partitions, configs);
    settle_at(port, peer, name, partitions);
}

/// Waits until every partition of a topic that was created by somebody else can be used.
pub fn settle_at(port: u16, peer: Peer, name: &str, partitions: i32) {
    let mut wire = Wire::connect(port);
    for partition in 0..partitions {
        settle(peer, &mut wire, name, partition);
    }
}

/// Gives the topic `count` partitions in all; they can be used then.
pub fn grow_at(port: u16, peer: Peer, name: &str, count: i32) {
    let topic = CreatePartitionsTopic::default()
        .with_name(text(name))
        .with_count(count)
        .with_assignments(None);
    let request = CreatePartitionsRequestData::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let mut wire = Wire::connect(port);
    let mut answer = wire.call(ApiKey::CreatePartitions, 3, |body, version| {
        request.write(body, version)
    });
    let answer = CreatePartitionsResponseData::read(&mut answer, 3).expect("a decodable answer");
    let [result] = &answer.results[..] else {
        panic!("one topic asked for, {} answered", answer.results.len());
    };
    assert_eq!(result.error_code, 0, "{name}: {:?}", result.error_message);
    settle_at(port, peer, name, count);
}

/// As [`create`], on a connection; it is not asked for whether the broker has followed.
pub fn create_on(wire: &mut Wire, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let configs = configs
        .iter()
        .map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        })
        .collect();
    let topic = CreatableTopic::default()
        .with_name(text(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs);
    let request = CreateTopicsRequestData::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let mut answer = wire.call(ApiKey::CreateTopics, 7, |body, version| {
        request.write(body, version)
    });
    let answer = CreateTopicsResponseData::read(&mut answer, 7).expect("a decodable answer");
    let [result] = &answer.topics[..] else {
        panic!("one topic asked for, {} answered", answer.topics.len());
    };
    assert_eq!(result.error_code, 0, "{name}: {:?}", result.error_message);
}

/// A created partition can be used at once. Kafka answers before its broker has followed: there it
/// is asked for until it is.
fn settle(peer: Peer, wire: &mut Wire, name: &str, partition: i32) {
    let request = requests::fetch(name, partition, 0);
    for attempt in 0.. {
        let mut answer = wire.call(ApiKey::Fetch, 12, |body, version| {
            request.write(body, version)
        });
        let error = requests::fetched(&mut answer, 12).error_code;
        if error == 0 {
            return;
        }
        let may_lag = peer == Peer::Kafka && attempt < 500;
        assert!(
            may_lag,
            "{name}-{partition} was created and answers with {error}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
