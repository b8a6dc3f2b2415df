//! The open connections of one server on one shard: closes the idle ones, and all of them at a
//! stop.
//!
//! One sweep serves them all, so a connection has no timer of its own. Nothing here reads or
//! writes.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::replies::Replies;
use super::socket::Socket;
use super::unread::Unread;
use crate::base::limits::{MOVED_BYTES_MIN, READ_BYTES_MIN};

/// What is known of one connection.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) socket: Rc<Socket>,
    pub(super) replies: Rc<Replies>,
    /// When it was last seen that a request or a reply had ended, or that much had moved.
    active: Cell<Instant>,
    /// Bytes that came or left since then.
    moved: Cell<usize>,
    /// Bytes that left since it was last looked for who does not read.
    left: Cell<usize>,
    /// The last of these looks at which that was too little.
    is_behind_since: Cell<u64>,
    is_draining: Cell<bool>,
}

impl Entry {
    pub(super) fn new(socket: Rc<Socket>, replies: Rc<Replies>) -> Self {
        Self {
            socket,
            replies,
            active: Cell::new(Instant::now()),
            moved: Cell::new(0),
            left: Cell::new(0),
            is_behind_since: Cell::new(0),
            is_draining: Cell::new(false),
        }
    }

    /// Bytes came or left.
    pub(super) fn moved(&self, count: usize) {
        self.moved.set(self.moved.get().saturating_add(count));
    }

    /// Bytes left.
    pub(super) fn sent(&self, count: usize) {
        self.moved(count);
        self.left.set(self.left.get().saturating_add(count));
    }

    /// A request has come whole, or replies have left.
    pub(super) fn has_ended_one(&self) {
        self.moved.set(MOVED_BYTES_MIN);
    }

    /// Whether no further request is to be taken.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// Whether its client has not read at two looks in a row, of which this is one. Looks are
    /// counted from 1.
    fn does_not_read(&self, look: u64) -> bool {
        if self.left.take() >= READ_BYTES_MIN || self.replies.own_bytes() == 0 {
            return false;
        }
        self.is_behind_since.replace(look) + 1 == look && look > 1
    }

    /// Whether nothing that counts has moved for `idle`, as far as was looked before.
    fn is_idle(&self, now: Instant, idle: Duration) -> bool {
        if self.moved.get() >= MOVED_BYTES_MIN {
            self.moved.set(0);
            self.active.set(now);
        }
        now.saturating_duration_since(self.active.get()) >= idle && !self.replies.is_handling()
    }
}

#[derive(Debug, Default)]
struct State {
    entries: Slab<Rc<Entry>>,
    waits_for_none: Option<Waker>,
    looks: u64,
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

    /// Closes those on which nothing that counts has moved for `idle`; how many. What has moved is
    /// taken note of here, so it is called several times in that time.
    pub(super) fn close_idle(&self, now: Instant, idle: Duration) -> usize {
        let state = self.state.borrow();
        let idle = state
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_idle(now, idle));
        idle.map(|(_, entry)| entry.socket.close()).count()
    }

    /// Closes those that do not read what was made for them, while that is more than it may be:
    /// those that hold most first. How many.
    pub(super) fn close_unread(&self, unread: &Unread) -> usize {
        let mut state = self.state.borrow_mut();
        state.looks += 1;
        let look = state.looks;
        let mut excess = unread.excess();
        if excess == 0 {
            return 0;
        }
        let entries = state.entries.iter().map(|(_, entry)| entry);
        let behind = entries.filter(|entry| entry.does_not_read(look));
        let mut behind: Vec<_> = behind.collect();
        behind.sort_by_key(|entry| Reverse(entry.replies.own_bytes()));
        let mut closed = 0;
        for entry in behind {
            if excess == 0 {
                break;
            }
            entry.socket.close();
            excess = excess.saturating_sub(entry.replies.own_bytes());
            closed += 1;
        }
        closed
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
