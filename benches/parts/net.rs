//! Splitting what a connection received into requests, with all that it does for each of them.
//!
//! A client sends many small requests at once, which one receive brings. Measured is what the
//! shard does from the first one's dispatch to the last one's: the frame is cut out, its memory
//! taken from the budget, its place among the replies kept. Requests that pipeline are dispatched
//! one behind the other; others wait, each until the reply before it is written.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use millrace::base::limits::PIPELINED_REQUESTS_MAX;
use millrace::net::listener::{ListenConfig, bind};
use millrace::net::quota::ConnectionQuota;
use millrace::net::server::{ServerConfig, serve};
use millrace::net::service::{Dispatched, Outcome, Service};
use millrace::protocol::frame::Reply;
use millrace::runtime::TaskQueue;
use millrace::shard::budget::Budget;
use millrace::shard::executor::ShardContext;
use millrace::shard::frames::Frames;
use millrace::shard::reply;

use super::{Meter, Part};

/// As many as are dispatched without any of their replies being written.
const REQUESTS: usize = PIPELINED_REQUESTS_MAX;
const REQUEST_BYTES: usize = 100;
/// A reply of eight bytes: its length and four more.
const REPLY: &[u8; 8] = &[0, 0, 0, 4, 1, 2, 3, 4];

/// Replies at once, and meters from the first request to the last one.
#[derive(Default)]
struct Metered {
    pipelines: bool,
    meter: RefCell<Option<Rc<dyn Meter>>>,
    dispatched: Cell<usize>,
    done: RefCell<Option<reply::Sender<()>>>,
}

impl Service for Metered {
    type Connection = ();

    fn connected(&self, _peer: SocketAddr, _local: SocketAddr) {}

    fn pipelines(&self, _frame_start: &[u8]) -> bool {
        self.pipelines
    }

    async fn dispatch(&self, _connection: &Rc<()>, frame: Bytes) -> Dispatched {
        assert_eq!(frame.len(), REQUEST_BYTES);
        let dispatched = self.dispatched.get() + 1;
        self.dispatched.set(dispatched);
        if let Some(meter) = &*self.meter.borrow() {
            match dispatched {
                1 => meter.start(),
                REQUESTS => meter.stop(),
                _ => {}
            }
        }
        if dispatched == REQUESTS {
            let done = self.done.take().expect("somebody waits");
            done.send(()).expect("it waits");
        }
        Dispatched::Now(Outcome::Reply(Reply {
            chunks: vec![Bytes::from_static(REPLY)],
            length: REPLY.len(),
            own_length: REPLY.len(),
        }))
    }
}

fn listen(context: &ShardContext, service: &Rc<Metered>) -> TcpStream {
    let listen = ListenConfig {
        address: "127.0.0.1:0".parse().expect("an address"),
        backlog: 8,
        receive_buffer_bytes: None,
        send_buffer_bytes: None,
    };
    let bound = bind(&listen, 1).expect("a free port").remove(0);
    let address = bound.address();
    let listening = bound.listen().expect("a free port");
    let config = ServerConfig {
        name: "bench".to_owned(),
        request_bytes_max: 1 << 20,
        idle_max: None,
        drain_max: Duration::from_secs(1),
    };
    let (service, context) = (Rc::clone(service), context.clone());
    TaskQueue::Requests.detach(async move {
        let frames = Frames::new(Budget::new(64 << 20), Budget::new(16 << 20));
        let quota = ConnectionQuota::new(Default::default());
        let served = serve(listening, service, frames, quota, config, &context).await;
        served.expect("a listening socket");
    });
    let client = TcpStream::connect(address).expect("a listening socket");
    client.set_nodelay(true).expect("an open socket");
    client.set_nonblocking(true).expect("an open socket");
    client
}

/// Takes the replies that have come, so that there is room for others.
fn drain(mut client: &TcpStream) {
    let mut buffer = [0; 4096];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => panic!("the server has closed the connection"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("the connection is broken: {error}"),
        }
    }
}

async fn part(context: &ShardContext, name: &'static str, pipelines: bool) -> Part {
    let service = Rc::new(Metered {
        pipelines,
        ..Metered::default()
    });
    let client = Rc::new(listen(context, &service));
    let mut request = (REQUEST_BYTES as u32).to_be_bytes().to_vec();
    request.resize(4 + REQUEST_BYTES, 7);
    let requests = Rc::new(request.repeat(REQUESTS));
    Part::metered(name, REQUESTS as u64 - 1, 0, move |meter| {
        let (service, client, requests) = (service.clone(), client.clone(), requests.clone());
        async move {
            drain(&client);
            let (done, all) = reply::channel();
            service.meter.replace(Some(meter));
            service.done.replace(Some(done));
            service.dispatched.set(0);
            // It is more than nothing and less than the socket's buffer: one call takes it whole.
            (&*client).write_all(&requests).expect("a reading server");
            all.await.expect("it is told");
            service.meter.replace(None);
        }
    })
}

pub async fn parts(context: &ShardContext) -> Vec<Part> {
    vec![
        part(context, "split/pipelined", true).await,
        part(context, "split/one-by-one", false).await,
    ]
}
