//! Permits, handed out strictly in the order in which they were asked for. One executor's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The semaphore was closed while somebody waited for it, or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the semaphore is closed")]
pub struct Closed;

/// A number of permits.
#[derive(Debug)]
pub struct Semaphore {
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    free: u64,
    is_closed: bool,
    waiting: VecDeque<Rc<RefCell<Waiter>>>,
}

#[derive(Debug)]
struct Waiter {
    wanted: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    InLine(Waker),
    /// The permits are its own, though it has not looked yet; it stands in line no more.
    Admitted,
    /// It has them, or will not have them any more.
    Gone,
}

/// Some of a semaphore's permits, which go back when this is dropped.
#[derive(Debug)]
#[must_use = "it goes back at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    permits: u64,
}

impl Semaphore {
    /// A semaphore with `free` permits.
    pub fn new(free: u64) -> Self {
        Self {
            state: RefCell::new(State {
                free,
                is_closed: false,
                waiting: VecDeque::new(),
            }),
        }
    }

    /// Waits for so many permits, behind all who wait already.
    ///
    /// # Errors
    /// The semaphore is closed.
    pub async fn acquire_permit(&self, permits: u64) -> Result<Permit<'_>, Closed> {
        let waiting = {
            let mut state = self.state.borrow_mut();
            if state.is_closed {
                return Err(Closed);
            }
            if state.waiting.is_empty() && state.free >= permits {
                state.free -= permits;
                None
            } else {
                let waiter = Rc::new(RefCell::new(Waiter {
                    wanted: permits,
                    place: Place::InLine(Waker::noop().clone()),
                }));
                state.waiting.push_back(Rc::clone(&waiter));
                Some(waiter)
            }
        };
        if let Some(waiter) = waiting {
            Waiting {
                semaphore: self,
                waiter,
            }
            .await?;
        }
        Ok(Permit {
            semaphore: self,
            permits,
        })
    }

    /// Refuses all who wait, and all who come later.
    pub fn close(&self) {
        let waiting = {
            let mut state = self.state.borrow_mut();
            state.is_closed = true;
            std::mem::take(&mut state.waiting)
        };
        for waiter in waiting {
            let place = std::mem::replace(&mut waiter.borrow_mut().place, Place::Gone);
            if let Place::InLine(waker) = place {
                waker.wake();
            }
        }
    }

    fn give_back(&self, permits: u64) {
        self.state.borrow_mut().free += permits;
        self.admit();
    }

    /// Admits from the front of the line while there are permits.
    fn admit(&self) {
        loop {
            let waker = {
                let mut state = self.state.borrow_mut();
                let Some(first) = state.waiting.front().cloned() else {
                    return;
                };
                let mut first = first.borrow_mut();
                let waker = match &first.place {
                    Place::InLine(waker) if first.wanted <= state.free => waker.clone(),
                    Place::InLine(_) => return,
                    Place::Admitted | Place::Gone => unreachable!("it has left the line"),
                };
                state.free -= first.wanted;
                first.place = Place::Admitted;
                state.waiting.pop_front();
                waker
            };
            waker.wake();
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.give_back(self.permits);
    }
}

struct Waiting<'a> {
    semaphore: &'a Semaphore,
    waiter: Rc<RefCell<Waiter>>,
}

impl Future for Waiting<'_> {
    type Output = Result<(), Closed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waiter = self.waiter.borrow_mut();
        match &mut waiter.place {
            Place::InLine(waker) => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            Place::Admitted => {
                waiter.place = Place::Gone;
                Poll::Ready(Ok(()))
            }
            Place::Gone => Poll::Ready(Err(Closed)),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let (place, wanted) = {
            let mut waiter = self.waiter.borrow_mut();
            let place = std::mem::replace(&mut waiter.place, Place::Gone);
            (place, waiter.wanted)
        };
        match place {
            Place::Admitted => self.semaphore.give_back(wanted),
            Place::InLine(_) => {
                let mut state = self.semaphore.state.borrow_mut();
                state.waiting.retain(|it| !Rc::ptr_eq(it, &self.waiter));
                drop(state);
                // Who stood behind it may be next.
                self.semaphore.admit();
            }
            Place::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests;
