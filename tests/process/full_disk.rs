//! A disk that is full: used to its end, told to the operator, and taken up again. The disk is a
//! small tmpfs in a mount namespace of the broker's own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kacrab_protocol::generated::ApiKey;
use nix::sys::signal::Signal;

use super::below;
use super::deletion::{create, delete};
use super::events::lines;
use super::flips::{commit, find_coordinator};
use super::program::{Broker, PATIENCE, directory, with_override};
use super::support::wire::Wire;
use super::support::{batches, requests};

const DISK_BYTES: usize = 32 << 20;
const BALLAST_BYTES: usize = 8 << 20;
const RECORD_BYTES: usize = 200_000;
const KAFKA_STORAGE_ERROR: i16 = 56;

/// The broker below what gives it the small disk, if that may be done here.
fn on_small_disk(data: &Path) -> Option<Command> {
    let allowed = Command::new("unshare").args(["-rm", "true"]).output();
    if !allowed.is_ok_and(|tried| tried.status.success()) {
        eprintln!("left out: no mount namespace may be made here");
        return None;
    }
    let mount = format!("mount -t tmpfs -o size={DISK_BYTES} none \"$0\" && exec \"$@\"");
    let data_text = data.to_str().expect("a path in UTF-8");
    Some(below(
        &["unshare", "-rm", "sh", "-c", &mount, data_text],
        data,
    ))
}

/// The small disk as the broker with this process id sees it, or whoever else shares its mounts.
fn disk_of(id: u32, data: &Path) -> PathBuf {
    let disk = PathBuf::from(format!("/proc/{id}/root"));
    disk.join(data.strip_prefix("/").expect("a path from the root"))
}

/// A small disk that outlives the brokers on it, until this is dropped.
struct SmallDisk {
    holder: Child,
    data: PathBuf,
}

impl SmallDisk {
    fn mount(data: &Path) -> Option<Self> {
        let mut start = on_small_disk(data)?;
        // Its program is a broker, in whose place something else holds the mount.
        let arguments: Vec<_> = start.get_args().take(5).map(ToOwned::to_owned).collect();
        start = Command::new(start.get_program());
        start.args(arguments).args(["sh", "-c", "echo; read end"]);
        start.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = start.spawn().expect("a process that holds the disk");
        let mut mounted = BufReader::new(holder.stdout.take().expect("its output"));
        mounted.read_line(&mut String::new()).expect("a line");
        let data = data.to_owned();
        Some(Self { holder, data })
    }

    fn broker(&self) -> Command {
        let id = self.holder.id().to_string();
        let enter = ["nsenter", "-t", &id, "-U", "-m", "--preserve-credentials"];
        below(&enter, &self.data)
    }

    fn path(&self) -> PathBuf {
        disk_of(self.holder.id(), &self.data)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ended = self.holder.wait();
    }
}

/// Writes zeros into a file until there is not a byte left for it.
fn fill_up(file: &Path) {
    let mut file = fs::File::create(file).expect("a file");
    for bytes in [1 << 20, 4096, 1] {
        while file.write(&vec![0; bytes]).is_ok_and(|taken| taken > 0) {}
    }
}

/// Cuts off what is preallocated for appends, which a start would give back: so it finds no room at
/// all.
fn give_back_preallocated(disk: &Path) {
    for partition in fs::read_dir(disk).expect("a directory").flatten() {
        let files = fs::read_dir(partition.path()).into_iter().flatten();
        for file in files.flatten().map(|entry| entry.path()) {
            if file.extension() != Some("log".as_ref()) {
                continue;
            }
            let bytes = fs::read(&file).expect("a segment");
            let used = bytes.iter().rposition(|byte| *byte != 0);
            let used = used.map_or(0, |last| last as u64 + 1);
            let file = fs::OpenOptions::new().write(true).open(file);
            let cut = file.expect("a file").set_len(used.next_multiple_of(4096));
            cut.expect("a shorter file");
        }
    }
}

