//! librdkafka 2.12 (the `rdkafka` crate) produces and consumes.

use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{Timestamp, message::BorrowedHeaders};

use crate::support::broker::Broker;
use crate::support::librdkafka::{Consumer, Producer, WITHIN};
use crate::support::segments::{batches, segments};
use crate::support::{Random, topics};

/// What a consumer sees of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    partition: i32,
    offset: i64,
    timestamp: Timestamp,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Seen {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let pairs = |headers: &BorrowedHeaders| {
            let pair = |header: Header<'_, &[u8]>| {
                (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
            };
            headers.iter().map(pair).collect()
        };
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(pairs).unwrap_or_default(),
        }
    }
}

/// Records of every shape: keys and values absent, empty and long, headers twice and without value,
/// times in the past.
fn records(count: usize) -> Vec<Seen> {
    let mut random = Random::new(7);
    (0..count)
        .map(|at| {
            let long = random.range(1, 2_000) as usize;
            let headers = match at % 3 {
                0 => vec![],
                1 => vec![("trace".to_owned(), Some(random.bytes(16)))],
                _ => vec![
                    ("twice".to_owned(), Some(b"1".to_vec())),
                    ("twice".to_owned(), None),
                    ("empty".to_owned(), Some(vec![])),
                ],
            };
            Seen {
                partition: 0,
                offset: at as i64,
                timestamp: Timestamp::CreateTime(1_700_000_000_000 + at as i64 * 10),
                key: [None, Some(vec![]), Some(random.bytes(9))][at % 3].clone(),
                value: [
                    Some(random.bytes(long)),
                    None,
                    Some(vec![]),
                    Some(b"x".to_vec()),
                ][at % 4]
                    .clone(),
                headers,
            }
        })
        .collect()
}

fn send(producer: &Producer, topic: &str, number: usize, record: &Seen) {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &record.headers {
        headers = headers.insert(Header {
            key,
            value: value.as_deref(),
        });
    }
    let mut base = BaseRecord::with_opaque_to(topic, number).partition(record.partition);
    if let Some(timestamp) = record.timestamp.to_millis() {
        base = base.timestamp(timestamp);
    }
    if !record.headers.is_empty() {
        base = base.headers(headers);
    }
    base.key = record.key.as_deref();
    base.payload = record.value.as_deref();
    producer.send(base);
}

/// Sends `records` to `topic` and waits for their reports: in order, without a gap.
fn produce(broker: &Broker, topic: &str, settings: &[(&str, &str)], records: &[Seen]) {
    let producer = Producer::new(&broker.bootstrap(), settings);
    for (number, record) in records.iter().enumerate() {
        send(&producer, topic, number, record);
    }
    let expected: Vec<_> = records.iter().map(|r| (r.partition, r.offset)).collect();
    assert_eq!(producer.delivered(), expected, "{settings:?}");
    assert_eq!(producer.reports().complaints(), [""; 0]);
}

fn read_all(broker: &Broker, topic: &str, settings: &[(&str, &str)]) -> Vec<Seen> {
    let consumer = Consumer::new(&broker.bootstrap(), settings);
    consumer.assign(topic, 0, Offset::Beginning);
    let seen = consumer.to_end(Seen::of);
    assert_eq!(consumer.reports().complaints(), [""; 0]);
    seen
}

#[test]
fn every_record_comes_back_whole_with_every_codec() {
    let mut broker = Broker::start();
    let codecs = [
        ("none", 0),
        ("gzip", 1),
        ("snappy", 2),
        ("lz4", 3),
        ("zstd", 4),
    ];
    let records = records(600);
    for (codec, _) in codecs {
        topics::create(&broker, codec, 1, &[]);
        let settings = [("enable.idempotence", "true"), ("compression.codec", codec)];
        produce(&broker, codec, &settings, &records);
        assert_eq!(read_all(&broker, codec, &[]), records, "{codec}");
    }
    broker.stop();
    for (codec, number) in codecs {
        let stored: Vec<_> = segments(broker.data(), codec, 0)
            .iter()
            .flat_map(|segment| batches(&segment.log))
            .collect();
        // The client stores a batch uncompressed where its codec would make it longer.
        let compressed = stored
            .iter()
            .filter(|batch| batch.codec() == number)
            .count();
        assert!(compressed > 0, "{codec}: {stored:?}");
        assert!(
            stored.iter().all(|batch| batch.producer_id >= 0),
            "{codec}: {stored:?}"
        );
    }
}

