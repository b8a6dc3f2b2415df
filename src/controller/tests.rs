//! The planners against what a Kafka 4.3.1 controller answered to the same requests.

use super::brokers::{BrokerRegistration, assign_directories, register_broker};
use super::error::TopicError;
use super::fixtures::{
    config, creatable, creation, ids, registration, replayed, with_broker, with_topics,
};
use super::partitions::create_partitions;
use super::producer_ids::{ProducerIdsExhausted, allocate_producer_ids};
use super::topics::{CreatedTopic, create_topics, delete_topics};
use crate::base::ids::{
    LeaderEpoch, NodeId, PartitionIndex, ProducerId, TopicId, TopicIdPartition, Uuid,
};
use crate::metadata::{MetadataImage, MetadataRecord};
use crate::protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use crate::protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use crate::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use crate::protocol::messages::producer_ids_record::ProducerIdsRecord;

fn assigned(mut topic: CreatableTopic, assignments: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = assignments.iter().map(|(partition_index, brokers)| {
        let partition_index = *partition_index;
        CreatableReplicaAssignment {
            partition_index,
            broker_ids: brokers.to_vec(),
        }
    });
    topic.assignments = assignments.collect();
    topic
}

fn configured(mut topic: CreatableTopic, configs: &[(&str, Option<&str>)]) -> CreatableTopic {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).into(),
        value: value.map(Into::into),
    });
    topic.configs = configs.collect();
    topic
}

fn create_one(image: &MetadataImage, topic: CreatableTopic) -> Result<CreatedTopic, TopicError> {
    let request = creation(vec![topic]);
    let mut plan = create_topics(image, &config(&[]), &request, &mut ids());
    assert_eq!(plan.reply.len(), 1);
    assert_eq!(plan.records.is_empty(), plan.reply[0].1.is_err());
    plan.reply.remove(0).1
}

/// The name of the error's variant and its text.
fn words(error: &TopicError) -> (String, String) {
    let debug = format!("{error:?}");
    let end = debug.find(['(', ' ']).unwrap_or(debug.len());
    (debug[..end].to_owned(), error.to_string())
}

/// Asserts that `topic` is refused beside a topic `co.ll`, as what and with which words.
fn assert_refused(topic: CreatableTopic, variant: &str, text: &str) {
    let image = with_topics(&[("co.ll", 1)]);
    let asked = format!("{topic:?}");
    let error = create_one(&image, topic).expect_err(&asked);
    let expected = (variant.to_owned(), text.to_owned());
    assert_eq!(words(&error), expected, "{asked}");
}

#[test]
fn a_name_that_cannot_be_is_refused() {
    let cases = [
        (
            "",
            "InvalidName",
            "Topic name is invalid: the empty string is not allowed",
        ),
        (
            "..",
            "InvalidName",
            "Topic name is invalid: '..' is not allowed",
        ),
        (
            "co_ll",
            "CollidingName",
            "Topic 'co_ll' collides with existing topic: co.ll",
        ),
        ("co.ll", "AlreadyExists", "Topic 'co.ll' already exists."),
    ];
    for (name, variant, text) in cases {
        // What else is wrong is not looked at.
        let topic = configured(creatable(name, 0, 9), &[("nope", Some("1"))]);
        assert_refused(topic, variant, text);
    }
}

#[test]
fn counts_that_cannot_be_are_refused() {
    let partitions = "Number of partitions was set to an invalid non-positive value.";
    let replicas = "Replication factor must be larger than 0, or -1 to use the default value.";
    let brokers = "Unable to replicate the partition 2 time(s): The target replication factor of 2 \
                   cannot be reached because only 1 broker(s) are registered or some brokers have \
                   all their log directories cordoned.";
    let total = "Excessively large number of partitions per request.";
    let records = "Unable to perform excessively large batch operation.";
    let cases = [
        (0, 1, "InvalidPartitions", partitions),
        (-2, 1, "InvalidPartitions", partitions),
        (1, 0, "InvalidReplicationFactor", replicas),
        (1, -2, "InvalidReplicationFactor", replicas),
        (0, 0, "InvalidReplicationFactor", replicas),
        (1, 2, "InvalidReplicationFactor", brokers),
        (10_001, 1, "PolicyViolation", total),
        (10_000, 1, "PolicyViolation", records),
    ];
    for (count, factor, variant, text) in cases {
        assert_refused(creatable("new", count, factor), variant, text);
    }
}

