//! Batches, and the logs and journals that hold them: of clients, groups and the metadata.

use bytes::Bytes;
use bytestring::ByteString;
use millrace::base::ids::{Offset, ProducerEpoch, ProducerId, TopicId, Uuid};
use millrace::coordinator::group::record::{
    CommittedOffset, GroupMetadata, GroupRecord, MemberMetadata,
};
use millrace::metadata::MetadataRecord;
use millrace::protocol::messages::config_record::ConfigRecord;
use millrace::protocol::messages::feature_level_record::FeatureLevelRecord;
use millrace::protocol::messages::no_op_record::NoOpRecord;
use millrace::protocol::messages::partition_change_record::PartitionChangeRecord;
use millrace::protocol::messages::partition_record::PartitionRecord;
use millrace::protocol::messages::producer_ids_record::ProducerIdsRecord;
use millrace::protocol::messages::register_broker_record::{BrokerEndpoint, RegisterBrokerRecord};
use millrace::protocol::messages::remove_topic_record::RemoveTopicRecord;
use millrace::protocol::messages::topic_record::TopicRecord;
use millrace::record::compression::compress;
use millrace::record::control::EndTransactionMarker;
use millrace::record::header::LAST_OFFSET_DELTA_AT;
use millrace::record::{BatchBuilder, Codec, RecordToWrite, TimestampType};
use millrace::storage::journal::At;
use millrace::storage::journal::format::{self, CommitSize, Entry, Secret, is_beside};

use super::{Inputs, named, short_slice, slice};
use crate::targets::identity;

const TIMESTAMP: i64 = 1_700_000_000_000;

/// A batch of `count` records at `base`.
fn batch_of(mut builder: BatchBuilder, base: i64, count: i64) -> Vec<u8> {
    builder.base_offset = Offset(base);
    for at in 0..count {
        let value = format!("value {at}");
        let record = RecordToWrite {
            timestamp: TIMESTAMP + at,
            key: (at % 2 == 0).then_some(&b"key"[..]),
            value: (at % 3 != 2).then_some(value.as_bytes()),
            headers: &[("name", Some(b"of a header")), ("none", None)],
        };
        builder.append(&record).expect("a small record");
    }
    builder.build().expect("a small batch")
}

fn batch(base: i64, count: i64) -> Vec<u8> {
    batch_of(BatchBuilder::new(Codec::None), base, count)
}

pub fn batches() -> Inputs {
    let plain = batch(0, 3);
    let producer = BatchBuilder::new(Codec::None).producer(ProducerId(5), ProducerEpoch(0), 7);
    let mut transactional = producer.clone();
    transactional.is_transactional = true;
    let mut stamped = BatchBuilder::new(Codec::None);
    stamped.timestamp_type = TimestampType::LogAppendTime;
    let mut control = transactional.clone();
    control.is_control = true;
    let marker = EndTransactionMarker {
        is_commit: true,
        coordinator_epoch: 3,
    };
    marker
        .append_to(&mut control, TIMESTAMP)
        .expect("a small record");
    let control = control.build().expect("a small batch");
    let two = [&plain[..], &batch(3, 1)].concat();
    let with = |flags: u8, batch: &[u8]| [&[flags][..], batch].concat();
    let mut inputs = named([
        ("plain", with(0, &plain)),
        ("keys-required", with(8, &plain)),
        ("append-time", with(2, &plain)),
        ("stamped", with(4, &batch_of(stamped, 0, 2))),
        ("producer", with(0, &batch_of(producer, 0, 2))),
        ("transactional", with(1, &batch_of(transactional, 0, 2))),
        ("control", with(0, &control)),
        ("two", with(0, &two)),
        ("cut", with(0, &plain[..80])),
    ]);
    for codec in Codec::ALL {
        let compressed = batch_of(BatchBuilder::new(codec), 0, 4);
        inputs.insert(format!("sealed-{codec}"), with(1, &compressed));
    }
    inputs
}

