//! Coordinators: what clients agree on through the broker, kept in the broker's own topics.
//!
//! May use `base`, `config`, `metadata`, `protocol`, `record`, `shard` and `partition`; it never
//! sees a socket and never names a Kafka error code: `api` maps this room's errors.
//!
//! What must stay true:
//! - What a coordinator decides is pure: no input or output, no clock, no randomness of its own.
//!   Commands and the time go in; replies and records to append come out.
//! - What a successor must know is changed by replaying records that the log has taken, and by
//!   nothing else. The same code replays them when a partition is loaded.
//! - Every command is answered exactly once, also by a coordinator that goes away.

pub mod group;
