//! `millrace log verify` and `millrace log repair`, on files of a broker that has stopped: sound
//! ones, and ones that were damaged in one place.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use kacrab_protocol::generated::ApiKey;
use serde_json::Value;

use crate::program::{Shell, fails, fails_in_part, objects, program, rows};
use crate::support::batches::field;
use crate::support::broker::{Broker, Peer};
use crate::support::command::{Finished, run};
use crate::support::segments::{BatchHeader, batches, segments};
use crate::support::topics::create;
use crate::support::wire::Wire;
use crate::support::{data_home, requests};

const TOPIC: &str = "kept";
const RECORDS: i64 = 240;
const SETTINGS: [(&str, &str); 2] = [
    ("internal.segment.bytes", "8192"),
    ("index.interval.bytes", "512"),
];

/// The files of a broker that has stopped: a topic of several segments, with producers that are
/// remembered. None for another broker.
fn stopped() -> Option<Shell> {
    let mut shell = Shell::new();
    if shell.broker.peer() == Peer::Kafka {
        return None;
    }
    create(&shell.broker, TOPIC, 1, &SETTINGS);
    produce(&shell);
    shell.broker.stop();
    Some(shell)
}

fn produce(shell: &Shell) {
    let line = |offset: i64| format!("{offset}:{}\n", "v".repeat(100 + offset as usize % 50));
    let lines: String = (0..RECORDS).map(line).collect();
    let flags = "-K : -X batch.num.messages=6 -X enable.idempotence=true";
    shell.ok_with(&format!("produce {TOPIC} --quiet {flags}"), &lines);
}

fn log(command: &str, path: &Path) -> Finished {
    let line = format!("log {command} {}", path.display());
    run(&mut program(&line), b"", Duration::from_secs(60))
}

/// A copy of the data directory.
struct Copy {
    home: tempfile::TempDir,
}

impl Copy {
    fn of(data: &Path) -> Self {
        let home = data_home("verify-");
        copy_files(data, home.path());
        Self { home }
    }

    fn data(&self) -> &Path {
        self.home.path()
    }

    fn partition(&self) -> PathBuf {
        self.data().join(format!("{TOPIC}-0"))
    }

    /// The first file of the partition with this extension, but for one that is empty.
    fn file(&self, extension: &str) -> PathBuf {
        let mut files: Vec<_> = files(&self.partition());
        files.retain(|(path, bytes)| {
            path.extension().is_some_and(|it| it == extension) && !bytes.is_empty()
        });
        let file = files.first().unwrap_or_else(|| panic!("no .{extension}"));
        file.0.clone()
    }

    fn verified(&self) -> Vec<Value> {
        objects(&log("verify --json", self.data()).stdout)
    }

    /// What is wrong, all together.
    fn damage(&self) -> Vec<Value> {
        let reports = self.verified();
        let damage = reports
            .iter()
            .filter_map(|report| report["damage"].as_array());
        damage.flatten().cloned().collect()
    }
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy_files(&path, &target),
            false => drop(fs::copy(&path, &target).expect("a copy")),
        }
    }
}

/// All files below a directory, with what is in them.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => {
                let bytes = fs::read(&path).expect("a file");
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}

fn flip(file: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(file);
    let file = file.expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("a write");
}

/// The offsets that a client can read, going on behind what it is refused.
fn served(port: u16) -> BTreeSet<i64> {
    let mut wire = Wire::connect(port);
    let (mut offsets, mut from) = (BTreeSet::new(), 0);
    loop {
        let request = requests::fetch(TOPIC, 0, from);
        let mut answer = wire.call(ApiKey::Fetch, 12, |body, v| request.write(body, v));
        let answer = requests::fetched(&mut answer, 12);
        if answer.error_code == 0 && from >= answer.high_watermark {
            return offsets;
        }
        let next = match answer.error_code {
            0 => take(answer.records.unwrap_or_default(), &mut offsets),
            _ => None,
        };
        from = next.filter(|next| *next > from).unwrap_or(from + 1);
    }
}

