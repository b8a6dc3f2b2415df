//! The partitions of one shard, on a real executor over real files, with failures where asked.

use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::{or, zip};

use super::checkpointer::Checkpointer;
use super::core::{Partition, Shared};
use super::message::{
    Acks, AppendError, AppendRequest, Appended, PartitionError, PartitionMessage, ReadRequest,
    ReadResult, RefusedAppend,
};
use super::open::{OpenError, OpenPartition};
use super::table::PartitionTable;
use super::watch::MissingBytes;
use crate::base::clock::Clock;
use crate::base::ids::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, ShardId, TopicId,
    TopicIdPartition,
};
use crate::base::limits::OVERDRAWN_READ_BYTES_MAX;
use crate::config::{self, TopicConfig};
use crate::record::builder::{BatchBuilder, RecordToWrite};
use crate::record::compression::Codec;
use crate::runtime::{TaskQueue, Timer};
use crate::shard::executor::{ExecutorConfig, ShardContext, start};
use crate::shard::reply;
use crate::storage::checkpoint::{self, RecoveryPoints};
use crate::storage::directory::LogDirectory;
use crate::storage::error::LogError;
use crate::storage::faults::{Call, Faults, Plan};
use crate::storage::layout;
use crate::storage::shard::{ShardStorage, StorageLimits};

const NOW: i64 = 1_700_000_000_000;
/// No answer of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The partitions of one shard.
struct Rig {
    table: Rc<PartitionTable>,
    checkpointer: Checkpointer,
    clock: Clock,
}

impl Rig {
    fn new(directory: LogDirectory) -> Self {
        let limits = StorageLimits {
            tail_bytes_max: 8 << 20,
            read_cache_bytes_max: 2 << 20,
            writes_max: 64,
            open_logs_max: 16,
            open_reads_max: 16,
            journal: None,
        };
        let storage = ShardStorage::new(directory, limits, TaskQueue::Storage);
        let clock = Clock::manual(NOW);
        let shared = Shared::new(clock.clone(), TaskQueue::Requests);
        let table = PartitionTable::new(storage, shared);
        Self {
            checkpointer: Checkpointer::new(ShardId(0), Rc::clone(&table)),
            table,
            clock,
        }
    }

    fn directory(&self) -> &LogDirectory {
        self.table.storage().directory()
    }

    /// Opens partition `number` as the last run's checkpoint says.
    async fn open(&self, number: i32, config: TopicConfig) -> Rc<Partition> {
        let opened = self.try_open(number, config).await;
        opened.expect("a partition");
        self.table.get(&id(number)).expect("it is here")
    }

    async fn try_open(&self, number: i32, config: TopicConfig) -> Result<(), OpenError> {
        let mut points = RecoveryPoints::new();
        let file = self.directory().path().join("recovery-checkpoint-0");
        if let Ok(bytes) = std::fs::read(file) {
            checkpoint::decode(&bytes, &mut points).expect("a checkpoint");
        }
        let wanted = OpenPartition {
            id: id(number),
            topic: "t".to_owned(),
            leader_epoch: LeaderEpoch(1),
            config,
            directory: None,
            is_new: false,
            point: points.get(&id(number)).map(|point| (0, *point)),
            clean: false,
            tally: std::sync::Arc::default(),
        };
        self.table.open(wanted).await
    }

    async fn open_default(&self, number: i32) -> Rc<Partition> {
        self.open(number, TopicConfig::default()).await
    }
}

fn id(number: i32) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: TopicId(7),
        partition: PartitionIndex(number),
    }
}

/// Runs `test` with the partitions of a shard in `directory`, which fails as `plan` says.
fn on_shard<T: Send + 'static>(
    path: &Path,
    plan: &Arc<Plan>,
    test: impl AsyncFnOnce(Rig) -> T + Send + 'static,
) -> T {
    let faults = Faults::planned(Arc::clone(plan));
    let directory = LogDirectory::with_faults(path.to_owned(), true, faults);
    let body =
        move |_: ShardContext| async move { Ok::<_, String>(test(Rig::new(directory)).await) };
    let running = start(&ExecutorConfig::default(), vec![body]).expect("an executor");
    let mut ended = running.join();
    ended.remove(0).expect("a good end")
}

