//! Writes a shard's recovery checkpoints, one in each log directory, with the producer snapshots
//! that belong to them.
//!
//! A checkpoint bounds what a start after a crash has to scan. For each log that changed since the
//! one before: its end and its producers are noted at one instant; once all below that end is
//! durable, the indexes and the snapshot are written; then the checkpoint itself, as a whole; last
//! the snapshots go that belonged to older ones. So a recovery point never lies above what is
//! durable, and its snapshot is always there. A partition that could not be opened keeps its point:
//! without it the start that does open it would scan all of its log, and forget its producers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use crate::runtime::Semaphore;

use crate::base::ids::{Offset, ShardId, TopicIdPartition};
use crate::storage::checkpoint::{self, RecoveryPoints};
use crate::storage::directory::{Entry, LogDirectory};
use crate::storage::error::{FileError, LogError};
use crate::storage::layout;
use crate::storage::log::Log;
use crate::storage::recovery::RecoveryPoint;

use super::core::Partition;
use super::producer_snapshot;
use super::table::PartitionTable;

/// A checkpoint is due once so many bytes were appended since the last one.
pub const CHECKPOINT_EVERY_BYTES: u64 = 256 << 20;

/// Why a checkpoint could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointFailure {
    /// A log could not be brought to it.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl CheckpointFailure {
    /// Whether there was no room for it: the one before is as it was.
    pub fn is_no_room(&self) -> bool {
        match self {
            Self::Log(error) => *error == LogError::NoRoom,
            Self::File(error) => error.is_no_room(),
        }
    }
}

/// A log, with the partition that it is of.
type OpenLog = (TopicIdPartition, Rc<Log>, Option<Rc<Partition>>);

/// Writes the checkpoints of one shard. Clones share it.
#[derive(Clone, Debug)]
pub struct Checkpointer {
    state: Rc<State>,
}

#[derive(Debug)]
struct State {
    shard: ShardId,
    table: Rc<PartitionTable>,
    /// A log that is no partition of the table: that of the metadata.
    other: RefCell<Option<(TopicIdPartition, Rc<Log>)>>,
    /// What the last checkpoints say, by the number of their directory.
    written: RefCell<HashMap<(usize, TopicIdPartition), RecoveryPoint>>,
    /// One checkpoint is written at a time.
    writing: Semaphore,
}

impl Checkpointer {
    /// The checkpoints of the partitions in `table`.
    pub fn new(shard: ShardId, table: Rc<PartitionTable>) -> Self {
        let (other, written) = (RefCell::default(), RefCell::default());
        let state = State {
            shard,
            table,
            other,
            written,
            writing: Semaphore::new(1),
        };
        Self {
            state: Rc::new(state),
        }
    }

    /// Includes a log that is no partition: that of the metadata.
    pub fn include(&self, id: TopicIdPartition, log: Rc<Log>) {
        *self.state.other.borrow_mut() = Some((id, log));
    }

    /// Writes a checkpoint of all logs of the shard into the directories that they are in, with the
    /// points of those that are not open. A directory where that fails keeps the one that it has,
    /// and the others get theirs.
    ///
    /// # Errors
    /// It fails in the directory of the metadata, which may be the only one.
    pub async fn checkpoint(&self) -> Result<(), CheckpointFailure> {
        let _one = self.state.writing.acquire_permit(1).await;
        let directories = self.state.table.storage().directories().clone();
        for (number, directory) in directories.all().iter().enumerate() {
            if directories.have_lost(directory) {
                continue;
            }
            match self.checkpoint_in(directory, number).await {
                Ok(()) => {}
                Err(error) if directories.is_dispensable(directory) => {
                    let directory = directory.path().display();
                    tracing::error!(%directory, %error, "a checkpoint stays as it was");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The logs that are open in a directory.
    fn logs_in(&self, directory: &LogDirectory) -> Vec<OpenLog> {
        let other = self.state.other.borrow().clone();
        let other = other.map(|(id, log)| (id, log, None));
        let partitions = self.state.table.all().into_iter().map(|partition| {
            let log = Rc::clone(partition.log());
            (partition.id(), log, Some(partition))
        });
        let logs = other.into_iter().chain(partitions);
        logs.filter(|(_, log, _)| log.directory().is(directory))
            .collect()
    }

    async fn checkpoint_in(
        &self,
        directory: &LogDirectory,
        number: usize,
    ) -> Result<(), CheckpointFailure> {
        let absent = self.state.table.absent().into_iter();
        let absent = absent.filter(|(_, (of, _))| *of == number);
        let mut points: RecoveryPoints = absent.map(|(id, (_, point))| (id, point)).collect();
        let mut changed = Vec::new();
        for (id, log, partition) in self.logs_in(directory) {
            let key = (number, id);
            let before = self.state.written.borrow().get(&key).copied();
            match bring(&log, partition.as_deref(), before).await {
                Ok(point) => {
                    points.insert(id, point);
                    if before != Some(point) {
                        changed.push((log, point.offset));
                    }
                }
                // Deleted meanwhile.
                Err(LogError::Closed) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.write(directory, number, points).await?;
        for (log, point) in changed {
            match log.in_directory(remove_snapshots_below(point)).await {
                Ok(()) | Err(LogError::Closed) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn write(
        &self,
        directory: &LogDirectory,
        number: usize,
        points: RecoveryPoints,
    ) -> Result<(), CheckpointFailure> {
        let bytes = checkpoint::encode(&points);
        let name = checkpoint::file_name(self.state.shard);
        let written = directory.off_reactor(move |directory| {
            directory.replace_file(&directory.path().join(name), &bytes)
        });
        written.await?;
        let mut written = self.state.written.borrow_mut();
        written.retain(|(of, _), _| *of != number);
        written.extend(points.into_iter().map(|(id, point)| ((number, id), point)));
        Ok(())
    }
}

/// Brings a log to a point that the checkpoint can name: `before`, if nothing changed since.
async fn bring(
    log: &Rc<Log>,
    partition: Option<&Partition>,
    before: Option<RecoveryPoint>,
) -> Result<RecoveryPoint, LogError> {
    let point = log.mark();
    if before == Some(point) {
        return Ok(point);
    }
    let snapshot = partition.and_then(|partition| {
        let producers = partition.producers.borrow();
        (!producers.is_empty()).then(|| producer_snapshot::encode(&producers))
    });
    log.make_durable(point.offset).await?;
    log.flush_indexes().await?;
    if let Some(snapshot) = snapshot {
        let written = log.in_directory(move |directory, path| {
            let file = layout::segment_file(path, point.offset, layout::SNAPSHOT);
            directory.replace_file(&file, &snapshot)
        });
        written.await?;
    }
    Ok(point)
}

/// Removes the snapshots of older points. The checkpoint is written without it, so a failure is
/// told and nothing else: what is left goes after a later checkpoint.
fn remove_snapshots_below(
    point: Offset,
) -> impl FnOnce(&LogDirectory, &Path) -> Result<(), FileError> + Send + 'static {
    move |directory, path| {
        if let Err(error) = try_remove_snapshots_below(directory, path, point) {
            tracing::warn!(%error, "old producer snapshots are left");
        }
        Ok(())
    }
}

fn try_remove_snapshots_below(
    directory: &LogDirectory,
    path: &Path,
    point: Offset,
) -> Result<(), FileError> {
    for Entry { name, .. } in directory.list(path)? {
        let parsed = layout::parse_segment_file(&name);
        if parsed.is_some_and(|(at, kind)| kind == layout::SNAPSHOT && at < point) {
            directory.remove_file(&path.join(name))?;
        }
    }
    Ok(())
}
