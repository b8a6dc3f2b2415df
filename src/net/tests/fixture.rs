//! A service whose requests say what is to be done with them, a server around it, and a client.
//!
//! A request is a key of two bytes, of which 0 pipelines, a letter and what the letter takes; see
//! [`Scripted::outcome`]. A reply is a length and its bytes.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::net::listener::{Bound, ListenConfig, bind};
use crate::net::quota::{ConnectionLimits, ConnectionQuota};
use crate::net::server::{ServerConfig, serve};
use crate::net::service::{Dispatched, Outcome, Service};
use crate::protocol::frame::Reply;
use crate::runtime::Timer;
use crate::shard::budget::Budget;
use crate::shard::executor::{ExecutorConfig, ShardContext, ShardError, Shards, start};
use crate::shard::frames::Frames;
use crate::shard::shutdown::Stopper;

pub(super) const PIPELINES: u16 = 0;
pub(super) const ALONE: u16 = 1;
pub(super) const KEY_BYTES: usize = 2;

/// What the tests see of the service, over all shards.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) dispatched: AtomicUsize,
    pub(super) completed: AtomicUsize,
    /// The most that one connection had in progress.
    pub(super) in_progress_max: AtomicUsize,
    pub(super) by_shard: Mutex<Vec<usize>>,
    /// The most bytes that any shard's budget had handed out.
    pub(super) budget_used_max: AtomicUsize,
}

pub(super) struct Scripted {
    shard: usize,
    seen: Arc<Seen>,
    data: Bytes,
    frames: Frames,
    /// Frames that requests of the letter `h` have the service hold.
    held: RefCell<Vec<Bytes>>,
}

#[derive(Default)]
pub(super) struct Peer {
    in_progress: Rc<Cell<usize>>,
}

pub(super) fn reply(chunks: Vec<Bytes>) -> Outcome {
    let body: usize = chunks.iter().map(Bytes::len).sum();
    let prefix = Bytes::copy_from_slice(&(body as u32).to_be_bytes());
    let mut all = vec![prefix];
    all.extend(chunks);
    Outcome::Reply(Reply {
        chunks: all,
        length: body + 4,
        own_length: 0,
    })
}

/// The same, all of it made for this reply.
fn made(chunks: Vec<Bytes>) -> Outcome {
    match reply(chunks) {
        Outcome::Reply(reply) => Outcome::Reply(Reply {
            own_length: reply.length,
            ..reply
        }),
        other => other,
    }
}

fn number(bytes: &[u8]) -> usize {
    let four = bytes.first_chunk::<4>().expect("a number in the request");
    u32::from_be_bytes(*four) as usize
}

impl Scripted {
    /// The letters: `e` echoes; `d` echoes after so many milliseconds; `b` replies with so many
    /// bytes, `m` likewise with bytes made for it; `s` replies with a slice of the data between two
    /// short pieces; `n` does not reply; `c` closes; `h` echoes and has the frame held; `r`
    /// releases what is held; `p` panics.
    fn outcome(&self, frame: &Bytes) -> Outcome {
        let Some((letter, rest)) = frame.get(2..).and_then(<[u8]>::split_first) else {
            return Outcome::Close("too short a request".to_owned());
        };
        let echo = || reply(vec![frame.slice(3..)]);
        match letter {
            b'e' | b'd' => echo(),
            b'b' | b'm' => {
                // Many pieces, so that more than one call is needed for their number alone.
                let piece = Bytes::from(vec![b'x'; 500]);
                let (whole, part) = (number(rest) / 500, number(rest) % 500);
                let mut chunks = vec![piece.clone(); whole];
                chunks.push(piece.slice(..part));
                match letter {
                    b'm' => made(chunks),
                    _ => reply(chunks),
                }
            }
            b's' => {
                let (from, length) = (number(rest), number(&rest[4..]));
                reply(vec![
                    Bytes::from_static(b"before"),
                    self.data.slice(from..from + length),
                    Bytes::new(),
                    Bytes::from_static(b"after"),
                ])
            }
            b'n' => Outcome::NoReply,
            b'c' => Outcome::Close("it asked for it".to_owned()),
            b'h' => {
                self.held.borrow_mut().push(frame.clone());
                echo()
            }
            b'r' => {
                self.held.borrow_mut().clear();
                echo()
            }
            b'p' => panic!("a broken handler"),
            other => Outcome::Close(format!("no letter {other}")),
        }
    }
}

impl Service for Scripted {
    type Connection = Peer;

    fn connected(&self, _peer: SocketAddr, _local: SocketAddr) -> Peer {
        let mut by_shard = self.seen.by_shard.lock().expect("a lock");
        let shards = by_shard.len().max(self.shard + 1);
        by_shard.resize(shards, 0);
        by_shard[self.shard] += 1;
        Peer::default()
    }

    fn pipelines(&self, frame_start: &[u8]) -> bool {
        assert!(frame_start.len() >= 2);
        frame_start.starts_with(&PIPELINES.to_be_bytes())
    }

