//! How tasks become ready: at home by a push, from another thread through a queue and, where the
//! executor sleeps, a ring of its bell.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use async_task::Runnable;
use crossbeam_queue::SegQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::executor::{Local, TaskQueue};

thread_local! {
    /// The executor that this thread runs.
    static LOCAL: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

/// The executor that this thread runs, if it runs one.
pub(super) fn local() -> Option<Rc<Local>> {
    LOCAL.with_borrow(Clone::clone)
}

/// Makes `local` the executor of this thread, or ends its being that.
pub(super) fn set_local(local: Option<Rc<Local>>) {
    // What was there is dropped after the cell is free again.
    let _before = LOCAL.with(|cell| cell.replace(local));
}

/// The part of an executor that other threads may touch.
#[derive(Debug)]
pub(super) struct Inbox {
    incoming: SegQueue<(TaskQueue, Runnable)>,
    /// Whether the executor sleeps, or is about to.
    is_asleep: AtomicBool,
    /// Whether it has ended: nothing runs any more.
    is_closed: AtomicBool,
    bell: EventFd,
}

impl Inbox {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            incoming: SegQueue::new(),
            is_asleep: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            bell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?,
        })
    }

    /// What the ring reads to hear the bell.
    pub fn bell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// A task has become ready, on whatever thread this runs.
    pub fn schedule(self: &Arc<Self>, queue: TaskQueue, runnable: Runnable) {
        let mut runnable = Some(runnable);
        LOCAL.with_borrow(|local| {
            if let Some(local) = local
                && Arc::ptr_eq(&local.inbox, self)
                && let Some(runnable) = runnable.take()
            {
                local.ready(queue, runnable);
            }
        });
        let Some(runnable) = runnable else { return };
        if self.is_closed.load(Ordering::Acquire) {
            // Its future belongs to a thread that is gone: nobody may drop it any more.
            return std::mem::forget(runnable);
        }
        self.incoming.push((queue, runnable));
        // With the fence in `fall_asleep`: either it sees the push, or this sees it asleep.
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::Relaxed) {
            // Only a full counter fails, and then the bell rings already.
            let _full = self.bell.write(1);
        }
    }

    /// What other threads have made ready.
    pub fn take(&self) -> Option<(TaskQueue, Runnable)> {
        self.incoming.pop()
    }

    /// Whether other threads have made something ready.
    pub fn has_some(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Whether the executor may sleep: from now on a wake rings the bell.
    pub fn fall_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let may_sleep = self.incoming.is_empty();
        if !may_sleep {
            self.wake_up();
        }
        may_sleep
    }

    pub fn wake_up(&self) {
        self.is_asleep.store(false, Ordering::Relaxed);
    }

    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }
}