#[test]
fn assignments_that_cannot_be_are_refused() {
    let with = |assignments: &[(i32, &[i32])]| assigned(creatable("new", -1, -1), assignments);
    let manual = "A manual partition assignment was specified, but";
    let includes = "The manual partition assignment includes";
    let refuse = |topic, text: &str| assert_refused(topic, "InvalidReplicaAssignment", text);

    let topic = assigned(creatable("new", -1, 1), &[(0, &[1])]);
    let text = format!("{manual} replication factor was not set to -1.");
    assert_refused(topic, "InvalidRequest", &text);
    let topic = assigned(creatable("new", 1, -1), &[(0, &[1])]);
    let text = format!("{manual} numPartitions was not set to -1.");
    assert_refused(topic, "InvalidRequest", &text);
    refuse(
        with(&[(0, &[1]), (0, &[1])]),
        "Found multiple manual partition assignments for partition 0",
    );
    refuse(
        with(&[(0, &[7])]),
        &format!("{includes} broker 7, but no such broker is registered."),
    );
    refuse(
        with(&[(0, &[])]),
        &format!("{includes} an empty replica list."),
    );
    let once = format!("{includes} the broker 1 more than once.");
    refuse(with(&[(0, &[1, 1])]), &once);
    refuse(with(&[(0, &[1]), (1, &[1, 1])]), &once);
    let gap = "partitions should be a consecutive 0-based integer sequence";
    refuse(with(&[(0, &[1]), (2, &[1])]), gap);
    refuse(with(&[(-1, &[1])]), gap);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let unknown = "Unknown topic config name: nope";
    type Configs = &'static [(&'static str, Option<&'static str>)];
    let cases: [(Configs, &str, &str); 4] = [
        (
            &[("retention.ms", None), ("x", None)],
            "NullConfigs",
            "Null value not supported for topic configs: retention.ms,x",
        ),
        (&[("nope", Some("1"))], "InvalidConfig", unknown),
        (
            &[("retention.ms", Some("abc"))],
            "InvalidConfig",
            "Invalid value abc for configuration retention.ms: Not a number of type LONG",
        ),
        (
            &[("segment.bytes", Some("1"))],
            "InvalidConfig",
            "Invalid value 1 for configuration segment.bytes: Value must be at least 1048576",
        ),
    ];
    for (configs, variant, text) in cases {
        assert_refused(configured(creatable("new", 1, 1), configs), variant, text);
    }
    // Settings are looked at before counts.
    let topic = configured(creatable("new", 1, 3), &[("nope", Some("1"))]);
    assert_refused(topic, "InvalidConfig", unknown);
}

#[test]
fn a_topic_has_what_was_asked_for_or_the_brokers_defaults_and_no_default_is_stored() {
    let image = with_broker();
    let config = config(&[("num.partitions", "3"), ("log.retention.ms", "5")]);
    let given = configured(
        creatable("given", 2, 1),
        &[
            ("retention.ms", Some(" 1000 ")),
            ("cleanup.policy", Some("compact,delete")),
        ],
    );
    let request = creation(vec![
        creatable("defaults", -1, -1),
        given,
        assigned(creatable("assigned", -1, -1), &[(1, &[1]), (0, &[1])]),
    ]);
    let plan = create_topics(&image, &config, &request, &mut ids());
    let shapes = plan.reply.iter().map(|(name, result)| {
        let created = result.as_ref().expect("created");
        (
            &**name,
            created.partitions_count,
            created.replication_factor,
        )
    });
    let expected = [("defaults", 3, 1), ("given", 2, 1), ("assigned", 2, 1)];
    assert_eq!(shapes.collect::<Vec<_>>(), expected);
    // Kafka's order: the topic, its settings, its partitions.
    let names: Vec<_> = plan.records.iter().map(MetadataRecord::name).collect();
    let (topic, config, partition) = ("TopicRecord", "ConfigRecord", "PartitionRecord");
    #[rustfmt::skip]
    assert_eq!(names, [
        topic, partition, partition, partition,
        topic, config, config, partition, partition,
        topic, partition, partition,
    ]);
    let image = replayed(&image, &plan.records);
    assert!(image.topic_config(&"defaults".into()).is_none());
    let stored = image.topic_config(&"given".into()).expect("two settings");
    assert_eq!(stored["retention.ms"], " 1000 ", "as it was written");
    let partition = &image.topic_named("given").expect("created").partitions[1];
    assert_eq!(partition.leader, Some(NodeId(1)));
    assert_eq!(partition.isr, [NodeId(1)]);
    assert_eq!(
        partition.directories,
        [Uuid(5)],
        "the broker's only directory"
    );
    assert_eq!(partition.leader_epoch, LeaderEpoch(0));
}

