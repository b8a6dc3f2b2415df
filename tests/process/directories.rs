//! Several log directories: all of them are used, one may fail or be missing, and a disk that is
//! not mounted never counts as empty.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kacrab_protocol::generated::ApiKey;
use nix::sys::signal::Signal;

use super::deletion::{create, delete};
use super::events::lines;
use super::program::{Broker, command, directory, run, told, with_override};
use super::support::topics::create_on;
use super::support::wire::Wire;
use super::support::{batches, requests};

const KAFKA_STORAGE_ERROR: i16 = 56;

/// Two directories of a node, below one of the test.
struct Home {
    above: tempfile::TempDir,
    a: PathBuf,
    b: PathBuf,
}

impl Home {
    fn new() -> Self {
        let above = directory();
        let [a, b] = ["a", "b"].map(|name| above.path().join(name));
        Self { above, a, b }
    }

    /// With four partitions of the topic `t`, each with one record, and the broker stopped.
    fn of_a_topic() -> Self {
        let home = Self::new();
        let (broker, mut wire) = home.start();
        create(&mut wire, "t", 4);
        for partition in 0..4 {
            assert_eq!(produce(&mut wire, "t", partition, b"one"), 0);
        }
        stop(broker);
        home
    }

    /// The one of two partitions of `t` that is in the second directory.
    fn partition_in_b(&self) -> i32 {
        let [partition] = partitions_in(&self.b, "t")[..] else {
            panic!("one of two partitions is in the second directory");
        };
        partition
    }

    fn command(&self, order: [&Path; 2]) -> Command {
        let [one, other] = order.map(Path::display);
        with_override(command(&self.a), &format!("log.dirs={one},{other}"))
    }

    fn start(&self) -> (Broker, Wire) {
        self.start_in_order([&self.a, &self.b])
    }

    fn start_in_order(&self, order: [&Path; 2]) -> (Broker, Wire) {
        connected(self.command(order))
    }

    /// What the disk of the second directory leaves when it is gone.
    fn take_away(&self) {
        fs::rename(&self.b, self.away()).expect("a name");
    }

    fn bring_back(&self) {
        let _gone = fs::remove_dir(&self.b);
        fs::rename(self.away(), &self.b).expect("a name");
    }

    fn away(&self) -> PathBuf {
        self.above.path().join("away")
    }
}

fn connected(command: Command) -> (Broker, Wire) {
    let (broker, ready) = Broker::start(command);
    let wire = Wire::connect(ready.port());
    (broker, wire)
}

/// The partitions of a topic that are in a directory.
fn partitions_in(data: &Path, topic: &str) -> Vec<i32> {
    let entries = fs::read_dir(data).expect("a directory").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let number = |name: String| name.strip_prefix(topic)?.strip_prefix('-')?.parse().ok();
    let mut found: Vec<i32> = names.filter_map(number).collect();
    found.sort_unstable();
    found
}

fn produce(wire: &mut Wire, topic: &str, partition: i32, value: &[u8]) -> i16 {
    let request = requests::produce(topic, partition, -1, &batches::batch(&[value]));
    let mut answer = wire.call(ApiKey::Produce, 9, |body, version| {
        request.write(body, version)
    });
    requests::produced(&mut answer, 9).error_code
}

/// The high watermark of a partition, or the error that a fetch of it gets.
fn kept(wire: &mut Wire, topic: &str, partition: i32) -> Result<i64, i16> {
    let request = requests::fetch(topic, partition, 0);
    let mut answer = wire.call(ApiKey::Fetch, 12, |body, version| {
        request.write(body, version)
    });
    let answer = requests::fetched(&mut answer, 12);
    match answer.error_code {
        0 => Ok(answer.high_watermark),
        error => Err(error),
    }
}

fn stop(broker: Broker) -> String {
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    log
}

