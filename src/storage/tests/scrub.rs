//! Scrubs of logs that are sound, damaged, being written, and being deleted.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::journal::journaled;
use super::*;
use crate::runtime::{Timer, spawn_local};
use crate::storage::layout::{self, segment_file};
use crate::storage::scrub::{Finding, Scrub, ScrubTally};
use crate::storage::walk::{Damage, Fault};

const FULL_SPEED: NonZeroU64 = NonZeroU64::MAX;

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..config()
    }
}

/// What a scrub tells.
#[derive(Debug, PartialEq)]
enum Told {
    Damage(PathBuf, Damage),
    Unreadable(PathBuf, u64),
}

async fn scrub(log: &Rc<Log>) -> (Vec<Told>, ScrubTally) {
    let mut told = Vec::new();
    let mut scrub = Scrub::new(FULL_SPEED);
    let mut tell = |path: &Path, finding: Finding<'_>| {
        told.push(match finding {
            Finding::Damage(damage) => Told::Damage(path.to_owned(), *damage),
            Finding::Unreadable { position, .. } => Told::Unreadable(path.to_owned(), position),
        });
    };
    scrub.check(log, &mut tell).await;
    (told, scrub.tally())
}

/// The base offsets of a log's segments.
fn bases(log: &Log) -> Vec<Offset> {
    let state = log.state.borrow();
    state.segments.iter().map(|it| it.base_offset).collect()
}

/// The position and the header of each batch of a segment.
fn batches(path: &Path) -> Vec<(u64, BatchHeader)> {
    let bytes = std::fs::read(path).expect("a segment");
    let mut position = 0;
    let headers = Batches::new(&bytes).map_while(Result::ok);
    headers
        .map(|(header, batch)| {
            let at = position;
            position += batch.len() as u64;
            (at, header)
        })
        .collect()
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path);
    let file = file.expect("a segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("a write");
    file.sync_all().expect("a sync");
}

#[test]
fn each_damaged_place_of_any_segment_is_told_once_a_pass() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, small(), None, false);
        let end = fill(&log, 0, 300).await;
        log.park().await.expect("a parked log");
        let bases = bases(&log);
        assert!(bases.len() > 4, "{bases:?}");
        let (told, tally) = scrub(&log).await;
        assert_eq!(told, []);
        assert_eq!((tally.segments, tally.damaged), (bases.len() as u64, 0));
        assert!(tally.bytes >= log.size_bytes());
        let mut expected = Vec::new();
        // A batch in the middle of a closed segment, the last one of another, and the log's last.
        for (segment, from_end) in [(1, 5), (3, 1), (bases.len() - 1, 1)] {
            let file = segment_file(&path, bases[segment], layout::LOG);
            let batches = batches(&file);
            let (position, header) = batches[batches.len() - from_end];
            flip(&file, position + 62);
            let next = batches.get(batches.len() - from_end + 1);
            expected.push((file, position, header, next.map(|(next, _)| *next)));
        }
        for pass in 0..2 {
            let (told, tally) = scrub(&log).await;
            assert_eq!((told.len(), tally.damaged), (3, 3), "{pass}: {told:?}");
            for (told, (file, position, header, next)) in told.iter().zip(&expected) {
                let Told::Damage(path, damage) = told else {
                    panic!("{told:?}");
                };
                assert_eq!((path, damage.position), (file, *position));
                assert_eq!(damage.first, header.base_offset);
                assert_eq!(damage.last(), Some(header.last_offset()));
                assert!(matches!(damage.fault, Fault::Crc { .. }), "{damage:?}");
                assert!(next.is_none_or(|next| next == damage.end), "{damage:?}");
            }
        }
        // Appends go on, and what was appended is sound.
        assert!(fill(&log, 300, 3).await > end);
        assert_eq!(scrub(&log).await.0.len(), 3);
    });
}

#[test]
fn a_file_that_has_lost_its_end_and_one_that_is_gone_are_told() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, small(), None, false);
        fill(&log, 0, 200).await;
        let bases = bases(&log);
        let [cut, gone] = [0, 1].map(|index| segment_file(&path, bases[index], layout::LOG));
        let (position, header) = *batches(&cut).last().expect("a batch");
        let file = std::fs::File::options().write(true).open(&cut);
        file.and_then(|file| file.set_len(position + 40))
            .expect("a cut");
        std::fs::remove_file(&gone).expect("a file to remove");
        let (told, _) = scrub(&log).await;
        let lost = Damage {
            position,
            end: position + 40,
            first: header.base_offset,
            next: Some(bases[1]),
            fault: Fault::CutOff {
                needed_bytes: 61,
                left_bytes: 40,
            },
        };
        assert_eq!(told, [Told::Damage(cut, lost), Told::Unreadable(gone, 0)]);
    });
}

