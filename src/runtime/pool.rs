//! Threads for calls that block, a few an executor.
//!
//! They take the scheduling of the thread that makes them: `shard::scheduling` has its reasons.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use futures_channel::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one executor.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    is_closed: bool,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} threads", self.threads.len())
    }
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let mut jobs = self.jobs();
            let job = loop {
                match jobs.waiting.pop_front() {
                    Some(job) => break job,
                    None if jobs.is_closed => return,
                    None => {
                        let woken = self.changed.wait(jobs);
                        jobs = woken.unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(jobs);
            job();
        }
    }
}

impl Pool {
    /// Starts the threads, named after the one that starts them.
    pub fn start(threads: usize) -> io::Result<Self> {
        let mut pool = Self {
            shared: Arc::default(),
            threads: Vec::with_capacity(threads),
        };
        let name = thread::current().name().unwrap_or("pool").to_owned();
        for _ in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let named = thread::Builder::new().name(name.clone());
            pool.threads.push(named.spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// Runs `work` on one of the threads. It runs to its end, whether anybody waits or not; a panic
    /// in it goes on in whoever waits.
    pub fn run<T, W>(&self, work: W) -> impl Future<Output = T> + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let (done, result) = oneshot::channel::<Result<T, Box<dyn Any + Send>>>();
        let job = move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            // Nobody may wait any more.
            drop(done.send(outcome));
        };
        self.shared.jobs().waiting.push_back(Box::new(job));
        self.shared.changed.notify_one();
        async move {
            match result.await {
                Ok(Ok(value)) => value,
                Ok(Err(panic)) => resume_unwind(panic),
                Err(oneshot::Canceled) => unreachable!("a job is run before its thread ends"),
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.jobs().is_closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // Jobs' panics are caught; there is nothing else in a thread that could.
            let _ended = thread.join();
        }
    }
}
