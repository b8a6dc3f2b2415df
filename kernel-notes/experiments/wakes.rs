//! The page `wakes.md`: how one core wakes another that sleeps in its ring.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};
use nix::sys::eventfd::EventFd;

use crate::measure::{Meter, Table, percentile_us, pin};
use crate::ring::queue;
use crate::tcp::{HERE, THERE};
use crate::{Options, Result};

const ROUNDS: usize = 4000;
/// Marks the completion that a wake brings.
const WOKEN: u64 = 1;
const ONE: [u8; 8] = 1_u64.to_ne_bytes();

/// How a message makes itself known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wake {
    /// The sleeper's ring reads a counter, which the other one adds to by a call of its own.
    Counter,
    /// As before, but the other one adds to it through its ring.
    CounterByRing,
    /// The other one's ring puts a completion into the sleeper's (Linux 5.18).
    Message,
    /// Nobody sleeps.
    Spinning,
}

pub fn measure(options: &Options) -> Result<()> {
    let columns = ["p50 µs", "p99 µs", "CPU µs of both"];
    let mut table = Table::new("there and back", &columns);
    for (name, wake) in [
        ("a counter, by write(2)", Wake::Counter),
        ("a counter, by the ring", Wake::CounterByRing),
        ("MSG_RING", Wake::Message),
        ("both spin", Wake::Spinning),
    ] {
        table.row(name, move || ping_pong(wake));
    }
    table.print(options);
    Ok(())
}

/// What the two threads share.
struct Shared {
    wake: Wake,
    /// The last turn that each was told of.
    turns: [AtomicU64; 2],
    counters: [EventFd; 2],
}

fn ping_pong(wake: Wake) -> Result<Vec<f64>> {
    let shared = Arc::new(Shared {
        wake,
        turns: [AtomicU64::new(0), AtomicU64::new(0)],
        counters: [EventFd::new()?, EventFd::new()?],
    });
    let (to_there, from_here) = channel();
    let (to_here, from_there) = channel();
    let theirs = Arc::clone(&shared);
    let other = thread::spawn(move || {
        let run = || -> Result<()> {
            let mut side = Side::new(THERE, theirs, &to_here, &from_here)?;
            for turn in 1..=ROUNDS as u64 {
                side.wait(turn)?;
                side.tell(turn)?;
            }
            Ok(())
        };
        run().map_err(|error| error.to_string())
    });
    let mut side = Side::new(HERE, shared, &to_there, &from_there)?;
    let mut latencies_ns = Vec::with_capacity(ROUNDS);
    let meter = Meter::start()?;
    for turn in 1..=ROUNDS as u64 {
        let began = Instant::now();
        side.tell(turn)?;
        side.wait(turn)?;
        latencies_ns.push(began.elapsed().as_nanos() as u64);
    }
    let used = meter.stop()?;
    other.join().map_err(|_| "the other side panicked")??;
    Ok(vec![
        percentile_us(&mut latencies_ns, 0.5),
        percentile_us(&mut latencies_ns, 0.99),
        used.process * 1e6 / ROUNDS as f64,
    ])
}

/// One of two threads, with a ring of its own.
struct Side {
    own: usize,
    peer: usize,
    peers_ring: RawFd,
    ring: IoUring,
    shared: Arc<Shared>,
    /// Where the ring reads the own counter to.
    read: Box<[u8; 8]>,
}

impl Side {
    /// `cpu` is 0 or 1, and the thread's number too.
    fn new(
        cpu: usize,
        shared: Arc<Shared>,
        to_other: &Sender<RawFd>,
        from_other: &Receiver<RawFd>,
    ) -> Result<Self> {
        pin(cpu)?;
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        let ring = builder.build(64)?;
        to_other.send(ring.as_raw_fd())?;
        let mut side = Self {
            own: cpu,
            peer: 1 - cpu,
            peers_ring: from_other.recv()?,
            ring,
            shared,
            read: Box::new([0; 8]),
        };
        side.arm()?;
        Ok(side)
    }

    /// Has the ring read the counter.
    fn arm(&mut self) -> Result<()> {
        if matches!(self.shared.wake, Wake::Counter | Wake::CounterByRing) {
            let counter = types::Fd(self.shared.counters[self.own].as_raw_fd());
            let entry = opcode::Read::new(counter, self.read.as_mut_ptr(), 8).build();
            // SAFETY: the bytes are in a box beside the ring, which is dropped before it.
            unsafe { queue(&mut self.ring, entry.user_data(WOKEN)) }?;
        }
        Ok(())
    }

    /// Tells the other side of a turn, and wakes it.
    fn tell(&mut self, turn: u64) -> Result<()> {
        self.shared.turns[self.peer].store(turn, Ordering::Release);
        let counter = &self.shared.counters[self.peer];
        match self.shared.wake {
            Wake::Counter => {
                counter.write(1)?;
            }
            Wake::CounterByRing => {
                let counter = types::Fd(counter.as_raw_fd());
                self.submit(opcode::Write::new(counter, ONE.as_ptr(), 8).build())?;
            }
            Wake::Message => {
                let ring = types::Fd(self.peers_ring);
                self.submit(opcode::MsgRingData::new(ring, 0, WOKEN, None).build())?;
            }
            Wake::Spinning => {}
        }
        Ok(())
    }

    fn submit(&mut self, entry: Entry) -> Result<()> {
        // SAFETY: an entry of `tell` points to a constant, or to nothing.
        unsafe { queue(&mut self.ring, entry.flags(Flags::SKIP_SUCCESS)) }?;
        self.ring.submit()?;
        Ok(())
    }

    /// Waits until this side was told of `turn`.
    fn wait(&mut self, turn: u64) -> Result<()> {
        while self.shared.turns[self.own].load(Ordering::Acquire) < turn {
            if self.shared.wake == Wake::Spinning {
                std::hint::spin_loop();
                continue;
            }
            self.ring.submit_and_wait(1)?;
            let woken = self.ring.completion().any(|end| end.user_data() == WOKEN);
            if woken {
                self.arm()?;
            }
        }
        Ok(())
    }
}