#[test]
fn what_cannot_be_read_is_told_and_stops_nothing() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let first_file = "/00000000000000000000.log";
    let (directory, plan) = failing(&home, Some(Call::Read), first_file, libc::EIO);
    on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, small(), None, false);
        fill(&log, 0, 200).await;
        plan.fail_next();
        let (told, tally) = scrub(&log).await;
        let first = segment_file(&path, Offset(0), layout::LOG);
        assert_eq!(told, [Told::Unreadable(first, 0)]);
        assert_eq!(tally.segments, bases(&log).len() as u64);
        log.check().expect("a directory in service");
    });
}

/// Appends while scrubs run, and parks, rolls and retains now and then.
async fn scrub_under_load(storage: Rc<ShardStorage>, path: PathBuf, config: LogConfig) {
    let (log, _) = open(&storage, &path, config, None, false);
    let is_over = Rc::new(Cell::new(false));
    let told = Rc::new(RefCell::new(Vec::new()));
    let scrubbing = spawn_local({
        let (log, is_over, told) = (Rc::clone(&log), Rc::clone(&is_over), Rc::clone(&told));
        async move {
            let mut passes = 0;
            while !is_over.get() {
                let (found, tally) = scrub(&log).await;
                passes += u64::from(tally.bytes > 0);
                told.borrow_mut().extend(found);
                Timer::new(Duration::from_micros(50)).await;
            }
            passes
        }
    });
    let began = Instant::now();
    for round in 0..400 {
        for seed in 0..8 {
            let batch = batch(round + seed, 1 + seed % 3, 50 + (round * 131) % 9000);
            append(&log, &batch).await.expect("an append");
        }
        if round % 3 == 0 {
            log.make_durable(log.end()).await.expect("a sync");
        }
        if round % 50 == 49 {
            log.park().await.expect("a parked log");
        }
        if round % 20 == 19 {
            let retention = Retention {
                retention_bytes: Some(300 << 10),
                ..Retention::default()
            };
            let upper = log.durable();
            log.retain(retention, upper, NOW).await.expect("retention");
            let deleted = log.take_deleted();
            deleted
                .iter()
                .for_each(|path| drop(std::fs::remove_file(path)));
        }
        Timer::new(Duration::from_micros(200)).await;
    }
    is_over.set(true);
    let passes = scrubbing.await;
    assert!(passes > 5, "{passes} passes in {:?}", began.elapsed());
    assert_eq!(*told.borrow(), []);
    assert_eq!(scrub(&log).await.0, []);
}

#[test]
fn what_is_being_written_is_no_damage() {
    for limits in [limits(), journaled(0)] {
        let home = home(Faults::default());
        let path = home.log.clone();
        let limits = StorageLimits {
            tail_bytes_max: 0,
            ..limits
        };
        on_shard(home.directory.clone(), limits, async move |storage| {
            scrub_under_load(storage, path, small()).await;
        });
    }
}

#[test]
fn what_is_never_synced_is_looked_at_once_it_is_durable() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let config = LogConfig {
            syncs_writes: false,
            ..config()
        };
        let (log, _) = open(&storage, &path, config, None, false);
        append(&log, &batch(1, 3, 5000)).await.expect("an append");
        while log.written() < log.end() {
            Timer::new(Duration::from_millis(1)).await;
        }
        assert_eq!(scrub(&log).await.1.bytes, 0);
        log.make_durable(log.end()).await.expect("a sync");
        let (told, tally) = scrub(&log).await;
        assert_eq!((told, tally.bytes), (vec![], log.size_bytes()));
    });
}

#[test]
fn a_log_that_is_deleted_ends_its_scrub_quietly() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, small(), None, false);
        fill(&log, 0, 200).await;
        let file = segment_file(&path, bases(&log)[1], layout::LOG);
        flip(&file, 70);
        let scrubbing = spawn_local({
            let log = Rc::clone(&log);
            async move { scrub(&log).await }
        });
        // By now it is about to look again.
        Timer::new(Duration::from_millis(60)).await;
        log.delete().await.expect("a deleted log");
        let (told, tally) = scrubbing.await;
        assert_eq!((told, tally.damaged), (vec![], 0));
    });
}

#[test]
fn a_scrub_takes_its_time() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        fill(&log, 0, 500).await;
        let bytes = log.size_bytes();
        let rate = NonZeroU64::new(4 * bytes).expect("some bytes");
        let began = Instant::now();
        let mut scrub = Scrub::new(rate);
        scrub
            .check(&log, &mut |_, _| panic!("nothing is wrong"))
            .await;
        assert!(scrub.tally().bytes >= bytes);
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(249), "{took:?}");
    });
}
