//! Reads of what is no longer in the tail: whole, from anywhere, shared, bounded, and failing.

use std::sync::atomic::Ordering;

use super::*;
use crate::base::limits::{OVERDRAWN_READ_BYTES_MAX, READ_PIECE_BYTES};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

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
                    // Now and then one that is larger than a piece.
                    let scale = [100, 5_000, 40_000, 300_000][random.below(4) as usize];
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
        // The carry is in memory, so the last piece may not be read at all.
        let pieces = log.size_bytes().div_ceil(READ_PIECE_BYTES);
        assert!(pieces > 8, "more than the cache keeps");
        assert!(
            (pieces - 1..=pieces).contains(&calls),
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
        // 600 KiB are read, and twice 500 follow.
        for _ in 0..1000 {
            if calls() == 7 {
                return;
            }
            glommio::timer::Timer::new(std::time::Duration::from_millis(5)).await;
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
        for seed in 0..400 {
            append(&log, &batch(seed, 10, 10_000)).await.expect("room");
        }
        durable(&log).await;
        let end = log.end();
        let (mut held, mut next) = (Vec::new(), Offset(0));
        while next < end {
            let reply = read(&log, from(next, end, MIB)).await.expect("a read");
            next = next_offset(&reply);
            let Ok(ReadPlan::Cold(cold)) = log.read(from(next.plus(-1), end, MIB)) else {
                panic!("nothing stays in the tail");
            };
            held.push(cold.run().await.expect("a read"));
            let live = storage.read_cache.live_bytes();
            assert!(
                live <= 5 * MIB,
                "{live} bytes live with {} held",
                held.len()
            );
        }
        let bytes = |reply: &Vec<Bytes>| reply.iter().map(Bytes::len).sum::<usize>();
        let last = bytes(&held[held.len() - 2]);
        let small = 101_000.max(OVERDRAWN_READ_BYTES_MAX);
        assert!((1..=small).contains(&last), "{last}");
        assert!(storage.copied_bytes() <= held.len() * small);
        // Once they are read, or given up, replies are as large as before.
        held.clear();
        let reply = read(&log, from(Offset(0), end, MIB)).await.expect("a read");
        assert!(reply.len() > 900_000, "{}", reply.len());
        assert!(storage.read_cache.live_bytes() <= 3 * MIB);
    });
}

#[test]
fn a_read_that_fails_is_told_and_may_be_tried_again() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let plan = Arc::new(Plan {
        count: 1,
        only: Some(Call::Read),
        on: ".log",
        errno: libc::EIO,
        ..Plan::default()
    });
    let faults = Faults::planned(Arc::clone(&plan));
    let directory = LogDirectory::with_faults(home.directory.path().to_owned(), true, faults);
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
