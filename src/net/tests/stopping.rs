//! The end: stops with connections open, and handlers that panic.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::fixture::{ALONE, PIPELINES, Server, Setup, counting, request};
use crate::net::server::ServerConfig;
use crate::shard::executor::ShardError;

#[test]
fn a_stop_lets_requests_in_progress_end() {
    let server = Server::start(&Setup {
        shards: 2,
        ..Setup::default()
    });
    let mut idle: Vec<_> = (0..10).map(|_| server.connect()).collect();
    let mut half = server.connect();
    half.send(&[0, 0, 1]);
    let mut busy = server.connect();
    busy.send(&counting(PIPELINES, b'd', &[300]));
    busy.send(&counting(PIPELINES, b'd', &[100]));
    server.wait_until("they are in progress", |server| server.dispatched() == 2);
    server.stop();
    assert_eq!(busy.receive(), 300_u32.to_be_bytes());
    assert_eq!(busy.receive(), 100_u32.to_be_bytes());
    busy.expect_closed();
    half.expect_closed();
    for client in &mut idle {
        client.expect_closed();
    }
    let (address, ended) = (server.address, server.ended());
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    assert!(
        TcpStream::connect(address).is_err(),
        "nobody listens any more"
    );
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let server = Server::start(&Setup {
        server: ServerConfig {
            drain_max: Duration::from_millis(100),
            ..Setup::default().server
        },
        ..Setup::default()
    });
    let mut endless = server.connect();
    endless.send(&counting(ALONE, b'd', &[60_000]));
    let mut deaf = server.connect();
    for _ in 0..10 {
        deaf.send(&counting(ALONE, b'b', &[4 << 20]));
    }
    server.wait_until("they are in progress", |server| server.dispatched() >= 2);
    let began = Instant::now();
    server.stop();
    let ended = server.ended();
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    endless.expect_closed();
}

#[test]
fn a_handler_that_panics_stops_every_shard() {
    let server = Server::start(&Setup {
        shards: 2,
        ..Setup::default()
    });
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(&request(ALONE, b'e', b"hello")), b"hello");
    }
    clients[0].send(&request(ALONE, b'p', &[]));
    let ended = server.ended();
    let panicked = ended.iter().filter(|ended| match ended {
        Err(ShardError::Panicked { message, .. }) => message == "a broken handler",
        _ => false,
    });
    assert_eq!(panicked.count(), 1, "{ended:?}");
    assert_eq!(
        ended.iter().filter(|ended| ended.is_ok()).count(),
        1,
        "{ended:?}"
    );
}
