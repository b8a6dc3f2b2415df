//! `millrace.advertise.shards`: clients take each shard for a broker, and everything is as before.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::program::{Shell, rows};
use crate::support::broker::Peer;

/// A broker whose shards are advertised; none where the tests run against another make.
fn shell() -> Option<Shell> {
    let is_ours = Peer::chosen() == Peer::Millrace;
    is_ours.then(|| Shell::with(&[("millrace.advertise.shards", "true")]))
}

fn number(value: &Value) -> i64 {
    value.as_i64().expect("a number")
}

#[test]
fn partitions_are_led_by_the_shards_in_turn() {
    let Some(shell) = shell() else {
        return;
    };
    shell.ok("topics create t --partitions 4");
    let described = shell.json("topics describe t --json");
    let partitions = described[0]["partitions"].as_array().expect("a list");
    let mut led: BTreeMap<i64, usize> = BTreeMap::new();
    for partition in partitions {
        let leader = number(&partition["leader"]);
        *led.entry(leader).or_default() += 1;
        assert_eq!(partition["replicas"][0], partition["leader"]);
        assert_eq!(partition["isr"][0], partition["leader"]);
    }
    assert_eq!(led, BTreeMap::from([(1, 2), (1001, 2)]));

    for partition in 0..4 {
        shell.ok_with(
            &format!("produce t --quiet --partition {partition}"),
            &format!("of {partition}\n"),
        );
    }
    let mut read: Vec<_> = shell.ok("consume t").lines().map(str::to_owned).collect();
    read.sort();
    assert_eq!(read, ["of 0", "of 1", "of 2", "of 3"]);
}

#[test]
fn each_group_is_with_a_shard_and_listed_once() {
    let Some(shell) = shell() else {
        return;
    };
    shell.ok("topics create t --partitions 2");
    shell.ok_with("produce t --quiet", "one\n");
    let groups: Vec<_> = (0..8).map(|n| format!("g{n}")).collect();
    let ports = [shell.broker.port(), shell.broker.port() + 1];
    let mut coordinators: BTreeMap<String, usize> = BTreeMap::new();
    for group in &groups {
        assert_eq!(shell.ok(&format!("consume t --group {group}")), "one\n");
        let described = shell.ok(&format!("groups describe {group}"));
        let line = described
            .lines()
            .find(|line| line.starts_with("Coordinator:"));
        let line = line.unwrap_or_else(|| panic!("no coordinator in {described}"));
        *coordinators.entry(line.to_owned()).or_default() += 1;
    }
    let expected = [(1, ports[0]), (1001, ports[1])]
        .map(|(id, port)| format!("Coordinator:  127.0.0.1:{port} (id {id})"));
    assert!(coordinators.keys().eq(&expected), "{coordinators:?}");
    let listed = shell.ok("groups list");
    let mut listed: Vec<_> = rows(&listed).iter().map(|row| row[0].to_owned()).collect();
    listed.sort();
    assert_eq!(listed, groups);
}
