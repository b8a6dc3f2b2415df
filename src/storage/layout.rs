//! Names in a log directory, as Kafka's. Any shard; pure.

use std::path::{Path, PathBuf};

use crate::base::ids::{Offset, PartitionIndex};

/// Segment data: v2 batches one after the other, as on the wire.
pub const LOG: &str = "log";
/// Offset index.
pub const INDEX: &str = "index";
/// Time index.
pub const TIME_INDEX: &str = "timeindex";
/// Producer snapshot.
pub const SNAPSHOT: &str = "snapshot";
/// What recovery cut off although whole batches lay behind it.
pub const CUT: &str = "cut";
/// A partition's directory that is being deleted ends so.
pub const DELETED: &str = "-delete";
/// A directory that does not say whose records it has ends so: it was put aside for an operator.
pub const STRAY: &str = "-stray";
/// Which topic incarnation a directory belongs to.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// Where each leader epoch starts.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";

/// `<20-digit base offset>.<extension>` in a partition's directory.
pub fn segment_file(partition: &Path, base_offset: Offset, extension: &str) -> PathBuf {
    partition.join(format!("{:020}.{extension}", base_offset.0))
}

/// The base offset and extension of a file that belongs to a segment.
pub fn parse_segment_file(name: &str) -> Option<(Offset, &str)> {
    let (digits, extension) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(|base| (Offset(base), extension))
}

/// `<topic>-<partition>`.
pub fn partition_directory(topic: &str, partition: PartitionIndex) -> String {
    format!("{topic}-{partition}")
}

/// The topic and partition of a directory's name.
pub fn parse_partition_directory(name: &str) -> Option<(&str, PartitionIndex)> {
    let (topic, partition) = name.rsplit_once('-')?;
    if topic.is_empty() || partition.is_empty() || !partition.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    partition
        .parse()
        .ok()
        .map(|partition| (topic, PartitionIndex(partition)))
}
