//! A crowd of connections, half of them hostile, and a producer and a consumer among them who must
//! notice nothing: of what they send and get, of the time that it takes, and of the broker's memory
//! and descriptors.
//!
//! The crowd's processes are this test program once more. [`crowd`] has the kinds of connections,
//! [`normal`] the producer and the consumer.

mod crowd;
mod normal;

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kacrab_protocol::generated::ApiKey;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

use super::program::{Broker, PATIENCE, command, with_override};
use super::support::topics::create_on;
use super::support::wire::Wire;
use super::support::{batches, data_home, requests};

use crowd::{Crowd, Kind, LARGE, SHARED, Tally};
use normal::{Normal, Times, p99};

/// Names a part of the crowd to the process that is to be it: port, first number, the one behind
/// the last, and `connections.max.idle.ms`.
const PART: &str = "MILLRACE_CROWD_PART";
/// What it says once everybody has connected, and before its figures.
const READY: &str = "the crowd is there";
const FIGURES: &str = "the crowd's figures:";
/// A part ends then, whatever becomes of the test.
const PART_MAX: Duration = Duration::from_secs(3600);

/// Other work on the machine may spoil the times of a round. What the crowd does to them it does in
/// each, so one of these must be good.
const ROUNDS_MAX: usize = 3;

const MIB: u64 = 1 << 20;
/// The data take less than this.
const DATA_BYTES_MAX: u64 = 1 << 30;

/// How large the crowd is, and what is allowed.
#[derive(Debug)]
struct Plan {
    connections: usize,
    processes: usize,
    shards: usize,
    /// Seconds without the crowd, before and after it, and with it.
    idle_seconds: u64,
    crowd_seconds: u64,
    idle_ms_max: u64,
    memory_bytes: u64,
    /// A time that a machine may need at any time, in microseconds.
    floor_micros: u64,
}

impl Plan {
    fn command(&self, data: &Path) -> Command {
        let settings = [
            format!("millrace.shards={}", self.shards),
            format!("millrace.memory.bytes={}", self.memory_bytes),
            format!("connections.max.idle.ms={}", self.idle_ms_max),
        ];
        let settings = settings.iter().map(String::as_str);
        settings.fold(command(data), with_override)
    }
}

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    /// Without the crowd; beside it; and meanwhile, of a broker that has no crowd.
    idle: Times,
    beside: Times,
    elsewhere: Times,
    memory_bytes_max: u64,
    before: Descriptors,
    most: Descriptors,
    after: Descriptors,
    tallies: BTreeMap<Kind, Tally>,
}

impl Plan {
    /// Whether the times beside the crowd are about those without it. What other work the machine
    /// has makes all of them longer.
    fn is_within(&self, idle: &[u64], beside: &[u64], elsewhere: &[u64]) -> bool {
        let without = p99(idle).max(p99(elsewhere));
        p99(beside) <= 3 * without.max(self.floor_micros)
    }
}

impl Seen {
    fn is_as_fast(&self, plan: &Plan) -> bool {
        let Self {
            idle,
            beside,
            elsewhere,
            ..
        } = self;
        plan.is_within(&idle.produce, &beside.produce, &elsewhere.produce)
            && plan.is_within(&idle.consume, &beside.consume, &elsewhere.consume)
    }

