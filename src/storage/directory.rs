//! A log directory: every file call of storage is made through it. Shards have clones of it.
//!
//! The first failed write or sync takes it out of service for good and keeps the reason: after a
//! failed fsync the kernel may have dropped the dirty pages, so trying again would report success
//! for data that is gone. Metadata calls (create, rename, list) run on the blocking pool, never on
//! the reactor.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::base::ids::Uuid;
use crate::runtime;

use super::error::{FileError, LogError};
use super::faults::{Call, Faults};
use super::layout;
use super::room::Room;

/// A log directory, `log.dirs`. Cheap to clone; may cross shards.
#[derive(Clone, Debug)]
pub struct LogDirectory {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// The `directory.id` of its `meta.properties`, by which the metadata names it.
    id: Option<Uuid>,
    path: PathBuf,
    /// Why the directory is out of service, written once.
    failure: OnceLock<String>,
    room: Room,
    /// See [`LogDirectory::with_reserve`].
    reserve_bytes: u64,
    faults: Faults,
    /// Whether its file system takes `O_DIRECT`; otherwise writes go through the page cache.
    direct: bool,
}

type Result<T> = std::result::Result<T, FileError>;

impl LogDirectory {
    /// The directory at `path`, which exists. `direct` says whether its file system takes
    /// `O_DIRECT`.
    pub fn new(path: PathBuf, direct: bool) -> Self {
        Self::with_faults(path, direct, Faults::default())
    }

    /// As [`LogDirectory::new`], with file calls that fail as `faults` says.
    pub fn with_faults(path: PathBuf, direct: bool, faults: Faults) -> Self {
        Self::with_id(None, path, direct, faults)
    }

    /// As [`LogDirectory::with_faults`], with the id that the metadata knows it by. One without an
    /// id is the only one, whatever id the metadata names.
    pub fn with_id(id: Option<Uuid>, path: PathBuf, direct: bool, faults: Faults) -> Self {
        Self {
            state: Arc::new(State {
                id,
                path,
                failure: OnceLock::new(),
                room: Room::default(),
                reserve_bytes: 0,
                faults,
                direct,
            }),
        }
    }

    /// Keeps so many bytes of its file system for the broker's own logs: those of clients get none
    /// of them. With 0 they may fill it.
    ///
    /// # Panics
    /// If somebody has a clone of it.
    #[must_use]
    pub fn with_reserve(mut self, reserve_bytes: u64) -> Self {
        let state = Arc::get_mut(&mut self.state).expect("nobody has a clone of it yet");
        state.reserve_bytes = reserve_bytes;
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.state.path
    }

    /// Whether `other` is a clone of it.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// What the metadata knows it by.
    pub fn id(&self) -> Option<Uuid> {
        self.state.id
    }

    /// Whether something of it is kept from clients' logs.
    pub(super) fn has_reserve(&self) -> bool {
        self.state.reserve_bytes > 0
    }

    /// Whether files in it are opened with `O_DIRECT`.
    pub fn is_direct(&self) -> bool {
        self.state.direct
    }

    /// Takes the directory out of service for good. The first reason stays.
    pub fn fail(&self, reason: &FileError) {
        let text = reason.to_string();
        if self.state.failure.set(text).is_ok() {
            tracing::error!(
                directory = %self.path().display(),
                reason = %reason,
                "log directory taken out of service; restart the broker once the disk is mended"
            );
        }
    }

    /// A call needed so many bytes more, as far as is known, and there was no room. It is told, but
    /// not each time.
    pub(super) fn found_no_room(&self, error: &FileError, needed_bytes: Option<u64>) {
        let needed = needed_bytes.unwrap_or(1);
        if let Some(refused) = self.state.room.refused(needed, Instant::now()) {
            tracing::error!(
                directory = %self.path().display(),
                free_bytes = free_bytes(self.path()),
                reserve_bytes = self.state.reserve_bytes,
                needed_bytes,
                refused,
                %error,
                "no room left in the log directory: appends that need more are refused"
            );
        }
    }

    /// A call was given room.
    pub(super) fn found_room(&self) {
        let spare = || self.spare_bytes().unwrap_or(u64::MAX);
        if self.state.room.granted(spare) {
            tracing::info!(
                directory = %self.path().display(),
                free_bytes = free_bytes(self.path()),
                "there is room in the log directory again: appends are taken"
            );
        }
    }

    /// Why the directory is out of service, if it is.
    pub fn failure(&self) -> Option<&str> {
        self.state.failure.get().map(String::as_str)
    }

