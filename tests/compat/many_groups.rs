//! More groups and more joins than anybody means well with: all are answered, memory stays bounded,
//! and who has nothing to do with them does not notice.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kacrab_protocol::generated::{
    ApiKey, DeleteGroupsRequestData, DeleteGroupsResponseData, FindCoordinatorRequestData,
    FindCoordinatorResponseData, HeartbeatRequestData, HeartbeatResponseData, JoinGroupRequestData,
    JoinGroupRequestProtocol, JoinGroupResponseData, ListGroupsRequestData, ListGroupsResponseData,
    OffsetCommitRequestData, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponseData, OffsetFetchRequestData, OffsetFetchRequestGroup,
    OffsetFetchResponseData, OffsetFetchResponseGroup, SyncGroupRequestAssignment,
    SyncGroupRequestData, SyncGroupResponseData,
};

use crate::support::broker::{Broker, Peer};
use crate::support::wire::{Wire, text};
use crate::support::{SetOnDrop, topics};

const GROUPS: usize = 10_000;
const CONNECTIONS: usize = 20;
/// Requests that one connection has in flight.
const WINDOW: usize = 256;
/// What [`GROUPS`] groups with one offset may make the broker grow by, in KiB, with the ends of the
/// logs that they are in.
const GROWTH_KIB_MAX: u64 = 96 << 10;
/// What ids that were handed out may take, in KiB: Kafka's brokers have no bound.
const FLOOD_KIB_MAX: u64 = 40 << 10;

/// Commits of a test may wait for a slow disk longer than a client of its own would.
const PATIENT: (&str, &str) = ("offsets.commit.timeout.ms", "60000");

const LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const MEMBER_ID_REQUIRED: i16 = 79;

fn body(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut body = BytesMut::new();
    encode(&mut body);
    body.freeze()
}

/// Sends all requests with [`WINDOW`] of them in flight, and gives the answers without headers.
fn pipeline(
    wire: &mut Wire,
    key: ApiKey,
    version: i16,
    header_bytes: usize,
    bodies: impl Iterator<Item = Bytes>,
    mut answered: impl FnMut(Bytes),
) {
    let mut in_flight = 0;
    let mut receive = |wire: &mut Wire| {
        let mut frame = wire.receive().expect("an open connection");
        answered(frame.split_off(header_bytes));
    };
    for body in bodies {
        if in_flight == WINDOW {
            receive(wire);
            in_flight -= 1;
        }
        wire.send_request(key as i16, version, &body);
        in_flight += 1;
    }
    for _ in 0..in_flight {
        receive(wire);
    }
}

fn resident_kib(broker: &Broker) -> u64 {
    let path = format!("/proc/{}/status", broker.pid());
    let status = fs::read_to_string(path).expect("a running broker");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.expect("a resident size").parse().expect("a number")
}

/// Asks for a group's coordinator until there is one.
fn find_coordinator(wire: &mut Wire) {
    let request = FindCoordinatorRequestData::default().with_coordinator_keys(vec![text("any")]);
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let mut answer = wire.call(ApiKey::FindCoordinator, 4, |body, v| request.write(body, v));
        let answer = FindCoordinatorResponseData::read(&mut answer, 4).expect("an answer");
        match answer.coordinators[0].error_code {
            0 => return,
            COORDINATOR_NOT_AVAILABLE if Instant::now() < end => {
                thread::sleep(Duration::from_millis(20));
            }
            code => panic!("no coordinator: {code}"),
        }
    }
}

fn commit(group: &str, generation: i32, member: &str, offset: i64) -> Bytes {
    let partition = to_commit(0, offset, "");
    commit_all(group, generation, member, vec![partition])
}

fn to_commit(partition: i32, offset: i64, metadata: &str) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(Some(text(metadata)))
}

fn commit_all(
    group: &str,
    generation: i32,
    member: &str,
    partitions: Vec<OffsetCommitRequestPartition>,
) -> Bytes {
    let topic = OffsetCommitRequestTopic::default()
        .with_name(text("t"))
        .with_partitions(partitions);
    let request = OffsetCommitRequestData::default()
        .with_group_id(text(group))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member))
        .with_topics(vec![topic]);
    body(|body| request.write(body, 8).expect("an encodable commit"))
}

fn committed(mut answer: Bytes) -> i16 {
    let answer = OffsetCommitResponseData::read(&mut answer, 8).expect("an answer");
    answer.topics[0].partitions[0].error_code
}

