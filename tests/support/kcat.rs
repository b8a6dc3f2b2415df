//! kcat, the command-line client: runs one invocation and hands back what it printed.

use std::process::Command;
use std::time::Duration;

use super::command::{Finished, is_installed, run};
use super::skip;

/// How long one invocation may run.
const WITHIN: Duration = Duration::from_secs(60);

/// kcat against one broker.
pub struct Kcat {
    bootstrap: String,
}

impl Kcat {
    /// `None` after saying so when kcat is missing.
    pub fn new(bootstrap: &str) -> Option<Self> {
        if !is_installed("kcat") {
            skip("kcat is not installed");
            return None;
        }
        Some(Self {
            bootstrap: bootstrap.to_owned(),
        })
    }

    /// Runs kcat with `arguments` and `input`, whatever comes of it.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Finished {
        let mut command = Command::new("kcat");
        command.args(["-b", &self.bootstrap]).args(arguments);
        run(&mut command, input, WITHIN)
    }

    /// Runs kcat where it must succeed without a word of complaint; gives its standard output.
    pub fn quiet(&self, arguments: &[&str], input: &[u8]) -> String {
        let finished = self.run(arguments, input);
        let complaints = complaints(&finished.stderr);
        assert!(
            finished.status.success() && complaints.is_empty(),
            "kcat {arguments:?} ended with {} and said {complaints:?}",
            finished.status
        );
        finished.stdout
    }

    /// Lets kcat run for `time`, then ends it; gives its standard output. It may not complain.
    pub fn for_a_while(&self, arguments: &[&str], time: Duration) -> String {
        let mut command = Command::new("timeout");
        command
            .args(["--signal=TERM", &format!("{}s", time.as_secs_f32()), "kcat"])
            .args(["-b", &self.bootstrap])
            .args(arguments);
        let finished = run(&mut command, b"", WITHIN);
        assert_eq!(complaints(&finished.stderr), [""; 0], "kcat {arguments:?}");
        finished.stdout
    }
}

/// The lines of kcat's standard error that are neither its mode, nor the end of a partition, nor
/// about its own configuration, nor of the level of information (6).
pub fn complaints(stderr: &str) -> Vec<&str> {
    let expected = [
        "% Reached end of topic",
        "% Auto-selecting",
        "|CONFWARN|",
        "%6|",
    ];
    stderr
        .lines()
        .filter(|line| !line.is_empty() && !expected.iter().any(|part| line.contains(part)))
        .collect()
}
