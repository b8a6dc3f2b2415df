//! The replies of one connection, in the order of its requests.
//!
//! The reader reserves a place for each request, whoever handles the request fills it, the writer
//! takes what is filled from the front. All three are tasks of the connection's shard; nothing here
//! touches the socket.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::service::Outcome;
use super::unread::Unread;
use crate::base::limits::{BYTES_BEFORE_YIELD_MAX, PIPELINED_REQUESTS_MAX};

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Writes these, the replies of so many requests, and then says [`Replies::written`].
    Write {
        chunks: VecDeque<Bytes>,
        requests: usize,
    },
    /// Closes the connection for this reason.
    Close(String),
    /// Ends: there will be no more requests, and all replies have been written.
    Finish,
}

#[derive(Debug, Default)]
struct State {
    /// From the oldest request whose reply the writer has not taken.
    waiting: VecDeque<Option<Outcome>>,
    /// The number of the first in `waiting`; requests are counted from 0.
    first: u64,
    /// Replies that the writer has taken and not written.
    taken: usize,
    /// The bytes that were made for these, and for all that have not been written.
    own_bytes_taken: usize,
    own_bytes: usize,
    has_reader_ended: bool,
    has_writer_ended: bool,
    writer: Option<Waker>,
    reader: Option<Waker>,
}

impl State {
    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}

/// The writer has ended: nothing can be replied any more.
#[derive(Debug)]
pub(super) struct WriterEnded;

/// The replies of one connection.
#[derive(Debug)]
pub(super) struct Replies {
    state: RefCell<State>,
    unread: Rc<Unread>,
}

impl Replies {
    /// None yet. What is made for them counts in `unread` until it was written.
    pub(super) fn new(unread: Rc<Unread>) -> Self {
        Self {
            state: RefCell::default(),
            unread,
        }
    }

    /// The bytes that were made for replies and have not been written.
    pub(super) fn own_bytes(&self) -> usize {
        self.state.borrow().own_bytes
    }

    /// Whether the connection waits for the handler of a request, not for its peer.
    pub(super) fn is_handling(&self) -> bool {
        let state = self.state.borrow();
        state.taken == 0 && matches!(state.waiting.front(), Some(None))
    }

    /// Waits until the next request may be dispatched: one that pipelines when few enough are in
    /// progress, any other when all earlier replies have been written, and other clients do not
    /// leave too much unread.
    pub(super) async fn room(&self, pipelines: bool) -> Result<(), WriterEnded> {
        if !pipelines {
            self.unread.room().await;
        }
        let others_max = if pipelines {
            PIPELINED_REQUESTS_MAX - 1
        } else {
            0
        };
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if state.has_writer_ended {
                return Poll::Ready(Err(WriterEnded));
            }
            if state.waiting.len() + state.taken <= others_max {
                return Poll::Ready(Ok(()));
            }
            state.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Reserves the next request's place.
    pub(super) fn reserve(self: &Rc<Self>) -> Place {
        let mut state = self.state.borrow_mut();
        let number = state.first + state.waiting.len() as u64;
        state.waiting.push_back(None);
        Place {
            replies: self.clone(),
            number,
            is_filled: Cell::new(false),
        }
    }

    fn fill(&self, number: u64, outcome: Outcome) {
        let mut state = self.state.borrow_mut();
        let index = number.checked_sub(state.first).map(|index| index as usize);
        // Not there any more if the writer has ended.
        if let Some(slot) = index.and_then(|index| state.waiting.get_mut(index)) {
            let own_bytes = match &outcome {
                Outcome::Reply(reply) => reply.own_length,
                _ => 0,
            };
            *slot = Some(outcome);
            state.own_bytes += own_bytes;
            self.unread.add(own_bytes);
            if index == Some(0) {
                state.wake_writer();
            }
        }
    }

    /// No more requests will come; the writer finishes with what there is.
    pub(super) fn reader_ended(&self) {
        let mut state = self.state.borrow_mut();
        state.has_reader_ended = true;
        state.wake_writer();
    }

    /// Nothing is written any more: drops the replies that wait, and tells the reader.
    pub(super) fn writer_ended(&self) {
        let mut state = self.state.borrow_mut();
        state.has_writer_ended = true;
        state.first += state.waiting.len() as u64;
        let dropped = std::mem::take(&mut state.waiting);
        state.taken = 0;
        self.unread.subtract(state.own_bytes);
        (state.own_bytes, state.own_bytes_taken) = (0, 0);
        state.wake_reader();
        drop(state);
        drop(dropped);
    }

    /// Waits for the replies at the front.
    pub(super) async fn next(&self) -> Next {
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if let Some(next) = state.take_front() {
                return Poll::Ready(next);
            }
            if state.has_reader_ended && state.waiting.is_empty() {
                return Poll::Ready(Next::Finish);
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The replies of so many requests have been written.
    pub(super) fn written(&self, requests: usize) {
        let mut state = self.state.borrow_mut();
        state.taken -= requests;
        let own_bytes = std::mem::take(&mut state.own_bytes_taken);
        state.own_bytes -= own_bytes;
        self.unread.subtract(own_bytes);
        state.wake_reader();
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.unread.subtract(self.state.get_mut().own_bytes);
    }
}

impl State {
    /// The filled places at the front, up to about what is written in one go.
    fn take_front(&mut self) -> Option<Next> {
        if matches!(self.waiting.front(), Some(Some(Outcome::Close(_)))) {
            self.first += 1;
            let Some(Some(Outcome::Close(reason))) = self.waiting.pop_front() else {
                unreachable!("it was looked at");
            };
            return Some(Next::Close(reason));
        }
        let (mut chunks, mut requests, mut bytes) = (VecDeque::new(), 0, 0);
        while let Some(Some(Outcome::Reply(_) | Outcome::NoReply)) = self.waiting.front()
            && bytes < BYTES_BEFORE_YIELD_MAX
        {
            if let Some(Some(Outcome::Reply(reply))) = self.waiting.pop_front() {
                bytes += reply.length;
                self.own_bytes_taken += reply.own_length;
                chunks.extend(reply.chunks);
            }
            requests += 1;
        }
        if requests == 0 {
            return None;
        }
        self.first += requests as u64;
        self.taken += requests;
        Some(Next::Write { chunks, requests })
    }
}

/// The place of one request's reply. Dropped unfilled, it closes the connection: the replies behind
/// it can never be written.
#[derive(Debug)]
pub(super) struct Place {
    replies: Rc<Replies>,
    number: u64,
    is_filled: Cell<bool>,
}

impl Place {
    pub(super) fn fill(self, outcome: Outcome) {
        self.is_filled.set(true);
        self.replies.fill(self.number, outcome);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_filled.get() {
            let reason = "its request was given up".to_owned();
            self.replies.fill(self.number, Outcome::Close(reason));
        }
    }
}