/// Takes the offsets of the batches whose CRC holds, up to the first other one.
fn take(mut bytes: Bytes, offsets: &mut BTreeSet<i64>) -> Option<i64> {
    let mut next = None;
    while bytes.len() > field::RECORDS {
        let number = |at: usize| bytes[at..at + 4].try_into().expect("four bytes");
        let size = usize::try_from(i32::from_be_bytes(number(field::LENGTH))).ok()?;
        let delta = i32::from_be_bytes(number(field::LAST_OFFSET_DELTA));
        let crc = u32::from_be_bytes(number(field::CRC));
        let base = bytes[..8].try_into().expect("eight bytes");
        let base = i64::from_be_bytes(base);
        if size + 12 > bytes.len() {
            break;
        }
        let batch = bytes.split_to(size + 12);
        if crc32c::crc32c(&batch[field::ATTRIBUTES..]) != crc {
            break;
        }
        let end = base + i64::from(delta) + 1;
        offsets.extend(base..end);
        next = Some(end);
    }
    next
}

/// The offsets but for those that were told to be damaged.
fn sound(damage: &[Value]) -> BTreeSet<i64> {
    let range = |it: &Value| Some(it["first_offset"].as_i64()?..=it["last_offset"].as_i64()?);
    let gone: Vec<_> = damage.iter().filter_map(range).collect();
    let is_sound = |offset: &i64| !gone.iter().any(|gone| gone.contains(offset));
    (0..RECORDS).filter(is_sound).collect()
}

#[test]
fn what_was_stopped_is_sound_and_what_runs_is_refused() {
    let Some(mut shell) = stopped() else { return };
    let data = shell.broker.data().to_owned();
    let before = files(&data);
    let told = log("verify", &data).success("a sound directory");
    let found = rows(&told);
    let row = found.iter().find(|row| row[0].ends_with("/kept-0"));
    let row = row.unwrap_or_else(|| panic!("{told}"));
    let records = RECORDS.to_string();
    assert_eq!(
        (row[3], row[5], row[6]),
        (&*records, "0", &*records),
        "{told}"
    );
    assert_eq!(row[7], "ok", "{told}");
    assert!(row[1].parse::<u32>().expect("a number") > 3, "{told}");
    assert!(!told.contains("damage"), "{told}");
    let partition = data.join(format!("{TOPIC}-0"));
    log("verify", &partition).success("a sound partition");
    let segment = segments(&data, TOPIC, 0).remove(1).log;
    let alone = objects(&log("verify --json", &segment).success("a sound segment"));
    assert_eq!(alone[0]["batches"], batches(&segment).len());
    let told = log("repair", &data).success("nothing to repair");
    assert!(told.contains("0 steps to do"), "{told}");
    assert_eq!(files(&data), before, "nothing is changed");
    shell.broker.start_again();
    for command in ["verify", "repair", "repair --apply"] {
        let told = fails(&log(command, &data), 1);
        assert!(told.contains("another process works on"), "{told}");
    }
    let told = fails(&log("verify", &partition), 1);
    assert!(told.contains("stop it first"), "{told}");
    shell.broker.stop();
}

#[test]
fn what_was_killed_is_sound_with_what_its_journal_holds() {
    let mut shell = Shell::new();
    if shell.broker.peer() == Peer::Kafka {
        return;
    }
    create(&shell.broker, TOPIC, 1, &SETTINGS);
    // So many small appends that there is a journal.
    for _ in 0..3 {
        produce(&shell);
    }
    shell.broker.kill();
    let told = log("verify", shell.broker.data()).success("a killed broker's directory");
    assert!(told.contains("was not stopped"), "{told}");
    let found = rows(&told);
    let row = found.iter().find(|row| row[0].ends_with("/kept-0"));
    let records = (3 * RECORDS).to_string();
    assert_eq!(row.map(|row| row[3]), Some(&*records), "{told}");
}

/// Where a change of a file is found, and what was done.
type Damage = (&'static str, &'static str, fn(&Copy));

fn flip_middle(file: &Path) {
    let length = file.metadata().expect("a file").len();
    flip(file, length / 2);
}

fn batch_of(copy: &Copy, segment: usize, index: usize) -> (PathBuf, u64, BatchHeader) {
    let segment = segments(copy.data(), TOPIC, 0).remove(segment).log;
    let all = batches(&segment);
    let position: usize = all[..index].iter().map(|batch| batch.size).sum();
    (segment, position as u64, all[index])
}

