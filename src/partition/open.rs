//! Brings a partition up from its files: producers and epochs are rebuilt by the code that runs.
//!
//! The files are read on the blocking pool; the partition that comes out belongs to the shard.
//!
//! Where a node has several log directories, the metadata says in which of them a partition is. It
//! is opened wherever its files are found, since somebody may have moved them; in two places they
//! are nobody's guess. Where they are not found they are made, as a crash may have left them, but
//! only if nothing is missing in which they could be: a partition that is not there now must not
//! come back empty.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::base::clock::TimestampMs;
use crate::base::ids::{LeaderEpoch, Offset, TopicId, TopicIdPartition, Uuid};
use crate::base::limits::BLOCK_BYTES;
use crate::config::{FlushMode, TopicConfig};
use crate::storage::directories::LogDirectories;
use crate::storage::directory::LogDirectory;
use crate::storage::error::FileError;
use crate::storage::layout::{self, NamedTopic};
use crate::storage::lifecycle::create_files;
use crate::storage::log::{Log, LogConfig};
use crate::storage::recovery::{Recovered, RecoveryInput, RecoveryPoint, RecoveryTally, recover};
use crate::storage::shard::ShardStorage;

use super::core::{Partition, Shared};
use super::leader_epoch::LeaderEpochs;
use super::producer_snapshot;
use super::producer_state::ProducerStates;

/// A partition to bring up.
#[derive(Clone, Debug)]
pub struct OpenPartition {
    /// Which.
    pub id: TopicIdPartition,
    /// The topic's name, for the directory's.
    pub topic: String,
    /// The epoch in which this broker leads it.
    pub leader_epoch: LeaderEpoch,
    /// The topic's settings.
    pub config: TopicConfig,
    /// Where the metadata places it, by the id of the log directory; `None` where it does not say.
    pub directory: Option<Uuid>,
    /// Whether it was made just now: there was nothing of it before.
    pub is_new: bool,
    /// What the checkpoint says of it, and the number of the directory that it stands in.
    pub point: Option<(usize, RecoveryPoint)>,
    /// Whether the broker stopped cleanly.
    pub clean: bool,
    /// Where its recovery is counted.
    pub tally: Arc<RecoveryTally>,
}

impl OpenPartition {
    /// The name of the directory that its files are in.
    pub fn name(&self) -> String {
        layout::partition_directory(&self.topic, self.id.partition)
    }
}

/// Why a partition cannot be opened: it is refused, and what it has stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file call failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is in two log directories.
    #[error(
        "the partition is in {} and in {}: find out which one has its records, and move the other \
         away",
        .one.display(), .other.display()
    )]
    Twice {
        /// The one.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// It is in none of the log directories that work, and must be somewhere else.
    #[error("{partition} is in no log directory that works, and is not made anew: {why}")]
    Away {
        /// The partition.
        partition: String,
        /// Where it must be.
        why: String,
    },
    /// There are records, and nothing says whose they are.
    #[error(
        "{} is {what}, and the directory holds records, which are left as they are: if they are \
         this topic's, restore the file, or write the lines \"version: 0\" and \"topic_id: \
         {topic_id}\" into it; if not, move the directory away",
        .file.display()
    )]
    Nameless {
        /// What should say it.
        file: PathBuf,
        /// What is wrong with it.
        what: &'static str,
        /// The topic that the partition is of.
        topic_id: TopicId,
    },
}

impl OpenError {
    /// Whether there was no room for its files: it may come later.
    pub fn is_no_room(&self) -> bool {
        matches!(self, Self::File(error) if error.is_no_room())
    }
}

/// What was read from a partition's files.
struct Opened {
    path: PathBuf,
    recovered: Recovered,
    producers: ProducerStates,
    epochs: LeaderEpochs,
    /// Whether the file of the epochs is as they are.
    epochs_written: bool,
}

/// What the files of a new partition take, as far as it counts: its directory and its metadata.
const NEW_PARTITION_BYTES: u64 = 2 * BLOCK_BYTES;

/// No snapshot or epoch file is larger.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 20;

/// The settings of a topic that act in storage, for one of its partitions.
pub fn log_config(id: TopicIdPartition, config: &TopicConfig) -> LogConfig {
    let segment_ms = config.segment_ms - roll_jitter_ms(id, config);
    LogConfig {
        segment_bytes: u64::from(config.segment_bytes),
        segment_ms: i64::try_from(segment_ms).unwrap_or(i64::MAX),
        segment_index_bytes: u64::from(config.segment_index_bytes),
        index_interval_bytes: u64::from(config.index_interval_bytes),
        syncs_writes: config.flush != FlushMode::Never,
    }
}

