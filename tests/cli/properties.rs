//! Properties of the client, by `-X` and `--command-config`, beside the commands' own flags.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::program::{Shell, fails, objects, program};
use crate::support::broker::free_port;
use crate::support::command::run;

const WITHIN: Duration = Duration::from_secs(60);

/// A file of properties.
struct Properties {
    _dir: tempfile::TempDir,
    file: PathBuf,
}

impl Properties {
    fn of(text: &str) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let file = dir.path().join("client.properties");
        std::fs::write(&file, text).expect("a file");
        Self { _dir: dir, file }
    }

    /// `line` with the file.
    fn with(&self, line: &str) -> String {
        format!("{line} --command-config {}", self.file.display())
    }
}

/// The last offset that a producer of one record was told; null where it asked for none.
fn offset_told(shell: &Shell, line: &str) -> Value {
    let summary = objects(&shell.ok_with(line, "{\"value\":\"x\"}\n"));
    assert_eq!(summary[0]["records"], 1, "{line}: {summary:?}");
    summary[0]["partitions"][0]["last_offset"].clone()
}

#[test]
fn a_flag_counts_more_than_a_property_and_that_more_than_a_default() {
    let shell = Shell::new();
    shell.ok("topics create t");
    let unasked = Properties::of("acks=0\n");
    let by_alias = Properties::of("request.required.acks=0\n");
    let table = [
        ("produce t --json".to_owned(), true),
        (unasked.with("produce t --json"), false),
        (by_alias.with("produce t --json"), false),
        (unasked.with("produce t --json -X acks=1"), true),
        (unasked.with("produce t --json --acks all"), true),
        ("produce t --json -X acks=0".to_owned(), false),
        ("produce t --json --acks 1 -X acks=0".to_owned(), true),
    ];
    for (line, is_acknowledged) in table {
        let told = offset_told(&shell, &line);
        assert_eq!(told.is_i64(), is_acknowledged, "{line}: {told}");
    }
}

#[test]
fn what_goes_against_an_idempotent_producer_makes_it_a_plain_one() {
    let shell = Shell::new();
    shell.ok("topics create t");
    for property in [
        "acks=1",
        "retries=0",
        "max.in.flight.requests.per.connection=10",
        "delivery.timeout.ms=20000",
        "enable.idempotence=false",
    ] {
        shell.ok_with(&format!("produce t -X {property}"), "x\n");
    }
    // Who asks for both is told that they don't go together.
    let both = "produce t -X enable.idempotence=true -X acks=1";
    fails(&shell.run_with(both, "x\n"), 78);
}

#[test]
fn the_cluster_may_be_named_by_a_property_but_only_once() {
    let shell = Shell::new();
    shell.ok("topics create here");
    let bootstrap = shell.broker.bootstrap();
    let listed = |line: &str| run(&mut program(line), b"", WITHIN);
    let file = Properties::of(&format!("bootstrap.servers={bootstrap}\n"));
    for line in [
        file.with("topics list --json"),
        format!("topics list --json -X bootstrap.servers={bootstrap}"),
        format!("topics list --json -X metadata.broker.list={bootstrap}"),
        file.with(&format!("topics list --json -b {bootstrap}")),
    ] {
        let listed = listed(&line).success(&line);
        assert!(listed.contains("\"here\""), "{line}: {listed}");
    }
    let other = format!("127.0.0.1:{}", free_port());
    for finished in [
        listed(&file.with(&format!("topics delete here -b {other}"))),
        shell.run(&format!("topics delete here -X bootstrap.servers={other}")),
    ] {
        let told = fails(&finished, 2);
        for word in [&*bootstrap, &other, "name the cluster once"] {
            assert!(told.contains(word), "{told}");
        }
    }
}

#[test]
fn a_property_that_a_reader_sets_itself_is_refused() {
    let shell = Shell::new();
    shell.ok("topics create t");
    for (line, word) in [
        ("consume t -X auto.offset.reset=latest", "--offset"),
        ("consume t -X enable.partition.eof=false", "ends"),
        ("consume t --group g -X group.id=h", "--group"),
        (
            "consume t --group g -X auto.offset.reset=latest",
            "--offset",
        ),
        (
            "consume t --group g -X enable.auto.offset.store=true",
            "committed",
        ),
    ] {
        shell.ok_with("produce t --quiet", "x\n");
        let told = fails(&shell.run(line), 78);
        assert!(told.contains(word), "{line}: {told}");
    }
    shell.ok("consume t --group g -X group.id=g -X auto.offset.reset=earliest");
}
