//! System calls that the libraries at hand do not wrap, wrapped.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Sets an option of a socket that is an integer.
pub fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: an integer of the size that is told, which outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of_val(&value) as u32,
        )
    };
    checked(set as isize).map(drop)
}

/// CPU time of this thread. What `getrusage` says of a thread that runs is as old as the last tick.
pub fn thread_cpu() -> io::Result<Duration> {
    // SAFETY: plain numbers, for which zeros are valid.
    let mut time: libc::timespec = unsafe { mem::zeroed() };
    // SAFETY: the structure outlives the call.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    checked(read as isize)?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// What a call returned, or why it failed.
pub fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