#[test]
fn every_way_to_acknowledge_delivers() {
    let broker = Broker::start();
    let records = records(200);
    for acks in ["1", "all"] {
        let topic = format!("acks-{acks}");
        topics::create(&broker, &topic, 1, &[]);
        produce(&broker, &topic, &[("acks", acks)], &records);
        assert_eq!(read_all(&broker, &topic, &[]), records, "acks={acks}");
    }
    // Without an acknowledgement no offset is known, but nothing is lost on a healthy connection.
    topics::create(&broker, "acks-0", 1, &[]);
    let producer = Producer::new(&broker.bootstrap(), &[("acks", "0")]);
    for (number, record) in records.iter().enumerate() {
        send(&producer, "acks-0", number, record);
    }
    producer.flush();
    let end = std::time::Instant::now() + WITHIN;
    while read_all(&broker, "acks-0", &[]).len() < records.len() {
        assert!(
            std::time::Instant::now() < end,
            "records sent with acks=0 never came"
        );
    }
    assert_eq!(read_all(&broker, "acks-0", &[]), records);
}

#[test]
fn offsets_are_found_by_time() {
    let broker = Broker::start();
    topics::create(&broker, "times", 1, &[]);
    let records = records(300);
    // Small batches, so that the answer has to be found inside a batch and between two.
    produce(&broker, "times", &[("batch.num.messages", "7")], &records);
    let consumer = Consumer::new(&broker.bootstrap(), &[]);
    let first = 1_700_000_000_000;
    let cases = [
        (0, Offset::Offset(0)),
        (first, Offset::Offset(0)),
        (first + 1, Offset::Offset(1)),
        (first + 1_230, Offset::Offset(123)),
        (first + 1_235, Offset::Offset(124)),
        (first + 2_990, Offset::Offset(299)),
        (first + 2_991, Offset::End),
    ];
    for (time, expected) in cases {
        let mut asked = TopicPartitionList::new();
        asked
            .add_partition_offset("times", 0, Offset::Offset(time))
            .expect("a time in an offset's place");
        let found = consumer
            .0
            .offsets_for_times(asked, WITHIN)
            .expect("offsets by time");
        let found = found
            .find_partition("times", 0)
            .expect("the partition")
            .offset();
        assert_eq!(found, expected, "at {time}");
    }
}

#[test]
fn a_consumer_seeks_to_any_offset() {
    let broker = Broker::start();
    topics::create(&broker, "seek", 1, &[]);
    let records = records(300);
    produce(&broker, "seek", &[("batch.num.messages", "10")], &records);
    let consumer = Consumer::new(&broker.bootstrap(), &[("auto.offset.reset", "error")]);
    let watermarks = consumer
        .0
        .fetch_watermarks("seek", 0, WITHIN)
        .expect("watermarks");
    assert_eq!(watermarks, (0, 300));
    let cases = [
        (Offset::Beginning, 0),
        (Offset::OffsetTail(5), 295),
        (Offset::Offset(123), 123),
        (Offset::Offset(299), 299),
        (Offset::Offset(129), 129),
        (Offset::End, 300),
    ];
    for (offset, expected) in cases {
        consumer.assign("seek", 0, offset);
        let rest = consumer.to_end(Seen::of);
        assert_eq!(rest, records[expected..], "from {offset:?}");
    }
    consumer.assign("seek", 0, Offset::Offset(0));
    assert_eq!(consumer.next().map(|message| message.offset()), Some(0));
    consumer
        .0
        .seek("seek", 0, Offset::Offset(250), WITHIN)
        .expect("a seek");
    assert_eq!(consumer.to_end(Seen::of), records[250..]);
    assert_eq!(consumer.reports().complaints(), [""; 0]);
}

