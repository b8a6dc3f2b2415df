//! Waiting for a moment.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::executor::{Local, current};

/// The timers of one executor.
#[derive(Debug, Default)]
pub(super) struct Timers {
    waiting: RefCell<BTreeMap<(Instant, u64), Waker>>,
    made: Cell<u64>,
}

impl Timers {
    /// The moment of the next one.
    pub fn next(&self) -> Option<Instant> {
        let waiting = self.waiting.borrow();
        waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        // Dropping a waker may drop a task with a timer of its own: not while the map is held.
        let waiting = self.waiting.take();
        drop(waiting);
    }

    /// Wakes those that are due at `now`.
    pub fn fire(&self, now: Instant) {
        loop {
            let mut waiting = self.waiting.borrow_mut();
            match waiting.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let waker = first.remove();
                    drop(waiting);
                    waker.wake();
                }
                _ => return,
            }
        }
    }
}

/// Completes when a time has passed, as soon as the executor looks after that.
#[derive(Debug)]
#[must_use = "it only waits where it is awaited"]
pub struct Timer {
    due: Instant,
    /// Its number, once it waits.
    waits: Option<(Rc<Local>, u64)>,
}

impl Timer {
    /// Waits for `duration` from now on. One that is longer than the clock goes never completes.
    pub fn new(duration: Duration) -> Self {
        const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        Self {
            due: Instant::now() + duration.min(FAR),
            waits: None,
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.due {
            return Poll::Ready(());
        }
        let due = self.due;
        let (local, number) = self.waits.get_or_insert_with(|| {
            let local = current();
            let number = local.timers.made.get();
            local.timers.made.set(number + 1);
            (local, number)
        });
        let mut waiting = local.timers.waiting.borrow_mut();
        let waker = waiting
            .entry((due, *number))
            .or_insert_with(|| context.waker().clone());
        waker.clone_from(context.waker());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some((local, number)) = self.waits.take() {
            // The waker may be the last handle of a task, and drop it: not while the map is held.
            let _waker = local
                .timers
                .waiting
                .borrow_mut()
                .remove(&(self.due, number));
        }
    }
}
