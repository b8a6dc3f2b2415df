//! A file that behaves like a disk with a volatile cache: until a flush, a written sector is in the
//! cache only, and when the power goes a random part of the cache is lost.
//!
//! It is a FUSE file system of one file, served by a thread of the test. A loop device on the file
//! turns the file system's flushes into `fsync` calls, which is where the cache is made safe.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::support::Random;

const SECTOR: usize = 512;
const NAME: &str = "image";
const IMAGE: INodeNo = INodeNo(2);

/// The kernel may believe an answer about names and sizes for this long: they never change.
const BELIEVED_FOR: Duration = Duration::from_secs(3600);

type Sector = [u8; SECTOR];

/// The disk: its platter, and the cache in front of it.
struct Drive {
    platter: File,
    bytes: u64,
    /// What was written to each sector since the last flush, the oldest first.
    cache: BTreeMap<u64, Vec<Sector>>,
    is_cut: bool,
    random: Random,
}

impl Drive {
    fn new(platter: &Path, bytes: u64, seed: u64) -> Self {
        let platter = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(platter)
            .expect("a new platter");
        platter.set_len(bytes).expect("a sparse platter");
        Self {
            platter,
            bytes,
            cache: BTreeMap::new(),
            is_cut: false,
            random: Random::new(seed),
        }
    }

    fn read_sector(&self, sector: u64) -> Sector {
        if let Some(newest) = self.cache.get(&sector).and_then(|versions| versions.last()) {
            return *newest;
        }
        let mut bytes = [0; SECTOR];
        self.platter
            .read_exact_at(&mut bytes, sector * SECTOR as u64)
            .expect("a readable platter");
        bytes
    }

    fn read(&self, offset: u64, count: usize) -> Vec<u8> {
        let end = self.bytes.min(offset + count as u64);
        let mut read = Vec::with_capacity(count);
        for (sector, from, to) in sectors(offset, end) {
            read.extend_from_slice(&self.read_sector(sector)[from..to]);
        }
        read
    }