const DAMAGES: [Damage; 13] = [
    ("a record of a closed segment", ".log", |copy| {
        let (file, position, _) = batch_of(copy, 1, 3);
        flip(&file, position + 70);
    }),
    ("the last batch of a closed segment", ".log", |copy| {
        let last = batches(&segments(copy.data(), TOPIC, 0)[1].log).len() - 1;
        let (file, position, _) = batch_of(copy, 1, last);
        flip(&file, position + 16);
    }),
    ("a record of the last segment", ".log", |copy| {
        let last = segments(copy.data(), TOPIC, 0).len() - 1;
        let (file, position, _) = batch_of(copy, last, 0);
        flip(&file, position + 70);
    }),
    ("the end of the last segment", ".log", |copy| {
        let file = segments(copy.data(), TOPIC, 0)
            .pop()
            .expect("a segment")
            .log;
        let length = file.metadata().expect("a file").len();
        let file = File::options().write(true).open(file).expect("a file");
        file.set_len(length - 30).expect("a cut");
    }),
    ("the last segment", ".log", |copy| {
        let last = segments(copy.data(), TOPIC, 0).pop().expect("a segment");
        fs::remove_file(last.log).expect("a file to remove");
    }),
    ("something behind the end", ".log", |copy| {
        let file = segments(copy.data(), TOPIC, 0)
            .pop()
            .expect("a segment")
            .log;
        let length = file.metadata().expect("a file").len();
        let file = File::options().write(true).open(file).expect("a file");
        file.write_all_at(&[7; 100], length).expect("a write");
    }),
    ("an index", ".index", |copy| flip(&copy.file("index"), 6)),
    ("a time index", ".timeindex", |copy| {
        flip(&copy.file("timeindex"), 5);
    }),
    ("a producer snapshot", ".snapshot", |copy| {
        flip_middle(&copy.file("snapshot"));
    }),
    ("the leader epochs", "leader-epoch-checkpoint", |copy| {
        fs::write(
            copy.partition().join("leader-epoch-checkpoint"),
            "0\n3\n0 0\n",
        )
        .expect("a file");
    }),
    ("the partition's metadata", "partition.metadata", |copy| {
        flip_middle(&copy.partition().join("partition.metadata"));
    }),
    ("a checkpoint", "recovery-checkpoint-", |copy| {
        for shard in 0..2 {
            flip_middle(&copy.data().join(format!("recovery-checkpoint-{shard}")));
        }
    }),
    ("meta.properties", "meta.properties", |copy| {
        let file = copy.data().join("meta.properties");
        let text = fs::read_to_string(&file).expect("a file");
        fs::write(&file, text.replace("millrace.format=", "millrace.format=x")).expect("a file");
    }),
];

/// What a repair leaves to whoever has a copy.
const LEFT: [&str; 2] = ["partition.metadata", "meta.properties"];

#[test]
fn each_damage_is_told_and_changes_nothing_until_the_repair_is_applied() {
    let Some(shell) = stopped() else { return };
    for (what, file, damages) in DAMAGES {
        let copy = Copy::of(shell.broker.data());
        damages(&copy);
        let before = files(copy.data());
        let told = fails_in_part(&log("verify", copy.data()), 3);
        assert!(told.contains("damaged place"), "{what}: {told}");
        let damage = copy.damage();
        let names = damage.iter().map(|it| it["file"].as_str().expect("a file"));
        assert!(
            names.clone().all(|name| name.contains(file)),
            "{what}: {damage:?}"
        );
        assert!(!damage.is_empty(), "{what}");
        let dry = log("repair", copy.data()).success(what);
        assert!(dry.contains("to do: --apply"), "{what}: {dry}");
        assert_eq!(files(copy.data()), before, "{what}: nothing is changed");
        let done = log("repair --apply", copy.data()).success(what);
        assert_eq!(
            dry.matches("would: ").count(),
            done.matches("done: ").count(),
            "{what}"
        );
        if LEFT.contains(&file) {
            assert_eq!(files(copy.data()), before, "{what}");
            continue;
        }
        let kept = sound(&damage);
        let mut broker = Broker::start_at(copy.data(), &[]);
        let served = served(broker.port());
        let missing: Vec<_> = kept.difference(&served).collect();
        assert!(
            missing.is_empty(),
            "{what}: {missing:?} of {damage:?}\n{done}"
        );
        broker.stop();
        // What was lost stays lost and is told; all else is in order.
        let left = copy.damage();
        let is_log = |it: &Value| it["file"].as_str().is_some_and(|it| it.ends_with(".log"));
        assert!(left.iter().all(is_log), "{what}: {left:?}");
        assert!(sound(&left).is_superset(&kept), "{what}: {left:?}");
    }
}

