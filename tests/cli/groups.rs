//! `millrace groups`.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::program::{Running, Shell, fails, fails_in_part, rows};
use crate::support::command::{Finished, run};

/// A topic of two partitions with ten records each, of which the group `g` has read four of one.
fn read_in_part() -> Shell {
    let shell = Shell::new();
    shell.ok("topics create t --partitions 2");
    for partition in 0..2 {
        let lines: String = (0..10).map(|n| format!("{n}\n")).collect();
        shell.ok_with(
            &format!("produce t --quiet --partition {partition}"),
            &lines,
        );
    }
    shell.ok("groups reset-offsets g --topic t:0 --to-offset 4 --execute");
    shell
}

/// The committed offset of each partition.
fn offsets(shell: &Shell) -> Vec<(i64, Value)> {
    let described = shell.json("groups describe g --json");
    let partitions = described[0]["partitions"]
        .as_array()
        .expect("a list")
        .clone();
    let offset = |partition: Value| {
        let index = partition["partition"].as_i64().expect("a number");
        (index, partition["current_offset"].clone())
    };
    partitions.into_iter().map(offset).collect()
}

/// Starts a member of `g`, and waits until it has its partitions.
fn join(shell: &Shell) -> Running {
    let member = Running(shell.start("consume t --follow --group g -X client.id=reader"));
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let finished = shell.run("groups describe g --json");
        if finished.stdout.contains("\"client_id\":\"reader\"") {
            return member;
        }
        let Finished { stdout, stderr, .. } = finished;
        assert!(Instant::now() < end, "{stdout}{stderr}");
    }
}

#[test]
fn a_group_is_listed_and_described_with_its_lag() {
    let shell = read_in_part();
    assert_eq!(rows(&shell.ok("groups list")), [["g", "Empty", "Classic"]]);
    let listed = json!({"group": "g", "state": "Empty", "type": "Classic", "simple": true});
    assert_eq!(shell.json("groups list --json"), [listed]);
    let described = shell.json("groups describe g --json");
    let partition = json!({
        "topic": "t", "partition": 0, "current_offset": 4, "log_end_offset": 10, "lag": 6,
        "member": null, "host": null, "client_id": null,
    });
    assert_eq!(described[0]["partitions"], json!([partition]));
    let text = shell.ok("groups describe");
    assert!(
        text.contains("Lag:          6 records behind 1 committed offset\n"),
        "{text}"
    );
    let last: Vec<_> = text
        .lines()
        .last()
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(last, ["t", "0", "4", "10", "6", "-", "-", "-"]);
}

#[test]
fn a_topic_that_is_deleted_meanwhile_takes_nothing_from_the_others() {
    let shell = read_in_part();
    for n in 0..5 {
        let topic = format!("gone{n}");
        shell.ok(&format!("topics create {topic} --partitions 4"));
        shell.ok(&format!(
            "groups reset-offsets other --topic {topic} --to-earliest --execute"
        ));
        let mut delete = Running(shell.start(&format!("topics delete {topic}")));
        let began = Instant::now();
        for _ in 0..3 {
            let described = shell.json("groups describe --json");
            let of_g = described.iter().find(|group| group["group"] == "g");
            let partitions = &of_g.expect("the group")["partitions"];
            assert_eq!(partitions[0]["lag"], 6, "{described:?}");
        }
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "nothing is waited for"
        );
        delete.finish().success("topics delete");
    }
}

#[test]
fn where_there_is_no_group_that_is_told() {
    let shell = Shell::new();
    for line in ["groups list", "groups describe"] {
        let finished = shell.run(line);
        let told = &finished.stderr;
        assert!(told.contains("There is no consumer group yet"), "{told}");
        assert_eq!(finished.success(line), "");
    }
    let finished = shell.run("groups describe --json");
    assert_eq!(finished.stderr, "");
}

