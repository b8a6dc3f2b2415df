//! The broker is killed with SIGKILL, again and again, while six consumers in two groups from three
//! languages consume and commit: every record that was acknowledged is consumed in both groups, and
//! no offset whose commit was acknowledged, or that was seen committed, ever goes back.
//!
//! A broker of its own, since the other scenarios would not like it. The gate plays a few rounds;
//! `tests/crash/long-run` fifty, and `MILLRACE_CRASH_ROUNDS` any number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kacrab_protocol::generated::ApiKey;
use libtest_mimic::Trial;
use serde_json::json;

use crate::client::{CLIENTS, Client};
use crate::committed::ask;
use crate::driver::{Driver, WITHIN};
use crate::member::{Member, Partition, offsets};
use crate::scene::SETTINGS;
use crate::support::batches::batch;
use crate::support::broker::Broker;
use crate::support::wire::Wire;
use crate::support::{Random, SetOnDrop, requests, topics};

const ROUNDS: u64 = 3;
const TOPIC: &str = "killed";
const PARTITIONS: i32 = 6;
const GROUPS: [&str; 2] = ["first", "second"];
/// One of each in either group.
const LANGUAGES: [&str; 3] = ["kafka_clients", "confluent_kafka", "franz_go"];
/// Records of one batch, and the pause behind it.
const BATCH: usize = 5;
const PAUSE: Duration = Duration::from_millis(10);

pub fn trials() -> Vec<Trial> {
    let name = "kills::six_consumers_of_three_languages_lose_nothing";
    vec![Trial::test(name, || {
        let clients = LANGUAGES.map(|name| {
            let known = CLIENTS.iter().find(|client| client.name == name);
            known.expect("a client of the table")
        });
        if clients.iter().all(|client| client.program().is_some()) {
            play(&clients);
        }
        Ok(())
    })]
}

fn rounds() -> u64 {
    let text = std::env::var("MILLRACE_CRASH_ROUNDS").ok();
    text.map_or(ROUNDS, |text| {
        text.parse()
            .expect("MILLRACE_CRASH_ROUNDS is a number of rounds")
    })
}

/// What decides the moments of the kills; it is printed, so that a run can be repeated.
fn seed() -> u64 {
    let text = std::env::var("MILLRACE_CRASH_SEED").ok();
    let seed = text.map_or(u64::from(std::process::id()), |text| {
        text.parse().expect("MILLRACE_CRASH_SEED is a number")
    });
    eprintln!("MILLRACE_CRASH_SEED={seed}");
    seed
}

/// Committed offsets of one group.
type Offsets = BTreeMap<Partition, i64>;

