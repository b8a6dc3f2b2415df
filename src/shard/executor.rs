//! Brings up the executors, one thread each, and waits for them to end.
//!
//! With at least as many CPUs as shards, shard *i* is pinned to the *i*-th CPU. With fewer, no
//! shard is pinned: two pinned shards on one core would only fight for it, and the kernel can
//! balance what it may move. The threads for blocking calls are never pinned, so they do not take
//! the shard's core from it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use super::scheduling;
use super::shutdown::{Barrier, Stop, Stopper};
use crate::base::ids::ShardId;
use crate::runtime::{self, Executor, TaskQueue};

/// How the executors are made.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// How many shards.
    pub shards: u16,
    /// The CPUs to pin them to, in this order; none pins nothing. See [`allowed_cpus`].
    pub cpus: Vec<usize>,
    /// Entries of each io_uring submission queue.
    pub ring_depth: u32,
    /// Threads of each shard for calls that may block: one for checkpoints and retention, one for
    /// searches in index files, and two for what appends wait for.
    pub blocking_threads: usize,
    /// How long an idle pinned executor spins before it sleeps: zero unless its core is dedicated.
    pub spin: Duration,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            shards: 1,
            cpus: Vec::new(),
            ring_depth: 256,
            blocking_threads: 4,
            spin: Duration::ZERO,
        }
    }
}

/// What a shard's body is given.
#[derive(Clone, Debug)]
pub struct ShardContext {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are.
    pub shards: u16,
    /// Tells it to stop.
    pub stop: Stop,
    /// Where it meets the other shards.
    pub barrier: Barrier,
}

/// A shard could not be brought up; none is running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its thread could not be created.
    #[error("shard {shard}: the thread could not be created: {source}")]
    Thread {
        /// Which one.
        shard: ShardId,
        /// Why.
        source: io::Error,
    },
    /// Its io_uring rings could not be set up, or it could not be pinned.
    #[error("shard {shard}: the executor could not be set up: {reason}")]
    Executor {
        /// Which one.
        shard: ShardId,
        /// The runtime's own words.
        reason: String,
    },
}

/// How a shard ended, if not well.
#[derive(Debug, thiserror::Error)]
pub enum ShardError<E> {
    /// Its body returned an error.
    #[error("shard {shard} failed: {error}")]
    Failed {
        /// Which one.
        shard: ShardId,
        /// What it returned.
        error: E,
    },
    /// It never ran, because another shard could not be brought up.
    #[error("shard {shard} was not started")]
    NotStarted {
        /// Which one.
        shard: ShardId,
    },
    /// One of its tasks panicked.
    #[error("shard {shard} panicked: {message}")]
    Panicked {
        /// Which one.
        shard: ShardId,
        /// What the panic said.
        message: String,
    },
}

type Ended<T, E> = Result<T, ShardError<E>>;

/// The running shards.
pub struct Shards<T, E> {
    threads: Vec<JoinHandle<Ended<T, E>>>,
    stopper: Stopper,
}

impl<T, E> fmt::Debug for Shards<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} shards", self.threads.len())
    }
}

impl<T, E> Shards<T, E> {
    /// Asks the shards to stop, from any thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits for every shard to end; in the order of the shards.
    pub fn join(self) -> Vec<Result<T, ShardError<E>>> {
        let join = |(index, thread): (usize, JoinHandle<Ended<T, E>>)| {
            thread.join().unwrap_or_else(|panic| {
                let shard = ShardId(index as u16);
                let message = panic_message(&*panic);
                Err(ShardError::Panicked { shard, message })
            })
        };
        self.threads.into_iter().enumerate().map(join).collect()
    }
}

/// The CPUs that this process may run on, ascending.
///
/// # Errors
/// If the kernel does not say.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
    let is_allowed = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
    Ok((0..nix::sched::CpuSet::count())
        .filter(is_allowed)
        .collect())
}

