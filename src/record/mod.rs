//! Record batches, Kafka's v2 format: a view without copies, the checks that a produced batch must
//! pass, compression, and a builder.
//!
//! Pure data: no shard owns anything here, nothing here does I/O, reads the clock, or knows what a
//! topic is. May use `base` only.
//!
//! What must stay true:
//! - A batch in memory is the bytes on the wire and the bytes on disk. Nothing here changes a byte
//!   of one except the four fields that a leader assigns: base offset, leader epoch, and, for
//!   LogAppendTime, the timestamp type and the maximum timestamp with a new CRC.
//! - The CRC-32C covers everything from `attributes` on, so that base offset and leader epoch are
//!   assigned without touching it.
//! - No input makes anything here panic, run without end, or allocate more than its caller's cap:
//!   compressed records are checked as a stream through a small window.
//! - The checks of an uncompressed batch allocate nothing.
//! - Errors name what is wrong, with the figures; Kafka's error code for each stands in its
//!   documentation, and `api` alone maps them.

pub mod batches;
pub mod builder;
pub mod compression;
pub mod control;
pub mod header;
pub mod snappy;
pub mod validate;
pub mod varint;
pub mod view;
mod walk;

pub use batches::{BatchFault, Batches, SharedBatches};
pub use builder::{BatchBuilder, RecordToWrite};
pub use compression::{Codec, CompressionError, Decompressor};
pub use header::{BatchHeader, TimestampType};
pub use validate::{Rules, Validated, validate_produce};
pub use view::{RecordSet, RecordView};

#[cfg(test)]
pub(crate) mod fixtures;
