//! `millrace check`: against a broker that is killed and comes back it finds nothing; one that
//! forgets it finds out, and in a history that was tampered with what was changed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{Running, Shell, fails, fails_in_part, objects, program};
use crate::support::command::{Finished, run};

/// A judgement may take as long.
const WITHIN: Duration = Duration::from_secs(60);

fn judge(history: &Path, flags: &str) -> Finished {
    let line = format!("check history {} {flags}", history.display());
    run(&mut program(&line), b"", WITHIN)
}

/// What a check looked at and what it found.
fn row(report: &Value, check: &str) -> (u64, u64) {
    let checks = report["checks"].as_array().expect("checks");
    let row = checks.iter().find(|row| row["check"] == check);
    let row = row.unwrap_or_else(|| panic!("no {check} in {report}"));
    let number = |field: &str| row[field].as_u64().expect("a number");
    (number("looked_at"), number("found"))
}

/// The records of an event, if it is the answer to a poll.
fn records(event: &mut Value) -> Option<&mut Vec<Value>> {
    event["answer"]["poll"]["records"].as_array_mut()
}

fn write(path: &Path, events: &[Value]) {
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    fs::write(path, lines).expect("a file");
}

/// The history of a run, each time with one thing changed, must be found out by `check`.
fn is_found_out(events: &[Value], check: &str, tamper: impl FnOnce(&mut Vec<Value>)) {
    let mut events = events.to_vec();
    tamper(&mut events);
    let file = tempfile::NamedTempFile::new().expect("a file");
    write(file.path(), &events);
    let told = judge(file.path(), "--json");
    assert!(fails_in_part(&told, 3).contains("violation"));
    let report = &objects(&told.stdout)[0];
    assert_eq!(row(report, check).1, 1, "{check}: {report}");
    let table = judge(file.path(), "");
    assert!(fails_in_part(&table, 3).contains("violation"));
    assert!(
        table.stdout.contains(&format!("\n{check}: ")),
        "{}",
        table.stdout
    );
}

#[test]
fn a_broker_that_is_killed_and_comes_back_keeps_its_word() {
    let mut shell = Shell::new();
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("history");
    let line = format!(
        "check run --seconds 6 --seed 36 --history {} --json",
        file.display()
    );
    let mut running = Running(shell.start(&line));
    wait_for_begin(&file);
    for pause in [1_500, 1_000] {
        thread::sleep(Duration::from_millis(pause));
        shell.broker.kill();
        thread::sleep(Duration::from_millis(300));
        shell.broker.start_again();
    }
    let finished = running.finish().success(&line);
    let report = &objects(&finished)[0];
    assert_eq!(report["found"], 0, "{report}");
    for check in report["checks"].as_array().expect("checks") {
        assert!(check["looked_at"].as_u64() > Some(0), "{check}");
    }
    for operation in ["send", "poll", "watermarks", "commit", "committed"] {
        let ok = report["operations"][operation]["ok"].as_u64();
        assert!(ok > Some(0), "{operation}: {report}");
    }
    // What the broker refused, and what nobody knows.
    let sends = &report["operations"]["send"];
    assert!(sends["fail"].as_u64() > Some(0), "{sends}");
    assert!(sends["info"].as_u64() > Some(0), "{sends}");
    assert!(row(report, "lost-writes").0 > 100, "{report}");
    // The topic is gone again.
    let topics = shell.ok("topics list");
    assert!(!topics.contains("millrace-check"), "{topics}");

    let again = judge(&file, "--json").success("check history");
    assert_eq!(&objects(&again)[0], report, "judged again, it is the same");
    let table = judge(&file, "").success("check history");
    assert!(table.contains("\nlost-writes "), "{table}");
    tampered(&file);
}

