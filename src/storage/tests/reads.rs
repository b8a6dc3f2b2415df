//! Reads of what is no longer in the tail: whole, from anywhere, shared, bounded, and failing.

use std::sync::atomic::Ordering;

use futures_lite::future::zip;

use super::*;
use crate::base::limits::{OVERDRAWN_READ_BYTES_MAX, READ_PIECE_BYTES};
use crate::storage::layout;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Two and a half times what the cache of the tests may keep, and three quarters of that ahead.
const LIVE_MAX: usize = 5 * MIB + 3 * MIB / 2;

/// Nothing stays in the tail.
fn no_tail() -> StorageLimits {
    StorageLimits {
        tail_bytes_max: 0,
        ..limits()
    }
}

fn large_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 20,
        ..config()
    }
}

/// A small generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

fn from(offset: Offset, upper: Offset, bytes_max: usize) -> ReadRange {
    ReadRange {
        from: offset,
        upper,
        bytes_max,
        at_least_one: true,
    }
}

/// The offset after the last of the whole batches in `bytes`.
fn next_offset(bytes: &Bytes) -> Offset {
    let headers = Batches::new(bytes).map_while(Result::ok);
    headers.last().expect("a whole batch").0.next_offset()
}

async fn durable(log: &Rc<Log>) {
    log.make_durable(log.end()).await.expect("a sync");
}

#[test]
fn a_log_that_grows_is_read_as_it_is() {
    for seed in 0..4 {
        let home = home(Faults::default());
        let path = home.log.clone();
        on_shard(home.directory.clone(), no_tail(), async move |storage| {
            let mut random = Random(seed);
            let (log, _) = open(&storage, &path, config(), None, false);
            for round in 0..150 {
                for _ in 0..=random.below(3) {
                    // Some are larger than a piece, and a few than all that is collected.
                    let scale = [100, 5_000, 40_000, 300_000, 900_000];
                    let scale = scale[random.below(if round % 20 == 0 { 5 } else { 4 }) as usize];
                    let value = 1 + random.below(scale) as usize;
                    let batch = batch(round, 1 + random.below(3) as usize, value);
                    append(&log, &batch).await.expect("an append");
                }
                durable(&log).await;
                let start = Offset(random.below(log.end().0 as u64) as i64);
                let bytes_max = 1 + random.below(700_000) as usize;
                let headers = read_all(&log, start, bytes_max).await;
                let last = headers.last().expect("a batch");
                assert_eq!(last.next_offset(), log.end(), "seed {seed}, round {round}");
            }
        });
    }
}

#[test]
fn replies_end_with_whole_batches_before_the_upper_bound() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), no_tail(), async move |storage| {
        let (log, _) = open(&storage, &path, large_segments(), None, false);
        for seed in 0..100 {
            append(&log, &batch(seed, 10, 1000)).await.expect("room");
        }
        durable(&log).await;
        let whole = batch(0, 10, 1000).len();
        for (bytes_max, at_least_one, upper, batches) in [
            (whole * 3 + 10, true, 1000, 3),
            (whole * 30, true, 1000, 30),
            (whole * 30, true, 110, 11),
            // A bound within a batch shows the batch: its readers pass over what is above.
            (whole * 30, true, 115, 12),
            (10, true, 1000, 1),
            (10, false, 1000, 0),
            (whole, false, 1000, 1),
        ] {
            let range = ReadRange {
                at_least_one,
                ..from(Offset(0), Offset(upper), bytes_max)
            };
            let bytes = read(&log, range).await.expect("a read");
            assert_eq!(bytes.len(), batches * whole, "{range:?}");
        }
    });
}

