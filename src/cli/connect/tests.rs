//! Finding a broker, and what of the properties counts, without one.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Parser as _;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};
use socket2::{Domain, Socket, Type};

use super::Connection;
use super::given::Given;
use super::reach::reachable;
use crate::cli::CliError;

/// A port that answers nobody: its queue of connections is full, and nothing accepts them.
struct Deaf {
    address: SocketAddr,
    _socket: Socket,
    _queued: Vec<TcpStream>,
}

impl Deaf {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a free port");
        socket.listen(0).expect("a listening socket");
        let address = socket.local_addr().expect("an address");
        let address = address.as_socket().expect("an IP address");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
        let queued = std::iter::from_fn(|| connect().ok()).take(16).collect();
        Self {
            address,
            _socket: socket,
            _queued: queued,
        }
    }
}

#[test]
fn all_brokers_together_are_tried_no_longer_than_the_timeout() {
    let (first, second) = (Deaf::new(), Deaf::new());
    let servers = format!("{},{}", first.address, second.address);
    let began = Instant::now();
    let found = reachable(&servers, Duration::from_millis(400));
    assert!(
        matches!(found, Err(CliError::Unreachable { .. })),
        "{found:?}"
    );
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(300),
        "they were tried: {took:?}"
    );
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_broker_behind_a_deaf_one_is_found_within_the_timeout() {
    let deaf = Deaf::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let good = listener.local_addr().expect("an address");
    let servers = format!("{}, PLAINTEXT://{good}", deaf.address);
    let found = reachable(&servers, Duration::from_secs(1)).expect("the second one");
    assert_eq!(found, format!("PLAINTEXT://{good},{}", deaf.address));
}

#[test]
fn a_name_without_a_port_has_kafkas() {
    let refused = |server: &str| match reachable(server, Duration::from_secs(5)) {
        // Something may well listen there.
        Ok(found) => found.ends_with(":9092"),
        Err(CliError::Unreachable { reason, .. }) => !reason.contains("invalid"),
        Err(error) => panic!("{server}: {error}"),
    };
    for server in ["127.0.0.1", "[::1]", "::1"] {
        assert!(refused(server), "{server}");
    }
}

#[test]
fn what_is_given_by_x_counts_more_than_the_file_by_whichever_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("client.properties");
    let text = "request.required.acks=0\nclient.id=mine\ncompression.codec=lz4\n";
    std::fs::write(&file, text).expect("a file");
    let by_x = [("acks".to_owned(), "1".to_owned())];
    let given = Given::read(Some(&file), &by_x).expect("properties");
    let all: Vec<_> = given.iter().collect();
    let expected = [
        ("acks", "1"),
        ("client.id", "mine"),
        ("compression.type", "lz4"),
    ];
    assert_eq!(all, expected);
}

/// A command line of which only the connection matters.
#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    connection: Connection,
}

#[test]
fn partitions_that_cannot_be_asked_are_told_from_the_others() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("t", 3, 1).expect("a topic");
    let leaderless = cluster.partition_leader("t", 1, None);
    leaderless.expect("a partition without a leader");
    let line = Line::parse_from(["x", "-b", &cluster.bootstrap_servers()]);
    let client = line.connection.connect().expect("a client");
    let of = |topic: &str, partitions: &[i32]| -> Vec<_> {
        partitions
            .iter()
            .map(|partition| (topic.to_owned(), *partition))
            .collect()
    };
    let wanted = [of("gone", &[0]), of("t", &[0, 1, 2, 3])].concat();
    let (led, left_out) = client.by_leaders(wanted).expect("metadata");
    assert_eq!(led, of("t", &[0, 2]));
    assert_eq!(left_out, [of("gone", &[0]), of("t", &[1, 3])].concat());
}

#[test]
fn the_ends_of_the_others_are_told_where_a_partition_is_gone() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("t", 2, 1).expect("a topic");
    let servers = cluster.bootstrap_servers();
    let line = Line::parse_from(["x", "-b", &servers, "--timeout", "2s"]);
    let client = line.connection.connect().expect("a client");
    let partition = |topic: &str, partition| (topic.to_owned(), partition);
    let wanted = [partition("gone", 0), partition("t", 1), partition("t", 7)];
    let unknown = Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    let refused = Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    let of_t = [(partition("t", 1), 0)];
    let began = Instant::now();
    // As of a leader that has not heard of its partition yet, or has forgotten it already.
    for errors in [&[][..], &[unknown], &[unknown; 2]] {
        cluster.request_errors(RDKafkaApiKey::ListOffsets, errors);
        let ends = client.ends(&wanted).expect("ends");
        assert!(ends.into_iter().eq(of_t.clone()), "{errors:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "asked again");
    cluster.request_errors(RDKafkaApiKey::ListOffsets, &[refused; 8]);
    let told = client.ends(&wanted).expect_err("another error");
    assert!(told.to_string().contains("of t"), "{told}");
}
