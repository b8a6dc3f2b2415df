//! Records against bytes that Kafka 4.3.1 wrote; deltas against a model, however they are cut.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::base::ids::{
    LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerId, TopicId, TopicIdPartition,
};
use crate::protocol::messages::config_record::ConfigRecord;
use crate::protocol::messages::feature_level_record::FeatureLevelRecord;
use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
use crate::protocol::messages::partition_record::PartitionRecord;
use crate::protocol::messages::producer_ids_record::ProducerIdsRecord;
use crate::protocol::messages::remove_topic_record::RemoveTopicRecord;
use crate::protocol::messages::topic_record::TopicRecord;

/// Records of a Kafka 4.3.1 broker and controller on one node, as they stood in its
/// `__cluster_metadata`: its offset and the value. Two topics were created, `plain` with two
/// partitions and `with.config` with two settings; then `plain` grew to four partitions and
/// `with.config` was deleted.
const KAFKA_LOG: &[(i64, &str)] = &[
    (4, "010c00116d657461646174612e76657273696f6e001e00"),
    (
        10,
        "0104000401146d696e2e696e73796e632e7265706c69636173023100",
    ),
    (13, "01140000"),
    (
        14,
        "0100040000000100628d4975529a46b3ad103b3bc8beb12d000000000000000e020a504c41494e544558540a\
         6c6f63616c686f73745cf0000000080e67726f75702e76657273696f6e00000001001073747265616d732e76\
         657273696f6e0000000100147472616e73616374696f6e2e76657273696f6e000000020021656c696769626c\
         652e6c65616465722e7265706c696361732e76657273696f6e0000000100116d657461646174612e76657273\
         696f6e0007001e000e73686172652e76657273696f6e00000001000e6b726166742e76657273696f6e000000\
         01000001000100110273980cc990594b94bc5c06f4b3cc8461",
    ),
    (333, "01020006706c61696e0cf1d9867add40ffa196225e32ba9e2300"),
    (
        334,
        "010302000000000cf1d9867add40ffa196225e32ba9e23020000000102000000010101000000010000000000\
         0000000273980cc990594b94bc5c06f4b3cc846100",
    ),
    (
        335,
        "010302000000010cf1d9867add40ffa196225e32ba9e23020000000102000000010101000000010000000000\
         0000000273980cc990594b94bc5c06f4b3cc846100",
    ),
    (
        336,
        "0102000c776974682e636f6e6669679bcbe1ad42604da4ab112de0e80bcbd100",
    ),
    (
        337,
        "010400020c776974682e636f6e6669670f636c65616e75702e706f6c69637908636f6d7061637400",
    ),
    (
        338,
        "010400020c776974682e636f6e6669670d726574656e74696f6e2e6d73053130303000",
    ),
    (
        339,
        "010302000000009bcbe1ad42604da4ab112de0e80bcbd1020000000102000000010101000000010000000000\
         0000000273980cc990594b94bc5c06f4b3cc846100",
    ),
    (
        340,
        "010302000000020cf1d9867add40ffa196225e32ba9e23020000000102000000010101000000010000000000\
         0000000273980cc990594b94bc5c06f4b3cc846100",
    ),
    (
        341,
        "010302000000030cf1d9867add40ffa196225e32ba9e23020000000102000000010101000000010000000000\
         0000000273980cc990594b94bc5c06f4b3cc846100",
    ),
    (343, "0109009bcbe1ad42604da4ab112de0e80bcbd100"),
];

fn bytes_of(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().collect();
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(text, 16).expect("hexadecimal")
    };
    digits.chunks(2).map(byte).collect::<Vec<u8>>().into()
}

fn kafka_records() -> impl Iterator<Item = (Offset, MetadataRecord)> {
    KAFKA_LOG.iter().map(|(offset, hex)| {
        let record = MetadataRecord::from_value(bytes_of(hex)).expect("a record of Kafka's");
        (Offset(*offset), record)
    })
}

#[test]
fn kafkas_own_records_are_read_and_written_to_the_byte() {
    for ((_, hex), (offset, record)) in KAFKA_LOG.iter().zip(kafka_records()) {
        let written = record.to_value().expect("it was read");
        assert_eq!(written, bytes_of(hex), "offset {offset}: {record:?}");
    }
}

