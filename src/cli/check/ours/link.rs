//! Connections to brokers for one thread: where partitions and the group are led, and requests that
//! wait for their answers until a deadline. Any error ends all connections of the client, which
//! then looks for the leaders again.
//!
//! What no broker may answer is noted here, wherever it leads to.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use nix::poll::{PollFd, PollFlags, poll};

use crate::cli::check::history::What;
use crate::cli::check::process::World;
use crate::cli::perf::socket::Socket;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame;
use crate::protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use crate::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use crate::protocol::wire::Request;

/// The versions in which requests are sent: those that every broker since Kafka 2.7 serves.
pub mod versions {
    pub const FETCH: i16 = 12;
    pub const FIND_COORDINATOR: i16 = 2;
    pub const HEARTBEAT: i16 = 3;
    pub const INIT_PRODUCER_ID: i16 = 4;
    pub const JOIN_GROUP: i16 = 5;
    pub const LEAVE_GROUP: i16 = 2;
    pub const LIST_OFFSETS: i16 = 6;
    pub const METADATA: i16 = 9;
    pub const OFFSET_COMMIT: i16 = 7;
    pub const OFFSET_FETCH: i16 = 5;
    pub const PRODUCE: i16 = 9;
    pub const SYNC_GROUP: i16 = 3;
}

const CLIENT_ID: ByteString = ByteString::from_static("millrace-check");

/// How long a broker may take to accept a connection, and to answer most requests.
const CONNECTED_WITHIN: Duration = Duration::from_secs(1);
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// How long a wait for the kernel lasts at most.
const TICK_MS: u16 = 50;

/// The connections of one client.
pub struct Links {
    world: Arc<World>,
    process: u32,
    servers: Vec<String>,
    sockets: BTreeMap<SocketAddr, Socket>,
    leaders: BTreeMap<i32, Leader>,
    coordinator: Option<SocketAddr>,
    next_id: i32,
}

/// Who leads a partition, and by which epoch.
#[derive(Clone, Copy, Debug)]
pub struct Leader {
    pub address: SocketAddr,
    /// Sent along, so that nobody answers who does not lead any more or does not know it yet; -1
    /// where a broker tells none.
    pub epoch: i32,
}

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    address: SocketAddr,
    id: i32,
}

impl Links {
    /// Connects to nobody yet.
    pub fn new(world: &Arc<World>, process: u32) -> Self {
        let servers = world.servers.split(',').map(|server| {
            let address = server.trim();
            let behind = address.find("://").map_or(0, |at| at + "://".len());
            address[behind..].to_owned()
        });
        Self {
            world: Arc::clone(world),
            process,
            servers: servers.collect(),
            sockets: BTreeMap::new(),
            leaders: BTreeMap::new(),
            coordinator: None,
            next_id: 0,
        }
    }

    /// Notes what no broker may answer. The same, as an error.
    pub fn bad(&self, why: impl std::fmt::Display) -> String {
        let error = why.to_string();
        let noted = error.clone();
        let what = What::BadAnswer { error: noted };
        self.world.recorder.note(self.process, what);
        error
    }

    /// Ends all connections, and forgets who leads what. Another broker is asked next.
    pub fn forget(&mut self) {
        self.servers.rotate_left(1);
        self.sockets.clear();
        self.leaders.clear();
        self.coordinator = None;
    }

    /// Who leads a partition, by an epoch not older than any client was told of.
    pub fn leader(&mut self, partition: i32) -> Result<Leader, String> {
        let known = self.leaders.get(&partition).copied();
        let is_newest = |it: &Leader| self.world.newest_epoch(partition, it.epoch) <= it.epoch;
        if let Some(known) = known.filter(is_newest) {
            return Ok(known);
        }
        self.find_leaders()?;
        let leader = self.leaders.get(&partition).copied();
        leader.ok_or_else(|| {
            let newest = self.world.newest_epoch(partition, -1);
            format!("partition {partition} has no leader of epoch {newest} or a later one")
        })
    }

    /// Who coordinates a group.
    pub fn coordinator(&mut self, group: &str) -> Result<SocketAddr, String> {
        if let Some(coordinator) = self.coordinator {
            return Ok(coordinator);
        }
        let request = FindCoordinatorRequest {
            key: group.into(),
            ..Default::default()
        };
        let broker = self.any()?;
        let answer = self.ask(broker, versions::FIND_COORDINATOR, &request)?;
        accept(answer.error_code)?;
        let found = address(&answer.host, answer.port)?;
        self.coordinator = Some(found);
        Ok(found)
    }

    fn find_leaders(&mut self) -> Result<(), String> {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(self.world.setup.topic.as_str().into()),
                ..Default::default()
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let broker = self.any()?;
        let answer = self.ask(broker, versions::METADATA, &request)?;
        let Some(topic) = answer.topics.first() else {
            return Err(self.bad("metadata without the topic that was asked for"));
        };
        accept(topic.error_code)?;
        self.leaders.clear();
        for partition in &topic.partitions {
            let (index, epoch) = (partition.partition_index, partition.leader_epoch);
            // A broker may not have heard of the last election yet.
            if self.world.newest_epoch(index, epoch) > epoch {
                continue;
            }
            let leader = answer
                .brokers
                .iter()
                .find(|broker| broker.node_id == partition.leader_id);
            if let Some(leader) = leader {
                let address = address(&leader.host, leader.port)?;
                self.leaders.insert(index, Leader { address, epoch });
            }
        }
        Ok(())
    }

