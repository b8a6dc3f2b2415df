//! Deleting a log: the name that its directory gets, and what a failure of that may harm.

use std::sync::Arc;

use futures_lite::future::zip;

use super::*;
use crate::storage::faults::{Call, Plan};
use crate::storage::layout;

/// The most that a topic's name may have.
const TOPIC_BYTES_MAX: usize = 249;

fn directory_of(home: &Home, topic: &str, partition: i32) -> PathBuf {
    let name = crate::storage::layout::partition_directory(topic, PartitionIndex(partition));
    home.directory.path().join(name)
}

#[test]
fn a_log_with_the_longest_name_is_deleted_and_its_neighbour_goes_on() {
    let home = home(Faults::default());
    let long = directory_of(&home, &"n".repeat(TOPIC_BYTES_MAX), 9_999);
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &long, config(), None, false);
        let (neighbour, _) = open(&storage, &path, config(), None, false);
        fill(&log, 0, 3).await;
        let doomed = log.delete().await.expect("a directory with another name");
        assert!(!long.exists() && doomed.is_dir());
        let name = doomed.file_name().and_then(|name| name.to_str());
        let name = name.expect("a name in ASCII");
        assert!(name.len() <= 255, "{name}");
        assert!(crate::storage::layout::is_being_deleted(name), "{name}");
        assert!(name.contains("-9999."), "{name}");
        assert_eq!(storage.directory().failure(), None);
        fill(&neighbour, 0, 3).await;
    });
}

#[test]
fn a_directory_that_cannot_be_renamed_or_removed_harms_no_other_log() {
    for only in [Call::Rename, Call::Remove] {
        let home = home(Faults::default());
        let plan = Plan {
            first: 1.into(),
            count: 1,
            only: Some(only),
            errno: libc::EIO,
            ..Plan::default()
        };
        let root = home.directory.path().to_owned();
        let directory = LogDirectory::with_faults(root, true, Faults::planned(Arc::new(plan)));
        let (path, other) = (home.log.clone(), directory_of(&home, "other", 0));
        on_shard(directory, limits(), async move |storage| {
            let (log, _) = open(&storage, &other, config(), None, false);
            let (neighbour, _) = open(&storage, &path, config(), None, false);
            fill(&log, 0, 3).await;
            let deleted = log.delete().await;
            assert_eq!(deleted.is_err(), only == Call::Rename);
            let doomed = super::super::doomed::Doomed::default();
            let now = std::time::Instant::now();
            if let Ok(path) = deleted {
                doomed.add(path.clone(), now, std::time::Duration::ZERO);
                doomed.unlink_due(storage.directory(), now).await;
                assert!(path.exists(), "its removal failed");
            }
            assert_eq!(storage.directory().failure(), None, "{only:?}");
            fill(&neighbour, 0, 3).await;
        });
    }
}

#[test]
fn deleted_segments_have_another_name_until_they_are_unlinked_or_the_log_is_opened_again() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let end = fill(&log, 0, 2000).await;
        let names = || -> Vec<String> {
            let listed = storage.directory().list(&path).expect("a listing");
            listed.into_iter().map(|entry| entry.name).collect()
        };
        let first = "00000000000000000000.log";
        assert!(names().iter().any(|name| name == first));
        let by_size = Retention {
            retention_bytes: Some(0),
            ..Retention::default()
        };
        let start = log.retain(by_size, end, NOW).await.expect("retention");
        assert!(start > Offset(0));
        let left = names();
        assert!(!left.iter().any(|name| name == first), "{left:?}");
        let mut deleted = log.take_deleted();
        assert!(deleted.contains(&path.join(format!("{first}.deleted"))));
        assert!(deleted.iter().all(|file| file.exists()), "{deleted:?}");
        assert_eq!(log.take_deleted(), Vec::<PathBuf>::new(), "taken once");
        let renamed = left.iter().filter(|name| name.ends_with(".deleted"));
        assert_eq!(renamed.count(), deleted.len());

        // One is unlinked in time, the others by the next start.
        let doomed = super::super::doomed::Doomed::default();
        let now = std::time::Instant::now();
        let unlinked = deleted.remove(0);
        doomed.add(unlinked.clone(), now, std::time::Duration::ZERO);
        doomed.unlink_due(storage.directory(), now).await;
        assert!(!unlinked.exists());
        let point = log.mark();
        log.park().await.expect("a sound disk");
        let (log, reports) = open(&storage, &path, config(), Some(point), true);
        assert_eq!(reports, Vec::<String>::new());
        assert_eq!((log.start(), log.end()), (start, end));
        let left = names();
        assert!(
            !left.iter().any(|name| name.ends_with(".deleted")),
            "{left:?}"
        );
    });
}

#[test]
fn what_is_unlinked_after_it_was_listed_has_no_size() {
    let home = home(Faults::default());
    let path = home.directory.path();
    for name in ["a", "bb"] {
        std::fs::write(path.join(name), name).expect("a file");
    }
    std::fs::create_dir(path.join("c")).expect("a directory");
    let listed = home.directory.list(path).expect("a listing");
    let listed: Vec<_> = listed.iter().map(|it| (&*it.name, it.is_file)).collect();
    assert_eq!(listed, [("a", true), ("bb", true), ("c", false)]);
    std::fs::remove_file(path.join("a")).expect("a file to remove");
    let size = |name| home.directory.size_of(&path.join(name)).expect("a call");
    assert_eq!((size("a"), size("bb")), (None, Some(2)));
}

