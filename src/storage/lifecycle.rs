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
                let _transition = self.begin_transition().await?;
                self.settle().await?;
            } else {
                self.next_progress().await;
            }
        }
        Ok(())
    }

    /// Deletes the segments that `retention` lets go, whole and oldest first, up to `upper`.
    /// Returns the log start offset.
    pub async fn retain(
        self: &Rc<Self>,
        retention: Retention,
        upper: Offset,
        now: TimestampMs,
    ) -> Result<Offset, LogError> {
        let expired = || {
            let state = self.state.borrow();
            let segments = &state.segments;
            let expired = retention::expired(segments, state.end, retention, upper, now);
            (expired, expired == segments.len())
        };
        // Those that are complete go first: on a full disk a new segment may only then have room.
        self.drop_oldest_segments(expired().0).await?;
        if expired().1 {
            let transition = self.begin_transition().await?;
            // Asked again, since records may have come; none comes between this and the roll.
            if expired().1 {
                self.roll(now).await?;
            }
            drop(transition);
            self.drop_oldest_segments(expired().0).await?;
        }
        Ok(self.start())
    }

    /// Drops `count` segments, but never the active one. At once for readers; their files go after.
    async fn drop_oldest_segments(&self, count: usize) -> Result<(), LogError> {
        let count = count.min(self.segments() - 1);
        if count == 0 {
            return Ok(());
        }
        self.check()?;
        let mut gone = Vec::with_capacity(count);
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            for segment in state.segments.drain(..count) {
                self.shard.reads.remove(self.number, segment.base_offset);
                gone.push(segment.base_offset);
            }
            let start = state.first_base();
            state.start = state.start.max(start);
            state.damaged.retain(|damaged| damaged.end > start);
            let tail = &mut state.tail;
            while tail.front().is_some_and(|unit| unit.next_offset <= start) {
                tail.pop_front();
            }
        }
        self.in_directory(move |directory, path| {
            for base in gone {
                for extension in [layout::LOG, layout::INDEX, layout::TIME_INDEX] {
                    directory.remove_file(&layout::segment_file(path, base, extension))?;
                }
            }
            directory.sync_directory(path)
        })
        .await
    }

    /// Stops the log at once: what waits for it gets [`LogError::Closed`].
    pub fn forget(&self) {
        {
            let mut state = self.state.borrow_mut();
            state.closed = true;
            state.tail.clear();
        }
        self.progressed();
    }

    /// Deletes the log: its directory gets another name at once and is emptied behind it.
    pub async fn delete(self: &Rc<Self>) -> Result<(), LogError> {
        self.forget();
        // Others may be working on the files by their names.
        let _transition = self.transition.acquire_permit(1).await;
        let _files = self.files.acquire_permit(1).await;
        for segment in &self.state.borrow().segments {
            self.shard.reads.remove(self.number, segment.base_offset);
        }
        let path = self.path.clone();
        let deleted = self.shard.directory.off_reactor(move |dir| {
            let doomed = doomed_path(&path);
            dir.rename(&path, &doomed)?;
            dir.remove_directory(&doomed)
        });
        deleted.await.map_err(|error| self.failed(error))
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
