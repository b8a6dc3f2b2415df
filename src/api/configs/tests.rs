//! What is answered for which resource, in the codes and words of a run of Kafka 4.3.1. Tests only;
//! that every row is Kafka's is held in the room `config`.

use super::*;
use crate::api::metadata::fixtures::Cluster;
use crate::protocol::messages::describe_configs_response::DescribeConfigsResponse;
use crate::protocol::wire::Message;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;

fn resource(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
    }
}

fn asking(resources: Vec<DescribeConfigsResource>) -> DescribeConfigsRequest {
    DescribeConfigsRequest {
        resources,
        include_synonyms: true,
        include_documentation: true,
    }
}

fn ask(cluster: &Cluster, request: &DescribeConfigsRequest) -> Vec<DescribeConfigsResult> {
    ask_one_of(AdvertisedShards::TOGETHER, cluster, request)
}

fn ask_one_of(
    advertised: AdvertisedShards,
    cluster: &Cluster,
    request: &DescribeConfigsRequest,
) -> Vec<DescribeConfigsResult> {
    let (image, config) = (&cluster.image, &cluster.config);
    let response = DescribeConfigsResponse {
        results: results(image, config, advertised, LevelFilter::INFO, request).collect(),
        ..DescribeConfigsResponse::default()
    };
    for version in 1..=4 {
        response.to_bytes(version).expect("it can be sent");
    }
    response.results
}

/// `name=value source`, with `!` behind what is read-only, and the synonyms in brackets.
fn row(row: &DescribeConfigsResourceResult) -> String {
    let value = |value: &Option<ByteString>| value.as_deref().unwrap_or("null").to_owned();
    let synonym = |synonym: &DescribeConfigsSynonym| {
        format!(
            "{}={} {}",
            synonym.name,
            value(&synonym.value),
            synonym.source
        )
    };
    let synonyms: Vec<_> = row.synonyms.iter().map(synonym).collect();
    let fixed = if row.read_only { "!" } else { "" };
    format!(
        "{}={} {}{fixed} [{}]",
        row.name,
        value(&row.value),
        row.config_source,
        synonyms.join(", ")
    )
}

/// A resource, and the code and message that it gets.
type Wrong = (i8, &'static str, i16, &'static str);

const WRONG_TOPICS: [Wrong; 3] = [
    (TOPIC, "nope", 3, ""),
    (
        TOPIC,
        "",
        17,
        "Topic name is invalid: the empty string is not allowed",
    ),
    (
        TOPIC,
        "bad name",
        17,
        "Topic name is invalid: 'bad name' contains one or more characters other than ASCII \
         alphanumerics, '.', '_' and '-'",
    ),
];

const WRONG_BROKERS: [Wrong; 6] = [
    (
        BROKER,
        "7",
        42,
        "Unexpected broker id, expected 1 or empty string, but received 7",
    ),
    (
        BROKER,
        "x",
        42,
        "Broker id must be an integer, but it is: x",
    ),
    (
        BROKER,
        " 1",
        42,
        "Broker id must be an integer, but it is:  1",
    ),
    (LOGGER, "", 42, "Broker id must not be empty"),
    (
        LOGGER,
        "7",
        42,
        "Unexpected broker id, expected 1 but received 7",
    ),
    (
        LOGGER,
        "x",
        42,
        "Broker id must be an integer, but it is: x",
    ),
];

const WRONG_TYPES: [Wrong; 6] = [
    (16, "sub", 42, "Unsupported resource type: CLIENT_METRICS"),
    (32, "group", 42, "Unsupported resource type: GROUP"),
    (0, "x", 42, MALFORMED),
    (1, "x", 42, MALFORMED),
    (3, "x", 42, MALFORMED),
    (-1, "x", 42, MALFORMED),
];

