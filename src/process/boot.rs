//! Everything between the command line and the first shard: settings are gathered and checked, the
//! machine is asked, the directories are locked, the ports are kept. Runs on the main thread.

use std::path::PathBuf;
use std::time::Instant;

use crate::config::sources::{Given, SourceError};
use crate::config::{AdvertisedListener, BrokerConfig, Layers, Settings};
use crate::shard::advertised::{AdvertisedShards, NODE_IDS_A_SHARD};
use crate::shard::executor::ExecutorConfig;

use super::Exit;
use super::directories::DataDirectories;
use super::directory::DirectoryError;
use super::listeners::{self, ListenError, ReservedListener};
use super::machine::{self, Cpus, MachineError};

/// Why the broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A configuration file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A setting is wrong: names it, its value, where it was given and what is allowed.
    #[error("{0}")]
    Setting(String),
    /// The machine does not do.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A data directory does not do.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A port does not do.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl BootError {
    /// The code with which the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Source(_) | Self::Setting(_) | Self::Machine(_) => Exit::Configuration,
            Self::Directory(DirectoryError::Io { .. } | DirectoryError::NoDirectory { .. }) => {
                Exit::Io
            }
            Self::Directory(DirectoryError::Locked { .. }) | Self::Listen(_) => Exit::Failure,
            Self::Directory(_) => Exit::Configuration,
        }
    }
}

/// Everything that the shards need, checked and held.
#[derive(Debug)]
pub struct Prepared {
    /// The broker's settings.
    pub config: BrokerConfig,
    /// How the executors are made: the number of shards, their CPUs, their memory for direct I/O.
    pub executor: ExecutorConfig,
    /// The ceiling of all buffers of all shards, in bytes.
    pub memory_bytes: u64,
    /// The longest request that is taken: what `socket.request.max.bytes` says, or what fits.
    pub request_bytes_max: u64,
    /// How many files the process may have open.
    pub open_files_max: u64,
    /// The data directories, locked.
    pub directories: DataDirectories,
    /// The ports, kept until this is dropped.
    pub listeners: Vec<ReservedListener>,
    /// What clients are told, complete.
    pub advertised_listeners: Vec<AdvertisedListener>,
    /// When the process began, for the time to ready.
    pub started: Instant,
}

/// Gathers the settings from the file, the environment and the flags.
pub fn gather(
    file: &Option<PathBuf>,
    overrides: Vec<(String, String)>,
) -> Result<Given, BootError> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let value = value.to_string_lossy().into_owned();
        Some((name.into_string().ok()?, value))
    });
    Ok(Given::gather(file.as_deref(), environment, overrides)?)
}

/// Checks the settings and the surroundings, and takes hold of the directories and the ports.
///
/// The ports come before the directories: a broker that is started a second time, or in another's
/// place, must not leave a formatted directory behind.
pub fn prepare(given: &Given, started: Instant) -> Result<Prepared, BootError> {
    if let Some(unknown) = given.explain_unknown_of_ours() {
        return Err(BootError::Setting(unknown));
    }
    tell_about(given);
    let config = BrokerConfig::new(Layers::of_start(given.values.clone()))
        .map_err(|error| BootError::Setting(given.explain(&error)))?;
    let cpus = Cpus::of_process()?;
    let shards = config.shards.unwrap_or_else(|| cpus.shards());
    cpus.tell_about_too_many(shards);
    let memory_bytes = machine::memory_ceiling(config.memory_bytes, shards)?;
    let request_bytes_max = request_bytes_max(&config, memory_bytes, shards)?;
    let open_files_max = machine::raise_open_files()?;
    machine::check_io_uring(shards)?;
    let executor = ExecutorConfig {
        shards,
        cpus: cpus.to_pin(),
        ring_depth: machine::RING_DEPTH,
        ..ExecutorConfig::default()
    };
    let advertised = advertised_shards(&config, shards)?;
    let listeners = listeners::reserve(&config.listeners, advertised)?;
    let advertised_listeners =
        listeners::advertise(&config.advertised_listeners, &listeners, advertised)?;
    let metadata_dir = config.metadata_log_dir.as_deref();
    let directories = DataDirectories::open(&config.log_dirs, metadata_dir, config.node_id)?;
    Ok(Prepared {
        config,
        executor,
        memory_bytes,
        request_bytes_max,
        open_files_max,
        directories,
        listeners,
        advertised_listeners,
        started,
    })
}

/// The brokers that clients are told of. Their ids must be no other broker's.
fn advertised_shards(config: &BrokerConfig, shards: u16) -> Result<AdvertisedShards, BootError> {
    let node = config.node_id;
    match config.advertise_shards {
        false => Ok(AdvertisedShards::TOGETHER),
        true if node.0 < NODE_IDS_A_SHARD => Ok(AdvertisedShards::each(shards)),
        true => Err(BootError::Setting(format!(
            "node.id={node} is too high for millrace.advertise.shards=true: shard n has the id \
             {NODE_IDS_A_SHARD} n higher, so the node's own must be below {NODE_IDS_A_SHARD}"
        ))),
    }
}

/// A request is held in memory as a whole, so the ceiling bounds it as well: a larger one would
/// close its connection each time that its client tries again. Who asks for more than fits is told
/// to choose; Kafka's default, which its `server.properties` repeats, is no such wish.
fn request_bytes_max(
    config: &BrokerConfig,
    memory_bytes: u64,
    shards: u16,
) -> Result<u64, BootError> {
    let key = "socket.request.max.bytes";
    let wanted = u64::from(config.socket_request_max_bytes);
    let fits = machine::request_bytes_that_fit(memory_bytes, shards);
    if wanted <= fits {
        return Ok(wanted);
    }
    let default = Settings::broker()
        .get(key)
        .and_then(|setting| setting.default);
    if default == Some(wanted.to_string().as_str()) {
        tracing::info!(
            "requests are taken up to {fits} bytes instead of {key}={wanted}: a larger one has no \
             room in a shard's part of millrace.memory.bytes={memory_bytes}"
        );
        return Ok(fits);
    }
    Err(BootError::Setting(format!(
        "{key}={wanted} cannot be held in memory: with millrace.memory.bytes={memory_bytes} and \
         {shards} shards a request may have {fits} bytes. Set {key} lower, or \
         millrace.memory.bytes to at least {needed}",
        needed = machine::memory_for_requests(wanted, shards)
    )))
}

/// Says what was given and is not known, or known and without effect.
fn tell_about(given: &Given) {
    fn meant(name: &str, nearest: Option<&str>) -> String {
        match nearest {
            Some(nearest) => format!("{name} (did you mean {nearest}?)"),
            None => name.to_owned(),
        }
    }
    let keys = given.unknown().into_iter();
    let mut unknown: Vec<_> = keys.map(|(key, nearest)| meant(key, nearest)).collect();
    let variables = given.unknown_variables().into_iter();
    unknown.extend(variables.map(|(name, nearest)| meant(name, nearest.as_deref())));
    if !unknown.is_empty() {
        tracing::warn!("unknown settings are ignored: {}", unknown.join(", "));
    }
    let kept = given.without_effect();
    if !kept.is_empty() {
        tracing::info!("settings without effect in Millrace: {}", kept.join(", "));
    }
}
