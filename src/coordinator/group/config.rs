//! The settings that groups go by, as plain values. Pure; any shard.

use std::time::Duration;

/// What a machine goes by as long as it lives: none of it changes without a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`, in members.
    pub max_size: usize,
    /// `max.message.bytes` of `__consumer_offsets`: one record holds a whole group.
    pub record_bytes_max: usize,
    /// `offset.metadata.max.bytes`, which counts UTF-16 units.
    pub offset_metadata_units_max: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
}

impl Default for GroupConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay: Duration::from_secs(3),
            max_size: i32::MAX as usize,
            record_bytes_max: 1_048_588,
            offset_metadata_units_max: 4096,
            offsets_retention: Duration::from_secs(10_080 * 60),
            offsets_retention_check_interval: Duration::from_secs(600),
        }
    }
}
