//! Names in a log directory, as Kafka's. Any shard; pure.

use std::path::{Path, PathBuf};

use crate::base::ids::{Offset, PartitionIndex, ShardId, TopicId};

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
/// A segment's file that is being deleted ends so.
pub const DELETED_FILE: &str = ".deleted";
/// A directory that does not say whose records it has, or that no topic claims, ends so: it was put
/// aside for an operator.
pub const STRAY: &str = "-stray";
/// A file that is to replace another one ends so until it is whole.
pub const TEMPORARY: &str = "tmp";
/// The longest name of a file or directory, as ext4, XFS and nearly all others have it.
pub const NAME_BYTES_MAX: usize = 255;
/// Which topic incarnation a directory belongs to.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// It is three short lines.
pub const PARTITION_METADATA_BYTES_MAX: u64 = 4096;
/// Where each leader epoch starts.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";

/// Whether a file was being written to replace another one.
pub fn is_temporary(name: &str) -> bool {
    Path::new(name).extension() == Some(TEMPORARY.as_ref())
}

/// Whether a topic, or the directory of one of its partitions, has the name of one of the broker's
/// own: those go on where clients' topics are refused for want of room.
pub fn is_own_topic(name: &[u8]) -> bool {
    name.starts_with(b"__")
}

/// What `partition.metadata` holds: Kafka's two lines, and the CRC of both, which Kafka passes
/// over.
pub fn partition_metadata(topic_id: TopicId) -> String {
    let lines = format!("version: 0\ntopic_id: {topic_id}\n");
    let crc = crc32c::crc32c(lines.as_bytes());
    format!("{lines}crc32c: {crc:08x}\n")
}

/// Whose the records of a directory are, as its `partition.metadata` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedTopic {
    /// The topic.
    pub id: TopicId,
    /// Whether a CRC vouches for it. Kafka writes none, and neither did older versions: a flipped
    /// bit then names a topic that never was.
    pub is_summed: bool,
}

/// The topic that a `partition.metadata` names; `None` if it is not whole, or damaged.
pub fn parse_partition_metadata(contents: &[u8]) -> Option<NamedTopic> {
    let text = std::str::from_utf8(contents).ok()?;
    let (line, rest) = text
        .strip_prefix("version: 0\ntopic_id: ")?
        .split_once('\n')?;
    let id = line.parse().ok()?;
    let is_summed = !rest.is_empty();
    if is_summed && text != partition_metadata(id) {
        return None;
    }
    Some(NamedTopic { id, is_summed })
}

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

/// Whether a file in a partition's directory belongs to a deleted segment.
pub fn is_deleted_file(name: &str) -> bool {
    let file = name.strip_suffix(DELETED_FILE);
    file.is_some_and(|file| parse_segment_file(file).is_some())
}

const JOURNAL: &str = "journal-";

/// `journal-<shard>.<0 or 1>` in the log directory.
pub fn journal_file(shard: ShardId, index: usize) -> String {
    format!("{JOURNAL}{shard}.{index}")
}

/// Whether a file of the log directory is a journal's, of whichever shard.
pub fn is_journal_file(name: &str) -> bool {
    let parts = name
        .strip_prefix(JOURNAL)
        .and_then(|name| name.split_once('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    parts.is_some_and(|(shard, index)| is_number(shard) && is_number(index))
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

/// `<topic>-<partition>.<32 hex digits><suffix>`: the name of a partition's directory that is set
/// aside. The topic is cut where the whole would be longer than a name may be; Kafka does the same.
fn set_aside_directory(topic: &str, partition: PartitionIndex, suffix: &str) -> String {
    let unique = uuid::Uuid::new_v4().simple();
    let rest = format!("-{partition}.{unique}{suffix}");
    let kept = topic.len().min(NAME_BYTES_MAX - rest.len());
    // A topic's name is ASCII; a directory that somebody else made may not be.
    let kept = (0..=kept).rev().find(|at| topic.is_char_boundary(*at));
    format!("{}{rest}", &topic[..kept.unwrap_or(0)])
}

/// Where a partition's directory is set aside, with [`DELETED`] or [`STRAY`] at its name's end.
pub fn set_aside_path(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let parsed = parse_partition_directory(&name);
    let (topic, partition) = parsed.unwrap_or((&name, PartitionIndex(0)));
    path.with_file_name(set_aside_directory(topic, partition, suffix))
}

/// Whether a directory's name says that it is being deleted.
pub fn is_being_deleted(name: &str) -> bool {
    let unique = name
        .strip_suffix(DELETED)
        .and_then(|name| name.rsplit_once('.'));
    unique.is_some_and(|(partition, unique)| {
        let is_unique = unique.len() == 32 && unique.bytes().all(|b| b.is_ascii_hexdigit());
        is_unique && parse_partition_directory(partition).is_some()
    })
}
