//! What produce asks of the library, without a broker.

use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use rdkafka::config::ClientConfig;

use super::lines::{BATCH_BYTES, BATCHES_AHEAD_MAX, Batch, read_lines};
use super::may_be_idempotent;

#[test]
fn a_producer_is_idempotent_where_the_other_properties_allow_it() {
    let table = [
        ("acks", "all", true),
        ("acks", "-1", true),
        ("acks", "1", false),
        ("acks", "0", false),
        ("retries", "0", false),
        ("retries", "3", true),
        ("max.in.flight.requests.per.connection", "5", true),
        ("max.in.flight.requests.per.connection", "6", false),
        ("queuing.strategy", "fifo", true),
        ("queuing.strategy", "lifo", false),
    ];
    for (key, value, expected) in table {
        let mut config = ClientConfig::new();
        config.set(key, value);
        assert_eq!(may_be_idempotent(&config), expected, "{key}={value}");
        config.set("enable.idempotence", expected.to_string());
        // The library itself is asked as well.
        config.create_native_config().expect("known properties");
        let made: Result<rdkafka::producer::BaseProducer, _> = config.create();
        assert!(made.is_ok(), "{key}={value}: {:?}", made.err());
    }
}

/// What is read from `input`, batch by batch.
fn batches(input: impl Read + Send + 'static) -> Vec<Batch> {
    let (sender, receiver) = sync_channel(BATCHES_AHEAD_MAX);
    let reader = thread::spawn(move || read_lines(input, &sender));
    let batches = receiver.iter().collect();
    reader.join().expect("the reader");
    batches
}

#[test]
fn lines_are_read_as_they_stand_with_either_end() {
    let table: [(&[u8], &[&[u8]]); 6] = [
        (b"", &[]),
        (b"\n", &[b""]),
        (b"a", &[b"a"]),
        (b"a\nb\n", &[b"a", b"b"]),
        (b"a\r\n\r\nb\rc", &[b"a", b"", b"b\rc"]),
        (b"\xFF\x00\n\n", &[b"\xFF\x00", b""]),
    ];
    for (input, expected) in table {
        let batches = batches(input);
        let lines: Vec<_> = batches.iter().flat_map(|batch| &batch.lines).collect();
        assert_eq!(lines, expected, "{input:?}");
        assert!(batches.iter().all(|batch| batch.error.is_none()));
    }
}

#[test]
fn what_is_read_ahead_is_bounded_in_bytes_whatever_the_lines() {
    for (line_bytes, count) in [(0, 200_000), (10, 200_000), (1 << 20, 20)] {
        let line = [vec![b'x'; line_bytes], b"\n".to_vec()].concat();
        let batches = batches(io::Cursor::new(line.repeat(count)));
        let lines: usize = batches.iter().map(|batch| batch.lines.len()).sum();
        assert_eq!(lines, count);
        for batch in &batches {
            let lines = batch.lines.len();
            let bytes = lines * (line_bytes + size_of::<Vec<u8>>());
            assert!(
                bytes <= BATCH_BYTES + line_bytes + size_of::<Vec<u8>>(),
                "{lines}"
            );
        }
        // Short lines are not handed over one by one.
        assert!(
            line_bytes > 10 || batches.len() < count / 100,
            "{}",
            batches.len()
        );
    }
}

#[test]
fn a_line_is_handed_over_before_the_next_one_comes() {
    let (mut terminal, input) = UnixStream::pair().expect("a pair of sockets");
    let (sender, receiver) = sync_channel(BATCHES_AHEAD_MAX);
    let reader = thread::spawn(move || read_lines(input, &sender));
    for line in ["one", "two"] {
        write!(terminal, "{line}\nbeg").expect("a reader");
        let batch = receiver.recv_timeout(Duration::from_secs(60));
        let batch = batch.expect("the line, though another one has begun");
        let expected = if line == "one" { "one" } else { "begtwo" };
        assert_eq!(batch.lines, [expected.as_bytes()]);
    }
    drop(receiver);
    drop(terminal);
    reader.join().expect("the reader");
}
