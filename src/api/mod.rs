//! Requests: one file for each group of them. Here alone errors become Kafka's error codes.
//!
//! The shard that serves a connection decodes, authorizes and splits a request by the partitions'
//! owners, and gathers their answers in order. May use every room above it: `base` to
//! `coordinator`.
//!
//! What must stay true:
//! - A handler returns a plan or awaits owned messages; it never holds a borrow across an await.
//! - Every error of a lower room is mapped to a code in one place.

pub mod api_versions;
pub mod apply;
pub mod authorized_operations;
pub mod broker;
pub mod configs;
pub mod coordinators;
pub mod dispatch;
pub mod errors;
pub mod fetch;
pub mod fetch_partitions;
pub mod fetch_session;
pub mod groups;
pub mod metadata;
pub mod offsets;
pub mod produce;
pub mod producer_ids;
pub mod telemetry;
pub mod topics;

mod features;

#[cfg(test)]
mod fixtures;