/// All groups, as soon as those of all partitions are loaded.
fn list(wire: &mut Wire) -> BTreeSet<String> {
    let request = ListGroupsRequestData::default();
    let end = Instant::now() + Duration::from_secs(30);
    let answer = loop {
        let mut answer = wire.call(ApiKey::ListGroups, 4, |body, v| request.write(body, v));
        let answer = ListGroupsResponseData::read(&mut answer, 4).expect("an answer");
        match answer.error_code {
            0 => break answer,
            LOAD_IN_PROGRESS if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            code => panic!("no list of groups: {code}"),
        }
    };
    let groups = answer.groups.iter();
    groups.map(|group| group.group_id.to_string()).collect()
}

fn offset_of(wire: &mut Wire, group: &str) -> i64 {
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(text(group))
        .with_topics(None);
    let request = OffsetFetchRequestData::default().with_groups(vec![group]);
    let mut answer = wire.call(ApiKey::OffsetFetch, 8, |body, v| request.write(body, v));
    let answer = OffsetFetchResponseData::read(&mut answer, 8).expect("an answer");
    let group = &answer.groups[0];
    assert_eq!(group.error_code, 0);
    group.topics[0].partitions[0].committed_offset
}

/// Commits an offset for each group. The codes of the answers.
fn commit_each(port: u16, commits: &[(&String, i64)]) -> BTreeSet<i16> {
    let commit_some = |some: &[(&String, i64)]| {
        let mut wire = Wire::connect(port);
        let mut codes = BTreeSet::new();
        let commits = some.iter();
        let commits = commits.map(|(name, offset)| commit(name, -1, "", *offset));
        pipeline(&mut wire, ApiKey::OffsetCommit, 8, 5, commits, |answer| {
            codes.insert(committed(answer));
        });
        codes
    };
    // Each connection waits for the disk, and those that wait share a write.
    thread::scope(|scope| {
        let some = commits.chunks(commits.len() / CONNECTIONS);
        let threads: Vec<_> = some.map(|some| scope.spawn(|| commit_some(some))).collect();
        let codes = threads.into_iter().map(|it| it.join().expect("answers"));
        codes.flatten().collect()
    })
}

#[test]
fn groups_end_where_the_memory_for_them_does_and_those_that_are_there_go_on() {
    /// Of an eighth of it three quarters are for offsets, of some 3,000 groups in all shards
    /// together.
    const MEMORY_BYTES: u64 = 64 << 20;
    let mut broker = Broker::start_with(&[
        PATIENT,
        ("millrace.memory.bytes", &MEMORY_BYTES.to_string()),
    ]);
    if broker.peer() == Peer::Kafka {
        // It takes them until its heap is full.
        return;
    }
    topics::create(&broker, "t", 1, &[]);
    let port = broker.port();
    let mut wire = Wire::connect(port);
    find_coordinator(&mut wire);
    let before = resident_kib(&broker);
    let names: Vec<String> = (0..GROUPS).map(|at| format!("group-{at:05}")).collect();
    let commits: Vec<_> = names.iter().zip(1..).collect();
    let all = BTreeSet::from([0, COORDINATOR_NOT_AVAILABLE]);
    assert_eq!(commit_each(port, &commits), all);
    let taken = list(&mut wire);
    assert!((1_000..GROUPS).contains(&taken.len()), "{}", taken.len());
    // Also those whose names are there once more, and in a later run.
    let known: Vec<_> = taken.iter().zip(2..).collect();
    assert_eq!(commit_each(port, &known), BTreeSet::from([0]));
    let grown = resident_kib(&broker).saturating_sub(before);
    assert!(grown < MEMORY_BYTES >> 11, "they took {grown} KiB");
    broker.kill();
    broker.start_again();
    let mut wire = Wire::connect(port);
    find_coordinator(&mut wire);
    assert_eq!(list(&mut wire), taken);
}

