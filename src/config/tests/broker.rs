//! What the broker reads from its settings, and what it refuses.

use std::path::PathBuf;

use crate::base::ids::NodeId;

use super::*;

fn broker(pairs: &[(&str, &str)]) -> Result<BrokerConfig, ConfigError> {
    BrokerConfig::new(Layers::of_start(values(pairs)))
}

fn listener(name: &str, host: &str, port: u16) -> Listener {
    Listener {
        name: name.to_owned(),
        host: host.to_owned(),
        port,
    }
}

#[test]
fn a_broker_without_settings_serves_this_machine_alone() {
    let config = broker(&[]).expect("the defaults");
    assert_eq!(config.listeners, [listener("PLAINTEXT", "127.0.0.1", 9092)]);
    assert_eq!(config.log_dirs, [PathBuf::from("millrace-data")]);
    assert_eq!(config.metadata_log_dir, None);
    assert_eq!(config.node_id, NodeId(1));
    assert_eq!((config.shards, config.memory_bytes), (None, None));
    assert_eq!(config.num_partitions, 1);
    assert!(config.auto_create_topics_enable);
    assert_eq!(config.socket_request_max_bytes, 100 << 20);
    assert_eq!(config.connections_max_idle_ms, Some(600_000));
    assert_eq!(config.topic_defaults, TopicConfig::default());
}

#[test]
fn several_directories_are_read_in_their_order() {
    let config = broker(&[("log.dirs", "/b, /a"), ("log.dir", "/c")]).expect("two directories");
    assert_eq!(config.log_dirs, ["/b", "/a"].map(PathBuf::from));
    let config = broker(&[("log.dir", "/c,/d"), ("metadata.log.dir", "/e")]);
    let config = config.expect("two directories and one for the metadata");
    assert_eq!(config.log_dirs, ["/c", "/d"].map(PathBuf::from));
    assert_eq!(config.metadata_log_dir, Some(PathBuf::from("/e")));
}

#[test]
fn a_file_of_a_kafka_installation_works() {
    let config = broker(&[
        ("process.roles", "broker,controller"),
        ("node.id", "7"),
        ("controller.quorum.voters", "7@localhost:9093"),
        ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093"),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("advertised.listeners", "PLAINTEXT://broker.example:9092"),
        ("controller.listener.names", "CONTROLLER"),
        (
            "listener.security.protocol.map",
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL",
        ),
        ("log.dirs", "/var/lib/kafka"),
        ("log.retention.hours", "24"),
        ("num.network.threads", "3"),
    ])
    .expect("a valid configuration");
    assert_eq!(config.node_id, NodeId(7));
    assert_eq!(config.listeners, [listener("PLAINTEXT", "", 9092)]);
    let [advertised] = config.advertised_listeners.as_slice() else {
        panic!("one advertised listener");
    };
    assert_eq!(advertised.host, "broker.example");
    assert_eq!(config.topic_defaults.retention_ms, Some(86_400_000));
    let id = |key: &str| config.layers.set_value(key).map(str::to_owned);
    assert_eq!(id("broker.id"), id("node.id"));
}

#[test]
fn listeners_are_read_in_all_their_forms() {
    let map = "A:PLAINTEXT,B:PLAINTEXT,C:PLAINTEXT";
    let table: &[(&str, &[Listener])] = &[
        ("a://:1", &[listener("A", "", 1)]),
        ("A://0.0.0.0:1", &[listener("A", "0.0.0.0", 1)]),
        ("A://[::1]:1", &[listener("A", "::1", 1)]),
        (
            "A://h-1.example:1, B://10.0.0.1:0,C://x:0",
            &[
                listener("A", "h-1.example", 1),
                listener("B", "10.0.0.1", 0),
                listener("C", "x", 0),
            ],
        ),
    ];
    for (text, expected) in table {
        let config = broker(&[
            ("listeners", text),
            ("advertised.listeners", "A://name:1"),
            ("listener.security.protocol.map", map),
        ])
        .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(config.listeners, *expected);
    }
}