#[test]
fn every_name_is_answered_once_and_asking_changes_nothing() {
    let image = with_broker();
    let mut request = creation(vec![
        creatable("dup", 1, 1),
        creatable("__cluster_metadata", 1, 1),
        creatable("dup", 2, 1),
        creatable("fine", 1, 1),
        creatable("dup", 3, 1),
    ]);
    let plan = create_topics(&image, &config(&[]), &request, &mut ids());
    let answers: Vec<_> = plan
        .reply
        .iter()
        .map(|(name, result)| (&**name, result.as_ref().err().map(ToString::to_string)))
        .collect();
    let prohibited = "Creation of internal topic __cluster_metadata is prohibited.".to_owned();
    let expected = [
        ("fine", None),
        ("dup", Some("Duplicate topic name.".to_owned())),
        ("__cluster_metadata", Some(prohibited)),
    ];
    assert_eq!(answers, expected);
    assert_eq!(plan.records.len(), 2);

    request.validate_only = true;
    let asked = create_topics(&image, &config(&[]), &request, &mut ids());
    assert_eq!(asked.reply, plan.reply);
    assert!(asked.records.is_empty());
}

#[test]
fn a_request_for_too_much_is_refused_as_a_whole() {
    let image = with_broker();
    let request = creation(vec![creatable("a", 5000, 1), creatable("b", 5000, 1)]);
    let plan = create_topics(&image, &config(&[]), &request, &mut ids());
    assert!(plan.records.is_empty());
    for (name, result) in plan.reply {
        let error = result.expect_err(&name);
        assert!(matches!(error, TopicError::PolicyViolation(_)), "{error:?}");
    }
    let request = creation(vec![creatable("a", 5000, 1), creatable("b", 4998, 1)]);
    let plan = create_topics(&image, &config(&[]), &request, &mut ids());
    assert_eq!(plan.records.len(), 10_000);
}

#[test]
fn no_topic_is_made_where_no_broker_is() {
    let error = create_one(&MetadataImage::default(), creatable("t", 1, 1)).expect_err("no broker");
    assert_eq!(words(&error).0, "InvalidReplicationFactor");
}

fn by_name(name: &str) -> DeleteTopicState {
    DeleteTopicState {
        name: Some(name.into()),
        ..DeleteTopicState::default()
    }
}

fn by_id(topic_id: TopicId) -> DeleteTopicState {
    DeleteTopicState {
        topic_id,
        ..DeleteTopicState::default()
    }
}

