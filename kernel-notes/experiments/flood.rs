//! The page `flood.md`: what a durable log costs a bare program that eight clients keep busy. One
//! thread with one ring receives whole frames into memory from which it writes them, copies nothing
//! and parses nothing. What comes to a file while its write is under way is written next, by one
//! call, which is the group commit.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;

use io_uring::{IoUring, opcode, types};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::durable::preallocate;
use crate::measure::{self, Meter, Table, gib, pin};
use crate::memory::{Memory, Pages};
use crate::ring::{Scratch, queue};
use crate::tcp::{self, HERE, REPLY, THERE};
use crate::{KIB, MIB, Options, Result};

const CLIENTS: usize = 8;
const FILES: usize = 6;
const FRAME_BYTES: usize = 64 * KIB;
/// Of each client.
const IN_FLIGHT: usize = 5;
/// Frames of all clients.
const FRAMES: usize = 2048 * MIB / FRAME_BYTES;
/// Frames that there is memory for: what clients have in flight, and what is written once and not
/// yet twice.
const SLOTS: usize = 1024;
const JOURNAL_BYTES: usize = 32 * MIB;
const COMMIT_FRAMES: usize = 2 * MIB / FRAME_BYTES;
const COMMITS_IN_FLIGHT: usize = 2;
/// From so many frames on a file that lags behind the journal is written.
const SETTLED_FRAMES: usize = MIB / FRAME_BYTES;

/// What is done with a frame; each of the first two has what those before it do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Receive,
    Check,
    /// Into its file, as [`Place`] says.
    Write(Place),
    /// Durably into a file of written blocks, with all that has come to other files, and then into
    /// its file, durably, in writes of a MiB.
    Journal,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Blocks that were never written, and no sync: it survives a kill.
    FreshUnsynced,
    /// The same, with `O_DSYNC`.
    Fresh,
    /// `O_DSYNC`, and blocks that were written before, as a recycled segment's.
    Written,
}

pub fn measure(options: &Options) -> Result<()> {
    pin(HERE)?;
    let columns = ["CPU s/GiB", "kernel threads s/GiB", "MB/s", "KiB a write"];
    let mut table = Table::new("eight clients, frames of 64 KiB", &columns);
    for (name, step) in [
        ("received", Step::Receive),
        ("and checked", Step::Check),
        ("and written, not synced", Step::Write(Place::FreshUnsynced)),
        ("and written durably", Step::Write(Place::Fresh)),
        ("the same, to written blocks", Step::Write(Place::Written)),
        ("through a journal, then durably", Step::Journal),
    ] {
        table.row(name, move || served(options, step));
    }
    table.print(options);
    Ok(())
}

fn served(options: &Options, step: Step) -> Result<Vec<f64>> {
    let scratches = scratches(options, step)?;
    let targets = scratches.iter().map(|scratch| Target::open(scratch, step));
    let targets = targets.collect::<Result<Vec<_>>>()?;
    let memory = Memory::new(SLOTS * FRAME_BYTES, Pages::Huge)?;
    let pairs = (0..CLIENTS).map(|_| tcp::pair());
    let (sockets, clients): (Vec<_>, Vec<_>) =
        pairs.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let mut server = Server {
        ring: IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(256)?,
        step,
        memory: &memory,
        connections: sockets.iter().map(Connection::new).collect(),
        free: (0..SLOTS).collect(),
        targets,
        outstanding: 0,
        answered: 0,
        writes: 0,
    };
    let meter = Meter::start()?;
    let client = thread::spawn(move || flood(clients).map_err(|error| error.to_string()));
    let run = server.run();
    // What the kernel was asked for points into `memory`.
    let drained = run.is_err().then(|| server.drain());
    let client = client.join().map_err(|_| "the client panicked")?;
    let used = meter.stop()?;
    run.and(drained.unwrap_or(Ok(())))?;
    let used_by_client = client?;
    let moved = gib(FRAMES * FRAME_BYTES);
    Ok(vec![
        (used.process - used_by_client) / moved,
        used.kernel_threads / moved,
        (FRAMES * FRAME_BYTES) as f64 / 1e6 / used.wall,
        (FRAMES * FRAME_BYTES / KIB) as f64 / server.writes.max(1) as f64,
    ])
}

