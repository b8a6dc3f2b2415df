//! A line of tasks of one shard, of which only the first may try for what they all want.
//!
//! Any shard, never shared between shards. It makes waiting fair: who came first is served first,
//! and a large demand is not starved by small ones behind it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// The tasks that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
    next_ticket: Cell<u64>,
}

impl Line {
    /// Whether nobody waits, so that a newcomer may try at once.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Waits at the end of the line until everybody who came before has left it. The caller stays
    /// first until the turn is dropped; dropping it at any time, also while waiting, leaves.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        self.waiting.borrow_mut().push_back((ticket, None));
        let turn = Turn { line: self, ticket };
        poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.front().is_some_and(|(first, _)| *first == ticket) {
                return Poll::Ready(());
            }
            let own = waiting.iter_mut().find(|(other, _)| *other == ticket);
            let (_, waker) = own.expect("a turn stays in the line until it is dropped");
            *waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        turn
    }
}

/// A place in the line.
pub(super) struct Turn<'a> {
    line: &'a Line,
    ticket: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting.borrow_mut();
        let first = waiting.front().map(|(ticket, _)| *ticket);
        waiting.retain(|(ticket, _)| *ticket != self.ticket);
        let next = match waiting.front_mut() {
            Some((_, waker)) if first == Some(self.ticket) => waker.take(),
            _ => None,
        };
        drop(waiting);
        if let Some(waker) = next {
            waker.wake();
        }
    }
}
