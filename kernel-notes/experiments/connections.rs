//! The page `connections.md`: how SO_REUSEPORT spreads connections over listeners, and what a
//! request costs whose partition another shard owns, against one on a connection that was moved.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::executor::{Owner, Server, Standing, connect};
use crate::measure::{Table, percentile_us};
use crate::tcp::{self, HERE, THERE};
use crate::{Options, Result};

const REQUESTS: usize = 8000;

pub fn measure(options: &Options) -> Result<()> {
    spread(options);
    owners(options);
    Ok(())
}

fn spread(options: &Options) {
    let columns = ["2 listeners", "4", "16"];
    let mut table = Table::new("connections; the fullest listener over the mean", &columns);
    for connections in [6, 20, 100, 1000] {
        table.row(connections.to_string(), move || {
            [2, 4, 16]
                .into_iter()
                .map(|listeners| fullest(listeners, connections))
                .collect()
        });
    }
    table.print(options);
}

fn fullest(listeners: usize, connections: usize) -> Result<f64> {
    let mut address: SocketAddr = "127.0.0.1:0".parse()?;
    let mut bound = Vec::new();
    for _ in 0..listeners {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(connections as i32)?;
        address = socket
            .local_addr()?
            .as_socket()
            .ok_or("an address of the internet")?;
        bound.push(socket);
    }
    let made: Vec<_> = (0..connections)
        .map(|_| TcpStream::connect(address))
        .collect::<std::io::Result<_>>()?;
    let mut most = 0;
    for listener in &bound {
        let mut taken = 0;
        while listener.accept().is_ok() {
            taken += 1;
        }
        most = most.max(taken);
    }
    drop(made);
    Ok(f64::from(most) * listeners as f64 / connections as f64)
}

fn owners(options: &Options) {
    for connections in [1, 16] {
        let title = format!("requests of 100 bytes, {connections} connections, answered by");
        let columns = ["CPU µs of all executors", "p50 µs", "p99 µs"];
        let mut table = Table::new(&title, &columns);
        for (name, owner) in [
            ("the executor with the connection", Owner::Same),
            ("another one, by a message", Owner::Other),
            ("another one, which was given the connection", Owner::Moved),
        ] {
            table.row(name, move || {
                let standing = Standing {
                    cpu: Some(HERE),
                    other_cpu: Some(THERE),
                    spin: Duration::ZERO,
                    owner,
                };
                served(standing, connections)
            });
        }
        table.print(options);
    }
}

/// Asks a server that stands so; the client stands on `THERE`.
pub fn served(standing: Standing, connections: usize) -> Result<Vec<f64>> {
    let server = Server::start(standing, connections)?;
    let address = server.address;
    let each = REQUESTS / connections;
    let client = thread::spawn(move || {
        let asked = connect(address, connections).and_then(|sockets| tcp::ask(sockets, each));
        asked.map_err(|error| error.to_string())
    });
    let (mut latencies_ns, _) = client.join().map_err(|_| "the client panicked")??;
    let seconds = server.join()?;
    Ok(vec![
        seconds * 1e6 / latencies_ns.len() as f64,
        percentile_us(&mut latencies_ns, 0.5),
        percentile_us(&mut latencies_ns, 0.99),
    ])
}