/// The files, and behind them the journal.
fn scratches(options: &Options, step: Step) -> Result<Vec<Scratch>> {
    // Each client goes round all files.
    let bytes = FRAMES.div_ceil(FILES) * FRAME_BYTES + CLIENTS * FILES * FRAME_BYTES;
    let bytes = bytes.next_multiple_of(MIB);
    let count = match step {
        Step::Receive | Step::Check => 0,
        Step::Write(_) | Step::Journal => FILES,
    };
    let mut scratches = Vec::new();
    for number in 0..count {
        let name = format!("flood-{number}");
        scratches.push(match step {
            Step::Write(Place::Written) => Scratch::written(&options.dir, &name, bytes)?,
            _ => Scratch::empty(&options.dir, &name)?,
        });
        if step != Step::Write(Place::Written) {
            let file = scratches[number].open(0)?;
            preallocate(&file, bytes, 0)?;
            file.sync_all()?;
        }
    }
    if step == Step::Journal {
        scratches.push(Scratch::written(
            &options.dir,
            "flood-journal",
            JOURNAL_BYTES,
        )?);
    }
    Ok(scratches)
}

/// A frame in memory, and whose it is.
#[derive(Clone, Copy, Debug)]
struct Frame {
    slot: usize,
    connection: usize,
    file: usize,
}

/// A file, or the journal.
struct Target {
    file: File,
    position: usize,
    waiting: VecDeque<Frame>,
    /// What is being written, by lanes.
    lanes: Vec<Lane>,
}

#[derive(Default)]
struct Lane {
    frames: Vec<Frame>,
    vectors: Vec<libc::iovec>,
}

impl Target {
    fn open(scratch: &Scratch, step: Step) -> Result<Self> {
        let dsync = match step {
            Step::Write(Place::FreshUnsynced) => 0,
            _ => libc::O_DSYNC,
        };
        Ok(Self {
            file: scratch.open(libc::O_DIRECT | dsync)?,
            position: 0,
            waiting: VecDeque::new(),
            lanes: (0..COMMITS_IN_FLIGHT).map(|_| Lane::default()).collect(),
        })
    }
}

struct Connection<'a> {
    socket: &'a TcpStream,
    receiving: Option<usize>,
    to_come: usize,
    received: usize,
    replies: usize,
}

impl<'a> Connection<'a> {
    fn new(socket: &'a TcpStream) -> Self {
        Self {
            socket,
            receiving: None,
            to_come: FRAMES / CLIENTS,
            received: 0,
            replies: 0,
        }
    }
}

const RECEIVED: u64 = 0;
const SENT: u64 = 1;
const WRITTEN: u64 = 2;
/// As many replies as one call may send.
static REPLIES: [u8; REPLY.len() * IN_FLIGHT] = [7; REPLY.len() * IN_FLIGHT];

struct Server<'a> {
    ring: IoUring,
    step: Step,
    memory: &'a Memory,
    connections: Vec<Connection<'a>>,
    free: Vec<usize>,
    targets: Vec<Target>,
    outstanding: usize,
    answered: usize,
    writes: usize,
}

