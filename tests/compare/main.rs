//! Holds Millrace against Apache Kafka 4.3.1: both are asked the same, and their answers are
//! compared field by field. What differs is in `differences.tsv` with its reason, or a failure.
//!
//! `MILLRACE_COMPARE=<part of a name>` holds only the conversations of that name and prints what
//! Kafka answered.

mod explained;
mod expression;
mod message;
mod run;
#[allow(dead_code)]
#[path = "../../build/schema.rs"]
mod schema;
mod script;
#[allow(
    dead_code,
    reason = "each test program uses its own part of the support"
)]
#[path = "../support/mod.rs"]
mod support;
mod symbols;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use explained::{Difference, differences};
use run::{Answer, Transcript, fields};
use script::Conversation;
use support::broker::{Broker, Peer};
use support::java;
use support::wire::Wire;
use symbols::Symbols;
use value::Value;

/// What both brokers run with. Groups go quickly, and there are few coordinators to load.
const SETTINGS: &[(&str, &str)] = &[
    ("node.id", "1"),
    ("auto.create.topics.enable", "false"),
    ("group.initial.rebalance.delay.ms", "500"),
    ("group.min.session.timeout.ms", "100"),
    ("group.max.session.timeout.ms", "600000"),
    ("group.max.size", "4"),
    ("offsets.topic.num.partitions", "4"),
];

/// How many requests must be compared at least: fewer, and a part of the scripts was not held.
/// Raise it with them.
const COMPARED_MIN: usize = 4_400;

/// Conversations held at once. They mostly wait.
const WORKERS: usize = 12;

const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// A broker that is ready, and what it is known by.
struct Side {
    broker: Broker,
    cluster_id: String,
}

/// What came out of one variant of one conversation.
#[derive(Default)]
struct Outcome {
    /// The APIs and versions that both answered, one entry a request.
    compared: Vec<(String, i16)>,
    differences: Vec<Difference>,
    /// What Kafka answered, for reading.
    transcript: String,
}

fn source_dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compare"))
}

fn conversations() -> Vec<Conversation> {
    let dir = fs::read_dir(source_dir().join("scripts")).expect("the scripts");
    let mut paths: Vec<_> = dir
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    let parse = |path: &std::path::PathBuf| {
        let name = path.file_name().expect("a file").to_string_lossy();
        let text = fs::read_to_string(path).expect("a readable script");
        script::parse(&name, &text).unwrap_or_else(|error| panic!("{error}"))
    };
    let conversations: Vec<_> = paths.iter().flat_map(parse).collect();
    let names: BTreeSet<_> = conversations.iter().map(|it| &it.name).collect();
    assert_eq!(names.len(), conversations.len(), "a name is used twice");
    conversations
}