/// Waits until a run has begun to write its history.
fn wait_for_begin(file: &Path) {
    let end = Instant::now() + WITHIN;
    while !fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0) {
        assert!(Instant::now() < end, "nothing is written");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Changes the history of a healthy run.
fn tampered(file: &Path) {
    let text = fs::read_to_string(file).expect("a history");
    let events = objects(&text);
    let readers = events[0]["processes"].as_u64().expect("a number");
    let is_final = |event: &Value| event["process"].as_u64() >= Some(readers);
    // A record that an idempotent producer was told of and that is not the last of its partition.
    let (at, index) = events
        .iter()
        .enumerate()
        .filter(|(_, event)| is_final(event))
        .find_map(|(at, event)| {
            let read = event["answer"]["poll"]["records"].as_array()?;
            let index = read.iter().position(|record| {
                let value = record["value"].as_str().expect("a value");
                value.starts_with("0.") && is_acknowledged(&events, value)
            })?;
            Some((at, index))
        })
        .expect("an acknowledged record");
    let remove = |events: &mut Vec<Value>| {
        records(&mut events[at]).expect("a poll").remove(index);
    };
    is_found_out(&events, "lost-writes", remove);
    let repeat = |events: &mut Vec<Value>| {
        let records = records(&mut events[at]).expect("a poll");
        let mut record = records[index].clone();
        record["offset"] = json!(1_i64 << 40);
        records.push(record);
    };
    is_found_out(&events, "duplicates", repeat);

    let cut = file.with_extension("cut");
    write(&cut, &events[..events.len() / 2]);
    assert!(fails(&judge(&cut, ""), 1).contains("cut off"));
    fs::write(&cut, &text[..text.len() / 2]).expect("a file");
    assert!(fails(&judge(&cut, ""), 1).contains("cut off"));
    fs::write(&cut, "nothing of the kind\n").expect("a file");
    assert!(fails(&judge(&cut, ""), 1).contains("line 1"));
    assert!(fails(&judge(&file.with_extension("none"), ""), 74).contains("none"));
}

fn is_acknowledged(events: &[Value], value: &str) -> bool {
    let is_of = |event: &&Value| {
        let values = event["call"]["send"]["values"].as_array();
        values.is_some_and(|values| values.iter().any(|it| it == value))
    };
    let op = events.iter().find(is_of).map(|event| &event["op"]);
    let mut ends = events.iter().filter(|event| event["type"] == "ok");
    op.is_some_and(|op| ends.any(|event| event["op"] == *op))
}

/// The checker proves itself: a broker that forgets what it had acknowledged has to be found out.
#[test]
fn a_broker_that_forgets_is_found_out() {
    let mut shell = Shell::new();
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("history");
    let line = format!(
        "check run --seconds 6 --seed 36 --history {} --json",
        file.display()
    );
    let mut running = Running(shell.start(&line));
    wait_for_begin(&file);
    thread::sleep(Duration::from_millis(1_000));
    shell.broker.kill();
    let (data, kept) = (shell.broker.data().to_owned(), home.path().join("data"));
    copy(&data, &kept);
    shell.broker.start_again();
    thread::sleep(Duration::from_millis(1_500));
    shell.broker.kill();
    fs::remove_dir_all(&data).expect("the data directory");
    copy(&kept, &data);
    shell.broker.start_again();
    let finished = running.finish();
    assert!(fails_in_part(&finished, 3).contains("violations found"));
    let report = &objects(&finished.stdout)[0];
    for check in ["lost-writes", "inconsistent-offsets", "watermarks"] {
        assert!(row(report, check).1 > 0, "{check}: {report}");
    }
    assert_eq!(row(report, "owned-twice").1, 0, "{report}");
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "a copy of {from:?}"
    );
}

#[test]
fn a_broker_that_stays_away_is_not_judged() {
    let mut shell = Shell::new();
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("history");
    let line = format!(
        "check run --seconds 2 --processes 2 --timeout 2s --history {}",
        file.display()
    );
    let mut running = Running(shell.start(&line));
    wait_for_begin(&file);
    shell.broker.kill();
    let told = fails(&running.finish(), 1);
    assert!(told.contains("is not well"), "{told}");
    let mut nowhere = program("check run --seconds 1 -b 127.0.0.1:1");
    assert!(fails(&run(&mut nowhere, b"", WITHIN), 1).contains("no broker answers"));
}
