//! Finds the brokers, makes the topic where it is not there, and asks for offsets: what happens
//! before any load. Waits for each answer. The load's thread.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use super::super::CliError;
use super::versions;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::{self, LENGTH_BYTES};
use crate::protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use crate::protocol::messages::init_producer_id_request::InitProducerIdRequest;
use crate::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use crate::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use crate::protocol::wire::Request;

/// How long a broker may take to answer, or a topic to have leaders.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// How long an address may take to accept a connection.
pub const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

const CREATE_TIMEOUT_MS: i32 = 30_000;

/// The id that every request carries.
pub const CLIENT_ID: ByteString = ByteString::from_static("millrace-perf");

/// The timestamps of ListOffsets that stand for the ends of a log.
pub const EARLIEST: i64 = -2;
pub const LATEST: i64 = -1;

/// Where the partitions of a topic are.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: ByteString,
    /// By the address of the broker that leads them, the partitions.
    pub by_leader: BTreeMap<SocketAddr, Vec<i32>>,
}

/// The topic that is wanted, where it is not there yet.
#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: ByteString,
    pub partitions: i32,
    pub replication_factor: i16,
    pub configs: Vec<(String, String)>,
}

/// A connection on which one request waits for its answer.
#[derive(Debug)]
pub struct Asking {
    stream: TcpStream,
    next_id: i32,
}

impl Asking {
    /// Connects to the first of `servers` that accepts.
    pub fn connect(servers: &str) -> Result<Self, CliError> {
        let mut reason = "the list of brokers is empty".to_owned();
        for server in servers
            .split(',')
            .map(str::trim)
            .filter(|it| !it.is_empty())
        {
            let server = match server.contains(':') {
                true => server.to_owned(),
                false => format!("{server}:9092"),
            };
            let addresses = match server.to_socket_addrs() {
                Ok(addresses) => addresses,
                Err(error) => {
                    reason = format!("{server}: {error}");
                    continue;
                }
            };
            for address in addresses {
                match Self::to(address) {
                    Ok(asking) => return Ok(asking),
                    Err(error) => reason = format!("{address}: {error}"),
                }
            }
        }
        let addresses = servers.to_owned();
        Err(CliError::Unreachable { addresses, reason })
    }

    /// Connects to one broker.
    pub fn to(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECTED_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
        stream.set_write_timeout(Some(ANSWERED_WITHIN))?;
        Ok(Self { stream, next_id: 0 })
    }

    fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, CliError> {
        let api = R::API;
        let failed = |why: &dyn std::fmt::Display| CliError::failed(format!("{api:?}"), why);
        self.next_id += 1;
        let frame = frame::request(version, self.next_id, &CLIENT_ID, request);
        let frame = frame.map_err(|error| failed(&error))?;
        let answer = || -> std::io::Result<Vec<u8>> {
            for chunk in frame.chunks {
                self.stream.write_all(&chunk)?;
            }
            let mut length = [0; LENGTH_BYTES];
            self.stream.read_exact(&mut length)?;
            let mut answer = vec![0; u32::from_be_bytes(length) as usize];
            self.stream.read_exact(&mut answer)?;
            Ok(answer)
        };
        let answer = answer().map_err(|error| failed(&error))?;
        let parsed = frame::parse_response::<R>(Bytes::from(answer), version);
        let (_, response) = parsed.map_err(|error| failed(&error))?;
        Ok(response)
    }

    /// Finds the topic, and makes it if it is not there.
    pub fn find(&mut self, wanted: &NewTopic) -> Result<Topic, CliError> {
        let end = Instant::now() + ANSWERED_WITHIN;
        let mut is_created = false;
        loop {
            let (error, topic) = self.look_up(&wanted.name)?;
            match error {
                ErrorCode::None if !topic.by_leader.is_empty() => return Ok(topic),
                ErrorCode::UnknownTopicOrPartition if !is_created => {
                    self.create(wanted)?;
                    is_created = true;
                }
                ErrorCode::None
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::LeaderNotAvailable
                    if Instant::now() < end =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                error => return Err(CliError::failed(format!("topic '{}'", wanted.name), error)),
            }
        }
    }

