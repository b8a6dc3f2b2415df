//! The settings of one topic as its log goes by them: what was set on the topic, and below it the
//! broker's defaults. Any shard; an immutable value, made anew when either changes.

use super::ConfigError;
use super::layers::{Layers, Values};
use super::read::Read;
use super::registry::Settings;
use super::value::Value;

/// When a write is synced to disk, `millrace.flush`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushMode {
    /// Before any acknowledgement, acks=1 included.
    Always,
    /// Before an acknowledgement at acks=all, and before a consumer sees the records.
    #[default]
    Acks,
    /// When the kernel likes.
    Never,
}

/// Which timestamp a log keeps, `message.timestamp.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's, at the append.
    LogAppendTime,
}

/// How a log holds its batches, `compression.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    #[default]
    Producer,
    /// Not compressed.
    Uncompressed,
    /// Compressed by zstd.
    Zstd,
    /// Compressed by LZ4.
    Lz4,
    /// Compressed by Snappy.
    Snappy,
    /// Compressed by gzip.
    Gzip,
}

/// What becomes of old data, `cleanup.policy`. Neither means that nothing is ever cleaned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Segments beyond the retention are deleted.
    pub delete: bool,
    /// Only the last record of a key is kept.
    pub compact: bool,
}

/// The settings of one topic. Times are in milliseconds, sizes in bytes, as the keys say.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// A segment is rolled before it would grow past this: `segment.bytes`.
    pub segment_bytes: u32,
    /// A segment is rolled when its first record is this old: `segment.ms`.
    pub segment_ms: u64,
    /// Up to this much is taken off [`Self::segment_ms`], at random: `segment.jitter.ms`.
    pub segment_jitter_ms: u64,
    /// The bound of each index file: `segment.index.bytes`.
    pub segment_index_bytes: u32,
    /// About one index entry for this many bytes of log: `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// Segments whose newest record is older are deleted; `None` keeps them: `retention.ms`.
    pub retention_ms: Option<u64>,
    /// The oldest segments are deleted while the log is larger; `None` keeps them:
    /// `retention.bytes`.
    pub retention_bytes: Option<u64>,
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// A deleted file is unlinked after this: `file.delete.delay.ms`.
    pub file_delete_delay_ms: u64,
    /// The bound of one batch as it stands in the log: `max.message.bytes`.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// How far a timestamp may lie before the broker's clock: `message.timestamp.before.max.ms`.
    pub message_timestamp_before_max_ms: u64,
    /// How far a timestamp may lie after the broker's clock: `message.timestamp.after.max.ms`.
    pub message_timestamp_after_max_ms: u64,
    /// `compression.type`.
    pub compression_type: CompressionType,
    /// `compression.gzip.level`; -1 is the library's own.
    pub compression_gzip_level: i32,
    /// `compression.lz4.level`.
    pub compression_lz4_level: i32,
    /// `compression.zstd.level`.
    pub compression_zstd_level: i32,
    /// At acks=all, a produce is refused while fewer replicas are in sync:
    /// `min.insync.replicas`. As in Kafka's `Partition.effectiveMinIsr` the number of replicas
    /// bounds it, so it acts once a partition has more than one.
    pub min_insync_replicas: u32,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election_enable: bool,
    /// `delete.retention.ms`: how long compaction keeps a tombstone.
    pub delete_retention_ms: u64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: u64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: u64,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `flush.messages`: a sync after this many records.
    pub flush_messages: u64,
    /// `flush.ms`: a sync after this long.
    pub flush_ms: u64,
    /// `preallocate`.
    pub preallocate: bool,
    /// When a write is synced: `millrace.flush`.
    pub flush: FlushMode,
}

/// A topic without settings of its own on a broker without any.
impl Default for TopicConfig {
    fn default() -> Self {
        Self::new(&Layers::default(), &Values::new()).expect("the defaults of the tables are valid")
    }
}