#[test]
fn what_one_reader_brought_in_another_finds() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let (directory, plan) = failing(&home, Some(Call::Read), ".log", 0);
    on_shard(directory, no_tail(), async move |storage| {
        let (log, _) = open(&storage, &path, large_segments(), None, false);
        let end = fill(&log, 0, 2000).await;
        let before = plan.calls.load(Ordering::Relaxed);
        let mut readers = [Offset(0); 3];
        while readers[0] < end {
            for next in &mut readers {
                let bytes = read(&log, from(*next, end, 200 * KIB)).await;
                *next = next_offset(&bytes.expect("a read"));
            }
        }
        assert_eq!(readers, [end; 3]);
        let calls = plan.calls.load(Ordering::Relaxed) - before;
        let pieces = log.size_bytes().div_ceil(READ_PIECE_BYTES);
        assert!(pieces > 8, "more than the cache keeps");
        // The first read of all loads a part of its piece only.
        assert!(
            (pieces - 1..=pieces + 2).contains(&calls),
            "{calls} of {pieces}"
        );
    });
}

#[test]
fn only_who_goes_on_is_read_ahead_of() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let (directory, plan) = failing(&home, Some(Call::Read), ".log", 0);
    let limits = StorageLimits {
        read_cache_bytes_max: 8 * MIB,
        ..no_tail()
    };
    on_shard(directory, limits, async move |storage| {
        let (log, _) = open(&storage, &path, large_segments(), None, false);
        let end = fill(&log, 0, 2000).await;
        let before = plan.calls.load(Ordering::Relaxed);
        let calls = || plan.calls.load(Ordering::Relaxed) - before;
        let first = read(&log, from(Offset(0), end, 100 * KIB)).await;
        assert_eq!(calls(), 1, "one piece was asked for");
        let next = next_offset(&first.expect("a read"));
        let second = read(&log, from(next, end, 500 * KIB)).await;
        assert!(!second.expect("a read").is_empty());
        // Of the first piece more is read now; 600 KiB are wanted, and twice 500 follow.
        for _ in 0..1000 {
            if calls() == 1 + 7 {
                return;
            }
            crate::runtime::Timer::new(std::time::Duration::from_millis(5)).await;
        }
        panic!("{} pieces were read", calls());
    });
}

#[test]
fn replies_of_old_data_that_nobody_takes_hold_a_bounded_part_of_memory() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), no_tail(), async move |storage| {
        let (log, _) = open(&storage, &path, large_segments(), None, false);
        for seed in 0..2500 {
            append(&log, &batch(seed, 10, 1000)).await.expect("room");
        }
        durable(&log).await;
        let end = log.end();
        let (mut held, mut next) = (Vec::new(), Offset(0));
        while next < end {
            let Ok(ReadPlan::Cold(cold)) = log.read(from(next, end, MIB)) else {
                panic!("nothing stays in the tail");
            };
            let reply = cold.run().await.expect("a read");
            let bytes = Bytes::from(reply.concat());
            let whole: usize = Batches::new(&bytes)
                .map_while(Result::ok)
                .map(|it| it.1.len())
                .sum();
            assert_eq!(whole, bytes.len(), "whole batches only");
            next = next_offset(&bytes);
            held.push(reply);
            let live = storage.read_cache.live_bytes();
            assert!(
                live <= 5 * MIB,
                "{live} bytes live with {} held",
                held.len()
            );
        }
        let bytes = |reply: &Vec<Bytes>| reply.iter().map(Bytes::len).sum::<usize>();
        assert!(bytes(&held[0]) > 700_000, "{}", bytes(&held[0]));
        let small: Vec<_> = held
            .iter()
            .map(bytes)
            .filter(|bytes| *bytes < 700_000)
            .collect();
        assert!(small.len() > 100, "the bound was never met");
        assert!(small.iter().all(|bytes| *bytes <= OVERDRAWN_READ_BYTES_MAX));
        assert_eq!(storage.copied_bytes(), small.iter().sum::<usize>());
        // Once they are read, or given up, replies are as large as before.
        held.clear();
        assert_eq!(storage.copied_bytes(), 0);
        let reply = read(&log, from(Offset(0), end, MIB)).await.expect("a read");
        assert!(reply.len() > 700_000, "{}", reply.len());
    });
}