#[test]
fn kafkas_own_log_makes_the_image_that_kafka_had() {
    let mut delta = MetadataDelta::new(&MetadataImage::default());
    for (offset, record) in kafka_records().take_while(|(offset, _)| *offset < Offset(343)) {
        delta.replay(offset, &record).expect("Kafka replayed it");
    }
    let (image, changes) = delta.finish();
    assert_eq!(image.next_offset(), Offset(342));
    assert_eq!(image.feature(features::METADATA_VERSION), Some(30));
    let names: Vec<_> = image.topics().map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["plain", "with.config"]);
    let plain = image.topic_named("plain").expect("it was created");
    assert_eq!(plain.id.to_string(), "DPHZhnrdQP-hliJeMrqeIw");
    assert_eq!(plain.partitions.len(), 4);
    let partition = &plain.partitions[3];
    assert_eq!(partition.leader, Some(NodeId(1)));
    assert_eq!(partition.isr, [NodeId(1)]);
    assert_eq!(partition.leader_epoch, LeaderEpoch(0));
    assert_eq!(partition.directories.len(), 1);
    let config = image.topic_config(&"with.config".into()).expect("two");
    let expected = [("cleanup.policy", "compact"), ("retention.ms", "1000")];
    let found = config.iter().map(|(key, value)| (&**key, &**value));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    let broker = image.broker(NodeId(1)).expect("it registered");
    let endpoint = broker.endpoint("PLAINTEXT").expect("its listener");
    assert_eq!((&*endpoint.host, endpoint.port), ("localhost", 23792));
    assert_eq!((broker.epoch, broker.is_fenced), (14, true));
    assert_eq!(changes.created.len(), 5);
    assert_eq!(changes.configs, [ConfigResource::BrokerDefault]);
    assert!(changes.deleted.is_empty() && changes.changed.is_empty());

    let mut delta = MetadataDelta::new(&image);
    let (offset, remove) = kafka_records().last().expect("the deletion");
    delta.replay(offset, &remove).expect("Kafka replayed it");
    let (image, changes) = delta.finish();
    assert_eq!(image.topics().count(), 1);
    assert!(image.topic_config(&"with.config".into()).is_none());
    assert!(image.colliding_topic("with_config").is_none());
    assert_eq!(changes.deleted.len(), 1);
    assert_eq!(changes.deleted[0].partitions.len(), 1);
    assert!(changes.configs.is_empty(), "they went with the topic");
}

#[test]
fn what_is_no_known_record_is_an_error() {
    let cases = [
        ("", "malformed frame"),
        ("02", "malformed frame"),
        ("02020006", "a frame of version 2"),
        // RegisterControllerRecord, which no single node of ours writes.
        ("011b0000", "a record of type 27 version 0"),
        ("01e80700", "a record of type 1000 version 0"),
        ("01020106", "a record of type 2 version 1"),
        ("0102ffffffff0f06", "a record of type 2 version 4294967295"),
        ("0102000674", "a malformed record of type 2"),
        ("0114000000", "1 bytes behind a record of type 20"),
    ];
    for (hex, expected) in cases {
        let error = MetadataRecord::from_value(bytes_of(hex)).expect_err(hex);
        assert!(error.to_string().contains(expected), "{hex}: {error}");
    }
}

fn topic(name: &str, id: u128) -> MetadataRecord {
    let (name, topic_id) = (name.into(), TopicId(id));
    TopicRecord { name, topic_id }.into()
}

fn partition(id: u128, partition_id: i32) -> PartitionRecord {
    PartitionRecord {
        partition_id,
        topic_id: TopicId(id),
        replicas: vec![1, 2],
        isr: vec![1],
        leader: 1,
        leader_epoch: 0,
        partition_epoch: 0,
        ..PartitionRecord::default()
    }
}

fn change(id: u128, partition_id: i32, leader: i32) -> PartitionChangeRecord {
    PartitionChangeRecord {
        partition_id,
        topic_id: TopicId(id),
        leader,
        ..PartitionChangeRecord::default()
    }
}

fn config(resource_type: i8, resource: &str, value: Option<&str>) -> MetadataRecord {
    ConfigRecord {
        resource_type,
        resource_name: resource.into(),
        name: "retention.ms".into(),
        value: value.map(Into::into),
    }
    .into()
}

fn feature(name: &str, feature_level: i16) -> MetadataRecord {
    let name = name.into();
    let record = FeatureLevelRecord {
        name,
        feature_level,
    };
    record.into()
}

fn producer_ids(next_producer_id: i64) -> MetadataRecord {
    ProducerIdsRecord {
        next_producer_id,
        ..ProducerIdsRecord::default()
    }
    .into()
}

fn remove(id: u128) -> MetadataRecord {
    let topic_id = TopicId(id);
    RemoveTopicRecord { topic_id }.into()
}

