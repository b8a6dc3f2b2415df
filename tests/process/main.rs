//! The program as its operator meets it: exit codes, messages, signals, two brokers in each other's
//! way. Each test runs the real binary on a free port and in a directory of its own.

#[allow(
    dead_code,
    reason = "each test program uses its own part of the support"
)]
#[path = "../support/mod.rs"]
mod support;

mod deletion;
mod directories;
mod events;
mod exits;
mod flips;
mod full_disk;
mod hostile;
mod logs;
mod program;
mod scrub;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use support::wire::Wire;

use program::{Broker, assert_answers, command, directory, run, told, with_override};

/// The signals that a process ignores, as a mask.
fn ignored_signals(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("a status");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    u64::from_str_radix(mask.expect("a mask").trim(), 16).expect("a number")
}

#[test]
fn the_ready_line_tells_where_it_serves() {
    let data = directory();
    let start = with_override(command(data.path()), "millrace.shards=2");
    let (broker, ready) = Broker::start(start);
    let address = format!("127.0.0.1:{}", ready.port());
    assert_eq!(ready.listeners, address);
    assert_eq!(ready.shards, "2");
    assert_eq!(ready.data, data.path().display().to_string());
    assert!(ready.milliseconds < 60_000, "{ready:?}");
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches(" ready ").count(), 1, "{log}");
}

#[test]
fn a_stop_by_either_signal_is_clean() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let data = directory();
        let (broker, _) = Broker::start(command(data.path()));
        let pipe = 1_u64 << (Signal::SIGPIPE as u32 - 1);
        assert_ne!(ignored_signals(broker.id()) & pipe, 0, "SIGPIPE would kill");
        broker.signal(signal);
        let (code, log) = broker.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains(&format!("{signal}: stopping")), "{log}");
        assert!(log.contains("stopped cleanly"), "{log}");
    }
}

#[test]
fn a_directory_serves_again_after_a_stop_with_other_shards() {
    let data = directory();
    let read = || fs::read_to_string(data.path().join("meta.properties")).expect("a file");
    let mut seen = None;
    for shards in ["1", "3", "2"] {
        let start = with_override(command(data.path()), &format!("millrace.shards={shards}"));
        let (broker, ready) = Broker::start(start);
        assert_eq!(ready.shards, shards);
        let (code, log) = broker.stop();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(*seen.get_or_insert_with(read), read());
    }
}

#[test]
fn one_directory_and_one_port_are_one_brokers() {
    let (one, two) = (directory(), directory());
    let port = {
        let probe = TcpListener::bind("127.0.0.1:0").expect("a port");
        probe.local_addr().expect("an address").port()
    };
    let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{port}");
    let first = with_override(command(one.path()), &listeners);
    let (first, ready) = Broker::start(first);
    assert_eq!(ready.port(), port);

    let (code, log) = told(&run(command(one.path())));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("is locked by another process"), "{log}");
    assert!(log.contains(&format!("(process {})", first.id())), "{log}");

    let second = with_override(command(two.path()), &listeners);
    let (code, log) = told(&run(second));
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains(&format!("the port {port} of 127.0.0.1 is taken")),
        "{log}"
    );
    let left = fs::read_dir(two.path()).expect("a directory").count();
    assert_eq!(left, 0, "the start that failed left something behind");

    assert_answers(port);
    let (code, log) = first.stop();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn what_is_wrong_is_told_with_its_code() {
    let table = [
        (
            "num.partitions=zero",
            "num.partitions=zero (from --override)",
        ),
        ("num.partitions=0", "Allowed: a 32-bit integer, at least 1"),
        ("listeners=SSL://:9093", "only PLAINTEXT is served so far"),
        (
            "listeners=PLAINTEXT://127.0.0.1:99999",
            "the port must be from 0 to 65535",
        ),
        (
            "listeners=PLAINTEXT://0.0.0.0:0",
            "listeners=PLAINTEXT://0.0.0.0:0 (from --override)",
        ),
        ("millrace.flsh=always", "did you mean millrace.flush?"),
        ("millrace.memory.bytes=512M", "in bytes, at least 67108864"),
        ("log.dirs=/a,/a", "must not be duplicated"),
        ("authorizer.class.name=A", "no authorization yet"),
        ("controller.quorum.voters=1@a:1,2@b:1", "runs alone so far"),
        ("millrace.memory.bytes=1", "at least 67108864"),
        ("millrace.flush=later", "always, acks, never"),
    ];
    for (pair, expected) in table {
        let data = directory();
        let (code, log) = told(&run(with_override(command(data.path()), pair)));
        assert_eq!(code, Some(78), "{pair}: {log}");
        let error = log
            .lines()
            .find(|line| line.contains("ERROR"))
            .unwrap_or(&log);
        assert!(error.contains(expected), "{pair}: {error}");
        let entries = fs::read_dir(data.path()).expect("a directory").count();
        assert_eq!(entries, 0, "{pair}: something was left behind");
    }
}

