//! One flipped bit in the files of a broker that is not running: the next start serves what is
//! sound, refuses what is not, names the file where it cannot go on at all, and removes nothing.
//! The start after that scrubs, and tells of each bit that is still in a batch.
//!
//! Half of the rounds begin with a broker that was stopped, the other half with one that was
//! killed. `MILLRACE_FLIPS` sets how many there are, and `MILLRACE_FLIPS_SEED` the first's seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kacrab_protocol::generated::{
    ApiKey, FindCoordinatorRequestData, ListOffsetsPartition, ListOffsetsRequestData,
    ListOffsetsResponseData, ListOffsetsTopic, OffsetCommitRequestData,
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponseData,
    OffsetFetchRequestData, OffsetFetchRequestGroup, OffsetFetchResponseData,
};
use kacrab_protocol::record::RecordBatch;
use nix::sys::signal::Signal;
use rdkafka::producer::BaseRecord;

use super::program::{Broker, PATIENCE, command, directory, with_override};
use super::scrub::{DAMAGED, scrubbing};
use super::support::batches::{self, field};
use super::support::librdkafka::Producer;
use super::support::wire::{Wire, text};
use super::support::{Random, requests, topics};

const TOPIC: &str = "flips";
const PARTITIONS: i32 = 4;
/// Of each partition, written by two runs, half and half.
const RECORDS: i64 = 240;
const GROUPS: [&str; 3] = ["a", "b", "c"];
/// The last offset that each group commits; the first is 1.
const COMMITTED: i64 = 12;
const OFFSETS: &str = "__consumer_offsets";
const METADATA: &str = "__cluster_metadata";

/// What a round itself writes, once it has read.
const AFTER: &[u8] = b"after";

const ROUNDS: u64 = 60;
const THREADS: usize = 3;

/// How long groups are waited for that may be lost.
const LOADED_WITHIN: Duration = Duration::from_millis(300);

const CORRUPT_MESSAGE: i16 = 2;
const LOAD_IN_PROGRESS: i16 = 14;

fn broker_command(data: &Path) -> Command {
    with_offsets(with_override(
        command(data),
        "millrace.memory.bytes=67108864",
    ))
}

fn with_offsets(command: Command) -> Command {
    with_override(command, "offsets.topic.num.partitions=2")
}

/// What the record at an offset says: where it is, a filling, and the CRC of both.
fn value(partition: i32, offset: i64) -> Vec<u8> {
    let mut random = Random::new((partition as u64) << 32 | offset as u64);
    let length = random.range(20, 200) as usize;
    let mut bytes = format!("{partition} {offset} ").into_bytes();
    bytes.extend(random.bytes(length));
    let crc = crc32c::crc32c(&bytes);
    bytes.extend(crc.to_be_bytes());
    bytes
}

/// The files of a broker that does not run.
struct Image {
    home: tempfile::TempDir,
    files: Vec<PathBuf>,
    is_killed: bool,
}

impl Image {
    fn make(is_killed: bool) -> Self {
        let home = directory();
        let data = home.path();
        let (broker, ready) = Broker::start(broker_command(data));
        let settings = [
            ("internal.segment.bytes", "8192"),
            ("index.interval.bytes", "512"),
        ];
        topics::create_on(
            &mut Wire::connect(ready.port()),
            TOPIC,
            PARTITIONS,
            &settings,
        );
        write(ready.port(), 0..RECORDS / 2);
        commit_all(ready.port(), 1..COMMITTED / 2);
        assert_eq!(broker.stop().0, Some(0));
        let (broker, ready) = Broker::start(broker_command(data));
        write(ready.port(), RECORDS / 2..RECORDS);
        commit_all(ready.port(), COMMITTED / 2..COMMITTED + 1);
        if is_killed {
            broker.signal(Signal::SIGKILL);
            broker.end();
        } else {
            assert_eq!(broker.stop().0, Some(0));
        }
        let mut files = Vec::new();
        list(data, Path::new(""), &mut files);
        Self {
            home,
            files,
            is_killed,
        }
    }

