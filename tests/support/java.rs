//! Apache Kafka's own clients and tools: fetched by Maven once, compiled once, run as a JVM each.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::command::{Finished, is_installed, run};
use super::{is_gate, skip};

/// The first fetch may go over a slow line.
const FETCHED_WITHIN: Duration = Duration::from_secs(900);

/// How long a client's program may run.
const PROGRAM_WITHIN: Duration = Duration::from_secs(180);

/// Kafka's jars, the compiled programs of `tests/java`, and an archive of the classes that these
/// load: with it a JVM is up in half the time.
#[derive(Clone)]
pub struct Libraries {
    jars: PathBuf,
    programs: PathBuf,
    archive: PathBuf,
}

/// The jars and the compiled programs; `None` after saying so when Maven or a JDK is missing.
pub fn libraries() -> Option<Libraries> {
    static LIBRARIES: OnceLock<Option<Libraries>> = OnceLock::new();
    let libraries = LIBRARIES.get_or_init(prepare).clone();
    if libraries.is_none() {
        skip("Maven and a JDK (mvn, javac, java) are not installed");
    }
    libraries
}

/// A JVM that will run `class`. It starts fast and stays small; its log goes to standard error.
pub fn command(libraries: &Libraries, class: &str) -> Command {
    let mut command = jvm(libraries);
    let archive = format!("-XX:SharedArchiveFile={}", libraries.archive.display());
    command.args([&archive, class]);
    command
}

/// A JVM that knows the class path and logs to standard error. Nothing of its own goes to standard
/// output.
fn jvm(libraries: &Libraries) -> Command {
    let logging = source_dir().join("log4j2.properties");
    let class_path = format!(
        "{}:{}/*",
        libraries.programs.display(),
        libraries.jars.display()
    );
    let mut command = Command::new("java");
    command
        .args([
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            "-Xlog:disable",
            "-Xms64m",
            "-Xmx512m",
        ])
        .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
        .args(["-cp", &class_path]);
    command
}

/// Runs `class` with `arguments` and `input` to its end.
pub fn run_class(libraries: &Libraries, class: &str, arguments: &[&str], input: &[u8]) -> Finished {
    run(
        command(libraries, class).args(arguments),
        input,
        PROGRAM_WITHIN,
    )
}

/// What a program logged at WARN or above. The configuration beside the programs begins each such
/// line with its level.
pub fn complaints(finished: &Finished) -> Vec<&str> {
    let is_complaint = |line: &&str| {
        ["WARN", "ERROR", "FATAL"]
            .iter()
            .any(|level| line.starts_with(level))
    };
    finished.stderr.lines().filter(is_complaint).collect()
}

fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/java")
}

/// `target/java`, where `perf/` finds the same jars.
fn java_dir() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the target directory");
    target.join("java")
}

fn prepare() -> Option<Libraries> {
    if !["mvn", "javac", "jar", "java"]
        .iter()
        .all(|program| is_installed(program))
    {
        assert!(!is_gate(), "mvn, javac or java is not installed");
        return None;
    }
    let dir = java_dir();
    fs::create_dir_all(&dir).expect("a writable target directory");
    // Several test programs may come here at once; the first one works, the others find it done.
    let lock = File::create(dir.join("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let libraries = Libraries {
        jars: dir.join("jars"),
        programs: dir.join("programs.jar"),
        archive: dir.join("programs.jsa"),
    };
    fetch(&libraries.jars);
    compile(&libraries, &dir);
    Some(libraries)
}

fn fetch(jars: &Path) {
    let pom = source_dir().join("pom.xml");
    let wanted = fs::read(&pom).expect("tests/java/pom.xml");
    let done = jars.join("fetched-by");
    if fs::read(&done).is_ok_and(|by| by == wanted) {
        return;
    }
    // Jars of an older version must not stay beside the new ones.
    let _ = fs::remove_dir_all(jars);
    let mut maven = Command::new("mvn");
    maven
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", jars.display()));
    run(&mut maven, b"", FETCHED_WITHIN).success("Maven");
    fs::write(done, wanted).expect("a writable target directory");
}

/// Compiles the programs, packs them, and archives what they load.
fn compile(libraries: &Libraries, dir: &Path) {
    let sources = sources();
    let pom = source_dir().join("pom.xml");
    let wanted: Vec<u8> = sources
        .iter()
        .chain([&pom])
        .flat_map(|path| fs::read(path).expect("a readable source"))
        .collect();
    let done = dir.join("compiled-from");
    if fs::read(&done).is_ok_and(|from| from == wanted) {
        return;
    }
    let classes = dir.join("classes");
    let _ = fs::remove_dir_all(&classes);
    fs::create_dir_all(&classes).expect("a writable target directory");
    let mut javac = Command::new("javac");
    javac
        .args([
            "-Xlint:all,-processing,-classfile",
            "-Werror",
            "-proc:none",
            "-cp",
        ])
        .arg(format!("{}/*", libraries.jars.display()))
        .arg("-d")
        .arg(&classes)
        .args(&sources);
    run(&mut javac, b"", PROGRAM_WITHIN).success("javac");
    let mut jar = Command::new("jar");
    jar.arg("--create").arg("--file").arg(&libraries.programs);
    jar.arg("-C").arg(&classes).arg(".");
    run(&mut jar, b"", PROGRAM_WITHIN).success("jar");
    let _ = fs::remove_file(&libraries.archive);
    let mut load = jvm(libraries);
    let archive = format!("-XX:ArchiveClassesAtExit={}", libraries.archive.display());
    load.args([&archive, "Driver", "load"]);
    run(&mut load, b"", PROGRAM_WITHIN).success("the loading of classes");
    fs::write(done, wanted).expect("a writable target directory");
}

fn sources() -> Vec<PathBuf> {
    let mut sources: Vec<PathBuf> = fs::read_dir(source_dir())
        .expect("tests/java")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "java")
        })
        .collect();
    sources.sort();
    sources
}
