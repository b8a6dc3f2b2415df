//! Runs the target `indexes` without end.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::run("indexes", data));
