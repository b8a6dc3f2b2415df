//! What is gathered at start: precedence, the form of the file, what is told about mistakes.

use std::io::Write;

use super::super::sources::{Given, Origin, SourceError, environment_name};
use super::*;

fn file(text: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text).expect("a written file");
    file
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    values(pairs).into_iter().collect()
}

#[test]
fn a_flag_counts_before_the_environment_before_the_file() {
    let file = file(b"num.partitions=1\nnode.id=1\nmessage.max.bytes=1\nlog.dirs=d\n");
    let given = Given::gather(
        Some(file.path()),
        pairs(&[
            ("MILLRACE_NUM_PARTITIONS", "2"),
            ("MILLRACE_NODE_ID", "2"),
            ("MILLRACE_SHARDS", "2"),
            ("HOME", "/root"),
        ]),
        pairs(&[("num.partitions", "3")]),
    )
    .expect("sources");
    let expected = [
        ("log.dirs", "d"),
        ("message.max.bytes", "1"),
        ("millrace.shards", "2"),
        ("node.id", "2"),
        ("num.partitions", "3"),
    ];
    assert_eq!(given.values, values(&expected));
    assert_eq!(given.origins["num.partitions"], Origin::Flag);
    let variable = "MILLRACE_NODE_ID".to_owned();
    assert_eq!(given.origins["node.id"], Origin::Environment(variable));
    assert_eq!(
        given.origins["log.dirs"],
        Origin::File(file.path().to_owned())
    );
}

#[test]
fn no_two_settings_share_a_variable() {
    let names = Settings::broker()
        .iter()
        .map(|setting| environment_name(setting.key));
    let distinct: std::collections::BTreeSet<_> = names.collect();
    assert_eq!(distinct.len(), Settings::broker().iter().count());
    assert!(!distinct.contains("MILLRACE_LOG"));
    assert_eq!(environment_name("log.roll.ms"), "MILLRACE_LOG_ROLL_MS");
    assert_eq!(environment_name("millrace.flush"), "MILLRACE_FLUSH");
}

#[test]
fn a_file_is_read_as_java_reads_properties() {
    let text =
        b"# comment\n! another\n a.b : one\\\n   two \nc d\nkey\\ x=\\u0041\nempty=\nn=1\nn=2\n";
    let given = Given::gather(Some(file(text).path()), [], []).expect("a file");
    let expected = [
        ("a.b", "onetwo "),
        ("c", "d"),
        ("empty", ""),
        ("key x", "A"),
        ("n", "2"),
    ];
    assert_eq!(given.values, values(&expected));
}

#[test]
fn a_file_that_is_not_there_or_not_properties_is_an_error() {
    let missing = Given::gather(Some("/no/such/file".as_ref()), [], []);
    assert!(matches!(missing, Err(SourceError::Unreadable { .. })));
    let malformed = Given::gather(Some(file(b"a=\\uXYZW\n").path()), [], []);
    assert!(matches!(malformed, Err(SourceError::Malformed { .. })));
}

#[test]
fn unknown_keys_are_named_with_what_was_meant() {
    let given = Given::gather(
        None,
        pairs(&[("MILLRACE_NO_SUCH", "1"), ("MILLRACE_LOG", "debug")]),
        pairs(&[
            ("log.retention.hour", "1"),
            ("zookeeper.connect", "h:1"),
            ("listener.name.plaintext.connections.max.reauth.ms", "1"),
            ("num.partitions", "1"),
        ]),
    )
    .expect("sources");
    let expected = [
        ("log.retention.hour", Some("log.retention.hours")),
        ("zookeeper.connect", None),
    ];
    assert_eq!(given.unknown(), expected);
    assert_eq!(given.unknown_variables, ["MILLRACE_NO_SUCH"]);
}

#[test]
fn misspelt_settings_of_ours_are_refused_and_variables_named_with_what_was_meant() {
    let given = |variables: &[(&str, &str)], flags: &[(&str, &str)]| {
        Given::gather(None, pairs(variables), pairs(flags)).expect("sources")
    };
    for (pair, expected) in [
        (
            ("millrace.flsh", "always"),
            Some(
                "millrace.flsh=always (from --override): Millrace has no such setting: did you \
                 mean millrace.flush?",
            ),
        ),
        (
            ("millrace.no.such", "1"),
            Some("millrace.no.such=1 (from --override): Millrace has no such setting"),
        ),
        (("millrace.flush", "always"), None),
        (("flsh", "always"), None),
    ] {
        let found = given(&[], &[pair]).explain_unknown_of_ours();
        assert_eq!(found.as_deref(), expected, "{pair:?}");
    }
    let given = given(
        &[
            ("MILLRACE_SHARD", "1"),
            ("MILLRACE_NUM_PARTITION", "1"),
            ("MILLRACE_SERVICE_HOST", "h"),
        ],
        &[],
    );
    let expected = [
        (
            "MILLRACE_NUM_PARTITION",
            Some("MILLRACE_NUM_PARTITIONS".to_owned()),
        ),
        ("MILLRACE_SERVICE_HOST", None),
        ("MILLRACE_SHARD", Some("MILLRACE_SHARDS".to_owned())),
    ];
    assert_eq!(given.unknown_variables(), expected);
}

#[test]
fn settings_without_effect_are_known() {
    let given = Given::gather(
        None,
        [],
        pairs(&[
            ("num.io.threads", "8"),
            ("num.partitions", "1"),
            ("no.such", "1"),
        ]),
    )
    .expect("sources");
    assert_eq!(given.without_effect(), ["num.io.threads"]);
}

#[test]
fn an_error_names_key_value_origin_and_what_is_allowed() {
    let table = [
        (
            ("num.partitions", "zero"),
            "num.partitions=zero (from --override): Not a number of type INT. Allowed: a 32-bit \
             integer, at least 1",
        ),
        (
            ("message.max.bytes", "-1"),
            "message.max.bytes=-1 (from --override): Value must be at least 0. Allowed: a 32-bit \
             integer without a unit, in bytes, at least 0",
        ),
        (
            ("log.cleanup.policy", "compact,compact"),
            "log.cleanup.policy=compact,compact (from --override): Configuration \
             'log.cleanup.policy' values must not be duplicated. Allowed: a list of compact, \
             delete without repeats",
        ),
        (
            ("auto.create.topics.enable", "yes"),
            "auto.create.topics.enable=yes (from --override): Expected value to be either true or \
             false. Allowed: true or false",
        ),
        (
            ("listeners", "PLAINTEXT://0.0.0.0:9092"),
            "listeners=PLAINTEXT://0.0.0.0:9092 (from --override): clients cannot connect to an \
             address that stands for every interface; set advertised.listeners to the name or \
             address under which they reach this machine. Allowed: a list without repeats or \
             empty elements, one at least",
        ),
        (
            ("listeners", "A://:1,PLAINTEXT://:99999"),
            "listeners=A://:1,PLAINTEXT://:99999 (from --override): PLAINTEXT://:99999: the port \
             must be from 0 to 65535. Allowed: a list without repeats or empty elements, one at \
             least",
        ),
        (
            ("millrace.memory.bytes", "512M"),
            "millrace.memory.bytes=512M (from --override): Not a number of type LONG. Allowed: a \
             64-bit integer without a unit, in bytes, at least 67108864",
        ),
    ];
    for (pair, expected) in table {
        let given = Given::gather(None, [], pairs(&[pair])).expect("sources");
        let layers = Layers::of_start(given.values.clone());
        let error = BrokerConfig::new(layers).expect_err("a refusal");
        assert_eq!(given.explain(&error), expected);
    }
}