/// A partition's share of `segment.jitter.ms`, less than `segment.ms`. Kafka draws one for each
/// segment; what counts is that partitions which began together don't roll together.
fn roll_jitter_ms(id: TopicIdPartition, config: &TopicConfig) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let most = config.segment_jitter_ms.min(config.segment_ms);
    hasher.finish().checked_rem(most).unwrap_or(0)
}

/// Opens a partition, and makes its files if it is new.
pub async fn open(
    storage: &Rc<ShardStorage>,
    shared: &Rc<Shared>,
    wanted: OpenPartition,
) -> Result<Rc<Partition>, OpenError> {
    let now = shared.clock.now_ms();
    let config = wanted.config.clone();
    let (id, leader_epoch) = (wanted.id, wanted.leader_epoch);
    let tally = Arc::clone(&wanted.tally);
    let directories = storage.directories().clone();
    let opened = storage
        .directory()
        .off_reactor(move |_| read(&directories, &wanted, now));
    let Opened {
        path,
        recovered,
        producers,
        epochs,
        epochs_written,
    } = opened.await?;
    tally.add(&recovered);
    for report in &recovered.reports {
        tracing::error!(partition = %path.display(), "recovery: {report}");
    }
    if recovered.scanned_bytes > 0 {
        let (partition, bytes) = (path.display(), recovered.scanned_bytes);
        tracing::debug!(%partition, bytes, "scanned behind the recovery point");
    }
    let log = Log::open_recovered(storage, path, log_config(id, &config), recovered);
    let partition = Partition::new(
        id,
        Rc::clone(shared),
        log,
        Rc::new(config),
        leader_epoch,
        producers,
        epochs,
    );
    partition.epochs_written.set(epochs_written);
    Ok(partition)
}

/// On the blocking pool.
fn read(
    directories: &LogDirectories,
    wanted: &OpenPartition,
    now: TimestampMs,
) -> Result<Opened, OpenError> {
    let directory = directory_of(directories, wanted)?;
    let path = directory.path().join(wanted.name());
    let number = directories.number_of(directory);
    let point = wanted.point.filter(|(of, _)| *of == number);
    let point = point.map(|(_, point)| point);
    clear_the_way(directory, &path, wanted.id.topic_id)?;
    if !path.exists() {
        if !layout::is_own_topic(wanted.topic.as_bytes()) {
            directory.beside_reserve(&path, NEW_PARTITION_BYTES, NEW_PARTITION_BYTES)?;
        }
        create_files(
            directory,
            &path,
            &layout::partition_metadata(wanted.id.topic_id),
            Offset(0),
        )?;
    }
    let mut producers = latest_snapshot(directory, &path, point)?;
    let input = RecoveryInput {
        path: path.clone(),
        point,
        clean: wanted.clean,
        identity: layout::partition_metadata(wanted.id.topic_id),
        index_interval_bytes: u64::from(wanted.config.index_interval_bytes),
        now,
    };
    let recovered = recover(directory, &input, &mut |header| {
        if header.base_offset >= producers.end_offset() {
            producers.apply(header, None);
        }
    })?;
    let (epochs, epochs_written) =
        open_epochs(directory, &path, wanted.leader_epoch, recovered.end())?;
    Ok(Opened {
        path,
        recovered,
        producers,
        epochs,
        epochs_written,
    })
}

/// The log directory that a partition is in, or is to be made in.
fn directory_of<'a>(
    directories: &'a LogDirectories,
    wanted: &OpenPartition,
) -> Result<&'a LogDirectory, OpenError> {
    let all = directories.of_partitions();
    let is_meant = |directory: &&LogDirectory| match (directory.id(), wanted.directory) {
        (Some(own), Some(placed)) => own == placed,
        (None, _) | (_, None) => true,
    };
    let placed = all.iter().find(is_meant);
    let is_alone = all.len() == 1 && directories.are_complete();
    if let Some(placed) = placed.filter(|_| is_alone) {
        return Ok(placed);
    }
    if !wanted.is_new
        && let Some(found) = found_among(all, placed, wanted)?
    {
        return Ok(found);
    }
    let away = |why: String| OpenError::Away {
        partition: wanted.name(),
        why,
    };
    let Some(placed) = placed else {
        let id = wanted.directory.unwrap_or_default();
        return Err(away(format!(
            "it is in the one with the directory.id {id}, which is missing"
        )));
    };
    if let Some(reason) = placed.failure() {
        let path = placed.path().display();
        return Err(away(format!("it is in {path}, out of service: {reason}")));
    }
    if !wanted.is_new && !directories.are_complete() {
        let path = placed.path().display();
        return Err(away(format!(
            "it is not in {path}, where it should be, and another one is missing"
        )));
    }
    Ok(placed)
}

