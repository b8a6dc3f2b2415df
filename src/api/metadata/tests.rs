//! Which rows each request gets, in Kafka's words and codes as a run of 4.3.1 answered. Tests only.

use bytestring::ByteString;

use super::fixtures::{ABC, B, Cluster, OFFSETS, broker, partition, topic};
use super::*;
use crate::protocol::messages::describe_cluster_request::DescribeClusterRequest;
use crate::protocol::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use crate::protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponse;
use crate::protocol::messages::register_broker_record::RegisterBrokerRecord;
use crate::protocol::wire::Message;

const NEWEST: i16 = 13;
const UNKNOWN: TopicId = TopicId(0xdead);

fn named(names: &[&str]) -> MetadataRequest {
    let topics = names.iter().map(|name| asked(TopicId::ZERO, Some(name)));
    MetadataRequest {
        topics: Some(topics.collect()),
        ..MetadataRequest::default()
    }
}

fn asked(topic_id: TopicId, name: Option<&str>) -> MetadataRequestTopic {
    MetadataRequestTopic {
        topic_id,
        name: name.map(ByteString::from),
    }
}

fn of(topics: Vec<MetadataRequestTopic>) -> MetadataRequest {
    MetadataRequest {
        topics: Some(topics),
        ..MetadataRequest::default()
    }
}

fn all() -> MetadataRequest {
    MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    }
}

