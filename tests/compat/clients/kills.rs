//! The broker is killed with SIGKILL, again and again, while six consumers in two groups from three
//! languages consume and commit: every record that was acknowledged is consumed in both groups, and
//! no committed offset ever goes back.
//!
//! A broker of its own, since the other scenarios would not like it. The gate plays a few rounds;
//! `tests/crash/long-run` fifty, and `MILLRACE_CRASH_ROUNDS` any number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kacrab_protocol::generated::{ApiKey, OffsetFetchRequestData, OffsetFetchResponseData};
use libtest_mimic::Trial;
use serde_json::json;

use crate::client::{CLIENTS, Client};
use crate::driver::{Driver, WITHIN};
use crate::member::{Member, Partition};
use crate::scene::SETTINGS;
use crate::support::batches::batch;
use crate::support::broker::Broker;
use crate::support::wire::{Wire, text};
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

/// What is written and seen meanwhile.
#[derive(Default)]
struct Ledger {
    /// Values of records that were acknowledged.
    acknowledged: Mutex<BTreeSet<String>>,
    /// By group: the last committed offset that anybody was told.
    committed: Mutex<BTreeMap<(usize, i32), i64>>,
    is_over: AtomicBool,
}

impl Ledger {
    fn acknowledged(&self) -> BTreeSet<String> {
        let held = self.acknowledged.lock();
        held.unwrap_or_else(PoisonError::into_inner).clone()
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
                let held = self.acknowledged.lock();
                held.unwrap_or_else(PoisonError::into_inner).extend(values);
            }
        }
    }

    /// Looks at the committed offsets of both groups, which only grow.
    fn watch(&self, port: u16) {
        let mut wire = None;
        while !self.is_over() {
            thread::sleep(PAUSE);
            for (at, group) in GROUPS.into_iter().enumerate() {
                let Some(open) = connected(&mut wire, port) else {
                    break;
                };
                match committed(open, group) {
                    Some(offsets) => self.saw(at, &offsets),
                    None => wire = None,
                }
            }
        }
    }

    /// Has a member commit, again and again. It waits for each answer: clients that commit on
    /// their own send the next commit while they still repeat the last one, which may then come
    /// behind it.
    fn commit(&self, member: &Member) {
        while !self.is_over() {
            thread::sleep(10 * PAUSE);
            member.try_commit();
        }
    }

    fn saw(&self, group: usize, offsets: &BTreeMap<i32, i64>) {
        let held = self.committed.lock();
        let mut last = held.unwrap_or_else(PoisonError::into_inner);
        let before: Vec<_> = last.range((group, 0)..(group + 1, 0)).collect();
        for ((_, partition), before) in before {
            let now = offsets.get(partition).copied().unwrap_or(-1);
            assert!(
                now >= *before,
                "group {} went back from {before} to {now} in partition {partition}",
                GROUPS[group]
            );
        }
        for (partition, offset) in offsets {
            last.insert((group, *partition), *offset);
        }
    }
}

fn connected(wire: &mut Option<Wire>, port: u16) -> Option<&mut Wire> {
    if wire.is_none() {
        *wire = Wire::try_connect(port).ok();
    }
    wire.as_mut()
}

/// The group's committed offsets by partition, if they can be told now.
fn committed(wire: &mut Wire, group: &str) -> Option<BTreeMap<i32, i64>> {
    let request = OffsetFetchRequestData::default()
        .with_group_id(text(group))
        .with_topics(None);
    let answer = wire.try_call(ApiKey::OffsetFetch, 7, |body, v| request.write(body, v));
    let answer = OffsetFetchResponseData::read(&mut answer?, 7).expect("a decodable answer");
    if answer.error_code != 0 {
        // A coordinator that is not there yet, or loads.
        assert!((14..=16).contains(&answer.error_code), "{answer:?}");
        return None;
    }
    let topics = answer.topics.iter();
    let rows = topics.flat_map(|topic| &topic.partitions);
    let offsets = rows.map(|row| (row.partition_index, row.committed_offset));
    Some(offsets.collect())
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
    let seed = std::env::var("MILLRACE_CRASH_SEED").ok();
    let seed = seed.map_or(u64::from(std::process::id()), |text| {
        text.parse().expect("MILLRACE_CRASH_SEED is a number")
    });
    eprintln!("MILLRACE_CRASH_SEED={seed}");
    let mut random = Random::new(seed);
    thread::scope(|scope| {
        let _over = SetOnDrop(&ledger.is_over);
        scope.spawn(|| ledger.feed(port));
        scope.spawn(|| ledger.watch(port));
        for member in groups.iter().flatten() {
            scope.spawn(|| ledger.commit(member));
        }
        for round in 0..rounds() {
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
        let offsets = committed(&mut wire, group).expect("an open connection");
        ledger.saw(at, &offsets);
        assert_eq!(offsets.len(), PARTITIONS as usize, "{group}: {offsets:?}");
    }
}