#[test]
fn a_node_id_that_leaves_no_room_for_those_of_its_shards_is_refused() {
    let data = directory();
    let start = with_override(command(data.path()), "millrace.advertise.shards=true");
    let (code, log) = told(&run(with_override(start, "node.id=1000")));
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("node.id=1000 is too high"), "{log}");
    assert_eq!(fs::read_dir(data.path()).expect("a directory").count(), 0);
}

#[test]
fn a_request_bound_that_memory_cannot_hold_is_refused_and_the_default_gives_way() {
    let bound = "socket.request.max.bytes";
    let small = |data: &Path| with_override(command(data), "millrace.memory.bytes=67108864");
    let data = directory();
    let larger = with_override(small(data.path()), &format!("{bound}=20000000"));
    let (code, log) = told(&run(larger));
    assert_eq!(code, Some(78), "{log}");
    for named in [bound, "=20000000", "millrace.memory.bytes=67108864"] {
        assert!(log.contains(named), "{named}: {log}");
    }
    assert_eq!(fs::read_dir(data.path()).expect("a directory").count(), 0);

    // The advice holds: with what it says, the same bound is taken.
    let advised = log.rsplit_once("at least ").expect("advice").1;
    let advised = advised.split(|c: char| !c.is_ascii_digit()).next();
    let pair = format!("millrace.memory.bytes={}", advised.expect("a number"));
    let enough = with_override(command(data.path()), &pair);
    let (broker, _) = Broker::start(with_override(enough, &format!("{bound}=20000000")));
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");

    for given in [None, Some("socket.request.max.bytes=104857600")] {
        let data = directory();
        let mut start = small(data.path());
        if let Some(pair) = given {
            start = with_override(start, pair);
        }
        let (broker, ready) = Broker::start(start);
        let mut wire = Wire::connect(ready.port());
        wire.send(&20_000_000_i32.to_be_bytes());
        wire.send(&[0, 0, 0, 9]);
        assert!(wire.receive().is_none(), "a frame without room");
        assert_answers(ready.port());
        let (code, log) = broker.stop();
        assert_eq!(code, Some(0), "{log}");
        let told = format!("instead of {bound}=104857600");
        assert_eq!(log.matches(&told).count(), 1, "{log}");
    }
}

#[test]
fn a_closed_log_does_not_end_the_broker() {
    let data = directory();
    let (mut broker, ready) = Broker::start_and_close_its_log(command(data.path()));
    for _ in 0..3 {
        // It makes the broker log a line, which nobody can read any more.
        let mut wire = Wire::connect(ready.port());
        wire.send(&(-1_i32).to_be_bytes());
        assert!(wire.receive().is_none(), "a negative length");
        assert!(broker.is_running());
        assert_answers(ready.port());
    }
    let (code, _) = broker.stop();
    assert_eq!(code, Some(0));
}

#[test]
fn the_command_line_is_a_usage_error_of_its_own() {
    for (arguments, code) in [
        (&["--no-such"][..], 2),
        (&["start", "--override", "novalue"], 2),
        (&["--version"], 0),
        (&["--help"], 0),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        let output = command.args(arguments).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn a_directory_of_kafkas_is_refused_untouched() {
    let data = directory();
    let meta = data.path().join("meta.properties");
    let text = "version=1\ncluster.id=x\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n";
    fs::write(&meta, text).expect("a file");
    let (code, log) = told(&run(command(data.path())));
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("formatted by Apache Kafka"), "{log}");
    assert_eq!(fs::read_dir(data.path()).expect("a directory").count(), 1);
}

#[test]
fn a_file_in_place_of_the_directory_is_an_io_error() {
    let above = directory();
    let file = above.path().join("file");
    fs::write(&file, "").expect("a file");
    let (code, log) = told(&run(command(&file.join("data"))));
    assert_eq!(code, Some(74), "{log}");
}

#[test]
fn a_configuration_file_that_cannot_be_read_is_told() {
    let data = directory();
    let mut missing = command(data.path());
    missing.args(["--config", "/no/such/server.properties"]);
    let (code, log) = told(&run(missing));
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("/no/such/server.properties"), "{log}");
}

