//! What may come between the steps of a log's life: deletions, retention, failures.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures_lite::future::zip;

use super::*;
use crate::storage::faults::Call;

fn by_time() -> Retention {
    Retention {
        retention_ms: Some(1),
        ..Retention::default()
    }
}

/// When every record of the tests is past its retention.
const LATER: i64 = NOW + 10_000_000;

#[test]
fn a_deleted_log_is_left_alone_by_what_comes_after() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        for seed in 0..3 {
            let (log, _) = open(&storage, &path, config(), None, false);
            fill(&log, seed, 50).await;
            assert!(!log.state.borrow().active().index.is_flushed());
            match seed {
                0 => drop(log.delete().await.expect("a deletion")),
                // Queued behind the deletion.
                1 => {
                    let (deleted, parked) = zip(log.delete(), log.park()).await;
                    assert!(deleted.is_ok(), "{deleted:?}");
                    assert_eq!(parked, Err(LogError::Closed));
                }
                _ => {
                    let (deleted, kept) = zip(log.delete(), log.flush_indexes()).await;
                    assert!(deleted.is_ok(), "{deleted:?}");
                    assert_eq!(kept, Err(LogError::Closed));
                }
            }
            assert_eq!(log.flush_indexes().await, Err(LogError::Closed));
            assert_eq!(log.park().await, Err(LogError::Closed));
            let retained = log.retain(by_time(), log.end(), LATER).await;
            assert_eq!(retained, Err(LogError::Closed));
            assert!(!path.exists(), "nothing comes back");
            assert_eq!(storage.directory().failure(), None);
        }
    });
}

#[test]
fn retention_never_takes_what_was_appended_while_it_waited() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let end = fill(&log, 0, 3).await;
        let young = batch(1, 1, 100);
        log.prepare(incoming(young.len())).await.expect("room");
        let transition = log.transition.acquire_permit(1).await.expect("a permit");
        let meanwhile = async {
            crate::runtime::Timer::new(std::time::Duration::from_millis(20)).await;
            let base = append(&log, &young).await.expect("an append");
            log.make_durable(base.plus(1)).await.expect("a sync");
            drop(transition);
            base
        };
        let (retained, base) = zip(log.retain(by_time(), end, LATER), meanwhile).await;
        assert!(retained.expect("retention") <= base);
        assert_eq!(read_all(&log, base, 1000).await.len(), 1);
    });
}

#[test]
fn appends_of_clients_leave_the_reserve_and_retention_and_our_own_topics_do_not() {
    let home = home(Faults::default());
    let (path, own) = (home.log.clone(), home.log.with_file_name("__own-0"));
    let root = home.directory.path().to_owned();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let end = fill(&log, 0, 2000).await;
        log.park().await.expect("a sound disk");
        let point = Some(log.mark());

        // No disk is so large.
        let kept = LogDirectory::new(root, true).with_reserve(u64::MAX);
        let queue = crate::runtime::current_queue();
        let storage = ShardStorage::new(kept, limits(), queue);
        let (log, _) = open(&storage, &path, config(), point, true);
        let one = batch(1, 1, 100);
        assert_eq!(append(&log, &one).await, Err(LogError::NoRoom));
        assert_eq!(log.end(), end, "nothing was taken");
        let (ours, _) = open(&storage, &own, config(), None, false);
        assert_eq!(append(&ours, &one).await, Ok(Offset(0)));
        ours.make_durable(Offset(1)).await.expect("a sync");
        assert_eq!(log.retain(by_time(), end, LATER).await, Ok(end));
        assert_eq!(log.segments(), 1);
        assert_eq!(storage.directory().failure(), None);
    });
}

#[test]
fn retention_frees_a_full_disk() {
    let home = home(Faults::default());
    let (directory, plan) = failing(&home, Some(Call::Preallocate), "", libc::ENOSPC);
    let path = home.log.clone();
    on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let end = fill(&log, 0, 2000).await;
        assert!(log.segments() > 2);
        plan.fail_next();
        let retained = log.retain(by_time(), end, LATER).await;
        assert_eq!(retained, Err(LogError::NoRoom), "the active segment stays");
        assert_eq!(log.segments(), 1, "all others are gone");
        let names = storage.directory().list(log.path()).expect("a listing");
        let logs = names.iter().filter(|entry| entry.name.ends_with(".log"));
        assert_eq!(logs.count(), 1, "{names:?}");
        plan.first.store(0, std::sync::atomic::Ordering::Relaxed);
        let start = log.retain(by_time(), end, LATER).await;
        assert_eq!(start, Ok(end));
    });
}