    /// The topic, with no leaders where one of its partitions has none.
    fn look_up(&mut self, name: &ByteString) -> Result<(ErrorCode, Topic), CliError> {
        let topic = MetadataRequestTopic {
            name: Some(name.clone()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            // Who makes it gives it the partitions that were asked for.
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let answer = self.ask(versions::METADATA, &request)?;
        let mut addresses = BTreeMap::new();
        for broker in &answer.brokers {
            let resolved = (&*broker.host, broker.port as u16).to_socket_addrs();
            let resolved = resolved.map_err(|error| {
                let what = format!("the address {}:{} of a broker", broker.host, broker.port);
                CliError::failed(what, error)
            })?;
            addresses.extend(resolved.take(1).map(|address| (broker.node_id, address)));
        }
        let name = name.clone();
        let mut by_leader: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let Some(topic) = answer.topics.into_iter().next() else {
            let topic = Topic { name, by_leader };
            return Ok((ErrorCode::UnknownTopicOrPartition, topic));
        };
        for partition in &topic.partitions {
            let Some(leader) = addresses.get(&partition.leader_id) else {
                by_leader.clear();
                break;
            };
            let led = by_leader.entry(*leader).or_default();
            led.push(partition.partition_index);
        }
        by_leader.values_mut().for_each(|led| led.sort_unstable());
        Ok((error_of(topic.error_code), Topic { name, by_leader }))
    }

    fn create(&mut self, wanted: &NewTopic) -> Result<(), CliError> {
        let config = |(name, value): &(String, String)| CreatableTopicConfig {
            name: name.as_str().into(),
            value: Some(value.as_str().into()),
        };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: wanted.name.clone(),
                num_partitions: wanted.partitions,
                replication_factor: wanted.replication_factor,
                assignments: Vec::new(),
                configs: wanted.configs.iter().map(config).collect(),
            }],
            timeout_ms: CREATE_TIMEOUT_MS,
            validate_only: false,
        };
        let answer = self.ask(versions::CREATE_TOPICS, &request)?;
        let topic = answer.topics.into_iter().next();
        let Some(topic) = topic.filter(|topic| topic.error_code != 0) else {
            return Ok(());
        };
        match error_of(topic.error_code) {
            // Somebody was quicker.
            ErrorCode::TopicAlreadyExists => Ok(()),
            error => {
                let why = topic.error_message.unwrap_or_default();
                let what = format!("creating the topic '{}'", wanted.name);
                Err(CliError::failed(what, format_args!("{error} {why}")))
            }
        }
    }

    /// Where the logs of `partitions`, which this broker leads, begin or end.
    pub fn offsets(
        &mut self,
        topic: &ByteString,
        partitions: &[i32],
        of: i64,
    ) -> Result<BTreeMap<i32, i64>, CliError> {
        let asked = partitions.iter().map(|index| ListOffsetsPartition {
            partition_index: *index,
            current_leader_epoch: -1,
            timestamp: of,
        });
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: 0,
            topics: vec![ListOffsetsTopic {
                name: topic.clone(),
                partitions: asked.collect(),
            }],
            ..Default::default()
        };
        let answer = self.ask(versions::LIST_OFFSETS, &request)?;
        let partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let offset = |partition: ListOffsetsPartitionResponse| match error_of(partition.error_code)
        {
            ErrorCode::None => Ok((partition.partition_index, partition.offset)),
            error => {
                let what = format!("offsets of '{topic}-{}'", partition.partition_index);
                Err(CliError::failed(what, error))
            }
        };
        partitions.map(offset).collect()
    }

    /// A producer id of its own, and its epoch.
    pub fn producer_id(&mut self) -> Result<(i64, i16), CliError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let answer = self.ask(versions::INIT_PRODUCER_ID, &request)?;
        match error_of(answer.error_code) {
            ErrorCode::None => Ok((answer.producer_id, answer.producer_epoch)),
            error => Err(CliError::failed("a producer id", error)),
        }
    }
}

/// The code's name; one that nobody knows is an unknown server error.
pub fn error_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}
