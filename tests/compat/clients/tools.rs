//! Apache Kafka's own tools for consumers, and kcat in a group, as an operator runs them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::committed::{committed, reset, until_committed};
use crate::member::{Partition, offsets, partitions};
use crate::scene::{Stage, own_name};
use crate::support::java::{Libraries, complaints, libraries, run_class};
use crate::support::kcat::Kcat;

/// What a tool is tried with: the jars, and a topic and a group of the trial's own.
struct Tool<'a> {
    stage: &'a Stage,
    libraries: &'a Libraries,
    bootstrap: String,
    name: String,
}

type Run = fn(&Tool<'_>);

const TOOLS: &[(&str, Run)] = &[
    ("verifiable_consumer", verifiable_consumer),
    ("console_consumer", console_consumer),
    ("consumer_groups", consumer_groups),
    ("consumer_performance", consumer_performance),
];

pub fn trials(stage: &Arc<Stage>) -> Vec<Trial> {
    let java = TOOLS.iter().map(|(name, run)| {
        let stage = Arc::clone(stage);
        Trial::test(format!("kafka_tools::{name}"), move || {
            if let Some(libraries) = libraries() {
                run(&Tool {
                    stage: &stage,
                    libraries: &libraries,
                    bootstrap: stage.bootstrap(),
                    name: own_name(name),
                });
            }
            Ok(())
        })
    });
    let stage = Arc::clone(stage);
    let kcat = Trial::test("kcat::group", move || {
        if let Some(kcat) = Kcat::new(&stage.bootstrap()) {
            kcat_in_a_group(&stage, &kcat, &own_name("kcat"));
        }
        Ok(())
    });
    java.chain([kcat]).collect()
}

/// A topic of `count` partitions with `each` records in every one; gives the values.
fn filled(stage: &Stage, topic: &str, count: i32, each: usize) -> BTreeSet<String> {
    stage.create_topic(topic, count);
    (0..count)
        .flat_map(|number| stage.feed(&(topic.to_owned(), number), "tooled", each))
        .collect()
}

fn at(topic: &str, offsets: &[i64]) -> BTreeMap<Partition, i64> {
    let rows = offsets.iter().zip(0..);
    rows.map(|(offset, number)| ((topic.to_owned(), number), *offset))
        .collect()
}

impl Tool<'_> {
    fn run(&self, class: &str, arguments: &[&str]) -> String {
        let class = format!("org.apache.kafka.tools.{class}");
        let all = [&["--bootstrap-server", &self.bootstrap], arguments].concat();
        let finished = run_class(self.libraries, &class, &all, b"");
        assert_eq!(complaints(&finished), [""; 0], "{class} {arguments:?}");
        finished.success(&class)
    }

    fn groups(&self, arguments: &[&str]) -> String {
        self.run("consumer.group.ConsumerGroupCommand", arguments)
    }
}

fn verifiable_consumer(tool: &Tool<'_>) {
    let name = &tool.name[..];
    let values = filled(tool.stage, name, 3, 100);
    let said = tool.run(
        "VerifiableConsumer",
        &[
            "--topic",
            name,
            "--group-id",
            name,
            "--max-messages",
            "300",
            "--reset-policy",
            "earliest",
            "--session-timeout",
            "6000",
            "--verbose",
        ],
    );
    let events: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let named = |name: &'static str| events.iter().filter(move |event| event["name"] == name);
    assert_eq!(named("startup_complete").count(), 1, "{said}");
    assert_eq!(named("shutdown_complete").count(), 1, "{said}");
    let rows = |list: &Value| -> Value {
        let rows = list.as_array().into_iter().flatten();
        rows.map(|row| serde_json::json!([row["topic"], row["partition"], row["offset"]]))
            .collect()
    };
    let assigned =
        named("partitions_assigned").map(|event| partitions(&rows(&event["partitions"])));
    let all: BTreeSet<_> = (0..3).map(|number| (name.to_owned(), number)).collect();
    assert_eq!(assigned.collect::<Vec<_>>(), [all]);
    let read = named("record_data").map(|event| event["value"].as_str().map(str::to_owned));
    let read: Vec<_> = read.collect();
    assert_eq!(read.len(), 300);
    assert_eq!(read.into_iter().flatten().collect::<BTreeSet<_>>(), values);
    // The last word on each partition is its end.
    let mut told = BTreeMap::new();
    for event in named("offsets_committed") {
        assert_eq!(event["success"], true, "{event}");
        told.extend(offsets(&rows(&event["offsets"])));
    }
    assert_eq!(told, at(name, &[100, 100, 100]));
    assert_eq!(committed(tool.stage, name), told);
}

