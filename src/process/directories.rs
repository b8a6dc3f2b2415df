//! All data directories of the node: which of them holds the metadata log, and which are there. The
//! main thread, before any log is opened.
//!
//! Where a partition is, its record in the metadata log says, by the id of the directory. So two
//! things must not happen: that a node starts without its metadata, and that a directory counts as
//! there, and empty, whose disk is only not mounted. Against the first each directory names the one
//! of the metadata. Against the second that one lists the others: as long as one of them is
//! missing, an empty directory is left alone, since it may be where the missing one is mounted. A
//! directory that is new is put on the list before a partition is placed in it, and only an
//! operator takes one off. This is simpler than to learn from the metadata log itself what is
//! missing, and safe even where that is damaged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::directory::{DataDirectory, DirectoryError, check_empty, failed, read_meta, write_meta};
use crate::base::ids::{NodeId, TopicId};
use crate::storage::meta::{META_FILE, MetaProperties, OTHER_DIRECTORY_IDS};

/// The directory of the metadata log, in the one that holds it.
const METADATA_LOG: &str = "__cluster_metadata-0";

/// The node's directories, locked as long as this lives.
#[derive(Debug)]
pub struct DataDirectories {
    /// The one that holds the metadata log.
    pub metadata: DataDirectory,
    /// Whether partitions are in it, too: `log.dirs` names it.
    pub metadata_has_partitions: bool,
    /// The others that are there, in the order of `log.dirs`.
    pub others: Vec<DataDirectory>,
    /// Whether all are there that the node knows.
    pub is_complete: bool,
}

/// What is in a place before it is touched.
enum Found {
    /// A directory of ours.
    Formatted(MetaProperties),
    /// Nothing, or an empty directory.
    Empty,
    /// The system refuses to show it.
    Unreadable(DirectoryError),
}

impl DataDirectories {
    /// Opens the directories of `log.dirs`, and that of `metadata.log.dir` where it is set. Makes
    /// and formats those that are new.
    ///
    /// # Errors
    /// One does not do, or two do not belong together, or that of the metadata is not there. One
    /// that is missing, of a node that has others, is told and left out.
    pub fn open(
        log_dirs: &[PathBuf],
        metadata_log_dir: Option<&Path>,
        node_id: NodeId,
    ) -> Result<Self, DirectoryError> {
        let (paths, named) = places(log_dirs, metadata_log_dir)?;
        let found = look_at_all(&paths)?;
        let is_new = !found.iter().any(|it| matches!(it, Found::Formatted(_)));
        let at = metadata_among(&paths, &found, named);
        let at = at.map_err(|error| because_of(error, found))?;
        let mut metadata = DataDirectory::open(&paths[at], node_id, None)?;
        // Now that it is locked nobody else changes the others.
        let found = look_at_all(&paths)?;
        if metadata_among(&paths, &found, named)? != at {
            let changed = io::Error::other("another process has changed it");
            return Err(failed(&paths[at], "it cannot be opened")(changed));
        }
        let missing = missing(&metadata.meta, &found);
        let (mut others, mut left_out) = (Vec::new(), missing.len());
        for (path, found) in paths.iter().zip(&found) {
            if *path == metadata.path {
                continue;
            }
            match open_other(path, found, node_id, &metadata, &missing) {
                Ok(other) => others.push(other),
                Err(error) if is_new || !may_be_left_out(&error) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "a log directory is left out");
                    left_out += 1;
                }
            }
        }
        tell_missing(&metadata, &missing);
        enlist(&mut metadata, &others)?;
        Ok(Self {
            metadata,
            metadata_has_partitions: at < log_dirs.len(),
            others,
            is_complete: left_out == 0,
        })
    }

    /// All that are there, that of the metadata first.
    pub fn all(&self) -> impl Iterator<Item = &DataDirectory> {
        [&self.metadata].into_iter().chain(&self.others)
    }
}

/// The places to look at, those of `log.dirs` first, and which of them `metadata.log.dir` names.
fn places(
    log_dirs: &[PathBuf],
    metadata_log_dir: Option<&Path>,
) -> Result<(Vec<PathBuf>, Option<usize>), DirectoryError> {
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(failed(path, "its place is unknown"));
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in log_dirs {
        let path = absolute(path)?;
        if let Some(other) = paths.iter().find(|other| real(other) == real(&path)) {
            let other = other.clone();
            return Err(DirectoryError::Twice { path, other });
        }
        paths.push(path);
    }
    let Some(metadata) = metadata_log_dir else {
        return Ok((paths, None));
    };
    let metadata = absolute(metadata)?;
    let named = paths.iter().position(|path| real(path) == real(&metadata));
    Ok(match named {
        Some(at) => (paths, Some(at)),
        None => {
            paths.push(metadata);
            let at = paths.len() - 1;
            (paths, Some(at))
        }
    })
}

fn look_at_all(paths: &[PathBuf]) -> Result<Vec<Found>, DirectoryError> {
    paths.iter().map(|path| look(path)).collect()
}

/// Looks at a place without touching it.
fn look(path: &Path) -> Result<Found, DirectoryError> {
    let is_not_there = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match read_meta(path) {
        Ok(Some(meta)) => return Ok(Found::Formatted(meta)),
        Ok(None) => {}
        Err(error @ DirectoryError::Io { .. }) => return Ok(Found::Unreadable(error)),
        Err(error) => return Err(error),
    }
    match check_empty(path) {
        Ok(()) => Ok(Found::Empty),
        Err(DirectoryError::Io { error, .. }) if is_not_there(&error) => Ok(Found::Empty),
        Err(error @ DirectoryError::Io { .. }) => Ok(Found::Unreadable(error)),
        Err(error) => Err(error),
    }
}

