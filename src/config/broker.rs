//! What the broker itself goes by, read once from the layers into types. Any shard; an immutable
//! value, made anew when a dynamic setting changes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::base::ids::NodeId;

use super::ConfigError;
use super::groups::GroupsConfig;
use super::layers::{Layers, Values, known};
use super::listener::{AdvertisedListener, Listener, Listeners};
use super::read::Read;
use super::registry::Settings;
use super::topic::TopicConfig;

/// The broker's settings. Times are in milliseconds, sizes in bytes, as the keys say.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Every value that was set, from which DescribeConfigs answers.
    pub layers: Layers,
    /// What counts for a topic that sets nothing.
    pub topic_defaults: TopicConfig,
    /// What consumer groups go by.
    pub groups: GroupsConfig,

    /// `node.id`.
    pub node_id: NodeId,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `listeners`, without those for controllers.
    pub listeners: Vec<Listener>,
    /// `advertised.listeners`, or the listeners themselves.
    pub advertised_listeners: Vec<AdvertisedListener>,
    /// `log.dirs`, or where that is not set `log.dir`: one at least, none twice.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`; `None` for one of `log.dirs`: the first where the node is new.
    pub metadata_log_dir: Option<PathBuf>,

    /// `millrace.shards`; `None` for one for each core that the process may use.
    pub shards: Option<u16>,
    /// `millrace.advertise.shards`: whether clients take each shard for a broker.
    pub advertise_shards: bool,
    /// `millrace.memory.bytes`; `None` for a share of the machine's.
    pub memory_bytes: Option<u64>,
    /// `millrace.disk.reserve.bytes`, of each log directory; `None` for a share of its file system.
    pub disk_reserve_bytes: Option<u64>,
    /// `millrace.scrub.bytes.per.second`, of each shard; 0 for no scrub.
    pub scrub_bytes_per_second: u64,
    /// `millrace.scrub.interval.ms`.
    pub scrub_interval_ms: u64,

    /// `auto.create.topics.enable`.
    pub auto_create_topics_enable: bool,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `num.partitions`, of a topic whose creator names none.
    pub num_partitions: u32,
    /// `default.replication.factor`, of a topic whose creator names none.
    pub default_replication_factor: u32,

    /// `socket.request.max.bytes`.
    pub socket_request_max_bytes: u32,
    /// `socket.send.buffer.bytes`; `None` leaves it to the kernel.
    pub socket_send_buffer_bytes: Option<u64>,
    /// `socket.receive.buffer.bytes`; `None` leaves it to the kernel.
    pub socket_receive_buffer_bytes: Option<u64>,
    /// `socket.listen.backlog.size`, of each shard's socket.
    pub socket_listen_backlog_size: u32,
    /// `connections.max.idle.ms`; `None` never closes an idle connection.
    pub connections_max_idle_ms: Option<u64>,
    /// `max.connections`, of the whole broker.
    pub max_connections: u32,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: u32,
    /// `max.connections.per.ip.overrides`, where they name addresses.
    pub max_connections_per_ip_overrides: BTreeMap<IpAddr, u32>,

    /// `fetch.max.bytes`, of one reply.
    pub fetch_max_bytes: u32,
    /// `max.incremental.fetch.session.cache.slots`, of the whole broker.
    pub max_incremental_fetch_session_cache_slots: u32,
    /// `max.request.partition.size.limit`, of one DescribeTopicPartitions reply.
    pub max_request_partition_size_limit: u32,
    /// `telemetry.max.bytes`, of one push.
    pub telemetry_max_bytes: u32,

    /// `transaction.max.timeout.ms`: the longest that a producer may ask for.
    pub transaction_max_timeout_ms: u32,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: u64,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_interval_ms: u64,
    /// `log.retention.check.interval.ms`.
    pub log_retention_check_interval_ms: u64,
    /// `log.initial.task.delay.ms`, before retention first runs.
    pub log_initial_task_delay_ms: u64,
}

impl BrokerConfig {
    /// Reads and checks everything that was set. Unknown keys are kept and not looked at.
    pub fn new(mut layers: Layers) -> Result<Self, ConfigError> {
        Self::join_ids(&mut layers.fixed)?;
        Self::check_values(&layers)?;
        let config = {
            let lookup = |key: &str| layers.value(known(key));
            Self::read(&Read(&lookup), &layers)?
        };
        let retention = TopicConfig::new(&layers, &Values::new())?.retention_ms;
        if retention == Some(0) {
            return Err(ConfigError::Conflict(
                "log.retention.ms must be unlimited (-1) or, greater than or equal to 1".to_owned(),
            ));
        }
        Ok(Self { layers, ..config })
    }

    /// `broker.id` and `node.id` are one: the one that is given stands for both, as in Kafka.
    fn join_ids(fixed: &mut Values) -> Result<(), ConfigError> {
        let (broker, node) = ("broker.id", "node.id");
        match (fixed.get(broker).cloned(), fixed.get(node).cloned()) {
            (Some(id), None) => fixed.insert(node.to_owned(), id),
            (None, Some(id)) => fixed.insert(broker.to_owned(), id),
            (Some(one), Some(other)) if one.trim() != other.trim() => {
                return Err(ConfigError::Conflict(format!(
                    "You must set `node.id` to the same value as `broker.id`: {other} is not {one}"
                )));
            }
            _ => None,
        };
        Ok(())
    }

    /// Checks every value of every layer, also those that nothing goes by.
    fn check_values(layers: &Layers) -> Result<(), ConfigError> {
        for (values, _) in layers.in_order() {
            for (key, text) in values {
                if let Some(setting) = Settings::broker().get(key) {
                    setting.parse(text)?;
                }
            }
        }
        Ok(())
    }