#[test]
fn records_spread_over_partitions_and_keep_their_order() {
    const PARTITIONS: usize = 8;
    const RECORDS: usize = 40_000;
    let broker = Broker::start();
    topics::create(&broker, "spread", PARTITIONS as i32, &[]);
    let settings = [("enable.idempotence", "true"), ("linger.ms", "1")];
    let producer = Producer::new(&broker.bootstrap(), &settings);
    let mut random = Random::new(11);
    let mut sent: Vec<Vec<Vec<u8>>> = vec![Vec::new(); PARTITIONS];
    for number in 0..RECORDS {
        let partition = random.range(0, PARTITIONS as u64) as usize;
        let mut value = number.to_be_bytes().to_vec();
        let filling = random.range(0, 300) as usize;
        value.extend(random.bytes(filling));
        let record = BaseRecord::with_opaque_to("spread", number)
            .partition(partition as i32)
            .payload(&value[..]);
        producer.send(record);
        sent[partition].push(value);
    }
    assert_eq!(producer.delivered().len(), RECORDS);
    assert_eq!(producer.reports().complaints(), [""; 0]);
    let consumer = Consumer::new(&broker.bootstrap(), &[]);
    for (partition, expected) in sent.iter().enumerate() {
        consumer.assign("spread", partition as i32, Offset::Beginning);
        let read = consumer.to_end(|message| {
            (
                message.offset(),
                message.payload().expect("a value").to_vec(),
            )
        });
        let offsets: Vec<_> = read.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, (0..expected.len() as i64).collect::<Vec<_>>());
        let values: Vec<_> = read.into_iter().map(|(_, value)| value).collect();
        assert_eq!(&values, expected, "partition {partition}");
    }
}

#[test]
fn what_was_acknowledged_survives_a_clean_restart() {
    let mut broker = Broker::start();
    topics::create(&broker, "kept", 1, &[]);
    let records = records(500);
    let settings = [("enable.idempotence", "true")];
    let producer = Producer::new(&broker.bootstrap(), &settings);
    for (number, record) in records.iter().enumerate() {
        send(&producer, "kept", number, record);
        // The same producer goes on after the restart: its state has to survive too.
        if number == 250 {
            producer.flush();
            broker.stop();
            broker.start_again();
        }
    }
    let expected: Vec<_> = records.iter().map(|r| (r.partition, r.offset)).collect();
    assert_eq!(producer.delivered(), expected);
    assert_eq!(read_all(&broker, "kept", &[]), records);
}

#[test]
fn an_offset_out_of_range_is_told() {
    let broker = Broker::start();
    topics::create(&broker, "range", 1, &[]);
    produce(&broker, "range", &[], &records(10));
    let consumer = Consumer::new(&broker.bootstrap(), &[("auto.offset.reset", "error")]);
    consumer.assign("range", 0, Offset::Offset(11));
    let error = loop {
        match consumer.0.poll(Duration::from_secs(30)) {
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => (),
            Some(Err(error)) => break error.to_string(),
            other => panic!("instead of an error: {other:?}"),
        }
    };
    assert!(error.contains("AutoOffsetReset"), "{error}");
    // Told to, the client goes to the beginning.
    let consumer = Consumer::new(&broker.bootstrap(), &[("auto.offset.reset", "earliest")]);
    consumer.assign("range", 0, Offset::Offset(11));
    assert_eq!(consumer.next().map(|message| message.offset()), Some(0));
}

#[test]
fn a_consumer_at_the_end_of_a_log_waits_in_silence() {
    let broker = Broker::start();
    topics::create(&broker, "idle", 1, &[]);
    produce(&broker, "idle", &[], &records(20));
    let consumer = Consumer::new(&broker.bootstrap(), &[("fetch.wait.max.ms", "200")]);
    consumer.assign("idle", 0, Offset::Beginning);
    assert_eq!(consumer.to_end(Seen::of).len(), 20);
    for _ in 0..30 {
        let polled = consumer.0.poll(Duration::from_millis(100));
        assert!(polled.is_none(), "nothing was written: {polled:?}");
    }
    assert_eq!(consumer.reports().complaints(), [""; 0]);
}
