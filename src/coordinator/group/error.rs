//! Why a request to a group is refused. `api` maps the variants to Kafka's error codes. Pure.

/// What is wrong with a request to a group, or with the coordinator that got it. Each variant
/// carries the name of Kafka's code for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum GroupError {
    /// UNKNOWN_SERVER_ERROR: a request that no client sends, or a record that its log refused.
    #[error("the request could not be carried out")]
    Unexpected,
    /// OFFSET_METADATA_TOO_LARGE.
    #[error("the metadata of a committed offset is too large")]
    OffsetMetadataTooLarge,
    /// COORDINATOR_LOAD_IN_PROGRESS.
    #[error("the coordinator is loading")]
    LoadInProgress,
    /// COORDINATOR_NOT_AVAILABLE.
    #[error("the coordinator is not available")]
    NotAvailable,
    /// NOT_COORDINATOR.
    #[error("this broker is not the group's coordinator")]
    NotCoordinator,
    /// ILLEGAL_GENERATION.
    #[error("the generation is not the group's")]
    IllegalGeneration,
    /// INCONSISTENT_GROUP_PROTOCOL.
    #[error("the member's protocols are not the group's")]
    InconsistentProtocol,
    /// INVALID_GROUP_ID.
    #[error("the group's id is empty")]
    InvalidGroupId,
    /// UNKNOWN_MEMBER_ID.
    #[error("the group has no such member")]
    UnknownMemberId,
    /// INVALID_SESSION_TIMEOUT.
    #[error("the session timeout is outside of what the broker allows")]
    InvalidSessionTimeout,
    /// REBALANCE_IN_PROGRESS.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// NON_EMPTY_GROUP.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// GROUP_ID_NOT_FOUND.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// MEMBER_ID_REQUIRED (KIP-394).
    #[error("the member has to join with the id that it was given")]
    MemberIdRequired,
    /// GROUP_MAX_SIZE_REACHED (KIP-389).
    #[error("the group is full")]
    GroupMaxSizeReached,
    /// FENCED_INSTANCE_ID (KIP-345).
    #[error("another member has taken over the instance id")]
    FencedInstanceId,
    /// GROUP_SUBSCRIBED_TO_TOPIC (KIP-496).
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// UNSTABLE_OFFSET_COMMIT (KIP-447).
    #[error("a transaction has not decided about the offset yet")]
    UnstableOffsetCommit,
    /// UNKNOWN_TOPIC_ID.
    #[error("there is no topic with the id")]
    UnknownTopicId,
}