#[test]
fn a_wrong_resource_is_told_why_in_kafkas_words() {
    let cluster = Cluster::new();
    let cases = WRONG_TOPICS
        .iter()
        .chain(&WRONG_BROKERS)
        .chain(&WRONG_TYPES);
    for (resource_type, name, code, message) in cases {
        let request = asking(vec![resource(*resource_type, name, None)]);
        let expected = DescribeConfigsResult {
            error_code: *code,
            error_message: Some((*message).into()),
            resource_type: *resource_type,
            resource_name: (*name).into(),
            configs: Vec::new(),
        };
        assert_eq!(ask(&cluster, &request), [expected]);
    }
}

#[test]
fn rows_are_those_that_were_asked_for() {
    type Texts<'a> = &'a [&'a str];
    let cases: [(i8, &str, Option<Texts<'_>>, Texts<'_>); 9] = [
        (
            TOPIC,
            "abc",
            Some(&["retention.ms", "segment.bytes", "nope", "retention.ms"]),
            &[
                "retention.ms=1000 1 [retention.ms=1000 1]",
                "segment.bytes=1073741824 5 [log.segment.bytes=1073741824 5]",
            ],
        ),
        // As in Kafka: the default of retention comes from a setting of another name.
        (
            TOPIC,
            "b",
            Some(&["retention.ms"]),
            &["retention.ms=604800000 5 []"],
        ),
        (TOPIC, "b", Some(&["nope"]), &[]),
        (
            BROKER,
            "1",
            Some(&["num.partitions", "ssl.keystore.password", "my.own"]),
            &[
                "my.own=null 4! [my.own=null 4]",
                "num.partitions=4 4! [num.partitions=4 4, num.partitions=1 5]",
                "ssl.keystore.password=null 4 [ssl.keystore.password=null 4]",
            ],
        ),
        // Java reads that as a number, too. Unlike in Kafka the id has a default.
        (
            BROKER,
            "+1",
            Some(&["node.id"]),
            &["node.id=1 4! [node.id=1 4, node.id=1 5]"],
        ),
        (BROKER, "", None, &[]),
        (LOGGER, "1", None, &["root=INFO 6! []"]),
        (LOGGER, "1", Some(&["root", "kafka"]), &["root=INFO 6! []"]),
        (LOGGER, "1", Some(&["kafka"]), &[]),
    ];
    let settings = [("my.own", "x"), ("ssl.keystore.password", "secret")];
    let cluster = Cluster::with(&settings);
    for (resource_type, name, keys, expected) in cases {
        let results = ask(&cluster, &asking(vec![resource(resource_type, name, keys)]));
        assert_eq!(results[0].error_code, 0, "{name}");
        let rows: Vec<_> = results[0].configs.iter().map(row).collect();
        assert_eq!(rows, expected, "{name} {keys:?}");
    }
}

#[test]
fn no_keys_are_all_keys() {
    let cluster = Cluster::new();
    let all = |name: &str, resource_type| {
        let null = ask(&cluster, &asking(vec![resource(resource_type, name, None)]));
        let empty = ask(
            &cluster,
            &asking(vec![resource(resource_type, name, Some(&[]))]),
        );
        assert_eq!(null, empty);
        null[0].configs.len()
    };
    assert_eq!(
        all("b", TOPIC),
        cluster.config.describe_topic(&Values::new()).len()
    );
    assert_eq!(all("1", BROKER), cluster.config.describe().len());
}

#[test]
fn secrets_are_null_wherever_they_stand() {
    let cluster = Cluster::with(&[("my.own", "hush"), ("ssl.keystore.password", "hush")]);
    let request = asking(vec![
        resource(BROKER, "1", None),
        resource(BROKER, "", None),
        resource(TOPIC, "abc", None),
    ]);
    for result in ask(&cluster, &request) {
        for row in result.configs {
            assert!(!format!("{row:?}").contains("hush"), "{row:?}");
        }
    }
}

#[test]
fn types_synonyms_and_documentation_come_on_demand() {
    let cluster = Cluster::new();
    for (synonyms, documentation) in [(true, false), (false, true)] {
        let request = DescribeConfigsRequest {
            include_synonyms: synonyms,
            include_documentation: documentation,
            resources: vec![resource(TOPIC, "abc", Some(&["retention.ms"]))],
        };
        let results = ask(&cluster, &request);
        let row = &results[0].configs[0];
        assert_eq!(row.config_type, 5, "a LONG");
        assert_eq!(!row.synonyms.is_empty(), synonyms);
        assert_eq!(row.documentation.is_some(), documentation);
    }
}

#[test]
fn each_resource_is_answered_once_and_a_type_that_is_none_spoils_all() {
    let cluster = Cluster::new();
    let topic = || resource(TOPIC, "abc", Some(&["retention.ms"]));
    let unknown = || resource(TOPIC, "nope", None);
    let results = ask(&cluster, &asking(vec![topic(), unknown(), topic()]));
    let codes = |results: &[DescribeConfigsResult]| {
        results
            .iter()
            .map(|result| result.error_code)
            .collect::<Vec<_>>()
    };
    assert_eq!(codes(&results), [0, 3]);
    let results = ask(&cluster, &asking(vec![topic(), resource(3, "x", None)]));
    assert_eq!(codes(&results), [42, 42]);
}

/// "1", "+1" and "01" are one broker, and to describe it a thousand times is one line each.
#[test]
fn a_broker_is_answered_once_however_its_number_is_written() {
    let cluster = Cluster::new();
    for resource_type in [BROKER, LOGGER] {
        let names = (1..1000).map(|zeros| format!("{}1", "0".repeat(zeros)));
        let names = ["1".to_owned(), "+1".to_owned()].into_iter().chain(names);
        let resources = names.map(|name| resource(resource_type, &name, None));
        let results = ask(&cluster, &asking(resources.collect()));
        let [result] = results.as_slice() else {
            panic!("{} results of type {resource_type}", results.len());
        };
        assert_eq!((result.error_code, &*result.resource_name), (0, "1"));
    }
    let topics = ["1", "01"].map(|name| resource(TOPIC, name, None));
    assert_eq!(ask(&cluster, &asking(topics.into())).len(), 2, "names");
}

#[test]
fn one_reply_holds_so_many_settings_and_refuses_the_rest() {
    let cluster = Cluster::new();
    let request = asking(vec![
        resource(TOPIC, "abc", Some(&["retention.ms", "segment.bytes"])),
        resource(TOPIC, "nope", None),
        resource(TOPIC, "b", Some(&["retention.ms", "segment.bytes"])),
        resource(LOGGER, "1", None),
        resource(TOPIC, "nope either", None),
    ]);
    let told = |settings_max: usize| {
        let results = results_within(
            settings_max,
            &cluster.image,
            &cluster.config,
            AdvertisedShards::TOGETHER,
            LevelFilter::INFO,
            &request,
        );
        results
            .map(|result| (result.error_code, result.configs.len()))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(6), [(0, 2), (3, 0), (0, 2), (0, 1), (17, 0)]);
    assert_eq!(told(4), [(0, 2), (3, 0), (0, 2), (42, 0), (42, 0)]);
    assert_eq!(told(1), [(0, 2), (42, 0), (42, 0), (42, 0), (42, 0)]);
}

#[test]
fn an_advertised_shard_has_the_settings_of_its_broker() {
    let cluster = Cluster::new();
    let three = AdvertisedShards::each(3);
    // The types of a broker and of its loggers.
    for kind in [4, 8] {
        for (advertised, name, code) in [
            (AdvertisedShards::TOGETHER, "1", 0),
            (AdvertisedShards::TOGETHER, "1001", 42),
            (three, "1", 0),
            (three, "2001", 0),
            (three, "2002", 42),
            (three, "3001", 42),
        ] {
            let request = asking(vec![resource(kind, name, None)]);
            let results = ask_one_of(advertised, &cluster, &request);
            assert_eq!(
                results[0].error_code, code,
                "{kind} {name} of {advertised:?}"
            );
        }
    }
}