    fn copy_to(&self, data: &Path) {
        for file in &self.files {
            let to = data.join(file);
            fs::create_dir_all(to.parent().expect("a directory")).expect("made");
            fs::copy(self.home.path().join(file), to).expect("copied");
        }
    }
}

/// The files below `data`, from there.
fn list(data: &Path, below: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(data.join(below)).expect("a directory") {
        let entry = entry.expect("an entry");
        let path = below.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => list(data, &path, files),
            false => files.push(path),
        }
    }
    files.sort();
}

fn write(port: u16, offsets: std::ops::Range<i64>) {
    let settings = [
        ("enable.idempotence", "true"),
        ("batch.num.messages", "6"),
        ("linger.ms", "2"),
    ];
    let producer = Producer::new(&format!("127.0.0.1:{port}"), &settings);
    let mut sent = Vec::new();
    for offset in offsets {
        for partition in 0..PARTITIONS {
            let value = value(partition, offset);
            let record = BaseRecord::with_opaque_to(TOPIC, sent.len());
            producer.send(record.partition(partition).payload(&value[..]));
            sent.push((partition, offset));
        }
    }
    assert_eq!(producer.delivered(), sent);
}

fn commit_all(port: u16, offsets: std::ops::Range<i64>) {
    let mut wire = Wire::connect(port);
    // Who asks for a coordinator first has their topic made.
    find_coordinator(&mut wire, GROUPS[0]);
    for (offset, group) in offsets.flat_map(|offset| GROUPS.map(|group| (offset, group))) {
        let began = Instant::now();
        while commit(&mut wire, TOPIC, group, offset) != 0 {
            assert!(began.elapsed() < PATIENCE, "no commit");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

pub fn find_coordinator(wire: &mut Wire, group: &str) {
    let request = FindCoordinatorRequestData::default().with_key(text(group));
    wire.call(ApiKey::FindCoordinator, 2, |body, v| request.write(body, v));
}

/// Has a group commit an offset of a topic's first partition. The error code of that.
pub fn commit(wire: &mut Wire, topic: &str, group: &str, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(-1);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(text(topic))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequestData::default()
        .with_group_id(text(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let mut answer = wire.call(ApiKey::OffsetCommit, 8, |body, v| request.write(body, v));
    let answer = OffsetCommitResponseData::read(&mut answer, 8).expect("an answer");
    answer.topics[0].partitions[0].error_code
}

/// The offset that a group has committed, or the error.
fn committed(wire: &mut Wire, group: &str) -> Result<i64, i16> {
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(text(group))
        .with_topics(None);
    let request = OffsetFetchRequestData::default().with_groups(vec![asked]);
    let mut answer = wire.call(ApiKey::OffsetFetch, 8, |body, v| request.write(body, v));
    let answer = OffsetFetchResponseData::read(&mut answer, 8).expect("an answer");
    let group = &answer.groups[0];
    let topic = group.topics.first();
    let found = topic.map_or(-1, |topic| topic.partitions[0].committed_offset);
    match group.error_code {
        0 => Ok(found),
        error => Err(error),
    }
}

/// What was done to the files.
struct Flip {
    file: PathBuf,
    byte: usize,
    bit: u8,
}

impl std::fmt::Display for Flip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (file, byte, bit) = (self.file.display(), self.byte, self.bit);
        write!(f, "bit {bit} of byte {byte} of {file}")
    }
}

impl Flip {
    /// Any file is as likely as any other, and in it any byte, but most often not the zeros behind
    /// what was written.
    fn make(data: &Path, files: &[PathBuf], random: &mut Random) -> Self {
        let (file, mut bytes) = loop {
            let file = &files[random.range(0, files.len() as u64) as usize];
            let bytes = fs::read(data.join(file)).expect("a file");
            if !bytes.is_empty() {
                break (file.clone(), bytes);
            }
        };
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let end = match random.range(0, 8) {
            0 => bytes.len(),
            _ => used,
        };
        let byte = random.range(0, end as u64) as usize;
        let bit = random.range(0, 8) as u8;
        bytes[byte] ^= 1 << bit;
        fs::write(data.join(&file), bytes).expect("written");
        Self { file, byte, bit }
    }

    /// The partition's directory that it hit, or nothing.
    fn directory(&self) -> &str {
        let mut parts = self.file.components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(directory)), Some(_)) => directory.to_str().expect("ASCII"),
            _ => "",
        }
    }

    fn name(&self) -> &str {
        let name = self.file.file_name().expect("a file");
        name.to_str().expect("ASCII")
    }

    /// Whether the bit is still flipped in a batch that a start has left in the log.
    fn is_in_data(&self, image: &Image, data: &Path) -> bool {
        let is_log = self.name().ends_with(".log") && !self.directory().starts_with(METADATA);
        let byte_of = |home: &Path| {
            let bytes = fs::read(home.join(&self.file)).ok()?;
            let used = bytes.iter().rposition(|byte| *byte != 0)?;
            (self.byte <= used).then(|| bytes[self.byte])
        };
        let before = byte_of(image.home.path());
        let flipped = before.map(|byte| byte ^ 1 << self.bit);
        is_log && flipped.is_some() && byte_of(data) == flipped
    }

    /// Whether records may be gone of the partition in `directory`. What is derived from records
    /// takes none with it.
    fn may_cost(&self, directory: &str) -> bool {
        if self.directory() == directory || self.directory().starts_with(METADATA) {
            return self.name().ends_with(".log") || self.name() == "partition.metadata";
        }
        self.name().starts_with("journal-")
    }
}

