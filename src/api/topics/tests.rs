//! Responses as a Kafka 4.3.1 broker gives them, in every version.

use std::cell::RefCell;
use std::time::Duration;

use crate::runtime::Timer;

use super::*;
use crate::api::fixtures::broker;
use crate::api::metadata::fixtures::Cluster;
use crate::config::{Layers, Values};
use crate::controller::{Call, Unavailable};
use crate::metadata::topic_name;
use crate::protocol::api::ApiKey;
use crate::protocol::frame;
use crate::protocol::wire::Message;
use crate::storage::directory::LogDirectory;

fn config() -> BrokerConfig {
    let set = [("log.retention.hours", "2"), ("min.insync.replicas", "1")];
    let values = set.map(|(key, value)| (key.to_owned(), value.to_owned()));
    BrokerConfig::new(Layers::of_start(values.into())).expect("valid settings")
}

fn created() -> CreatedTopic {
    let configs = [
        ("retention.ms", " 1000 "),
        ("cleanup.policy", "compact , delete"),
    ];
    CreatedTopic {
        topic_id: TopicId(7),
        partitions_count: 3,
        replication_factor: 1,
        configs: Values::from(configs.map(|(key, value)| (key.to_owned(), value.to_owned()))),
    }
}

#[test]
fn a_new_topic_is_shown_with_every_setting_and_its_source() {
    let shown = effective_configs(&config(), &created());
    let names: Vec<_> = shown.iter().map(|entry| entry.name.to_string()).collect();
    assert!(names.is_sorted());
    // Kafka's 33, and one of our own.
    assert_eq!(names.len(), 34);
    assert!(names.iter().any(|name| name == "millrace.flush"));
    let entry = |name: &str| {
        let found = shown.iter().find(|entry| *entry.name == *name);
        let entry = found.expect("every setting is there");
        assert!(!entry.read_only && !entry.is_sensitive);
        (
            entry.value.as_deref().expect("a value").to_owned(),
            entry.config_source,
        )
    };
    let expected = |value: &str, source| (value.to_owned(), source);
    // As they were written, not as they are read.
    assert_eq!(entry("retention.ms"), expected(" 1000 ", 1));
    assert_eq!(entry("cleanup.policy"), expected("compact , delete", 1));
    assert_eq!(entry("segment.bytes"), expected("1073741824", 5));
    assert_eq!(entry("min.insync.replicas"), expected("1", 4));
    assert_eq!(entry("flush.ms"), expected("9223372036854775807", 5));
}

fn results() -> Vec<CreateTopicResult> {
    let name = topic_name::validate("").expect_err("no name");
    vec![
        ("new".into(), Ok(created())),
        ("".into(), Err(TopicError::InvalidName(name))),
    ]
}

#[test]
fn a_creation_is_answered_in_every_version() {
    let config = config();
    for version in CreateTopicsRequest::VERSIONS {
        let show = |result| creatable_result(&config, version, result);
        let response = CreateTopicsResponse {
            topics: results().into_iter().map(show).collect(),
            ..CreateTopicsResponse::default()
        };
        let [new, refused] = &response.topics[..] else {
            panic!("two answers");
        };
        assert_eq!((new.error_code, &new.error_message), (0, &None));
        let shown = new.configs.as_ref().map_or(0, Vec::len);
        assert_eq!(shown > 0, version >= 5, "version {version}");
        assert_eq!(refused.error_code, ErrorCode::InvalidTopicException.code());
        let text = "Topic name is invalid: the empty string is not allowed";
        assert_eq!(refused.error_message.as_deref(), Some(text));
        // What Kafka shows of a topic that there is not.
        assert_eq!(
            (refused.num_partitions, refused.replication_factor),
            (-1, -1)
        );
        assert_eq!(refused.configs.as_ref().map(Vec::len), Some(0));
        assert_eq!(refused.topic_id, TopicId::ZERO);
        frame::reply(ApiKey::CreateTopics, version, 1, &response).expect("it fits its version");
    }
}

#[test]
fn every_refusal_has_the_code_that_kafka_gives_it() {
    let name = || ByteString::from_static("t");
    let invalid_name = topic_name::validate("a b").expect_err("a space");
    let unknown = crate::config::TopicConfig::check_override("nope", "1").expect_err("unknown");
    let cases = [
        (TopicError::InvalidName(invalid_name), 17),
        (
            TopicError::CollidingName {
                name: name(),
                existing: name(),
            },
            17,
        ),
        (TopicError::AlreadyExists { name: name() }, 36),
        (TopicError::UnknownTopic, 3),
        (TopicError::UnknownTopicId, 100),
        (
            TopicError::NullConfigs {
                keys: String::new(),
            },
            40,
        ),
        (TopicError::InvalidConfig(unknown), 40),
        (TopicError::InvalidPartitions(String::new()), 37),
        (TopicError::InvalidReplicationFactor(String::new()), 38),
        (TopicError::InvalidReplicaAssignment(String::new()), 39),
        (TopicError::InvalidRequest(""), 42),
        (TopicError::PolicyViolation(""), 44),
    ];
    for (error, code) in cases {
        assert_eq!(topic_error(&error).code(), code, "{error:?}");
    }
    assert_eq!(unavailable(Unavailable::NoRoom).code(), 56);
    assert_eq!(unavailable(Unavailable::Busy).code(), 7);
    assert_eq!(unavailable(Unavailable::Stopped).code(), 7);
}

