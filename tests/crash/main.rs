//! Kills the running program, and cuts the power under it, at random moments under load; then holds
//! what is left against what was acknowledged.
//!
//! `cargo test` plays a few rounds. `MILLRACE_CRASH_ROUNDS` asks for more, `MILLRACE_CRASH_SEED`
//! repeats a run's choices (the moments are the machine's own), and both stand in every report.
//! `long-run` plays many, on a file system of choice.

#[allow(
    dead_code,
    reason = "each test program uses its own part of the support"
)]
#[path = "../support/mod.rs"]
mod support;

mod beside;
mod checker;
mod disk;
mod kill;
mod ledger;
mod load;
mod lossy;
mod one_of_two;
mod power;
mod rounds;
mod value;
