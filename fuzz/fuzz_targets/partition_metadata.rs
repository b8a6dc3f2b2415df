//! Runs the target `partition_metadata` without end.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::run("partition_metadata", data));
