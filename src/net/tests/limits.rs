//! Memory, connections and idleness: what is bounded stays bounded, and serves again afterwards.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;

use super::fixture::{ALONE, KEY_BYTES, PIPELINES, Server, Setup, counting, request};
use crate::net::quota::ConnectionLimits;
use crate::net::server::ServerConfig;

fn with(server: ServerConfig, limits: ConnectionLimits) -> Server {
    Server::start(&Setup {
        server,
        limits,
        ..Setup::default()
    })
}

#[test]
fn records_wait_for_memory_and_small_requests_do_not() {
    let budget: u64 = 4 << 20;
    let server = Server::start(&Setup {
        budget_bytes: budget,
        ..Setup::default()
    });
    let frame = vec![7; 900 << 10];
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(&request(PIPELINES, b'h', &frame[..1 << 16]));
        client.send(&request(PIPELINES, b'h', &frame));
    }
    server.wait_until("memory is used up", |server| server.dispatched() >= 4);
    std::thread::sleep(Duration::from_millis(100));
    let dispatched = server.dispatched();
    // Four of the large ones do not fit, and who came after one that waits, waits behind it.
    assert!((4..=11).contains(&dispatched), "{dispatched}");
    let mut heartbeat = server.connect();
    for _ in 0..50 {
        assert_eq!(heartbeat.ask(&request(ALONE, b'e', b"alive")), b"alive");
    }
    // Given back, the memory serves those who waited.
    let (began, mut asked) = (Instant::now(), 50);
    while server.dispatched() < 16 + asked {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{:?}",
            server.seen
        );
        heartbeat.ask(&request(ALONE, b'r', b""));
        asked += 1;
    }
    for client in &mut clients {
        assert_eq!(client.receive().len(), 1 << 16);
        assert_eq!(client.receive().len(), frame.len());
    }
    let used_max = server.seen.budget_used_max.load(Ordering::SeqCst) as u64;
    assert!(used_max <= budget && used_max > budget / 2, "{used_max}");
}

#[test]
fn requests_that_are_announced_and_never_sent_hold_no_memory_of_others() {
    let budget: u64 = 4 << 20;
    let server = Server::start(&Setup {
        budget_bytes: budget,
        ..Setup::default()
    });
    // Of each kind of request more than there is memory for, with and without a first part.
    let mut silent: Vec<_> = (0..60).map(|_| server.connect()).collect();
    for (index, client) in silent.iter_mut().enumerate() {
        let (key, length) = match index % 3 {
            0 => (PIPELINES, 3_u32 << 20),
            1 => (PIPELINES, 1 << 20),
            _ => (ALONE, 60 << 10),
        };
        client.send(&length.to_be_bytes());
        client.send(&key.to_be_bytes());
        client.send(&vec![b'e'; 1 + index * 40]);
    }
    server.wait_until("all are there", |server| server.quota.connections() == 60);
    let mut normal = server.connect();
    let large = vec![7; 2 << 20];
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(normal.ask(&request(PIPELINES, b'e', &large)), large);
        assert_eq!(
            normal.ask(&request(ALONE, b'e', &large[..60_000])),
            large[..60_000]
        );
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    // What had to give way is served all the same, once the rest comes.
    for (index, client) in silent.iter_mut().enumerate() {
        let length: usize = match index % 3 {
            0 => 3 << 20,
            1 => 1 << 20,
            _ => 60 << 10,
        };
        let first = 1 + index * 40;
        client.send(&vec![b'x'; length - KEY_BYTES - first]);
        let reply = client.receive();
        assert_eq!(reply.len(), length - KEY_BYTES - 1);
        let (come, rest) = reply.split_at(first - 1);
        assert!(come.iter().all(|byte| *byte == b'e') && rest.iter().all(|byte| *byte == b'x'));
    }
}

#[test]
fn a_byte_at_a_time_takes_no_memory_of_others_and_is_no_progress() {
    let config = ServerConfig {
        idle_max: Some(Duration::from_millis(400)),
        ..Setup::default().server
    };
    let server = Server::start(&Setup {
        budget_bytes: 4 << 20,
        server: config,
        ..Setup::default()
    });
    let mut slow: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut slow {
        client.send(&(3_u32 << 20).to_be_bytes());
        client.send(&PIPELINES.to_be_bytes());
    }
    let mut normal = server.connect();
    let large = vec![7; 2 << 20];
    server.wait_until("the slow ones are gone", |server| {
        for client in &mut slow {
            // An error once the server has closed it.
            let _closed = client.stream.write_all(b"e");
        }
        assert_eq!(normal.ask(&request(PIPELINES, b'e', &large)), large);
        server.quota.connections() == 1
    });
}

