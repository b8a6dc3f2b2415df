//! Fetch: what a session asks for is read from the partitions' owners, and waited for if it is not
//! enough yet.
//!
//! Each owner shares out the bytes among its partitions in the order of the request; where several
//! shards own partitions, what they give together is cut down to the request's limit in that order,
//! and what is cut off is read again by the next request, whose session has moved it forward.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use bytestring::ByteString;
use glommio::timer::Timer;

use super::broker::Broker;
use super::errors::partition_error;
use super::fetch_partitions::{PartitionKey, PartitionOutcome, PartitionRequest, TopicKey};
use super::fetch_session::{FetchPlan, SessionError, SessionRequest};
use crate::base::ids::{LeaderEpoch, Offset, PartitionIndex, ShardId, TopicIdPartition};
use crate::base::payload::Chunk;
use crate::partition::message::{PartitionMessage, ReadRequest, ReadResult};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::fetch_request::FetchRequest;
use crate::protocol::messages::fetch_response::{
    FetchResponse, FetchableTopicResponse, PartitionData,
};
use crate::protocol::records::Records;
use crate::shard::reply::{self, Receiver};

/// The first version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
/// The first version with sessions (KIP-227).
const SESSIONS_SINCE: i16 = 7;
const READ_COMMITTED: i8 = 1;

/// What one partition comes to.
struct Row {
    code: ErrorCode,
    high_watermark: Offset,
    last_stable: Offset,
    log_start: Offset,
    chunks: Vec<Chunk>,
}

/// Limits of one request, within those of the broker.
struct Limits {
    bytes_max: usize,
    bytes_min: usize,
    committed_only: bool,
}

/// Answers a fetch of a consumer.
pub async fn handle(broker: &Rc<Broker>, version: i16, request: FetchRequest) -> FetchResponse {
    let limits = limits(broker, &request);
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let plan = broker
        .sessions
        .borrow_mut()
        .begin(session_request(version, request), broker.now());
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return failed(error),
    };
    let mut rows = loop {
        let (targets, unknown) = resolve(broker, &plan);
        let rows = read(broker, &plan, &targets, &limits).await;
        let bytes: usize = rows
            .iter()
            .flat_map(|(_, row)| &row.chunks)
            .map(Chunk::len)
            .sum();
        let erred = unknown || rows.iter().any(|(_, row)| row.code != ErrorCode::None);
        let left = deadline.saturating_duration_since(Instant::now());
        if bytes >= limits.bytes_min || erred || plan.partitions.is_empty() || left.is_zero() {
            break rows;
        }
        // The bytes go back to their owners while this fetch waits for more.
        drop(rows);
        wait(broker, &plan, &targets, left).await;
    };
    let session = broker
        .sessions
        .borrow_mut()
        .complete(&plan, &mut rows, outcome, broker.now());
    match session {
        Ok(session_id) => FetchResponse {
            session_id,
            responses: by_topic(rows, limits.committed_only),
            ..FetchResponse::default()
        },
        Err(error) => failed(error),
    }
}

fn limits(broker: &Broker, request: &FetchRequest) -> Limits {
    let ceiling = broker.config.fetch_max_bytes as usize;
    let bytes_max = (request.max_bytes.max(0) as usize).min(ceiling);
    Limits {
        bytes_max,
        bytes_min: (request.min_bytes.max(0) as usize).min(bytes_max),
        committed_only: request.isolation_level == READ_COMMITTED,
    }
}

