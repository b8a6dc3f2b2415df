//! `millrace topics`.

use serde_json::json;

use crate::program::{Shell, fails, fails_in_part, rows};

#[test]
fn topics_come_are_shown_grow_and_go() {
    let shell = Shell::new();
    assert_eq!(
        shell.ok("topics list"),
        "",
        "nothing but what was asked for"
    );
    assert_eq!(
        shell.ok("topics create orders --partitions 3 --config retention.ms=3600000"),
        "orders: created\n"
    );
    shell.ok("topics create b.one");
    let listed = shell.ok("topics list");
    assert!(listed.starts_with("TOPIC"), "{listed}");
    assert_eq!(rows(&listed), [["b.one", "1", "1"], ["orders", "3", "1"]]);
    shell.ok_with("produce orders --partition 2", "x\ny\n");
    let described = shell.json("topics describe orders --json");
    let node = described[0]["partitions"][0]["leader"].clone();
    let partition = |index: i32, latest: i32| {
        json!({
            "partition": index, "leader": node, "replicas": [node], "isr": [node],
            "earliest_offset": 0, "latest_offset": latest,
        })
    };
    let expected = json!({
        "topic": "orders",
        "internal": false,
        "partitions": [partition(0, 0), partition(1, 0), partition(2, 2)],
        "configs": {"retention.ms": "3600000"},
    });
    assert_eq!(described, [expected]);
    let text = shell.ok("topics describe orders");
    assert!(text.contains("retention.ms=3600000"), "{text}");
    let grown = shell.ok("topics add-partitions orders --partitions 5");
    assert_eq!(grown, "orders: grown to 5 partitions\n");
    assert_eq!(shell.json("topics list --json")[1]["partitions"], 5);
    assert_eq!(shell.ok("topics delete orders b.one").lines().count(), 2);
    assert_eq!(shell.json("topics list --json").len(), 0);
}

#[test]
fn a_dry_run_checks_and_changes_nothing() {
    let shell = Shell::new();
    let would = shell.ok("topics create orders --dry-run");
    assert_eq!(would, "orders: would be created\n");
    let told = fails(
        &shell.run("topics create orders --dry-run --config no.such=1"),
        1,
    );
    assert!(told.contains("no.such"), "{told}");
    assert_eq!(shell.ok("topics list --json"), "");
    shell.ok("topics create orders");
    shell.ok("topics add-partitions orders --partitions 9 --dry-run");
    shell.ok("topics delete orders --dry-run");
    assert_eq!(shell.json("topics list --json")[0]["partitions"], 1);
    fails(&shell.run("topics delete nope --dry-run"), 1);
}

#[test]
fn the_brokers_own_topics_are_only_shown_when_asked_for() {
    let shell = Shell::new();
    shell.ok("topics create orders");
    shell.ok("consume orders --group g");
    assert_eq!(shell.json("topics list --json").len(), 1);
    let all = shell.json("topics list --internal --json");
    let offsets = all
        .iter()
        .find(|topic| topic["topic"] == "__consumer_offsets");
    let offsets = offsets.expect("a group has made it");
    assert_eq!(
        (&offsets["internal"], &offsets["partitions"]),
        (&json!(true), &json!(3))
    );
}

#[test]
fn each_refusal_says_why_and_what_to_do() {
    let shell = Shell::new();
    shell.ok("topics create orders --partitions 2");
    let table = [
        (
            "topics create orders",
            &["already exists", "--if-not-exists"][..],
        ),
        ("topics create a/b", &["a/b"]),
        (
            "topics create x --replication-factor 3",
            &["without --replication-factor"],
        ),
        ("topics create x --config no.such=1", &["no.such"]),
        (
            "topics describe nope",
            &["no topic 'nope'", "topics list", "topics create nope"],
        ),
        ("topics delete nope", &["topics list"]),
        (
            "topics add-partitions orders --partitions 2",
            &["2 partitions already", "above 2"],
        ),
        (
            "topics add-partitions nope --partitions 2",
            &["no topic 'nope'"],
        ),
    ];
    for (line, words) in table {
        let told = fails(&shell.run(line), 1);
        for word in words {
            assert!(told.contains(word), "{line}: {told}");
        }
        assert_eq!(told.lines().count(), 1, "{line}: {told}");
    }
    shell.ok("topics create orders --if-not-exists");
    shell.ok("topics delete nope --if-exists");
}

#[test]
fn of_several_topics_the_good_ones_are_done_and_the_others_named() {
    let shell = Shell::new();
    let finished = shell.run("topics create a/b orders --json");
    let told = fails_in_part(&finished, 1);
    assert!(
        told.contains("a/b") && told.contains("1 of 2 failed"),
        "{told}"
    );
    let lines = crate::program::objects(&finished.stdout);
    let result = |topic: &str| {
        let line = lines.iter().find(|line| line["topic"] == topic);
        line.expect("a line for each topic")["result"].clone()
    };
    assert_eq!(
        (result("a/b"), result("orders")),
        (json!("failed"), json!("created"))
    );
    assert_eq!(shell.json("topics list --json").len(), 1);
}
