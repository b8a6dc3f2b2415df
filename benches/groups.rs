//! What single calls of the machine of groups cost a shard: a group of 1,000 members through its
//! rebalances, and ten thousand groups in one machine.
//!
//! `cargo bench --bench groups`. Each row is one kind of call: how many there were, and what they
//! took in microseconds, all together, by the median and at worst. Everything is run several times,
//! and of each call the best time counts: what else the machine does is not to show.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::mem::take;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use millrace::base::ids::{PartitionIndex, TopicId};
use millrace::coordinator::group::command::{
    Append, Command, CommitOffsets, Effects, FetchOffsets, Heartbeat, JoinGroup, LeaveGroup,
    LeavingMember, Now, Protocol, Reply, ReplyId, SyncGroup,
};
use millrace::coordinator::group::config::GroupConfig;
use millrace::coordinator::group::machine::Machine;
use millrace::coordinator::group::offsets::OffsetToCommit;
use millrace::coordinator::group::reads::ListFilter;
use millrace::protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use millrace::protocol::wire::Message;
use millrace::protocol::writer::Writer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MEMBERS: usize = 1000;
const GROUPS: usize = 10_000;
const LARGE_RUNS: usize = 40;
const MANY_RUNS: usize = 5;
const TIME: i64 = 1_700_000_000_000;

/// A machine, a clock, and a log that takes everything when it is asked to.
struct Bench {
    machine: Machine,
    now: Duration,
    next_reply: u64,
    replies: BTreeMap<ReplyId, Reply>,
    appends: VecDeque<Append>,
    took: Vec<(&'static str, Duration)>,
}

/// The best times of each call of several runs, which make the same calls in the same order.
#[derive(Default)]
struct Best(BTreeMap<&'static str, Vec<(&'static str, Duration)>>);

impl Best {
    fn add(&mut self, title: &'static str, took: Vec<(&'static str, Duration)>) {
        let best = self.0.entry(title).or_insert_with(|| took.clone());
        assert_eq!(best.len(), took.len(), "all runs are the same");
        for (best, (what, took)) in best.iter_mut().zip(took) {
            assert_eq!(best.0, what);
            best.1 = best.1.min(took);
        }
    }

    fn report(self) {
        for (title, calls) in self.0 {
            println!("\n{title}");
            println!(
                "{:34}{:>9}{:>12}{:>10}{:>10}",
                "", "calls", "all µs", "median", "worst"
            );
            let mut by_kind: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for (what, took) in calls {
                by_kind
                    .entry(what)
                    .or_default()
                    .push(took.as_secs_f64() * 1e6);
            }
            for (what, mut took) in by_kind {
                took.sort_by(f64::total_cmp);
                let all: f64 = took.iter().sum();
                let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
                println!(
                    "{what:34}{:>9}{all:>12.0}{median:>10.1}{worst:>10.1}",
                    took.len()
                );
            }
        }
    }
}

impl Bench {
    fn new() -> Self {
        let config = GroupConfig {
            offsets_retention: Duration::from_secs(3600),
            ..GroupConfig::default()
        };
        let mut bench = Self {
            machine: Machine::new(config, PartitionIndex(0)),
            now: Duration::ZERO,
            next_reply: 0,
            replies: BTreeMap::new(),
            appends: VecDeque::new(),
            took: Vec::new(),
        };
        bench.run("loaded", |machine, now, out| machine.loaded(now, out));
        bench
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.now,
            wall_ms: TIME + self.now.as_millis() as i64,
        }
    }

    fn run(&mut self, what: &'static str, act: impl FnOnce(&mut Machine, Now, &mut Effects)) {
        let mut out = Effects::default();
        let now = self.now();
        let began = Instant::now();
        act(&mut self.machine, now, &mut out);
        self.took.push((what, began.elapsed()));
        self.replies.extend(out.replies);
        self.appends.extend(out.appends);
    }

    fn ask(&mut self, what: &'static str, command: Command) -> ReplyId {
        let reply_to = ReplyId(self.next_reply);
        self.next_reply += 1;
        self.run(what, |machine, now, out| {
            machine.handle(command, reply_to, now, out)
        });
        reply_to
    }

    /// Ends all appends. Encoding is the runtime's work on the same shard.
    fn end_appends(&mut self, what: &'static str) {
        while let Some(append) = self.appends.pop_front() {
            let began = Instant::now();
            for record in &append.records {
                record.key().expect("short names");
                record.value().expect("short names");
            }
            self.took.push(("encode records", began.elapsed()));
            let now = self.now();
            let began = Instant::now();
            append
                .records
                .iter()
                .for_each(|record| self.machine.replay(record, now));
            self.took.push(("replay records", began.elapsed()));
            self.run(what, |machine, now, out| {
                machine.appended(append.after, Ok(()), now, out)
            });
        }
    }

    fn pass(&mut self, what: &'static str, wait: Duration) {
        let end = self.now + wait;
        while let Some(deadline) = self.machine.deadline()
            && deadline <= end
        {
            self.now = self.now.max(deadline);
            self.run(what, |machine, now, out| machine.tick(now, out));
            self.end_appends("appended, expiry");
        }
        self.now = end;
    }
}

