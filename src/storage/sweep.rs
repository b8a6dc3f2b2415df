//! What a crash or a failed call left of deleted partitions, found at start. Shard 0, off the
//! reactor, once the metadata is known and before anything is served.
//!
//! A directory is deleted only on evidence: its own name says so, or the metadata log says that its
//! topic was deleted, or nothing was ever put into it. What the metadata never heard of, and
//! segments that do not say whose they are, are set aside under a name that no topic can have, as
//! Kafka does: who lost the metadata must not lose the records as well. A directory without
//! segments is somebody else's.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::directory::{Entry, LogDirectory};
use super::error::FileError;
use super::layout;
use crate::base::ids::{TopicId, Uuid};

/// A partition that there is.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Its topic.
    pub topic_id: TopicId,
    /// The log directory that the metadata places it in; `None` where it does not say.
    pub directory: Option<Uuid>,
}

/// What the metadata knows.
#[derive(Debug, Default)]
pub struct Claims {
    /// All partitions that there are, by the names of their directories.
    pub directories: HashMap<String, Claim>,
    /// The topics that were deleted.
    pub deleted_topics: HashSet<TopicId>,
}

/// What is to become of a directory.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Doomed,
    Stray,
}

/// Renames what belongs to no partition, and returns what is to be unlinked. On the blocking pool.
///
/// # Errors
/// The directory cannot be listed. What cannot be read or renamed is told and left alone.
pub fn sweep(directory: &LogDirectory, claims: &Claims) -> Result<Vec<PathBuf>, FileError> {
    let mut doomed = Vec::new();
    for Entry { name, is_file } in directory.list(directory.path())? {
        if is_file {
            continue;
        }
        let path = directory.path().join(&name);
        match claims.directories.get(&name).copied() {
            Some(claim) if is_claimed(directory, &path, claim) => continue,
            _ => {}
        }
        if layout::is_being_deleted(&name) {
            doomed.push(path);
            continue;
        }
        if layout::parse_partition_directory(&name).is_none() {
            continue;
        }
        let suffix = match fate(directory, &path, claims) {
            Ok(Fate::Kept) => continue,
            Ok(Fate::Doomed) => layout::DELETED,
            Ok(Fate::Stray) => layout::STRAY,
            Err(error) => {
                tracing::error!(directory = %path.display(), %error, "whose it is cannot be read");
                continue;
            }
        };
        let aside = layout::set_aside_path(&path, suffix);
        if let Err(error) = directory.rename_unsynced(&path, &aside) {
            tracing::error!(%error, "a directory that no topic claims stays in its place");
        } else if suffix == layout::STRAY {
            tracing::error!(
                directory = %path.display(),
                aside = %aside.display(),
                "no topic claims a partition's directory, and none that was deleted had it: it is \
                 kept under another name; remove it if it is not missed"
            );
        } else {
            doomed.push(aside);
        }
    }
    Ok(doomed)
}

/// Whether a directory is that of the partition that has its name. In the log directory where the
/// metadata places it, who opened it has seen to that. In another one there may be what is left of
/// a deleted topic of the same name, which nobody could reach when that was deleted.
fn is_claimed(directory: &LogDirectory, path: &Path, claim: Claim) -> bool {
    let (Some(own), Some(placed)) = (directory.id(), claim.directory) else {
        return true;
    };
    if own == placed {
        return true;
    }
    let metadata = path.join(layout::PARTITION_METADATA);
    let metadata = directory.read_file(&metadata, layout::PARTITION_METADATA_BYTES_MAX);
    let metadata = metadata.ok().flatten();
    let named = metadata
        .as_deref()
        .and_then(layout::parse_partition_metadata);
    named.is_none_or(|named| named.id == claim.topic_id)
}

fn fate(directory: &LogDirectory, path: &Path, claims: &Claims) -> Result<Fate, FileError> {
    let metadata = path.join(layout::PARTITION_METADATA);
    let metadata = directory.read_file(&metadata, layout::PARTITION_METADATA_BYTES_MAX)?;
    let topic_id = metadata
        .as_deref()
        .and_then(layout::parse_partition_metadata);
    if let Some(topic_id) = topic_id {
        // No flipped bit makes the id of one topic that of another.
        return Ok(match claims.deleted_topics.contains(&topic_id.id) {
            true => Fate::Doomed,
            false => Fate::Stray,
        });
    }
    let entries = directory.list(path)?;
    let mut names = entries.iter().map(|entry| entry.name.as_str());
    let is_log = |name: &str| {
        let parsed = layout::parse_segment_file(name);
        parsed.is_some_and(|(_, kind)| kind == layout::LOG)
    };
    // A crash while it was being made leaves nothing or a torn first file.
    Ok(if names.clone().any(is_log) {
        Fate::Stray
    } else if names.all(|name| name == layout::PARTITION_METADATA) {
        Fate::Doomed
    } else {
        Fate::Kept
    })
}
