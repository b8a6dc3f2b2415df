//! One connection's socket: non-blocking calls, and waiting by the shard's reactor.
//!
//! Receives into slices of the caller, sends by scatter-gather. It holds no buffer and knows no
//! frame. A call that moved less than it was asked to is followed by a wait rather than by a second
//! call, which would only say that there is nothing to do.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{Shutdown, SocketAddr};

use bytes::{Buf, Bytes};
use nix::libc;

use crate::base::limits::{IOV_MAX, SENT_BYTES_BEFORE_YIELD_MAX};
use crate::runtime::{Pollable, yield_now};

/// A connected socket of this shard.
#[derive(Debug)]
pub(super) struct Socket {
    socket: Pollable<socket2::Socket>,
    peer: SocketAddr,
    local: SocketAddr,
}

/// What a receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// This many bytes, at least one; whether there may be more.
    Bytes { count: usize, may_have_more: bool },
    /// Nothing yet.
    Nothing,
    /// The peer sends no more.
    End,
}

impl Socket {
    /// Takes over an accepted socket, which is non-blocking.
    pub(super) fn new(socket: socket2::Socket, peer: SocketAddr) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let local = local.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self {
            socket: Pollable::new(socket),
            peer,
            local,
        })
    }

    /// The address of the other end.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address of this end.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits until there is something to receive, at least one turn of the reactor.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Fills `first`, then `second`, with what is there.
    pub(super) fn receive(&self, first: &mut [u8], second: &mut [u8]) -> io::Result<Received> {
        let wanted = first.len() + second.len();
        debug_assert!(wanted > 0, "an empty receive looks like the end");
        let mut socket: &socket2::Socket = self.socket.get_ref();
        let received = retry(|| {
            if second.is_empty() {
                socket.read(first)
            } else if first.is_empty() {
                socket.read(second)
            } else {
                socket.read_vectored(&mut [IoSliceMut::new(first), IoSliceMut::new(second)])
            }
        });
        match received {
            Ok(0) => Ok(Received::End),
            Ok(count) => Ok(Received::Bytes {
                count,
                may_have_more: count == wanted,
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Sends all of `chunks`, giving way as the limits say, and tells `progress` how many bytes
    /// have left. What it has sent is gone from `chunks`, also when it fails.
    pub(super) async fn send(
        &self,
        chunks: &mut VecDeque<Bytes>,
        progress: impl Fn(usize),
    ) -> io::Result<()> {
        let mut since_wait = 0;
        while let Some(first) = chunks.front() {
            if first.is_empty() {
                chunks.pop_front();
                continue;
            }
            let (wanted, sent) = self.send_some(chunks)?;
            if sent > 0 {
                progress(sent);
                advance(chunks, sent);
            }
            since_wait += sent;
            if sent < wanted {
                self.socket.writable().await?;
                since_wait = 0;
            } else if since_wait >= SENT_BYTES_BEFORE_YIELD_MAX {
                yield_now().await;
                since_wait = 0;
            }
        }
        Ok(())
    }

    /// Sends from the first chunks, as much as goes in one go: bytes wanted and sent.
    fn send_some(&self, chunks: &VecDeque<Bytes>) -> io::Result<(usize, usize)> {
        let mut slices = Vec::with_capacity(chunks.len().min(IOV_MAX));
        let (mut wanted, mut is_cut) = (0, false);
        let mut rest = chunks.iter();
        while slices.len() < IOV_MAX
            && wanted < SENT_BYTES_BEFORE_YIELD_MAX
            && let Some(bytes) = rest.next()
        {
            let part = bytes.len().min(SENT_BYTES_BEFORE_YIELD_MAX - wanted);
            is_cut = part < bytes.len();
            wanted += part;
            slices.push(IoSlice::new(&bytes[..part]));
        }
        // What follows at once goes into the same segments instead of a short one before it.
        let has_more = slices.len() < chunks.len() || is_cut;
        let flags = libc::MSG_NOSIGNAL | if has_more { libc::MSG_MORE } else { 0 };
        let socket = self.socket.get_ref();
        let sent = retry(|| match &*slices {
            [one] => socket.send_with_flags(one, flags),
            many => socket.send_vectored_with_flags(many, flags),
        });
        Ok((wanted, unless_full(sent)?))
    }

    /// Lets the peer's next bytes look like its end: whoever waits to receive is woken.
    pub(super) fn end_reading(&self) {
        // It fails only when the connection is gone, which wakes the reader too.
        let _gone = self.socket.get_ref().shutdown(Shutdown::Read);
    }

    /// Ends both directions, which wakes whoever waits. Dropping the socket is not enough: a wait
    /// in the ring keeps it open.
    pub(super) fn close(&self) {
        // It fails only when the connection is gone.
        let _gone = self.socket.get_ref().shutdown(Shutdown::Both);
    }
}

/// Takes the first `count` bytes off `chunks`.
fn advance(chunks: &mut VecDeque<Bytes>, mut count: usize) {
    while count > 0 {
        let first = chunks.front_mut().expect("no more is sent than there is");
        if first.len() <= count {
            count -= first.len();
            chunks.pop_front();
            continue;
        }
        first.advance(count);
        return;
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A full send buffer takes no bytes; that is no failure.
fn unless_full(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}
