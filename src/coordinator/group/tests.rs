//! The machine of classic groups, driven by hand: clients, a clock, and a log that takes records
//! when the test says so.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ahash::AHashMap;
use bytes::Bytes;
use bytestring::ByteString;

use super::command::{
    Append, Command, CommitOffsets, Effects, Heartbeat, JoinGroup, JoinReply, LeaveGroup,
    LeavingMember, Now, Protocol, Reply, ReplyId, SyncGroup, SyncReply,
};
use super::config::GroupConfig;
use super::error::GroupError;
use super::event::{What, Why};
use super::machine::Machine;
use super::offsets::OffsetToCommit;
use super::record::{GroupMetadata, GroupRecord};
use super::state::GroupState;
use crate::base::ids::{PartitionIndex, TopicId};

mod bounds;
mod committing;
mod heartbeats;
mod joining;
mod leaving;
mod lifecycle;
mod rejoining;
mod simulation;
mod size;
mod static_members;
mod syncing;

/// 14 November 2023, 22:13:20.
const TIME: i64 = 1_700_000_000_000;
/// The initial delay that is configured, in milliseconds.
const DELAY: u64 = 3000;
/// The rebalance timeout of a client that says nothing else.
const REBALANCE: u64 = 10_000;

/// A client as it describes itself.
#[derive(Clone, Debug)]
struct Client {
    id: ByteString,
    instance: Option<ByteString>,
    session_ms: i32,
    rebalance_ms: i32,
    protocol_type: ByteString,
    protocols: Vec<Protocol>,
    /// Of JoinGroup.
    version: i16,
}

fn client() -> Client {
    Client {
        id: ByteString::new(),
        instance: None,
        session_ms: 30_000,
        rebalance_ms: REBALANCE as i32,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        version: 9,
    }
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    let protocol = |name: &&str| Protocol {
        name: (*name).into(),
        metadata: Bytes::from_static(b"m"),
    };
    names.iter().map(protocol).collect()
}

impl Client {
    fn of_instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.into());
        self
    }

    fn lists(mut self, names: &[&str]) -> Self {
        self.protocols = protocols(names);
        self
    }

    fn of_type(mut self, protocol_type: &str) -> Self {
        self.protocol_type = protocol_type.into();
        self
    }

    fn session(mut self, ms: i32) -> Self {
        self.session_ms = ms;
        self
    }

    fn rebalance(mut self, ms: i32) -> Self {
        self.rebalance_ms = ms;
        self
    }

    fn version(mut self, version: i16) -> Self {
        self.version = version;
        self
    }

    fn named(mut self, id: &str) -> Self {
        self.id = id.into();
        self
    }

    /// The same client after a restart.
    fn restarted(&self) -> Self {
        self.clone().named("")
    }
}

fn join_of(group: &str, client: &Client, random: u128) -> JoinGroup {
    JoinGroup {
        group: group.into(),
        member_id: client.id.clone(),
        instance_id: client.instance.clone(),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: client.session_ms,
        rebalance_timeout_ms: client.rebalance_ms,
        protocol_type: client.protocol_type.clone(),
        protocols: client.protocols.clone(),
        knows_member_id_required: client.version >= 4,
        knows_skip_assignment: client.version >= 9,
        random,
        reason: None,
    }
}

