//! The executor that a shard is: tasks, one io_uring ring, timers, and threads for calls that
//! block.
//!
//! One thread runs one [`Executor`]. It works in *turns*: it runs the tasks that are ready, hands
//! what they asked for to the ring in one call, and takes what has completed. With nothing ready
//! that call also waits, until a completion, the next timer or another thread's wake. So a wake
//! costs one system call, whatever it led to, and a task that gives way has the ring looked at
//! before it runs again. `kernel-notes/runtime.md` says why this is our own.
//!
//! Knows nothing of shards, logs or requests; of `base` only the size of a block.
//!
//! What must stay true:
//! - tasks, futures and buffers of one executor stay on its thread; only wakers leave it, and what
//!   [`spawn_blocking`] is given;
//! - memory and descriptors that the kernel was handed are kept by the ring until it is done with
//!   them, whatever becomes of the future that waits: see `driver`;
//! - an executor never sleeps while a task is ready: a wake from elsewhere is either seen before
//!   the thread sleeps, or ends the sleep;
//! - nothing here waits for the disk but the pool and the kernel's own workers.

#[cfg(test)]
mod tests;

mod buffer;
mod driver;
mod executor;
mod file;
mod inbox;
mod pollable;
mod pool;
mod semaphore;
mod timer;

pub use async_task::Task;
pub use buffer::DmaBuffer;
pub use driver::check_rings;
pub use executor::{
    Executor, ExecutorConfig, TaskQueue, block_on, current_queue, spawn_blocking, spawn_local,
    yield_if_needed, yield_now,
};
pub use file::{File, Part};
pub use pollable::Pollable;
pub use semaphore::{Closed, Permit, Semaphore};
pub use timer::Timer;
