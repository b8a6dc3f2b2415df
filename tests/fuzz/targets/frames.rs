//! The splitter that cuts what a connection receives into frames. The first bytes say how the input
//! is cut into writes; the rest is what a client sends. A server answers each frame as the frame
//! says, and what it sends back is compared with what a few lines make of the whole input.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use millrace::net::listener::{ListenConfig, bind};
use millrace::net::quota::{ConnectionLimits, ConnectionQuota};
use millrace::net::server::{ServerConfig, serve};
use millrace::net::service::{Dispatched, Outcome, Service};
use millrace::protocol::frame::Reply;
use millrace::runtime::yield_now;
use millrace::shard::budget::Budget;
use millrace::shard::executor::{ExecutorConfig, ShardContext, start};
use millrace::shard::frames::Frames;

use super::choices::Choices;

const REQUEST_BYTES_MAX: usize = 5000;
/// A longer input is cut: what is interesting happens within a few buffers.
const SENT_BYTES_MAX: usize = 40_000;
/// The key of the frames that may be handled beside each other.
const PIPELINES: [u8; 2] = [0, 0];
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let pieces: Vec<_> = choices
        .short_slice()
        .iter()
        .map(|byte| usize::from(*byte) * 4 + 1)
        .collect();
    let sent = choices.rest();
    let sent = &sent[..sent.len().min(SENT_BYTES_MAX)];
    let expected = Expected::of(sent);
    let received = converse(sent, &pieces);
    if expected.is_cut_short {
        // The system may throw away what was not read yet when the other end closes.
        assert!(expected.replies.starts_with(&received));
    } else {
        assert_eq!(received, expected.replies);
    }
}

/// What the client is to receive.
struct Expected {
    replies: Vec<u8>,
    /// Whether the server closes the connection before the client has ended it.
    is_cut_short: bool,
}

impl Expected {
    fn of(mut sent: &[u8]) -> Self {
        let mut replies = Vec::new();
        while let Some((length, rest)) = sent.split_first_chunk::<4>() {
            let length = usize::try_from(i32::from_be_bytes(*length));
            let Some(length) = length.ok().filter(|length| *length <= REQUEST_BYTES_MAX) else {
                let is_cut_short = true;
                return Self {
                    replies,
                    is_cut_short,
                };
            };
            let Some((frame, rest)) = rest.split_at_checked(length) else {
                break;
            };
            match Wish::of(frame) {
                Wish::Echo | Wish::EchoLater => replies.extend(echo(frame).concat()),
                Wish::Nothing => {}
                Wish::Close => {
                    let is_cut_short = true;
                    return Self {
                        replies,
                        is_cut_short,
                    };
                }
            }
            sent = rest;
        }
        let is_cut_short = false;
        Self {
            replies,
            is_cut_short,
        }
    }
}

/// What a frame asks for, in its third byte.
enum Wish {
    Echo,
    EchoLater,
    Nothing,
    Close,
}

impl Wish {
    fn of(frame: &[u8]) -> Self {
        match frame.get(2) {
            Some(b'l') => Self::EchoLater,
            Some(b'n') => Self::Nothing,
            Some(b'c') => Self::Close,
            _ => Self::Echo,
        }
    }
}

fn echo(frame: &[u8]) -> [Bytes; 2] {
    let length = (frame.len() as u32).to_be_bytes();
    [
        Bytes::copy_from_slice(&length),
        Bytes::copy_from_slice(frame),
    ]
}

fn converse(sent: &[u8], pieces: &[usize]) -> Vec<u8> {
    let stream = TcpStream::connect(server()).expect("a listening server");
    stream.set_nodelay(true).expect("an open socket");
    stream
        .set_read_timeout(Some(ANSWERED_WITHIN))
        .expect("an open socket");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| receive(&stream));
        send(&stream, sent, pieces);
        reader.join().expect("a reader that does not panic")
    })
}

fn send(mut stream: &TcpStream, mut sent: &[u8], pieces: &[usize]) {
    for piece in pieces {
        let (now, rest) = sent.split_at((*piece).min(sent.len()));
        if stream.write_all(now).is_err() {
            return;
        }
        sent = rest;
    }
    // The server may have closed the connection by now.
    let _closed = stream.write_all(sent);
    let _closed = stream.shutdown(Shutdown::Write);
}

/// Everything up to the end of the connection.
fn receive(mut stream: &TcpStream) -> Vec<u8> {
    let (mut received, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return received,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset => return received,
                ErrorKind::Interrupted => {}
                _ => panic!("neither an answer nor an end: {error}"),
            },
        }
    }
}

/// The address of the server, which all inputs share: it keeps nothing from one connection to the
/// next. It ends with the process.
fn server() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| {
        let config = ListenConfig {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            backlog: 128,
            receive_buffer_bytes: None,
            send_buffer_bytes: None,
        };
        let bound = bind(&config, 1).expect("a free port").remove(0);
        let address = bound.address();
        let listening = bound.listen().expect("a free port");
        let quota = ConnectionQuota::new(ConnectionLimits::default());
        let config = ServerConfig {
            name: "fuzz".to_owned(),
            request_bytes_max: REQUEST_BYTES_MAX,
            idle_max: None,
            drain_max: Duration::from_secs(1),
        };
        let body = |context: ShardContext| async move {
            let frames = Frames::new(Budget::new(16 << 20), Budget::new(1 << 20));
            serve(listening, Rc::new(Echo), frames, quota, config, &context).await
        };
        let shards = start(&ExecutorConfig::default(), vec![body]).expect("an executor");
        // Nobody waits for it; a shard that panics is met by whoever connects next.
        std::mem::forget(shards);
        address
    })
}

struct Echo;

impl Service for Echo {
    type Connection = ();

    fn connected(&self, _peer: SocketAddr, _local: SocketAddr) {}

    fn pipelines(&self, frame_start: &[u8]) -> bool {
        assert!(frame_start.len() >= 2, "the key is there");
        frame_start.starts_with(&PIPELINES)
    }

    async fn dispatch(&self, _connection: &Rc<()>, frame: Bytes) -> Dispatched {
        let chunks = echo(&frame).to_vec();
        let length = chunks.iter().map(Bytes::len).sum();
        let reply = Outcome::Reply(Reply {
            chunks,
            length,
            own_length: 0,
        });
        match Wish::of(&frame) {
            Wish::Echo => Dispatched::Now(reply),
            Wish::EchoLater => Dispatched::Later(Box::pin(async move {
                yield_now().await;
                reply
            })),
            Wish::Nothing => Dispatched::Now(Outcome::NoReply),
            Wish::Close => Dispatched::Now(Outcome::Close("it asked for it".to_owned())),
        }
    }
}
