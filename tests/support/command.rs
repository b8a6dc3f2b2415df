//! Runs another program to its end: input, both outputs, and a deadline after which it is killed.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a program left behind.
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The standard output of a program that must have ended with exit code 0.
    pub fn success(self, what: &str) -> String {
        assert!(
            self.status.success(),
            "{what} ended with {}\nstdout: {}\nstderr: {}",
            self.status,
            self.stdout,
            self.stderr
        );
        self.stdout
    }
}

/// Whether `program` stands in a directory of `PATH`.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir: std::path::PathBuf| is_file(&dir.join(program)))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

/// Runs `command` with `input` on its standard input. A program that outlives `deadline` is killed
/// and fails the test: no client may wait for ever.
pub fn run(command: &mut Command, input: &[u8], deadline: Duration) -> Finished {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut stdin = child.stdin.take().expect("a piped standard input");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program may end before it has read everything: its exit code judges that.
            let _ = stdin.write_all(input);
        });
        finish(&mut child, &what, deadline)
    })
}

/// Waits for the end of a program whose outputs are in pipes. One that outlives `deadline` is
/// killed and fails the test.
pub fn finish(child: &mut Child, what: &str, deadline: Duration) -> Finished {
    let stdout = child.stdout.take().expect("a piped standard output");
    let stderr = child.stderr.take().expect("a piped standard error");
    std::thread::scope(|scope| {
        let stdout = scope.spawn(|| read_all(stdout));
        let stderr = scope.spawn(|| read_all(stderr));
        let status = wait(child, deadline);
        let stdout = stdout.join().expect("the reader of standard output");
        let stderr = stderr.join().expect("the reader of standard error");
        let Some(status) = status else {
            panic!("{what} did not end within {deadline:?}\nstdout: {stdout}\nstderr: {stderr}");
        };
        Finished {
            status,
            stdout,
            stderr,
        }
    })
}

/// Waits for `child`, and kills it when `deadline` has passed: then `None`.
pub fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait().expect("a child of this process") {
            return Some(status);
        }
        if Instant::now() > end {
            child.kill().expect("a child of this process");
            child.wait().expect("a killed child");
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read_all(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("a readable pipe");
    String::from_utf8_lossy(&bytes).into_owned()
}
