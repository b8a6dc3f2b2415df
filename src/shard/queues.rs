//! The task queues of a shard, and how a busy task gives way.
//!
//! Created once by [`super::executor`] and handed around by value. A queue's shares are its weight
//! against the other queues while all of them have work; an idle queue costs nothing.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use glommio::io::PollableFd;
use glommio::{Latency, Shares, Task, TaskQueueHandle};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Shares of the queue that serves requests.
const REQUESTS_SHARES: usize = 1000;
/// Shares of the queue that writes and syncs: as many as the requests that wait for it.
const STORAGE_SHARES: usize = 1000;
/// Shares of everything that nobody waits for.
const BACKGROUND_SHARES: usize = 100;

/// One task queue of this shard.
#[derive(Clone, Copy, Debug)]
pub struct Queue(TaskQueueHandle);

impl Queue {
    fn create(shares: usize, name: &str) -> Self {
        // A latency target would send the queue's I/O to the ring that interrupts whatever runs
        // and would make every wake from another shard a system call; the preemption timer bounds
        // the wait instead.
        let shares = Shares::Static(shares);
        Self(glommio::executor().create_task_queue(shares, Latency::NotImportant, name))
    }

    /// The runtime's own name for it, for rooms that do not use this one.
    pub fn handle(self) -> TaskQueueHandle {
        self.0
    }

    /// Runs `future` as a task of this queue. Dropping the task cancels it; detach it to let it
    /// run.
    ///
    /// # Panics
    /// If it is called on another shard than the one whose queue this is.
    pub fn spawn<T: 'static>(self, future: impl Future<Output = T> + 'static) -> Task<T> {
        glommio::spawn_local_into(future, self.0)
            .expect("a queue lives as long as its shard and is used on it alone")
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

impl Queues {
    /// Creates the queues on the executor that runs the caller: once a shard.
    pub fn create() -> Self {
        Self {
            requests: Queue::create(REQUESTS_SHARES, "requests"),
            storage: Queue::create(STORAGE_SHARES, "storage"),
            background: Queue::create(BACKGROUND_SHARES, "background"),
        }
    }
}

/// Spawns `future` into `queue` and lets it run: for tasks that nobody awaits.
pub fn spawn_into(queue: Queue, future: impl Future<Output = ()> + 'static) {
    queue.spawn(future).detach();
}

/// Lets a task that always has work give way to the reactor and to every other task.
///
/// Yielding within the executor does not poll I/O: while any task is ready, glommio reaches its
/// rings only when the preemption timer fires. A wait on a descriptor that is always readable goes
/// through the ring and costs 10 µs; a timer of 1 µs, the other way to do it, costs 45.
#[derive(Clone, Debug)]
pub struct GiveWay {
    always_readable: Rc<PollableFd<OwnedFd>>,
    spent: Rc<Cell<u64>>,
}

impl GiveWay {
    /// Creates it on the executor that runs the caller: once a shard.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn create() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_value_and_flags(1, flags)?;
        let always_readable = PollableFd::new(OwnedFd::from(event))?;
        Ok(Self {
            always_readable: Rc::new(always_readable),
            spent: Rc::default(),
        })
    }

    /// Returns after the reactor has been polled and the other ready tasks have run.
    pub async fn now(&self) {
        self.spent.set(self.spent.get() + 1);
        // The only failure is an executor that is gone, and then nobody is polled any more.
        let _gone = self.always_readable.readable().await;
    }

    /// How often a task of this shard gave way.
    pub fn times(&self) -> u64 {
        self.spent.get()
    }
}
