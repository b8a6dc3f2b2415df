//! Commit, fetch, deletion and expiry as tables; and the books of what the offsets take.

use proptest::prelude::*;

use super::*;

const NOW: TimestampMs = 1_700_000_000_000;
const UNITS_MAX: usize = 4096;
/// Seven days, Kafka's default.
const RETENTION: i64 = 10_080 * 60_000;
const ANY: TopicId = TopicId::ZERO;

fn to_commit(topic: &str, partition: i32, offset: i64) -> OffsetToCommit {
    OffsetToCommit {
        topic: topic.into(),
        topic_id: ANY,
        partition,
        offset,
        leader_epoch: -1,
        metadata: None,
    }
}

fn committed(offset: i64, commit_timestamp: TimestampMs) -> CommittedOffset {
    CommittedOffset {
        offset,
        leader_epoch: -1,
        metadata: ByteString::new(),
        commit_timestamp,
        expire_timestamp: None,
        topic_id: ANY,
    }
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition {
        topic: topic.into(),
        topic_id: ANY,
        partition,
    }
}

fn gone(group: &str, topic: &str, partition: i32) -> GroupRecord {
    tombstone(&group.into(), &topic.into(), partition)
}

fn replay(offsets: &mut Offsets, records: &[GroupRecord]) {
    for record in records {
        let GroupRecord::Offset {
            group,
            topic,
            partition,
            value,
        } = record
        else {
            panic!("{record:?} is no offset");
        };
        offsets.replay(group, topic, *partition, value.as_ref());
    }
}

fn stored(rows: &[(&str, &str, i32, CommittedOffset)]) -> Offsets {
    let mut offsets = Offsets::default();
    for (group, topic, partition, value) in rows {
        offsets.replay(&(*group).into(), &(*topic).into(), *partition, Some(value));
    }
    offsets
}

/// What `group` has, without the rest: topic, partition, offset.
fn all(offsets: &Offsets, group: &str) -> Vec<(String, i32, i64)> {
    let found = offsets.fetch_all(group).into_iter();
    let row = |found: FetchedOffset| {
        let committed = found.committed.expect("no error").expect("it was found");
        (found.topic.to_string(), found.partition, committed.offset)
    };
    found.map(row).collect()
}

fn topics(names: &[&str]) -> Subscribed {
    Subscribed::Topics(names.iter().map(|name| (*name).into()).collect())
}

#[test]
fn what_is_committed_is_there_once_it_is_replayed() {
    let group = ByteString::from("g");
    let mut offsets = Offsets::default();
    let wanted = OffsetToCommit {
        leader_epoch: 7,
        metadata: Some("note".into()),
        topic_id: TopicId(5),
        ..to_commit("foo", 1, 42)
    };
    // Negative offsets and partitions named twice are the client's business.
    let wanted = vec![
        wanted,
        to_commit("foo", 0, 1),
        to_commit("bar", 0, -5),
        to_commit("foo", 0, 2),
    ];
    let (records, results) = Offsets::prepare_commit(&group, wanted, None, UNITS_MAX, NOW);
    assert_eq!(results, [Ok(()); 4]);
    assert_eq!(records.len(), 4);
    assert_eq!((offsets.count(), offsets.has_any("g")), (0, false));

    replay(&mut offsets, &records);
    let expected = [("bar", 0, -5), ("foo", 0, 2), ("foo", 1, 42)];
    assert_eq!(
        all(&offsets, "g"),
        expected.map(|(t, p, o)| (t.to_owned(), p, o))
    );
    let full = CommittedOffset {
        leader_epoch: 7,
        metadata: "note".into(),
        topic_id: TopicId(5),
        ..committed(42, NOW)
    };
    assert_eq!(offsets.get("g", "foo", 1), Some(&full));
    assert_eq!((offsets.count(), offsets.has_any("g")), (3, true));
    assert_eq!(offsets.groups().collect::<Vec<_>>(), ["g"]);
    assert!(all(&offsets, "other").is_empty());
}