pub fn decompress() -> Inputs {
    let text = "what is said twice is said twice as well ".repeat(8);
    let zeros = vec![0; 60_000];
    let mut inputs = Inputs::new();
    for (place, codec) in Codec::ALL.into_iter().enumerate() {
        let long = if codec == Codec::None {
            &zeros[..100]
        } else {
            &zeros
        };
        for (name, body) in [("text", text.as_bytes()), ("zeros", long), ("nothing", &[])] {
            let compressed = compress(codec, body).expect("anything can be compressed");
            let input = [&[place as u8][..], &compressed].concat();
            inputs.insert(format!("{codec}-{name}"), input);
        }
    }
    let raw = snap_block(b"raw, as librdkafka writes it");
    inputs.insert("snappy-raw".to_owned(), [&[2][..], &raw].concat());
    inputs
}

/// A block of one literal, without a frame.
fn snap_block(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short literal");
    [&[length, (length - 1) << 2][..], bytes].concat()
}

/// A segment of the target's input: where it begins, its two indexes, its batches.
fn segment(base: u8, index: &[u8], times: &[u8], log: &[u8]) -> Vec<u8> {
    let (index, times) = (short_slice(index), short_slice(times));
    [&[base][..], &index, &times, &slice(log)].concat()
}

pub fn segments() -> Inputs {
    const CLEAN: u8 = 1;
    const WITH_POINT: u8 = 2;
    const SEALED: u8 = 4;
    let log = [batch(0, 3), batch(3, 1), batch(4, 2)].concat();
    let next = [batch(6, 2), batch(8, 1)].concat();
    let (one, two) = (vec![0], vec![1]);
    let index: Vec<_> = [3_u32, batch(0, 3).len() as u32]
        .map(u32::to_be_bytes)
        .concat();
    let times = [&TIMESTAMP.to_be_bytes()[..], &3_u32.to_be_bytes()].concat();
    let whole = segment(0, &index, &times, &log);
    let follows = segment(0, &[], &[], &next);
    let with_zeros = segment(0, &[], &[], &[&log[..], &[0; 300]].concat());
    let torn = segment(0, &[], &[], &log[..log.len() - 20]);
    let mut flipped = log.clone();
    flipped[100] ^= 4;
    let flipped = segment(0, &[], &[], &flipped);
    // A kind of number, and the number in four bytes, of which half is the position.
    let position = [&[14][..], &(2 * log.len() as u32).to_be_bytes()].concat();
    let point = [&[0, 0, 6][..], &position].concat();
    let early = [0, 0, 0, 0];
    let join = |flags: u8, parts: &[&[u8]]| [&[flags][..], &parts.concat()].concat();
    // So many offsets that no index of the segment can name them.
    let mut widest = batch(0, 1);
    widest[LAST_OFFSET_DELTA_AT..][..4].copy_from_slice(&i32::MAX.to_be_bytes());
    let far = segment(0, &[], &[], &widest.repeat(4));
    let last = segment(0x87, &[], &times, &log);
    let elsewhere = segment(0x85, &[], &[], &batch(1 << 40, 1));
    named([
        ("unclean", join(0, &[&one, &whole])),
        ("sealed", join(SEALED, &[&one, &whole])),
        ("clean", join(CLEAN | WITH_POINT, &[&point, &one, &whole])),
        (
            "clean-and-more",
            join(CLEAN | WITH_POINT, &[&early, &two, &whole, &follows]),
        ),
        (
            "from-a-point",
            join(WITH_POINT, &[&point, &two, &whole, &follows]),
        ),
        (
            "shorter-than-the-point",
            join(WITH_POINT, &[&point, &one, &torn]),
        ),
        ("two", join(0, &[&two, &whole, &follows])),
        ("with-zeros", join(0, &[&one, &with_zeros])),
        ("torn", join(0, &[&two, &torn, &follows])),
        ("flipped", join(0, &[&two, &flipped, &follows])),
        ("elsewhere", join(SEALED, &[&two, &whole, &elsewhere])),
        ("far", join(SEALED, &[&one, &far])),
        ("at-the-last-offset", join(SEALED, &[&two, &whole, &last])),
    ])
}

