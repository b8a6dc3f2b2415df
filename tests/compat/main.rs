//! Drives the running program with real clients and raw frames: what any Kafka client may expect.
//!
//! One test program for all of them, since each links librdkafka. Every test starts a broker of its
//! own, and every expectation here also holds against Apache Kafka 4.3.1
//! (`MILLRACE_TEST_PEER=kafka`).

#[allow(
    dead_code,
    reason = "each test program uses its own part of the support"
)]
#[path = "../support/mod.rs"]
mod support;

mod bad_batches;
mod bad_frames;
mod bad_requests;
mod drivers;
mod java;
mod kcat;
mod librdkafka;
mod long_log;
mod many_groups;
mod versions;
mod waiting_fetches;
