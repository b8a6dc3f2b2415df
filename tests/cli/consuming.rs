//! `millrace consume`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt as _;

use crate::program::{Shell, fails};
use crate::support::command;

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
    let mut consumer = shell.start("consume t --follow --offset end");
    let mut lines = BufReader::new(consumer.stdout.take().expect("a pipe")).lines();
    // Repeated, since nobody tells when the consumer has found the end.
    // The pipe stays open: who reads no more ends a consumer, too.
    let (heard, _lines) = std::thread::scope(|scope| {
        let heard = scope.spawn(move || (lines.next().expect("a line").expect("text"), lines));
        while !heard.is_finished() {
            shell.ok_with("produce t --quiet", "more\n");
        }
        heard.join().expect("a line")
    });
    assert_eq!(heard, "more");
    let pid = Pid::from_raw(i32::try_from(consumer.id()).expect("a process id"));
    kill(pid, Signal::SIGINT).expect("a child of this process");
    let status = command::wait(&mut consumer, Duration::from_secs(20)).expect("it stops");
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