/// On the disk that holds the build: a temporary file system may not take direct I/O.
fn home() -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&target).expect("a target directory");
    tempfile::tempdir_in(target).expect("a directory")
}

/// Every call of a kind on paths that contain `on` fails from when the test says so.
fn plan(only: Call, on: &'static str, errno: i32) -> Arc<Plan> {
    Arc::new(Plan {
        count: u64::MAX,
        only: Some(only),
        on,
        errno,
        ..Plan::default()
    })
}

fn heal(plan: &Plan) {
    plan.first.store(0, Relaxed);
}

fn batch(builder: BatchBuilder, timestamp: i64, value_bytes: usize) -> Bytes {
    let mut builder = builder;
    let value = vec![7; value_bytes];
    let record = RecordToWrite {
        timestamp,
        key: None,
        value: Some(&value),
        headers: &[],
    };
    builder.append(&record).expect("a record that fits");
    builder.build().expect("a batch").into()
}

fn plain() -> Bytes {
    batch(BatchBuilder::new(Codec::None), NOW, 100)
}

fn of_producer(sequence: i32) -> Bytes {
    let builder = BatchBuilder::new(Codec::None);
    let producer = builder.producer(ProducerId(5), ProducerEpoch(0), sequence);
    batch(producer, NOW, 100)
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    or(future, async {
        Timer::new(PATIENCE).await;
        panic!("no answer to {what}")
    })
    .await
}

fn send(
    partition: &Rc<Partition>,
    records: Bytes,
) -> reply::Receiver<Result<Appended, RefusedAppend>> {
    let (reply, answer) = reply::channel();
    partition.append(AppendRequest {
        id: partition.id(),
        records,
        acks: Acks::All,
        zstd_allowed: true,
        reply,
    });
    answer
}

async fn append(partition: &Rc<Partition>, records: Bytes) -> Result<Appended, AppendError> {
    let answer = send(partition, records);
    let answer = in_time("an append", answer).await.expect("an answer");
    answer.map_err(|refused| refused.error)
}

fn is_bad_batch(refused: &RefusedAppend) -> bool {
    matches!(refused.error, AppendError::Record(_))
}

fn is_failed(answer: &Result<Appended, AppendError>) -> bool {
    matches!(
        answer,
        Err(AppendError::Partition(PartitionError::Log(
            LogError::Failed(_)
        )))
    )
}

#[test]
fn a_failed_disk_refuses_appends_then_and_ever_after() {
    let home = home();
    let plan = plan(Call::Write, ".log", libc::EIO);
    let arm = Arc::clone(&plan);
    on_shard(home.path(), &plan, async move |rig| {
        let first = rig.open_default(0).await;
        let second = rig.open_default(1).await;
        let parked = rig.open_default(2).await;
        for partition in [&first, &second] {
            append(partition, plain()).await.expect("an append");
        }
        arm.fail_next();
        let (one, other) = zip(append(&first, plain()), append(&second, plain())).await;
        assert!(is_failed(&one) && is_failed(&other), "{one:?}, {other:?}");
        for _ in 0..3 {
            for partition in [&first, &second, &parked] {
                let again = append(partition, plain()).await;
                assert!(is_failed(&again), "{again:?}");
            }
        }
        assert_eq!(first.high_watermark(), Offset(1));
    });
}

#[test]
fn a_checkpoint_leaves_out_what_is_deleted_meanwhile() {
    let home = home();
    let plan = plan(Call::Write, "", libc::EIO);
    on_shard(home.path(), &plan, async move |rig| {
        for round in 0..3 {
            for number in 0..8 {
                let partition = rig.open_default(number).await;
                for sequence in 0..40 {
                    let builder = BatchBuilder::new(Codec::None);
                    let producer = builder.producer(ProducerId(5), ProducerEpoch(round), sequence);
                    let taken = append(&partition, batch(producer, NOW, 300)).await;
                    taken.expect("an append");
                }
            }
            let deletions = async {
                for number in 0..7 {
                    rig.table
                        .delete(&id(number), Duration::ZERO)
                        .await
                        .expect("a deletion");
                }
            };
            let (written, ()) = zip(rig.checkpointer.checkpoint(), deletions).await;
            written.expect("a checkpoint of what is there");
            assert_eq!(rig.directory().failure(), None);
            rig.table
                .delete(&id(7), Duration::ZERO)
                .await
                .expect("a deletion");
        }
    });
}