    /// What is wrong with it, beside the times.
    fn faults(&self, plan: &Plan) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                faults.push(what.to_owned());
            }
        };
        expect(
            self.memory_bytes_max <= plan.memory_bytes,
            "more memory than allowed",
        );
        expect(
            self.after.have_returned_to(self.before),
            "descriptors are left open",
        );
        for (kind, tally) in &self.tallies {
            let name = |what: &str| format!("{kind:?}: {what}");
            if kind.is_hostile() {
                let is_evicted = tally.evicted > 0 || *kind == Kind::Storms;
                expect(is_evicted, &name("none was evicted"));
            } else {
                expect(tally.evicted == 0, &name("a good client was closed"));
                expect(tally.answered > 0, &name("no good client was answered"));
            }
        }
        expect(
            self.tallies.len() == Kind::all().count(),
            "a kind is missing",
        );
        faults
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "what                                  idle      beside   elsewhere"
        )?;
        let [idle, beside, elsewhere] = [&self.idle, &self.beside, &self.elsewhere];
        let rows = [
            (
                "produce",
                [&idle.produce, &beside.produce, &elsewhere.produce],
            ),
            (
                "consume",
                [&idle.consume, &beside.consume, &elsewhere.consume],
            ),
        ];
        for (name, times) in rows {
            let counts = times.map(Vec::len);
            let [idle, beside, elsewhere] = times.map(|times| p99(times) as f64 / 1e3);
            writeln!(
                f,
                "{name} p99, ms              {idle:13.3} {beside:11.3} {elsewhere:11.3}"
            )?;
            let [idle, beside, elsewhere] = counts;
            writeln!(
                f,
                "{name} records              {idle:13} {beside:11} {elsewhere:11}"
            )?;
        }
        let memory = self.memory_bytes_max as f64 / MIB as f64;
        writeln!(
            f,
            "memory of the broker, most, MiB              {memory:9.1}"
        )?;
        for (when, descriptors) in [
            ("before", self.before),
            ("most", self.most),
            ("after", self.after),
        ] {
            let Descriptors { all, sockets } = descriptors;
            writeln!(
                f,
                "descriptors {when:6}, of them sockets {all:13} {sockets:11}"
            )?;
        }
        writeln!(
            f,
            "kind          members   opened  evicted   lapsed  refused answered     late"
        )?;
        for (kind, tally) in &self.tallies {
            let kind = format!("{kind:?}");
            write!(f, "{kind:12}")?;
            for count in tally.counts() {
                write!(f, " {count:8}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A part of the crowd, in a process of its own. It ends when its standard input does.
struct Part {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<std::process::ChildStdout>,
}

impl Part {
    /// Its processes give way to the broker: they stand for other machines.
    fn start(plan: &Plan, port: u16, numbers: std::ops::Range<usize>) -> Self {
        let (from, to, idle_ms_max) = (numbers.start, numbers.end, plan.idle_ms_max);
        let mut child = Command::new("nice")
            .args(["-n", "10"])
            .arg(env::current_exe().expect("this test program"))
            .args(["--exact", "hostile::a_part_of_the_crowd"])
            .args(["--ignored", "--nocapture"])
            .env(PART, format!("{port} {from} {to} {idle_ms_max}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test program starts");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("a pipe");
        Self {
            child,
            stdin,
            lines: BufReader::new(stdout),
        }
    }

    fn wait_until_ready(&mut self) {
        let mut line = String::new();
        while !line.contains(READY) {
            line.clear();
            let count = self.lines.read_line(&mut line).expect("a pipe");
            assert!(count > 0, "a part of the crowd has ended");
        }
    }

    /// Has it end, and gives its figures.
    fn end(mut self) -> Vec<(Kind, Tally)> {
        drop(self.stdin.take());
        let mut said = String::new();
        self.lines.read_to_string(&mut said).expect("a pipe");
        let status = self.child.wait().expect("an end");
        assert!(status.success(), "a part of the crowd: {said}");
        let figures = said.split_once(FIGURES).expect("its figures").1;
        figures.lines().filter_map(Tally::parse).collect()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Its end, if it has not come to one: the pipe is closed behind this.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The processes of the crowd start this.
#[test]
#[ignore = "a part of the crowd, which the tests start"]
fn a_part_of_the_crowd() {
    let Ok(part) = env::var(PART) else {
        return;
    };
    let numbers: Vec<usize> = part
        .split(' ')
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [port, from, to, idle_ms_max] = numbers[..] else {
        panic!("four numbers: {part}");
    };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the highest limit");
    let is_over = Arc::new(AtomicBool::new(false));
    let told = is_over.clone();
    thread::spawn(move || {
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    let began = Instant::now();
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    let idle_max = Duration::from_millis(idle_ms_max as u64);
    let mut crowd = Crowd::new(address, from..to, idle_max);
    let is_over = || is_over.load(Ordering::Relaxed) || began.elapsed() > PART_MAX;
    crowd.run(is_over, || println!("{READY}"));
    println!("{FIGURES}\n{crowd}");
}

/// What `/proc` says of the broker's memory: the most that was ever resident.
fn memory_bytes_max(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.expect("the most").trim().strip_suffix(" kB");
    let kilobytes: u64 = kilobytes.expect("a unit").parse().expect("a number");
    kilobytes << 10
}

/// The broker's open descriptors.
#[derive(Clone, Copy, Debug, Default)]
struct Descriptors {
    all: usize,
    sockets: usize,
}

impl Descriptors {
    /// Logs may have opened a file or two more meanwhile.
    const FILES: usize = 16;

    fn of(id: u32) -> Self {
        let mut seen = Self::default();
        for entry in fs::read_dir(format!("/proc/{id}/fd")).expect("a running broker") {
            // It may be closed since it was listed.
            let Some(target) = entry
                .ok()
                .and_then(|entry| fs::read_link(entry.path()).ok())
            else {
                continue;
            };
            seen.all += 1;
            seen.sockets += usize::from(target.to_string_lossy().starts_with("socket:"));
        }
        seen
    }

    fn have_returned_to(self, before: Self) -> bool {
        self.sockets <= before.sockets && self.all <= before.all + Self::FILES
    }
}

fn prepare(port: u16) {
    let mut wire = Wire::connect(port);
    for topic in [LARGE, SHARED, normal::TOPIC] {
        create_on(&mut wire, topic, 1, &[]);
    }
    let value = vec![b'v'; 900_000];
    for _ in 0..8 {
        let request = requests::produce(LARGE, 0, -1, &batches::batch(&[&value]));
        let mut answer = wire.call(ApiKey::Produce, 9, |body, v| request.write(body, v));
        assert_eq!(requests::produced(&mut answer, 9).error_code, 0);
    }
}

/// In memory, where that has room: a disk makes others wait for reasons of its own, up to half a
/// second, and longer than a crowd does.
fn home() -> TempDir {
    let memory = Path::new("/dev/shm");
    let free = statvfs(memory).map_or(0, |at| at.blocks_available() * at.fragment_size());
    if env::var_os("MILLRACE_TEST_DATA_DIR").is_some() || free < DATA_BYTES_MAX {
        return data_home("hostile-");
    }
    let prefixed = tempfile::Builder::new()
        .prefix("hostile-")
        .tempdir_in(memory);
    prefixed.expect("a directory in memory")
}

/// A broker, with a producer and a consumer.
struct Side {
    broker: Broker,
    port: u16,
    normal: Normal,
    _data: TempDir,
}

impl Side {
    fn start(plan: &Plan) -> Self {
        let data = home();
        let (broker, ready) = Broker::start(plan.command(data.path()));
        let port = ready.port();
        prepare(port);
        Self {
            broker,
            port,
            normal: Normal::start(port),
            _data: data,
        }
    }

    fn end(self) {
        self.normal.stop();
        let (code, log) = self.broker.stop();
        assert_eq!(code, Some(0), "{log}");
    }
}

fn run(plan: &Plan) -> Seen {
    let side = Side::start(plan);
    let elsewhere = Side::start(plan);
    let id = side.broker.id();
    // The first ones find nothing warm.
    thread::sleep(Duration::from_secs(1));
    side.normal.take();
    thread::sleep(Duration::from_secs(plan.idle_seconds));
    let mut seen = Seen {
        idle: side.normal.take(),
        before: Descriptors::of(id),
        ..Seen::default()
    };

    let share = plan.connections / plan.processes;
    let mut parts: Vec<_> = (0..plan.processes)
        .map(|part| Part::start(plan, side.port, part * share..(part + 1) * share))
        .collect();
    parts.iter_mut().for_each(Part::wait_until_ready);
    side.normal.take();
    elsewhere.normal.take();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(plan.crowd_seconds) {
        let now = Descriptors::of(id);
        if now.all > seen.most.all {
            seen.most = now;
        }
        thread::sleep(Duration::from_millis(500));
    }
    seen.beside = side.normal.take();
    seen.elsewhere = elsewhere.normal.take();
    for (kind, tally) in parts.into_iter().flat_map(Part::end) {
        seen.tallies.entry(kind).or_default().add(&tally);
    }

    let began = Instant::now();
    seen.after = Descriptors::of(id);
    while !seen.after.have_returned_to(seen.before) && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(100));
        seen.after = Descriptors::of(id);
    }
    seen.memory_bytes_max = memory_bytes_max(id);
    side.normal.take();
    thread::sleep(Duration::from_secs(plan.idle_seconds));
    seen.idle.add(side.normal.take());
    side.end();
    elsewhere.end();
    seen
}

fn assert_unnoticed(plan: &Plan) {
    println!("{plan:?}");
    for _ in 0..ROUNDS_MAX {
        let seen = run(plan);
        println!("{seen}");
        let faults = seen.faults(plan);
        assert!(faults.is_empty(), "{faults:?}\n{seen}");
        if seen.is_as_fast(plan) {
            return;
        }
    }
    panic!("the producer or the consumer is slower beside the crowd, {ROUNDS_MAX} times in a row");
}

#[test]
#[ignore = "takes the machine for itself"]
fn a_producer_and_a_consumer_do_not_notice_a_hostile_crowd() {
    assert_unnoticed(&Plan {
        connections: 280,
        processes: 2,
        shards: 1,
        idle_seconds: 2,
        crowd_seconds: 8,
        idle_ms_max: 2500,
        memory_bytes: 128 * MIB,
        // The crowd's own work, and whatever else there is, is done on the same cores.
        floor_micros: 20_000,
    });
}

fn given<T: FromStr>(name: &str, default: T) -> T {
    let Ok(text) = env::var(name) else {
        return default;
    };
    let parsed = text.parse().ok();
    parsed.unwrap_or_else(|| panic!("{name}={text} is no number"))
}

/// `tests/process/crowd` runs it.
#[test]
#[ignore = "takes minutes, and the machine for itself"]
fn at_length() {
    assert_unnoticed(&Plan {
        connections: given("CONNECTIONS", 10_000),
        processes: given("PROCESSES", 8),
        shards: given("SHARDS", 2),
        idle_seconds: given("IDLE_SECONDS", 20),
        crowd_seconds: given("SECONDS", 60),
        idle_ms_max: given("CONNECTIONS_MAX_IDLE_MS", 10_000),
        memory_bytes: given("MEMORY_MIB", 512) * MIB,
        floor_micros: given("FLOOR_MICROS", 2000),
    });
}
