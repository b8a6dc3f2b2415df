//! Runs the target `meta_properties` without end.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::run("meta_properties", data));