    /// An error if the directory is out of service.
    pub fn check(&self) -> std::result::Result<(), LogError> {
        match self.failure() {
            Some(reason) => Err(LogError::Failed(reason.to_owned())),
            None => Ok(()),
        }
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// Runs `work` on the shard's blocking pool.
    pub async fn off_reactor<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> T {
        let directory = self.clone();
        runtime::spawn_blocking(move || work(&directory)).await
    }
}

/// The reserve of a directory for which none was set: a twentieth of its file system, and no more
/// than this.
const RESERVE_BYTES_MAX: u64 = 1 << 30;

/// The reserve of a directory at `path` for which none was set.
pub fn default_reserve_bytes(path: &Path) -> u64 {
    nix::sys::statvfs::statvfs(path).map_or(0, |found| {
        (found.blocks() * found.fragment_size() / 20).min(RESERVE_BYTES_MAX)
    })
}

/// What the file system of `path` has left, in bytes, for a process that is not root's.
fn free_bytes(path: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    Some(found.blocks_available() * found.fragment_size())
}

/// Calls that block: made at start, or by [`LogDirectory::off_reactor`].
impl LogDirectory {
    /// What is free beyond the reserve, if the file system says.
    fn spare_bytes(&self) -> Option<u64> {
        let free = free_bytes(self.path())?;
        Some(free.saturating_sub(self.state.reserve_bytes))
    }

    /// How much of the reserve's file system a file of a client's log at `path` may take: what is
    /// wanted, or where that goes too far what is needed.
    ///
    /// # Errors
    /// There is not even that beyond the reserve, which is told as a disk without room. Where the
    /// file system does not say what is free, the call that takes it will.
    pub fn beside_reserve(&self, path: &Path, needed: u64, wanted: u64) -> Result<u64> {
        match self.spare_bytes() {
            _ if self.state.reserve_bytes == 0 => Ok(wanted),
            Some(spare) if spare < needed => {
                let why = "what is free is kept by millrace.disk.reserve.bytes";
                let refused = io::Error::new(io::ErrorKind::StorageFull, why);
                Err(FileError::new(Call::Preallocate.name(), path, refused))
            }
            Some(spare) if spare < wanted => Ok(needed),
            _ => Ok(wanted),
        }
    }

    fn call<T>(&self, call: Call, path: &Path, make: impl FnOnce() -> io::Result<T>) -> Result<T> {
        let fault = self.faults().next(call, path);
        let done = fault.before().and_then(|()| make());
        let done = done.and_then(|made| fault.after().map(|()| made));
        done.map_err(|source| FileError::new(call.name(), path, source))
    }

