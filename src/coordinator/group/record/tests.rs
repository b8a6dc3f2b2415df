//! Records byte for byte as Kafka 4.3.1 writes them, and what is read of other releases.

use proptest::prelude::*;

use super::*;

/// 14 November 2023, 22:13:20.
const TIME: TimestampMs = 1_700_000_000_000;

fn hex(text: &str) -> Bytes {
    let digits: Vec<_> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hexadecimal is ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal")
    };
    digits.chunks(2).map(byte).collect::<Vec<_>>().into()
}

fn offset(value: Option<CommittedOffset>) -> GroupRecord {
    GroupRecord::Offset {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
        value,
    }
}

fn committed() -> CommittedOffset {
    CommittedOffset {
        offset: 100,
        leader_epoch: 5,
        metadata: "md".into(),
        commit_timestamp: TIME,
        expire_timestamp: None,
        topic_id: TopicId::ZERO,
    }
}

fn group(value: Option<GroupMetadata>) -> GroupRecord {
    GroupRecord::Group {
        group: "g".into(),
        value,
    }
}

fn created() -> GroupMetadata {
    GroupMetadata {
        state_timestamp: Some(TIME),
        ..GroupMetadata::default()
    }
}

fn stable() -> GroupMetadata {
    GroupMetadata {
        protocol_type: "consumer".into(),
        generation: 7,
        protocol: Some("range".into()),
        leader: Some("m".into()),
        state_timestamp: Some(TIME),
        members: vec![MemberMetadata {
            member_id: "m".into(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(&[1, 2]),
            assignment: Bytes::from_static(&[3]),
        }],
    }
}

const OFFSET_KEY: &str = "0001 0001 67 0001 74 00000003";
const GROUP_KEY: &str = "0002 0001 67";
const STABLE: &str = "0003 0008 636f6e73756d6572 00000007 0005 72616e6765 0001 6d \
     0000018bcfe56800 00000001 0001 6d ffff 0001 63 000a 2f3132372e302e302e31 000493e0 0000afc8 \
     00000002 0102 00000001 03";

/// Made with the serializer of Kafka 4.3.1.
fn written_by_kafka() -> Vec<(GroupRecord, &'static str, Option<&'static str>)> {
    let with_id = CommittedOffset {
        leader_epoch: -1,
        metadata: ByteString::new(),
        topic_id: TopicId((1 << 64) | 2),
        ..committed()
    };
    let expiring = CommittedOffset {
        leader_epoch: -1,
        expire_timestamp: Some(TIME + 86_400),
        ..committed()
    };
    vec![
        (
            offset(Some(committed())),
            OFFSET_KEY,
            Some("0004 0000000000000064 00000005 03 6d64 0000018bcfe56800 00"),
        ),
        (
            offset(Some(with_id)),
            OFFSET_KEY,
            Some(
                "0004 0000000000000064 ffffffff 01 0000018bcfe56800 01 00 10 \
                 00000000000000010000000000000002",
            ),
        ),
        (
            offset(Some(expiring)),
            OFFSET_KEY,
            Some("0001 0000000000000064 0002 6d64 0000018bcfe56800 0000018bcfe6b980"),
        ),
        (offset(None), OFFSET_KEY, None),
        (group(Some(stable())), GROUP_KEY, Some(STABLE)),
        (
            group(Some(created())),
            GROUP_KEY,
            Some("0003 0000 00000000 ffff ffff 0000018bcfe56800 00000000"),
        ),
        (group(None), GROUP_KEY, None),
    ]
}

#[test]
fn records_are_what_kafka_writes() {
    for (record, key, value) in written_by_kafka() {
        let (key, value) = (hex(key), value.map(hex));
        assert_eq!(record.key(), Ok(key.clone()), "{record:?}");
        assert_eq!(record.value(), Ok(value.clone()), "{record:?}");
        let decoded = GroupRecord::decode(&key, value.as_ref());
        assert_eq!(decoded, Ok(Some(record)));
    }
}

#[test]
fn an_offset_that_expires_loses_its_epoch_and_topic_id() {
    let record = offset(Some(CommittedOffset {
        expire_timestamp: Some(TIME + 86_400),
        topic_id: TopicId(9),
        ..committed()
    }));
    let value = record.value().expect("short strings");
    let decoded = GroupRecord::decode(&hex(OFFSET_KEY), value.as_ref());
    let expected = CommittedOffset {
        leader_epoch: -1,
        expire_timestamp: Some(TIME + 86_400),
        ..committed()
    };
    assert_eq!(decoded, Ok(Some(offset(Some(expected)))));
}

#[test]
fn offsets_of_older_releases_are_read() {
    let no_epoch = CommittedOffset {
        leader_epoch: -1,
        ..committed()
    };
    let legacy_key = "0000 0001 67 0001 74 00000003";
    let (common, time) = ("0000000000000064 0002 6d64", "0000018bcfe56800");
    let with_epoch = "0000000000000064 00000005 0002 6d64";
    let never = "ffffffffffffffff";
    let rows = [
        (legacy_key, format!("0000 {common} {time}"), &no_epoch),
        (OFFSET_KEY, format!("0000 {common} {time}"), &no_epoch),
        (
            OFFSET_KEY,
            format!("0001 {common} {time} {never}"),
            &no_epoch,
        ),
        (OFFSET_KEY, format!("0002 {common} {time}"), &no_epoch),
        (
            OFFSET_KEY,
            format!("0003 {with_epoch} {time}"),
            &committed(),
        ),
    ];
    for (key, value, expected) in rows {
        let decoded = GroupRecord::decode(&hex(key), Some(&hex(&value)));
        assert_eq!(decoded, Ok(Some(offset(Some(expected.clone())))), "{value}");
    }
    let tombstone = GroupRecord::decode(&hex(legacy_key), None);
    assert_eq!(tombstone, Ok(Some(offset(None))));
}

#[test]
fn groups_of_older_and_newer_releases_are_read() {
    let no_time = GroupMetadata {
        state_timestamp: None,
        ..stable()
    };
    let mut no_timeout = no_time.clone();
    no_timeout.members[0].rebalance_timeout_ms = -1;
    let head = "0008 636f6e73756d6572 00000007 0005 72616e6765 0001 6d";
    let tail = "0000afc8 00000002 0102 00000001 03";
    let member = "00000001 0001 6d 0001 63 000a 2f3132372e302e302e31";
    let time = "0000018bcfe56800";
    let flexible = format!(
        "0004 09 636f6e73756d6572 00000007 06 72616e6765 02 6d {time} \
         02 02 6d 00 02 63 0b 2f3132372e302e302e31 000493e0 0000afc8 03 0102 02 03 00 00"
    );
    let rows = [
        (format!("0000 {head} {member} {tail}"), no_timeout),
        (format!("0001 {head} {member} 000493e0 {tail}"), no_time),
        (
            format!("0002 {head} {time} {member} 000493e0 {tail}"),
            stable(),
        ),
        (flexible, stable()),
    ];
    for (value, expected) in rows {
        let decoded = GroupRecord::decode(&hex(GROUP_KEY), Some(&hex(&value)));
        assert_eq!(decoded, Ok(Some(group(Some(expected)))), "{value}");
    }
}

#[test]
fn a_legacy_offset_is_written_again_under_the_key_of_today() {
    let key = hex("0000 0001 67 0001 74 00000003");
    let decoded = GroupRecord::decode(&key, None).expect("a record");
    let decoded = decoded.expect("a known type");
    assert_eq!(decoded.key(), Ok(hex(OFFSET_KEY)));
}

#[test]
fn records_of_other_kinds_are_skipped() {
    for kind in (3_i16..=30).chain([-1, i16::MAX, i16::MIN]) {
        let key = Bytes::copy_from_slice(&kind.to_be_bytes());
        let value = Bytes::from_static(b"\xff\xffanything");
        assert_eq!(GroupRecord::decode(&key, Some(&value)), Ok(None), "{kind}");
    }
}

#[test]
fn every_cut_and_every_unknown_version_is_an_error() {
    for (_, key, value) in written_by_kafka() {
        let (key, value) = (hex(key), value.map(hex));
        for length in 0..key.len() {
            let cut = GroupRecord::decode(&key.slice(..length), value.as_ref());
            assert!(matches!(cut, Err(RecordError::Key(_))), "{key:?} {length}");
        }
        let Some(value) = value else { continue };
        for length in 0..value.len() {
            let cut = GroupRecord::decode(&key, Some(&value.slice(..length)));
            assert!(matches!(cut, Err(RecordError::Value { .. })), "{length}");
        }
        for version in [-1_i16, 5, i16::MAX] {
            let mut wrong = value.to_vec();
            wrong[..2].copy_from_slice(&version.to_be_bytes());
            let error = GroupRecord::decode(&key, Some(&wrong.into()));
            let is_version = matches!(
                error,
                Err(RecordError::Value {
                    error: DecodeError::Version { .. },
                    ..
                })
            );
            assert!(is_version, "{version}: {error:?}");
        }
    }
}

#[test]
fn a_string_that_is_too_long_is_an_error_and_no_panic() {
    let long = ByteString::from("x".repeat(32_768));
    let mut value = committed();
    value.metadata = long.clone();
    assert!(offset(Some(value)).value().is_err());
    let mut value = stable();
    value.members[0].member_id = long.clone();
    assert!(group(Some(value)).value().is_err());
    let record = GroupRecord::Group {
        group: long,
        value: None,
    };
    assert!(record.key().is_err());
}

#[test]
fn the_length_of_a_groups_value_is_known_before_it_is_written() {
    let mut large = stable();
    for index in 0..50 {
        large.members.push(MemberMetadata {
            member_id: format!("member-{index}").into(),
            instance_id: (index % 2 == 0).then(|| format!("instance-{index}").into()),
            subscription: vec![0; index].into(),
            assignment: vec![0; 3 * index].into(),
            ..large.members[0].clone()
        });
    }
    for value in [created(), stable(), large] {
        let expected = value.value_bytes();
        let written = group(Some(value)).value().expect("short strings");
        assert_eq!(written.map(|bytes| bytes.len()), Some(expected));
    }
}

fn any_text() -> impl Strategy<Value = ByteString> {
    "\\PC{0,20}".prop_map(ByteString::from)
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn any_member() -> impl Strategy<Value = MemberMetadata> {
    let names = (
        any_text(),
        prop::option::of(any_text()),
        any_text(),
        any_text(),
    );
    let timeouts = (any::<i32>(), any::<i32>());
    (names, timeouts, any_bytes(), any_bytes()).prop_map(
        |(names, timeouts, subscription, assignment)| MemberMetadata {
            member_id: names.0,
            instance_id: names.1,
            client_id: names.2,
            client_host: names.3,
            rebalance_timeout_ms: timeouts.0,
            session_timeout_ms: timeouts.1,
            subscription,
            assignment,
        },
    )
}

fn any_group() -> impl Strategy<Value = GroupMetadata> {
    let names = (
        any_text(),
        prop::option::of(any_text()),
        prop::option::of(any_text()),
    );
    let members = prop::collection::vec(any_member(), 0..5);
    let numbers = (any::<i32>(), prop::option::of(0..i64::MAX));
    (names, numbers, members).prop_map(|(names, numbers, members)| GroupMetadata {
        protocol_type: names.0,
        generation: numbers.0,
        protocol: names.1,
        leader: names.2,
        state_timestamp: numbers.1,
        members,
    })
}

fn any_offset() -> impl Strategy<Value = CommittedOffset> {
    let numbers = (any::<i64>(), any::<i32>(), any::<i64>(), any::<u128>());
    (numbers, any_text()).prop_map(|(numbers, metadata)| CommittedOffset {
        offset: numbers.0,
        leader_epoch: numbers.1,
        metadata,
        commit_timestamp: numbers.2,
        expire_timestamp: None,
        topic_id: TopicId(numbers.3),
    })
}

fn any_record() -> impl Strategy<Value = GroupRecord> {
    let offset = (
        any_text(),
        any_text(),
        any::<i32>(),
        prop::option::of(any_offset()),
    );
    let offset = offset.prop_map(|(group, topic, partition, value)| GroupRecord::Offset {
        group,
        topic,
        partition,
        value,
    });
    let group = (any_text(), prop::option::of(any_group()));
    let group = group.prop_map(|(group, value)| GroupRecord::Group { group, value });
    prop_oneof![offset, group]
}

proptest! {
    /// What is written is read again as it was.
    #[test]
    fn records_survive_the_log(record in any_record()) {
        let key = record.key().expect("short strings");
        let value = record.value().expect("short strings");
        if let GroupRecord::Group { value: Some(group), .. } = &record {
            prop_assert_eq!(value.as_ref().map(|value| value.len()), Some(group.value_bytes()));
        }
        prop_assert_eq!(GroupRecord::decode(&key, value.as_ref()), Ok(Some(record)));
    }

    /// No bytes make the decoder panic, whatever their type and version claim.
    #[test]
    fn damage_is_an_error_at_most(
        kind in 0..4_i16,
        version in -1..6_i16,
        record in any_record(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        noise in any_bytes(),
    ) {
        let mut value = record.value().expect("short strings").unwrap_or(noise.clone()).to_vec();
        if !value.is_empty() {
            let at = at.index(value.len());
            value[at] = byte;
        }
        let key = record.key().expect("short strings");
        let _ = GroupRecord::decode(&key, Some(&value.into()));
        let key = [&kind.to_be_bytes()[..], &noise].concat().into();
        let value = [&version.to_be_bytes()[..], &noise].concat().into();
        let _ = GroupRecord::decode(&key, Some(&value));
        let _ = GroupRecord::decode(&record.key().expect("short strings"), Some(&value));
    }
}