/// Topic `a` with id 1 and partitions 0 and 1.
fn image_with_a_topic() -> MetadataImage {
    let mut delta = MetadataDelta::new(&MetadataImage::default());
    let records = [
        topic("a", 1),
        partition(1, 0).into(),
        partition(1, 1).into(),
        producer_ids(1000),
    ];
    for (offset, record) in (0..).map(Offset).zip(&records) {
        delta.replay(offset, record).expect("a valid record");
    }
    delta.finish().0
}

#[test]
fn a_record_that_contradicts_the_image_is_refused() {
    let with = |edit: fn(&mut PartitionRecord)| {
        let mut record = partition(1, 2);
        edit(&mut record);
        MetadataRecord::from(record)
    };
    let cases = [
        (topic("a", 2), "already there"),
        (topic("b", 1), "already there"),
        (remove(9), "no topic has the id"),
        (partition(9, 0).into(), "no topic has the id"),
        (partition(1, 1).into(), "not the next one"),
        (partition(1, 3).into(), "not the next one"),
        (partition(1, -1).into(), "not the next one"),
        (with(|record| record.replicas.clear()), "no replica"),
        (with(|record| record.leader = 9), "its leader"),
        (with(|record| record.isr = vec![1, 9]), "in sync"),
        (with(|record| record.leader_epoch = -1), "negative"),
        (
            with(|record| record.directories = vec![Default::default()]),
            "directory a replica",
        ),
        (change(1, 2, 1).into(), "no such partition"),
        (change(1, -1, 1).into(), "no such partition"),
        (change(1, 0, 9).into(), "its leader"),
        (config(2, "b", Some("1")), "resource type 2"),
        (config(4, "x", Some("1")), "resource type 4"),
        (config(16, "a", Some("1")), "resource type 16"),
        (feature("metadata.version", 31), "level 31"),
        (feature("metadata.version", 0), "level 0"),
        (feature("group.version", 1), "group.version"),
        (producer_ids(1000), "given out"),
        (producer_ids(-1), "given out"),
    ];
    let image = image_with_a_topic();
    for (record, expected) in cases {
        let mut delta = MetadataDelta::new(&image);
        let error = delta.replay(image.next_offset(), &record);
        let error = error.expect_err(expected).to_string();
        assert!(error.contains(expected), "{record:?}: {error}");
    }
    let error = MetadataDelta::new(&image).replay(Offset(3), &topic("b", 2));
    assert!(matches!(error, Err(ReplayError::OutOfOrder { .. })));
}

#[test]
fn a_change_keeps_what_it_does_not_name_and_a_leader_begins_an_epoch() {
    let image = image_with_a_topic();
    let mut delta = MetadataDelta::new(&image);
    let mut isr = change(1, 0, -2);
    isr.isr = Some(vec![1, 2]);
    let records = [change(1, 1, 1), change(1, 1, -1), isr];
    for (offset, record) in (4..).map(Offset).zip(records) {
        delta
            .replay(offset, &record.into())
            .expect("a valid change");
    }
    let (after, changes) = delta.finish();
    let topic = after.topic(TopicId(1)).expect("it lives");
    let (kept, led) = (&topic.partitions[0], &topic.partitions[1]);
    assert_eq!(
        (kept.leader, kept.leader_epoch),
        (Some(NodeId(1)), LeaderEpoch(0))
    );
    assert_eq!((kept.partition_epoch, kept.isr.len()), (1, 2));
    assert_eq!((led.leader, led.leader_epoch), (None, LeaderEpoch(2)));
    assert_eq!(
        led.replicas,
        image.topic(TopicId(1)).expect("it").partitions[1].replicas
    );
    let numbers = changes.changed.iter().map(|each| each.partition.partition);
    let numbers: Vec<_> = numbers.collect();
    assert_eq!(numbers, [PartitionIndex(0), PartitionIndex(1)]);
    assert_eq!(changes.changed[1].before.leader_epoch, LeaderEpoch(0));
}

#[test]
fn a_topic_created_again_is_another_one() {
    let image = image_with_a_topic();
    let mut delta = MetadataDelta::new(&image);
    let records = [
        config(2, "a", Some("1")),
        remove(1),
        topic("a", 2),
        partition(2, 0).into(),
        topic("gone", 3),
        partition(3, 0).into(),
        remove(3),
    ];
    for (offset, record) in (4..).map(Offset).zip(&records) {
        delta.replay(offset, record).expect("a valid record");
    }
    let (after, changes) = delta.finish();
    assert_eq!(after.topic_id("a"), Some(TopicId(2)));
    assert!(after.topic(TopicId(1)).is_none());
    assert!(after.topic_config(&"a".into()).is_none());
    let deleted: Vec<_> = changes.deleted.iter().map(|topic| topic.id).collect();
    assert_eq!(deleted, [TopicId(1)]);
    let created: Vec<_> = changes.created.iter().map(|each| each.topic_id).collect();
    assert_eq!(created, [TopicId(2)]);
    assert!(changes.configs.is_empty() && changes.changed.is_empty());
}

