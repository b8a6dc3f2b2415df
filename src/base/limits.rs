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

/// A connection counts as idle unless a request or a reply of it has ended, or so many bytes of one
/// have moved: a byte a second keeps no connection. Kafka counts every byte.
pub const MOVED_BYTES_MIN: usize = 16 << 10;

/// A client that was sent less than this in a quarter of a second, and has replies to read, does
/// not read: it is closed if too much was made for such clients.
pub const READ_BYTES_MIN: usize = 64 << 10;

/// Slices handed to one `sendmsg`, the kernel's `IOV_MAX`.
pub const IOV_MAX: usize = 1024;

/// A connection gives way to the others after it has received this many bytes in one go, and
/// gathers about as many of replies to send.
pub const BYTES_BEFORE_YIELD_MAX: usize = 1 << 20;

/// A connection gives way after it has sent this many bytes in one go: on a loopback the call that
/// sends them also does the receiver's part of TCP.
pub const SENT_BYTES_BEFORE_YIELD_MAX: usize = 256 << 10;

/// Old data is read from the disk in pieces of this size. A write that is to be acknowledged waits
/// behind those in flight: `kernel-notes/cold-reads.md`.
pub const READ_PIECE_BYTES: u64 = 256 << 10;

/// So many pieces may be on their way from the disk for one shard that writes.
pub const READS_BESIDE_WRITES_MAX: usize = 1;

/// Where nothing is written, neighbours that are asked for are read together, up to so many bytes:
/// a disk is fastest with such requests.
pub const READ_TOGETHER_BYTES_MAX: u64 = 1 << 20;

/// So many such requests are in flight where nothing is written.
pub const READS_IN_FLIGHT_MAX: usize = 4;

/// So many of those that readers wait for, where nothing is written.
pub const DEMANDED_IN_FLIGHT_MAX: usize = 8;

/// The most old data of one partition in one reply, unless its first batch is larger. Clients ask
/// for 1 MiB by default.
pub const COLD_READ_BYTES_MAX: u64 = 4 << 20;

/// Twice what a reader has asked for is read ahead of it, but no more than this.
pub const READ_AHEAD_BYTES_MAX: u64 = 2 << 20;

/// The most of one shard's partitions in one reply from memory while slow consumers hold as much
/// memory as they may, unless the first batch is larger.
pub const OVERDRAWN_READ_BYTES_MAX: usize = 64 << 10;

/// What the records of one compressed batch may be when decompressed. Kafka has no such bound;
/// without one a few kilobytes of zeros hold a shard for minutes. Producers fill batches of at most
/// a few megabytes before compression.
pub const DECOMPRESSED_BATCH_BYTES_MAX: u64 = 128 << 20;

/// Compressed batches up to this size are checked by the shard itself: sending one to the blocking
/// pool costs as much as inflating some tens of kilobytes.
pub const COMPRESSED_BYTES_CHECKED_INLINE_MAX: usize = 16 << 10;

/// What the shard itself decompresses of a batch, a fraction of a millisecond's work. One that
/// turns out to be larger goes to the blocking pool.
pub const DECOMPRESSED_BYTES_CHECKED_INLINE_MAX: u64 = 256 << 10;

/// Compressed records are checked through a window of this many bytes.
pub const DECOMPRESSION_WINDOW_BYTES: usize = 32 << 10;

/// A codec's buffers larger than this are given back after the batch that needed them.
pub const DECOMPRESSION_SCRATCH_KEPT_BYTES_MAX: usize = 4 << 20;

/// Zstandard frames that need a larger window are refused: 2^27 bytes is what the highest level
/// takes and what Kafka's clients accept. Only what a batch really fills of it is ever touched.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Refused records of one batch that are named one by one in the reply.
pub const REFUSED_RECORDS_NAMED_MAX: usize = 100;

/// What a decoded message may take in memory, in bytes for each byte of its frame. The strings and
/// bytes themselves stay in the frame; this is for the arrays of structs that point at them. Real
/// requests take up to about 5.
pub const DECODED_BYTES_PER_FRAME_BYTE_MAX: usize = 8;

/// What a decoded message may take beyond that, in bytes, so that small frames full of short names
/// are never refused.
pub const DECODED_BYTES_SLACK: usize = 256 << 10;

/// Batches kept of each idempotent producer to recognise duplicates: clients have at most this many
/// in flight (KIP-98).
pub const PRODUCER_BATCHES_KEPT: usize = 5;

/// Idempotent producers remembered by one partition. Past it the longest idle are forgotten, as if
/// they had expired: some 200 bytes each, 20 MB in all.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 100_000;

/// A waiting fetch that takes less than this counts as a part of what its connection takes: some
/// ten partitions. Those that take more share the memory for waits of their shard; without room
/// there they are answered at once, with what there is.
pub const FETCH_WAIT_BYTES_UNCOUNTED: u64 = 4 << 10;

/// A fetch session that was not used for so long gives way to any other, and one that is younger is
/// safe from others of its kind. Kafka's `MinIncrementalFetchSessionEvictionMs`.
pub const FETCH_SESSION_EVICTION_MS: i64 = 120_000;

