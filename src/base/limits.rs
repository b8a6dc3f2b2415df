//! Every bound of the broker that is not a setting, in one place, each with its reason.

/// Direct I/O is done in multiples of this many bytes: the page size, and at least the logical
/// block of every disk in use.
pub const BLOCK_BYTES: u64 = 4096;

/// A batch's header, bytes 0 to 60 of a v2 batch.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Messages that wait in one shard-to-shard mailbox before the sender waits.
pub const MAILBOX_MESSAGES_MAX: usize = 1024;

/// Requests of one connection that may be in progress: past it the socket is not read. Kafka
/// clients keep 5 in flight by default.
pub const PIPELINED_REQUESTS_MAX: usize = 64;

/// Slices handed to one `sendmsg`, the kernel's `IOV_MAX`.
pub const IOV_MAX: usize = 1024;

/// A connection gives way to the others after this many bytes in one go.
pub const BYTES_BEFORE_YIELD_MAX: usize = 1 << 20;