/// Starts a broker and waits until all its coordinators serve.
fn start(peer: Peer) -> Side {
    let broker = Broker::start_peer(peer, SETTINGS);
    let mut wire = Wire::connect(broker.port());
    let end = Instant::now() + SETTLED_WITHIN;
    // Names enough to meet each of the few partitions.
    for name in 0..32 {
        let group = Value::Text(format!("settle-{name}"));
        let find = fields(&[("CoordinatorKeys", Value::List(vec![group.clone()]))]);
        let heartbeat = fields(&[
            ("GroupId", group.clone()),
            ("MemberId", Value::Text("unknown".to_owned())),
            ("GroupInstanceId", Value::Null),
        ]);
        // A heartbeat is answered while the coordinator loads; a describe is not.
        let describe = fields(&[("Groups", Value::List(vec![group]))]);
        loop {
            let ask = |wire: &mut Wire, api: &str, request: &Value, path: &str, code: i64| {
                let answer = run::ask(wire, api, request);
                answer.is_ok_and(|answer| answer.at(path) == Some(&Value::Number(code)))
            };
            if ask(
                &mut wire,
                "FindCoordinator",
                &find,
                "Coordinators.0.ErrorCode",
                0,
            ) && ask(&mut wire, "Heartbeat", &heartbeat, "ErrorCode", 25)
                && ask(
                    &mut wire,
                    "DescribeGroups",
                    &describe,
                    "Groups.0.ErrorCode",
                    69,
                )
            {
                break;
            }
            assert!(
                Instant::now() < end,
                "{peer}: {group:?} has no coordinator",
                group = name
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
    let cluster = run::ask(&mut wire, "DescribeCluster", &fields(&[]));
    let cluster_id = match cluster.expect("an answer").field("ClusterId") {
        Some(Value::Text(id)) => id.clone(),
        other => panic!("{peer} has the cluster id {other:?}"),
    };
    Side { broker, cluster_id }
}

/// Holds a variant with both brokers at once and compares.
fn hold(kafka: &Side, ours: &Side, conversation: &Conversation, variant: i16) -> Outcome {
    let (theirs, own) = thread::scope(|scope| {
        let theirs = scope.spawn(|| run::run(kafka.broker.port(), conversation, variant));
        let own = run::run(ours.broker.port(), conversation, variant);
        (theirs.join().expect("a conversation with Kafka"), own)
    });
    let prefix = run::prefix(conversation, variant);
    let mut outcome = Outcome::default();
    let mut symbols = (
        Symbols::new(kafka.broker.port(), &kafka.cluster_id, &prefix),
        Symbols::new(ours.broker.port(), &ours.cluster_id, &prefix),
    );
    for (theirs, own) in theirs.answers.iter().zip(&own.answers) {
        let (api, version) = (&theirs.api, theirs.version);
        let kafkas = symbols.0.comparable(api, &theirs.request, &theirs.answer);
        let ours = symbols.1.comparable(api, &own.request, &own.answer);
        // Writing to a string cannot fail.
        let _ = writeln!(
            outcome.transcript,
            "{} {api} {version} {}\n    {kafkas}",
            theirs.place, theirs.request
        );
        let found = differences(&conversation.name, theirs, &kafkas, &ours);
        outcome.differences.extend(found);
        // Both may wait for what a script has forgotten: that compares nothing.
        outcome
            .differences
            .extend(unanswered(&conversation.name, theirs));
        outcome.compared.push((api.clone(), version));
    }
    let stops = (stop(&theirs), stop(&own));
    assert!(
        theirs.stopped.is_none(),
        "with Kafka, {prefix}: {}",
        stops.0
    );
    if own.stopped.is_some() {
        outcome.differences.push(Difference {
            conversation: conversation.name.clone(),
            place: String::new(),
            api: "(conversation)".to_owned(),
            version: variant,
            request: String::new(),
            field: "(end)".to_owned(),
            kafka: stops.0,
            ours: stops.1,
        });
    }
    outcome
}

/// What a request that Kafka does not answer has to be explained as, whatever ours does.
fn unanswered(conversation: &str, answer: &Answer) -> Option<Difference> {
    let (said, wanted) = (fields(&[]), fields(&[("(any answer)", Value::Null)]));
    let is_answered = answer.answer != run::not_answered();
    let mut found = differences(conversation, answer, &said, &wanted);
    found.pop().filter(|_| !is_answered)
}

fn stop(transcript: &Transcript) -> String {
    let stopped = transcript.stopped.clone();
    stopped.unwrap_or_else(|| "held to its end".to_owned())
}

fn hold_all(kafka: &Side, ours: &Side, conversations: &[Conversation]) -> Outcome {
    let each: Vec<_> = conversations
        .iter()
        .flat_map(|it| (0..it.variants()).map(move |variant| (it, variant)))
        .collect();
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Outcome::default()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((conversation, variant)) =
                    each.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let one = hold(kafka, ours, conversation, *variant);
                    let mut all = all.lock().expect("no other conversation has failed");
                    all.compared.extend(one.compared);
                    all.differences.extend(one.differences);
                    all.transcript.push_str(&one.transcript);
                }
            });
        }
    });
    all.into_inner().expect("every conversation was held")
}

#[test]
fn answers_are_those_of_kafka_or_explained() {
    if java::libraries().is_none() {
        return;
    }
    let mut conversations = conversations();
    let only = std::env::var("MILLRACE_COMPARE").ok();
    if let Some(only) = &only {
        conversations.retain(|it| it.name.contains(only.as_str()));
    }
    let table = fs::read_to_string(source_dir().join("differences.tsv")).expect("the table");
    let rows = explained::parse(&table).unwrap_or_else(|error| panic!("{error}"));
    let (kafka, ours) = thread::scope(|scope| {
        let kafka = scope.spawn(|| start(Peer::Kafka));
        let ours = start(Peer::Millrace);
        (kafka.join().expect("Kafka serves"), ours)
    });
    let outcome = hold_all(&kafka, &ours, &conversations);
    if only.is_some() {
        eprintln!("{}", outcome.transcript);
    }
    let explained = |difference: &Difference| {
        let rows = rows.iter().enumerate();
        let mut rows = rows.filter(|(_, row)| row.explains(difference));
        rows.next().map(|(index, _)| index)
    };
    let (mut used, mut failures) = (BTreeSet::new(), Vec::new());
    for difference in &outcome.differences {
        match explained(difference) {
            Some(row) => drop(used.insert(row)),
            None => failures.push(difference),
        }
    }
    let count = outcome.compared.len();
    eprintln!(
        "{count} requests compared: {} fields differ, {} of them unexplained",
        outcome.differences.len(),
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "unexplained:\n{}",
        explained::report(&failures)
    );
    if only.is_none() {
        assert!(count >= COMPARED_MIN, "only {count} requests");
        let stale = rows.iter().enumerate();
        let stale = stale.filter(|(index, _)| !used.contains(index));
        let stale: Vec<_> = stale.map(|(_, row)| row.to_string()).collect();
        assert!(stale.is_empty(), "nothing differs so any more: {stale:#?}");
        assert_every_version_is_compared(&outcome.compared);
    }
}

/// Every API that we serve, in every version.
fn assert_every_version_is_compared(compared: &[(String, i16)]) {
    let compared: BTreeSet<_> = compared
        .iter()
        .map(|(api, version)| (&**api, *version))
        .collect();
    let mut missing = Vec::new();
    for served in millrace::protocol::api::SUPPORTED {
        for version in served.min_version..=served.max_version {
            let name = served.key.name();
            if served.key.serves(version) && !compared.contains(&(name, version)) {
                missing.push(format!("{name} {version}"));
            }
        }
    }
    assert!(missing.is_empty(), "never compared: {missing:?}");
}
