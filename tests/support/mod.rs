//! What the tests that drive the running program share: a broker, real clients, and raw frames.
//!
//! Nothing here belongs to a shard, and nothing here judges an answer: that is each test's own
//! business. The environment decides three things. `CI=true` turns a missing tool from a skipped
//! test into a failure. `MILLRACE_TEST_PEER=kafka` starts Apache Kafka from its jars in the
//! broker's place, which is how an expectation is proved before it is held against Millrace.
//! `MILLRACE_TEST_DATA_DIR` names the directory, and so the file system, that the brokers' data and
//! the images of a test's own disks lie in.

pub mod batches;
pub mod broker;
pub mod command;
pub mod go;
pub mod install;
pub mod java;
pub mod kcat;
pub mod librdkafka;
pub mod node;
pub mod python;
pub mod requests;
pub mod segments;
pub mod steady;
pub mod topics;
pub mod wire;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

/// A new directory for data, gone when it is dropped. Not under /tmp, which may be a tmpfs: direct
/// I/O wants a file system on a disk.
pub fn data_home(prefix: &str) -> TempDir {
    let parent = std::env::var_os("MILLRACE_TEST_DATA_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(&parent)
        .unwrap_or_else(|error| panic!("a directory in {}: {error}", parent.display()))
}

/// Whether a missing tool fails the test, as the gate wants it, or skips it.
pub fn is_gate() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Says on the real standard error, past the test harness's capture, why a test does not run.
/// Under the gate it fails the test instead.
pub fn skip(why: &str) {
    assert!(!is_gate(), "the gate may not skip a test: {why}");
    say_skipped(why);
}

/// As [`skip`], for what no installation can mend: a privilege that this process lacks.
pub fn skip_without_privilege(why: &str) {
    say_skipped(why);
}

fn say_skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    let line = format!("SKIPPED {name}: {why}\n");
    // The line is for a human reader; a closed standard error must not fail the test.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Tells threads beside that it is over, also where a judgement has failed.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A generator for test data: small, seeded, and the same on every machine (xorshift64*).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // A zero state would stay zero.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number of `low..high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        assert!(low < high, "an empty range");
        low + self.next() % (high - low)
    }

    /// Bytes that no codec makes smaller.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
