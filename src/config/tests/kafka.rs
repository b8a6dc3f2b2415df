//! Holds the tables and DescribeConfigs against what Apache Kafka 4.3.1 answered.

use std::collections::BTreeMap;

use super::*;

const DESCRIBED: &str = include_str!("../../../tests/data/described-by-kafka-4.3.1.tsv");
const ACCEPTED: &str = include_str!("../../../tests/data/accepted-by-kafka-4.3.1.tsv");

/// The broker's settings whose defaults are our own, since Millrace runs without a file.
const OUR_DEFAULTS: &[(&str, Option<&str>, Option<&str>)] = &[
    // Key, Kafka's default, ours.
    ("controller.listener.names", None, Some("")),
    (
        "listeners",
        Some("PLAINTEXT://:9092"),
        Some("PLAINTEXT://127.0.0.1:9092"),
    ),
    ("log.dir", Some("/tmp/kafka-logs"), Some("millrace-data")),
    ("node.id", None, Some("1")),
    ("process.roles", None, Some("broker,controller")),
    ("socket.receive.buffer.bytes", Some("102400"), Some("-1")),
];

fn our_default(key: &str) -> bool {
    OUR_DEFAULTS.iter().any(|(ours, _, _)| *ours == key)
}

fn shown(value: Option<&str>) -> String {
    match value {
        None => "~".to_owned(),
        Some("") => "''".to_owned(),
        Some(value) => value.to_owned(),
    }
}

/// A line of the fixture, without the resource in front; our own defaults are left out of it.
fn line(described: &Described) -> String {
    let own = our_default(&described.name);
    let synonyms: Vec<_> = described
        .synonyms
        .iter()
        .filter(|synonym| !(own && synonym.source == Source::Default))
        .map(|synonym| {
            let Synonym {
                name,
                value,
                source,
            } = synonym;
            format!("{name}={}@{}", shown(value.as_deref()), source.name())
        })
        .collect();
    let value = match described.value.as_deref() {
        Some(_) if own && described.source == Source::Default => "(ours)".to_owned(),
        value => shown(value),
    };
    [
        described.name.as_str(),
        described.kind.map_or("UNKNOWN", Kind::name),
        described.source.name(),
        if described.read_only { "ro" } else { "rw" },
        if described.sensitive {
            "sensitive"
        } else {
            "-"
        },
        &value,
        &match synonyms.join(";") {
            none if none.is_empty() => "-".to_owned(),
            some => some,
        },
    ]
    .join("\t")
}

/// Kafka's line in the same form.
fn expected(line: &str) -> String {
    let mut columns: Vec<_> = line.split('\t').map(str::to_owned).collect();
    if our_default(&columns[0]) {
        let mut synonyms: Vec<_> = columns[6].split(';').collect();
        synonyms.retain(|synonym| !synonym.ends_with("@DEFAULT_CONFIG"));
        columns[6] = match synonyms.join(";") {
            none if none.is_empty() => "-".to_owned(),
            some => some,
        };
        if columns[2] == "DEFAULT_CONFIG" {
            columns[5] = "(ours)".to_owned();
        }
    }
    columns.join("\t")
}

#[derive(Default)]
struct Case<'a> {
    name: &'a str,
    layers: Layers,
    topics: BTreeMap<&'a str, Values>,
    lines: BTreeMap<(&'a str, String), String>,
}

/// The cases of the fixture. A later one lists only what differs from the first.
fn cases() -> Vec<Case<'static>> {
    let mut cases: Vec<Case<'static>> = Vec::new();
    for text in DESCRIBED.lines().filter(|line| !line.starts_with('#')) {
        let (what, rest) = text.split_once('\t').expect("two columns");
        if what == "case" {
            cases.push(Case {
                name: rest,
                ..Case::default()
            });
            continue;
        }
        let case = cases.last_mut().expect("a case");
        let (first, rest) = rest.split_once('\t').expect("three columns");
        if what == "expect" {
            let line = expected(rest);
            let key = line.split('\t').next().expect("a name").to_owned();
            case.lines.insert((first, key), line);
            continue;
        }
        let (key, value) = rest.split_once('\t').expect("four columns");
        let values = match first {
            "fixed" => &mut case.layers.fixed,
            "default" => &mut case.layers.dynamic_default,
            "broker" => &mut case.layers.dynamic_broker,
            topic => case.topics.entry(topic).or_default(),
        };
        values.insert(key.to_owned(), value.to_owned());
    }
    cases
}

