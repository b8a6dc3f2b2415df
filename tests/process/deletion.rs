//! Deleted topics and their files: under any name, and whatever comes in between.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use kacrab_protocol::generated::{
    ApiKey, DeleteTopicState, DeleteTopicsRequestData, DeleteTopicsResponseData,
};
use nix::sys::signal::Signal;

use super::program::{Broker, PATIENCE, command, directory, with_override};
use super::support::topics::create_on;
use super::support::wire::{Wire, text};

/// Creates a topic; it must succeed.
pub fn create(wire: &mut Wire, name: &str, partitions: i32) {
    create_on(wire, name, partitions, &[]);
}

/// Deletes a topic; it must succeed.
pub fn delete(wire: &mut Wire, name: &str) {
    let topic = DeleteTopicState::default().with_name(Some(text(name)));
    let request = DeleteTopicsRequestData::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let mut answer = wire.call(ApiKey::DeleteTopics, 6, |body, version| {
        request.write(body, version)
    });
    let answer = DeleteTopicsResponseData::read(&mut answer, 6).expect("a decodable answer");
    let [result] = &answer.responses[..] else {
        panic!("one topic asked for, {} answered", answer.responses.len());
    };
    assert_eq!(result.error_code, 0, "{name}: {:?}", result.error_message);
}

/// The directories of partitions in `data`, but for that of the metadata.
fn partitions(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("a name in ASCII"));
    let is_partition =
        |name: &String| data.join(name).is_dir() && !name.starts_with("__cluster_metadata");
    names.filter(is_partition).collect()
}

fn wait_until_gone(data: &Path) {
    let began = Instant::now();
    while !partitions(data).is_empty() {
        let left = partitions(data);
        assert!(began.elapsed() < PATIENCE, "still there: {left:?}");
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_topic_with_the_longest_name_is_deleted_and_the_broker_serves_on() {
    let data = directory();
    let start = with_override(command(data.path()), "log.segment.delete.delay.ms=0");
    let (broker, ready) = Broker::start(start);
    let mut wire = Wire::connect(ready.port());
    let name = "n".repeat(249);
    for _ in 0..2 {
        create(&mut wire, &name, 3);
        assert_eq!(partitions(data.path()).len(), 3);
        delete(&mut wire, &name);
        wait_until_gone(data.path());
    }
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn deleted_files_wait_for_their_delay_under_another_name() {
    let data = directory();
    let (broker, ready) = Broker::start(command(data.path()));
    let mut wire = Wire::connect(ready.port());
    create(&mut wire, "kept", 2);
    delete(&mut wire, "kept");
    let left = partitions(data.path());
    assert_eq!(left.len(), 2, "{left:?}");
    for name in left {
        assert!(
            name.starts_with("kept-") && name.ends_with("-delete"),
            "{name}"
        );
    }
    // A new topic of that name has nothing to do with them.
    create(&mut wire, "kept", 1);
    assert!(data.path().join("kept-0").is_dir());
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn what_a_kill_leaves_of_a_deleted_topic_goes_at_the_next_start() {
    let data = directory();
    let (broker, ready) = Broker::start(command(data.path()));
    let mut wire = Wire::connect(ready.port());
    create(&mut wire, "renamed", 3);
    create(&mut wire, "untouched", 3);
    create(&mut wire, "kept", 1);
    delete(&mut wire, "renamed");
    delete(&mut wire, "untouched");
    broker.signal(Signal::SIGKILL);
    let (code, log) = broker.end();
    assert_eq!(code, None, "{log}");
    // As if the kill had come between the record of the deletion and the new name.
    for name in partitions(data.path()) {
        if let Some((old, _)) = name.split_once('.')
            && name.starts_with("untouched-")
        {
            fs::rename(data.path().join(&name), data.path().join(old)).expect("a rename");
        }
    }
    assert_eq!(partitions(data.path()).len(), 7);
    let (broker, _) = Broker::start(command(data.path()));
    let began = Instant::now();
    while partitions(data.path()) != ["kept-0"] {
        let left = partitions(data.path());
        assert!(began.elapsed() < PATIENCE, "still there: {left:?}");
        thread::sleep(std::time::Duration::from_millis(20));
    }
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_directory_that_the_metadata_never_heard_of_is_set_aside_with_its_files() {
    let data = directory();
    let (broker, _) = Broker::start(command(data.path()));
    broker.stop();
    let lost = data.path().join("lost-0");
    fs::create_dir(&lost).expect("a directory");
    let metadata = "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABQ\n";
    fs::write(lost.join("partition.metadata"), metadata).expect("a file");
    fs::write(lost.join("00000000000000000000.log"), "records").expect("a file");
    let (broker, ready) = Broker::start(command(data.path()));
    create(&mut Wire::connect(ready.port()), "lost", 1);
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    let mut left = partitions(data.path());
    left.sort();
    let [new, aside] = &left[..] else {
        panic!("{left:?}\n{log}");
    };
    assert!(new == "lost-0" && aside.ends_with("-stray"), "{left:?}");
    let kept = data.path().join(aside).join("00000000000000000000.log");
    assert_eq!(fs::read_to_string(kept).expect("a file"), "records");
    assert!(log.contains("no topic claims"), "{log}");
}

#[test]
fn records_in_a_directory_that_does_not_say_whose_they_are_are_set_aside() {
    let data = directory();
    let nameless = data.path().join("nameless-0");
    let (broker, _) = Broker::start(command(data.path()));
    broker.stop();
    fs::create_dir(&nameless).expect("a directory");
    fs::write(nameless.join("00000000000000000000.log"), "records").expect("a file");
    let (broker, _) = Broker::start(command(data.path()));
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    let left = partitions(data.path());
    let [aside] = &left[..] else {
        panic!("{left:?}\n{log}");
    };
    assert!(aside.ends_with("-stray"), "{left:?}");
    let kept = data.path().join(aside).join("00000000000000000000.log");
    assert_eq!(fs::read_to_string(kept).expect("a file"), "records");
    let told = log.lines().find(|line| line.contains("no topic claims"));
    let told = told.unwrap_or_else(|| panic!("not told: {log}"));
    assert!(told.contains("nameless-0") && told.contains(aside), "{log}");
    // It was told by a thread without a name, and in its place there is no number.
    assert!(!log.contains("ThreadId"), "{log}");
}