/// Which directory holds the metadata log: the one that all others name, wherever it stands in the
/// settings; of a new node the one that these name, or the first.
fn metadata_among(
    paths: &[PathBuf],
    found: &[Found],
    named: Option<usize>,
) -> Result<usize, DirectoryError> {
    let formatted = found
        .iter()
        .enumerate()
        .filter_map(|(at, found)| match found {
            Found::Formatted(meta) => Some((at, meta)),
            Found::Empty | Found::Unreadable(_) => None,
        });
    let formatted: Vec<_> = formatted.collect();
    let Some((first, meta)) = formatted.first().copied() else {
        return Ok(named.unwrap_or(0));
    };
    for (index, (at, one)) in formatted.iter().enumerate() {
        for (other_at, other) in &formatted[index + 1..] {
            check_together(
                (paths[*at].as_path(), *one),
                (paths[*other_at].as_path(), *other),
            )?;
        }
    }
    let of_metadata = formatted.iter().find(|(_, meta)| meta.is_of_metadata());
    let at = of_metadata.map(|(at, _)| *at);
    let at = at.ok_or_else(|| DirectoryError::NoMetadata {
        path: paths[first].clone(),
        id: meta.metadata_directory_id,
    })?;
    match named {
        Some(named) if named != at => Err(DirectoryError::MetadataElsewhere {
            path: paths[at].clone(),
            wanted: paths[named].clone(),
        }),
        _ => Ok(at),
    }
}

/// That there is no metadata may be due to a directory that cannot be looked into.
fn because_of(error: DirectoryError, found: Vec<Found>) -> DirectoryError {
    let unreadable = found.into_iter().find_map(|found| match found {
        Found::Unreadable(error) => Some(error),
        Found::Formatted(_) | Found::Empty => None,
    });
    match error {
        DirectoryError::NoMetadata { .. } => unreadable.unwrap_or(error),
        error => error,
    }
}

/// Whether two directories are of one node.
fn check_together(
    (path, one): (&Path, &MetaProperties),
    (other_path, other): (&Path, &MetaProperties),
) -> Result<(), DirectoryError> {
    let what = if one.cluster_id != other.cluster_id {
        let (one, other) = (&one.cluster_id, &other.cluster_id);
        format!("their cluster.id is {one} and {other}")
    } else if one.node_id != other.node_id {
        format!("their node.id is {} and {}", one.node_id, other.node_id)
    } else if one.directory_id == other.directory_id {
        let id = one.directory_id;
        format!("both have the directory.id {id}, so one is a copy of the other")
    } else if one.metadata_directory_id != other.metadata_directory_id {
        "they name different directories of the metadata log".to_owned()
    } else {
        return Ok(());
    };
    Err(DirectoryError::Apart {
        path: path.to_owned(),
        other: other_path.to_owned(),
        what,
    })
}

/// The ids that the node knows and that no directory has.
fn missing(metadata: &MetaProperties, found: &[Found]) -> Vec<TopicId> {
    let is_there = |id: &TopicId| {
        let has = |found: &Found| matches!(found, Found::Formatted(it) if it.directory_id == *id);
        found.iter().any(has)
    };
    let known = metadata.other_directory_ids.iter().copied();
    known.filter(|id| !is_there(id)).collect()
}

fn open_other(
    path: &Path,
    found: &Found,
    node_id: NodeId,
    metadata: &DataDirectory,
    missing: &[TopicId],
) -> Result<DataDirectory, DirectoryError> {
    if matches!(found, Found::Empty) && !missing.is_empty() {
        return Err(DirectoryError::NotMounted {
            path: path.to_owned(),
        });
    }
    if path.join(METADATA_LOG).exists() {
        return Err(DirectoryError::StrayMetadata {
            path: path.to_owned(),
            found: METADATA_LOG,
            metadata: metadata.path.clone(),
        });
    }
    DataDirectory::open(path, node_id, Some(metadata))
}

/// What a disk that is broken or not mounted may be the cause of. Any other error is in the
/// settings, or in what somebody did to the directory.
fn may_be_left_out(error: &DirectoryError) -> bool {
    matches!(
        error,
        DirectoryError::Io { .. }
            | DirectoryError::NoDirectory { .. }
            | DirectoryError::NotMounted { .. }
    )
}

fn tell_missing(metadata: &DataDirectory, missing: &[TopicId]) {
    for id in missing {
        let file = metadata.path.join(META_FILE);
        tracing::error!(
            directory_id = %id,
            "a log directory is missing, and the partitions in it are not served: mount it, or \
             name it in log.dirs, and start the broker again; if it is lost for good, take its id \
             out of {OTHER_DIRECTORY_IDS} in {}",
            file.display()
        );
    }
}

/// Puts those on the list that are not there yet: before anything is placed in them.
fn enlist(metadata: &mut DataDirectory, others: &[DataDirectory]) -> Result<(), DirectoryError> {
    let known = &metadata.meta.other_directory_ids;
    let ids = others.iter().map(|other| other.meta.directory_id);
    let new: Vec<_> = ids.filter(|id| !known.contains(id)).collect();
    if new.is_empty() {
        return Ok(());
    }
    metadata.meta.other_directory_ids.extend(new);
    write_meta(&metadata.path, &metadata.meta)
}

#[cfg(test)]
mod tests;
