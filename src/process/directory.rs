//! A data directory: made, locked, and known to be ours. The main thread holds the lock as long as
//! the process runs. It never opens a log.
//!
//! `meta.properties` says whose the directory is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::ids::{NodeId, TopicId};
use crate::base::limits::BLOCK_BYTES;
use crate::storage::meta::{FORMAT, LOCK_FILE, META_FILE, MetaError, MetaProperties};

const META_FILE_NEW: &str = "meta.properties.tmp";
const PROBE_FILE: &str = ".direct-io-probe";

/// What a directory may hold that nobody has formatted.
const HARMLESS: [&str; 4] = [LOCK_FILE, META_FILE_NEW, PROBE_FILE, "lost+found"];

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system refuses something.
    #[error("the data directory {path}: {what}: {error}{}", advice(error))]
    Io {
        /// The directory.
        path: PathBuf,
        /// What was tried, and where that is not the directory itself.
        what: String,
        /// What the system says.
        error: io::Error,
    },
    /// There is something else in its place.
    #[error(
        "the data directory {path}: {file} is a file and no directory: set log.dirs to another \
         place, or move the file away"
    )]
    NoDirectory {
        /// The directory.
        path: PathBuf,
        /// What is in its place, or in that of one above it.
        file: PathBuf,
    },
    /// Another process runs on it.
    #[error(
        "the data directory {path} is locked by another process{holder}: stop it, or set log.dirs \
         to another directory"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its process id, where it is known.
        holder: String,
    },
    /// Apache Kafka formatted it.
    #[error(
        "the data directory {path} was formatted by Apache Kafka: it is not touched, and there is \
         no way yet to take its data over. Set log.dirs to another directory"
    )]
    OfKafka {
        /// The directory.
        path: PathBuf,
    },
    /// It holds things that are not ours.
    #[error(
        "the data directory {path} is not empty and has no {META_FILE} (it holds {found}): set \
         log.dirs to a directory of its own"
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One thing that it holds.
        found: String,
    },
    /// A later version of Millrace wrote it.
    #[error(
        "the data directory {path} has the format {found}, and this version knows up to {FORMAT}: \
         run the version that wrote it, or a later one"
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// It belongs to another node.
    #[error(
        "the data directory {path} belongs to node {found}, and node.id is {wanted}: set one or \
         the other right"
    )]
    OfAnotherNode {
        /// The directory.
        path: PathBuf,
        /// The node that it belongs to.
        found: NodeId,
        /// The node that this is.
        wanted: NodeId,
    },
    /// It is named twice, perhaps by two names.
    #[error("the data directories {path} and {other} are the same one: name it once")]
    Twice {
        /// The directory.
        path: PathBuf,
        /// Its other name.
        other: PathBuf,
    },
    /// Two directories are not of the same node, or one is a copy of the other.
    #[error(
        "the data directories {path} and {other} do not belong together: {what}. Set log.dirs to \
         those of one node"
    )]
    Apart {
        /// One directory.
        path: PathBuf,
        /// The other.
        other: PathBuf,
        /// What tells so.
        what: String,
    },
    /// The node's metadata is in a directory that is not there.
    #[error(
        "the data directory {path} is one of several: the metadata log of its node is in the one \
         with the directory.id {id}, which is none of log.dirs and metadata.log.dir: mount it, or \
         name it there"
    )]
    NoMetadata {
        /// The directory that is there.
        path: PathBuf,
        /// The id of the one that is missing.
        id: TopicId,
    },
    /// The metadata is in another directory than the settings say.
    #[error(
        "the metadata log is in {path}, and metadata.log.dir is {wanted}: set that to {path}, or \
         leave it out"
    )]
    MetadataElsewhere {
        /// Where it is.
        path: PathBuf,
        /// Where it is said to be.
        wanted: PathBuf,
    },
    /// It is empty, and another one is missing.
    #[error(
        "the data directory {path} has nothing in it, and one that the node knows is missing: it \
         is not taken for a new one, since the missing one may have to be mounted there"
    )]
    NotMounted {
        /// The directory.
        path: PathBuf,
    },
    /// There is a metadata log in a directory that has none.
    #[error(
        "the data directory {path} holds {found}, but the metadata log of its node is in \
         {metadata}: move the one that is not in use away"
    )]
    StrayMetadata {
        /// The directory.
        path: PathBuf,
        /// What it holds.
        found: &'static str,
        /// Where the metadata log is.
        metadata: PathBuf,
    },
    /// `meta.properties` makes no sense.
    #[error(
        "the data directory {path}: {META_FILE} is empty or damaged: {reason}. Restore it from a \
         copy; nothing was touched"
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The directory, locked as long as this lives.
#[derive(Debug)]
pub struct DataDirectory {
    /// Where it is, from the root.
    pub path: PathBuf,
    /// Whose it is.
    pub meta: MetaProperties,
    /// Whether the file system does direct I/O in blocks of 4 KiB.
    pub direct_io: bool,
    _lock: File,
}

