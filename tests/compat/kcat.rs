//! kcat 1.7.1 (librdkafka 2.0.2) produces, consumes and looks around.

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::broker::Broker;
use crate::support::kcat::Kcat;
use crate::support::segments::{batches, segments};
use crate::support::topics;

/// Partition, offset, key length, key, headers, value length, value.
const FORMAT: &str = "%p|%o|%K|%k|%h|%S|%s\n";

const FROM_START: [&str; 5] = ["-C", "-e", "-o", "beginning", "-f"];

fn now_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock past 1970")
        .as_millis()
}

#[test]
fn keys_headers_and_tombstones_come_back() {
    let broker = Broker::start();
    let Some(kcat) = Kcat::new(&broker.bootstrap()) else {
        return;
    };
    topics::create(&broker, "events", 1, &[]);
    let produce = [
        "-P", "-t", "events", "-p", "0", "-K", ":", "-Z", "-H", "a=1", "-H", "b=",
    ];
    // With -Z an empty key or value is sent as null: the second line is a tombstone.
    kcat.quiet(&produce, b"k1:v1\nk2:\n:v3\n");
    kcat.quiet(&["-P", "-t", "events", "-p", "0"], b"plain\n");
    let read = kcat.quiet(&[&FROM_START[..], &[FORMAT, "-t", "events"]].concat(), b"");
    let expected = "0|0|2|k1|a=1,b=|2|v1\n\
                    0|1|2|k2|a=1,b=|-1|\n\
                    0|2|-1||a=1,b=|2|v3\n\
                    0|3|-1|||5|plain\n";
    assert_eq!(read, expected);
}

#[test]
fn every_codec_passes_through_untouched() {
    let mut broker = Broker::start();
    let Some(kcat) = Kcat::new(&broker.bootstrap()) else {
        return;
    };
    let codecs = [
        ("none", 0),
        ("gzip", 1),
        ("snappy", 2),
        ("lz4", 3),
        ("zstd", 4),
    ];
    let lines: Vec<_> = (0..1_000)
        .map(|i| format!("the same words, line {i}"))
        .collect();
    let input = lines.join("\n");
    for (codec, _) in codecs {
        let topic = format!("codec-{codec}");
        topics::create(&broker, &topic, 1, &[]);
        kcat.quiet(
            &["-P", "-t", &topic, "-p", "0", "-z", codec],
            input.as_bytes(),
        );
        let read = kcat.quiet(&[&FROM_START[..], &["%s\n", "-t", &topic]].concat(), b"");
        assert_eq!(read.lines().collect::<Vec<_>>(), lines, "{codec}");
    }
    broker.stop();
    for (codec, number) in codecs {
        let topic = format!("codec-{codec}");
        let stored: Vec<_> = segments(broker.data(), &topic, 0)
            .iter()
            .flat_map(|segment| batches(&segment.log))
            .collect();
        let records: i32 = stored.iter().map(|batch| batch.record_count).sum();
        assert_eq!(records, 1_000, "{codec}");
        assert!(
            stored.iter().all(|batch| batch.codec() == number),
            "{codec}: {stored:?}"
        );
    }
}