/// Reads all of a log as one reader that goes on. How often the disk was asked.
async fn calls_to_read(log: &Rc<Log>, end: Offset, plan: &Plan, appends: bool) -> u64 {
    let before = plan.calls.load(Ordering::Relaxed);
    let mut next = Offset(0);
    while next < end {
        if appends {
            log.shard.read_cache.appended();
        }
        next = next_offset(&read(log, from(next, end, MIB)).await.expect("a read"));
    }
    while !log.shard.read_cache.is_idle() {
        crate::runtime::Timer::new(std::time::Duration::from_millis(1)).await;
    }
    plan.calls.load(Ordering::Relaxed) - before
}

#[test]
fn neighbours_are_read_together_unless_something_is_written() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let (directory, plan) = failing(&home, Some(Call::Read), ".log", 0);
    let limits = StorageLimits {
        read_cache_bytes_max: 16 * MIB,
        ..no_tail()
    };
    on_shard(directory, limits, async move |storage| {
        let (log, _) = open(&storage, &path, large_segments(), None, false);
        for seed in 0..4000 {
            append(&log, &batch(seed, 10, 1000)).await.expect("room");
        }
        durable(&log).await;
        let pieces = log.size_bytes().div_ceil(READ_PIECE_BYTES);
        assert!(pieces > 2 * 64, "more than the cache keeps: {pieces}");
        let beside_writes = calls_to_read(&log, log.end(), &plan, true).await;
        assert!(beside_writes >= pieces, "{beside_writes} of {pieces}");
        nobody_writes().await;
        let undisturbed = calls_to_read(&log, log.end(), &plan, false).await;
        assert!(
            undisturbed <= pieces.div_ceil(3),
            "{undisturbed} of {pieces}"
        );
        // So are those of a reader that is not read ahead of.
        let before = plan.calls.load(Ordering::Relaxed);
        let once = from(Offset(10_000), log.end(), 4 * MIB);
        let bytes = read(&log, once).await.expect("a read");
        let calls = plan.calls.load(Ordering::Relaxed) - before;
        assert!(bytes.len() > 4_000_000 && calls <= 6, "{calls}");
    });
}

/// Until it is so long since the last append that nobody is taken to write.
async fn nobody_writes() {
    crate::runtime::Timer::new(std::time::Duration::from_millis(260)).await;
}

/// A directory in which one read of a segment fails, when the plan says so.
fn failing_once(home: &Home) -> (LogDirectory, Arc<Plan>) {
    let plan = Arc::new(Plan {
        only: Some(Call::Read),
        on: ".log",
        count: 1,
        errno: libc::EIO,
        ..Plan::default()
    });
    let faults = Faults::planned(Arc::clone(&plan));
    let root = home.directory.path().to_owned();
    (LogDirectory::with_faults(root, true, faults), plan)
}

#[test]
fn a_log_that_is_deleted_while_it_is_read_ahead_of_harms_no_other_reader() {
    for reads in 1..5 {
        let home = home(Faults::default());
        let paths = ["t-0", "u-0", "v-0"].map(|name| home.log.with_file_name(name));
        let limits = StorageLimits {
            read_cache_bytes_max: 16 * MIB,
            ..no_tail()
        };
        on_shard(home.directory.clone(), limits, async move |storage| {
            let logs = paths.map(|path| open(&storage, &path, large_segments(), None, false).0);
            for log in &logs {
                for seed in 0..600 {
                    append(log, &batch(seed, 10, 1000)).await.expect("room");
                }
                durable(log).await;
            }
            nobody_writes().await;
            let [first, second, third] = &logs;
            let others = zip(
                read_all(first, Offset(0), MIB),
                read_all(second, Offset(0), MIB),
            );
            let deleted = async {
                let mut next = Offset(0);
                for _ in 0..reads {
                    let bytes = read(third, from(next, third.end(), MIB)).await;
                    next = next_offset(&bytes.expect("a read"));
                }
                third.delete().await.expect("a log that goes");
            };
            let ((one, other), ()) = zip(others, deleted).await;
            assert_eq!((one.len(), other.len()), (600, 600));
        });
    }
}

