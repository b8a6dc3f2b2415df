//! `millrace produce`.

use serde_json::json;

use crate::program::{Shell, fails, objects};

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
    let expected = json!({"topic": "t", "records": 3, "failed": 0, "partitions": partitions});
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
            "missing field `value`",
        ),
        ("produce t --json", "{\"value\":1}\n", "base64"),
        ("produce t --partition 3", "x\n", "partition"),
    ];
    for (line, input, word) in table {
        let told = fails(&shell.run_with(line, input), 1);
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
    shell.ok_with("produce new --quiet", "x\n");
    assert_eq!(shell.ok("consume new"), "x\n");
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
    let told = fails(&finished, 1);
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