/// What is written and seen meanwhile.
#[derive(Default)]
struct Ledger {
    /// Values of records that were acknowledged.
    acknowledged: Mutex<BTreeSet<String>>,
    /// By group: the highest committed offsets that anybody was told of, be it by the answer to a
    /// commit or by one to a question. A question that is asked later may not be told less.
    floors: [Mutex<Offsets>; GROUPS.len()],
    /// How many commits were acknowledged.
    commits: AtomicUsize,
    is_over: AtomicBool,
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    fn acknowledged(&self) -> BTreeSet<String> {
        lock(&self.acknowledged).clone()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Writes batch after batch, to one partition after the other. A batch that is not answered is
    /// not sent again: nobody may rely on it.
    fn feed(&self, port: u16) {
        let mut wire = None;
        for number in 0_u64.. {
            if self.is_over() {
                return;
            }
            thread::sleep(PAUSE);
            let partition = (number % PARTITIONS as u64) as i32;
            let values: Vec<_> = (0..BATCH).map(|at| format!("{number}-{at}")).collect();
            let bytes: Vec<_> = values.iter().map(String::as_bytes).collect();
            let request = requests::produce(TOPIC, partition, -1, &batch(&bytes));
            let Some(open) = connected(&mut wire, port) else {
                continue;
            };
            let answer = open.try_call(ApiKey::Produce, 9, |body, v| request.write(body, v));
            let Some(mut answer) = answer else {
                wire = None;
                continue;
            };
            if requests::produced(&mut answer, 9).error_code == 0 {
                lock(&self.acknowledged).extend(values);
            }
        }
    }

    /// Asks for the committed offsets of both groups, again and again.
    fn watch(&self, port: u16) {
        let mut wire = None;
        while !self.is_over() {
            thread::sleep(PAUSE);
            for group in 0..GROUPS.len() {
                let Some(open) = connected(&mut wire, port) else {
                    break;
                };
                if self.look(group, open).is_none() {
                    wire = None;
                }
            }
        }
    }

    /// Asks for a group's committed offsets, which may not be below what anybody was told before
    /// the question was sent. `None` if nobody can tell now.
    fn look(&self, group: usize, wire: &mut Wire) -> Option<Offsets> {
        let floor = lock(&self.floors[group]).clone();
        let offsets = ask(wire, GROUPS[group])?;
        for (partition, floor) in floor {
            let now = offsets.get(&partition).copied().unwrap_or(-1);
            assert!(
                now >= floor,
                "group {} went back from {floor} to {now} in {partition:?}",
                GROUPS[group]
            );
        }
        self.raise(group, &offsets);
        Some(offsets)
    }

    fn raise(&self, group: usize, told: &Offsets) {
        let mut floor = lock(&self.floors[group]);
        for (partition, told) in told {
            let held = floor.entry(partition.clone()).or_insert(*told);
            *held = (*held).max(*told);
        }
    }

    /// Has a member commit, again and again. It waits for each answer: clients that commit on
    /// their own send the next commit while they still repeat the last one, which may then come
    /// behind it.
    fn commit(&self, group: usize, member: &Member) {
        while !self.is_over() {
            thread::sleep(10 * PAUSE);
            let answer = member.try_commit();
            if answer["event"] == "committed" {
                self.raise(group, &offsets(&answer["offsets"]));
                self.commits.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until one more commit is acknowledged.
    fn until_committed(&self) {
        let count = || self.commits.load(Ordering::Relaxed);
        let (before, end) = (count(), Instant::now() + WITHIN);
        while count() == before {
            assert!(Instant::now() < end, "no commit is acknowledged any more");
            thread::sleep(Duration::from_micros(200));
        }
    }
}

fn connected(wire: &mut Option<Wire>, port: u16) -> Option<&mut Wire> {
    if wire.is_none() {
        *wire = Wire::try_connect(port).ok();
    }
    wire.as_mut()
}

fn start(broker: &Broker, client: &Client, group: &str) -> Member {
    let options = json!({
        "bootstrap": broker.bootstrap(), "topics": [TOPIC], "group": group, "strategy": "range",
        "reset": "earliest", "auto_commit": false, "session_ms": 10_000,
        "heartbeat_ms": 300, "isolation": "read_uncommitted", "metadata_max_age_ms": 1_000,
    });
    let command = client.program().and_then(|program| program());
    let command = command.expect("what was installed a moment ago");
    Member(Driver::start(command, client.name, "consume", &options))
}

/// The values that the members of one group have read.
fn read(members: &[Member]) -> BTreeSet<String> {
    let records = members.iter().flat_map(Member::records);
    records.filter_map(|record| record.value).collect()
}

/// Waits until each group has read all of `wanted`.
fn until_read(groups: &[Vec<Member>], wanted: &BTreeSet<String>) {
    let end = Instant::now() + WITHIN;
    loop {
        let missing: Vec<_> = groups
            .iter()
            .map(|members| wanted.difference(&read(members)).count())
            .collect();
        if missing.iter().all(|missing| *missing == 0) {
            return;
        }
        assert!(
            Instant::now() < end,
            "of {} acknowledged records the groups have not read {missing:?}",
            wanted.len()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

fn play(clients: &[&'static Client]) {
    let mut broker = Broker::start_with(SETTINGS);
    topics::create(&broker, TOPIC, PARTITIONS, &[]);
    let port = broker.port();
    let groups: Vec<Vec<Member>> = GROUPS
        .iter()
        .map(|group| {
            clients
                .iter()
                .map(|client| start(&broker, client, group))
                .collect()
        })
        .collect();
    let partitions: BTreeSet<Partition> =
        (0..PARTITIONS).map(|at| (TOPIC.to_owned(), at)).collect();
    for members in &groups {
        crate::member::settle(&members.iter().collect::<Vec<_>>(), &partitions);
    }
    let ledger = Ledger::default();
    let mut random = Random::new(seed());
    thread::scope(|scope| {
        let _over = SetOnDrop(&ledger.is_over);
        scope.spawn(|| ledger.feed(port));
        let watcher = scope.spawn(|| ledger.watch(port));
        for (at, members) in groups.iter().enumerate() {
            for member in members {
                let ledger = &ledger;
                scope.spawn(move || ledger.commit(at, member));
            }
        }
        for round in 0..rounds() {
            if watcher.is_finished() {
                // It has seen an offset go back, and says so.
                return;
            }
            // Both groups are seen to work before each kill.
            let before = ledger.acknowledged();
            until_read(&groups, &before);
            let newer = || ledger.acknowledged().len() > before.len() + BATCH;
            let end = Instant::now() + WITHIN;
            while !newer() {
                assert!(Instant::now() < end, "nothing is acknowledged any more");
                thread::sleep(PAUSE);
            }
            until_read(&groups, &ledger.acknowledged());
            thread::sleep(Duration::from_millis(random.next() % 500));
            if round % 2 == 0 {
                // The worst moment for a commit that is acknowledged before it lasts.
                ledger.until_committed();
            }
            broker.kill();
            broker.start_again();
            eprintln!("round {}: {} records", round + 1, before.len());
        }
        until_read(&groups, &ledger.acknowledged());
    });
    until_read(&groups, &ledger.acknowledged());
    for member in groups.into_iter().flatten() {
        member.close();
    }
    let mut wire = Wire::connect(port);
    for (at, group) in GROUPS.into_iter().enumerate() {
        let offsets = ledger.look(at, &mut wire).expect("an open connection");
        assert_eq!(offsets.len(), PARTITIONS as usize, "{group}: {offsets:?}");
    }
}
