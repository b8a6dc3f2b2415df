//! The log on disk: segments, appends, the tail in memory, reads, recovery.
//!
//! Uses base, config, record and runtime. Never sees a socket, never names a Kafka error code.
//!
//! What must stay true:
//! - `start <= durable <= written <= end`, each a prefix of the log; nothing above `durable` is
//!   promised to survive a power loss, nothing above `written` the broker's death;
//! - what is durable is in its segment, or in the shard's journal and in memory;
//! - one block never has two writes in flight, and a failed write or sync is never tried again: it
//!   takes the log directory out of service for good, and no other;
//! - bytes are accepted only when the file has room for them, so a full disk refuses and nothing
//!   else;
//! - a sealed unit never changes; what a reader was handed stays valid whatever becomes of the log;
//! - a parked log holds no descriptor, task or timer, and of buffers only what the tail keeps of
//!   it; its files have exact lengths;
//! - nothing waits for the disk on a reactor: file system metadata is touched on the blocking pool.

pub mod checkpoint;
pub mod directories;
pub mod directory;
pub mod doomed;
pub mod error;
pub mod faults;
pub mod index;
pub mod journal;
pub mod layout;
pub mod lifecycle;
pub mod log;
pub mod meta;
pub mod reader;
pub mod recovery;
pub mod retention;
pub mod scrub;
pub mod shard;
pub mod sweep;
pub mod turn;
pub mod unit;
pub mod walk;

mod admission;
mod ahead;
mod appender;
mod file;
mod pace;
mod read_cache;
mod ready;
mod room;
mod segment;
mod site;
mod tail;
mod timestamps;

#[cfg(test)]
mod tests;
