//! A consumer as Kafka's is one: what it sends when, and what it makes of the answers
//! (`AbstractCoordinator` and `ConsumerCoordinator`).

use std::collections::BTreeMap;

use bytestring::ByteString;

use super::super::super::command::{
    Command, CommitOffsets, FetchOffsets, Heartbeat, JoinGroup, JoinReply, LeaveGroup,
    LeavingMember, Protocol, Reply, SyncGroup, SyncReply,
};
use super::super::super::error::GroupError;
use super::super::super::offsets::{OffsetToCommit, TopicPartition};
use super::assignor::{Assignor, assign, assignment, metadata, read_assignment};
use super::network::Sent;
use super::random::Random;
use super::world::{Event, REBALANCE_MS_MAX, SESSION_MS_MAX, Topic, World};
use crate::base::ids::TopicId;

/// `request.timeout.ms`; that of a JoinGroup is longer by the rebalance timeout.
const REQUEST_MS_MAX: u64 = 5000;
const JOIN_SLACK_MS: u64 = 5000;
/// `retry.backoff.ms`.
const BACKOFF_MS: u64 = 100;
/// What a consumer has whose generation is not known.
const NO_GENERATION: i32 = -1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Up,
    /// Its process is started again.
    Down,
    /// Nobody starts it again.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Out,
    Joining,
    Syncing,
    Member,
}

/// What a request that waits for its answer was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Join,
    Sync,
    Heartbeat,
    Commit,
    Fetch,
    Leave,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    number: u64,
    about: About,
    generation: i32,
    until: u64,
}

#[derive(Debug)]
pub struct Consumer {
    pub topic: usize,
    pub instance: Option<ByteString>,
    pub session_ms: i32,
    rebalance_ms: i32,
    /// Of JoinGroup.
    version: i16,
    assignors: Vec<Assignor>,
    /// Changes its metadata.
    pub mind: u32,
    /// Whether it takes part in the sync phase.
    pub syncs: bool,
    pub life: Life,
    pub phase: Phase,
    pub member_id: ByteString,
    pub generation: i32,
    pub rejoins: bool,
    /// What it owns; none until it knows what was committed.
    pub owned: BTreeMap<i32, Option<i64>>,
    /// The generation in which it was told so.
    owned_in: i32,
    /// How many partitions there were when it assigned, if it leads.
    assigned_of: Option<i32>,
    pub connection: Option<usize>,
    waiting: Vec<Waiting>,
    pub wakes_at: u64,
    retries_at: u64,
    beats_at: u64,
    polls_at: u64,
    heard_at: u64,
}

/// The groups of a world and their members.
pub fn cast(random: &mut Random) -> (Vec<Topic>, Vec<Consumer>) {
    let mut topics = Vec::new();
    let mut consumers = Vec::new();
    for topic in 0..random.between(1, 2) as usize {
        let is_cooperative = random.one_in(3);
        let statics = random.pick(&[0, 1, 2]);
        topics.push(Topic {
            name: ByteString::from(format!("g{topic}")),
            partitions: random.between(1, 9) as i32,
            grows: statics == 0,
        });
        // All prefer the same: a record keeps only what was elected, so that after a restart a
        // client without it is refused until the members join again, as with Kafka.
        let (first, second) = (Assignor::Range, Assignor::RoundRobin);
        let lists = match is_cooperative {
            true => [
                vec![Assignor::CooperativeSticky],
                vec![Assignor::CooperativeSticky],
            ],
            false => [vec![first], vec![first, second]],
        };
        for n in 0..random.between(1, 5) {
            let version = random.pick(&[3, 4, 5, 8, 9]);
            let is_static = version >= 5 && random.below(2) < statics;
            // Enough for anybody to hear of a rebalance, and much the same for all: a client
            // that waits for a shorter time than its group does comes too late each time.
            let rebalance_ms = random.between(15_000, REBALANCE_MS_MAX) as i32;
            consumers.push(Consumer {
                instance: is_static.then(|| ByteString::from(format!("i{n}"))),
                assignors: lists[random.below(2) as usize].clone(),
                version,
                rebalance_ms,
                ..Consumer::new(topic, random.between(3000, SESSION_MS_MAX) as i32)
            });
        }
    }
    (topics, consumers)
}

