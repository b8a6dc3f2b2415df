//! Waiting until a descriptor can be read or written.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{opcode, types};

use super::driver::{Held, Submission};
use super::executor::current;

/// A descriptor of which one waits until it is ready. Reading and writing are the caller's.
#[derive(Debug)]
pub struct Pollable<T> {
    inner: T,
}

impl<T: AsFd> Pollable<T> {
    /// Takes over a descriptor.
    pub fn new(inner: T) -> Self {
        Self { inner }
    }

    /// The descriptor.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Waits until a read would not block, at least until the ring was looked at once.
    ///
    /// # Errors
    /// The kernel refuses to wait for this descriptor.
    pub async fn readable(&self) -> io::Result<()> {
        self.poll(libc::POLLIN).await
    }

    /// Waits until a write would not block, as [`Pollable::readable`].
    ///
    /// # Errors
    /// The kernel refuses to wait for this descriptor.
    pub async fn writable(&self) -> io::Result<()> {
        self.poll(libc::POLLOUT).await
    }

    async fn poll(&self, events: libc::c_short) -> io::Result<()> {
        let fd = types::Fd(self.inner.as_fd().as_raw_fd());
        // The wait borrows the descriptor; given up, it is cancelled, and holds the open file in
        // the kernel until then, not the number.
        let entry = opcode::PollAdd::new(fd, events as u32).build();
        let waits = Submission::new(&current().driver, entry, Held::Nothing);
        let (result, _) = waits.await;
        result.map(|_events| ())
    }
}
