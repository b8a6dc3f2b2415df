//! A connection that never waits: what is to be sent stands in a queue of handles, what comes is
//! handed out frame by frame. The load's thread.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::protocol::frame::{Frame, LENGTH_BYTES};

/// Pieces that go out in one system call.
const PIECES_MAX: usize = 64;

/// What is read in one system call while no frame's length is known.
const READ_BYTES: usize = 64 << 10;

/// A response longer than any that was asked for.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// A connection to a broker.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    out: VecDeque<Bytes>,
    out_bytes: usize,
    /// What has come, in `taken..filled`; the rest is room.
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
    /// The buffer while a frame in it is looked at.
    lent: Option<Bytes>,
}

impl Socket {
    /// Connects, and waits for that only.
    pub fn connect(address: SocketAddr, within: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, within)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            out: VecDeque::new(),
            out_bytes: 0,
            buffer: vec![0; READ_BYTES],
            taken: 0,
            filled: 0,
            lent: None,
        })
    }

    /// Puts a request behind the others.
    pub fn queue(&mut self, frame: Frame) {
        self.out_bytes += frame.length;
        self.out.extend(frame.chunks);
    }

    /// Bytes that wait to be sent.
    pub fn out_bytes(&self) -> usize {
        self.out_bytes
    }

    /// Sends what the kernel takes.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let pieces = self.out.iter().take(PIECES_MAX);
            let pieces: Vec<_> = pieces.map(|piece| IoSlice::new(piece)).collect();
            match self.stream.write_vectored(&pieces) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => self.sent(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sent(&mut self, mut bytes: usize) {
        self.out_bytes -= bytes;
        while let Some(first) = self.out.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.out.pop_front();
        }
    }

    /// Reads once. False where nothing was there.
    pub fn fill(&mut self) -> io::Result<bool> {
        loop {
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.filled += read;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next whole frame, without its length. Give it back by [`Socket::recycle`].
    pub fn frame(&mut self) -> io::Result<Option<Bytes>> {
        let there = &self.buffer[self.taken..self.filled];
        let Some(prefix) = there.first_chunk::<LENGTH_BYTES>() else {
            self.make_room(LENGTH_BYTES);
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let whole = LENGTH_BYTES + length;
        if there.len() < whole {
            self.make_room(whole);
            return Ok(None);
        }
        let end = self.taken + whole;
        let frame = if end == self.filled {
            // Nothing is behind it: it goes with its memory, which comes back.
            let buffer = Bytes::from(std::mem::take(&mut self.buffer));
            let frame = buffer.slice(self.taken + LENGTH_BYTES..end);
            self.lent = Some(buffer);
            (self.taken, self.filled) = (0, 0);
            frame
        } else {
            let frame = Bytes::copy_from_slice(&there[LENGTH_BYTES..whole]);
            self.taken = end;
            frame
        };
        Ok(Some(frame))
    }

    /// Takes the memory of a frame that nobody looks at any more.
    pub fn recycle(&mut self, frame: Bytes) {
        drop(frame);
        if let Some(buffer) = self.lent.take() {
            // In place: no handle to it is left.
            self.buffer = buffer.into();
        }
    }

    /// Sees to room for a frame of `whole` bytes from where the rest begins.
    fn make_room(&mut self, whole: usize) {
        if self.buffer.len() >= self.taken + whole && self.filled < self.buffer.len() {
            return;
        }
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        if self.buffer.len() < whole.max(READ_BYTES) {
            self.buffer.resize(whole.max(READ_BYTES), 0);
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
