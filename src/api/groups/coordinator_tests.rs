//! Coordinators on a real executor over a real log: what is written is loaded again, and what the
//! log refuses is told to those whom it concerns.

use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_lite::future::or;

use crate::base::clock::Clock;
use crate::base::ids::{LeaderEpoch, PartitionIndex, TopicId, TopicIdPartition};
use crate::config::{BrokerConfig, Layers, TopicConfig, Values};
use crate::coordinator::group::command::{
    Command, CommitOffsets, FetchOffsets, JoinGroup, JoinReply, Protocol, Reply,
};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::{FetchedOffset, OffsetToCommit};
use crate::coordinator::group::runtime::{Coordinator, Shared};
use crate::partition::core::Shared as PartitionsShared;
use crate::partition::message::{Acks, AppendRequest, PartitionMessage};
use crate::partition::open::OpenPartition;
use crate::partition::table::PartitionTable;
use crate::record::builder::{BatchBuilder, RecordToWrite};
use crate::record::compression::Codec;
use crate::runtime::{TaskQueue, Timer};
use crate::shard::executor::{ExecutorConfig, ShardContext, start};
use crate::shard::reply;
use crate::storage::directory::LogDirectory;
use crate::storage::shard::{ShardStorage, StorageLimits};

/// No answer of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the groups of a test may take of memory.
const GROUPS_BYTES_MAX: usize = 256 << 10;
const TOPIC: TopicId = TopicId(0xabc);
const ID: TopicIdPartition = TopicIdPartition {
    topic_id: TopicId(7),
    partition: PartitionIndex(3),
};

struct Rig {
    table: Rc<PartitionTable>,
    shared: Rc<Shared>,
    clock: Clock,
}

impl Rig {
    async fn new(path: &Path, config: TopicConfig) -> Self {
        let limits = StorageLimits {
            tail_bytes_max: 8 << 20,
            read_cache_bytes_max: 2 << 20,
            writes_max: 64,
            open_logs_max: 16,
            open_reads_max: 16,
            journal: None,
        };
        let directory = LogDirectory::new(path.to_owned(), true);
        let storage = ShardStorage::new(directory, limits, TaskQueue::Storage);
        let clock = Clock::manual(1_700_000_000_000);
        let requests = TaskQueue::Requests;
        let table = PartitionTable::new(storage, PartitionsShared::new(clock.clone(), requests));
        let wanted = OpenPartition {
            id: ID,
            topic: "__consumer_offsets".to_owned(),
            leader_epoch: LeaderEpoch(0),
            config,
            directory: None,
            is_new: false,
            point: None,
            clean: false,
            tally: Arc::default(),
        };
        table.open(wanted).await.expect("a partition");
        let settings = [
            ("log.dirs", "/nowhere"),
            ("group.initial.rebalance.delay.ms", "60000"),
        ];
        let values: Values = settings
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let config = BrokerConfig::new(Layers::of_start(values)).expect("right settings");
        let shared = Shared::new(
            &config,
            GROUPS_BYTES_MAX,
            clock.clone(),
            requests,
            Rc::clone(&table),
        );
        Self {
            table,
            shared: Rc::new(shared),
            clock,
        }
    }

    fn coordinator(&self) -> Rc<Coordinator> {
        Coordinator::start(&self.shared, ID)
    }

    /// Appends a batch of one record as no coordinator does.
    async fn append(&self, batch: BatchBuilder, key: &[u8], value: &[u8]) {
        let mut batch = batch;
        let record = RecordToWrite {
            timestamp: self.clock.now_ms(),
            key: Some(key),
            value: Some(value),
            headers: &[],
        };
        batch.append(&record).expect("a record that fits");
        let (reply, answer) = reply::channel();
        let request = AppendRequest {
            id: ID,
            records: batch.build().expect("a batch").into(),
            acks: Acks::All,
            zstd_allowed: true,
            reply,
        };
        self.table.handle(PartitionMessage::Append(request));
        answer.await.expect("an answer").expect("an append");
    }
}

fn on_shard(config: TopicConfig, test: impl AsyncFnOnce(Rig) + Send + 'static) {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&target).expect("a target directory");
    let home = tempfile::tempdir_in(target).expect("a directory");
    let path = home.path().to_owned();
    let body = move |_: ShardContext| async move {
        let rig = Rig::new(&path, config).await;
        test(rig).await;
        Ok::<_, String>(())
    };
    let running = start(&ExecutorConfig::default(), vec![body]).expect("an executor");
    running.join().remove(0).expect("a good end");
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    or(work, async {
        Timer::new(PATIENCE).await;
        panic!("no answer within {PATIENCE:?}")
    })
    .await
}

