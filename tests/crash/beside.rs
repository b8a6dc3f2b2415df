//! What goes on beside the producers while the broker dies: topics that come and go, and offsets
//! that groups commit. Who is not answered knows nothing; what was answered has to hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use kacrab_protocol::generated::{
    ApiKey, CreatableTopic, CreateTopicsRequestData, CreateTopicsResponseData, DeleteTopicState,
    DeleteTopicsRequestData, DeleteTopicsResponseData, FindCoordinatorRequestData,
    MetadataRequestData, MetadataResponseData, OffsetCommitRequestData,
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponseData,
    OffsetFetchRequestData, OffsetFetchResponseData,
};

use crate::ledger::Violations;
use crate::support::broker::Broker;
use crate::support::wire::{Wire, text};
use crate::support::{Random, batches, requests};

/// So few that a start does not spend its time on them.
pub const SETTINGS: &[(&str, &str)] = &[("offsets.topic.num.partitions", "3")];

/// A topic is deleted when so many others were made after it.
const TOPICS_KEPT: usize = 6;
const GROUPS: usize = 3;
/// Between one request and the next.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the groups may take to be loaded in the end.
const LOADED_WITHIN: Duration = Duration::from_secs(60);

/// Whether somebody was told that something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It was not asked for.
    Unasked,
    /// It was asked for, and refused or not answered: it may be done or not.
    Nothing,
    /// It was answered.
    Done,
}

impl Told {
    /// By the error code of the answer, if there was one.
    fn by(code: Option<i16>) -> Self {
        match code {
            Some(0) => Self::Done,
            _ => Self::Nothing,
        }
    }
}

/// A topic, and what its client knows of it.
#[derive(Debug)]
struct Topic {
    name: String,
    partitions: i32,
    made: Told,
    /// Whether its one record was acknowledged.
    written: Told,
    deleted: Told,
}

/// By group: what was acknowledged last of its offset, and what was sent last.
type Offsets = BTreeMap<String, (i64, i64)>;

/// What runs until [`Beside::stop`].
pub struct Beside {
    stop: Arc<AtomicBool>,
    topics: JoinHandle<Vec<Topic>>,
    commits: JoinHandle<(Offsets, Violations)>,
}

impl Beside {
    /// `name` is part of all names; groups commit offsets of the topic `of`.
    pub fn start(broker: &Broker, name: &str, of: &str, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let port = broker.port();
        let (name, of) = (name.to_owned(), of.to_owned());
        let topics = {
            let (stop, name) = (Arc::clone(&stop), name.clone());
            spawn(move || come_and_go(port, &name, seed, &stop))
        };
        let commits = {
            let stop = Arc::clone(&stop);
            spawn(move || commit(port, &name, &of, &stop))
        };
        Self {
            stop,
            topics,
            commits,
        }
    }

    /// Ends it, and judges what the broker, which is well again, has of it.
    pub fn stop(self, broker: &Broker) -> Violations {
        self.stop.store(true, Ordering::Relaxed);
        let topics = self.topics.join().expect("topics that come and go");
        let (offsets, mut violations) = self.commits.join().expect("groups that commit");
        let count = |told: fn(&Topic) -> Told| {
            let told = topics.iter().filter(|topic| told(topic) == Told::Done);
            told.count()
        };
        println!(
            "beside: {} topics made, {} written to, {} deleted; {} commits acknowledged",
            count(|topic| topic.made),
            count(|topic| topic.written),
            count(|topic| topic.deleted),
            offsets.values().map(|(told, _)| told + 1).sum::<i64>()
        );
        let mut wire = Wire::connect(broker.port());
        judge_topics(&mut wire, &topics, &mut violations);
        judge_offsets(&mut wire, &offsets, &mut violations);
        violations
    }
}

/// One request; the connection is made anew where it has ended.
fn asked<T>(
    wire: &mut Option<Wire>,
    port: u16,
    ask: impl FnOnce(&mut Wire) -> Option<T>,
) -> Option<T> {
    if wire.is_none() {
        *wire = Wire::try_connect(port).ok();
    }
    let answer = wire.as_mut().and_then(ask);
    if answer.is_none() {
        *wire = None;
    }
    answer
}