impl TopicConfig {
    /// What counts for a topic on which `overrides` are set, on a broker set up by `broker`.
    /// Checks everything that Kafka checks when a topic is created or altered.
    pub fn new(broker: &Layers, overrides: &Values) -> Result<Self, ConfigError> {
        Self::check_names(overrides)?;
        let effective = Effective { broker, overrides };
        // Kafka checks every value, also those that nothing goes by yet.
        for setting in Settings::topic().iter() {
            effective.value(setting.key)?;
        }
        let lookup = |key: &str| effective.value(key);
        let read = Read(&lookup);
        let config = Self::read(&read)?;
        if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
            return Err(ConfigError::Conflict(format!(
                "conflict topic config setting min.compaction.lag.ms ({}) > \
                 max.compaction.lag.ms ({})",
                config.min_compaction_lag_ms, config.max_compaction_lag_ms
            )));
        }
        if read.boolean("remote.storage.enable")? {
            return Err(ConfigError::Conflict(
                "Tiered Storage functionality is disabled in the broker. Topic cannot be \
                 configured with remote log storage."
                    .to_owned(),
            ));
        }
        Ok(config)
    }

    /// Checks one setting of a topic by itself: its name, its type, its bounds.
    pub fn check_override(key: &str, text: &str) -> Result<Value, ConfigError> {
        let setting = Settings::topic().get(key).ok_or_else(|| unknown(key))?;
        setting.parse(text)
    }

    fn check_names(overrides: &Values) -> Result<(), ConfigError> {
        match overrides
            .keys()
            .find(|key| Settings::topic().get(key).is_none())
        {
            Some(key) => Err(unknown(key)),
            None => Ok(()),
        }
    }

    fn read(read: &Read<'_>) -> Result<Self, ConfigError> {
        let cleanup = read.list("cleanup.policy")?;
        let has = |policy: &str| cleanup.iter().any(|each| each == policy);
        Ok(Self {
            segment_bytes: match read.optional_integer("internal.segment.bytes")? {
                Some(bytes) => bytes.max(1) as u32,
                None => read.size("segment.bytes")?,
            },
            segment_ms: read.long("segment.ms")?,
            segment_jitter_ms: read.long("segment.jitter.ms")?,
            segment_index_bytes: read.size("segment.index.bytes")?,
            index_interval_bytes: read.size("index.interval.bytes")?,
            retention_ms: read.limit("retention.ms")?,
            retention_bytes: read.limit("retention.bytes")?,
            cleanup_policy: CleanupPolicy {
                delete: has("delete"),
                compact: has("compact"),
            },
            file_delete_delay_ms: read.long("file.delete.delay.ms")?,
            max_message_bytes: read.size("max.message.bytes")?,
            message_timestamp_type: match read.text("message.timestamp.type")?.as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            message_timestamp_before_max_ms: read.long("message.timestamp.before.max.ms")?,
            message_timestamp_after_max_ms: read.long("message.timestamp.after.max.ms")?,
            compression_type: match read.text("compression.type")?.as_str() {
                "uncompressed" => CompressionType::Uncompressed,
                "zstd" => CompressionType::Zstd,
                "lz4" => CompressionType::Lz4,
                "snappy" => CompressionType::Snappy,
                "gzip" => CompressionType::Gzip,
                _ => CompressionType::Producer,
            },
            compression_gzip_level: read.integer("compression.gzip.level")? as i32,
            compression_lz4_level: read.integer("compression.lz4.level")? as i32,
            compression_zstd_level: read.integer("compression.zstd.level")? as i32,
            min_insync_replicas: read.size("min.insync.replicas")?,
            unclean_leader_election_enable: read.boolean("unclean.leader.election.enable")?,
            delete_retention_ms: read.long("delete.retention.ms")?,
            min_compaction_lag_ms: read.long("min.compaction.lag.ms")?,
            max_compaction_lag_ms: read.long("max.compaction.lag.ms")?,
            min_cleanable_dirty_ratio: read.double("min.cleanable.dirty.ratio")?,
            flush_messages: read.long("flush.messages")?,
            flush_ms: read.long("flush.ms")?,
            preallocate: read.boolean("preallocate")?,
            flush: match read.text("millrace.flush")?.as_str() {
                "always" => FlushMode::Always,
                "never" => FlushMode::Never,
                _ => FlushMode::Acks,
            },
        })
    }
}

fn unknown(key: &str) -> ConfigError {
    ConfigError::UnknownTopicSetting {
        key: key.to_owned(),
    }
}

/// Finds a topic's effective values: the topic's own, the broker's, the default.
pub(super) struct Effective<'a> {
    pub(super) broker: &'a Layers,
    pub(super) overrides: &'a Values,
}

impl Effective<'_> {
    /// The value that counts for the topic's setting `key`; `None` where that is null.
    pub(super) fn value(&self, key: &str) -> Result<Option<Value>, ConfigError> {
        let setting = Settings::topic().get(key).ok_or_else(|| unknown(key))?;
        if let Some(text) = self.overrides.get(key) {
            return setting.parse(text).map(Some);
        }
        let Some(broker_key) = setting.broker_key else {
            return Ok(setting.default_value());
        };
        let value = match self.broker.value_with_synonyms(broker_key)? {
            // Any negative retention means that time deletes nothing; Kafka shows it as -1.
            Some(Value::Integer(ms)) if key == "retention.ms" => Some(Value::Integer(ms.max(-1))),
            value => value,
        };
        // The broker's own bounds are wider for some, such as log.roll.ms.
        if let Some(value) = &value {
            setting.allowed.check(broker_key, value)?;
        }
        Ok(value)
    }
}
