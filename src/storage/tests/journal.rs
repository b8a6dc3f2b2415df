//! The journal of a shard, on a real executor over real files: what it holds is there after a
//! crash, and nothing else is.

use std::sync::atomic::Ordering;

use super::*;
use crate::base::ids::ShardId;
use crate::base::limits::BLOCK_BYTES;
use crate::storage::journal::JournalLimits;
use crate::storage::journal::replay::{Replayed, pending, replay};
use crate::storage::layout;

/// With a journal from the first append on, of small files.
pub(super) fn journaled(shard: u16) -> StorageLimits {
    StorageLimits {
        journal: Some(JournalLimits {
            shard: ShardId(shard),
            file_bytes: 4 << 20,
            memory_bytes_max: 4 << 20,
            made_after_writes: 1,
        }),
        ..limits()
    }
}

/// Stops what runs behind logs, as a crash would; what the kernel has already been asked for comes
/// to its end.
pub(super) async fn crash(storage: &ShardStorage, logs: &[Rc<Log>]) {
    logs.iter().for_each(|log| log.forget());
    let is_busy = |log: &Rc<Log>| match &log.state.borrow().appender {
        Appender::Ready(ready) => ready.writing || ready.growing,
        Appender::Parked => false,
    };
    while storage.journal().is_busy() || logs.iter().any(is_busy) {
        crate::runtime::yield_now().await;
    }
}

/// Makes a log with a journal that is there.
async fn with_journal(storage: &Rc<ShardStorage>, path: &Path) -> Rc<Log> {
    let (log, _) = open(storage, path, config(), None, false);
    append_until_journal(storage, &log).await;
    log
}

fn two_paths(home: &Home) -> [PathBuf; 2] {
    [home.log.clone(), home.log.with_file_name("u-3")]
}

/// Makes two logs, with a journal that is there.
async fn two_logs(storage: &Rc<ShardStorage>, paths: &[PathBuf; 2]) -> [Rc<Log>; 2] {
    let first = with_journal(storage, &paths[0]).await;
    [first, open(storage, &paths[1], config(), None, false).0]
}

/// The first append, after which the journal's files are made.
async fn append_until_journal(storage: &ShardStorage, log: &Rc<Log>) {
    append_durably(log, 0).await;
    while !storage.journal().is_open() {
        crate::runtime::yield_now().await;
    }
}

async fn append_durably(log: &Rc<Log>, seed: usize) {
    let appended = append(log, &batch(seed, 1, 10 + seed % 700)).await;
    appended.expect("an append");
    log.make_durable(log.end()).await.expect("a sync");
}

/// Bytes of the log's first segment that are in its file.
fn settled(log: &Path) -> u64 {
    let path = layout::segment_file(log, Offset(0), layout::LOG);
    let bytes = std::fs::read(path).expect("a segment");
    let last = bytes.iter().rposition(|byte| *byte != 0);
    // A batch without headers ends with a zero.
    last.map_or(0, |last| last as u64 + 2)
}

fn journals(home: &Home) -> usize {
    let entries = std::fs::read_dir(home.directory.path()).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .filter(|name| layout::is_journal_file(&name.to_string_lossy()))
        .count()
}

#[test]
fn what_only_the_journal_holds_is_read_and_survives_a_crash() {
    let home = home(Faults::default());
    let paths = two_paths(&home);
    let ends = on_shard(home.directory.clone(), journaled(0), {
        let paths = paths.clone();
        async move |storage| {
            let logs = two_logs(&storage, &paths).await;
            for seed in 1..100 {
                append_durably(&logs[seed % 2], seed).await;
            }
            for log in &logs {
                assert!(settled(log.path()) < log.size_bytes() / 2);
                assert_eq!(log.written(), log.durable());
                let headers = read_all(log, Offset(0), 5000).await;
                assert_eq!(
                    headers.last().map(BatchHeader::next_offset),
                    Some(log.end())
                );
            }
            crash(&storage, &logs).await;
            logs.map(|log| (log.end(), log.size_bytes()))
        }
    });
    let (pending, damaged) = pending(&home.directory).expect("a journal");
    assert_eq!(
        (damaged.len(), journals(&home)),
        (0, 2),
        "nothing is changed"
    );
    let pending: usize = pending.iter().map(|entry| entry.bytes.len()).sum();
    let replayed = replay(&home.directory, false).expect("a journal");
    assert_eq!((replayed.segments, replayed.bytes), (2, pending as u64));
    assert_eq!((replayed.damaged.len(), journals(&home)), (0, 0));
    on_shard(home.directory.clone(), limits(), async move |storage| {
        for (path, (end, size)) in paths.iter().zip(ends) {
            assert_eq!(settled(path), size);
            let (log, reports) = open(&storage, path, config(), None, false);
            assert_eq!((log.end(), reports), (end, Vec::new()));
            read_all(&log, Offset(0), 5000).await;
        }
    });
}

