//! `millrace produce`.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::program::{Running, Shell, fails, fails_in_part, objects};

#[test]
fn each_line_is_a_record_with_what_the_flags_say() {
    let shell = Shell::new();
    shell.ok("topics create t --partitions 2");
    let line = "produce t --key-separator : --partition 1 --header h=1 --header h=2 \
                --null-marker gone --compression lz4";
    let summary = shell.ok_with(line, "k:one\r\n:two\nk:gone\nk:a:b");
    assert!(summary.starts_with("4 records written to t\n"), "{summary}");
    let last: Vec<_> = summary
        .lines()
        .last()
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(
        last,
        ["1", "4", "0", "3"],
        "partition, records, first and last offset"
    );
    let printed = shell.ok("consume t --format %p:%o:%k:%s:%S:%h\\n");
    let expected = "1:0:k:one:3:h=1,h=2\n1:1::two:3:h=1,h=2\n1:2:k::-1:h=1,h=2\n\
                    1:3:k:a:b:3:h=1,h=2\n";
    assert_eq!(printed, expected);
}

#[test]
fn what_consume_prints_as_json_can_be_produced_again() {
    let shell = Shell::new();
    shell.ok("topics create t");
    let input = r#"
{"key":"k","value":"v","headers":[["a","1"],["a",null]],"timestamp":1700000000000}
{"value":null,"key":"k"}
{"value":{"base64":"/wA="},"partition":0}
"#;
    let summary = objects(&shell.ok_with("produce t --json", input.trim_start()));
    let partitions = json!([{"partition": 0, "records": 3, "first_offset": 0, "last_offset": 2}]);
    let expected =
        json!({"topic": "t", "records": 3, "failed": 0, "unknown": 0, "partitions": partitions});
    assert_eq!(summary, [expected]);
    let first = shell.json("consume t --json");
    assert_eq!(
        first[0],
        json!({
            "topic": "t", "partition": 0, "offset": 0, "timestamp": 1_700_000_000_000_i64,
            "key": "k", "value": "v", "headers": [["a", "1"], ["a", null]],
        })
    );
    assert_eq!(first[1]["value"], json!(null));
    assert_eq!(first[2]["value"], json!({"base64": "/wA="}));
    shell.ok("topics create copy");
    shell
        .bash("millrace consume t --json | millrace produce copy --json")
        .success("a copy");
    let mut copy = shell.json("consume copy --json");
    copy.iter_mut()
        .for_each(|record| record["topic"] = json!("t"));
    assert_eq!(copy, first);
}

#[test]
fn keys_go_where_a_java_client_sends_them() {
    let shell = Shell::new();
    shell.ok("topics create t --partitions 10");
    // murmur2 of Kafka's own tests: the hash, positive, modulo the partitions.
    let keys = [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
    ];
    for (key, hash) in keys {
        shell.ok_with("produce t --key-separator :", &format!("{key}:v\n"));
        let expected = (hash & i32::MAX) % 10;
        let all = shell.json("consume t --json");
        let record = all.iter().find(|record| record["key"] == key);
        assert_eq!(record.expect("the record")["partition"], expected, "{key}");
    }
}

#[test]
fn a_wrong_line_ends_it_and_is_named() {
    let shell = Shell::new();
    shell.ok("topics create t");
    let table = [
        (
            "produce t --key-separator :",
            "a:1\nnokey\n",
            "line 2 of standard input: no key",
        ),
        (
            "produce t --json",
            "{\"vlaue\":\"v\"}\n",
            "line 1 of standard input: unknown field `vlaue`",
        ),
        ("produce t --json", "{}\n", "missing field `value`"),
        ("produce t --json", "{\"value\":1}\n", "base64"),
        ("produce t --partition 3", "x\n", "line 1 of standard input"),
    ];
    for (line, input, word) in table {
        let told = fails_in_part(&shell.run_with(line, input), 1);
        assert!(told.contains(word), "{line}: {told}");
    }
    assert_eq!(
        shell.ok("consume t"),
        "1\n",
        "what came before the wrong line was written"
    );
}

#[test]
fn a_topic_is_made_where_the_broker_does_that_and_missed_elsewhere() {
    let shell = Shell::new();
    for (line, input, is_told) in [
        ("produce new --quiet", "x\n", false),
        ("produce new", "x\n", false),
        ("produce newer", "x\n", true),
        ("produce newest --json", "{\"value\":\"x\"}\n", true),
    ] {
        let finished = shell.run_with(line, input);
        let told = finished.stderr.contains(": the broker made it");
        assert_eq!(told, is_told, "{line}: {}", finished.stderr);
        finished.success(line);
    }
    assert_eq!(shell.ok("consume new"), "x\nx\n");
    let strict = Shell::with(&[("auto.create.topics.enable", "false")]);
    let told = fails(&strict.run_with("produce new", "x\n"), 1);
    assert!(told.contains("topics create new"), "{told}");
}

#[test]
fn records_that_the_broker_refuses_are_counted_and_fail_the_command() {
    let shell = Shell::new();
    shell.ok("topics create t --config max.message.bytes=1000");
    let input = format!("{}\n", "x".repeat(5000));
    let finished = shell.run_with("produce t --json", "");
    finished.success("nothing to do");
    let finished = shell.run_with("produce t", &input);
    let told = fails_in_part(&finished, 1);
    assert!(
        told.contains("1 record not delivered") && told.contains("max.message.bytes"),
        "{told}"
    );
    assert!(
        finished.stdout.starts_with("0 records written"),
        "{}",
        finished.stdout
    );
}

#[test]
fn who_stops_it_hears_of_records_that_nobody_answered_for() {
    let shell = Shell::new();
    shell.ok("topics create t --partitions 2");
    // A batch of two goes at once, a single record is kept for others to come.
    let line = "produce t --json -X linger.ms=100000 -X batch.num.messages=2 --timeout 200s";
    let mut producer = shell.command(line);
    let producer = producer
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut producer = Running(producer.spawn().expect("the program"));
    let mut stdin = producer.0.stdin.take().expect("a pipe");
    for partition in [1, 0, 0] {
        let line = json!({"value": "v", "partition": partition});
        writeln!(stdin, "{line}").expect("a pipe that is read");
    }
    let end = Instant::now() + Duration::from_secs(60);
    while shell.ok("consume t --partition 0") != "v\nv\n" {
        assert!(Instant::now() < end, "the batch of two is not written");
    }
    let pid = Pid::from_raw(i32::try_from(producer.0.id()).expect("a process id"));
    kill(pid, Signal::SIGINT).expect("a child of this process");
    let finished = producer.finish();
    let told = &finished.stderr;
    assert_eq!(
        finished.status.signal(),
        Some(Signal::SIGINT as i32),
        "{told}"
    );
    assert!(told.contains("1 record without an answer"), "{told}");
    let summary = objects(&finished.stdout).remove(0);
    let counts = [&summary["records"], &summary["failed"], &summary["unknown"]];
    assert_eq!(counts, [&json!(2), &json!(0), &json!(1)]);
    drop(stdin);
}
