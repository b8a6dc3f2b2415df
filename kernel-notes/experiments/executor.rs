//! The runtime's executors as servers of small requests: spinning or parking, one owner or two,
//! pinned or not. For the pages `parking.md`, `connections.md` and `pinning.md`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_channel::{mpsc as across, oneshot};
use futures_lite::{AsyncReadExt, AsyncWriteExt, StreamExt};
use glommio::{LocalExecutorBuilder, Placement};

use crate::Result;
use crate::measure;
use crate::tcp::{REPLY, REQUEST_BYTES};

/// Who answers a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The executor that has the connection.
    Same,
    /// Another one, asked by a message.
    Other,
    /// Another one, which has been given the connection.
    Moved,
}

/// How a server stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The CPU of the executor that takes the connections.
    pub cpu: Option<usize>,
    /// The CPU of the one that is asked, if there is one.
    pub other_cpu: Option<usize>,
    pub spin: Duration,
    pub owner: Owner,
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    threads: Vec<JoinHandle<std::result::Result<f64, String>>>,
}

type Question = oneshot::Sender<[u8; 60]>;

enum Message {
    Answer(Question),
    Take(TcpStream),
}

impl Server {
    /// Serves as many connections until all of them have been closed.
    pub fn start(standing: Standing, connections: usize) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (send, receive) = across::unbounded();
        let mut threads = Vec::new();
        if standing.owner != Owner::Same {
            threads.push(run(standing.other_cpu, standing.spin, move || {
                other(receive)
            }));
        }
        let owner = standing.owner;
        let first = move || accept(listener, connections, owner, send);
        threads.push(run(standing.cpu, standing.spin, first));
        Ok(Self { address, threads })
    }

    /// Waits for its end: the CPU seconds that its executors used.
    pub fn join(self) -> Result<f64> {
        let mut seconds = 0.0;
        for thread in self.threads {
            seconds += thread.join().map_err(|_| "an executor panicked")??;
        }
        Ok(seconds)
    }
}

fn run<F, W>(
    cpu: Option<usize>,
    spin: Duration,
    work: W,
) -> JoinHandle<std::result::Result<f64, String>>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<()>>,
{
    thread::spawn(move || {
        let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
        let built = LocalExecutorBuilder::new(placement)
            .io_memory(64 << 10)
            .preempt_timer(Duration::from_millis(200))
            .spin_before_park(spin)
            .make()
            .map_err(|error| error.to_string())?;
        let served = built.run(async {
            glommio::spawn_local(stay_awake()).detach();
            let before = measure::thread_seconds()?;
            work().await?;
            Ok(measure::thread_seconds()? - before)
        });
        served.map_err(|error: Box<dyn std::error::Error>| error.to_string())
    })
}

/// An executor that is preempted before it ran anything parks although tasks are runnable, see
/// `receive.md`. This bounds that sleep, which otherwise nothing here would end.
async fn stay_awake() {
    loop {
        glommio::timer::sleep(Duration::from_millis(100)).await;
    }
}

async fn accept(
    listener: TcpListener,
    connections: usize,
    owner: Owner,
    ask: across::UnboundedSender<Message>,
) -> Result<()> {
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        if owner == Owner::Moved {
            ask.unbounded_send(Message::Take(stream))?;
        } else {
            let ask = (owner == Owner::Other).then(|| ask.clone());
            tasks.push(glommio::spawn_local(serve(stream, ask)));
        }
    }
    drop(ask);
    for task in tasks {
        task.await?;
    }
    Ok(())
}

/// The executor that is asked, or is given connections.
async fn other(mut messages: across::UnboundedReceiver<Message>) -> Result<()> {
    let mut tasks = Vec::new();
    while let Some(message) = messages.next().await {
        match message {
            // Who asked has gone if nobody takes it.
            Message::Answer(question) => _ = question.send(REPLY),
            Message::Take(stream) => tasks.push(glommio::spawn_local(serve(stream, None))),
        }
    }
    for task in tasks {
        task.await?;
    }
    Ok(())
}

async fn serve(stream: TcpStream, ask: Option<across::UnboundedSender<Message>>) -> Result<()> {
    stream.set_nonblocking(true)?;
    let fd = stream.into_raw_fd();
    let mut stream = from_raw(fd);
    let mut request = [0; REQUEST_BYTES];
    // Its end is the client's.
    while stream.read_exact(&mut request).await.is_ok() {
        let reply = match &ask {
            None => REPLY,
            Some(ask) => {
                let (question, answer) = oneshot::channel();
                ask.unbounded_send(Message::Answer(question))?;
                answer.await?
            }
        };
        stream.write_all(&reply).await?;
    }
    Ok(())
}

#[allow(unsafe_code)]
fn from_raw(fd: std::os::fd::RawFd) -> glommio::net::TcpStream {
    // SAFETY: the descriptor was just given up by its only owner.
    unsafe { glommio::net::TcpStream::from_raw_fd(fd) }
}

/// Asks at a pace on one connection: the latency of each request from when it was due.
pub fn ask_paced(address: SocketAddr, each: Duration, count: usize) -> Result<Vec<u64>> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reply = REPLY;
    let mut latencies_ns = Vec::with_capacity(count);
    let began = Instant::now();
    for turn in 0..count {
        let due = began + each * turn as u32;
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            thread::sleep(early);
        }
        let asked = Instant::now();
        stream.write_all(&[7; REQUEST_BYTES])?;
        stream.read_exact(&mut reply)?;
        latencies_ns.push(asked.elapsed().as_nanos() as u64);
    }
    Ok(latencies_ns)
}

/// So many connections of one client.
pub fn connect(address: SocketAddr, connections: usize) -> Result<Vec<TcpStream>> {
    (0..connections)
        .map(|_| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
        .collect()
}
