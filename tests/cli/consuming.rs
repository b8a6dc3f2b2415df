//! `millrace consume`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use kacrab_protocol::generated::ApiKey;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::program::{Running, Shell, fails};
use crate::support::batches::with_records;
use crate::support::command;
use crate::support::requests::{produce, produced};
use crate::support::wire::Wire;

/// Nothing that is waited for takes longer, on a machine however busy.
const WITHIN: Duration = Duration::from_secs(60);

/// Numbers 0 to 9 in partition 0, with timestamps of a second each from 1,700,000,000 on.
fn ten() -> Shell {
    let shell = Shell::new();
    shell.ok("topics create t --partitions 2");
    let record = |n: i64| {
        let timestamp = 1_700_000_000_000 + n * 1000;
        format!("{{\"value\":\"{n}\",\"partition\":0,\"timestamp\":{timestamp}}}\n")
    };
    let records: String = (0..10).map(record).collect();
    shell.ok_with("produce t --json", &records);
    shell
}

#[test]
fn who_follows_reads_partitions_that_are_added() {
    let shell = Shell::new();
    shell.ok("topics create t");
    shell.ok_with("produce t --quiet", "first\n");
    let mut following = Running(shell.start("consume t --follow --count 2 --format %p:%s\\n"));
    shell.ok("topics add-partitions t --partitions 2");
    shell.ok_with("produce t --quiet --partition 1", "second\n");
    let printed = following.finish().success("consume");
    assert_eq!(printed, "0:first\n1:second\n");
}

#[test]
fn it_begins_where_it_is_told_and_ends_at_the_end() {
    let shell = ten();
    let table = [
        ("", "0123456789"),
        ("--offset beginning --count 3", "012"),
        ("--offset end", ""),
        ("--offset 7 --partition 0", "789"),
        ("--offset 10 --partition 0", ""),
        ("--offset -2", "89"),
        ("--offset -99", "0123456789"),
        ("--from-time 1700000004000", "456789"),
        ("--from-time 2023-11-14T22:13:25.5Z", "6789"),
        ("--from-time 2023-11-14T22:13:25.5", "6789"),
        ("--from-time 2023-11-15T00:13:25.5+02:00", "6789"),
        ("--from-time 2100-01-01", ""),
        ("--partition 1", ""),
        ("--count 0", ""),
    ];
    for (flags, expected) in table {
        assert_eq!(
            shell.ok(&format!("consume t --format %s {flags}")),
            expected,
            "{flags}"
        );
    }
}

#[test]
fn it_follows_until_it_is_stopped() {
    let shell = ten();
    let mut running = Running(shell.start("consume t --follow --offset end"));
    let consumer = &mut running.0;
    let mut lines = BufReader::new(consumer.stdout.take().expect("a pipe")).lines();
    // Repeated, since nobody tells when the consumer has found the end.
    // The pipe stays open: who reads no more ends a consumer, too.
    let (heard, _lines) = std::thread::scope(|scope| {
        let heard = scope.spawn(move || (lines.next().expect("a line").expect("text"), lines));
        let end = Instant::now() + WITHIN;
        while !heard.is_finished() {
            shell.ok_with("produce t --quiet", "more\n");
            if Instant::now() > end {
                // Which ends its output, and so whoever waits for a line of it.
                consumer.kill().expect("a child of this process");
            }
        }
        heard.join().expect("a line")
    });
    assert_eq!(heard, "more");
    let pid = Pid::from_raw(i32::try_from(consumer.id()).expect("a process id"));
    kill(pid, Signal::SIGINT).expect("a child of this process");
    let status = command::wait(consumer, WITHIN).expect("it stops");
    // So that a shell's loop ends too; a shell's job in the background has it ignore the signal.
    let by_signal = status.signal() == Some(Signal::SIGINT as i32);
    assert!(by_signal || status.code() == Some(130), "{status}");
    let mut told = String::new();
    consumer
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut told)
        .expect("text");
    assert_eq!(told, "");
}

#[test]
fn who_has_read_enough_ends_it_without_a_word() {
    let shell = Shell::new();
    shell.ok("topics create t");
    let lines: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    shell.ok_with("produce t --quiet", &lines);
    for script in [
        "millrace consume t | head -n 1",
        "millrace consume t --json | head -n 1 | wc -l | sed s/1/0/",
        // Nothing more comes, so that only the closed pipe itself can end it.
        "millrace consume t --follow --offset -1 | head -n 1 | sed s/49999/0/",
        "millrace consume t --follow --group g | head -n 1",
    ] {
        let finished = shell.bash(script);
        assert_eq!(finished.stderr, "", "{script}");
        assert_eq!(finished.success(script), "0\n", "{script}");
    }
}

