//! Frames that are no requests: each ends its own connection and nothing else.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use kacrab_protocol::generated::{ApiKey, MetadataRequestData};

use crate::support::broker::{Broker, Peer};
use crate::support::requests;
use crate::support::steady::Steady;
use crate::support::wire::Wire;

const METADATA: i16 = ApiKey::Metadata as i16;
const PRODUCE: i16 = ApiKey::Produce as i16;
const FETCH: i16 = ApiKey::Fetch as i16;

/// A frame: its length, then `payload`.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = i32::try_from(payload.len())
        .expect("a small frame")
        .to_be_bytes()
        .to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// A request header of version 1, or 2 with its empty tags, and then `body`.
fn request(key: i16, version: i16, flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut payload = BytesMut::new();
    payload.put_i16(key);
    payload.put_i16(version);
    payload.put_i32(7);
    payload.put_i16(2);
    payload.put_slice(b"me");
    if flexible {
        payload.put_u8(0);
    }
    payload.put_slice(body);
    frame(&payload)
}

/// Bytes that no broker can make sense of, with their name.
type Named = (&'static str, Vec<u8>);

/// Sizes that cannot be, headers that end early, and other protocols.
fn no_requests() -> Vec<Named> {
    let size = |size: i32| size.to_be_bytes().to_vec();
    let client_id = [0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, b'a'];
    let greeting = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    vec![
        ("a size of -1", size(-1)),
        ("the smallest size", size(i32::MIN)),
        ("the largest size", size(i32::MAX)),
        ("a size over the limit", size(100 * 1024 * 1024 + 1)),
        ("an empty frame", frame(b"")),
        ("a frame of one byte", frame(b"x")),
        ("a header that ends early", frame(&[0, 3, 0, 1, 0, 0])),
        ("a client id past the frame", frame(&client_id)),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec()),
        ("a TLS greeting", [&greeting[..], &[0x5a; 506]].concat()),
    ]
}

/// Headers of a known request over a body that is none.
fn no_bodies() -> Vec<Named> {
    let huge_count = i32::MAX.to_be_bytes();
    let huge_varint = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let endless_varint = [0xff; 12];
    let metadata = |name: &[u8]| request(METADATA, 1, false, &[&[0, 0, 0, 1], name].concat());
    let compact = |body: &[u8]| request(METADATA, 12, true, body);
    let fetch = |count: i32| request(FETCH, 4, false, &fetch_with_count(count));
    let long = produce_with_length(i32::MAX);
    vec![
        ("no body", compact(b"")),
        (
            "tags past the frame",
            request(METADATA, 12, false, &huge_varint),
        ),
        (
            "a count past the frame",
            request(METADATA, 1, false, &huge_count),
        ),
        ("a compact count past the frame", compact(&huge_varint)),
        ("a varint without an end", compact(&endless_varint)),
        ("a name past the frame", metadata(&[0x7f, 0xff, b'a'])),
        ("a name of length -2", metadata(&[0xff, 0xfe, b'a'])),
        ("a null name", metadata(&[0xff, 0xff])),
        ("records past the frame", request(PRODUCE, 8, false, &long)),
        ("a fetch of too many topics", fetch(i32::MAX)),
        ("a fetch of -7 topics", fetch(-7)),
    ]
}

/// Requests that no table of APIs knows.
fn no_such_api() -> Vec<Named> {
    vec![
        ("an API that does not exist", request(9_999, 0, false, b"")),
        ("an API of number -1", request(-1, 0, false, b"")),
        ("an API that only brokers use", request(52, 0, true, b"")),
        ("an API of the past", request(4, 0, false, &[0; 32])),
        (
            "a version that is too new",
            request(METADATA, 14, true, &[0; 8]),
        ),
        (
            "the largest version",
            request(PRODUCE, i16::MAX, true, &[0; 8]),
        ),
        ("a version of -1", request(METADATA, -1, false, &[0; 8])),
        (
            "a fetch that is too old",
            request(FETCH, 3, false, &[0; 32]),
        ),
        (
            "a produce that is too old",
            request(PRODUCE, 2, false, &[0; 32]),
        ),
    ]
}

/// A Produce body of version 8 for partition 0 of "t" whose records claim `length` bytes.
fn produce_with_length(length: i32) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_i16(-1);
    body.put_i16(-1);
    body.put_i32(1_000);
    body.put_i32(1);
    body.put_i16(1);
    body.put_u8(b't');
    body.put_i32(1);
    body.put_i32(0);
    body.put_i32(length);
    body.put_slice(b"not as many");
    body.to_vec()
}

/// A Fetch body of version 4 that claims `count` topics.
fn fetch_with_count(count: i32) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_i32(-1);
    body.put_i32(0);
    body.put_i32(0);
    body.put_i32(1 << 20);
    body.put_i8(0);
    body.put_i32(count);
    body.to_vec()
}

