//! Runs the shards from start to stop. The main thread starts them and waits; it does no work of
//! theirs.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use super::plan::{ReadyLine, ShardListener, ShardPlan, meshes};
use super::serve::{ServeError, serve};
use super::{Exit, Prepared, StopRequest, last_run, machine};
use crate::api::apply::OpenedAtStart;
use crate::base::ids::{ShardId, TopicId, Uuid};
use crate::config::BrokerConfig;
use crate::controller::BrokerRegistration;
use crate::net::listener::{ListenConfig, bind};
use crate::net::quota::{ConnectionLimits, ConnectionQuota};
use crate::shard::executor::{self, ShardContext, ShardError, StartError};
use crate::storage::directories::LogDirectories;
use crate::storage::error::FileError;
use crate::storage::journal::JournalLimits;
use crate::storage::shard::StorageLimits;

const MIB: u64 = 1 << 20;
/// Who writes little now and then needs no journal.
const JOURNAL_AFTER_WRITES: u64 = 256;

/// Why the broker ended without being asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A listener could not be opened.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
    /// The executors could not be brought up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A shard ended, and the others with it.
    #[error("{0}")]
    Shard(Box<ShardError<ServeError>>),
}

impl RunError {
    /// The code with which the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::File(_) => Exit::Io,
            Self::Start(_) => Exit::Configuration,
            Self::Listen(_) => Exit::Failure,
            Self::Shard(error) => match &**error {
                ShardError::Failed { error, .. } => error.exit(),
                ShardError::NotStarted { .. } | ShardError::Panicked { .. } => Exit::Failure,
            },
        }
    }
}

/// How the shards ended together.
#[derive(Debug)]
pub(super) enum Ended {
    /// All of them were stopped in order.
    Cleanly,
    /// They were asked to stop while they started: nothing is wrong, and the next start recovers.
    WhileStarting,
    /// One of them failed; of several the one whose reason is its own.
    Failed(ShardError<ServeError>),
}

/// Judges the ends of all shards, `asked` being whether anybody asked the process to stop.
pub(super) fn judge(ends: Vec<Result<(), ShardError<ServeError>>>, asked: bool) -> Ended {
    let is_stopped = |error: &ShardError<ServeError>| {
        let ShardError::Failed { error, .. } = error else {
            return false;
        };
        matches!(error, ServeError::Stopped)
    };
    // Where one shard fails, others may fail of its absence.
    let rank = |error: &ShardError<ServeError>| match error {
        ShardError::Panicked { .. } => 0,
        ShardError::Failed { error, .. } if !error.is_of_another() => 0,
        ShardError::NotStarted { .. } => 2,
        error if is_stopped(error) => 2,
        ShardError::Failed { .. } => 1,
    };
    let errors = ends.into_iter().filter_map(Result::err);
    match errors.min_by_key(rank) {
        None => Ended::Cleanly,
        Some(error) if asked && is_stopped(&error) => Ended::WhileStarting,
        Some(error) => Ended::Failed(error),
    }
}

/// Runs the broker until somebody asks it to stop, or a shard fails.
pub fn run(prepared: Prepared, stop: &StopRequest) -> Result<(), RunError> {
    let shards = prepared.executor.shards;
    let (directories, opened_at_start) =
        last_run::read(&prepared.directories, prepared.config.disk_reserve_bytes)?;
    last_run::tell_opening(&directories, &opened_at_start);
    let plans = plans(&prepared, &directories, Arc::new(opened_at_start))?;
    let bodies: Vec<_> = plans
        .into_iter()
        .zip(meshes(shards))
        .map(|(plan, ends)| move |context: ShardContext| serve(plan, ends, context))
        .collect();
    let running = executor::start(&prepared.executor, bodies)?;
    let stopper = running.stopper();
    stop.on_stop(move || stopper.stop());
    match judge(running.join(), stop.is_requested()) {
        Ended::Cleanly => Ok(last_run::mark_clean(&directories)?),
        Ended::WhileStarting => Ok(()),
        Ended::Failed(error) => Err(RunError::Shard(Box::new(error))),
    }
}

