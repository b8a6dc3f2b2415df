//! `millrace log dump`.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::program::{Shell, fails, fails_in_part, objects, program};
use crate::support::broker::Peer;
use crate::support::command::run;

/// A topic of three records in one batch, and the file that they are in. None for another broker,
/// whose files a test would find elsewhere.
fn written() -> Option<(Shell, PathBuf)> {
    let shell = Shell::new();
    if shell.broker.peer() == Peer::Kafka {
        return None;
    }
    shell.ok("topics create t");
    shell.ok_with(
        "produce t -K : -H h=1 -z zstd -X linger.ms=1000",
        &format!("a:{}\nb:two\nc:three\n", "one".repeat(100)),
    );
    let segment = shell.broker.data().join("t-0/00000000000000000000.log");
    Some((shell, segment))
}

#[test]
fn the_files_of_a_running_broker_and_of_a_stopped_one_are_shown() {
    let Some((mut shell, segment)) = written() else {
        return;
    };
    let text = shell.ok(&format!("log dump --records {}", segment.display()));
    for word in [
        "  0..2 at 0: 3 records",
        "zstd",
        "crc ok",
        "\"b\" = \"two\" h:\"1\"",
        "bytes of room",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let directory = segment.parent().expect("a directory").display().to_string();
    let line = format!("log dump --records --json {directory}");
    let running = shell.json(&line);
    assert_eq!(running.len(), 1);
    assert_eq!(running[0]["records"][2]["value"], "three");
    assert_eq!(running[0]["crc_valid"], true);
    shell.broker.stop();
    let stopped = run(&mut program(&line), b"", std::time::Duration::from_secs(60));
    assert_eq!(objects(&stopped.success("without a broker")), running);
}

#[test]
fn batches_are_chosen_by_offset_and_count() {
    let Some((shell, segment)) = written() else {
        return;
    };
    for n in 0..3 {
        shell.ok_with("produce t --quiet", &format!("{n}\n"));
    }
    let bases = |flags: &str| -> Vec<_> {
        let all = shell.json(&format!("log dump --json {flags} {}", segment.display()));
        all.iter()
            .map(|batch| batch["base_offset"].as_i64().expect("a number"))
            .collect()
    };
    assert_eq!(bases(""), [0, 3, 4, 5]);
    assert_eq!(bases("--offset 1 --count 2"), [0, 3]);
    assert_eq!(bases("--offset 4"), [4, 5]);
    assert_eq!(bases("--offset 9"), [0_i64; 0]);
}

#[test]
fn the_brokers_own_records_are_decoded() {
    let Some((shell, _)) = written() else { return };
    shell.ok("consume t --group readers");
    let data = shell.broker.data().display().to_string();
    let all = shell.bash(&format!(
        "millrace log dump -r --json {data}/__consumer_offsets-*"
    ));
    let all = objects(&all.success("the groups' log"));
    let decoded: Vec<_> = all
        .iter()
        .flat_map(|batch| batch["records"].as_array().expect("records"))
        .map(|record| &record["decoded"])
        .collect();
    let commit = decoded
        .iter()
        .find(|record| record["type"] == "OffsetCommit");
    let commit = commit.expect("a commit");
    assert_eq!(
        (&commit["group"], &commit["topic"]),
        (&"readers".into(), &"t".into())
    );
    assert_eq!(commit["value"]["offset"], 3);
    let group = decoded
        .iter()
        .find(|record| record["type"] == "GroupMetadata");
    assert_eq!(group.expect("a group")["group"], "readers");
    let metadata = shell.ok(&format!("log dump -r {data}/__cluster_metadata-0"));
    assert!(metadata.contains("TopicRecord { name: "), "{metadata}");
}

#[test]
fn damage_is_shown_and_fails_the_command() {
    let Some((mut shell, segment)) = written() else {
        return;
    };
    shell.broker.stop();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .expect("the segment");
    let dump = |flags: &str| {
        let mut command = program(&format!("log dump {flags} {}", segment.display()));
        run(&mut command, b"", std::time::Duration::from_secs(60))
    };
    // The last byte of the batch: its CRC covers it.
    let batch = objects(&dump("--json").success("a sound file"))[0].clone();
    let size = batch["size"].as_u64().expect("a size");
    file.write_all_at(&[0xAA], size - 1)
        .expect("a writable file");
    let finished = dump("");
    let told = fails_in_part(&finished, 1);
    assert!(
        told.contains("damaged") && finished.stdout.contains("CRC WRONG"),
        "{told}"
    );
    // Something where there should be room, and a length that no batch has.
    file.write_all_at(&[1], size + 200)
        .expect("a writable file");
    let told = fails_in_part(&dump("--json"), 1);
    assert!(
        told.contains("damaged"),
        "the first thing that is wrong: {told}"
    );
    file.write_all_at(&[0; 4], 8).expect("a writable file");
    let told = fails_in_part(&dump("--json"), 1);
    assert!(told.contains("corrupt"), "{told}");
    // A cut inside of the batch.
    file.set_len(0).expect("a writable file");
    file.write_all_at(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2], 0)
        .expect("a file");
    let told = fails_in_part(&dump("--json"), 1);
    assert!(told.contains("was cut"), "{told}");
}

