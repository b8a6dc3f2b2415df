//! Who may change the metadata, and how: planners, the single-voter quorum that executes their
//! plans, and the way to reach it from any shard.
//!
//! Runs on shard 0, which owns `__cluster_metadata-0`; every shard holds a [`ControllerHandle`].
//!
//! What must stay true:
//! - a planner is pure: an image and a request go in, records and a reply come out; it sees no
//!   clock, socket or file;
//! - the image changes only by replaying records that are durable in the log, read back from the
//!   bytes that were appended to it;
//! - the records of one command are one batch: they are in the log together or not at all;
//! - a command is answered when its records are durable and every shard has applied them, and
//!   shards apply images in the order of the log;
//! - a failed log ends the controller, and with it the process; no room in it refuses the commands
//!   that wait and nothing else;
//! - errors here are Kafka's nouns with Kafka's words; their codes stand in `api` alone.
//!
//! The log is not compacted into snapshots yet: it is replayed from its start. With more than one
//! voter, Raft takes the place of [`driver`]'s append, between proposed and committed.

pub mod brokers;
pub mod driver;
pub mod error;
pub mod handle;
pub mod load;
pub mod log;
pub mod partitions;
pub mod producer_ids;
pub mod publisher;
pub mod topics;

mod events;
mod placement;

#[cfg(test)]
mod driver_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use brokers::BrokerRegistration;
pub use driver::{Controller, ControllerError};
pub use error::TopicError;
pub use handle::{Call, ControllerHandle, Unavailable};
pub use load::{LoadError, LoadedMetadata};
pub use log::MetadataLog;
pub use partitions::CreatedPartitions;
pub use producer_ids::ProducerIdBlock;
pub use publisher::{ImageChange, Publisher};
pub use topics::{CreatedTopic, DeletedTopic};

use crate::metadata::MetadataRecord;

/// What a planner returns: changes that are to be made, and what is answered once they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<R> {
    /// Appended to the log as one batch; none changes nothing.
    pub records: Vec<MetadataRecord>,
    /// The answer.
    pub reply: R,
}

impl<R> Plan<R> {
    /// An answer that changes nothing.
    pub fn only_reply(reply: R) -> Self {
        Self {
            records: Vec::new(),
            reply,
        }
    }
}