    fn read(read: &Read<'_>, layers: &Layers) -> Result<Self, ConfigError> {
        check_alone(read)?;
        let Listeners {
            listeners,
            advertised,
        } = Listeners::read(read)?;
        Ok(Self {
            layers: Layers::default(),
            topic_defaults: TopicConfig::new(layers, &Values::new())?,
            groups: GroupsConfig::read(read, layers)?,
            node_id: NodeId(read.integer("node.id")? as i32),
            rack: read.optional_text("broker.rack")?,
            listeners,
            advertised_listeners: advertised,
            log_dirs: log_dirs(read)?,
            metadata_log_dir: metadata_log_dir(read)?,
            // The table bounds it to 1024.
            shards: read.optional_integer("millrace.shards")?.map(|n| n as u16),
            advertise_shards: read.boolean("millrace.advertise.shards")?,
            memory_bytes: read
                .optional_integer("millrace.memory.bytes")?
                .map(|n| n as u64),
            disk_reserve_bytes: read
                .optional_integer("millrace.disk.reserve.bytes")?
                .map(|n| n as u64),
            scrub_bytes_per_second: read.long("millrace.scrub.bytes.per.second")?,
            scrub_interval_ms: read.long("millrace.scrub.interval.ms")?,
            auto_create_topics_enable: read.boolean("auto.create.topics.enable")?,
            delete_topic_enable: read.boolean("delete.topic.enable")?,
            num_partitions: read.size("num.partitions")?,
            default_replication_factor: read.size("default.replication.factor")?,
            socket_request_max_bytes: read.size("socket.request.max.bytes")?,
            socket_send_buffer_bytes: read.limit("socket.send.buffer.bytes")?,
            socket_receive_buffer_bytes: read.limit("socket.receive.buffer.bytes")?,
            socket_listen_backlog_size: read.size("socket.listen.backlog.size")?,
            connections_max_idle_ms: read.limit("connections.max.idle.ms")?,
            max_connections: read.size("max.connections")?,
            max_connections_per_ip: read.size("max.connections.per.ip")?,
            max_connections_per_ip_overrides: per_ip_overrides(read)?,
            fetch_max_bytes: read.size("fetch.max.bytes")?,
            max_incremental_fetch_session_cache_slots: read
                .size("max.incremental.fetch.session.cache.slots")?,
            max_request_partition_size_limit: read.size("max.request.partition.size.limit")?,
            telemetry_max_bytes: read.size("telemetry.max.bytes")?,
            transaction_max_timeout_ms: read.size("transaction.max.timeout.ms")?,
            producer_id_expiration_ms: read.long("producer.id.expiration.ms")?,
            producer_id_expiration_check_interval_ms: read
                .long("producer.id.expiration.check.interval.ms")?,
            log_retention_check_interval_ms: read.long("log.retention.check.interval.ms")?,
            log_initial_task_delay_ms: read.long("log.initial.task.delay.ms")?,
        })
    }
}

fn unsupported(key: &str, value: &str, reason: &str) -> ConfigError {
    ConfigError::Unsupported {
        key: key.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Refuses what would protect access or make a cluster, as long as neither is built: it must not
/// look as if it were there.
fn check_alone(read: &Read<'_>) -> Result<(), ConfigError> {
    let roles = read.list("process.roles")?;
    if roles.len() != 2 {
        return Err(unsupported(
            "process.roles",
            &roles.join(","),
            "a node runs alone so far, so it is both: set broker,controller",
        ));
    }
    for key in [
        "controller.quorum.voters",
        "controller.quorum.bootstrap.servers",
    ] {
        let controllers = read.list(key)?;
        if controllers.len() > 1 {
            let reason = "a node runs alone so far: name one controller or none";
            return Err(unsupported(key, &controllers.join(","), reason));
        }
    }
    if let Some(class) = read.optional_text("authorizer.class.name")? {
        return Err(unsupported(
            "authorizer.class.name",
            &class,
            "there is no authorization yet, and the broker does not start as if there were: \
             remove the setting, and guard the port by the network",
        ));
    }
    if read.boolean("remote.log.storage.system.enable")? {
        return Err(unsupported(
            "remote.log.storage.system.enable",
            "true",
            "there is no tiered storage yet",
        ));
    }
    Ok(())
}

fn log_dirs(read: &Read<'_>) -> Result<Vec<PathBuf>, ConfigError> {
    let dirs = match read.list("log.dirs")? {
        dirs if dirs.is_empty() => read.list("log.dir")?,
        dirs => dirs,
    };
    Ok(dirs.into_iter().map(PathBuf::from).collect())
}

fn metadata_log_dir(read: &Read<'_>) -> Result<Option<PathBuf>, ConfigError> {
    let dir = read.optional_text("metadata.log.dir")?;
    Ok(dir.filter(|dir| !dir.is_empty()).map(PathBuf::from))
}

/// `address:count` by comma. Host names are resolved by nobody here, so only addresses count.
fn per_ip_overrides(read: &Read<'_>) -> Result<BTreeMap<IpAddr, u32>, ConfigError> {
    let key = "max.connections.per.ip.overrides";
    let text = read.text(key)?;
    text.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let parsed = entry.rsplit_once(':').and_then(|(address, count)| {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                Some((address.parse().ok()?, count.parse().ok()?))
            });
            parsed.ok_or_else(|| ConfigError::InvalidValue {
                key: key.to_owned(),
                value: entry.to_owned(),
                reason: "it is written address:count, with the address as numbers".to_owned(),
            })
        })
        .collect()
}
