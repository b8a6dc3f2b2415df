//! What can go wrong in storage, as fields rather than sentences. Any shard.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::base::ids::Offset;

use super::faults::Call;

/// A failed call of the file system, with the path it was made on.
#[derive(Debug, thiserror::Error)]
#[error("{call} of {}: {source}", path.display())]
pub struct FileError {
    /// The call, as its system call is named.
    pub call: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Names the call and the path of a failure.
    pub fn new(call: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            call,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the file system had no room: the one failure that heals by itself. A sync that says
    /// so has lost what was accepted before it, and is no such failure.
    pub fn is_no_room(&self) -> bool {
        let syncs = [Call::Sync, Call::SyncDirectory];
        let is_sync = syncs.iter().any(|sync| sync.name() == self.call);
        let kind = self.source.kind();
        !is_sync && matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    }

    /// Whether the process or the machine had no descriptor left: nothing was opened, so nothing
    /// was done, and the disk is sound.
    pub fn is_no_descriptor(&self) -> bool {
        let errno = self.source.raw_os_error();
        matches!(errno, Some(libc::EMFILE | libc::ENFILE))
    }
}

/// Why a log could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// No room was left when a file was created or preallocated, before bytes were accepted.
    #[error("no room left in the log directory")]
    NoRoom,
    /// No descriptor was left to open a file with, before bytes were accepted.
    #[error("no file descriptor left")]
    NoDescriptor,
    /// The log directory has failed and is out of service until a restart.
    #[error("the log directory is out of service: {0}")]
    Failed(String),
    /// The log was closed or deleted.
    #[error("the log is closed")]
    Closed,
    /// The offset lies outside the log, or below what is kept.
    #[error("offset {requested} is outside {start}..={end}")]
    OutOfRange {
        /// The offset asked for.
        requested: Offset,
        /// The log start offset.
        start: Offset,
        /// The end of what may be read.
        end: Offset,
    },
    /// The offset lies in a part of the log that damage has taken.
    #[error("offset {0} lies in a damaged part of the log")]
    Damaged(Offset),
}