#[test]
fn members_are_shown_with_what_they_read() {
    let shell = read_in_part();
    let member = join(&shell);
    let described = shell.json("groups describe g --json").remove(0);
    assert_eq!(described["state"], "Stable");
    assert_eq!(described["assignor"], "range");
    let only = &described["members"][0];
    assert_eq!(only["client_id"], "reader");
    assert_eq!(only["host"], "/127.0.0.1");
    assert_eq!(only["assignment"], json!({"t": [0, 1]}));
    for partition in described["partitions"].as_array().expect("a list") {
        assert_eq!(partition["member"], only["member"]);
    }
    let text = shell.ok("groups describe g --members");
    let id = only["member"].as_str().expect("an id");
    let last: Vec<_> = text
        .lines()
        .last()
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(last, [id, "-", "/127.0.0.1", "reader", "2", "t:0,1"]);
    for line in [
        "groups reset-offsets g --topic t --to-earliest",
        "groups reset-offsets g --topic t --to-earliest --execute",
        "groups delete g",
    ] {
        let told = fails(&shell.run(line), 1);
        assert!(told.contains("groups describe"), "{line}: {told}");
    }
    drop(member);
}

#[test]
fn offsets_are_moved_only_when_told_to_execute() {
    let shell = read_in_part();
    let finished = shell.run("groups reset-offsets g --topic t --to-latest");
    assert!(finished.stderr.contains("--execute"), "{}", finished.stderr);
    let shown = finished.success("a dry run");
    assert_eq!(
        rows(&shown),
        [["g", "t", "0", "4", "10"], ["g", "t", "1", "-", "10"]]
    );
    assert_eq!(offsets(&shell), [(0, json!(4))], "nothing was changed");
    let table = [
        ("--topic t:0 --shift-by -3", vec![(0, 1)]),
        ("--topic t:0 --shift-by 100", vec![(0, 10)]),
        ("--topic t --to-earliest", vec![(0, 0), (1, 0)]),
        ("--topic t --to-latest", vec![(0, 10), (1, 10)]),
        ("--all-topics --to-offset 5", vec![(0, 5), (1, 5)]),
        (
            "--topic t:1 --to-datetime 2000-01-01T00:00:00.000",
            vec![(0, 5), (1, 0)],
        ),
        (
            "--topic t:1 --to-datetime 2100-01-01",
            vec![(0, 5), (1, 10)],
        ),
        ("--topic t:0,1 --by-duration P1D", vec![(0, 0), (1, 0)]),
        ("--topic t:0,1 --to-latest", vec![(0, 10), (1, 10)]),
        ("--topic t:0,1 --to-datetime -1d", vec![(0, 0), (1, 0)]),
        ("--topic t:0,1 --by-duration 0s", vec![(0, 10), (1, 10)]),
    ];
    for (flags, expected) in table {
        shell.ok(&format!("groups reset-offsets g {flags} --execute"));
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(at, offset)| (at, json!(offset)))
            .collect();
        assert_eq!(offsets(&shell), expected, "{flags}");
    }
    let told = shell.json("groups reset-offsets g --topic t:1 --to-offset 2 --execute --json");
    let expected = json!({
        "group": "g", "topic": "t", "partition": 1, "current_offset": 10, "new_offset": 2,
        "executed": true,
    });
    assert_eq!(told, [expected]);
    assert_eq!(shell.ok("consume t --group g --format %s"), "23456789");
}

#[test]
fn a_group_is_deleted_with_its_offsets() {
    let shell = read_in_part();
    assert_eq!(shell.ok("groups delete g"), "g: deleted\n");
    let told = fails(&shell.run("groups describe g"), 1);
    assert!(told.contains("groups list"), "{told}");
    assert_eq!(shell.ok("groups list --json"), "");
    let told = fails(&shell.run("groups delete g"), 1);
    assert!(told.contains("groups list"), "{told}");
}