#[test]
fn a_deleted_file_that_cannot_be_unlinked_keeps_no_log_from_opening() {
    let home = home(Faults::default());
    let (directory, plan) = failing(&home, Some(Call::Remove), ".deleted", libc::EIO);
    let path = home.log.clone();
    on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let end = fill(&log, 0, 2000).await;
        let by_size = Retention {
            retention_bytes: Some(0),
            ..Retention::default()
        };
        let start = log.retain(by_size, end, NOW).await.expect("retention");
        let deleted = log.take_deleted();
        assert!(!deleted.is_empty());
        let point = log.mark();
        log.park().await.expect("a sound disk");
        plan.fail_next();
        let (log, _) = open(&storage, &path, config(), Some(point), true);
        assert_eq!((log.start(), log.end()), (start, end));
        assert!(deleted.iter().all(|file| file.exists()));
        plan.first.store(0, std::sync::atomic::Ordering::Relaxed);
        open(&storage, &path, config(), Some(point), true);
        assert!(!deleted.iter().any(|file| file.exists()), "the next start");
    });
}

/// What the names of the first segment's files have in common.
const FIRST_SEGMENT: &str = "/00000000000000000000.";

#[test]
fn a_deleted_segment_that_cannot_be_renamed_gives_its_space_back_all_the_same() {
    for only in [Some(Call::Rename), None] {
        let home = home(Faults::default());
        let (directory, plan) = failing(&home, only, FIRST_SEGMENT, libc::EIO);
        let path = home.log.clone();
        on_shard(directory, limits(), async move |storage| {
            let (log, _) = open(&storage, &path, config(), None, false);
            let end = fill(&log, 0, 2000).await;
            let files = || {
                let listed = storage.directory().list(&path).expect("a listing");
                let names = listed.into_iter().map(|entry| entry.name);
                names
                    .filter(|name| name.ends_with(".log"))
                    .collect::<Vec<_>>()
            };
            assert!(files().len() > 3);
            plan.fail_next();
            let by_size = Retention {
                retention_bytes: Some(0),
                ..Retention::default()
            };
            let start = log.retain(by_size, end, NOW).await.expect("retention");
            assert_eq!(storage.directory().failure(), None);
            if only.is_some() {
                assert_eq!(files().len(), log.segments(), "{:?}", files());
            } else {
                assert!(files().len() > log.segments(), "neither works");
            }
            let (segments, size) = (log.segments(), log.size_bytes());
            let point = log.mark();
            log.park().await.expect("a sound disk");
            plan.first.store(0, std::sync::atomic::Ordering::Relaxed);
            for clean in [true, false] {
                let (log, reports) = open(&storage, &path, config(), Some(point), clean);
                assert_eq!(reports, Vec::<String>::new(), "M");
                assert_eq!((log.start(), log.end()), (start, end), "M");
                assert_eq!((log.segments(), log.size_bytes()), (segments, size), "M");
                assert_eq!(files().len(), segments, "M");
            }
        });
    }
}

#[test]
fn a_search_by_timestamp_goes_on_behind_what_retention_takes_meanwhile() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let config = LogConfig {
            segment_bytes: 8192,
            ..config()
        };
        let (log, _) = open(&storage, &path, config.clone(), None, false);
        for seed in 0..40 {
            append(&log, &batch(seed, 1, 1000)).await.expect("room");
        }
        log.park().await.expect("a parked log");
        let (point, segments) = (log.mark(), log.segments());
        assert!(segments > 3);
        drop(log);
        // Its indexes are in files now, and nowhere else.
        let (log, _) = open(&storage, &path, config, Some(point), true);
        let oldest = log.start();
        // As retention leaves it behind a search that has looked which segment it needs.
        let lose_index = || {
            let index = layout::segment_file(&path, log.start(), layout::TIME_INDEX);
            std::fs::remove_file(index).expect("an index");
        };
        // The search's call waits in the pool, which has one thread, until retention has begun.
        let busy_pool = || {
            let (let_go, held) = std::sync::mpsc::channel::<()>();
            let held = crate::runtime::spawn_blocking(move || held.recv());
            async move {
                drop(let_go);
                held.await.expect_err("nothing was sent");
            }
        };
        lose_index();
        let retention = Retention {
            log_start: oldest.plus(8),
            ..Retention::default()
        };
        let retained = log.retain(retention, log.end(), NOW);
        let pool = busy_pool();
        let meanwhile = zip(retained, pool);
        let (found, (start, ())) = zip(log.seek_timestamp(NOW), meanwhile).await;
        let start = start.expect("a log start");
        assert!(start > oldest, "no segment went");
        assert_eq!(found, Ok(Some(start)));
        lose_index();
        let pool = busy_pool();
        let meanwhile = zip(async { log.forget() }, pool);
        let (found, _) = zip(log.seek_timestamp(NOW), meanwhile).await;
        assert_eq!(found, Err(LogError::Closed));
    });
}