#[test]
fn names_that_collide_are_found_until_all_of_them_are_gone() {
    let mut delta = MetadataDelta::new(&MetadataImage::default());
    let mut offsets = (0..).map(Offset);
    let mut replay = |record| {
        let offset = offsets.next().expect("endless");
        delta.replay(offset, &record).expect("a valid record");
        let image = delta.image();
        image.colliding_topic("a_b").map(ToString::to_string)
    };
    assert_eq!(replay(topic("a.b", 1)).as_deref(), Some("a.b"));
    assert_eq!(replay(topic("a_b", 2)).as_deref(), Some("a.b"));
    assert_eq!(replay(remove(1)).as_deref(), Some("a_b"));
    assert_eq!(replay(remove(2)), None);
}

#[test]
fn topics_are_listed_by_name_from_any_name_on() {
    let mut delta = MetadataDelta::new(&MetadataImage::default());
    let names = ["b", "c.x", "a", "c"];
    for (index, name) in (0..).zip(names) {
        let record = topic(name, 10 + index as u128);
        delta.replay(Offset(index), &record).expect("a new name");
    }
    let (image, _) = delta.finish();
    let from = |name: &str| -> Vec<String> {
        let topics = image.topics_from(name);
        topics.map(|topic| topic.name.to_string()).collect()
    };
    assert_eq!(from(""), ["a", "b", "c", "c.x"]);
    assert_eq!(from("b"), ["b", "c", "c.x"]);
    assert_eq!(from("bb"), ["c", "c.x"]);
    assert!(from("d").is_empty());
}

/// What a test may do to the metadata; numbers are taken modulo what is there.
#[derive(Clone, Debug)]
enum Act {
    Create(u8, u8),
    Delete(u8),
    Grow(u8),
    Lead(u8, u8),
    Configure(u8, Option<u8>),
    ProducerIds,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (0..12_u8, 0..4_u8).prop_map(|(name, count)| Act::Create(name, count)),
        2 => any::<u8>().prop_map(Act::Delete),
        2 => any::<u8>().prop_map(Act::Grow),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(topic, index)| Act::Lead(topic, index)),
        2 => (any::<u8>(), any::<Option<u8>>()).prop_map(|(topic, to)| Act::Configure(topic, to)),
        1 => Just(Act::ProducerIds),
    ];
    prop::collection::vec(act, 0..60)
}

/// Valid records for the acts, which only a model of names, ids and counts is needed for.
fn records_of(acts: &[Act]) -> Vec<MetadataRecord> {
    let mut topics: BTreeMap<String, (u128, i32)> = BTreeMap::new();
    let mut records = Vec::new();
    let (mut next_id, mut next_producer_id) = (100, 0);
    for act in acts {
        let pick = |number: u8| topics.keys().nth(usize::from(number) % topics.len().max(1));
        match act {
            Act::Create(name, count) => {
                let name = format!("t.{name}").replace('3', "_");
                if topics.contains_key(&name) {
                    continue;
                }
                next_id += 1;
                records.push(topic(&name, next_id));
                for index in 0..i32::from(*count) {
                    records.push(partition(next_id, index).into());
                }
                topics.insert(name, (next_id, i32::from(*count)));
            }
            Act::Delete(number) => {
                let Some(name) = pick(*number).cloned() else {
                    continue;
                };
                let (id, _) = topics.remove(&name).expect("it was picked");
                records.push(remove(id));
            }
            Act::Grow(number) => {
                let Some(name) = pick(*number).cloned() else {
                    continue;
                };
                let (id, count) = topics.get_mut(&name).expect("it was picked");
                records.push(partition(*id, *count).into());
                *count += 1;
            }
            Act::Lead(number, index) => {
                let Some((id, count)) = pick(*number).map(|name| topics[name]) else {
                    continue;
                };
                if count > 0 {
                    let leader = [1, 2, -1][usize::from(*index) % 3];
                    records.push(change(id, i32::from(*index) % count, leader).into());
                }
            }
            Act::Configure(number, to) => {
                let Some(name) = pick(*number) else { continue };
                let value = to.map(|to| to.to_string());
                records.push(config(2, name, value.as_deref()));
            }
            Act::ProducerIds => {
                next_producer_id += 1000;
                records.push(producer_ids(next_producer_id));
            }
        }
    }
    records
}

