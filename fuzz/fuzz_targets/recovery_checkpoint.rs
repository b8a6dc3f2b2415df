//! Runs the target `recovery_checkpoint` without end.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::run("recovery_checkpoint", data));
