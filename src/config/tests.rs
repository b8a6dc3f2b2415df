//! The room's unit tests: the tables' own soundness, values, topics; brokers, sources and the
//! comparison with Kafka stand in files of their own.

use super::*;

mod broker;
mod kafka;
mod sources;

fn values(pairs: &[(&str, &str)]) -> Values {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn the_tables_hold_settings_whose_defaults_are_allowed() {
    for (scope, settings) in [("broker", Settings::broker()), ("topic", Settings::topic())] {
        let mut previous = "";
        for setting in settings.iter() {
            let key = setting.key;
            assert!(previous < key, "{scope}: {key} is out of order");
            previous = key;
            assert!(
                setting.doc.ends_with('.'),
                "{scope}: {key} lacks a sentence"
            );
            if let Some(default) = setting.default {
                setting
                    .parse(default)
                    .unwrap_or_else(|error| panic!("{scope}: {error}"));
                let value = setting.default_value().expect("a default");
                assert_eq!(value.to_string(), default, "{scope}: {key}");
            }
            // Pairs every bound with its type: a mismatch panics here and not in a broker.
            for text in ["0", "a", "true"] {
                let _ = setting.parse(text);
            }
        }
    }
}

#[test]
fn every_topic_setting_leads_to_a_broker_setting_of_its_type() {
    for setting in Settings::topic().iter() {
        let Some(broker_key) = setting.broker_key else {
            continue;
        };
        let broker = Settings::broker().get(broker_key).expect(broker_key);
        assert_eq!(broker.kind, setting.kind, "{}", setting.key);
        for synonym in broker_synonyms(broker_key) {
            assert!(Settings::broker().get(synonym).is_some(), "{synonym}");
        }
    }
}

#[test]
fn a_topic_without_settings_has_kafkas_defaults() {
    let config = TopicConfig::default();
    assert_eq!(config.segment_bytes, 1 << 30);
    assert_eq!(config.segment_ms, 7 * 24 * 3_600_000);
    assert_eq!(config.segment_jitter_ms, 0);
    assert_eq!(config.segment_index_bytes, 10 << 20);
    assert_eq!(config.index_interval_bytes, 4096);
    assert_eq!(config.retention_ms, Some(7 * 24 * 3_600_000));
    assert_eq!(config.retention_bytes, None);
    assert_eq!(config.max_message_bytes, 1_048_588);
    assert_eq!(config.message_timestamp_type, TimestampType::CreateTime);
    assert_eq!(config.message_timestamp_after_max_ms, 3_600_000);
    assert_eq!(config.message_timestamp_before_max_ms, i64::MAX as u64);
    assert_eq!(config.min_insync_replicas, 1);
    assert_eq!(config.compression_type, CompressionType::Producer);
    assert_eq!(config.file_delete_delay_ms, 60_000);
    assert_eq!(config.flush, FlushMode::Acks);
    assert_eq!(
        config.cleanup_policy,
        CleanupPolicy {
            delete: true,
            compact: false
        }
    );
}

type Pairs = &'static [(&'static str, &'static str)];

/// What is given at start, set for all brokers, set for this broker, set on the topic; and the
/// value of a topic's setting that comes out of it.
const PRECEDENCE: &[([Pairs; 4], (&str, &str))] = &[
    (
        [&[("log.retention.hours", "2")], &[], &[], &[]],
        ("retention.ms", "7200000"),
    ),
    (
        [
            &[("log.retention.hours", "2"), ("log.retention.minutes", "3")],
            &[],
            &[],
            &[],
        ],
        ("retention.ms", "180000"),
    ),
    (
        [
            &[("log.retention.minutes", "3")],
            &[("log.retention.ms", "5")],
            &[],
            &[],
        ],
        ("retention.ms", "5"),
    ),
    (
        [
            &[],
            &[("log.retention.ms", "5")],
            &[("log.retention.ms", "6")],
            &[],
        ],
        ("retention.ms", "6"),
    ),
    (
        [
            &[],
            &[],
            &[("log.retention.ms", "6")],
            &[("retention.ms", "7")],
        ],
        ("retention.ms", "7"),
    ),
    (
        [&[("log.retention.hours", "-4")], &[], &[], &[]],
        ("retention.ms", "-1"),
    ),
    (
        [&[("log.roll.hours", "1")], &[], &[], &[]],
        ("segment.ms", "3600000"),
    ),
    (
        [
            &[("log.roll.hours", "1"), ("log.roll.ms", "9")],
            &[],
            &[],
            &[],
        ],
        ("segment.ms", "9"),
    ),
    (
        [&[("log.flush.scheduler.interval.ms", "4")], &[], &[], &[]],
        ("flush.ms", "4"),
    ),
    (
        [&[("message.max.bytes", "10")], &[], &[], &[]],
        ("max.message.bytes", "10"),
    ),
    (
        [
            &[("message.max.bytes", "10")],
            &[],
            &[],
            &[("max.message.bytes", " 11 ")],
        ],
        ("max.message.bytes", "11"),
    ),
    (
        [&[("millrace.flush", "never")], &[], &[], &[]],
        ("millrace.flush", "never"),
    ),
    (
        [
            &[("millrace.flush", "never")],
            &[],
            &[],
            &[("millrace.flush", "always")],
        ],
        ("millrace.flush", "always"),
    ),
];

#[test]
fn a_topic_goes_by_its_own_settings_then_the_brokers_layers() {
    for (index, ([fixed, default, broker, topic], (key, expected))) in PRECEDENCE.iter().enumerate()
    {
        let layers = Layers {
            fixed: values(fixed),
            dynamic_default: values(default),
            dynamic_broker: values(broker),
        };
        let overrides = values(topic);
        let value = topic::Effective {
            broker: &layers,
            overrides: &overrides,
        }
        .value(key);
        let value = value.expect("a valid value").expect("a value");
        assert_eq!(value.to_string(), *expected, "row {index}");
        TopicConfig::new(&layers, &overrides).expect("valid settings");
    }
}

#[test]
fn every_value_of_a_topic_reaches_its_field() {
    let set = |pairs: &[(&str, &str)]| {
        TopicConfig::new(&Layers::default(), &values(pairs)).expect("valid settings")
    };
    let config = set(&[
        ("cleanup.policy", "compact"),
        ("compression.type", "zstd"),
        ("message.timestamp.type", "LogAppendTime"),
        ("millrace.flush", "always"),
        ("retention.bytes", "-1"),
        ("retention.ms", "-1"),
        ("segment.bytes", "1048576"),
    ]);
    let policy = CleanupPolicy {
        delete: false,
        compact: true,
    };
    assert_eq!(config.cleanup_policy, policy);
    assert_eq!(config.compression_type, CompressionType::Zstd);
    assert_eq!(config.message_timestamp_type, TimestampType::LogAppendTime);
    assert_eq!(config.flush, FlushMode::Always);
    assert_eq!((config.retention_ms, config.retention_bytes), (None, None));
    assert_eq!(config.segment_bytes, 1 << 20);
    assert_eq!(set(&[("internal.segment.bytes", "512")]).segment_bytes, 512);
    assert_eq!(set(&[("millrace.flush", "never")]).flush, FlushMode::Never);
    assert_eq!(set(&[("retention.ms", "0")]).retention_ms, Some(0));
}

#[test]
fn what_a_topic_may_not_set_is_refused_in_kafkas_words() {
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[("no.such", "1")], "Unknown topic config name: no.such"),
        (
            &[("retention.ms", "soon")],
            "Invalid value soon for configuration retention.ms: Not a number of type LONG",
        ),
        (
            &[("segment.bytes", "1048575")],
            "Invalid value 1048575 for configuration segment.bytes: Value must be at least 1048576",
        ),
        (
            &[("min.cleanable.dirty.ratio", "1.5")],
            "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: \
             Value must be no more than 1",
        ),
        (
            &[("cleanup.policy", "shred")],
            "Invalid value shred for configuration cleanup.policy: \
             String must be one of: compact, delete",
        ),
        (
            &[("cleanup.policy", "delete,delete")],
            "Configuration 'cleanup.policy' values must not be duplicated.",
        ),
        (
            &[("preallocate", "yes")],
            "Invalid value yes for configuration preallocate: \
             Expected value to be either true or false",
        ),
        (
            &[("compression.gzip.level", "0")],
            "Invalid value 0 for configuration compression.gzip.level: \
             Value must be between 1 and 9 or equal to -1",
        ),
        (
            &[("millrace.flush", "sometimes")],
            "Invalid value sometimes for configuration millrace.flush: \
             String must be one of: always, acks, never",
        ),
        (
            &[
                ("min.compaction.lag.ms", "2"),
                ("max.compaction.lag.ms", "1"),
            ],
            "conflict topic config setting min.compaction.lag.ms (2) > max.compaction.lag.ms (1)",
        ),
        (
            &[("remote.storage.enable", "true")],
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured \
             with remote log storage.",
        ),
    ];
    for (overrides, expected) in table {
        let error =
            TopicConfig::new(&Layers::default(), &values(overrides)).expect_err("a refusal");
        assert_eq!(error.to_string(), *expected);
    }
}