/// The log directory that a partition's files are found in. One that cannot be looked into harms no
/// partition that is found where it should be.
fn found_among<'a>(
    all: &'a [LogDirectory],
    placed: Option<&LogDirectory>,
    wanted: &OpenPartition,
) -> Result<Option<&'a LogDirectory>, OpenError> {
    let (mut found, mut unreadable) = (None, None);
    for directory in all.iter().filter(|it| it.failure().is_none()) {
        let path = directory.path().join(wanted.name());
        match (holds(directory, &path, wanted.id.topic_id), found.take()) {
            (Ok(true), None) => found = Some((directory, path)),
            (Ok(true), Some((_, one))) => {
                return Err(OpenError::Twice { one, other: path });
            }
            (Ok(false), before) => found = before,
            (Err(error), _) if placed.is_some_and(|placed| placed.is(directory)) => {
                return Err(error.into());
            }
            (Err(error), before) => {
                unreadable = Some(error);
                found = before;
            }
        }
    }
    match (found, unreadable) {
        (Some((directory, _)), _) => Ok(Some(directory)),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Ok(None),
    }
}

/// Whether a directory has the files of a partition. What does not say whose they are counts, if it
/// has records.
fn holds(directory: &LogDirectory, path: &Path, topic_id: TopicId) -> Result<bool, FileError> {
    let exists = path.try_exists();
    if !exists.map_err(|source| FileError::new("stat", path, source))? {
        return Ok(false);
    }
    match read_name(directory, path)?.found {
        Some(found) if found.id == topic_id => Ok(true),
        Some(found) if found.is_summed => Ok(false),
        _ => has_records(directory, path),
    }
}

/// What a partition's directory says of whose it is.
struct Name {
    file: PathBuf,
    is_missing: bool,
    /// `None` where the file is missing or damaged.
    found: Option<NamedTopic>,
}

fn read_name(directory: &LogDirectory, path: &Path) -> Result<Name, FileError> {
    let file = path.join(layout::PARTITION_METADATA);
    let contents = directory.read_file(&file, layout::PARTITION_METADATA_BYTES_MAX)?;
    let found = contents
        .as_deref()
        .and_then(layout::parse_partition_metadata);
    Ok(Name {
        file,
        is_missing: contents.is_none(),
        found,
    })
}

/// A directory of the same name may be what a crash left of a topic that was deleted, or half of
/// one that was being made. Records go only where a sum vouches for it that they are another
/// topic's: a flipped bit looks like a topic that is gone.
fn clear_the_way(
    directory: &LogDirectory,
    path: &Path,
    topic_id: TopicId,
) -> Result<(), OpenError> {
    if !path.exists() {
        return Ok(());
    }
    let name = read_name(directory, path)?;
    match name.found {
        Some(found) if found.id == topic_id => {
            if !found.is_summed {
                add_sum(directory, &name.file, topic_id);
            }
            return Ok(());
        }
        None if has_records(directory, path)? => {
            let what = match name.is_missing {
                true => "missing",
                false => "damaged",
            };
            return Err(OpenError::Nameless {
                file: name.file,
                what,
                topic_id,
            });
        }
        Some(found) if !found.is_summed && has_records(directory, path)? => {
            return Ok(set_aside(directory, path)?);
        }
        _ => {}
    }
    tracing::warn!(
        directory = %path.display(),
        "removing the directory of a topic that no longer exists, or was never made whole"
    );
    Ok(directory.remove_directory(path)?)
}

/// The file of an older version gets its sum. Without it the partition is served all the same.
fn add_sum(directory: &LogDirectory, file: &Path, topic_id: TopicId) {
    let text = layout::partition_metadata(topic_id);
    if let Err(error) = directory.replace_file(file, text.as_bytes()) {
        tracing::warn!(%error, "a partition's metadata stays without a sum");
    }
}

fn set_aside(directory: &LogDirectory, path: &Path) -> Result<(), FileError> {
    let aside = layout::set_aside_path(path, layout::STRAY);
    tracing::error!(
        directory = %path.display(),
        aside = %aside.display(),
        "nothing vouches for it whose the records are: the directory is kept under another name; \
         remove it if it is not missed"
    );
    directory.rename(path, &aside)
}

