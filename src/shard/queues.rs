//! The task queues of a shard. Handed around by value.

use std::future::Future;

use crate::runtime::{self, Task, TaskQueue};

/// One task queue of this shard.
#[derive(Clone, Copy, Debug)]
pub struct Queue(TaskQueue);

impl Queue {
    /// The runtime's own name for it, for rooms that do not use this one.
    pub fn handle(self) -> TaskQueue {
        self.0
    }

    /// Runs `future` as a task of this queue. Dropping the task cancels it; detach it to let it
    /// run.
    ///
    /// # Panics
    /// Off a shard.
    pub fn spawn<T: 'static>(self, future: impl Future<Output = T> + 'static) -> Task<T> {
        runtime::spawn_into(future, self.0)
    }
}

/// The queues of one shard.
#[derive(Clone, Copy, Debug)]
pub struct Queues {
    /// Connections, mailboxes and the requests that they carry.
    pub requests: Queue,
    /// Writes and syncs that acknowledgements wait for.
    pub storage: Queue,
    /// Retention, compaction, checkpoints, statistics.
    pub background: Queue,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            requests: Queue(TaskQueue::Requests),
            storage: Queue(TaskQueue::Storage),
            background: Queue(TaskQueue::Background),
        }
    }
}

/// Spawns `future` into `queue` and lets it run: for tasks that nobody awaits.
pub fn spawn_into(queue: Queue, future: impl Future<Output = ()> + 'static) {
    queue.spawn(future).detach();
}