fn come_and_go(port: u16, name: &str, seed: u64, stop: &AtomicBool) -> Vec<Topic> {
    let (mut random, mut wire) = (Random::new(seed), None);
    let mut topics: Vec<Topic> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        sleep(PAUSE);
        let mut topic = Topic {
            name: format!("beside-{name}-{}", topics.len()),
            partitions: random.range(1, 4) as i32,
            made: Told::Nothing,
            written: Told::Unasked,
            deleted: Told::Unasked,
        };
        topic.made = Told::by(asked(&mut wire, port, |wire| create(wire, &topic)));
        if topic.made == Told::Done {
            topic.written = Told::by(asked(&mut wire, port, |wire| write(wire, &topic.name)));
        }
        topics.push(topic);
        let old = topics.len().checked_sub(TOPICS_KEPT);
        // Some stay.
        if let Some(old) = old.filter(|_| random.range(0, 4) > 0) {
            let topic = &mut topics[old];
            topic.deleted = Told::by(asked(&mut wire, port, |wire| delete(wire, &topic.name)));
        }
    }
    topics
}

fn create(wire: &mut Wire, topic: &Topic) -> Option<i16> {
    let topic = CreatableTopic::default()
        .with_name(text(&topic.name))
        .with_num_partitions(topic.partitions)
        .with_replication_factor(1);
    let request = CreateTopicsRequestData::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let mut answer = wire.try_call(ApiKey::CreateTopics, 5, |body, v| request.write(body, v))?;
    let answer = CreateTopicsResponseData::read(&mut answer, 5).expect("a decodable answer");
    Some(answer.topics[0].error_code)
}

fn delete(wire: &mut Wire, name: &str) -> Option<i16> {
    let topic = DeleteTopicState::default().with_name(Some(text(name)));
    let request = DeleteTopicsRequestData::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let mut answer = wire.try_call(ApiKey::DeleteTopics, 6, |body, v| request.write(body, v))?;
    let answer = DeleteTopicsResponseData::read(&mut answer, 6).expect("a decodable answer");
    Some(answer.responses[0].error_code)
}

/// The record of a topic says the topic's name.
fn write(wire: &mut Wire, name: &str) -> Option<i16> {
    let request = requests::produce(name, 0, -1, &batches::batch(&[name.as_bytes()]));
    let mut answer = wire.try_call(ApiKey::Produce, 9, |body, v| request.write(body, v))?;
    Some(requests::produced(&mut answer, 9).error_code)
}

fn commit(port: u16, name: &str, of: &str, stop: &AtomicBool) -> (Offsets, Violations) {
    let mut wire = None;
    let group = |number: usize| format!("beside-{name}-{number}");
    let mut offsets: Offsets = (0..GROUPS).map(|at| (group(at), (-1, -1))).collect();
    let mut violations = Violations::default();
    // Who asks for a coordinator first has their topic made.
    while !stop.load(Ordering::Relaxed) {
        let coordinator = |wire: &mut Wire| {
            let request = FindCoordinatorRequestData::default().with_key(text("beside"));
            wire.try_call(ApiKey::FindCoordinator, 2, |body, v| request.write(body, v))
        };
        if asked(&mut wire, port, coordinator).is_some() {
            break;
        }
        sleep(PAUSE);
    }
    while !stop.load(Ordering::Relaxed) {
        for (group, (told, sent)) in &mut offsets {
            sleep(PAUSE);
            // One at a time: a commit that was not answered may still come, so the next is larger.
            *sent += 1;
            let code = asked(&mut wire, port, |wire| commit_one(wire, group, of, *sent));
            if Told::by(code) == Told::Done {
                *told = *sent;
            }
            let now = asked(&mut wire, port, |wire| committed(wire, group));
            if let Some(Ok(now)) = now {
                judge_offset(group, now, (*told, *sent), &mut violations);
                // What was shown may not be taken back either.
                *told = (*told).max(now);
            }
        }
    }
    (offsets, violations)
}