fn produce(wire: &mut Wire, value: &[u8]) -> i16 {
    produce_to("filled", wire, value)
}

fn produce_to(topic: &str, wire: &mut Wire, value: &[u8]) -> i16 {
    let request = requests::produce(topic, 0, -1, &batches::batch(&[value]));
    let mut answer = wire.call(ApiKey::Produce, 9, |body, version| {
        request.write(body, version)
    });
    requests::produced(&mut answer, 9).error_code
}

#[test]
fn a_full_disk_is_used_to_its_end_told_and_taken_up_again() {
    let data = directory();
    let Some(start) = on_small_disk(data.path()) else {
        return;
    };
    let start = with_override(start, "millrace.disk.reserve.bytes=0");
    let (mut broker, ready) = Broker::start(start);
    let ballast = disk_of(broker.id(), data.path()).join("ballast");
    fs::write(&ballast, vec![1; BALLAST_BYTES]).expect("a file");
    let mut wire = Wire::connect(ready.port());
    create(&mut wire, "filled", 1);

    let value = vec![7; RECORD_BYTES];
    let mut taken = 0;
    while taken < DISK_BYTES && produce(&mut wire, &value) == 0 {
        taken += RECORD_BYTES;
    }
    let room = DISK_BYTES - BALLAST_BYTES;
    assert!(
        taken > room - (1 << 20) && taken <= room,
        "{taken} of {room} bytes were used\n{}",
        broker.log()
    );
    for _ in 0..5 {
        assert_eq!(produce(&mut wire, &value), KAFKA_STORAGE_ERROR);
    }
    let none = ["ERROR", "no room left in the log directory"];
    let log = broker.log();
    let [told] = lines(&log, &none)[..] else {
        panic!("told once a minute: {log}");
    };
    let place = format!("directory={}", data.path().display());
    for part in [
        place.as_str(),
        "free_bytes=",
        "needed_bytes=",
        "No space left",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }

    fs::remove_file(&ballast).expect("a removal");
    assert_eq!(produce(&mut wire, &value), 0);
    let again = ["INFO", "there is room in the log directory again", &place];
    broker.wait_for("a line", |log| {
        (!lines(log, &again).is_empty()).then_some(())
    });
    assert_eq!(produce(&mut wire, &value), 0);
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(lines(&log, &none).len(), 1, "{log}");
    assert_eq!(lines(&log, &again).len(), 1, "{log}");
    let warned = [
        "WARN",
        "tmpfs, which is memory: acknowledged records do not",
    ];
    assert_eq!(lines(&log, &warned).len(), 1, "{log}");
}

/// Produces until that is taken.
fn produce_once_there_is_room(topic: &str, wire: &mut Wire, value: &[u8], broker: &Broker) {
    let began = Instant::now();
    while produce_to(topic, wire, value) != 0 {
        assert!(began.elapsed() < PATIENCE, "{}", broker.log());
        thread::sleep(Duration::from_millis(50));
    }
}

fn first_record_is_read(wire: &mut Wire) {
    let request = requests::fetch("filled", 0, 0);
    let mut answer = wire.call(ApiKey::Fetch, 11, |body, version| {
        request.write(body, version)
    });
    let read = requests::fetched(&mut answer, 11);
    assert_eq!(read.error_code, 0);
    assert!(
        read.records
            .is_some_and(|records| records.len() >= RECORD_BYTES)
    );
}

/// Has a group commit, whose coordinator is to be found first.
fn commit_offsets(wire: &mut Wire, broker: &Broker) {
    find_coordinator(wire, "group");
    let began = Instant::now();
    let mut offset = 0;
    while offset < 100 {
        match commit(wire, "filled", "group", offset) {
            0 => offset += 1,
            _ => assert!(began.elapsed() < PATIENCE, "{}", broker.log()),
        }
    }
}