/// Partitions that the fetch sessions of one shard remember in all, at some 200 bytes each. Past it
/// clients fetch without a session.
pub const FETCH_SESSION_PARTITIONS_MAX: usize = 1 << 18;

/// Partitions that one request may create, as in Kafka.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// Settings that one DescribeConfigs reply holds before further resources are refused: some 100 MB
/// with synonyms and documentation, and every setting of about 5000 topics.
pub const DESCRIBED_SETTINGS_MAX: usize = 200_000;

/// Metadata records that one command of a client may take, as in Kafka: they are one batch.
pub const METADATA_RECORDS_PER_COMMAND_MAX: usize = 10_000;

/// Commands that wait for the controller before further ones are refused. A connection has one at
/// most, so it takes that many connections.
pub const CONTROLLER_CALLS_WAITING_MAX: usize = 8192;

/// Commands that the controller makes durable together: one sync serves them all, and none waits
/// for much more than its own work.
pub const CONTROLLER_CALLS_TOGETHER_MAX: usize = 256;

/// Deleted files and directories of one shard that wait to be unlinked, at some 300 bytes each: ten
/// topics of the most partitions that a request creates. Past it the first go before their time.
pub const DOOMED_FILES_MAX: usize = 100_000;

/// How long a member may wait in its first JoinGroup, in milliseconds, whatever its session
/// timeout: it cannot send heartbeats, and may have gone. Kafka's `newMemberJoinTimeoutMs`.
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: u64 = 300_000;

/// Ids that one group hands out to clients that have not joined with them yet: more than a group's
/// members start at once. Each is some 400 bytes with its timer and a client id of usual length; a
/// longer one counts in the memory of groups. Kafka has no such bound.
pub const PENDING_IDS_PER_GROUP_MAX: usize = 10_000;

/// The same for all groups of one partition of `__consumer_offsets`: some 10 MB.
pub const PENDING_IDS_PER_PARTITION_MAX: usize = 25_000;

/// Ids that a group may hand out even then: a flood of some groups must not lock out the others.
pub const PENDING_IDS_OF_ANY_GROUP: usize = 16;

/// Requests to one group that wait while a record that deletes something is on its way to the log:
/// carrying them out when it has arrived is a millisecond or two of work. Each connection has one
/// at a time, and whoever is one too many tries again.
pub const GROUP_REQUESTS_WAITING_MAX: usize = 2048;

/// Timers of groups that one step takes care of, a fraction of a millisecond's work: ten thousand
/// groups that were loaded together are due together.
pub const GROUP_TIMERS_PER_STEP_MAX: usize = 128;

/// Answers and appends past which such a step ends, too: a timer may concern a thousand members.
pub const GROUP_EFFECTS_PER_STEP_MAX: usize = 512;

/// Groups whose offsets one step looks at for what has expired, a fraction of a millisecond's work.
pub const EXPIRY_GROUPS_PER_STEP_MAX: usize = 128;

/// The time between two such steps, in milliseconds, so that requests come in between.
pub const EXPIRY_STEP_PAUSE_MS: u64 = 5;

/// Expired offsets of one group that go together. Their records are one batch, which must fit into
/// the log's: a key takes a few hundred bytes, as topics' names are.
pub const EXPIRED_OFFSETS_PER_BATCH_MAX: usize = 1000;

/// A round that has left expired offsets behind is followed by another one after so many
/// milliseconds.
pub const EXPIRY_CONTINUED_MS: u64 = 1000;

/// What a batch takes around a group's key and value, in bytes: its header, and the record's own
/// lengths and attributes.
pub const GROUP_BATCH_OVERHEAD_BYTES: usize = BATCH_HEADER_BYTES + 32;

/// What a group's record and the batch around it take beside the members, in bytes: names of a few
/// hundred bytes at most.
pub const GROUP_RECORD_OVERHEAD_BYTES: usize = 1024;

/// What the protocols of a group's members may take in memory, as a multiple of what its record may
/// have: a member keeps all that it lists, and the record has one of them.
pub const PROTOCOLS_TO_RECORD_MAX: usize = 8;

/// The least time between two steps that a group takes by itself, in milliseconds: members may ask
/// for a rebalance timeout of 0.
pub const REBALANCE_REPEATED_MS_MIN: u64 = 1000;

/// What is kept of the reason that a client gives for a join or a leave, in characters: clients cut
/// it there themselves (KIP-800).
pub const GROUP_REASON_CHARS_MAX: usize = 255;

/// Deleted topics that a partition of `__consumer_offsets` remembers for the moments in which a
/// commit for one may still arrive: some 200 KB.
pub const DELETED_TOPICS_REMEMBERED_MAX: usize = 4096;

/// What one answer about groups may take in memory, in bytes, before further groups are refused: as
/// many offsets as some 400,000 partitions have, or the members of 64 groups of the largest kind.
pub const GROUPS_ANSWER_BYTES_MAX: usize = 64 << 20;

/// Groups of one request that are asked at once: the answers of no more than so many are in memory
/// before they are counted.
pub const GROUPS_ASKED_AT_ONCE_MAX: usize = 16;
