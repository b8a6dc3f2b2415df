//! A segment's file, to append to or to read: direct I/O through the shard's ring. Its shard's
//! alone.
//!
//! [`File::write`], [`File::sync`] and [`File::preallocate`] may overlap each other, but never two
//! writes of one block: the caller sees to that. A failed write or sync is reported once and takes
//! the log directory out of service; nothing here tries again.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::GlommioError;
use glommio::io::{BufferedFile, DmaBuffer, DmaFile, OpenOptions, ReadResult};

use crate::base::limits::BLOCK_BYTES;

use super::directory::LogDirectory;
use super::error::FileError;
use super::faults::{Call, Fault};

/// A segment's file.
#[derive(Debug)]
pub struct File {
    directory: LogDirectory,
    path: PathBuf,
    syncs_writes: bool,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Direct(DmaFile),
    /// For a file system without `O_DIRECT`: each write costs a copy more.
    Buffered(BufferedFile),
}

type Result<T> = std::result::Result<T, FileError>;

impl File {
    /// Makes the file, which must not exist. Its directory entry is not yet durable. With
    /// `syncs_writes` a write completes only when it is durable.
    pub async fn create(directory: &LogDirectory, path: &Path, syncs_writes: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        Self::open_with(directory, path, Call::Create, options, syncs_writes).await
    }

    /// Opens the file, which exists; otherwise as [`File::create`].
    pub async fn open(directory: &LogDirectory, path: &Path, syncs_writes: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        Self::open_with(directory, path, Call::Open, options, syncs_writes).await
    }

    /// Opens the file for reads only.
    pub async fn open_to_read(directory: &LogDirectory, path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true);
        Self::open_with(directory, path, Call::Open, options, false).await
    }

    async fn open_with(
        directory: &LogDirectory,
        path: &Path,
        call: Call,
        mut options: OpenOptions,
        syncs_writes: bool,
    ) -> Result<Self> {
        if syncs_writes && !directory.faults().skips_sync() {
            options.custom_flags(libc::O_DSYNC);
        }
        let failed = |source| FileError::new(call.name(), path, source);
        let fault = directory.faults().next(call, path);
        fault.before().map_err(failed)?;
        let inner = if directory.is_direct() {
            options.dma_open(path).await.map(Inner::Direct)
        } else {
            options.buffered_open(path).await.map(Inner::Buffered)
        };
        let inner = inner.map_err(|error| failed(io_error(error)))?;
        fault.after().map_err(failed)?;
        Ok(Self {
            directory: directory.clone(),
            path: path.to_owned(),
            syncs_writes,
            inner,
        })
    }

    /// Whether a write that has completed is durable.
    pub fn syncs_writes(&self) -> bool {
        self.syncs_writes
    }

    /// Writes the whole of `buffer`, whole blocks, at `position`, a multiple of the block.
    pub async fn write(&self, buffer: Rc<DmaBuffer>, position: u64) -> Result<()> {
        let fault = self.before(Call::Write)?;
        let length = buffer.len();
        let buffer = match fault.taken(length) {
            0 => return self.after(Call::Write, fault),
            taken if taken < length => first_part(&buffer, taken),
            _ => buffer,
        };
        let written = match &self.inner {
            Inner::Direct(file) => file.write_rc_at(buffer, position).await,
            Inner::Buffered(file) => file.write_at(buffer.as_bytes().to_vec(), position).await,
        };
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
        let synced = match &self.inner {
            Inner::Direct(file) => file.fdatasync().await,
            Inner::Buffered(file) => file.fdatasync().await,
        };
        synced.map_err(|error| self.failed(Call::Sync, error))?;
        self.after(Call::Sync, fault)
    }

    /// Gives the file blocks up to `length` and that length, which reads as zeros.
    pub async fn preallocate(&self, length: u64) -> Result<()> {
        let fault = self.before(Call::Preallocate)?;
        let done = match &self.inner {
            Inner::Direct(file) => file.pre_allocate(length, false).await,
            Inner::Buffered(file) => file.pre_allocate(length, false).await,
        };
        done.map_err(|error| self.failed(Call::Preallocate, error))?;
        self.after(Call::Preallocate, fault)
    }

    /// Cuts the file to `length`.
    pub async fn truncate(&self, length: u64) -> Result<()> {
        let fault = self.before(Call::Truncate)?;
        let done = match &self.inner {
            Inner::Direct(file) => file.truncate(length).await,
            Inner::Buffered(file) => file.truncate(length).await,
        };
        done.map_err(|error| self.failed(Call::Truncate, error))?;
        self.after(Call::Truncate, fault)
    }

    /// Reads `length` bytes at `position`, a multiple of the block; fewer if the file ends before.
    pub async fn read(&self, position: u64, length: usize) -> Result<ReadResult> {
        let fault = self.before(Call::Read)?;
        let done = match &self.inner {
            // Whole blocks of ours, whatever blocks the runtime takes the disk to have.
            Inner::Direct(file) => {
                let blocks = length.next_multiple_of(BLOCK_BYTES as usize);
                let read = file.read_at_aligned(position, blocks).await;
                read.map(|read| {
                    let length = read.len().min(length);
                    ReadResult::slice(&read, 0, length).expect("it is no longer than the read")
                })
            }
            Inner::Buffered(file) => file.read_at(position, length).await,
        };
        let read = done.map_err(|error| self.failed(Call::Read, error))?;
        self.after(Call::Read, fault).map(|()| read)
    }

    /// Closes the descriptor. Waits for nothing: all writes have completed.
    pub async fn close(self) {
        // Closing tells nothing that the sync before it has not told.
        let closed = match self.inner {
            Inner::Direct(file) => file.close().await,
            Inner::Buffered(file) => file.close().await,
        };
        if let Err(error) = closed {
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

    fn failed(&self, call: Call, error: GlommioError<()>) -> FileError {
        FileError::new(call.name(), &self.path, io_error(error))
    }
}

/// What a short write takes: tests ask for one.
fn first_part(buffer: &DmaBuffer, taken: usize) -> Rc<DmaBuffer> {
    let mut part = glommio::allocate_dma_buffer(buffer.len().next_power_of_two());
    part.as_bytes_mut()[..taken].copy_from_slice(&buffer.as_bytes()[..taken]);
    part.trim_to_size(taken);
    Rc::new(part)
}

/// The kernel's own error number, which the runtime's conversion would drop.
fn io_error(error: GlommioError<()>) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => error.into(),
    }
}
