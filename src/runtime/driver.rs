//! The ring: hands requests to the kernel and takes their completions.
//!
//! A request that was handed over keeps what the kernel uses, buffers and descriptors, in [`Held`]
//! until its completion has come, also where nobody waits for it any more. So a future may be
//! dropped at any time: a wait is then cancelled, and anything else runs to its end.
//!
//! This is the file with the unsafe code of the ring.

#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};
use slab::Slab;

use super::buffer::DmaBuffer;
use super::file::Part;

/// Whose completions nobody waits for.
const UNATTENDED: u64 = u64::MAX;
/// The read that hears the bell.
const BELL: u64 = u64::MAX - 1;
/// Completions that fit before the kernel has to keep them elsewhere.
const COMPLETIONS: u32 = 4096;

/// What the kernel uses while a request is in flight. Most of it is only kept.
#[derive(Debug)]
#[expect(dead_code, reason = "what is kept for the kernel is not read here")]
pub(super) enum Held {
    /// Nothing: it waits for a descriptor of the caller's.
    Nothing,
    /// The number of a descriptor that nobody else has.
    Number,
    /// The path of a file that it opens. Who waits for it gets the descriptor in its place.
    Path(CString),
    /// The descriptor that it works on.
    File(Arc<OwnedFd>),
    /// Buffers that it fills one after the other, and where they are.
    Read(Box<[libc::iovec]>, Vec<DmaBuffer>, Arc<OwnedFd>),
    /// Buffers that it reads one after the other, and where they are.
    Write(Box<[libc::iovec]>, Vec<Part>, Arc<OwnedFd>),
}

/// A request in flight.
#[derive(Debug)]
struct Request {
    phase: Phase,
    held: Held,
    /// Whether it is a wait, which is cancelled where nobody waits any more.
    is_wait: bool,
}

#[derive(Debug)]
enum Phase {
    Waits(Waker),
    Done(i32),
    /// Nobody waits for it any more.
    Abandoned,
}

/// The ring of one executor.
pub(super) struct Driver {
    ring: RefCell<IoUring>,
    requests: RefCell<Slab<Request>>,
    /// Requests in flight that nobody waits for.
    unattended: Cell<usize>,
    /// Completions on their way from the ring to who waits: a completion may make somebody use the
    /// ring.
    completed: RefCell<Vec<(u64, i32)>>,
    bell: RawFd,
    /// What the kernel reads the bell's counter into: eight bytes that live as long as the ring.
    rung: *mut u64,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests in flight", self.requests.borrow().len())
    }
}

impl Driver {
    /// Sets up a ring with room for `depth` requests at a time, which hears `bell`.
    pub fn new(depth: u32, bell: RawFd) -> io::Result<Self> {
        let driver = Self {
            ring: RefCell::new(ring(depth)?),
            requests: RefCell::default(),
            unattended: Cell::default(),
            completed: RefCell::default(),
            bell,
            rung: Box::into_raw(Box::new(0)),
        };
        driver.listen();
        Ok(driver)
    }

    fn listen(&self) {
        let read = opcode::Read::new(types::Fd(self.bell), self.rung.cast(), 8).build();
        self.push(&read.user_data(BELL));
    }

    /// Requests something that nobody waits for and that uses no memory.
    fn submit_unattended(&self, entry: squeue::Entry) {
        self.unattended.set(self.unattended.get() + 1);
        self.push(&entry.user_data(UNATTENDED));
    }

    fn push(&self, entry: &squeue::Entry) {
        let mut ring = self.ring.borrow_mut();
        loop {
            // SAFETY: what the entry points to is held in `requests` until its completion has come
            // (`Submission`), or is the bell's counter, which lives as long as the ring.
            if unsafe { ring.submission().push(entry) }.is_ok() {
                return;
            }
            // Full: the kernel takes all of them. What keeps it from that is that completions have
            // no room, and then they have to be taken first.
            match ring.submit() {
                Ok(_) => {}
                Err(error) if is_for_now(&error) => self.take(&mut ring),
                Err(error) => panic!("the ring does not take requests: {error}"),
            }
        }
    }

    fn take(&self, ring: &mut IoUring) {
        let mut completed = self.completed.borrow_mut();
        completed.extend(ring.completion().map(|it| (it.user_data(), it.result())));
    }

