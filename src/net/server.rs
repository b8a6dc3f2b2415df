//! A listener on one shard and all that it accepted: accepts, limits, sweeps, and stops in order.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use tracing::{debug, info, warn};

use super::connection::{self, ConnectionError};
use super::connections::{Connections, Entry};
use super::intake::{AheadBuffers, Intake};
use super::listener::{Accepted, Listener, Listening};
use super::quota::{ConnectionQuota, ConnectionTicket, Refused};
use super::replies::Replies;
use super::service::Service;
use super::socket::Socket;
use super::unread::Unread;
use crate::base::log_limit::{LeftOut, LogLimit};
use crate::runtime::{TaskQueue, Timer, yield_now};
use crate::shard::executor::ShardContext;
use crate::shard::frames::Frames;

/// Connections accepted in one go before the others get their turn.
const ACCEPTED_BEFORE_YIELD_MAX: usize = 16;
/// How much later than its time an idle connection may be closed.
const SWEEP_MAX: Duration = Duration::from_secs(30);
const SWEEP_MIN: Duration = Duration::from_millis(10);
/// How often it is looked whether requests that come too slowly, or replies that are not read, hold
/// the memory of others.
const LOOK_FOR_SLOW: Duration = Duration::from_millis(250);

/// How connections are treated.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The listener's name, for log lines.
    pub name: String,
    /// `socket.request.max.bytes`: a longer request closes its connection.
    pub request_bytes_max: usize,
    /// `connections.max.idle.ms`: a connection on which no request and no reply has ended for so
    /// long, nor much of one has moved, is closed; none never closes one. One whose request is
    /// being handled is not idle.
    pub idle_max: Option<Duration>,
    /// How long requests in progress may take to end when the shard stops.
    pub drain_max: Duration,
}

/// Accepts and serves connections until the shard is asked to stop; then closes the listening
/// socket, lets the requests in progress end and their replies leave, and returns.
///
/// # Errors
/// If the listening socket fails.
pub async fn serve<S: Service>(
    listening: Listening,
    service: Rc<S>,
    frames: Frames,
    quota: ConnectionQuota,
    config: ServerConfig,
    context: &ShardContext,
) -> io::Result<()> {
    // As much again as small requests may take.
    let unread = frames.reserve().capacity() as usize;
    let unread = Rc::new(Unread::new(unread));
    let server = Rc::new(Server {
        service,
        frames,
        quota,
        config,
        context: context.clone(),
        connections: Connections::default(),
        buffers: AheadBuffers::default(),
        unread,
        log_limit: LogLimit::default(),
        has_ended: Cell::new(false),
    });
    if let Some(idle) = server.config.idle_max {
        TaskQueue::Background.detach(server.clone().sweep(idle));
    }
    TaskQueue::Background.detach(server.clone().look_for_slow());
    let accepted = server.accept(listening).await;
    server.end().await;
    accepted
}

struct Server<S: Service> {
    service: Rc<S>,
    frames: Frames,
    quota: ConnectionQuota,
    config: ServerConfig,
    context: ShardContext,
    connections: Connections,
    buffers: AheadBuffers,
    unread: Rc<Unread>,
    log_limit: LogLimit,
    has_ended: Cell<bool>,
}

impl<S: Service> Server<S> {
    async fn accept(self: &Rc<Self>, listening: Listening) -> io::Result<()> {
        let mut listener = Listener::new(listening)?;
        let stop = &self.context.stop;
        let mut in_one_go = 0;
        loop {
            if !self.quota.has_room() && !stop.is_requested() {
                self.log(|name, left_out| {
                    warn!(listener = name, left_out, "as many connections as allowed");
                });
                listener.rest(stop).await;
                continue;
            }
            match listener.accept(stop).await? {
                Accepted::Connection(socket, peer) => {
                    // Another shard may have taken the last place since.
                    let mut ticket = self.quota.admit(peer.ip());
                    while matches!(ticket, Err(Refused::Full)) && !stop.is_requested() {
                        listener.rest(stop).await;
                        ticket = self.quota.admit(peer.ip());
                    }
                    self.begin(socket, peer, ticket);
                }
                Accepted::Exhausted(error) => {
                    self.log(|name, left_out| {
                        warn!(listener = name, %error, left_out, "cannot accept a connection");
                    });
                    listener.rest(stop).await;
                }
                Accepted::Stopped => return Ok(()),
            }
            in_one_go += 1;
            if in_one_go == ACCEPTED_BEFORE_YIELD_MAX {
                in_one_go = 0;
                yield_now().await;
            }
        }
    }