    fn write(&mut self, offset: u64, mut data: &[u8]) -> Result<(), Errno> {
        let end = offset + data.len() as u64;
        if self.is_cut || end > self.bytes {
            return Err(Errno::EIO);
        }
        for (sector, from, to) in sectors(offset, end) {
            let (now, later) = data.split_at(to - from);
            let mut bytes = self.read_sector(sector);
            bytes[from..to].copy_from_slice(now);
            self.cache.entry(sector).or_default().push(bytes);
            data = later;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Errno> {
        if self.is_cut {
            return Err(Errno::EIO);
        }
        for (sector, versions) in std::mem::take(&mut self.cache) {
            let newest = versions
                .last()
                .expect("a sector is cached once it is written");
            self.keep(sector, newest);
        }
        Ok(())
    }

    /// Power returns: of each cached sector any state since the last flush may be what is found.
    fn restore(&mut self) {
        // Some cuts lose nearly all, some nearly nothing.
        let kept_of_eight = self.random.range(0, 9);
        for (sector, versions) in std::mem::take(&mut self.cache) {
            if self.random.range(0, 8) < kept_of_eight {
                let version = self.random.range(0, versions.len() as u64);
                self.keep(sector, &versions[usize::try_from(version).expect("small")]);
            }
        }
        self.is_cut = false;
    }

    fn keep(&self, sector: u64, bytes: &Sector) {
        self.platter
            .write_all_at(bytes, sector * SECTOR as u64)
            .expect("a writable platter");
    }
}

/// Each sector of `offset..end`, and which of its bytes are meant.
fn sectors(offset: u64, end: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let size = SECTOR as u64;
    (offset / size..end.div_ceil(size)).map(move |sector| {
        let start = sector * size;
        let from = offset.saturating_sub(start);
        let to = (end - start).min(size);
        (sector, from as usize, to as usize)
    })
}

/// A mounted lossy file; dropped, it is unmounted.
pub struct Lossy {
    drive: Arc<Mutex<Drive>>,
    image: PathBuf,
    _session: BackgroundSession,
}

impl Lossy {
    /// Serves a file of `bytes` bytes in the directory `at`; `platter` holds what is safe.
    pub fn mount(at: &Path, platter: &Path, bytes: u64, seed: u64) -> Self {
        let drive = Arc::new(Mutex::new(Drive::new(platter, bytes, seed)));
        let served = Served(Arc::clone(&drive));
        let session = fuser::spawn_mount(served, at, &Config::default()).expect("a FUSE mount");
        Self {
            drive,
            image: at.join(NAME),
            _session: session,
        }
    }

    /// The file.
    pub fn image(&self) -> PathBuf {
        self.image.clone()
    }

    /// From now on every write and flush fails: the power is gone.
    pub fn cut(&self) {
        lock(&self.drive).is_cut = true;
    }

    /// Loses a random part of the cache and serves again.
    pub fn restore(&self) {
        lock(&self.drive).restore();
    }
}

struct Served(Arc<Mutex<Drive>>);

fn lock(drive: &Mutex<Drive>) -> MutexGuard<'_, Drive> {
    drive.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Served {
    fn attributes(&self, node: INodeNo) -> Option<FileAttr> {
        let (kind, size) = match node {
            INodeNo::ROOT => (FileType::Directory, 0),
            IMAGE => (FileType::RegularFile, lock(&self.0).bytes),
            _ => return None,
        };
        Some(FileAttr {
            ino: node,
            size,
            blocks: size / SECTOR as u64,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn tell(&self, node: INodeNo, reply: ReplyAttr) {
        match self.attributes(node) {
            Some(attributes) => reply.attr(&BELIEVED_FOR, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(IMAGE).filter(|_| name == NAME) {
            Some(attributes) => reply.entry(&BELIEVED_FOR, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.tell(node, reply);
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // A disk has no times and keeps its size.
        self.tell(node, reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the kernel's page cache, which would otherwise remember what the cut has lost.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(&lock(&self.0).read(offset, size as usize));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match lock(&self.0).write(offset, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("a FUSE write")),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Closing a file makes nothing safe.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match lock(&self.0).flush() {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(seed: u64) -> (tempfile::TempDir, Drive) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let drive = Drive::new(&dir.path().join("platter"), 1 << 20, seed);
        (dir, drive)
    }

    #[test]
    fn what_was_flushed_survives_and_the_rest_may_not() {
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..50 {
            let (_dir, mut drive) = drive(seed);
            drive.write(1_000, &[1; 3_000]).expect("power");
            drive.flush().expect("power");
            drive.write(1_000, &[2; 3_000]).expect("power");
            assert_eq!(
                drive.read(1_000, 3_000),
                [2; 3_000],
                "what was written is read"
            );
            drive.is_cut = true;
            assert!(drive.write(0, &[3]).is_err() && drive.flush().is_err());
            drive.restore();
            let read = drive.read(1_000, 3_000);
            assert!(read.iter().all(|byte| [1, 2].contains(byte)));
            lost += read.iter().filter(|byte| **byte == 1).count();
            kept += read.iter().filter(|byte| **byte == 2).count();
            assert_eq!(drive.read(0, 1_000), [0; 1_000]);
        }
        assert!(lost > 10_000 && kept > 10_000, "{lost} lost, {kept} kept");
    }

    #[test]
    fn parts_of_sectors_are_read_and_written() {
        let (_dir, mut drive) = drive(1);
        drive.write(510, b"abcd").expect("power");
        drive.write(512, b"XY").expect("power");
        assert_eq!(drive.read(508, 8), b"\0\0abXY\0\0");
        assert!(drive.write((1 << 20) - 1, b"ab").is_err(), "past the end");
        assert_eq!(drive.read((1 << 20) - 1, 10), [0]);
    }
}
