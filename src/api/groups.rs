//! Consumer groups: requests of every version as commands to the coordinator, and its answers as
//! responses of the same version. Any shard.
//!
//! What differs between versions ends here: the coordinator is told by fields of a command what a
//! client understands. All is pure but [`requests`], which sends commands to their groups' owners
//! and waits.

pub mod commit;
pub mod delete;
pub mod describe;
pub mod fetch;
pub mod membership;
pub mod requests;

mod partitions;
mod room;

#[cfg(test)]
mod coordinator_tests;
