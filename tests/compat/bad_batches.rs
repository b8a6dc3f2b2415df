//! Batches that a broker has to refuse: the code is Kafka's, and nothing of them is ever stored.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kacrab_protocol::KafkaUuid;
use kacrab_protocol::generated::{ApiKey, InitProducerIdRequestData, InitProducerIdResponseData};

use crate::support::batches::{
    TIMESTAMP, batch, batch_with_key, field, old_message, sealed_with, sequenced, with,
    with_records,
};
use crate::support::broker::{Broker, Peer};
use crate::support::requests::{self, fetched, produced};
use crate::support::steady::Steady;
use crate::support::topics;
use crate::support::wire::Wire;

const UNKNOWN_SERVER_ERROR: i16 = -1;
const NONE: i16 = 0;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_REQUIRED_ACKS: i16 = 21;
const INVALID_TIMESTAMP: i16 = 32;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// What comes of a batch: an error code, or a closed connection.
type Outcome = Option<i16>;

fn send(broker: &Broker, topic: &str, version: i16, records: &[u8]) -> Outcome {
    let mut wire = Wire::connect(broker.port());
    let request = requests::produce(topic, 0, -1, records);
    let answer = wire.try_call(ApiKey::Produce, version, |body, v| request.write(body, v));
    answer.map(|mut answer| produced(&mut answer, version).error_code)
}

fn good() -> Vec<u8> {
    batch(&[b"one", b"two", b"three"])
}

/// The good batch with the last byte of its last value flipped.
fn flipped() -> Vec<u8> {
    let mut bytes = good();
    let at = bytes.len() - 2;
    bytes[at] ^= 1;
    bytes
}

