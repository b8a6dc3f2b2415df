//! What it costs a core to receive requests: our connections beside the barest loops there are.
//!
//! `cargo bench --bench receive`; the page `kernel-notes/receive.md` says what came of it. Figures
//! are the CPU seconds of the receiving thread, which stands on CPU 0; the senders stand on CPU 1.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::{LocalExecutorBuilder, Placement};
use millrace::net::listener::{ListenConfig, Listening, bind};
use millrace::net::quota::ConnectionQuota;
use millrace::net::server::{ServerConfig, serve};
use millrace::net::service::{Dispatched, Outcome, Service};
use millrace::protocol::frame::Reply;
use millrace::shard::budget::Budget;
use millrace::shard::executor::{ExecutorConfig, ShardContext, start};
use millrace::shard::frames::Frames;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 5;
const RECEIVED_BYTES: usize = 1 << 30;
const ECHOES: usize = 16_000;
/// A reply of eight bytes: its length and four more.
const REPLY: &[u8; 8] = &[0, 0, 0, 4, 1, 2, 3, 4];
/// Requests that a client sends before it waits for a reply, as Kafka's producers do.
const IN_FLIGHT: usize = 5;
const ECHO_BYTES: usize = 100;

/// CPU seconds and minor page faults of this thread so far.
#[derive(Clone, Copy)]
struct Usage {
    seconds: f64,
    faults: i64,
}

fn usage() -> Usage {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the kernel counts");
    let time = usage.user_time() + usage.system_time();
    Usage {
        seconds: time.num_microseconds() as f64 / 1e6,
        faults: usage.minor_page_faults(),
    }
}

fn since(before: Usage) -> Usage {
    let now = usage();
    Usage {
        seconds: now.seconds - before.seconds,
        faults: now.faults - before.faults,
    }
}

fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("a CPU of this machine");
    sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus).expect("a CPU of this process");
}

/// A request of so many bytes: its length, its key, and anything.
fn request(bytes: usize, key: u8) -> Vec<u8> {
    let mut request = (bytes as u32).to_be_bytes().to_vec();
    request.extend([0, key]);
    request.resize(4 + bytes, 7);
    request
}

/// Sends `count` requests on each of so many connections, `in_flight` at a time.
fn send(address: SocketAddr, connections: usize, request: &[u8], count: usize, in_flight: usize) {
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(move || {
                pin(1);
                let mut stream = TcpStream::connect(address).expect("a server");
                stream.set_nodelay(true).expect("an open socket");
                let (mut sent, mut received, mut buffer) = (0, 0, [0; 4096]);
                while received < count * REPLY.len() {
                    while sent < count && sent - received / REPLY.len() < in_flight {
                        stream.write_all(request).expect("a reading server");
                        sent += 1;
                    }
                    received += stream.read(&mut buffer).expect("a replying server");
                }
            });
        }
    });
}

struct Replying;

impl Service for Replying {
    type Connection = ();

    fn connected(&self, _peer: SocketAddr, _local: SocketAddr) {}

    fn pipelines(&self, frame_start: &[u8]) -> bool {
        frame_start.starts_with(&[0, 0])
    }

    async fn dispatch(&self, _connection: &Rc<()>, _frame: Bytes) -> Dispatched {
        Dispatched::Now(Outcome::Reply(Reply {
            chunks: vec![Bytes::from_static(REPLY)],
            length: REPLY.len(),
            own_length: REPLY.len(),
        }))
    }
}

async fn serve_one_shard(listening: Listening, context: ShardContext) -> Result<Usage, String> {
    let before = usage();
    let frames = Frames::new(Budget::new(256 << 20), Budget::new(16 << 20));
    let config = ServerConfig {
        name: "bench".to_owned(),
        request_bytes_max: 100 << 20,
        idle_max: None,
        drain_max: Duration::from_secs(1),
    };
    let quota = ConnectionQuota::new(Default::default());
    serve(
        listening,
        Rc::new(Replying),
        frames,
        quota,
        config,
        &context,
    )
    .await
    .map_err(|error| error.to_string())?;
    Ok(since(before))
}

/// Our connections: requests framed, held in the budget, dispatched and replied to in order.
fn ours(connections: usize, request: &[u8], count: usize, in_flight: usize) -> Usage {
    let config = ListenConfig {
        address: "127.0.0.1:0".parse().expect("an address"),
        backlog: 128,
        receive_buffer_bytes: None,
        send_buffer_bytes: None,
    };
    let bound = bind(&config, 1).expect("a free port").remove(0);
    let address = bound.address();
    let listening = bound.listen().expect("a free port");
    let body = move |context: ShardContext| serve_one_shard(listening, context);
    let config = ExecutorConfig {
        cpus: vec![0],
        ..ExecutorConfig::default()
    };
    let shards = start(&config, vec![body]).expect("an executor");
    send(address, connections, request, count, in_flight);
    shards.stopper().stop();
    shards.join().remove(0).expect("a good end")
}

