//! A disk that is full: used to its end, told to the operator, and taken up again. The disk is a
//! small tmpfs in a mount namespace of the broker's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kacrab_protocol::generated::ApiKey;

use super::below;
use super::deletion::create;
use super::events::lines;
use super::program::{Broker, directory};
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

fn produce(wire: &mut Wire, value: &[u8]) -> i16 {
    let request = requests::produce("filled", 0, -1, &batches::batch(&[value]));
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
    let (mut broker, ready) = Broker::start(start);
    let disk = PathBuf::from(format!("/proc/{}/root", broker.id()));
    let disk = disk.join(data.path().strip_prefix("/").expect("a path from the root"));
    let ballast = disk.join("ballast");
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
