//! Runs the target `leader_epochs` without end.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::run("leader_epochs", data));