    /// Hands over what was requested and takes what has completed. With `wait` it waits for a
    /// completion, no longer than that.
    pub fn turn(&self, wait: Option<Option<Duration>>) {
        {
            let mut ring = self.ring.borrow_mut();
            let (is_empty, has_work) = {
                let queue = ring.submission();
                (queue.is_empty(), queue.taskrun() || queue.cq_overflow())
            };
            // What `push` has taken is there, though the ring may be empty.
            let is_due = ring.completion().is_empty() && self.completed.borrow().is_empty();
            let waits = wait.filter(|_| is_due);
            if let Some(longest) = waits {
                enter(&ring, longest);
            } else if !is_empty || has_work {
                report(ring.submit());
            }
            self.take(&mut ring);
        }
        self.deliver();
    }

    fn deliver(&self) {
        // Nobody below comes back here: who is woken is only made ready.
        let mut completed = std::mem::take(&mut *self.completed.borrow_mut());
        for (user_data, result) in completed.drain(..) {
            match user_data {
                UNATTENDED => self.unattended.set(self.unattended.get() - 1),
                BELL => self.listen(),
                id => self.complete(id as usize, result),
            }
        }
        // What a full submission queue took meanwhile stays; the memory is used again.
        let mut place = self.completed.borrow_mut();
        if place.is_empty() {
            *place = completed;
        }
    }

    fn complete(&self, id: usize, result: i32) {
        let mut requests = self.requests.borrow_mut();
        let request = &mut requests[id];
        match std::mem::replace(&mut request.phase, Phase::Done(result)) {
            Phase::Waits(waker) => {
                drop(requests);
                waker.wake();
            }
            Phase::Abandoned => {
                let held = requests.remove(id).held;
                drop(requests);
                self.release(held, result);
            }
            Phase::Done(_) => unreachable!("a request completes once"),
        }
    }

    /// Gives back what a request held whose completion nobody waited for.
    fn release(&self, held: Held, result: i32) {
        match held {
            Held::Nothing | Held::Number => {}
            Held::Path(_) => {
                if let Some(file) = opened(result) {
                    self.close_unattended(file);
                }
            }
            Held::File(file) | Held::Read(_, _, file) | Held::Write(_, _, file) => {
                if let Some(file) = Arc::into_inner(file) {
                    self.close_unattended(file);
                }
            }
        }
    }

    /// Closes a descriptor, without waiting for that.
    pub fn close_unattended(&self, file: OwnedFd) {
        self.submit_unattended(close(file));
    }

    /// Whether completions wait that were taken while something was requested.
    pub fn has_completed(&self) -> bool {
        !self.completed.borrow().is_empty()
    }

    /// Forgets who waits, so that their tasks end, and cancels what they wait for. Tasks that hold
    /// each other do not end, but they are not woken any more either.
    pub fn abandon(&self) {
        let (mut wakers, mut waits) = (Vec::new(), Vec::new());
        for (id, request) in self.requests.borrow_mut().iter_mut() {
            if let Phase::Waits(waker) = &mut request.phase {
                wakers.push(std::mem::replace(waker, Waker::noop().clone()));
                waits.extend(request.is_wait.then_some(id));
            }
        }
        drop(wakers);
        for id in waits {
            self.cancel(id);
        }
    }

    fn cancel(&self, id: usize) {
        self.submit_unattended(opcode::AsyncCancel::new(id as u64).build());
    }

    /// Waits until the kernel has given back everything, and closed what it is to close: what a
    /// worker has not begun when the ring goes is not done.
    pub fn drain(&self) {
        let in_flight = || {
            let requests = self.requests.borrow();
            let mut phases = requests.iter().map(|(_, request)| &request.phase);
            self.unattended.get() > 0 || phases.any(|phase| !matches!(phase, Phase::Done(_)))
        };
        while in_flight() {
            self.turn(Some(None));
        }
        self.turn(None);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Nothing is in flight where the executor ended in order: it has drained the ring. Else the
        // kernel may still use what is held, and the counter of the bell in any case.
        for (_, request) in self.requests.take() {
            if !matches!(request.phase, Phase::Done(_)) {
                std::mem::forget(request);
            }
        }
    }
}

/// The request that closes a descriptor on a worker of the kernel: the last one of a file that was
/// deleted frees its blocks, which takes its time.
pub(super) fn close(file: OwnedFd) -> squeue::Entry {
    let number = types::Fd(file.into_raw_fd());
    opcode::Close::new(number)
        .build()
        .flags(squeue::Flags::ASYNC)
}