#[test]
fn a_crash_within_a_checkpoint_leaves_the_producers_of_the_one_before() {
    let home = home();
    let plan = plan(Call::Rename, "recovery-checkpoint", libc::EIO);
    on_shard(home.path(), &plan, async |rig| {
        let partition = rig.open_default(0).await;
        for sequence in 0..3 {
            append(&partition, of_producer(sequence))
                .await
                .expect("taken");
        }
        rig.checkpointer.checkpoint().await.expect("a checkpoint");
        append(&partition, of_producer(3)).await.expect("taken");
    });
    // Crashed; the checkpoint of the next start is not finished.
    let arm = Arc::clone(&plan);
    on_shard(home.path(), &plan, async move |rig| {
        rig.open_default(0).await;
        arm.fail_next();
        rig.checkpointer.checkpoint().await.expect_err("no rename");
    });
    heal(&plan);
    on_shard(home.path(), &plan, async |rig| {
        let partition = rig.open_default(0).await;
        for sequence in 0..4 {
            let again = append(&partition, of_producer(sequence)).await;
            let again = again.expect("a duplicate is answered as the original");
            assert_eq!(again.base_offset, Offset(i64::from(sequence)));
        }
        assert_eq!(partition.log().end(), Offset(4));
        rig.checkpointer.checkpoint().await.expect("a checkpoint");
        append(&partition, of_producer(4)).await.expect("taken");
        rig.checkpointer.checkpoint().await.expect("a checkpoint");
        let names = rig.directory().list(partition.log().path()).expect("names");
        let snapshots = names
            .iter()
            .filter(|entry| entry.name.ends_with(".snapshot"));
        assert_eq!(snapshots.count(), 1, "older ones go: {names:?}");
    });
}

#[test]
fn a_batch_that_is_refused_costs_no_room() {
    let home = home();
    let plan = plan(Call::Preallocate, "", libc::EIO);
    on_shard(home.path(), &plan, async |rig| {
        let config = TopicConfig {
            segment_ms: 1000,
            max_message_bytes: 100_000,
            message_timestamp_after_max_ms: 100,
            ..TopicConfig::default()
        };
        let partition = rig.open(0, config).await;
        append(&partition, plain()).await.expect("an append");
        let size = || {
            let path = partition.log().path().join("00000000000000000000.log");
            std::fs::metadata(path).expect("a segment").len()
        };
        let before = size();
        let large = batch(BatchBuilder::new(Codec::None), NOW, 5 << 20);
        append(&partition, large).await.expect_err("too large");
        let mut cut = plain().to_vec();
        cut.truncate(80);
        append(&partition, cut.into()).await.expect_err("no batch");
        assert_eq!(size(), before);
        let of_the_future = batch(BatchBuilder::new(Codec::None), i64::MAX, 100);
        append(&partition, of_the_future)
            .await
            .expect_err("too late");
        assert_eq!(partition.log().segments(), 1);
        let later = batch(BatchBuilder::new(Codec::None), NOW + 1050, 100);
        rig.clock.advance(1000);
        append(&partition, later).await.expect("an append");
        assert_eq!(partition.log().segments(), 2, "a valid one rolls");
    });
}

/// The names in a directory.
fn names(home: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(home).expect("a listing");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| name.into_string().expect("text"))
        .collect()
}

