//! The order of requests and replies on one connection, and what runs beside what.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::fixture::{ALONE, PIPELINES, Server, Setup, counting, request};
use crate::base::limits::PIPELINED_REQUESTS_MAX;

#[test]
fn completions_run_side_by_side_and_replies_keep_the_order() {
    let server = Server::start(&Setup::default());
    let mut client = server.connect();
    let delays: Vec<u32> = (0..30).map(|index| 300 - 10 * index).collect();
    let began = Instant::now();
    for delay in &delays {
        client.send(&counting(PIPELINES, b'd', &[*delay]));
        client.send(&request(PIPELINES, b'n', &[]));
    }
    for delay in &delays {
        assert_eq!(client.receive(), delay.to_be_bytes());
    }
    // One after the other they would take four and a half seconds.
    let total: u32 = delays.iter().sum();
    assert!(began.elapsed() < Duration::from_millis(u64::from(total)) / 2);
    let in_progress_max = server.seen.in_progress_max.load(Ordering::SeqCst);
    assert!(in_progress_max >= 20, "{in_progress_max}");
}

#[test]
fn a_request_that_does_not_pipeline_waits_for_all_earlier_ones() {
    // The service asserts that nothing else is in progress.
    let server = Server::start(&Setup::default());
    let mut client = server.connect();
    let mut expected: Vec<Vec<u8>> = Vec::new();
    for round in 0..10_u32 {
        for delay in [20, 5, 1] {
            client.send(&counting(PIPELINES, b'd', &[delay]));
            expected.push(delay.to_be_bytes().to_vec());
        }
        client.send(&counting(ALONE, b'd', &[3]));
        expected.push(3_u32.to_be_bytes().to_vec());
        client.send(&request(ALONE, b'e', &round.to_be_bytes()));
        expected.push(round.to_be_bytes().to_vec());
    }
    for reply in expected {
        assert_eq!(client.receive(), reply);
    }
}

#[test]
fn no_more_than_so_many_requests_of_a_connection_are_in_progress() {
    let server = Server::start(&Setup::default());
    let mut client = server.connect();
    let count = 3 * PIPELINED_REQUESTS_MAX;
    for _ in 0..count {
        client.send(&counting(PIPELINES, b'd', &[40]));
    }
    for _ in 0..count {
        assert_eq!(client.receive(), 40_u32.to_be_bytes());
    }
    let in_progress_max = server.seen.in_progress_max.load(Ordering::SeqCst);
    assert!(
        (2..=PIPELINED_REQUESTS_MAX).contains(&in_progress_max),
        "{in_progress_max}"
    );
}

#[test]
fn a_close_takes_effect_in_its_turn() {
    let server = Server::start(&Setup::default());
    let mut client = server.connect();
    client.send(&counting(PIPELINES, b'd', &[50]));
    client.send(&request(PIPELINES, b'c', &[]));
    client.send(&request(PIPELINES, b'e', b"never"));
    assert_eq!(client.receive(), 50_u32.to_be_bytes());
    client.expect_closed();
    server.wait_until("it is gone", |server| server.quota.connections() == 0);
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let server = Server::start(&Setup::default());
    let mut client = server.connect();
    let reply_bytes = 4 << 20;
    let asks = 40;
    for _ in 0..asks {
        client.send(&counting(ALONE, b'b', &[reply_bytes]));
    }
    std::thread::sleep(Duration::from_millis(200));
    // The kernel's buffers hold the first replies, the broker at most one more.
    let dispatched = server.dispatched();
    assert!(dispatched <= 5, "{dispatched} requests dispatched");
    let mut other = server.connect();
    assert_eq!(other.ask(&request(ALONE, b'e', b"hello")), b"hello");
    for _ in 0..asks {
        assert_eq!(client.receive().len(), reply_bytes as usize);
    }
}

#[test]
fn connections_do_not_wait_for_each_other() {
    let server = Server::start(&Setup::default());
    let mut slow = server.connect();
    let mut quick = server.connect();
    slow.send(&counting(ALONE, b'd', &[1_000]));
    server.wait_until("it is in progress", |server| server.dispatched() == 1);
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(quick.ask(&request(ALONE, b'e', b"quick")), b"quick");
    }
    assert!(
        began.elapsed() < Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(slow.receive(), 1_000_u32.to_be_bytes());
}
