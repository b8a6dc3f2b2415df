//! The drivers of the Go clients: one program, built by Go once for each test program from the
//! modules that `go.sum` locks.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::command::{is_installed, run};
use super::install::drivers_dir;
use super::{is_gate, skip};

/// The first build fetches the modules, perhaps a Go as well, and compiles both.
const BUILT_WITHIN: Duration = Duration::from_secs(900);

const MISSING: &str = "Go is not installed, or too old and not let fetch a newer one by itself: \
     tests/drivers/go/go.mod names the version (Go 1.21 or later fetches it with GOTOOLCHAIN=auto; \
     Debian 12 has an older one: see go.dev/doc/install)";

/// The client libraries that have a driver here, as its option names them.
pub const CLIENTS: [&str; 3] = ["franz", "sarama", "kafkago"];

/// The built drivers.
#[derive(Debug, Clone)]
pub struct Drivers {
    program: PathBuf,
}

impl Drivers {
    /// The driver of one of [`CLIENTS`]; a verb and its options are still to be given.
    pub fn driver(&self, client: &str) -> Command {
        assert!(CLIENTS.contains(&client), "no Go client is named {client}");
        let mut command = Command::new(&self.program);
        command.args(["--client", client]);
        command
    }
}

/// The built drivers; `None` after saying so when Go is missing.
pub fn drivers() -> Option<Drivers> {
    static DRIVERS: OnceLock<Option<Drivers>> = OnceLock::new();
    let drivers = DRIVERS.get_or_init(prepare).clone();
    if drivers.is_none() {
        skip(MISSING);
    }
    drivers
}

fn prepare() -> Option<Drivers> {
    if !is_recent() {
        assert!(!is_gate(), "{MISSING}");
        return None;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the target directory");
    let dir = target.join("drivers/go");
    fs::create_dir_all(&dir).expect("a writable target directory");
    // Several test programs may come here at once, and find each other's build in Go's cache.
    let lock = File::create(dir.join("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let (built, program) = (dir.join("drivers.new"), dir.join("drivers"));
    build(&built);
    // A driver that another test program runs stays as it is.
    fs::rename(built, &program).expect("a writable target directory");
    Some(Drivers { program })
}

fn source_dir() -> PathBuf {
    drivers_dir().join("go")
}

/// Whether there is a Go that takes the module for its own. It may fetch the version named there.
fn is_recent() -> bool {
    let mut list = Command::new("go");
    list.current_dir(source_dir()).args(["list", "-m"]);
    is_installed("go") && run(&mut list, b"", BUILT_WITHIN).status.success()
}

fn build(program: &Path) {
    let mut build = Command::new("go");
    build
        .current_dir(source_dir())
        .env("CGO_ENABLED", "0")
        .args(["build", "-mod=readonly", "-buildvcs=false", "-o"])
        .arg(program)
        .arg(".");
    run(&mut build, b"", BUILT_WITHIN).success("go build");
}
