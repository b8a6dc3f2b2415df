//! One running driver: its commands, its events with deadlines, its death.
//!
//! A driver never outlives its owner. When a scenario fails, what its drivers said is shown.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::command::wait;

/// How long any one thing may take that is not a matter of a session's or a timer's length.
pub const WITHIN: Duration = Duration::from_secs(90);

/// How many of the last events and lines are shown of a driver whose scenario failed.
const SHOWN: usize = 40;

#[derive(Default)]
struct Said {
    events: Vec<Value>,
    log: String,
    /// Its standard output is at its end.
    has_ended: bool,
}

#[derive(Default)]
struct Listener {
    said: Mutex<Said>,
    news: Condvar,
}

impl Listener {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.lock());
        self.news.notify_all();
    }
}

/// A child process that follows the contract of drivers.
pub struct Driver {
    /// Which client does what, for messages.
    what: String,
    child: Child,
    /// None once it was told to finish.
    commands: Mutex<Option<ChildStdin>>,
    listener: Arc<Listener>,
    readers: Vec<JoinHandle<()>>,
}

impl Driver {
    pub fn start(mut command: Command, client: &str, verb: &str, options: &Value) -> Self {
        let what = format!("{client} {verb} {options}");
        let mut child = command
            .args([verb, &options.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let listener = Arc::new(Listener::default());
        let stdout = child.stdout.take().expect("a piped standard output");
        let stderr = child.stderr.take().expect("a piped standard error");
        let readers = vec![
            read_lines(stdout, &listener, {
                let what = what.clone();
                move |said, line| match line {
                    Some(line) => said.events.push(event(&what, line)),
                    None => said.has_ended = true,
                }
            }),
            read_lines(stderr, &listener, |said, line| {
                let _ = writeln!(said.log, "{}", line.unwrap_or_default());
            }),
        ];
        Self {
            what,
            commands: Mutex::new(child.stdin.take()),
            child,
            listener,
            readers,
        }
    }

    pub fn send(&self, command: &Value) {
        self.send_line(&command.to_string());
    }

    /// Sends a line, which may be no command.
    pub fn send_line(&self, line: &str) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let commands = commands.as_mut().expect("an open standard input");
        let sent = commands.write_all(format!("{line}\n").as_bytes());
        if let Err(error) = sent {
            panic!("{} takes no command: {error}", self.what);
        }
    }

    /// What `read` makes of the events so far.
    pub fn events<T>(&self, read: impl FnOnce(&[Value]) -> T) -> T {
        let said = self.listener.lock();
        self.refuse_errors(&said);
        read(&said.events)
    }

    /// How many events there have been so far.
    pub fn count(&self) -> usize {
        self.events(<[Value]>::len)
    }

    /// Waits until `find` finds what it looks for in all events.
    pub fn until<T>(&self, wanted: &str, find: impl Fn(&[Value]) -> Option<T>) -> T {
        let end = Instant::now() + WITHIN;
        let mut said = self.listener.lock();
        loop {
            if let Some(found) = find(&said.events) {
                return found;
            }
            self.refuse_errors(&said);
            let left = end.saturating_duration_since(Instant::now());
            let is_over = said.has_ended || left.is_zero();
            assert!(!is_over, "{} never had {wanted}", self.what);
            said = self
                .listener
                .news
                .wait_timeout(said, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The first event after the `from` first ones that is named one of `names`.
    pub fn next(&self, from: usize, names: &[&str]) -> Value {
        self.until(&format!("one of {names:?}"), |events| {
            let named = |event: &&Value| names.iter().any(|name| event["event"] == **name);
            events[from..].iter().find(named).cloned()
        })
    }

    /// Waits until it fails by itself, with this of Kafka's errors or with none of them; gives what
    /// it says of it.
    pub fn fails(mut self, code: Option<&str>) -> String {
        let error = self.until(&format!("the error {code:?}"), |events| {
            let is_error = |event: &&Value| event["event"] == "error";
            events.iter().find(is_error).cloned()
        });
        assert_eq!(error["code"], json!(code), "{} failed: {error}", self.what);
        let status = wait(&mut self.child, WITHIN).and_then(|status| status.code());
        assert_eq!(status, Some(1), "{} ended", self.what);
        error["message"].to_string()
    }

    /// Closes its input and waits for its clean end.
    pub fn finish(mut self) {
        self.wait_for_end();
    }

    /// As [`Driver::finish`]; gives all of its events.
    pub fn finish_with_events(mut self) -> Vec<Value> {
        self.wait_for_end();
        std::mem::take(&mut self.listener.lock().events)
    }

    fn wait_for_end(&mut self) {
        drop(
            self.commands
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let status = wait(&mut self.child, WITHIN);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        self.refuse_errors(&self.listener.lock());
        let is_clean = status.is_some_and(|status| status.success());
        assert!(is_clean, "{} ended with {status:?}", self.what);
    }

    /// SIGKILL: no goodbye to anybody.
    pub fn kill(mut self) {
        self.child.kill().expect("a child of this process");
        let status = self.child.wait().expect("a killed child");
        let by_signal = status.signal().is_some();
        assert!(by_signal, "{} had ended by itself: {status}", self.what);
    }

    fn refuse_errors(&self, said: &Said) {
        let error = said.events.iter().find(|event| event["event"] == "error");
        if let Some(error) = error {
            panic!("{} failed: {error}", self.what);
        }
    }

    fn show(&self) {
        let said = self.listener.lock();
        let mut text = format!("---- {}\n", self.what);
        let from = said.events.len().saturating_sub(SHOWN);
        for event in &said.events[from..] {
            let _ = writeln!(text, "{event}");
        }
        let lines: Vec<_> = said.log.lines().collect();
        for line in &lines[lines.len().saturating_sub(SHOWN)..] {
            let _ = writeln!(text, "stderr: {line}");
        }
        eprint!("{text}");
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended already, and is reaped then.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.show();
        }
    }
}

/// A line that is not an event is one: of a driver that broke the contract.
fn event(what: &str, line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| {
        let message = format!("{what} printed {line}: {error}");
        json!({"event": "error", "message": message})
    })
}

/// Reads line by line on a thread of its own; `None` is the end.
fn read_lines(
    from: impl Read + Send + 'static,
    listener: &Arc<Listener>,
    hear: impl Fn(&mut Said, Option<&str>) + Send + 'static,
) -> JoinHandle<()> {
    let listener = Arc::clone(listener);
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line);
            listener.hear(|said| hear(said, Some(&line)));
        }
        listener.hear(|said| hear(said, None));
    })
}