#[test]
fn offsets_are_found_by_number_from_the_end_and_by_time() {
    let broker = Broker::start();
    let Some(kcat) = Kcat::new(&broker.bootstrap()) else {
        return;
    };
    topics::create(&broker, "clock", 1, &[]);
    let produce = ["-P", "-t", "clock", "-p", "0"];
    kcat.quiet(&produce, b"0\n1\n2\n3\n4\n");
    sleep(Duration::from_millis(30));
    let between = now_ms();
    sleep(Duration::from_millis(30));
    kcat.quiet(&produce, b"5\n6\n7\n8\n9\n");

    let read = |from: &str| {
        let read = kcat.quiet(
            &[
                "-C", "-e", "-t", "clock", "-p", "0", "-o", from, "-f", "%o=%s ",
            ],
            b"",
        );
        read.trim_end().to_owned()
    };
    assert_eq!(read("beginning"), "0=0 1=1 2=2 3=3 4=4 5=5 6=6 7=7 8=8 9=9");
    assert_eq!(read("7"), "7=7 8=8 9=9");
    assert_eq!(read("-2"), "8=8 9=9");
    assert_eq!(read("end"), "");
    assert_eq!(read(&format!("s@{between}")), "5=5 6=6 7=7 8=8 9=9");
    assert_eq!(read("s@0"), read("beginning"));

    let query = |time: &str| kcat.quiet(&["-Q", "-t", &format!("clock:0:{time}")], b"");
    assert_eq!(query(&between.to_string()), "clock [0] offset 5\n");
    assert_eq!(query("-1"), "clock [0] offset 10\n");
    assert_eq!(query("-2"), "clock [0] offset 0\n");
}

#[test]
fn metadata_names_brokers_topics_and_partitions() {
    let broker = Broker::start();
    let Some(kcat) = Kcat::new(&broker.bootstrap()) else {
        return;
    };
    topics::create(&broker, "one", 1, &[]);
    topics::create(&broker, "three", 3, &[]);
    let listed = kcat.quiet(&["-L", "-J"], b"");
    let parts = [
        format!("\"name\":\"{}\"", broker.bootstrap()),
        "{\"topic\":\"one\",\"partitions\":[{\"partition\":0,".to_owned(),
        "{\"topic\":\"three\",\"partitions\":[".to_owned(),
        "\"partition\":2,\"leader\":".to_owned(),
    ];
    for part in parts {
        assert!(listed.contains(&part), "no {part} in {listed}");
    }
    // A single node is leader, replica and in-sync replica of everything.
    let node = "\"leader\":1,\"replicas\":[{\"id\":1}],\"isrs\":[{\"id\":1}]";
    assert_eq!(listed.matches(node).count(), 4, "{listed}");
}

#[test]
fn a_topic_comes_into_being_with_its_first_record() {
    let broker = Broker::start_with(&[("num.partitions", "2")]);
    let Some(kcat) = Kcat::new(&broker.bootstrap()) else {
        return;
    };
    kcat.quiet(&["-P", "-t", "newborn", "-p", "1"], b"first\n");
    let read = kcat.quiet(&[&FROM_START[..], &[FORMAT, "-t", "newborn"]].concat(), b"");
    assert_eq!(read, "1|0|-1|||5|first\n");
}

#[test]
fn a_waiting_consumer_gets_each_record_as_it_is_written() {
    let broker = Broker::start();
    let Some(kcat) = Kcat::new(&broker.bootstrap()) else {
        return;
    };
    topics::create(&broker, "live", 1, &[]);
    std::thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            kcat.quiet(
                &[
                    "-C", "-t", "live", "-p", "0", "-o", "0", "-c", "5", "-f", "%o=%s ",
                ],
                b"",
            )
        });
        for i in 0..5 {
            sleep(Duration::from_millis(100));
            kcat.quiet(
                &["-P", "-t", "live", "-p", "0"],
                format!("{i}\n").as_bytes(),
            );
        }
        let read = consumer.join().expect("the consumer");
        assert_eq!(read, "0=0 1=1 2=2 3=3 4=4 ");
    });
}

#[test]
fn a_consumer_at_the_end_of_a_log_waits_in_silence() {
    let broker = Broker::start();
    let Some(kcat) = Kcat::new(&broker.bootstrap()) else {
        return;
    };
    topics::create(&broker, "idle", 1, &[]);
    kcat.quiet(&["-P", "-t", "idle", "-p", "0"], b"0\n1\n");
    let consume = ["-C", "-u", "-t", "idle", "-p", "0", "-o", "0", "-f", "%o "];
    let read = kcat.for_a_while(&consume, Duration::from_secs(3));
    assert_eq!(read, "0 1 ");
}
