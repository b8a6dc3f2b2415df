//! Two log directories, of which the second is on a disk that fails while the first goes on. What
//! was acknowledged in either is still there afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use kacrab_protocol::generated::ApiKey;
use tempfile::TempDir;

use crate::disk::{Disk, FileSystem, Loss, missing};
use crate::ledger::Promise;
use crate::rounds::{Game, pause};
use crate::support::broker::{Broker, Peer};
use crate::support::wire::Wire;
use crate::support::{Random, batches, data_home, requests, skip, skip_without_privilege, topics};

const KAFKA_STORAGE_ERROR: i16 = 56;
const RECORD_BYTES: usize = 100_000;

/// What the disk can take once it fails, and much more.
const RECORDS_MAX: usize = 1_000;

/// A broker with two directories.
struct Home {
    sound: PathBuf,
    failing: PathBuf,
    /// Gone with the last owner.
    _above: TempDir,
}

impl Home {
    /// The second one is below `disk`.
    fn new(disk: &Path) -> Self {
        let above = data_home("sound-");
        Self {
            sound: above.path().join("a"),
            failing: disk.join("b"),
            _above: above,
        }
    }

    fn start(&self) -> Broker {
        let dirs = format!("{},{}", self.sound.display(), self.failing.display());
        Broker::start_with(&[("log.dirs", &dirs)])
    }
}

#[test]
fn a_killed_broker_with_two_directories_loses_nothing_acknowledged() {
    let game = Game::new(2, Promise::AtLeastOnce);
    println!("seed {}", game.seed);
    let other = data_home("other-");
    let home = Home::new(other.path());
    let mut broker = home.start();
    let violations = game.play(&mut broker, |broker, random| {
        broker.kill();
        pause(random, 0, 200);
        broker.start_again();
    });
    game.assert_healthy(&violations);
}

#[test]
fn a_disk_that_loses_its_power_under_a_broker_that_goes_on_loses_nothing_acknowledged() {
    if let Some(why) = missing(FileSystem::Ext4) {
        return skip_without_privilege(why);
    }
    let game = Game::new(2, Promise::Nothing);
    println!("seed {}", game.seed);
    let mut disk = Disk::new(FileSystem::Ext4, Loss::Unsent, game.seed);
    let home = Home::new(disk.path());
    let mut broker = home.start();
    let violations = game.play(&mut broker, |broker, random| {
        disk.cut();
        pause(random, 0, 1_500);
        assert_eq!(broker.ended(), None, "it goes on\n{}", broker.log());
        broker.kill();
        disk.restart();
        broker.start_again();
    });
    broker.end();
    game.assert_healthy(&violations);
}

/// What was acknowledged in one partition.
struct Partition {
    number: i32,
    kept: Vec<Vec<u8>>,
}

impl Partition {
    /// The error code of the answer.
    fn produce(&mut self, wire: &mut Wire, random: &mut Random) -> i16 {
        let value = random.bytes(RECORD_BYTES);
        let request = requests::produce("t", self.number, -1, &batches::batch(&[&value]));
        let mut answer = wire.call(ApiKey::Produce, 9, |body, version| {
            request.write(body, version)
        });
        let error = requests::produced(&mut answer, 9).error_code;
        if error == 0 {
            self.kept.push(value);
        }
        error
    }

    /// The error code of a Fetch at an offset, the end of the log, and the records from there.
    fn fetch(&self, wire: &mut Wire, offset: usize) -> (i16, i64, Vec<u8>) {
        let request = requests::fetch("t", self.number, offset as i64);
        let mut answer = wire.call(ApiKey::Fetch, 12, |body, version| {
            request.write(body, version)
        });
        let answer = requests::fetched(&mut answer, 12);
        let records = answer.records.map(|records| records.to_vec());
        (
            answer.error_code,
            answer.high_watermark,
            records.unwrap_or_default(),
        )
    }

    /// All that was acknowledged is there; what was not may be.
    fn assert_kept(&self, wire: &mut Wire) {
        for (offset, value) in self.kept.iter().enumerate() {
            let (error, end, records) = self.fetch(wire, offset);
            assert_eq!(error, 0, "offset {offset} of partition {}", self.number);
            assert!(
                end >= self.kept.len() as i64,
                "{end} of {}",
                self.kept.len()
            );
            let is_there = records.windows(value.len()).any(|window| window == value);
            assert!(is_there, "offset {offset} of partition {}", self.number);
        }
    }
}

#[test]
fn a_disk_that_refuses_writes_takes_its_own_directory_along_and_no_other() {
    if let Some(why) = missing(FileSystem::Ext4) {
        return skip_without_privilege(why);
    }
    if Peer::chosen() == Peer::Kafka {
        return skip("Kafka does not wait for the disk");
    }
    let mut disk = Disk::new(FileSystem::Ext4, Loss::Refused, 0);
    let home = Home::new(disk.path());
    let mut broker = home.start();
    topics::create(&broker, "t", 2, &[]);
    let is_lost = |number: &i32| home.failing.join(format!("t-{number}")).exists();
    let lost = (0..2).find(is_lost).expect("one of two is on the disk");
    assert!(home.sound.join(format!("t-{}", 1 - lost)).exists());
    let [mut lost, mut other] = [lost, 1 - lost].map(|number| Partition {
        number,
        kept: Vec::new(),
    });
    let mut random = Random::new(7);
    let mut wire = Wire::connect(broker.port());
    for partition in [&mut lost, &mut other] {
        assert_eq!(partition.produce(&mut wire, &mut random), 0);
    }

    disk.cut();
    let errors = (0..RECORDS_MAX).map(|_| lost.produce(&mut wire, &mut random));
    let first = errors.into_iter().find(|error| *error != 0);
    assert_eq!(first, Some(KAFKA_STORAGE_ERROR), "{}", broker.log());
    assert_eq!(lost.produce(&mut wire, &mut random), KAFKA_STORAGE_ERROR);
    assert_eq!(lost.fetch(&mut wire, 0).0, KAFKA_STORAGE_ERROR);
    for _ in 0..50 {
        assert_eq!(other.produce(&mut wire, &mut random), 0);
    }
    other.assert_kept(&mut wire);
    assert_eq!(broker.ended(), None, "it goes on");
    broker.stop();
    let log = broker.log();
    let told = log
        .lines()
        .filter(|line| line.contains("taken out of service"));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(
        told[0].contains(&format!("directory={} reason=", home.failing.display())),
        "{log}"
    );
    assert!(home.sound.join(".clean-shutdown").exists());

    disk.restart();
    assert!(!fs::exists(home.failing.join(".clean-shutdown")).expect("a sound disk"));
    broker.start_again();
    let mut wire = Wire::connect(broker.port());
    for mut partition in [lost, other] {
        partition.assert_kept(&mut wire);
        let (_, end, _) = partition.fetch(&mut wire, 0);
        assert_eq!(partition.produce(&mut wire, &mut random), 0);
        assert_eq!(partition.fetch(&mut wire, 0).1, end + 1);
    }
    broker.stop();
}
