//! Sequences of requests of every served API against a whole broker, some of them with bytes
//! broken. Each request is answered by a well-formed response, or its connection is closed if it
//! cannot be read. Whatever came, the broker answers ApiVersions at the end and stops cleanly, and
//! another one serves what it has left, or a copy of what it would have left if it had been killed,
//! with every record that was acknowledged.
//!
//! A step is a place in the table of APIs, a version, how it is sent, and a slice of choices that
//! the request is made from; zeros are the latest version and the plainest request.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use millrace::base::ids::TopicId;
use millrace::protocol::api::ApiKey;
use millrace::protocol::frame::{self, Frame, RequestFrame};
use millrace::protocol::messages::create_partitions_request::CreatePartitionsRequest;
use millrace::protocol::messages::create_topics_request::CreateTopicsRequest;
use millrace::protocol::messages::create_topics_response::CreateTopicsResponse;
use millrace::protocol::messages::describe_groups_response::DescribeGroupsResponse;
use millrace::protocol::messages::fetch_request::FetchRequest;
use millrace::protocol::messages::fetch_response::FetchResponse;
use millrace::protocol::messages::find_coordinator_response::FindCoordinatorResponse;
use millrace::protocol::messages::init_producer_id_response::InitProducerIdResponse;
use millrace::protocol::messages::join_group_response::JoinGroupResponse;
use millrace::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use millrace::protocol::messages::list_offsets_response::ListOffsetsResponse;
use millrace::protocol::messages::metadata_response::MetadataResponse;
use millrace::protocol::messages::produce_request::ProduceRequest;
use millrace::protocol::messages::produce_response::ProduceResponse;
use millrace::protocol::wire::{Message, Request};

use super::apis::{check_response, is_readable, served};
use super::broker::Broker;
use super::choices::Choices;
use super::grammar::{self, Known, PARTITIONS_MAX, WAIT_MS_MAX};

const STEPS_MAX: usize = 60;
const CONNECTIONS: usize = 4;
/// Requests that one connection sends before their answers are looked at.
const AWAITED_MAX: usize = 4;
const KNOWN_MAX: usize = 8;
/// Who does not wait for others is answered within this time, on however busy a machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Of the requests that belong to no step.
const CORRELATION_ID: i32 = -1;
/// Who waits for others is given so long before the sequence goes on without the answer.
const PATIENCE: Duration = Duration::from_millis(20);

/// How a step is sent: the connection in two bits, and what is different from usual.
pub const BROKEN: u8 = 1 << 2;
pub const ON_NEW_CONNECTION: u8 = 1 << 3;
pub const WITHOUT_WAITING: u8 = 1 << 4;
pub const CUT: u8 = 1 << 5;

pub fn target(data: &[u8]) {
    let broker = Broker::start();
    let mut scene = Scene {
        address: broker.address(),
        known: Known::default(),
        correlation_id: 0,
        acknowledged: Acknowledged::new(),
        connections: std::array::from_fn(|_| None),
    };
    scene.wait_for_groups();
    let mut choices = Choices::new(data);
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        scene.step(&mut choices);
        assert!(!broker.has_ended(), "the broker has ended");
    }
    let acknowledged = scene.end();
    let left = match data.len() % 2 {
        0 => broker.stop(),
        _ => {
            let left = broker.copied();
            broker.stop();
            left
        }
    };
    let broker = Broker::start_in(left);
    check_restarted(broker.address(), &acknowledged);
    broker.stop();
}

/// The offset behind what was acknowledged last, by partition.
type Acknowledged = BTreeMap<(TopicId, i32), i64>;

