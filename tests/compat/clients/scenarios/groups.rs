//! Members of a group share the partitions: each has exactly one owner, whoever comes and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use crate::member::{Member, Partition, settle};
use crate::scene::{HEARTBEAT_MS, SESSION_MS, SHORT_SESSION_MS, Scene};

/// A record to each partition: the owner reads it, and nobody else.
pub fn each_owner_reads(
    scene: &Scene<'_>,
    members: &[&Member],
    partitions: &BTreeSet<Partition>,
    tag: &str,
) {
    let from: Vec<_> = members.iter().map(|member| member.count()).collect();
    let owners: Vec<_> = members.iter().map(|member| member.owned()).collect();
    let mut wanted = BTreeMap::new();
    for partition in partitions {
        let values = scene.stage.feed(partition, tag, 1);
        wanted.insert(partition.clone(), values);
    }
    for ((member, from), owned) in members.iter().zip(from).zip(owners) {
        let is_new = |value: &Option<String>| {
            let value = value.as_deref().unwrap_or_default();
            value.starts_with(&format!("{tag}-"))
        };
        member.0.until(&format!("the records {tag}"), |events| {
            let read = events[from..]
                .iter()
                .filter(|event| event["event"] == "record");
            let new = read.filter(|event| is_new(&event["value"].as_str().map(str::to_owned)));
            (new.count() >= owned.len()).then_some(())
        });
        std::thread::sleep(Duration::from_millis(100));
        let mut read: BTreeMap<Partition, Vec<String>> = BTreeMap::new();
        for record in member.records_since(from) {
            if is_new(&record.value) {
                let values = read.entry(record.partition).or_default();
                values.extend(record.value);
            }
        }
        let expected: BTreeMap<_, _> = owned
            .iter()
            .map(|partition| (partition.clone(), wanted[partition].clone()))
            .collect();
        assert_eq!(read, expected, "{tag}: what one member has read");
    }
}

pub fn join_and_leave(scene: &Scene<'_>) {
    let partitions = scene.topic(6);
    let first = scene.member(&json!({}));
    first.owns(&partitions);
    each_owner_reads(scene, &[&first], &partitions, "alone");
    let second = scene.member(&json!({}));
    settle(&[&first, &second], &partitions);
    each_owner_reads(scene, &[&first, &second], &partitions, "shared");
    let third = scene.member(&json!({}));
    settle(&[&first, &second, &third], &partitions);
    first.close();
    settle(&[&second, &third], &partitions);
    each_owner_reads(scene, &[&second, &third], &partitions, "left");
    third.close();
    second.owns(&partitions);
    each_owner_reads(scene, &[&second], &partitions, "last");
    second.close();
}

pub fn death(scene: &Scene<'_>) {
    let partitions = scene.topic(4);
    let first = scene.member(&json!({}));
    let second = scene.member(&json!({"session_ms": SHORT_SESSION_MS}));
    settle(&[&first, &second], &partitions);
    each_owner_reads(scene, &[&first, &second], &partitions, "both");
    second.kill();
    first.owns(&partitions);
    each_owner_reads(scene, &[&first], &partitions, "survivor");
    first.close();
}

pub fn cooperative(scene: &Scene<'_>) {
    let partitions = scene.topic(6);
    let options = json!({"strategy": "cooperative"});
    let first = scene.member(&options);
    first.owns(&partitions);
    each_owner_reads(scene, &[&first], &partitions, "alone");
    let second = scene.member(&options);
    settle(&[&first, &second], &partitions);
    let (kept, moved) = (first.owned(), second.owned());
    // Only what moved was taken away, and once.
    let revoked = first.revoked();
    assert_eq!(revoked.iter().cloned().collect::<BTreeSet<_>>(), moved);
    assert_eq!(revoked.len(), moved.len(), "{revoked:?}");
    assert_eq!(second.revoked(), []);
    // Nothing was committed and the first member never stopped: it reads nothing twice.
    each_owner_reads(scene, &[&first, &second], &partitions, "shared");
    let alone = first
        .records()
        .into_iter()
        .filter(|record| record.offset == 0);
    assert_eq!(alone.count(), partitions.len(), "read twice");
    second.close();
    first.owns(&partitions);
    assert_eq!(first.revoked().len(), moved.len(), "{:?}", first.revoked());
    assert!(first.owned().is_superset(&kept));
    each_owner_reads(scene, &[&first], &partitions, "last");
    first.close();
}

