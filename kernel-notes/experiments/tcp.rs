//! A TCP connection over the loopback whose other end is a thread on another CPU.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::measure::{self, Meter};
use crate::{MIB, Result};

/// The CPU of whoever is measured.
pub const HERE: usize = 0;
/// The CPU of the other end.
pub const THERE: usize = 1;

/// How the other end waits for bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// It asks again and again: nobody ever has to wake it.
    Spinning,
    /// It sleeps in its call, as clients do: the sender's call wakes it.
    Sleeping,
}

/// The bytes of a small request.
pub const REQUEST_BYTES: usize = 100;
/// What answers it.
pub const REPLY: [u8; 60] = [7; 60];

/// What sending cost both ends, in CPU seconds.
pub struct Sent {
    /// With its io workers.
    pub sender: f64,
    pub receiver: f64,
    pub wall: f64,
}

/// Two connected sockets, without Nagle's delay.
pub fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    Ok((server, client))
}

/// Calls `send` with a socket whose other end takes `bytes` into a buffer of 1 MiB.
pub fn send(bytes: usize, wait: Wait, send: impl FnOnce(&TcpStream) -> Result<()>) -> Result<Sent> {
    let (server, client) = pair()?;
    let meter = Meter::start()?;
    let receiver = receive(client, bytes, MIB, wait);
    send(&server)?;
    let received = receiver.join().map_err(|_| "the receiver panicked")?;
    let used = meter.stop()?;
    let receiver = received?;
    Ok(Sent {
        receiver,
        sender: used.process - receiver,
        wall: used.wall,
    })
}

/// A thread that takes `bytes`, at most `chunk` at a time; what it used, in CPU seconds.
pub fn receive(
    mut stream: TcpStream,
    bytes: usize,
    chunk: usize,
    wait: Wait,
) -> JoinHandle<std::result::Result<f64, String>> {
    let mut run = move || -> Result<f64> {
        measure::pin(THERE)?;
        let mut buffer = vec![0; chunk];
        let mut rest = bytes;
        while rest > 0 {
            until_readable(&stream, wait)?;
            match stream.read(&mut buffer)? {
                0 => return Err("the sender ended early".into()),
                count => rest -= count,
            }
        }
        measure::thread_seconds()
    };
    thread::spawn(move || run().map_err(|error| error.to_string()))
}

/// Where the caller spins: until there is something to receive. A poll that does not wait takes no
/// lock of the socket, which a receive does.
pub fn until_readable(stream: &TcpStream, wait: Wait) -> Result<()> {
    let polled = || {
        let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO)
    };
    while wait == Wait::Spinning && polled()? == 0 {}
    Ok(())
}

/// Asks on each connection in turn, all of them under way at once; latencies and CPU seconds.
pub fn ask(mut sockets: Vec<TcpStream>, each: usize) -> Result<(Vec<u64>, f64)> {
    measure::pin(THERE)?;
    let (request, mut reply) = ([7; REQUEST_BYTES], REPLY);
    let mut latencies_ns = Vec::with_capacity(each * sockets.len());
    let mut began = vec![Instant::now(); sockets.len()];
    for (index, socket) in sockets.iter_mut().enumerate() {
        began[index] = Instant::now();
        socket.write_all(&request)?;
    }
    for turn in 0..each {
        for (index, socket) in sockets.iter_mut().enumerate() {
            socket.read_exact(&mut reply)?;
            latencies_ns.push(began[index].elapsed().as_nanos() as u64);
            if turn + 1 < each {
                began[index] = Instant::now();
                socket.write_all(&request)?;
            }
        }
    }
    Ok((latencies_ns, measure::thread_seconds()?))
}
