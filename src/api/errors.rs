//! Which Kafka error code answers what went wrong in the rooms below: here and nowhere else.

use bytestring::ByteString;

use crate::controller::{TopicError, Unavailable};
use crate::coordinator::group::error::GroupError;
use crate::partition::message::{AppendError, PartitionError};
use crate::partition::producer_state::ProducerError;
use crate::protocol::error_code::ErrorCode;
use crate::record::validate::RecordError;
use crate::storage::error::LogError;

/// The code for what a log could not do.
pub fn log_error(error: &LogError) -> ErrorCode {
    match error {
        // Retriable, and the client refreshes its metadata: what Kafka answers for a failed disk.
        LogError::NoRoom | LogError::NoDescriptor | LogError::Failed(_) | LogError::Damaged(_) => {
            ErrorCode::KafkaStorageError
        }
        LogError::Closed => ErrorCode::NotLeaderOrFollower,
        LogError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
    }
}

/// The code for what a partition could not do.
pub fn partition_error(error: &PartitionError) -> ErrorCode {
    match error {
        // The topic exists, or routing would have refused: its partition is on its way, or going.
        PartitionError::NotHere => ErrorCode::NotLeaderOrFollower,
        PartitionError::NotOpened => ErrorCode::KafkaStorageError,
        PartitionError::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        PartitionError::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
        PartitionError::Log(error) => log_error(error),
    }
}

/// The code for an append that was refused.
pub fn append_error(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Partition(error) => partition_error(error),
        AppendError::Record(error) => record_error(error),
        AppendError::Producer(error) => producer_error(error),
        AppendError::NoTransaction(_) => ErrorCode::InvalidTxnState,
    }
}

/// The code for a topic that the controller refused to create, change or delete.
pub fn topic_error(error: &TopicError) -> ErrorCode {
    match error {
        TopicError::InvalidName(_) | TopicError::CollidingName { .. } => {
            ErrorCode::InvalidTopicException
        }
        TopicError::AlreadyExists { .. } => ErrorCode::TopicAlreadyExists,
        TopicError::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
        TopicError::UnknownTopicId => ErrorCode::UnknownTopicId,
        TopicError::NullConfigs { .. } | TopicError::InvalidConfig(_) => ErrorCode::InvalidConfig,
        TopicError::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        TopicError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        TopicError::InvalidReplicaAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        TopicError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        TopicError::PolicyViolation(_) => ErrorCode::PolicyViolation,
    }
}

/// The longest text of a response, in bytes: more than any that names nothing from a request.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// What a response says of an error. It is cut where it would be no string of the protocol: a name
/// that it repeats may be as long as one.
pub fn text_of(error: &impl ToString) -> ByteString {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text.into()
}

/// The code for a request that the controller did not carry out. Clients try again after a
/// time-out, and know that the change may have been made.
pub fn unavailable(error: Unavailable) -> ErrorCode {
    match error {
        Unavailable::NoRoom => ErrorCode::KafkaStorageError,
        Unavailable::Busy | Unavailable::Stopped => ErrorCode::RequestTimedOut,
    }
}

/// The code for what a group coordinator refused or could not do.
pub fn group_error(error: GroupError) -> ErrorCode {
    match error {
        GroupError::Unexpected => ErrorCode::UnknownServerError,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::LoadInProgress => ErrorCode::CoordinatorLoadInProgress,
        GroupError::NotAvailable => ErrorCode::CoordinatorNotAvailable,
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
        GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::UnstableOffsetCommit => ErrorCode::UnstableOffsetCommit,
        GroupError::UnknownTopicId => ErrorCode::UnknownTopicId,
    }
}

fn producer_error(error: &ProducerError) -> ErrorCode {
    match error {
        ProducerError::InvalidEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        ProducerError::OutOfOrder { .. } | ProducerError::NewEpoch { .. } => {
            ErrorCode::OutOfOrderSequenceNumber
        }
        ProducerError::OutsideTransaction { .. } => ErrorCode::InvalidTxnState,
        ProducerError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
    }
}

fn record_error(error: &RecordError) -> ErrorCode {
    match error {
        RecordError::NoBatch
        | RecordError::Incomplete { .. }
        | RecordError::OldMagic { .. }
        | RecordError::MoreThanOneBatch { .. }
        | RecordError::BaseOffset { .. }
        | RecordError::RecordsCount { .. }
        | RecordError::OffsetRange { .. }
        | RecordError::ControlBatch
        | RecordError::Sequence { .. }
        | RecordError::Malformed { .. }
        | RecordError::BytesAfterRecords { .. }
        | RecordError::Compression { .. }
        | RecordError::InvalidRecords(_) => ErrorCode::InvalidRecord,
        RecordError::Length { .. } | RecordError::UnknownMagic { .. } | RecordError::Crc { .. } => {
            ErrorCode::CorruptMessage
        }
        RecordError::ZstdNotAllowed | RecordError::UnknownCodec { .. } => {
            ErrorCode::UnsupportedCompressionType
        }
        RecordError::BatchTooLarge { .. } | RecordError::DecompressedTooLarge { .. } => {
            ErrorCode::MessageTooLarge
        }
        RecordError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        RecordError::InvalidTimestamps(_) => ErrorCode::InvalidTimestamp,
    }
}