impl Consumer {
    fn new(topic: usize, session_ms: i32) -> Self {
        Self {
            topic,
            instance: None,
            session_ms,
            rebalance_ms: 0,
            version: 9,
            assignors: Vec::new(),
            mind: 0,
            syncs: true,
            life: Life::Up,
            phase: Phase::Out,
            member_id: ByteString::new(),
            generation: NO_GENERATION,
            rejoins: false,
            owned: BTreeMap::new(),
            owned_in: NO_GENERATION,
            assigned_of: None,
            connection: None,
            waiting: Vec::new(),
            wakes_at: 0,
            retries_at: 0,
            beats_at: 0,
            polls_at: 0,
            heard_at: 0,
        }
    }

    pub fn is_cooperative(&self) -> bool {
        self.assignors == [Assignor::CooperativeSticky]
    }

    fn is_waiting_for(&self, about: About) -> bool {
        self.waiting.iter().any(|it| it.about == about)
    }

    /// It is in no generation any more; with its id it can still join again as who it is.
    fn reset(&mut self, keeps_id: bool) {
        self.phase = Phase::Out;
        self.generation = NO_GENERATION;
        if !keeps_id {
            self.member_id = ByteString::new();
        }
    }

    fn forget_connection(&mut self) {
        self.connection = None;
        self.waiting.clear();
        if matches!(self.phase, Phase::Joining | Phase::Syncing) {
            self.phase = Phase::Out;
        }
    }

    /// A process that has just been started.
    pub fn begin(&mut self) {
        self.forget_connection();
        self.reset(false);
        self.owned.clear();
        self.rejoins = false;
        self.assigned_of = None;
        self.life = Life::Up;
    }

    pub fn leaving(&self) -> LeavingMember {
        LeavingMember {
            member_id: self.member_id.clone(),
            instance_id: self.instance.clone(),
            reason: None,
        }
    }

    /// When it has something to do next.
    fn next_wake(&self) -> u64 {
        let until = self.waiting.iter().map(|it| it.until).min();
        let until = until.unwrap_or(u64::MAX);
        match self.phase {
            _ if self.connection.is_none() => self.retries_at,
            Phase::Out => self.retries_at,
            Phase::Joining => until,
            Phase::Syncing => until.min(self.beats_at),
            Phase::Member => until.min(self.beats_at).min(self.polls_at),
        }
    }
}

impl World {
    /// A consumer does what is due.
    pub fn advance(&mut self, n: usize) {
        if self.consumers[n].life == Life::Dead {
            return;
        }
        if self.consumers[n].life == Life::Down {
            self.consumers[n].begin();
        }
        self.advance_up(n);
        let it = &mut self.consumers[n];
        if it.life == Life::Up {
            let at = it.next_wake().max(self.now_ms + 1);
            if it.wakes_at != at {
                it.wakes_at = at;
                self.push(at, Event::Wake { consumer: n });
            }
        }
    }

    fn advance_up(&mut self, n: usize) {
        let now = self.now_ms;
        let it = &self.consumers[n];
        let is_silent = it.phase == Phase::Member && it.heard_at + it.session_ms as u64 <= now;
        if it.waiting.iter().any(|it| it.until <= now) || is_silent {
            self.give_up_connection(n);
        }
        let it = &mut self.consumers[n];
        if it.retries_at > now {
            return;
        }
        if it.connection.is_none() {
            if !self.broker.is_up {
                it.retries_at = now + BACKOFF_MS;
                return;
            }
            it.connection = Some(self.network.connect(self.broker.boot));
            it.heard_at = now;
        }
        match self.consumers[n].phase {
            Phase::Out => self.join(n),
            Phase::Joining => {}
            Phase::Syncing => self.beat_if_due(n),
            Phase::Member => {
                self.beat_if_due(n);
                self.fetch_if_needed(n);
                if self.consumers[n].polls_at <= now {
                    self.poll(n);
                }
            }
        }
    }

    /// The application asks for records: what it got before is done.
    fn poll(&mut self, n: usize) {
        let pause = match self.random.in_a_million(self.weather.slow_polls) {
            true => self.random.below(2 * REBALANCE_MS_MAX),
            false => self.random.between(500, 3000),
        };
        let partitions = self.topics[self.consumers[n].topic].partitions;
        let commits = self.random.one_in(3);
        let read = self.random.below(4) as i64;
        let it = &mut self.consumers[n];
        it.polls_at = self.now_ms + pause;
        it.owned
            .values_mut()
            .flatten()
            .for_each(|position| *position += read);
        let sees_more = it.assigned_of.is_some_and(|count| count != partitions);
        if it.rejoins || sees_more {
            self.join(n);
        } else if commits {
            self.commit(n, |_| true);
        }
        let it = &self.consumers[n];
        let is_late = pause > it.rebalance_ms as u64;
        if is_late && it.instance.is_none() && it.phase == Phase::Member {
            // Its heartbeats go on only as long as the application asks for records.
            self.leave(n);
            let it = &mut self.consumers[n];
            it.reset(false);
            it.retries_at = self.now_ms + pause;
        }
    }

