//! What the log tells an operator of topics, and of a start after a crash.

use std::fs;
use std::os::unix::fs::FileExt;

use kacrab_protocol::generated::{
    ApiKey, CreatePartitionsRequestData, CreatePartitionsResponseData, CreatePartitionsTopic,
};
use nix::sys::signal::Signal;

use super::deletion::{create, delete};
use super::program::{Broker, command, directory, with_override};
use super::support::wire::{Wire, text};
use super::support::{batches, requests};

fn grow(wire: &mut Wire, name: &str, count: i32) {
    let topic = CreatePartitionsTopic::default()
        .with_name(text(name))
        .with_count(count);
    let request = CreatePartitionsRequestData::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let mut answer = wire.call(ApiKey::CreatePartitions, 3, |body, version| {
        request.write(body, version)
    });
    let answer = CreatePartitionsResponseData::read(&mut answer, 3).expect("a decodable answer");
    assert_eq!(answer.results[0].error_code, 0, "{name}");
}

/// The lines of `log` that contain each of `parts`.
pub fn lines<'a>(log: &'a str, parts: &[&str]) -> Vec<&'a str> {
    let has_all = |line: &&str| parts.iter().all(|part| line.contains(part));
    log.lines().filter(has_all).collect()
}

#[test]
fn topics_that_come_grow_and_go_leave_a_line_each() {
    let data = directory();
    let (broker, ready) = Broker::start(command(data.path()));
    let mut wire = Wire::connect(ready.port());
    create(&mut wire, "first", 3);
    create(&mut wire, "second", 1);
    grow(&mut wire, "first", 5);
    delete(&mut wire, "first");
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    let table: [&[&str]; 4] = [
        &["INFO", "topic created", "topic=first", "partitions=3"],
        &["INFO", "topic created", "topic=second", "partitions=1"],
        &["partitions added", "topic=first", "partitions=5", "added=2"],
        &["INFO", "topic deleted", "topic=first", "partitions=5"],
    ];
    for parts in table {
        let found = lines(&log, parts);
        assert_eq!(found.len(), 1, "{parts:?}: {log}");
        assert!(found[0].contains(" id="), "{log}");
    }
    assert_eq!(lines(&log, &["topic="]).len(), 4, "{log}");
    assert!(!log.contains("compact"), "{log}");

    // Those that are there already are no news.
    let (broker, _) = Broker::start(command(data.path()));
    let (_, log) = broker.stop();
    assert!(!log.contains("topic="), "{log}");
}

#[test]
fn compaction_that_there_is_not_is_told_at_the_start_and_for_each_topic() {
    let data = directory();
    let start = || with_override(command(data.path()), "log.cleanup.policy=compact");
    let (broker, ready) = Broker::start(start());
    create(&mut Wire::connect(ready.port()), "keyed", 1);
    let (_, log) = broker.stop();
    let kept = "records are kept, none is removed by key yet";
    let of_broker = lines(&log, &["WARN", "log.cleanup.policy=compact", kept]);
    assert_eq!(of_broker.len(), 1, "{log}");
    let of_topic = lines(&log, &["WARN", " cleanup.policy=compact", "topic=keyed"]);
    assert_eq!(of_topic.len(), 1, "{log}");
    assert_eq!(lines(&log, &[kept]).len(), 2, "{log}");

    let (broker, _) = Broker::start(start());
    let (_, log) = broker.stop();
    let of_topics = lines(&log, &["WARN", kept, "topics=keyed"]);
    assert_eq!(of_topics.len(), 1, "{log}");
    assert_eq!(lines(&log, &[kept]).len(), 2, "{log}");
}

#[test]
fn a_start_after_a_kill_tells_what_was_checked_and_a_clean_one_nothing() {
    let data = directory();
    let (broker, ready) = Broker::start(command(data.path()));
    assert!(!broker.log().contains("unclean"), "nothing was there");
    let mut wire = Wire::connect(ready.port());
    create(&mut wire, "some", 3);
    let batch = batches::batch(&[b"value"]);
    let request = requests::produce("some", 1, -1, &batch);
    let mut answer = wire.call(ApiKey::Produce, 9, |body, version| {
        request.write(body, version)
    });
    assert_eq!(requests::produced(&mut answer, 9).error_code, 0);
    broker.signal(Signal::SIGKILL);
    let (code, log) = broker.end();
    assert_eq!(code, None, "{log}");

    let (broker, _) = Broker::start(with_override(command(data.path()), "millrace.shards=2"));
    broker.signal(Signal::SIGKILL);
    let (_, log) = broker.end();
    let checked = format!("3 partitions checked, {} bytes, 0 cut", batch.len());
    let told = lines(&log, &["INFO", "unclean shutdown: ", &checked]);
    assert!(
        told.len() == 1 && told[0].contains("milliseconds="),
        "{log}"
    );

    // A write that was torn.
    let segment = data.path().join("some-1/00000000000000000000.log");
    let segment = fs::OpenOptions::new().write(true).open(segment);
    let segment = segment.expect("a segment");
    let torn = segment.write_all_at(&batch[..batch.len() - 1], batch.len() as u64);
    torn.expect("a write");
    let (broker, _) = Broker::start(command(data.path()));
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(
        lines(&log, &["3 partitions checked", "1 cut"]).len(),
        1,
        "{log}"
    );

    let (broker, _) = Broker::start(command(data.path()));
    let (_, log) = broker.stop();
    assert!(!log.contains("unclean"), "{log}");
}