    /// As [`LogDirectory::call`], for a write of `contents`.
    fn call_write(
        &self,
        path: &Path,
        contents: &[u8],
        make: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> Result<()> {
        let fault = self.faults().next(Call::Write, path);
        let taken = &contents[..fault.taken(contents.len())];
        let done = fault.before().and_then(|()| make(taken));
        let done = done.and_then(|()| fault.after());
        done.map_err(|source| FileError::new(Call::Write.name(), path, source))
    }

    /// Makes a directory, which must not exist, and syncs its parent.
    pub fn create_directory(&self, path: &Path) -> Result<()> {
        self.call(Call::CreateDirectory, path, || fs::create_dir(path))?;
        self.sync_parent(path)
    }

    /// Makes the entries of a directory durable.
    pub fn sync_directory(&self, path: &Path) -> Result<()> {
        self.call(Call::SyncDirectory, path, || {
            fs::File::open(path)?.sync_all()
        })?;
        Ok(())
    }

    fn sync_parent(&self, path: &Path) -> Result<()> {
        self.sync_directory(path.parent().unwrap_or(self.path()))
    }

    /// Replaces a small file by `contents` as a whole, durably: a new file, synced, renamed over.
    pub fn replace_file(&self, path: &Path, contents: &[u8]) -> Result<()> {
        let temporary = path.with_extension(layout::TEMPORARY);
        self.write_whole_file(&temporary, contents)?;
        self.call(Call::Rename, path, || fs::rename(&temporary, path))?;
        self.sync_parent(path)
    }

    /// Replaces a file by the bytes from `from` to `to` of another one, as a whole, durably.
    pub fn copy_into(&self, path: &Path, source: &fs::File, from: u64, to: u64) -> Result<()> {
        let temporary = path.with_extension(layout::TEMPORARY);
        let mut file = self.call(Call::Create, &temporary, || fs::File::create(&temporary))?;
        self.call(Call::Write, &temporary, || {
            let mut source = source;
            source.seek(io::SeekFrom::Start(from))?;
            io::copy(&mut source.take(to - from), &mut file)
        })?;
        self.call(Call::Sync, &temporary, || file.sync_all())?;
        self.call(Call::Rename, path, || fs::rename(&temporary, path))?;
        self.sync_parent(path)
    }

    /// Writes and syncs a file as a whole; its directory entry is not yet durable.
    pub fn write_whole_file(&self, path: &Path, contents: &[u8]) -> Result<()> {
        let mut file = self.call(Call::Create, path, || fs::File::create(path))?;
        self.call_write(path, contents, |contents| file.write_all(contents))?;
        self.call(Call::Sync, path, || file.sync_all())?;
        Ok(())
    }

    /// Writes `contents` at `position` of a file, made if absent, through the page cache, cuts the
    /// file there and syncs it.
    pub fn extend_file(&self, path: &Path, position: u64, contents: &[u8]) -> Result<()> {
        let fresh = !path.exists();
        let call = if fresh { Call::Create } else { Call::Open };
        let file = self.call(call, path, || {
            fs::OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
        })?;
        self.call_write(path, contents, |contents| {
            file.write_all_at(contents, position)?;
            file.set_len(position + contents.len() as u64)
        })?;
        self.call(Call::Sync, path, || file.sync_data())?;
        if fresh {
            self.sync_parent(path)
        } else {
            Ok(())
        }
    }

    /// Writes `contents` at `position` of a file that is there, through the page cache.
    pub fn write_into(&self, path: &Path, position: u64, contents: &[u8]) -> Result<()> {
        let file = self.call(Call::Open, path, || {
            fs::OpenOptions::new().write(true).open(path)
        })?;
        self.call_write(path, contents, |contents| {
            file.write_all_at(contents, position)
        })
    }

    /// The whole of a small file; `None` if there is none. `bytes_max` bounds what is read.
    pub fn read_file(&self, path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let file = match self.call(Call::Open, path, || fs::File::open(path)) {
            Ok(file) => file,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut contents = Vec::new();
        self.call(Call::Read, path, || {
            file.take(bytes_max).read_to_end(&mut contents)
        })?;
        Ok(Some(contents))
    }

    /// Makes a file's contents and length durable.
    pub fn sync_file(&self, path: &Path) -> Result<()> {
        self.call(Call::Sync, path, || fs::File::open(path)?.sync_all())
    }

    /// Opens a file for buffered reads.
    pub fn open_for_reads(&self, path: &Path) -> Result<fs::File> {
        self.call(Call::Open, path, || fs::File::open(path))
    }

    /// Cuts a file to `length` and makes that durable.
    pub fn truncate_file(&self, path: &Path, length: u64) -> Result<()> {
        self.call(Call::Truncate, path, || {
            let file = fs::OpenOptions::new().write(true).open(path)?;
            file.set_len(length)?;
            file.sync_all()
        })
    }

    /// Renames within the directory, durably.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.rename_unsynced(from, to)?;
        self.sync_parent(to)
    }

    /// Renames within the directory; the name becomes durable with the next sync of it.
    pub fn rename_unsynced(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(Call::Rename, from, || fs::rename(from, to))
    }

    /// Unlinks a file; one that is gone already is no error.
    pub fn remove_file(&self, path: &Path) -> Result<()> {
        match self.call(Call::Remove, path, || fs::remove_file(path)) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Unlinks what a crash has left of a file. A failure is left to the next start.
    pub fn remove_left_over(&self, path: &Path) {
        match self.remove_file(path) {
            Ok(()) => tracing::debug!(file = %path.display(), "removed what a crash has left"),
            Err(error) => tracing::warn!(%error, "what a crash has left stays"),
        }
    }

    /// Removes a directory and all in it.
    pub fn remove_directory(&self, path: &Path) -> Result<()> {
        match self.call(Call::Remove, path, || fs::remove_dir_all(path)) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// What is in a directory, sorted by name.
    pub fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        self.call(Call::List, path, || entries_of(fs::read_dir(path)?))
    }

    /// The bytes of a file; `None` if there is none.
    pub fn size_of(&self, path: &Path) -> Result<Option<u64>> {
        match self.call(Call::Stat, path, || fs::metadata(path)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name; one that is no UTF-8 is nobody's here.
    pub name: String,
    /// Whether it is a file, and no directory.
    pub is_file: bool,
}

/// What is left to read of a directory, sorted.
pub(super) fn entries_of(read: fs::ReadDir) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in read {
        let entry = entry?;
        let is_file = match entry.file_type() {
            Ok(kind) => kind.is_file(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if let Ok(name) = entry.file_name().into_string() {
            entries.push(Entry { name, is_file });
        }
    }
    entries.sort();
    Ok(entries)
}