/// What is set together, and a part of the reason why it is refused.
const REFUSED: &[(&[(&str, &str)], &str)] = &[
    (&[("listeners", "SSL://:9093")], "asks for SSL"),
    (
        &[("listeners", "PLAINTEXT://:1,SASL_SSL://:2")],
        "asks for SASL_SSL",
    ),
    (&[("listeners", "MINE://:1")], "names no security protocol"),
    (&[("listeners", "PLAINTEXT:9092")], "name://host:port"),
    (
        &[("listeners", "127.0.0.1:9393")],
        "such as PLAINTEXT://127.0.0.1:9092",
    ),
    (&[("listeners", "PLAINTEXT://:99999")], "from 0 to 65535"),
    (&[("listeners", "PLAINTEXT://:-1")], "from 0 to 65535"),
    (&[("listeners", "PLAINTEXT://:port")], "name://host:port"),
    (&[("listeners", "PLAINTEXT://a b:1")], "name://host:port"),
    (&[("listeners", "")], "must not be empty"),
    (
        &[("listeners", "PLAINTEXT://:1,PLAINTEXT://:2")],
        "a different name",
    ),
    (
        &[
            ("listeners", "PLAINTEXT://:1,X://:1"),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,X:PLAINTEXT",
            ),
        ],
        "a different port",
    ),
    (
        &[
            ("listeners", "CONTROLLER://:9093"),
            ("controller.listener.names", "CONTROLLER"),
        ],
        "no listener for clients",
    ),
    (
        &[("listener.security.protocol.map", "PLAINTEXT:TELNET")],
        "must be one of",
    ),
    (
        &[("listeners", "PLAINTEXT://0.0.0.0:9092")],
        "clients cannot connect",
    ),
    (
        &[("advertised.listeners", "OTHER://h:1")],
        "no listener of this name",
    ),
    (
        &[("inter.broker.listener.name", "OTHER")],
        "no listener of this name",
    ),
    (
        &[("security.inter.broker.protocol", "SSL")],
        "only PLAINTEXT",
    ),
    (&[("log.dirs", "/a,/b,/a")], "must not be duplicated"),
    (&[("process.roles", "broker")], "runs alone"),
    (&[("controller.quorum.voters", "1@a:1,2@b:1")], "runs alone"),
    (&[("controller.quorum.voters", "a:1")], "{id}@{host}:{port}"),
    (
        &[("authorizer.class.name", "org.example.A")],
        "no authorization yet",
    ),
    (
        &[("remote.log.storage.system.enable", "true")],
        "no tiered storage",
    ),
    (&[("node.id", "1"), ("broker.id", "2")], "the same value"),
    (&[("num.partitions", "0")], "at least 1"),
    (&[("millrace.shards", "0")], "at least 1"),
    (&[("millrace.flush", "often")], "always, acks, never"),
    (&[("num.io.threads", "many")], "Not a number"),
    (&[("log.roll.ms", "0")], "at least 1"),
    (&[("log.retention.ms", "0")], "unlimited (-1)"),
    (
        &[("max.connections.per.ip.overrides", "here:3")],
        "address:count",
    ),
];

#[test]
fn what_a_broker_may_not_be_set_to_is_refused_with_the_reason() {
    for (pairs, expected) in REFUSED {
        let error = broker(pairs).expect_err(expected).to_string();
        assert!(error.contains(expected), "{pairs:?}: {error}");
    }
}

#[test]
fn limits_of_addresses_are_read() {
    let pairs = [("max.connections.per.ip.overrides", "127.0.0.1:3, [::1]:4")];
    let limits = broker(&pairs)
        .expect("limits")
        .max_connections_per_ip_overrides;
    let address = |text: &str| text.parse().expect("an address");
    assert_eq!(limits.get(&address("127.0.0.1")), Some(&3));
    assert_eq!(limits.get(&address("::1")), Some(&4));
}

#[test]
fn every_broker_setting_that_is_always_set_can_be_described() {
    let config = broker(&[]).expect("the defaults");
    let described = config.describe();
    let public = Settings::broker()
        .iter()
        .filter(|setting| !setting.internal);
    assert_eq!(described.len(), public.count());
    assert!(described.iter().all(|each| each.doc.is_some()));
}

#[test]
fn groups_go_by_the_defaults_of_kafka() {
    let expected = GroupsConfig {
        group_min_session_timeout_ms: 6_000,
        group_max_session_timeout_ms: 1_800_000,
        group_initial_rebalance_delay_ms: 3_000,
        group_max_size: i32::MAX as u32,
        offset_metadata_max_bytes: 4_096,
        offsets_retention_minutes: 7 * 24 * 60,
        offsets_retention_check_interval_ms: 600_000,
        offsets_commit_timeout_ms: 5_000,
        offsets_load_buffer_size: 5 << 20,
        offsets_topic_num_partitions: 50,
        offsets_topic_replication_factor: None,
        offsets_topic_segment_bytes: 100 << 20,
        offsets_topic_compression_codec: 0,
    };
    assert_eq!(broker(&[]).map(|config| config.groups), Ok(expected));
}

#[test]
fn a_groups_bounds_may_be_negative_and_its_codec_may_not() {
    let config = broker(&[
        ("group.min.session.timeout.ms", "-1"),
        ("group.initial.rebalance.delay.ms", "-1"),
        ("offsets.topic.compression.codec", "4"),
    ]);
    let groups = config.expect("valid settings").groups;
    assert_eq!(groups.group_min_session_timeout_ms, -1);
    assert_eq!(groups.group_initial_rebalance_delay_ms, 0);
    assert_eq!(groups.offsets_topic_compression_codec, 4);
    for wrong in ["-1", "5"] {
        let refused = broker(&[("offsets.topic.compression.codec", wrong)]);
        assert!(refused.is_err(), "{wrong}");
    }
}
