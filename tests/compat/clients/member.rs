//! A driver that consumes: what it owns, what it has read, what it committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::driver::{Driver, WITHIN};

/// A partition by its topic's name and its number.
pub type Partition = (String, i32);

/// What a consumer sees of a record, and what a producer is told to send.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub partition: Partition,
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: Vec<(String, String)>,
    pub timestamp: i64,
}

impl Record {
    fn of(event: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let headers = event["headers"].as_array();
        Self {
            partition: (
                text(&event["topic"]).expect("a topic"),
                partition(&event["partition"]),
            ),
            offset: event["offset"].as_i64().expect("an offset"),
            key: text(&event["key"]),
            value: text(&event["value"]),
            headers: headers
                .into_iter()
                .flatten()
                .map(|header| {
                    let name = text(&header[0]).expect("a header's name");
                    (name, text(&header[1]).expect("a header's value"))
                })
                .collect(),
            timestamp: event["timestamp"].as_i64().expect("a timestamp"),
        }
    }
}

fn partition(value: &Value) -> i32 {
    let number = value.as_i64().expect("a partition's number");
    i32::try_from(number).expect("a small number")
}

/// `[[topic, partition, ...], ...]`.
pub fn partitions(rows: &Value) -> BTreeSet<Partition> {
    let row = |row: &Value| {
        let topic = row[0].as_str().expect("a topic").to_owned();
        (topic, partition(&row[1]))
    };
    rows.as_array().expect("rows").iter().map(row).collect()
}

/// `[[topic, partition, offset], ...]`.
pub fn offsets(rows: &Value) -> BTreeMap<Partition, i64> {
    let row = |row: &Value| {
        let topic = row[0].as_str().expect("a topic").to_owned();
        let offset = row[2].as_i64().expect("an offset");
        ((topic, partition(&row[1])), offset)
    };
    rows.as_array().expect("rows").iter().map(row).collect()
}

/// What a member owns after `events`.
fn owned(events: &[Value]) -> BTreeSet<Partition> {
    let mut owned = BTreeSet::new();
    for event in events {
        match event["event"].as_str() {
            Some("assigned") => owned = partitions(&event["partitions"]),
            Some("revoked" | "lost") => {
                for partition in partitions(&event["partitions"]) {
                    owned.remove(&partition);
                }
            }
            _ => (),
        }
    }
    owned
}

fn records(events: &[Value]) -> impl Iterator<Item = Record> {
    events
        .iter()
        .filter(|event| event["event"] == "record")
        .map(Record::of)
}

/// A running consumer.
pub struct Member(pub Driver);

impl Member {
    /// What it owns now.
    pub fn owned(&self) -> BTreeSet<Partition> {
        self.0.events(owned)
    }

    /// Waits until it owns exactly `wanted`.
    pub fn owns(&self, wanted: &BTreeSet<Partition>) {
        self.0.until(&format!("exactly {wanted:?}"), |events| {
            (owned(events) == *wanted).then_some(())
        });
    }

    /// All that it has read.
    pub fn records(&self) -> Vec<Record> {
        self.0.events(|events| records(events).collect())
    }

    /// What it has read after its `from` first events.
    pub fn records_since(&self, from: usize) -> Vec<Record> {
        self.0.events(|events| records(&events[from..]).collect())
    }

    /// Waits for `count` records after its `from` first events; no more may come within a moment.
    pub fn reads_since(&self, from: usize, count: usize) -> Vec<Record> {
        self.0.until(&format!("{count} records"), |events| {
            (records(&events[from..]).count() >= count).then_some(())
        });
        std::thread::sleep(Duration::from_millis(200));
        let read = self.records_since(from);
        assert_eq!(read.len(), count, "records read: {read:#?}");
        read
    }

    /// Waits for `count` records in all; no more may come within a moment.
    pub fn reads(&self, count: usize) -> Vec<Record> {
        self.reads_since(0, count)
    }

    /// How many events it has had so far.
    pub fn count(&self) -> usize {
        self.0.count()
    }

    /// How often it was given or deprived of partitions so far.
    pub fn changes(&self) -> usize {
        let names = ["assigned", "revoked", "lost"];
        self.0.events(|events| {
            let is_change = |event: &&Value| names.iter().any(|name| event["event"] == *name);
            events.iter().filter(is_change).count()
        })
    }

    /// All that was ever taken from it, once for each time.
    pub fn revoked(&self) -> Vec<Partition> {
        self.0.events(|events| {
            let taken = |event: &&Value| event["event"] == "revoked" || event["event"] == "lost";
            let rows = events.iter().filter(taken);
            rows.flat_map(|event| partitions(&event["partitions"]))
                .collect()
        })
    }

    pub fn send(&self, command: &Value) {
        self.0.send(command);
    }

    /// Commits the positions behind what it has read; gives what it says it committed.
    pub fn commit(&self) -> BTreeMap<Partition, i64> {
        let event = self.try_commit();
        assert_eq!(event["event"], "committed", "{event}");
        offsets(&event["offsets"])
    }

    /// Commits the positions behind what it has read, and waits until it is done or refused.
    pub fn try_commit(&self) -> Value {
        let from = self.0.count();
        self.0.send(&json!({"do": "commit"}));
        self.0.next(from, &["committed", "failed"])
    }

    /// Stops reading what it owns, and stays a member.
    pub fn pause(&self) {
        let from = self.0.count();
        self.0.send(&json!({"do": "pause"}));
        self.0.next(from, &["paused"]);
    }

    /// Reads on behind what it had read when it was paused.
    pub fn resume(&self) {
        let from = self.0.count();
        self.0.send(&json!({"do": "resume"}));
        self.0.next(from, &["resumed"]);
    }

    /// Leaves the group and ends.
    pub fn close(self) {
        let from = self.0.count();
        self.0.send(&json!({"do": "close"}));
        self.0.next(from, &["closed"]);
        self.0.finish();
    }

    /// Is told that another has its place, and ends.
    pub fn ends_fenced(self) {
        self.0.fails(Some("FENCED_INSTANCE_ID"));
    }

    /// Dies without a word.
    pub fn kill(self) {
        self.0.kill();
    }
}

/// Waits until `members` own all of `partitions`, each of them some, and none of them owned twice.
pub fn settle(members: &[&Member], partitions: &BTreeSet<Partition>) {
    let end = Instant::now() + WITHIN;
    loop {
        let owned: Vec<_> = members.iter().map(|member| member.owned()).collect();
        let count: usize = owned.iter().map(BTreeSet::len).sum();
        let all: BTreeSet<_> = owned.iter().flatten().cloned().collect();
        let is_settled = owned.iter().all(|owned| !owned.is_empty())
            && count == partitions.len()
            && all == *partitions;
        if is_settled {
            return;
        }
        assert!(
            Instant::now() < end,
            "the group did not settle on {partitions:?}: {owned:#?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
