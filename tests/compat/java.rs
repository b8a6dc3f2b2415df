//! Apache Kafka's own clients and tools, version 4.3.1, each in a JVM.

use std::collections::BTreeMap;

use crate::support::broker::Broker;
use crate::support::java::{Libraries, complaints, libraries, run_class};
use crate::support::kcat::Kcat;
use crate::support::topics;

/// Runs a program of scenarios; each of `names` has to hold, and no other may exist.
fn scenarios(libraries: &Libraries, class: &str, broker: &Broker, names: &[&str]) {
    let arguments = [&broker.bootstrap()[..], &broker.peer().to_string()];
    let finished = run_class(libraries, class, &arguments, b"");
    let mut wanted: Vec<_> = names.iter().map(|name| format!("ok {name}")).collect();
    let mut said: Vec<_> = finished.stdout.lines().collect();
    wanted.sort_unstable();
    said.sort_unstable();
    assert!(
        finished.status.success() && said == wanted,
        "{class} ended with {}\n{}\n{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
}

#[test]
fn producers_and_consumers() {
    let Some(java) = libraries() else {
        return;
    };
    let broker = Broker::start();
    let names = [
        "whole-none",
        "whole-gzip",
        "whole-snappy",
        "whole-lz4",
        "whole-zstd",
        "acks-0",
        "acks-1",
        "acks-all",
        "partitioning",
        "order",
        "seek",
        "seek-by-time",
        "append-time",
        "out-of-range",
        "read-committed",
        "refused",
        "auto-create",
        "no-auto-create",
        "long-poll",
    ];
    scenarios(&java, "Clients", &broker, &names);
}

#[test]
fn administration() {
    let Some(java) = libraries() else {
        return;
    };
    let broker = Broker::start();
    let names = [
        "cluster",
        "create",
        "create-refused",
        "validate-only",
        "partitions",
        "delete",
        "topic-configs",
        "broker-configs",
        "offsets",
        "many-topics",
    ];
    scenarios(&java, "Admins", &broker, &names);
}

#[test]
fn kafka_topics() {
    let Some(java) = libraries() else {
        return;
    };
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let tool = |arguments: &[&str]| {
        let all = [&["--bootstrap-server", &bootstrap], arguments].concat();
        let finished = run_class(&java, "org.apache.kafka.tools.TopicCommand", &all, b"");
        assert_eq!(complaints(&finished), [""; 0]);
        finished.success("kafka-topics")
    };
    let created = tool(&[
        "--create",
        "--topic",
        "tooled",
        "--partitions",
        "3",
        "--config",
        "retention.ms=12345",
    ]);
    assert!(created.contains("Created topic tooled."), "{created}");
    let described = tool(&["--describe", "--topic", "tooled"]);
    for part in [
        "PartitionCount: 3",
        "ReplicationFactor: 1",
        "retention.ms=12345",
    ] {
        assert!(described.contains(part), "no {part} in {described}");
    }
    assert_eq!(described.matches("Leader: ").count(), 3, "{described}");
    tool(&["--alter", "--topic", "tooled", "--partitions", "4"]);
    let described = tool(&["--describe", "--topic", "tooled"]);
    assert!(described.contains("PartitionCount: 4"), "{described}");
    assert_eq!(tool(&["--list"]), "tooled\n");
    tool(&["--delete", "--topic", "tooled"]);
    assert_eq!(tool(&["--list"]).trim(), "");
}

#[test]
fn verifiable_producer_and_get_offsets() {
    let Some(java) = libraries() else {
        return;
    };
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    topics::create(&broker, "verified", 3, &[]);
    let arguments = [
        "--bootstrap-server",
        &bootstrap,
        "--topic",
        "verified",
        "--max-messages",
        "10000",
        "--acks",
        "-1",
    ];
    let class = "org.apache.kafka.tools.VerifiableProducer";
    let said = run_class(&java, class, &arguments, b"").success("VerifiableProducer");
    assert_eq!(said.matches("\"producer_send_success\"").count(), 10_000);
    let last = said.lines().last().unwrap_or_default();
    for part in [
        "\"name\":\"tool_data\"",
        "\"sent\":10000",
        "\"acked\":10000",
    ] {
        assert!(last.contains(part), "no {part} in {last}");
    }

    let offsets = |time: &str| -> BTreeMap<i32, i64> {
        let arguments = [
            "--bootstrap-server",
            &bootstrap,
            "--topic",
            "verified",
            "--time",
            time,
        ];
        let class = "org.apache.kafka.tools.GetOffsetShell";
        let said = run_class(&java, class, &arguments, b"").success("kafka-get-offsets");
        let line = |line: &str| {
            let fields: Vec<_> = line.split(':').collect();
            assert_eq!(fields[0], "verified");
            (
                fields[1].parse().expect("a partition"),
                fields[2].parse().expect("an offset"),
            )
        };
        said.lines().map(line).collect()
    };
    let earliest = offsets("earliest");
    assert_eq!(earliest, BTreeMap::from([(0, 0), (1, 0), (2, 0)]));
    let latest = offsets("latest");
    assert_eq!(latest.values().sum::<i64>(), 10_000, "{latest:?}");
}

#[test]
fn console_producer() {
    let Some(java) = libraries() else {
        return;
    };
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let Some(kcat) = Kcat::new(&bootstrap) else {
        return;
    };
    topics::create(&broker, "console", 1, &[]);
    let arguments = [
        "--bootstrap-server",
        &bootstrap,
        "--topic",
        "console",
        "--reader-property",
        "parse.key=true",
        "--reader-property",
        "key.separator=:",
        "--reader-property",
        "parse.headers=true",
        "--reader-property",
        "null.marker=NULL",
        "--compression-codec",
        "zstd",
    ];
    let class = "org.apache.kafka.tools.ConsoleProducer";
    let input = b"h:1\tk1:v1\nh:2\tk2:NULL\nh:3\tk3:v3\n";
    let finished = run_class(&java, class, &arguments, input);
    assert_eq!(complaints(&finished), [""; 0]);
    finished.success("kafka-console-producer");
    let read = kcat.quiet(
        &["-C", "-e", "-t", "console", "-f", "%o|%h|%k|%S|%s\n"],
        b"",
    );
    assert_eq!(read, "0|h=1|k1|2|v1\n1|h=2|k2|-1|\n2|h=3|k3|2|v3\n");
}
