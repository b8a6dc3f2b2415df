//! The page `page-cache.md`: durable writes and cold reads past the page cache and through it,
//! readahead, and what a direct write costs where others have read the file through the cache.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use io_uring::IoUring;

use crate::measure::{Meter, Table, gib, percentile_us, pin};
use crate::memory::{Memory, Pages};
use crate::ring::{self, Load, Operation, Scratch};
use crate::system::checked;
use crate::tcp::HERE;
use crate::{KIB, MIB, Options, Result};

const FILE_BYTES: usize = 128 * MIB;
const UNIT: usize = 256 * KIB;
/// RWF_DONTCACHE of linux/fs.h, since 6.14.
const DONTCACHE: i32 = 0x80;
/// cachestat(2), since 6.5, by its number on every architecture.
const CACHESTAT: libc::c_long = 451;

pub fn measure(options: &Options) -> Result<()> {
    pin(HERE)?;
    let scratch = Scratch::written(&options.dir, "page-cache", FILE_BYTES)?;
    writes(options, &scratch)?;
    reads(options, &scratch)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Write {
    Direct,
    DirectOverCached,
    BufferedSynced,
    BufferedThenSync,
    DontCache,
}

fn writes(options: &Options, scratch: &Scratch) -> Result<()> {
    let columns = [
        "CPU s/GiB",
        "kernel threads s/GiB",
        "MB/s",
        "p50 µs",
        "p99 µs",
        "MiB left in the cache",
    ];
    let mut table = Table::new("durable writes of 256 KiB, one at a time", &columns);
    for (name, way) in [
        ("direct, O_DSYNC", Write::Direct),
        (
            "direct, O_DSYNC, of what the cache holds",
            Write::DirectOverCached,
        ),
        ("buffered, O_DSYNC", Write::BufferedSynced),
        ("buffered, fdatasync after each", Write::BufferedThenSync),
        ("buffered, RWF_DONTCACHE and RWF_DSYNC", Write::DontCache),
    ] {
        let flags = match way {
            Write::Direct | Write::DirectOverCached => libc::O_DIRECT | libc::O_DSYNC,
            Write::BufferedSynced => libc::O_DSYNC,
            Write::BufferedThenSync | Write::DontCache => 0,
        };
        let (file, reader) = (scratch.open(flags)?, scratch.open(0)?);
        let memory = Memory::new(UNIT, Pages::Huge)?;
        table.row(name, move || {
            match way {
                Write::DirectOverCached => {
                    rewind(&reader)?;
                    _ = io::copy(&mut &reader, &mut io::sink())?;
                }
                _ => forget(&reader)?,
            }
            let mut latencies_ns = Vec::new();
            let meter = Meter::start()?;
            for at in (0..FILE_BYTES).step_by(UNIT) {
                let began = Instant::now();
                match way {
                    Write::DontCache => {
                        moved(&file, &memory, at, DONTCACHE | libc::RWF_DSYNC, true)?;
                    }
                    _ => file.write_all_at(memory.as_slice(), at as u64)?,
                }
                if way == Write::BufferedThenSync {
                    file.sync_data()?;
                }
                latencies_ns.push(began.elapsed().as_nanos() as u64);
            }
            let used = meter.stop()?;
            Ok(vec![
                used.process / gib(FILE_BYTES),
                used.kernel_threads / gib(FILE_BYTES),
                FILE_BYTES as f64 / 1e6 / used.wall,
                percentile_us(&mut latencies_ns, 0.5),
                percentile_us(&mut latencies_ns, 0.99),
                cached_mib(&reader)?,
            ])
        });
    }
    table.print(options);
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Read {
    Buffered,
    BufferedCached,
    NoReadahead,
    DontCache,
    Direct(usize),
}

fn reads(options: &Options, scratch: &Scratch) -> Result<()> {
    let columns = [
        "CPU s/GiB",
        "kernel threads s/GiB",
        "MB/s",
        "MiB left in the cache",
    ];
    let mut table = Table::new("reads of 256 KiB in order", &columns);
    for (name, way) in [
        ("buffered, the kernel's readahead", Read::Buffered),
        ("buffered, all cached", Read::BufferedCached),
        ("buffered, POSIX_FADV_RANDOM", Read::NoReadahead),
        ("buffered, RWF_DONTCACHE", Read::DontCache),
        ("direct, 1 in flight", Read::Direct(1)),
        ("direct, 3 in flight", Read::Direct(3)),
    ] {
        let file = match way {
            Read::Direct(_) => scratch.open(libc::O_DIRECT)?,
            _ => scratch.open(0)?,
        };
        let reader = scratch.open(0)?;
        let memory = Memory::new(4 * UNIT, Pages::Huge)?;
        table.row(name, move || {
            match way {
                Read::BufferedCached => {
                    rewind(&reader)?;
                    _ = io::copy(&mut &reader, &mut io::sink())?;
                }
                _ => forget(&reader)?,
            }
            if way == Read::NoReadahead {
                advise(&file, libc::POSIX_FADV_RANDOM)?;
            }
            let meter = Meter::start()?;
            match way {
                Read::Direct(in_flight) => {
                    let load = Load {
                        operation: Operation::Read,
                        file: &file,
                        file_bytes: FILE_BYTES,
                        memory: &memory,
                        unit: UNIT,
                        in_flight,
                        count: FILE_BYTES / UNIT,
                    };
                    ring::run(&mut IoUring::new(8)?, &load)?;
                }
                _ => {
                    let flags = if way == Read::DontCache { DONTCACHE } else { 0 };
                    for at in (0..FILE_BYTES).step_by(UNIT) {
                        moved(&file, &memory, at, flags, false)?;
                    }
                }
            }
            let used = meter.stop()?;
            Ok(vec![
                used.process / gib(FILE_BYTES),
                used.kernel_threads / gib(FILE_BYTES),
                FILE_BYTES as f64 / 1e6 / used.wall,
                cached_mib(&reader)?,
            ])
        });
    }
    table.print(options);
    Ok(())
}

/// One `pwritev2` or `preadv2` of a unit.
fn moved(file: &File, memory: &Memory, at: usize, flags: i32, is_write: bool) -> Result<()> {
    let slice = libc::iovec {
        iov_base: memory.as_mut_ptr().cast(),
        iov_len: UNIT,
    };
    let (fd, at) = (file.as_raw_fd(), at as libc::off_t);
    // SAFETY: one slice of a memory that is long enough and lives across the call; nobody else
    // looks at what a read puts there.
    let moved = unsafe {
        match is_write {
            true => libc::pwritev2(fd, &raw const slice, 1, at, flags),
            false => libc::preadv2(fd, &raw const slice, 1, at, flags),
        }
    };
    match checked(moved)? {
        UNIT => Ok(()),
        less => Err(format!("{less} of {UNIT} bytes").into()),
    }
}

fn rewind(mut file: &File) -> Result<()> {
    use std::io::Seek;
    Ok(file.rewind()?)
}

/// Has the file written and its pages dropped.
fn forget(file: &File) -> Result<()> {
    file.sync_all()?;
    advise(file, libc::POSIX_FADV_DONTNEED)
}

fn advise(file: &File, advice: i32) -> Result<()> {
    // SAFETY: the call takes no pointer.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, advice) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error).into()),
    }
}

/// How much of the file the page cache holds: `cachestat`, since 6.5.
fn cached_mib(file: &File) -> Result<f64> {
    let range = [0_u64, 0];
    let mut pages = [0_u64; 5];
    // SAFETY: the structures of linux/mman.h are two and five numbers of 64 bits.
    let result = unsafe {
        libc::syscall(
            CACHESTAT,
            file.as_raw_fd(),
            range.as_ptr(),
            pages.as_mut_ptr(),
            0,
        )
    };
    checked(result as isize)?;
    Ok(pages[0] as f64 * 4096.0 / MIB as f64)
}
