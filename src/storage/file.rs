//! A segment's file, to append to or to read: direct I/O through the shard's ring. Its shard's
//! alone.
//!
//! [`File::write`], [`File::sync`] and [`File::preallocate`] may overlap each other, but never two
//! writes of one block: the caller sees to that. A failed write or sync is reported once and takes
//! the log directory out of service; nothing here tries again.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::limits::BLOCK_BYTES;
use crate::runtime::{self, DmaBuffer, Part};

use super::directory::LogDirectory;
use super::error::FileError;
use super::faults::{Call, Fault};

/// A segment's file.
#[derive(Debug)]
pub struct File {
    directory: LogDirectory,
    path: PathBuf,
    syncs_writes: bool,
    file: runtime::File,
}

type Result<T> = std::result::Result<T, FileError>;

impl File {
    /// Makes the file, which must not exist. Its directory entry is not yet durable. With
    /// `syncs_writes` a write completes only when it is durable.
    pub async fn create(directory: &LogDirectory, path: &Path, syncs_writes: bool) -> Result<Self> {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        Self::open_with(directory, path, Call::Create, flags, syncs_writes).await
    }

    /// Opens the file, which exists; otherwise as [`File::create`].
    pub async fn open(directory: &LogDirectory, path: &Path, syncs_writes: bool) -> Result<Self> {
        Self::open_with(directory, path, Call::Open, libc::O_RDWR, syncs_writes).await
    }

    /// Opens the file for reads only.
    pub async fn open_to_read(directory: &LogDirectory, path: &Path) -> Result<Self> {
        Self::open_with(directory, path, Call::Open, libc::O_RDONLY, false).await
    }

    async fn open_with(
        directory: &LogDirectory,
        path: &Path,
        call: Call,
        mut flags: i32,
        syncs_writes: bool,
    ) -> Result<Self> {
        if syncs_writes && !directory.faults().skips_sync() {
            flags |= libc::O_DSYNC;
        }
        // A file system without it takes the same calls, and each write costs a copy more.
        if directory.is_direct() {
            flags |= libc::O_DIRECT;
        }
        let failed = |source| FileError::new(call.name(), path, source);
        let fault = directory.faults().next(call, path);
        fault.before().map_err(failed)?;
        let opened = runtime::File::open(path, flags).await;
        let file = opened.map_err(failed)?;
        fault.after().map_err(failed)?;
        Ok(Self {
            directory: directory.clone(),
            path: path.to_owned(),
            syncs_writes,
            file,
        })
    }

    /// Whether a write that has completed is durable.
    pub fn syncs_writes(&self) -> bool {
        self.syncs_writes
    }

    /// Writes `parts`, each whole blocks, one after the other at `position`, a multiple of the
    /// block.
    pub async fn write(&self, mut parts: Vec<Part>, position: u64) -> Result<()> {
        let fault = self.before(Call::Write)?;
        let length = bytes_of(&parts);
        match fault.taken(length) {
            0 => return self.after(Call::Write, fault),
            taken if taken < length => parts = first_of(parts, taken),
            _ => {}
        }
        let length = bytes_of(&parts);
        let written = self.file.write(parts, position).await;
        let written = written.map_err(|error| self.failed(Call::Write, error))?;
        if written == length {
            return self.after(Call::Write, fault);
        }
        // The range was preallocated, so a short write means a disk that fails.
        let short = io::Error::other(format!("wrote {written} of {length} bytes"));
        Err(FileError::new(Call::Write.name(), &self.path, short))
    }

    /// Makes all writes that have completed durable, with the length they need.
    pub async fn sync(&self) -> Result<()> {
        let fault = self.before(Call::Sync)?;
        if self.directory.faults().skips_sync() {
            return Ok(());
        }
        let synced = self.file.sync_data().await;
        synced.map_err(|error| self.failed(Call::Sync, error))?;
        self.after(Call::Sync, fault)
    }

    /// Gives the file, which has blocks up to `from`, blocks up to `length` and that length, which
    /// reads as zeros. Blocks that it has are not asked for again: the file system would go through
    /// all of its extents, and hold up writes for as long.
    pub async fn preallocate(&self, from: u64, length: u64) -> Result<()> {
        let fault = self.before(Call::Preallocate)?;
        let done = self.file.allocate(from, length).await;
        done.map_err(|error| self.failed(Call::Preallocate, error))?;
        self.after(Call::Preallocate, fault)
    }

    /// Cuts the file to `length`.
    pub async fn truncate(&self, length: u64) -> Result<()> {
        let fault = self.before(Call::Truncate)?;
        let done = self.file.truncate(length).await;
        done.map_err(|error| self.failed(Call::Truncate, error))?;
        self.after(Call::Truncate, fault)
    }

    /// Reads what lies at `position`, a multiple of the block, into buffers of these lengths, one
    /// after the other; fewer bytes if the file ends before. All but the last are whole blocks.
    pub async fn read(&self, position: u64, lengths: &[usize]) -> Result<Vec<DmaBuffer>> {
        let fault = self.before(Call::Read)?;
        let blocks = lengths.iter();
        let blocks: Vec<_> = blocks
            .map(|length| length.next_multiple_of(BLOCK_BYTES as usize))
            .collect();
        let done = self.file.read(position, &blocks).await;
        let mut read = done.map_err(|error| self.failed(Call::Read, error))?;
        for (buffer, length) in read.iter_mut().zip(lengths) {
            buffer.trim_to_size(buffer.len().min(*length));
        }
        self.after(Call::Read, fault).map(|()| read)
    }

    /// Closes the descriptor. Waits for nothing: all writes have completed.
    pub async fn close(self) {
        // Closing tells nothing that the sync before it has not told.
        if let Err(error) = self.file.close().await {
            tracing::warn!(file = %self.path.display(), %error, "close failed");
        }
    }

    fn before(&self, call: Call) -> Result<Fault> {
        let fault = self.directory.faults().next(call, &self.path);
        let asked = fault.before().map(|()| fault);
        asked.map_err(|source| FileError::new(call.name(), &self.path, source))
    }

    fn after(&self, call: Call, fault: Fault) -> Result<()> {
        let asked = fault.after();
        asked.map_err(|source| FileError::new(call.name(), &self.path, source))
    }

    fn failed(&self, call: Call, source: io::Error) -> FileError {
        FileError::new(call.name(), &self.path, source)
    }
}

fn bytes_of(parts: &[Part]) -> usize {
    parts.iter().map(Part::bytes).sum()
}

/// What a short write takes: tests ask for one.
fn first_of(parts: Vec<Part>, mut bytes: usize) -> Vec<Part> {
    let mut first = Vec::new();
    for mut part in parts {
        part.cut(bytes);
        bytes -= part.bytes();
        if part.bytes() > 0 {
            first.push(part);
        }
    }
    first
}
