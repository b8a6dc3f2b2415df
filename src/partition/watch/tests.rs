//! Partitions on a real executor over real files: waiting fetches, and a log that has failed.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::MissingBytes;
use crate::base::clock::Clock;
use crate::base::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition};
use crate::config::TopicConfig;
use crate::partition::core::{Partition, Shared};
use crate::partition::message::{
    Acks, AppendRequest, Appended, EpochEndOffset, OffsetQuery, OffsetSpec, PartitionError,
    PartitionMessage, ReadRequest, ReadResult,
};
use crate::partition::open::OpenPartition;
use crate::partition::table::PartitionTable;
use crate::record::builder::{BatchBuilder, RecordToWrite};
use crate::record::compression::Codec;
use crate::runtime::TaskQueue;
use crate::shard::reply::{self, Receiver};
use crate::storage::directory::LogDirectory;
use crate::storage::error::{FileError, LogError};
use crate::storage::shard::{ShardStorage, StorageLimits};

const NOW: i64 = 1_700_000_000_000;
const EPOCH: LeaderEpoch = LeaderEpoch(3);

/// The partitions of one shard in a directory of their own.
struct Fixture {
    table: Rc<PartitionTable>,
    /// The bytes of the one batch that [`Fixture::append`] appends.
    batch: bytes::Bytes,
}

fn id(partition: i32) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: TopicId(5),
        partition: PartitionIndex(partition),
    }
}

/// Runs `test` on a shard that has partitions 0 and 1.
fn with_partitions<F>(test: F)
where
    F: AsyncFnOnce(Fixture) + Send + 'static,
{
    // Not under /tmp, which may be a tmpfs: direct I/O wants a file system on a disk.
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&target).expect("a writable directory");
    let directory = tempfile::tempdir_in(target).expect("a directory");
    let path: PathBuf = directory.path().to_owned();
    crate::runtime::block_on(async move {
        let limits = StorageLimits {
            tail_bytes_max: 8 << 20,
            read_cache_bytes_max: 2 << 20,
            writes_max: 64,
            open_logs_max: 16,
            open_reads_max: 16,
            journal: None,
        };
        let directory = LogDirectory::new(path, true);
        let storage = ShardStorage::new(directory, limits, TaskQueue::Storage);
        let shared = Shared::new(Clock::manual(NOW), TaskQueue::Requests);
        let table = PartitionTable::new(storage, shared);
        for partition in 0..2 {
            let wanted = OpenPartition {
                id: id(partition),
                topic: "t".to_owned(),
                leader_epoch: EPOCH,
                config: TopicConfig::default(),
                directory: None,
                is_new: true,
                point: None,
                clean: false,
                tally: std::sync::Arc::default(),
            };
            table.open(wanted).await.expect("a new partition");
        }
        let batch = batch();
        test(Fixture { table, batch }).await;
    });
}

/// Two records.
fn batch() -> bytes::Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for _ in 0..2 {
        let record = RecordToWrite {
            timestamp: NOW,
            key: None,
            value: Some(b"value"),
            headers: &[],
        };
        builder.append(&record).expect("a record that fits");
    }
    builder.build().expect("a batch").into()
}

fn read_from(partition: i32, from: i64) -> ReadRequest {
    ReadRequest {
        id: id(partition),
        from: Offset(from),
        bytes_max: 1 << 20,
        current_leader_epoch: EPOCH,
        last_fetched_epoch: None,
        committed_only: false,
    }
}

impl Fixture {
    fn partition(&self, partition: i32) -> Rc<Partition> {
        self.table.get(&id(partition)).expect("it was opened")
    }

    async fn append(&self, partition: i32) -> Appended {
        let (reply, answer) = reply::channel();
        self.table.handle(PartitionMessage::Append(AppendRequest {
            id: id(partition),
            records: self.batch.clone(),
            acks: Acks::All,
            zstd_allowed: true,
            reply,
        }));
        let answer = answer.await.expect("an answer");
        answer.expect("an append that is taken")
    }

