//! System calls that have no safe wrapper. Called on the blocking pool; they touch no memory of
//! ours but the arguments.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

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
