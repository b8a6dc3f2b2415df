//! Cuts what a connection receives into request frames.
//!
//! A frame's length and key are read ahead into a small buffer; then its memory is taken from the
//! shard's budget and the rest is received straight into it, together with the start of what
//! follows. So a large frame is copied by the kernel alone, and one call brings many small ones. A
//! connection that waits for a request holds at most [`REST_BYTES_MAX`] bytes of buffer; one that
//! waits within a request sets the frame aside, so that others may have its memory.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use futures_lite::future::or;

use super::socket::{Received, Socket};
use crate::base::limits::BYTES_BEFORE_YIELD_MAX;
use crate::protocol::frame::{self, FrameError, LENGTH_BYTES};
use crate::runtime::yield_now;
use crate::shard::budget::LargerThanBudget;
use crate::shard::frames::{Frame, Frames, Whole};

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
    #[error("a request came too slowly while its memory was needed")]
    TooSlow,
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

/// The start of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    /// Without its length field.
    length: usize,
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

    /// Waits for the start of the next request, which holds no memory yet; none if the peer ended
    /// between two. Tells `progress` how many bytes came.
    pub(super) async fn announced(
        &mut self,
        pipelines: impl Fn(&[u8]) -> bool,
        progress: impl Fn(usize),
    ) -> Result<Option<Announced>, IntakeError> {
        let length = loop {
            if let Some(prefix) = self.ahead.filled().first_chunk::<LENGTH_BYTES>() {
                let length = frame::frame_length(*prefix, self.request_bytes_max)?;
                if self.ahead.filled().len() >= LENGTH_BYTES + length.min(KEY_BYTES) {
                    break length;
                }
            }
            let count = self.receive_ahead().await?;
            if count == 0 {
                let is_between = self.ahead.filled().is_empty();
                return is_between.then_some(None).ok_or(IntakeError::Truncated);
            }
            self.ahead.end += count;
            progress(count);
        };
        self.ahead.consume(LENGTH_BYTES);
        let start = self.ahead.filled();
        let pipelines = length >= KEY_BYTES && pipelines(&start[..start.len().min(length)]);
        self.ahead.rest();
        Ok(Some(Announced { length, pipelines }))
    }

    /// Receives the request that was announced, without its length field. Tells `progress` how many
    /// bytes came.
    pub(super) async fn whole(
        &mut self,
        announced: Announced,
        progress: impl Fn(usize),
    ) -> Result<Bytes, IntakeError> {
        let length = announced.length;
        let (mut filled, mut small) = (0, None);
        let frame = loop {
            let mut frame = self.memory(announced).await?;
            filled = self.begin(&mut frame, filled, small.take());
            let mut since = None;
            while filled < frame.length() {
                if !self.may_have_more {
                    let since = *since.get_or_insert_with(Instant::now);
                    let whole = Whole { length, since };
                    frame = self.wait_with(frame, filled, whole).await?;
                }
                self.give_way().await;
                let missing = frame.length() - filled;
                let rest = frame.room(filled);
                let is_last = rest.len() == missing && filled + missing == length;
                let received = match missing {
                    _ if !is_last => self.socket.receive(rest, &mut []),
                    AHEAD_BYTES.. => {
                        let ahead = self.ahead.room(AHEAD_OF_LARGE_BYTES);
                        self.socket.receive(rest, ahead)
                    }
                    _ => self.socket.receive(rest, self.ahead.room(AHEAD_BYTES)),
                };
                let count = match self.note(received?) {
                    Some(0) => return Err(IntakeError::Truncated),
                    Some(count) => count,
                    None => continue,
                };
                filled += count.min(missing);
                self.ahead.end += count.saturating_sub(missing);
                progress(count);
            }
            if filled == length {
                break frame;
            }
            // It had to give way, and what has come since has filled its small buffer.
            small = Some(frame);
        };
        self.ahead.rest();
        Ok(frame.freeze())
    }

    /// Puts what there is of a request into its frame: the `filled` bytes of a smaller one, or what
    /// was read ahead. How much that is.
    fn begin(&mut self, frame: &mut Frame, filled: usize, small: Option<Frame>) -> usize {
        if let Some(small) = small {
            frame.begin_with(small.come(filled));
            return filled;
        }
        let have = self.ahead.filled();
        let have_bytes = have.len().min(frame.length());
        frame.begin_with(&have[..have_bytes]);
        self.ahead.consume(have_bytes);
        have_bytes
    }

    async fn memory(&mut self, announced: Announced) -> Result<Frame, IntakeError> {
        let Announced { length, pipelines } = announced;
        if !pipelines && length <= RESERVED_REQUEST_BYTES_MAX {
            return Ok(self.frames.reserved_frame(length).await?);
        }
        Ok(self.frames.frame(length).await?)
    }

    /// Waits for more of a frame, whose memory others may have meanwhile.
    async fn wait_with(
        &mut self,
        frame: Frame,
        filled: usize,
        whole: Whole,
    ) -> Result<Frame, IntakeError> {
        self.ahead.rest();
        let aside = self.frames.set_aside(frame, filled, whole);
        let given_up = async {
            aside.given_up().await;
            Ok(())
        };
        or(self.socket.readable(), given_up).await?;
        self.since_wait = 0;
        aside.take().ok_or(IntakeError::TooSlow)
    }

    /// Receives behind what was read ahead, waiting for the first byte; none at the peer's end.
    async fn receive_ahead(&mut self) -> io::Result<usize> {
        loop {
            if !self.may_have_more {
                self.ahead.rest();
                self.socket.readable().await?;
                self.since_wait = 0;
            }
            self.give_way().await;
            let received = self.socket.receive(&mut [], self.ahead.room(AHEAD_BYTES));
            if let Some(count) = self.note(received?) {
                return Ok(count);
            }
        }
    }

    /// Lets the other connections have their turn, after much that came in one go.
    async fn give_way(&mut self) {
        if self.since_wait >= BYTES_BEFORE_YIELD_MAX {
            yield_now().await;
            self.since_wait = 0;
        }
    }

    /// The bytes that came, 0 at the peer's end; none if nothing has.
    fn note(&mut self, received: Received) -> Option<usize> {
        match received {
            Received::Bytes {
                count,
                may_have_more,
            } => {
                self.may_have_more = may_have_more;
                self.since_wait += count;
                Some(count)
            }
            Received::Nothing => {
                self.may_have_more = false;
                None
            }
            Received::End => Some(0),
        }
    }
}
