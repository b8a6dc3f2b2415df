//! What is fuzzed: functions of bytes alone, which panic where something is not as it must be. The
//! bounded runner of `cargo test` and the endless one of `fuzz/` call the same ones.

mod apis;
mod batches;
mod broker;
mod choices;
mod config;
mod decompress;
mod files;
mod frames;
mod groups;
mod indexes;
mod journal;
mod memory;
mod metadata;
mod requests;
mod scratch;
mod seal;
mod segments;

pub mod grammar;
pub mod sequences;

pub use apis::served;
pub use choices::Choices;
pub use journal::identity;

/// A function that is fuzzed, and how much of it is tried by default.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the name of its corpus.
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Mutations of the corpus that an ordinary test run tries.
    pub inputs: u64,
}

const fn target(name: &'static str, inputs: u64, run: fn(&[u8])) -> Target {
    Target { name, run, inputs }
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target("frames", 2000, frames::target),
    target("requests", 50_000, requests::target),
    target("batches", 50_000, batches::target),
    target("decompress", 20_000, decompress::target),
    target("segments", 3000, segments::target),
    target("indexes", 3000, indexes::target),
    target("recovery_checkpoint", 50_000, files::recovery_checkpoint),
    target("producer_snapshot", 50_000, files::producer_snapshot),
    target("leader_epochs", 50_000, files::leader_epochs),
    target("partition_metadata", 50_000, files::partition_metadata),
    target("journal", 2000, journal::target),
    target("metadata", 20_000, metadata::target),
    target("server_properties", 1000, config::server_properties),
    target("meta_properties", 500, config::meta_properties),
    target("groups", 20_000, groups::target),
    target("sequences", 150, sequences::target),
];
