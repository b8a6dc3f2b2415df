//! Runs the target `frames` without end.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::run("frames", data));
