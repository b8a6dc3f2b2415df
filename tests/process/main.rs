//! The program as its operator meets it: exit codes, messages, signals, two brokers in each other's
//! way. Each test runs the real binary on a free port and in a directory of its own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(60);

struct Broker {
    child: Child,
}

/// The program with a directory of its own, one shard and any free port.
fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.env_clear().stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.args(["--override", "listeners=PLAINTEXT://127.0.0.1:0"]);
    command.args(["--override", "millrace.shards=1"]);
    command.arg("--override");
    command.arg(format!("log.dirs={}", data.display()));
    command
}

fn with_override(mut command: Command, pair: &str) -> Command {
    command.args(["--override", pair]);
    command
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn run(mut command: Command) -> Output {
    command.output().expect("the program runs")
}

/// The exit code, and what was logged.
fn told(output: &Output) -> (Option<i32>, String) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), error)
}

/// Whether its thread for signals runs: before that they kill.
fn takes_signals(child: &Child) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id()));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .any(|name| name.trim() == "signals")
}

impl Broker {
    /// Starts it, and waits until its directory is formatted and it takes signals.
    fn start(mut command: Command, data: &Path) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let started = Instant::now();
        while !data.join("meta.properties").exists() || !takes_signals(&child) {
            let ended = child.try_wait().expect("a state");
            assert!(ended.is_none(), "it ended: {ended:?}");
            assert!(started.elapsed() < PATIENCE, "it does not come up");
            thread::sleep(Duration::from_millis(5));
        }
        Self { child }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("a signal");
    }

    fn end(self) -> (Option<i32>, String) {
        told(&self.child.wait_with_output().expect("an end"))
    }

    /// The signals that the process ignores, as a mask.
    fn ignored_signals(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("a status");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        u64::from_str_radix(mask.expect("a mask").trim(), 16).expect("a number")
    }
}

#[test]
fn a_stop_by_either_signal_is_clean() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let data = directory();
        let broker = Broker::start(command(data.path()), data.path());
        let pipe = 1_u64 << (Signal::SIGPIPE as u32 - 1);
        assert_ne!(broker.ignored_signals() & pipe, 0, "SIGPIPE would kill");
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
        let broker = Broker::start(start, data.path());
        broker.signal(Signal::SIGTERM);
        let (code, log) = broker.end();
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
    let first = Broker::start(first, one.path());

    let (code, log) = told(&run(command(one.path())));
    assert_eq!(code, Some(1), "{log}");
    let id = first.child.id();
    assert!(log.contains("is locked by another process"), "{log}");
    assert!(log.contains(&format!("(process {id})")), "{log}");

    // The port is kept a moment after the directory.
    let started = Instant::now();
    let (code, log) = loop {
        let second = with_override(command(two.path()), &listeners);
        let Ok(second) = second_or_taken(second, two.path()) else {
            assert!(started.elapsed() < PATIENCE, "both have the port");
            continue;
        };
        break second;
    };
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains(&format!("the port {port} of 127.0.0.1 is taken")),
        "{log}"
    );

    first.signal(Signal::SIGTERM);
    let (code, log) = first.end();
    assert_eq!(code, Some(0), "{log}");
}

/// Its end if it ends by itself; stops it otherwise.
fn second_or_taken(mut command: Command, data: &Path) -> Result<(Option<i32>, String), ()> {
    let mut child = command.spawn().expect("the program starts");
    let started = Instant::now();
    while child.try_wait().expect("a state").is_none() {
        if started.elapsed() > Duration::from_secs(5) {
            child.kill().expect("a kill");
            child.wait().expect("an end");
            fs::remove_file(data.join("meta.properties")).expect("a formatted directory");
            return Err(());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(told(&child.wait_with_output().expect("an end")))
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
        ("listeners=PLAINTEXT://127.0.0.1:99999", "name://host:port"),
        ("log.dirs=/a,/b", "several data directories"),
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
    assert!(
        log.contains("formatted by Apache Kafka") && log.contains("import"),
        "{log}"
    );
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
        .env("MILLRACE_NO_SUCH", "1");
    command.args(["start", "--log-format", "json", "--config"]);
    command.arg(kafka_file(above.path()));
    let broker = Broker::start(command, &data);
    broker.signal(Signal::SIGTERM);
    let (code, log) = broker.end();
    assert_eq!(code, Some(0), "{log}");
    let meta = fs::read_to_string(data.join("meta.properties")).expect("a file");
    assert!(meta.contains("node.id=7\n"), "{meta}");
    let warning = "unknown settings are ignored: log.retention.hour (did you mean \
                   log.retention.hours?), zookeeper.connect, MILLRACE_NO_SUCH";
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

#[test]
fn a_wrong_log_filter_is_told() {
    let data = directory();
    let mut filtered = command(data.path());
    filtered.env("MILLRACE_LOG", "=loud=");
    let (code, log) = told(&run(filtered));
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("MILLRACE_LOG==loud="), "{log}");
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
fn limits_that_are_too_low_are_told_with_what_to_raise() {
    for (limit, expected) in [
        ("--nofile=100:100", "the limit of open files is 100"),
        (
            "--memlock=65536:65536",
            "the limit of locked memory (65536 bytes) is too low",
        ),
    ] {
        let data = directory();
        let (code, log) = told(&run(below(&["/usr/bin/prlimit", limit], data.path())));
        assert_eq!(code, Some(78), "{limit}: {log}");
        assert!(log.contains(expected), "{limit}: {log}");
        let entries = fs::read_dir(data.path()).expect("a directory").count();
        assert_eq!(entries, 0, "{limit}: something was left behind");
    }
}

#[test]
fn a_low_soft_limit_of_open_files_is_raised_with_a_warning() {
    let data = directory();
    let start = below(&["/usr/bin/prlimit", "--nofile=300:4000"], data.path());
    let broker = Broker::start(start, data.path());
    broker.signal(Signal::SIGTERM);
    let (code, log) = broker.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("only 4000 files may be open"), "{log}");
}