    fn beat_if_due(&mut self, n: usize) {
        let it = &self.consumers[n];
        if it.beats_at > self.now_ms || it.is_waiting_for(About::Heartbeat) {
            return;
        }
        let command = Command::Heartbeat(Heartbeat {
            group: self.topics[it.topic].name.clone(),
            generation: it.generation,
            member_id: it.member_id.clone(),
            instance_id: it.instance.clone(),
        });
        let next = self.now_ms + it.session_ms as u64 / 3;
        self.consumers[n].beats_at = next;
        self.send(n, About::Heartbeat, command);
    }

    /// Commits the positions in the owned partitions that `wanted` picks.
    fn commit(&mut self, n: usize, wanted: impl Fn(i32) -> bool) {
        let it = &self.consumers[n];
        let topic = &self.topics[it.topic].name;
        let owned = it.owned.iter().filter(|(partition, _)| wanted(**partition));
        let known = owned.filter_map(|(partition, at)| Some((*partition, (*at)?)));
        let offsets: Vec<_> = known
            .map(|(partition, offset)| OffsetToCommit {
                topic: topic.clone(),
                topic_id: TopicId::ZERO,
                partition,
                offset,
                leader_epoch: -1,
                metadata: None,
            })
            .collect();
        if offsets.is_empty() || it.connection.is_none() {
            return;
        }
        let command = Command::Commit(CommitOffsets {
            group: topic.clone(),
            generation: it.generation,
            member_id: it.member_id.clone(),
            instance_id: it.instance.clone(),
            knows_group_id_not_found: it.version >= 9,
            retention_ms: None,
            offsets,
        });
        self.send(n, About::Commit, command);
    }

    fn fetch_if_needed(&mut self, n: usize) {
        let it = &self.consumers[n];
        let unknown = it.owned.iter().filter(|(_, position)| position.is_none());
        let unknown: Vec<i32> = unknown.map(|(partition, _)| *partition).collect();
        if unknown.is_empty() || it.is_waiting_for(About::Fetch) {
            return;
        }
        let topic = &self.topics[it.topic].name;
        let partitions = unknown.into_iter().map(|partition| TopicPartition {
            topic: topic.clone(),
            topic_id: TopicId::ZERO,
            partition,
        });
        let command = Command::Fetch(FetchOffsets {
            group: topic.clone(),
            partitions: Some(partitions.collect()),
            require_stable: it.version >= 8,
        });
        self.send(n, About::Fetch, command);
    }

    /// `onJoinPrepare`, then JoinGroup: partitions are given up or kept by the kind of the
    /// protocol, and are lost to a member that is in no generation any more.
    fn join(&mut self, n: usize) {
        if self.consumers[n].phase == Phase::Member && self.random.below(3) > 0 {
            self.commit(n, |_| true);
        }
        let it = &mut self.consumers[n];
        if !it.is_cooperative() || it.generation == NO_GENERATION {
            it.owned.clear();
        }
        it.phase = Phase::Joining;
        it.rejoins = false;
        it.assigned_of = None;
        let topic = &self.topics[it.topic].name;
        let owned: Vec<i32> = it.owned.keys().copied().collect();
        let metadata = metadata(topic, owned, it.generation, it.mind);
        let protocol = |assignor: &Assignor| Protocol {
            name: ByteString::from_static(assignor.name()),
            metadata: metadata.clone(),
        };
        let command = Command::Join(JoinGroup {
            group: topic.clone(),
            member_id: it.member_id.clone(),
            instance_id: it.instance.clone(),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: it.session_ms,
            rebalance_timeout_ms: it.rebalance_ms,
            protocol_type: "consumer".into(),
            protocols: it.assignors.iter().map(protocol).collect(),
            knows_member_id_required: it.version >= 4,
            knows_skip_assignment: it.version >= 9,
            random: 0,
            reason: None,
        });
        self.send(n, About::Join, command);
    }