#[test]
fn a_wrong_reset_is_told() {
    let shell = read_in_part();
    let table = [
        ("--topic t", 2, "--to-earliest"),
        ("--to-earliest", 2, "--topic"),
        (
            "--topic t --to-earliest --to-latest",
            2,
            "cannot be used with",
        ),
        ("--topic nope --to-earliest", 1, "no topic 'nope'"),
        ("--topic t:7 --to-earliest", 1, "no partition 7"),
        ("--topic t:x --to-earliest", 2, "'x' is no partition"),
        ("--topic t:1 --shift-by 1", 1, "no offset in t-1"),
        ("--topic t --to-datetime soon", 2, "2026-01-31"),
        ("--topic t --to-datetime -soon", 2, "no length of time"),
        ("--topic t --by-duration -1h", 2, "no length of time"),
        ("--topic t --to-offset -5", 2, "-5 is not in 0.."),
        ("--topic t --by-duration soon", 2, "P7D"),
        (
            "--topic t --to-earliest --execute --dry-run",
            2,
            "cannot be used with",
        ),
    ];
    for (flags, code, word) in table {
        let told = fails(&shell.run(&format!("groups reset-offsets g {flags}")), code);
        assert!(told.contains(word), "{flags}: {told}");
    }
    let told = fails(
        &shell.run("groups reset-offsets new --all-topics --to-earliest"),
        1,
    );
    assert!(told.contains("--topic"), "{told}");
}

#[test]
fn of_several_groups_those_that_are_there_are_described() {
    let shell = read_in_part();
    let finished = shell.run("groups describe nope g --json");
    let told = fails_in_part(&finished, 1);
    for word in ["no consumer group 'nope'", "1 of 2 failed"] {
        assert!(told.contains(word), "{told}");
    }
    let described = crate::program::objects(&finished.stdout);
    let groups: Vec<_> = described.iter().map(|group| &group["group"]).collect();
    assert_eq!(groups, [&json!("g")]);
}

#[test]
fn a_group_that_is_ahead_in_one_partition_is_not_the_less_behind_in_another() {
    let shell = read_in_part();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", shell.broker.bootstrap())
        .set("group.id", "g");
    let consumer: BaseConsumer = config.create().expect("a client");
    let mut ahead = TopicPartitionList::new();
    let added = ahead.add_partition_offset("t", 1, Offset::Offset(15));
    added.expect("an offset");
    let committed = consumer.commit(&ahead, CommitMode::Sync);
    committed.expect("a commit from outside of the group");
    let text = shell.ok("groups describe g");
    assert_eq!(rows_of(&text, "t"), [["4", "10", "6"], ["15", "10", "-5"]]);
    assert!(
        text.contains("Lag:          6 records behind 2 committed offsets\n"),
        "{text}"
    );
}

/// The offset, end and lag of each partition of `topic`.
fn rows_of<'a>(text: &'a str, topic: &str) -> Vec<Vec<&'a str>> {
    let rows = text.lines().map(|line| line.split_whitespace());
    let rows = rows.map(Iterator::collect::<Vec<_>>);
    let rows = rows.filter(|row| row.len() == 8 && row[0] == topic);
    rows.map(|row| row[2..5].to_vec()).collect()
}

#[test]
fn a_row_has_a_word_for_each_column_whatever_the_names() {
    let shell = read_in_part();
    let reset = "groups reset-offsets --topic t:0 --to-latest --execute";
    let mut command = shell.command(reset);
    let within = Duration::from_secs(60);
    let finished = run(command.arg("a b\u{1b}[31m"), b"", within);
    finished.success("a group with any name");
    let listed = shell.ok("groups list");
    assert_eq!(rows(&listed)[0], ["a\\x20b\\u{1b}[31m", "Empty", "Classic"]);
    let listed = shell.json("groups list --json");
    assert_eq!(listed[0]["group"], "a b\u{1b}[31m", "as it is for programs");
}