fn session_request(version: i16, request: FetchRequest) -> SessionRequest {
    let uses_topic_ids = version >= TOPIC_IDS_SINCE;
    let topic_key = |name: &ByteString, id| {
        if uses_topic_ids {
            TopicKey::Id(id)
        } else {
            TopicKey::Name(Arc::from(&**name))
        }
    };
    let known = |epoch: i32| (epoch >= 0).then_some(LeaderEpoch(epoch));
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let topic_key = topic_key(&topic.topic, topic.topic_id);
        partitions.extend(topic.partitions.iter().map(|partition| {
            let key = PartitionKey {
                topic: topic_key.clone(),
                partition: PartitionIndex(partition.partition),
            };
            let wanted = PartitionRequest {
                fetch_offset: Offset(partition.fetch_offset),
                max_bytes: partition.partition_max_bytes,
                current_leader_epoch: known(partition.current_leader_epoch),
                last_fetched_epoch: known(partition.last_fetched_epoch),
                fetcher_log_start_offset: Offset(partition.log_start_offset),
            };
            (key, wanted)
        }));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let topic_key = topic_key(&topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.iter().map(|partition| PartitionKey {
            topic: topic_key.clone(),
            partition: PartitionIndex(*partition),
        }));
    }
    let has_session = version >= SESSIONS_SINCE;
    SessionRequest {
        session_id: if has_session { request.session_id } else { 0 },
        session_epoch: if has_session {
            request.session_epoch
        } else {
            -1
        },
        uses_topic_ids,
        is_follower: false,
        partitions,
        forgotten,
    }
}

/// A reply without partitions: the client begins a new session.
fn failed(error: SessionError) -> FetchResponse {
    let code = match error {
        SessionError::NotFound { .. } => ErrorCode::FetchSessionIdNotFound,
        SessionError::Epoch { .. } => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::TopicIds { .. } => ErrorCode::FetchSessionTopicIdError,
    };
    FetchResponse {
        error_code: code.into(),
        ..FetchResponse::default()
    }
}

type Targets = Vec<Result<TopicIdPartition, ErrorCode>>;

/// What the plan's partitions are, in its order, and whether one of them is unknown.
fn resolve(broker: &Broker, plan: &FetchPlan) -> (Targets, bool) {
    let image = broker.image();
    let resolve = |key: &PartitionKey| {
        let (topic, unknown) = match &key.topic {
            TopicKey::Id(id) => (image.topic(*id), ErrorCode::UnknownTopicId),
            TopicKey::Name(name) => (image.topic_named(name), ErrorCode::UnknownTopicOrPartition),
        };
        let topic = topic.ok_or(unknown)?;
        match topic.partition(key.partition) {
            Some(_) => Ok(topic.topic_id_partition(key.partition)),
            None => Err(ErrorCode::UnknownTopicOrPartition),
        }
    };
    let targets: Targets = plan
        .partitions
        .iter()
        .map(|(key, _)| resolve(key))
        .collect();
    let unknown = targets.iter().any(Result::is_err);
    (targets, unknown)
}

/// Reads all partitions of the plan, each at its owner.
async fn read(
    broker: &Rc<Broker>,
    plan: &FetchPlan,
    targets: &Targets,
    limits: &Limits,
) -> Vec<(PartitionKey, Row)> {
    let mut by_owner: BTreeMap<ShardId, (Vec<usize>, Vec<ReadRequest>)> = BTreeMap::new();
    let mut rows: Vec<Row> = Vec::with_capacity(targets.len());
    for (index, (target, (_, wanted))) in targets.iter().zip(&plan.partitions).enumerate() {
        rows.push(Row::empty(target.err().unwrap_or(ErrorCode::None)));
        let Ok(id) = target else { continue };
        let (indexes, requests) = by_owner.entry(broker.router.owner(id)).or_default();
        indexes.push(index);
        requests.push(ReadRequest {
            id: *id,
            from: wanted.fetch_offset,
            bytes_max: wanted.max_bytes.max(0) as usize,
            current_leader_epoch: wanted.current_leader_epoch.unwrap_or(LeaderEpoch::UNKNOWN),
            committed_only: limits.committed_only,
        });
    }
    let mut waiting = Vec::with_capacity(by_owner.len());
    for (owner, (indexes, requests)) in by_owner {
        let (sender, answer) = reply::channel();
        let message = PartitionMessage::Read(requests, limits.bytes_max, sender);
        broker.router.send(owner, message).await;
        waiting.push((indexes, answer));
    }
    for (indexes, answer) in waiting {
        match answer.await {
            Ok(results) => {
                for (index, result) in indexes.into_iter().zip(results) {
                    rows[index] = Row::from(result);
                }
            }
            Err(_gone) => {
                for index in indexes {
                    rows[index] = Row::empty(ErrorCode::NotLeaderOrFollower);
                }
            }
        }
    }
    cut_to(&mut rows, limits.bytes_max);
    plan.partitions
        .iter()
        .map(|(key, _)| key.clone())
        .zip(rows)
        .collect()
}