#[test]
fn a_damaged_index_takes_nothing_with_it() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), no_tail(), async move |storage| {
        let (log, _) = open(&storage, &path, large_segments(), None, false);
        for seed in 0..200 {
            append(&log, &batch(seed, 1, 1000)).await.expect("room");
        }
        durable(&log).await;
        log.park().await.expect("indexes in their files");
        let index = layout::segment_file(&path, Offset(0), layout::INDEX);
        let sound = std::fs::read(&index).expect("an index");
        let entry = sound.len() / 16 * 8;
        let relative = sound[entry..].first_chunk().expect("an entry");
        let named = Offset(u32::from_be_bytes(*relative).into());
        for bit in 0..64 {
            let mut damaged = sound.clone();
            damaged[entry + bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&index, damaged).expect("an index");
            for wanted in (0..3).map(|behind| named.plus(behind)) {
                // What was read before is no help.
                storage.forget_reads(log.number, Offset(0));
                let found = read(&log, from(wanted, log.end(), 1)).await;
                let found = found.expect("a batch that is as it was");
                assert_eq!(next_offset(&found), wanted.plus(1), "bit {bit}");
            }
        }
    });
}

#[test]
fn what_cannot_be_read_together_is_read_alone() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let (directory, plan) = failing_once(&home);
    on_shard(directory, no_tail(), async move |storage| {
        let (log, _) = open(&storage, &path, large_segments(), None, false);
        let end = fill(&log, 0, 1000).await;
        nobody_writes().await;
        // The first piece, so that what is asked for next is what lies behind it.
        let first = read(&log, from(Offset(0), end, 100)).await;
        first.expect("a read");
        let before = plan.calls.load(Ordering::Relaxed);
        plan.fail_next();
        let bytes = read(&log, from(Offset(0), end, MIB)).await;
        assert!(bytes.expect("a read").len() > 700_000);
        let calls = plan.calls.load(Ordering::Relaxed) - before;
        assert!(calls > 2, "{calls}: it was not read together");
    });
}

#[test]
fn more_readers_than_the_cache_has_room_for_are_not_read_ahead_of() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), no_tail(), async move |storage| {
        let (log, _) = open(&storage, &path, large_segments(), None, false);
        for seed in 0..4000 {
            append(&log, &batch(seed, 10, 1000)).await.expect("room");
        }
        durable(&log).await;
        let end = log.end();
        let read_on = async |next: &mut Offset| {
            let bytes = read(&log, from(*next, end, 300 * KIB)).await;
            *next = next_offset(&bytes.expect("a read"));
        };
        let mut one = Offset(0);
        for _ in 0..20 {
            read_on(&mut one).await;
            assert!(storage.read_cache.reads_ahead(), "one reader has room");
        }
        let mut many: Vec<_> = (0..30).map(|reader| Offset(reader * 1000)).collect();
        let mut is_paused = false;
        for _ in 0..3 {
            for next in &mut many {
                read_on(next).await;
                is_paused |= !storage.read_cache.reads_ahead();
            }
        }
        assert!(is_paused, "what was read ahead of thirty was thrown away");
        // Once so much was read that the others may have gone, it is tried again.
        let mut turns = 0;
        while !storage.read_cache.reads_ahead() {
            read_on(&mut one).await;
            if one >= end {
                one = Offset(0);
            }
            turns += 1;
            assert!(turns < 2000, "never read ahead again");
        }
    });
}

