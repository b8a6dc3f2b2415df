//! The page `rings.md`: what a ring's flags and its depth change for small writes, small receives
//! and for a ring that stands behind another one, as in the runtime.

#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::thread;
use std::time::Instant;

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};

use crate::measure::{self, Meter, Table, percentile_us, pin};
use crate::memory::{Memory, Pages};
use crate::ring::{self, Load, Operation, Scratch, queue};
use crate::tcp::{self, HERE, REPLY, REQUEST_BYTES, THERE, ask};
use crate::{KIB, MIB, Options, Result};

const FILE_BYTES: usize = 32 * MIB;
const ECHOES: usize = 4000;

/// How a ring is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flags {
    None,
    Coop,
    Single,
    Defer,
    Poll,
}

const ALL: [(&str, Flags); 5] = [
    ("no flag (the runtime's)", Flags::None),
    ("COOP_TASKRUN", Flags::Coop),
    ("COOP_TASKRUN, SINGLE_ISSUER", Flags::Single),
    ("DEFER_TASKRUN, SINGLE_ISSUER", Flags::Defer),
    ("SQPOLL, sleeping after 1 ms", Flags::Poll),
];

fn ring(flags: Flags, depth: u32) -> Result<IoUring> {
    let mut builder = IoUring::builder();
    match flags {
        Flags::None => &mut builder,
        Flags::Coop => builder.setup_coop_taskrun(),
        Flags::Single => builder.setup_coop_taskrun().setup_single_issuer(),
        Flags::Defer => builder.setup_defer_taskrun().setup_single_issuer(),
        Flags::Poll => builder.setup_sqpoll(1).setup_sqpoll_cpu(THERE as u32),
    };
    Ok(builder.build(depth)?)
}

pub fn measure(options: &Options) -> Result<()> {
    pin(HERE)?;
    nothing(options);
    fixed_files(options)?;
    depths(options);
    writes(options)?;
    for connections in [1, 16] {
        echoes(options, connections);
    }
    Ok(())
}

/// Operations that do nothing: the ring alone.
fn nothing(options: &Options) {
    let mut table = Table::new(
        "an operation that does nothing",
        &["µs, 1 a call", "µs, 32 a call"],
    );
    for (name, flags) in ALL {
        table.row(name, move || {
            let mut ring = ring(flags, 256)?;
            let mut figures = Vec::new();
            for batch in [1, 32] {
                let turns = 64_000 / batch;
                let before = Meter::start()?;
                for _ in 0..turns {
                    for _ in 0..batch {
                        // SAFETY: the entry points to nothing.
                        unsafe { queue(&mut ring, opcode::Nop::new().build()) }?;
                    }
                    ring.submit_and_wait(batch)?;
                    ring.completion().for_each(drop);
                }
                let used = before.stop()?.process;
                figures.push(used * 1e6 / (turns * batch) as f64);
            }
            Ok(figures)
        });
    }
    table.print(options);
}

/// Writes that go nowhere: what it costs the ring to find their file.
fn fixed_files(options: &Options) -> Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    let columns = ["µs, 1 a call", "µs, 32 a call"];
    let mut table = Table::new("a write to /dev/null, DEFER_TASKRUN", &columns);
    for (name, is_fixed) in [("by its descriptor", false), ("by a fixed file", true)] {
        let null = &null;
        table.row(name, move || {
            let mut ring = ring(Flags::Defer, 256)?;
            ring.submitter().register_files(&[null.as_raw_fd()])?;
            let byte = [7_u8];
            let entry = match is_fixed {
                true => opcode::Write::new(types::Fixed(0), byte.as_ptr(), 1).build(),
                false => opcode::Write::new(types::Fd(null.as_raw_fd()), byte.as_ptr(), 1).build(),
            };
            let mut figures = Vec::new();
            for batch in [1, 32] {
                let turns = 64_000 / batch;
                let before = Meter::start()?;
                for _ in 0..turns {
                    for _ in 0..batch {
                        // SAFETY: the byte outlives the ring's use of it, which ends below.
                        unsafe { queue(&mut ring, entry.clone()) }?;
                    }
                    ring.submit_and_wait(batch)?;
                    ring.completion().for_each(drop);
                }
                figures.push(before.stop()?.process * 1e6 / (turns * batch) as f64);
            }
            Ok(figures)
        });
    }
    table.print(options);
    Ok(())
}