/// A blocking loop that reads into one buffer and does nothing else.
fn blocking(bytes: usize, count: usize) -> Usage {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let receiving = thread::spawn(move || {
        pin(0);
        let (mut stream, _) = listener.accept().expect("a client");
        let mut buffer = vec![0; bytes];
        let before = usage();
        for _ in 0..count {
            stream.read_exact(&mut buffer).expect("a sending client");
        }
        since(before)
    });
    pour(address, bytes, count);
    receiving.join().expect("the receiver")
}

/// The same loop over a stream of glommio, which polls and receives by the ring.
fn by_glommio_stream(bytes: usize, count: usize) -> Usage {
    let (bound, address) = mpsc::channel();
    let receiving = LocalExecutorBuilder::new(Placement::Fixed(0)).spawn(move || async move {
        let listener = glommio::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        bound
            .send(listener.local_addr().expect("bound"))
            .expect("a listening main");
        let mut stream = listener.accept().await.expect("a client");
        let mut buffer = vec![0; bytes];
        let before = usage();
        for _ in 0..count {
            stream
                .read_exact(&mut buffer)
                .await
                .expect("a sending client");
        }
        since(before)
    });
    pour(address.recv().expect("an address"), bytes, count);
    let receiving = receiving.expect("an executor");
    receiving.join().expect("the receiver")
}

fn pour(address: SocketAddr, bytes: usize, count: usize) {
    let sending = thread::spawn(move || {
        pin(1);
        let mut stream = TcpStream::connect(address).expect("a server");
        let buffer = vec![7; bytes];
        for _ in 0..count {
            stream.write_all(&buffer).expect("a reading server");
        }
    });
    sending.join().expect("the sender");
}

/// An echo over glommio's streams, without frames, order or budget.
fn echo_by_glommio_stream(connections: usize, request: &[u8], count: usize) -> Usage {
    let (bound, address) = mpsc::channel();
    let bytes = request.len();
    let serving = LocalExecutorBuilder::new(Placement::Fixed(0)).spawn(move || async move {
        let listener = glommio::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        bound
            .send(listener.local_addr().expect("bound"))
            .expect("a listening main");
        let before = usage();
        let mut tasks = Vec::new();
        for _ in 0..connections {
            let mut stream = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("an open socket");
            tasks.push(glommio::spawn_local(async move {
                let mut buffer = vec![0; bytes];
                while stream.read_exact(&mut buffer).await.is_ok() {
                    stream.write_all(REPLY).await.expect("a reading client");
                }
            }));
        }
        for task in tasks {
            task.await;
        }
        since(before)
    });
    send(
        address.recv().expect("an address"),
        connections,
        request,
        count,
        1,
    );
    let serving = serving.expect("an executor");
    serving.join().expect("the server")
}

/// Prints the runs of one row: the best, and all of them.
fn row(name: &str, unit: &str, runs: impl FnMut(usize) -> (f64, i64)) {
    let runs: Vec<_> = (0..RUNS).map(runs).collect();
    let best = runs.iter().map(|run| run.0).fold(f64::INFINITY, f64::min);
    let all: Vec<_> = runs.iter().map(|run| format!("{:.2}", run.0)).collect();
    let faults = runs.iter().map(|run| run.1).min().unwrap_or(0);
    println!(
        "{name:<44} {best:>7.2} {unit} of {}; page faults {faults}",
        all.join(" ")
    );
}

fn main() {
    for bytes in [16 << 10, 64 << 10, 1 << 20] {
        let count = RECEIVED_BYTES / bytes;
        let each = |usage: Usage| (usage.seconds, usage.faults);
        let kib = bytes >> 10;
        row(&format!("blocking loop, {kib} KiB"), "s/GiB", |_| {
            each(blocking(bytes, count))
        });
        row(&format!("glommio's stream, {kib} KiB"), "s/GiB", |_| {
            each(by_glommio_stream(bytes, count))
        });
        for connections in [1, 8] {
            let name = format!("requests of {kib} KiB, {connections} connections");
            row(&name, "s/GiB", |_| {
                each(ours(
                    connections,
                    &request(bytes, 0),
                    count / connections,
                    IN_FLIGHT,
                ))
            });
        }
    }
    for connections in [1, 16, 64] {
        let count = ECHOES / connections;
        let request = request(ECHO_BYTES, 1);
        let each = |usage: Usage| {
            let micros = usage.seconds * 1e6 / (count * connections) as f64;
            (micros, usage.faults)
        };
        row(&format!("echo, {connections} connections"), "µs", |_| {
            each(ours(connections, &request, count, 1))
        });
        row(
            &format!("echo by glommio's streams, {connections} connections"),
            "µs",
            |_| each(echo_by_glommio_stream(connections, &request, count)),
        );
    }
}
