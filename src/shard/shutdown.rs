//! Stopping in order: one signal that every task of every shard can await, and a barrier at which
//! the shards meet between two steps.
//!
//! [`Stopper`] may be used from any thread. [`Stop`] and [`Barrier`] belong to a shard. The order
//! of the steps is the caller's: listeners close, connections finish, the shards meet, mailboxes
//! close, the shards meet, logs close.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::runtime::TaskQueue;

#[derive(Debug, Default)]
struct Signal {
    stopped: AtomicBool,
    shards: Mutex<Vec<Waker>>,
}

/// A lock that outlives a panic of its holder: the shards' lists stay valid whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks every shard to stop. Any thread may hold one.
#[derive(Clone, Debug, Default)]
pub struct Stopper {
    signal: Arc<Signal>,
}

impl Stopper {
    /// Asks every shard to stop; a second time changes nothing.
    pub fn stop(&self) {
        self.signal.stopped.store(true, Ordering::SeqCst);
        let wakers = std::mem::take(&mut *lock(&self.signal.shards));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether the shards have been asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.signal.stopped.load(Ordering::SeqCst)
    }

    /// The stop signal of the shard that runs the caller. One task of the shard listens to the
    /// other threads; all others wait on the shard itself, so ten thousand of them cost the stop
    /// one wake across cores.
    pub(super) fn listen(&self, queue: TaskQueue) -> Stop {
        let stop = Stop {
            signal: Arc::clone(&self.signal),
            state: Rc::default(),
        };
        let (signal, local) = (self.signal.clone(), stop.clone());
        queue.detach(async move {
            poll_fn(|context| signal.poll(context)).await;
            local.fire();
        });
        stop
    }
}

impl Signal {
    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut shards = lock(&self.shards);
        // Under the lock: a stop either sees this waker or is seen here.
        if self.stopped.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        if !shards.iter().any(|waker| waker.will_wake(context.waker())) {
            shards.push(context.waker().clone());
        }
        Poll::Pending
    }
}

#[derive(Debug, Default)]
struct StopState {
    fired: bool,
    waiting: Slab<Waker>,
}

/// A shard's view of the stop signal. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    signal: Arc<Signal>,
    state: Rc<RefCell<StopState>>,
}

impl Stop {
    /// Whether the shards have been asked to stop. True as soon as [`Stopper::stop`] was called,
    /// even while those that wait for it have yet to be woken: a shard that fails asks for the stop
    /// before it leaves the barrier, so whoever passes the barrier then sees it here.
    pub fn is_requested(&self) -> bool {
        self.signal.stopped.load(Ordering::SeqCst)
    }

    /// Asks all shards to stop, as [`Stopper::stop`] does.
    pub fn request(&self) {
        let signal = Arc::clone(&self.signal);
        Stopper { signal }.stop();
    }

    /// Waits until the shard is asked to stop. May be dropped at any time.
    pub async fn requested(&self) {
        let mut place = Place {
            stop: self,
            key: None,
        };
        poll_fn(|context| place.poll(context)).await;
    }

    fn fire(&self) {
        let waiting = {
            let mut state = self.state.borrow_mut();
            state.fired = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

struct Place<'a> {
    stop: &'a Stop,
    key: Option<usize>,
}

impl Place<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.stop.state.borrow_mut();
        if state.fired {
            self.key = None;
            return Poll::Ready(());
        }
        match self.key {
            Some(key) => state.waiting[key].clone_from(context.waker()),
            None => self.key = Some(state.waiting.insert(context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.stop.state.borrow_mut();
        if let Some(key) = self.key
            && !state.fired
        {
            state.waiting.remove(key);
        }
    }
}

#[derive(Debug)]
struct Meeting {
    parties: usize,
    arrived: usize,
    /// How often the barrier has opened.
    opened: u64,
    waiting: Vec<Waker>,
}

impl Meeting {
    fn open_if_complete(&mut self) -> Vec<Waker> {
        if self.arrived < self.parties || self.arrived == 0 {
            return Vec::new();
        }
        self.arrived = 0;
        self.opened += 1;
        std::mem::take(&mut self.waiting)
    }
}

/// Where the shards meet. A shard that has ended, however it ended, is not waited for.
#[derive(Clone, Debug)]
pub struct Barrier {
    meeting: Arc<Mutex<Meeting>>,
}

impl Barrier {
    pub(super) fn new(parties: usize) -> Self {
        let meeting = Meeting {
            parties,
            arrived: 0,
            opened: 0,
            waiting: Vec::new(),
        };
        Self {
            meeting: Arc::new(Mutex::new(meeting)),
        }
    }

    /// Waits until every shard that has not ended waits here too. Each shard waits with one task at
    /// a time, and a wait once begun is not dropped.
    pub async fn wait(&self) {
        let (meeting_number, wakers) = {
            let mut meeting = lock(&self.meeting);
            meeting.arrived += 1;
            (meeting.opened, meeting.open_if_complete())
        };
        wakers.into_iter().for_each(Waker::wake);
        poll_fn(|context| {
            let mut meeting = lock(&self.meeting);
            if meeting.opened != meeting_number {
                return Poll::Ready(());
            }
            let waiting = &mut meeting.waiting;
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    pub(super) fn leave(&self) {
        let wakers = {
            let mut meeting = lock(&self.meeting);
            meeting.parties -= 1;
            meeting.open_if_complete()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}