#[test]
fn a_path_without_a_segment_is_told() {
    let empty = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let dump = |path: &str| {
        let within = std::time::Duration::from_secs(60);
        run(&mut program(&format!("log dump {path}")), b"", within)
    };
    let told = fails(&dump(&empty.path().display().to_string()), 1);
    assert!(told.contains("the directory of a partition"), "{told}");
    let told = fails(&dump(&empty.path().join("none").display().to_string()), 74);
    assert!(told.contains("No such file"), "{told}");
    let zeros = [0; 24];
    for (name, bytes, is_taken) in [
        (
            "meta.properties",
            &b"# Written by Millrace\nversion=1\n"[..],
            false,
        ),
        ("short", b"x", false),
        ("00000000000000000000.index", &zeros, false),
        ("00000000000000000000.log", b"", true),
        ("00000000000000000000.log.deleted", &zeros, true),
        ("copied", &zeros, true),
    ] {
        let path = empty.path().join(name);
        fs::write(&path, bytes).expect("a writable directory");
        let finished = dump(&path.display().to_string());
        if is_taken {
            finished.success(name);
            continue;
        }
        let told = fails(&finished, 1);
        assert!(told.contains(&format!("{name} is no segment")), "{told}");
    }
}

#[test]
fn a_batch_whose_offset_does_not_follow_is_pointed_out() {
    let Some((mut shell, segment)) = written() else {
        return;
    };
    shell.ok_with("produce t --quiet", "next\n");
    shell.ok_with("produce t --quiet", "last\n");
    shell.broker.stop();
    let dump = |flags: &str| {
        let mut command = program(&format!("log dump {flags} {}", segment.display()));
        run(&mut command, b"", std::time::Duration::from_secs(60))
    };
    let batches = objects(&dump("--json").success("a sound file"));
    let second = batches[1]["position"].as_u64().expect("a position");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .expect("the segment");
    // The offset stands in front of what the CRC covers.
    for (offset, line, missing) in [
        (1_i64, "crc ok, OFFSET OUT OF ORDER: 3 is the least", 2),
        (7, "crc ok, 4 offsets missing before it", 0),
    ] {
        file.write_all_at(&offset.to_be_bytes(), second)
            .expect("a writable file");
        let finished = dump("");
        let told = fails_in_part(&finished, 1);
        assert!(told.contains("is out of order"), "{told}");
        assert!(finished.stdout.contains(line), "{}", finished.stdout);
        let shown = objects(&dump("--json").stdout);
        let of_last = shown[2]["offsets_missing"].as_i64().unwrap_or(0);
        assert_eq!(of_last, missing, "{offset}");
        assert_eq!(shown[2]["out_of_order"].is_null(), offset == 1, "{offset}");
    }
}
