//! The partitions of one shard, and the requests that come for them. Its shard's alone.
//!
//! [`PartitionTable::handle`] never awaits: what has to wait runs in a task of its own and answers
//! when it is done, so requests are taken in the order in which they came.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use bytes::Bytes;

use crate::base::clock::TimestampMs;
use crate::base::ids::{LeaderEpoch, Offset, TopicId, TopicIdPartition};
use crate::base::limits::{COLD_READ_BYTES_MAX, OVERDRAWN_READ_BYTES_MAX};
use crate::config::TopicConfig;
use crate::runtime::spawn_local;
use crate::shard::reply::Sender;
use crate::storage::doomed::Doomed;
use crate::storage::error::{FileError, LogError};
use crate::storage::reader::{ColdRead, ReadPlan, ReadRange};
use crate::storage::recovery::RecoveryPoint;
use crate::storage::shard::ShardStorage;

use super::core::{Partition, Shared};
use super::message::{
    AppendRequest, EpochEndOffset, EpochQuery, OffsetQuery, PartitionError, PartitionMessage,
    ReadRequest, ReadResult, RefusedAppend,
};
use super::offsets;
use super::open::{OpenError, OpenPartition, delete_refused, open};
use super::watch::{MissingBytes, Watch, Watcher};

/// Recovery points of partitions that are not open, each with the number of the log directory whose
/// checkpoint it stands in.
pub type AbsentPoints = AHashMap<TopicIdPartition, (usize, RecoveryPoint)>;

/// The partitions of a shard.
#[derive(Debug)]
pub struct PartitionTable {
    storage: Rc<ShardStorage>,
    shared: Rc<Shared>,
    partitions: RefCell<AHashMap<TopicIdPartition, Rc<Partition>>>,
    /// What the last checkpoint says of partitions that belong here and are not open.
    absent: RefCell<AbsentPoints>,
    /// The names of the directories of partitions that belong here and are not fit to be served.
    refused: RefCell<AHashMap<TopicIdPartition, String>>,
    doomed: Doomed,
}

