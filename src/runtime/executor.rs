//! Tasks and turns: what runs when on an executor's thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use async_task::{Runnable, Task};
use futures_lite::future;

use super::driver::Driver;
use super::inbox::{self, Inbox};
use super::pool::Pool;
use super::timer::Timers;

/// How long a task may run before [`yield_if_needed`] gives way.
const SLICE: Duration = Duration::from_micros(500);
/// How long tasks that make each other ready run before the ring is looked at.
const ROUNDS: Duration = Duration::from_micros(100);
/// After how many tasks the clock is looked at.
const CLOCK_EVERY: usize = 16;
/// What background tasks may save up of the time that is theirs.
const CREDIT_NS_MAX: i64 = 5_000_000;
/// Background tasks get one part in so many of the time that the others take.
const BACKGROUND_PARTS: i64 = 10;

/// Where a task stands in line. Requests and storage take turns; background tasks run while nothing
/// else is ready, and else for a tenth of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskQueue {
    /// Connections, mailboxes and the requests that they carry.
    Requests,
    /// Writes and syncs that acknowledgements wait for.
    Storage,
    /// What nobody waits for.
    Background,
}

const QUEUES: usize = 3;

/// How an executor is made.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorConfig {
    /// Requests that fit into the ring's submission queue: what is handed over in one call at most.
    pub ring_depth: u32,
    /// Threads for calls that block.
    pub blocking_threads: usize,
    /// How long it looks for something to do before it sleeps: zero unless its core is its own.
    pub spin: Duration,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            ring_depth: 256,
            blocking_threads: 1,
            spin: Duration::ZERO,
        }
    }
}

/// The state of the executor of a thread.
#[derive(Debug)]
pub(super) struct Local {
    pub inbox: Arc<Inbox>,
    pub driver: Rc<Driver>,
    pub timers: Timers,
    pool: Pool,
    queues: [RefCell<VecDeque<Runnable>>; QUEUES],
    /// Who gave way until the ring has been looked at.
    yielded: RefCell<Vec<Waker>>,
    /// The queue of the task that runs.
    current: Cell<TaskQueue>,
    turn_began: Cell<Instant>,
    /// What background tasks may take while others are ready; below zero what they took too much.
    background_credit_ns: Cell<i64>,
}

/// The executor of the thread that runs the caller.
///
/// # Panics
/// If it runs none.
pub(super) fn current() -> Rc<Local> {
    inbox::local().expect("only an executor's tasks wait for it")
}

impl Local {
    pub fn ready(&self, queue: TaskQueue, runnable: Runnable) {
        self.queues[queue as usize].borrow_mut().push_back(runnable);
    }

    fn next(&self, queue: TaskQueue) -> Option<Runnable> {
        self.queues[queue as usize].borrow_mut().pop_front()
    }

    fn is_idle(&self) -> bool {
        let is_empty = |queue: &RefCell<VecDeque<_>>| queue.borrow().is_empty();
        self.queues.iter().all(is_empty)
            && self.yielded.borrow().is_empty()
            && !self.driver.has_completed()
    }

    /// Runs what is ready in `queue` now, and not what becomes ready meanwhile; no longer than
    /// until `end`, as far as tasks give way. Whether there was anything.
    fn run_ready(&self, queue: TaskQueue, end: Instant) -> bool {
        let ready = self.queues[queue as usize].borrow().len();
        self.current.set(queue);
        for ran in 1..=ready {
            if let Some(runnable) = self.next(queue) {
                runnable.run();
            }
            if ran % CLOCK_EVERY == 0 && Instant::now() >= end {
                break;
            }
        }
        ready > 0
    }

    fn run_turn(&self) {
        let began = Instant::now();
        self.turn_began.set(began);
        while let Some((queue, runnable)) = self.inbox.take() {
            self.ready(queue, runnable);
        }
        self.timers.fire(began);
        // Tasks make each other ready: what they request goes to the kernel in one call.
        let mut is_busy = false;
        let end = began + ROUNDS;
        while self.run_ready(TaskQueue::Requests, end) | self.run_ready(TaskQueue::Storage, end) {
            is_busy = true;
            if Instant::now() >= end {
                break;
            }
        }
        self.run_background(is_busy);
    }

    fn run_background(&self, is_busy: bool) {
        let waiting = self.queues[TaskQueue::Background as usize].borrow().len();
        if waiting == 0 {
            return;
        }
        if !is_busy {
            self.background_credit_ns.set(0);
            self.run_ready(TaskQueue::Background, self.turn_began.get() + SLICE);
            return;
        }
        // A write that somebody waits for does not wait for this.
        self.driver.turn(None);
        let mut before = Instant::now();
        let earned = nanoseconds(before - self.turn_began.get()) / BACKGROUND_PARTS;
        let mut credit = (self.background_credit_ns.get() + earned).min(CREDIT_NS_MAX);
        self.current.set(TaskQueue::Background);
        for _ in 0..waiting {
            if credit <= 0 {
                break;
            }
            if let Some(runnable) = self.next(TaskQueue::Background) {
                runnable.run();
            }
            let now = Instant::now();
            credit -= nanoseconds(now - before);
            before = now;
        }
        self.background_credit_ns.set(credit);
    }

    /// Looks at the ring, sleeps if nothing is ready, and wakes who gave way.
    fn poll(&self, spin: Duration) {
        self.look(spin);
        for waker in self.yielded.take() {
            waker.wake();
        }
    }