#[test]
fn describe_configs_answers_as_kafka_does() {
    let cases = cases();
    assert_eq!(cases.len(), 4);
    for case in &cases {
        let config = BrokerConfig::new(case.layers.clone()).expect("a valid configuration");
        let nothing = Values::new();
        let own = case.topics.get("topic:own").expect("a topic's settings");
        for (resource, described) in [
            ("broker", config.describe()),
            ("cluster", config.describe_cluster()),
            ("topic:plain", config.describe_topic(&nothing)),
            ("topic:own", config.describe_topic(own)),
        ] {
            let described: BTreeMap<_, _> = described
                .iter()
                .filter(|described| !described.name.starts_with("millrace."))
                .map(|described| (described.name.clone(), line(described)))
                .collect();
            let of_case = |case: &Case<'_>| -> BTreeMap<String, String> {
                let lines = case.lines.iter();
                let lines = lines.filter(|((of, _), _)| *of == resource);
                lines
                    .map(|((_, key), line)| (key.clone(), line.clone()))
                    .collect()
            };
            let mut expected = of_case(&cases[0]);
            expected.extend(of_case(case));
            let differ: Vec<_> = described
                .keys()
                .chain(expected.keys())
                .filter(|key| described.get(*key) != expected.get(*key))
                .map(|key| (described.get(key), expected.get(key)))
                .collect();
            assert!(differ.is_empty(), "{resource}, {}: {differ:#?}", case.name);
        }
    }
}

#[test]
fn the_defaults_differ_from_kafkas_in_these_alone() {
    for (key, kafka, ours) in OUR_DEFAULTS {
        let setting = Settings::broker().get(key).expect("a broker setting");
        assert_ne!(kafka, ours, "{key}");
        assert_eq!(setting.default, *ours, "{key}");
    }
    let own: Vec<_> = Settings::broker()
        .iter()
        .map(|setting| setting.key)
        .filter(|key| key.starts_with("millrace."))
        .collect();
    assert_eq!(
        own,
        [
            "millrace.advertise.shards",
            "millrace.disk.reserve.bytes",
            "millrace.flush",
            "millrace.memory.bytes",
            "millrace.scrub.bytes.per.second",
            "millrace.scrub.interval.ms",
            "millrace.shards"
        ]
    );
}

#[test]
fn values_are_accepted_refused_and_printed_as_by_kafka() {
    // A list that Kafka wants non-empty, and that ours may leave empty.
    let wider = [("broker:controller.listener.names", "")];
    let mut checked = 0;
    for line in ACCEPTED.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<_> = line.split('\t').collect();
        let [keys, accepted_count, accepted, refused_count, refused] = columns[..] else {
            panic!("five columns: {line}");
        };
        let split = |count: &str, values: &'static str| -> Vec<&'static str> {
            let values: Vec<_> = values.split('|').collect();
            let count: usize = count.parse().expect("a count");
            assert!(count == 0 || count == values.len(), "{line}");
            values[..count].to_vec()
        };
        for scoped in keys.split(',') {
            let (scope, key) = scoped.split_once(':').expect("scope:key");
            let settings = match scope {
                "broker" => Settings::broker(),
                _ => Settings::topic(),
            };
            let setting = settings.get(key).unwrap_or_else(|| panic!("{scoped}"));
            for value in split(accepted_count, accepted) {
                let (text, printed) = value.split_once("=>").unwrap_or((value, value));
                match setting.parse(text) {
                    Ok(value) => assert_eq!(value.to_string(), printed, "{scoped}={text}"),
                    Err(error) => panic!("{scoped}={text}: {error}"),
                }
                checked += 1;
            }
            for text in split(refused_count, refused) {
                if !wider.contains(&(scoped, text)) {
                    assert!(setting.parse(text).is_err(), "{scoped}={text}");
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 3000, "{checked} values");
}
