//! Brings old bytes of a file into the page cache before `sendfile` needs them. Its calls block:
//! they are made on the blocking pool only.
//!
//! The kernel's own readahead is switched off for these files: with a window of megabytes it fills
//! the disk's queue, and an acknowledged write waits behind all of it. Here a shard has one step in
//! flight at a time, which is enough for most of a disk's speed and costs a write little
//! (`kernel-notes/cold-reads.md`).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::base::limits::{BLOCK_BYTES, COLD_READ_STEP_BYTES};

use super::sys;

/// Switches the kernel's readahead off for a file that was opened for reads.
pub fn without_readahead(file: &File) -> io::Result<()> {
    posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM)?;
    Ok(())
}

/// Brings a range into the page cache, a step after the other, and waits for each.
pub fn bring_in(file: &File, start: u64, end: u64) -> io::Result<()> {
    let mut position = start - start % BLOCK_BYTES;
    while position < end {
        let step = COLD_READ_STEP_BYTES.min(end - position);
        // What is cached already costs a look-up a page.
        sys::readahead(file.as_fd(), position, step as usize)?;
        let mut byte = [0];
        for page in (position..position + step).step_by(BLOCK_BYTES as usize) {
            file.read_at(&mut byte, page)?;
        }
        position += step;
    }
    Ok(())
}
