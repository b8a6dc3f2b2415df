//! A bare io_uring ring: direct reads and writes of a file, so many in flight.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};

use crate::memory::{Memory, Pages};
use crate::{MIB, Result};

/// What is done with each unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Write,
    WriteFixed,
    Read,
    ReadFixed,
}

/// Units of one size, one after the other through a file, around again at its end.
pub struct Load<'a> {
    pub operation: Operation,
    pub file: &'a File,
    pub file_bytes: usize,
    pub memory: &'a Memory,
    pub unit: usize,
    pub in_flight: usize,
    pub count: usize,
}

/// Runs a load and returns each unit's latency in nanoseconds. All that was begun has ended when
/// it returns.
pub fn run(ring: &mut IoUring, load: &Load<'_>) -> Result<Vec<u64>> {
    assert!(load.in_flight * load.unit <= load.memory.len());
    let mut began = vec![Instant::now(); load.in_flight];
    let mut latencies_ns = Vec::with_capacity(load.count);
    let (mut submitted, mut failure) = (0, None);
    for lane in 0..load.in_flight.min(load.count) {
        push(ring, load, submitted, lane)?;
        submitted += 1;
    }
    while latencies_ns.len() < submitted {
        ring.submit_and_wait(1)?;
        let ended: Vec<_> = ring
            .completion()
            .map(|end| (end.user_data(), end.result()))
            .collect();
        for (lane, result) in ended {
            let lane = lane as usize;
            latencies_ns.push(began[lane].elapsed().as_nanos() as u64);
            if result < 0 {
                failure = Some(io::Error::from_raw_os_error(-result));
            } else if result as usize != load.unit {
                failure = Some(io::Error::other(format!("{result} of {} bytes", load.unit)));
            } else if submitted < load.count && failure.is_none() {
                began[lane] = Instant::now();
                push(ring, load, submitted, lane)?;
                submitted += 1;
            }
        }
    }
    match failure {
        None => Ok(latencies_ns),
        Some(failure) => Err(failure.into()),
    }
}

fn push(ring: &mut IoUring, load: &Load<'_>, number: usize, lane: usize) -> Result<()> {
    let fd = types::Fd(load.file.as_raw_fd());
    let at = (number * load.unit % load.file_bytes) as u64;
    let length = load.unit as u32;
    // SAFETY: each lane has a part of its own of the memory, which is long enough for all lanes.
    let address = unsafe { load.memory.as_mut_ptr().add(lane * load.unit) };
    let entry = match load.operation {
        Operation::Write => opcode::Write::new(fd, address, length).offset(at).build(),
        Operation::WriteFixed => opcode::WriteFixed::new(fd, address, length, 0)
            .offset(at)
            .build(),
        Operation::Read => opcode::Read::new(fd, address, length).offset(at).build(),
        Operation::ReadFixed => opcode::ReadFixed::new(fd, address, length, 0)
            .offset(at)
            .build(),
    };
    // SAFETY: `run` borrows file and memory until it has seen the end of all that it began.
    unsafe { queue(ring, entry.user_data(lane as u64)) }
}

/// Puts an entry in the submission queue.
///
/// # Safety
/// What the entry points to must live until it has completed.
pub unsafe fn queue(ring: &mut IoUring, entry: Entry) -> Result<()> {
    // SAFETY: the caller's promise.
    Ok(unsafe { ring.submission().push(&entry) }?)
}

/// Registers a memory with a ring as its buffer 0.
///
/// # Safety
/// The memory must outlive the ring's use of it.
pub unsafe fn register(ring: &IoUring, memory: &Memory) -> io::Result<()> {
    let buffer = libc::iovec {
        iov_base: memory.as_mut_ptr().cast(),
        iov_len: memory.len(),
    };
    // SAFETY: the caller's promise.
    unsafe { ring.submitter().register_buffers(&[buffer]) }
}

/// A ring with a memory that is registered with it.
pub struct Registered {
    pub ring: IoUring,
    pub memory: Memory,
}

impl Registered {
    pub fn new(bytes: usize, pages: Pages) -> Result<Self> {
        let ring = IoUring::new(256)?;
        let memory = Memory::new(bytes, pages)?;
        // SAFETY: the ring is dropped with the memory, and before it.
        unsafe { register(&ring, &memory) }?;
        Ok(Self { ring, memory })
    }
}

/// A file that is removed when this is dropped.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A file all of whose blocks are written, as a recycled segment's are.
    pub fn written(dir: &Path, name: &str, bytes: usize) -> Result<Self> {
        let scratch = Self::empty(dir, name)?;
        let file = scratch.open(libc::O_DIRECT)?;
        let memory = Memory::new(MIB, Pages::Small)?;
        for at in (0..bytes).step_by(MIB) {
            file.write_all_at(memory.as_slice(), at as u64)?;
        }
        file.sync_all()?;
        Ok(scratch)
    }

    /// A file that is not there yet: the first `open` makes it.
    pub fn empty(dir: &Path, name: &str) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(format!("kernel-notes-{name}-{}", std::process::id()));
        Ok(Self { path })
    }

    pub fn open(&self, flags: i32) -> Result<File> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(flags);
        Ok(options.open(&self.path)?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It was made by nobody if the first open failed.
        let _gone = std::fs::remove_file(&self.path);
    }
}