#[test]
fn a_reader_waits_for_replies_that_are_on_their_way() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), no_tail(), async move |storage| {
        let (log, _) = open(&storage, &path, large_segments(), None, false);
        for seed in 0..1000 {
            append(&log, &batch(seed, 10, 1000)).await.expect("room");
        }
        durable(&log).await;
        let end = log.end();
        let plan = |next| match log.read(from(next, end, MIB)) {
            Ok(ReadPlan::Cold(cold)) => cold,
            read => panic!("nothing stays in the tail: {read:?}"),
        };
        let (mut held, mut next) = (Vec::new(), Offset(0));
        while !storage.read_cache.is_overdrawn() {
            let reply = plan(next).run().await.expect("a read");
            next = next_offset(&Bytes::from(reply.concat()));
            held.push(reply);
        }
        let waiting = crate::runtime::spawn_local(plan(next).run());
        crate::runtime::Timer::new(std::time::Duration::from_millis(2)).await;
        assert!(!waiting.is_finished(), "there is no room yet");
        held.clear();
        let reply = waiting.await.expect("a read");
        let bytes: usize = reply.iter().map(Bytes::len).sum();
        assert!(bytes > 700_000, "as large as ever: {bytes}");
        assert_eq!(storage.copied_bytes(), 0);
    });
}

#[test]
fn many_readers_at_once_all_come_to_the_end_in_bounded_memory() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), no_tail(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let end = fill(&log, 0, 6000).await;
        let mut random = Random(7);
        let mut readers = Vec::new();
        for _ in 0..60 {
            let start = Offset(random.below(end.0 as u64) as i64);
            let bytes_max = [20_000, 300_000, MIB, 4 * MIB][random.below(4) as usize];
            let (log, storage) = (Rc::clone(&log), Rc::clone(&storage));
            readers.push(crate::runtime::spawn_local(async move {
                let (mut next, mut most) = (start, 0);
                while next < end {
                    let bytes = read(&log, from(next, end, bytes_max))
                        .await
                        .expect("a read");
                    most = most.max(storage.read_cache.live_bytes());
                    next = next_offset(&bytes);
                }
                (next, most)
            }));
        }
        for reader in readers {
            let (next, most) = reader.await;
            assert_eq!(next, end);
            assert!(most <= LIVE_MAX, "{most}");
        }
        while !storage.read_cache.is_idle() {
            crate::runtime::Timer::new(std::time::Duration::from_millis(1)).await;
        }
        let kept = storage.read_cache.live_bytes();
        assert!((MIB..=2 * MIB).contains(&kept), "{kept}");
    });
}

#[test]
fn damage_takes_nothing_before_it_and_is_never_served() {
    // Where in the header, what is put there.
    let damages: [(u64, &[u8]); 7] = [
        (0, &[0, 0, 0, 0, 0, 1]),
        (0, &[0xff; 8]),
        (8, &[0xff; 4]),
        (8, &[0x01]),
        (8, &[0x7f]),
        (16, &[1]),
        (23, &[0x7f, 0xff, 0xff, 0xff]),
    ];
    for (at, bytes) in damages {
        let home = home(Faults::default());
        let path = home.log.clone();
        on_shard(home.directory.clone(), no_tail(), async move |storage| {
            let (log, _) = open(&storage, &path, large_segments(), None, false);
            for seed in 0..100 {
                append(&log, &batch(seed, 10, 1000)).await.expect("room");
            }
            durable(&log).await;
            log.park().await.expect("a parked log");
            let file = path.join("00000000000000000000.log");
            let file = std::fs::OpenOptions::new().write(true).open(file);
            let position = 30 * batch(0, 10, 1000).len() as u64 + at;
            std::os::unix::fs::FileExt::write_all_at(&file.expect("a file"), bytes, position)
                .expect("a write");
            let end = log.end();
            let before = read(&log, from(Offset(0), end, MIB))
                .await
                .expect("what is sound");
            // A batch that claims too many offsets is whole itself.
            let sound = if at == 23 { 310 } else { 300 };
            let read_to = Batches::new(&before).map_while(Result::ok).last();
            let read_to = read_to.expect("a batch").0.base_offset;
            assert_eq!(read_to, Offset(sound - 10), "{at} {bytes:?}");
            let found = read(&log, from(Offset(315), end, MIB)).await;
            if at != 23 {
                let found = read(&log, from(Offset(305), end, MIB)).await;
                assert_eq!(found, Err(LogError::Damaged(Offset(305))), "{at} {bytes:?}");
            }
            assert!(!matches!(found, Err(LogError::Failed(_))), "{found:?}");
        });
    }
}