    /// A broker to which there is a connection, or one that accepts one.
    fn any(&mut self) -> Result<SocketAddr, String> {
        if let Some(address) = self.sockets.keys().next() {
            return Ok(*address);
        }
        let mut why = "no broker is named".to_owned();
        for server in self.servers.clone() {
            let addresses = match server.to_socket_addrs() {
                Ok(addresses) => addresses,
                Err(error) => {
                    why = format!("{server}: {error}");
                    continue;
                }
            };
            for address in addresses {
                match self.socket(address) {
                    Ok(_) => return Ok(address),
                    Err(error) => why = error,
                }
            }
        }
        Err(why)
    }

    fn socket(&mut self, address: SocketAddr) -> Result<&mut Socket, String> {
        Ok(match self.sockets.entry(address) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let socket = Socket::connect(address, CONNECTED_WITHIN);
                new.insert(socket.map_err(|error| format!("{address}: {error}"))?)
            }
        })
    }

    /// Sends a request and waits for its answer.
    pub fn ask<R: Request>(
        &mut self,
        address: SocketAddr,
        version: i16,
        request: &R,
    ) -> Result<R::Response, String> {
        let sent = self.send(address, version, request)?;
        let until = Instant::now() + ANSWERED_WITHIN;
        let answer = self.answer::<R>(sent, version, until)?;
        answer.ok_or_else(|| {
            // Its answer may come yet, in front of that to the next request.
            self.forget();
            format!("no answer within {ANSWERED_WITHIN:?}")
        })
    }

    /// Sends a request.
    pub fn send<R: Request>(
        &mut self,
        address: SocketAddr,
        version: i16,
        request: &R,
    ) -> Result<Sent, String> {
        self.next_id = self.next_id.wrapping_add(1);
        let id = self.next_id;
        let frame = frame::request(version, id, &CLIENT_ID, request);
        let frame = frame.map_err(|error| error.to_string())?;
        let socket = self.socket(address)?;
        socket.queue(frame);
        let flushed = socket.flush();
        flushed.map_err(|error| self.lost(address, &error))?;
        Ok(Sent { address, id })
    }

    /// Waits for the answer to a request, the oldest of those under way at its broker. None if it
    /// does not come until then; it may be waited for again.
    pub fn answer<R: Request>(
        &mut self,
        sent: Sent,
        version: i16,
        until: Instant,
    ) -> Result<Option<R::Response>, String> {
        let Sent { address, id } = sent;
        let socket = self.sockets.get_mut(&address);
        let socket = socket.ok_or_else(|| format!("{address}: the connection is closed"))?;
        let frame = loop {
            match next_frame(socket) {
                Ok(Some(frame)) => break frame,
                Ok(None) if Instant::now() >= until => return Ok(None),
                Ok(None) => {}
                Err(error) => return Err(self.lost(address, &error)),
            }
        };
        let parsed = frame::parse_response::<R>(frame.clone(), version);
        socket.recycle(frame);
        match parsed {
            Ok((of, response)) if of == id => Ok(Some(response)),
            Ok((of, _)) => {
                self.forget();
                Err(self.bad(format_args!("an answer to request {of} in place of {id}")))
            }
            Err(error) => {
                self.forget();
                Err(self.bad(format_args!("an answer that cannot be read: {error}")))
            }
        }
    }

    fn lost(&mut self, address: SocketAddr, error: &std::io::Error) -> String {
        self.forget();
        match error.kind() {
            ErrorKind::InvalidData => self.bad("an answer of a length that none can have"),
            _ => format!("{address}: {error}"),
        }
    }
}

/// The next frame, if one comes before long.
fn next_frame(socket: &mut Socket) -> std::io::Result<Option<bytes::Bytes>> {
    if let Some(frame) = socket.frame()? {
        return Ok(Some(frame));
    }
    let interest = match socket.out_bytes() {
        0 => PollFlags::POLLIN,
        _ => PollFlags::POLLIN | PollFlags::POLLOUT,
    };
    match poll(&mut [PollFd::new(socket.as_fd(), interest)], TICK_MS) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    socket.flush()?;
    while socket.fill()? {
        if let Some(frame) = socket.frame()? {
            return Ok(Some(frame));
        }
    }
    Ok(None)
}

fn address(host: &str, port: i32) -> Result<SocketAddr, String> {
    let resolved = (host, port as u16).to_socket_addrs();
    let mut resolved = resolved.map_err(|error| format!("{host}: {error}"))?;
    resolved.next().ok_or_else(|| format!("{host}: no address"))
}

/// The code's name; one that nobody knows is an unknown server error.
pub fn code_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

/// An error code as an error.
pub fn accept(code: i16) -> Result<(), String> {
    match code_of(code) {
        ErrorCode::None => Ok(()),
        error => Err(error.to_string()),
    }
}