fn commit(secret: &Secret, number: u64, batches: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let identities = [identity(0), identity(1)];
    let mut size = CommitSize::new();
    let entries: Vec<_> = batches
        .iter()
        .map(|(partition, bytes)| Entry {
            name: [b"t-0", b"u-0"][*partition],
            identity: identities[*partition].as_bytes(),
            at: At {
                segment: Offset(0),
                position: 100 * number,
            },
            bytes,
        })
        .collect();
    for entry in &entries {
        size.add(entry.name, entry.identity, 0, entry.bytes.len());
    }
    let with_carry = entries.iter().map(|entry| (*entry, 0));
    let mut bytes = format::encode(secret, number, with_carry, size)
        .as_bytes()
        .to_vec();
    for entry in entries.iter().filter(|entry| is_beside(entry.bytes.len())) {
        bytes.extend_from_slice(entry.bytes);
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
    }
    bytes
}

pub fn journal() -> Inputs {
    const SECRET: Secret = [9; 16];
    let head = format::encode_head(&SECRET).as_bytes().to_vec();
    let mut large = BatchBuilder::new(Codec::None);
    let record = RecordToWrite {
        value: Some(&[0; 17_000]),
        ..RecordToWrite::default()
    };
    large.append(&record).expect("a record that fits");
    let large = large.build().expect("a batch that fits");
    let first = [
        &head[..],
        &commit(&SECRET, 1, &[(0, batch(0, 2)), (1, batch(0, 1))]),
    ]
    .concat();
    let second = [&head[..], &commit(&SECRET, 2, &[(0, batch(2, 1))])].concat();
    let beside = [
        &head[..],
        &commit(&SECRET, 1, &[(0, large), (1, batch(0, 1))]),
    ]
    .concat();
    let end = |file: &[u8]| {
        file.iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1)
    };
    let input = |flags: u8, one: &[u8], other: &[u8]| {
        [&[flags][..], &slice(&one[..end(one)]), &other[..end(other)]].concat()
    };
    named([
        ("two-files", input(0, &first, &second)),
        ("sealed", input(1, &first, &[])),
        ("beside", input(0, &beside, &[])),
        ("clean", input(2, &second, &[])),
        ("no-journal", input(0, b"no journal", &head)),
    ])
}

/// Records as the target takes them: keys and values, and whether there is a value.
fn group_records(records: &[GroupRecord]) -> Vec<u8> {
    let bytes = records.iter().flat_map(|record| {
        let (key, value) = (record.key(), record.value());
        let key = short_slice(&key.expect("a short key"));
        let value = value.expect("a short value");
        let is_tombstone = if value.is_none() { 7 } else { 0 };
        [key, slice(&value.unwrap_or_default()), vec![is_tombstone]].concat()
    });
    bytes.collect()
}

fn offset(expire_timestamp: Option<i64>, topic_id: TopicId) -> GroupRecord {
    GroupRecord::Offset {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
        value: Some(CommittedOffset {
            offset: 42,
            leader_epoch: -1,
            metadata: "said".into(),
            commit_timestamp: TIMESTAMP,
            expire_timestamp,
            topic_id,
        }),
    }
}

/// Versions 1 and 0 of what a consumer says, and of what it is told.
const SUBSCRIPTION: &[u8] = b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0";
const ASSIGNMENT: &[u8] = b"\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\xff\xff\xff\xff";

fn group() -> GroupRecord {
    let member = |id: &'static str, instance: Option<&'static str>| MemberMetadata {
        member_id: id.into(),
        instance_id: instance.map(ByteString::from),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        subscription: Bytes::from_static(SUBSCRIPTION),
        assignment: Bytes::from_static(ASSIGNMENT),
    };
    GroupRecord::Group {
        group: "g".into(),
        value: Some(GroupMetadata {
            protocol_type: "consumer".into(),
            generation: 4,
            protocol: Some("range".into()),
            leader: Some("m".into()),
            state_timestamp: Some(TIMESTAMP),
            members: vec![member("m", None), member("n", Some("i"))],
        }),
    }
}