#[test]
fn in_a_group_it_goes_on_where_the_group_was() {
    let shell = ten();
    assert_eq!(
        shell.ok("consume t --group g --count 4 --format %s"),
        "0123"
    );
    assert_eq!(shell.ok("consume t --group g --format %s"), "456789");
    assert_eq!(shell.ok("consume t --group g --format %s"), "");
    assert_eq!(
        shell.ok("consume t --group other --format %s"),
        "0123456789"
    );
    assert_eq!(
        shell.ok("consume t --group late --offset end --format %s"),
        ""
    );
    shell.ok_with("produce t --partition 1 --quiet", "new\n");
    assert_eq!(shell.ok("consume t --group g --format %s"), "new");
}

#[test]
fn names_of_headers_may_be_any_bytes() {
    let shell = Shell::new();
    shell.ok("topics create t");
    // One record as the protocol guide has it: its length, attributes, both deltas, no key, the
    // value `v`, and two headers: the bytes FF and FE with the value `h`, and `n` without one.
    let fields = [0, 0, 0, 1, 2, b'v', 4, 4, 0xFF, 0xFE, 2, b'h', 2, b'n', 1];
    let length = u8::try_from(fields.len() * 2).expect("a short record");
    let records: Vec<u8> = std::iter::once(length).chain(fields).collect();
    let request = produce("t", 0, -1, &with_records(&records, 1, 0));
    let mut wire = Wire::connect(shell.broker.port());
    let mut answer = wire.call(ApiKey::Produce, 9, |body, version| {
        request.write(body, version)
    });
    assert_eq!(produced(&mut answer, 9).error_code, 0);

    let shown = json!([["\u{fffd}\u{fffd}", "h"], ["n", null]]);
    assert_eq!(shell.json("consume t --json")[0]["headers"], shown);
    assert_eq!(
        shell.json("consume t --json --group g")[0]["headers"],
        shown
    );
    let finished = shell.bash("millrace consume t --format %h | od -An -tx1");
    let bytes: Vec<_> = finished.stdout.split_whitespace().collect();
    assert_eq!(
        bytes.join(" "),
        "ff fe 3d 68 2c 6e 3d 4e 55 4c 4c",
        "{}",
        finished.stderr
    );
}

#[test]
fn without_a_group_it_asks_for_none() {
    let shell = ten();
    for line in [
        "consume t",
        "consume t --json --offset -3",
        "consume t -X group.id=g",
    ] {
        assert_ne!(shell.ok(line), "", "{line}");
        // The first to ask for a group has the broker make this topic.
        let topics = shell.ok("topics list --internal");
        assert!(!topics.contains("__consumer_offsets"), "{line}: {topics}");
    }
    shell.ok("consume t --group g");
    let topics = shell.ok("topics list --internal");
    assert!(topics.contains("__consumer_offsets"), "{topics}");
}

#[test]
fn a_topic_that_is_deleted_ends_who_follows_it() {
    let shell = ten();
    // The library believes it late by default.
    let early = "-X topic.metadata.refresh.interval.ms=100 -X topic.metadata.propagation.max.ms=0";
    let mut running = Running(shell.start(&format!("consume t --follow {early}")));
    let mut lines = BufReader::new(running.0.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "0");
    shell.ok("topics delete t");
    let status = command::wait(&mut running.0, WITHIN).expect("it ends");
    let mut told = String::new();
    let stderr = running.0.stderr.as_mut().expect("a pipe");
    stderr.read_to_string(&mut told).expect("text");
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("is gone"), "{told}");
}

#[test]
fn what_does_not_fit_is_told() {
    let shell = ten();
    let table = [
        ("consume nope", 1, "topics create nope"),
        ("consume nope --group g", 1, "topics create nope"),
        ("consume t --partition 5", 1, "no partition 5"),
        ("consume t --offset 99", 1, "0 to 10"),
        ("consume t --offset 3 --group g", 2, "reset-offsets"),
        ("consume t --offset soon", 2, "beginning, end, an offset"),
        ("consume t --from-time soon", 2, "2026-01-31"),
        (
            "consume t --from-beginning --from-time -1h",
            2,
            "--from-time",
        ),
        ("consume t --format %q", 2, "%q"),
        ("consume t u", 2, "--follow"),
        ("consume t --partition 0 --group g", 2, "--group"),
        ("consume", 2, "TOPIC"),
    ];
    for (line, code, word) in table {
        let told = fails(&shell.run(line), code);
        assert!(told.contains(word), "{line}: {told}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let shell = ten();
    let told = fails(&shell.bash("millrace consume t > /dev/full"), 74);
    assert!(told.contains("standard output"), "{told}");
}
