//! Every file call of storage fails in turn: nothing acknowledged may be missing afterwards, and
//! nothing wrong may be read.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::base::limits::BLOCK_BYTES;
use crate::storage::faults::{How, Plan};
use crate::storage::journal::replay::replay;

/// Seeds in one run of the test; `MILLRACE_FAULT_SEEDS` asks for more.
const SEEDS: u64 = 1000;

/// A small generator, so that a seed says all there is to say about a run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

/// What a run acknowledged: the batches in order, each with its offset.
#[derive(Default)]
struct Ledger {
    acknowledged: Vec<(Offset, Bytes)>,
    point: Option<RecoveryPoint>,
}

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..config()
    }
}

/// Appends, acknowledges, rolls, checkpoints, parks and retains until a call fails.
async fn work(log: &Rc<Log>, random: &mut Random, ledger: &mut Ledger) -> Result<(), LogError> {
    for step in 0..40 {
        let batch = batch(
            step,
            1 + random.below(3) as usize,
            random.below(6000) as usize,
        );
        let base = append(log, &batch).await?;
        let end = log.end();
        if random.below(3) > 0 {
            log.make_durable(end).await?;
            ledger.acknowledged.push((base, batch));
        }
        match random.below(14) {
            0 => log.park().await?,
            2 => {
                let by_size = Retention {
                    retention_bytes: Some(100 << 10),
                    ..Retention::default()
                };
                log.retain(by_size, log.durable(), NOW).await?;
            }
            3 => {
                let id = TopicIdPartition {
                    topic_id: TopicId(7),
                    partition: PartitionIndex(0),
                };
                let point = log.mark();
                log.make_durable(point.offset).await?;
                log.flush_indexes().await?;
                // As a checkpoint writes its snapshot and itself.
                let bytes = checkpoint::encode([(&id, &point)]);
                let written = log.in_directory(move |directory, path| {
                    directory.replace_file(&path.join("checkpoint"), &bytes)
                });
                written.await?;
                ledger.point = Some(point);
            }
            1 => {
                let point = log.mark();
                log.make_durable(point.offset).await?;
                log.flush_indexes().await?;
                ledger.point = Some(point);
            }
            _ => {}
        }
    }
    let end = log.end();
    log.make_durable(end).await
}

/// A log is used on after a failure: all that it is asked ends, and appends are taken only where
/// the disk was full.
async fn work_on(log: &Rc<Log>, ended: &Result<(), LogError>, random: &mut Random, seed: u64) {
    let batch = batch(1, 1, random.below(6000) as usize);
    let is_failed = matches!(ended, Err(LogError::Failed(_)));
    for _ in 0..3 {
        let taken = append(log, &batch).await;
        assert!(!is_failed || taken.is_err(), "seed {seed}: {taken:?}");
        let _ended = log.make_durable(log.end()).await;
        let _ended = log.flush_indexes().await;
        let _ended = log.park().await;
        let _ended = log.retain(Retention::default(), log.durable(), NOW).await;
    }
    assert!(log.durable() <= log.end());
}

async fn check(log: &Rc<Log>, ledger: &Ledger, seed: u64) {
    // What retention took is below the start.
    let kept = |(base, _): &&(Offset, Bytes)| *base >= log.start();
    for (base, batch) in ledger.acknowledged.iter().filter(kept) {
        let range = ReadRange {
            from: *base,
            upper: log.end(),
            bytes_max: 1,
            at_least_one: true,
        };
        let found = read(log, range).await;
        let found = found.unwrap_or_else(|error| panic!("seed {seed}: {base} is lost: {error}"));
        let header = BatchHeader::parse(&found).unwrap_or_else(|| panic!("seed {seed}: {base}"));
        assert_eq!(header.base_offset, *base, "seed {seed}");
        assert!(
            found[21..] == batch[21..],
            "seed {seed}: {base} is another batch"
        );
    }
    read_all(log, log.start(), 30_000).await;
}

