//! The open connections of one server on one shard: closes the idle ones, and all of them at a
//! stop.
//!
//! One sweep serves them all, so a connection has no timer of its own. Nothing here reads or
//! writes.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::replies::Replies;
use super::socket::Socket;

/// What is known of one connection.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) socket: Rc<Socket>,
    pub(super) replies: Rc<Replies>,
    /// When bytes last came or left.
    active: Cell<Instant>,
    is_draining: Cell<bool>,
}

impl Entry {
    pub(super) fn new(socket: Rc<Socket>, replies: Rc<Replies>) -> Self {
        Self {
            socket,
            replies,
            active: Cell::new(Instant::now()),
            is_draining: Cell::new(false),
        }
    }

    /// Bytes came or left.
    pub(super) fn touch(&self) {
        self.active.set(Instant::now());
    }

    /// Whether no further request is to be taken.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    fn is_idle(&self, now: Instant, idle: Duration) -> bool {
        now.saturating_duration_since(self.active.get()) >= idle && !self.replies.is_handling()
    }
}

#[derive(Debug, Default)]
struct State {
    entries: Slab<Rc<Entry>>,
    waits_for_none: Option<Waker>,
}

/// The open connections. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    state: Rc<RefCell<State>>,
}

impl Connections {
    /// Lists a connection until the place is dropped.
    pub(super) fn enter(&self, entry: Rc<Entry>) -> Listed {
        let key = self.state.borrow_mut().entries.insert(entry);
        Listed {
            connections: self.clone(),
            key,
        }
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.state.borrow().entries.len()
    }

    /// Closes those on which nothing has moved for `idle`; how many.
    pub(super) fn close_idle(&self, now: Instant, idle: Duration) -> usize {
        let state = self.state.borrow();
        let idle = state
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_idle(now, idle));
        idle.map(|(_, entry)| entry.socket.close()).count()
    }

    /// Has every connection end after the requests that it has begun.
    pub(super) fn drain(&self) {
        for (_, entry) in &self.state.borrow().entries {
            entry.is_draining.set(true);
            entry.socket.end_reading();
        }
    }

    /// Closes every connection at once.
    pub(super) fn close_all(&self) {
        for (_, entry) in &self.state.borrow().entries {
            entry.is_draining.set(true);
            entry.socket.close();
        }
    }

    /// Waits until none is left. One task at a time.
    pub(super) async fn none(&self) {
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if state.entries.is_empty() {
                return Poll::Ready(());
            }
            state.waits_for_none = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A connection's place in the list.
#[derive(Debug)]
pub(super) struct Listed {
    connections: Connections,
    key: usize,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut state = self.connections.state.borrow_mut();
        let entry = state.entries.remove(self.key);
        let waker = match state.entries.is_empty() {
            true => state.waits_for_none.take(),
            false => None,
        };
        drop(state);
        drop(entry);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