#[test]
fn two_directories_share_the_partitions_and_their_order_means_nothing() {
    let home = Home::new();
    let (broker, mut wire) = home.start();
    create(&mut wire, "shared", 4);
    let [of_a, of_b] = [&home.a, &home.b].map(|data| partitions_in(data, "shared"));
    assert_eq!((of_a.len(), of_b.len()), (2, 2), "{of_a:?} {of_b:?}");
    for partition in 0..4 {
        assert_eq!(produce(&mut wire, "shared", partition, b"one"), 0);
    }
    stop(broker);
    for data in [&home.a, &home.b] {
        assert!(data.join(".clean-shutdown").exists());
        assert!(data.join("recovery-checkpoint-0").exists());
    }
    assert!(home.a.join("__cluster_metadata-0").exists());
    assert!(!home.b.join("__cluster_metadata-0").exists());

    let (broker, mut wire) = home.start_in_order([&home.b, &home.a]);
    for partition in 0..4 {
        assert_eq!(kept(&mut wire, "shared", partition), Ok(1));
        assert_eq!(produce(&mut wire, "shared", partition, b"two"), 0);
    }
    create(&mut wire, "second", 2);
    assert_eq!(partitions_in(&home.a, "second").len(), 1);
    assert_eq!(partitions_in(&home.b, "second").len(), 1);
    broker.signal(Signal::SIGKILL);
    broker.end();

    let (broker, mut wire) = home.start();
    for partition in 0..4 {
        assert_eq!(kept(&mut wire, "shared", partition), Ok(2));
    }
    assert_eq!(partitions_in(&home.a, "shared"), of_a);
    assert_eq!(partitions_in(&home.b, "shared"), of_b);
    stop(broker);
}

#[test]
fn many_small_appends_survive_a_kill_in_both_directories() {
    let home = Home::new();
    let (broker, mut wire) = home.start();
    create(&mut wire, "small", 2);
    // Enough for each directory to make its journal.
    for number in 0..700 {
        assert_eq!(produce(&mut wire, "small", number % 2, b"value"), 0);
    }
    broker.signal(Signal::SIGKILL);
    broker.end();
    let (broker, mut wire) = home.start();
    for partition in 0..2 {
        assert_eq!(kept(&mut wire, "small", partition), Ok(350));
    }
    stop(broker);
}

#[test]
fn a_directory_that_fails_is_out_of_service_and_the_other_goes_on() {
    let home = Home::new();
    let (mut broker, mut wire) = home.start();
    create_on(&mut wire, "t", 2, &[("internal.segment.bytes", "16384")]);
    let lost = home.partition_in_b();
    let other = 1 - lost;
    let value = vec![7; 3000];
    assert_eq!(produce(&mut wire, "t", lost, &value), 0);
    let mut taken = 1;
    home.take_away();
    // Until a new segment is due, for which there is no place.
    while taken < 100 && produce(&mut wire, "t", lost, &value) == 0 {
        taken += 1;
    }
    assert!((2..100).contains(&taken), "{taken} were taken");
    assert_eq!(produce(&mut wire, "t", lost, &value), KAFKA_STORAGE_ERROR);
    assert_eq!(kept(&mut wire, "t", lost), Err(KAFKA_STORAGE_ERROR));
    for _ in 0..20 {
        assert_eq!(produce(&mut wire, "t", other, &value), 0);
    }
    // At once, before anybody has told the metadata.
    create(&mut wire, "at-once", 3);
    assert_eq!(partitions_in(&home.a, "at-once"), [0, 1, 2]);
    let place = format!("directory={}", home.b.display());
    let out = ["ERROR", "log directory taken out of service", &place];
    let log = broker.log();
    assert_eq!(lines(&log, &out).len(), 1, "{log}");
    broker.wait_for("the directories that are left", |log| {
        log.contains("1 of 2 log directories are left")
            .then_some(())
    });
    create(&mut wire, "later", 3);
    assert_eq!(partitions_in(&home.a, "later"), [0, 1, 2]);
    for partition in 0..3 {
        assert_eq!(produce(&mut wire, "later", partition, &value), 0);
    }
    stop(broker);
    assert!(home.a.join(".clean-shutdown").exists());
    assert!(!home.away().join(".clean-shutdown").exists());

    home.bring_back();
    let (broker, mut wire) = home.start();
    assert_eq!(kept(&mut wire, "t", lost), Ok(taken));
    assert_eq!(kept(&mut wire, "t", other), Ok(20));
    assert_eq!(kept(&mut wire, "later", 2), Ok(1));
    assert_eq!(produce(&mut wire, "t", lost, &value), 0);
    stop(broker);
}

