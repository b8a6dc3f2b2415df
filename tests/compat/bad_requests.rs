//! Requests that are well-formed but ask for what cannot be: the code is Kafka's.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kacrab_protocol::KafkaUuid;
use kacrab_protocol::generated::describe_topic_partitions_request::TopicRequest;
use kacrab_protocol::generated::fetch_request::FetchRequestData;
use kacrab_protocol::generated::{
    ApiKey, CreatableTopic, CreateTopicsRequestData, CreateTopicsResponseData, DeleteTopicState,
    DeleteTopicsRequestData, DeleteTopicsResponseData, DescribeConfigsRequestData,
    DescribeConfigsResource, DescribeConfigsResponseData, DescribeTopicPartitionsRequestData,
    DescribeTopicPartitionsResponseData, FetchResponseData, InitProducerIdRequestData,
    InitProducerIdResponseData, ListOffsetsPartition, ListOffsetsRequestData,
    ListOffsetsResponseData, ListOffsetsTopic, MetadataRequestData, MetadataRequestTopic,
    MetadataResponseData, OffsetForLeaderEpochRequestData, OffsetForLeaderEpochResponseData,
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use crate::support::batches::batch;
use crate::support::broker::{Broker, Peer};
use crate::support::requests::{self, fetched, produced};
use crate::support::topics;
use crate::support::wire::{Wire, text};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC_EXCEPTION: i16 = 17;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// A broker with the topic "known" of one partition that holds ten records in five batches.
fn broker() -> (Broker, Wire) {
    let broker = Broker::start();
    topics::create(&broker, "known", 1, &[]);
    let mut wire = Wire::connect(broker.port());
    for _ in 0..5 {
        let request = requests::produce("known", 0, -1, &batch(&[b"a", b"b"]));
        let mut answer = wire.call(ApiKey::Produce, 9, |body, v| request.write(body, v));
        assert_eq!(produced(&mut answer, 9).error_code, 0);
    }
    (broker, wire)
}

fn fetch(wire: &mut Wire, request: &FetchRequestData, version: i16) -> (i16, usize) {
    let mut answer = wire.call(ApiKey::Fetch, version, |body, v| request.write(body, v));
    let answer = fetched(&mut answer, version);
    (
        answer.error_code,
        answer.records.map_or(0, |records| records.len()),
    )
}

#[test]
fn fetches() {
    let (_broker, mut wire) = broker();
    let batch_bytes = batch(&[b"a", b"b"]).len();
    let cases = [
        ("the start", "known", 0, 0, (0, 5 * batch_bytes)),
        ("the middle of a batch", "known", 0, 3, (0, 4 * batch_bytes)),
        ("the end", "known", 0, 10, (0, 0)),
        ("past the end", "known", 0, 11, (OFFSET_OUT_OF_RANGE, 0)),
        (
            "far past the end",
            "known",
            0,
            i64::MAX,
            (OFFSET_OUT_OF_RANGE, 0),
        ),
        (
            "a negative offset",
            "known",
            0,
            -1,
            (OFFSET_OUT_OF_RANGE, 0),
        ),
        (
            "an unknown partition",
            "known",
            1,
            0,
            (UNKNOWN_TOPIC_OR_PARTITION, 0),
        ),
        (
            "a negative partition",
            "known",
            -1,
            0,
            (UNKNOWN_TOPIC_OR_PARTITION, 0),
        ),
        (
            "an unknown topic",
            "unknown",
            0,
            0,
            (UNKNOWN_TOPIC_OR_PARTITION, 0),
        ),
    ];
    for (name, topic, partition, offset, expected) in cases {
        let request = requests::fetch(topic, partition, offset);
        assert_eq!(fetch(&mut wire, &request, 12), expected, "{name}");
    }
    let mut by_id = requests::fetch("", 0, 0);
    by_id.topics[0].topic_id = KafkaUuid::from_parts(12, 34);
    assert_eq!(fetch(&mut wire, &by_id, 13), (UNKNOWN_TOPIC_ID, 0));
}

#[test]
fn the_first_batch_comes_however_small_the_limit() {
    let (_broker, mut wire) = broker();
    let batch_bytes = batch(&[b"a", b"b"]).len();
    for (partition_max, max, expected) in [
        (1, 1 << 20, batch_bytes),
        (0, 1 << 20, batch_bytes),
        (1 << 20, 1, batch_bytes),
        (1 << 20, 0, batch_bytes),
        // A second batch that does not fit is left out, or cut off and read as incomplete.
        (i32::MAX, i32::MAX, 5 * batch_bytes),
    ] {
        let mut request = requests::fetch("known", 0, 0);
        request.max_bytes = max;
        request.topics[0].partitions[0].partition_max_bytes = partition_max;
        let answer = fetch(&mut wire, &request, 12);
        assert_eq!(answer, (0, expected), "at most {partition_max} and {max}");
    }
}

#[test]
fn leader_epochs() {
    let (_broker, mut wire) = broker();
    let mut request = requests::fetch("known", 0, 0);
    for (epoch, expected) in [(-1, 0), (0, 0), (1, UNKNOWN_LEADER_EPOCH)] {
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(
            fetch(&mut wire, &request, 12).0,
            expected,
            "fetch in epoch {epoch}"
        );
    }
    let cases = [
        ("known", 0, -1, 0, (0, 0, 10)),
        ("known", 0, 0, 0, (0, 0, 10)),
        ("known", 0, 1, 0, (UNKNOWN_LEADER_EPOCH, -1, -1)),
        ("known", 0, -1, 1, (0, -1, -1)),
        ("known", 0, -1, -1, (0, -1, -1)),
        ("known", 1, -1, 0, (UNKNOWN_TOPIC_OR_PARTITION, -1, -1)),
        ("unknown", 0, -1, 0, (UNKNOWN_TOPIC_OR_PARTITION, -1, -1)),
    ];
    for (topic, partition, current, epoch, expected) in cases {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(text(topic))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequestData::default()
            .with_replica_id(-1)
            .with_topics(vec![topic]);
        let mut answer = wire.call(ApiKey::OffsetForLeaderEpoch, 4, |body, v| {
            request.write(body, v)
        });
        let answer = OffsetForLeaderEpochResponseData::read(&mut answer, 4).expect("decodable");
        let answer = &answer.topics[0].partitions[0];
        let answer = (answer.error_code, answer.leader_epoch, answer.end_offset);
        assert_eq!(answer, expected, "{current} {epoch}");
    }
}

/// More replicas in sync than a partition has are asked of nobody: Kafka's `effectiveMinIsr`.
#[test]
fn a_single_replica_is_in_sync_enough() {
    let broker = Broker::start_with(&[("min.insync.replicas", "3")]);
    topics::create(&broker, "broker-wide", 1, &[]);
    topics::create(&broker, "own", 1, &[("min.insync.replicas", "2")]);
    let mut wire = Wire::connect(broker.port());
    for topic in ["broker-wide", "own"] {
        for acks in [-1, 1] {
            let request = requests::produce(topic, 0, acks, &batch(&[b"a"]));
            let mut answer = wire.call(ApiKey::Produce, 9, |body, v| request.write(body, v));
            assert_eq!(produced(&mut answer, 9).error_code, 0, "{topic} {acks}");
        }
    }
}

#[test]
fn sessions() {
    let (_broker, mut wire) = broker();
    let mut ask = |id: i32, epoch: i32, empty: bool| {
        let mut request = requests::fetch("known", 0, 0)
            .with_session_id(id)
            .with_session_epoch(epoch);
        if empty {
            request.topics.clear();
        }
        let mut answer = wire.call(ApiKey::Fetch, 12, |body, v| request.write(body, v));
        let answer = FetchResponseData::read(&mut answer, 12).expect("a decodable answer");
        (answer.error_code, answer.session_id, answer.responses.len())
    };
    assert_eq!(ask(123_456, 1, true), (FETCH_SESSION_ID_NOT_FOUND, 0, 0));
    let (error, session, topics) = ask(0, 0, false);
    assert_eq!((error, topics), (0, 1));
    assert!(session != 0, "a session was asked for");
    // The first incremental fetch asks from the same offset, so there is data again.
    assert_eq!(ask(session, 1, true), (0, session, 1));
    assert_eq!(
        ask(session, 1, true),
        (INVALID_FETCH_SESSION_EPOCH, 0, 0),
        "an epoch twice"
    );
    assert_eq!(
        ask(session, 7, true),
        (INVALID_FETCH_SESSION_EPOCH, 0, 0),
        "a skipped epoch"
    );
    assert_eq!(
        ask(session, 2, true),
        (0, session, 1),
        "the right epoch still works"
    );
    assert_eq!(ask(session, -1, false).0, 0, "the end of the session");
    assert_eq!(ask(session, 3, true), (FETCH_SESSION_ID_NOT_FOUND, 0, 0));
}

/// A request that a later one of its session has overtaken is told which session that was.
#[test]
fn an_overtaken_fetch_names_its_session() {
    // With one shard both connections find the session.
    let broker = Broker::start_with(&[("millrace.shards", "1")]);
    topics::create(&broker, "known", 1, &[]);
    let (mut waiting, mut overtaking) =
        (Wire::connect(broker.port()), Wire::connect(broker.port()));
    let request = |id: i32, epoch: i32, wait: i32| {
        requests::fetch("known", 0, 0)
            .with_session_id(id)
            .with_session_epoch(epoch)
            .with_min_bytes(1)
            .with_max_wait_ms(wait)
    };
    let read = |mut answer: Bytes| {
        let answer = FetchResponseData::read(&mut answer, 12).expect("a decodable answer");
        (answer.error_code, answer.session_id, answer.responses.len())
    };
    let first = waiting.call(ApiKey::Fetch, 12, |body, v| request(0, 0, 0).write(body, v));
    let (error, session, _) = read(first);
    assert!(error == 0 && session != 0);
    let mut body = BytesMut::new();
    let long = request(session, 1, 1_000);
    long.write(&mut body, 12).expect("an encodable request");
    waiting.send_request(ApiKey::Fetch as i16, 12, &body);
    std::thread::sleep(Duration::from_millis(300));
    let next = request(session, 2, 0);
    let next = overtaking.call(ApiKey::Fetch, 12, |body, v| next.write(body, v));
    assert_eq!(read(next), (0, session, 0));
    let mut overtaken = waiting.receive().expect("an answer");
    // The correlation id and no tagged fields.
    let _header = overtaken.split_to(5);
    let expected = (INVALID_FETCH_SESSION_EPOCH, session, 0);
    assert_eq!(read(overtaken), expected);
}

#[test]
fn list_offsets() {
    let (_broker, mut wire) = broker();
    let mut ask_at = |version: i16, topic: &str, partitions: &[(i32, i32, i64)]| {
        let partitions = partitions
            .iter()
            .map(|&(partition, epoch, timestamp)| {
                ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_current_leader_epoch(epoch)
                    .with_timestamp(timestamp)
            })
            .collect();
        let topic = ListOffsetsTopic::default()
            .with_name(text(topic))
            .with_partitions(partitions);
        let request = ListOffsetsRequestData::default()
            .with_replica_id(-1)
            .with_topics(vec![topic]);
        let mut answer = wire.call(ApiKey::ListOffsets, version, |body, v| {
            request.write(body, v)
        });
        let answer = ListOffsetsResponseData::read(&mut answer, version);
        let answer = answer.expect("a decodable answer");
        let rows = &answer.topics[0].partitions;
        rows.iter()
            .map(|row| (row.error_code, row.offset))
            .collect::<Vec<_>>()
    };
    // What a negative time means came version by version; before that, and at others, it is none.
    let supported = [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9)];
    for version in [1, 6, 7, 8, 9, 10] {
        for timestamp in [-1, -2, -3, -4, -5, -7, i64::MIN] {
            let found = ask_at(version, "known", &[(0, -1, timestamp)]);
            let is_supported = supported
                .iter()
                .any(|(named, since)| *named == timestamp && *since <= version);
            let expected = if is_supported { 0 } else { UNSUPPORTED_VERSION };
            assert_eq!(found[0].0, expected, "{timestamp} in version {version}");
        }
    }
    let twice = ask_at(10, "known", &[(0, -1, -7), (0, -1, -7)]);
    assert_eq!(twice, [(INVALID_REQUEST, -1)], "that comes first");
    let unknown = ask_at(10, "unknown", &[(0, -1, -7)]);
    assert_eq!(unknown, [(UNSUPPORTED_VERSION, -1)], "and that next");
    let mut ask = |topic: &str, partitions: &[_]| ask_at(10, topic, partitions);
    assert_eq!(ask("known", &[(0, -1, -1)]), [(0, 10)]);
    assert_eq!(ask("known", &[(0, -1, -2)]), [(0, 0)]);
    // All ten have the same time: the first of them is meant.
    assert_eq!(ask("known", &[(0, -1, -3)]), [(0, 0)]);
    assert_eq!(ask("known", &[(0, -1, -4)]), [(0, 0)]);
    assert_eq!(ask("known", &[(0, -1, -5)]), [(0, -1)]);
    assert_eq!(ask("known", &[(0, 5, -1)]), [(UNKNOWN_LEADER_EPOCH, -1)]);
    assert_eq!(
        ask("known", &[(7, -1, -1)]),
        [(UNKNOWN_TOPIC_OR_PARTITION, -1)]
    );
    assert_eq!(
        ask("unknown", &[(0, -1, -1)]),
        [(UNKNOWN_TOPIC_OR_PARTITION, -1)]
    );
    let twice = ask("known", &[(0, -1, -1), (0, -1, -2)]);
    assert_eq!(twice, [(INVALID_REQUEST, -1)], "one answer for both");
}