#[test]
fn what_another_version_let_a_topic_set_is_described_as_it_was_written() {
    let broker = BrokerConfig::new(Layers::default()).expect("a broker without settings");
    let overrides = values(&[("retention.ms", "soon"), ("segment.bytes", "1")]);
    assert!(TopicConfig::new(&Layers::default(), &overrides).is_err());
    let described = broker.describe_topic(&overrides);
    for (key, value) in &overrides {
        let found = described.iter().find(|each| each.name == *key);
        let found = found.expect("a known setting");
        assert_eq!(found.value.as_ref(), Some(value));
        assert_eq!(found.source, Source::Topic);
    }
}

#[test]
fn a_brokers_default_is_held_to_the_topics_bounds() {
    let layers = Layers::of_start(values(&[("log.roll.ms", "0")]));
    let error = TopicConfig::new(&layers, &Values::new()).expect_err("a refusal");
    assert_eq!(error.key(), Some("log.roll.ms"));
}

#[test]
fn doubles_print_as_java_prints_them() {
    let setting = Settings::broker().get("log.cleaner.io.max.bytes.per.second");
    let setting = setting.expect("a broker setting");
    for (text, expected) in [
        ("0", "0.0"),
        ("1", "1.0"),
        ("0.25", "0.25"),
        ("1e10", "1.0E10"),
        ("0.0001", "1.0E-4"),
        ("12345678.9", "1.23456789E7"),
        ("1.7976931348623157E308", "1.7976931348623157E308"),
    ] {
        let value = setting.parse(text).expect(text);
        assert_eq!(value.to_string(), expected);
    }
}
