//! The cluster's metadata as pure data: records, the image that they add up to, and the delta that
//! takes one image to the next.
//!
//! Depends on `base`, `protocol` and `record`. Nothing here does I/O, reads the clock or decides
//! anything: the controller decides, the log keeps, every shard holds the image.
//!
//! What must stay true:
//! - an image is immutable and cheap to clone; it changes only by replaying records through a
//!   [`MetadataDelta`], so that loading a log and running on it are the same code;
//! - replay is deterministic: however the records are cut into deltas, the same image comes out;
//! - a record that is unknown, of a version that does not exist, or that contradicts the image is
//!   an error, never skipped: an image is right or there is none;
//! - records are Kafka's own, framed as Kafka's `MetadataRecordSerde` frames them, so that Kafka's
//!   tools read the log;
//! - a topic's id stays while the topic lives and is never used again; leader epochs never go back;
//! - nothing in an image keeps a request's frame or a log's buffer alive: what it keeps, it copied.

pub mod batch;
pub mod delta;
pub mod features;
pub mod image;
pub mod records;
pub mod topic_name;

#[cfg(test)]
mod tests;

pub use delta::{Changes, MetadataDelta, PartitionChange, ReplayError};
pub use image::{
    BrokerImage, ConfigResource, ConfigValues, Endpoint, MetadataImage, PartitionImage, TopicImage,
};
pub use records::{MetadataRecord, RecordError};
