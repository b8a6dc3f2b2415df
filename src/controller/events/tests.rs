//! Which lines a change of the metadata gives.

use super::*;
use crate::base::ids::LeaderEpoch;
use crate::controller::fixtures::{config, creatable, creation, ids, with_topics};
use crate::controller::partitions::create_partitions;
use crate::controller::topics::{create_topics, delete_topics};
use crate::metadata::{MetadataDelta, MetadataRecord, batch};
use crate::protocol::messages::create_partitions_request::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use crate::protocol::messages::create_topics_request::CreatableTopicConfig;
use crate::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};

/// The events of `records` on `image`, each as a line, on a broker with `settings`.
fn told(
    image: &MetadataImage,
    records: &[MetadataRecord],
    settings: &[(&str, &str)],
) -> Vec<String> {
    let mut delta = MetadataDelta::new(image);
    let bytes = batch::to_batch(records, image.next_offset(), LeaderEpoch(1), 0);
    batch::replay(&bytes.expect("records that fit"), &mut delta).expect("a plan that replays");
    let (image, changes) = delta.finish();
    let events = of(&image, &changes, &config(settings));
    let line = |event: TopicEvent| {
        let TopicEvent {
            name,
            id,
            partitions,
            what,
        } = event;
        format!("{name} {} {partitions} {what:?}", id.0)
    };
    events.into_iter().map(line).collect()
}

#[test]
fn each_topic_that_comes_goes_or_grows_is_told_once() {
    let image = with_topics(&[("old", 3), ("small", 2), ("same", 1)]);
    let grown = CreatePartitionsTopic {
        name: "small".into(),
        count: 5,
        assignments: None,
    };
    let grown = CreatePartitionsRequest {
        topics: vec![grown],
        ..CreatePartitionsRequest::default()
    };
    let deleted = DeleteTopicState {
        name: Some("old".into()),
        ..DeleteTopicState::default()
    };
    let deleted = DeleteTopicsRequest {
        topics: vec![deleted],
        ..DeleteTopicsRequest::default()
    };
    let mut next = ids();
    let mut new_id = move || TopicId(next().0 + 100);
    let created = creation(vec![creatable("b", 4, 1), creatable("a", 1, 1)]);
    let mut records = delete_topics(&image, &deleted).records;
    records.extend(create_partitions(&image, &grown).records);
    records.extend(create_topics(&image, &config(&[]), &created, &mut new_id).records);
    assert_eq!(
        told(&image, &records, &[]),
        [
            "old 100 3 Deleted",
            "small 101 5 Grown { added: 3 }",
            "b 200 4 Created { is_compacted: false }",
            "a 201 1 Created { is_compacted: false }",
        ]
    );
}

#[test]
fn a_compacted_topic_is_known_by_its_own_setting_or_the_brokers() {
    let image = with_topics(&[]);
    let mut own = creatable("own", 1, 1);
    let set = |value: &str| CreatableTopicConfig {
        name: "cleanup.policy".into(),
        value: Some(value.into()),
    };
    own.configs.push(set("compact,delete"));
    let mut other = creatable("other", 1, 1);
    other.configs.push(set("delete"));
    let request = creation(vec![own, other, creatable("plain", 1, 1)]);
    let records = create_topics(&image, &config(&[]), &request, &mut ids()).records;
    for (default, expected) in [
        ("delete", [true, false, false]),
        ("compact", [true, false, true]),
    ] {
        let told = told(&image, &records, &[("log.cleanup.policy", default)]);
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (line, expected) in told.iter().zip(expected) {
            let expected = format!("is_compacted: {expected}");
            assert!(line.contains(&expected), "{default}: {told:?}");
        }
    }
}