#[test]
fn a_directory_that_is_missing_or_emptied_is_not_taken_for_a_new_one() {
    let home = Home::of_a_topic();
    let (of_a, of_b) = (partitions_in(&home.a, "t"), partitions_in(&home.b, "t"));
    home.take_away();
    for is_mount_point in [false, true] {
        if is_mount_point {
            fs::create_dir(&home.b).expect("a directory");
        }
        let (broker, mut wire) = home.start();
        for partition in &of_a {
            assert_eq!(kept(&mut wire, "t", *partition), Ok(1));
        }
        for partition in &of_b {
            let storage_error = KAFKA_STORAGE_ERROR;
            assert_eq!(kept(&mut wire, "t", *partition), Err(storage_error));
            assert_eq!(produce(&mut wire, "t", *partition, b"lost"), storage_error);
        }
        let topic = format!("meanwhile-{is_mount_point}");
        create(&mut wire, &topic, 2);
        assert_eq!(partitions_in(&home.a, &topic), [0, 1]);
        let log = stop(broker);
        let missing = ["ERROR", "a log directory is missing"];
        assert_eq!(lines(&log, &missing).len(), 1, "{log}");
        let refused = lines(&log, &["ERROR", "partition not opened"]).len();
        assert_eq!(refused, of_b.len(), "{log}");
        assert_eq!(partitions_in(&home.a, "t"), of_a, "none was made anew");
        let left = fs::read_dir(&home.b).map(Iterator::count).unwrap_or(0);
        assert_eq!(left, 0, "nothing is written where a disk may be mounted");
    }
    home.bring_back();
    let (broker, mut wire) = home.start();
    for partition in 0..4 {
        assert_eq!(kept(&mut wire, "t", partition), Ok(1));
        assert_eq!(produce(&mut wire, "t", partition, b"two"), 0);
    }
    stop(broker);

    // Without its metadata the node does not start at all.
    fs::rename(&home.a, home.away()).expect("a name");
    let (code, log) = told(&run(home.command([&home.a, &home.b])));
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("the metadata log of its node is in"), "{log}");
    assert!(!home.a.exists());
}

#[test]
fn a_directory_that_is_named_later_takes_its_share() {
    let home = Home::new();
    let (broker, mut wire) = connected(command(&home.a));
    create(&mut wire, "before", 3);
    assert_eq!(produce(&mut wire, "before", 2, b"one"), 0);
    stop(broker);
    let (broker, mut wire) = home.start();
    assert_eq!(kept(&mut wire, "before", 2), Ok(1));
    create(&mut wire, "after", 3);
    assert_eq!(
        partitions_in(&home.b, "after"),
        [0, 1, 2],
        "it has the fewest"
    );
    assert_eq!(produce(&mut wire, "after", 0, b"one"), 0);
    broker.signal(Signal::SIGKILL);
    broker.end();
    // Nothing is made anew by who forgets to name it.
    let (broker, mut wire) = connected(command(&home.a));
    assert_eq!(kept(&mut wire, "before", 2), Ok(1));
    assert_eq!(kept(&mut wire, "after", 0), Err(KAFKA_STORAGE_ERROR));
    assert!(partitions_in(&home.a, "after").is_empty());
    stop(broker);
    let (broker, mut wire) = home.start();
    assert_eq!(kept(&mut wire, "after", 0), Ok(1));
    stop(broker);
}

