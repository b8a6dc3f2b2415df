//! `millrace check` under power losses: a broker that synchronizes keeps its word, and one that
//! does not is found out.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::disk::{Disk, FileSystem, Loss, missing};
use crate::rounds::pause;
use crate::support::broker::{Broker, Peer};
use crate::support::command::{Finished, finish};
use crate::support::{Random, skip_without_privilege};

/// The run, and whatever it waits for.
const WITHIN: Duration = Duration::from_secs(120);

const SECONDS: &str = "10";
const CUTS: u64 = 3;

fn checked(does_sync: bool) -> Option<Finished> {
    if let Some(why) = missing(FileSystem::Ext4) {
        skip_without_privilege(why);
        return None;
    }
    let mut random = Random::new(7);
    let mut disk = Disk::new(FileSystem::Ext4, Loss::Unsent, 7);
    let data = disk.path().join("data");
    let mut broker = match (Peer::chosen(), does_sync) {
        (Peer::Millrace, true) => Broker::start_at(&data, &[]),
        (Peer::Millrace, false) => Broker::start_without_sync_at(&data, &[]),
        (Peer::Kafka, true) => Broker::start_at(&data, &[("log.flush.interval.messages", "1")]),
        (Peer::Kafka, false) => Broker::start_at(&data, &[]),
    };
    let home = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["check", "run", "--seconds", SECONDS, "--timeout", "60s"])
        .args(["--bootstrap-server", &broker.bootstrap()])
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    // The topic is there before the first cut, and what the file system has of it is sent down.
    pause(&mut random, 1_000, 1_500);
    nix::unistd::sync();
    for _ in 0..CUTS {
        pause(&mut random, 1_000, 2_000);
        disk.cut();
        pause(&mut random, 0, 100);
        broker.end();
        disk.restart();
        broker.start_again();
    }
    let finished = finish(&mut child, "check run", WITHIN);
    broker.end();
    Some(finished)
}

#[test]
fn a_broker_that_loses_its_power_keeps_its_word() {
    if let Some(finished) = checked(true) {
        println!("{}", finished.success("check run"));
    }
}

#[test]
fn the_checker_finds_out_who_does_not_synchronize() {
    if let Some(Finished { status, stdout, .. }) = checked(false) {
        assert_eq!(status.code(), Some(3), "nobody noticed:\n{stdout}");
        let is_told = ["lost-writes: ", "unseen-writes: "].map(|check| stdout.contains(check));
        assert!(is_told.contains(&true), "{stdout}");
    }
}
