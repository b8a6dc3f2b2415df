//! How a log comes and goes: created, opened after recovery, retained, closed, deleted.
//!
//! On the log's shard; the file system is touched on the blocking pool.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::base::clock::TimestampMs;
use crate::base::ids::Offset;

use super::error::{FileError, LogError};
use super::layout;
use super::log::{Appender, Log, LogConfig, State};
use super::recovery::{Recovered, RecoveryPoint};
use super::retention::{self, Retention};
use super::shard::ShardStorage;

impl Log {
    /// A log over what recovery found.
    pub fn open_recovered(
        shard: &Rc<ShardStorage>,
        path: PathBuf,
        config: LogConfig,
        recovered: Recovered,
    ) -> Rc<Self> {
        let state = State {
            start: recovered.start,
            end: recovered.end,
            // Recovery has synced what it accepted.
            written: recovered.end,
            durable: recovered.end,
            segments: recovered.segments.into(),
            tail: VecDeque::new(),
            appender: Appender::Parked,
            damaged: recovered.damaged,
            closed: false,
        };
        Self::new(Rc::clone(shard), path, config, state)
    }

    /// How far the log is recorded as durable by a checkpoint that is taken now and written once
    /// [`Log::durable`] has reached it.
    pub fn mark(&self) -> RecoveryPoint {
        let state = self.state.borrow();
        let active = state.active();
        RecoveryPoint {
            log_start: state.start,
            offset: state.end,
            segment: active.base_offset,
            position: active.size,
        }
    }

    /// Waits until all below `offset` is durable; syncs where the log does not by itself.
    pub async fn make_durable(self: &Rc<Self>, offset: Offset) -> Result<(), LogError> {
        while self.durable() < offset {
            self.check()?;
            if !self.syncs_writes() {
                let _transition = self
                    .transition
                    .acquire_permit(1)
                    .await
                    .map_err(|_| LogError::Closed)?;
                self.settle().await?;
            } else {
                self.next_progress().await;
            }
        }
        Ok(())
    }

    /// Appends what the indexes hold in memory to their files.
    pub async fn checkpoint_indexes(self: &Rc<Self>) -> Result<(), LogError> {
        let _transition = self
            .transition
            .acquire_permit(1)
            .await
            .map_err(|_| LogError::Closed)?;
        self.flush_indexes().await
    }

    /// Deletes the segments that `retention` lets go, whole and oldest first, up to `upper`.
    /// Returns the log start offset.
    pub async fn retain(
        self: &Rc<Self>,
        retention: Retention,
        upper: Offset,
        now: TimestampMs,
    ) -> Result<Offset, LogError> {
        let expired = {
            let state = self.state.borrow();
            retention::expired(&state.segments, state.end, retention, upper, now)
        };
        if expired == 0 {
            return Ok(self.start());
        }
        let _transition = self
            .transition
            .acquire_permit(1)
            .await
            .map_err(|_| LogError::Closed)?;
        self.check()?;
        if expired == self.state.borrow().segments.len() {
            // The active segment goes too: appends wait for the new one.
            self.roll(now).await?;
        }
        let mut gone = Vec::with_capacity(expired);
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            for segment in state.segments.drain(..expired) {
                self.shard.reads.remove(self.number, segment.base_offset);
                gone.push(segment.base_offset);
            }
            let start = state.first_base();
            state.start = state.start.max(start);
            state.damaged.retain(|damaged| damaged.end > start);
            while state
                .tail
                .front()
                .is_some_and(|unit| unit.next_offset <= start)
            {
                let unit = state.tail.pop_front().expect("a unit is in front");
                self.shard.tails.removed(unit.memory_bytes());
            }
        }
        self.unlink(gone).await?;
        Ok(self.start())
    }

    async fn unlink(&self, segments: Vec<Offset>) -> Result<(), LogError> {
        let path = self.path.clone();
        let unlinked = self.shard.directory.off_reactor(move |dir| {
            for base in segments {
                for extension in [layout::LOG, layout::INDEX, layout::TIME_INDEX] {
                    dir.remove_file(&layout::segment_file(&path, base, extension))?;
                }
            }
            dir.sync_directory(&path)
        });
        unlinked.await.map_err(|error| self.refuse(error))
    }

    /// Stops taking appends, makes all durable and gives everything back. The log can be opened
    /// again without a scan.
    pub async fn close(self: &Rc<Self>) -> Result<(), LogError> {
        let parked = self.park().await;
        self.forget();
        parked
    }

    /// Stops the log at once: what waits for it gets [`LogError::Closed`].
    pub fn forget(&self) {
        let kept: usize = {
            let mut state = self.state.borrow_mut();
            state.closed = true;
            state.tail.drain(..).map(|unit| unit.memory_bytes()).sum()
        };
        self.shard.tails.removed(kept);
        self.progressed();
    }

    /// Deletes the log: its directory gets another name at once and is emptied behind it.
    pub async fn delete(self: &Rc<Self>) -> Result<(), LogError> {
        self.forget();
        // A transition may be opening files by their name.
        let _transition = self
            .transition
            .acquire_permit(1)
            .await
            .map_err(|_| LogError::Closed)?;
        for segment in &self.state.borrow().segments {
            self.shard.reads.remove(self.number, segment.base_offset);
        }
        let path = self.path.clone();
        let deleted = self.shard.directory.off_reactor(move |dir| {
            let doomed = doomed_path(&path);
            dir.rename(&path, &doomed)?;
            dir.remove_directory(&doomed)
        });
        deleted.await.map_err(|error| self.refuse(error))
    }
}

/// The name that a partition's directory has while it is being deleted.
fn doomed_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(
        ".{}{}",
        uuid::Uuid::new_v4().simple(),
        layout::DELETED
    ));
    PathBuf::from(name)
}

/// Makes the directory and the first, empty segment of a new log, durably. On the blocking pool.
pub fn create_files(
    directory: &super::directory::LogDirectory,
    path: &Path,
    partition_metadata: &str,
    start: Offset,
) -> Result<(), FileError> {
    directory.create_directory(path)?;
    let metadata = path.join(layout::PARTITION_METADATA);
    directory.write_whole_file(&metadata, partition_metadata.as_bytes())?;
    directory.write_whole_file(&layout::segment_file(path, start, layout::LOG), &[])?;
    directory.sync_directory(path)
}