/// What a client finds in a partition.
#[derive(Debug, Default)]
struct Found {
    records: BTreeMap<i64, Bytes>,
    errors: BTreeSet<i16>,
}

/// Reads a partition as a client does, and goes on behind what it is refused.
fn read(wire: &mut Wire, partition: i32) -> Found {
    let mut found = Found::default();
    let mut from = 0;
    while from < RECORDS {
        let request = requests::fetch(TOPIC, partition, from);
        let mut answer = wire.call(ApiKey::Fetch, 12, |body, v| request.write(body, v));
        let answer = requests::fetched(&mut answer, 12);
        let mut error = answer.error_code;
        let records = answer.records.unwrap_or_default();
        let next = match error {
            0 => found.take(records, from, &mut error),
            _ => from,
        };
        let is_below_end = from < answer.high_watermark;
        assert!(
            next > from || error != 0 || !is_below_end,
            "{partition}: nothing and no error at {from} of {}",
            answer.high_watermark
        );
        if error != 0 {
            found.errors.insert(error);
        } else if !is_below_end {
            break;
        }
        from = next.max(from + i64::from(next == from));
    }
    found
}

impl Found {
    /// Takes the records of whole batches from an offset on; gives the offset behind them.
    fn take(&mut self, mut bytes: Bytes, from: i64, error: &mut i16) -> i64 {
        let mut next = from;
        while bytes.len() > field::RECORDS {
            let length = bytes[field::LENGTH..field::LEADER_EPOCH].try_into();
            let length = i32::from_be_bytes(length.expect("four bytes"));
            let size = usize::try_from(length).map_or(0, |length| length + field::LEADER_EPOCH);
            if size <= field::RECORDS || size > bytes.len() {
                break;
            }
            let mut batch = bytes.split_to(size);
            let crc = batch[field::CRC..field::ATTRIBUTES].try_into();
            let crc = u32::from_be_bytes(crc.expect("four bytes"));
            if crc32c::crc32c(&batch[field::ATTRIBUTES..]) != crc {
                *error = CORRUPT_MESSAGE;
                break;
            }
            let batch = RecordBatch::decode(&mut batch).expect("a batch whose CRC holds");
            for record in batch.records {
                let offset = batch.base_offset + i64::from(record.offset_delta);
                if offset >= from {
                    let value = record.value.expect("a value");
                    let twice = self.records.insert(offset, value);
                    assert_eq!(twice, None, "offset {offset} came twice");
                }
            }
            next = next.max(batch.base_offset + i64::from(batch.last_offset_delta) + 1);
        }
        next
    }

    fn check(&self, partition: i32, told: &str) {
        for (offset, found) in &self.records {
            let is_right = *found == value(partition, *offset) || *found == AFTER;
            assert!(
                is_right,
                "{told}: {partition} has a wrong record at {offset}"
            );
        }
    }
}

