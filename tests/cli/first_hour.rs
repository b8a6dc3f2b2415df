//! The README's first hour, typed as it stands there: each command of the section runs in bash, and
//! must print what the section says. `…` in it stands for anything; 9092 for the test's own port.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::broker::free_port;
use crate::support::command::{self, wait};

const SECTION: &str = "## A first hour";
const START: &str = "millrace start";
const WITHIN: Duration = Duration::from_secs(60);

/// A command, and what it prints.
struct Step {
    line: usize,
    command: String,
    expected: Vec<String>,
}

/// The commands of the section: indented lines, of which those with a dollar are typed.
fn steps(readme: &str) -> Vec<Step> {
    let lines = readme.lines().enumerate();
    let lines = lines.skip_while(|(_, line)| *line != SECTION).skip(1);
    let lines = lines.take_while(|(_, line)| !line.starts_with("## "));
    let mut steps: Vec<Step> = Vec::new();
    let mut is_in_block = false;
    for (index, line) in lines {
        let Some(line) = line.strip_prefix("    ") else {
            is_in_block = false;
            continue;
        };
        if let Some(command) = line.strip_prefix("$ ") {
            let (line, command, expected) = (index + 1, command.to_owned(), Vec::new());
            steps.push(Step {
                line,
                command,
                expected,
            });
            is_in_block = true;
        } else if is_in_block && let Some(step) = steps.last_mut() {
            match step.command.strip_suffix('\\').map(str::to_owned) {
                Some(begun) => step.command = begun + line.trim_start(),
                None => step.expected.push(line.to_owned()),
            }
        }
    }
    steps
}

/// Whether a line is what was expected, where `…` stands for anything.
fn is_as_expected(line: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The terminals: one with the broker, one for the commands.
struct Terminals {
    home: tempfile::TempDir,
    port: u16,
    broker: Option<Child>,
}

impl Terminals {
    fn new() -> Self {
        let home = tempfile::Builder::new()
            .prefix("first-hour-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a directory under target");
        Self {
            home,
            port: free_port(),
            broker: None,
        }
    }

    fn bash(&self, line: &str) -> Command {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_millrace"));
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!(
            "{}:{path}",
            program.parent().expect("a directory").display()
        );
        let mut bash = Command::new("bash");
        bash.arg("-c")
            .arg(format!("{{ {line}\n}} 2>&1"))
            .current_dir(self.home.path())
            .env("PATH", path)
            // The only thing that a reader of the README does not do: the port is the test's own.
            .env(
                "MILLRACE_LISTENERS",
                format!("PLAINTEXT://127.0.0.1:{}", self.port),
            )
            .env(
                "MILLRACE_BOOTSTRAP_SERVER",
                format!("localhost:{}", self.port),
            );
        bash
    }

    /// Starts the broker, after Ctrl-C if it runs.
    fn start_broker(&mut self) {
        self.stop_broker();
        let log = fs::File::create(self.log()).expect("a log file");
        let mut bash = self.bash(&format!("exec {START}"));
        let broker = bash
            .env_remove("MILLRACE_BOOTSTRAP_SERVER")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.broker = Some(broker.expect("bash"));
        let end = Instant::now() + WITHIN;
        // The port is open before that, and a reader waits for the word.
        while !self.told().contains(" ready ") {
            assert!(Instant::now() < end, "{}", self.told());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop_broker(&mut self) {
        let Some(mut broker) = self.broker.take() else {
            return;
        };
        let pid = Pid::from_raw(i32::try_from(broker.id()).expect("a process id"));
        kill(pid, Signal::SIGINT).expect("a child of this process");
        let status = wait(&mut broker, WITHIN);
        assert!(
            status.is_some_and(|status| status.success()),
            "{status:?}: {}",
            self.told()
        );
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("broker.log")
    }

    fn told(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Types a command, and holds what it prints against the README.
    fn type_in(&self, step: &Step) {
        let finished = command::run(&mut self.bash(&step.command), b"", WITHIN);
        let port = format!(":{}", self.port);
        let printed = finished.stdout.replace(&port, ":9092");
        let lines: Vec<_> = printed.lines().collect();
        let as_expected = lines.len() == step.expected.len()
            && lines
                .iter()
                .zip(&step.expected)
                .all(|(line, expected)| is_as_expected(line, expected.trim_end()));
        assert!(
            as_expected,
            "README.md:{}: {}\nprints\n{printed}in place of\n{}\nThe broker: {}",
            step.line,
            step.command,
            step.expected.join("\n"),
            self.told()
        );
    }
}

impl Drop for Terminals {
    fn drop(&mut self) {
        if let Some(mut broker) = self.broker.take() {
            let _ = broker.kill();
            let _ = broker.wait();
        }
    }
}

#[test]
fn the_first_hour_of_the_readme_goes_as_it_says() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let steps = steps(&readme);
    assert!(steps.len() > 10, "the section has {} commands", steps.len());
    let mut terminals = Terminals::new();
    for step in &steps {
        match step.command == START {
            true => terminals.start_broker(),
            false => terminals.type_in(step),
        }
    }
    terminals.stop_broker();
}

#[test]
fn what_stands_for_anything_stands_for_nothing_else() {
    for (line, expected, matches) in [
        ("abc", "abc", true),
        ("abc", "abd", false),
        ("abcd", "abc", false),
        ("a 12 b", "a … b", true),
        ("a 12 c", "a … b", false),
        ("a 1 b 2 c", "a … b … c", true),
        ("a 1 2 c", "a … b … c", false),
        ("x", "…", true),
    ] {
        assert_eq!(
            is_as_expected(line, expected),
            matches,
            "{line} and {expected}"
        );
    }
}
