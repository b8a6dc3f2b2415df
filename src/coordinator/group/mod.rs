//! Consumer groups of the classic protocol, and committed offsets: one machine for each partition
//! of `__consumer_offsets`, on the shard that owns the partition.
//!
//! What must stay true:
//! - A group's durable half is its last replayed record. Its volatile half (a rebalance under way,
//!   requests that wait, ids handed out to clients that have not joined) may be lost at any moment:
//!   members then find the last synced generation and go on from there.
//! - A request that waits is answered by a later event of its group, by a timer, or when the
//!   machine unloads. A second request of the same member that waits sends the first one away.
//! - A generation has one leader and one protocol, which every member of it listed.

pub mod command;
pub mod config;
pub mod coordinators;
pub mod error;
pub mod event;
pub mod machine;
pub mod offsets;
pub mod partitioning;
pub mod reads;
pub mod record;
pub mod runtime;
pub mod state;
pub mod subscription;

mod classic;
mod commit;
mod deleted_topics;
mod expiry;
mod heartbeat;
mod join;
mod leave;
mod member;
mod memory;
mod planted;
mod protocols;
mod queue;
mod rebalance;
mod static_members;
mod sync;
mod timers;

#[cfg(test)]
mod tests;