impl DataDirectory {
    /// Opens the directory, and makes and formats it where there is nothing: as one more of the
    /// node that `metadata` says, or as the first of a new one.
    pub(super) fn open(
        path: &Path,
        node_id: NodeId,
        metadata: Option<&Self>,
    ) -> Result<Self, DirectoryError> {
        let path = std::path::absolute(path).map_err(failed(path, "its place is unknown"))?;
        make(&path)?;
        // Looked at before anything is written: a directory of Kafka's stays as it is.
        let known = read_meta(&path)?;
        if known.is_none() {
            check_empty(&path)?;
        }
        let lock = lock(&path)?;
        // The process that held the lock until now may have formatted the directory.
        let mut meta = match read_meta(&path)? {
            Some(meta) => meta,
            None => format(&path, node_id, metadata)?,
        };
        if meta.node_id != node_id {
            return Err(DirectoryError::OfAnotherNode {
                path,
                found: meta.node_id,
                wanted: node_id,
            });
        }
        if meta.format < FORMAT {
            // Whoever knows the older one only must not open it once it is written to.
            meta.format = FORMAT;
            write_meta(&path, &meta)?;
        }
        let direct_io = does_direct_io(&path)?;
        let file_system = FileSystem::of(&path).map_err(failed(&path, "it cannot be looked at"))?;
        if let Some(risk) = file_system.risk() {
            tracing::warn!("the data directory {} is on {risk}", path.display());
        }
        if !direct_io && !file_system.is_memory() {
            tracing::warn!(
                "the file system of {} has no direct I/O: writes go through the page cache, at \
                 more CPU; use ext4 or XFS",
                path.display()
            );
        }
        Ok(Self {
            path,
            meta,
            direct_io,
            _lock: lock,
        })
    }
}

/// What holds the directory, by the number that `statfs` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileSystem(u32);

/// Those whose syncs are relied on. The number is that of ext2 and ext3, too.
const TRUSTED: [FileSystem; 3] = [
    FileSystem(0xEF53),
    FileSystem(0x5846_5342),
    FileSystem(0x9123_683E),
];

/// Those that are memory.
const MEMORY: [(FileSystem, &str); 2] = [
    (FileSystem(0x0102_1994), "tmpfs"),
    (FileSystem(0x8584_58F6), "ramfs"),
];

impl FileSystem {
    fn of(path: &Path) -> io::Result<Self> {
        let found = nix::sys::statfs::statfs(path)?.filesystem_type();
        // The numbers have 32 bits, whatever the field has.
        Ok(Self(found.0 as u32))
    }

    fn is_memory(self) -> bool {
        MEMORY.iter().any(|(known, _)| *known == self)
    }

    /// What an operator should know of it, if anything.
    fn risk(self) -> Option<String> {
        if TRUSTED.contains(&self) {
            return None;
        }
        let memory = MEMORY.iter().find(|(known, _)| *known == self);
        Some(match memory {
            Some((_, name)) => format!(
                "{name}, which is memory: acknowledged records do not survive a restart of the \
                 machine; use ext4 or XFS"
            ),
            None => format!(
                "a file system (type {:#x}) that Millrace is not tested on: acknowledged records \
                 may not survive a power loss; use ext4, XFS or btrfs",
                self.0
            ),
        })
    }
}

pub(super) fn failed(path: &Path, what: &str) -> impl FnOnce(io::Error) -> DirectoryError {
    let (path, what) = (path.to_owned(), what.to_owned());
    move |error| DirectoryError::Io { path, what, error }
}

/// What to do about it, where that is known.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": let the user that runs the broker read, write and enter it, or set log.dirs to \
             another directory"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ": mount the file system writable, or set log.dirs to another directory"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": make room, or set log.dirs to another directory"
        }
        _ => "",
    }
}

/// Makes the directory and, one by one, those above it that are missing; each entry is synced.
fn make(path: &Path) -> Result<(), DirectoryError> {
    let missing: Vec<_> = path.ancestors().take_while(|each| !each.is_dir()).collect();
    for each in missing.into_iter().rev() {
        let above = each.parent().unwrap_or(each);
        match fs::create_dir(each) {
            Ok(()) => sync(above).map_err(failed(path, "it cannot be synced"))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && each.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(DirectoryError::NoDirectory {
                    path: path.to_owned(),
                    file: each.to_owned(),
                });
            }
            Err(error) => {
                let name = each.file_name().unwrap_or(each.as_os_str());
                let (name, above) = (name.to_string_lossy(), above.display());
                let what = format!("{name} cannot be made in {above}");
                return Err(failed(path, &what)(error));
            }
        }
    }
    Ok(())
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