/// The descriptor that a request to open a file has made.
fn opened(result: i32) -> Option<OwnedFd> {
    // SAFETY: the kernel opened it for that request, whose result is taken once.
    (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result) })
}

/// Sets up rings as so many executors do, and gives them back.
///
/// # Errors
/// The kernel has no rings for them.
pub fn check_rings(count: u16, depth: u32) -> io::Result<()> {
    let rings: io::Result<Vec<_>> = (0..count).map(|_| ring(depth)).collect();
    rings.map(drop)
}

/// A ring for one thread, with what this kernel has of what makes it cheap.
fn ring(depth: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETIONS.max(2 * depth));
    // Linux 6.1: completions are worked off when the thread asks for them, and nothing interrupts
    // it. 5.19: at least it is not interrupted by a signal to itself.
    let mut deferred = builder.clone();
    deferred
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag();
    let mut cooperative = builder.clone();
    cooperative.setup_coop_taskrun().setup_taskrun_flag();
    for candidate in [deferred, cooperative] {
        match candidate.build(depth) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            built => return built,
        }
    }
    builder.build(depth)
}

fn enter(ring: &IoUring, longest: Option<Duration>) {
    let entered = match longest {
        None => ring.submit_and_wait(1),
        Some(longest) => {
            let longest = types::Timespec::from(longest);
            let arguments = types::SubmitArgs::new().timespec(&longest);
            ring.submitter().submit_with_args(1, &arguments)
        }
    };
    report(entered);
}

/// The failures that mean nothing: a signal, a time that has passed, and completions without room,
/// which are taken next.
fn report(entered: io::Result<usize>) {
    match entered {
        Ok(_) => {}
        Err(error) if is_for_now(&error) => {}
        Err(error) => panic!("the ring is of no more use: {error}"),
    }
}

fn is_for_now(error: &io::Error) -> bool {
    const ERRORS: [i32; 4] = [libc::EINTR, libc::ETIME, libc::EBUSY, libc::EAGAIN];
    let code = error.raw_os_error();
    code.is_some_and(|code| ERRORS.contains(&code))
}

/// A request and the wait for its completion.
#[derive(Debug)]
pub(super) struct Submission {
    driver: Rc<Driver>,
    /// None once it has completed.
    id: Option<usize>,
}

impl Submission {
    /// Requests what `entry` says, which uses what is `held` and no other memory. With nothing
    /// held it is a wait.
    pub fn new(driver: &Rc<Driver>, entry: squeue::Entry, held: Held) -> Self {
        let request = Request {
            phase: Phase::Waits(Waker::noop().clone()),
            is_wait: matches!(held, Held::Nothing),
            held,
        };
        let id = driver.requests.borrow_mut().insert(request);
        driver.push(&entry.user_data(id as u64));
        Self {
            driver: Rc::clone(driver),
            id: Some(id),
        }
    }
}

impl Future for Submission {
    /// The kernel's result, and what was held.
    type Output = (io::Result<i32>, Held);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let id = this.id.expect("it is not polled after its end");
        let mut requests = this.driver.requests.borrow_mut();
        let request = &mut requests[id];
        match &mut request.phase {
            Phase::Waits(waker) => {
                // The one before may be a task's last handle. Dropping it only makes the task
                // ready to be dropped (async-task), so nobody comes back here.
                waker.clone_from(context.waker());
                Poll::Pending
            }
            Phase::Done(result) => {
                let code = *result;
                let result = match code {
                    failed if failed < 0 => Err(io::Error::from_raw_os_error(-failed)),
                    result => Ok(result),
                };
                this.id = None;
                let held = match requests.remove(id).held {
                    Held::Path(path) => {
                        opened(code).map_or(Held::Path(path), |file| Held::File(Arc::new(file)))
                    }
                    held => held,
                };
                Poll::Ready((result, held))
            }
            Phase::Abandoned => unreachable!("who waits has not given up"),
        }
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut requests = self.driver.requests.borrow_mut();
        let is_wait = requests[id].is_wait;
        let phase = std::mem::replace(&mut requests[id].phase, Phase::Abandoned);
        if let Phase::Done(result) = phase {
            let held = requests.remove(id).held;
            drop(requests);
            return self.driver.release(held, result);
        }
        drop(requests);
        if is_wait {
            self.driver.cancel(id);
        }
        // Its waker may be the last handle of a task, and drop it: last.
        drop(phase);
    }
}
