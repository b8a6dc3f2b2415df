//! Runs the tests of the comparison, `perf/tests`: what it makes of its figures, without a broker.

use std::path::Path;
use std::process::Command;

/// Whether a missing tool fails the test, as the gate wants it, or skips it.
fn is_gate() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

#[test]
fn the_comparison_adds_up() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command
        .args([
            "-m",
            "unittest",
            "discover",
            "-t",
            "perf",
            "-s",
            "perf/tests",
        ])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(root);
    let finished = match command.output() {
        Ok(finished) => finished,
        Err(error) => {
            assert!(!is_gate(), "python3: {error}");
            eprintln!("SKIPPED: python3: {error}");
            return;
        }
    };
    let said = String::from_utf8_lossy(&finished.stderr);
    assert!(finished.status.success(), "{said}");
    // Where it finds no tests it is content, too.
    assert!(!said.contains("Ran 0 tests"), "{said}");
}
