//! A wake across shards that costs nothing while nobody sleeps.
//!
//! The sleeper belongs to one shard; anybody rings.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

/// A party that sleeps until another shard rings.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// Whether anybody sleeps, so that ringing for nobody costs one load.
    is_awaited: AtomicBool,
    sleeper: AtomicWaker,
}

impl Bell {
    /// Wakes whoever sleeps. Called after the change that the sleeper waits for.
    pub(super) fn ring(&self) {
        if self.is_awaited.load(Ordering::SeqCst) && self.is_awaited.swap(false, Ordering::SeqCst) {
            self.sleeper.wake();
        }
    }

    /// Sleeps until `ready` gives something. Who changes what `ready` looks at rings
    /// afterwards. One task at a time.
    pub(super) fn poll<T>(&self, context: &Context<'_>, ready: impl Fn() -> Option<T>) -> Poll<T> {
        if let Some(value) = ready() {
            return Poll::Ready(value);
        }
        self.sleeper.register(context.waker());
        self.is_awaited.store(true, Ordering::SeqCst);
        // What changed between the first look and the flag has rung for nobody: look again.
        match ready() {
            Some(value) => {
                self.is_awaited.store(false, Ordering::SeqCst);
                Poll::Ready(value)
            }
            None => Poll::Pending,
        }
    }
}