impl Server<'_> {
    fn run(&mut self) -> Result<()> {
        loop {
            self.receive()?;
            self.write()?;
            self.send()?;
            if self.outstanding == 0 {
                return Ok(());
            }
            self.ring.submit_and_wait(1)?;
            for (tag, result) in self.ended() {
                let (kind, which) = (tag >> 32, (tag & u64::from(u32::MAX)) as usize);
                match kind {
                    RECEIVED => self.received(which, result)?,
                    SENT => whole(result, result.max(0) as usize)?,
                    _ => {
                        self.written(which / COMMITS_IN_FLIGHT, which % COMMITS_IN_FLIGHT, result)?
                    }
                }
            }
        }
    }

    /// Ends the connections, and waits for all that was begun.
    fn drain(&mut self) -> Result<()> {
        for connection in &self.connections {
            connection.socket.shutdown(std::net::Shutdown::Both)?;
        }
        while self.outstanding > 0 {
            self.ring.submit_and_wait(1)?;
            self.ended();
        }
        Ok(())
    }

    fn ended(&mut self) -> Vec<(u64, i32)> {
        let ended = self.ring.completion();
        let ended: Vec<_> = ended.map(|end| (end.user_data(), end.result())).collect();
        self.outstanding -= ended.len();
        ended
    }

    fn push(&mut self, entry: io_uring::squeue::Entry, kind: u64, which: usize) -> Result<()> {
        self.outstanding += 1;
        // SAFETY: it points into the memory, a lane or a constant; `drain` waits for its end.
        unsafe { queue(&mut self.ring, entry.user_data(kind << 32 | which as u64)) }
    }

    fn slot(&self, slot: usize) -> *mut u8 {
        assert!(slot < SLOTS);
        // SAFETY: the memory has that many slots.
        unsafe { self.memory.as_mut_ptr().add(slot * FRAME_BYTES) }
    }

    fn receive(&mut self) -> Result<()> {
        for which in 0..self.connections.len() {
            let connection = &self.connections[which];
            if connection.receiving.is_some() || connection.to_come == 0 {
                continue;
            }
            let Some(slot) = self.free.pop() else {
                return Ok(());
            };
            let fd = types::Fd(self.connections[which].socket.as_raw_fd());
            let entry = opcode::Recv::new(fd, self.slot(slot), FRAME_BYTES as u32);
            self.connections[which].receiving = Some(slot);
            self.connections[which].to_come -= 1;
            self.push(entry.flags(libc::MSG_WAITALL).build(), RECEIVED, which)?;
        }
        Ok(())
    }

    fn received(&mut self, which: usize, result: i32) -> Result<()> {
        whole(result, FRAME_BYTES)?;
        let connection = &mut self.connections[which];
        let slot = connection.receiving.take().ok_or("nothing was received")?;
        connection.received += 1;
        let frame = Frame {
            slot,
            connection: which,
            file: (which + connection.received) % FILES,
        };
        if self.step != Step::Receive {
            let bytes = &self.memory.as_slice()[slot * FRAME_BYTES..][..FRAME_BYTES];
            std::hint::black_box(crc32c::crc32c(bytes));
        }
        match self.step {
            Step::Receive | Step::Check => {
                self.answer(frame);
                self.free.push(slot);
            }
            Step::Write(_) => self.targets[frame.file].waiting.push_back(frame),
            Step::Journal => self.targets[FILES].waiting.push_back(frame),
        }
        Ok(())
    }

    fn answer(&mut self, frame: Frame) {
        self.connections[frame.connection].replies += 1;
        self.answered += 1;
    }

    fn write(&mut self) -> Result<()> {
        for number in 0..self.targets.len() {
            let is_journal = number == FILES;
            let (lanes, least, most) = match (self.step, is_journal) {
                (Step::Journal, true) => (COMMITS_IN_FLIGHT, 1, COMMIT_FRAMES),
                // At the end the rest goes too.
                (Step::Journal, false) if self.answered == FRAMES => (1, 1, SETTLED_FRAMES),
                (Step::Journal, false) => (1, SETTLED_FRAMES, SETTLED_FRAMES),
                _ => (1, 1, SETTLED_FRAMES),
            };
            let target = &mut self.targets[number];
            let idle = target.lanes[..lanes]
                .iter()
                .position(|lane| lane.frames.is_empty());
            let Some(lane) = idle.filter(|_| target.waiting.len() >= least) else {
                continue;
            };
            let count = target.waiting.len().min(most);
            let frames: Vec<_> = target.waiting.drain(..count).collect();
            let vectors = frames.iter().map(|frame| libc::iovec {
                iov_base: self.slot(frame.slot).cast(),
                iov_len: FRAME_BYTES,
            });
            let vectors: Vec<_> = vectors.collect();
            let target = &mut self.targets[number];
            if is_journal && target.position + count * FRAME_BYTES > JOURNAL_BYTES {
                target.position = 0;
            }
            let fd = types::Fd(target.file.as_raw_fd());
            target.lanes[lane] = Lane { frames, vectors };
            let vectors = &target.lanes[lane].vectors;
            let entry = opcode::Writev::new(fd, vectors.as_ptr(), vectors.len() as u32)
                .offset(target.position as u64)
                .build();
            target.position += count * FRAME_BYTES;
            self.writes += 1;
            self.push(entry, WRITTEN, number * COMMITS_IN_FLIGHT + lane)?;
        }
        Ok(())
    }

    fn written(&mut self, number: usize, lane: usize, result: i32) -> Result<()> {
        let Lane { frames, .. } = std::mem::take(&mut self.targets[number].lanes[lane]);
        whole(result, frames.len() * FRAME_BYTES)?;
        for frame in frames {
            match (self.step, number == FILES) {
                (Step::Journal, true) => {
                    self.answer(frame);
                    self.targets[frame.file].waiting.push_back(frame);
                }
                (Step::Journal, false) => self.free.push(frame.slot),
                _ => {
                    self.answer(frame);
                    self.free.push(frame.slot);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        for which in 0..self.connections.len() {
            let connection = &mut self.connections[which];
            let replies = std::mem::take(&mut connection.replies);
            if replies > 0 {
                let fd = types::Fd(connection.socket.as_raw_fd());
                let length = (replies * REPLY.len()) as u32;
                let entry = opcode::Send::new(fd, REPLIES.as_ptr(), length).build();
                self.push(entry, SENT, which)?;
            }
        }
        Ok(())
    }
}

fn whole(result: i32, bytes: usize) -> Result<()> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result).into());
    }
    match result as usize == bytes {
        true => Ok(()),
        false => Err(format!("{result} of {bytes} bytes").into()),
    }
}