fn subscription() -> Bytes {
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["orders".into()],
        ..Default::default()
    };
    let mut writer = Writer::new();
    writer.int16(1);
    subscription.encode(&mut writer, 1).expect("short names");
    writer.into_bytes()
}

fn join(group: &ByteString, member_id: &ByteString, random: u128, metadata: &Bytes) -> Command {
    let protocol = |name: &'static str| Protocol {
        name: ByteString::from_static(name),
        metadata: metadata.clone(),
    };
    Command::Join(JoinGroup {
        group: group.clone(),
        member_id: member_id.clone(),
        instance_id: None,
        client_id: "consumer-orders-1".into(),
        client_host: "/10.0.0.7".into(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range"), protocol("cooperative-sticky")],
        knows_member_id_required: true,
        knows_skip_assignment: true,
        random,
        reason: None,
    })
}

fn sync(group: &ByteString, generation: i32, id: &ByteString, of: &[ByteString]) -> Command {
    let given = of
        .iter()
        .map(|id| (id.clone(), Bytes::from_static(&[7; 64])));
    Command::Sync(SyncGroup {
        group: group.clone(),
        generation,
        member_id: id.clone(),
        instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol_name: None,
        assignments: given.collect(),
    })
}

/// Joins as a new member does: an id first, then the join that waits.
fn enter(bench: &mut Bench, group: &ByteString, random: u128, metadata: &Bytes) -> ByteString {
    let asked = bench.ask(
        "join for an id",
        join(group, &ByteString::new(), random, metadata),
    );
    let Some(Reply::Join(reply)) = bench.replies.remove(&asked) else {
        panic!("no answer");
    };
    bench.ask("join", join(group, &reply.member_id, random, metadata));
    reply.member_id
}

/// All members sync, the leader first or last.
fn sync_all(bench: &mut Bench, group: &ByteString, generation: i32, ids: &[ByteString]) {
    let (leader, followers) = ids.split_first().expect("members");
    for id in followers {
        bench.ask("sync of a follower", sync(group, generation, id, &[]));
    }
    bench.ask("sync of the leader", sync(group, generation, leader, ids));
    bench.end_appends("appended: assignments");
}

fn one_large_group(best: &mut Best) {
    let mut bench = Bench::new();
    let group = ByteString::from_static("orders");
    let metadata = subscription();
    let mut ids: Vec<ByteString> = Vec::new();
    for n in 0..MEMBERS {
        ids.push(enter(&mut bench, &group, n as u128, &metadata));
    }
    bench.end_appends("appended: created");
    bench.pass("tick: first join phase ends", Duration::from_secs(10));
    sync_all(&mut bench, &group, 1, &ids);
    for id in &ids {
        let beat = Heartbeat {
            group: group.clone(),
            generation: 1,
            member_id: id.clone(),
            instance_id: None,
        };
        bench.ask("heartbeat", Command::Heartbeat(beat));
        bench.ask("commit", commit(&group, 1, id));
        bench.ask(
            "fetch, stable",
            Command::Fetch(FetchOffsets {
                group: group.clone(),
                partitions: None,
                require_stable: true,
            }),
        );
    }
    bench.end_appends("appended: commit");
    best.add("1,000 members: the first generation", take(&mut bench.took));
    rebalances(&mut bench, &group, &metadata, ids);
    best.add("1,000 members: rebalances", take(&mut bench.took));
}