async fn run_seed(root: PathBuf, seed: u64) -> bool {
    let mut random = Random(seed);
    let path = root.join(format!("t-{seed}"));
    let first = 1 + random.below(120);
    let count = if random.below(2) == 0 {
        1
    } else {
        u64::MAX / 2
    };
    let errno = [libc::EIO, libc::ENOSPC][random.below(2) as usize];
    let how = [How::Refused, How::Done, How::Short][random.below(3) as usize];
    let plan = Arc::new(Plan {
        how,
        first: first.into(),
        count,
        errno,
        ..Plan::default()
    });
    let faulty = LogDirectory::with_faults(root.clone(), true, Faults::planned(plan.clone()));
    let queue = crate::runtime::current_queue();
    let limits_of_run = match random.below(2) {
        0 => limits(),
        _ => journal::journaled(seed as u16),
    };
    let mut ledger = Ledger::default();
    {
        let storage = ShardStorage::new(faulty.clone(), limits_of_run, queue);
        let made = create_files(&faulty, &path, METADATA, Offset(0)).is_ok();
        let recovered = made.then(|| recover(&faulty, &input(&path, None, false), &mut |_| {}));
        if let Some(Ok(recovered)) = recovered {
            let log = Log::open_recovered(&storage, path.clone(), small_segments(), recovered);
            let ended = work(&log, &mut random, &mut ledger).await;
            // What was acknowledged can be read for as long as the files can.
            if ended.is_err() && faulty.failure().is_none() {
                let heals = matches!(ended, Err(LogError::NoRoom | LogError::Damaged(_)));
                assert!(heals, "seed {seed}: {ended:?}");
            }
            if ended.is_err() {
                work_on(&log, &ended, &mut random, seed).await;
            }
            journal::crash(&storage, &[log]).await;
        }
    }
    let failed = plan.calls.load(Ordering::Relaxed) >= first;
    let mut names = std::fs::read_dir(&path).into_iter().flatten().flatten();
    let has_log = |entry: std::fs::DirEntry| entry.path().extension() == Some("log".as_ref());
    if !names.any(has_log) {
        assert!(ledger.acknowledged.is_empty(), "seed {seed}");
        return failed;
    }
    let sound = LogDirectory::new(root.clone(), true);
    let replayed = replay(&sound, false).expect("journals");
    assert_eq!(replayed.damaged, [], "seed {seed}");
    let storage = ShardStorage::new(sound, limits(), queue);
    let (log, reports) = open(&storage, &path, small_segments(), ledger.point, false);
    assert_eq!(reports, Vec::<String>::new(), "seed {seed}");
    check(&log, &ledger, seed).await;
    fill(&log, 7, 3).await;
    check(&log, &ledger, seed).await;
    log.park().await.expect("a sound disk");
    std::fs::remove_dir_all(&path).expect("a directory to remove");
    failed
}

#[test]
fn every_file_call_fails_in_turn_and_nothing_acknowledged_is_lost() {
    let home = home(Faults::default());
    let seeds = std::env::var("MILLRACE_FAULT_SEEDS").ok();
    let seeds = seeds.map_or(SEEDS, |seeds| seeds.parse().expect("a number of seeds"));
    let root = home.directory.path().to_owned();
    let failed = on_shard(home.directory.clone(), limits(), async move |_| {
        let mut failed = 0;
        for seed in 0..seeds {
            failed += u64::from(run_seed(root.clone(), seed).await);
        }
        failed
    });
    assert!(
        failed * 2 > seeds,
        "only {failed} of {seeds} runs met their fault"
    );
}

#[test]
fn a_full_disk_refuses_and_goes_on_once_there_is_room() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let plan = Plan {
        first: 3.into(),
        count: 4,
        only: Some(crate::storage::faults::Call::Preallocate),
        errno: libc::ENOSPC,
        ..Plan::default()
    };
    let faults = Faults::planned(Arc::new(plan));
    let directory = LogDirectory::with_faults(home.directory.path().to_owned(), true, faults);
    on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, small_segments(), None, false);
        let (mut refused, mut taken) = (0, 0);
        for seed in 0..60 {
            match append(&log, &batch(seed, 1, 5000)).await {
                Ok(_) => taken += 1,
                Err(LogError::NoRoom) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(
            refused > 0 && taken > 40,
            "{refused} refused, {taken} taken"
        );
        log.make_durable(log.end()).await.expect("a sync");
        assert_eq!(storage.directory().failure(), None);
        assert_eq!(read_all(&log, Offset(0), 10_000).await.len(), taken);
    });
}