impl PartitionTable {
    /// No partitions yet.
    pub fn new(storage: Rc<ShardStorage>, shared: Rc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            storage,
            shared,
            partitions: RefCell::default(),
            absent: RefCell::default(),
            refused: RefCell::default(),
            doomed: Doomed::default(),
        })
    }

    /// What the partitions' logs share.
    pub fn storage(&self) -> &Rc<ShardStorage> {
        &self.storage
    }

    /// What the partitions share.
    pub fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// The partition, if it is here.
    pub fn get(&self, id: &TopicIdPartition) -> Option<Rc<Partition>> {
        self.partitions.borrow().get(id).cloned()
    }

    /// All partitions, in no order.
    pub fn all(&self) -> Vec<Rc<Partition>> {
        self.partitions.borrow().values().cloned().collect()
    }

    /// A partition belongs here, and the last checkpoint of a directory, by its number, says this
    /// of it. Until it is open the next ones have to say the same.
    pub fn expect(&self, id: TopicIdPartition, point: (usize, RecoveryPoint)) {
        self.absent.borrow_mut().insert(id, point);
    }

    /// What the last checkpoint says of partitions that belong here and are not open.
    pub fn absent(&self) -> AbsentPoints {
        self.absent.borrow().clone()
    }

    /// Brings a partition up. It takes requests from then on. Where that fails, and not for want of
    /// room, they are refused.
    pub async fn open(&self, wanted: OpenPartition) -> Result<(), OpenError> {
        let (id, name) = (wanted.id, wanted.name());
        let opened = open(&self.storage, &self.shared, wanted).await;
        let partition = opened.inspect_err(|error| {
            if !error.is_no_room() {
                self.refused.borrow_mut().insert(id, name);
            }
        })?;
        self.partitions.borrow_mut().insert(id, partition);
        self.absent.borrow_mut().remove(&id);
        Ok(())
    }

    /// Puts a topic's settings in force for one of its partitions.
    pub fn reconfigure(&self, id: &TopicIdPartition, config: &Rc<TopicConfig>) {
        if let Some(partition) = self.get(id) {
            partition.reconfigure(Rc::clone(config));
        }
    }

    /// Deletes a partition. What waits for it is refused at once; its files have another name when
    /// this returns, and are unlinked once `delay` is over.
    pub async fn delete(&self, id: &TopicIdPartition, delay: Duration) -> Result<(), FileError> {
        self.absent.borrow_mut().remove(id);
        let partition = self.partitions.borrow_mut().remove(id);
        if let Some(partition) = partition {
            let path = partition.log().delete().await?;
            self.doomed.add(path, Instant::now(), delay);
        }
        let refused = self.refused.borrow_mut().remove(id);
        match refused {
            Some(name) => self.delete_refused(id.topic_id, name, delay).await,
            None => Ok(()),
        }
    }

    /// It may be in any of the directories, or in several.
    async fn delete_refused(
        &self,
        topic_id: TopicId,
        name: String,
        delay: Duration,
    ) -> Result<(), FileError> {
        let directories = self.storage.directories().of_partitions().iter();
        for directory in directories.filter(|it| it.failure().is_none()) {
            let path = directory.path().join(&name);
            let deleted =
                directory.off_reactor(move |directory| delete_refused(directory, &path, topic_id));
            if let Some(path) = deleted.await? {
                self.doomed.add(path, Instant::now(), delay);
            }
        }
        Ok(())
    }

    /// Deletes what a partition's retention lets go; its files are unlinked after the delay of the
    /// topic.
    pub async fn retain(&self, partition: &Partition, now: TimestampMs) -> Result<(), LogError> {
        partition.retain(now).await?;
        let delay = Duration::from_millis(partition.config().file_delete_delay_ms);
        for path in partition.log().take_deleted() {
            self.doomed.add(path, Instant::now(), delay);
        }
        Ok(())
    }

    /// What is to be unlinked.
    pub fn doomed(&self) -> &Doomed {
        &self.doomed
    }

    /// Unlinks what was deleted long enough ago.
    pub async fn unlink_deleted(&self) {
        let directory = self.storage.directory();
        self.doomed.unlink_due(directory, Instant::now()).await;
    }

    /// Takes one request. Answers at once or from a task of its own.
    pub fn handle(self: &Rc<Self>, message: PartitionMessage) {
        match message {
            PartitionMessage::Append(request) => self.append(request),
            PartitionMessage::Read(requests, bytes_max, reply) => {
                self.read(requests, bytes_max, reply);
            }
            PartitionMessage::Watch(requests, missing, reply) => {
                self.watch(&requests, missing, reply);
            }
            PartitionMessage::ListOffsets(queries, reply) => {
                let table = Rc::clone(self);
                self.shared.queue.detach(async move {
                    let _gone = reply.send(table.list_offsets(&queries).await);
                });
            }
            PartitionMessage::EpochEnds(queries, reply) => {
                let found = queries.iter().map(|query| self.epoch_end(query)).collect();
                let _gone = reply.send(found);
            }
        }
    }

    fn append(&self, request: AppendRequest) {
        match self.get(&request.id) {
            Some(partition) => partition.append(request),
            None => {
                let refused = RefusedAppend {
                    error: self.missing(&request.id).into(),
                    log_start: Offset(-1),
                };
                let _gone = request.reply.send(Err(refused));
            }
        }
    }

    /// Why a partition is not among those that are here.
    fn missing(&self, id: &TopicIdPartition) -> PartitionError {
        match self.refused.borrow().contains_key(id) {
            true => PartitionError::NotOpened,
            false => PartitionError::NotHere,
        }
    }

    /// The partition, if it is here, its log is in service, and its epoch is the one that the
    /// client knows. Appends need no such look: each of them asks the log itself.
    fn checked(
        &self,
        id: &TopicIdPartition,
        epoch: LeaderEpoch,
    ) -> Result<Rc<Partition>, PartitionError> {
        let partition = self.get(id).ok_or_else(|| self.missing(id))?;
        partition.log().check()?;
        partition.check_epoch(epoch)?;
        Ok(partition)
    }

    /// Answers at once if all is in memory, else once the disk has been read.
    fn read(
        self: &Rc<Self>,
        requests: Vec<ReadRequest>,
        bytes_max: usize,
        reply: Sender<Vec<ReadResult>>,
    ) {
        let mut results = Vec::with_capacity(requests.len());
        let mut cold = Vec::new();
        let (mut left, mut at_least_one) = (bytes_max, true);
        let mut memory_left = self.storage.turn_bytes_max();
        for (index, request) in requests.iter().enumerate() {
            let limit = request.bytes_max.min(left);
            let (mut result, plan) = self.plan_read(request, limit, at_least_one);
            match plan {
                Ok(ReadPlan::Memory(chunks)) => {
                    if !chunks.is_empty() && self.storage.is_overdrawn() {
                        left = left.min(OVERDRAWN_READ_BYTES_MAX);
                    }
                    result.chunks = chunks;
                }
                Ok(ReadPlan::Cold(_)) if limit == 0 && !at_least_one => {}
                Ok(ReadPlan::Cold(read)) => {
                    let memory = read.memory_max();
                    if memory > memory_left && !cold.is_empty() {
                        results.push(result);
                        continue;
                    }
                    memory_left = memory_left.saturating_sub(memory);
                    // How much it gives is known later; it may take all that it is allowed.
                    left = left.saturating_sub(limit.min(COLD_READ_BYTES_MAX as usize));
                    at_least_one = false;
                    cold.push((index, read));
                }
                Err(error) => result.error = Some(error),
            }
            left = left.saturating_sub(result.bytes());
            at_least_one &= result.chunks.is_empty();
            results.push(result);
        }
        if cold.is_empty() {
            let _gone = reply.send(results);
            return;
        }
        let table = Rc::clone(self);
        self.shared.queue.detach(async move {
            table.read_disk(cold, &mut results).await;
            if results.iter().all(|result| result.chunks.is_empty()) {
                table.read_first(&requests, bytes_max, &mut results).await;
            }
            let _gone = reply.send(results);
        });
    }

    /// Brings what is not in memory, all in one turn.
    async fn read_disk(&self, reads: Vec<(usize, ColdRead)>, results: &mut [ReadResult]) {
        let mut set = |index: usize, read: Result<Vec<Bytes>, LogError>| match read {
            Ok(chunks) => results[index].chunks = chunks,
            Err(error) => results[index].error = Some(error.into()),
        };
        let memory = reads.iter().map(|(_, read)| read.memory_max()).sum();
        let turn = Rc::new(self.storage.turn_to_read(memory).await);
        let mut reads = reads.into_iter();
        // The first may turn out to be larger, and where turns are small one after the other is
        // asked until one gives something.
        for (index, read) in reads.by_ref() {
            set(index, read.run_in(&turn).await);
            if turn.is_over() {
                return;
            }
            if !turn.is_small() {
                break;
            }
        }
        let at_once = reads.map(|(index, read)| {
            let turn = Rc::clone(&turn);
            (index, spawn_local(async move { read.run_in(&turn).await }))
        });
        for (index, read) in at_once.collect::<Vec<_>>() {
            set(index, read.await);
        }
    }

    /// What was expected of the disk has come to nothing, and the others were held back by it: the
    /// first of them that has something gives it now, if need be more than fits (KIP-74).
    async fn read_first(
        &self,
        requests: &[ReadRequest],
        bytes_max: usize,
        results: &mut [ReadResult],
    ) {
        for (request, found) in requests.iter().zip(results) {
            if found.error.is_some() || found.diverging.is_some() {
                continue;
            }
            let limit = request.bytes_max.min(bytes_max);
            let (mut result, plan) = self.plan_read(request, limit, true);
            let chunks = match plan {
                Ok(ReadPlan::Memory(chunks)) => Ok(chunks),
                Ok(ReadPlan::Cold(read)) => read.run().await.map_err(PartitionError::from),
                Err(error) => Err(error),
            };
            match chunks {
                Ok(chunks) => result.chunks = chunks,
                Err(error) => result.error = Some(error),
            }
            *found = result;
            if !found.chunks.is_empty() {
                return;
            }
        }
    }

    fn plan_read(
        &self,
        request: &ReadRequest,
        bytes_max: usize,
        at_least_one: bool,
    ) -> (ReadResult, Result<ReadPlan, PartitionError>) {
        let unknown = Offset(-1);
        let mut result = ReadResult {
            error: None,
            high_watermark: unknown,
            last_stable: unknown,
            log_start: unknown,
            diverging: None,
            chunks: Vec::new(),
        };
        let partition = match self.checked(&request.id, request.current_leader_epoch) {
            Ok(partition) => partition,
            Err(error) => return (result, Err(error)),
        };
        result.high_watermark = partition.high_watermark();
        result.last_stable = partition.last_stable_offset();
        result.log_start = partition.log().start();
        match partition.parts_from(request) {
            Ok(None) => {}
            Ok(diverging) => {
                result.diverging = diverging;
                return (result, Ok(ReadPlan::Memory(Vec::new())));
            }
            Err(error) => return (result, Err(error.into())),
        }
        let range = ReadRange {
            from: request.from,
            upper: partition.readable_end(request.committed_only),
            bytes_max,
            at_least_one,
        };
        let plan = partition.log().read(range);
        (result, plan.map_err(PartitionError::from))
    }

    fn watch(&self, requests: &[ReadRequest], missing: MissingBytes, reply: Sender<()>) {
        let watch = Watch::new(missing, reply);
        for request in requests {
            let partition = self.checked(&request.id, request.current_leader_epoch);
            match partition.and_then(|partition| Ok((partition.parts_from(request)?, partition))) {
                Ok((None, partition)) => partition.watch(Watcher {
                    next: request.from,
                    bytes_max: request.bytes_max,
                    committed_only: request.committed_only,
                    watch: Rc::clone(&watch),
                }),
                Ok((Some(_), _)) | Err(_) => watch.fire(),
            }
        }
    }

    async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
    ) -> Vec<Result<super::message::FoundOffset, PartitionError>> {
        let mut found = Vec::with_capacity(queries.len());
        for query in queries {
            found.push(match self.checked(&query.id, query.current_leader_epoch) {
                Ok(partition) => offsets::find(&partition, query).await,
                Err(error) => Err(error),
            });
        }
        found
    }

    fn epoch_end(&self, query: &EpochQuery) -> Result<EpochEndOffset, PartitionError> {
        let partition = self.checked(&query.id, query.current_leader_epoch)?;
        let epochs = partition.epochs.borrow();
        let end = epochs.end_offset_for(query.leader_epoch, partition.log().end());
        Ok(end.map_or(
            EpochEndOffset {
                leader_epoch: LeaderEpoch::UNKNOWN,
                end_offset: Offset(-1),
            },
            |end| EpochEndOffset {
                leader_epoch: end.epoch,
                end_offset: end.end_offset,
            },
        ))
    }
}
