//! Partitions whose files find no room: they come once there is some, unless they are gone by then.

use std::path::Path;

use crate::runtime::Timer;

use super::*;
use crate::api::fixtures::broker;
use crate::api::groups::requests::list_groups;
use crate::api::metadata::fixtures::{ABC, Cluster, OFFSETS};
use crate::base::ids::{Offset, ShardId, TopicId};
use crate::partition::checkpointer::Checkpointer;
use crate::protocol::messages::list_groups_request::ListGroupsRequest;
use crate::protocol::messages::list_groups_response::ListGroupsResponse;
use crate::storage::checkpoint;
use crate::storage::directory::LogDirectory;
use crate::storage::faults::{Call, Faults, Plan};
use crate::storage::recovery::RecoveryPoint;

/// What the last run says of each partition.
const POINT: RecoveryPoint = RecoveryPoint {
    log_start: Offset(2),
    offset: Offset(7),
    segment: Offset(2),
    position: 4711,
};

/// Follows the creation of a topic of three partitions while its first `failures` directories
/// cannot be made; then does `test`.
fn with_a_disk_that_is_full<F>(failures: u64, test: F)
where
    F: AsyncFnOnce(Rc<Follower>, Arc<MetadataImage>, &Path) + Send + 'static,
{
    while_directories_fail(failures, ABC, Some(POINT), test);
}

/// The same for any topic, and with what the last run says of each partition of it.
fn while_directories_fail<F>(failures: u64, topic: TopicId, point: Option<RecoveryPoint>, test: F)
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
    let body = async move {
        let cluster = Cluster::new();
        let (broker, _calls) = broker(&cluster, directory);
        let image = Arc::new(cluster.image);
        let topic = image.topic(topic).expect("a topic");
        let created: Vec<_> = topic
            .iter()
            .map(|(index, _)| topic.topic_id_partition(index))
            .collect();
        let at_start = OpenedAtStart {
            points: vec![
                created
                    .iter()
                    .filter_map(|id| Some((*id, point?)))
                    .collect(),
            ],
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
    crate::runtime::block_on(body);
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

/// What ListGroups answers once nothing is being loaded any more.
async fn listed(follower: &Follower) -> ListGroupsResponse {
    loop {
        let answer = list_groups(&follower.broker, ListGroupsRequest::default()).await;
        if answer.error_code != 14 {
            return answer;
        }
        Timer::new(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_list_of_groups_fails_while_a_partition_of_them_is_not_open() {
    while_directories_fail(1, OFFSETS, None, async |follower, _, _| {
        assert_eq!(listed(&follower).await.error_code, 15);
        follower.retry().await;
        assert_eq!(opened(&follower), 1);
        assert_eq!(listed(&follower).await, ListGroupsResponse::default());
    });
}

#[test]
fn a_list_of_groups_fails_where_their_log_has_lost_some() {
    while_directories_fail(0, OFFSETS, Some(POINT), async |follower, _, _| {
        assert_eq!(opened(&follower), 1);
        assert_eq!(listed(&follower).await.error_code, 15);
    });
}