    async fn read(&self, request: ReadRequest) -> ReadResult {
        let (reply, answer) = reply::channel();
        let message = PartitionMessage::Read(vec![request], 1 << 20, reply);
        self.table.handle(message);
        let mut results = answer.await.expect("an answer");
        results.pop().expect("one result")
    }

    fn watch(&self, requests: &[ReadRequest], bytes: usize) -> Receiver<()> {
        let (reply, told) = reply::channel();
        let missing = MissingBytes::new(bytes);
        self.table
            .handle(PartitionMessage::Watch(requests.to_vec(), missing, reply));
        told
    }
}

fn is_told(told: &mut Receiver<()>) -> bool {
    told.try_recv().expect("a watch that is kept").is_some()
}

#[test]
fn a_waiting_fetch_is_told_when_its_bytes_are_there_and_not_before() {
    with_partitions(async |fixture| {
        let bytes = fixture.batch.len();
        fixture.append(0).await;
        let requests = [read_from(0, 0), read_from(1, 0)];
        let mut three = fixture.watch(&requests, 3 * bytes);
        let mut more = fixture.watch(&requests, 3 * bytes + 1);
        let mut one = fixture.watch(&requests, bytes);
        assert!(is_told(&mut one), "what is there counts");
        assert!(!is_told(&mut three));
        fixture.append(1).await;
        assert!(!is_told(&mut three), "two of three");
        fixture.append(0).await;
        assert!(is_told(&mut three));
        assert!(!is_told(&mut more), "a byte is missing");
        fixture.append(1).await;
        assert!(is_told(&mut more));
    });
}

/// One shard takes off what another has found, and the one that finds the last byte tells.
#[test]
fn shards_count_down_one_number() {
    with_partitions(async |fixture| {
        let bytes = fixture.batch.len();
        let missing = MissingBytes::new(2 * bytes);
        let watch = |request| {
            let (reply, told) = reply::channel();
            let message = PartitionMessage::Watch(vec![request], missing.clone(), reply);
            fixture.table.handle(message);
            told
        };
        let (mut first, mut second) = (watch(read_from(0, 0)), watch(read_from(1, 0)));
        fixture.append(0).await;
        assert!(!is_told(&mut first) && !is_told(&mut second));
        fixture.append(1).await;
        assert!(!is_told(&mut first) && is_told(&mut second));
    });
}

#[test]
fn a_partition_counts_up_to_what_is_taken_of_it_at_once() {
    with_partitions(async |fixture| {
        let bytes = fixture.batch.len();
        let limited = ReadRequest {
            bytes_max: bytes + 1,
            ..read_from(0, 0)
        };
        let mut told = fixture.watch(&[limited, read_from(1, 0)], 2 * bytes);
        for _ in 0..5 {
            fixture.append(0).await;
        }
        assert!(!is_told(&mut told), "one batch and a byte of the next");
        fixture.append(1).await;
        assert!(is_told(&mut told));
    });
}

#[test]
fn what_waiting_cannot_mend_is_told_at_once() {
    with_partitions(async |fixture| {
        fixture.append(0).await;
        let other_epoch = ReadRequest {
            current_leader_epoch: LeaderEpoch(2),
            ..read_from(0, 0)
        };
        let unknown = ReadRequest {
            id: id(7),
            ..read_from(0, 0)
        };
        let past_the_end = read_from(0, 3);
        for request in [other_epoch, unknown, past_the_end] {
            let mut told = fixture.watch(&[read_from(1, 0), request], usize::MAX);
            assert!(is_told(&mut told), "{request:?}");
            assert!(fixture.read(request).await.error.is_some(), "{request:?}");
        }
        let mut at_the_end = fixture.watch(&[read_from(0, 2)], 1);
        assert!(!is_told(&mut at_the_end));
        let next = LeaderEpoch(EPOCH.0 + 1);
        let led = fixture.partition(0).lead(next).await;
        led.expect("a written epoch");
        assert!(is_told(&mut at_the_end), "it knows the epoch before");
    });
}

