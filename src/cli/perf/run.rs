//! Runs a load: all connections on this thread, which sleeps while there is nothing to do.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::super::CliError;
use super::super::progress::Progress;
use super::super::stop::Stop;
use super::consumer::Consumer;
use super::producer::Producer;
use super::socket::Socket;
use super::tally::{Tally, Window};
use super::usage::{KernelThreads, Usage};

/// Waits that are shorter are not slept through: waking up would take longer.
const SPUN_NANOSECONDS: u64 = 60_000;

/// The longest sleep.
const ASLEEP_NANOSECONDS: u64 = 100_000_000;

/// How long answers are waited for that are still under way when the measured time is over.
const DRAINED_WITHIN_NANOSECONDS: u64 = 10_000_000_000;

/// How long before the measured time the kernel's threads are looked at.
const LOOKED_BEFORE_NANOSECONDS: u64 = 30_000_000;

/// What a connection is for.
#[derive(Debug)]
pub enum Role {
    Producer(Box<Producer>),
    Consumer(Box<Consumer>),
}

/// A connection of the load.
#[derive(Debug)]
pub struct Link {
    /// Which of the load's kinds it counts to.
    pub kind: usize,
    pub role: Role,
    pub socket: Socket,
}

/// What is run.
#[derive(Debug)]
pub struct Plan {
    pub links: Vec<Link>,
    /// How many kinds of load there are.
    pub kinds: usize,
    pub window: Window,
    /// How many records the producers send at most.
    pub records_max: u64,
    /// The broker whose CPU time is read.
    pub pid: Option<u32>,
}

/// What came of it.
#[derive(Debug)]
pub struct Measured {
    /// By kind of load.
    pub tallies: Vec<Tally>,
    /// How long was measured.
    pub seconds: f64,
    /// What the broker has used meanwhile.
    pub usage: Option<BrokerUsage>,
    /// Records that were due and were never acknowledged.
    pub overdue: u64,
}

/// What a broker has used while it was measured.
#[derive(Clone, Copy, Debug)]
pub struct BrokerUsage {
    /// CPU seconds of its process.
    pub seconds: f64,
    /// CPU seconds of the kernel's own threads, whoever they worked for.
    pub kernel_threads_seconds: f64,
    /// Its memory at the end, in bytes.
    pub resident_bytes: u64,
}

struct Run {
    plan: Plan,
    began: Instant,
    kernel_before: Option<KernelThreads>,
    used_before: Option<Usage>,
    used: Option<Usage>,
    ended: Option<u64>,
}

/// Runs `plan` from `began` on until its time is over, everything is done, or somebody stops it.
pub fn run(plan: Plan, began: Instant, stop: &Stop) -> Result<Measured, CliError> {
    // The kernel would let sleeps be 50 us longer, to save power.
    nix::sys::prctl::set_timerslack(1)
        .map_err(|error| CliError::failed("the timer slack", error))?;
    let left = Rc::new(Cell::new(plan.records_max));
    let mut run = Run {
        plan,
        began,
        kernel_before: None,
        used_before: None,
        used: None,
        ended: None,
    };
    for link in &mut run.plan.links {
        match &mut link.role {
            Role::Producer(producer) => producer.bound(&left, run.plan.window),
            Role::Consumer(consumer) => consumer.bound(run.plan.window),
        }
    }
    let mut progress = Progress::new("records", None, false);
    while !stop.is_requested() {
        let now = run.now();
        run.read_usage(now)?;
        if run.is_over(now, left.get()) {
            break;
        }
        let wake = run.fill(now)?;
        run.wait(wake)?;
        progress.at(run.plan.links.iter().map(|link| link.tally().records).sum());
    }
    run.measured()
}

impl Run {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Reads what the broker has used where the measured time begins and where it ends.
    fn read_usage(&mut self, now: u64) -> Result<(), CliError> {
        let Some(pid) = self.plan.pid else {
            return Ok(());
        };
        // Looking at all processes takes its time, of which no record may have any.
        if self.kernel_before.is_none() && now + LOOKED_BEFORE_NANOSECONDS >= self.plan.window.from
        {
            self.kernel_before = Some(KernelThreads::now());
        }
        if self.used_before.is_none() && now >= self.plan.window.from {
            self.used_before = Some(Usage::of(pid)?);
        }
        if self.used.is_none() && now >= self.plan.window.to {
            self.used = Some(Usage::of(pid)?);
        }
        Ok(())
    }

    /// Whether there is nothing more to wait for.
    fn is_over(&mut self, now: u64, left: u64) -> bool {
        let window = self.plan.window;
        let links = &self.plan.links;
        let is_idle = links.iter().all(|link| match &link.role {
            Role::Producer(producer) => producer.is_idle() && link.socket.out_bytes() == 0,
            Role::Consumer(_) => true,
        });
        let mut roles = links.iter().map(|link| &link.role);
        let is_done = roles.all(|role| match role {
            Role::Producer(_) => left == 0 && is_idle,
            Role::Consumer(consumer) => consumer.is_done(),
        });
        if is_done {
            self.ended = Some(now);
            return true;
        }
        if now < window.to {
            return false;
        }
        now >= window.to.saturating_add(DRAINED_WITHIN_NANOSECONDS)
            || (is_idle && self.overdue() == 0 && self.has_received_all())
    }

