//! The Node driver: copied into `target` and installed there once with its locked libraries, so
//! that the source tree stays as it is; the driver is a process of `node`.

use std::fs;
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

const MISSING: &str = "Node 18 or later with npm is not installed \
     (Debian: apt-get install nodejs npm)";

/// What the driver is made of: its libraries, as locked, and its sources.
const FILES: [&str; 6] = [
    "package.json",
    "package-lock.json",
    "admin.js",
    "contract.js",
    "drive_kafkajs.js",
    "member.js",
];

/// An installed driver.
#[derive(Debug, Clone)]
pub struct Node {
    dir: PathBuf,
}

impl Node {
    /// The driver of kafkajs; a verb and its options are still to be given.
    pub fn driver(&self) -> Command {
        let mut command = Command::new("node");
        command.arg(self.dir.join("drive_kafkajs.js"));
        command
    }
}

/// The installed driver; `None` after saying so when Node or npm is missing.
pub fn node() -> Option<Node> {
    static NODE: OnceLock<Option<Node>> = OnceLock::new();
    let node = NODE.get_or_init(prepare).clone();
    if node.is_none() {
        skip(MISSING);
    }
    node
}

fn prepare() -> Option<Node> {
    if !is_recent() || !is_installed("npm") {
        assert!(!is_gate(), "{MISSING}");
        return None;
    }
    let sources = FILES.map(|name| drivers_dir().join("node").join(name));
    let made_of: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
    let dir = Installation::new("node", &made_of).make(|dir| install(dir, &made_of));
    Some(Node { dir })
}

fn is_recent() -> bool {
    let asked = "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)";
    is_installed("node")
        && run(
            Command::new("node").args(["-e", asked]),
            b"",
            ANSWERED_WITHIN,
        )
        .status
        .success()
}

fn install(dir: &Path, sources: &[&Path]) {
    fs::create_dir_all(dir).expect("a writable target directory");
    for source in sources {
        let name = source.file_name().expect("the name of a file");
        fs::copy(source, dir.join(name)).expect("a writable target directory");
    }
    let mut npm = Command::new("npm");
    npm.current_dir(dir)
        .args(["ci", "--omit=dev", "--ignore-scripts"])
        .args(["--no-audit", "--no-fund", "--loglevel=error"]);
    run(&mut npm, b"", INSTALLED_WITHIN).success("npm ci");
}
