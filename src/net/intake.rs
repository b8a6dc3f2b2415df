//! Cuts what a connection receives into request frames.
//!
//! A frame's length and key are read ahead into a small buffer; then its memory is taken from the
//! shard's budget and the rest is received straight into it, together with the start of what
//! follows. So a large frame is copied by the kernel alone, and one call brings many small ones. A
//! connection that waits holds at most [`REST_BYTES_MAX`] bytes of buffer.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;

use super::socket::{Received, Socket};
use crate::base::limits::BYTES_BEFORE_YIELD_MAX;
use crate::protocol::frame::{self, FrameError, LENGTH_BYTES};
use crate::runtime::yield_now;
use crate::shard::budget::LargerThanBudget;
use crate::shard::frames::{Frame, Frames};

/// What one receive reads ahead when small requests are expected.
const AHEAD_BYTES: usize = 16 << 10;
/// What it reads ahead behind a large frame: the next length and header, without much to copy.
const AHEAD_OF_LARGE_BYTES: usize = 1 << 10;
/// The read-ahead of a connection that waits with an incomplete header, or finds no other buffer.
pub(super) const REST_BYTES_MAX: usize = 64;
/// Full read-ahead buffers of one shard, in use and kept. Only connections that have received more
/// than they may handle yet keep theirs; past the bound the others do with small ones.
const AHEAD_BUFFERS_MAX: usize = 64;
/// The bytes of a request's API key.
const KEY_BYTES: usize = 2;
/// Requests without records up to this size use the reserve of the budget.
const RESERVED_REQUEST_BYTES_MAX: usize = 64 << 10;

/// Why a connection's bytes are of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum IntakeError {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("a request that can never be held in memory: {0}")]
    LargerThanBudget(#[from] LargerThanBudget),
    #[error("the connection ended within a request")]
    Truncated,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The read-ahead buffers of a shard. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct AheadBuffers {
    state: Rc<RefCell<AheadState>>,
}

#[derive(Debug, Default)]
struct AheadState {
    in_use: usize,
    kept: Vec<Box<[u8]>>,
}

impl AheadBuffers {
    fn take(&self) -> Box<[u8]> {
        let mut state = self.state.borrow_mut();
        if state.in_use >= AHEAD_BUFFERS_MAX {
            return vec![0; REST_BYTES_MAX].into_boxed_slice();
        }
        state.in_use += 1;
        let kept = state.kept.pop();
        kept.unwrap_or_else(|| vec![0; AHEAD_BYTES].into_boxed_slice())
    }

    fn give_back(&self, buffer: Box<[u8]>) {
        if buffer.len() == AHEAD_BYTES {
            let mut state = self.state.borrow_mut();
            state.in_use -= 1;
            state.kept.push(buffer);
        }
    }
}

/// Bytes that were received and not used yet.
#[derive(Debug)]
struct Ahead {
    buffers: AheadBuffers,
    /// Empty while the connection has read nothing ahead.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Ahead {
    fn filled(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
    }

    /// Room for up to `length_max` bytes behind what is filled; at least one.
    fn room(&mut self, length_max: usize) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = self.buffers.take();
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let length = length_max.min(self.buffer.len() - self.end);
        &mut self.buffer[self.end..self.end + length]
    }

    /// Gives the buffer back, if little enough is in it, before a wait that may be long.
    fn rest(&mut self) {
        let length = self.filled().len();
        if length > REST_BYTES_MAX || self.buffer.len() <= REST_BYTES_MAX && length > 0 {
            return;
        }
        let mut small = Box::default();
        if length > 0 {
            small = vec![0; REST_BYTES_MAX].into_boxed_slice();
            small[..length].copy_from_slice(self.filled());
        }
        let buffer = std::mem::replace(&mut self.buffer, small);
        (self.start, self.end) = (0, length);
        self.buffers.give_back(buffer);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.buffer));
    }
}

/// A whole request.
#[derive(Debug)]
pub(super) struct Request {
    /// Without its length.
    pub(super) frame: Bytes,
    /// Whether it may be dispatched beside earlier ones.
    pub(super) pipelines: bool,
}

