//! `millrace consume --group` beside another member, and where the broker goes away.
//!
//! A reader whose output nobody reads stands still once the pipe is full, with most of the topic
//! before it: what happens meanwhile happens in the middle of its work, on any machine.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{ChildStdout, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use crate::program::{Running, Shell};
use crate::support::command;

/// Nothing that is waited for takes longer, on a machine however busy.
const WITHIN: Duration = Duration::from_secs(60);

/// In each of the two partitions, as many bytes as no pipe and no buffer on the way takes.
const RECORDS: usize = 20_000;

/// The record of this number in a partition.
fn record(partition: usize, number: usize) -> String {
    format!("{partition}-{number:0>100}")
}

fn large_topic() -> Shell {
    let shell = Shell::new();
    shell.ok("topics create t --partitions 2");
    for partition in 0..2 {
        let lines: String = (0..RECORDS)
            .map(|number| record(partition, number) + "\n")
            .collect();
        // Small batches, so that a fetch brings little.
        let line = format!("produce t --quiet -p {partition} -X batch.num.messages=100");
        shell.ok_with(&line, &lines);
    }
    shell
}

/// A member of the group `g` that ends at the end of what it has.
struct Reader {
    running: Running,
    output: BufReader<ChildStdout>,
    read: BTreeSet<String>,
}

impl Reader {
    /// Starts it. It reads little ahead.
    fn start(shell: &Shell, flags: &str) -> Self {
        let ahead = "-X queued.min.messages=1 -X fetch.message.max.bytes=10000";
        let mut child = shell.start(&format!("consume t --group g {ahead} {flags}"));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            running: Running(child),
            output,
            read: BTreeSet::new(),
        }
    }

    fn read_line(&mut self) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        assert_ne!(line, "", "it ended");
        self.read.insert(line.trim_end().to_owned());
    }

    /// Reads all that it prints; gives how it ended, what it printed and what it told.
    fn finish(mut self) -> (ExitStatus, BTreeSet<String>, String) {
        let (output, mut read) = (self.output, self.read);
        let reading = thread::spawn(move || {
            read.extend(output.lines().map(|line| line.expect("text")));
            read
        });
        let mut stderr = self.running.0.stderr.take().expect("a pipe");
        let status = command::wait(&mut self.running.0, WITHIN).expect("it ends");
        let mut told = String::new();
        stderr.read_to_string(&mut told).expect("text");
        (status, reading.join().expect("lines"), told)
    }
}

/// Waits until the group has two members, of which one waits for the other.
fn wait_for_rebalance(shell: &Shell) {
    let end = Instant::now() + WITHIN;
    loop {
        let described = shell.json("groups describe g --json").remove(0);
        let members = described["members"].as_array().map_or(0, Vec::len);
        if members == 2 && described["state"] == "PreparingRebalance" {
            return;
        }
        assert!(Instant::now() < end, "{described}");
    }
}

#[test]
fn two_readers_of_a_group_share_a_topic_and_leave_nothing_out() {
    let shell = large_topic();
    let mut first = Reader::start(&shell, "");
    first.read_line();
    let second = Reader::start(&shell, "");
    wait_for_rebalance(&shell);
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| first.finish());
        let second = second.finish();
        (first.join().expect("the first reader"), second)
    });
    let last = [record(0, RECORDS - 1), record(1, RECORDS - 1)];
    for (status, read, told) in [&first, &second] {
        assert!(status.success(), "{status}: {told}");
        // The first one has its share taken away for a moment, which is no end.
        let has_end = last.iter().any(|record| read.contains(record));
        assert!(
            has_end,
            "{} records, and of no partition the last",
            read.len()
        );
    }
    let all: BTreeSet<_> = first.1.union(&second.1).collect();
    assert_eq!(all.len(), 2 * RECORDS);
}

#[test]
fn a_lost_broker_is_waited_for_as_long_as_told() {
    let mut shell = large_topic();
    // A short session, since a member that is lost cannot leave.
    let mut reader = Reader::start(&shell, "--timeout 5s -X session.timeout.ms=2000");
    reader.read_line();
    shell.broker.stop();
    let stopped_at = Instant::now();
    let (status, read, told) = reader.finish();
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("lost for 5s"), "{told}");
    assert!(stopped_at.elapsed() >= Duration::from_secs(5));
    assert!(read.len() < 2 * RECORDS, "it stood still before the end");

    shell.broker.start_again();
    let mut reader = Reader::start(&shell, "");
    reader.read_line();
    shell.broker.stop();
    shell.broker.start_again();
    let (status, again, told) = reader.finish();
    assert!(status.success(), "{status}: {told}");
    let all: BTreeSet<_> = read.union(&again).collect();
    assert_eq!(all.len(), 2 * RECORDS, "{told}");
}