#[test]
fn large_appends_and_small_ones_survive_a_crash_alike() {
    let home = home(Faults::default());
    let paths = two_paths(&home);
    let written = on_shard(home.directory.clone(), journaled(0), {
        let paths = paths.clone();
        async move |storage| {
            let logs = two_logs(&storage, &paths).await;
            for seed in 1..60 {
                let log = &logs[seed % 2];
                // From 100 bytes to 100 KiB, so on either side of what is copied.
                let batch = batch(seed, 1 + seed * 7 % 20, 100 + seed * 379 % 5000);
                append(log, &batch).await.expect("an append");
                log.make_durable(log.end()).await.expect("a sync");
            }
            let mut written = Vec::new();
            for log in &logs {
                assert!(
                    settled(log.path()) < log.size_bytes(),
                    "some is in it alone"
                );
                written.push((log.end(), read_all(log, Offset(0), 200_000).await));
            }
            crash(&storage, &logs).await;
            written
        }
    });
    let replayed = replay(&home.directory, false).expect("a journal");
    assert_eq!((replayed.segments, replayed.damaged.len()), (2, 0));
    on_shard(home.directory.clone(), limits(), async move |storage| {
        for (path, (end, headers)) in paths.iter().zip(written) {
            let (log, reports) = open(&storage, path, config(), None, false);
            assert_eq!((log.end(), reports), (end, Vec::new()));
            assert_eq!(read_all(&log, Offset(0), 200_000).await, headers);
        }
    });
}

#[test]
fn a_unit_is_filled_over_many_commits_and_read_in_between() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let written = on_shard(home.directory.clone(), journaled(0), {
        let path = path.clone();
        async move |storage| {
            let log = with_journal(&storage, &path).await;
            append_durably(&log, 1).await;
            let sealed = log.state.borrow().tail.len();
            for seed in 2..10 {
                append_durably(&log, seed).await;
            }
            let last = read_all(&log, log.end().plus(-3), 5000).await;
            assert_eq!(last.len(), 3);
            assert_eq!(log.state.borrow().tail.len(), sealed, "nothing was sealed");
            for seed in 10..60 {
                append_durably(&log, seed).await;
                if seed % 3 == 0 {
                    let from = log.end().plus(-1 - (seed % 7) as i64);
                    let headers = read_all(&log, from, 5000).await;
                    assert_eq!(
                        headers.last().map(BatchHeader::next_offset),
                        Some(log.end())
                    );
                }
                if seed % 11 == 0 {
                    // A block of it is durable in part, and goes into the journal as it is.
                    let batch = batch(seed, 20, 1000);
                    append(&log, &batch).await.expect("an append");
                }
            }
            log.make_durable(log.end()).await.expect("a sync");
            assert!(settled(&path) < log.size_bytes());
            let written = (log.end(), read_all(&log, Offset(0), 50_000).await);
            crash(&storage, &[log]).await;
            written
        }
    });
    let replayed = replay(&home.directory, false).expect("a journal");
    assert_eq!((replayed.segments, replayed.damaged.len()), (1, 0));
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, reports) = open(&storage, &path, config(), None, false);
        assert_eq!((log.end(), reports), (written.0, Vec::new()));
        assert_eq!(read_all(&log, Offset(0), 50_000).await, written.1);
    });
}

#[test]
fn what_the_journal_has_made_durable_keeps_no_request() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), journaled(0), async move |storage| {
        let log = with_journal(&storage, &path).await;
        for seed in 0..4 {
            // Each is a unit of its own, and all go with one commit.
            append(&log, &batch(seed, 20, 1000)).await.expect("room");
        }
        log.make_durable(log.end()).await.expect("a sync");
        let state = log.state.borrow();
        let Appender::Ready(ready) = &state.appender else {
            panic!("it is open")
        };
        assert!(ready.queue.len() >= 4 && state.settled < state.durable);
        let requests = ready.queue.iter().map(|it| it.pending.guards.len());
        assert_eq!(requests.sum::<usize>(), 0);
        assert_eq!(ready.pending_bytes, 0);
    });
}