#[test]
fn records_are_refused_or_kept_aside_unless_it_is_known_whose_they_are() {
    #[derive(Debug, PartialEq)]
    enum Fate {
        Served,
        Refused,
        Aside,
        Removed,
    }
    let plan = plan(Call::Write, "", libc::EIO);
    let summed = layout::partition_metadata;
    let (own, other) = (summed(id(0).topic_id), summed(TopicId(3)));
    let unsummed = |text: &str| {
        text.lines()
            .take(2)
            .map(|line| format!("{line}\n"))
            .collect()
    };
    for (metadata, fate) in [
        (Some(own.clone()), Fate::Served),
        (Some(unsummed(&own)), Fate::Served),
        (Some(other.clone()), Fate::Removed),
        (Some(unsummed(&other)), Fate::Aside),
        (Some(other.replace("crc32c: ", "crc32c: 0")), Fate::Refused),
        (Some("version: 0\ntopic".to_owned()), Fate::Refused),
        (Some(String::new()), Fate::Refused),
        (None, Fate::Refused),
    ] {
        let home = home();
        let path = home.path().join("t-0");
        on_shard(home.path(), &plan, async |rig| {
            let partition = rig.open_default(0).await;
            append(&partition, plain()).await.expect("an append");
        });
        let file = path.join(layout::PARTITION_METADATA);
        match &metadata {
            Some(text) => std::fs::write(&file, text).expect("a write"),
            None => std::fs::remove_file(&file).expect("a file to remove"),
        }
        let expected = fate == Fate::Refused;
        on_shard(home.path(), &plan, async move |rig| {
            let opened = rig.try_open(0, TopicConfig::default()).await;
            assert_eq!(opened.is_err(), expected, "{opened:?}");
            if opened.is_err() {
                let found = read(&rig, vec![read_request(0)], 1000).await;
                assert_eq!(found[0].error, Some(PartitionError::NotOpened));
            }
        });
        let log = |name: &str| home.path().join(name).join("00000000000000000000.log");
        let size = |name: &str| std::fs::metadata(log(name)).map_or(0, |found| found.len());
        let names = names(home.path());
        let aside = names.iter().find(|name| name.ends_with("-stray"));
        let found = (size("t-0") > 0, aside.map(|name| size(name) > 0));
        let is_there = matches!(fate, Fate::Served | Fate::Refused);
        let is_aside = (fate == Fate::Aside).then_some(true);
        assert_eq!(found, (is_there, is_aside), "{metadata:?}: {names:?}");
        if fate == Fate::Served {
            assert_eq!(std::fs::read_to_string(&file).expect("a file"), own);
        }
    }
}

#[test]
fn a_refused_partition_that_is_deleted_makes_way_and_keeps_its_records() {
    let home = home();
    let plan = plan(Call::Write, "", libc::EIO);
    on_shard(home.path(), &plan, async |rig| {
        let partition = rig.open_default(0).await;
        append(&partition, plain()).await.expect("an append");
    });
    let file = home.path().join("t-0").join(layout::PARTITION_METADATA);
    std::fs::write(file, "torn").expect("a write");
    on_shard(home.path(), &plan, async |rig| {
        let refused = rig.try_open(0, TopicConfig::default()).await;
        let told = refused.expect_err("nobody's").to_string();
        assert!(told.contains("t-0/partition.metadata is damaged"), "{told}");
        let deleted = rig.table.delete(&id(0), Duration::ZERO).await;
        deleted.expect("it makes way");
        assert_eq!(rig.open_default(0).await.log().end(), Offset(0));
    });
    let names = names(home.path());
    let aside = names.iter().find(|name| name.ends_with("-stray"));
    let log = home.path().join(aside.expect("it is kept"));
    let log = log.join("00000000000000000000.log");
    assert!(std::fs::metadata(log).expect("a segment").len() > 0);
}

#[test]
fn appends_carry_a_new_epoch_from_where_it_begins() {
    let home = home();
    let plan = plan(Call::Write, "", libc::EIO);
    on_shard(home.path(), &plan, async |rig| {
        let partition = rig.open_default(0).await;
        append(&partition, plain()).await.expect("an append");
        let (led, taken) = zip(partition.lead(LeaderEpoch(2)), append(&partition, plain())).await;
        led.expect("an epoch");
        let base = taken.expect("an append").base_offset;
        let epoch = partition.epochs.borrow().epoch_for_offset(base);
        assert_eq!(epoch, Some(LeaderEpoch(2)));
        let path = partition.log().path().join("00000000000000000000.log");
        let bytes = std::fs::read(path).expect("a segment");
        let second = crate::record::batches::Batches::new(&bytes).nth(1);
        let (header, _) = second.expect("two batches").expect("a batch");
        assert_eq!(
            (header.base_offset, header.partition_leader_epoch),
            (base, LeaderEpoch(2))
        );
    });
}

