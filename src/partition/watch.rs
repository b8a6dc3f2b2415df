//! Fetches that wait for records: told once, when the partitions that they watch have enough for
//! them together. A shard owns the watches of its partitions; what a fetch still misses is counted
//! by all shards that it watches at.
//!
//! A fetch that ends otherwise (its time is up, its connection is gone) leaves its watch behind;
//! such watches are cleared away when their number has doubled.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::ids::Offset;
use crate::shard::reply::Sender;

/// How many bytes a waiting fetch still misses. It starts at the fetch's `min_bytes`; every shard
/// that has some of its partitions takes off what they have to show.
#[derive(Clone, Debug)]
pub struct MissingBytes(Arc<AtomicUsize>);

impl MissingBytes {
    /// All of `bytes` are missing.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// There are `bytes` more. True where that leaves none missing.
    fn found(&self, bytes: usize) -> bool {
        // It carries no other memory with it: the fetch reads what there is by messages.
        let take = |missing: usize| Some(missing.saturating_sub(bytes));
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        before.unwrap_or_else(|missing| missing) <= bytes
    }
}

/// One waiting fetch, shared by the partitions of this shard that it watches.
#[derive(Debug)]
pub struct Watch {
    missing: MissingBytes,
    reply: RefCell<Option<Sender<()>>>,
}

impl Watch {
    /// A watch that tells `reply` once nothing is missing.
    pub fn new(missing: MissingBytes, reply: Sender<()>) -> Rc<Self> {
        Rc::new(Self {
            missing,
            reply: RefCell::new(Some(reply)),
        })
    }

    /// Tells, if it has not told yet: there is enough, or something that more waiting cannot mend.
    pub fn fire(&self) {
        if let Some(reply) = self.reply.take() {
            // Nobody waits any more: the fetch was answered meanwhile.
            let _gone = reply.send(());
        }
    }

    fn is_over(&self) -> bool {
        self.reply.borrow().as_ref().is_none_or(Sender::is_canceled)
    }
}

/// What a partition has for a fetch behind the bytes that were counted already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// So many bytes, up to this offset.
    Bytes(usize, Offset),
    /// More than can be counted, or an error: the fetch has to look itself.
    Look,
}

/// One fetch's place at one partition.
#[derive(Debug)]
pub struct Watcher {
    /// What lies before it is counted.
    pub next: Offset,
    /// How many bytes of the partition still count: the fetch takes no more of it at once.
    pub bytes_max: usize,
    /// Whether only committed transactions are shown to it.
    pub committed_only: bool,
    /// The fetch.
    pub watch: Rc<Watch>,
}

impl Watcher {
    /// Counts what is new. False where there is nothing left to wait for.
    pub fn goes_on(&mut self, news: impl FnOnce(&Self) -> News) -> bool {
        if self.watch.is_over() {
            return false;
        }
        let is_enough = match news(self) {
            News::Look => true,
            News::Bytes(bytes, next) => {
                self.next = next;
                let counted = bytes.min(self.bytes_max);
                self.bytes_max -= counted;
                counted > 0 && self.watch.missing.found(counted)
            }
        };
        if is_enough {
            self.watch.fire();
        }
        !is_enough
    }
}

/// The watches of one partition.
#[derive(Debug, Default)]
pub struct Watchers {
    waiting: Vec<Watcher>,
    /// How many were left when those that are over were last cleared away.
    left: usize,
}

impl Watchers {
    /// One more.
    pub fn add(&mut self, watcher: Watcher) {
        if self.waiting.len() > 2 * self.left.max(4) {
            self.waiting.retain(|watcher| !watcher.watch.is_over());
            self.left = self.waiting.len();
        }
        self.waiting.push(watcher);
    }

    /// Counts what `news` has for each, and lets go those that have enough.
    pub fn look_again(&mut self, news: impl Fn(&Watcher) -> News) {
        self.waiting.retain_mut(|watcher| watcher.goes_on(&news));
        self.left = self.left.min(self.waiting.len());
    }

    /// Fires all.
    pub fn fire_all(&mut self) {
        let all = self.waiting.drain(..);
        all.for_each(|watcher| watcher.watch.fire());
        self.left = 0;
    }
}

#[cfg(test)]
mod tests;