    fn begin(
        self: &Rc<Self>,
        socket: socket2::Socket,
        peer: SocketAddr,
        ticket: Result<ConnectionTicket, Refused>,
    ) {
        let ticket = match ticket {
            Ok(ticket) => ticket,
            // The shard stops.
            Err(Refused::Full) => return,
            Err(Refused::Address) => {
                self.log(|name, left_out| {
                    let reason = "as many connections from its address as allowed";
                    info!(listener = name, %peer, left_out, "closed a connection: {reason}");
                });
                return;
            }
        };
        match Socket::new(socket, peer) {
            Ok(socket) => {
                let connection = self.clone().connection(socket, ticket);
                TaskQueue::Requests.detach(connection);
            }
            // The peer is gone already.
            Err(error) => self.log_end(peer, &ConnectionError::Send(error)),
        }
    }

    async fn connection(self: Rc<Self>, socket: Socket, _ticket: ConnectionTicket) {
        let socket = Rc::new(socket);
        let peer = socket.peer();
        debug!(listener = self.config.name, %peer, "connection opened");
        let replies = Rc::new(Replies::new(self.unread.clone()));
        let entry = Rc::new(Entry::new(socket.clone(), replies));
        let _listed = self.connections.enter(entry.clone());
        let intake = Intake::new(
            socket,
            self.frames.clone(),
            self.buffers.clone(),
            self.config.request_bytes_max,
        );
        let queue = TaskQueue::Requests;
        let served = connection::serve(self.service.clone(), entry, intake, queue).await;
        match &served {
            Ok(()) => debug!(listener = self.config.name, %peer, "connection closed"),
            Err(error) => {
                debug!(listener = self.config.name, %peer, reason = %error, "connection closed");
            }
        }
        if let Err(error) = served
            && !error.is_departure()
        {
            self.log_end(peer, &error);
        }
    }

    async fn sweep(self: Rc<Self>, idle: Duration) {
        let pause = (idle / 4).clamp(SWEEP_MIN, SWEEP_MAX);
        while self.goes_on_after(pause).await {
            self.connections.close_idle(Instant::now(), idle);
        }
    }

    async fn look_for_slow(self: Rc<Self>) {
        while self.goes_on_after(LOOK_FOR_SLOW).await {
            self.frames.look_again();
            let count = self.connections.close_unread(&self.unread);
            if count > 0 {
                self.log(|name, left_out| {
                    let reason = "that do not read their replies, which take too much memory";
                    info!(
                        listener = name,
                        count, left_out, "closed connections {reason}"
                    );
                });
            }
        }
    }

    /// Pauses. Whether connections are served then.
    async fn goes_on_after(&self, pause: Duration) -> bool {
        let pause = async {
            Timer::new(pause).await;
        };
        or(pause, self.context.stop.requested()).await;
        !self.has_ended.get() && !self.context.stop.is_requested()
    }

    async fn end(&self) {
        self.has_ended.set(true);
        self.connections.drain();
        let deadline = async {
            Timer::new(self.config.drain_max).await;
        };
        or(self.connections.none(), deadline).await;
        let left = self.connections.len();
        if left > 0 {
            let name = &self.config.name;
            warn!(
                listener = name,
                left, "closing connections with requests in progress"
            );
            self.connections.close_all();
        }
    }

    fn log_end(&self, peer: SocketAddr, error: &ConnectionError) {
        self.log(|name, left_out| {
            info!(listener = name, %peer, left_out, "closed a connection: {error}");
        });
    }

    fn log(&self, line: impl FnOnce(&str, LeftOut)) {
        if let Some(left_out) = self.log_limit.permit(Instant::now()) {
            line(&self.config.name, left_out);
        }
    }
}