/// What was made is there again: every partition is served with all that was acknowledged, and
/// those of groups are loaded.
fn check_restarted(address: SocketAddr, acknowledged: &Acknowledged) {
    const NOT_LOADED: [i16; 3] = [14, 15, 16];
    const EVERY_TOPIC: &[u8] = &[3];
    const TWO_GROUPS: &[u8] = &[0, 6, 0, 153];
    let (known, end) = (Known::default(), Instant::now() + ANSWERED_WITHIN);
    let mut connection = Connection::open(address);
    loop {
        let topics = connection.ask(&known, (ApiKey::Metadata, 12), EVERY_TOPIC);
        let topics: MetadataResponse = read(&topics, 12);
        let mut partitions = topics.topics.iter().flat_map(|topic| &topic.partitions);
        let is_served = partitions.all(|partition| partition.error_code == 0);
        let groups = connection.ask(&known, (ApiKey::DescribeGroups, 5), TWO_GROUPS);
        let groups: DescribeGroupsResponse = read(&groups, 5);
        let mut codes = groups.groups.iter().map(|group| group.error_code);
        if is_served && !codes.any(|code| NOT_LOADED.contains(&code)) {
            return check_acknowledged(&mut connection, &topics, acknowledged);
        }
        assert!(
            Instant::now() < end,
            "not all is there: {topics:?} {groups:?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn check_acknowledged(
    connection: &mut Connection,
    topics: &MetadataResponse,
    acknowledged: &Acknowledged,
) {
    for topic in &topics.topics {
        for partition in &topic.partitions {
            let partition = partition.partition_index;
            let Some(next) = acknowledged.get(&(topic.topic_id, partition)) else {
                continue;
            };
            let name = topic.name.clone().unwrap_or_default();
            let end = connection.end_offset(name, partition);
            assert!(end >= *next, "of {next} records {end} are left");
        }
    }
}

struct Scene {
    address: SocketAddr,
    known: Known,
    acknowledged: Acknowledged,
    correlation_id: i32,
    connections: [Option<Connection>; CONNECTIONS],
}

impl Scene {
    /// Groups are served once their topic is there; whoever first asks for one has it made.
    fn wait_for_groups(&self) {
        let (key, version) = (ApiKey::FindCoordinator, 6);
        let (mut connection, end) = (
            Connection::open(self.address),
            Instant::now() + ANSWERED_WITHIN,
        );
        loop {
            let answer = connection.ask(&self.known, (key, version), &[]);
            let response: FindCoordinatorResponse = read(&answer, version);
            let mut coordinators = response.coordinators.iter();
            if coordinators.all(|coordinator| coordinator.error_code == 0) {
                return;
            }
            assert!(Instant::now() < end, "groups are not served: {response:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let (place, version, how) = (choices.byte(), choices.byte(), choices.byte());
        let api = served(place, version);
        let body = Choices::new(choices.short_slice());
        self.correlation_id += 1;
        let request = grammar::request(body, &self.known, api, self.correlation_id);
        let Some(request) = request else {
            return;
        };
        let mut bytes = request.chunks.concat();
        if how & BROKEN != 0 {
            break_some(&mut bytes[frame::LENGTH_BYTES..], choices);
        }
        let at = usize::from(how) % CONNECTIONS;
        let Some(expected) = Expected::of(&bytes[frame::LENGTH_BYTES..]) else {
            return;
        };
        let is_of_no_use = |connection: &Connection| {
            how & ON_NEW_CONNECTION != 0 || connection.awaited.back() == Some(&Expected::Close)
        };
        if self.connections[at].as_ref().is_some_and(is_of_no_use) {
            self.connections[at] = None;
        }
        let address = self.address;
        let connection = self.connections[at].get_or_insert_with(|| Connection::open(address));
        if how & CUT != 0 {
            let cut = usize::from(choices.byte()) * bytes.len() / 256;
            connection.send(&bytes[..cut]);
            let _closed = connection.stream.shutdown(Shutdown::Write);
            self.connections[at] = None;
            return;
        }
        connection.send(&bytes);
        let is_last = expected == Expected::Close;
        connection.awaited.push_back(expected);
        if how & WITHOUT_WAITING == 0 || is_last || connection.awaited.len() >= AWAITED_MAX {
            self.settle(at);
        }
    }

    /// Takes the answers that a connection waits for; some may come later.
    fn settle(&mut self, at: usize) {
        while let Some(connection) = &mut self.connections[at] {
            let Some(expected) = connection.awaited.front().cloned() else {
                return;
            };
            let (api, correlation_id, may_wait) = match expected {
                Expected::Nothing => {
                    connection.may_close = true;
                    connection.awaited.pop_front();
                    continue;
                }
                Expected::Close => (None, 0, false),
                Expected::Reply {
                    api,
                    correlation_id,
                    may_wait,
                } => (Some(api), correlation_id, may_wait),
            };
            let patience = if may_wait { PATIENCE } else { ANSWERED_WITHIN };
            match (connection.receive(patience), api) {
                (Answer::Frame(answer), Some(api)) => {
                    connection.awaited.pop_front();
                    let body = check_header(api, correlation_id, answer);
                    check_response(api.0, api.1, body.clone());
                    self.learn(api, &body);
                }
                (Answer::Frame(_), None) => panic!("what cannot be read was answered"),
                (Answer::Closed, None) => self.connections[at] = None,
                (Answer::Closed, Some(api)) => {
                    assert!(connection.may_close, "{api:?} closed the connection");
                    self.connections[at] = None;
                }
                (Answer::Nothing, _) => {
                    assert!(may_wait, "neither an answer nor an end: {api:?}");
                    if connection.awaited.len() >= AWAITED_MAX {
                        self.connections[at] = None;
                    }
                    return;
                }
            }
        }
    }

    /// Keeps what later requests are about.
    fn learn(&mut self, (key, version): (ApiKey, i16), body: &Bytes) {
        let known = &mut self.known;
        match key {
            ApiKey::Produce => {
                let response: ProduceResponse = read(body, version);
                for topic in response.responses {
                    let partitions = topic.partition_responses.iter();
                    for partition in partitions.filter(|partition| partition.error_code == 0) {
                        let of = (topic.topic_id, partition.index);
                        let next = self.acknowledged.entry(of).or_default();
                        *next = (*next).max(partition.base_offset + 1);
                    }
                }
            }
            ApiKey::CreateTopics => {
                let response: CreateTopicsResponse = read(body, version);
                for topic in response.topics {
                    known.topic_ids.insert(0, topic.topic_id);
                }
                known.topic_ids.truncate(KNOWN_MAX);
            }
            ApiKey::JoinGroup => {
                let response: JoinGroupResponse = read(body, version);
                if !response.member_id.is_empty() {
                    known
                        .members
                        .push((response.member_id, response.generation_id));
                }
                let too_many = known.members.len().saturating_sub(KNOWN_MAX);
                known.members.drain(..too_many);
            }
            ApiKey::InitProducerId => {
                let response: InitProducerIdResponse = read(body, version);
                if response.error_code == 0 {
                    known.producer = (response.producer_id, response.producer_epoch);
                }
            }
            ApiKey::Fetch => {
                let response: FetchResponse = read(body, version);
                if response.session_id != 0 {
                    let is_same = known.session.0 == response.session_id;
                    let epoch = if is_same { known.session.1 + 1 } else { 1 };
                    known.session = (response.session_id, epoch);
                }
            }
            _ => {}
        }
    }

    /// Whatever came before, a new connection is served. Who still waits is left.
    fn end(mut self) -> Acknowledged {
        for at in 0..CONNECTIONS {
            self.settle(at);
        }
        self.connections = std::array::from_fn(|_| None);
        Connection::open(self.address).ask(&self.known, (ApiKey::ApiVersions, 0), &[]);
        self.acknowledged
    }
}

fn read<M: Message>(body: &Bytes, version: i16) -> M {
    M::from_bytes(body.clone(), version).expect("it was read before")
}

/// Sets a few bytes of a frame to others.
fn break_some(frame: &mut [u8], choices: &mut Choices<'_>) {
    for _ in 0..=choices.below(3) {
        let at = usize::from(choices.byte()) | usize::from(choices.byte()) << 8;
        frame[at % frame.len()] = choices.byte();
    }
}

/// What is to come of a request.
#[derive(Clone, Debug, PartialEq)]
enum Expected {
    Reply {
        api: (ApiKey, i16),
        correlation_id: i32,
        /// Whether others decide when it is answered.
        may_wait: bool,
    },
    Nothing,
    Close,
}

impl Expected {
    /// By the frame without its length; none for what is not to be sent, since it takes long.
    fn of(frame: &[u8]) -> Option<Self> {
        let Ok(request) = frame::parse_request(Bytes::copy_from_slice(frame)) else {
            return Some(Self::Close);
        };
        let (key, version) = (request.header.key, request.header.version);
        let reply = |version, may_wait| Self::Reply {
            api: (key, version),
            correlation_id: request.header.correlation_id,
            may_wait,
        };
        if request.is_unsupported_api_versions() {
            return Some(reply(0, false));
        }
        if !is_readable(key, version, &request.body) {
            return Some(Self::Close);
        }
        match key {
            ApiKey::Produce if body::<ProduceRequest>(&request).acks == 0 => Some(Self::Nothing),
            ApiKey::JoinGroup | ApiKey::SyncGroup => Some(reply(version, true)),
            _ if takes_long(&request) => None,
            _ => Some(reply(version, false)),
        }
    }
}

fn takes_long(request: &RequestFrame) -> bool {
    match request.header.key {
        ApiKey::Fetch => body::<FetchRequest>(request).max_wait_ms > WAIT_MS_MAX,
        ApiKey::CreateTopics => {
            let topics = body::<CreateTopicsRequest>(request).topics;
            topics
                .iter()
                .any(|topic| topic.num_partitions > PARTITIONS_MAX)
        }
        ApiKey::CreatePartitions => {
            let topics = body::<CreatePartitionsRequest>(request).topics;
            topics.iter().any(|topic| topic.count > PARTITIONS_MAX)
        }
        _ => false,
    }
}

fn body<R: Request>(request: &RequestFrame) -> R {
    request.decode().expect("it was read before")
}

/// The body of an answer whose header is right.
fn check_header((key, version): (ApiKey, i16), correlation_id: i32, answer: Bytes) -> Bytes {
    let header = 4 + usize::from(key.response_header_version(version) == 1);
    let (id, tags) = (answer.get(..4), answer.get(4..header));
    assert_eq!(
        id,
        Some(&correlation_id.to_be_bytes()[..]),
        "whose answer it is"
    );
    assert_eq!(tags, Some(&[0][..header - 4]), "tagged fields of a header");
    answer.slice(header..)
}

/// What has come of a wait.
enum Answer {
    /// A frame, without its length.
    Frame(Bytes),
    Closed,
    Nothing,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    awaited: VecDeque<Expected>,
    /// Whether something was sent that has no answer: an error closes the connection then.
    may_close: bool,
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        // The port opens when the broker is ready.
        let end = Instant::now() + ANSWERED_WITHIN;
        let stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < end, "nobody listens: {error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        stream.set_nodelay(true).expect("an open socket");
        Self {
            stream,
            received: Vec::new(),
            awaited: VecDeque::new(),
            may_close: false,
        }
    }

    /// The broker may have closed the connection: that is found when the answer is looked for.
    fn send(&mut self, bytes: &[u8]) {
        let _closed = self.stream.write_all(bytes);
    }

    /// The body of the answer to a request that choices make.
    fn ask(&mut self, known: &Known, api: (ApiKey, i16), choices: &[u8]) -> Bytes {
        let request = grammar::request(Choices::new(choices), known, api, CORRELATION_ID);
        self.exchange(api, &request.expect("a request that can be expressed"))
    }

    /// The end of a partition.
    fn end_offset(&mut self, topic: ByteString, partition: i32) -> i64 {
        const VERSION: i16 = 11;
        const LATEST: i64 = -1;
        let partition = ListOffsetsPartition {
            partition_index: partition,
            timestamp: LATEST,
            ..ListOffsetsPartition::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic,
                partitions: vec![partition],
            }],
            ..ListOffsetsRequest::default()
        };
        let request = frame::request(VERSION, CORRELATION_ID, &ByteString::new(), &request);
        let request = request.expect("a request that can be expressed");
        let answer = self.exchange((ApiKey::ListOffsets, VERSION), &request);
        let response: ListOffsetsResponse = read(&answer, VERSION);
        let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.next().map_or(-1, |partition| partition.offset)
    }

    fn exchange(&mut self, api: (ApiKey, i16), request: &Frame) -> Bytes {
        self.send(&request.chunks.concat());
        let Answer::Frame(answer) = self.receive(ANSWERED_WITHIN) else {
            panic!("{api:?} is not answered");
        };
        let body = check_header(api, CORRELATION_ID, answer);
        check_response(api.0, api.1, body.clone());
        body
    }

    fn receive(&mut self, patience: Duration) -> Answer {
        let end = Instant::now() + patience;
        let mut chunk = [0; 4096];
        loop {
            if let Some(frame) = self.take_frame() {
                return Answer::Frame(frame);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Answer::Nothing;
            }
            let left = left.max(Duration::from_millis(1));
            self.stream
                .set_read_timeout(Some(left))
                .expect("a time that is not zero");
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    assert!(self.received.is_empty(), "an answer that is cut off");
                    return Answer::Closed;
                }
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Answer::Nothing,
                    ErrorKind::ConnectionReset => return Answer::Closed,
                    ErrorKind::Interrupted => {}
                    _ => panic!("a connection that fails: {error}"),
                },
            }
        }
    }

    fn take_frame(&mut self) -> Option<Bytes> {
        let length = i32::from_be_bytes(*self.received.first_chunk()?);
        let length = usize::try_from(length).expect("a length that is not negative");
        let end = frame::LENGTH_BYTES + length;
        if self.received.len() < end {
            return None;
        }
        let frame = Bytes::copy_from_slice(&self.received[frame::LENGTH_BYTES..end]);
        self.received.drain(..end);
        Some(frame)
    }
}
