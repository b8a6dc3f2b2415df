//! The clients' calls for administration, each of its own kind: the table tells who has what.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::committed::committed;
use crate::driver::Driver;
use crate::member::{Member, offsets as rows, partitions as pairs};
use crate::scene::Scene;
use crate::support::batches::TIMESTAMP;

/// A driver that administers.
struct Admin(Driver);

impl Admin {
    fn start(scene: &Scene<'_>) -> Self {
        Self(scene.driver("admin", &json!({})))
    }

    fn ask(&mut self, command: &Value) -> Value {
        let from = self.0.count();
        self.0.send(command);
        self.0.next(from, &["done", "failed"])
    }

    fn does(&mut self, command: &Value) -> Value {
        let answer = self.ask(command);
        assert_eq!(
            answer["event"], "done",
            "{command} was answered by {answer}"
        );
        answer
    }

    fn fails(&mut self, command: &Value, code: &str) {
        let answer = self.ask(command);
        let is_as_wanted = answer["event"] == "failed" && answer["code"] == code;
        assert!(
            is_as_wanted,
            "{command} was answered by {answer}, not {code}"
        );
    }
}

pub fn topics(scene: &Scene<'_>) {
    let topic = &scene.name;
    let mut admin = Admin::start(scene);
    let create = json!({"do": "create", "topic": topic, "partitions": 3, "configs": {}});
    admin.does(&create);
    scene.stage.settle_topic(topic, 3);
    admin.fails(&create, "TOPIC_ALREADY_EXISTS");
    let listed = admin.does(&json!({"do": "list"}));
    assert!(names(&listed["topics"]).contains(topic), "{listed}");
    let described = admin.does(&json!({"do": "describe", "topic": topic}));
    let described = described["partitions"].as_array().expect("partitions");
    let numbers: Vec<_> = described
        .iter()
        .map(|row| row["partition"].clone())
        .collect();
    assert_eq!(numbers, [0, 1, 2]);
    for row in described {
        let leader = &row["leader"];
        assert!(leader.as_i64().is_some_and(|leader| leader >= 0), "{row}");
        assert_eq!(row["replicas"], json!([leader]), "{row}");
        assert_eq!(row["isr"], json!([leader]), "{row}");
    }
    admin.does(&json!({"do": "delete", "topic": topic}));
    scene.stage.until_gone(topic);
    let listed = admin.does(&json!({"do": "list"}));
    assert!(!names(&listed["topics"]).contains(topic), "{listed}");
    admin.fails(
        &json!({"do": "delete", "topic": topic}),
        "UNKNOWN_TOPIC_OR_PARTITION",
    );
    admin.0.finish();
}

