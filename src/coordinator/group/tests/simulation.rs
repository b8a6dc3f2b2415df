//! A group under random clients, delays, refused appends and coordinators that crash. A failure
//! prints its seed, which repeats it.

use std::collections::BTreeMap;

use super::super::classic::{Group, TimerKey};
use super::super::member::Member;
use super::*;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What a client believes.
#[derive(Clone, Debug, PartialEq)]
enum Belief {
    Out,
    /// In a generation; the members if it leads.
    Joined(i32, Vec<ByteString>),
    Member(i32),
}

#[derive(Debug)]
struct Actor {
    client: Client,
    belief: Belief,
    /// The request whose answer it waits for. Answers to earlier ones are lost on it.
    waits_for: Option<ReplyId>,
}

struct World {
    random: Random,
    machine: Machine,
    now_ms: u64,
    actors: Vec<Actor>,
    next_reply: u64,
    /// Requests without an answer, and whose they are.
    open: BTreeMap<ReplyId, usize>,
    appends: VecDeque<Append>,
    log: Vec<GroupRecord>,
    /// The incarnation and generation that were seen last.
    generation: (u64, i32),
    /// The generation of the last append that was refused.
    refused_in: Option<(u64, i32)>,
    /// The errors that clients have met.
    met: BTreeSet<GroupError>,
    /// How often all members were in one stable generation.
    stable: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let count = 2 + random.below(6);
        let config = GroupConfig {
            max_size: (count + random.below(3)) as usize,
            min_session_timeout_ms: 1,
            initial_rebalance_delay: Duration::from_millis(random.below(3) * 1000),
            ..GroupConfig::default()
        };
        // All prefer the same: a record keeps only what was elected, so that after a crash a client
        // without it is refused until the members join again, as with Kafka.
        let lists: [&[&str]; 3] = [
            &["range"],
            &["range", "sticky"],
            &["range", "cooperative-sticky"],
        ];
        let actors = (0..count).map(|n| {
            let mut client = client()
                .session(1000 + random.below(20_000) as i32)
                .rebalance(500 + random.below(20_000) as i32)
                .lists(lists[random.below(3) as usize])
                .version([3, 4, 8, 9][random.below(4) as usize]);
            if client.version >= 5 && random.one_in(2) {
                client = client.of_instance(&format!("i{n}"));
            }
            Actor {
                client,
                belief: Belief::Out,
                waits_for: None,
            }
        });
        let actors = actors.collect();
        let mut world = Self {
            machine: Machine::new(config, PartitionIndex(0)),
            random,
            now_ms: 0,
            actors,
            next_reply: 0,
            open: BTreeMap::new(),
            appends: VecDeque::new(),
            log: Vec::new(),
            generation: (0, 0),
            refused_in: None,
            met: BTreeSet::new(),
            stable: 0,
        };
        world.run(|machine, now, out| machine.loaded(now, out));
        world
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
        act(&mut self.machine, now, &mut out);
        self.appends.extend(out.appends);
        for (reply_to, reply) in out.replies {
            let owner = self.open.remove(&reply_to);
            let owner = owner.unwrap_or_else(|| panic!("{reply_to:?} answered twice"));
            if self.actors[owner].waits_for == Some(reply_to) {
                self.actors[owner].waits_for = None;
                self.hear(owner, reply);
            }
        }
        self.check();
    }

    fn ask(&mut self, actor: usize, command: Command) {
        let reply_to = ReplyId(self.next_reply);
        self.next_reply += 1;
        self.open.insert(reply_to, actor);
        self.actors[actor].waits_for = Some(reply_to);
        self.run(|machine, now, out| machine.handle(command, reply_to, now, out));
    }

    /// What a client makes of an answer, as Kafka's own does.
    fn hear(&mut self, actor: usize, reply: Reply) {
        let actor = &mut self.actors[actor];
        let error = match reply {
            Reply::Join(reply) => match reply.result {
                Ok(()) => {
                    let members = reply.members.into_iter().map(|member| member.member_id);
                    let skip = reply.skip_assignment;
                    let members = members.filter(|_| !skip).collect();
                    assert!(reply.leader != reply.member_id || skip || !Vec::is_empty(&members));
                    actor.client.id = reply.member_id;
                    actor.belief = Belief::Joined(reply.generation, members);
                    None
                }
                Err(GroupError::MemberIdRequired) => {
                    actor.client.id = reply.member_id;
                    None
                }
                Err(error) => Some(error),
            },
            Reply::Sync(Ok(reply)) => {
                let Belief::Joined(generation, _) = actor.belief else {
                    panic!("synced without having joined");
                };
                let name = actor.client.instance.as_ref().unwrap_or(&actor.client.id);
                let expected = format!("{generation} {name}");
                assert_eq!(reply.assignment, expected.as_bytes(), "{actor:?}");
                actor.belief = Belief::Member(generation);
                None
            }
            Reply::Commit(Ok(results)) => {
                assert_eq!(results, [Ok(())]);
                None
            }
            Reply::Leave(result) => {
                if let Ok(reply) = result {
                    assert_eq!(reply.members.len(), 1);
                }
                actor.client.id = ByteString::new();
                actor.belief = Belief::Out;
                None
            }
            Reply::Sync(Err(error)) | Reply::Heartbeat(Err(error)) | Reply::Commit(Err(error)) => {
                Some(error)
            }
            Reply::Heartbeat(Ok(())) => None,
            other => panic!("{other:?}"),
        };
        self.met.extend(error);
        match error {
            Some(GroupError::UnknownMemberId | GroupError::FencedInstanceId) => {
                actor.client.id = ByteString::new();
                actor.belief = Belief::Out;
            }
            Some(GroupError::IllegalGeneration | GroupError::RebalanceInProgress) => {
                actor.belief = Belief::Out;
            }
            _ => {}
        }
    }

    /// One request of a client, by what it believes.
    fn act(&mut self, actor: usize) {
        match self.actors[actor].belief.clone() {
            Belief::Out => self.send_join(actor),
            Belief::Joined(generation, members) => self.send_sync(actor, generation, &members),
            Belief::Member(generation) => {
                let client = &self.actors[actor].client;
                let command = match self.random.below(4) {
                    0 => Command::Commit(commit_request(client, generation)),
                    _ => Command::Heartbeat(Heartbeat {
                        group: "g".into(),
                        generation,
                        member_id: client.id.clone(),
                        instance_id: client.instance.clone(),
                    }),
                };
                self.ask(actor, command);
            }
        }
    }

    fn send_join(&mut self, actor: usize) {
        self.actors[actor].belief = Belief::Out;
        let client = &self.actors[actor].client;
        let join = JoinGroup {
            group: "g".into(),
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
            random: u128::from(self.random.next()) << 64 | u128::from(self.random.next()),
        };
        self.ask(actor, Command::Join(join));
    }

    fn send_sync(&mut self, actor: usize, generation: i32, members: &[ByteString]) {
        // A static member is assigned to by its name, which survives its restarts.
        let assignment = |id: &ByteString| {
            let group = self.machine.groups.get("g");
            let member = group.and_then(|group| group.members.get(id));
            let name = member.and_then(|member| member.instance_id.clone());
            let name = name.unwrap_or_else(|| id.clone());
            (id.clone(), Bytes::from(format!("{generation} {name}")))
        };
        let assignments = members.iter().map(assignment).collect();
        let client = &self.actors[actor].client;
        let sync = SyncGroup {
            group: "g".into(),
            generation,
            member_id: client.id.clone(),
            instance_id: client.instance.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: None,
            assignments,
        };
        self.ask(actor, Command::Sync(sync));
    }

    fn step(&mut self) {
        let actor = self.random.below(self.actors.len() as u64) as usize;
        match self.random.below(20) {
            0..8 if self.actors[actor].waits_for.is_none() => self.act(actor),
            8..13 => self.end_append(40),
            13..17 => {
                let wait = self.random.below(1500);
                self.pass(wait);
            }
            17 if self.random.one_in(3) => self.misbehave(actor),
            18 if self.random.one_in(30) => self.crash(),
            _ => self.end_append(1_000_000),
        }
    }

    /// Ends the oldest append, one in `n` badly.
    fn end_append(&mut self, n: u64) {
        let Some(append) = self.appends.pop_front() else {
            return;
        };
        if self.random.one_in(n) {
            let result = Err(GroupError::NotAvailable);
            self.refused_in = Some(self.generation);
            self.run(|machine, now, out| machine.appended(append.after, result, now, out));
        } else {
            let now = self.now();
            for record in append.records {
                self.machine.replay(&record, now);
                self.log.push(record);
            }
            self.run(|machine, now, out| machine.appended(append.after, Ok(()), now, out));
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.run(|machine, now, out| machine.tick(now, out));
        let now = Duration::from_millis(self.now_ms);
        assert!(
            self.machine
                .deadline()
                .is_none_or(|deadline| deadline > now)
        );
    }

    /// Something that clients do besides what they should.
    fn misbehave(&mut self, actor: usize) {
        match self.random.below(5) {
            // It loses its connection and repeats itself.
            0 => self.act(actor),
            // It dies, and somebody starts it again.
            1 => {
                self.actors[actor].waits_for = None;
                self.actors[actor].client.id = ByteString::new();
                self.actors[actor].belief = Belief::Out;
            }
            2 => {
                let client = &self.actors[actor].client;
                let members = vec![LeavingMember {
                    member_id: client.id.clone(),
                    instance_id: client.instance.clone(),
                }];
                let group = "g".into();
                self.ask(actor, Command::Leave(LeaveGroup { group, members }));
            }
            // It has something new to say.
            3 => {
                let metadata = Bytes::from(format!("m{}", self.now_ms));
                self.actors[actor].client.protocols[0].metadata = metadata;
                self.send_join(actor);
            }
            // An administrator tries to delete the group.
            _ => {
                let reply_to = ReplyId(self.next_reply);
                self.next_reply += 1;
                self.open.insert(reply_to, actor);
                let command = Command::DeleteGroup { group: "g".into() };
                self.run(|machine, now, out| machine.handle(command, reply_to, now, out));
            }
        }
    }

    /// The coordinator goes and another one loads what is in the log.
    fn crash(&mut self) {
        let group = self.machine.groups.get("g");
        let is_settled = |group: &&Group| {
            let is_recorded = self.refused_in != Some((group.incarnation, group.generation));
            group.state == GroupState::Stable && self.appends.is_empty() && is_recorded
        };
        let settled = group.filter(is_settled);
        let settled = settled.map(|group| group.to_record(|it| it.assignment.clone()));
        // Some of what is under way has reached the log, but nobody will hear of it.
        self.run(|machine, _, out| machine.unload(out));
        let survivors = self.random.below(1 + self.appends.len() as u64);
        for (n, append) in std::mem::take(&mut self.appends).into_iter().enumerate() {
            if (n as u64) < survivors {
                self.log.extend(append.records);
            }
            let result = Err(GroupError::NotCoordinator);
            self.run(|machine, now, out| machine.appended(append.after, result, now, out));
        }
        assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        self.machine = Machine::new(self.machine.config.clone(), PartitionIndex(0));
        let now = self.now();
        self.log
            .iter()
            .for_each(|record| self.machine.replay(record, now));
        self.generation = (0, 0);
        self.refused_in = None;
        self.run(|machine, now, out| machine.loaded(now, out));
        if let Some(settled) = settled {
            let group = self.machine.groups.get("g").expect("the group of before");
            assert_eq!(group.state, GroupState::Stable);
            let restored = group.to_record(|it| it.assignment.clone());
            assert_eq!(without_time(restored), without_time(settled));
        }
    }

    /// What holds after every event.
    fn check(&mut self) {
        let Some(group) = self.machine.groups.get("g") else {
            return;
        };
        let members = &group.members;
        assert_eq!(
            members.iter().filter(|it| it.has_joined()).count(),
            members.joined()
        );
        let bytes: usize = members.iter().map(Member::record_bytes).sum();
        assert_eq!(bytes, members.record_bytes());
        let (incarnation, generation) = self.generation;
        assert!(group.incarnation > incarnation || group.generation >= generation);
        self.generation = (group.incarnation, group.generation);

        let in_generation = matches!(
            group.state,
            GroupState::CompletingRebalance | GroupState::Stable
        );
        assert_eq!(
            group.state == GroupState::Empty,
            members.is_empty() && { group.state != GroupState::PreparingRebalance }
        );
        if in_generation {
            let leader = group.leader.as_ref().expect("a leader");
            assert!(members.get(leader).is_some());
            let protocol = group.protocol.as_ref().expect("a protocol");
            assert!(members.all_support(protocol));
            assert_eq!(members.joined(), 0);
        }
        if group.state != GroupState::CompletingRebalance {
            assert!(members.iter().all(|it| it.sync.is_none()));
        }
        assert!(
            group
                .pending_syncs
                .iter()
                .all(|id| members.get(id).is_some())
        );

        // Nothing is left to wait for ever.
        let timers = &self.machine.timers;
        let has_timer = |id: &ByteString| timers.is_armed(&group.member_timer(id));
        assert!(group.pending_ids.iter().all(has_timer));
        let stays = |it: &&Member| !it.is_waiting();
        assert!(members.iter().filter(stays).all(|it| has_timer(&it.id)));
        let id = group.id.clone();
        match group.state {
            GroupState::PreparingRebalance => assert!(timers.is_armed(&TimerKey::Join(id))),
            GroupState::CompletingRebalance => assert!(
                timers.is_armed(&TimerKey::Sync(id)) || group.is_recording_assignments,
                "nobody is to sync"
            ),
            GroupState::Empty | GroupState::Stable => {}
        }
    }

    /// From here on everybody does what it should: they must all find together.
    fn settle(&mut self) {
        for _ in 0..4000 {
            for actor in 0..self.actors.len() {
                if self.actors[actor].waits_for.is_none() {
                    self.act(actor);
                }
            }
            while !self.appends.is_empty() {
                self.end_append(u64::MAX);
            }
            self.pass(100);
            if self.is_together() {
                self.stable += 1;
                return;
            }
        }
        panic!(
            "they never find together: {:#?} {:#?}",
            self.actors, self.machine.groups
        );
    }

    fn is_together(&self) -> bool {
        let Some(group) = self.machine.groups.get("g") else {
            return false;
        };
        let member = Belief::Member(group.generation);
        let all_in = self
            .actors
            .iter()
            .all(|actor| actor.belief == member && group.members.get(&actor.client.id).is_some());
        all_in && group.state == GroupState::Stable && group.members.len() == self.actors.len()
    }
}

fn without_time(record: GroupRecord) -> GroupRecord {
    match record {
        GroupRecord::Group {
            group,
            value: Some(mut value),
        } => {
            value.state_timestamp = None;
            GroupRecord::Group {
                group,
                value: Some(value),
            }
        }
        other => other,
    }
}

#[test]
fn every_request_is_answered_and_members_find_together() {
    let mut met = BTreeSet::new();
    for seed in 0..1000 {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..3 {
                for _ in 0..400 {
                    world.step();
                }
                world.settle();
            }
            world.crash();
            assert_eq!(world.stable, 3);
            world.met
        });
        let Ok(of_world) = outcome else {
            panic!("seed {seed}");
        };
        met.extend(of_world);
    }
    // What is simulated is worth it only where it goes wrong.
    let expected = [
        GroupError::NotAvailable,
        GroupError::NotCoordinator,
        GroupError::IllegalGeneration,
        GroupError::UnknownMemberId,
        GroupError::RebalanceInProgress,
        GroupError::GroupMaxSizeReached,
        GroupError::FencedInstanceId,
    ];
    assert_eq!(met, BTreeSet::from(expected));
}