    /// From here on the consumer syncs, and its application does not sleep over its records.
    pub fn behave(&mut self, n: usize) {
        let at = self.now_ms + 1000;
        let it = &mut self.consumers[n];
        it.syncs = true;
        if it.phase == Phase::Syncing && !it.is_waiting_for(About::Sync) {
            it.phase = Phase::Out;
        }
        it.polls_at = it.polls_at.min(at);
        it.retries_at = it.retries_at.min(at);
        if it.life == Life::Up && it.wakes_at > at {
            it.wakes_at = at;
            self.push(at, Event::Wake { consumer: n });
        }
    }

    /// Closes the consumer: a dynamic one says so.
    pub fn leave(&mut self, n: usize) {
        let it = &self.consumers[n];
        if it.instance.is_none() && it.connection.is_some() && !it.member_id.is_empty() {
            let group = self.topics[it.topic].name.clone();
            let members = vec![it.leaving()];
            self.send(
                n,
                About::Leave,
                Command::Leave(LeaveGroup { group, members }),
            );
        }
    }

    fn send(&mut self, n: usize, about: About, command: Command) {
        let number = self.next_number;
        self.next_number += 1;
        let it = &mut self.consumers[n];
        let connection = it.connection.expect("whoever sends has one");
        let patience = match about {
            About::Join => it.rebalance_ms as u64 + JOIN_SLACK_MS,
            _ => REQUEST_MS_MAX,
        };
        let until = self.now_ms + patience;
        if about == About::Join {
            // What is answered to earlier ones does not matter any more.
            it.waiting
                .retain(|it| !matches!(it.about, About::Join | About::Sync));
        }
        it.waiting.push(Waiting {
            number,
            about,
            generation: it.generation,
            until,
        });
        let boot = self.network.boot(connection);
        let command = Box::new(command);
        let sent = Sent {
            connection: Some(connection),
            boot,
            consumer: n,
            number,
            arrived_at: 0,
            command,
        };
        self.copy_perhaps(&sent);
        let stalls = self.weather.stalls;
        let at = self
            .network
            .arrival(connection, self.now_ms, stalls, &mut self.random);
        self.push(at, Event::Arrive(sent));
    }

    /// The connection is taken for dead; another one is opened a little later.
    pub fn give_up_connection(&mut self, n: usize) {
        if let Some(connection) = self.consumers[n].connection {
            let cut_at = self.now_ms + self.random.below(1000);
            self.network.cut(connection, cut_at);
        }
        let it = &mut self.consumers[n];
        it.forget_connection();
        it.heard_at = self.now_ms;
        it.retries_at = it.retries_at.max(self.now_ms + BACKOFF_MS);
    }

    /// A connection is reset by the other side.
    pub fn lose_connection(&mut self, connection: usize) {
        let mut all = self.consumers.iter();
        if let Some(n) = all.position(|it| it.connection == Some(connection)) {
            self.give_up_connection(n);
            self.advance(n);
        }
    }

    /// The application ends by an error that it cannot handle, and is started again.
    fn fall(&mut self, n: usize) {
        self.give_up_connection(n);
        self.consumers[n].life = Life::Down;
        let at = self.now_ms + self.random.between(500, 3000);
        self.consumers[n].wakes_at = at;
        self.push(at, Event::Wake { consumer: n });
    }

    /// An answer reaches a consumer.
    pub fn hear(&mut self, n: usize, number: u64, reply: Reply) {
        let it = &mut self.consumers[n];
        let place = it.waiting.iter().position(|it| it.number == number);
        let Some(waited) = place.map(|place| it.waiting.remove(place)) else {
            return;
        };
        let error = match reply {
            Reply::Join(reply) => self.hear_join(n, reply),
            Reply::Sync(Ok(reply)) => {
                self.hear_sync(n, &reply);
                None
            }
            Reply::Heartbeat(Ok(())) => {
                it.heard_at = self.now_ms;
                None
            }
            Reply::Fetch(Ok(found)) => {
                for offset in found {
                    let committed = offset.committed.expect("no transactions here");
                    if let Some(position @ None) = it.owned.get_mut(&offset.partition) {
                        *position = Some(committed.map_or(0, |it| it.offset));
                    }
                }
                None
            }
            Reply::Commit(Ok(_)) | Reply::Leave(_) => None,
            Reply::Sync(Err(error))
            | Reply::Heartbeat(Err(error))
            | Reply::Commit(Err(error))
            | Reply::Fetch(Err(error)) => Some(error),
            other => panic!("nobody asked: {other:?}"),
        };
        if let Some(error) = error {
            self.hear_error(n, waited, error);
        }
        if self.consumers[n].life == Life::Up {
            self.advance(n);
        }
    }

