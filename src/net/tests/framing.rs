//! Requests of all sizes, cut in all places; replies in many pieces; what is no request.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::fixture::{ALONE, Client, PIPELINES, Server, Setup, counting, request};

/// A small generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let first = self.below(256);
        (0..length)
            .map(|index| (first + index * 7 + index / 251) as u8)
            .collect()
    }
}

fn echoes(requests: &[Vec<u8>], cut: impl Fn(&mut Random) -> usize + Send + 'static, seed: u64) {
    let server = Server::start(&Setup::default());
    let mut client = server.connect();
    let mut writer = client.stream.try_clone().expect("a descriptor");
    let bytes: Vec<u8> = requests.concat();
    let writing = thread::spawn(move || {
        let mut random = Random(seed);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cut(&mut random).clamp(1, rest.len()));
            writer.write_all(now).expect("a reading server");
            rest = later;
        }
    });
    for (index, request) in requests.iter().enumerate() {
        assert!(
            client.receive() == request[7..],
            "request {index} of seed {seed}"
        );
    }
    writing.join().expect("the writer");
}

#[test]
fn requests_arrive_whole_however_they_are_cut() {
    for seed in 1..=6 {
        let mut random = Random(seed);
        let requests: Vec<_> = (0..120)
            .map(|_| {
                let length = match random.below(10) {
                    0 => random.below(400_000),
                    1..=3 => random.below(40_000),
                    // About what is read ahead in one go, and the classes of frame buffers.
                    4 => 16_384 - 10 + random.below(20),
                    5 => 20_480 - 10 + random.below(20),
                    _ => random.below(200),
                };
                let key = [PIPELINES, ALONE][random.below(2)];
                let rest = random.bytes(length);
                request(key, b'e', &rest)
            })
            .collect();
        let longest = [200_000, 3_000, 60_000][seed as usize % 3];
        echoes(&requests, move |random| 1 + random.below(longest), seed);
    }
}

#[test]
fn requests_that_trickle_in_byte_by_byte_arrive_whole() {
    let mut random = Random(7);
    let requests: Vec<_> = (0..40)
        .map(|index| {
            let length = random.below(60);
            request(index % 2, b'e', &random.bytes(length))
        })
        .collect();
    echoes(&requests, |_| 1, 7);
}

#[test]
fn a_huge_request_and_a_huge_reply_arrive_whole() {
    let mut random = Random(8);
    let requests: Vec<_> = [9 << 20, 31 << 20, 1 << 20]
        .into_iter()
        .map(|length| request(PIPELINES, b'e', &random.bytes(length)))
        .collect();
    echoes(&requests, |_| 1 << 20, 8);
}

#[test]
fn replies_are_sent_in_pieces() {
    let mut random = Random(9);
    let data = Bytes::from(random.bytes(5 << 20));
    let server = Server::start(&Setup {
        data: data.clone(),
        ..Setup::default()
    });
    let mut client = server.connect();
    let ranges = [
        (0, 1),
        (1, 0),
        (4_095, 5_000),
        (0, 5 << 20),
        (100_000, 3 << 20),
    ];
    // All at once: several replies in one call.
    for (position, length) in ranges {
        client.send(&counting(PIPELINES, b's', &[position, length]));
        client.send(&request(PIPELINES, b'e', b"between"));
    }
    for (position, length) in ranges {
        let (position, length) = (position as usize, length as usize);
        let expected = [b"before", &data[position..position + length], b"after"].concat();
        assert!(client.receive() == expected, "{position} + {length}");
        assert_eq!(client.receive(), b"between");
    }
    // More pieces than one call takes.
    let many = client.ask(&counting(ALONE, b'b', &[2_000_001]));
    assert!(many.len() == 2_000_001 && many.iter().all(|byte| *byte == b'x'));
    assert_eq!(
        server.connect().ask(&request(ALONE, b'e', b"hello")),
        b"hello"
    );
}

#[test]
fn what_is_no_request_closes_its_connection_and_no_other() {
    let server = Server::start(&Setup::default());
    let mut witness = server.connect();
    let mut greet = |greeting: &[u8]| {
        assert_eq!(witness.ask(&request(ALONE, b'e', greeting)), greeting);
    };
    greet(b"before");
    let too_long = (32 << 20) + 1;
    for length in [-1, i32::MIN, too_long, i32::MAX, 0, 1, 2] {
        let mut client = server.connect();
        assert_eq!(client.ask(&request(ALONE, b'e', b"fine")), b"fine");
        client.send(&length.to_be_bytes());
        client.send(&[0; 2][..(length.clamp(0, 2) as usize)]);
        client.expect_closed();
        greet(b"meanwhile");
    }
    // A request that ends in the middle, in every part of it.
    let whole = request(PIPELINES, b'e', &[1; 30_000]);
    for length in [1, 3, 4, 5, 6, 7, 20_000, whole.len() - 1] {
        let mut client = server.connect();
        client.send(&whole[..length]);
        client
            .stream
            .shutdown(Shutdown::Write)
            .expect("an open socket");
        client.expect_closed();
        greet(b"meanwhile");
    }
    server.wait_until("they are gone", |server| server.quota.connections() == 1);
}

#[test]
fn a_client_that_says_no_more_still_gets_its_replies() {
    let server = Server::start(&Setup::default());
    let mut client = server.connect();
    client.send(&counting(PIPELINES, b'd', &[60]));
    client.send(&counting(ALONE, b'd', &[30]));
    client
        .stream
        .shutdown(Shutdown::Write)
        .expect("an open socket");
    assert_eq!(client.receive(), 60_u32.to_be_bytes());
    assert_eq!(client.receive(), 30_u32.to_be_bytes());
    client.expect_closed();
}

#[test]
fn a_client_that_resets_leaves_nothing_behind() {
    let server = Server::start(&Setup::default());
    for _ in 0..20 {
        let mut client = server.connect();
        client.send(&counting(PIPELINES, b'b', &[4 << 20]));
        client.send(&counting(PIPELINES, b'd', &[20]));
        // Unread bytes make the close a reset.
        thread::sleep(Duration::from_millis(1));
        drop(client);
    }
    server.wait_until("they are gone", |server| server.quota.connections() == 0);
    let mut client: Client = server.connect();
    assert_eq!(client.ask(&request(ALONE, b'e', b"hello")), b"hello");
}