pub fn groups() -> Inputs {
    let empty = GroupRecord::Group {
        group: "e".into(),
        value: Some(GroupMetadata::default()),
    };
    let gone = GroupRecord::Group {
        group: "g".into(),
        value: None,
    };
    let all = [
        group(),
        offset(None, TopicId(7)),
        offset(Some(TIMESTAMP), TopicId::ZERO),
        empty.clone(),
    ];
    let unknown = [short_slice(&[0, 99, 1]), slice(b"value"), vec![0]].concat();
    named([
        ("subscription", SUBSCRIPTION.to_vec()),
        ("assignment", ASSIGNMENT.to_vec()),
        ("group", group_records(&[group()])),
        ("offsets", group_records(&all[1..3])),
        ("all", group_records(&all)),
        (
            "gone",
            group_records(&[group(), offset(None, TopicId(7)), gone, empty]),
        ),
        ("unknown", [unknown, group_records(&all)].concat()),
    ])
}

/// A topic, its partition in these epochs, and a change that begins the next ones.
fn topic_records(leader_epoch: i32, partition_epoch: i32) -> Vec<MetadataRecord> {
    let topic_id = TopicId(7);
    let partition = PartitionRecord {
        topic_id,
        replicas: vec![1],
        isr: vec![1],
        leader: 1,
        directories: vec![Uuid(5)],
        leader_epoch,
        partition_epoch,
        ..PartitionRecord::default()
    };
    let change = PartitionChangeRecord {
        topic_id,
        leader: 1,
        ..PartitionChangeRecord::default()
    };
    let config = ConfigRecord {
        resource_type: 2,
        resource_name: "t".into(),
        name: "retention.ms".into(),
        value: Some("1".into()),
    };
    vec![
        TopicRecord {
            name: "t".into(),
            topic_id,
        }
        .into(),
        partition.into(),
        config.into(),
        change.into(),
    ]
}

pub fn metadata() -> Inputs {
    let broker = RegisterBrokerRecord {
        broker_id: 1,
        incarnation_id: Uuid(3),
        end_points: vec![BrokerEndpoint {
            name: "PLAINTEXT".into(),
            host: "localhost".into(),
            port: 9393,
            ..BrokerEndpoint::default()
        }],
        log_dirs: vec![Uuid(5)],
        ..RegisterBrokerRecord::default()
    };
    let ids = ProducerIdsRecord {
        broker_id: 1,
        next_producer_id: 1000,
        ..ProducerIdsRecord::default()
    };
    let feature = FeatureLevelRecord {
        name: "metadata.version".into(),
        feature_level: 29,
    };
    let removed = RemoveTopicRecord {
        topic_id: TopicId(7),
    };
    let of_broker: Vec<MetadataRecord> = vec![
        feature.into(),
        broker.into(),
        ids.into(),
        NoOpRecord {}.into(),
    ];
    let bytes = |records: &[MetadataRecord]| -> Vec<u8> {
        let values = records.iter().map(|record| record.to_value());
        let values = values.map(|value| slice(&value.expect("a small record")));
        values.flatten().collect()
    };
    let removed: [MetadataRecord; 1] = [removed.into()];
    let topic = bytes(&topic_records(0, 0));
    named([
        ("broker", bytes(&of_broker)),
        ("topic", topic.clone()),
        ("last-leader-epoch", bytes(&topic_records(i32::MAX, 0))),
        ("last-partition-epoch", bytes(&topic_records(0, i32::MAX))),
        ("removed", [&topic[..], &bytes(&removed)].concat()),
        ("all", [bytes(&of_broker), topic, bytes(&removed)].concat()),
    ])
}
