//! How a log comes and goes: created, opened after recovery, retained, closed, deleted.
//!
//! On the log's shard; the file system is touched on the blocking pool.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::base::clock::TimestampMs;
use crate::base::ids::Offset;

use super::directory::LogDirectory;
use super::error::{FileError, LogError};
use super::file::File;
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
            settled: recovered.end,
            segments: recovered.segments.into(),
            tail: VecDeque::new(),
            appender: Appender::Parked,
            damaged: recovered.damaged,
            closed: false,
        };
        Self::new(Rc::clone(shard), path, recovered.identity, config, state)
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
            // The file that is open tells, which may be older than the settings.
            if !self.is_open_unsynced() {
                self.next_progress().await;
                continue;
            }
            self.write_out(offset);
            self.written_out(offset).await;
            self.check()?;
            // Segments before the one that is open now were synced when they were closed.
            let unsynced = self.unsynced();
            if let Some((file, settled)) = unsynced {
                file.sync().await.map_err(|error| self.refuse(error))?;
                self.synced(settled);
            }
        }
        Ok(())
    }

    /// The file that is open, if what is written to it becomes durable by a sync only; and how far
    /// the log is in its segments.
    fn unsynced(&self) -> Option<(Rc<File>, Offset)> {
        let state = self.state.borrow();
        match &state.appender {
            Appender::Ready(ready) if !ready.file.syncs_writes() => {
                Some((Rc::clone(&ready.file), state.settled))
            }
            _ => None,
        }
    }

    /// Deletes the segments that `retention` lets go, whole and oldest first, up to `upper`: their
    /// files have another name then, and wait in [`Log::take_deleted`] to be unlinked. Returns the
    /// log start offset.
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
                // It takes less than it lets go, so that a full disk does not keep what is old.
                self.roll(now, false).await?;
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
                self.shard.forget_reads(self.number, segment.base_offset);
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
        let done = self.in_directory(move |directory, path| {
            let renamed = rename_deleted(directory, path, &gone);
            Ok((renamed, directory.sync_directory(path)))
        });
        let (renamed, synced) = done.await?;
        self.deleted.borrow_mut().extend(renamed);
        synced.map_err(|error| self.refuse(error))
    }

    /// The files of deleted segments, to be unlinked by the caller.
    pub fn take_deleted(&self) -> Vec<PathBuf> {
        self.deleted.take()
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

    /// Deletes the log: nothing finds it any more, and its directory has another name, which is
    /// returned for who unlinks it. A failure of that leaves the directory behind and harms no
    /// other log: at the next start no topic claims it.
    ///
    /// The name is not made durable, for the same reason.
    pub async fn delete(self: &Rc<Self>) -> Result<PathBuf, FileError> {
        self.forget();
        // Others may be working on the files by their names.
        let _transition = self.transition.acquire_permit(1).await;
        let _files = self.files.acquire_permit(1).await;
        for segment in &self.state.borrow().segments {
            self.shard.forget_reads(self.number, segment.base_offset);
        }
        let path = self.path.clone();
        let renamed = self.site.directory.off_reactor(move |dir| {
            let doomed = layout::set_aside_path(&path, layout::DELETED);
            dir.rename_unsynced(&path, &doomed).map(|()| doomed)
        });
        renamed.await
    }
}

/// Gives the files of segments the name by which the next start knows that they are deleted, and
/// returns those names. What cannot be renamed is unlinked at once. A failure of both is told and
/// harms nothing: the next start removes what lies below the log's start. It ends the renaming,
/// since what is left must be without a gap.
fn rename_deleted(directory: &LogDirectory, path: &Path, segments: &[Offset]) -> Vec<PathBuf> {
    let mut renamed = Vec::new();
    for base in segments {
        for extension in [layout::LOG, layout::INDEX, layout::TIME_INDEX] {
            let file = layout::segment_file(path, *base, extension);
            let mut deleted = file.clone().into_os_string();
            deleted.push(layout::DELETED_FILE);
            match directory.rename_unsynced(&file, deleted.as_ref()) {
                Ok(()) => renamed.push(deleted.into()),
                // A segment that was never full has no index.
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!(%error, "a deleted segment is unlinked before its time");
                    if let Err(error) = directory.remove_file(&file) {
                        tracing::error!(%error, "a deleted segment is left to the next start");
                        return renamed;
                    }
                }
            }
        }
    }
    renamed
}

/// Makes the directory and the first, empty segment of a new log, durably. On the blocking pool.
pub fn create_files(
    directory: &LogDirectory,
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