/// A part of the memory ceiling for each use; what is left over is for everything else.
fn plans(
    prepared: &Prepared,
    directories: &LogDirectories,
    opened_at_start: Arc<OpenedAtStart>,
) -> Result<Vec<ShardPlan>, RunError> {
    let shards = prepared.executor.shards;
    let config = Arc::new(prepared.config.clone());
    let quota = ConnectionQuota::new(connection_limits(&config));
    let mut listeners: Vec<Vec<ShardListener>> = (0..shards).map(|_| Vec::new()).collect();
    for listener in &prepared.listeners {
        let wanted = ListenConfig {
            address: listener.address,
            backlog: config.socket_listen_backlog_size as i32,
            receive_buffer_bytes: config
                .socket_receive_buffer_bytes
                .map(|bytes| bytes as usize),
            send_buffer_bytes: config.socket_send_buffer_bytes.map(|bytes| bytes as usize),
        };
        let openers = match config.advertise_shards {
            true => &mut listeners[usize::from(listener.shard.0)..][..1],
            false => &mut listeners[..],
        };
        let bound = bind(&wanted, openers.len() as u16)?;
        for (sockets, socket) in openers.iter_mut().zip(bound) {
            sockets.push(ShardListener {
                name: listener.name.clone(),
                socket,
            });
        }
    }
    let addresses: Vec<_> = prepared
        .listeners
        .iter()
        .map(|l| l.address.to_string())
        .collect();
    let ready = ReadyLine {
        started: prepared.started,
        addresses: addresses.join(","),
    };
    let memory = prepared.memory_bytes / u64::from(shards);
    let registration = registration(prepared, directories, opened_at_start.clean);
    let journals = directories.all().len() as u64;
    let plan = |(shard, sockets): (u16, Vec<ShardListener>)| ShardPlan {
        config: Arc::clone(&config),
        cluster_id: prepared
            .directories
            .metadata
            .meta
            .cluster_id
            .as_str()
            .into(),
        directories: directories.clone(),
        opened_at_start: Arc::clone(&opened_at_start),
        storage: storage_limits(prepared, ShardId(shard), journals),
        request_bytes_max: prepared.request_bytes_max as usize,
        frame_bytes: machine::frame_bytes(prepared.memory_bytes, shards),
        // A sixteenth together with what frames that had to give way may take beside it.
        reserve_bytes: memory / 20,
        wait_bytes: memory / 16,
        group_bytes: (memory / 8) as usize,
        quota: quota.clone(),
        session_seed: RandomState::new().build_hasher().finish(),
        registration: registration.clone(),
        listeners: sockets.into(),
        ready: ready.clone(),
    };
    Ok((0..shards).zip(listeners).map(plan).collect())
}

fn connection_limits(config: &BrokerConfig) -> ConnectionLimits {
    ConnectionLimits {
        connections_max: config.max_connections as usize,
        per_ip_max: config.max_connections_per_ip as usize,
        per_ip_overrides: config
            .max_connections_per_ip_overrides
            .iter()
            .map(|(ip, max)| (*ip, *max as usize))
            .collect(),
    }
}

/// What a shard's storage may use of its part of the memory and of the descriptors, with so many
/// journals: one a directory.
fn storage_limits(prepared: &Prepared, shard: ShardId, journals: u64) -> StorageLimits {
    let shards = u64::from(prepared.executor.shards);
    let memory = prepared.memory_bytes / shards;
    let files = (prepared.open_files_max / shards) as usize;
    let tail_bytes_max = (memory / 16 * 3) as usize;
    StorageLimits {
        tail_bytes_max,
        read_cache_bytes_max: (memory / 16) as usize,
        writes_max: 64,
        open_logs_max: (files / 4).max(16),
        open_reads_max: (files / 8).clamp(16, 1024),
        journal: Some(JournalLimits {
            shard,
            file_bytes: (tail_bytes_max as u64 / 8 / journals / MIB).clamp(4, 32) * MIB,
            memory_bytes_max: tail_bytes_max / 4 / journals as usize,
            made_after_writes: JOURNAL_AFTER_WRITES,
        }),
    }
}

fn registration(
    prepared: &Prepared,
    directories: &LogDirectories,
    was_clean_shutdown: bool,
) -> BrokerRegistration {
    BrokerRegistration {
        node_id: prepared.config.node_id,
        incarnation: Uuid(TopicId::random().0),
        endpoints: prepared.advertised_listeners.clone(),
        rack: prepared.config.rack.clone(),
        log_directories: directories.ids_in_service(),
        was_clean_shutdown,
    }
}

#[cfg(test)]
mod tests;
