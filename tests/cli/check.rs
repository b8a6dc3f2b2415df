//! `millrace check`: against a broker that is killed and comes back it finds nothing; one that
//! breaks its word on purpose it finds out, and what was changed in a history.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{Running, Shell, fails, fails_in_part, objects, program};
use crate::support::command::{Finished, finish, run};

/// A judgement may take as long.
const WITHIN: Duration = Duration::from_secs(60);

/// A run whose readers wait for what does not come may take as long.
const STUCK_WITHIN: Duration = Duration::from_secs(150);

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

fn write(path: &Path, events: &[Value]) {
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    fs::write(path, lines).expect("a file");
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
    // Nobody need have been a member for long enough to commit by himself.
    let checks = report["checks"].as_array().expect("checks").iter();
    for check in checks.filter(|check| check["check"] != "old-generations") {
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
    let mut events = objects(&fs::read_to_string(file).expect("a history"));
    let readers = events[0]["processes"].as_u64().expect("a number");
    let read = |event: &Value| event["answer"]["poll"]["records"].as_array().map(Vec::len);
    // A reader at the end gets something that nobody has sent.
    let at = events
        .iter()
        .position(|event| event["process"].as_u64() >= Some(readers) && read(event) > Some(0));
    let at = at.expect("a record that is read at the end");
    events[at]["answer"]["poll"]["records"][0]["value"] = json!("of-nobody");
    write(file, &events);
    let told = judge(file, "--json");
    assert!(fails_in_part(&told, 3).contains("violation"));
    let report = &objects(&told.stdout)[0];
    assert_eq!(row(report, "aborted-reads").1, 1, "{report}");
    let table = judge(file, "");
    assert!(fails_in_part(&table, 3).contains("violation"));
    assert!(
        table.stdout.contains("\naborted-reads: "),
        "{}",
        table.stdout
    );

    // Nobody who does not read the output makes it any better.
    let mut bash = Command::new("bash");
    let millrace = env!("CARGO_BIN_EXE_millrace");
    let judged = format!("{millrace} check history {}", file.display());
    let script = format!("set -o pipefail; ( sleep 0.3; {judged} ) | true");
    assert!(fails(&run(bash.arg("-c").arg(script), b"", WITHIN), 3).contains("violation"));

    // A run that did not come to its end: what is there is judged, a half of a line left out.
    write(file, &events[..=at]);
    let cut = judge(file, "--json");
    assert!(fails_in_part(&cut, 3).contains("violation"));
    let report = &objects(&cut.stdout)[0];
    assert_eq!(row(report, "aborted-reads").1, 1, "{report}");
    assert_eq!(row(report, "unseen-writes"), (0, 0), "{report}");
    write(file, &events[..at]);
    let bytes = fs::read(file).expect("a history");
    fs::write(file, &bytes[..bytes.len() - 4]).expect("a file");
    let told = fails_in_part(&judge(file, ""), 1);
    assert!(told.contains("cut off behind line"), "{told}");
    fs::write(file, "nothing of the kind\n").expect("a file");
    assert!(fails(&judge(file, ""), 1).contains("does not begin"));
    assert!(fails(&judge(&file.with_extension("none"), ""), 74).contains("none"));
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
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "a copy of {from:?}"
    );
}

/// One that says that its logs end one record too far: a consumer would wait for ever.
#[test]
fn a_broker_whose_high_watermark_is_too_far_is_found_out() {
    let shell = Shell::faulty("MILLRACE_FAULT_HIGH_WATERMARK_AHEAD", &[]);
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("history");
    let line = format!(
        "check run --seconds 2 --processes 2 --partitions 2 --seed 36 --history {} --json",
        file.display()
    );
    let mut running = Running(shell.start(&line));
    let finished = finish(&mut running.0, "check run", STUCK_WITHIN);
    assert!(fails_in_part(&finished, 3).contains("violations found"));
    let report = &objects(&finished.stdout)[0];
    for check in ["ends-reached", "appends"] {
        assert!(row(report, check).1 > 0, "{check}: {report}");
    }
    assert_eq!(row(report, "lost-writes").1, 0, "{report}");
}

/// A proxy that takes requests to a broker and loses its answers: every connection ends so, until
/// there have been enough.
struct LossyProxy {
    port: u16,
    broker: Arc<AtomicU16>,
}

impl LossyProxy {
    const LOSSES: u16 = 60;
    const LOSES_AFTER: Duration = Duration::from_millis(200);
    const LOSES_FOR: Duration = Duration::from_millis(60);

    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let broker = Arc::new(AtomicU16::new(0));
        let target = Arc::clone(&broker);
        thread::spawn(move || {
            for (count, client) in (0..).zip(listener.incoming().map_while(Result::ok)) {
                let to = ("127.0.0.1", target.load(Ordering::Relaxed));
                let Ok(broker) = TcpStream::connect(to) else {
                    continue;
                };
                let clone = |stream: &TcpStream| stream.try_clone().expect("a handle");
                let (mut from, mut into) = (clone(&client), clone(&broker));
                thread::spawn(move || io::copy(&mut from, &mut into));
                thread::spawn(move || answer(&client, &broker, count < Self::LOSSES));
            }
        });
        Self { port, broker }
    }
}