#[test]
fn a_request_that_stops_half_way_costs_its_connection_once_its_memory_is_needed() {
    let server = Server::start(&Setup {
        budget_bytes: 4 << 20,
        ..Setup::default()
    });
    let mut stopped = server.connect();
    stopped.send(&(3_u32 << 20).to_be_bytes());
    stopped.send(&PIPELINES.to_be_bytes());
    stopped.send(&vec![b'e'; 512 << 10]);
    let mut normal = server.connect();
    server.wait_until("both are there", |server| server.quota.connections() == 2);
    let large = vec![7; 3 << 20];
    server.wait_until("it is closed", |server| {
        assert_eq!(normal.ask(&request(PIPELINES, b'e', &large)), large);
        server.quota.connections() == 1
    });
}

#[test]
fn a_client_that_does_not_read_holds_no_memory_for_its_next_request() {
    let server = Server::start(&Setup {
        budget_bytes: 4 << 20,
        ..Setup::default()
    });
    let mut deaf: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut deaf {
        client.send(&counting(ALONE, b'b', &[16 << 20]));
        let next = request(ALONE, b'e', &vec![1; 3 << 20]);
        client.stream.set_nonblocking(true).expect("an open socket");
        // As much as goes: it is not read from.
        let _blocked = client.stream.write_all(&next);
    }
    server.wait_until("all have asked", |server| server.dispatched() == 4);
    let mut normal = server.connect();
    let large = vec![7; 3 << 20];
    assert_eq!(normal.ask(&request(PIPELINES, b'e', &large)), large);
    assert_eq!(server.dispatched(), 5);
}

#[test]
fn clients_that_do_not_read_what_was_made_for_them_are_closed_once_it_is_too_much() {
    let server = with(Setup::default().server, ConnectionLimits::default());
    let mut deaf: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut deaf {
        client.send(&counting(ALONE, b'm', &[8 << 20]));
    }
    server.wait_until("one was answered", |server| server.dispatched() >= 1);
    // Waits until there is room, and is served then; and one who reads is not closed.
    let mut normal = server.connect();
    assert_eq!(normal.ask(&request(ALONE, b'e', b"hello")), b"hello");
    server.wait_until("the deaf are gone", |server| {
        server.quota.connections() == 1
    });
    let reply = normal.ask(&counting(ALONE, b'm', &[8 << 20]));
    assert_eq!(reply.len(), 8 << 20);
    assert_eq!(normal.ask(&request(ALONE, b'e', b"still")), b"still");
}

#[test]
fn clients_that_do_not_read_are_let_be_as_long_as_it_is_little() {
    let server = with(Setup::default().server, ConnectionLimits::default());
    let mut deaf = server.connect();
    // More than goes into the sockets, but nothing that was made for it.
    deaf.send(&counting(ALONE, b'b', &[16 << 20]));
    let mut normal = server.connect();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1200) {
        assert_eq!(normal.ask(&request(ALONE, b'e', b"hello")), b"hello");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(deaf.receive().len(), 16 << 20);
}

#[test]
fn a_request_larger_than_the_budget_closes_its_connection() {
    let server = Server::start(&Setup {
        budget_bytes: 1 << 20,
        ..Setup::default()
    });
    let mut client = server.connect();
    client.send(&(2_u32 << 20).to_be_bytes());
    client.send(&PIPELINES.to_be_bytes());
    client.expect_closed();
    assert_eq!(
        server.connect().ask(&request(ALONE, b'e', b"hello")),
        b"hello"
    );
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    let config = ServerConfig {
        idle_max: Some(Duration::from_millis(150)),
        ..Setup::default().server
    };
    let server = with(config, ConnectionLimits::default());
    let mut silent = server.connect();
    let mut stuck = server.connect();
    stuck.send(&[0, 0]);
    let mut waiting = server.connect();
    waiting.send(&counting(ALONE, b'd', &[900]));
    // Does not read its replies: nothing moves, though the broker has more to send.
    let mut deaf = server.connect();
    for _ in 0..10 {
        deaf.send(&counting(ALONE, b'b', &[4 << 20]));
    }
    let mut busy = server.connect();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(600) {
        assert_eq!(busy.ask(&request(ALONE, b'e', b"busy")), b"busy");
        std::thread::sleep(Duration::from_millis(20));
    }
    silent.expect_closed();
    stuck.expect_closed();
    assert_eq!(waiting.receive(), 900_u32.to_be_bytes());
    server.wait_until("all are closed", |server| server.quota.connections() == 0);
}

#[test]
fn connections_beyond_those_allowed_from_one_address_are_closed() {
    let limits = ConnectionLimits {
        per_ip_max: 2,
        ..ConnectionLimits::default()
    };
    let server = with(Setup::default().server, limits);
    let mut first = server.connect();
    let mut second = server.connect();
    for client in [&mut first, &mut second] {
        assert_eq!(client.ask(&request(ALONE, b'e', b"in")), b"in");
    }
    server.connect().expect_closed();
    drop(first);
    server.wait_until("one is gone", |server| server.quota.connections() == 1);
    assert_eq!(server.connect().ask(&request(ALONE, b'e', b"in")), b"in");
    assert_eq!(second.ask(&request(ALONE, b'e', b"still")), b"still");
}

