//! The settings that groups go by, as plain values. Pure; any shard.

use std::time::Duration;

use crate::config::BrokerConfig;

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

impl From<&BrokerConfig> for GroupConfig {
    fn from(broker: &BrokerConfig) -> Self {
        let groups = &broker.groups;
        let minutes = |minutes: u32| Duration::from_secs(u64::from(minutes) * 60);
        Self {
            min_session_timeout_ms: groups.group_min_session_timeout_ms,
            max_session_timeout_ms: groups.group_max_session_timeout_ms,
            initial_rebalance_delay: Duration::from_millis(
                groups.group_initial_rebalance_delay_ms.into(),
            ),
            max_size: groups.group_max_size as usize,
            record_bytes_max: broker.topic_defaults.max_message_bytes as usize,
            offset_metadata_units_max: groups.offset_metadata_max_bytes as usize,
            offsets_retention: minutes(groups.offsets_retention_minutes),
            offsets_retention_check_interval: Duration::from_millis(
                groups.offsets_retention_check_interval_ms,
            ),
        }
    }
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