#[test]
fn a_partition_in_two_directories_is_refused_and_one_that_was_moved_is_served() {
    let home = Home::of_a_topic();
    let [twice, moved] = partitions_in(&home.a, "t")[..] else {
        panic!("two of four partitions are in each directory");
    };
    let place = |data: &Path, partition: i32| data.join(format!("t-{partition}"));
    let copy = place(&home.b, twice);
    fs::create_dir(&copy).expect("a directory");
    for entry in fs::read_dir(place(&home.a, twice)).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), copy.join(entry.file_name())).expect("a copy");
    }
    fs::rename(place(&home.a, moved), place(&home.b, moved)).expect("a name");

    let (broker, mut wire) = home.start();
    for partition in 0..4 {
        let expected = match partition == twice {
            true => Err(KAFKA_STORAGE_ERROR),
            false => Ok(1),
        };
        assert_eq!(kept(&mut wire, "t", partition), expected, "{partition}");
    }
    assert_eq!(produce(&mut wire, "t", moved, b"two"), 0);
    let log = stop(broker);
    let both = [&home.a, &home.b].map(|data| place(data, twice).display().to_string());
    let told = lines(&log, &["ERROR", "partition not opened", &both[0], &both[1]]);
    assert_eq!(told.len(), 1, "{log}");
    assert!(place(&home.a, twice).exists() && copy.exists());

    fs::remove_dir_all(&copy).expect("a removal");
    let (broker, mut wire) = home.start();
    assert_eq!(kept(&mut wire, "t", twice), Ok(1));
    assert_eq!(kept(&mut wire, "t", moved), Ok(2));
    assert!(!place(&home.a, moved).exists());
    stop(broker);

    // It is in the second directory from then on, also where somebody gives that up.
    home.take_away();
    let meta = home.a.join("meta.properties");
    let text = fs::read_to_string(&meta).expect("a file");
    let (kept_lines, _others) = text.split_once("millrace.other").expect("a list");
    let text = format!("{kept_lines}millrace.other.directory.ids=\n");
    fs::write(&meta, text).expect("a file");
    let (broker, mut wire) = home.start();
    assert_eq!(kept(&mut wire, "t", twice), Ok(1));
    assert_eq!(kept(&mut wire, "t", moved), Err(KAFKA_STORAGE_ERROR));
    for data in [&home.a, &home.b] {
        assert!(!place(data, moved).exists(), "it was made anew");
    }
    stop(broker);
}

#[test]
fn a_topic_that_was_deleted_while_a_directory_was_away_does_not_come_back() {
    let home = Home::new();
    let (broker, mut wire) = home.start();
    create(&mut wire, "t", 2);
    let lost = home.partition_in_b();
    assert_eq!(produce(&mut wire, "t", lost, b"old"), 0);
    stop(broker);
    home.take_away();
    let (broker, mut wire) = home.start();
    delete(&mut wire, "t");
    create(&mut wire, "t", 2);
    assert_eq!(partitions_in(&home.a, "t"), [0, 1]);
    assert_eq!(produce(&mut wire, "t", lost, b"new"), 0);
    assert_eq!(produce(&mut wire, "t", lost, b"new"), 0);
    stop(broker);
    home.bring_back();
    assert_eq!(partitions_in(&home.b, "t"), [lost]);
    let (broker, mut wire) = home.start();
    assert_eq!(kept(&mut wire, "t", lost), Ok(2));
    assert!(partitions_in(&home.b, "t").is_empty(), "it was swept away");
    stop(broker);
}

#[test]
fn the_metadata_log_may_have_a_directory_of_its_own() {
    let home = Home::new();
    let metadata = home.above.path().join("metadata");
    let setting = format!("metadata.log.dir={}", metadata.display());
    for run in 1..=2 {
        let start = with_override(home.command([&home.a, &home.b]), &setting);
        let (broker, mut wire) = connected(start);
        if run == 1 {
            create(&mut wire, "t", 2);
        }
        for partition in 0..2 {
            assert_eq!(produce(&mut wire, "t", partition, b"value"), 0);
            assert_eq!(kept(&mut wire, "t", partition), Ok(run));
        }
        stop(broker);
    }
    assert!(metadata.join("__cluster_metadata-0").exists());
    assert!(partitions_in(&metadata, "t").is_empty());
    assert_eq!(partitions_in(&home.a, "t").len(), 1);
    assert_eq!(partitions_in(&home.b, "t").len(), 1);
}

/// `log verify` of some paths: its exit code, and what it printed.
fn verify(paths: &[&Path]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    let output = command.args(["log", "verify"]).args(paths).output();
    let output = output.expect("the program runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), printed)
}

#[test]
fn the_check_of_files_holds_all_directories_against_the_metadata() {
    let home = Home::of_a_topic();
    let both = [home.a.as_path(), home.b.as_path()];
    for paths in [&both[..], &both[..1], &both[1..]] {
        let (code, printed) = verify(paths);
        assert_eq!(code, Some(0), "{printed}");
    }
    let lost = home.b.join(format!("t-{}", partitions_in(&home.b, "t")[0]));
    fs::remove_dir_all(&lost).expect("a removal");
    let (code, printed) = verify(&both);
    assert_eq!(code, Some(3), "{printed}");
    let what = "the metadata knows the partition, and its directory is missing";
    let told = lines(&printed, &[&lost.display().to_string(), what]);
    assert_eq!(told.len(), 1, "{printed}");
}
