//! A shard's broker without peers, for tests. Nobody runs its controller: what it is asked for
//! comes out here.

use std::rc::Rc;
use std::sync::Arc;

use super::broker::{Broker, Ways};
use super::fetch_session::FetchSessions;
use super::metadata::fixtures::Cluster;
use crate::base::clock::Clock;
use crate::base::ids::ShardId;
use crate::controller::{Call, ControllerHandle};
use crate::coordinator::group::coordinators::{Coordinators, GroupRouter};
use crate::coordinator::group::runtime;
use crate::metadata::image::MetadataImage;
use crate::partition::core::Shared;
use crate::partition::router::Router;
use crate::partition::table::PartitionTable;
use crate::runtime::TaskQueue;
use crate::shard::budget::Budget;
use crate::shard::mailbox::{self, Receiver};
use crate::storage::directory::LogDirectory;
use crate::storage::shard::{ShardStorage, StorageLimits};

/// A broker that knows no topic, of one shard, on that shard.
pub fn broker(cluster: &Cluster, directory: LogDirectory) -> (Rc<Broker>, Receiver<Call>) {
    let limits = StorageLimits {
        tail_bytes_max: 1 << 20,
        read_cache_bytes_max: 2 << 20,
        writes_max: 8,
        open_logs_max: 8,
        open_reads_max: 8,
        journal: None,
    };
    let storage = ShardStorage::new(directory, limits, crate::runtime::current_queue());
    let clock = Clock::system();
    let queue = TaskQueue::Requests;
    let shared = Shared::new(clock.clone(), queue);
    let table = PartitionTable::new(storage, shared);
    let groups = runtime::Shared::new(
        &cluster.config,
        1 << 20,
        clock.clone(),
        queue,
        Rc::clone(&table),
    );
    let coordinators = Coordinators::new(Rc::new(groups));
    let (groups, _) = mailbox::mesh(1, 8).remove(0).open();
    let (partitions, _) = mailbox::mesh(1, 8).remove(0).open();
    let (controller, calls) = mailbox::mesh(1, 8).remove(0).open();
    let broker = Broker::new(
        Arc::new(cluster.config.clone()),
        clock,
        cluster.cluster_id.clone(),
        Ways {
            partitions: Router::new(table, Rc::new(partitions)),
            groups: GroupRouter::new(coordinators, groups),
            controller: ControllerHandle::new(controller),
        },
        FetchSessions::new(8, ShardId(0), 1, 7),
        Budget::new(1 << 20),
        Arc::new(MetadataImage::default()),
    );
    (broker, calls)
}