#[test]
fn a_deletion_is_answered_in_every_version() {
    let deleted = |name: Option<&str>, result| DeletedTopic {
        name: name.map(Into::into),
        topic_id: TopicId(3),
        result,
    };
    for version in DeleteTopicsRequest::VERSIONS {
        let mut results = vec![
            deleted(Some("gone"), Ok(())),
            deleted(Some("nope"), Err(TopicError::UnknownTopic)),
        ];
        if version >= 6 {
            results.push(deleted(None, Err(TopicError::UnknownTopicId)));
        }
        let response = DeleteTopicsResponse {
            responses: results.into_iter().map(deletable_result).collect(),
            ..DeleteTopicsResponse::default()
        };
        let gone = &response.responses[0];
        assert_eq!((gone.error_code, &gone.error_message), (0, &None));
        let nope = &response.responses[1];
        let text = "This server does not host this topic-partition.";
        assert_eq!(
            (nope.error_code, nope.error_message.as_deref()),
            (3, Some(text))
        );
        frame::reply(ApiKey::DeleteTopics, version, 1, &response).expect("it fits its version");
    }
}

#[test]
fn more_partitions_are_answered_in_every_version() {
    let invalid = TopicError::InvalidPartitions("Topic already has 3 partition(s).".to_owned());
    let results = [
        ("more".into(), Ok(())),
        ("nope".into(), Err(TopicError::UnknownTopic)),
        ("same".into(), Err(invalid)),
    ];
    let response = CreatePartitionsResponse {
        results: results.into_iter().map(partitions_result).collect(),
        ..CreatePartitionsResponse::default()
    };
    let answers = response.results.iter().map(|result| {
        let text = result.error_message.as_deref();
        (&*result.name, result.error_code, text)
    });
    let expected = [
        ("more", 0, None),
        ("nope", 3, None),
        ("same", 37, Some("Topic already has 3 partition(s).")),
    ];
    assert_eq!(answers.collect::<Vec<_>>(), expected);
    for version in CreatePartitionsRequest::VERSIONS {
        frame::reply(ApiKey::CreatePartitions, version, 1, &response).expect("it fits");
    }
}

#[test]
fn what_is_internal_or_no_name_is_not_created_on_demand() {
    for name in ["t", "a.b", "__own", "__consumer_offsets"] {
        assert!(may_be_created(name), "{name}");
    }
    for name in [
        "",
        "a b",
        "__share_group_state",
        "__transaction_state",
        "__cluster_metadata",
    ] {
        assert!(!may_be_created(name), "{name}");
    }
}

#[test]
fn one_creation_of_the_topic_of_groups_serves_all_who_wait_for_it() {
    const ASKING: usize = 5;
    let home = tempfile::tempdir().expect("a directory");
    let directory = LogDirectory::new(home.path().to_owned(), false);
    let body = async move {
        let (broker, controller) = broker(&Cluster::new(), directory);
        let calls: Rc<RefCell<Vec<Call>>> = Rc::default();
        let taken = Rc::clone(&calls);
        let taking = controller.run(move |_, call| taken.borrow_mut().push(call));
        let _taking = crate::runtime::spawn_local(taking);
        // Also once it has failed: nobody waits for a creation that has ended.
        for _ in 0..2 {
            let asking: Vec<_> = (0..ASKING)
                .map(|_| {
                    let broker = Rc::clone(&broker);
                    crate::runtime::spawn_local(async move { create_group_metadata(&broker).await })
                })
                .collect();
            create_behind(&broker, &[topic_name::GROUP_METADATA.into()]);
            while calls.borrow().is_empty() {
                Timer::new(Duration::from_millis(1)).await;
            }
            assert_eq!(broker.waiting_for_group_metadata.borrow().len(), ASKING);
            let mut calls = calls.take();
            let Some(Call::CreateTopics(request, answer)) = calls.pop() else {
                panic!("{calls:?}");
            };
            assert_eq!(&*request.topics[0].name, topic_name::GROUP_METADATA);
            assert_eq!((request.topics.len(), calls.len()), (1, 0));
            assert!(answer.send(Err(Unavailable::Busy)).is_ok());
            for one in asking {
                one.await;
            }
        }
        assert!(calls.borrow().is_empty());
    };
    crate::runtime::block_on(body);
}
