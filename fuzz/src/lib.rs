//! The targets of `cargo test --test fuzz` for libFuzzer: `fuzz/run TARGET SECONDS`.

#[path = "../../tests/fuzz/targets/mod.rs"]
pub mod targets;

/// Runs the target of this name.
///
/// # Panics
/// If there is none, or something is not as it must be.
pub fn run(name: &str, data: &[u8]) {
    let target = targets::TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target that is in the table").run)(data);
}