fn depths(options: &Options) {
    let mut table = Table::new(
        "depth",
        &["set up, µs", "an operation, µs", "KiB of queues"],
    );
    for depth in [8_u32, 64, 256, 1024, 4096] {
        table.row(depth.to_string(), move || {
            let began = Instant::now();
            let mut ring = ring(Flags::None, depth)?;
            let set_up = began.elapsed().as_secs_f64() * 1e6;
            let turns = 20_000;
            let before = measure::thread_seconds()?;
            for _ in 0..turns {
                // SAFETY: the entry points to nothing.
                unsafe { queue(&mut ring, opcode::Nop::new().build()) }?;
                ring.submit_and_wait(1)?;
                ring.completion().for_each(drop);
            }
            let used = measure::thread_seconds()? - before;
            let queues = ring.params().sq_entries() * 64 + ring.params().cq_entries() * 16;
            Ok(vec![
                set_up,
                used * 1e6 / f64::from(turns),
                f64::from(queues) / 1024.0,
            ])
        });
    }
    table.print(options);
}

fn writes(options: &Options) -> Result<()> {
    let scratch = Scratch::written(&options.dir, "rings", FILE_BYTES)?;
    let file = scratch.open(libc::O_DIRECT | libc::O_DSYNC)?;
    let memory = Memory::new(MIB, Pages::Small)?;
    for (unit, in_flight, count) in [(4, 1, 1500), (4, 16, 4000), (64, 4, 1500)] {
        let title = format!("writes of {unit} KiB, O_DSYNC, {in_flight} in flight");
        let mut table = Table::new(&title, &["CPU µs", "kernel threads µs", "p50 µs", "p99 µs"]);
        for (name, flags) in ALL {
            let (file, memory) = (&file, &memory);
            table.row(name, move || {
                let mut ring = ring(flags, 256)?;
                let load = Load {
                    operation: Operation::Write,
                    file,
                    file_bytes: FILE_BYTES,
                    memory,
                    unit: unit * KIB,
                    in_flight,
                    count,
                };
                let meter = Meter::start()?;
                let mut latencies_ns = ring::run(&mut ring, &load)?;
                let used = meter.stop()?;
                Ok(vec![
                    used.process * 1e6 / count as f64,
                    used.kernel_threads * 1e6 / count as f64,
                    percentile_us(&mut latencies_ns, 0.5),
                    percentile_us(&mut latencies_ns, 0.99),
                ])
            });
        }
        table.print(options);
    }
    Ok(())
}

/// How a server waits for the next request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Receive {
    /// A one-shot poll in the ring, then a plain receive: as the broker does.
    Poll,
    /// A receive in the ring.
    Ring,
    /// As `Poll`, but what is waited on is another ring, which polls this one: as in the runtime.
    PollBehindAnother,
    /// By epoll, without a ring.
    Epoll,
}

fn echoes(options: &Options, connections: usize) {
    let title = format!("requests of 100 bytes, {connections} connections");
    let columns = ["server µs of CPU", "p50 µs", "p99 µs"];
    let mut table = Table::new(&title, &columns);
    for (name, flags) in ALL {
        for (kind, receive) in [("poll", Receive::Poll), ("receive", Receive::Ring)] {
            table.row(format!("{kind} by the ring, {name}"), move || {
                echoed(flags, receive, connections)
            });
        }
    }
    for flags in [Flags::None, Flags::Coop] {
        let name = format!("poll by a ring behind another one, {flags:?}");
        table.row(name, move || {
            echoed(flags, Receive::PollBehindAnother, connections)
        });
    }
    table.row("epoll", move || {
        echoed(Flags::None, Receive::Epoll, connections)
    });
    table.print(options);
}