/// One leaves, the others join again; the leader joins once more; most do not sync.
fn rebalances(bench: &mut Bench, group: &ByteString, metadata: &Bytes, mut ids: Vec<ByteString>) {
    let gone = ids.pop().expect("members");
    let leaving = LeavingMember {
        member_id: gone,
        instance_id: None,
        reason: None,
    };
    let leave = LeaveGroup {
        group: group.clone(),
        members: vec![leaving],
    };
    bench.ask("leave of one", Command::Leave(leave));
    let (last, others) = ids.split_last().expect("members");
    for (n, id) in others.iter().enumerate() {
        bench.ask("join again", join(group, id, n as u128, metadata));
    }
    bench.ask("join again, the last", join(group, last, 0, metadata));
    sync_all(bench, group, 2, &ids);
    // A leader that sees a new topic.
    for (n, id) in ids.iter().enumerate() {
        let what = if n == 0 {
            "join of the leader, stable"
        } else {
            "join again"
        };
        bench.ask(what, join(group, id, n as u128, metadata));
    }
    // Nobody syncs but the leader: 998 have to go.
    bench.ask("sync of the leader", sync(group, 3, &ids[0], &ids));
    let id = &ids[0];
    bench.ask(
        "join of the leader, completing",
        join(group, id, 0, metadata),
    );
    bench.run("describe", |machine, _, _| {
        let described = machine.describe(group).map(|it| it.members.len());
        assert_eq!(described, Ok(MEMBERS - 1));
    });
    bench.pass("tick: members that do not sync", Duration::from_secs(301));
    bench.end_appends("appended: assignments");
}

fn commit(group: &ByteString, generation: i32, id: &ByteString) -> Command {
    Command::Commit(CommitOffsets {
        group: group.clone(),
        generation,
        member_id: id.clone(),
        instance_id: None,
        knows_group_id_not_found: true,
        retention_ms: None,
        offsets: vec![OffsetToCommit {
            topic: "orders".into(),
            topic_id: TopicId::ZERO,
            partition: 7,
            offset: 1_000_000,
            leader_epoch: 3,
            metadata: None,
        }],
    })
}

fn many_groups(best: &mut Best) -> usize {
    let before = resident_bytes();
    let mut bench = Bench::new();
    let metadata = subscription();
    let mut groups = Vec::new();
    for n in 0..GROUPS {
        let group = ByteString::from(format!("group-{n:05}"));
        let ids: Vec<_> = (0..3)
            .map(|m| enter(&mut bench, &group, (n * 3 + m) as u128, &metadata))
            .collect();
        bench.end_appends("appended: created");
        bench.replies.clear();
        groups.push((group, ids));
    }
    bench.pass("tick: first join phases end", Duration::from_secs(10));
    for (group, ids) in &groups {
        sync_all(&mut bench, group, 1, ids);
        bench.ask("commit", commit(group, 1, &ids[0]));
        bench.end_appends("appended: commit");
        bench.replies.clear();
    }
    let grown = resident_bytes().saturating_sub(before);
    bench.replies.clear();
    best.add("10,000 groups of three members", take(&mut bench.took));
    bench.run("list", |machine, _, _| {
        let listed = machine.list(&ListFilter::default()).map(|it| it.len());
        assert_eq!(listed, Ok(GROUPS));
    });
    bench.pass("tick: sessions, expiry", Duration::from_secs(4 * 3600));
    best.add(
        "10,000 groups: everybody goes, everything expires",
        take(&mut bench.took),
    );
    let left = bench
        .machine
        .list(&ListFilter::default())
        .map(|it| it.len());
    assert_eq!((left, bench.machine.offsets().bytes()), (Ok(0), 0));
    grown / GROUPS
}

fn resident_bytes() -> usize {
    let text = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = text.split(' ').nth(1).expect("its second field");
    pages.parse::<usize>().expect("a number") * 4096
}

fn main() {
    let mut best = Best::default();
    (0..LARGE_RUNS).for_each(|_| one_large_group(&mut best));
    let memory = (0..MANY_RUNS).map(|_| many_groups(&mut best)).max();
    best.report();
    println!(
        "\n{} bytes of memory a group of three",
        memory.unwrap_or_default()
    );
}