/// A batch with its name.
type Named = (&'static str, Vec<u8>);

/// The good batch with other bytes in its header, and the right CRC.
fn claim(at: usize, bytes: &[u8]) -> Vec<u8> {
    sealed_with(good(), at, bytes)
}

/// The good batch with another length in its header.
fn long(length: i32) -> Vec<u8> {
    with(good(), field::LENGTH, &length.to_be_bytes())
}

/// What the good batch's length field says.
fn length() -> i32 {
    i32::try_from(good().len()).expect("a small batch") - 12
}

fn corrupt() -> Vec<Named> {
    vec![
        ("a flipped bit", flipped()),
        ("a flipped CRC", with(good(), field::CRC, &[0; 4])),
        ("format 3", with(good(), field::MAGIC, &[3])),
        ("format -1", with(good(), field::MAGIC, &[0xff])),
        ("a batch of length 0", long(0)),
        ("a negative length", long(-1)),
    ]
}

fn invalid() -> Vec<Named> {
    let count = |count: i32| claim(field::RECORD_COUNT, &count.to_be_bytes());
    let last = |delta: i32| claim(field::LAST_OFFSET_DELTA, &delta.to_be_bytes());
    let base = 77_i64.to_be_bytes();
    vec![
        ("one record too many", count(4)),
        ("one record too few", count(2)),
        ("no record by count", count(0)),
        ("a negative count", count(-3)),
        ("a huge count", count(i32::MAX)),
        ("a last offset too far", last(9)),
        ("a last offset too near", last(1)),
        ("a negative last offset", last(-1)),
        (
            "a base offset of its own",
            with(good(), field::BASE_OFFSET, &base),
        ),
        (
            "a control batch",
            claim(field::ATTRIBUTES, &0x20_i16.to_be_bytes()),
        ),
        ("format 0", old_message(0, b"value")),
        ("format 1", old_message(1, b"value")),
        ("a batch longer than its bytes", long(length() + 1)),
        ("no batch", vec![]),
        ("half a header", good()[..30].to_vec()),
        ("two batches", [good(), good()].concat()),
        (
            "a record longer than the batch",
            with_records(&[0xfe, 0x7f, 0, 0, 0], 1, 0),
        ),
        (
            "a record of length -1",
            with_records(&[0x01, 0, 0, 0, 0], 1, 0),
        ),
    ]
}

fn refused_otherwise() -> Vec<(&'static str, Vec<u8>, i16)> {
    let future = (TIMESTAMP * 2).to_be_bytes();
    let late = with(good(), field::FIRST_TIMESTAMP, &future);
    let late = sealed_with(late, field::MAX_TIMESTAMP, &future);
    let transactional = claim(field::ATTRIBUTES, &0x10_i16.to_be_bytes());
    vec![
        ("a time in the far future", late, INVALID_TIMESTAMP),
        (
            "a batch over the limit",
            batch(&[&[7; 20_001]]),
            MESSAGE_TOO_LARGE,
        ),
        (
            "a transactional batch without its id",
            transactional,
            TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ),
    ]
}

/// Where Kafka only says UNKNOWN_SERVER_ERROR, or overlooks one fault for another: our code, then
/// Kafka's.
fn said_otherwise() -> Vec<(&'static str, Vec<u8>, i16, i16)> {
    let codec = claim(field::ATTRIBUTES, &5_i16.to_be_bytes());
    let noise = with_records(&[0xa5; 64], 3, 0);
    let unknown = UNKNOWN_SERVER_ERROR;
    vec![
        (
            "a codec that is not",
            codec,
            UNSUPPORTED_COMPRESSION_TYPE,
            unknown,
        ),
        (
            "the largest length",
            long(i32::MAX),
            CORRUPT_MESSAGE,
            unknown,
        ),
        ("records that are noise", noise, INVALID_RECORD, unknown),
        (
            "a batch and a byte",
            long(length() - 1),
            INVALID_RECORD,
            CORRUPT_MESSAGE,
        ),
    ]
}

fn accepted() -> Vec<Named> {
    let epoch = 3_i16.to_be_bytes();
    let leader_epoch = 77_i32.to_be_bytes();
    vec![
        ("a good batch", good()),
        (
            "an epoch without a producer",
            claim(field::PRODUCER_EPOCH, &epoch),
        ),
        (
            "a leader epoch of its own",
            with(good(), field::LEADER_EPOCH, &leader_epoch),
        ),
    ]
}

/// Every batch with its name and what has to come of it.
fn bent(peer: Peer) -> Vec<(&'static str, Vec<u8>, i16)> {
    let all = |batches: Vec<Named>, code: i16| {
        batches
            .into_iter()
            .map(move |(name, bytes)| (name, bytes, code))
    };
    let otherwise = said_otherwise()
        .into_iter()
        .map(|(name, bytes, ours, kafkas)| match peer {
            Peer::Millrace => (name, bytes, ours),
            Peer::Kafka => (name, bytes, kafkas),
        });
    all(corrupt(), CORRUPT_MESSAGE)
        .chain(all(invalid(), INVALID_RECORD))
        .chain(all(accepted(), NONE))
        .chain(refused_otherwise())
        .chain(otherwise)
        .collect()
}

#[test]
fn a_bent_batch_is_refused_with_kafkas_code() {
    let broker = Broker::start();
    topics::create(&broker, "bent", 1, &[("max.message.bytes", "20000")]);
    let steady = Steady::start(&broker);
    let mut stored = 0;
    let mut wrong = Vec::new();
    for (name, bytes, expected) in bent(broker.peer()) {
        let outcome = send(&broker, "bent", 9, &bytes);
        if outcome != Some(expected) {
            wrong.push(format!("{name}: {outcome:?}, expected {expected:?}"));
        }
        stored += if outcome == Some(0) { 3 } else { 0 };
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(
        end_offset(&mut Wire::connect(broker.port()), "bent"),
        stored,
        "a refused batch left something behind"
    );
    assert_eq!(
        send(&broker, "bent", 9, &good()),
        Some(0),
        "the topic still takes a good batch"
    );
    assert!(steady.stop() > 0);
}

/// The high watermark, as a Fetch at the log's start tells it.
fn end_offset(wire: &mut Wire, topic: &str) -> i64 {
    let request = requests::fetch(topic, 0, 0);
    let mut answer = wire.call(ApiKey::Fetch, 12, |body, v| request.write(body, v));
    fetched(&mut answer, 12).high_watermark
}

#[test]
fn what_the_request_says_around_a_batch_is_judged_too() {
    let broker = Broker::start();
    topics::create(&broker, "around", 1, &[]);
    let mut wire = Wire::connect(broker.port());
    let mut code = |request: kacrab_protocol::generated::ProduceRequestData, version: i16| {
        let mut answer = wire.call(ApiKey::Produce, version, |body, v| request.write(body, v));
        produced(&mut answer, version).error_code
    };
    let by_name = |topic, partition, acks| requests::produce(topic, partition, acks, &good());
    assert_eq!(
        code(by_name("nowhere", 0, -1), 9),
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(
        code(by_name("around", 1, -1), 9),
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(
        code(by_name("around", -1, -1), 9),
        UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(code(by_name("around", 0, 2), 9), INVALID_REQUIRED_ACKS);
    assert_eq!(code(by_name("around", 0, -2), 9), INVALID_REQUIRED_ACKS);

    let mut by_id = by_name("", 0, -1);
    by_id.topic_data[0].topic_id = KafkaUuid::from_parts(12, 34);
    assert_eq!(code(by_id.clone(), 13), UNKNOWN_TOPIC_ID);
    by_id.topic_data[0].topic_id = KafkaUuid::ZERO;
    assert_eq!(code(by_id, 13), UNKNOWN_TOPIC_ID);

    if broker.peer() == Peer::Millrace {
        // Kafka never answers this one.
        let mut nothing = by_name("around", 0, -1);
        nothing.topic_data[0].partition_data[0].records = None;
        assert_eq!(code(nothing, 9), INVALID_RECORD);
    }

    let zstd = with_records(
        &zstd::bulk::compress(&good()[field::RECORDS..], 1).expect("zstd"),
        3,
        4,
    );
    let mut early = by_name("around", 0, -1);
    early.topic_data[0].partition_data[0].records = Some(Bytes::copy_from_slice(&zstd));
    assert_eq!(code(early.clone(), 6), UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(code(early, 7), 0);
}

#[test]
fn without_acknowledgement_an_error_closes_the_connection() {
    let broker = Broker::start();
    topics::create(&broker, "silent", 1, &[]);
    for bytes in [flipped(), old_message(1, b"value")] {
        let mut wire = Wire::connect(broker.port());
        let request = requests::produce("silent", 0, 0, &bytes);
        let answer = wire.try_call(ApiKey::Produce, 9, |body, v| request.write(body, v));
        assert!(answer.is_none(), "acks=0 was answered");
    }
    // A good batch is not answered either: the next answer is that of the next request.
    let mut wire = Wire::connect(broker.port());
    let mut body = bytes::BytesMut::new();
    requests::produce("silent", 0, 0, &good())
        .write(&mut body, 9)
        .expect("encodable");
    wire.send_request(ApiKey::Produce as i16, 9, &body);
    let deadline = Instant::now() + Duration::from_secs(20);
    while end_offset(&mut wire, "silent") < 3 {
        assert!(Instant::now() < deadline, "a batch with acks=0 never came");
    }
    assert_eq!(end_offset(&mut wire, "silent"), 3);
}

#[test]
fn a_compacted_topic_wants_keys() {
    let broker = Broker::start();
    topics::create(&broker, "keyed", 1, &[("cleanup.policy", "compact")]);
    assert_eq!(
        send(&broker, "keyed", 9, &batch_with_key(None, &[b"v"])),
        Some(INVALID_RECORD)
    );
    assert_eq!(send(&broker, "keyed", 9, &batch(&[b"v"])), Some(0));
}

#[test]
fn sequences_are_followed() {
    let broker = Broker::start();
    topics::create(&broker, "sequences", 1, &[]);
    let mut wire = Wire::connect(broker.port());
    let request = InitProducerIdRequestData::default()
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(-1)
        .with_producer_epoch(-1);
    let mut answer = wire.call(ApiKey::InitProducerId, 4, |body, v| request.write(body, v));
    let producer = InitProducerIdResponseData::read(&mut answer, 4).expect("a decodable answer");
    assert_eq!((producer.error_code, producer.producer_epoch), (0, 0));
    let id = producer.producer_id;
    let mut send = |epoch: i16, sequence: i32| {
        let batch = sequenced(id, epoch, sequence, &[b"a", b"b"]);
        let request = requests::produce("sequences", 0, -1, &batch);
        let mut answer = wire.call(ApiKey::Produce, 9, |body, v| request.write(body, v));
        let answer = produced(&mut answer, 9);
        (answer.error_code, answer.base_offset)
    };
    assert_eq!(send(0, 0), (0, 0));
    assert_eq!(send(0, 2), (0, 2));
    assert_eq!(send(0, 0), (0, 0), "a duplicate has its original offset");
    assert_eq!(send(0, 2), (0, 2), "a duplicate has its original offset");
    assert_eq!(send(0, 6), (OUT_OF_ORDER_SEQUENCE_NUMBER, -1), "a gap");
    for sequence in [4, 6, 8, 10, 12] {
        assert_eq!(send(0, sequence), (0, i64::from(sequence)));
    }
    assert_eq!(send(0, 4), (0, 4), "five batches are remembered");
    assert_eq!(
        send(0, 2).0,
        OUT_OF_ORDER_SEQUENCE_NUMBER,
        "the sixth is not"
    );
    assert_eq!(
        send(1, 5).0,
        OUT_OF_ORDER_SEQUENCE_NUMBER,
        "a new epoch starts at 0"
    );
    assert_eq!(send(1, 0), (0, 14));
    assert_eq!(
        send(0, 14).0,
        INVALID_PRODUCER_EPOCH,
        "the old epoch is over"
    );
    assert_eq!(send(1, 2), (0, 16));
}

#[test]
fn an_unknown_producer_starts_anywhere_and_sequences_wrap() {
    let broker = Broker::start();
    topics::create(&broker, "wrap", 1, &[]);
    let send = |sequence: i32| {
        let batch = sequenced(4_242, 0, sequence, &[b"a", b"b"]);
        send(&broker, "wrap", 9, &batch)
    };
    assert_eq!(
        send(i32::MAX - 3),
        Some(0),
        "an unknown producer may start anywhere"
    );
    assert_eq!(send(i32::MAX - 1), Some(0));
    assert_eq!(send(0), Some(0), "after the largest sequence comes 0");
    assert_eq!(send(3), Some(OUT_OF_ORDER_SEQUENCE_NUMBER));
}