#[test]
fn a_deleted_segment_leaves_neither_memory_nor_descriptor() {
    for round in 0..20 {
        let home = home(Faults::default());
        let path = home.log.clone();
        let limits = StorageLimits {
            open_reads_max: 2,
            journal: None,
            ..no_tail()
        };
        on_shard(home.directory.clone(), limits, async move |storage| {
            let (log, _) = open(&storage, &path, config(), None, false);
            let end = fill(&log, 0, 2000).await;
            if round % 2 == 0 {
                read_all(&log, Offset(0), 200 * KIB).await;
            }
            let mut readers = Vec::new();
            for number in 0..8 {
                let log = Rc::clone(&log);
                readers.push(crate::runtime::spawn_local(async move {
                    let mut next = Offset(number * 100);
                    loop {
                        let found = read(&log, from(next, end, 100 * KIB)).await;
                        match found {
                            Ok(bytes) => next = next_offset(&bytes),
                            Err(LogError::OutOfRange { .. }) => return,
                            Err(error) => panic!("{error:?} at {next}"),
                        }
                        if next >= end {
                            return;
                        }
                    }
                }));
            }
            let by_time = Retention {
                retention_ms: Some(1),
                ..Retention::default()
            };
            log.retain(by_time, end, NOW + 10_000_000)
                .await
                .expect("a deletion");
            for reader in readers {
                reader.await;
            }
            for _ in 0..1000 {
                let is_open = |name: &std::path::Path| {
                    name.starts_with(&path) && !name.ends_with(layout_name(end))
                };
                let open = std::fs::read_dir("/proc/self/fd").expect("descriptors");
                let open = open.filter_map(|it| std::fs::read_link(it.ok()?.path()).ok());
                let open = open.filter(|name| is_open(name)).count();
                if open == 0 && storage.read_cache.live_bytes() == 0 {
                    return;
                }
                crate::runtime::Timer::new(std::time::Duration::from_millis(5)).await;
            }
            panic!("{} bytes stay", storage.read_cache.live_bytes());
        });
    }
}

fn layout_name(base: Offset) -> String {
    format!("{:020}.log", base.0)
}

#[test]
fn a_read_that_fails_is_told_and_may_be_tried_again() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let (directory, plan) = failing_once(&home);
    on_shard(directory, no_tail(), async move |storage| {
        let (log, _) = open(&storage, &path, large_segments(), None, false);
        let end = fill(&log, 0, 500).await;
        plan.fail_next();
        let failed = read(&log, from(Offset(0), end, MIB)).await;
        assert!(matches!(failed, Err(LogError::Failed(_))), "{failed:?}");
        assert_eq!(storage.directory().failure(), None, "a read harms nothing");
        assert_eq!(read_all(&log, Offset(0), MIB).await.len(), 500);
    });
}

#[test]
fn a_file_that_lost_its_end_is_damaged() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), no_tail(), async move |storage| {
        let (log, _) = open(&storage, &path, large_segments(), None, false);
        let end = fill(&log, 0, 1000).await;
        log.park().await.expect("a parked log");
        let file = path.join("00000000000000000000.log");
        let file = std::fs::OpenOptions::new().write(true).open(file);
        file.and_then(|file| file.set_len(300_000)).expect("a cut");
        let found = read(&log, from(Offset(0), end, 100_000)).await;
        assert!(found.is_ok_and(|bytes| bytes.len() > 90_000));
        let lost = read(&log, from(end.plus(-1), end, 100_000)).await;
        assert_eq!(lost, Err(LogError::Damaged(end.plus(-1))));
    });
}