#[test]
fn what_one_commit_leaves_over_does_not_wait_until_it_is_durable() {
    const LOGS: usize = 8;
    let home = home(Faults::default());
    let (directory, plan) = failing(&home, Some(Call::Write), "journal-", libc::EIO);
    let paths: [_; LOGS] = std::array::from_fn(|at| home.log.with_file_name(format!("t-{at}")));
    let limits = StorageLimits {
        journal: Some(JournalLimits {
            shard: ShardId(0),
            file_bytes: 32 << 20,
            memory_bytes_max: 64 << 20,
            made_after_writes: 1,
        }),
        ..limits()
    };
    let large_segments = LogConfig {
        segment_bytes: 64 << 20,
        ..config()
    };
    on_shard(directory, limits, async move |storage| {
        let logs = paths.map(|path| open(&storage, &path, large_segments.clone(), None, false).0);
        append_until_journal(&storage, &logs[0]).await;
        let asked = || plan.calls.load(Ordering::Relaxed);
        // All of them are more than one commit takes, and less than two do.
        let batch = batch(1, 200, 1000);
        let mut is_begun_beside = false;
        // The disk may once have made the first one durable before the second could begin.
        for _ in 0..5 {
            while storage.journal().is_busy() {
                crate::runtime::yield_now().await;
            }
            for log in &logs {
                log.prepare(incoming(batch.len())).await.expect("room");
            }
            let before = asked();
            for log in &logs {
                append(log, &batch).await.expect("an append");
            }
            while logs.iter().all(|log| log.durable() < log.end()) {
                is_begun_beside |= asked() - before == 2;
                crate::runtime::yield_now().await;
            }
            for log in &logs {
                log.make_durable(log.end()).await.expect("a sync");
            }
            assert_eq!(asked() - before, 2, "commits");
            if is_begun_beside {
                break;
            }
        }
        assert!(is_begun_beside);
    });
}

#[test]
fn parking_and_much_at_once_bring_all_into_the_segment() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), journaled(0), async move |storage| {
        let log = with_journal(&storage, &path).await;
        for seed in 1..50 {
            append_durably(&log, seed).await;
        }
        append(&log, &batch(1, 600, 1000)).await.expect("an append");
        log.make_durable(log.end()).await.expect("a sync");
        assert_eq!(
            settled(&path),
            log.size_bytes(),
            "more than the journal takes"
        );
        append_durably(&log, 7).await;
        assert!(settled(&path) < log.size_bytes());
        log.park().await.expect("parked");
        assert_eq!(settled(&path), log.size_bytes());
        let size = std::fs::metadata(layout::segment_file(&path, Offset(0), layout::LOG));
        assert_eq!(size.expect("a segment").len(), log.size_bytes());
        read_all(&log, Offset(0), 5000).await;
    });
    let replayed = replay(&home.directory, true).expect("a journal");
    assert_eq!(replayed, Replayed::default());
    assert_eq!(journals(&home), 0);
}

#[test]
fn files_take_turns_and_every_crash_leaves_all_that_was_acknowledged() {
    for rounds in [3, 40, 150] {
        let home = home(Faults::default());
        let root = home.directory.path().to_owned();
        let paths: Vec<_> = (0..30)
            .map(|number| root.join(format!("t-{number}")))
            .collect();
        let ends = on_shard(home.directory.clone(), journaled(0), {
            let paths = paths.clone();
            async move |storage| {
                let mut logs = vec![with_journal(&storage, &paths[0]).await];
                for path in &paths[1..] {
                    logs.push(open(&storage, path, config(), None, false).0);
                }
                for round in 0..rounds {
                    for (number, log) in logs.iter().enumerate() {
                        // A tenth of them are not copied into the journal.
                        let records = 1 + 2 * usize::from((round + number) % 10 == 0);
                        let batch = batch(round * 7 + number, records, 1 + (round * 977) % 9000);
                        append(log, &batch).await.expect("an append");
                    }
                    for log in &logs {
                        log.make_durable(log.end()).await.expect("a sync");
                    }
                }
                for log in &logs {
                    read_all(log, Offset(0), 100_000).await;
                }
                let ends: Vec<_> = logs.iter().map(|log| log.end()).collect();
                crash(&storage, &logs).await;
                ends
            }
        });
        let replayed = replay(&home.directory, false).expect("a journal");
        assert!(
            replayed.bytes > 0 && replayed.damaged.is_empty(),
            "{replayed:?}"
        );
        on_shard(home.directory.clone(), limits(), async move |storage| {
            for (path, end) in paths.iter().zip(ends) {
                let (log, reports) = open(&storage, path, config(), None, false);
                assert_eq!((log.end(), reports), (end, Vec::new()), "{rounds}");
                read_all(&log, Offset(0), 100_000).await;
            }
        });
    }
}