/// Metadata requests create topics; what comes of it behind them must not fill the log.
#[test]
fn topics_that_cannot_be_created_leave_a_few_lines() {
    let settings = [
        ("default.replication.factor", "3"),
        ("auto.create.topics.enable", "true"),
    ];
    let broker = Broker::start_with(&settings);
    let mut wire = Wire::connect(broker.port());
    let names = (0..1_000).map(|at| format!("beyond-{at}"));
    let topics = names.map(|name| MetadataRequestTopic::default().with_name(Some(text(&name))));
    let request = MetadataRequestData::default()
        .with_topics(Some(topics.collect()))
        .with_allow_auto_topic_creation(true);
    for _ in 0..3 {
        wire.call(ApiKey::Metadata, 12, |body, v| request.write(body, v));
    }
    let mut after = requests::fetch("beyond-999", 0, 0);
    after.max_wait_ms = 500;
    assert_eq!(
        fetch(&mut wire, &after, 12).0,
        UNKNOWN_TOPIC_OR_PARTITION,
        "none was created"
    );
    std::thread::sleep(Duration::from_millis(500));
    if broker.peer() == Peer::Millrace {
        let log = broker.log();
        let lines = log.lines().filter(|line| line.contains("beyond-")).count();
        assert!((1..=20).contains(&lines), "{lines} lines:\n{log}");
    }
}

