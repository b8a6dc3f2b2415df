//! The Python drivers: their libraries installed once into a virtual environment of `target`, from
//! the pinned list beside the drivers; each driver a process of that environment's interpreter.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::command::{is_installed, run};
use super::install::{Installation, drivers_dir};
use super::{is_gate, skip};

/// The first installation may go over a slow line.
const INSTALLED_WITHIN: Duration = Duration::from_secs(600);

const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

const MISSING: &str = "Python 3.10 or later with its venv module is not installed \
     (Debian: apt-get install python3-venv)";

/// The library that a driver drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    ConfluentKafka,
    KafkaPython,
    Aiokafka,
}

impl Client {
    fn program(self) -> &'static str {
        match self {
            Self::ConfluentKafka => "drive_confluent.py",
            Self::KafkaPython => "drive_kafka_python.py",
            Self::Aiokafka => "drive_aiokafka.py",
        }
    }
}

/// An interpreter that finds the clients' libraries.
#[derive(Debug, Clone)]
pub struct Python {
    interpreter: PathBuf,
}

impl Python {
    /// The driver of `client`; a verb and its options are still to be given.
    pub fn driver(&self, client: Client) -> Command {
        let mut command = Command::new(&self.interpreter);
        command
            // No byte code is written beside the sources.
            .arg("-B")
            .arg(source_dir().join(client.program()));
        command
    }
}

/// The installed libraries; `None` after saying so when Python or its `venv` is missing.
pub fn python() -> Option<Python> {
    static PYTHON: OnceLock<Option<Python>> = OnceLock::new();
    let python = PYTHON.get_or_init(prepare).clone();
    if python.is_none() {
        skip(MISSING);
    }
    python
}

fn source_dir() -> PathBuf {
    drivers_dir().join("python")
}

fn prepare() -> Option<Python> {
    if !can_make_environments() {
        assert!(!is_gate(), "{MISSING}");
        return None;
    }
    let requirements = source_dir().join("requirements.txt");
    let dir = Installation::new("python", &[&requirements]).make(|dir| install(dir, &requirements));
    Some(Python {
        interpreter: dir.join("bin/python"),
    })
}

/// Debian's interpreter alone has `venv` and lacks what it needs.
fn can_make_environments() -> bool {
    let asked = "import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))";
    is_installed("python3")
        && run(
            Command::new("python3").args(["-c", asked]),
            b"",
            ANSWERED_WITHIN,
        )
        .status
        .success()
}

fn install(dir: &Path, requirements: &Path) {
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(dir);
    run(&mut venv, b"", INSTALLED_WITHIN).success("python3 -m venv");
    let mut pip = Command::new(dir.join("bin/python"));
    pip.args(["-m", "pip", "install"])
        .args(["--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--only-binary", ":all:", "--requirement"])
        .arg(requirements);
    run(&mut pip, b"", INSTALLED_WITHIN).success("pip install");
}
