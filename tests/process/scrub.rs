//! The scrub of a running broker: what the disk has changed is told with its place, and what is
//! being written is never taken for it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use kacrab_protocol::generated::ApiKey;

use super::program::{Broker, command, directory, with_override};
use super::support::topics::create_on;
use super::support::wire::Wire;
use super::support::{Random, batches, requests, segments};

const TOPIC: &str = "scrubbed";
/// What it says of damage.
pub const DAMAGED: &str = "scrub: no sound batch stands where one was written";
const SOUND: &str = "scrub: all is as written";

/// As fast as the disk is, one pass after the other.
pub fn scrubbing(data: &Path) -> Command {
    let settings = [
        "millrace.memory.bytes=67108864",
        "millrace.scrub.bytes.per.second=100000000000",
        "millrace.scrub.interval.ms=100",
    ];
    settings.into_iter().fold(command(data), with_override)
}

/// Produces a batch; gives its first offset.
fn produce(wire: &mut Wire, partition: i32, values: &[&[u8]]) -> i64 {
    let request = requests::produce(TOPIC, partition, -1, &batches::batch(values));
    let mut answer = wire.call(ApiKey::Produce, 9, |body, v| request.write(body, v));
    let answer = requests::produced(&mut answer, 9);
    assert_eq!(answer.error_code, 0);
    answer.base_offset
}

fn passes(log: &str) -> usize {
    log.matches(SOUND).count()
}

#[test]
fn a_byte_that_has_changed_in_a_closed_segment_is_told_with_file_position_and_offsets() {
    let data = directory();
    let (mut broker, ready) = Broker::start(scrubbing(data.path()));
    let mut wire = Wire::connect(ready.port());
    let small = [("internal.segment.bytes", "16384")];
    create_on(&mut wire, TOPIC, 1, &small);
    let value = vec![b'v'; 900];
    for _ in 0..40 {
        produce(&mut wire, 0, &[&value, &value, &value]);
    }
    broker.wait_for("a pass", |log| (passes(log) > 0).then_some(()));
    let segments = segments::segments(data.path(), TOPIC, 0);
    assert!(segments.len() > 3, "{segments:?}");
    let hit = &segments[1].log;
    let found = segments::batches(hit);
    let position: usize = found[..2].iter().map(|batch| batch.size).sum();
    let file = File::options().write(true).open(hit).expect("a segment");
    file.write_all_at(b"w", position as u64 + 200)
        .expect("a write");
    file.sync_all().expect("a sync");
    let told = broker.wait_for("a report", |log| {
        let line = log.lines().find(|line| line.contains(DAMAGED));
        line.map(str::to_owned)
    });
    assert!(told.contains("ERROR"), "{told}");
    let end = position + found[2].size;
    for word in [
        format!("file={}", hit.display()),
        format!("position={position} "),
        format!("end={end} "),
        format!("first_offset={} ", found[2].base_offset),
        format!("last_offset={} ", found[2].last_offset),
        "CRC".to_owned(),
    ] {
        assert!(told.contains(&word), "{word}: {told}");
    }
    broker.wait_for("the pass", |log| {
        log.contains("scrub: damage was found").then_some(())
    });
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    let others = log
        .lines()
        .filter(|line| line.contains("ERROR") && !line.contains(DAMAGED));
    assert_eq!(others.count(), 0, "{log}");
}

#[test]
fn a_broker_under_load_finds_nothing_though_all_of_it_is_read() {
    const PARTITIONS: i32 = 3;
    let data = directory();
    let (mut broker, ready) = Broker::start(scrubbing(data.path()));
    let settings = [
        ("internal.segment.bytes", "1048576"),
        ("retention.bytes", "8388608"),
        ("file.delete.delay.ms", "0"),
    ];
    create_on(
        &mut Wire::connect(ready.port()),
        TOPIC,
        PARTITIONS,
        &settings,
    );
    let (port, began) = (ready.port(), Instant::now());
    let is_over = || began.elapsed() > Duration::from_secs(4);
    let written: u64 = thread::scope(|scope| {
        // Small batches go through the journal, large ones do not.
        let writers = [200, 3_000, 60_000, 400_000].map(|bytes| {
            scope.spawn(move || {
                let mut wire = Wire::connect(port);
                let mut random = Random::new(bytes);
                let mut written = 0;
                while !is_over() {
                    let value = random.bytes(random.clone().range(1, bytes) as usize);
                    let partition = random.range(0, PARTITIONS as u64) as i32;
                    produce(&mut wire, partition, &[&value]);
                    written += value.len() as u64;
                }
                written
            })
        });
        let written = writers.map(|writer| writer.join().expect("a writer"));
        written.iter().sum()
    });
    // The tails keep three sixteenths of the memory.
    assert!(written > 24 << 20, "{written} bytes");
    let before = passes(&broker.log());
    assert!(before > 1, "{}", broker.log());
    broker.wait_for("a pass", |log| (passes(log) > before).then_some(()));
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("ERROR") && !log.contains(DAMAGED), "{log}");
}

#[test]
fn no_rate_is_no_scrub() {
    let data = directory();
    let start = with_override(scrubbing(data.path()), "millrace.scrub.bytes.per.second=0");
    let (broker, ready) = Broker::start(start);
    let mut wire = Wire::connect(ready.port());
    create_on(&mut wire, TOPIC, 1, &[]);
    produce(&mut wire, 0, &[b"value"]);
    thread::sleep(Duration::from_millis(600));
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("scrub: "), "{log}");
}