#[test]
fn ten_thousand_groups_are_kept_through_a_kill_and_deleted() {
    let mut broker = Broker::start_with(&[PATIENT]);
    topics::create(&broker, "t", 1, &[]);
    let port = broker.port();
    find_coordinator(&mut Wire::connect(port));
    let before = resident_kib(&broker);
    let names: BTreeSet<String> = (0..GROUPS).map(|at| format!("group-{at:05}")).collect();
    let commits: Vec<_> = names.iter().zip(1..).collect();
    assert_eq!(commit_each(port, &commits), BTreeSet::from([0]));
    let grown = resident_kib(&broker).saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{GROUPS} groups took {grown} KiB");

    broker.kill();
    broker.start_again();
    let mut wire = Wire::connect(port);
    find_coordinator(&mut wire);
    assert_eq!(list(&mut wire), names);
    for at in [0, 1, GROUPS / 2, GROUPS - 1] {
        let group = format!("group-{at:05}");
        assert_eq!(offset_of(&mut wire, &group), at as i64 + 1, "{group}");
    }

    let all: Vec<_> = names.iter().map(|name| text(name)).collect();
    for some in all.chunks(1000) {
        let request = DeleteGroupsRequestData::default().with_groups_names(some.to_vec());
        let mut answer = wire.call(ApiKey::DeleteGroups, 2, |body, v| request.write(body, v));
        let answer = DeleteGroupsResponseData::read(&mut answer, 2).expect("an answer");
        assert!(answer.results.iter().all(|group| group.error_code == 0));
    }
    assert_eq!(list(&mut wire), BTreeSet::new());
}

fn join(group: &str, member: &str) -> Bytes {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(&[0; 10]));
    let request = JoinGroupRequestData::default()
        .with_group_id(text(group))
        // No id of a flood runs out before its end.
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(10_000)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    body(|body| request.write(body, 9).expect("an encodable join"))
}

fn joined(mut answer: Bytes) -> JoinGroupResponseData {
    JoinGroupResponseData::read(&mut answer, 9).expect("an answer")
}

/// A member that is alone in its group.
struct Bystander {
    wire: Wire,
    group: &'static str,
    member: String,
    generation: i32,
}

impl Bystander {
    fn join(port: u16, group: &'static str) -> Self {
        let mut wire = Wire::connect(port);
        let mut ask = |member: &str| {
            let join = join(group, member);
            let answer = wire.ask(ApiKey::JoinGroup as i16, 9, &join);
            joined(answer.expect("an open connection"))
        };
        let member = ask("").member_id.to_string();
        let answer = ask(&member);
        assert_eq!(answer.error_code, 0);
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(text(&member))
            .with_assignment(Bytes::from_static(&[1]));
        let request = SyncGroupRequestData::default()
            .with_group_id(text(group))
            .with_generation_id(answer.generation_id)
            .with_member_id(text(&member))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(vec![assignment]);
        let mut synced = wire.call(ApiKey::SyncGroup, 5, |body, v| request.write(body, v));
        let synced = SyncGroupResponseData::read(&mut synced, 5).expect("an answer");
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &[1][..]));
        Self {
            wire,
            group,
            member,
            generation: answer.generation_id,
        }
    }

    /// A heartbeat and a commit. How long both took.
    fn live(&mut self, offset: i64) -> Duration {
        let began = Instant::now();
        let request = HeartbeatRequestData::default()
            .with_group_id(text(self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member));
        let mut answer = self
            .wire
            .call(ApiKey::Heartbeat, 4, |body, v| request.write(body, v));
        let answer = HeartbeatResponseData::read(&mut answer, 4).expect("an answer");
        assert_eq!(answer.error_code, 0);
        let commit = commit(self.group, self.generation, &self.member, offset);
        let answer = self.wire.ask(ApiKey::OffsetCommit as i16, 8, &commit);
        assert_eq!(committed(answer.expect("an open connection")), 0);
        began.elapsed()
    }
}

