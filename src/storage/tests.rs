//! Logs on a real executor over real files.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::checkpoint::{self, RecoveryPoints};
use super::directories::LogDirectories;
use super::directory::LogDirectory;
use super::error::LogError;
use super::faults::{Call, Faults, Plan};
use super::lifecycle::create_files;
use super::log::{Appender, Assigned, Incoming, Log, LogConfig};
use super::reader::{ReadPlan, ReadRange};
use super::recovery::{RecoveryInput, RecoveryPoint, recover};
use super::retention::Retention;
use super::shard::{ShardStorage, StorageLimits};
use crate::base::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition};
use crate::record::batches::Batches;
use crate::record::builder::{BatchBuilder, RecordToWrite};
use crate::record::compression::Codec;
use crate::record::header::{BatchHeader, crc_of};

const METADATA: &str = "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABw\n";
const NOW: i64 = 1_700_000_000_000;

pub(super) fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        segment_ms: i64::MAX,
        segment_index_bytes: 10 << 20,
        index_interval_bytes: 4096,
        syncs_writes: true,
    }
}

pub(super) fn limits() -> StorageLimits {
    StorageLimits {
        tail_bytes_max: 8 << 20,
        read_cache_bytes_max: 2 << 20,
        writes_max: 64,
        open_logs_max: 16,
        open_reads_max: 16,
        journal: None,
    }
}

/// Runs `test` on an executor with storage in these directories.
pub(super) fn on_shard<T, F>(
    directories: impl Into<LogDirectories>,
    limits: StorageLimits,
    test: F,
) -> T
where
    T: Send + 'static,
    F: AsyncFnOnce(Rc<ShardStorage>) -> T + Send + 'static,
{
    let directories = directories.into();
    crate::runtime::block_on(async move {
        let queue = crate::runtime::current_queue();
        test(ShardStorage::new(directories, limits, queue)).await
    })
}

pub(super) fn input(path: &Path, point: Option<RecoveryPoint>, clean: bool) -> RecoveryInput {
    RecoveryInput {
        path: path.to_owned(),
        point,
        clean,
        identity: METADATA.to_owned(),
        index_interval_bytes: 4096,
        now: NOW,
    }
}

/// Makes or opens the log in `path` as after a crash, or cleanly if a point is given.
pub(super) fn open(
    storage: &Rc<ShardStorage>,
    path: &Path,
    config: LogConfig,
    point: Option<RecoveryPoint>,
    clean: bool,
) -> (Rc<Log>, Vec<String>) {
    if !path.exists() {
        create_files(storage.directory(), path, METADATA, Offset(0)).expect("a new log");
    }
    let recovered = recover(storage.directory(), &input(path, point, clean), &mut |_| {});
    let mut recovered = recovered.expect("a recovered log");
    let reports = std::mem::take(&mut recovered.reports);
    (
        Log::open_recovered(storage, path.to_owned(), config, recovered),
        reports,
    )
}

/// A batch of `records` records of `value_bytes` each.
pub(super) fn batch(seed: usize, records: usize, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    let value: Vec<u8> = (0..value_bytes)
        .map(|at| (seed * 31 + at * 7) as u8)
        .collect();
    for record in 0..records {
        let record = RecordToWrite {
            timestamp: NOW + (seed * 100 + record) as i64,
            key: None,
            value: Some(&value),
            headers: &[],
        };
        builder.append(&record).expect("a record that fits");
    }
    builder.build().expect("a batch").into()
}

/// A batch of `bytes` bytes whose records are as young as the append.
pub(super) fn incoming(bytes: usize) -> Incoming {
    Incoming {
        bytes,
        timestamp: NOW,
        now: NOW,
    }
}

