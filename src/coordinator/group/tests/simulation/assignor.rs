//! How the simulated leaders assign the partitions of their group's only topic, and what members
//! say to them: the clients' own metadata and assignments.

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;

use super::super::super::command::JoinedMember;
use crate::protocol::messages::consumer_protocol_subscription::{
    ConsumerProtocolSubscription, TopicPartition,
};
use crate::protocol::reader::Reader;
use crate::protocol::wire::Message;
use crate::protocol::writer::Writer;

/// The version of the metadata: with what the member owns, and since when.
const SUBSCRIPTION_VERSION: i16 = 3;

/// The assignors of Kafka's consumer that the simulated ones have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    Range,
    RoundRobin,
    CooperativeSticky,
}

impl Assignor {
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    fn of_name(name: &str) -> Self {
        let all = [Self::Range, Self::RoundRobin, Self::CooperativeSticky];
        let mut all = all.into_iter();
        all.find(|it| it.name() == name)
            .expect("a protocol that the members listed")
    }
}

/// What a member tells the leader: what it owns since which generation, and something that it may
/// change its mind about.
pub fn metadata(topic: &ByteString, owned: Vec<i32>, generation: i32, mind: u32) -> Bytes {
    let subscription = ConsumerProtocolSubscription {
        topics: vec![topic.clone()],
        user_data: Some(Bytes::from(mind.to_be_bytes().to_vec())),
        owned_partitions: vec![TopicPartition {
            topic: topic.clone(),
            partitions: owned,
        }],
        generation_id: generation,
        rack_id: None,
    };
    let mut writer = Writer::new();
    writer.int16(SUBSCRIPTION_VERSION);
    subscription
        .encode(&mut writer, SUBSCRIPTION_VERSION)
        .expect("short names");
    writer.into_bytes()
}

/// A member's partitions, with the generation that they are for, so that an answer of another one
/// shows.
pub fn assignment(generation: i32, partitions: &[i32]) -> Bytes {
    let mut text = generation.to_string();
    for partition in partitions {
        text.push(' ');
        text.push_str(&partition.to_string());
    }
    Bytes::from(text)
}

/// The generation and the partitions of an assignment.
pub fn read_assignment(bytes: &[u8]) -> (i32, Vec<i32>) {
    assert!(!bytes.is_empty(), "no assignment");
    let text = std::str::from_utf8(bytes).expect("an assignment of a leader");
    let mut numbers = text.split(' ').map(|it| it.parse().expect("a number"));
    let generation = numbers.next().expect("never empty");
    (generation, numbers.collect())
}

/// A member as the leader sees it.
#[derive(Debug)]
struct Seen {
    id: ByteString,
    /// What it is sorted by: an instance keeps its place when it gets another id.
    name: ByteString,
    owned: Vec<i32>,
    since: i32,
}

/// Assigns `count` partitions to the members.
pub fn assign(protocol: &str, members: &[JoinedMember], count: i32) -> Vec<(ByteString, Vec<i32>)> {
    let mut seen: Vec<Seen> = members.iter().map(see).collect();
    seen.sort_by(|a, b| a.name.cmp(&b.name));
    let all = seen.len() as i32;
    match Assignor::of_name(protocol) {
        Assignor::RoundRobin => {
            let of = |n: i32| (0..count).filter(move |it| it % all == n).collect();
            seen.into_iter()
                .zip(0..)
                .map(|(it, n)| (it.id, of(n)))
                .collect()
        }
        Assignor::Range => {
            let start = |n: i32| n * (count / all) + n.min(count % all);
            let of = |n: i32| (start(n)..start(n + 1)).collect();
            seen.into_iter()
                .zip(0..)
                .map(|(it, n)| (it.id, of(n)))
                .collect()
        }
        Assignor::CooperativeSticky => cooperative(&seen, count),
    }
}

fn see(member: &JoinedMember) -> Seen {
    let mut reader = Reader::new(member.metadata.clone());
    let version = reader.int16().expect("a version");
    let read = ConsumerProtocolSubscription::decode(&mut reader, version);
    let read = read.expect("what a member wrote");
    let instance = member.instance_id.clone();
    Seen {
        id: member.member_id.clone(),
        name: instance.unwrap_or_else(|| member.member_id.clone()),
        owned: read
            .owned_partitions
            .into_iter()
            .flat_map(|it| it.partitions)
            .collect(),
        since: read.generation_id,
    }
}

/// Everybody keeps what it owns up to its share. What is to go from one member to another is given
/// to nobody as long as the former owns it: it gives it up and joins again.
fn cooperative(members: &[Seen], count: i32) -> Vec<(ByteString, Vec<i32>)> {
    let mut owners: BTreeMap<i32, (i32, usize)> = BTreeMap::new();
    for (n, member) in members.iter().enumerate() {
        for partition in member.owned.iter().filter(|it| **it < count) {
            let owner = owners.entry(*partition).or_insert((member.since, n));
            if owner.0 < member.since {
                *owner = (member.since, n);
            }
        }
    }
    let mut kept = vec![Vec::new(); members.len()];
    for (partition, (_, owner)) in &owners {
        kept[*owner].push(*partition);
    }
    let mut places: Vec<usize> = (0..members.len()).collect();
    places.sort_by_key(|n| (usize::MAX - kept[*n].len(), *n));
    let (share, rest) = (
        count as usize / members.len(),
        count as usize % members.len(),
    );
    let mut free: Vec<i32> = (0..count).filter(|it| !owners.contains_key(it)).collect();
    for (place, n) in places.iter().enumerate() {
        let most = share + usize::from(place < rest);
        let too_many = kept[*n].len().saturating_sub(most);
        let keeps = kept[*n].len() - too_many;
        free.extend(kept[*n].drain(keeps..));
    }
    free.sort_unstable();
    for (place, n) in places.iter().enumerate() {
        let most = share + usize::from(place < rest);
        while kept[*n].len() < most {
            kept[*n].push(free.remove(0));
        }
    }
    let is_free = |n: usize, partition: &i32| owners.get(partition).is_none_or(|it| it.1 == n);
    let given = kept.into_iter().enumerate().map(|(n, mut partitions)| {
        partitions.retain(|partition| is_free(n, partition));
        partitions.sort_unstable();
        (members[n].id.clone(), partitions)
    });
    given.collect()
}