/// A directory in which `calls` preallocations from the `first` on find no room.
fn without_room(home: &Home, first: u64, calls: u64) -> (LogDirectory, Arc<Plan>) {
    let plan = Arc::new(Plan {
        first: first.into(),
        count: calls,
        only: Some(crate::storage::faults::Call::Preallocate),
        errno: libc::ENOSPC,
        ..Plan::default()
    });
    let faults = Faults::planned(Arc::clone(&plan));
    let root = home.directory.path().to_owned();
    (LogDirectory::with_faults(root, true, faults), plan)
}

fn length(log: &Log, base: Offset) -> u64 {
    let file = log.path().join(format!("{:020}.log", base.0));
    std::fs::metadata(file).expect("a segment").len()
}

#[test]
fn a_log_that_outruns_its_steps_gets_larger_ones() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let (directory, plan) = without_room(&home, 0, 0);
    on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        for seed in 0..100 {
            // Larger than the first step, and none waits for the write of the one before.
            append(&log, &batch(seed, 70, 1000)).await.expect("room");
        }
        log.make_durable(log.end()).await.expect("a sync");
        let calls = plan.calls.load(std::sync::atomic::Ordering::Relaxed);
        assert!(calls < 20, "{calls} for 7 MB");
        assert_eq!(read_all(&log, Offset(0), 100_000).await.len(), 100);
    });
}

#[test]
fn an_append_that_fits_is_taken_where_a_step_does_not() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let (directory, _) = without_room(&home, 1, 1);
    on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        append(&log, &batch(1, 1, 5000)).await.expect("room for it");
        log.make_durable(log.end()).await.expect("a sync");
        log.growth_ends().await;
        assert_eq!(read_all(&log, Offset(0), 10_000).await.len(), 1);
    });
}

#[test]
fn a_segment_begins_where_there_is_room_for_a_block() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let (directory, plan) = without_room(&home, 0, 1);
    on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, small_segments(), None, false);
        while log.size_bytes() < 58_000 {
            append(&log, &batch(1, 1, 5000)).await.expect("room for it");
        }
        log.make_durable(log.end()).await.expect("a sync");
        log.growth_ends().await;
        let end = log.end();
        plan.fail_next();
        append(&log, &batch(2, 1, 9000)).await.expect("room for it");
        assert_eq!(log.segments(), 2);
        log.make_durable(log.end()).await.expect("a sync");
        assert!(length(&log, end) >= 9000, "{}", length(&log, end));
        assert_eq!(
            read_all(&log, Offset(0), 10_000).await.len() as i64,
            log.end().0
        );
    });
}

#[test]
fn a_log_takes_no_more_than_it_needs_while_there_is_no_room_for_a_step() {
    let home = home(Faults::default());
    let path = home.log.clone();
    // Each append finds no room for its step, and then room for itself.
    let (directory, plan) = without_room(&home, 0, 1);
    on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        for seed in 0..8 {
            plan.fail_next();
            append(&log, &batch(seed, 1, 4500))
                .await
                .expect("room for it");
            let needed = log.size_bytes().next_multiple_of(BLOCK_BYTES);
            assert_eq!(length(&log, Offset(0)), needed, "append {seed}");
            // The growth behind the write finds none either.
            plan.fail_next();
            log.make_durable(log.end()).await.expect("a sync");
            log.growth_ends().await;
            assert_eq!(length(&log, Offset(0)), needed, "append {seed}");
        }
        assert_eq!(storage.directory().failure(), None);
        assert_eq!(read_all(&log, Offset(0), 10_000).await.len(), 8);
    });
}
