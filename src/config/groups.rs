//! What consumer groups and `__consumer_offsets` go by. Any shard; an immutable value.

use super::ConfigError;
use super::layers::Layers;
use super::read::Read;

/// The settings of classic groups and of committed offsets. All need a restart to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupsConfig {
    /// `group.min.session.timeout.ms`. Kafka does not bound it, so it may be negative.
    pub group_min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`. Kafka does not bound it either.
    pub group_max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay_ms: u32,
    /// `group.max.size`, in members.
    pub group_max_size: u32,
    /// `offset.metadata.max.bytes`; Kafka counts UTF-16 units.
    pub offset_metadata_max_bytes: u32,
    /// `offsets.retention.minutes`.
    pub offsets_retention_minutes: u32,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: u64,
    /// `offsets.commit.timeout.ms`, of everything that a coordinator writes.
    pub offsets_commit_timeout_ms: u32,
    /// `offsets.load.buffer.size`, in bytes.
    pub offsets_load_buffer_size: u32,
    /// `offsets.topic.num.partitions`, which counts until the topic exists.
    pub offsets_topic_num_partitions: u32,
    /// `offsets.topic.replication.factor`; `None` where nobody has set it: then as many replicas as
    /// there are brokers do, up to Kafka's three, so that a single node has groups.
    pub offsets_topic_replication_factor: Option<u32>,
    /// `offsets.topic.segment.bytes`.
    pub offsets_topic_segment_bytes: u32,
    /// `offsets.topic.compression.codec`, as the number in a batch's attributes.
    pub offsets_topic_compression_codec: u8,
}

impl GroupsConfig {
    pub(super) fn read(read: &Read<'_>, layers: &Layers) -> Result<Self, ConfigError> {
        // The table has these two as 32-bit integers.
        let timeout = |key: &str| read.integer(key).map(|number| number as i32);
        Ok(Self {
            group_min_session_timeout_ms: timeout("group.min.session.timeout.ms")?,
            group_max_session_timeout_ms: timeout("group.max.session.timeout.ms")?,
            group_initial_rebalance_delay_ms: read.size("group.initial.rebalance.delay.ms")?,
            group_max_size: read.size("group.max.size")?,
            offset_metadata_max_bytes: read.size("offset.metadata.max.bytes")?,
            offsets_retention_minutes: read.size("offsets.retention.minutes")?,
            offsets_retention_check_interval_ms: read
                .long("offsets.retention.check.interval.ms")?,
            offsets_commit_timeout_ms: read.size("offsets.commit.timeout.ms")?,
            offsets_load_buffer_size: read.size("offsets.load.buffer.size")?,
            offsets_topic_num_partitions: read.size("offsets.topic.num.partitions")?,
            offsets_topic_replication_factor: layers
                .set_value("offsets.topic.replication.factor")
                .map(|_set| read.size("offsets.topic.replication.factor"))
                .transpose()?,
            offsets_topic_segment_bytes: read.size("offsets.topic.segment.bytes")?,
            offsets_topic_compression_codec: codec(read)?,
        })
    }
}

/// A number that Kafka checks only when it starts.
fn codec(read: &Read<'_>) -> Result<u8, ConfigError> {
    let key = "offsets.topic.compression.codec";
    match read.integer(key)? {
        number @ 0..=4 => Ok(number as u8),
        number => Err(ConfigError::InvalidValue {
            key: key.to_owned(),
            value: number.to_string(),
            reason: "it is 0 for none, 1 for gzip, 2 for snappy, 3 for lz4 or 4 for zstd"
                .to_owned(),
        }),
    }
}
