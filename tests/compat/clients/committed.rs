//! What a group has committed, asked of the broker and set by raw requests: no client in between.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use kacrab_protocol::generated::{
    ApiKey, FindCoordinatorRequestData, FindCoordinatorResponseData, OffsetCommitRequestData,
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponseData,
    OffsetFetchRequestData, OffsetFetchResponseData,
};

use crate::driver::WITHIN;
use crate::member::Partition;
use crate::scene::Stage;
use crate::support::wire::{Wire, text};

/// The last version that asks for one group only.
const VERSION: i16 = 7;

/// There is no coordinator yet, it still loads, or it is elsewhere.
const NOT_NOW: RangeInclusive<i16> = 14..=16;

/// The group's committed offsets, at this moment.
pub fn committed(stage: &Stage, group: &str) -> BTreeMap<Partition, i64> {
    ask(&mut stage.wire(), group).unwrap_or_else(|| panic!("nobody tells the offsets of {group}"))
}

/// The group's committed offsets; `None` where the connection has ended or nobody can tell now.
pub fn ask(wire: &mut Wire, group: &str) -> Option<BTreeMap<Partition, i64>> {
    let request = OffsetFetchRequestData::default()
        .with_group_id(text(group))
        .with_topics(None);
    let mut answer = wire.try_call(ApiKey::OffsetFetch, VERSION, |body, version| {
        request.write(body, version)
    })?;
    let answer = OffsetFetchResponseData::read(&mut answer, VERSION).expect("a decodable answer");
    if NOT_NOW.contains(&answer.error_code) {
        return None;
    }
    assert_eq!(answer.error_code, 0, "the offsets of {group}");
    let mut offsets = BTreeMap::new();
    for topic in answer.topics {
        for partition in topic.partitions {
            assert_eq!(partition.error_code, 0, "an offset of {group}");
            let key = (topic.name.to_string(), partition.partition_index);
            offsets.insert(key, partition.committed_offset);
        }
    }
    Some(offsets)
}

/// Waits until the group's committed offsets are exactly `wanted`.
pub fn until_committed(stage: &Stage, group: &str, wanted: &BTreeMap<Partition, i64>) {
    let end = Instant::now() + WITHIN;
    loop {
        let mut offsets = committed(stage, group);
        if offsets == *wanted {
            return;
        }
        // Some clients also commit the positions of partitions of which they have read nothing.
        offsets.retain(|partition, offset| *offset > 0 || wanted.contains_key(partition));
        if offsets == *wanted {
            return;
        }
        assert!(
            Instant::now() < end,
            "{group} committed {offsets:?} instead of {wanted:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the group has a coordinator: a broker that is new makes its room for offsets first.
fn until_coordinated(stage: &Stage, group: &str) {
    let request = FindCoordinatorRequestData::default().with_key(text(group));
    let end = Instant::now() + WITHIN;
    loop {
        let mut answer = stage
            .wire()
            .call(ApiKey::FindCoordinator, 3, |body, version| {
                request.write(body, version)
            });
        let answer = FindCoordinatorResponseData::read(&mut answer, 3).expect("a decodable answer");
        if answer.error_code == 0 {
            return;
        }
        assert!(Instant::now() < end, "no coordinator of {group}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sets the committed offsets of a group that has no members.
pub fn reset(stage: &Stage, group: &str, offsets: &BTreeMap<Partition, i64>) {
    until_coordinated(stage, group);
    let mut topics: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for ((topic, number), offset) in offsets {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*number)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1);
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetCommitRequestTopic::default()
            .with_name(text(topic))
            .with_partitions(partitions)
    });
    let request = OffsetCommitRequestData::default()
        .with_group_id(text(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    let end = Instant::now() + WITHIN;
    loop {
        let mut answer = stage
            .wire()
            .call(ApiKey::OffsetCommit, VERSION, |body, version| {
                request.write(body, version)
            });
        let answer = OffsetCommitResponseData::read(&mut answer, VERSION);
        let answer = answer.expect("a decodable answer");
        let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let errors: Vec<_> = rows.map(|row| row.error_code).collect();
        if errors.iter().all(|error| *error == 0) {
            return;
        }
        let is_early = errors.iter().any(|error| NOT_NOW.contains(error));
        assert!(
            is_early && Instant::now() < end,
            "the offsets of {group}: {errors:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
