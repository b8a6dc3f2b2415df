//! Memory that clients hold by not reading: what was made for their replies and has not left.
//!
//! Records do not count: they are parts of a log's memory, and bounded there. What counts are the
//! answers about topics, settings and groups, some of which are long. One count for a listener of a
//! shard; past the bound [`super::connections::Connections::close_unread`] closes who holds most.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::runtime::Timer;

/// How often a request that waits looks again, and how long it waits at most.
const LOOK: Duration = Duration::from_millis(10);
const WAIT_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Unread {
    bytes: Cell<usize>,
    bytes_max: usize,
}

impl Unread {
    /// Nothing yet, of so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: Cell::new(0),
            bytes_max,
        }
    }

    pub(super) fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    pub(super) fn subtract(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
    }

    /// The bytes past the bound.
    pub(super) fn excess(&self) -> usize {
        self.bytes.get().saturating_sub(self.bytes_max)
    }

    /// Waits a while if it is twice as much as may be: until connections were closed for it.
    pub(super) async fn room(&self) {
        if self.excess() <= self.bytes_max {
            return;
        }
        let began = Instant::now();
        while self.excess() > self.bytes_max && began.elapsed() < WAIT_MAX {
            Timer::new(LOOK).await;
        }
    }
}