/// Every way to look an offset up is answered, somehow.
fn look_up(wire: &mut Wire, partition: i32) {
    for timestamp in [-1, -2, -3, 0, 1_500_000_000_000] {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(text(TOPIC))
            .with_partitions(vec![asked]);
        let request = ListOffsetsRequestData::default()
            .with_replica_id(-1)
            .with_topics(vec![topic]);
        let mut answer = wire.call(ApiKey::ListOffsets, 7, |body, v| request.write(body, v));
        ListOffsetsResponseData::read(&mut answer, 7).expect("an answer");
    }
}

/// The directories in which there are records.
fn with_records(data: &Path) -> BTreeSet<String> {
    let mut files = Vec::new();
    list(data, Path::new(""), &mut files);
    let is_log = |file: &&PathBuf| {
        let kind = file.extension().and_then(|kind| kind.to_str());
        let size = fs::metadata(data.join(file)).map_or(0, |found| found.len());
        matches!(kind, Some("log" | "cut")) && size > 0
    };
    let parents = files.iter().filter(is_log).filter_map(|file| file.parent());
    parents.map(|path| path.display().to_string()).collect()
}

fn assert_nothing_is_gone(image: &Image, data: &Path, log: &str) {
    let there = with_records(data);
    for name in with_records(image.home.path()) {
        let aside = |other: &String| {
            let rest = other.strip_prefix(&name);
            rest.is_some_and(|rest| rest.starts_with('.') && rest.ends_with("-stray"))
        };
        let is_there = there.contains(&name) || there.iter().any(aside);
        assert!(is_there, "{name} is gone: {there:?}\n{log}");
    }
}

/// A start that was refused says why.
fn assert_refused_well(flip: &Flip, code: Option<i32>, log: &str) {
    assert!(code.is_some_and(|code| code > 0), "code {code:?}:\n{log}");
    assert!(!log.contains("panicked"), "{log}");
    let last = log.lines().rfind(|line| line.contains("ERROR"));
    let last = last.unwrap_or_else(|| panic!("no reason:\n{log}"));
    let names = [flip.name(), flip.directory()];
    let is_named = |name: &&str| !name.is_empty() && last.contains(*name);
    assert!(names.iter().any(is_named), "names no file: {last}");
}

/// What a round came to.
#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    lost: usize,
    /// Bits that the scrub had to find, and found.
    told: u64,
}

fn round(image: &Image, seed: u64, flip: &mut Option<Flip>) -> Tally {
    let data = directory();
    image.copy_to(data.path());
    let mut random = Random::new(seed);
    random.next();
    let flip = flip.insert(Flip::make(data.path(), &image.files, &mut random));
    let mut tally = Tally::default();
    match Broker::start_or_end(broker_command(data.path())) {
        Err((code, log)) => {
            assert_refused_well(flip, code, &log);
            tally.refused = 1;
            assert_nothing_is_gone(image, data.path(), &log);
        }
        Ok((broker, ready)) => {
            let served = || serve(image, flip, ready.port());
            let served = catch_unwind(AssertUnwindSafe(served));
            let (code, log) = broker.stop();
            tally.lost = served.unwrap_or_else(|_| panic!("see above; the broker says:\n{log}"));
            assert_eq!(code, Some(0), "{log}");
            assert!(!log.contains("panicked"), "{log}");
            assert_nothing_is_gone(image, data.path(), &log);
            tally.told = u64::from(start_again(image, flip, data.path()));
        }
    }
    tally
}

/// What was served once is served again, and what is damaged in it is told: gives whether it was.
fn start_again(image: &Image, flip: &Flip, data: &Path) -> bool {
    let is_in_data = flip.is_in_data(image, data);
    let (mut broker, ready) = Broker::start(with_offsets(scrubbing(data)));
    if is_in_data {
        let file = format!("{}/{} ", flip.directory(), flip.name());
        let tells = |line: &str| line.contains(DAMAGED) && line.contains(&file);
        broker.wait_for("the scrub", |log| log.lines().any(tells).then_some(()));
    }
    for partition in 0..PARTITIONS {
        let mut wire = Wire::connect(ready.port());
        read(&mut wire, partition).check(partition, "the second start");
    }
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panicked"), "{flip}: {log}");
    assert_nothing_is_gone(image, data, &log);
    is_in_data
}

