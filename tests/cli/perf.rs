//! `millrace perf`: what it says was written and read is there, and nothing that came late is left
//! out.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::program::{Running, Shell, fails, objects, program};
use crate::support::command;

/// Short runs: what is measured is of no interest here.
const SHORT: &str = "--warmup 100ms --duration 1s --json";

/// How many records the topic has.
fn records_of(shell: &Shell) -> u64 {
    let printed = shell.ok("consume millrace-perf --format %o\\n");
    printed.lines().count() as u64
}

fn number(of: &Value, field: &str) -> f64 {
    let number = of[field].as_f64();
    number.unwrap_or_else(|| panic!("no {field} in {of}"))
}

fn is_from_100_to_200(size: &str) -> bool {
    size.parse().is_ok_and(|size| (100..=200).contains(&size))
}

#[test]
fn as_many_records_are_written_and_read_as_it_says() {
    let shell = Shell::new();
    for (line, records) in [
        ("--record-bytes 100..200 --key-bytes 8", 20_000),
        ("--acks 1 --codec zstd --producers 3", 5_000),
        ("--acks 0 --codec lz4 --batch-bytes 20000", 5_000),
        ("--idempotent --in-flight 2 --producers 2", 5_000),
        ("--rate 20000 --record-bytes 50 --idempotent", 5_000),
    ] {
        let before = if line.starts_with("--record") {
            0
        } else {
            records_of(&shell)
        };
        let line = format!("perf produce {line} --records {records} --partitions 3 --json");
        let written = &shell.json(&line)[0]["loads"][0];
        let counted = written["records"].as_u64().expect("a number");
        assert!(
            (records..records + 2_000).contains(&counted),
            "{line}: {counted}"
        );
        // What nobody acknowledges may still be on its way.
        if !line.contains("--acks 0") {
            assert_eq!(records_of(&shell) - before, counted, "{line}");
        }
        assert!(
            number(written, "p50_ms") <= number(written, "p99_ms"),
            "{written}"
        );
        if before == 0 {
            let sizes = shell.ok("consume millrace-perf --format %S\\n");
            assert!(sizes.lines().all(is_from_100_to_200), "sizes");
        }
    }
    let topic = &shell.json("topics describe millrace-perf --json")[0];
    assert_eq!(topic["partitions"].as_array().map(Vec::len), Some(3));
    let end = records_of(&shell);
    let read = &shell.json("perf consume --consumers 2 --json")[0]["loads"][0];
    assert_eq!(read["records"].as_u64(), Some(2 * end));
}

#[test]
fn with_a_rate_every_record_has_its_moment() {
    let shell = Shell::new();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let pid = shell.broker.pid();
    let hdr = file.path().display();
    let line = format!("perf latency --rate 2000 --broker-pid {pid} --hdr {hdr} {SHORT}");
    let report = &shell.json(&line)[0];
    let [produced, received] = [0, 1].map(|at| &report["loads"][at]);
    assert_eq!(report["overdue"], 0);
    assert_eq!(produced["records"], 2_000);
    assert_eq!(received["records"], 2_000);
    assert_eq!(received["load"], "end-to-end");
    assert!(number(received, "p50_ms") > 0.01, "{received}");
    assert!(
        number(&report["broker"], "resident_bytes") > 1e6,
        "{report}"
    );
    let times = fs::read_to_string(file.path()).expect("the times");
    assert!(times.contains("Total count    =         2000]"), "{times}");
    let beside = format!("{hdr}.produce");
    assert!(fs::remove_file(&beside).is_ok(), "{beside}");
}

#[test]
fn a_broker_that_stands_still_costs_every_record_that_was_due_meanwhile() {
    let shell = Shell::new();
    shell.ok("topics create millrace-perf");
    let line = "perf latency --rate 1000 --warmup 0s --duration 2s --json";
    let mut running = Running(shell.start(line));
    shell.ok("consume millrace-perf --follow --max-messages 1");
    let broker = Pid::from_raw(shell.broker.pid() as i32);
    kill(broker, Signal::SIGSTOP).expect("a broker that runs");
    thread::sleep(Duration::from_secs(1));
    kill(broker, Signal::SIGCONT).expect("a broker that stands still");
    let finished = running.finish().success(line);
    let report = &objects(&finished)[0];
    let received = &report["loads"][1];
    assert_eq!(received["records"], 2_000, "{report}");
    // Those that were due in the first half of it waited for half of it at least.
    assert!(number(received, "max_ms") > 900.0, "{received}");
    assert!(number(received, "p90_ms") > 200.0, "{received}");
}

#[test]
fn all_loads_run_at_once_and_again_from_the_beginning() {
    let shell = Shell::new();
    shell.ok("perf produce --records 20000 --json");
    for line in ["perf mixed --rate 1000", "perf mixed"] {
        let report = &shell.json(&format!("{line} {SHORT}"))[0];
        let loads = report["loads"].as_array().expect("loads");
        assert_eq!(loads.len(), 3);
        assert!(
            loads.iter().all(|load| number(load, "records") > 0.0),
            "{report}"
        );
    }
    let line = format!("perf consume --again --from spread --consumers 3 {SHORT}");
    assert!(number(&shell.json(&line)[0]["loads"][0], "records") > 60_000.0);
    let table = shell.ok("perf produce --records 1000");
    assert!(table.starts_with("LOAD"), "{table}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let shell = Shell::new();
    let told = fails(&shell.run("perf produce --rate 10 --record-bytes 8"), 2);
    assert!(told.contains("at least 16"), "{told}");
    let told = fails(&shell.run("perf produce --record-bytes 5..1"), 2);
    assert!(told.contains("write 1024"), "{told}");
    let told = fails(&shell.run("perf produce --topic bad/name --records 1"), 1);
    assert!(told.contains("INVALID_TOPIC"), "{told}");
    let mut nowhere = program("perf consume -b 127.0.0.1:1");
    let finished = command::run(&mut nowhere, b"", Duration::from_secs(30));
    assert!(fails(&finished, 1).contains("no broker answers"));
    let line = format!("perf produce --broker-pid {} {SHORT}", u32::MAX - 1);
    assert!(fails(&shell.run(&line), 74).contains("/proc/"));
}
