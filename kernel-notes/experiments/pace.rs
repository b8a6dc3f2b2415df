//! The page `pace.md`: what a durable write costs a server that a single client keeps half asleep.
//! A bare blocking loop receives frames, checks them, writes them with `O_DSYNC` into blocks that
//! were written before, and replies; the client sends at a pace, with a bounded number in flight.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{self, Meter, Table, gib, pin};
use crate::memory::{Memory, Pages};
use crate::ring::Scratch;
use crate::tcp::{self, HERE, REPLY, THERE};
use crate::{KIB, MIB, Options, Result};

const MOVED_BYTES: usize = 384 * MIB;
/// As many as Kafka's own producer sends before it waits (`max.in.flight.requests.per.connection`).
const IN_FLIGHT: usize = 5;
/// What is written a second time goes in pieces of this size.
const SECOND_WRITE_BYTES: usize = 512 * KIB;

/// What the server does with a frame; each step has all of those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Receive,
    Check,
    /// One durable write a frame.
    Write,
    /// And another one a [`SECOND_WRITE_BYTES`], as from a journal into segments.
    WriteTwice,
}

#[derive(Clone, Copy)]
struct Load {
    frame_bytes: usize,
    /// Bytes in a second; none for as fast as the replies come.
    pace: Option<usize>,
}

pub fn measure(options: &Options) -> Result<()> {
    pin(HERE)?;
    for frame_kib in [64, 208, 1024] {
        for pace in [Some(100), Some(200), None] {
            let load = Load {
                frame_bytes: frame_kib * KIB,
                pace: pace.map(|mb| mb * 1_000_000),
            };
            let shown = pace.map_or("as fast as it goes".to_owned(), |mb| format!("{mb} MB/s"));
            let title = format!("frames of {frame_kib} KiB, {shown}");
            let columns = ["CPU s/GiB", "kernel threads s/GiB", "MB/s"];
            let mut table = Table::new(&title, &columns);
            for (name, step) in [
                ("received", Step::Receive),
                ("and checked", Step::Check),
                ("and written", Step::Write),
                ("and written again, 512 KiB at a time", Step::WriteTwice),
            ] {
                table.row(name, move || served(options, load, step));
            }
            table.print(options);
        }
    }
    Ok(())
}

fn served(options: &Options, load: Load, step: Step) -> Result<Vec<f64>> {
    let frames = MOVED_BYTES / load.frame_bytes;
    let scratch = Scratch::written(&options.dir, "pace", MOVED_BYTES.next_multiple_of(MIB))?;
    let file = scratch.open(libc::O_DIRECT | libc::O_DSYNC)?;
    let mut frame = Memory::new(load.frame_bytes, Pages::Huge)?;
    let second = Memory::new(SECOND_WRITE_BYTES, Pages::Huge)?;
    let (mut server, client) = tcp::pair()?;
    let meter = Meter::start()?;
    let sender = thread::spawn(move || send(client, load, frames).map_err(|e| e.to_string()));
    let (mut checked, mut once) = (0, 0);
    for turn in 0..frames {
        server.read_exact(frame.as_mut_slice())?;
        if step >= Step::Check {
            checked ^= crc32c::crc32c(frame.as_slice());
        }
        if step >= Step::Write {
            file.write_all_at(frame.as_slice(), (turn * load.frame_bytes) as u64)?;
        }
        server.write_all(&REPLY)?;
        once += load.frame_bytes;
        if step == Step::WriteTwice && once >= SECOND_WRITE_BYTES {
            let at = turn * load.frame_bytes / SECOND_WRITE_BYTES * SECOND_WRITE_BYTES;
            let at = at.min(MOVED_BYTES - SECOND_WRITE_BYTES);
            file.write_all_at(second.as_slice(), at as u64)?;
            once -= SECOND_WRITE_BYTES;
        }
    }
    std::hint::black_box(checked);
    let sender = sender.join().map_err(|_| "the sender panicked")??;
    let used = meter.stop()?;
    let moved = gib(frames * load.frame_bytes);
    Ok(vec![
        (used.process - sender) / moved,
        used.kernel_threads / moved,
        (frames * load.frame_bytes) as f64 / 1e6 / used.wall,
    ])
}

/// The client: what it used, in CPU seconds.
fn send(mut socket: TcpStream, load: Load, frames: usize) -> Result<f64> {
    pin(THERE)?;
    let (frame, mut reply) = (vec![7; load.frame_bytes], REPLY);
    let began = Instant::now();
    let mut in_flight = 0;
    for turn in 0..frames {
        if let Some(pace) = load.pace {
            let due = Duration::from_secs_f64((turn * load.frame_bytes) as f64 / pace as f64);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        if in_flight == IN_FLIGHT {
            socket.read_exact(&mut reply)?;
            in_flight -= 1;
        }
        socket.write_all(&frame)?;
        in_flight += 1;
    }
    for _ in 0..in_flight {
        socket.read_exact(&mut reply)?;
    }
    measure::thread_seconds()
}
