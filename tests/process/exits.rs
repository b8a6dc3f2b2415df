//! How the process ends when a shard cannot go on: with the reason, and the code that it promises.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use super::deletion::create;
use super::program::{Broker, command, directory, run, told, with_override};
use super::support::requests;
use super::support::wire::Wire;

/// A directory that a broker has formatted, with a topic, and that was stopped cleanly.
fn used() -> tempfile::TempDir {
    let data = directory();
    let start = with_override(command(data.path()), "millrace.shards=2");
    let (broker, ready) = Broker::start(start);
    create(&mut Wire::connect(ready.port()), "used", 4);
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    data
}

fn metadata(data: &Path, file: &str) -> PathBuf {
    data.join("__cluster_metadata-0").join(file)
}

/// A directory in a file's place: nobody may open it, whoever runs the test.
fn block(file: &Path) {
    if file.exists() {
        fs::remove_file(file).expect("a removal");
    }
    fs::create_dir(file).expect("a directory");
}

#[test]
fn a_shard_that_fails_at_start_is_told_with_its_code() {
    type Break = fn(&Path);
    let table: [(&str, Break, i32, &str); 4] = [
        (
            // The other shard only learns that the broker stops, and comes first.
            "shard 1 cannot write its checkpoint",
            |data| block(&data.join("recovery-checkpoint-1.tmp")),
            74,
            "shard 1 failed: create of",
        ),
        (
            "the metadata cannot be read",
            |data| block(&metadata(data, "partition.metadata")),
            74,
            "shard 0 failed: read of",
        ),
        (
            "the metadata log is not one",
            |data| {
                let other = "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABQ\n";
                fs::write(metadata(data, "partition.metadata"), other).expect("a file");
            },
            78,
            "does not hold the log of the metadata",
        ),
        (
            "the metadata log lost its records",
            |data| fs::write(metadata(data, "00000000000000000000.log"), "").expect("a file"),
            78,
            "is damaged at offset 0",
        ),
    ];
    for (what, break_it, code, expected) in table {
        let data = used();
        break_it(data.path());
        let checkpoints = ["recovery-checkpoint-0", "recovery-checkpoint-1"];
        let checkpoints = checkpoints.map(|name| data.path().join(name));
        let read = || checkpoints.each_ref().map(|path| lines(path));
        let before = read();
        assert!(before[1].len() > 2, "shard 1 has partitions: {before:?}");
        let start = with_override(command(data.path()), "millrace.shards=2");
        let (found, log) = told(&run(start));
        assert_eq!(found, Some(code), "{what}: {log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains(expected), "{what}: {log}");
        assert!(last.contains(&format!("exit_code={code}")), "{what}: {log}");
        assert!(!log.contains("stopped cleanly"), "{what}: {log}");
        assert!(!log.contains(" ready "), "{what}: {log}");
        assert_eq!(
            read(),
            before,
            "{what}: nothing that was known is forgotten"
        );
    }
}

#[test]
fn a_partition_that_cannot_be_read_is_told_with_what_to_do_and_the_others_serve() {
    let data = used();
    block(&data.path().join("used-2").join("00000000000000000000.log"));
    let (broker, ready) = Broker::start(command(data.path()));
    let mut wire = Wire::connect(ready.port());
    let mut fetch_error = |partition| {
        let fetch = requests::fetch("used", partition, 0);
        let key = kacrab_protocol::generated::ApiKey::Fetch;
        let mut answer = wire.call(key, 12, |body, version| fetch.write(body, version));
        requests::fetched(&mut answer, 12).error_code
    };
    assert_ne!(fetch_error(2), 0);
    for partition in [0, 1, 3] {
        assert_eq!(fetch_error(partition), 0, "partition {partition}");
    }
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    let told = |line: &&str| line.contains("ERROR") && line.contains("partition not opened");
    let errors: Vec<_> = log.lines().filter(told).collect();
    let [error] = errors[..] else {
        panic!("{errors:?} in {log}");
    };
    assert!(error.contains("used-2"), "{error}");
    assert!(error.contains("then start the broker again"), "{error}");
}

/// The lines of a checkpoint, in an order of their own.
fn lines(checkpoint: &Path) -> Vec<String> {
    let text = fs::read_to_string(checkpoint).expect("a checkpoint");
    let (points, _crc) = text.rsplit_once("crc32c").expect("a whole checkpoint");
    let mut lines: Vec<_> = points.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_second_signal_stops_a_running_broker_at_once() {
    let data = directory();
    let (mut broker, ready) = Broker::start(command(data.path()));
    let mut wire = Wire::connect(ready.port());
    create(&mut wire, "waited-for", 1);
    // A request that holds the stop up: it waits for records that never come.
    let fetch = requests::fetch("waited-for", 0, 0)
        .with_max_wait_ms(60_000)
        .with_min_bytes(1);
    let mut body = bytes::BytesMut::new();
    fetch.write(&mut body, 12).expect("an encodable request");
    wire.send_request(1, 12, &body);
    std::thread::sleep(std::time::Duration::from_millis(200));
    broker.signal(Signal::SIGTERM);
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(broker.is_running(), "the request did not hold the stop up");
    broker.signal(Signal::SIGTERM);
    let (code, log) = broker.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("SIGTERM again: stopping at once"), "{log}");
    assert!(!log.contains("stopped cleanly"), "{log}");
}

#[test]
fn a_stop_while_it_starts_is_clean_and_loses_nothing() {
    let data = used();
    for _ in 0..5 {
        let start = with_override(command(data.path()), "millrace.shards=2");
        let mut broker = Broker::launch(start);
        // From the moment on at which its thread for signals runs: before that they kill.
        let tasks = format!("/proc/{}/task", broker.id());
        broker.wait_for("its thread for signals", |_| {
            let tasks = fs::read_dir(&tasks).ok()?;
            let names = tasks.flatten().map(|task| task.path().join("comm"));
            let mut names = names.filter_map(|comm| fs::read_to_string(comm).ok());
            names.any(|name| name.trim() == "signals").then_some(())
        });
        let (code, log) = broker.stop();
        assert_eq!(code, Some(0), "{log}");
    }
    let start = with_override(command(data.path()), "millrace.shards=2");
    let (broker, ready) = Broker::start(start);
    let mut wire = Wire::connect(ready.port());
    let fetch = requests::fetch("used", 3, 0);
    let mut answer = wire.call(
        kacrab_protocol::generated::ApiKey::Fetch,
        12,
        |body, version| fetch.write(body, version),
    );
    assert_eq!(requests::fetched(&mut answer, 12).error_code, 0);
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
}