#[test]
fn a_failed_disk_refuses_and_every_log_of_the_directory_is_told() {
    let home = home(Faults::default());
    let (directory, plan) = failing(&home, Some(Call::Write), "", libc::EIO);
    let path = home.log.clone();
    on_shard(directory, limits(), async move |storage| {
        let (first, _) = open(&storage, &path, config(), None, false);
        let (second, _) = open(&storage, &path.with_extension("2"), config(), None, false);
        for log in [&first, &second] {
            fill(log, 0, 5).await;
        }
        plan.fail_next();
        let batch = batch(1, 1, 100);
        for log in [&first, &second] {
            append(log, &batch).await.expect("bytes are taken");
        }
        let end = first.end();
        let (one, other) = zip(first.make_durable(end), second.make_durable(end)).await;
        for (refused, log) in [(one, &first), (other, &second)] {
            assert!(matches!(refused, Err(LogError::Failed(_))), "{refused:?}");
            assert!(!log.has_room(incoming(batch.len())));
            let again = append(log, &batch).await;
            assert!(matches!(again, Err(LogError::Failed(_))), "{again:?}");
            let state = log.state.borrow();
            let Appender::Ready(ready) = &state.appender else {
                continue;
            };
            let guards = ready.queue.iter().map(|sealed| sealed.pending.guards.len());
            let open = ready.open.iter().map(|open| open.pending.guards.len());
            assert_eq!(guards.chain(open).sum::<usize>(), 0, "requests are let go");
            drop(state);
            assert_eq!(log.durable(), end.plus(-1));
        }
        // What is there can still be read.
        assert_eq!(read_all(&first, Offset(0), 10_000).await.len(), 5);
    });
}

#[test]
fn a_tail_gives_its_memory_back_with_its_log() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        for round in 0..4 {
            let path = path.with_extension(round.to_string());
            let (log, _) = open(&storage, &path, config(), None, false);
            fill(&log, 0, 50).await;
            assert!(storage.tail_bytes() > 0);
            match round {
                0 => {}
                // Deleted while writes are on their way.
                1 => {
                    for seed in 0..500 {
                        append(&log, &batch(seed, 1, 3000)).await.expect("room");
                    }
                    drop(log.delete().await.expect("a deletion"));
                }
                2 => {
                    let end = log.end();
                    let start = log.retain(by_time(), end, LATER).await;
                    assert_eq!(start, Ok(end));
                }
                _ => drop(log.delete().await.expect("a deletion")),
            }
            drop(log);
            // What was being written ends.
            crate::runtime::Timer::new(std::time::Duration::from_millis(50)).await;
            assert_eq!(storage.tail_bytes(), 0, "round {round}");
            assert_eq!(storage.tails.units(), 0, "round {round}");
        }
    });
}

#[test]
fn a_log_without_room_for_its_indexes_goes_on_when_there_is_some() {
    let home = home(Faults::default());
    let (directory, plan) = failing(&home, Some(Call::Create), "index", libc::ENOSPC);
    let path = home.log.clone();
    on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let end = fill(&log, 0, 50).await;
        plan.fail_next();
        assert_eq!(log.park().await, Err(LogError::NoRoom));
        let batch = batch(1, 1, 100);
        let base = append(&log, &batch).await.expect("the segment has room");
        log.make_durable(base.plus(1)).await.expect("a sync");
        assert!(log.has_room(incoming(batch.len())));
        assert_eq!((base, storage.directory().failure()), (end, None));
        let full = LogConfig {
            segment_bytes: log.size_bytes(),
            ..config()
        };
        log.reconfigure(full);
        assert_eq!(append(&log, &batch).await, Err(LogError::NoRoom), "a roll");
        log.reconfigure(config());
        append(&log, &batch).await.expect("no roll, and room");
        plan.first.store(0, std::sync::atomic::Ordering::Relaxed);
        log.park().await.expect("room");
        assert_eq!(read_all(&log, Offset(0), 10_000).await.len(), 52);
    });
}

#[test]
fn a_failed_sync_is_never_taken_for_a_full_disk() {
    let home = home(Faults::default());
    for round in 0..2 {
        let (directory, plan) = failing(&home, Some(Call::Sync), "", libc::ENOSPC);
        let path = home.log.with_extension(round.to_string());
        on_shard(directory, limits(), async move |storage| {
            let config = LogConfig {
                syncs_writes: false,
                ..config()
            };
            let (log, _) = open(&storage, &path, config, None, false);
            fill(&log, 0, 5).await;
            append(&log, &batch(1, 1, 100)).await.expect("room");
            plan.fail_next();
            let refused = match round {
                0 => log.make_durable(log.end()).await,
                _ => log.park().await,
            };
            assert!(matches!(refused, Err(LogError::Failed(_))), "{refused:?}");
            assert!(storage.directory().failure().is_some());
        });
    }
}