pub(super) async fn append(log: &Rc<Log>, batch: &Bytes) -> Result<Offset, LogError> {
    if !log.has_room(incoming(batch.len())) {
        log.prepare(incoming(batch.len())).await?;
    }
    log.append(batch, NOW, Some(batch.clone()), |copy, crc| {
        let header = BatchHeader::parse(copy).expect("a batch");
        assert_eq!(header.crc, crc, "the CRC computed while copying");
        Ok(Assigned {
            offsets: i64::from(header.records_count),
            leader_epoch: LeaderEpoch(3),
            max_timestamp: header.max_timestamp,
        })
    })
}

pub(super) async fn read(log: &Rc<Log>, range: ReadRange) -> Result<Bytes, LogError> {
    let chunks = match log.read(range)? {
        ReadPlan::Memory(chunks) => chunks,
        ReadPlan::Cold(cold) => cold.run().await?,
    };
    Ok(chunks.concat().into())
}

/// Reads the whole log by fetches of `bytes_max`, and checks that no offset is missing.
pub(super) async fn read_all(log: &Rc<Log>, from: Offset, bytes_max: usize) -> Vec<BatchHeader> {
    let mut next = from;
    let mut headers = Vec::new();
    let upper = log.durable();
    while next < upper {
        let range = ReadRange {
            from: next,
            upper,
            bytes_max,
            at_least_one: true,
        };
        let bytes = read(log, range).await.expect("a read");
        let before = next;
        for item in Batches::new(&bytes) {
            let Ok((header, batch)) = item else { break };
            assert_eq!(crc_of(batch), header.crc, "at {}", header.base_offset);
            assert!(
                header.base_offset <= next && next < header.next_offset(),
                "a gap at {next}"
            );
            next = header.next_offset();
            headers.push(header);
        }
        assert!(next > before, "no progress at {next} of {upper}");
    }
    headers
}

async fn fill(log: &Rc<Log>, from: usize, batches: usize) -> Offset {
    for seed in from..from + batches {
        let batch = batch(seed, 1 + seed % 5, 10 + (seed * 37) % 3000);
        append(log, &batch).await.expect("an append");
    }
    let end = log.end();
    log.make_durable(end).await.expect("a sync");
    end
}

pub(super) struct Home {
    _directory: tempfile::TempDir,
    pub log: PathBuf,
    pub directory: LogDirectory,
}

/// A directory in which calls of a kind, or all, on paths that contain `on` fail with `errno`: for
/// good, from when the plan says so.
pub(super) fn failing(
    home: &Home,
    only: Option<Call>,
    on: &'static str,
    errno: i32,
) -> (LogDirectory, Arc<Plan>) {
    let plan = Arc::new(Plan {
        count: u64::MAX,
        only,
        on,
        errno,
        ..Plan::default()
    });
    let faults = Faults::planned(Arc::clone(&plan));
    let directory = LogDirectory::with_faults(home.directory.path().to_owned(), true, faults);
    (directory, plan)
}

pub(super) fn home(faults: Faults) -> Home {
    // On the disk that holds the build: a temporary file system may not take direct I/O.
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&target).expect("a target directory");
    let directory = tempfile::tempdir_in(target).expect("a directory");
    Home {
        log: directory.path().join("t-0"),
        directory: LogDirectory::with_faults(directory.path().to_owned(), true, faults),
        _directory: directory,
    }
}

#[test]
fn what_was_appended_is_read_back_from_memory_and_from_disk() {
    let home = home(Faults::default());
    for tail_bytes_max in [64 << 20, 0] {
        let path = home.log.with_extension(tail_bytes_max.to_string());
        let limits = StorageLimits {
            tail_bytes_max,
            ..limits()
        };
        on_shard(home.directory.clone(), limits, async move |storage| {
            let (log, _) = open(&storage, &path, config(), None, false);
            let end = fill(&log, 0, 2000).await;
            assert!(log.segments() > 2, "{} segments", log.segments());
            for bytes_max in [1, 5000, 100_000, 10 << 20] {
                let headers = read_all(&log, Offset(0), bytes_max).await;
                assert_eq!(headers.len(), 2000);
                assert_eq!(headers.last().map(BatchHeader::next_offset), Some(end));
                assert!(
                    headers
                        .iter()
                        .all(|h| h.partition_leader_epoch == LeaderEpoch(3))
                );
            }
            for from in [1, 17, 2999, end.0 - 1] {
                let headers = read_all(&log, Offset(from), 4096).await;
                assert!(headers[0].base_offset <= Offset(from));
            }
            let refused = log.read(ReadRange {
                from: end.plus(1),
                upper: end,
                bytes_max: 1,
                at_least_one: true,
            });
            assert!(matches!(refused, Err(LogError::OutOfRange { .. })));
        });
    }
}

