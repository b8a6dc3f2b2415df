//! Runs the program as a shell would.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::command::{self, Finished};

/// No command of a test takes longer, on a machine however busy.
const WITHIN: Duration = Duration::from_secs(60);

/// A broker, and the program pointed at it by the environment.
pub struct Shell {
    pub broker: Broker,
}

impl Shell {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// With settings of the broker. Groups settle at once, so that tests are quick.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self {
            broker: Broker::start_with(&quick(settings)),
        }
    }

    /// With a broker that breaks a promise on purpose.
    pub fn faulty(switch: &'static str, settings: &[(&str, &str)]) -> Self {
        Self {
            broker: Broker::start_faulty(switch, &quick(settings)),
        }
    }

    /// The program with the words of `line`.
    pub fn command(&self, line: &str) -> Command {
        let mut command = program(line);
        command.env("MILLRACE_BOOTSTRAP_SERVER", self.broker.bootstrap());
        command
    }

    pub fn run(&self, line: &str) -> Finished {
        self.run_with(line, "")
    }

    /// With `input` on standard input.
    pub fn run_with(&self, line: &str, input: &str) -> Finished {
        command::run(&mut self.command(line), input.as_bytes(), WITHIN)
    }

    /// What a command that must succeed prints.
    pub fn ok(&self, line: &str) -> String {
        self.ok_with(line, "")
    }

    pub fn ok_with(&self, line: &str, input: &str) -> String {
        self.run_with(line, input).success(line)
    }

    /// What a command that must succeed prints, as objects.
    pub fn json(&self, line: &str) -> Vec<Value> {
        objects(&self.ok(line))
    }

    /// Starts a command that runs on, its output in a pipe.
    pub fn start(&self, line: &str) -> Child {
        self.command(line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program")
    }

    /// A pipeline of bash in which `millrace` is the program; gives its output and exit code.
    pub fn bash(&self, script: &str) -> Finished {
        let mut bash = Command::new("bash");
        let program = env!("CARGO_BIN_EXE_millrace");
        bash.arg("-c")
            .arg(format!(
                "set -o pipefail; millrace() {{ {program} \"$@\"; }}\n{script}"
            ))
            .env("MILLRACE_BOOTSTRAP_SERVER", self.broker.bootstrap());
        command::run(&mut bash, b"", WITHIN)
    }
}

fn quick<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let quick = [
        ("group.initial.rebalance.delay.ms", "0"),
        ("group.min.session.timeout.ms", "1000"),
        ("offsets.topic.num.partitions", "3"),
    ];
    quick.iter().chain(settings).copied().collect()
}

/// A program that runs on; it ends with its test, however that ends.
pub struct Running(pub Child);

impl Running {
    /// Waits for its end, and gives what it printed.
    pub fn finish(&mut self) -> Finished {
        command::finish(&mut self.0, "the program", WITHIN)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program with the words of `line`, and no broker named.
pub fn program(line: &str) -> Command {
    // What a shell starts in the background ignores the signal, and so does all that it starts.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_millrace")]);
    command.args(line.split_whitespace());
    command.env_remove("MILLRACE_BOOTSTRAP_SERVER");
    command
}

/// The complaint of a command that must fail with `code`, having printed nothing.
pub fn fails(finished: &Finished, code: i32) -> String {
    let told = fails_in_part(finished, code);
    assert_eq!(finished.stdout, "", "stderr: {told}");
    told
}

/// The complaint of a command that must fail with `code`, whatever it printed before.
pub fn fails_in_part(finished: &Finished, code: i32) -> String {
    let Finished {
        status,
        stdout,
        stderr,
    } = finished;
    assert_eq!(
        status.code(),
        Some(code),
        "stdout: {stdout}\nstderr: {stderr}"
    );
    assert!(!stderr.is_empty(), "nothing is told; stdout: {stdout}");
    stderr.clone()
}

/// Lines of JSON.
pub fn objects(lines: &str) -> Vec<Value> {
    let object =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    lines.lines().map(object).collect()
}

/// A table's rows as words, without its head.
pub fn rows(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().skip(1);
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}
