//! A broker of a test's own: a child process whose port and data directory nobody else uses.
//!
//! It only ever signals the child it started. With `MILLRACE_TEST_PEER=kafka` the child is Apache
//! Kafka, formatted and started from its jars with the same settings.

use std::fs::{self, File, OpenOptions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{command, data_home, java, wire};

/// The shards of each broker.
const SHARDS: u16 = 2;

/// How long a broker may take until it serves; Kafka's JVM on a busy machine needs most of it.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// How long a clean stop may take.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// Which program serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The program under test.
    Millrace,
    /// Apache Kafka, to prove that an expectation is Kafka's own behaviour.
    Kafka,
}

impl Peer {
    pub fn chosen() -> Self {
        match std::env::var("MILLRACE_TEST_PEER").as_deref() {
            Ok("kafka") => Self::Kafka,
            Ok("millrace") | Err(_) => Self::Millrace,
            Ok(other) => panic!("MILLRACE_TEST_PEER is {other}: it may be millrace or kafka"),
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Millrace => "millrace",
            Self::Kafka => "kafka",
        })
    }
}

/// A running or stopped broker with its data. Dropped, it is killed and its data removed.
pub struct Broker {
    peer: Peer,
    port: u16,
    settings: Vec<(String, String)>,
    /// Set in the child's environment on top of this process's.
    environment: Vec<(&'static str, &'static str)>,
    /// The data directory stands in it, and what the broker logs; gone with the last owner.
    home: TempDir,
    data: PathBuf,
    child: Option<Child>,
}