pub fn static_member(scene: &Scene<'_>) {
    let partitions = scene.topic(4);
    let named = |name: &str| {
        // Long enough for the slowest restart.
        json!({"instance": format!("{}-{name}", scene.name), "session_ms": 30_000})
    };
    let first = scene.member(&named("one"));
    first.owns(&partitions);
    let second = scene.member(&named("two"));
    settle(&[&first, &second], &partitions);
    let (firsts, seconds) = (first.owned(), second.owned());
    let changes = first.changes();
    second.kill();
    std::thread::sleep(Duration::from_millis(300));
    let second = scene.member(&named("two"));
    second.owns(&seconds);
    // In a rebalance the second would have waited for the first, which had heard of it by then. A
    // late one is heard of with a heartbeat or two.
    let nothing_changed = || {
        assert_eq!(first.changes(), changes, "a rebalance");
        assert_eq!(first.owned(), firsts);
        assert_eq!(second.owned(), seconds);
    };
    nothing_changed();
    std::thread::sleep(Duration::from_millis(3 * u64::from(HEARTBEAT_MS)));
    each_owner_reads(scene, &[&first, &second], &partitions, "restarted");
    nothing_changed();
    first.close();
    second.close();
}

pub fn fenced(scene: &Scene<'_>) {
    let partitions = scene.topic(2);
    let named = json!({"instance": scene.name});
    let first = scene.member(&named);
    first.owns(&partitions);
    let second = scene.member(&named);
    second.owns(&partitions);
    first.ends_fenced();
    each_owner_reads(scene, &[&second], &partitions, "one");
    second.close();
}

pub fn several_groups(scene: &Scene<'_>) {
    let partitions = scene.topic(2);
    let members: Vec<_> = ["a", "b"]
        .iter()
        .map(|name| scene.member(&json!({"group": format!("{}-{name}", scene.name)})))
        .collect();
    let values: BTreeSet<_> = scene.feed(&partitions, "all", 10).into_iter().collect();
    for member in &members {
        member.owns(&partitions);
        let read = member.reads(values.len());
        let read: BTreeSet<_> = read.into_iter().filter_map(|record| record.value).collect();
        assert_eq!(read, values);
    }
    // What one of them commits the other has not.
    let committed = members[0].commit();
    assert_eq!(committed.values().sum::<i64>(), 20, "{committed:?}");
    for (name, wanted) in [("a", 20), ("b", 0)] {
        let group = format!("{}-{name}", scene.name);
        let offsets = crate::committed::committed(scene.stage, &group);
        assert_eq!(
            offsets.values().sum::<i64>(),
            wanted,
            "{group}: {offsets:?}"
        );
    }
    for member in members {
        member.close();
    }
}

pub fn pause(scene: &Scene<'_>) {
    let partitions = scene.topic(2);
    let member = scene.member(&json!({}));
    member.owns(&partitions);
    each_owner_reads(scene, &[&member], &partitions, "before");
    let (from, changes) = (member.count(), member.changes());
    member.pause();
    // A fetch that was under way may still bring these. It ends with them.
    let under_way: BTreeSet<_> = scene
        .feed(&partitions, "under-way", 1)
        .into_iter()
        .collect();
    let meanwhile = scene.feed(&partitions, "meanwhile", 5);
    // Longer than its session: only heartbeats keep it in the group.
    std::thread::sleep(Duration::from_millis(u64::from(SESSION_MS) + 500));
    let read = member.records_since(from).into_iter();
    let read: BTreeSet<_> = read.filter_map(|record| record.value).collect();
    assert!(read.is_subset(&under_way), "read while paused: {read:?}");
    member.resume();
    let fed: BTreeSet<_> = under_way.into_iter().chain(meanwhile).collect();
    let read = member.reads_since(from, fed.len()).into_iter();
    let read: BTreeSet<_> = read.filter_map(|record| record.value).collect();
    assert_eq!(read, fed);
    assert_eq!(member.changes(), changes, "a rebalance");
    member.close();
}