#[test]
fn a_sync_does_not_run_after_the_end_of_a_log_that_is_appended_to() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let never = LogConfig {
            syncs_writes: false,
            ..config()
        };
        let (log, _) = open(&storage, &path, never, None, false);
        let batch = batch(1, 1, 100);
        let most = 100;
        let room = log.prepare(incoming(batch.len() * (most + 1))).await;
        room.expect("room");
        append(&log, &batch).await.expect("an append");
        let wanted = log.end();
        let mut syncing = pin!(log.make_durable(wanted));
        let mut looks = 0;
        let synced = poll_fn(|context| {
            // Whenever it looks there is more.
            looks += 1;
            assert!(looks < most, "it waits for what came later");
            let appended = pin!(append(&log, &batch)).poll(context);
            assert!(matches!(appended, Poll::Ready(Ok(_))), "{appended:?}");
            syncing.as_mut().poll(context)
        });
        synced.await.expect("a sync");
        assert!((wanted..log.end()).contains(&log.durable()));
    });
}

#[test]
fn a_read_of_what_is_deleted_meanwhile_is_out_of_range() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let limits = StorageLimits {
        tail_bytes_max: 0,
        ..limits()
    };
    on_shard(home.directory.clone(), limits, async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let end = fill(&log, 0, 2000).await;
        let range = ReadRange {
            from: Offset(0),
            upper: end,
            bytes_max: 1000,
            at_least_one: true,
        };
        let plan = || match log.read(range) {
            Ok(ReadPlan::Cold(cold)) => cold,
            other => panic!("{other:?}"),
        };
        let (first, second) = (plan(), plan());
        let (read, retained) = zip(first.run(), log.retain(by_time(), end, LATER)).await;
        assert_eq!(retained, Ok(end));
        let out_of_range = LogError::OutOfRange {
            requested: Offset(0),
            start: end,
            end,
        };
        // It may have been in time.
        assert!(read.is_ok_and(|chunks| !chunks.is_empty()) || log.start() == end);
        assert!(storage.reads.get(log.number, Offset(0)).is_none());
        assert_eq!(second.run().await.map(|_| ()), Err(out_of_range));
        assert_eq!(storage.directory().failure(), None);
    });
}

#[test]
fn the_logs_that_are_written_stay_open() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let small = batch(1, 1, 10);
        let mut logs = Vec::new();
        let write = async |log: &Rc<Log>, now: i64| {
            let incoming = Incoming {
                now,
                ..incoming(small.len())
            };
            if !log.has_room(incoming) {
                log.prepare(incoming).await.expect("room");
            }
            let taken = log.append(&small, now, None, |_, _| {
                Ok::<_, LogError>(Assigned {
                    offsets: 1,
                    leader_epoch: LeaderEpoch(0),
                    max_timestamp: NOW,
                })
            });
            taken.expect("an append");
        };
        for number in 0..60 {
            let path = path.with_extension(number.to_string());
            let (log, _) = open(&storage, &path, config(), None, false);
            write(&log, NOW + number).await;
            logs.push(log);
            // The first is written all the time.
            write(&logs[0], NOW + number).await;
            crate::runtime::Timer::new(std::time::Duration::from_millis(5)).await;
        }
        let is_open = |log: &Rc<Log>| matches!(log.state.borrow().appender, Appender::Ready(_));
        let open_at_most = async |most: usize| {
            for _ in 0..1000 {
                let open = logs.iter().filter(|log| is_open(log)).count();
                if open <= most {
                    return open;
                }
                crate::runtime::Timer::new(std::time::Duration::from_millis(10)).await;
            }
            panic!("more than {most} stay open")
        };
        assert!(
            open_at_most(16).await >= 8,
            "no more are parked than need be"
        );
        assert!(is_open(&logs[0]) && is_open(&logs[59]));
        assert!(logs[1..40].iter().all(|log| !is_open(log)));
        storage.park_idle(NOW + 59);
        assert_eq!(open_at_most(2).await, 2, "the two that were written last");
    });
}

#[test]
fn a_new_segment_goes_on_at_the_pace_of_the_one_before() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let mut seed = 0;
        while log.segments() < 2 {
            append(&log, &batch(seed, 1, 3000)).await.expect("room");
            log.make_durable(log.end()).await.expect("a sync");
            seed += 1;
        }
        let state = log.state.borrow();
        let Appender::Ready(ready) = &state.appender else {
            panic!("it is open")
        };
        assert!(ready.pace.step() > 64 << 10, "{:?}", ready.pace);
    });
}

/// Waits until the log is parked.
async fn parked(log: &Rc<Log>) {
    for _ in 0..1000 {
        if matches!(log.state.borrow().appender, Appender::Parked) {
            return;
        }
        crate::runtime::Timer::new(std::time::Duration::from_millis(5)).await;
    }
    panic!("it stays open")
}