fn names(list: &Value) -> BTreeSet<String> {
    let names = list.as_array().expect("names").iter();
    names
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

pub fn partitions(scene: &Scene<'_>) {
    let topic = &scene.name;
    scene.topic(2);
    let mut admin = Admin::start(scene);
    admin.does(&json!({"do": "add_partitions", "topic": topic, "count": 5}));
    scene.stage.settle_topic(topic, 5);
    admin.fails(
        &json!({"do": "add_partitions", "topic": topic, "count": 3}),
        "INVALID_PARTITIONS",
    );
    admin.0.finish();
    // They can be written to and read.
    scene.stage.feed(&(topic.clone(), 4), "new", 3);
    let reader = scene.read_all(&BTreeSet::from([(topic.clone(), 4)]));
    reader.reads(3);
    reader.close();
}

pub fn configs(scene: &Scene<'_>) {
    let topic = &scene.name;
    let mut admin = Admin::start(scene);
    let configs = json!({"retention.ms": "7654321", "cleanup.policy": "compact"});
    admin.does(&json!({"do": "create", "topic": topic, "partitions": 1, "configs": configs}));
    scene.stage.settle_topic(topic, 1);
    let told = admin.does(&json!({"do": "configs", "topic": topic}));
    let told = &told["configs"];
    assert_eq!(told["retention.ms"], "7654321", "{told}");
    assert_eq!(told["cleanup.policy"], "compact", "{told}");
    // What was not set has its default.
    assert_eq!(told["min.insync.replicas"], "1", "{told}");
    admin.0.finish();
}

pub fn list_offsets(scene: &Scene<'_>) {
    let topic = &scene.name;
    let all = scene.topic(2);
    for (partition, count) in all.iter().zip([3, 8]) {
        scene.stage.feed(partition, "some", count);
    }
    let mut admin = Admin::start(scene);
    let mut at = |at: Value| {
        let told = admin.does(&json!({"do": "list_offsets", "topic": topic, "at": at}));
        rows(&told["offsets"]).into_values().collect::<Vec<_>>()
    };
    assert_eq!(at(json!("earliest")), [0, 0]);
    assert_eq!(at(json!("latest")), [3, 8]);
    assert_eq!(at(json!(TIMESTAMP)), [0, 0]);
    admin.0.finish();
}

fn one_member(scene: &Scene<'_>) -> Member {
    let partitions = scene.topic(3);
    scene.feed(&partitions, "some", 4);
    let member = scene.member(&json!({}));
    member.owns(&partitions);
    member.reads(12);
    member.commit();
    member
}

fn state_of(listed: &Value, group: &str) -> Option<Value> {
    let groups = listed["groups"].as_array().expect("groups");
    let row = groups.iter().find(|row| row["group"] == group)?;
    Some(row["state"].clone())
}

pub fn groups(scene: &Scene<'_>) {
    let group = &scene.name;
    let member = one_member(scene);
    let mut admin = Admin::start(scene);
    let is_in = |state: &Value, wanted: &str| state.is_null() || *state == wanted;
    let listed = admin.does(&json!({"do": "list_groups"}));
    let state = state_of(&listed, group).unwrap_or_else(|| panic!("no {group} in {listed}"));
    assert!(is_in(&state, "Stable"), "{state}");
    let describe = json!({"do": "describe_group", "group": group});
    let described = admin.does(&describe);
    assert_eq!(described["state"], "Stable", "{described}");
    let members = described["members"].as_array().expect("members");
    assert_eq!(members.len(), 1, "{described}");
    assert_eq!(
        pairs(&members[0]["assignment"]),
        member.owned(),
        "{described}"
    );
    let id = members[0]["member"].as_str().unwrap_or_default();
    assert!(!id.is_empty(), "{described}");
    member.close();
    let described = admin.does(&describe);
    assert_eq!(described["state"], "Empty", "{described}");
    assert_eq!(described["members"], json!([]), "{described}");
    let listed = admin.does(&json!({"do": "list_groups"}));
    let state = state_of(&listed, group).unwrap_or_else(|| panic!("no {group} in {listed}"));
    assert!(is_in(&state, "Empty"), "{state}");
    admin.0.finish();
}

pub fn offsets(scene: &Scene<'_>) {
    let member = one_member(scene);
    let wanted: BTreeMap<_, _> = member.owned().into_iter().map(|p| (p, 4)).collect();
    let mut admin = Admin::start(scene);
    let told = admin.does(&json!({"do": "offsets", "group": scene.name}));
    assert_eq!(rows(&told["offsets"]), wanted);
    member.close();
    let told = admin.does(&json!({"do": "offsets", "group": scene.name}));
    assert_eq!(rows(&told["offsets"]), wanted);
    admin.0.finish();
}

pub fn reset_offsets(scene: &Scene<'_>) {
    let (group, topic) = (&scene.name, &scene.name);
    let member = one_member(scene);
    let mut admin = Admin::start(scene);
    let offsets = json!([[topic, 0, 1], [topic, 1, 2], [topic, 2, 3]]);
    let reset = json!({"do": "reset_offsets", "group": group, "offsets": offsets});
    // Not while it has members: they would not know. Some clients ask the group first, and refuse
    // by themselves.
    let answer = admin.ask(&reset);
    let code = &answer["code"];
    let is_refused = answer["event"] == "failed" && (code.is_null() || code == "UNKNOWN_MEMBER_ID");
    assert!(is_refused, "{answer}");
    let before = committed(scene.stage, group);
    assert!(before.values().all(|offset| *offset == 4), "{before:?}");
    member.close();
    admin.does(&reset);
    assert_eq!(committed(scene.stage, group), rows(&offsets));
    admin.0.finish();
    let member = scene.member(&json!({}));
    let mut read: Vec<_> = member
        .reads(6)
        .into_iter()
        .map(|record| (record.partition.1, record.offset))
        .collect();
    read.sort_unstable();
    assert_eq!(read, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]);
    member.close();
}

pub fn delete_group(scene: &Scene<'_>) {
    let group = &scene.name;
    let member = one_member(scene);
    let mut admin = Admin::start(scene);
    let delete = json!({"do": "delete_group", "group": group});
    admin.fails(&delete, "NON_EMPTY_GROUP");
    member.close();
    admin.does(&delete);
    assert_eq!(committed(scene.stage, group), BTreeMap::new());
    admin.fails(&delete, "GROUP_ID_NOT_FOUND");
    admin.0.finish();
}