    async fn dispatch(&self, peer: &Rc<Peer>, frame: Bytes) -> Dispatched {
        let pipelines = frame.starts_with(&PIPELINES.to_be_bytes());
        if !pipelines {
            assert_eq!(
                peer.in_progress.get(),
                0,
                "one that does not pipeline runs alone"
            );
        }
        peer.in_progress.set(peer.in_progress.get() + 1);
        self.seen.dispatched.fetch_add(1, Ordering::SeqCst);
        let in_progress_max = &self.seen.in_progress_max;
        in_progress_max.fetch_max(peer.in_progress.get(), Ordering::SeqCst);
        let used = self.frames.budget().used() as usize;
        self.seen.budget_used_max.fetch_max(used, Ordering::SeqCst);
        let outcome = self.outcome(&frame);
        let delay = match frame.get(2) {
            Some(b'd') => number(&frame[3..]),
            _ => 0,
        };
        let (in_progress, seen) = (peer.in_progress.clone(), self.seen.clone());
        let complete = move || {
            in_progress.set(in_progress.get() - 1);
            seen.completed.fetch_add(1, Ordering::SeqCst);
            outcome
        };
        if delay == 0 {
            return Dispatched::Now(complete());
        }
        Dispatched::Later(Box::pin(async move {
            Timer::new(Duration::from_millis(delay as u64)).await;
            complete()
        }))
    }
}

/// How a test's server differs from an ordinary one.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) shards: u16,
    pub(super) budget_bytes: u64,
    pub(super) address: &'static str,
    pub(super) limits: ConnectionLimits,
    pub(super) server: ServerConfig,
    pub(super) data: Bytes,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            shards: 1,
            budget_bytes: 64 << 20,
            address: "127.0.0.1:0",
            limits: ConnectionLimits::default(),
            server: ServerConfig {
                name: "test".to_owned(),
                request_bytes_max: 32 << 20,
                idle_max: None,
                drain_max: Duration::from_secs(10),
            },
            data: Bytes::new(),
        }
    }
}

/// A server on threads of its own.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Seen>,
    pub(super) quota: ConnectionQuota,
    shards: Option<Shards<(), String>>,
    stopper: Stopper,
}

impl Server {
    pub(super) fn start(setup: &Setup) -> Self {
        let config = ListenConfig {
            address: setup.address.parse().expect("an address"),
            backlog: 128,
            receive_buffer_bytes: None,
            send_buffer_bytes: None,
        };
        let sockets = bind(&config, setup.shards).expect("a free port");
        let address = sockets[0].address();
        let listen = |bound: Bound| bound.listen().expect("a free port");
        let sockets: Vec<_> = sockets.into_iter().map(listen).collect();
        let quota = ConnectionQuota::new(setup.limits.clone());
        let seen: Arc<Seen> = Arc::default();
        let bodies = sockets.into_iter().map(|listening| {
            let (setup, seen, quota) = (setup.clone(), seen.clone(), quota.clone());
            move |context: ShardContext| async move {
                let frames = Frames::new(Budget::new(setup.budget_bytes), Budget::new(1 << 20));
                let service = Rc::new(Scripted {
                    shard: context.shard.0.into(),
                    seen,
                    data: setup.data.clone(),
                    frames: frames.clone(),
                    held: RefCell::default(),
                });
                let served = serve(listening, service, frames, quota, setup.server, &context);
                served.await.map_err(|error| error.to_string())
            }
        });
        let config = ExecutorConfig {
            shards: setup.shards,
            ..ExecutorConfig::default()
        };
        let shards = start(&config, bodies.collect()).expect("executors");
        Self {
            address,
            seen,
            quota,
            stopper: shards.stopper(),
            shards: Some(shards),
        }
    }

    pub(super) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("a listening server");
        stream.set_nodelay(true).expect("an open socket");
        // Long enough for a busy machine, short enough to fail a test instead of hanging it.
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).expect("an open socket");
        stream.set_write_timeout(patience).expect("an open socket");
        Client { stream }
    }

    pub(super) fn dispatched(&self) -> usize {
        self.seen.dispatched.load(Ordering::SeqCst)
    }

    pub(super) fn stop(&self) {
        self.stopper.stop();
    }

    /// How the shards ended.
    pub(super) fn ended(mut self) -> Vec<Result<(), ShardError<String>>> {
        self.shards.take().expect("joined once").join()
    }

    /// Waits until `condition` holds; a busy machine is given time.
    pub(super) fn wait_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{what}: {:?}",
                self.seen
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(shards) = self.shards.take() {
            let ended = shards.join();
            if !std::thread::panicking() {
                assert!(ended.iter().all(Result::is_ok), "{ended:?}");
            }
        }
    }
}

/// A request with its length.
pub(super) fn request(key: u16, letter: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = (rest.len() as u32 + 3).to_be_bytes().to_vec();
    bytes.extend(key.to_be_bytes());
    bytes.push(letter);
    bytes.extend(rest);
    bytes
}

/// A request of a letter that takes numbers.
pub(super) fn counting(key: u16, letter: u8, numbers: &[u32]) -> Vec<u8> {
    let rest: Vec<_> = numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect();
    request(key, letter, &rest)
}

/// A client that blocks.
pub(super) struct Client {
    pub(super) stream: TcpStream,
}

impl Client {
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a reading server");
    }

    /// The next reply, without its length.
    pub(super) fn receive(&mut self) -> Vec<u8> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).expect("a reply");
        let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
        self.stream
            .read_exact(&mut body)
            .expect("the rest of a reply");
        body
    }

    pub(super) fn ask(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.receive()
    }

    /// Waits until the server closes, which it does without another byte.
    pub(super) fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(count) => assert_eq!(count, 0, "{rest:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}