/// Makes way for a topic of the same name where a partition that was refused is deleted. Returns
/// what is to be unlinked; what does not say that it is this topic's is kept under another name.
pub fn delete_refused(
    directory: &LogDirectory,
    path: &Path,
    topic_id: TopicId,
) -> Result<Option<PathBuf>, FileError> {
    if !path.exists() {
        return Ok(None);
    }
    let found = read_name(directory, path).ok().and_then(|name| name.found);
    if found.is_none_or(|found| found.id != topic_id) {
        return set_aside(directory, path).map(|()| None);
    }
    let doomed = layout::set_aside_path(path, layout::DELETED);
    directory.rename_unsynced(path, &doomed)?;
    Ok(Some(doomed))
}

/// Whether anything was ever written to a log: a new one has an empty segment at offset 0.
fn has_records(directory: &LogDirectory, path: &Path) -> Result<bool, FileError> {
    for entry in directory.list(path)? {
        let has = match layout::parse_segment_file(&entry.name) {
            Some((base, layout::LOG)) => {
                base > Offset(0) || directory.size_of(&path.join(&entry.name))? != Some(0)
            }
            Some((_, kind)) => kind == layout::CUT,
            None => false,
        };
        if has {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The producers as of the recovery point. Without a usable snapshot they are rebuilt from what the
/// recovery scans; those that wrote before may then start anywhere.
fn latest_snapshot(
    directory: &LogDirectory,
    path: &Path,
    point: Option<RecoveryPoint>,
) -> Result<ProducerStates, FileError> {
    let offset = point.map_or(Offset(0), |point| point.offset);
    let file = layout::segment_file(path, offset, layout::SNAPSHOT);
    let Some(bytes) = directory.read_file(&file, SMALL_FILE_BYTES_MAX)? else {
        return Ok(ProducerStates::new(offset));
    };
    match producer_snapshot::decode(&bytes) {
        Ok(producers) => Ok(producers),
        Err(error) => {
            tracing::error!(snapshot = %file.display(), %error, "producer snapshot not readable");
            Ok(ProducerStates::new(offset))
        }
    }
}

/// The leader epochs; that of this leader begins where the log ends now. And whether the file says
/// so: without room for it what is there can be read all the same.
fn open_epochs(
    directory: &LogDirectory,
    path: &Path,
    leader_epoch: LeaderEpoch,
    end: Offset,
) -> Result<(LeaderEpochs, bool), FileError> {
    let file = path.join(layout::LEADER_EPOCHS);
    let recorded = match directory.read_file(&file, SMALL_FILE_BYTES_MAX)? {
        None => LeaderEpochs::new(),
        Some(bytes) => match LeaderEpochs::from_checkpoint(&String::from_utf8_lossy(&bytes)) {
            Ok(epochs) => epochs,
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "leader epochs not readable");
                LeaderEpochs::new()
            }
        },
    };
    let mut epochs = recorded.clone();
    epochs.truncate_from_end(end);
    let is_new = epochs
        .latest()
        .is_none_or(|latest| latest.epoch < leader_epoch);
    // Of an empty log the file says the same as the last time, and there may be thousands of them.
    if is_new && epochs.assign(leader_epoch, end) && epochs != recorded {
        match directory.replace_file(&file, epochs.to_checkpoint().as_bytes()) {
            Ok(()) => {}
            Err(error) if error.is_no_room() => {
                tracing::debug!(%error, "the leader epochs are written before the next append");
                return Ok((epochs, false));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((epochs, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{PartitionIndex, TopicId};

    #[test]
    fn rolls_are_spread_over_the_jitter_and_never_below_nothing() {
        let topic_id = TopicId::random();
        let ages = |segment_ms: u64, segment_jitter_ms: u64| -> Vec<i64> {
            let config = TopicConfig {
                segment_ms,
                segment_jitter_ms,
                ..TopicConfig::default()
            };
            let age = |index| {
                let partition = PartitionIndex(index);
                let id = TopicIdPartition {
                    topic_id,
                    partition,
                };
                log_config(id, &config).segment_ms
            };
            (0..100).map(age).collect()
        };
        assert!(ages(10_000, 0).iter().all(|ms| *ms == 10_000));
        let jittered = ages(10_000, 1_000);
        assert!(jittered.iter().all(|ms| (9_001..=10_000).contains(ms)));
        let distinct: std::collections::BTreeSet<_> = jittered.iter().collect();
        assert!(distinct.len() > 50, "{jittered:?}");
        assert!(ages(10, 1_000).iter().all(|ms| (1..=10).contains(ms)));
        assert_eq!(ages(u64::MAX, 0)[0], i64::MAX);
    }
}