#[test]
fn groups_that_are_flooded_with_joins_disturb_no_other() {
    /// Each is of its own group, and together they are more than one partition takes.
    const FLOODS: [&str; 4] = ["flooded-0", "flooded-1", "flooded-2", "flooded-3"];
    const JOINS: usize = 10_000;
    /// A heartbeat and a commit of a group that has its own rhythm: once, on a machine whose disk
    /// is slow at that moment...
    const WITHIN: Duration = Duration::from_secs(10);
    /// ...and as a rule.
    const MOSTLY_WITHIN: Duration = Duration::from_millis(500);
    // All groups are in one partition.
    let one = ("offsets.topic.num.partitions", "1");
    let at_once = ("group.initial.rebalance.delay.ms", "0");
    let broker = Broker::start_with(&[PATIENT, one, at_once]);
    topics::create(&broker, "t", 1, &[]);
    let port = broker.port();
    find_coordinator(&mut Wire::connect(port));
    let mut bystander = Bystander::join(port, "calm");
    bystander.live(0);
    let before = resident_kib(&broker);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = |group: &'static str| {
            let mut wire = Wire::connect(port);
            let mut codes = BTreeSet::new();
            let joins = (0..JOINS).map(move |_| join(group, ""));
            pipeline(&mut wire, ApiKey::JoinGroup, 9, 5, joins, |answer| {
                codes.insert(joined(answer).error_code);
            });
            codes
        };
        let _over = SetOnDrop(&is_over);
        let floods = FLOODS.map(|group| scope.spawn(move || flood(group)));
        let living = scope.spawn(|| {
            let mut times = Vec::new();
            for offset in 1.. {
                times.push(bystander.live(offset));
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
            times.sort();
            times
        });
        let codes: BTreeSet<_> = floods
            .into_iter()
            .flat_map(|flood| flood.join().expect("a flood to its end"))
            .collect();
        // The ids of the flood still wait to be used.
        let fresh = scope.spawn(move || Bystander::join(port, "fresh").live(0));
        let fresh = fresh.join();
        is_over.store(true, Ordering::Relaxed);
        assert!(fresh.is_ok(), "a new group of the same partition");
        let times = living.join().expect("a bystander that lives on");
        // Kafka hands out ids without a bound.
        let expected = match broker.peer() {
            Peer::Millrace => BTreeSet::from([COORDINATOR_NOT_AVAILABLE, MEMBER_ID_REQUIRED]),
            Peer::Kafka => BTreeSet::from([MEMBER_ID_REQUIRED]),
        };
        assert_eq!(codes, expected);
        let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
        assert!(
            median < MOSTLY_WITHIN,
            "the bystander mostly waited {median:?}"
        );
        assert!(slowest < WITHIN, "the bystander waited {slowest:?}");
    });
    let grown = resident_kib(&broker).saturating_sub(before);
    assert!(grown < FLOOD_KIB_MAX, "the flood took {grown} KiB");
}

#[test]
fn a_group_named_again_and_again_takes_no_more_than_an_answer_may() {
    /// More than twice what an answer may take.
    const TIMES: usize = 600;
    const PARTITIONS: i32 = 64;
    const METADATA_BYTES: usize = 4_000;
    /// What Millrace answers at most, in bytes.
    const ANSWER_BYTES_MAX: usize = 64 << 20;
    let broker = Broker::start();
    topics::create(&broker, "t", PARTITIONS, &[]);
    let mut wire = Wire::connect(broker.port());
    find_coordinator(&mut wire);
    // The array of a request of shorter names would be refused.
    let name = "g".repeat(50);
    let metadata = "m".repeat(METADATA_BYTES);
    let partitions = (0..PARTITIONS).map(|partition| to_commit(partition, 7, &metadata));
    let commit = commit_all(&name, -1, "", partitions.collect());
    let answer = wire.ask(ApiKey::OffsetCommit as i16, 8, &commit);
    assert_eq!(committed(answer.expect("an open connection")), 0);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(text(&name))
        .with_topics(None);
    let request = OffsetFetchRequestData::default().with_groups(vec![group; TIMES]);
    let mut answer = wire.call(ApiKey::OffsetFetch, 8, |body, v| request.write(body, v));
    let bytes = answer.len();
    let answer = OffsetFetchResponseData::read(&mut answer, 8).expect("an answer");
    assert_eq!(answer.groups.len(), TIMES);
    let full = answer.groups.iter().take_while(|it| it.error_code == 0);
    let offset = |group: &OffsetFetchResponseGroup| group.topics[0].partitions[0].committed_offset;
    let full: Vec<_> = full.map(offset).collect();
    assert!(full.iter().all(|offset| *offset == 7));
    let full = full.len();
    if broker.peer() == Peer::Kafka {
        assert_eq!(full, TIMES);
        return;
    }
    assert!((100..TIMES).contains(&full), "{full} of {TIMES}");
    assert!(bytes < ANSWER_BYTES_MAX, "{bytes} bytes");
    for refused in &answer.groups[full..] {
        assert_eq!(refused.error_code, COORDINATOR_NOT_AVAILABLE);
        assert!(refused.topics.is_empty());
    }
    assert_eq!(offset_of(&mut wire, &name), 7);
}