/// Checks what is served, and counts the records that are not.
fn serve(image: &Image, flip: &Flip, port: u16) -> usize {
    let mut wire = Wire::connect(port);
    let mut lost = 0;
    for partition in 0..PARTITIONS {
        let may_cost = flip.may_cost(&format!("{TOPIC}-{partition}"));
        let found = read(&mut wire, partition);
        found.check(partition, "read");
        let missing = RECORDS as usize - found.records.len();
        assert!(
            may_cost || (missing == 0 && found.errors.is_empty()),
            "{partition}: {missing} records missing, {:?}",
            found.errors
        );
        lost += missing;
        look_up(&mut wire, partition);
        produce(&mut wire, image, partition, may_cost);
    }
    let is_safe = (0..2).all(|index| !flip.may_cost(&format!("{OFFSETS}-{index}")));
    for group in GROUPS {
        check_group(&mut wire, group, is_safe);
    }
    lost
}

/// Appends go on where the log ends, and never take an offset twice that was certain to be kept.
fn produce(wire: &mut Wire, image: &Image, partition: i32, may_cost: bool) {
    let request = requests::produce(TOPIC, partition, -1, &batches::batch(&[AFTER]));
    let mut answer = wire.call(ApiKey::Produce, 9, |body, v| request.write(body, v));
    let answer = requests::produced(&mut answer, 9);
    let found = (answer.error_code, answer.base_offset);
    let is_free = answer.error_code != 0 || image.is_killed || answer.base_offset >= RECORDS;
    assert!(is_free, "{partition}: {found:?}");
    assert!(may_cost || found == (0, RECORDS), "{partition}: {found:?}");
}

fn check_group(wire: &mut Wire, group: &str, is_safe: bool) {
    let began = Instant::now();
    // Groups whose log is refused are never loaded.
    let patience = if is_safe { PATIENCE } else { LOADED_WITHIN };
    let found = loop {
        match committed(wire, group) {
            Err(LOAD_IN_PROGRESS) if began.elapsed() < patience => {
                thread::sleep(Duration::from_millis(5));
            }
            found => break found,
        }
    };
    let is_right = match found {
        Ok(offset) if is_safe => offset == COMMITTED,
        Ok(offset) => offset == -1 || (1..=COMMITTED).contains(&offset),
        Err(_) => !is_safe,
    };
    assert!(is_right, "group {group}: {found:?}");
}

fn setting(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |given| given.parse().expect("a number"))
}

#[test]
fn a_flipped_bit_costs_what_it_hits_at_most_and_is_never_served() {
    let first = setting("MILLRACE_FLIPS_SEED", 1);
    let end = first + setting("MILLRACE_FLIPS", ROUNDS);
    let images = [Image::make(false), Image::make(true)];
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let tally = Mutex::new(Tally::default());
    let rounds = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let image = &images[(seed % 2) as usize];
        let mut flip = None;
        let done = catch_unwind(AssertUnwindSafe(|| round(image, seed, &mut flip)));
        match done {
            Ok(done) => {
                let mut tally = tally.lock().expect("no panic under it");
                tally.refused += done.refused;
                tally.lost += done.lost;
                tally.told += done.told;
            }
            Err(_) => {
                let stop = if image.is_killed { "kill" } else { "stop" };
                let flip = flip.map_or_else(String::new, |flip| flip.to_string());
                let told = format!("seed {seed}, after a {stop}: {flip}");
                eprintln!("failed: {told}");
                failed.lock().expect("no panic under it").push(told);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(rounds);
        }
    });
    let failed = failed.into_inner().expect("no panic under it");
    let tally = tally.into_inner().expect("no panic under it");
    println!("seeds {first}..{end}: {tally:?}");
    assert!(failed.is_empty(), "{} rounds: {failed:#?}", failed.len());
    // About a fifth of the rounds is for the scrub.
    assert!(tally.told >= (end - first) / 10, "{tally:?}");
}