#[test]
fn a_log_goes_on_after_a_clean_stop_and_after_none() {
    let home = home(Faults::default());
    let mut end = Offset(0);
    let mut count = 0;
    for (round, clean) in [true, false, true, false, false].into_iter().enumerate() {
        let path = home.log.clone();
        let point_file = home.directory.path().join("point");
        (end, count) = on_shard(home.directory.clone(), limits(), async move |storage| {
            let id = TopicIdPartition {
                topic_id: TopicId(7),
                partition: PartitionIndex(0),
            };
            let mut points = RecoveryPoints::new();
            if let Ok(bytes) = std::fs::read(&point_file) {
                checkpoint::decode(&bytes, &mut points).expect("a checkpoint");
            }
            let was_clean = point_file.with_extension("clean").exists();
            let _ = std::fs::remove_file(point_file.with_extension("clean"));
            let point = points.get(&id).copied();
            let (log, reports) = open(&storage, &path, config(), point, was_clean);
            assert_eq!(reports, Vec::<String>::new());
            assert_eq!((log.start(), log.end()), (Offset(0), end));
            assert_eq!(read_all(&log, Offset(0), 70_000).await.len(), count);
            fill(&log, round * 1000, 700).await;
            if clean {
                log.park().await.expect("a clean stop");
                let mark = log.mark();
                std::fs::write(&point_file, checkpoint::encode([(&id, &mark)])).expect("a point");
                std::fs::write(point_file.with_extension("clean"), b"").expect("a marker");
            }
            (log.end(), count + 700)
        });
    }
}

#[test]
fn many_small_appends_share_writes_and_reads_follow_the_durable_frontier() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let small = batch(1, 1, 20);
        log.prepare(incoming(small.len() * 3000))
            .await
            .expect("room");
        for _ in 0..3000 {
            append(&log, &small).await.expect("an append");
        }
        assert!(
            log.durable() < log.end(),
            "appends do not wait for the disk"
        );
        let early = ReadRange {
            from: Offset(0),
            upper: log.durable(),
            bytes_max: 1 << 20,
            at_least_one: true,
        };
        assert!(read(&log, early).await.expect("a read").is_empty());
        log.make_durable(log.end()).await.expect("a sync");
        assert_eq!(read_all(&log, Offset(0), 10_000).await.len(), 3000);
        log.park().await.expect("a parked log");
        assert_eq!(read_all(&log, Offset(0), 10_000).await.len(), 3000);
        append(&log, &small)
            .await
            .expect("an append to a parked log");
        log.make_durable(Offset(3001)).await.expect("a sync");
        assert_eq!(read_all(&log, Offset(0), 10_000).await.len(), 3001);
    });
}

#[test]
fn what_comes_while_a_write_waits_for_its_turn_goes_along() {
    let home = home(Faults::default());
    let (directory, plan) = failing(&home, Some(Call::Write), ".log", libc::EIO);
    let path = home.log.clone();
    let limits = StorageLimits {
        writes_max: 1,
        ..limits()
    };
    on_shard(directory, limits, async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        fill(&log, 0, 1).await;
        let writes = || plan.calls.load(std::sync::atomic::Ordering::Relaxed);
        let before = writes();
        let turn = log.site.write_permit().await;
        for seed in 0..5 {
            append(&log, &batch(seed, 1, 100)).await.expect("room");
            // Whatever can be done for it now is done.
            for _ in 0..10 {
                crate::runtime::yield_now().await;
            }
        }
        assert_eq!(writes(), before, "it is another one's turn");
        drop(turn);
        log.make_durable(log.end()).await.expect("a sync");
        assert_eq!(writes() - before, 1);
    });
}