#[test]
fn a_log_that_has_failed_is_an_error_to_readers() {
    with_partitions(async |fixture| {
        fixture.append(0).await;
        let (mut waits, at_end) = (fixture.watch(&[read_from(0, 2)], 1), read_from(0, 2));
        assert!(fixture.read(at_end).await.error.is_none());
        let source = io::Error::from_raw_os_error(libc::EIO);
        let partition = fixture.partition(0);
        let reason = FileError::new("write", partition.log().path(), source);
        partition.log().directory().fail(&reason);

        let failed =
            |error: &PartitionError| matches!(error, PartitionError::Log(LogError::Failed(_)));
        for from in [0, 2] {
            let result = fixture.read(read_from(0, from)).await;
            assert!(result.error.is_some_and(|error| failed(&error)), "{from}");
            assert!(result.chunks.is_empty());
        }
        let mut told = fixture.watch(&[at_end], 1);
        assert!(is_told(&mut told), "who comes now");
        let (reply, answer) = reply::channel();
        let query = OffsetQuery {
            id: id(0),
            spec: OffsetSpec::Latest,
            current_leader_epoch: EPOCH,
            committed_only: false,
        };
        fixture
            .table
            .handle(PartitionMessage::ListOffsets(vec![query], reply));
        let found = answer.await.expect("an answer");
        assert!(found[0].as_ref().is_err_and(failed));
        // Who waits is told by the next sign of life of the log.
        partition.log().forget();
        assert!(is_told(&mut waits));
    });
}

/// Kafka's `Partition.readRecords`.
#[test]
fn a_reader_whose_history_parts_from_the_logs_is_told_where() {
    with_partitions(async |fixture| {
        fixture.append(0).await;
        fixture.append(0).await;
        let next = LeaderEpoch(EPOCH.0 + 4);
        let partition = fixture.partition(0);
        partition.lead(next).await.expect("a written epoch");
        fixture.append(0).await;
        let end = |epoch: LeaderEpoch, offset| {
            Some(EpochEndOffset {
                leader_epoch: epoch,
                end_offset: Offset(offset),
            })
        };
        // Epoch 3 holds offsets 0 to 3, epoch 7 offsets 4 and 5.
        let cases = [
            ("it follows", EPOCH.0, 3, Ok(None)),
            ("it follows up to the epoch's end", EPOCH.0, 4, Ok(None)),
            ("it has more of the epoch", EPOCH.0, 5, Ok(end(EPOCH, 4))),
            ("an epoch of no batch here", 5, 4, Ok(end(EPOCH, 4))),
            ("the latest epoch", next.0, 6, Ok(None)),
            ("past the end", next.0, 7, Ok(end(next, 6))),
            ("an epoch to come", next.0 + 1, 6, Err(())),
            (
                "an epoch of before the log",
                2,
                1,
                Ok(end(LeaderEpoch(2), 0)),
            ),
            ("before the start", EPOCH.0, -1, Err(())),
        ];
        for (case, epoch, from, expected) in cases {
            let request = ReadRequest {
                last_fetched_epoch: Some(LeaderEpoch(epoch)),
                current_leader_epoch: next,
                ..read_from(0, from)
            };
            let result = fixture.read(request).await;
            let found = match &result.error {
                None => Ok(result.diverging),
                Some(PartitionError::Log(LogError::OutOfRange { .. })) => Err(()),
                Some(error) => panic!("{case}: {error}"),
            };
            assert_eq!(found, expected, "{case}");
            let shows = !result.chunks.is_empty();
            assert_eq!(shows, expected == Ok(None) && from < 6, "{case}");
            let mut told = fixture.watch(&[request], usize::MAX);
            assert_eq!(is_told(&mut told), expected != Ok(None), "{case}");
        }
    });
}