    fn hear_error(&mut self, n: usize, waited: Waiting, error: GroupError) {
        let it = &mut self.consumers[n];
        let is_joining = matches!(waited.about, About::Join | About::Sync);
        if is_joining && matches!(it.phase, Phase::Joining | Phase::Syncing) {
            it.phase = Phase::Out;
        }
        // What was said of an earlier generation does not matter any more.
        let is_current = is_joining || waited.generation == it.generation;
        match error {
            GroupError::UnknownMemberId if is_current => it.reset(false),
            GroupError::IllegalGeneration if is_current => it.reset(true),
            GroupError::UnknownMemberId | GroupError::IllegalGeneration => {}
            GroupError::RebalanceInProgress => it.rejoins |= it.phase == Phase::Member,
            GroupError::LoadInProgress => it.retries_at = self.now_ms + BACKOFF_MS,
            GroupError::NotAvailable | GroupError::NotCoordinator => self.give_up_connection(n),
            GroupError::FencedInstanceId
            | GroupError::GroupMaxSizeReached
            | GroupError::InconsistentProtocol
            | GroupError::Unexpected => self.fall(n),
            // Heartbeats tell it the same in a way that it understands.
            GroupError::GroupIdNotFound => {}
            other => panic!("{other:?} to {waited:?}"),
        }
    }

    fn hear_join(&mut self, n: usize, reply: JoinReply) -> Option<GroupError> {
        let it = &mut self.consumers[n];
        if it.phase != Phase::Joining {
            return None;
        }
        match reply.result {
            Ok(()) => {}
            Err(GroupError::MemberIdRequired) => {
                it.member_id = reply.member_id;
                it.phase = Phase::Out;
                return None;
            }
            Err(error) => return Some(error),
        }
        it.member_id = reply.member_id;
        it.generation = reply.generation;
        it.phase = Phase::Syncing;
        it.heard_at = self.now_ms;
        it.beats_at = self.now_ms + it.session_ms as u64 / 3;
        let topic = &self.topics[it.topic];
        let leads = reply.leader == it.member_id;
        let protocol = reply.protocol_name.clone().expect("the generation's");
        let mut assignments = Vec::new();
        if leads {
            it.assigned_of = Some(topic.partitions);
            assert!(!reply.members.is_empty(), "a leader without members");
        }
        if leads && !reply.skip_assignment {
            let given = assign(&protocol, &reply.members, topic.partitions);
            let bytes = |(id, of): (_, Vec<i32>)| (id, assignment(reply.generation, &of));
            assignments = given.into_iter().map(bytes).collect();
        }
        let command = Command::Sync(SyncGroup {
            group: topic.name.clone(),
            generation: it.generation,
            member_id: it.member_id.clone(),
            instance_id: it.instance.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some(protocol),
            assignments,
        });
        if it.syncs {
            self.send(n, About::Sync, command);
        }
        None
    }

    /// `onJoinComplete`: a cooperative member gives up what it lost and joins again at once.
    ///
    /// Unlike Kafka's it takes everything for lost if there was a generation without it, as happens
    /// to static members that come late. Another may have owned it and gone further meanwhile, and
    /// no coordinator can tell such a commit, which is of the present generation, from a good one.
    fn hear_sync(&mut self, n: usize, reply: &SyncReply) {
        let it = &mut self.consumers[n];
        if it.phase != Phase::Syncing {
            return;
        }
        let (generation, given) = read_assignment(&reply.assignment);
        assert_eq!(generation, it.generation, "of another generation");
        it.phase = Phase::Member;
        it.heard_at = self.now_ms;
        it.polls_at = self.now_ms;
        let was_there = generation == it.owned_in || generation == it.owned_in + 1;
        it.owned_in = generation;
        it.rejoins |= it.owned.keys().any(|partition| !given.contains(partition));
        if was_there {
            self.commit(n, |partition| !given.contains(&partition));
        } else {
            it.owned.clear();
        }
        let it = &mut self.consumers[n];
        it.owned.retain(|partition, _| given.contains(partition));
        for partition in given {
            it.owned.entry(partition).or_default();
        }
    }
}