#[test]
fn the_reserve_is_left_to_groups_reads_and_deletions() {
    const RESERVE_BYTES: usize = 8 << 20;
    let data = directory();
    let Some(mut start) = on_small_disk(data.path()) else {
        return;
    };
    for setting in [
        "millrace.disk.reserve.bytes=8388608",
        "offsets.topic.num.partitions=1",
        "log.segment.delete.delay.ms=0",
    ] {
        start = with_override(start, setting);
    }
    let (mut broker, ready) = Broker::start(start);
    let mut wire = Wire::connect(ready.port());
    create(&mut wire, "filled", 1);
    create(&mut wire, "doomed", 1);
    let value = vec![7; RECORD_BYTES];
    let mut taken = 0;
    while taken < RESERVE_BYTES {
        assert_eq!(produce_to("doomed", &mut wire, &value), 0);
        taken += RECORD_BYTES;
    }
    while taken < DISK_BYTES && produce(&mut wire, &value) == 0 {
        taken += RECORD_BYTES;
    }
    let room = DISK_BYTES - RESERVE_BYTES;
    assert!(
        taken > room - (1 << 20) && taken <= room,
        "{taken} of {room} bytes were used\n{}",
        broker.log()
    );
    assert_eq!(produce(&mut wire, &value), KAFKA_STORAGE_ERROR);
    let none = ["ERROR", "no room left in the log directory"];
    let told = broker.wait_for("a line", |log| {
        lines(log, &none).first().map(ToString::to_string)
    });
    for part in [
        "reserve_bytes=8388608",
        "kept by millrace.disk.reserve.bytes",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }

    // The topic of the offsets is made in the reserve, and one of a client is not.
    commit_offsets(&mut wire, &broker);
    // What is still beside the reserve is too little for a large batch, but not for a topic.
    while produce(&mut wire, &[7; 4000]) == 0 {}
    create(&mut wire, "late", 1);
    assert_ne!(produce_to("late", &mut wire, &[1]), 0);
    first_record_is_read(&mut wire);
    assert_eq!(produce(&mut wire, &value), KAFKA_STORAGE_ERROR);

    delete(&mut wire, "doomed");
    produce_once_there_is_room("filled", &mut wire, &value, &broker);
    produce_once_there_is_room("late", &mut wire, &value, &broker);
    let again = ["INFO", "there is room in the log directory again"];
    broker.wait_for("a line", |log| {
        (!lines(log, &again).is_empty()).then_some(())
    });
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_broker_starts_on_a_full_disk_and_reads_are_served() {
    let data = directory();
    let Some(disk) = SmallDisk::mount(data.path()) else {
        return;
    };
    let start = || with_override(disk.broker(), "millrace.disk.reserve.bytes=0");
    let (broker, ready) = Broker::start(start());
    let mut wire = Wire::connect(ready.port());
    create(&mut wire, "filled", 1);
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; BALLAST_BYTES]).expect("a file");
    let value = vec![7; RECORD_BYTES];
    while produce(&mut wire, &value) == 0 {}
    broker.signal(Signal::SIGKILL);
    broker.end();
    for _ in 0..2 {
        give_back_preallocated(&disk.path());
        fill_up(&ballast);
        let (mut broker, ready) = Broker::start(start());
        let mut wire = Wire::connect(ready.port());
        first_record_is_read(&mut wire);
        assert_eq!(produce(&mut wire, &value), KAFKA_STORAGE_ERROR);
        let told = ["ERROR", "no room for a checkpoint"];
        broker.wait_for("a line", |log| {
            (!lines(log, &told).is_empty()).then_some(())
        });
        broker.signal(Signal::SIGKILL);
        broker.end();
    }
    let (broker, ready) = Broker::start(start());
    let mut wire = Wire::connect(ready.port());
    fs::remove_file(&ballast).expect("a removal");
    produce_once_there_is_room("filled", &mut wire, &value, &broker);
    first_record_is_read(&mut wire);
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
}
