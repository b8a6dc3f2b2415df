//! What the last run left in the log directories, and what this one leaves at a clean stop. The
//! main thread, before the first shard and after the last.

use std::sync::Arc;

use super::DataDirectories;
use super::directory::DataDirectory;
use crate::api::apply::OpenedAtStart;
use crate::base::ids::Uuid;
use crate::storage::checkpoint::{self, CHECKPOINT_BYTES_MAX, CLEAN_MARKER, RecoveryPoints};
use crate::storage::directories::LogDirectories;
use crate::storage::directory::{LogDirectory, default_reserve_bytes};
use crate::storage::error::FileError;
use crate::storage::faults::Faults;
use crate::storage::journal;
use crate::storage::layout;
use crate::storage::recovery::RecoveryTally;

/// Reads what the last run left in each directory, and brings what is in journals into the
/// segments. A directory where that fails is left out, but for that of the metadata.
/// `reserve_bytes` is what each keeps free, or a share of its file system.
pub(super) fn read(
    found: &DataDirectories,
    reserve_bytes: Option<u64>,
) -> Result<(LogDirectories, OpenedAtStart), FileError> {
    let faults = Faults::from_environment();
    let first = directory(&found.metadata, &faults, reserve_bytes);
    let of_first = read_one(&first)?;
    let mut clean = of_first.is_clean;
    let mut all_points = vec![of_first.points];
    let (mut others, mut is_complete) = (Vec::new(), found.is_complete);
    for other in &found.others {
        let other = directory(other, &faults, reserve_bytes);
        match read_one(&other) {
            Ok(left) => {
                clean &= left.is_clean || left.is_untouched;
                all_points.push(left.points);
                others.push(other);
            }
            Err(error) => {
                other.fail(&error);
                is_complete = false;
            }
        }
    }
    let has_partitions = found.metadata_has_partitions;
    let opened = OpenedAtStart {
        points: all_points,
        // A log that was closed in order costs next to nothing where others were not.
        clean,
        tally: Arc::<RecoveryTally>::default(),
    };
    let directories = LogDirectories::new(first, others, has_partitions, is_complete);
    Ok((directories, opened))
}

fn directory(data: &DataDirectory, faults: &Faults, reserve_bytes: Option<u64>) -> LogDirectory {
    let id = Uuid(data.meta.directory_id.0);
    let reserve_bytes = reserve_bytes.unwrap_or_else(|| default_reserve_bytes(&data.path));
    LogDirectory::with_id(Some(id), data.path.clone(), data.direct_io, faults.clone())
        .with_reserve(reserve_bytes)
}

/// What was left in one directory.
struct Left {
    /// Whether all of it was closed in order.
    is_clean: bool,
    /// Whether no run has ever used it: it has no checkpoint, and the first thing that a run writes
    /// is one.
    is_untouched: bool,
    /// How far its logs were durable.
    points: RecoveryPoints,
}

fn read_one(directory: &LogDirectory) -> Result<Left, FileError> {
    let is_clean = take_marker(directory)?;
    let entries = directory.list(directory.path())?.into_iter();
    let files = entries.filter(|entry| entry.is_file);
    let (left_over, files): (Vec<_>, Vec<_>) = files
        .map(|entry| entry.name)
        .partition(|name| layout::is_temporary(name));
    for name in left_over {
        directory.remove_left_over(&directory.path().join(name));
    }
    let checkpoints: Vec<_> = files
        .into_iter()
        .filter(|name| checkpoint::is_checkpoint(name))
        .collect();
    let points = read_points(directory, &checkpoints)?;
    replay_journals(directory, is_clean)?;
    Ok(Left {
        is_clean,
        is_untouched: checkpoints.is_empty(),
        points,
    })
}

/// The marker of a clean stop is taken away before anything is written.
fn take_marker(directory: &LogDirectory) -> Result<bool, FileError> {
    let marker = directory.path().join(CLEAN_MARKER);
    let is_clean = marker.exists();
    if is_clean {
        directory.remove_file(&marker)?;
        directory.sync_directory(directory.path())?;
    }
    Ok(is_clean)
}

fn read_points(
    directory: &LogDirectory,
    checkpoints: &[String],
) -> Result<RecoveryPoints, FileError> {
    let mut points = RecoveryPoints::new();
    for name in checkpoints {
        let path = directory.path().join(name);
        let bytes = directory
            .read_file(&path, CHECKPOINT_BYTES_MAX)?
            .unwrap_or_default();
        if let Err(error) = checkpoint::decode(&bytes, &mut points) {
            tracing::error!(
                checkpoint = %path.display(),
                %error,
                "checkpoint not readable: its logs are scanned from their start"
            );
        }
    }
    Ok(points)
}

/// Brings what the last run acknowledged out of its journals into the segments.
fn replay_journals(directory: &LogDirectory, was_clean: bool) -> Result<(), FileError> {
    let replayed = journal::replay::replay(directory, was_clean)?;
    for damaged in &replayed.damaged {
        tracing::error!(
            journal = %damaged.journal.display(),
            kept = %damaged.kept.display(),
            reason = damaged.reason,
            "not all of a journal could be replayed: records that it held may be lost"
        );
    }
    if replayed.bytes > 0 {
        let (bytes, segments) = (replayed.bytes, replayed.segments);
        tracing::info!(
            bytes,
            segments,
            "the journal's records are in their segments"
        );
    }
    Ok(())
}

/// Says what the time until the ready line goes to: after an unclean stop it may be long.
pub(super) fn tell_opening(directories: &LogDirectories, last_run: &OpenedAtStart) {
    let is_new = last_run.points.iter().all(RecoveryPoints::is_empty);
    match last_run.clean || is_new {
        true => tracing::info!(data = %directories, "opening the data directory"),
        false => tracing::info!(
            data = %directories,
            "opening the data directory: the last run did not stop cleanly, so logs are checked"
        ),
    }
}

/// Says in each directory that all was closed in order, but in those that have failed.
pub(super) fn mark_clean(directories: &LogDirectories) -> Result<(), FileError> {
    for directory in directories.all() {
        let is_dispensable = directories.is_dispensable(directory);
        if is_dispensable && directory.failure().is_some() {
            continue;
        }
        let marker = directory.path().join(CLEAN_MARKER);
        match directory.replace_file(&marker, b"") {
            Err(error) if is_dispensable => {
                tracing::error!(%error, "a log directory counts as not closed in order");
            }
            marked => marked?,
        }
    }
    Ok(())
}
