//! Memory, connections and idleness: what is bounded stays bounded, and serves again afterwards.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;

use super::fixture::{ALONE, PIPELINES, Server, Setup, counting, request};
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

/// What this process has used of the processor.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the kernel counts");
    let time = usage.user_time() + usage.system_time();
    Duration::from_micros(time.num_microseconds() as u64)
}

#[test]
fn accepting_outlives_a_lack_of_descriptors() {
    let own = std::env::current_exe().expect("this test program");
    let test = "net::tests::limits::without_descriptors_in_a_process_of_its_own";
    let run = std::process::Command::new(own)
        .args(["--exact", test, "--ignored"])
        .output();
    let run = run.expect("this test program starts");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}