#[test]
fn retention_drops_whole_segments_and_moves_the_start() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let end = fill(&log, 0, 2000).await;
        let (segments, size) = (log.segments(), log.size_bytes());
        let by_size = Retention {
            retention_bytes: Some(size / 2),
            ..Retention::default()
        };
        let start = log.retain(by_size, end, NOW).await.expect("retention");
        assert!(start > Offset(0) && log.segments() < segments);
        assert!(log.size_bytes() >= size / 2);
        assert!(matches!(
            log.read(ReadRange {
                from: Offset(0),
                upper: end,
                bytes_max: 1,
                at_least_one: true
            }),
            Err(LogError::OutOfRange { .. })
        ));
        read_all(&log, start, 50_000).await;
        let by_time = Retention {
            retention_ms: Some(1),
            ..Retention::default()
        };
        let start = log
            .retain(by_time, end, NOW + 10_000_000)
            .await
            .expect("retention");
        assert_eq!(
            (start, log.segments()),
            (end, 1),
            "the active segment goes too"
        );
        fill(&log, 0, 10).await;
        assert_eq!(read_all(&log, end, 50_000).await.len(), 10);
        let names = storage.directory().list(log.path()).expect("a listing");
        let logs = names
            .iter()
            .filter(|entry| entry.name.ends_with(".log"))
            .count();
        assert_eq!(logs, 1, "{names:?}");
    });
}

#[test]
fn a_segment_ages_by_the_times_of_its_records() {
    const HOUR: i64 = 3_600_000;
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let config = LogConfig {
            segment_ms: HOUR,
            ..config()
        };
        let (log, _) = open(&storage, &path, config, None, false);
        let batch = batch(1, 1, 100);
        let at = |timestamp: i64, now: i64| Incoming {
            bytes: batch.len(),
            timestamp,
            now,
        };
        let years_later = NOW + 20_000 * HOUR;
        log.prepare(at(NOW, years_later)).await.expect("room");
        append(&log, &batch).await.expect("an append");
        let segments = || log.state.borrow().segments.len();
        // Records of old, copied one after the other, stay together however late it is.
        log.prepare(at(NOW + HOUR, years_later))
            .await
            .expect("room");
        assert_eq!(segments(), 1);
        assert!(!log.has_room(at(NOW + HOUR + 101, NOW)), "too young for it");
        log.prepare(at(NOW + HOUR + 101, NOW)).await.expect("room");
        assert_eq!(segments(), 2);
        log.prepare(at(NOW + 9 * HOUR, NOW)).await.expect("room");
        assert_eq!(segments(), 2, "an empty segment has no age");
    });
}

mod deletion;
mod directories;
mod faults;
mod journal;
mod lifecycle;
mod memory;
mod reads;
mod recovery;
mod scrub;
mod sweep;

#[test]
fn what_is_behind_small_appends_is_written_before_they_come_to_it() {
    let home = home(Faults::default());
    let (directory, path) = (home.directory.clone(), home.log.clone());
    let size = on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        for seed in 0..9 {
            append(&log, &batch(seed, 1, 3000))
                .await
                .expect("an append");
            log.make_durable(log.end()).await.expect("a sync");
        }
        log.size_bytes()
    });
    let segment = super::layout::segment_file(&home.log, Offset(0), super::layout::LOG);
    let file = std::fs::File::open(segment).expect("a segment");
    // What was preallocated and never written counts as a hole.
    let hole = nix::unistd::lseek(&file, 0, nix::unistd::Whence::SeekHole).expect("a hole");
    let appended = size.next_multiple_of(crate::base::limits::BLOCK_BYTES);
    assert!(hole as u64 > appended, "{hole} of {appended}");
}