fn send(coordinator: &Rc<Coordinator>, command: Command) -> reply::Receiver<Reply> {
    let (reply, answer) = reply::channel();
    coordinator.handle(command, reply);
    answer
}

async fn ask(coordinator: &Rc<Coordinator>, command: Command) -> Reply {
    in_time(send(coordinator, command))
        .await
        .expect("an answer")
}

fn commit(group: &str, offsets: std::ops::Range<i32>, metadata: &str) -> Command {
    Command::Commit(CommitOffsets {
        group: group.into(),
        generation: -1,
        member_id: ByteString::new(),
        instance_id: None,
        knows_group_id_not_found: true,
        retention_ms: None,
        offsets: offsets
            .map(|partition| OffsetToCommit {
                topic: "t".into(),
                topic_id: TOPIC,
                partition,
                offset: i64::from(partition) + 100,
                leader_epoch: -1,
                metadata: Some(metadata.into()),
            })
            .collect(),
    })
}

/// The group's committed offsets, once the coordinator knows them.
async fn committed(coordinator: &Rc<Coordinator>, group: &str) -> Result<Vec<i64>, GroupError> {
    in_time(async {
        loop {
            let fetch = Command::Fetch(FetchOffsets {
                group: group.into(),
                partitions: None,
                require_stable: false,
            });
            let Reply::Fetch(fetched) = ask(coordinator, fetch).await else {
                panic!("a fetch is answered by a fetch");
            };
            match fetched {
                Err(GroupError::LoadInProgress) => Timer::new(Duration::from_millis(1)).await,
                Err(error) => return Err(error),
                Ok(rows) => {
                    let offset = |row: FetchedOffset| {
                        row.committed.expect("a stable offset").map(|it| it.offset)
                    };
                    return Ok(rows.into_iter().filter_map(offset).collect());
                }
            };
        }
    })
    .await
}

fn is_committed(reply: &Reply) -> bool {
    matches!(reply, Reply::Commit(Ok(results)) if results.iter().all(Result::is_ok))
}

#[test]
fn what_was_committed_is_loaded_again() {
    on_shard(TopicConfig::default(), async |rig: Rig| {
        let first = rig.coordinator();
        assert_eq!(committed(&first, "g").await, Ok(vec![]));
        assert!(is_committed(&ask(&first, commit("g", 0..3, "")).await));
        first.stop();
        assert_eq!(
            committed(&first, "g").await,
            Err(GroupError::NotCoordinator)
        );
        let second = rig.coordinator();
        assert_eq!(committed(&second, "g").await, Ok(vec![100, 101, 102]));
    });
}

#[test]
fn offsets_end_where_the_memory_for_groups_does_and_those_that_are_there_are_served() {
    on_shard(TopicConfig::default(), async |rig: Rig| {
        let first = rig.coordinator();
        assert_eq!(committed(&first, "g").await, Ok(vec![]));
        let metadata = "m".repeat(1000);
        let mut taken = 0;
        let refused = loop {
            let reply = ask(&first, commit("g", taken..taken + 1, &metadata)).await;
            if !is_committed(&reply) {
                break reply;
            }
            taken += 1;
        };
        assert_eq!(refused, Reply::Commit(Err(GroupError::NotAvailable)));
        assert!((100..250).contains(&taken), "{taken}");
        assert!(is_committed(&ask(&first, commit("g", 0..taken, "")).await));
        assert!(is_committed(
            &ask(&first, commit("g", taken..2 * taken, "")).await
        ));
        first.stop();
        // All of it is loaded, and nothing of the one before counts any more.
        let second = rig.coordinator();
        let loaded = committed(&second, "g").await.expect("offsets");
        assert_eq!(loaded.len(), 2 * taken as usize);
        assert!(is_committed(&ask(&second, commit("h", 0..1, "")).await));
    });
}

#[test]
fn a_log_that_begins_later_is_loaded_from_there() {
    let mut config = TopicConfig {
        segment_bytes: 4096,
        retention_ms: Some(20_500),
        ..TopicConfig::default()
    };
    config.cleanup_policy.delete = true;
    on_shard(config, async |rig: Rig| {
        let first = rig.coordinator();
        assert_eq!(committed(&first, "g").await, Ok(vec![]));
        for at in 0..40 {
            let reply = ask(&first, commit("g", at..at + 1, &"m".repeat(500))).await;
            assert!(is_committed(&reply));
            rig.clock.advance(1000);
        }
        first.stop();
        let partition = rig.table.get(&ID).expect("it is here");
        let retained = rig.table.retain(&partition, rig.clock.now_ms()).await;
        retained.expect("old segments go");
        let second = rig.coordinator();
        let left = committed(&second, "g").await.expect("a loaded coordinator");
        assert!(!left.is_empty() && left.len() < 40, "{left:?}");
        assert_eq!(left.last(), Some(&139));
    });
}

