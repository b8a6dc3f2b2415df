//! Partitions whose files find no room: they come once there is some, unless they are gone by then.

use std::path::Path;

use glommio::{LocalExecutorBuilder, Placement};

use super::*;
use crate::api::broker::Ways;
use crate::api::fetch_session::FetchSessions;
use crate::api::metadata::fixtures::{ABC, Cluster};
use crate::base::clock::Clock;
use crate::base::ids::{Offset, ShardId};
use crate::controller::ControllerHandle;
use crate::coordinator::group::coordinators::{Coordinators, GroupRouter};
use crate::coordinator::group::runtime;
use crate::partition::checkpointer::Checkpointer;
use crate::partition::core::Shared;
use crate::partition::router::Router;
use crate::partition::table::PartitionTable;
use crate::shard::mailbox;
use crate::shard::queues::Queues;
use crate::storage::checkpoint;
use crate::storage::directory::LogDirectory;
use crate::storage::faults::{Call, Faults, Plan};
use crate::storage::recovery::RecoveryPoint;
use crate::storage::shard::{ShardStorage, StorageLimits};

/// What the last run says of each partition.
const POINT: RecoveryPoint = RecoveryPoint {
    log_start: Offset(2),
    offset: Offset(7),
    segment: Offset(2),
    position: 4711,
};

fn broker(cluster: &Cluster, directory: LogDirectory) -> Rc<Broker> {
    let limits = StorageLimits {
        tail_bytes_max: 1 << 20,
        read_cache_bytes_max: 2 << 20,
        writes_max: 8,
        open_logs_max: 8,
        open_reads_max: 8,
    };
    let storage = ShardStorage::new(directory, limits, glommio::executor().current_task_queue());
    let clock = Clock::system();
    let shared = Shared::new(clock.clone(), Queues::create().requests);
    let table = PartitionTable::new(storage, shared);
    let queue = Queues::create().requests;
    let groups = runtime::Shared::new(&cluster.config, clock.clone(), queue, Rc::clone(&table));
    let coordinators = Coordinators::new(Rc::new(groups));
    let (groups, _) = mailbox::mesh(1, 8).remove(0).open();
    let (partitions, _) = mailbox::mesh(1, 8).remove(0).open();
    let (calls, _) = mailbox::mesh(1, 8).remove(0).open();
    Broker::new(
        Arc::new(cluster.config.clone()),
        clock,
        cluster.cluster_id.clone(),
        Ways {
            partitions: Router::new(table, Rc::new(partitions)),
            groups: GroupRouter::new(coordinators, groups),
            controller: ControllerHandle::new(calls),
        },
        FetchSessions::new(8, ShardId(0), 1, 7),
        Arc::new(MetadataImage::default()),
    )
}

/// Follows the creation of a topic of three partitions while its first `failures` directories
/// cannot be made; then does `test`.
fn with_a_disk_that_is_full<F>(failures: u64, test: F)
where
    F: AsyncFnOnce(Rc<Follower>, Arc<MetadataImage>, &Path) + Send + 'static,
{
    let home = tempfile::tempdir().expect("a directory");
    let root = home.path().to_owned();
    let plan = Plan {
        first: 1.into(),
        count: failures,
        only: Some(Call::CreateDirectory),
        errno: libc::ENOSPC,
        ..Plan::default()
    };
    let directory = LogDirectory::with_faults(root.clone(), false, Faults::planned(plan.into()));
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20);
    let body = move || async move {
        let cluster = Cluster::new();
        let broker = broker(&cluster, directory);
        let image = Arc::new(cluster.image);
        let topic = image.topic(ABC).expect("a topic");
        let created: Vec<_> = topic
            .iter()
            .map(|(index, _)| topic.topic_id_partition(index))
            .collect();
        let at_start = OpenedAtStart {
            points: created.iter().map(|id| (*id, POINT)).collect(),
            clean: false,
            ..OpenedAtStart::default()
        };
        let changes = Changes {
            created,
            ..Changes::default()
        };
        let follower = Follower::new(broker, Arc::new(at_start));
        follower.apply(Arc::clone(&image), &changes).await;
        test(follower, image, &root).await;
    };
    let ran = executor.spawn(body).expect("an executor").join();
    ran.expect("a test without a panic");
}

/// What a checkpoint says that is written now.
async fn checkpoint(follower: &Follower, root: &Path) -> RecoveryPoints {
    let table = Rc::clone(follower.broker.router.table());
    let written = Checkpointer::new(ShardId(0), table).checkpoint().await;
    written.expect("a checkpoint");
    let mut points = RecoveryPoints::new();
    let bytes = std::fs::read(root.join("recovery-checkpoint-0")).expect("a file");
    checkpoint::decode(&bytes, &mut points).expect("a whole checkpoint");
    points
}

#[test]
fn partitions_that_are_not_open_keep_their_recovery_points() {
    with_a_disk_that_is_full(3, async |follower, image, root| {
        let points = checkpoint(&follower, root).await;
        assert_eq!(points.len(), 3);
        assert!(points.values().all(|point| *point == POINT), "{points:?}");
        follower.retry().await;
        assert_eq!(opened(&follower), 3);
        let points = checkpoint(&follower, root).await;
        assert_eq!(points.len(), 3);
        for partition in follower.broker.router.table().all() {
            assert_eq!(points[&partition.id()], partition.log().mark());
        }
        let changes = Changes {
            deleted: vec![Arc::clone(image.topic(ABC).expect("a topic"))],
            ..Changes::default()
        };
        follower.apply(Arc::default(), &changes).await;
        assert_eq!(checkpoint(&follower, root).await.len(), 0);
    });
}

/// How many of the topic's partitions are there.
fn opened(follower: &Follower) -> usize {
    follower.broker.router.table().all().len()
}

#[test]
fn partitions_without_room_come_once_there_is_some() {
    with_a_disk_that_is_full(4, async |follower, _, root| {
        assert_eq!(opened(&follower), 0);
        follower.retry().await;
        assert_eq!(
            opened(&follower),
            0,
            "one more attempt fails, and is the last"
        );
        assert_eq!(follower.waiting.borrow().len(), 3);
        follower.retry().await;
        assert_eq!(opened(&follower), 3);
        assert!(follower.waiting.borrow().is_empty());
        assert!(root.join("abc-2").is_dir());
    });
}

#[test]
fn a_partition_that_is_deleted_while_it_waits_never_comes() {
    with_a_disk_that_is_full(3, async |follower, image, root| {
        let changes = Changes {
            deleted: vec![Arc::clone(image.topic(ABC).expect("a topic"))],
            ..Changes::default()
        };
        follower.apply(Arc::default(), &changes).await;
        follower.retry().await;
        assert_eq!(opened(&follower), 0);
        let left = std::fs::read_dir(root).expect("a directory").count();
        assert_eq!(left, 0);
        assert_eq!(checkpoint(&follower, root).await.len(), 0);
    });
}