/// A batch of one record of zeros, which shrinks to a thousandth.
fn zeros(codec: Codec, value_bytes: usize) -> Bytes {
    filled(BatchBuilder::new(codec), value_bytes)
}

fn filled(mut builder: BatchBuilder, value_bytes: usize) -> Bytes {
    let value = vec![0; value_bytes];
    let record = RecordToWrite {
        timestamp: NOW,
        key: None,
        value: Some(&value),
        headers: &[],
    };
    builder.append(&record).expect("a record that fits");
    builder.build().expect("a batch").into()
}

#[test]
fn batches_that_take_long_to_check_keep_their_place() {
    let home = home();
    let plan = plan(Call::Write, "", libc::EIO);
    on_shard(home.path(), &plan, async |rig| {
        let partition = rig.open_default(0).await;
        append(&partition, plain()).await.expect("taken");
        // Large as it is sent, larger than it looks, and neither.
        let batches = [
            zeros(Codec::Gzip, 32 << 20),
            zeros(Codec::Zstd, 4 << 20),
            plain(),
            zeros(Codec::Lz4, 8 << 20),
            zeros(Codec::Gzip, 1000),
            plain(),
        ];
        assert!(batches[0].len() > 16 << 10 && batches[1].len() < 16 << 10);
        let mut damaged = batches[3].to_vec();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let mut answers = Vec::new();
        for (place, records) in batches.into_iter().enumerate() {
            if place == 4 {
                answers.push((None, send(&partition, damaged.clone().into())));
            }
            answers.push((Some(place as i64 + 1), send(&partition, records)));
        }
        for (offset, answer) in answers {
            let answer = in_time("an append", answer).await.expect("an answer");
            match offset {
                Some(offset) => assert_eq!(answer.expect("taken").base_offset, Offset(offset)),
                None => assert!(
                    matches!(&answer, Err(refused) if is_bad_batch(refused)),
                    "{answer:?}"
                ),
            }
        }
        assert_eq!(partition.log().end(), Offset(7));
    });
}

#[test]
fn a_shard_goes_on_while_records_are_checked() {
    let home = home();
    let plan = plan(Call::Write, "", libc::EIO);
    on_shard(home.path(), &plan, async |rig| {
        let (slow, quick) = (rig.open_default(0).await, rig.open_default(1).await);
        append(&quick, plain()).await.expect("taken");
        append(&slow, plain()).await.expect("taken");
        let records = zeros(Codec::Gzip, 100 << 20);
        let large: Vec<_> = (0..6).map(|_| send(&slow, records.clone())).collect();
        let others = async {
            append(&quick, plain()).await.expect("taken");
            true
        };
        // Together they take more than a second.
        let large = async {
            for answer in large {
                answer.await.expect("an answer").expect("taken");
            }
            false
        };
        assert!(
            or(large, others).await,
            "the others waited for the large batches"
        );
    });
}

#[test]
fn a_checkpoint_needs_no_old_snapshot_to_go() {
    for only in [Call::List, Call::Remove] {
        let home = home();
        let plan = plan(only, "t-0", libc::EIO);
        let arm = Arc::clone(&plan);
        on_shard(home.path(), &plan, async move |rig| {
            let partition = rig.open_default(0).await;
            let snapshots = || {
                let files = std::fs::read_dir(partition.log().path()).expect("a directory");
                let names = files.map(|file| file.expect("a file").file_name());
                names
                    .filter(|name| name.to_string_lossy().ends_with(".snapshot"))
                    .count()
            };
            append(&partition, of_producer(0)).await.expect("taken");
            rig.checkpointer.checkpoint().await.expect("a checkpoint");
            arm.fail_next();
            append(&partition, of_producer(1)).await.expect("taken");
            rig.checkpointer.checkpoint().await.expect("a checkpoint");
            assert_eq!((snapshots(), rig.directory().failure()), (2, None));
            heal(&arm);
            append(&partition, of_producer(2)).await.expect("taken");
            rig.checkpointer.checkpoint().await.expect("a checkpoint");
            assert_eq!(snapshots(), 1, "both older ones go");
        });
    }
}