#[test]
fn metadata_is_measured_in_utf_16_units() {
    let rows = [
        (None, 0, Ok(())),
        (Some(String::new()), 0, Ok(())),
        (
            Some("x".to_owned()),
            0,
            Err(GroupError::OffsetMetadataTooLarge),
        ),
        (Some("x".repeat(4096)), UNITS_MAX, Ok(())),
        (
            Some("x".repeat(4097)),
            UNITS_MAX,
            Err(GroupError::OffsetMetadataTooLarge),
        ),
        // 12,288 bytes.
        (Some("日".repeat(4096)), UNITS_MAX, Ok(())),
        // Two units each.
        (Some("😀".repeat(2048)), UNITS_MAX, Ok(())),
        (
            Some("😀".repeat(2049)),
            UNITS_MAX,
            Err(GroupError::OffsetMetadataTooLarge),
        ),
    ];
    let group = ByteString::from("g");
    for (metadata, units_max, expected) in rows {
        let wanted = vec![
            OffsetToCommit {
                metadata: metadata.clone().map(ByteString::from),
                ..to_commit("foo", 0, 1)
            },
            // One that is refused does not take the others with it.
            to_commit("foo", 1, 2),
        ];
        let (records, results) = Offsets::prepare_commit(&group, wanted, None, units_max, NOW);
        assert_eq!(results, [expected, Ok(())], "{metadata:?}");
        assert_eq!(records.len(), if expected.is_ok() { 2 } else { 1 });
        if expected.is_ok() {
            let mut offsets = Offsets::default();
            replay(&mut offsets, &records);
            let kept = offsets
                .get("g", "foo", 0)
                .map(|offset| offset.metadata.to_string());
            assert_eq!(kept, Some(metadata.unwrap_or_default()));
        }
    }
}

#[test]
fn a_retention_time_becomes_an_expire_timestamp() {
    let rows = [
        (None, None),
        (Some(1234), Some(NOW + 1234)),
        (Some(0), Some(NOW)),
        (Some(-2), Some(NOW - 2)),
        (Some(i64::MAX), Some(i64::MAX)),
        // Not what stands for none.
        (Some(-NOW - 1), Some(0)),
        (Some(i64::MIN), Some(0)),
    ];
    for (retention, expected) in rows {
        let wanted = vec![to_commit("foo", 0, 1)];
        let (records, _) = Offsets::prepare_commit(&"g".into(), wanted, retention, UNITS_MAX, NOW);
        let mut offsets = Offsets::default();
        replay(&mut offsets, &records);
        let expires = offsets
            .get("g", "foo", 0)
            .map(|offset| offset.expire_timestamp);
        assert_eq!(expires, Some(expected), "{retention:?}");
    }
}

#[test]
fn fetches_answer_what_was_asked_in_its_order() {
    let one = TopicId(1);
    let with_id = CommittedOffset {
        topic_id: one,
        ..committed(10, NOW)
    };
    let offsets = stored(&[
        ("g", "foo", 0, with_id.clone()),
        ("g", "bar", 0, committed(20, NOW)),
        ("other", "foo", 1, committed(30, NOW)),
    ]);
    let rows = [
        // By name, by the same id, and by the id of another incarnation.
        ("g", at("foo", 0), Some(with_id.clone())),
        (
            "g",
            TopicPartition {
                topic_id: one,
                ..at("foo", 0)
            },
            Some(with_id),
        ),
        (
            "g",
            TopicPartition {
                topic_id: TopicId(2),
                ..at("foo", 0)
            },
            None,
        ),
        // Stored without an id: it counts for any.
        (
            "g",
            TopicPartition {
                topic_id: one,
                ..at("bar", 0)
            },
            Some(committed(20, NOW)),
        ),
        ("g", at("foo", 1), None),
        ("g", at("none", 0), None),
        ("none", at("foo", 0), None),
    ];
    for (group, asked, expected) in rows {
        let found = offsets.fetch(group, vec![asked.clone()]);
        let expected = FetchedOffset {
            topic: asked.topic,
            topic_id: asked.topic_id,
            partition: asked.partition,
            committed: Ok(expected),
        };
        assert_eq!(found, [expected], "{group}");
    }
    let asked = [("foo", 0), ("none", 3), ("bar", 0), ("foo", 0)];
    let partitions = asked
        .map(|(topic, partition)| at(topic, partition))
        .to_vec();
    let found = offsets.fetch("g", partitions);
    let order: Vec<_> = found
        .iter()
        .map(|found| (&*found.topic, found.partition))
        .collect();
    assert_eq!(order, asked);
}

#[test]
fn deletion_spares_topics_in_use() {
    let offsets = stored(&[
        ("g", "foo", 0, committed(1, NOW)),
        ("g", "bar", 0, committed(2, NOW)),
        ("h", "bar", 1, committed(3, NOW)),
    ]);
    let asked = [at("foo", 0), at("bar", 0), at("bar", 1), at("none", 0)];
    let in_use = Err(GroupError::GroupSubscribedToTopic);
    let (foo, bar) = (gone("g", "foo", 0), gone("g", "bar", 0));
    let rows = [
        (
            topics(&["foo"]),
            "consumer",
            vec![in_use, Ok(()), Ok(()), Ok(())],
            vec![bar.clone()],
        ),
        (
            topics(&[]),
            "consumer",
            vec![Ok(()); 4],
            vec![foo.clone(), bar.clone()],
        ),
        (Subscribed::Unknown, "consumer", vec![in_use; 4], vec![]),
        (
            Subscribed::Unknown,
            "connect",
            vec![Ok(()); 4],
            vec![foo.clone(), bar.clone()],
        ),
        (Subscribed::Unknown, "", vec![Ok(()); 4], vec![foo, bar]),
    ];
    for (subscribed, protocol_type, results, records) in rows {
        let answer = offsets.prepare_delete(&"g".into(), &asked, protocol_type, &subscribed);
        assert_eq!(answer, (records, results), "{subscribed:?} {protocol_type}");
    }
}

