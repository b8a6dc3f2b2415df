//! System calls that have no safe wrapper. Called on the blocking pool; they touch no memory of
//! ours but the arguments.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `cachestat(2)`, since Linux 6.5; the C library has no number for it yet on every target.
const SYS_CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct CachestatRange {
    offset: u64,
    length: u64,
}

#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// How many pages of a range are in the page cache. Fails with `ENOSYS` before Linux 6.5.
pub fn cached_pages(file: BorrowedFd<'_>, position: u64, length: u64) -> io::Result<u64> {
    let range = CachestatRange {
        offset: position,
        length,
    };
    let mut stat = Cachestat::default();
    // SAFETY: both structures are laid out as the kernel's, live across the call, and the kernel
    // writes only into the second.
    let result = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.as_raw_fd(),
            &raw const range,
            &raw mut stat,
            0,
        )
    };
    if result == 0 {
        Ok(stat.cached)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Starts reading a range into the page cache.
pub fn readahead(file: BorrowedFd<'_>, position: u64, length: usize) -> io::Result<()> {
    // SAFETY: the call takes no pointer.
    let result = unsafe { libc::readahead(file.as_raw_fd(), position as libc::off64_t, length) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