#[test]
fn a_batch_that_a_long_check_refuses_is_not_waiting_for_room() {
    let home = home();
    let plan = plan(Call::Preallocate, "", libc::ENOSPC);
    let arm = Arc::clone(&plan);
    on_shard(home.path(), &plan, async move |rig| {
        let partition = rig.open_default(0).await;
        let mut damaged = zeros(Codec::Gzip, 32 << 20).to_vec();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        arm.fail_next();
        let calls = arm.calls.load(Relaxed);
        let answers = [damaged.clone(), damaged].map(|records| send(&partition, records.into()));
        for answer in answers {
            let answer = in_time("an append", answer).await.expect("an answer");
            assert!(
                matches!(&answer, Err(refused) if is_bad_batch(refused)),
                "{answer:?}"
            );
        }
        assert_eq!(arm.calls.load(Relaxed), calls, "room was made");
        let whole = append(&partition, zeros(Codec::Gzip, 32 << 20)).await;
        let no_room = AppendError::Partition(LogError::NoRoom.into());
        assert_eq!(whole, Err(no_room), "this one needs room");
        heal(&arm);
        append(&partition, plain()).await.expect("taken");
    });
}

#[test]
fn the_append_time_that_is_answered_is_the_one_that_is_stored() {
    let home = home();
    let plan = plan(Call::Write, "", libc::EIO);
    on_shard(home.path(), &plan, async |rig| {
        let config = TopicConfig {
            message_timestamp_type: config::TimestampType::LogAppendTime,
            ..TopicConfig::default()
        };
        let partition = rig.open(0, config).await;
        let large = {
            let builder = BatchBuilder::new(Codec::Gzip);
            let producer = builder.producer(ProducerId(5), ProducerEpoch(0), 0);
            filled(producer, 100 << 20)
        };
        // The check is begun at once, and made when these are done.
        let blocking = ExecutorConfig::default().blocking_threads;
        for _ in 0..2 * blocking {
            let busy = || std::thread::sleep(Duration::from_millis(200));
            crate::runtime::spawn_local(crate::runtime::spawn_blocking(busy)).detach();
        }
        Timer::new(Duration::from_millis(20)).await;
        let answer = send(&partition, large.clone());
        Timer::new(Duration::from_millis(20)).await;
        rig.clock.advance(5000);
        let first = in_time("an append", answer).await.expect("an answer");
        let first = first.expect("taken");
        let path = partition.log().path().join("00000000000000000000.log");
        let bytes = std::fs::read(path).expect("a segment");
        let stored = crate::record::batches::Batches::new(&bytes).next();
        let (header, _) = stored.expect("a batch").expect("a whole batch");
        assert_eq!(first.log_append_time, header.max_timestamp);
        assert_eq!(
            header.max_timestamp, NOW,
            "it was checked before the clock moved"
        );
        let again = append(&partition, large).await.expect("a duplicate");
        assert_eq!(again, first);
        let later = append(&partition, plain()).await.expect("taken");
        assert_eq!(later.log_append_time, NOW + 5000);
    });
}

fn read_request(number: i32) -> ReadRequest {
    ReadRequest {
        id: id(number),
        from: Offset(0),
        bytes_max: 1 << 20,
        current_leader_epoch: LeaderEpoch::UNKNOWN,
        last_fetched_epoch: None,
        committed_only: false,
    }
}

async fn read(rig: &Rig, requests: Vec<ReadRequest>, bytes_max: usize) -> Vec<ReadResult> {
    let (reply, answer) = reply::channel();
    let message = PartitionMessage::Read(requests, bytes_max, reply);
    rig.table.handle(message);
    in_time("a read", answer).await.expect("results")
}

