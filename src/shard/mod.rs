//! One core of the broker: its executor, what connects it to the other shards, and the memory that
//! it may use.
//!
//! A shard is one pinned [`crate::runtime`] executor on one thread. [`executor::start`] brings all
//! of them up and gives each body a [`executor::ShardContext`]. Knows nothing of requests,
//! partitions or sockets.
//!
//! What must stay true:
//! - what crosses shards is a message in a [`mailbox`], its answer through [`reply`], or immutable
//!   bytes; nothing else, and no lock is held while another shard could want it;
//! - messages from one shard to another arrive in the order in which they were sent;
//! - every queue and every pool has a bound, and a sender waits when it is reached;
//! - the bytes that a shard has handed out never exceed its [`budget`], also while they are in use
//!   on another shard, and the frames kept for reuse are part of it;
//! - whoever needs memory gets what peers have asked for and do not fill, see [`unfilled`];
//! - a shard that fails, or panics, stops the others: half a broker is worse than none.

pub mod advertised;
mod bell;
pub mod budget;
pub mod executor;
pub mod frames;
mod line;
pub mod mailbox;
pub mod placement;
pub mod reply;
mod scheduling;
pub mod shutdown;
pub mod unfilled;

#[cfg(test)]
mod tests;
