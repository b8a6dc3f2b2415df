//! A partition of more than twenty segments, read from every place where a read could go wrong, by
//! three clients, with small and large fetches, from memory and from disk; then judged by Kafka's
//! own `kafka-dump-log`.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::message::Message as _;
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::Offset;

use crate::support::broker::Broker;
use crate::support::java::{Libraries, complaints, libraries, run_class};
use crate::support::kcat::Kcat;
use crate::support::librdkafka::{Consumer, Producer};
use crate::support::segments::segments;
use crate::support::{Random, topics};

const TOPIC: &str = "long";
const SEGMENTS_MIN: usize = 20;

/// The smallest `segment.bytes` that Kafka allows.
const SEGMENT_BYTES: &str = "1048576";

/// Enough for the segments at the mean size of [`value`].
const RECORDS: i64 = 40_000;

const SMALL: [(&str, &str); 3] = [
    ("message.max.bytes", "1000"),
    ("fetch.max.bytes", "1000"),
    ("fetch.message.max.bytes", "1"),
];
const DEFAULT: [(&str, &str); 0] = [];
const LARGE: [(&str, &str); 3] = [
    ("fetch.max.bytes", "100000000"),
    ("fetch.message.max.bytes", "100000000"),
    ("receive.message.max.bytes", "100001000"),
];

/// The value of the record at `offset`: the offset itself, and bytes that belong to it alone.
fn value(offset: i64) -> Vec<u8> {
    let mut random = Random::new(offset as u64 + 1);
    let mut value = offset.to_be_bytes().to_vec();
    let filling = random.range(0, 1_200) as usize;
    value.extend(random.bytes(filling));
    value
}

/// Fills the topic, and gives the first offset of each segment.
fn fill(broker: &Broker) -> Vec<i64> {
    let configs = [
        ("segment.bytes", SEGMENT_BYTES),
        ("index.interval.bytes", "4096"),
    ];
    topics::create(broker, TOPIC, 1, &configs);
    let settings = [("enable.idempotence", "true"), ("batch.size", "20000")];
    let producer = Producer::new(&broker.bootstrap(), &settings);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock past 1970");
    let first_time = now.as_millis() as i64 - RECORDS;
    for offset in 0..RECORDS {
        let value = value(offset);
        let record = BaseRecord::with_opaque_to(TOPIC, offset as usize)
            .partition(0)
            .timestamp(first_time + offset)
            .payload(&value[..]);
        producer.send(record);
    }
    let delivered = producer.delivered();
    assert!(delivered.iter().map(|(_, offset)| *offset).eq(0..RECORDS));
    let segments = segments(broker.data(), TOPIC, 0);
    let bases: Vec<_> = segments.iter().map(|segment| segment.base_offset).collect();
    assert!(bases.len() >= SEGMENTS_MIN, "{} segments", bases.len());
    assert_eq!(bases[0], 0);
    bases
}

/// From before each border between two segments to behind it, and from the border itself.
fn crossings(bases: &[i64]) -> impl Iterator<Item = (i64, i64)> {
    let borders = bases[1..].to_vec();
    borders
        .into_iter()
        .flat_map(|base| (base - 2..=base + 1).map(move |from| (from, base + 3)))
}

fn follow(consumer: &Consumer, from: i64, to: i64) {
    consumer.assign(TOPIC, 0, Offset::Offset(from));
    for offset in from..to {
        let message = consumer
            .next()
            .unwrap_or_else(|| panic!("the end at {offset}"));
        assert_eq!(message.offset(), offset, "read from {from}");
        assert!(
            message.payload() == Some(&value(offset)[..]),
            "the value at {offset}"
        );
    }
}

fn read_with_librdkafka(broker: &Broker, bases: &[i64]) {
    for settings in [&SMALL[..], &DEFAULT, &LARGE] {
        let settings = [settings, &[("auto.offset.reset", "error")]].concat();
        let consumer = Consumer::new(&broker.bootstrap(), &settings);
        follow(&consumer, 0, RECORDS);
        assert!(consumer.next().is_none(), "a record behind the last one");
        follow(&consumer, RECORDS / 2 + 1, RECORDS);
        for (from, to) in crossings(bases) {
            follow(&consumer, from, to);
        }
        assert_eq!(consumer.reports().complaints(), [""; 0]);
    }
}