/// Hands answers over; one that loses loses all of the last ones and then the connection.
fn answer(mut client: &TcpStream, mut broker: &TcpStream, is_lossy: bool) {
    let began = Instant::now();
    let mut bytes = [0; 64 << 10];
    let set = broker.set_read_timeout(Some(Duration::from_millis(20)));
    set.expect("a timeout");
    let ends_after = LossyProxy::LOSES_AFTER + LossyProxy::LOSES_FOR;
    while !is_lossy || began.elapsed() < ends_after {
        let read = match broker.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        let is_lost = is_lossy && began.elapsed() > LossyProxy::LOSES_AFTER;
        if !is_lost && client.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = (
        client.shutdown(Shutdown::Both),
        broker.shutdown(Shutdown::Both),
    );
}

/// A run through the proxy against a broker that takes a batch again, or not.
fn run_with_lost_answers(deduplicates: bool) -> Value {
    let proxy = LossyProxy::start();
    let advertised = format!("PLAINTEXT://127.0.0.1:{}", proxy.port);
    let settings = [("advertised.listeners", &*advertised)];
    let shell = match deduplicates {
        true => Shell::with(&settings),
        false => Shell::faulty("MILLRACE_FAULT_SKIP_DEDUPLICATION", &settings),
    };
    proxy.broker.store(shell.broker.port(), Ordering::Relaxed);
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("history");
    let line = format!(
        "check run --seconds 4 --seed 36 --history {} --json",
        file.display()
    );
    let finished = Running(shell.start(&line)).finish();
    let code = if deduplicates { 0 } else { 3 };
    assert_eq!(finished.status.code(), Some(code), "{}", finished.stdout);
    objects(&finished.stdout).remove(0)
}

#[test]
fn a_broker_that_writes_twice_is_found_out() {
    let report = run_with_lost_answers(false);
    assert!(row(&report, "duplicates").1 > 0, "{report}");
}

#[test]
fn a_broker_whose_answers_are_lost_keeps_its_word() {
    let report = run_with_lost_answers(true);
    assert!(row(&report, "duplicates").0 > 100, "{report}");
    assert!(
        report["operations"]["commit"]["ok"].as_u64() > Some(0),
        "{report}"
    );
}

#[test]
fn of_a_broker_that_stays_away_only_what_was_before_is_judged() {
    let mut shell = Shell::new();
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("history");
    let line = format!(
        "check run --seconds 2 --processes 2 --timeout 2s --history {} --json",
        file.display()
    );
    let mut running = Running(shell.start(&line));
    wait_for_begin(&file);
    thread::sleep(Duration::from_millis(1_000));
    shell.broker.kill();
    let finished = running.finish();
    let told = fails_in_part(&finished, 1);
    assert!(told.contains("is not well"), "{told}");
    let report = &objects(&finished.stdout)[0];
    assert!(row(report, "inconsistent-offsets").0 > 0, "{report}");
    for check in ["unseen-writes", "ends-reached", "liveness"] {
        assert_eq!(row(report, check), (0, 0), "{check}: {report}");
    }
    // The history is whole, and says the same.
    let again = judge(&file, "--json");
    assert!(fails_in_part(&again, 1).contains("is not well"));
    assert_eq!(&objects(&again.stdout)[0], report);
    let mut nowhere = program("check run --seconds 1 -b 127.0.0.1:1");
    assert!(fails(&run(&mut nowhere, b"", WITHIN), 1).contains("no broker answers"));
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is() {
    let shell = Shell::new();
    let told = fails(&shell.run("check run -X security.protocol=SASL_SSL"), 78);
    assert!(told.contains("without TLS"), "{told}");
    let told = fails(&shell.run("check run --progress-within 5s"), 2);
    assert!(told.contains("the least"), "{told}");
    assert_eq!(shell.ok("topics list --json"), "");

    // A run that looked at nothing, if it was to look at everything.
    let file = tempfile::NamedTempFile::new().expect("a file");
    let setup = json!({
        "at": 1, "process": 0, "type": "run", "topic": "t", "partitions": 1, "processes": 1,
        "seed": 1, "progress_within_ms": 1
    });
    write(
        file.path(),
        &[setup, json!({"at": 2, "process": 0, "type": "end"})],
    );
    let table = judge(file.path(), "").success("check history");
    assert!(table.contains("Nothing to look at: "), "{table}");
    let told = fails_in_part(&judge(file.path(), "--require-all"), 1);
    assert!(told.contains("nothing to look at for "), "{told}");
}