fn commit_one(wire: &mut Wire, group: &str, topic: &str, offset: i64) -> Option<i16> {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(-1);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(text(topic))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequestData::default()
        .with_group_id(text(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let mut answer = wire.try_call(ApiKey::OffsetCommit, 7, |body, v| request.write(body, v))?;
    let answer = OffsetCommitResponseData::read(&mut answer, 7).expect("a decodable answer");
    Some(answer.topics[0].partitions[0].error_code)
}

/// The offset that a group has committed, -1 without any, or the error.
fn committed(wire: &mut Wire, group: &str) -> Option<Result<i64, i16>> {
    let request = OffsetFetchRequestData::default()
        .with_group_id(text(group))
        .with_topics(None);
    let mut answer = wire.try_call(ApiKey::OffsetFetch, 7, |body, v| request.write(body, v))?;
    let answer = OffsetFetchResponseData::read(&mut answer, 7).expect("a decodable answer");
    let found = answer.topics.first();
    Some(match answer.error_code {
        0 => Ok(found.map_or(-1, |topic| topic.partitions[0].committed_offset)),
        error => Err(error),
    })
}

fn judge_offset(group: &str, now: i64, (told, sent): (i64, i64), violations: &mut Violations) {
    if now < told {
        violations.add("commit lost", || {
            format!("{group}: {told} was told, and then {now}")
        });
    }
    if now > sent {
        violations.add("never committed", || {
            format!("{group}: {now}, and {sent} was the last that was sent")
        });
    }
}

fn judge_offsets(wire: &mut Wire, offsets: &Offsets, violations: &mut Violations) {
    for (group, known) in offsets {
        let began = Instant::now();
        let found = loop {
            match committed(wire, group).expect("an open connection") {
                Err(_) if began.elapsed() < LOADED_WITHIN => sleep(10 * PAUSE),
                found => break found,
            }
        };
        match found {
            Ok(now) => judge_offset(group, now, *known, violations),
            Err(error) => violations.add("commit lost", || {
                format!("{group} answers with {error} for {LOADED_WITHIN:?}")
            }),
        }
    }
}

fn judge_topics(wire: &mut Wire, topics: &[Topic], violations: &mut Violations) {
    let listed = listed(wire);
    for topic in topics {
        let is_listed = listed.contains(&topic.name);
        match (topic.made, topic.deleted) {
            (_, Told::Done) if is_listed => {
                violations.add("deleted topic is back", || format!("{topic:?}"));
            }
            (Told::Done, Told::Unasked) if !is_listed => {
                violations.add("topic lost", || format!("{topic:?}"));
            }
            _ => {}
        }
        if is_listed && topic.deleted == Told::Unasked {
            judge_topic(wire, topic, violations);
        }
    }
}

/// All partitions of a topic that is there can be read, and its record is, if that was promised.
fn judge_topic(wire: &mut Wire, topic: &Topic, violations: &mut Violations) {
    for partition in 0..topic.partitions {
        let request = requests::fetch(&topic.name, partition, 0);
        let mut answer = wire.call(ApiKey::Fetch, 12, |body, v| request.write(body, v));
        let answer = requests::fetched(&mut answer, 12);
        if answer.error_code != 0 {
            violations.add("topic lost", || {
                format!("{topic:?}: {partition} answers {}", answer.error_code)
            });
            continue;
        }
        let records = answer.records.unwrap_or_default();
        let says_it = records
            .windows(topic.name.len())
            .any(|window| window == topic.name.as_bytes());
        if partition == 0 && topic.written == Told::Done && !says_it {
            violations.add("lost", || format!("the record of {topic:?}"));
        }
    }
}

/// The names of all topics.
fn listed(wire: &mut Wire) -> BTreeSet<String> {
    let request = MetadataRequestData::default().with_topics(None);
    let mut answer = wire.call(ApiKey::Metadata, 1, |body, v| request.write(body, v));
    let answer = MetadataResponseData::read(&mut answer, 1).expect("a decodable answer");
    let names = answer.topics.into_iter().filter_map(|topic| topic.name);
    names.map(|name| name.to_string()).collect()
}