#[test]
fn a_log_that_rolled_is_parked_as_any_other() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let active_bytes = || {
            let base = log.state.borrow().active().base_offset;
            let file = crate::storage::layout::segment_file(&path, base, "log");
            std::fs::metadata(file).expect("a segment").len()
        };
        let end = fill(&log, 0, 2000).await;
        assert!(log.segments() > 2, "it rolled");
        storage.park_idle(i64::MAX);
        parked(&log).await;
        assert_eq!(active_bytes(), log.state.borrow().active().size);

        // Retention rolls a parked log too.
        assert_eq!(log.retain(by_time(), end, LATER).await, Ok(end));
        storage.park_idle(i64::MAX);
        parked(&log).await;
        assert_eq!((log.segments(), active_bytes()), (1, 0));
        fill(&log, 0, 3).await;
        assert_eq!(read_all(&log, end, 1000).await.len(), 3);
    });
}

#[test]
fn logs_that_rolled_count_among_those_held_open() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let mut logs = Vec::new();
        for number in 0..40 {
            let path = path.with_extension(number.to_string());
            let (log, _) = open(&storage, &path, config(), None, false);
            let end = fill(&log, 0, 3).await;
            assert_eq!(log.retain(by_time(), end, LATER).await, Ok(end), "a roll");
            logs.push(log);
        }
        let is_open = |log: &&Rc<Log>| matches!(log.state.borrow().appender, Appender::Ready(_));
        let most = limits().open_logs_max;
        for _ in 0..1000 {
            if logs.iter().filter(is_open).count() <= most {
                return;
            }
            crate::runtime::Timer::new(std::time::Duration::from_millis(5)).await;
        }
        panic!("more than {most} stay open")
    });
}

#[test]
fn a_lack_of_descriptors_refuses_and_heals() {
    for (round, only) in [Call::Open, Call::Create, Call::SyncDirectory]
        .into_iter()
        .enumerate()
    {
        for errno in [libc::EMFILE, libc::ENFILE] {
            let home = home(Faults::default());
            let (directory, plan) = failing(&home, Some(only), "", errno);
            let path = home.log.clone();
            on_shard(directory, limits(), async move |storage| {
                let (log, _) = open(&storage, &path, config(), None, false);
                let end = fill(&log, 0, 3).await;
                log.park().await.expect("a parked log");
                if round > 0 {
                    log.reconfigure(LogConfig {
                        segment_bytes: log.size_bytes(),
                        ..config()
                    });
                }
                plan.fail_next();
                let batch = batch(1, 1, 10);
                for _ in 0..2 {
                    let refused = append(&log, &batch).await;
                    assert_eq!(refused, Err(LogError::NoDescriptor), "{only:?}");
                }
                assert_eq!((log.end(), log.segments()), (end, 1));
                assert_eq!(storage.directory().failure(), None);
                plan.first.store(0, std::sync::atomic::Ordering::Relaxed);
                assert_eq!(append(&log, &batch).await, Ok(end));
                log.make_durable(end.plus(1)).await.expect("a sync");
                assert_eq!(log.segments(), 1 + round.min(1));
                assert_eq!(read_all(&log, Offset(0), 1000).await.len(), 4);
            });
        }
    }
}

#[test]
fn what_was_never_synced_is_once_the_settings_say_so() {
    let home = home(Faults::default());
    for waits in [true, false] {
        let path = home.log.with_extension(waits.to_string());
        on_shard(home.directory.clone(), limits(), async move |storage| {
            let never = LogConfig {
                syncs_writes: false,
                ..config()
            };
            let (log, _) = open(&storage, &path, never.clone(), None, false);
            append(&log, &batch(0, 1, 100)).await.expect("room");
            let end = log.end();
            let patience = || crate::runtime::Timer::new(std::time::Duration::from_millis(5));
            while log.written() < end {
                patience().await;
            }
            assert_eq!((log.acknowledged(), log.durable()), (end, Offset(0)));
            log.reconfigure(config());
            assert_eq!(log.acknowledged(), end, "it never goes back");
            if waits {
                let late = async {
                    crate::runtime::Timer::new(std::time::Duration::from_secs(10)).await;
                    panic!("nobody syncs it")
                };
                let synced = futures_lite::future::or(log.make_durable(end), late).await;
                synced.expect("a sync");
            }
            for _ in 0..1000 {
                if log.durable() == end {
                    break;
                }
                patience().await;
            }
            assert_eq!(log.durable(), end);

            // From here on a write is durable, and stays so until the file is closed.
            append(&log, &batch(1, 1, 100)).await.expect("room");
            log.reconfigure(never);
            log.make_durable(log.end()).await.expect("a sync");
            assert_eq!(log.acknowledged(), log.end());
            assert_eq!(read_all(&log, Offset(0), 1000).await.len(), 2);
        });
    }
}