#[test]
fn topics_are_deleted_by_name_or_id_and_what_is_unclear_is_refused() {
    let image = with_topics(&[("a", 1), ("b", 2), ("c", 1), ("d", 1), ("e", 1)]);
    let id = |name: &str| image.topic_id(name).expect("it exists");
    let both = DeleteTopicState {
        topic_id: id("a"),
        ..by_name("a")
    };
    let request = DeleteTopicsRequest {
        topics: vec![
            by_id(TopicId::ZERO),
            both,
            by_id(TopicId(9)),
            by_name("b"),
            by_name("b"),
            by_name("nope"),
            by_id(id("c")),
            by_name("c"),
            by_id(id("d")),
        ],
        topic_names: vec!["e".into()],
        ..DeleteTopicsRequest::default()
    };
    let plan = delete_topics(&image, &request);
    let mut answers: Vec<_> = plan
        .reply
        .iter()
        .map(|deleted| {
            let name = deleted.name.as_deref().unwrap_or("-").to_owned();
            let error = deleted.result.as_ref().err();
            (name, deleted.topic_id, error.map(ToString::to_string))
        })
        .collect();
    answers.sort();
    let text = |text: &str| Some(text.to_owned());
    let mapped = "The provided topic name maps to an ID that was already supplied.";
    let mut expected = [
        (
            "-",
            TopicId::ZERO,
            text("Neither topic name nor id were specified."),
        ),
        (
            "-",
            TopicId(9),
            text("This server does not host this topic ID."),
        ),
        (
            "a",
            id("a"),
            text("You may not specify both topic name and topic id."),
        ),
        ("b", TopicId::ZERO, text("Duplicate topic name.")),
        ("c", id("c"), text(mapped)),
        ("d", id("d"), None),
        ("e", id("e"), None),
        (
            "nope",
            TopicId::ZERO,
            text("This server does not host this topic-partition."),
        ),
    ]
    .map(|(name, id, error)| (name.to_owned(), id, error));
    expected.sort();
    assert_eq!(answers, expected);
    let left = replayed(&image, &plan.records);
    let names: Vec<_> = left.topics().map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn a_topic_created_again_has_another_id() {
    let image = with_topics(&[("t", 1)]);
    let request = DeleteTopicsRequest {
        topics: vec![by_name("t")],
        ..DeleteTopicsRequest::default()
    };
    let without = replayed(&image, &delete_topics(&image, &request).records);
    let again = creation(vec![creatable("t", 1, 1)]);
    let plan = create_topics(&without, &config(&[]), &again, &mut TopicId::random);
    let with = replayed(&without, &plan.records);
    assert_ne!(with.topic_id("t"), image.topic_id("t"));
    assert_ne!(with.topic_id("t"), Some(TopicId::ZERO));
}

fn growth(name: &str, count: i32, assignments: Option<&[&[i32]]>) -> CreatePartitionsTopic {
    let assignments = assignments.map(|assignments| {
        let assignment = |brokers: &&[i32]| CreatePartitionsAssignment {
            broker_ids: brokers.to_vec(),
        };
        assignments.iter().map(assignment).collect()
    });
    CreatePartitionsTopic {
        name: name.into(),
        count,
        assignments,
    }
}

fn grow(image: &MetadataImage, topic: CreatePartitionsTopic) -> Result<usize, String> {
    let mut request = CreatePartitionsRequest {
        topics: vec![topic],
        ..CreatePartitionsRequest::default()
    };
    let plan = create_partitions(image, &request);
    request.validate_only = true;
    let asked = create_partitions(image, &request);
    assert!(asked.records.is_empty() && asked.reply == plan.reply);
    let grown = replayed(image, &plan.records);
    let count = grown
        .topic_named("t")
        .map_or(0, |topic| topic.partitions.len());
    let result = plan.reply[0].1.as_ref();
    assert_eq!(result.is_err(), plan.records.is_empty());
    result.map(|()| count).map_err(ToString::to_string)
}

#[test]
fn a_topic_grows_or_says_why_not() {
    let image = with_topics(&[("t", 3)]);
    assert_eq!(grow(&image, growth("t", 5, None)), Ok(5));
    assert_eq!(grow(&image, growth("t", 4, Some(&[&[1]]))), Ok(4));
    assert_eq!(grow(&image, growth("t", 10_003, None)), Ok(10_003));

    let refuse = |topic, text: &str| assert_eq!(grow(&image, topic), Err(text.to_owned()));
    refuse(
        growth("nope", 5, None),
        "This server does not host this topic-partition.",
    );
    refuse(growth("t", 3, None), "Topic already has 3 partition(s).");
    for count in [2, 0, -1] {
        let text =
            format!("The topic t currently has 3 partition(s); {count} would not be an increase.");
        refuse(growth("t", count, None), &text);
    }
    for count in [10_004, i32::MAX] {
        let text = "Unable to perform excessively large batch operation.";
        refuse(growth("t", count, None), text);
    }
    refuse(
        growth("t", 5, Some(&[&[1]])),
        "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
    );
    refuse(
        growth("t", 4, Some(&[])),
        "Attempted to add 1 additional partition(s), but only 0 assignment(s) were specified.",
    );
    refuse(
        growth("t", 4, Some(&[&[9]])),
        "The manual partition assignment includes broker 9, but no such broker is registered.",
    );
    refuse(
        growth("t", 4, Some(&[&[]])),
        "The manual partition assignment includes an empty replica list.",
    );
}

#[test]
fn new_partitions_are_led_and_a_name_that_comes_twice_is_refused() {
    let image = with_topics(&[("t", 3)]);
    let mut request = CreatePartitionsRequest {
        topics: vec![growth("t", 4, None)],
        ..CreatePartitionsRequest::default()
    };
    let plan = create_partitions(&image, &request);
    let grown = replayed(&image, &plan.records);
    let topic = grown.topic_named("t").expect("it grew");
    let partition = topic.partition(PartitionIndex(3)).expect("the new one");
    assert_eq!(partition.leader, Some(NodeId(1)));

    request.topics.push(growth("t", 5, None));
    let plan = create_partitions(&image, &request);
    let duplicate = TopicError::InvalidRequest("Duplicate topic name.");
    assert_eq!(plan.reply, [("t".into(), Err(duplicate))]);
    assert!(plan.records.is_empty());
}

#[test]
fn the_topic_of_groups_never_grows() {
    let name = "__consumer_offsets";
    let image = with_topics(&[(name, 3), ("t", 3)]);
    for count in [3, 4, 60] {
        let request = CreatePartitionsRequest {
            topics: vec![growth(name, count, None), growth("t", 4, None)],
            ..CreatePartitionsRequest::default()
        };
        let plan = create_partitions(&image, &request);
        let (refused, reason) = (&plan.reply[0].0, &plan.reply[0].1);
        assert_eq!(&**refused, name);
        assert!(
            matches!(reason, Err(TopicError::InvalidPartitions(text)) if text.contains("group")),
            "{reason:?}"
        );
        assert_eq!(plan.reply[1], ("t".into(), Ok(())));
        let grown = replayed(&image, &plan.records);
        let count_of = |name| grown.topic_named(name).map(|it| it.partitions.len());
        assert_eq!((count_of(name), count_of("t")), (Some(3), Some(4)));
    }
}

#[test]
fn producer_ids_are_given_out_once() {
    let mut image = with_broker();
    for first in [0, 1000, 2000] {
        let plan = allocate_producer_ids(&image, NodeId(1));
        let block = plan.reply.expect("plenty are left");
        assert_eq!((block.first, block.count), (ProducerId(first), 1000));
        image = replayed(&image, &plan.records);
    }
    let last = ProducerIdsRecord {
        next_producer_id: i64::MAX - 999,
        ..ProducerIdsRecord::default()
    };
    let image = replayed(&image, &[last.into()]);
    let plan = allocate_producer_ids(&image, NodeId(1));
    assert_eq!(plan.reply, Err(ProducerIdsExhausted));
    assert!(plan.records.is_empty());
}

#[test]
fn a_broker_registers_with_features_once_and_a_new_epoch_each_time() {
    let (empty, config) = (MetadataImage::default(), config(&[]));
    let plan = register_broker(&empty, &config, &registration(true));
    let names: Vec<_> = plan.records.iter().map(MetadataRecord::name).collect();
    assert_eq!(names, ["FeatureLevelRecord", "RegisterBrokerRecord"]);
    let image = replayed(&empty, &plan.records);
    let broker = image.broker(NodeId(1)).expect("registered");
    assert_eq!((broker.epoch, broker.is_active()), (1, true));
    assert_eq!(broker.rack.as_deref(), Some("r1"));
    assert_eq!(image.feature("metadata.version"), Some(30));

    let again = register_broker(&image, &config, &registration(true));
    assert_eq!(again.reply, image.next_offset().0);
    assert_eq!(again.records.len(), 1);
}

#[test]
fn after_an_unclean_stop_what_was_shown_before_it_was_durable_has_a_new_leader_epoch() {
    let image = with_topics(&[("durable", 2)]);
    let exposed = configured(
        creatable("exposed", 2, 1),
        &[("millrace.flush", Some("never"))],
    );
    let request = creation(vec![exposed]);
    let new_id = &mut || TopicId(900);
    let image = replayed(
        &image,
        &create_topics(&image, &config(&[]), &request, new_id).records,
    );
    // What the broker's default is, whether it stopped cleanly, and the epochs afterwards.
    let cases = [
        ("acks", true, 0, 0),
        ("acks", false, 0, 1),
        ("never", false, 1, 1),
        ("never", true, 0, 0),
    ];
    for (flush, was_clean, durable, exposed) in cases {
        let config = config(&[("millrace.flush", flush)]);
        let plan = register_broker(&image, &config, &registration(was_clean));
        let after = replayed(&image, &plan.records);
        for (name, epoch) in [("durable", durable), ("exposed", exposed)] {
            let topic = after.topic_named(name).expect("it exists");
            for partition in &topic.partitions {
                assert_eq!(partition.leader_epoch, LeaderEpoch(epoch), "{flush} {name}");
                assert_eq!(partition.leader, Some(NodeId(1)));
                assert_eq!(partition.isr, [NodeId(1)]);
            }
        }
    }
}

/// An image after broker 1 has registered with these log directories.
fn with_directories(image: &MetadataImage, ids: &[u128]) -> MetadataImage {
    let registration = BrokerRegistration {
        log_directories: ids.iter().copied().map(Uuid).collect(),
        ..registration(true)
    };
    let plan = register_broker(image, &config(&[]), &registration);
    replayed(image, &plan.records)
}

#[test]
fn new_partitions_go_to_the_directory_that_works_and_has_the_fewest() {
    let placed = |image: &MetadataImage, topic: &str| {
        let topic = image.topic_named(topic).expect("it was created").clone();
        let directories = topic.iter().flat_map(|(_, it)| it.directories.clone());
        directories.map(|id| id.0).collect::<Vec<_>>()
    };
    let image = with_directories(&MetadataImage::default(), &[7, 5, 6]);
    let mut new_id = ids();
    let mut created = |image: &MetadataImage, topics| {
        let plan = create_topics(image, &config(&[]), &creation(topics), &mut new_id);
        replayed(image, &plan.records)
    };
    let image = created(&image, vec![creatable("a", 4, 1), creatable("b", 1, 1)]);
    assert_eq!(placed(&image, "a"), [7, 5, 6, 7]);
    assert_eq!(placed(&image, "b"), [5]);
    // One has failed.
    let image = with_directories(&image, &[7, 6]);
    let image = created(&image, vec![creatable("t", 3, 1)]);
    assert_eq!(placed(&image, "t"), [6, 7, 6]);
    // It is back, and has fewer than the others.
    let image = with_directories(&image, &[5, 6, 7]);
    let request = CreatePartitionsRequest {
        topics: vec![growth("t", 5, None)],
        ..CreatePartitionsRequest::default()
    };
    let image = replayed(&image, &create_partitions(&image, &request).records);
    assert_eq!(placed(&image, "t"), [6, 7, 6, 5, 5]);
}

#[test]
fn a_replica_that_was_moved_is_where_it_was_found() {
    let image = with_directories(&MetadataImage::default(), &[7, 5]);
    let plan = create_topics(
        &image,
        &config(&[]),
        &creation(vec![creatable("t", 2, 1)]),
        &mut ids(),
    );
    let image = replayed(&image, &plan.records);
    let topic = image.topic_named("t").expect("it was created");
    let id = |index| topic.topic_id_partition(PartitionIndex(index));
    let unknown = TopicIdPartition {
        topic_id: TopicId(999),
        partition: PartitionIndex(0),
    };
    let found = [(id(0), Uuid(5)), (id(1), Uuid(5)), (unknown, Uuid(5))];
    let plan = assign_directories(&image, NodeId(1), &found);
    assert_eq!(plan.records.len(), 1, "{:?}", plan.records);
    let moved = replayed(&image, &plan.records);
    let (before, after) = (image.partition(id(0)), moved.partition(id(0)));
    let (before, after) = (before.expect("there"), after.expect("there"));
    assert_eq!(before.directories, [Uuid(7)]);
    assert_eq!(after.directories, [Uuid(5)]);
    assert_eq!(after.leader, before.leader);
    assert_eq!(after.leader_epoch, before.leader_epoch);
    assert_eq!(moved.partition(id(1)), image.partition(id(1)));
    let again = assign_directories(&moved, NodeId(1), &found);
    assert!(again.records.is_empty(), "{:?}", again.records);
    let others = assign_directories(&image, NodeId(2), &found);
    assert!(others.records.is_empty(), "{:?}", others.records);
}
