//! Runs the target `producer_snapshot` without end.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::run("producer_snapshot", data));