#[test]
fn a_deleted_group_leaves_nothing() {
    let mut offsets = stored(&[
        ("g", "foo", 0, committed(1, NOW)),
        ("g", "foo", 1, committed(2, NOW)),
        ("g", "bar", 0, committed(3, NOW)),
        ("h", "foo", 0, committed(4, NOW)),
    ]);
    let mut records = Vec::new();
    offsets.prepare_delete_all(&"g".into(), &mut records);
    let expected = [
        gone("g", "bar", 0),
        gone("g", "foo", 0),
        gone("g", "foo", 1),
    ];
    assert_eq!(records, expected);
    replay(&mut offsets, &records);
    assert!(!offsets.has_any("g"));
    assert_eq!(offsets.count(), 1);
    // Tombstones of what is not there change nothing.
    replay(&mut offsets, &records);
    replay(&mut offsets, &[gone("h", "none", 0), gone("h", "foo", 9)]);
    assert_eq!(all(&offsets, "h"), [("foo".to_owned(), 0, 4)]);
}

#[test]
fn a_deleted_topic_takes_the_offsets_of_its_own_incarnation() {
    let of = |id: u128| CommittedOffset {
        topic_id: TopicId(id),
        ..committed(1, NOW)
    };
    let offsets = stored(&[
        ("g", "foo", 0, of(1)),
        ("g", "foo", 1, of(2)),
        ("g", "foo", 2, of(0)),
        ("g", "bar", 0, of(1)),
        ("h", "foo", 0, of(1)),
        ("i", "bar", 0, of(0)),
    ]);
    let mut by_group = offsets.prepare_topic_deletion(&"foo".into(), TopicId(1));
    for (_, records) in &mut by_group {
        records.sort_by_key(|record| format!("{record:?}"));
    }
    by_group.sort_by_key(|(group, _)| group.clone());
    let expected = [
        ("g".into(), vec![gone("g", "foo", 0), gone("g", "foo", 2)]),
        ("h".into(), vec![gone("h", "foo", 0)]),
    ];
    assert_eq!(by_group, expected);
    assert!(
        offsets
            .prepare_topic_deletion(&"none".into(), TopicId(1))
            .is_empty()
    );
}

/// Which offsets of `aged` go. The columns: the group's type, what it does (and since when it is
/// empty), the topics that it subscribes to (`?` if they are not known), what expires.
const EXPIRY: &str = "
            | empty new   | ?       | bar-0 foo-0
            | empty old   | ?       | bar-0 foo-0
            | rebalancing | ?       | bar-0 foo-0
   consumer | empty old   |         | bar-0 bar-1 foo-0
   consumer | empty new   |         |
   consumer | empty ?     |         | bar-0 foo-0
   connect  | empty old   | ?       | bar-0 bar-1 foo-0
   connect  | empty new   | ?       |
   consumer | stable      | foo     | bar-0
   consumer | stable      | foo bar |
   consumer | stable      | baz     | bar-0 foo-0
   consumer | stable      | ?       |
   connect  | stable      | ?       |
   consumer | rebalancing | baz     |
   connect  | rebalancing | ?       |
";

/// `foo-0` and `bar-0` are past the retention, `bar-1` is not.
fn aged() -> Offsets {
    let (old, young) = (NOW - RETENTION, NOW - RETENTION + 1);
    stored(&[
        ("g", "foo", 0, committed(1, old)),
        ("g", "bar", 0, committed(2, old)),
        ("g", "bar", 1, committed(3, young)),
    ])
}

fn phase(text: &str) -> Phase {
    let empty = |since| Phase::Empty { since };
    match text {
        "empty old" => empty(Some(NOW - RETENTION)),
        "empty new" => empty(Some(NOW - RETENTION + 1)),
        "empty ?" => empty(None),
        "stable" => Phase::Stable,
        "rebalancing" => Phase::Rebalancing,
        other => panic!("{other} is no phase"),
    }
}

fn subscription(text: &str) -> Subscribed {
    match text {
        "?" => Subscribed::Unknown,
        names => topics(&names.split_whitespace().collect::<Vec<_>>()),
    }
}

