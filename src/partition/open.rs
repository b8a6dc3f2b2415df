//! Brings a partition up from its files: producers and epochs are rebuilt by the code that runs.
//!
//! The files are read on the blocking pool; the partition that comes out belongs to the shard.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::base::clock::TimestampMs;
use crate::base::ids::{LeaderEpoch, Offset, TopicId, TopicIdPartition};
use crate::config::{FlushMode, TopicConfig};
use crate::storage::directory::LogDirectory;
use crate::storage::error::FileError;
use crate::storage::layout;
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
    /// What the checkpoint says of it.
    pub point: Option<RecoveryPoint>,
    /// Whether the broker stopped cleanly.
    pub clean: bool,
    /// Where its recovery is counted.
    pub tally: Arc<RecoveryTally>,
}

/// What was read from a partition's files.
struct Opened {
    path: PathBuf,
    recovered: Recovered,
    producers: ProducerStates,
    epochs: LeaderEpochs,
}

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
) -> Result<Rc<Partition>, FileError> {
    let now = shared.clock.now_ms();
    let config = wanted.config.clone();
    let (id, leader_epoch) = (wanted.id, wanted.leader_epoch);
    let tally = Arc::clone(&wanted.tally);
    let opened = storage
        .directory()
        .off_reactor(move |directory| read(directory, &wanted, now));
    let Opened {
        path,
        recovered,
        producers,
        epochs,
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
    Ok(Partition::new(
        id,
        Rc::clone(shared),
        log,
        Rc::new(config),
        leader_epoch,
        producers,
        epochs,
    ))
}

/// On the blocking pool.
fn read(
    directory: &LogDirectory,
    wanted: &OpenPartition,
    now: TimestampMs,
) -> Result<Opened, FileError> {
    let name = layout::partition_directory(&wanted.topic, wanted.id.partition);
    let path = directory.path().join(name);
    clear_the_way(directory, &path, wanted.id.topic_id)?;
    if !path.exists() {
        create_files(
            directory,
            &path,
            &layout::partition_metadata(wanted.id.topic_id),
            Offset(0),
        )?;
    }
    let mut producers = latest_snapshot(directory, &path, wanted.point)?;
    let input = RecoveryInput {
        path: path.clone(),
        point: wanted.point,
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
    let epochs = open_epochs(directory, &path, wanted.leader_epoch, recovered.end())?;
    Ok(Opened {
        path,
        recovered,
        producers,
        epochs,
    })
}

/// A directory of the same name may be what a crash left of a topic that was deleted, or half of
/// one that was being made. One that has records and does not say whose they are is kept aside.
fn clear_the_way(
    directory: &LogDirectory,
    path: &Path,
    topic_id: TopicId,
) -> Result<(), FileError> {
    if !path.exists() {
        return Ok(());
    }
    let file = path.join(layout::PARTITION_METADATA);
    let found = directory.read_file(&file, SMALL_FILE_BYTES_MAX)?;
    let found = found.as_deref().and_then(layout::parse_partition_metadata);
    if found == Some(topic_id) {
        return Ok(());
    }
    if found.is_none() && has_records(directory, path)? {
        let aside = layout::set_aside_path(path, layout::STRAY);
        tracing::error!(
            directory = %path.display(),
            aside = %aside.display(),
            "{} does not say whose the records are: the directory is kept aside, and the \
             partition begins without them",
            layout::PARTITION_METADATA
        );
        return directory.rename(path, &aside);
    }
    tracing::warn!(
        directory = %path.display(),
        "removing the directory of a topic that no longer exists, or was never made whole"
    );
    directory.remove_directory(path)
}

fn has_records(directory: &LogDirectory, path: &Path) -> Result<bool, FileError> {
    let entries = directory.list(path)?;
    Ok(entries.iter().any(|(name, size)| {
        let parsed = layout::parse_segment_file(name);
        parsed.is_some_and(|(_, kind)| kind == layout::LOG) && size.is_some_and(|size| size > 0)
    }))
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

/// The leader epochs; that of this leader begins where the log ends now.
fn open_epochs(
    directory: &LogDirectory,
    path: &Path,
    leader_epoch: LeaderEpoch,
    end: Offset,
) -> Result<LeaderEpochs, FileError> {
    let file = path.join(layout::LEADER_EPOCHS);
    let mut epochs = match directory.read_file(&file, SMALL_FILE_BYTES_MAX)? {
        None => LeaderEpochs::new(),
        Some(bytes) => match LeaderEpochs::from_checkpoint(&String::from_utf8_lossy(&bytes)) {
            Ok(epochs) => epochs,
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "leader epochs not readable");
                LeaderEpochs::new()
            }
        },
    };
    epochs.truncate_from_end(end);
    let is_new = epochs
        .latest()
        .is_none_or(|latest| latest.epoch < leader_epoch);
    if is_new && epochs.assign(leader_epoch, end) {
        directory.replace_file(&file, epochs.to_checkpoint().as_bytes())?;
    }
    Ok(epochs)
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