#[test]
fn metadata() {
    let (_broker, mut wire) = broker();
    let mut ask = |id: KafkaUuid, name: Option<&str>| {
        let topic = MetadataRequestTopic::default()
            .with_topic_id(id)
            .with_name(name.map(text));
        let request = MetadataRequestData::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        let mut answer = wire.call(ApiKey::Metadata, 12, |body, v| request.write(body, v));
        let answer = MetadataResponseData::read(&mut answer, 12).expect("a decodable answer");
        assert_eq!(answer.topics.len(), 1, "topics answered");
        answer.topics[0].error_code
    };
    assert_eq!(ask(KafkaUuid::ZERO, Some("known")), 0);
    assert_eq!(
        ask(KafkaUuid::ZERO, Some("unknown")),
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(
        ask(KafkaUuid::ZERO, Some("not a name")),
        INVALID_TOPIC_EXCEPTION
    );
    assert_eq!(ask(KafkaUuid::ZERO, Some("")), INVALID_TOPIC_EXCEPTION);
    assert_eq!(ask(KafkaUuid::from_parts(12, 34), None), UNKNOWN_TOPIC_ID);
    let mut pages = |name: &str| {
        let request = DescribeTopicPartitionsRequestData::default()
            .with_topics(vec![TopicRequest::default().with_name(text(name))])
            .with_response_partition_limit(100);
        let mut answer = wire.call(ApiKey::DescribeTopicPartitions, 0, |body, v| {
            request.write(body, v)
        });
        let answer = DescribeTopicPartitionsResponseData::read(&mut answer, 0).expect("decodable");
        answer.topics[0].error_code
    };
    assert_eq!(pages("known"), 0);
    assert_eq!(pages("unknown"), UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(pages("not a name"), INVALID_TOPIC_EXCEPTION);
}

#[test]
fn topics_twice_and_nowhere() {
    let (_broker, mut wire) = broker();
    let twice = CreatableTopic::default()
        .with_name(text("twice"))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = CreateTopicsRequestData::default()
        .with_topics(vec![twice.clone(), twice])
        .with_timeout_ms(30_000);
    let mut answer = wire.call(ApiKey::CreateTopics, 7, |body, v| request.write(body, v));
    let answer = CreateTopicsResponseData::read(&mut answer, 7).expect("a decodable answer");
    assert!(
        answer
            .topics
            .iter()
            .all(|topic| topic.error_code == INVALID_REQUEST)
    );

    let mut delete = |name: Option<&str>, id: KafkaUuid| {
        let state = DeleteTopicState::default()
            .with_name(name.map(text))
            .with_topic_id(id);
        let request = DeleteTopicsRequestData::default()
            .with_topics(vec![state])
            .with_timeout_ms(30_000);
        let mut answer = wire.call(ApiKey::DeleteTopics, 6, |body, v| request.write(body, v));
        let answer = DeleteTopicsResponseData::read(&mut answer, 6).expect("a decodable answer");
        answer.responses[0].error_code
    };
    assert_eq!(
        delete(Some("unknown"), KafkaUuid::ZERO),
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(
        delete(None, KafkaUuid::from_parts(12, 34)),
        UNKNOWN_TOPIC_ID
    );
    assert_eq!(delete(None, KafkaUuid::ZERO), INVALID_REQUEST);
}

#[test]
fn settings_and_producers() {
    let (_broker, mut wire) = broker();
    let mut describe = |kind: i8, name: &str| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name));
        let request = DescribeConfigsRequestData::default().with_resources(vec![resource]);
        let mut answer = wire.call(ApiKey::DescribeConfigs, 4, |body, v| request.write(body, v));
        let answer = DescribeConfigsResponseData::read(&mut answer, 4).expect("decodable");
        answer.results[0].error_code
    };
    assert_eq!(describe(2, "known"), 0);
    assert_eq!(describe(2, "unknown"), UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(describe(2, "not a name"), INVALID_TOPIC_EXCEPTION);
    assert_eq!(describe(4, "1"), 0);
    assert_eq!(describe(4, "99"), INVALID_REQUEST);
    assert_eq!(describe(4, "one"), INVALID_REQUEST);
    assert_eq!(describe(77, "1"), INVALID_REQUEST);

    let mut init = |id: Option<&str>, timeout: i32| {
        let request = InitProducerIdRequestData::default()
            .with_transactional_id(id.map(text))
            .with_transaction_timeout_ms(timeout)
            .with_producer_id(-1)
            .with_producer_epoch(-1);
        let mut answer = wire.call(ApiKey::InitProducerId, 4, |body, v| request.write(body, v));
        InitProducerIdResponseData::read(&mut answer, 4)
            .expect("decodable")
            .error_code
    };
    assert_eq!(init(None, 60_000), 0);
    assert_eq!(init(None, -1), 0);
    assert_eq!(init(Some(""), 60_000), INVALID_REQUEST);
}
