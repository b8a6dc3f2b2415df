//! What a partition is asked, and what it answers. These cross shards: owned data only.

use bytes::Bytes;

use crate::base::clock::TimestampMs;
use crate::base::ids::{LeaderEpoch, Offset, ProducerId, TopicIdPartition};
use crate::record::validate::RecordError;
use crate::shard::reply::Sender;
use crate::storage::error::LogError;

use super::producer_state::ProducerError;
use super::watch::MissingBytes;

/// A request to the partitions of one shard.
#[derive(Debug)]
pub enum PartitionMessage {
    /// Append one batch to one partition.
    Append(AppendRequest),
    /// Read several partitions, in this order, at most so many bytes of all together.
    Read(Vec<ReadRequest>, usize, Sender<Vec<ReadResult>>),
    /// Tell once these reads, with those at the other shards, would find all that is missing; or at
    /// once if one of them cannot be done.
    Watch(Vec<ReadRequest>, MissingBytes, Sender<()>),
    /// Find offsets.
    ListOffsets(
        Vec<OffsetQuery>,
        Sender<Vec<Result<FoundOffset, PartitionError>>>,
    ),
    /// Where leader epochs end.
    EpochEnds(
        Vec<EpochQuery>,
        Sender<Vec<Result<EpochEndOffset, PartitionError>>>,
    ),
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// At once: the client does not wait for the answer.
    None,
    /// When this broker will not lose it.
    Leader,
    /// When no in-sync replica will lose it.
    All,
}

/// One batch for one partition.
#[derive(Debug)]
pub struct AppendRequest {
    /// Where it goes.
    pub id: TopicIdPartition,
    /// The batch as the client sent it: a part of the request's frame, which stays accounted for
    /// until the batch is written.
    pub records: Bytes,
    /// When to answer.
    pub acks: Acks,
    /// Whether the request's version allows zstd (KIP-110).
    pub zstd_allowed: bool,
    /// Takes the answer.
    pub reply: Sender<Result<Appended, RefusedAppend>>,
}

/// An append that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The time of the append where the topic uses it as timestamp, or -1. Of a batch that was
    /// taken before, its timestamp.
    pub log_append_time: TimestampMs,
    /// The log start offset.
    pub log_start: Offset,
}

/// Why a partition could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// This shard does not have the partition, or not any more.
    #[error("the partition is not here")]
    NotHere,
    /// The partition is this shard's, and its files are not fit to be served.
    #[error("the partition could not be opened")]
    NotOpened,
    /// The request knows an older epoch than the leader's.
    #[error("leader epoch {requested} is older than {current}")]
    FencedLeaderEpoch {
        /// What the request has.
        requested: LeaderEpoch,
        /// What the leader has.
        current: LeaderEpoch,
    },
    /// The request knows a newer epoch than the leader's.
    #[error("leader epoch {requested} is newer than {current}")]
    UnknownLeaderEpoch {
        /// What the request has.
        requested: LeaderEpoch,
        /// What the leader has.
        current: LeaderEpoch,
    },
    /// The log could not.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// An append that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct RefusedAppend {
    /// Why.
    pub error: AppendError,
    /// The log start offset, or -1 where the partition is not here.
    pub log_start: Offset,
}

/// Why an append was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The partition could not.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// The batch is not as it must be.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The batch does not follow what its producer wrote before.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// A batch of a transaction: this broker coordinates none, so none can be open.
    #[error("no transaction is open for producer {0}")]
    NoTransaction(ProducerId),
}

/// One partition to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    /// Which.
    pub id: TopicIdPartition,
    /// The first offset wanted.
    pub from: Offset,
    /// How many bytes at most; the first partition that has any gives a whole batch at least.
    pub bytes_max: usize,
    /// The leader epoch that the client knows, or [`LeaderEpoch::UNKNOWN`].
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record that the client has, where it says so (KIP-595).
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Whether only committed transactions are shown.
    pub committed_only: bool,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct ReadResult {
    /// Why there are no chunks.
    pub error: Option<PartitionError>,
    /// Offsets below it may be shown; -1 where the partition is unknown.
    pub high_watermark: Offset,
    /// Offsets below it are decided, or -1.
    pub last_stable: Offset,
    /// The log start offset, or -1.
    pub log_start: Offset,
    /// Where the client's history and this log's part: it has to truncate, and is shown nothing.
    pub diverging: Option<EpochEndOffset>,
    /// The records.
    pub chunks: Vec<Bytes>,
}

impl ReadResult {
    /// How many bytes of records it has.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }
}

/// Which offset is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The end of what may be shown.
    Latest,
    /// The log start.
    Earliest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record of at least this timestamp.
    Timestamp(TimestampMs),
}

/// One partition's offset to find.
#[derive(Clone, Copy, Debug)]
pub struct OffsetQuery {
    /// Which partition.
    pub id: TopicIdPartition,
    /// Which offset.
    pub spec: OffsetSpec,
    /// The leader epoch that the client knows, or [`LeaderEpoch::UNKNOWN`].
    pub current_leader_epoch: LeaderEpoch,
    /// Whether the end is the last stable offset.
    pub committed_only: bool,
}

/// An offset that was found; offset and timestamp are -1 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: Offset,
    /// The record's timestamp, or -1.
    pub timestamp: TimestampMs,
    /// The leader epoch of that offset.
    pub leader_epoch: LeaderEpoch,
}

/// One partition whose epoch's end is sought.
#[derive(Clone, Copy, Debug)]
pub struct EpochQuery {
    /// Which partition.
    pub id: TopicIdPartition,
    /// The epoch that the client knows as current, or [`LeaderEpoch::UNKNOWN`].
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch asked for.
    pub leader_epoch: LeaderEpoch,
}

/// Where an epoch ends: both -1 where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The largest epoch up to the one asked for.
    pub leader_epoch: LeaderEpoch,
    /// The offset after its last record.
    pub end_offset: Offset,
}
