//! Subscriptions of every version, and metadata that is none.

use super::*;
use crate::protocol::messages::consumer_protocol_subscription::TopicPartition;

fn metadata(version: i16, topics: &[&str]) -> Bytes {
    let subscription = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| (*topic).into()).collect(),
        user_data: Some(Bytes::from_static(b"sticky")),
        owned_partitions: vec![TopicPartition {
            topic: "owned".into(),
            partitions: vec![0, 1],
        }],
        generation_id: 4,
        rack_id: Some("rack".into()),
    };
    let body = subscription.to_bytes(version).expect("a subscription");
    [&version.to_be_bytes()[..], &body].concat().into()
}

fn known(topics: &[&str]) -> Subscribed {
    Subscribed::Topics(topics.iter().map(|topic| (*topic).into()).collect())
}

#[test]
fn a_group_subscribes_to_what_any_member_does() {
    for version in 0..=3 {
        let members = [
            metadata(version, &["foo", "bar"]),
            metadata(0, &["foo", "baz"]),
            metadata(version, &[]),
        ];
        let subscribed = Subscribed::of_members("consumer", &members);
        assert_eq!(subscribed, known(&["foo", "bar", "baz"]), "{version}");
    }
    assert_eq!(
        Subscribed::of_members("consumer", []),
        Subscribed::nothing()
    );
}

#[test]
fn a_version_that_is_claimed_but_not_written_is_no_matter() {
    for claimed in [1_i16, 2, 3, 99, -1] {
        let mut bytes = metadata(0, &["foo"]).to_vec();
        bytes[..2].copy_from_slice(&claimed.to_be_bytes());
        let subscribed = Subscribed::of_members("consumer", [&bytes.into()]);
        assert_eq!(subscribed, known(&["foo"]), "{claimed}");
    }
}

#[test]
fn metadata_that_is_no_subscription_is_of_unknown_topics() {
    let good = metadata(0, &["foo"]);
    let rows: [&[u8]; 8] = [
        b"",
        b"\x00",
        // A null array of topics, and lengths that lie.
        b"\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x00\xff\xff\xff\x00\xff\xff\xff\xff",
        b"\x00\x00\x7f\xff\xff\xff\x00\x01a\xff\xff\xff\xff",
        b"\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff",
        b"\x00\x00\x00\x00\x00\x01\x00\x01\xff\xff\xff\xff\xff",
        b"\x00\x00\x00\x00\x00\x00\x7f\xff\xff\xff",
    ];
    for row in rows {
        let row = Bytes::copy_from_slice(row);
        let subscribed = Subscribed::of_members("consumer", [&good, &row]);
        assert_eq!(subscribed, Subscribed::Unknown, "{row:?}");
    }
    for length in 0..good.len() {
        let subscribed = Subscribed::of_members("consumer", [&good.slice(..length)]);
        assert_eq!(subscribed, Subscribed::Unknown, "cut to {length}");
    }
}

#[test]
fn only_groups_of_consumers_have_topics() {
    let members = [metadata(0, &["foo"])];
    for other in ["connect", "Consumer", ""] {
        let subscribed = Subscribed::of_members(other, &members);
        assert_eq!(subscribed, Subscribed::Unknown);
        assert!(!subscribed.contains(other, "foo"), "{other}");
    }
    let rows = [
        (known(&["foo"]), "consumer", "foo", true),
        (known(&["foo"]), "consumer", "bar", false),
        (Subscribed::nothing(), "consumer", "foo", false),
        (Subscribed::Unknown, "consumer", "foo", true),
        (Subscribed::Unknown, "connect", "foo", false),
        (Subscribed::Unknown, "", "foo", false),
    ];
    for (subscribed, protocol_type, topic, expected) in rows {
        let contains = subscribed.contains(protocol_type, topic);
        assert_eq!(contains, expected, "{subscribed:?} {protocol_type} {topic}");
    }
}

#[test]
fn topics_do_not_keep_the_members_metadata_alive() {
    let bytes = metadata(0, &["foo"]);
    let subscribed = Subscribed::of_members("consumer", [&bytes]);
    assert!(bytes.is_unique());
    assert_eq!(subscribed, known(&["foo"]));
}