/// A journal that holds what `seeds` say of one log, whose segment has less.
fn left_by_a_crash(home: &Home, seeds: std::ops::Range<usize>) -> u64 {
    let path = home.log.clone();
    on_shard(home.directory.clone(), journaled(0), async move |storage| {
        let log = with_journal(&storage, &path).await;
        for seed in seeds {
            append_durably(&log, seed).await;
        }
        crash(&storage, &[Rc::clone(&log)]).await;
        log.size_bytes()
    })
}

#[test]
fn nothing_is_replayed_into_what_has_been_made_anew() {
    for case in ["deleted", "anew", "nobody's", "stray", "same", "summed"] {
        let home = home(Faults::default());
        let size = left_by_a_crash(&home, 1..20);
        let before = settled(&home.log);
        match case {
            "deleted" => std::fs::remove_dir_all(&home.log).expect("removed"),
            "anew" | "nobody's" => {
                let metadata = home.log.join(layout::PARTITION_METADATA);
                let whole = layout::partition_metadata(TopicId(8));
                let length = if case == "anew" { whole.len() } else { 20 };
                std::fs::write(metadata, &whole[..length]).expect("written");
            }
            // It got its sum since.
            "summed" => {
                let metadata = home.log.join(layout::PARTITION_METADATA);
                std::fs::write(metadata, layout::partition_metadata(TopicId(7))).expect("written");
            }
            // A segment that was about to be made when appends went on in the one before.
            "stray" => {
                let next = layout::segment_file(&home.log, Offset(10), layout::LOG);
                std::fs::write(next, [0; 4096]).expect("written");
            }
            _ => {}
        }
        let replayed = replay(&home.directory, false).expect("a journal");
        let is_replayed = matches!(case, "same" | "stray" | "summed");
        assert_eq!(replayed.bytes > 0, is_replayed, "{case}");
        assert_eq!(journals(&home), 0);
        // Where it cannot be told whose the records are, they are not thrown away.
        assert_eq!(
            !replayed.damaged.is_empty(),
            case == "nobody's",
            "{case}: {replayed:?}"
        );
        assert!(replayed.damaged.iter().all(|damaged| damaged.kept.exists()));
        match case {
            "deleted" => assert!(!home.log.exists()),
            _ if is_replayed => {
                assert_eq!(settled(&home.log), size);
                let path = home.log.clone();
                on_shard(home.directory.clone(), limits(), async move |storage| {
                    let (log, _) = open(&storage, &path, config(), None, false);
                    assert_eq!(read_all(&log, Offset(0), 5000).await.len(), 20, "{case}");
                    assert_eq!(log.end(), Offset(20), "{case}");
                });
            }
            _ => assert_eq!(settled(&home.log), before, "{case}"),
        }
    }
}

#[test]
fn a_commit_that_is_damaged_is_reported_unless_it_may_be_a_torn_write() {
    // Blocks of the journal's file, each a commit; none, one, or more than a crash explains.
    for (damaged, is_reported) in [(0..0, false), (5..6, false), (5..8, true), (0..1, true)] {
        let home = home(Faults::default());
        left_by_a_crash(&home, 1..20);
        let file = home.directory.path().join("journal-0.0");
        let mut bytes = std::fs::read(&file).expect("a journal");
        for block in damaged.clone() {
            bytes[block * BLOCK_BYTES as usize + 30] ^= 1;
            bytes[block * BLOCK_BYTES as usize + 10] ^= 1;
        }
        std::fs::write(&file, bytes).expect("a journal");
        let replayed = replay(&home.directory, false).expect("a journal");
        assert_eq!(!replayed.damaged.is_empty(), is_reported, "{damaged:?}");
        assert_eq!(file.with_extension("0.damaged").exists(), is_reported);
        assert_eq!(journals(&home), 0);
        // What was kept of a crash before stays beside it.
        std::fs::write(&file, "no journal").expect("a file");
        let again = replay(&home.directory, false).expect("no journal");
        let kept = again.damaged[0].kept.clone();
        assert_eq!(
            kept == file.with_extension("0.damaged-2"),
            is_reported,
            "{kept:?}"
        );
    }
}