/// A machine with one group, `g`, and what surrounds it.
struct Fixture {
    machine: Machine,
    now_ms: u64,
    next_reply: u64,
    replies: AHashMap<ReplyId, Reply>,
    answered: BTreeSet<ReplyId>,
    appends: VecDeque<Append>,
    log: Vec<GroupRecord>,
    /// So many records of the log were looked at.
    seen: usize,
    /// Whether appends wait until the test ends them.
    holds: bool,
    events: Vec<What>,
    /// What the groups may take of memory.
    bytes_max: usize,
    bytes_of_others: usize,
    /// Whether anybody was refused for that.
    lacks_memory: bool,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut GroupConfig)) -> Self {
        let mut config = GroupConfig {
            min_session_timeout_ms: 1,
            initial_rebalance_delay: Duration::from_millis(DELAY),
            ..GroupConfig::default()
        };
        change(&mut config);
        let mut fixture = Self {
            machine: Machine::new(config, PartitionIndex(0)),
            now_ms: 0,
            next_reply: 0,
            replies: AHashMap::new(),
            answered: BTreeSet::new(),
            appends: VecDeque::new(),
            log: Vec::new(),
            seen: 0,
            holds: false,
            events: Vec::new(),
            bytes_max: usize::MAX,
            bytes_of_others: 0,
            lacks_memory: false,
        };
        fixture.run(|machine, now, out| machine.loaded(now, out));
        fixture
    }

    fn now(&self) -> Now {
        Now {
            monotonic: Duration::from_millis(self.now_ms),
            wall_ms: TIME + self.now_ms as i64,
        }
    }

    fn run(&mut self, act: impl FnOnce(&mut Machine, Now, &mut Effects)) {
        let mut out = Effects::default();
        let now = self.now();
        self.machine.limit(self.bytes_max, self.bytes_of_others);
        act(&mut self.machine, now, &mut out);
        self.lacks_memory |= out.lacks_memory;
        self.machine.assert_all_is_counted();
        for (reply_to, reply) in out.replies {
            assert!(
                self.answered.insert(reply_to),
                "{reply_to:?} answered twice"
            );
            self.replies.insert(reply_to, reply);
        }
        self.appends.extend(out.appends);
        let events = out.events.into_iter().map(|event| event.what);
        self.events.extend(events);
        while !self.holds && !self.appends.is_empty() {
            self.end_append(Ok(()));
        }
    }

    /// Ends the oldest append.
    fn end_append(&mut self, result: Result<(), GroupError>) {
        let append = self.appends.pop_front().expect("an append under way");
        assert!(!append.records.is_empty());
        if result.is_ok() {
            let now = self.now();
            for record in append.records {
                self.machine.replay(&record, now);
                self.log.push(record);
            }
        }
        self.run(|machine, now, out| machine.appended(append.after, result, now, out));
    }

    fn ask(&mut self, command: Command) -> ReplyId {
        let reply_to = ReplyId(self.next_reply);
        self.next_reply += 1;
        self.run(|machine, now, out| machine.handle(command, reply_to, now, out));
        reply_to
    }

    fn waits(&self, reply_to: ReplyId) -> bool {
        !self.answered.contains(&reply_to)
    }

    fn reply(&mut self, reply_to: ReplyId) -> Reply {
        let reply = self.replies.remove(&reply_to);
        reply.unwrap_or_else(|| panic!("{reply_to:?} has no answer"))
    }

    /// Lets time pass as on a machine whose timers are exact.
    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(deadline) = self.machine.deadline()
            && deadline <= Duration::from_millis(end)
        {
            self.now_ms = self.now_ms.max(deadline.as_millis() as u64);
            self.run(|machine, now, out| machine.tick(now, out));
        }
        self.now_ms = end;
    }

    fn join(&mut self, client: &Client) -> ReplyId {
        let random = u128::from(self.next_reply);
        self.ask(Command::Join(JoinGroup {
            reason: Some("started".into()),
            ..join_of("g", client, random)
        }))
    }

    fn joined(&mut self, reply_to: ReplyId) -> JoinReply {
        match self.reply(reply_to) {
            Reply::Join(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// The error of a join that is refused at once, and the member id in the answer.
    fn refused(&mut self, client: &Client) -> (GroupError, ByteString) {
        let reply_to = self.join(client);
        let reply = self.joined(reply_to);
        assert_eq!(reply.generation, -1);
        assert_eq!((&*reply.leader, &reply.members[..]), ("", &[][..]));
        (reply.result.expect_err("a refusal"), reply.member_id)
    }

    /// Gives a dynamic client of version 4 and later its id (KIP-394).
    fn name(&mut self, client: &mut Client) {
        let (error, id) = self.refused(client);
        assert_eq!(error, GroupError::MemberIdRequired);
        client.id = id;
    }

    /// A client's way into the group, up to the join that waits.
    fn enter(&mut self, client: &mut Client) -> ReplyId {
        if client.version >= 4 && client.instance.is_none() && client.id.is_empty() {
            self.name(client);
        }
        let reply_to = self.join(client);
        assert!(self.waits(reply_to), "{:?}", self.replies.get(&reply_to));
        reply_to
    }

    fn sync(&mut self, client: &Client, generation: i32, given: &[(&Client, &str)]) -> ReplyId {
        let given = given.iter().map(|(member, assignment)| {
            let assignment = Bytes::copy_from_slice(assignment.as_bytes());
            (member.id.clone(), assignment)
        });
        self.ask(Command::Sync(SyncGroup {
            group: "g".into(),
            generation,
            member_id: client.id.clone(),
            instance_id: client.instance.clone(),
            protocol_type: None,
            protocol_name: None,
            assignments: given.collect(),
        }))
    }

    fn synced(&mut self, reply_to: ReplyId) -> Result<SyncReply, GroupError> {
        match self.reply(reply_to) {
            Reply::Sync(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// The assignment, as text.
    fn assignment(&mut self, reply_to: ReplyId) -> Result<String, GroupError> {
        let reply = self.synced(reply_to)?;
        Ok(String::from_utf8(reply.assignment.to_vec()).expect("the test's text"))
    }

    fn heartbeat(&mut self, client: &Client, generation: i32) -> Result<(), GroupError> {
        let reply_to = self.ask(Command::Heartbeat(Heartbeat {
            group: "g".into(),
            generation,
            member_id: client.id.clone(),
            instance_id: client.instance.clone(),
        }));
        match self.reply(reply_to) {
            Reply::Heartbeat(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// Sends LeaveGroup for members by id and instance id.
    fn leave(&mut self, members: &[(&str, Option<&str>)]) -> ReplyId {
        let members = members.iter().map(|(id, instance)| LeavingMember {
            member_id: (*id).into(),
            instance_id: instance.map(Into::into),
            reason: Some("closed".into()),
        });
        self.ask(Command::Leave(LeaveGroup {
            group: "g".into(),
            members: members.collect(),
        }))
    }

    /// What became of each member that was to leave.
    fn left(&mut self, reply_to: ReplyId) -> Vec<Result<(), GroupError>> {
        match self.reply(reply_to) {
            Reply::Leave(Ok(reply)) => reply.members.into_iter().map(|it| it.1).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, client: &Client, generation: i32) -> Result<(), GroupError> {
        let request = commit_request(client, generation);
        let reply_to = self.ask(Command::Commit(request));
        match self.reply(reply_to) {
            Reply::Commit(result) => result.map(|results| assert_eq!(results, [Ok(())])),
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> GroupState {
        let group = self.machine.groups.get("g");
        group.map_or(GroupState::Empty, |group| group.state)
    }

    fn size(&self) -> usize {
        self.machine
            .groups
            .get("g")
            .map_or(0, |group| group.members.len())
    }

    fn pending_ids(&self) -> usize {
        self.machine
            .groups
            .get("g")
            .map_or(0, |group| group.pending_ids.len())
    }

    /// Generation and number of members in the group's records since the last look.
    fn recorded(&mut self) -> Vec<(i32, usize)> {
        let of = |record: &GroupRecord| match record {
            GroupRecord::Group {
                value: Some(value), ..
            } => (value.generation, value.members.len()),
            other => panic!("{other:?}"),
        };
        let new = self.log[self.seen..].iter().map(of).collect();
        self.seen = self.log.len();
        new
    }

    /// What the last record says of the group.
    fn last_record(&self) -> GroupMetadata {
        match self.log.last() {
            Some(GroupRecord::Group {
                value: Some(value), ..
            }) => value.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Another machine, which has loaded this one's log.
    fn successor(&self, change: impl FnOnce(&mut GroupConfig)) -> Self {
        let mut config = self.machine.config.clone();
        change(&mut config);
        let mut fixture = Self {
            machine: Machine::new(config, PartitionIndex(0)),
            now_ms: self.now_ms,
            next_reply: self.next_reply,
            replies: AHashMap::new(),
            answered: BTreeSet::new(),
            appends: VecDeque::new(),
            log: self.log.clone(),
            seen: self.log.len(),
            holds: false,
            events: Vec::new(),
            bytes_max: self.bytes_max,
            bytes_of_others: 0,
            lacks_memory: false,
        };
        let now = fixture.now();
        for record in &fixture.log {
            fixture.machine.replay(record, now);
        }
        fixture.run(|machine, now, out| machine.loaded(now, out));
        fixture
    }
}

/// A commit of offset 7 for `t-0` by `client`.
fn commit_request(client: &Client, generation: i32) -> CommitOffsets {
    CommitOffsets {
        group: "g".into(),
        generation,
        member_id: client.id.clone(),
        instance_id: client.instance.clone(),
        knows_group_id_not_found: true,
        retention_ms: None,
        offsets: vec![OffsetToCommit {
            topic: "t".into(),
            topic_id: TopicId::ZERO,
            partition: 0,
            offset: 7,
            leader_epoch: -1,
            metadata: None,
        }],
    }
}

/// A group whose `clients` have joined generation 1; the first leads.
fn joined(clients: &mut [Client]) -> Fixture {
    let mut f = Fixture::new();
    let waiting: Vec<_> = clients.iter_mut().map(|client| f.enter(client)).collect();
    // Newcomers make the wait twice as long.
    f.pass(DELAY);
    if f.waits(waiting[0]) {
        f.pass(DELAY);
    }
    for (client, reply_to) in clients.iter_mut().zip(waiting) {
        let reply = f.joined(reply_to);
        assert_eq!((reply.result, reply.generation), (Ok(()), 1));
        client.id = reply.member_id;
    }
    assert_eq!(f.state(), GroupState::CompletingRebalance);
    f
}

/// Lets all members of a generation sync; the first leads and assigns a number to each.
fn sync_all(f: &mut Fixture, clients: &[Client], generation: i32) {
    let texts: Vec<_> = (1..=clients.len()).map(|n| format!("{n:02}")).collect();
    let given: Vec<_> = clients
        .iter()
        .zip(texts.iter().map(|text| &**text))
        .collect();
    let followers = clients[1..].iter();
    let mut waiting = vec![f.sync(&clients[0], generation, &given)];
    waiting.extend(followers.map(|client| f.sync(client, generation, &[])));
    for (reply_to, text) in waiting.into_iter().zip(&texts) {
        assert_eq!(f.assignment(reply_to).as_ref(), Ok(text));
    }
    assert_eq!(f.state(), GroupState::Stable);
}

/// A stable group of dynamic members in generation 1; the first leads.
fn up<const N: usize>() -> (Fixture, [Client; N]) {
    let mut clients = std::array::from_fn(|_| client());
    let f = stable(&mut clients);
    (f, clients)
}

fn stable(clients: &mut [Client]) -> Fixture {
    let mut f = joined(clients);
    sync_all(&mut f, clients, 1);
    f.recorded();
    f
}

/// A stable group of two static members: `li`, which leads, and `fi`.
fn up_static(session_ms: i32) -> (Fixture, Client, Client) {
    let member = |instance| {
        let member = client().of_instance(instance).session(session_ms);
        member.lists(&["range", "roundrobin"])
    };
    let mut clients = [member("li"), member("fi")];
    let f = stable(&mut clients);
    let [leader, follower] = clients;
    (f, leader, follower)
}
