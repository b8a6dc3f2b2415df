//! Fetches that wait for records: told once, by the first of the partitions that they watch.
//!
//! A fetch that ends otherwise (its time is up, its connection is gone) leaves its watch behind;
//! such watches are cleared away when their number has doubled.

use std::cell::RefCell;
use std::rc::Rc;

use crate::base::ids::Offset;
use crate::shard::reply::Sender;

/// One waiting fetch, shared by the partitions of this shard that it watches.
#[derive(Debug)]
pub struct Watch {
    reply: RefCell<Option<Sender<()>>>,
}

impl Watch {
    /// A watch that tells `reply`.
    pub fn new(reply: Sender<()>) -> Rc<Self> {
        Rc::new(Self {
            reply: RefCell::new(Some(reply)),
        })
    }

    /// Tells, if it has not told yet.
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

/// The watches of one partition.
#[derive(Debug, Default)]
pub struct Watchers {
    waiting: Vec<(Offset, Rc<Watch>)>,
    /// How many were left when those that are over were last cleared away.
    left: usize,
}

impl Watchers {
    /// One more, which wants to know of records at or behind `offset`.
    pub fn add(&mut self, offset: Offset, watch: &Rc<Watch>) {
        if self.waiting.len() > 2 * self.left.max(4) {
            self.waiting.retain(|(_, watch)| !watch.is_over());
            self.left = self.waiting.len();
        }
        self.waiting.push((offset, Rc::clone(watch)));
    }

    /// Fires those that wait for offsets below `high_watermark`.
    pub fn fire_below(&mut self, high_watermark: Offset) {
        self.waiting.retain(|(offset, watch)| {
            let reached = *offset < high_watermark;
            if reached {
                watch.fire();
            }
            !reached
        });
        self.left = self.left.min(self.waiting.len());
    }

    /// Fires all.
    pub fn fire_all(&mut self) {
        self.waiting.drain(..).for_each(|(_, watch)| watch.fire());
        self.left = 0;
    }
}