/// What the broker has logged since it had logged `count` lines; at least one line is awaited.
fn lines_after(broker: &Broker, count: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let log = broker.log();
        let said: Vec<_> = log.lines().skip(count).map(str::to_owned).collect();
        if !said.is_empty() || Instant::now() > deadline {
            return said;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_hopeless_frame_closes_its_connection_and_no_other() {
    let broker = Broker::start();
    let steady = Steady::start(&broker);
    let mut answered = Vec::new();
    let before = broker.log().lines().count();
    let all = [no_requests(), no_bodies(), no_such_api()].concat();
    let count = all.len();
    for (at, (name, bytes)) in all.into_iter().enumerate() {
        let mut wire = Wire::connect(broker.port());
        wire.send(&bytes);
        if let Some(answer) = wire.receive() {
            answered.push((name, answer));
        }
        if at == 0 && broker.peer() == Peer::Millrace {
            assert_eq!(
                lines_after(&broker, before).len(),
                1,
                "{name} is worth one line"
            );
        }
    }
    if broker.peer() == Peer::Millrace {
        // Peers cannot fill the log: past a number of lines they are only counted.
        let said = lines_after(&broker, before);
        assert!(said.len() <= count, "{said:#?}");
        assert!(
            said.iter().all(|line| line.contains("closed a connection")),
            "{said:#?}"
        );
    }
    assert!(answered.is_empty(), "answered: {answered:?}");
    assert!(steady.stop() > 0);
}

#[test]
fn a_request_may_come_in_pieces_and_many_at_once() {
    let broker = Broker::start();
    let mut body = BytesMut::new();
    MetadataRequestData::default()
        .with_topics(Some(Vec::new()))
        .write(&mut body, 1)
        .expect("an encodable request");
    let bytes = request(METADATA, 1, false, &body);
    let mut wire = Wire::connect(broker.port());
    for byte in &bytes {
        wire.send(&[*byte]);
    }
    assert!(wire.receive().is_some(), "a request in pieces");
    wire.send(&bytes.repeat(50));
    for at in 0..50 {
        assert!(wire.receive().is_some(), "answer {at} of many");
    }
}

#[test]
fn answers_come_in_the_order_of_their_requests() {
    let broker = Broker::start();
    crate::support::topics::create(&broker, "ordered", 4, &[]);
    let mut wire = Wire::connect(broker.port());
    let batch = crate::support::batches::batch(&[b"value"]);
    let mut expected = Vec::new();
    for round in 0..40 {
        let mut body = BytesMut::new();
        let (key, version) = match round % 4 {
            0 | 1 => {
                let produce = requests::produce("ordered", round % 4, -1, &batch);
                produce.write(&mut body, 8).expect("an encodable request");
                (PRODUCE, 8)
            }
            2 => {
                let fetch = requests::fetch("ordered", 0, 0);
                fetch.write(&mut body, 11).expect("an encodable request");
                (FETCH, 11)
            }
            _ => {
                let metadata = MetadataRequestData::default();
                metadata.write(&mut body, 8).expect("an encodable request");
                (METADATA, 8)
            }
        };
        expected.push(wire.send_request(key, version, &body));
    }
    for correlation in expected {
        let mut answer = wire.receive().expect("an answer");
        let answered = i32::from_be_bytes(crate::support::wire::take(&mut answer));
        assert_eq!(answered, correlation);
    }
}

#[test]
fn bytes_behind_a_body_are_let_pass() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.port());
    let mut body = BytesMut::new();
    MetadataRequestData::default()
        .with_topics(Some(Vec::new()))
        .write(&mut body, 1)
        .expect("an encodable request");
    body.put_slice(b"more than was asked for");
    assert!(wire.ask(METADATA, 1, &body).is_some());
}

#[test]
fn a_client_may_leave_in_the_middle() {
    let broker = Broker::start();
    let steady = Steady::start(&broker);
    let whole = request(PRODUCE, 8, false, &produce_with_length(11));
    for length in 0..whole.len() {
        Wire::connect(broker.port()).send(&whole[..length]);
    }
    // Many connections at once, each with a promise of 100 MiB that it never keeps. Kafka takes the
    // memory at once and dies of 50 of them.
    let count = match broker.peer() {
        Peer::Millrace => 50,
        Peer::Kafka => 2,
    };
    let promises: Vec<_> = (0..count)
        .map(|_| {
            let mut wire = Wire::connect(broker.port());
            wire.send(&(100 * 1024 * 1024_i32).to_be_bytes());
            wire.send(b"but only this");
            wire
        })
        .collect();
    drop(promises);
    assert!(steady.stop() > 0);
}