    fn look(&self, spin: Duration) {
        if !self.is_idle() {
            return self.driver.turn(None);
        }
        let spins_until = (!spin.is_zero()).then(|| Instant::now() + spin);
        while spins_until.is_some_and(|end| Instant::now() < end) {
            self.driver.turn(None);
            let now = Instant::now();
            let is_due = self.timers.next().is_some_and(|due| due <= now);
            if !self.is_idle() || is_due || self.inbox.has_some() {
                return;
            }
            std::hint::spin_loop();
        }
        let due = self.timers.next();
        let longest = due.map(|due| due.saturating_duration_since(Instant::now()));
        if self.inbox.fall_asleep() {
            self.driver.turn(Some(longest));
            self.inbox.wake_up();
        } else {
            self.driver.turn(None);
        }
    }

    /// Drops the tasks that are ready, and those that become ready by that.
    fn dismiss(&self) {
        loop {
            let ready = [
                TaskQueue::Requests,
                TaskQueue::Storage,
                TaskQueue::Background,
            ]
            .into_iter()
            .find_map(|queue| self.next(queue));
            match ready.or_else(|| self.inbox.take().map(|(_, runnable)| runnable)) {
                Some(runnable) => drop(runnable),
                None => return,
            }
        }
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// An executor, on the thread that made it.
#[derive(Debug)]
pub struct Executor {
    local: Rc<Local>,
    spin: Duration,
}

impl Executor {
    /// Sets up the ring and the threads for calls that block.
    ///
    /// # Errors
    /// The kernel has no ring or no thread for it.
    pub fn new(config: ExecutorConfig) -> io::Result<Self> {
        let inbox = Arc::new(Inbox::new()?);
        let driver = Rc::new(Driver::new(config.ring_depth, inbox.bell())?);
        let local = Local {
            driver,
            timers: Timers::default(),
            pool: Pool::start(config.blocking_threads.max(1))?,
            queues: Default::default(),
            yielded: RefCell::default(),
            current: Cell::new(TaskQueue::Requests),
            turn_began: Cell::new(Instant::now()),
            background_credit_ns: Cell::default(),
            inbox,
        };
        Ok(Self {
            local: Rc::new(local),
            spin: config.spin,
        })
    }

    /// Runs `future` to its end. Tasks that are left then are dropped with the executor.
    ///
    /// # Panics
    /// As `future` and the tasks do; and if the thread runs an executor already.
    pub fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        assert!(inbox::local().is_none(), "a thread runs one executor");
        inbox::set_local(Some(Rc::clone(&self.local)));
        let main = TaskQueue::Requests.spawn(future);
        while !main.is_finished() {
            self.local.run_turn();
            if main.is_finished() {
                break;
            }
            self.local.poll(self.spin);
        }
        future::block_on(main)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let local = &self.local;
        if !inbox::local().is_some_and(|running| Rc::ptr_eq(&running, local)) {
            // It never ran.
            return;
        }
        // Tasks that wait are held by who wakes them: timers, the ring, other tasks. Each that is
        // dropped may free others.
        local.inbox.close();
        local.timers.clear();
        local.driver.abandon();
        loop {
            local.dismiss();
            drop(local.yielded.take());
            local.driver.drain();
            if local.is_idle() {
                break;
            }
        }
        inbox::set_local(None);
    }
}

/// Runs `future` on an executor of the calling thread, made for it.
///
/// # Panics
/// If the kernel has no ring for it, and as `future` does.
pub fn block_on<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
    let executor = Executor::new(ExecutorConfig::default());
    executor.expect("an executor").run(future)
}

/// Runs `future` as a task of this executor, in the queue of the task that calls. Dropping the task
/// cancels it; detach it to let it run.
///
/// # Panics
/// If the thread runs no executor.
pub fn spawn_local<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    current_queue().spawn(future)
}

impl TaskQueue {
    /// As [`spawn_local`], in this queue.
    ///
    /// # Panics
    /// If the thread runs no executor.
    pub fn spawn<T: 'static>(self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let inbox = Arc::clone(&current().inbox);
        let schedule = move |runnable| inbox.schedule(self, runnable);
        let (runnable, task) = async_task::spawn_local(future, schedule);
        runnable.schedule();
        task
    }

    /// Spawns a task that nobody waits for.
    ///
    /// # Panics
    /// If the thread runs no executor.
    pub fn detach(self, future: impl Future<Output = ()> + 'static) {
        self.spawn(future).detach();
    }
}

/// The queue of the task that calls.
///
/// # Panics
/// If the thread runs no executor.
pub fn current_queue() -> TaskQueue {
    current().current.get()
}

/// Gives way to all other tasks that are ready, and to what has completed.
pub async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        let local = current();
        local.yielded.borrow_mut().push(context.waker().clone());
        Poll::Pending
    })
    .await;
}

/// Gives way if tasks have run for a while since the ring was looked at.
pub async fn yield_if_needed() {
    if current().turn_began.get().elapsed() >= SLICE {
        yield_now().await;
    }
}

/// Runs `work` on one of the threads for calls that block. It runs to its end, whether anybody
/// waits or not; a panic in it goes on in whoever waits.
///
/// # Panics
/// If the thread runs no executor.
pub fn spawn_blocking<T, W>(work: W) -> impl Future<Output = T> + use<T, W>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    current().pool.run(work)
}
