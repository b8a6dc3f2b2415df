//! Brings the metadata up from its log: recovery, then every record from the start. Shard 0, before
//! any partition is opened.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::base::clock::TimestampMs;
use crate::base::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::metadata::batch::{self, ReplayBatchError};
use crate::metadata::{Changes, MetadataDelta, MetadataImage, topic_name};
use crate::record::batches::Batches;
use crate::record::header::crc_of;
use crate::storage::directory::LogDirectory;
use crate::storage::error::FileError;
use crate::storage::layout;
use crate::storage::lifecycle::create_files;
use crate::storage::log::{Log, LogConfig};
use crate::storage::recovery::{Recovered, RecoveryInput, RecoveryPoint, recover};
use crate::storage::shard::ShardStorage;

/// A segment is read whole when it is replayed, so it is kept small. One command may exceed it.
const SEGMENT_BYTES: u64 = 8 << 20;
/// No segment is larger: one command of the most records with the longest settings.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Kafka's defaults for what has no setting of its own here.
const SEGMENT_INDEX_BYTES: u64 = 10 << 20;
const INDEX_INTERVAL_BYTES: u64 = 4096;

/// Why the metadata cannot be loaded: the broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file call failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory holds something else.
    #[error(
        "{} does not hold the log of the metadata: its {} is that of something else, or damaged",
        .path.display(), layout::PARTITION_METADATA
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// Records are missing, or not as they were written. Without them the broker would take topics
    /// that exist for deleted ones.
    #[error(
        "the metadata log in {} is damaged at offset {at}, but records up to offset {end} were \
         written: restore the directory from a copy",
        .path.display()
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// The first record that is missing.
        at: Offset,
        /// Where the log ends.
        end: Offset,
    },
    /// A record that this release does not know, or that contradicts those before it.
    #[error("the metadata log in {}: {error}", .path.display())]
    Replay {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        error: ReplayBatchError,
    },
}

/// The metadata as its log tells it.
#[derive(Debug)]
pub struct LoadedMetadata {
    /// The log, to be appended to.
    pub log: Rc<Log>,
    /// The state at its end.
    pub image: Arc<MetadataImage>,
    /// What a shard that knows nothing has to do to follow: every partition is new to it.
    pub changes: Arc<Changes>,
    /// The epoch in which the controller leads from now on, above all in the log.
    pub leader_epoch: LeaderEpoch,
    /// The topics that the log says were deleted: what is left of their files may go.
    pub deleted_topics: HashSet<TopicId>,
}

/// What the blocking pool brings back.
struct Opened {
    path: PathBuf,
    recovered: Recovered,
    image: MetadataImage,
    changes: Changes,
    last_epoch: LeaderEpoch,
    deleted_topics: HashSet<TopicId>,
}

/// Opens the log of the metadata, makes it if there is none, and replays it. `point` is what the
/// checkpoint of shard 0 says of it, and `clean` whether the broker stopped cleanly after that.
///
/// # Errors
/// The log cannot be read, or not be trusted.
pub async fn open(
    storage: &Rc<ShardStorage>,
    point: Option<RecoveryPoint>,
    clean: bool,
    now: TimestampMs,
) -> Result<LoadedMetadata, LoadError> {
    let opened = storage
        .directory()
        .off_reactor(move |directory| read(directory, point, clean, now));
    let Opened {
        path,
        recovered,
        image,
        changes,
        last_epoch,
        deleted_topics,
    } = opened.await?;
    for report in &recovered.reports {
        tracing::error!(log = %path.display(), "recovery of the metadata: {report}");
    }
    Ok(LoadedMetadata {
        log: Log::open_recovered(storage, path, log_config(), recovered),
        image: Arc::new(image),
        changes: Arc::new(changes),
        leader_epoch: LeaderEpoch(last_epoch.0 + 1),
        deleted_topics,
    })
}

/// Every write is synced, and segments do not age: nothing is deleted before there are snapshots.
fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        segment_ms: i64::MAX,
        segment_index_bytes: SEGMENT_INDEX_BYTES,
        index_interval_bytes: INDEX_INTERVAL_BYTES,
        syncs_writes: true,
    }
}

/// On the blocking pool.
fn read(
    directory: &LogDirectory,
    point: Option<RecoveryPoint>,
    clean: bool,
    now: TimestampMs,
) -> Result<Opened, LoadError> {
    let name = layout::partition_directory(topic_name::CLUSTER_METADATA, PartitionIndex(0));
    let path = directory.path().join(name);
    make_if_missing(directory, &path)?;
    let input = RecoveryInput {
        path: path.clone(),
        point,
        clean,
        identity: layout::partition_metadata(TopicId::METADATA),
        index_interval_bytes: INDEX_INTERVAL_BYTES,
        now,
    };
    let recovered = recover(directory, &input, &mut |_| {})?;
    let mut delta = MetadataDelta::new(&MetadataImage::default());
    let last_epoch = replay(directory, &path, recovered.end(), &mut delta)?;
    let deleted_topics = delta.gone_topics().collect();
    let (image, changes) = delta.finish();
    Ok(Opened {
        path,
        recovered,
        image,
        changes,
        last_epoch,
        deleted_topics,
    })
}

fn make_if_missing(directory: &LogDirectory, path: &Path) -> Result<(), LoadError> {
    let metadata = layout::partition_metadata(TopicId::METADATA);
    if path.exists() {
        let file = path.join(layout::PARTITION_METADATA);
        let found = directory.read_file(&file, layout::PARTITION_METADATA_BYTES_MAX)?;
        let found = found.as_deref();
        let found = found.and_then(layout::parse_partition_metadata);
        if found.is_some_and(|found| found.id == TopicId::METADATA) {
            return Ok(());
        }
        // A crash between the directory and its first file leaves no segment behind.
        let entries = directory.list(path)?;
        if entries
            .iter()
            .any(|entry| layout::parse_segment_file(&entry.name).is_some())
        {
            let path = path.to_owned();
            return Err(LoadError::Foreign { path });
        }
        directory.remove_directory(path)?;
    }
    Ok(create_files(directory, path, &metadata, Offset(0))?)
}

/// Replays every batch below `end` and returns the latest epoch.
fn replay(
    directory: &LogDirectory,
    path: &Path,
    end: Offset,
    delta: &mut MetadataDelta,
) -> Result<LeaderEpoch, LoadError> {
    let mut last_epoch = LeaderEpoch(0);
    let mut next = Offset(0);
    let mut segments: Vec<Offset> = directory
        .list(path)?
        .iter()
        .filter_map(|entry| layout::parse_segment_file(&entry.name))
        .filter(|(_, extension)| *extension == layout::LOG)
        .map(|(base, _)| base)
        .collect();
    segments.sort();
    for base in segments {
        let file = layout::segment_file(path, base, layout::LOG);
        let bytes = directory.read_file(&file, SEGMENT_BYTES_MAX)?;
        // Behind the last batch there may be zeros that were allocated for more.
        for (header, bytes) in Batches::new(&bytes.unwrap_or_default()).map_while(Result::ok) {
            if next == end || header.base_offset != next || crc_of(bytes) != header.crc {
                break;
            }
            batch::replay(bytes, delta).map_err(|error| LoadError::Replay {
                path: path.to_owned(),
                error,
            })?;
            last_epoch = last_epoch.max(header.partition_leader_epoch);
            next = header.next_offset();
        }
    }
    match next == end {
        true => Ok(last_epoch),
        false => Err(LoadError::Damaged {
            path: path.to_owned(),
            at: next,
            end,
        }),
    }
}
