//! The recovery checkpoint of a shard: how far each of its logs was durable. Pure; no I/O.
//!
//! One small text file a shard, replaced as a whole at a clean stop, and before that whenever
//! 256 MiB were appended since the last was begun, but one after the other. At start all shards'
//! files are merged, so another number of shards finds its partitions too. A line a partition, then
//! the CRC of all before it:
//!
//! ```text
//! millrace recovery checkpoint 1
//! <topic id> <partition> <log start> <offset> <segment> <position>
//! crc32c <8 hex digits>
//! ```

use std::collections::HashMap;
use std::fmt::Write;

use crate::base::ids::{Offset, PartitionIndex, ShardId, TopicIdPartition};

use super::recovery::RecoveryPoint;

/// The recovery points of many partitions.
pub type RecoveryPoints = HashMap<TopicIdPartition, RecoveryPoint>;

const HEAD: &str = "millrace recovery checkpoint 1\n";
const PREFIX: &str = "recovery-checkpoint-";
/// Written last in a clean stop, removed first at start.
pub const CLEAN_MARKER: &str = ".clean-shutdown";
/// No checkpoint is larger: 100,000 partitions a shard.
pub const CHECKPOINT_BYTES_MAX: u64 = 16 << 20;

/// The name of a shard's checkpoint in the log directory.
pub fn file_name(shard: ShardId) -> String {
    format!("{PREFIX}{shard}")
}

/// Whether a file of the log directory is a checkpoint, of whichever shard.
pub fn is_checkpoint(name: &str) -> bool {
    let shard = name.strip_prefix(PREFIX);
    shard.is_some_and(|shard| !shard.is_empty() && shard.bytes().all(|b| b.is_ascii_digit()))
}

/// A checkpoint as it stands in its file.
pub fn encode<'a>(
    points: impl IntoIterator<Item = (&'a TopicIdPartition, &'a RecoveryPoint)>,
) -> Vec<u8> {
    let mut text = HEAD.to_owned();
    for (id, point) in points {
        let (topic, partition) = (id.topic_id, id.partition);
        let RecoveryPoint {
            log_start,
            offset,
            segment,
            position,
        } = point;
        writeln!(
            text,
            "{topic} {partition} {log_start} {offset} {segment} {position}"
        )
        .expect("a string takes any text");
    }
    let crc = crc32c::crc32c(text.as_bytes());
    writeln!(text, "crc32c {crc:08x}").expect("a string takes any text");
    text.into_bytes()
}

/// Why a checkpoint could not be read. Without it the logs are scanned from their start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The first line is not ours.
    #[error("it is no recovery checkpoint of format 1")]
    Format,
    /// The CRC is wrong or missing.
    #[error("its checksum is wrong")]
    Checksum,
    /// A line that does not parse, from 1.
    #[error("line {0} does not parse")]
    Line(usize),
}

/// Reads a checkpoint into `points`: of a partition that is there already, the later point stays.
pub fn decode(bytes: &[u8], points: &mut RecoveryPoints) -> Result<(), CheckpointError> {
    let text = std::str::from_utf8(bytes).map_err(|_| CheckpointError::Format)?;
    if !text.starts_with(HEAD) {
        return Err(CheckpointError::Format);
    }
    let (body, crc) = text
        .rsplit_once("crc32c ")
        .ok_or(CheckpointError::Checksum)?;
    if crc.trim_end() != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err(CheckpointError::Checksum);
    }
    for (index, line) in body.lines().enumerate().skip(1) {
        let (id, point) = parse_line(line).ok_or(CheckpointError::Line(index + 1))?;
        let known = points.get(&id).map(|known| known.offset);
        if known.is_none_or(|known| known <= point.offset) {
            points.insert(id, point);
        }
    }
    Ok(())
}

fn parse_line(line: &str) -> Option<(TopicIdPartition, RecoveryPoint)> {
    let mut words = line.split(' ');
    let topic_id = words.next()?.parse().ok()?;
    let partition = PartitionIndex(words.next()?.parse().ok()?);
    let mut number = || {
        words
            .next()?
            .parse::<i64>()
            .ok()
            .filter(|number| *number >= 0)
    };
    let point = RecoveryPoint {
        log_start: Offset(number()?),
        offset: Offset(number()?),
        segment: Offset(number()?),
        position: number()? as u64,
    };
    Some((
        TopicIdPartition {
            topic_id,
            partition,
        },
        point,
    ))
}