/// Replies that nobody takes, as much as they may hold.
async fn overdraw(rig: &Rig) -> Vec<ReadResult> {
    let partition = rig.open_default(99).await;
    let mut held = Vec::new();
    while !rig.table.storage().is_overdrawn() {
        assert!(held.len() < 100, "the bound is never met");
        let records = batch(BatchBuilder::new(Codec::None), NOW, 500_000);
        let taken = append(&partition, records).await.expect("taken");
        let request = ReadRequest {
            from: taken.base_offset,
            ..read_request(99)
        };
        held.extend(read(rig, vec![request], 1 << 20).await);
    }
    held
}

#[test]
fn a_read_is_small_as_a_whole_while_slow_consumers_hold_too_much() {
    let home = home();
    let plan = plan(Call::Write, "", libc::EIO);
    on_shard(home.path(), &plan, async |rig| {
        let held = overdraw(&rig).await;
        for number in 0..8 {
            let partition = rig.open_default(number).await;
            let records = batch(BatchBuilder::new(Codec::None), NOW, 40_000);
            append(&partition, records).await.expect("taken");
        }
        let storage = rig.table.storage();
        let copied = storage.copied_bytes();
        let all = || (0..8).map(read_request).collect::<Vec<_>>();
        let bytes = |results: &[ReadResult]| results.iter().map(ReadResult::bytes).sum::<usize>();
        let small = read(&rig, all(), 50 << 20).await;
        let first = small[0].bytes();
        assert!(first >= 40_000);
        assert!(
            bytes(&small) <= OVERDRAWN_READ_BYTES_MAX,
            "{}",
            bytes(&small)
        );
        assert_eq!(storage.copied_bytes() - copied, bytes(&small));
        drop(small);
        assert_eq!(storage.copied_bytes(), copied);
        drop(held);
        let whole = read(&rig, all(), 50 << 20).await;
        assert_eq!(bytes(&whole), 8 * first);
        assert_eq!(storage.copied_bytes(), 0);
    });
}

#[test]
fn a_waiting_fetch_is_counted_in_full_while_reads_are_small() {
    let home = home();
    let plan = plan(Call::Write, "", libc::EIO);
    on_shard(home.path(), &plan, async |rig| {
        let _held = overdraw(&rig).await;
        let copied = rig.table.storage().copied_bytes();
        let partition = rig.open_default(0).await;
        for _ in 0..5 {
            let records = batch(BatchBuilder::new(Codec::None), NOW, 40_000);
            append(&partition, records).await.expect("taken");
        }
        let (reply, answer) = reply::channel();
        let missing = MissingBytes::new(200_000);
        let message = PartitionMessage::Watch(vec![read_request(0)], missing, reply);
        rig.table.handle(message);
        in_time("a watch", answer).await.expect("it is told");
        let storage = rig.table.storage();
        assert_eq!(
            storage.copied_bytes(),
            copied,
            "what is only counted is not copied"
        );
    });
}

#[test]
fn a_partition_that_cannot_be_read_does_not_keep_the_first_batch_of_another_back() {
    let home = home();
    let plan = plan(Call::Write, "", libc::EIO);
    on_shard(home.path(), &plan, async |rig| {
        let partition = rig.open_default(0).await;
        append(&partition, plain()).await.expect("taken");
    });
    on_shard(home.path(), &plan, async |rig| {
        let cold = rig.open_default(0).await;
        let path = cold.log().path().join("00000000000000000000.log");
        let file = std::fs::OpenOptions::new().write(true).open(path);
        let file = file.expect("a segment");
        std::os::unix::fs::FileExt::write_all_at(&file, &[255; 61], 0).expect("a write");
        let warm = rig.open_default(1).await;
        append(&warm, plain()).await.expect("taken");
        let found = read(&rig, vec![read_request(0), read_request(1)], 10).await;
        let damaged = PartitionError::Log(LogError::Damaged(Offset(0)));
        assert_eq!(found[0].error, Some(damaged));
        assert_eq!(found[1].error, None);
        assert_eq!(found[1].bytes(), plain().len());
    });
}