    /// Whether consumers that measure how long records were under way have had all of them.
    fn has_received_all(&self) -> bool {
        let records = |wanted: &dyn Fn(&Role) -> bool| {
            let links = self.plan.links.iter().filter(|link| wanted(&link.role));
            links.map(|link| link.tally().records).sum::<u64>()
        };
        let is_timed = |role: &Role| matches!(role, Role::Consumer(it) if it.is_timed());
        let is_paced = |role: &Role| matches!(role, Role::Producer(it) if it.is_paced());
        let has_timed = self.plan.links.iter().any(|link| is_timed(&link.role));
        !has_timed || records(&is_timed) >= records(&is_paced)
    }

    fn overdue(&self) -> u64 {
        let now = self.now();
        let overdue = |link: &Link| match &link.role {
            Role::Producer(producer) => producer.overdue(now),
            Role::Consumer(_) => 0,
        };
        self.plan.links.iter().map(overdue).sum()
    }

    /// Sends what may be sent. When the next record is due.
    fn fill(&mut self, now: u64) -> Result<u64, CliError> {
        let mut wake = now + ASLEEP_NANOSECONDS;
        let is_over = now >= self.plan.window.to;
        for link in &mut self.plan.links {
            match &mut link.role {
                // The last records are due before the end and may be sent behind it.
                Role::Producer(producer) if !is_over || producer.is_paced() => {
                    let due = producer.fill(&mut link.socket, now)?;
                    wake = wake.min(due.unwrap_or(u64::MAX));
                }
                Role::Producer(_) => {}
                Role::Consumer(consumer) => consumer.fill(&mut link.socket, now)?,
            }
            link.socket.flush().map_err(lost)?;
        }
        if now < self.plan.window.to {
            wake = wake.min(self.plan.window.to);
        }
        if now < self.plan.window.from {
            let looked_at = self
                .plan
                .window
                .from
                .saturating_sub(LOOKED_BEFORE_NANOSECONDS);
            wake = wake.min(if now < looked_at {
                looked_at
            } else {
                self.plan.window.from
            });
        }
        Ok(wake)
    }

    /// Sleeps until something comes, something can be sent, or `wake`, and takes what has come.
    fn wait(&mut self, wake: u64) -> Result<(), CliError> {
        let left = wake.saturating_sub(self.now());
        let left = if left < SPUN_NANOSECONDS { 0 } else { left };
        let ready: Vec<bool> = {
            let interest = |link: &Link| match link.socket.out_bytes() {
                0 => PollFlags::POLLIN,
                _ => PollFlags::POLLIN | PollFlags::POLLOUT,
            };
            let links = self.plan.links.iter();
            let mut fds: Vec<_> = links
                .map(|link| PollFd::new(link.socket.as_fd(), interest(link)))
                .collect();
            match ppoll(
                &mut fds,
                Some(TimeSpec::from(Duration::from_nanos(left))),
                None,
            ) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(CliError::failed("waiting", error)),
            }
            fds.iter().map(|fd| fd.any().unwrap_or(true)).collect()
        };
        let is_ready = |at: usize| ready[at];
        let began = self.began;
        for (at, link) in self.plan.links.iter_mut().enumerate() {
            if is_ready(at) {
                link.take(began)?;
            }
        }
        Ok(())
    }

    fn tallies(&self) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); self.plan.kinds];
        for link in &self.plan.links {
            tallies[link.kind].add(link.tally());
        }
        tallies
    }

    fn measured(mut self) -> Result<Measured, CliError> {
        let now = self.now();
        let window = self.plan.window;
        let end = self.ended.unwrap_or(now).min(window.to);
        if let (Some(pid), None) = (self.plan.pid, self.used) {
            self.used = Some(Usage::of(pid)?);
        }
        let usage = self.used.zip(self.used_before);
        let usage = usage.map(|(after, before)| BrokerUsage {
            seconds: after.seconds - before.seconds,
            kernel_threads_seconds: self.kernel_before.as_ref().map_or(0.0, |it| it.seconds()),
            resident_bytes: after.resident_bytes,
        });
        Ok(Measured {
            tallies: self.tallies(),
            seconds: Duration::from_nanos(end.saturating_sub(window.from)).as_secs_f64(),
            usage,
            overdue: self.overdue(),
        })
    }
}

impl Link {
    fn tally(&self) -> &Tally {
        match &self.role {
            Role::Producer(producer) => &producer.tally,
            Role::Consumer(consumer) => &consumer.tally,
        }
    }

    /// Takes what has come.
    fn take(&mut self, began: Instant) -> Result<(), CliError> {
        self.socket.flush().map_err(lost)?;
        if !self.socket.fill().map_err(lost)? {
            return Ok(());
        }
        while let Some(frame) = self.socket.frame().map_err(lost)? {
            let now = began.elapsed().as_nanos() as u64;
            match &mut self.role {
                Role::Producer(producer) => producer.answered(&frame, now)?,
                Role::Consumer(consumer) => consumer.answered(&frame, &mut self.socket, now)?,
            }
            self.socket.recycle(frame);
        }
        Ok(())
    }
}

fn lost(error: std::io::Error) -> CliError {
    CliError::failed("the connection to the broker was lost", error)
}