/// `name/code/partitions` of each topic, and a `!` behind those that are internal.
fn rows(response: &MetadataResponse) -> String {
    let row = |topic: &MetadataResponseTopic| {
        let name = topic.name.as_deref().unwrap_or("null");
        let internal = if topic.is_internal { "!" } else { "" };
        format!(
            "{name}/{}/{}{internal}",
            topic.error_code,
            topic.partitions.len()
        )
    };
    response
        .topics
        .iter()
        .map(row)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Code, leader, epoch, replicas, in-sync replicas and offline replicas of each partition.
fn partitions(topic: &MetadataResponseTopic) -> String {
    let row = |row: &MetadataResponsePartition| {
        format!(
            "{}: e{} l{} @{} {:?} {:?} {:?}",
            row.partition_index,
            row.error_code,
            row.leader_id,
            row.leader_epoch,
            row.replica_nodes,
            row.isr_nodes,
            row.offline_replicas
        )
    };
    topic
        .partitions
        .iter()
        .map(row)
        .collect::<Vec<_>>()
        .join("; ")
}

#[test]
fn each_request_gets_its_topics() {
    const ALL: &str = "__consumer_offsets/0/1! abc/0/3 b/0/1";
    let cases = [
        ("v0, none is all", 0, named(&[]), ALL),
        ("v1, none is none", 1, named(&[]), ""),
        ("none is none", NEWEST, named(&[]), ""),
        ("v1, null is all", 1, all(), ALL),
        ("null is all", NEWEST, all(), ALL),
        ("v0, a name", 0, named(&["b"]), "b/0/1"),
        (
            "names, one of them twice",
            9,
            named(&["b", "abc", "b", "nope", "nope"]),
            "b/0/1 abc/0/3 nope/3/0",
        ),
        (
            "names that no topic can have",
            4,
            named(&["bad name", "", "..", &"x".repeat(250)]),
            &format!("bad name/17/0 /17/0 ../17/0 {}/17/0", "x".repeat(250)),
        ),
        (
            "a topic of the broker's own that is not there yet",
            4,
            named(&["__transaction_state"]),
            "__transaction_state/3/0!",
        ),
        (
            "ids, one of them twice",
            12,
            of(vec![asked(B, None), asked(UNKNOWN, None), asked(B, None)]),
            "b/0/1 null/100/0",
        ),
        (
            "an id beside a name: the id counts",
            NEWEST,
            of(vec![
                asked(B, Some("abc")),
                asked(TopicId::ZERO, Some("abc")),
            ]),
            "b/0/1",
        ),
        ("v10, an id", 10, of(vec![asked(B, Some("b"))]), "b/42/0"),
        (
            "v11, no name, and the whole request is refused",
            11,
            of(vec![
                asked(TopicId::ZERO, Some("b")),
                asked(TopicId::ZERO, None),
            ]),
            "b/42/0 /42/0",
        ),
        (
            "neither name nor id",
            NEWEST,
            of(vec![asked(TopicId::ZERO, None)]),
            "/42/0",
        ),
    ];
    let cluster = Cluster::new();
    for (case, version, request, expected) in cases {
        let answer = respond(cluster.view("PLAINTEXT"), version, &request);
        assert_eq!(rows(&answer.response), expected, "{case}");
        // What is answered can be sent in that version.
        answer.response.to_bytes(version).expect(case);
    }
}

#[test]
fn ids_come_with_names_and_stay_zero_where_there_is_no_topic() {
    let cluster = Cluster::new();
    let request = named(&["abc", "nope", "__consumer_offsets"]);
    let answer = respond(cluster.view("PLAINTEXT"), NEWEST, &request);
    let ids: Vec<_> = answer
        .response
        .topics
        .iter()
        .map(|topic| topic.topic_id)
        .collect();
    assert_eq!(ids, [ABC, TopicId::ZERO, OFFSETS]);
    let request = of(vec![asked(UNKNOWN, None)]);
    let answer = respond(cluster.view("PLAINTEXT"), NEWEST, &request);
    assert_eq!(answer.response.topics[0].topic_id, UNKNOWN);
}

#[test]
fn a_refused_request_tells_nothing_of_the_cluster() {
    let cluster = Cluster::new();
    let request = of(vec![asked(TopicId::ZERO, None)]);
    let response = respond(cluster.view("PLAINTEXT"), NEWEST, &request).response;
    let code: i16 = ErrorCode::InvalidRequest.into();
    assert_eq!(response.error_code, code);
    assert_eq!((response.brokers.len(), response.controller_id), (0, -1));
    assert_eq!(response.cluster_id, None);
}

#[test]
fn partitions_are_as_the_listener_and_the_version_have_them() {
    const FULL: &str = "0: e0 l1 @10 [1, 2] [1, 2] []; 1: e0 l2 @11 [2, 1] [2, 1] []; \
                        2: e5 l-1 @12 [1, 9] [1, 9] [9]";
    let cases = [
        ("abc", "PLAINTEXT", 1, FULL),
        ("abc", "PLAINTEXT", NEWEST, FULL),
        // What cannot be reached is left out, with REPLICA_NOT_AVAILABLE.
        (
            "abc",
            "PLAINTEXT",
            0,
            "0: e0 l1 @10 [1, 2] [1, 2] []; 1: e0 l2 @11 [2, 1] [2, 1] []; \
             2: e5 l-1 @12 [1] [1] [9]",
        ),
        (
            "abc",
            "OTHER",
            0,
            "0: e9 l1 @10 [1] [1] [2]; 1: e5 l-1 @11 [1] [1] [2]; 2: e5 l-1 @12 [1] [1] [9]",
        ),
        // Broker 2 has no such listener: LISTENER_NOT_FOUND from version 6 on.
        (
            "abc",
            "OTHER",
            5,
            "0: e0 l1 @10 [1, 2] [1, 2] [2]; 1: e5 l-1 @11 [2, 1] [2, 1] [2]; \
             2: e5 l-1 @12 [1, 9] [1, 9] [9]",
        ),
        (
            "abc",
            "OTHER",
            6,
            "0: e0 l1 @10 [1, 2] [1, 2] [2]; 1: e72 l-1 @11 [2, 1] [2, 1] [2]; \
             2: e5 l-1 @12 [1, 9] [1, 9] [9]",
        ),
        // Broker 3 is fenced.
        ("b", "PLAINTEXT", 5, "0: e0 l1 @10 [1, 3] [1, 3] [3]"),
        ("b", "PLAINTEXT", 0, "0: e9 l1 @10 [1] [1] [3]"),
    ];
    let cluster = Cluster::new();
    for (name, listener, version, expected) in cases {
        let answer = respond(cluster.view(listener), version, &named(&[name]));
        let shown = partitions(&answer.response.topics[0]);
        assert_eq!(shown, expected, "{name} by {listener}, version {version}");
    }
}

#[test]
fn a_replica_is_offline_where_its_directory_is() {
    let id = crate::base::ids::Uuid;
    let cases = [
        (0, 77, "[]", "kept from before directories were known"),
        (1, 77, "[]", "not assigned yet"),
        (2, 77, "[1]", "lost"),
        (77, 77, "[]", "the one that works"),
        (78, 77, "[1]", "another"),
        (77, 0, "[1]", "none is left"),
    ];
    for (directory, works, expected, case) in cases {
        let mut cluster = Cluster::new();
        cluster.replay(RegisterBrokerRecord {
            log_dirs: (works > 0).then_some(id(works)).into_iter().collect(),
            ..broker(1, &["PLAINTEXT"], false)
        });
        cluster.replay(topic("t", UNKNOWN));
        let mut record = partition(UNKNOWN, 0, &[1], Some(1));
        record.directories = vec![id(directory)];
        cluster.replay(record);
        let answer = respond(cluster.view("PLAINTEXT"), NEWEST, &named(&["t"]));
        let offline = &answer.response.topics[0].partitions[0].offline_replicas;
        assert_eq!(format!("{offline:?}"), expected, "{case}");
    }
}

#[test]
fn the_brokers_are_those_that_can_be_reached_by_the_listener() {
    let cases = [
        ("PLAINTEXT", "1@plaintext-1:9001 2@plaintext-2:9002", 1),
        ("OTHER", "1@other-1:9001", 1),
        ("NONE", "", 1),
    ];
    let cluster = Cluster::new();
    for (listener, expected, controller) in cases {
        let response = respond(cluster.view(listener), NEWEST, &named(&[])).response;
        let row = |row: &MetadataResponseBroker| {
            assert_eq!(row.rack, Some(format!("r{}", row.node_id).into()));
            format!("{}@{}:{}", row.node_id, row.host, row.port)
        };
        let shown: Vec<_> = response.brokers.iter().map(row).collect();
        assert_eq!(shown.join(" "), expected, "{listener}");
        assert_eq!(response.controller_id, controller, "{listener}");
        assert_eq!(response.cluster_id.as_deref(), Some("a-cluster"));
    }
    // Broker 3 is fenced, and sends clients to one that is not.
    let cluster = Cluster::with(&[("node.id", "3")]);
    assert_eq!(cluster.view("PLAINTEXT").controller_id(), 1);
    let empty = Cluster {
        image: crate::metadata::MetadataImage::default(),
        ..cluster
    };
    assert_eq!(empty.view("PLAINTEXT").controller_id(), -1);
}

/// The topics' ids are 0xabc = 3 * 916 and 0xb = 3 * 3 + 2, so that they begin at the shards 0 and
/// 2.
#[test]
fn shards_are_advertised_as_the_brokers_that_own_the_partitions() {
    let cluster = Cluster::new();
    let view = cluster.view_of_shards("PLAINTEXT");
    let response = respond(view, NEWEST, &named(&["abc", "b"])).response;
    let brokers = response.brokers.iter().map(|row| (row.node_id, row.port));
    let each_of_both = [
        (1, 9001),
        (1001, 9002),
        (2001, 9003),
        (2, 9002),
        (1002, 9003),
        (2002, 9004),
    ];
    assert_eq!(brokers.collect::<Vec<_>>(), each_of_both);
    assert_eq!(response.controller_id, 1);
    assert_eq!(
        partitions(&response.topics[0]),
        "0: e0 l1 @10 [1, 2] [1, 2] []; 1: e0 l1002 @11 [1002, 1001] [1002, 1001] []; \
         2: e5 l-1 @12 [2001, 2009] [2001, 2009] [2009]"
    );
    let b = "0: e0 l2001 @10 [2001, 2003] [2001, 2003] [2003]";
    assert_eq!(partitions(&response.topics[1]), b);

    let response = cluster::respond(view, 0, &DescribeClusterRequest::default());
    let brokers = response.brokers.iter().map(|row| (row.broker_id, row.port));
    assert_eq!(brokers.collect::<Vec<_>>(), each_of_both);
    let request = describe(10, None, &["abc"]);
    let topic = &topic_partitions::respond(view, &request).topics[0];
    let leaders = topic.partitions.iter().map(|row| row.leader_id);
    assert_eq!(leaders.collect::<Vec<_>>(), [1, 1002, -1]);
}

#[test]
fn operations_are_told_to_who_asks() {
    let cluster = Cluster::new();
    let told = |topics: bool, of_cluster: bool| {
        let request = MetadataRequest {
            include_topic_authorized_operations: topics,
            include_cluster_authorized_operations: of_cluster,
            ..named(&["b", "nope"])
        };
        let response = respond(cluster.view("PLAINTEXT"), 10, &request).response;
        let topics = response
            .topics
            .iter()
            .map(|topic| topic.topic_authorized_operations);
        (
            topics.collect::<Vec<_>>(),
            response.cluster_authorized_operations,
        )
    };
    // The sums are those that Kafka 4.3.1 answers without an authorizer.
    assert_eq!(told(false, false), (vec![i32::MIN; 2], i32::MIN));
    assert_eq!(told(true, false), (vec![3576; 2], i32::MIN));
    assert_eq!(told(false, true), (vec![i32::MIN; 2], 8096));
}

#[test]
fn missing_topics_are_created_where_broker_and_client_want_it() {
    let names = [
        "new",
        "abc",
        "bad name",
        "__consumer_offsets",
        "__transaction_state",
        "new",
    ];
    let cases: [(&str, bool, MetadataRequest, &[&str]); 5] = [
        ("true", true, named(&names), &["new", "__transaction_state"]),
        ("true", false, named(&names), &[]),
        ("false", true, named(&names), &[]),
        ("true", true, all(), &[]),
        ("true", true, of(vec![asked(UNKNOWN, Some("new"))]), &[]),
    ];
    for (of_broker, of_client, request, expected) in cases {
        let cluster = Cluster::with(&[("auto.create.topics.enable", of_broker)]);
        let request = MetadataRequest {
            allow_auto_topic_creation: of_client,
            ..request
        };
        let answer = respond(cluster.view("PLAINTEXT"), NEWEST, &request);
        assert_eq!(
            answer.to_create, expected,
            "{of_broker} {of_client} {request:?}"
        );
    }
}

fn describe(
    limit: i32,
    cursor: Option<(&str, i32)>,
    names: &[&str],
) -> DescribeTopicPartitionsRequest {
    let topics = names.iter().map(|name| TopicRequest {
        name: (*name).into(),
    });
    DescribeTopicPartitionsRequest {
        topics: topics.collect(),
        response_partition_limit: limit,
        cursor: cursor.map(|(name, partition_index)| Cursor {
            topic_name: name.into(),
            partition_index,
        }),
    }
}

/// Name, error code and partitions of each topic, and where the next page begins.
fn page(response: &DescribeTopicPartitionsResponse) -> String {
    let mut shown = Vec::new();
    for topic in &response.topics {
        let name = topic.name.as_deref().unwrap_or("null");
        let indexes: Vec<_> = topic
            .partitions
            .iter()
            .map(|row| row.partition_index)
            .collect();
        shown.push(format!("{name}/{}{indexes:?}", topic.error_code));
    }
    if let Some(next) = &response.next_cursor {
        shown.push(format!("-> {}-{}", next.topic_name, next.partition_index));
    }
    shown.join(" ")
}

#[test]
fn topics_are_paged_through_by_name() {
    let cases = [
        (
            describe(2000, None, &[]),
            "__consumer_offsets/0[0] abc/0[0, 1, 2] b/0[0]",
        ),
        (
            describe(2, None, &[]),
            "__consumer_offsets/0[0] abc/0[0] -> abc-1",
        ),
        (describe(2, Some(("abc", 1)), &[]), "abc/0[1, 2] -> b-0"),
        (describe(2, Some(("b", 0)), &[]), "b/0[0]"),
        (describe(2, Some(("c", 0)), &[]), ""),
        // At least one partition, or nobody would get on.
        (describe(0, Some(("abc", 1)), &[]), "abc/0[1] -> abc-2"),
        (describe(-5, None, &[]), "__consumer_offsets/0[0] -> abc-0"),
        // Names are sorted, each once; what is unknown takes no room.
        (
            describe(5, None, &["b", "nope", "abc", "b", "bad name"]),
            "abc/0[0, 1, 2] b/0[0] bad name/17[] nope/3[]",
        ),
        (
            describe(3, None, &["abc", "nope"]),
            "abc/0[0, 1, 2] -> nope-0",
        ),
        // A cursor may stand where a topic no longer is, or has fewer partitions.
        (describe(5, Some(("aaa", 7)), &[]), "abc/0[0, 1, 2] b/0[0]"),
        (
            describe(5, Some(("abc", 9)), &["abc", "b"]),
            "abc/0[] b/0[0]",
        ),
        (describe(5, Some(("abc", i32::MAX)), &[]), "abc/0[] b/0[0]"),
        (
            describe(5, Some(("nope", 3)), &["nope", "zz"]),
            "nope/3[] zz/3[]",
        ),
        // But it must be one of the names, and make sense.
        (
            describe(5, Some(("aaa", 0)), &["b", "abc"]),
            "b/42[] abc/42[]",
        ),
        (describe(5, Some(("b", -1)), &["b"]), "b/42[]"),
        (describe(5, Some(("b", -1)), &[]), ""),
    ];
    let cluster = Cluster::new();
    for (request, expected) in cases {
        let response = topic_partitions::respond(cluster.view("PLAINTEXT"), &request);
        assert_eq!(page(&response), expected, "{request:?}");
        response.to_bytes(0).expect("it can be sent");
    }
}

#[test]
fn a_page_is_no_larger_than_the_broker_allows() {
    let cluster = Cluster::with(&[("max.request.partition.size.limit", "2")]);
    let request = describe(2000, None, &["abc"]);
    let response = topic_partitions::respond(cluster.view("PLAINTEXT"), &request);
    assert_eq!(page(&response), "abc/0[0, 1] -> abc-2");
}

#[test]
fn described_topics_have_their_facts() {
    let mut cluster = Cluster::new();
    cluster.replay(topic("t", UNKNOWN));
    let mut record = partition(UNKNOWN, 0, &[2, 1], Some(2));
    record.eligible_leader_replicas = Some(vec![1]);
    record.last_known_elr = Some(vec![2]);
    cluster.replay(record);
    let request = describe(9, None, &["t", "nope", "__consumer_offsets"]);
    let response = topic_partitions::respond(cluster.view("OTHER"), &request);
    let [offsets, unknown, topic] = response.topics.as_slice() else {
        panic!("three topics: {response:?}");
    };
    assert_eq!((offsets.topic_id, offsets.is_internal), (OFFSETS, true));
    assert_eq!(
        (unknown.topic_id, unknown.is_internal),
        (TopicId::ZERO, false)
    );
    assert_eq!((topic.topic_id, topic.is_internal), (UNKNOWN, false));
    assert!(
        response
            .topics
            .iter()
            .all(|topic| topic.topic_authorized_operations == 3576)
    );
    let row = &topic.partitions[0];
    // Broker 2 cannot be reached by OTHER: no leader then, and no error.
    assert_eq!(
        (row.leader_id, row.leader_epoch, row.error_code),
        (-1, 10, 0)
    );
    assert_eq!(row.offline_replicas, [2]);
    assert_eq!(
        (&row.replica_nodes, &row.isr_nodes),
        (&vec![2, 1], &vec![2, 1])
    );
    assert_eq!(row.eligible_leader_replicas, Some(vec![1]));
    assert_eq!(row.last_known_elr, Some(vec![2]));
}

#[test]
fn the_cluster_is_described() {
    let cluster = Cluster::new();
    let ask = |version: i16, listener: &'static str, request: DescribeClusterRequest| {
        let response = cluster::respond(cluster.view(listener), version, &request);
        response.to_bytes(version).expect("it can be sent");
        response
    };
    let response = ask(0, "PLAINTEXT", DescribeClusterRequest::default());
    let ids: Vec<_> = response
        .brokers
        .iter()
        .map(|row| (row.broker_id, row.port))
        .collect();
    assert_eq!(ids, [(1, 9001), (2, 9002)]);
    assert_eq!(
        (&*response.cluster_id, response.controller_id),
        ("a-cluster", 1)
    );
    assert_eq!((response.error_code, response.endpoint_type), (0, 1));
    assert_eq!(response.cluster_authorized_operations, i32::MIN);

    let request = DescribeClusterRequest {
        include_cluster_authorized_operations: true,
        include_fenced_brokers: true,
        ..DescribeClusterRequest::default()
    };
    let response = ask(2, "OTHER", request);
    let ids = response
        .brokers
        .iter()
        .map(|row| (row.broker_id, row.is_fenced, &*row.host));
    assert_eq!(
        ids.collect::<Vec<_>>(),
        [(1, false, "other-1"), (3, true, "other-3")]
    );
    assert_eq!(response.cluster_authorized_operations, 8096);

    // A controller that the client cannot reach is none.
    assert_eq!(
        ask(1, "NONE", DescribeClusterRequest::default()).controller_id,
        -1
    );
}

#[test]
fn who_asks_for_controllers_is_told_so() {
    let cluster = Cluster::new();
    let cases = [
        (
            1,
            2,
            114,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of \
             type CONTROLLER",
        ),
        (2, 7, 115, "Unsupported endpoint type 7"),
        (1, 0, 115, "Unsupported endpoint type 0"),
        (
            0,
            2,
            42,
            "The request was sent to an endpoint of type BROKER, but we wanted an \
                    endpoint of type CONTROLLER",
        ),
        (0, -3, 42, "Unsupported endpoint type -3"),
    ];
    for (version, endpoint_type, code, message) in cases {
        let request = DescribeClusterRequest {
            endpoint_type,
            ..DescribeClusterRequest::default()
        };
        let response = cluster::respond(cluster.view("PLAINTEXT"), version, &request);
        assert_eq!(
            response.error_code, code,
            "{endpoint_type} in version {version}"
        );
        assert_eq!(response.error_message.as_deref(), Some(message));
        assert_eq!((response.brokers.len(), response.controller_id), (0, -1));
        response.to_bytes(version).expect("it can be sent");
    }
}
