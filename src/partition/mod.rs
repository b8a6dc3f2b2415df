//! Partitions: append, read, high watermark, leader epochs, producer state, and the requests that
//! wait on them.
//!
//! Each partition is owned by one shard. May use `base`, `config`, `record`, `runtime`, `metadata`,
//! `shard` and `storage`; it never sees a socket and never names a Kafka error code.
//!
//! What must stay true:
//! - Requests are taken in the order in which they arrive, without awaiting; what has to wait (for
//!   room, for the disk, for records) answers from a task or from the log's progress.
//! - Producer state and leader epochs are pure: they change only by applying a batch that the log
//!   has taken, and recovery applies the same batches through the same code.
//! - Nothing above the high watermark is ever served to a client.

mod append;
pub mod checkpointer;
pub mod core;
pub mod leader_epoch;
pub mod message;
pub mod open;
mod planted;
pub mod producer_snapshot;
pub mod producer_state;
pub mod router;
pub mod table;
pub mod watch;

mod offsets;

#[cfg(test)]
mod tests;
