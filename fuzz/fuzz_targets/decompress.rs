//! Runs the target `decompress` without end.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::run("decompress", data));