/// Starts one executor a shard and runs `bodies[i]` on shard *i*. Returns when all executors are
/// up, or one of them failed to come up and the rest have been stopped. A body that ends with an
/// error, or panics, asks the others to stop.
///
/// # Errors
/// If an executor could not be set up; no body has run then.
///
/// # Panics
/// If there are not as many bodies as shards, or none.
pub fn start<B, F, T, E>(
    config: &ExecutorConfig,
    bodies: Vec<B>,
) -> Result<Shards<T, E>, StartError>
where
    B: FnOnce(ShardContext) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    assert!(config.shards > 0, "a broker has at least one shard");
    assert_eq!(bodies.len(), usize::from(config.shards), "one body a shard");
    let stopper = Stopper::default();
    let barrier = Barrier::new(bodies.len());
    let mut starting: Vec<Started<T, E>> = Vec::with_capacity(bodies.len());
    for (index, body) in bodies.into_iter().enumerate() {
        let shard = Starting {
            shard: ShardId(index as u16),
            config: config.clone(),
            stopper: stopper.clone(),
            barrier: barrier.clone(),
        };
        // Dropping `starting` on an error closes the channels: the bodies never run.
        starting.push(shard.spawn(body)?);
    }
    for (_, up, _) in &starting {
        // A thread that dies without a word drops its end, and join() below tells why.
        if let Ok(Err(error)) = up.recv() {
            return Err(error);
        }
    }
    let threads = starting.into_iter().map(|(thread, _, go)| {
        // A thread that has died does not listen any more; its end is reported by join().
        let _died = go.send(());
        thread
    });
    Ok(Shards {
        threads: threads.collect(),
        stopper,
    })
}

struct Starting {
    shard: ShardId,
    config: ExecutorConfig,
    stopper: Stopper,
    barrier: Barrier,
}

type Started<T, E> = (
    JoinHandle<Ended<T, E>>,
    mpsc::Receiver<Result<(), StartError>>,
    mpsc::Sender<()>,
);

impl Starting {
    fn spawn<B, F, T, E>(self, body: B) -> Result<Started<T, E>, StartError>
    where
        B: FnOnce(ShardContext) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let shard = self.shard;
        let (report_up, up) = mpsc::channel();
        let (go, wait_for_go) = mpsc::channel();
        let run = move || {
            let executor = match self.executor() {
                Ok(executor) => executor,
                Err(error) => {
                    let _nobody_waits = report_up.send(Err(error));
                    return Err(ShardError::NotStarted { shard });
                }
            };
            let _nobody_waits = report_up.send(Ok(()));
            match wait_for_go.recv() {
                Ok(()) => self.run(executor, body),
                Err(mpsc::RecvError) => Err(ShardError::NotStarted { shard }),
            }
        };
        let named = thread::Builder::new().name(format!("shard-{shard}"));
        let spawned = named.spawn(run);
        let thread = spawned.map_err(|source| StartError::Thread { shard, source })?;
        Ok((thread, up, go))
    }

    fn executor(&self) -> Result<Executor, StartError> {
        let config = &self.config;
        let failed = |source: io::Error| StartError::Executor {
            shard: self.shard,
            reason: source.to_string(),
        };
        // The threads for blocking calls are made with the executor and inherit how it is run.
        scheduling::give_way().map_err(failed)?;
        let executor = Executor::new(runtime::ExecutorConfig {
            ring_depth: config.ring_depth,
            blocking_threads: config.blocking_threads,
            spin: config.spin,
        });
        let executor = executor.map_err(failed)?;
        let is_pinned = config.cpus.len() >= usize::from(config.shards);
        if is_pinned && let Some(cpu) = config.cpus.get(usize::from(self.shard.0)) {
            pin(*cpu).map_err(failed)?;
        }
        scheduling::run_promptly().map_err(failed)?;
        Ok(executor)
    }

    fn run<B, F, T, E>(self, executor: Executor, body: B) -> Ended<T, E>
    where
        B: FnOnce(ShardContext) -> F + 'static,
        F: Future<Output = Result<T, E>> + 'static,
        T: 'static,
        E: 'static,
    {
        let shard = self.shard;
        let (shards, stopper, barrier) = (
            self.config.shards,
            self.stopper.clone(),
            self.barrier.clone(),
        );
        let whole = async move {
            let context = ShardContext {
                shard,
                shards,
                stop: stopper.listen(TaskQueue::Background),
                barrier,
            };
            body(context).await
        };
        let ended = catch_unwind(AssertUnwindSafe(|| executor.run(whole)));
        let ended = match ended {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(ShardError::Failed { shard, error }),
            Err(panic) => {
                let message = panic_message(&*panic);
                Err(ShardError::Panicked { shard, message })
            }
        };
        if ended.is_err() {
            self.stopper.stop();
        }
        self.barrier.leave();
        ended
    }
}

/// Keeps this thread on one CPU.
fn pin(cpu: usize) -> io::Result<()> {
    let mut cpus = nix::sched::CpuSet::new();
    cpus.set(cpu)?;
    Ok(nix::sched::sched_setaffinity(
        nix::unistd::Pid::from_raw(0),
        &cpus,
    )?)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
