//! Listening sockets: one a shard and address, all of them on the same port.
//!
//! They are bound before the shards run, on any thread, so that a port that is taken is an error of
//! the start; each is then moved to its shard, which listens once it can serve: until then a client
//! is refused and tries again, instead of waiting without an answer. The kernel spreads connections
//! over the sockets that listen on one port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_lite::future::or;
use nix::libc;
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

use crate::runtime::{Pollable, Timer};
use crate::shard::shutdown::Stop;

/// How long accepting rests when there is no descriptor or memory for a connection, at first and at
/// most: accept would fail again at once, and for ever.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// How a listener's sockets are made.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Where to listen; port 0 takes a free one, the same for every shard.
    pub address: SocketAddr,
    /// `socket.listen.backlog.size`: connections that may wait to be accepted, a shard.
    pub backlog: i32,
    /// `socket.receive.buffer.bytes`, inherited by every connection; none leaves it to the kernel.
    pub receive_buffer_bytes: Option<usize>,
    /// `socket.send.buffer.bytes`, likewise.
    pub send_buffer_bytes: Option<usize>,
}

/// A bound socket, to be moved to its shard.
#[derive(Debug)]
pub struct Bound {
    socket: RawSocket,
    address: SocketAddr,
    backlog: i32,
}

impl Bound {
    /// Where it will listen, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets clients connect; they are served once the socket is given to
    /// [`serve`](super::server::serve).
    ///
    /// # Errors
    /// If somebody else listens there by now.
    pub fn listen(self) -> io::Result<Listening> {
        self.socket.listen(self.backlog)?;
        Ok(Listening {
            socket: self.socket,
        })
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listening {
    socket: RawSocket,
}

/// Binds one socket a shard.
///
/// The sockets share the port with whoever else of the same user asks to share it, another broker
/// too: probe it without sharing first, if that matters.
///
/// # Errors
/// If the address cannot be bound.
pub fn bind(config: &ListenConfig, shards: u16) -> io::Result<Vec<Bound>> {
    let mut address = config.address;
    let bind = |_| {
        let bound = bind_one(config, address)?;
        address = bound.address;
        Ok(bound)
    };
    (0..shards).map(bind).collect()
}

fn bind_one(config: &ListenConfig, address: SocketAddr) -> io::Result<Bound> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = RawSocket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // As Java does: a socket on the IPv6 wildcard serves IPv4 as well.
        socket.set_only_v6(false)?;
    }
    // Before listening: the window that a connection may grow to is settled when it is made.
    if let Some(bytes) = config.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = config.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket();
    let address = bound.ok_or(io::ErrorKind::Unsupported)?;
    let backlog = config.backlog;
    Ok(Bound {
        socket,
        address,
        backlog,
    })
}

/// A listening socket on its shard.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Pollable<RawSocket>,
    back_off: Duration,
}

/// What accepting brought.
#[derive(Debug)]
pub(super) enum Accepted {
    Connection(RawSocket, SocketAddr),
    /// There is no descriptor or memory for another connection. Call [`Listener::rest`].
    Exhausted(io::Error),
    /// The shard stops.
    Stopped,
}

impl Listener {
    pub(super) fn new(listening: Listening) -> io::Result<Self> {
        Ok(Self {
            socket: Pollable::new(listening.socket),
            back_off: BACK_OFF_MIN,
        })
    }

    /// Waits for a connection.
    pub(super) async fn accept(&mut self, stop: &Stop) -> io::Result<Accepted> {
        loop {
            if stop.is_requested() {
                return Ok(Accepted::Stopped);
            }
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            match self.socket.get_ref().accept4(flags) {
                Ok((socket, peer)) => {
                    self.back_off = BACK_OFF_MIN;
                    if let Some(peer) = prepare(&socket, &peer) {
                        return Ok(Accepted::Connection(socket, peer));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let stopped = async {
                        stop.requested().await;
                        Ok(())
                    };
                    or(self.socket.readable(), stopped).await?;
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) if is_exhaustion(&error) => return Ok(Accepted::Exhausted(error)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits before the next attempt, longer each time in a row.
    pub(super) async fn rest(&mut self, stop: &Stop) {
        let pause = async {
            Timer::new(self.back_off).await;
        };
        or(pause, stop.requested()).await;
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Replies are written whole, so waiting for more to fill a segment only delays them. None if the
/// connection is gone already.
fn prepare(socket: &RawSocket, peer: &SockAddr) -> Option<SocketAddr> {
    socket.set_tcp_nodelay(true).ok()?;
    socket.set_keepalive(true).ok()?;
    peer.as_socket()
}

/// accept(2): network errors that are already pending on the new connection come out of accept and
/// say nothing of the listening socket.
fn is_of_one_connection(error: &io::Error) -> bool {
    const ERRORS: [i32; 10] = [
        libc::ECONNABORTED,
        libc::EINTR,
        libc::EPERM,
        libc::ENETDOWN,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| ERRORS.contains(&code))
}

fn is_exhaustion(error: &io::Error) -> bool {
    const ERRORS: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error
        .raw_os_error()
        .is_some_and(|code| ERRORS.contains(&code))
}
