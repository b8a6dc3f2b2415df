//! Where a consumer goes on: behind what was committed, at the start, at an offset, at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::committed::{committed, reset, until_committed};
use crate::driver::WITHIN;
use crate::member::{Member, Partition, Record};
use crate::scene::{SHORT_SESSION_MS, Scene};
use crate::support::batches::TIMESTAMP;

fn values(records: &[Record]) -> Vec<&str> {
    let mut values: Vec<_> = records
        .iter()
        .filter_map(|record| record.value.as_deref())
        .collect();
    values.sort_unstable();
    values
}

pub fn commit_and_resume(scene: &Scene<'_>) {
    let partitions = scene.topic(2);
    let first = scene.feed(&partitions, "first", 10);
    let member = scene.member(&json!({"session_ms": SHORT_SESSION_MS}));
    assert_eq!(values(&member.reads(20)), first);
    let wanted: BTreeMap<_, _> = partitions.iter().map(|p| (p.clone(), 10)).collect();
    assert_eq!(member.commit(), wanted);
    assert_eq!(committed(scene.stage, &scene.name), wanted);
    let second = scene.feed(&partitions, "second", 10);
    assert_eq!(values(&member.reads(40)[20..]), second);
    // It dies before it has committed these: the next one reads them again, and them alone.
    member.kill();
    let next = scene.member(&json!({}));
    assert_eq!(values(&next.reads(20)), second);
    next.close();
    assert_eq!(committed(scene.stage, &scene.name), wanted);
}

pub fn auto_commit(scene: &Scene<'_>) {
    let partitions = scene.topic(2);
    scene.feed(&partitions, "first", 10);
    let automatic = json!({
        "auto_commit": true, "auto_commit_ms": 200, "session_ms": SHORT_SESSION_MS,
    });
    let member = scene.member(&automatic);
    member.reads(20);
    let at = |offset: i64| -> BTreeMap<_, _> {
        partitions.iter().map(|p| (p.clone(), offset)).collect()
    };
    until_committed(scene.stage, &scene.name, &at(10));
    member.kill();
    let second = scene.feed(&partitions, "second", 5);
    let member = scene.member(&automatic);
    assert_eq!(values(&member.reads(10)), second);
    // A clean end commits as well.
    member.close();
    until_committed(scene.stage, &scene.name, &at(15));
}

pub fn replay(scene: &Scene<'_>) {
    let partitions = scene.topic(2);
    let all = scene.feed(&partitions, "all", 10);
    let member = scene.member(&json!({}));
    member.reads(20);
    member.commit();
    member.close();
    // The group is past them all: what comes next is what a member reads first.
    let member = scene.member(&json!({}));
    member.owns(&partitions);
    let next = scene.feed(&partitions, "next", 1);
    assert_eq!(values(&member.reads(2)), next);
    member.close();
    let mut all = [all, next].concat();
    all.sort_unstable();
    // Put back to the start, it reads them once more.
    let start = partitions.iter().map(|p| (p.clone(), 0)).collect();
    reset(scene.stage, &scene.name, &start);
    let member = scene.member(&json!({}));
    assert_eq!(values(&member.reads(22)), all);
    member.close();
    // A new group begins at the start by itself.
    let member = scene.member(&json!({"group": format!("{}-new", scene.name)}));
    assert_eq!(values(&member.reads(22)), all);
    member.close();
}

fn offsets_since(member: &Member, from: usize, count: usize) -> Vec<i64> {
    let read = member.reads_since(from, count);
    read.iter().map(|record| record.offset).collect()
}

pub fn seek(scene: &Scene<'_>) {
    let partition = (scene.name.clone(), 0);
    scene.topic(1);
    for batch in 0..6 {
        scene.stage.feed(&partition, &format!("batch-{batch}"), 10);
    }
    // From the middle of a batch, without a group.
    let reader = scene.reader(&[(partition.clone(), 25)]);
    assert_eq!(offsets_since(&reader, 0, 35), (25..60).collect::<Vec<_>>());
    for to in [0, 59, 30, 7] {
        let from = reader.count();
        reader.send(&json!({"do": "seek", "topic": scene.name, "partition": 0, "offset": to}));
        let wanted: Vec<_> = (to..60).collect();
        assert_eq!(offsets_since(&reader, from, wanted.len()), wanted);
    }
    reader.close();
}

/// A member goes back, reads again, and commits the position that follows from it.
pub fn seek_in_group(scene: &Scene<'_>) {
    let partitions = scene.topic(2);
    let all = scene.feed(&partitions, "all", 60);
    let member = scene.member(&json!({}));
    assert_eq!(values(&member.reads(120)), all);
    for to in [0, 55] {
        for (topic, number) in &partitions {
            let from = member.count();
            member.send(&json!({
                "do": "seek", "topic": topic, "partition": number, "offset": to,
            }));
            let wanted: Vec<_> = (to..60).collect();
            assert_eq!(offsets_since(&member, from, wanted.len()), wanted);
        }
    }
    let wanted = partitions.iter().map(|p| (p.clone(), 60)).collect();
    assert_eq!(member.commit(), wanted);
    assert_eq!(committed(scene.stage, &scene.name), wanted);
    member.close();
}

pub fn seek_time(scene: &Scene<'_>) {
    scene.topic(1);
    let mut sent = Vec::new();
    for at in 0..40 {
        sent.push(Record {
            partition: (scene.name.clone(), 0),
            offset: at,
            key: None,
            value: Some(format!("at {at}")),
            headers: vec![],
            timestamp: TIMESTAMP + at * 1_000,
        });
    }
    scene.produce(&json!({"batch": 7}), &sent);
    let member = scene.read_all(&BTreeSet::from([(scene.name.clone(), 0)]));
    member.reads(40);
    for (time, first) in [(0, 0), (17_000, 17), (16_500, 17), (39_000, 39), (1, 1)] {
        let from = member.count();
        member.send(&json!({
            "do": "seek_time", "topic": scene.name, "partition": 0, "timestamp": TIMESTAMP + time,
        }));
        let wanted: Vec<_> = (first..40).collect();
        assert_eq!(offsets_since(&member, from, wanted.len()), wanted, "{time}");
    }
    member.close();
}

/// The offsets of what it has read of one partition.
fn offsets_of(member: &Member, partition: &Partition) -> Vec<i64> {
    let read = member.records().into_iter();
    read.filter(|record| record.partition == *partition)
        .map(|record| record.offset)
        .collect()
}

pub fn latest(scene: &Scene<'_>) {
    let partitions = scene.topic(2);
    scene.feed(&partitions, "before", 10);
    let member = scene.member(&json!({"reset": "latest"}));
    member.owns(&partitions);
    // A member owns its partitions before it has asked where they end: it may miss what is written
    // until then. From the first record that it reads it may miss none.
    let until = Instant::now() + WITHIN;
    for partition in &partitions {
        let mut end = 10;
        while offsets_of(&member, partition).is_empty() {
            assert!(Instant::now() < until, "no record of {partition:?}");
            scene.stage.feed(partition, "probe", 1);
            end += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        scene.stage.feed(partition, "after", 5);
        end += 5;
        let first = offsets_of(&member, partition)[0];
        assert!(first >= 10, "{partition:?} was read from {first} on");
        while offsets_of(&member, partition).last() != Some(&(end - 1)) {
            assert!(Instant::now() < until, "no more records of {partition:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let wanted: Vec<_> = (first..end).collect();
        assert_eq!(offsets_of(&member, partition), wanted);
    }
    member.close();
}