/// The receiving half of one connection.
#[derive(Debug)]
pub(super) struct Intake {
    socket: Rc<Socket>,
    frames: Frames,
    request_bytes_max: usize,
    ahead: Ahead,
    may_have_more: bool,
    since_wait: usize,
}

impl Intake {
    pub(super) fn new(
        socket: Rc<Socket>,
        frames: Frames,
        buffers: AheadBuffers,
        request_bytes_max: usize,
    ) -> Self {
        Self {
            socket,
            frames,
            request_bytes_max,
            ahead: Ahead {
                buffers,
                buffer: Box::default(),
                start: 0,
                end: 0,
            },
            may_have_more: false,
            since_wait: 0,
        }
    }

    /// The next request; none if the peer ended between two. Calls `progress` when bytes came.
    pub(super) async fn next(
        &mut self,
        pipelines: impl Fn(&[u8]) -> bool,
        progress: impl Fn(),
    ) -> Result<Option<Request>, IntakeError> {
        let length = loop {
            if let Some(prefix) = self.ahead.filled().first_chunk::<LENGTH_BYTES>() {
                let length = frame::frame_length(*prefix, self.request_bytes_max)?;
                if self.ahead.filled().len() >= LENGTH_BYTES + length.min(KEY_BYTES) {
                    break length;
                }
            }
            let count = self.receive(&mut [], AHEAD_BYTES).await?;
            if count == 0 {
                let is_between = self.ahead.filled().is_empty();
                return is_between.then_some(None).ok_or(IntakeError::Truncated);
            }
            self.ahead.end += count;
            progress();
        };
        self.ahead.consume(LENGTH_BYTES);
        let start = self.ahead.filled();
        let pipelines = length >= KEY_BYTES && pipelines(&start[..start.len().min(length)]);
        let mut frame = self.memory(length, pipelines).await?;
        self.fill(frame.as_mut_slice(), progress).await?;
        self.ahead.rest();
        Ok(Some(Request {
            frame: frame.freeze(),
            pipelines,
        }))
    }

    async fn memory(&mut self, length: usize, carries: bool) -> Result<Frame, IntakeError> {
        self.ahead.rest();
        if !carries && length <= RESERVED_REQUEST_BYTES_MAX {
            return Ok(self.frames.reserved_frame(length).await?);
        }
        Ok(self.frames.frame(length).await?)
    }

    async fn fill(&mut self, frame: &mut [u8], progress: impl Fn()) -> Result<(), IntakeError> {
        let have = self.ahead.filled();
        let mut filled = have.len().min(frame.len());
        frame[..filled].copy_from_slice(&have[..filled]);
        self.ahead.consume(filled);
        while filled < frame.len() {
            let missing = frame.len() - filled;
            let ahead_max = if missing >= AHEAD_BYTES {
                AHEAD_OF_LARGE_BYTES
            } else {
                AHEAD_BYTES
            };
            let count = self.receive(&mut frame[filled..], ahead_max).await?;
            if count == 0 {
                return Err(IntakeError::Truncated);
            }
            filled += count.min(missing);
            self.ahead.end += count.saturating_sub(missing);
            progress();
        }
        Ok(())
    }

    /// Receives into `frame` and then behind what was read ahead, waiting for the first byte; none
    /// at the peer's end.
    async fn receive(&mut self, frame: &mut [u8], ahead_max: usize) -> io::Result<usize> {
        loop {
            if !self.may_have_more {
                self.ahead.rest();
                self.socket.readable().await?;
                self.since_wait = 0;
            } else if self.since_wait >= BYTES_BEFORE_YIELD_MAX {
                yield_now().await;
                self.since_wait = 0;
            }
            match self.socket.receive(frame, self.ahead.room(ahead_max))? {
                Received::Bytes {
                    count,
                    may_have_more,
                } => {
                    self.may_have_more = may_have_more;
                    self.since_wait += count;
                    return Ok(count);
                }
                Received::Nothing => self.may_have_more = false,
                Received::End => return Ok(0),
            }
        }
    }
}