#[test]
fn what_is_damaged_in_a_commit_costs_its_own_log_and_no_other() {
    let home = home(Faults::default());
    let paths = two_paths(&home);
    let ends = on_shard(home.directory.clone(), journaled(0), {
        let paths = paths.clone();
        async move |storage| {
            let logs = two_logs(&storage, &paths).await;
            for seed in 1..4 {
                for log in &logs {
                    append(log, &batch(seed, 20, 1000)).await.expect("room");
                }
                for log in &logs {
                    log.make_durable(log.end()).await.expect("a sync");
                }
            }
            crash(&storage, &logs).await;
            logs.map(|log| log.end())
        }
    });
    let file = home.directory.path().join("journal-0.0");
    let mut bytes = std::fs::read(&file).expect("a journal");
    // Of the last round, whichever log's comes first in the file.
    let whole = batch(3, 20, 1000);
    let body = &whole[61..];
    let at = bytes.windows(body.len()).position(|part| part == body);
    bytes[at.expect("a batch of the third round") + 500] ^= 1;
    std::fs::write(&file, bytes).expect("a journal");
    let replayed = replay(&home.directory, false).expect("a journal");
    assert_eq!(replayed.damaged, Vec::new());
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let mut lost = 0;
        for (path, end) in paths.iter().zip(ends) {
            let (log, _) = open(&storage, path, config(), None, false);
            lost += end.0 - log.end().0;
            read_all(&log, Offset(0), 100_000).await;
        }
        assert_eq!(lost, 20, "one batch of one of them");
    });
}

#[test]
fn what_was_rolled_before_it_was_ever_opened_is_replayed_too() {
    let home = home(Faults::default());
    left_by_a_crash(&home, 1..20);
    replay(&home.directory, false).expect("a journal");
    let path = home.log.clone();
    let end = on_shard(home.directory.clone(), journaled(0), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let all_expired = Retention {
            retention_bytes: Some(0),
            ..Retention::default()
        };
        let retained = log.retain(all_expired, log.durable(), NOW).await;
        retained.expect("retained");
        append_until_journal(&storage, &log).await;
        for seed in 1..20 {
            append_durably(&log, seed).await;
        }
        crash(&storage, &[Rc::clone(&log)]).await;
        log.end()
    });
    let replayed = replay(&home.directory, false).expect("a journal");
    assert!(replayed.bytes > 0);
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, reports) = open(&storage, &path, config(), None, false);
        assert_eq!((log.end(), reports), (end, Vec::new()));
        read_all(&log, log.start(), 5000).await;
    });
}

#[test]
fn a_closed_journal_takes_nothing_more() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), journaled(0), async move |storage| {
        let log = with_journal(&storage, &path).await;
        append_durably(&log, 1).await;
        storage.close_journal();
        append_durably(&log, 2).await;
        assert_eq!(settled(&path), log.size_bytes());
    });
}

#[test]
fn where_the_journal_finds_no_room_logs_go_on_without_it() {
    let home = home(Faults::default());
    let (directory, plan) = failing(&home, Some(Call::Preallocate), "journal-", libc::ENOSPC);
    plan.fail_next();
    let path = home.log.clone();
    on_shard(directory, journaled(0), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        for seed in 0..50 {
            append_durably(&log, seed).await;
        }
        assert!(!storage.journal().is_open());
        assert_eq!(storage.directory().failure(), None);
        assert_eq!(settled(&path), log.size_bytes());
    });
    assert_eq!(journals(&home), 0);
}

#[test]
fn a_journal_that_cannot_be_written_takes_the_directory_out_of_service() {
    let home = home(Faults::default());
    let (directory, plan) = failing(&home, Some(Call::Write), "journal-", libc::EIO);
    let path = home.log.clone();
    let end = on_shard(directory, journaled(0), async move |storage| {
        let log = with_journal(&storage, &path).await;
        for seed in 1..5 {
            append_durably(&log, seed).await;
        }
        let end = log.durable();
        plan.fail_next();
        append(&log, &batch(9, 1, 100)).await.expect("an append");
        let failed = log.make_durable(log.end()).await;
        assert!(matches!(failed, Err(LogError::Failed(_))), "{failed:?}");
        assert!(storage.directory().failure().is_some());
        assert_eq!(log.durable(), end, "what failed was not acknowledged");
        // What was acknowledged is still read.
        read_all(&log, Offset(0), 5000).await;
        crash(&storage, &[log]).await;
        end
    });
    replay(&home.directory, false).expect("a journal");
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        assert!(log.end() >= end, "{} of {end}", log.end());
    });
}
