//! Writes a shard's recovery checkpoint, with the producer snapshots that belong to it.
//!
//! A checkpoint bounds what a start after a crash has to scan. For each log that changed since the
//! one before: its end and its producers are noted at one instant; once all below that end is
//! durable, the indexes and the snapshot are written; last the checkpoint itself, as a whole. So a
//! recovery point never lies above what is durable, and its snapshot is always there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::base::ids::{Offset, ShardId, TopicIdPartition};
use crate::storage::checkpoint::{self, RecoveryPoints};
use crate::storage::error::{FileError, LogError};
use crate::storage::layout;
use crate::storage::recovery::RecoveryPoint;

use super::core::Partition;
use super::producer_snapshot;
use super::table::PartitionTable;

/// A checkpoint is due once so many bytes were appended since the last one.
pub const CHECKPOINT_EVERY_BYTES: u64 = 64 << 20;

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

/// Writes the checkpoints of one shard.
#[derive(Debug)]
pub struct Checkpointer {
    shard: ShardId,
    table: Rc<PartitionTable>,
    /// What the last checkpoint says.
    written: RefCell<RecoveryPoints>,
}

impl Checkpointer {
    /// Goes on from what the shard's partitions were opened with.
    pub fn new(shard: ShardId, table: Rc<PartitionTable>, opened: RecoveryPoints) -> Self {
        Self {
            shard,
            table,
            written: RefCell::new(opened),
        }
    }

    /// Writes a checkpoint of all partitions of the shard.
    pub async fn checkpoint(&self) -> Result<(), CheckpointFailure> {
        let partitions = self.table.all();
        let mut points = HashMap::with_capacity(partitions.len());
        for partition in &partitions {
            let id = partition.id();
            let before = self.written.borrow().get(&id).copied();
            let point = match before {
                Some(before) if partition.log().mark() == before => before,
                _ => match self.checkpoint_one(partition, before).await {
                    Ok(point) => point,
                    // Deleted meanwhile.
                    Err(CheckpointFailure::Log(LogError::Closed)) => continue,
                    Err(error) => return Err(error),
                },
            };
            points.insert(id, point);
        }
        self.write(points).await
    }

    async fn checkpoint_one(
        &self,
        partition: &Rc<Partition>,
        before: Option<RecoveryPoint>,
    ) -> Result<RecoveryPoint, CheckpointFailure> {
        let log = partition.log();
        let point = log.mark();
        let producers = {
            let producers = partition.producers.borrow();
            (!producers.is_empty()).then(|| producer_snapshot::encode(&producers))
        };
        log.make_durable(point.offset).await?;
        log.checkpoint_indexes().await?;
        let path = log.path().to_owned();
        let old = before
            .map(|before| before.offset)
            .filter(|old| *old != point.offset);
        let directory = self.table.storage().directory();
        let written = directory.off_reactor(move |directory| {
            if let Some(bytes) = producers {
                let file = layout::segment_file(&path, point.offset, layout::SNAPSHOT);
                directory.replace_file(&file, &bytes)?;
            }
            // The one before stays until the checkpoint that no longer needs it is written: it is
            // the one before that which goes.
            remove_older_snapshots(directory, &path, old.unwrap_or(point.offset))
        });
        written.await?;
        Ok(point)
    }

    async fn write(&self, points: RecoveryPoints) -> Result<(), CheckpointFailure> {
        if *self.written.borrow() == points {
            return Ok(());
        }
        let bytes = checkpoint::encode(&points);
        let name = checkpoint::file_name(self.shard);
        let directory = self.table.storage().directory();
        let written = directory.off_reactor(move |directory| {
            directory.replace_file(&directory.path().join(name), &bytes)
        });
        written.await?;
        *self.written.borrow_mut() = points;
        Ok(())
    }
}

fn remove_older_snapshots(
    directory: &crate::storage::directory::LogDirectory,
    path: &std::path::Path,
    kept: Offset,
) -> Result<(), FileError> {
    for (name, _) in directory.list(path)? {
        let parsed = layout::parse_segment_file(&name);
        if parsed.is_some_and(|(at, kind)| kind == layout::SNAPSHOT && at < kept) {
            directory.remove_file(&path.join(name))?;
        }
    }
    Ok(())
}

/// The points of the partitions among `ids`, out of all that were read at start.
pub fn points_of(
    all: &RecoveryPoints,
    ids: impl IntoIterator<Item = TopicIdPartition>,
) -> RecoveryPoints {
    ids.into_iter()
        .filter_map(|id| Some((id, *all.get(&id)?)))
        .collect()
}
