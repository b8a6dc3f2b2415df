//! Consumer groups: requests of every version as commands to the coordinator, and its answers as
//! responses of the same version. Pure; any shard.
//!
//! What differs between versions ends here: the coordinator is told by fields of a command what a
//! client understands. Sending commands to their groups' owners, and waiting, is done elsewhere.

pub mod commit;
pub mod delete;
pub mod describe;
pub mod fetch;
pub mod membership;

mod partitions;
