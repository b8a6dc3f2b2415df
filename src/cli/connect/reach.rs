//! Finds a broker that accepts connections, before the client library looks for one: it would try
//! until its deadline, and not say why. A command's thread; names are looked up on a thread of
//! their own, since the system's resolver knows no deadline.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::CliError;

const PORT: u16 = 9092;

/// How long one address may take to accept a connection.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// The list of brokers with the first one that accepts a connection in front, by the very address
/// that does: where `localhost` is two addresses, the library would try the other one first. All of
/// it takes no longer than `timeout`, of which each broker has its share.
pub(super) fn reachable(servers: &str, timeout: Duration) -> Result<String, CliError> {
    let servers: Vec<_> = servers
        .split(',')
        .map(str::trim)
        .filter(|server| !server.is_empty())
        .collect();
    let end = Instant::now() + timeout;
    let mut reason = "the list of brokers is empty".to_owned();
    for (index, server) in servers.iter().enumerate() {
        let (protocol, address) = split_protocol(server);
        match accepts(address, share(end, servers.len() - index)) {
            Ok(address) => {
                let others = servers.iter().filter(|other| *other != server);
                let all = std::iter::once(format!("{protocol}{address}"));
                let all = all.chain(others.map(|other| (*other).to_owned()));
                return Ok(all.collect::<Vec<_>>().join(","));
            }
            Err(why) => reason = why,
        }
    }
    let addresses = servers.join(", ");
    Err(CliError::Unreachable { addresses, reason })
}

/// `PLAINTEXT://` and what follows; nothing and all of it where no protocol is named.
fn split_protocol(server: &str) -> (&str, &str) {
    let behind = server.find("://").map_or(0, |at| at + "://".len());
    server.split_at(behind)
}

/// What is left until `end` for each of `count`.
fn share(end: Instant, count: usize) -> Duration {
    let left = end.saturating_duration_since(Instant::now());
    left / u32::try_from(count.max(1)).unwrap_or(u32::MAX)
}

fn accepts(server: &str, timeout: Duration) -> Result<SocketAddr, String> {
    let end = Instant::now() + timeout;
    let addresses = addresses(server, timeout)?;
    let mut reason = "the name has no address".to_owned();
    for (index, address) in addresses.iter().enumerate() {
        let left = share(end, addresses.len() - index).min(CONNECTED_WITHIN);
        // No time left is an error of its own to the system.
        match TcpStream::connect_timeout(address, left.max(Duration::from_millis(1))) {
            Ok(_) => return Ok(*address),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(reason)
}

/// The addresses of `host:port`, of which a missing port is Kafka's.
fn addresses(server: &str, timeout: Duration) -> Result<Vec<SocketAddr>, String> {
    let has_port = server.rsplit_once(':').is_some_and(|(host, port)| {
        let is_port = port.parse::<u16>().is_ok();
        is_port && (!host.contains(':') || host.ends_with(']'))
    });
    let name = match has_port {
        true => server.to_owned(),
        false => {
            let host = server.trim_matches(['[', ']']);
            match host.contains(':') {
                true => format!("[{host}]:{PORT}"),
                false => format!("{host}:{PORT}"),
            }
        }
    };
    let (found, finds) = channel();
    let resolver = thread::Builder::new().name("resolver".to_owned());
    let resolver = resolver.spawn(move || {
        let addresses = name.to_socket_addrs().map(Iterator::collect);
        // Whoever asked may have given up.
        let _ = found.send(addresses.map_err(|error| error.to_string()));
    });
    resolver.map_err(|error| error.to_string())?;
    finds
        .recv_timeout(timeout)
        .map_err(|_| format!("the name was not resolved within {timeout:?}"))?
}