/// The clients, all of one thread: what they used, in CPU seconds.
fn flood(mut sockets: Vec<TcpStream>) -> Result<f64> {
    pin(THERE)?;
    let frame = vec![7; FRAME_BYTES];
    let mut to_send = vec![FRAMES / CLIENTS; CLIENTS];
    let mut bytes_of_replies = [0; CLIENTS];
    for (socket, to_send) in sockets.iter_mut().zip(&mut to_send) {
        for _ in 0..IN_FLIGHT {
            socket.write_all(&frame)?;
            *to_send -= 1;
        }
    }
    let mut answered = 0;
    let mut replies = [0; REPLIES.len()];
    while answered < FRAMES {
        let polled = |socket: &TcpStream| -> Result<bool> {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
        };
        let fds = sockets
            .iter()
            .map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN));
        poll(&mut fds.collect::<Vec<_>>(), PollTimeout::NONE)?;
        for which in 0..CLIENTS {
            if !polled(&sockets[which])? {
                continue;
            }
            let bytes = sockets[which].read(&mut replies)?;
            if bytes == 0 {
                return Err("the server has closed".into());
            }
            bytes_of_replies[which] += bytes;
            while bytes_of_replies[which] >= REPLY.len() {
                bytes_of_replies[which] -= REPLY.len();
                answered += 1;
                if to_send[which] > 0 {
                    to_send[which] -= 1;
                    sockets[which].write_all(&frame)?;
                }
            }
        }
    }
    measure::thread_seconds()
}