/// A single node's file of a Kafka installation, on free ports.
fn kafka_file(above: &Path) -> PathBuf {
    let file = above.join("server.properties");
    let text = "\
process.roles=broker,controller\nnode.id=7\ncontroller.quorum.bootstrap.servers=localhost:9093\n\
listeners=PLAINTEXT://:0,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
advertised.listeners=PLAINTEXT://localhost:0,CONTROLLER://localhost:9093\n\
controller.listener.names=CONTROLLER\n\
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\n\
num.network.threads=3\nnum.io.threads=8\nsocket.request.max.bytes=104857600\n\
num.partitions=1\noffsets.topic.replication.factor=1\nlog.retention.hours=168\n\
log.segment.bytes=1073741824\nzookeeper.connect=localhost:2181\nlog.retention.hour=1\n";
    fs::write(&file, text).expect("a file");
    file
}

#[test]
fn a_file_of_a_kafka_installation_serves_with_a_directory_of_its_own() {
    let above = directory();
    let data = above.path().join("data");
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command
        .env_clear()
        .stderr(Stdio::piped())
        .stdin(Stdio::null());
    command.env("MILLRACE_LOG_DIRS", &data);
    command
        .env("MILLRACE_SHARDS", "1")
        .env("MILLRACE_NO_SUCH", "1")
        .env("MILLRACE_NODE_IDS", "1");
    command.args(["start", "--log-format", "json", "--config"]);
    command.arg(kafka_file(above.path()));
    let (broker, _) = Broker::start(command);
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    let meta = fs::read_to_string(data.join("meta.properties")).expect("a file");
    assert!(meta.contains("node.id=7\n"), "{meta}");
    let warning = "unknown settings are ignored: log.retention.hour (did you mean \
                   log.retention.hours?), zookeeper.connect, MILLRACE_NODE_IDS (did you mean \
                   MILLRACE_NODE_ID?), MILLRACE_NO_SUCH";
    assert!(log.contains(warning), "{log}");
    assert!(
        log.contains("without effect in Millrace: num.io.threads"),
        "{log}"
    );
    for line in log.lines() {
        let is_event = line.starts_with("{\"timestamp\":\"") && line.ends_with('}');
        assert!(is_event && line.contains("Z\",\"level\":"), "{line}");
    }
}

/// Runs the program below one of util-linux's tools, which set limits for what they start.
fn below(tool: &[&str], data: &Path) -> Command {
    let program = command(data);
    let mut command = Command::new(tool[0]);
    command.env_clear().stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.args(&tool[1..]).arg(program.get_program());
    command.args(program.get_args());
    command
}

#[test]
fn a_limit_of_open_files_that_is_too_low_is_told() {
    let data = directory();
    let low = ["/usr/bin/prlimit", "--nofile=100:100"];
    let (code, log) = told(&run(below(&low, data.path())));
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("the limit of open files is 100"), "{log}");
    let entries = fs::read_dir(data.path()).expect("a directory").count();
    assert_eq!(entries, 0, "something was left behind");
}

#[test]
fn no_memory_needs_to_be_locked() {
    let data = directory();
    let (broker, _) = Broker::start(below(&["/usr/bin/prlimit", "--memlock=0:0"], data.path()));
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn more_shards_than_cores_are_told_in_words() {
    let data = directory();
    let start = with_override(command(data.path()), "millrace.shards=24");
    // A quarter of the memory of a small machine is less than so many shards take.
    let start = with_override(start, "millrace.memory.bytes=805306368");
    let (broker, ready) = Broker::start(start);
    assert_eq!(ready.shards, "24");
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert_eq!(
        log.contains("millrace.shards=24 is more than the"),
        cores < 24,
        "{log}"
    );
}

#[test]
fn a_low_soft_limit_of_open_files_is_raised_with_a_warning() {
    let data = directory();
    let start = below(&["/usr/bin/prlimit", "--nofile=300:4000"], data.path());
    let (broker, _) = Broker::start(start);
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("only 4000 files may be open"), "{log}");
}