/// Takes away what goes beyond the request's limit, but for the first partition that has records.
fn cut_to(rows: &mut [Row], bytes_max: usize) {
    let mut left = bytes_max;
    let mut is_first = true;
    for row in rows {
        let bytes = row.bytes();
        if bytes > left && !is_first {
            row.chunks.clear();
            continue;
        }
        left = left.saturating_sub(bytes);
        is_first &= bytes == 0;
    }
}

/// Waits until one of the partitions has something new, or the time is up.
async fn wait(broker: &Rc<Broker>, plan: &FetchPlan, targets: &Targets, left: Duration) {
    let mut by_owner: AHashMap<ShardId, Vec<(TopicIdPartition, Offset)>> = AHashMap::new();
    for (target, (_, wanted)) in targets.iter().zip(&plan.partitions) {
        if let Ok(id) = target {
            let watched = by_owner.entry(broker.router.owner(id)).or_default();
            watched.push((*id, wanted.fetch_offset));
        }
    }
    let mut watches = Vec::with_capacity(by_owner.len());
    for (owner, watched) in by_owner {
        let (sender, told) = reply::channel();
        broker
            .router
            .send(owner, PartitionMessage::Watch(watched, sender))
            .await;
        watches.push(told);
    }
    let mut timer = pin!(Timer::new(left));
    poll_fn(|context| {
        let told = watches
            .iter_mut()
            .any(|watch: &mut Receiver<()>| std::pin::Pin::new(watch).poll(context).is_ready());
        if told {
            Poll::Ready(())
        } else {
            timer.as_mut().poll(context).map(|_| ())
        }
    })
    .await;
}

fn outcome(row: &Row) -> PartitionOutcome {
    PartitionOutcome {
        high_watermark: row.high_watermark,
        log_start_offset: row.log_start,
        has_records: !row.chunks.is_empty(),
        has_error: row.code != ErrorCode::None,
        must_tell: false,
    }
}

/// The reply's topics. Partitions of one topic stand together where they follow each other.
fn by_topic(rows: Vec<(PartitionKey, Row)>, committed_only: bool) -> Vec<FetchableTopicResponse> {
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut last: Option<TopicKey> = None;
    for (key, row) in rows {
        if last.as_ref() != Some(&key.topic) {
            let mut topic = FetchableTopicResponse::default();
            match &key.topic {
                TopicKey::Id(id) => topic.topic_id = *id,
                TopicKey::Name(name) => topic.topic = ByteString::from(&**name),
            }
            topics.push(topic);
            last = Some(key.topic);
        }
        let topic = topics.last_mut().expect("one was just pushed");
        topic
            .partitions
            .push(row.into_data(key.partition, committed_only));
    }
    topics
}

impl Row {
    fn empty(code: ErrorCode) -> Self {
        let unknown = Offset(-1);
        Self {
            code,
            high_watermark: unknown,
            last_stable: unknown,
            log_start: unknown,
            chunks: Vec::new(),
        }
    }

    fn bytes(&self) -> usize {
        self.chunks.iter().map(Chunk::len).sum()
    }

    fn into_data(self, partition: PartitionIndex, committed_only: bool) -> PartitionData {
        let mut records = Records::new();
        self.chunks
            .into_iter()
            .for_each(|chunk| records.push(chunk));
        PartitionData {
            partition_index: partition.0,
            error_code: self.code.into(),
            high_watermark: self.high_watermark.0,
            last_stable_offset: self.last_stable.0,
            log_start_offset: self.log_start.0,
            // Null to those who read uncommitted; without transactions none was aborted.
            aborted_transactions: committed_only.then(Vec::new),
            records: Some(records),
            ..PartitionData::default()
        }
    }
}

impl From<ReadResult> for Row {
    fn from(result: ReadResult) -> Self {
        Self {
            code: result
                .error
                .as_ref()
                .map_or(ErrorCode::None, partition_error),
            high_watermark: result.high_watermark,
            last_stable: result.last_stable,
            log_start: result.log_start,
            chunks: result.chunks,
        }
    }
}