#[test]
fn connections_beyond_those_allowed_at_all_wait() {
    let limits = ConnectionLimits {
        connections_max: 1,
        ..ConnectionLimits::default()
    };
    let server = with(Setup::default().server, limits);
    let mut first = server.connect();
    assert_eq!(first.ask(&request(ALONE, b'e', b"in")), b"in");
    let mut second = server.connect();
    second.send(&request(ALONE, b'e', b"later"));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(server.dispatched(), 1);
    drop(first);
    assert_eq!(second.receive(), b"later");
}

#[test]
fn connections_spread_over_the_shards() {
    let server = Server::start(&Setup {
        shards: 2,
        ..Setup::default()
    });
    let mut clients: Vec<_> = (0..64).map(|_| server.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(&request(PIPELINES, b'e', &[index as u8; 1000]));
    }
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.receive(), [index as u8; 1000]);
    }
    let by_shard = server.seen.by_shard.lock().expect("a lock").clone();
    assert!(
        by_shard.len() == 2 && by_shard.iter().all(|count| *count > 0),
        "{by_shard:?}"
    );
}

#[test]
fn both_address_families_are_served() {
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else {
        let _said = writeln!(std::io::stderr(), "skipped: this machine has no IPv6");
        return;
    };
    drop(probe);
    let server = Server::start(&Setup {
        address: "[::]:0",
        ..Setup::default()
    });
    for ip in ["127.0.0.1", "::1"] {
        let ip: IpAddr = ip.parse().expect("an address");
        let stream = std::net::TcpStream::connect((ip, server.address.port()));
        let stream = stream.expect("a listening server");
        let mut client = super::fixture::Client { stream };
        assert_eq!(client.ask(&request(ALONE, b'e', b"hello")), b"hello");
    }
}

/// Descriptors are a limit of the process, so this runs in one of its own: the next test starts it.
#[test]
#[ignore = "lowers the limit on descriptors of its process"]
fn without_descriptors_in_a_process_of_its_own() {
    let server = Server::start(&Setup::default());
    let mut early = server.connect();
    assert_eq!(early.ask(&request(ALONE, b'e', b"early")), b"early");
    // Clients have their descriptors before, so that the server alone finds none.
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let late: Vec<_> = (0..4).map(|_| new().expect("a descriptor")).collect();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 200, hard).expect("a lower limit");
    let taken: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    for socket in &late {
        let connected = socket.connect(&server.address.into());
        connected.expect("room among those that wait to be accepted");
    }
    let before = cpu_time();
    std::thread::sleep(Duration::from_millis(300));
    let spent = cpu_time() - before;
    assert!(
        spent < Duration::from_millis(150),
        "accepting spins: {spent:?}"
    );
    assert_eq!(server.quota.connections(), 1);
    // Who is in is served, and descriptors that come free serve who waits.
    assert_eq!(early.ask(&request(ALONE, b'e', b"still")), b"still");
    drop(taken);
    for socket in late {
        let stream = TcpStream::from(socket);
        let mut client = super::fixture::Client { stream };
        assert_eq!(client.ask(&request(ALONE, b'e', b"late")), b"late");
    }
}

/// Time and memory are counted by process, so this runs in one of its own: the next test starts it.
#[test]
#[ignore = "counts what its process takes"]
fn announced_in_a_process_of_its_own() {
    let server = Server::start(&Setup::default());
    let mut normal = server.connect();
    assert_eq!(normal.ask(&request(ALONE, b'e', b"before")), b"before");
    let (before, used) = (resident_bytes(), cpu_time());
    for _ in 0..300 {
        let mut silent = server.connect();
        silent.send(&(24_u32 << 20).to_be_bytes());
        silent.send(&PIPELINES.to_be_bytes());
        silent.send(&[b'e'; 200]);
        server.wait_until("it is there", |server| server.quota.connections() == 2);
        drop(silent);
        server.wait_until("it is gone", |server| server.quota.connections() == 1);
    }
    let (grown, spent) = (resident_bytes().saturating_sub(before), cpu_time() - used);
    assert!(grown < 8 << 20, "{grown} bytes for what was only announced");
    assert!(spent < Duration::from_millis(600), "{spent:?}");
}

/// What this process has in memory.
fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("the kernel counts");
    let pages = statm.split(' ').nth(1).expect("a second field");
    pages.parse::<usize>().expect("a number") * 4096
}

#[test]
fn what_is_only_announced_costs_neither_time_nor_memory() {
    run_alone("announced_in_a_process_of_its_own");
}

/// What this process has used of the processor.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the kernel counts");
    let time = usage.user_time() + usage.system_time();
    Duration::from_micros(time.num_microseconds() as u64)
}

#[test]
fn accepting_outlives_a_lack_of_descriptors() {
    run_alone("without_descriptors_in_a_process_of_its_own");
}

/// Runs an ignored test of this file in a process of its own.
fn run_alone(test: &str) {
    let own = std::env::current_exe().expect("this test program");
    let test = format!("net::tests::limits::{test}");
    let run = std::process::Command::new(own)
        .args(["--exact", &test, "--ignored"])
        .output();
    let run = run.expect("this test program starts");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}