impl Broker {
    /// Starts with the defaults and two shards; returns when it accepts connections.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts with `settings` under Kafka's keys on top of the defaults.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_on(Peer::chosen(), None, settings, &[])
    }

    /// As [`Broker::start_with`], whatever `MILLRACE_TEST_PEER` says.
    pub fn start_peer(peer: Peer, settings: &[(&str, &str)]) -> Self {
        Self::start_on(peer, None, settings, &[])
    }

    /// Starts with its data under `data`, a directory on a file system of the test's own.
    pub fn start_at(data: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_on(Peer::chosen(), Some(data), settings, &[])
    }

    /// As [`Broker::start_at`], with the switch on that leaves every synchronization out. Only a
    /// build for tests has it.
    pub fn start_without_sync_at(data: &Path, settings: &[(&str, &str)]) -> Self {
        let skip_sync = [("MILLRACE_FAULT_SKIP_SYNC", "1")];
        Self::start_on(Peer::chosen(), Some(data), settings, &skip_sync)
    }

    /// Starts Millrace with a promise broken on purpose: the switch that does it is on. Only a
    /// build for tests has it.
    pub fn start_faulty(switch: &'static str, settings: &[(&str, &str)]) -> Self {
        Self::start_on(Peer::Millrace, None, settings, &[(switch, "1")])
    }

    fn start_on(
        peer: Peer,
        data: Option<&Path>,
        settings: &[(&str, &str)],
        environment: &[(&'static str, &'static str)],
    ) -> Self {
        let home = data_home("broker-");
        let data = data.map_or_else(|| home.path().join("data"), Path::to_path_buf);
        let mut broker = Self {
            peer,
            // One a shard, where shards are advertised.
            port: free_ports(SHARDS),
            settings: owned(settings),
            environment: environment.to_vec(),
            home,
            data,
            child: None,
        };
        if broker.peer == Peer::Kafka {
            broker.format_kafka();
        }
        broker.start_again();
        broker
    }

    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// `host:port`, as clients take it.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory that holds `<topic>-<partition>` directories.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The process id of the running broker.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running broker").id()
    }

    /// Everything that the broker has written to its standard output and error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts on the same port with the same data; the broker must not be running.
    pub fn start_again(&mut self) {
        self.launch();
        self.wait_until_ready();
    }

    /// As [`Broker::start_again`], but returns before the broker is ready.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the broker runs already");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a writable log file");
        let mut command = match self.peer {
            Peer::Millrace => self.millrace_command(),
            Peer::Kafka => self.kafka_command("kafka.Kafka"),
        };
        let child = command
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log file"))
            .stderr(log)
            .spawn()
            .expect("the broker's program");
        self.child = Some(child);
    }

    /// SIGKILL: what was not written is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running broker");
        child.kill().expect("a child of this process");
        let status = child.wait().expect("a killed child");
        assert_eq!(
            status.signal(),
            Some(Signal::SIGKILL as i32),
            "the broker had ended by itself with {status}:\n{}",
            self.log()
        );
        // The kernel takes the rings of a killed process down, and with them its sockets, only
        // after it has told of the end: who connected now would meet nobody.
        let end = Instant::now() + STOPPED_WITHIN;
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            assert!(Instant::now() < end, "the port of a killed broker is taken");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the broker if it has not ended by itself.
    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of this process");
            child.wait().expect("a killed child");
        }
    }

    /// SIGTERM, and the exit code of a clean stop within the deadline.
    pub fn stop(&mut self) {
        let status = self.terminate();
        // A JVM that SIGTERM ends exits with 128 + 15 after its clean stop.
        let clean = match self.peer {
            Peer::Millrace => status.code() == Some(0),
            Peer::Kafka => status.code() == Some(143),
        };
        assert!(clean, "the broker stopped with {status}:\n{}", self.log());
    }

    /// SIGTERM, and whatever exit status follows within the deadline.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running broker");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        kill(pid, Signal::SIGTERM).expect("a child of this process");
        command::wait(&mut child, STOPPED_WITHIN)
            .unwrap_or_else(|| panic!("no clean stop within {STOPPED_WITHIN:?}:\n{}", self.log()))
    }

    /// The exit status if the broker has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("a started broker");
        child.try_wait().expect("a child of this process")
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("broker.log")
    }

    fn wait_until_ready(&mut self) {
        let end = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = self.ended() {
                panic!("the broker ended with {status}:\n{}", self.log());
            }
            if self.is_ready() {
                return;
            }
            assert!(
                Instant::now() < end,
                "the broker does not serve after {READY_WITHIN:?}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&self) -> bool {
        match self.peer {
            // Whoever can connect is served: the port opens once the broker is registered.
            Peer::Millrace => TcpStream::connect(("127.0.0.1", self.port)).is_ok(),
            // Kafka opens its port before it has registered itself.
            Peer::Kafka => wire::is_settled(self.port),
        }
    }

    fn millrace_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command.arg("start");
        let own = owned(&[
            ("listeners", &format!("PLAINTEXT://{}", self.bootstrap())),
            ("log.dirs", &self.data.to_string_lossy()),
            ("millrace.shards", &SHARDS.to_string()),
        ]);
        for (key, value) in own.iter().chain(&self.settings) {
            command.arg("--override").arg(format!("{key}={value}"));
        }
        command
    }

    fn kafka_command(&self, class: &str) -> Command {
        let libs = java::libraries().expect("Maven and a JDK, to start Kafka");
        let mut command = java::command(&libs, class);
        command.arg(self.home.path().join("server.properties"));
        command
    }

    fn format_kafka(&self) {
        let controller = free_port();
        let lines = [
            "process.roles=broker,controller".to_owned(),
            "node.id=1".to_owned(),
            format!(
                "listeners=PLAINTEXT://{},CONTROLLER://127.0.0.1:{controller}",
                self.bootstrap()
            ),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            "controller.listener.names=CONTROLLER".to_owned(),
            format!("log.dirs={}", self.data.display()),
            "offsets.topic.replication.factor=1".to_owned(),
            "transaction.state.log.replication.factor=1".to_owned(),
            "transaction.state.log.min.isr=1".to_owned(),
        ];
        let settings = self
            .settings
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let text: Vec<_> = lines.into_iter().chain(settings).collect();
        let properties = self.home.path().join("server.properties");
        fs::write(&properties, text.join("\n")).expect("a writable directory");
        let libs = java::libraries().expect("Maven and a JDK, to start Kafka");
        let mut format = java::command(&libs, "kafka.tools.StorageTool");
        format
            .args(["format", "-t", "bWlsbHJhY2UtY29tcGF0LQ", "-c"])
            .arg(properties);
        command::run(&mut format, b"", READY_WITHIN).success("Kafka's storage tool");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the broker's log:\n{}", self.log());
        }
    }
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A port that nobody listens on. It lies below the kernel's range for outgoing connections, so
/// that no client takes it while its broker is down.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// As [`free_port`], the first of so many in a row.
fn free_ports(count: u16) -> u16 {
    const FIRST: u16 = 16_000;
    const COUNT: u16 = 16_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() * 61 % u32::from(COUNT)).expect("below COUNT");
    for _ in 0..COUNT / count {
        let first = FIRST + (start + NEXT.fetch_add(count, Ordering::Relaxed)) % COUNT;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok() && claim(port);
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no free port");
}

/// Keeps two test processes from choosing the same port: the first to create its file has it. A
/// stale file only costs a number.
fn claim(port: u16) -> bool {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports");
    fs::create_dir_all(&dir).expect("a writable target directory");
    let path = dir.join(port.to_string());
    let stale = path
        .metadata()
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|at| {
            at.elapsed()
                .is_ok_and(|age| age > Duration::from_secs(3600))
        });
    if stale {
        let _ = fs::remove_file(&path);
    }
    File::create_new(path).is_ok()
}