fn read_with_kcat(kcat: &Kcat, bases: &[i64]) {
    for settings in [&SMALL[..], &LARGE] {
        let settings: Vec<_> = settings
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let read = |from: i64, to: i64, more: &[&str]| {
            let from_text = from.to_string();
            let mut arguments = vec![
                "-C", "-t", TOPIC, "-p", "0", "-f", "%o %S\n", "-o", &from_text,
            ];
            for setting in &settings {
                arguments.extend(["-X", setting]);
            }
            arguments.extend(more);
            let expected: Vec<_> = (from..to)
                .map(|offset| format!("{offset} {}", value(offset).len()))
                .collect();
            let read = kcat.quiet(&arguments, b"");
            assert!(
                read.lines().eq(&expected),
                "kcat from {from} with {settings:?}: {read}"
            );
        };
        read(0, RECORDS, &["-e"]);
        read(RECORDS / 2 + 1, RECORDS, &["-e"]);
        for base in &bases[1..] {
            read(base - 1, base + 1, &["-c", "2"]);
        }
    }
}

fn read_with_java(java: &Libraries, broker: &Broker, bases: &[i64]) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let lines: Vec<_> = bases.iter().map(i64::to_string).collect();
    fs::write(file.path(), lines.join("\n")).expect("a writable file");
    let arguments = [
        &broker.bootstrap()[..],
        &broker.peer().to_string(),
        TOPIC,
        &file.path().to_string_lossy(),
        &RECORDS.to_string(),
    ];
    let finished = run_class(java, "Segments", &arguments, b"");
    assert_eq!(complaints(&finished), [""; 0]);
    let said = finished.success("Segments");
    assert_eq!(said.matches("ok ").count(), 10, "{said}");
}

#[test]
fn no_offset_is_missing_in_any_segment() {
    let mut broker = Broker::start();
    let bases = fill(&broker);
    read_with_librdkafka(&broker, &bases);
    // Once more with nothing in memory.
    broker.stop();
    broker.start_again();
    read_with_librdkafka(&broker, &bases);
    if let Some(kcat) = Kcat::new(&broker.bootstrap()) {
        read_with_kcat(&kcat, &bases);
    }
    if let Some(java) = libraries() {
        read_with_java(&java, &broker, &bases);
    }
}

#[test]
fn kafkas_own_tool_finds_nothing_wrong() {
    let Some(java) = libraries() else {
        return;
    };
    let mut broker = Broker::start();
    fill(&broker);
    broker.stop();
    let mut files: Vec<PathBuf> = fs::read_dir(broker.data().join(format!("{TOPIC}-0")))
        .expect("the partition's directory")
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    files.sort();
    let with = |extension: &str| -> Vec<String> {
        files
            .iter()
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .map(|path| path.to_string_lossy().into_owned())
            .collect()
    };
    let count = with("log").len();
    assert!(count >= SEGMENTS_MIN, "{count} segments");
    for extension in ["index", "timeindex"] {
        assert_eq!(
            with(extension).len(),
            count,
            "a segment lacks its {extension}"
        );
    }

    let read = dump(&java, &with("log"), &["--deep-iteration"]);
    let offsets: Vec<i64> = read
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("| offset: "))
        .map(|rest| {
            rest.split(' ')
                .next()
                .expect("a word")
                .parse()
                .expect("an offset")
        })
        .collect();
    assert!(
        offsets.into_iter().eq(0..RECORDS),
        "not every record, in order, once"
    );
    for extension in ["index", "timeindex"] {
        let read = dump(&java, &with(extension), &[]);
        let entries = read
            .lines()
            .filter(|line| line.contains("offset: "))
            .count();
        assert!(
            entries > count,
            "{entries} entries in {count} files of {extension}"
        );
        let read = dump(&java, &with(extension), &["--index-sanity-check"]);
        assert_eq!(
            read.matches("passed sanity check").count(),
            count,
            "{extension}: {read}"
        );
    }
}

/// What `kafka-dump-log` prints of `files`, without a word of complaint.
fn dump(java: &Libraries, files: &[String], more: &[&str]) -> String {
    let list = files.join(",");
    let arguments = [&["--files", &list], more].concat();
    let finished = run_class(
        java,
        "org.apache.kafka.tools.DumpLogSegments",
        &arguments,
        b"",
    );
    assert_eq!(complaints(&finished), [""; 0]);
    let read = finished.success("kafka-dump-log");
    for word in [
        "Found",
        "mismatch",
        "nvalid",
        "isvalid: false",
        "out of order",
        "missing",
    ] {
        let bad = read.lines().find(|line| line.contains(word));
        assert_eq!(bad, None, "kafka-dump-log on {} files", files.len());
    }
    read
}