#[test]
fn a_group_of_more_offsets_than_a_batch_holds_is_deleted() {
    let config = TopicConfig {
        max_message_bytes: 2000,
        ..TopicConfig::default()
    };
    on_shard(config, async |rig: Rig| {
        let first = rig.coordinator();
        assert_eq!(committed(&first, "g").await, Ok(vec![]));
        assert!(is_committed(&ask(&first, commit("g", 0..200, "")).await));
        assert_eq!(committed(&first, "g").await.map(|all| all.len()), Ok(200));
        let group = "g".into();
        let deleted = ask(&first, Command::DeleteGroup { group }).await;
        assert_eq!(deleted, Reply::DeleteGroup(Ok(())));
        assert_eq!(committed(&first, "g").await, Ok(vec![]));
        first.stop();
        assert_eq!(committed(&rig.coordinator(), "g").await, Ok(vec![]));
    });
}

#[test]
fn what_the_log_refuses_fails_alone() {
    let config = TopicConfig {
        max_message_bytes: 1000,
        ..TopicConfig::default()
    };
    on_shard(config, async |rig: Rig| {
        let coordinator = rig.coordinator();
        assert_eq!(committed(&coordinator, "g").await, Ok(vec![]));
        // All three wait together.
        let commits = [
            send(&coordinator, commit("good", 0..1, "")),
            send(&coordinator, commit("large", 0..1, &"m".repeat(2000))),
            send(&coordinator, commit("fine", 0..1, "")),
        ];
        let mut answers = Vec::new();
        for answer in commits {
            answers.push(in_time(answer).await.expect("an answer"));
        }
        assert!(is_committed(&answers[0]), "{answers:?}");
        assert_eq!(answers[1], Reply::Commit(Err(GroupError::Unexpected)));
        assert!(is_committed(&answers[2]), "{answers:?}");
        coordinator.stop();
        let again = rig.coordinator();
        assert_eq!(committed(&again, "good").await, Ok(vec![100]));
        assert_eq!(committed(&again, "large").await, Ok(vec![]));
        assert_eq!(committed(&again, "fine").await, Ok(vec![100]));
    });
}

#[test]
fn nobody_is_told_of_offsets_that_could_not_be_read() {
    on_shard(TopicConfig::default(), async |rig: Rig| {
        // The key says that it is a committed offset, and ends there.
        rig.append(BatchBuilder::new(Codec::None), &[0, 1], b"?")
            .await;
        let coordinator = rig.coordinator();
        let told = committed(&coordinator, "g").await;
        assert_eq!(told, Err(GroupError::NotCoordinator));
    });
}

#[test]
fn records_of_unknown_kinds_are_skipped() {
    on_shard(TopicConfig::default(), async |rig: Rig| {
        rig.append(BatchBuilder::new(Codec::Gzip), &[0, 99], b"?")
            .await;
        let coordinator = rig.coordinator();
        assert_eq!(committed(&coordinator, "g").await, Ok(vec![]));
        assert!(is_committed(
            &ask(&coordinator, commit("g", 0..1, "")).await
        ));
    });
}

#[test]
fn a_topic_deleted_while_the_log_is_read_takes_its_offsets_along() {
    on_shard(TopicConfig::default(), async |rig: Rig| {
        let first = rig.coordinator();
        assert_eq!(committed(&first, "g").await, Ok(vec![]));
        assert!(is_committed(&ask(&first, commit("g", 0..3, "")).await));
        first.stop();
        let second = rig.coordinator();
        second.topic_deleted(&"t".into(), TOPIC);
        in_time(async {
            while committed(&second, "g").await != Ok(vec![]) {
                Timer::new(Duration::from_millis(1)).await;
            }
        })
        .await;
        second.stop();
        assert_eq!(committed(&rig.coordinator(), "g").await, Ok(vec![]));
    });
}

#[test]
fn who_waits_for_a_rebalance_is_sent_away_when_the_coordinator_stops() {
    on_shard(TopicConfig::default(), async |rig: Rig| {
        let coordinator = rig.coordinator();
        assert_eq!(committed(&coordinator, "g").await, Ok(vec![]));
        let join = JoinGroup {
            group: "g".into(),
            member_id: ByteString::new(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 100_000,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol {
                name: "range".into(),
                metadata: Bytes::new(),
            }],
            knows_member_id_required: false,
            knows_skip_assignment: false,
            random: 1,
            reason: None,
        };
        let parked = send(&coordinator, Command::Join(join));
        coordinator.stop();
        let answer = in_time(parked).await.expect("an answer");
        let Reply::Join(JoinReply { result, .. }) = answer else {
            panic!("a join is answered by a join, not by {answer:?}");
        };
        assert_eq!(result, Err(GroupError::NotCoordinator));
    });
}
