//! The answer to one message: sent on the shard that owns the answer, awaited on the one that
//! asked. It carries exactly one value and never waits on the sending side.
//!
//! This is the oneshot of `futures-channel`: it takes no lock, and keeps one waker however often it
//! is polled. A sender that is dropped unsent, because its message was dropped with a closed
//! mailbox, is an error on the other side, never silence.

pub use futures_channel::oneshot::{Canceled as Gone, Receiver, Sender};

/// A pair for one answer.
pub fn channel<T: Send>() -> (Sender<T>, Receiver<T>) {
    futures_channel::oneshot::channel()
}