/// What a shard would hold that did nothing but follow the changes.
#[derive(Debug, Default, PartialEq)]
struct Follower {
    partitions: BTreeMap<TopicIdPartition, Arc<PartitionImage>>,
    configs: BTreeMap<TopicId, Arc<ConfigValues>>,
}

impl Follower {
    fn of(image: &MetadataImage) -> Self {
        let mut all = Self::default();
        for topic in image.topics() {
            for (index, partition) in topic.iter() {
                let name = topic.topic_id_partition(index);
                all.partitions.insert(name, partition.clone());
            }
            if let Some(config) = image.topic_config(&topic.name) {
                all.configs.insert(topic.id, config.clone());
            }
        }
        all
    }

    fn follow(&mut self, image: &MetadataImage, changes: &Changes) {
        for topic in &changes.deleted {
            for (index, _) in topic.iter() {
                let gone = self.partitions.remove(&topic.topic_id_partition(index));
                assert!(gone.is_some(), "only what is there is deleted");
            }
            self.configs.remove(&topic.id);
        }
        for created in &changes.created {
            let partition = image.partition(*created).expect("it is in the image");
            let there = self.partitions.insert(*created, partition.clone());
            assert!(there.is_none(), "only what is not there is created");
            self.configure(image, created.topic_id);
        }
        for change in &changes.changed {
            let before = self
                .partitions
                .insert(change.partition, change.after.clone());
            assert_eq!(before.as_ref(), Some(&change.before));
        }
        for resource in &changes.configs {
            let ConfigResource::Topic(name) = resource else {
                panic!("no broker was configured");
            };
            self.configure(image, image.topic_id(name).expect("it lives"));
        }
    }

    fn configure(&mut self, image: &MetadataImage, id: TopicId) {
        let name = &image.topic(id).expect("it lives").name;
        match image.topic_config(name) {
            Some(config) => drop(self.configs.insert(id, config.clone())),
            None => drop(self.configs.remove(&id)),
        }
    }
}

proptest! {
    #[test]
    fn however_records_are_cut_into_deltas_the_image_is_the_same(
        acts in acts(),
        cuts in prop::collection::vec(any::<bool>(), 300),
    ) {
        let records = records_of(&acts);
        let mut whole = MetadataDelta::new(&MetadataImage::default());
        for (offset, record) in (0..).map(Offset).zip(&records) {
            whole.replay(offset, record).expect("a valid record");
        }
        let (whole, all_changes) = whole.finish();

        let mut image = MetadataImage::default();
        let mut follower = Follower::default();
        let mut delta = MetadataDelta::new(&image);
        let mut offset = Offset(0);
        for (record, cut) in records.iter().zip(cuts.iter().cycle()) {
            // Through the log's own bytes, so that nothing is lost on the way there and back.
            let bytes = batch::to_batch(std::slice::from_ref(record), offset, LeaderEpoch(1), 5);
            let read = batch::from_batch(&bytes.expect("a small record")).expect("it was written");
            prop_assert_eq!(&read, &vec![(offset, record.clone())]);
            delta.replay(offset, &read[0].1).expect("a valid record");
            offset = offset.plus(1);
            if *cut {
                let changes;
                (image, changes) = delta.finish();
                follower.follow(&image, &changes);
                delta = MetadataDelta::new(&image);
            } else if offset.0 % 3 == 0 {
                delta.image();
            }
        }
        let (image, changes) = delta.finish();
        follower.follow(&image, &changes);
        prop_assert_eq!(&image, &whole);
        // A topic without a partition is nobody's to configure.
        let mut expected = Follower::of(&image);
        expected.configs.retain(|id, _| image.topic(*id).is_some_and(|t| !t.partitions.is_empty()));
        follower.configs.retain(|id, _| expected.configs.contains_key(id));
        prop_assert_eq!(&follower, &expected);
        let mut at_once = Follower::default();
        at_once.follow(&whole, &all_changes);
        at_once.configs.retain(|id, _| expected.configs.contains_key(id));
        prop_assert_eq!(&at_once, &expected);
        let blocks = acts.iter().filter(|act| matches!(act, Act::ProducerIds)).count() as i64;
        prop_assert_eq!(image.next_producer_id(), ProducerId(1000 * blocks));
    }
}
