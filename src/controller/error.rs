//! Why one topic of a request is refused, in the words of Kafka 4.3.1's controller. Pure.

use bytestring::ByteString;

use crate::config::ConfigError;
use crate::metadata::topic_name::InvalidTopicName;

/// What is wrong with one topic of a request. `api` maps the variants to Kafka's error codes; those
/// that carry a code of the same name need no word about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// INVALID_TOPIC_EXCEPTION.
    #[error(transparent)]
    InvalidName(#[from] InvalidTopicName),
    /// INVALID_TOPIC_EXCEPTION: the names of its metrics would be those of another topic.
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    CollidingName {
        /// The new name.
        name: ByteString,
        /// The topic in its way.
        existing: ByteString,
    },
    /// TOPIC_ALREADY_EXISTS.
    #[error("Topic '{name}' already exists.")]
    AlreadyExists {
        /// Its name.
        name: ByteString,
    },
    /// UNKNOWN_TOPIC_OR_PARTITION.
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    /// UNKNOWN_TOPIC_ID.
    #[error("This server does not host this topic ID.")]
    UnknownTopicId,
    /// INVALID_CONFIG.
    #[error("Null value not supported for topic configs: {keys}")]
    NullConfigs {
        /// The settings without a value, separated by commas.
        keys: String,
    },
    /// INVALID_CONFIG.
    #[error(transparent)]
    InvalidConfig(#[from] ConfigError),
    /// INVALID_PARTITIONS.
    #[error("{0}")]
    InvalidPartitions(String),
    /// INVALID_REPLICATION_FACTOR.
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// INVALID_REPLICA_ASSIGNMENT.
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    /// INVALID_REQUEST.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// POLICY_VIOLATION.
    #[error("{0}")]
    PolicyViolation(&'static str),
}

/// Kafka's words for a request that wants too many partitions.
pub(super) const TOO_MANY_PARTITIONS: &str = "Excessively large number of partitions per request.";
/// Kafka's words for a request that takes too many records.
pub(super) const TOO_MANY_RECORDS: &str = "Unable to perform excessively large batch operation.";
