//! The page `sockets.md`: what a socket's buffers, the size of a receive, Nagle's delay and busy
//! polling change, over the loopback.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use crate::measure::{self, Meter, Table, gib, percentile_us, pin};
use crate::system::set_option;
use crate::tcp::{self, HERE, THERE, Wait};
use crate::{KIB, MIB, Options, Result};

const MOVED_BYTES: usize = 512 * MIB;
const ECHOES: usize = 4000;
/// Of those where each waits for a timer of tens of milliseconds.
const SLOW_ECHOES: usize = 20;
const REQUEST_BYTES: usize = 100;
const REPLY_BYTES: usize = 60;

pub fn measure(options: &Options) -> Result<()> {
    pin(HERE)?;
    receiving(options);
    buffers(options);
    echoes(options);
    Ok(())
}

/// The receiver stands here, the sender there.
fn receiving(options: &Options) {
    let columns = ["receiver s/GiB", "sender s/GiB", "MB/s", "calls a MiB"];
    let mut table = Table::new("receive, at most", &columns);
    for chunk in [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB] {
        table.row(format!("{} KiB", chunk / KIB), move || {
            let (mut here, there) = tcp::pair()?;
            received(&mut here, there, chunk)
        });
    }
    table.print(options);
}

fn buffers(options: &Options) {
    let columns = ["receiver s/GiB", "sender s/GiB", "MB/s", "calls a MiB"];
    let mut table = Table::new("receive and send buffers", &columns);
    for (name, receive, send) in [
        ("the kernel's choice", 0, 0),
        ("receive 128 KiB", 128, 0),
        ("receive 512 KiB", 512, 0),
        ("receive 2 MiB", 2048, 0),
        ("send 128 KiB", 0, 128),
        ("send 200 KiB", 0, 200),
        ("send 512 KiB", 0, 512),
        ("send 2 MiB", 0, 2048),
        ("both 128 KiB", 128, 128),
        ("both 2 MiB", 2048, 2048),
    ] {
        table.row(name, move || {
            let (mut here, there) = tcp::pair()?;
            // The kernel doubles what it is told, for its own use.
            if receive > 0 {
                set_option(&here, libc::SOL_SOCKET, libc::SO_RCVBUF, receive * 512)?;
            }
            if send > 0 {
                set_option(&there, libc::SOL_SOCKET, libc::SO_SNDBUF, send * 512)?;
            }
            received(&mut here, there, MIB)
        });
    }
    table.print(options);
}

fn received(here: &mut TcpStream, mut there: TcpStream, chunk: usize) -> Result<Vec<f64>> {
    let mut buffer = vec![0; chunk];
    let meter = Meter::start()?;
    let sender = thread::spawn(move || -> std::result::Result<f64, String> {
        let mut run = || -> Result<f64> {
            pin(THERE)?;
            let source = vec![7; MIB];
            for _ in 0..MOVED_BYTES / MIB {
                there.write_all(&source)?;
            }
            measure::thread_seconds()
        };
        run().map_err(|error| error.to_string())
    });
    let (mut rest, mut calls) = (MOVED_BYTES, 0);
    while rest > 0 {
        rest -= here.read(&mut buffer)?;
        calls += 1;
    }
    let sender = sender.join().map_err(|_| "the sender panicked")??;
    let used = meter.stop()?;
    Ok(vec![
        (used.process - sender) / gib(MOVED_BYTES),
        sender / gib(MOVED_BYTES),
        MOVED_BYTES as f64 / 1e6 / used.wall,
        calls as f64 / (MOVED_BYTES / MIB) as f64,
    ])
}

/// How requests are answered.
#[derive(Clone, Copy)]
struct Echo {
    count: usize,
    is_delayed: bool,
    /// A reply goes out by so many calls.
    pieces: usize,
    has_more: bool,
    busy_poll_us: i32,
    /// Whether the client sleeps, or asks again and again.
    client: Wait,
}

const PLAIN: Echo = Echo {
    count: ECHOES,
    is_delayed: false,
    pieces: 1,
    has_more: false,
    busy_poll_us: 0,
    client: Wait::Sleeping,
};

fn echoes(options: &Options) {
    let columns = ["server µs of CPU", "p50 µs", "p99 µs"];
    let mut table = Table::new("a request and a reply", &columns);
    for (name, echo) in [
        ("NODELAY", PLAIN),
        (
            "with Nagle's delay",
            Echo {
                is_delayed: true,
                ..PLAIN
            },
        ),
        ("NODELAY, replies by two calls", Echo { pieces: 2, ..PLAIN }),
        (
            "NODELAY, replies by two calls, the first with MSG_MORE",
            Echo {
                pieces: 2,
                has_more: true,
                ..PLAIN
            },
        ),
        (
            "with Nagle's delay, replies by two calls",
            Echo {
                pieces: 2,
                is_delayed: true,
                count: SLOW_ECHOES,
                ..PLAIN
            },
        ),
        (
            "NODELAY, SO_BUSY_POLL of 50 µs",
            Echo {
                busy_poll_us: 50,
                ..PLAIN
            },
        ),
        (
            "NODELAY, a client that spins",
            Echo {
                client: Wait::Spinning,
                ..PLAIN
            },
        ),
    ] {
        table.row(name, move || echoed(echo));
    }
    table.print(options);
}

fn echoed(echo: Echo) -> Result<Vec<f64>> {
    let (mut here, there) = tcp::pair()?;
    here.set_nodelay(!echo.is_delayed)?;
    there.set_nodelay(!echo.is_delayed)?;
    if echo.busy_poll_us > 0 {
        set_option(
            &here,
            libc::SOL_SOCKET,
            libc::SO_BUSY_POLL,
            echo.busy_poll_us,
        )?;
    }
    let client = thread::spawn(move || ask(there, echo).map_err(|error| error.to_string()));
    let mut request = [0; REQUEST_BYTES];
    let before = measure::thread_seconds()?;
    for _ in 0..echo.count {
        here.read_exact(&mut request)?;
        reply(&here, echo)?;
    }
    let server = measure::thread_seconds()? - before;
    let mut latencies_ns = client.join().map_err(|_| "the client panicked")??;
    Ok(vec![
        server * 1e6 / echo.count as f64,
        percentile_us(&mut latencies_ns, 0.5),
        percentile_us(&mut latencies_ns, 0.99),
    ])
}

fn reply(socket: &TcpStream, echo: Echo) -> Result<()> {
    let reply = [7; REPLY_BYTES];
    let socket = socket2::SockRef::from(socket);
    for (index, piece) in reply.chunks(REPLY_BYTES / echo.pieces).enumerate() {
        let is_last = index + 1 == echo.pieces;
        let flags = if echo.has_more && !is_last {
            libc::MSG_MORE
        } else {
            0
        };
        socket.send_with_flags(piece, flags)?;
    }
    Ok(())
}

/// The client's side: the latency of each request in nanoseconds.
fn ask(mut socket: TcpStream, echo: Echo) -> Result<Vec<u64>> {
    pin(THERE)?;
    let (request, mut reply) = ([7; REQUEST_BYTES], [0; REPLY_BYTES]);
    let mut latencies_ns = Vec::with_capacity(echo.count);
    for _ in 0..echo.count {
        let began = Instant::now();
        socket.write_all(&request)?;
        let mut received = 0;
        while received < REPLY_BYTES {
            tcp::until_readable(&socket, echo.client)?;
            received += socket.read(&mut reply[received..])?;
        }
        latencies_ns.push(began.elapsed().as_nanos() as u64);
    }
    Ok(latencies_ns)
}