fn console_consumer(tool: &Tool<'_>) {
    let name = &tool.name[..];
    let values = filled(tool.stage, name, 2, 20);
    let consume = |more: &[&str]| {
        let arguments = [&["--topic", name, "--group", name], more].concat();
        let said = tool.run("consumer.ConsoleConsumer", &arguments);
        said.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let read = consume(&["--from-beginning", "--max-messages", "40"]);
    assert_eq!(read, values);
    until_committed(tool.stage, name, &at(name, &[20, 20]));
    // The group goes on where it was, whatever is said of the beginning.
    let more = tool.stage.feed(&(name.to_owned(), 1), "later", 5);
    let read = consume(&["--from-beginning", "--max-messages", "5"]);
    assert_eq!(read, more.into_iter().collect());
    until_committed(tool.stage, name, &at(name, &[20, 25]));
}

/// The columns of the rows that `--describe` has for a group's partitions.
fn described(said: &str, group: &str) -> Vec<Vec<String>> {
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let rows = said.lines().map(columns);
    let mut rows: Vec<Vec<String>> = rows
        .filter(|row: &Vec<String>| row.first().is_some_and(|first| first == group))
        .collect();
    rows.sort();
    rows
}

fn consumer_groups(tool: &Tool<'_>) {
    let name = &tool.name[..];
    filled(tool.stage, name, 2, 10);
    reset(tool.stage, name, &at(name, &[10, 4]));
    assert!(tool.groups(&["--list"]).lines().any(|line| line == name));
    let rows = |arguments: &[&str]| -> Vec<Vec<String>> {
        let said = tool.groups(&[&["--describe", "--group", name], arguments].concat());
        described(&said, name)
    };
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID
    let lag = |rows: Vec<Vec<String>>| -> Vec<Vec<String>> {
        rows.into_iter().map(|row| row[1..6].to_vec()).collect()
    };
    assert_eq!(
        lag(rows(&[])),
        [[name, "0", "10", "10", "0"], [name, "1", "4", "10", "6"]]
    );
    let state = rows(&["--state"]);
    assert!(state[0].iter().any(|word| word == "Empty"), "{state:?}");

    let reset_to = |how: &[&str]| {
        let group = ["--reset-offsets", "--group", name, "--topic", name];
        tool.groups(&[&group, how].concat());
        committed(tool.stage, name)
    };
    let dry = reset_to(&["--to-earliest", "--dry-run"]);
    assert_eq!(dry, at(name, &[10, 4]));
    let cases: [(&[&str], [i64; 2]); 2] = [
        (&["--to-earliest", "--execute"], [0, 0]),
        (&["--shift-by", "3", "--execute"], [3, 3]),
    ];
    for (how, wanted) in cases {
        assert_eq!(reset_to(how), at(name, &wanted), "{how:?}");
    }
    let topic = format!("{name}:1");
    tool.groups(&["--delete-offsets", "--group", name, "--topic", &topic]);
    assert_eq!(committed(tool.stage, name), at(name, &[3]));
    tool.groups(&["--delete", "--group", name]);
    assert!(!tool.groups(&["--list"]).lines().any(|line| line == name));
    assert_eq!(committed(tool.stage, name), BTreeMap::new());
}

fn consumer_performance(tool: &Tool<'_>) {
    let name = &tool.name[..];
    filled(tool.stage, name, 2, 5_000);
    let said = tool.run(
        "ConsumerPerformance",
        // It gives up by itself after ten seconds, which a busy machine may need.
        &[
            "--topic",
            name,
            "--group",
            name,
            "--num-records",
            "10000",
            "--timeout",
            "60000",
        ],
    );
    let row = said.lines().last().unwrap_or_default();
    let columns: Vec<_> = row.split(',').map(str::trim).collect();
    // start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, ...
    assert_eq!(columns.get(4), Some(&"10000"), "{said}");
}

fn kcat_in_a_group(stage: &Stage, kcat: &Kcat, name: &str) {
    let values = filled(stage, name, 2, 20);
    let consume = |count: &str| {
        let settings = ["-X", "auto.offset.reset=earliest"];
        let rest = ["-u", "-c", count, "-f", "%s\n", "-G", name, name];
        let read = kcat.run(&[&settings[..], &rest].concat(), b"");
        let read = read.success("kcat -G");
        read.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(consume("40"), values);
    until_committed(stage, name, &at(name, &[20, 20]));
    let more = stage.feed(&(name.to_owned(), 0), "later", 5);
    assert_eq!(consume("5"), more.into_iter().collect());
    until_committed(stage, name, &at(name, &[25, 20]));
}
