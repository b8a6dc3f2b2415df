//! Groups notice topics and partitions that come into being while they run.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kacrab_protocol::generated::{ApiKey, DescribeGroupsRequestData, DescribeGroupsResponseData};
use serde_json::json;

use super::groups::each_owner_reads;
use crate::driver::WITHIN;
use crate::member::{Partition, settle};
use crate::scene::Scene;
use crate::support::wire::{take, text};

pub fn new_topic(scene: &Scene<'_>) {
    let mut partitions = scene.topic_called(&format!("{}-one", scene.name), 2);
    scene.topic_called(&format!("other-{}", scene.name), 1);
    let pattern = json!({"topics": null, "pattern": format!("^{}-.*", scene.name)});
    let first = scene.member(&pattern);
    first.owns(&partitions);
    let second = scene.member(&pattern);
    settle(&[&first, &second], &partitions);
    partitions.extend(scene.topic_called(&format!("{}-two", scene.name), 2));
    // Each member finds the topic in its own metadata, and has the group rebalance for it.
    until_all_subscribed(scene, 2, &partitions);
    settle(&[&first, &second], &partitions);
    each_owner_reads(scene, &[&first, &second], &partitions, "found");
    first.close();
    second.close();
}

/// Waits until the group is stable with so many members, and each has subscribed to all topics of
/// `partitions`.
fn until_all_subscribed(scene: &Scene<'_>, count: usize, partitions: &BTreeSet<Partition>) {
    let wanted: BTreeSet<_> = partitions.iter().map(|(topic, _)| topic.clone()).collect();
    let request = DescribeGroupsRequestData::default().with_groups(vec![text(&scene.name)]);
    let end = Instant::now() + WITHIN;
    loop {
        let mut answer = scene
            .stage
            .wire()
            .call(ApiKey::DescribeGroups, 5, |body, v| request.write(body, v));
        let answer = DescribeGroupsResponseData::read(&mut answer, 5).expect("a decodable answer");
        let group = &answer.groups[0];
        let subscriptions = group
            .members
            .iter()
            .map(|it| subscription(&it.member_metadata));
        let subscribed = subscriptions.filter(|topics| *topics == wanted).count();
        if group.group_state.as_str() == "Stable" && subscribed == count {
            return;
        }
        assert!(
            Instant::now() < end,
            "{subscribed} of {count} members have subscribed to {wanted:?}: {group:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The topics in the metadata that a consumer joins with (ConsumerProtocolSubscription).
fn subscription(metadata: &[u8]) -> BTreeSet<String> {
    let mut rest = Bytes::copy_from_slice(metadata);
    if rest.is_empty() {
        // The broker tells it only while the group is stable.
        return BTreeSet::new();
    }
    let _version: [u8; 2] = take(&mut rest);
    let count = i32::from_be_bytes(take(&mut rest));
    (0..count)
        .map(|_| {
            let length = i16::from_be_bytes(take(&mut rest));
            let name = rest.split_to(usize::try_from(length).expect("a length"));
            String::from_utf8(name.to_vec()).expect("a topic's name")
        })
        .collect()
}

pub fn new_partitions(scene: &Scene<'_>) {
    let mut partitions = scene.topic(2);
    let member = scene.member(&json!({}));
    member.owns(&partitions);
    scene.stage.add_partitions(&scene.name, 4);
    partitions.extend([(scene.name.clone(), 2), (scene.name.clone(), 3)]);
    member.owns(&partitions);
    each_owner_reads(scene, &[&member], &partitions, "grown");
    member.close();
}