#[test]
fn offsets_expire_by_what_their_group_does() {
    let offsets = aged();
    for row in EXPIRY.lines().filter(|line| line.contains('|')) {
        let columns: Vec<_> = row.split('|').map(str::trim).collect();
        let [protocol_type, doing, subscribed, expected] = columns[..] else {
            panic!("{row} has four columns");
        };
        let expiry = Expiry {
            protocol_type,
            phase: phase(doing),
            subscribed: &subscription(subscribed),
            now_ms: NOW,
            retention_ms: RETENTION,
        };
        let mut records = Vec::new();
        let is_all = offsets.prepare_expiry(&"g".into(), &expiry, &mut records);
        let expected = expected.split_whitespace().map(|name| {
            let (topic, partition) = name.split_once('-').expect("topic-partition");
            gone("g", topic, partition.parse().expect("a number"))
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(is_all, expected.len() == offsets.count(), "{row}");
        assert_eq!(records, expected, "{row}");
        // A group without offsets has none left, whatever it does.
        let mut records = Vec::new();
        assert!(offsets.prepare_expiry(&"other".into(), &expiry, &mut records));
        assert!(records.is_empty());
    }
}

#[test]
fn an_expire_timestamp_counts_instead_of_the_retention() {
    let expiring = |at: TimestampMs, commit: TimestampMs| CommittedOffset {
        expire_timestamp: Some(at),
        ..committed(1, commit)
    };
    let rows = [
        (expiring(NOW, NOW), true),
        (expiring(NOW + 1, NOW), false),
        // It outlives the retention, too.
        (expiring(NOW + 1, NOW - 2 * RETENTION), false),
        (expiring(0, NOW), true),
        (expiring(i64::MAX, 0), false),
        // A timestamp that nobody can have meant does not overflow.
        (committed(1, i64::MIN), true),
        (committed(1, i64::MAX), false),
    ];
    for (value, is_due) in rows {
        let offsets = stored(&[("g", "foo", 0, value.clone())]);
        let expiry = Expiry {
            protocol_type: "",
            phase: Phase::Empty { since: None },
            subscribed: &Subscribed::Unknown,
            now_ms: NOW,
            retention_ms: RETENTION,
        };
        let mut records = Vec::new();
        let is_all = offsets.prepare_expiry(&"g".into(), &expiry, &mut records);
        assert_eq!(
            (records.len(), is_all),
            (is_due.into(), is_due),
            "{value:?}"
        );
    }
}

#[test]
fn what_is_kept_does_not_keep_the_request_alive() {
    let request = bytes::Bytes::from(b"group-topic-metadata".to_vec());
    let part = |range| ByteString::try_from(request.slice(range)).expect("UTF-8");
    let value = CommittedOffset {
        metadata: part(12..20),
        ..committed(1, NOW)
    };
    let mut offsets = Offsets::default();
    offsets.replay(&part(0..5), &part(6..11), 0, Some(&value));
    drop(value);
    assert!(request.is_unique());
    let kept = offsets
        .get("group", "topic", 0)
        .map(|offset| &*offset.metadata);
    assert_eq!(kept, Some("metadata"));
}

/// Group, topic, partition, and the length of the metadata; none is a tombstone.
fn any_step() -> impl Strategy<Value = (u8, u8, i32, Option<usize>)> {
    (0..3_u8, 0..3_u8, 0..3_i32, prop::option::of(0..40_usize))
}

proptest! {
    /// Whatever is replayed in whatever order, the books agree with a count from scratch, and the
    /// offsets with the last record of each partition.
    #[test]
    fn the_books_stay_right(steps in prop::collection::vec(any_step(), 0..200)) {
        let mut offsets = Offsets::default();
        let mut model: BTreeMap<(String, String, i32), CommittedOffset> = BTreeMap::new();
        for (step, (group, topic, partition, value)) in steps.into_iter().enumerate() {
            let (group, topic) = (format!("group-{group}"), format!("topic-{topic}"));
            let value = value.map(|length| CommittedOffset {
                metadata: "m".repeat(length).into(),
                ..committed(step as i64, NOW)
            });
            let (group_id, name) = (ByteString::from(&*group), ByteString::from(&*topic));
            offsets.replay(&group_id, &name, partition, value.as_ref());
            let key = (group, topic, partition);
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        prop_assert_eq!(offsets.count(), model.len());
        let mut rebuilt = Offsets::default();
        for ((group, topic, partition), value) in &model {
            prop_assert_eq!(offsets.get(group, topic, *partition), Some(value));
            rebuilt.replay(&group.clone().into(), &topic.clone().into(), *partition, Some(value));
        }
        prop_assert_eq!(offsets.bytes(), rebuilt.bytes());
        for (group, topic, partition) in model.into_keys() {
            offsets.replay(&group.into(), &topic.into(), partition, None);
        }
        prop_assert_eq!((offsets.count(), offsets.bytes()), (0, 0));
        prop_assert_eq!(offsets.groups().count(), 0);
    }
}
