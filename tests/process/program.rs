//! The program as a child process: started, waited for by its ready line, signalled, and ended.
//!
//! It only ever signals the child that it started.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::wire::Wire;

/// How long a start or a stop may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const API_VERSIONS: i16 = 18;

/// The program with a directory of its own, one shard and any free port.
pub fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.env_clear().stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.args(["--override", "listeners=PLAINTEXT://127.0.0.1:0"]);
    command.args(["--override", "millrace.shards=1"]);
    command.arg("--override");
    command.arg(format!("log.dirs={}", data.display()));
    command
}

pub fn with_override(mut command: Command, pair: &str) -> Command {
    command.args(["--override", pair]);
    command
}

pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

pub fn run(mut command: Command) -> Output {
    command.output().expect("the program runs")
}

/// The exit code, and what was logged.
pub fn told(output: &Output) -> (Option<i32>, String) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), error)
}

/// What the ready line says.
#[derive(Debug)]
pub struct Ready {
    pub listeners: String,
    pub shards: String,
    pub data: String,
    pub milliseconds: u64,
}

impl Ready {
    /// The port of the first listener.
    pub fn port(&self) -> u16 {
        let first = self.listeners.split(',').next().expect("a listener");
        let port = first.rsplit_once(':').expect("an address with a port").1;
        port.parse().expect("a port")
    }

    /// Reads the line, as text or as JSON.
    fn parse(line: &str) -> Option<Self> {
        let is_plain = line.contains(" ready listeners=");
        let is_json = line.contains("\"message\":\"ready\"");
        if !is_plain && !is_json {
            return None;
        }
        let field = |name: &str| {
            let (mark, ends) = match is_json {
                true => (format!("\"{name}\":"), &[',', '}'][..]),
                false => (format!(" {name}="), &[' '][..]),
            };
            let rest = line.split_once(&mark)?.1.trim_end();
            let value = rest.split(ends).next()?;
            Some(value.trim_matches('"').to_owned())
        };
        Some(Self {
            listeners: field("listeners")?,
            shards: field("shards")?,
            data: field("data")?,
            milliseconds: field("milliseconds")?.parse().ok()?,
        })
    }
}

/// A running program. Dropped, it is killed.
pub struct Broker {
    child: Option<Child>,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Broker {
    /// Starts it and returns at once.
    pub fn launch(command: Command) -> Self {
        Self::launch_and_read(command, |_| false)
    }

    /// As [`Broker::start`], but the pipe of its log is closed once it is ready.
    pub fn start_and_close_its_log(command: Command) -> (Self, Ready) {
        let mut broker = Self::launch_and_read(command, |line| Ready::parse(line).is_some());
        let ready = broker.wait_for("its ready line", |log| log.lines().find_map(Ready::parse));
        let reader = broker.reader.take().expect("a reader");
        reader.join().expect("a reader without a panic");
        (broker, ready)
    }

    /// Reads its log up to the line that is the last one, and then closes the pipe.
    fn launch_and_read(mut command: Command, is_last: fn(&str) -> bool) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let log = Arc::new(Mutex::new(String::new()));
        let reader = child.stderr.take().map(|stderr| {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                let mut lines = BufReader::new(stderr);
                let mut line = Vec::new();
                while lines
                    .read_until(b'\n', &mut line)
                    .is_ok_and(|count| count > 0)
                {
                    let text = String::from_utf8_lossy(&line);
                    log.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push_str(&text);
                    if is_last(&text) {
                        break;
                    }
                    line.clear();
                }
            })
        });
        Self {
            child: Some(child),
            log,
            reader,
        }
    }

    /// Starts it and waits until it is ready, has said so, and answers.
    pub fn start(command: Command) -> (Self, Ready) {
        let mut broker = Self::launch(command);
        let ready = broker.wait_for("its ready line", |log| log.lines().find_map(Ready::parse));
        assert_answers(ready.port());
        (broker, ready)
    }

    /// Starts it and waits until it is ready; or for its end, as [`Broker::end`] tells it.
    pub fn start_or_end(command: Command) -> Result<(Self, Ready), (Option<i32>, String)> {
        let mut broker = Self::launch(command);
        let began = Instant::now();
        loop {
            if let Some(ready) = broker.log().lines().find_map(Ready::parse) {
                return Ok((broker, ready));
            }
            if !broker.is_running() {
                return Err(broker.end());
            }
            let waited = began.elapsed();
            assert!(
                waited < PATIENCE,
                "neither ready nor over:\n{}",
                broker.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until `find` finds something in the log.
    pub fn wait_for<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = find(&self.log()) {
                return found;
            }
            let ended = self.child().try_wait().expect("a state");
            assert!(ended.is_none(), "no {what}: {ended:?}\n{}", self.log());
            let waited = began.elapsed();
            assert!(waited < PATIENCE, "no {what}:\n{}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("a running program")
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("a running program").id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id() as i32), signal).expect("a signal");
    }

    pub fn is_running(&mut self) -> bool {
        self.child().try_wait().expect("a state").is_none()
    }

    /// Waits for its end: the exit code, none after a signal, and all that was logged.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut child = self.child.take().expect("a running program");
        let began = Instant::now();
        while child.try_wait().expect("a state").is_none() {
            if began.elapsed() > PATIENCE {
                child.kill().expect("a kill");
                child.wait().expect("an end");
                panic!("it does not end:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(2));
        }
        let status = child.wait().expect("an end");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader without a panic");
        }
        (status.code(), self.log())
    }

    /// SIGTERM, and the end that follows.
    pub fn stop(self) -> (Option<i32>, String) {
        self.signal(Signal::SIGTERM);
        self.end()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Asks the broker on `port` for the requests that it takes.
pub fn assert_answers(port: u16) {
    let mut wire = Wire::connect(port);
    let answer = wire.ask(API_VERSIONS, 0, &[]);
    let answer = answer.expect("a connection that stays open");
    assert_eq!(answer[..2], [0, 0], "the error code of ApiVersions");
    assert!(answer.len() > 100, "some requests: {answer:?}");
}
