//! Lets readers in by how much they may collect, strictly in the order in which they came: a large
//! one is not passed by the small ones behind it. One shard's; it does no I/O.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use futures_channel::oneshot;

/// The line of those who wait.
#[derive(Debug)]
pub(super) struct Admission(Rc<Line>);

#[derive(Debug)]
struct Line {
    /// How much may be collected at a time in all.
    all: u64,
    free: Cell<u64>,
    waiting: RefCell<VecDeque<(u64, oneshot::Sender<Admitted>)>>,
}

/// What a reader may collect, until this is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    line: Rc<Line>,
    units: u64,
}

impl Admission {
    /// Lets `all` units in at a time.
    pub fn new(all: u64) -> Self {
        Self(Rc::new(Line {
            all,
            free: Cell::new(all),
            waiting: RefCell::default(),
        }))
    }

    /// Waits until `units` are free and nobody waits before; who wants more than there are at all
    /// waits for all of them.
    pub async fn admit(&self, units: u64) -> Admitted {
        let units = units.min(self.0.all);
        if self.0.waiting.borrow().is_empty() && self.0.free.get() >= units {
            return Line::take(&self.0, units);
        }
        let (admitted, turn) = oneshot::channel();
        self.0.waiting.borrow_mut().push_back((units, admitted));
        turn.await.expect("whoever waits is let in in the end")
    }
}

impl Line {
    fn take(line: &Rc<Self>, units: u64) -> Admitted {
        line.free.set(line.free.get() - units);
        Admitted {
            line: Rc::clone(line),
            units,
        }
    }

    /// Lets in from the front while there is room.
    fn advance(line: &Rc<Self>) {
        loop {
            let mut waiting = line.waiting.borrow_mut();
            let Some((units, first)) = waiting.front() else {
                return;
            };
            let (units, is_gone) = (*units, first.is_canceled());
            if !is_gone && line.free.get() < units {
                return;
            }
            let first = waiting.pop_front();
            drop(waiting);
            if let (false, Some((_, first))) = (is_gone, first) {
                // It was there a moment ago, and nothing else runs in between.
                let sent = first.send(Self::take(line, units));
                debug_assert!(sent.is_ok());
            }
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.line.free.set(self.line.free.get() + self.units);
        Line::advance(&self.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn a_large_one_is_not_passed_and_one_that_gives_up_holds_nobody_back() {
        block_on(async {
            let admission = Admission::new(8);
            let first = admission.admit(5).await;
            let mut large = Box::pin(admission.admit(100));
            let mut small = Box::pin(admission.admit(1));
            let mut gone = Box::pin(admission.admit(8));
            let mut last = Box::pin(admission.admit(7));
            for waits in [&mut large, &mut small, &mut gone, &mut last] {
                assert!(poll_once(waits).await.is_none());
            }
            drop(first);
            let large = poll_once(&mut large).await.expect("all of it is free");
            assert!(poll_once(&mut small).await.is_none());
            drop(gone);
            drop(large);
            let small = poll_once(&mut small).await.expect("its turn");
            let last = poll_once(&mut last).await.expect("the one before has gone");
            assert!(poll_once(Box::pin(admission.admit(1))).await.is_none());
            drop((small, last));
            assert!(poll_once(Box::pin(admission.admit(8))).await.is_some());
        });
    }

    #[test]
    fn what_is_let_in_and_never_taken_comes_back() {
        block_on(async {
            let admission = Admission::new(2);
            let first = admission.admit(2).await;
            let mut second = Box::pin(admission.admit(2));
            assert!(poll_once(&mut second).await.is_none());
            drop(first);
            // It was let in, and gives up without having looked.
            drop(second);
            assert!(poll_once(Box::pin(admission.admit(2))).await.is_some());
        });
    }
}