#[test]
fn sound_batches_behind_damage_are_kept_where_the_next_start_would_move_them_aside() {
    let mut shell = Shell::new();
    if shell.broker.peer() == Peer::Kafka {
        return;
    }
    create(&shell.broker, TOPIC, 1, &SETTINGS);
    produce(&shell);
    // Nothing was said yet of how far the log is durable: a start checks all of it.
    shell.broker.kill();
    let copies = [(); 2].map(|()| Copy::of(shell.broker.data()));
    let mut kept = BTreeSet::new();
    for copy in &copies {
        let (file, position, _) = batch_of(copy, 1, 3);
        flip(&file, position + 70);
        let damage = copy.damage();
        assert_eq!(damage.len(), 1, "{damage:?}");
        let told = damage[0]["kept"].as_str().expect("what is kept");
        assert!(
            told.contains("the next start would end the log here"),
            "{told}"
        );
        kept = sound(&damage);
    }
    let [left, repaired] = &copies;
    let done = log("repair --apply", repaired.data()).success("a repair");
    assert!(done.contains("done: set the recovery point"), "{done}");
    for (copy, is_repaired) in [(left, false), (repaired, true)] {
        let mut broker = Broker::start_at(copy.data(), &[]);
        let served = served(broker.port());
        assert_eq!(served.is_superset(&kept), is_repaired, "{served:?}");
        broker.stop();
    }
}

#[test]
fn a_lost_end_is_kept_aside_and_its_offsets_are_not_given_out_again() {
    let Some(shell) = stopped() else { return };
    let copy = Copy::of(shell.broker.data());
    let last = segments(copy.data(), TOPIC, 0).len() - 1;
    let count = batches(&segments(copy.data(), TOPIC, 0)[last].log).len();
    let (file, position, header) = batch_of(&copy, last, count - 1);
    flip(&file, position + 16);
    let whole = fs::read(&file).expect("a segment");
    let damage = copy.damage();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(damage[0]["position"], position);
    assert_eq!(damage[0]["first_offset"], header.base_offset);
    assert_eq!(damage[0]["last_offset"], RECORDS - 1);
    log("repair --apply", copy.data()).success("a repair");
    let aside = fs::read(file.with_extension("cut")).expect("what was cut off");
    assert_eq!(aside, whole[position as usize..]);
    assert_eq!(
        fs::read(&file).expect("a segment"),
        whole[..position as usize]
    );
    let mut broker = Broker::start_at(copy.data(), &[]);
    assert_eq!(served(broker.port()), (0..header.base_offset).collect());
    let mut wire = Wire::connect(broker.port());
    let batch = crate::support::batches::batch(&[b"after"]);
    let request = requests::produce(TOPIC, 0, -1, &batch);
    let mut answer = wire.call(ApiKey::Produce, 9, |body, v| request.write(body, v));
    let answer = requests::produced(&mut answer, 9);
    assert_eq!((answer.error_code, answer.base_offset), (0, RECORDS));
    broker.stop();
}

#[test]
fn what_is_no_data_is_told() {
    let empty = data_home("verify-");
    let told = fails(&log("verify", empty.path()), 1);
    assert!(
        told.contains("no data directory and holds no segment"),
        "{told}"
    );
    fails(&log("verify", &empty.path().join("none")), 74);
    let told = fails(&log("repair", empty.path()), 1);
    assert!(told.contains("is no data directory"), "{told}");
    fs::write(
        empty.path().join("meta.properties"),
        "version=1\ncluster.id=x\nnode.id=1\n",
    )
    .expect("a file");
    let told = fails(&log("verify", empty.path()), 1);
    assert!(told.contains("Apache Kafka"), "{told}");
}