pub(super) fn check_empty(path: &Path) -> Result<(), DirectoryError> {
    let unreadable = "it cannot be read";
    for entry in fs::read_dir(path).map_err(failed(path, unreadable))? {
        let entry = entry.map_err(failed(path, unreadable))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !HARMLESS.contains(&name.as_str()) {
            return Err(DirectoryError::NotEmpty {
                path: path.to_owned(),
                found: name,
            });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let file = path.join(LOCK_FILE);
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file);
    let mut opened = opened.map_err(failed(path, "its lock file cannot be opened"))?;
    match opened.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&file).unwrap_or_default();
            let is_id = |id: &&str| id.parse::<u32>().is_ok();
            let holder = Some(holder.trim()).filter(is_id);
            return Err(DirectoryError::Locked {
                path: path.to_owned(),
                holder: holder.map_or_else(String::new, |id| format!(" (process {id})")),
            });
        }
        Err(TryLockError::Error(error)) => {
            return Err(failed(path, "it cannot be locked")(error));
        }
    }
    // Only for the message above: on a full disk the lock holds all the same.
    let _ = opened
        .set_len(0)
        .and_then(|()| writeln!(opened, "{}", std::process::id()));
    Ok(opened)
}

pub(super) fn read_meta(path: &Path) -> Result<Option<MetaProperties>, DirectoryError> {
    let bytes = match fs::read(path.join(META_FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "meta.properties cannot be read")(error)),
    };
    let path = path.to_owned();
    let parsed = MetaProperties::parse(&bytes).map_err(|error| match error {
        MetaError::OfKafka => DirectoryError::OfKafka { path },
        MetaError::Newer(found) => DirectoryError::Newer { path, found },
        MetaError::Damaged(reason) => DirectoryError::Damaged { path, reason },
    });
    parsed.map(Some)
}

fn format(
    path: &Path,
    node_id: NodeId,
    metadata: Option<&DataDirectory>,
) -> Result<MetaProperties, DirectoryError> {
    let directory_id = TopicId::random();
    let cluster_id = metadata.map(|metadata| metadata.meta.cluster_id.clone());
    let meta = MetaProperties {
        cluster_id: cluster_id.unwrap_or_else(|| TopicId::random().to_string()),
        node_id,
        directory_id,
        metadata_directory_id: metadata.map_or(directory_id, |it| it.meta.directory_id),
        other_directory_ids: Vec::new(),
        format: FORMAT,
    };
    write_meta(path, &meta)?;
    Ok(meta)
}

/// Writes `meta.properties` so that after a crash at any point it is there whole, as it is now or
/// as it was.
pub(super) fn write_meta(path: &Path, meta: &MetaProperties) -> Result<(), DirectoryError> {
    let text = meta.to_text();
    let new = path.join(META_FILE_NEW);
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path.join(META_FILE))?;
        sync(path)
    };
    write().map_err(failed(path, "meta.properties cannot be written"))
}

/// Tries one direct write: some file systems open a file for it and then refuse the write.
fn does_direct_io(path: &Path) -> Result<bool, DirectoryError> {
    let file = path.join(PROBE_FILE);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let tried = options
        .custom_flags(libc::O_DIRECT)
        .open(&file)
        .and_then(|opened| {
            let block = BLOCK_BYTES as usize;
            let buffer = vec![0_u8; 2 * block];
            let start = buffer.as_ptr().align_offset(block);
            opened.write_all_at(&buffer[start..start + block], 0)
        });
    let removed = match fs::remove_file(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    match tried.and(removed) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
        // A full disk says nothing against direct I/O, and must not keep the broker from starting.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(true),
        Err(error) => Err(failed(path, "it cannot be written")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_keep_records_is_a_risk() {
        let table = [
            (0xEF53, None),
            (0x5846_5342, None),
            (0x9123_683E, None),
            (0x0102_1994, Some("tmpfs, which is memory")),
            (0x8584_58F6, Some("ramfs, which is memory")),
            (0x6969, Some("type 0x6969) that Millrace is not tested on")),
        ];
        for (number, expected) in table {
            let risk = FileSystem(number).risk();
            assert_eq!(risk.is_some(), expected.is_some(), "{number:#x}");
            if let (Some(risk), Some(expected)) = (risk, expected) {
                assert!(risk.contains(expected), "{risk}");
            }
        }
        let memory = FileSystem::of(Path::new("/dev/shm"));
        assert!(
            memory.is_ok_and(FileSystem::is_memory),
            "Linux has it there"
        );
    }
}