fn echoed(flags: Flags, receive: Receive, connections: usize) -> Result<Vec<f64>> {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for _ in 0..connections {
        let (server, client) = tcp::pair()?;
        here.push(server);
        there.push(client);
    }
    let each = ECHOES / connections;
    let clients = thread::spawn(move || ask(there, each).map_err(|error| error.to_string()));
    let server = Server {
        sockets: here,
        buffers: vec![[0; REQUEST_BYTES]; connections],
    };
    let before = Meter::start()?;
    match receive {
        Receive::Epoll => server.by_epoll(ECHOES)?,
        _ => server.by_ring(ring(flags, 256)?, ring(flags, 256)?, receive, ECHOES)?,
    }
    let used = before.stop()?;
    let (mut latencies_ns, client) = clients.join().map_err(|_| "a client panicked")??;
    Ok(vec![
        (used.process - client) * 1e6 / ECHOES as f64,
        percentile_us(&mut latencies_ns, 0.5),
        percentile_us(&mut latencies_ns, 0.99),
    ])
}

struct Server {
    sockets: Vec<TcpStream>,
    buffers: Vec<[u8; REQUEST_BYTES]>,
}

impl Server {
    fn wait(&mut self, index: usize, receive: Receive) -> Entry {
        let fd = types::Fd(self.sockets[index].as_raw_fd());
        let entry = match receive {
            Receive::Ring => {
                let buffer = &mut self.buffers[index];
                opcode::Recv::new(fd, buffer.as_mut_ptr(), REQUEST_BYTES as u32).build()
            }
            _ => opcode::PollAdd::new(fd, libc::POLLIN as u32).build(),
        };
        entry.user_data(index as u64)
    }

    fn answer(&mut self, index: usize, has_received: bool) -> Result<()> {
        let (socket, buffer) = (&mut self.sockets[index], &mut self.buffers[index]);
        if !has_received {
            socket.read_exact(buffer)?;
        }
        Ok(socket.write_all(&REPLY)?)
    }

    fn by_ring(
        mut self,
        mut ring: IoUring,
        mut outer: IoUring,
        receive: Receive,
        count: usize,
    ) -> Result<()> {
        let is_behind = receive == Receive::PollBehindAnother;
        for index in 0..self.sockets.len() {
            let entry = self.wait(index, receive);
            // SAFETY: sockets and buffers live until the ring is dropped at the end of `by_ring`,
            // where nothing is under way that would write to a buffer: all have been answered.
            unsafe { queue(&mut ring, entry) }?;
        }
        let mut answered = 0;
        let mut left = vec![count / self.sockets.len(); self.sockets.len()];
        while answered < count {
            if is_behind {
                ring.submit()?;
                wait_for(&mut outer, ring.as_raw_fd())?;
            }
            // Behind another one it finds what has come, and has a deferring ring look.
            ring.submit_and_wait(1)?;
            let ended: Vec<_> = ring
                .completion()
                .map(|end| (end.user_data(), end.result()))
                .collect();
            for (index, result) in ended {
                if receive == Receive::Ring && result != REQUEST_BYTES as i32 {
                    return Err(format!("received {result}").into());
                }
                self.answer(index as usize, receive == Receive::Ring)?;
                answered += 1;
                left[index as usize] -= 1;
                if left[index as usize] > 0 {
                    let entry = self.wait(index as usize, receive);
                    // SAFETY: as above.
                    unsafe { queue(&mut ring, entry) }?;
                }
            }
        }
        Ok(())
    }

    fn by_epoll(mut self, count: usize) -> Result<()> {
        use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (index, socket) in self.sockets.iter().enumerate() {
            epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        }
        let mut events = vec![EpollEvent::empty(); self.sockets.len()];
        let mut answered = 0;
        while answered < count {
            let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
            for event in &events[..ready] {
                self.answer(event.data() as usize, false)?;
                answered += 1;
            }
        }
        Ok(())
    }
}

/// Sleeps until the inner ring has completions.
fn wait_for(outer: &mut IoUring, inner: RawFd) -> Result<()> {
    let entry = opcode::PollAdd::new(types::Fd(inner), libc::POLLIN as u32).build();
    // SAFETY: the entry points to no memory.
    unsafe { queue(outer, entry) }?;
    outer.submit_and_wait(1)?;
    outer.completion().for_each(drop);
    Ok(())
}
