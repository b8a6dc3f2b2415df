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

use bytes::Bytes;
use bytestring::ByteString;

use super::broker::Broker;
use super::errors::partition_error;
use super::fetch_partitions::{PartitionKey, PartitionOutcome, PartitionRequest, TopicKey};
use super::fetch_session::{FetchPlan, NO_SESSION, SessionError, SessionRequest};
use crate::base::ids::{LeaderEpoch, Offset, PartitionIndex, ShardId, TopicIdPartition};
use crate::base::limits::FETCH_WAIT_BYTES_UNCOUNTED;
use crate::partition::message::{self, PartitionMessage, ReadRequest, ReadResult};
use crate::partition::watch::{MissingBytes, Watcher};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::fetch_request::FetchRequest;
use crate::protocol::messages::fetch_response::{
    EpochEndOffset, FetchResponse, FetchableTopicResponse, PartitionData,
};
use crate::protocol::records::Records;
use crate::runtime::Timer;
use crate::shard::budget::Permit;
use crate::shard::reply::{self, Receiver};

/// The first version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
/// The first version with sessions (KIP-227).
const SESSIONS_SINCE: i16 = 7;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;
/// What a topic's name takes beside its bytes: two counts and the allocator's share.
const NAME_OVERHEAD_BYTES: usize = 32;

/// What one partition comes to.
struct Row {
    code: ErrorCode,
    high_watermark: Offset,
    last_stable: Offset,
    log_start: Offset,
    diverging: Option<message::EpochEndOffset>,
    chunks: Vec<Bytes>,
    /// Whether the partition was asked: it is known.
    is_read: bool,
}

/// Limits of one request, within those of the broker.
struct Limits {
    bytes_max: usize,
    bytes_min: usize,
    committed_only: bool,
}

/// The reads of one request at one shard.
struct Part {
    owner: ShardId,
    /// Where their rows stand among all rows.
    indexes: Vec<usize>,
    requests: Vec<ReadRequest>,
}

/// Answers a fetch of a consumer.
pub async fn handle(broker: &Rc<Broker>, version: i16, request: FetchRequest) -> FetchResponse {
    if !(READ_UNCOMMITTED..=READ_COMMITTED).contains(&request.isolation_level) {
        return refused(version, &request, ErrorCode::UnknownServerError);
    }
    let limits = limits(broker, &request);
    let deadline = Instant::now() + longest_wait(broker, &request);
    let session_id = request.session_id;
    let plan = broker
        .sessions
        .borrow_mut()
        .begin(session_request(version, request), broker.now());
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return failed(error, NO_SESSION),
    };
    let targets = resolve(broker, &plan);
    let parts = share_out(broker, &plan, &targets, &limits);
    let mut rows = read(broker, &targets, &parts, &limits).await;
    let left = deadline.saturating_duration_since(Instant::now());
    if !is_final(&rows, &targets, &limits)
        && !left.is_zero()
        && let Ok(_counted) = count_wait(broker, &plan, &targets, &parts)
    {
        // The bytes go back to their owners while this fetch waits for more.
        drop(rows);
        wait(broker, &parts, &limits, left).await;
        // Whatever there is by now: waiting on could not make more of it.
        rows = read(broker, &targets, &parts, &limits).await;
    }
    let keys = plan.partitions.iter().map(|(key, _)| key.clone());
    let mut rows: Vec<_> = keys.zip(rows).collect();
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
        Err(error) => failed(error, session_id),
    }
}

/// Whether the request is answered without waiting: there is enough, or an error, or nothing to
/// wait for. Partitions that nobody knows neither end the wait of the others nor wait themselves.
fn is_final(rows: &[Row], targets: &Targets, limits: &Limits) -> bool {
    let mut known = rows
        .iter()
        .zip(targets)
        .filter(|(_, target)| target.is_ok());
    let bytes: usize = rows.iter().map(Row::bytes).sum();
    bytes >= limits.bytes_min
        || targets.iter().all(Result::is_err)
        || known.any(|(row, _)| row.code != ErrorCode::None || row.diverging.is_some())
}

/// There is no memory for one more fetch that waits. It is answered at once, which clients take
/// for a wait that news has ended.
struct NoRoom;

/// Counts what a fetch holds while it waits: its frame is gone by then, and with it the memory that
/// was counted for the request. Nothing for what is so little that it belongs to the connection.
fn count_wait(
    broker: &Broker,
    plan: &FetchPlan,
    targets: &Targets,
    parts: &[Part],
) -> Result<Option<Permit>, NoRoom> {
    let bytes = bytes_of_wait(plan, targets, parts) as u64;
    if bytes < FETCH_WAIT_BYTES_UNCOUNTED {
        return Ok(None);
    }
    broker.waits.try_acquire(bytes).map(Some).ok_or(NoRoom)
}

fn bytes_of_wait(plan: &FetchPlan, targets: &Targets, parts: &[Part]) -> usize {
    let planned = plan.partitions.capacity() * size_of::<(PartitionKey, PartitionRequest)>();
    let resolved = targets.capacity() * size_of::<Result<TopicIdPartition, ErrorCode>>();
    let of_part = |part: &Part| {
        part.indexes.capacity() * size_of::<usize>()
            // Each is at its owner, too, and a vector of watchers may be half empty.
            + part.requests.capacity() * (2 * size_of::<ReadRequest>() + 2 * size_of::<Watcher>())
    };
    // Partitions of one topic mostly stand together, and share its name.
    let mut last = None;
    let mut of_name = |key: &PartitionKey| match &key.topic {
        TopicKey::Name(name) if last.replace(name.as_ptr()) != Some(name.as_ptr()) => {
            NAME_OVERHEAD_BYTES + name.len()
        }
        _ => 0,
    };
    let keys = plan.partitions.iter().map(|(key, _)| key);
    let names: usize = keys.map(&mut of_name).sum();
    planned + resolved + parts.iter().map(of_part).sum::<usize>() + names
}

/// How long the request may wait: as long as it says, but no longer than a connection may be idle.
/// A client that is gone says nothing; the answer tells.
fn longest_wait(broker: &Broker, request: &FetchRequest) -> Duration {
    let wanted = Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let idle_max = broker.config.connections_max_idle_ms;
    idle_max.map_or(wanted, |idle_max| {
        wanted.min(Duration::from_millis(idle_max))
    })
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

/// A reply without partitions. As in Kafka it names the session of a request that another one has
/// overtaken, and none where the request has not come as far as a session.
fn failed(error: SessionError, session_id: i32) -> FetchResponse {
    let code = match error {
        SessionError::NotFound { .. } => ErrorCode::FetchSessionIdNotFound,
        SessionError::Epoch { .. } => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::TopicIds { .. } => ErrorCode::FetchSessionTopicIdError,
    };
    FetchResponse {
        error_code: code.into(),
        session_id,
        ..FetchResponse::default()
    }
}

/// Refuses a request as a whole. Before topics had ids each of its partitions says so too.
fn refused(version: i16, request: &FetchRequest, code: ErrorCode) -> FetchResponse {
    let topics = match version < TOPIC_IDS_SINCE {
        true => &request.topics[..],
        false => &[],
    };
    let responses = topics.iter().map(|topic| FetchableTopicResponse {
        topic: topic.topic.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|wanted| Row::empty(code).into_data(PartitionIndex(wanted.partition), false))
            .collect(),
        ..FetchableTopicResponse::default()
    });
    FetchResponse {
        error_code: code.into(),
        session_id: request.session_id,
        responses: responses.collect(),
        ..FetchResponse::default()
    }
}

/// What the plan's partitions are, in its order; errors are those that nobody knows.
type Targets = Vec<Result<TopicIdPartition, ErrorCode>>;

fn resolve(broker: &Broker, plan: &FetchPlan) -> Targets {
    let image = broker.image();
    // Partitions of one topic mostly stand together: it is looked up once.
    let mut last = None;
    let resolve = |key: &PartitionKey| {
        let topic = match &last {
            Some((topic_key, topic)) if *topic_key == key.topic => *topic,
            _ => {
                let topic = match &key.topic {
                    TopicKey::Id(id) => image.topic(*id).ok_or(ErrorCode::UnknownTopicId),
                    TopicKey::Name(name) => image
                        .topic_named(name)
                        .ok_or(ErrorCode::UnknownTopicOrPartition),
                };
                last.insert((key.topic.clone(), topic)).1
            }
        }?;
        match topic.partition(key.partition) {
            Some(_) => Ok(topic.topic_id_partition(key.partition)),
            None => Err(ErrorCode::UnknownTopicOrPartition),
        }
    };
    let keys = plan.partitions.iter().map(|(key, _)| key);
    keys.map(resolve).collect()
}

/// Says which shard reads what.
fn share_out(broker: &Broker, plan: &FetchPlan, targets: &Targets, limits: &Limits) -> Vec<Part> {
    let mut parts: BTreeMap<ShardId, Part> = BTreeMap::new();
    for (index, (target, (_, wanted))) in targets.iter().zip(&plan.partitions).enumerate() {
        let Ok(id) = target else { continue };
        let owner = broker.router.owner(id);
        let part = parts.entry(owner).or_insert_with(|| Part {
            owner,
            indexes: Vec::new(),
            requests: Vec::new(),
        });
        part.indexes.push(index);
        part.requests.push(ReadRequest {
            id: *id,
            from: wanted.fetch_offset,
            bytes_max: wanted.max_bytes.max(0) as usize,
            current_leader_epoch: wanted.current_leader_epoch.unwrap_or(LeaderEpoch::UNKNOWN),
            last_fetched_epoch: wanted.last_fetched_epoch,
            committed_only: limits.committed_only,
        });
    }
    parts.into_values().collect()
}

/// Reads all partitions, each at its owner; a row for each, in their order.
async fn read(broker: &Rc<Broker>, targets: &Targets, parts: &[Part], limits: &Limits) -> Vec<Row> {
    let unknown = |target: &Result<_, ErrorCode>| target.as_ref().err().copied();
    let mut rows: Vec<Row> = targets
        .iter()
        .map(|target| Row::empty(unknown(target).unwrap_or(ErrorCode::None)))
        .collect();
    let mut waiting = Vec::with_capacity(parts.len());
    for part in parts {
        let (sender, answer) = reply::channel();
        let message = PartitionMessage::Read(part.requests.clone(), limits.bytes_max, sender);
        broker.router.send(part.owner, message).await;
        waiting.push((&part.indexes, answer));
    }
    for (indexes, answer) in waiting {
        match answer.await {
            Ok(results) => {
                for (index, result) in indexes.iter().zip(results) {
                    rows[*index] = Row::from(result);
                }
            }
            Err(_gone) => {
                for index in indexes {
                    rows[*index] = Row::empty(ErrorCode::NotLeaderOrFollower);
                }
            }
        }
    }
    cut_to(&mut rows, limits.bytes_max);
    rows
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

/// Waits until the partitions have enough together, one of them has something to say that more
/// records would not change, or the time is up. The shards count down one number, so that each of
/// them is asked once, however many bytes are wanted.
async fn wait(broker: &Rc<Broker>, parts: &[Part], limits: &Limits, left: Duration) {
    let missing = MissingBytes::new(limits.bytes_min);
    let mut watches = Vec::with_capacity(parts.len());
    for part in parts {
        let (sender, told) = reply::channel();
        let message = PartitionMessage::Watch(part.requests.clone(), missing.clone(), sender);
        broker.router.send(part.owner, message).await;
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
        must_tell: row.diverging.is_some(),
    }
}

/// The reply's topics. Partitions of one topic stand together where they follow each other.
fn by_topic(rows: Vec<(PartitionKey, Row)>, committed_only: bool) -> Vec<FetchableTopicResponse> {
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut last: Option<TopicKey> = None;
    for (key, row) in rows {
        if row.code != ErrorCode::None {
            let (topic, code) = (&key.topic, row.code);
            tracing::debug!(?topic, partition = %key.partition, %code, "fetch refused");
        }
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
            diverging: None,
            chunks: Vec::new(),
            is_read: false,
        }
    }

    fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    fn into_data(self, partition: PartitionIndex, committed_only: bool) -> PartitionData {
        let mut records = Records::new();
        self.chunks
            .into_iter()
            .for_each(|chunk| records.push(chunk));
        let diverging_epoch = self.diverging.map(|diverging| EpochEndOffset {
            epoch: diverging.leader_epoch.0,
            end_offset: diverging.end_offset.0,
        });
        PartitionData {
            partition_index: partition.0,
            error_code: self.code.into(),
            high_watermark: self.high_watermark.0,
            last_stable_offset: self.last_stable.0,
            log_start_offset: self.log_start.0,
            diverging_epoch: diverging_epoch.unwrap_or_default(),
            // Null to those who read uncommitted, and where the partition says why it gives
            // nothing; without transactions none was aborted.
            aborted_transactions: match self.is_read {
                true => (committed_only && self.code == ErrorCode::None).then(Vec::new),
                false => Some(Vec::new()),
            },
            records: Some(records),
            ..PartitionData::default()
        }
    }
}

impl From<ReadResult> for Row {
    fn from(result: ReadResult) -> Self {
        // With an error the offsets are not told either.
        if let Some(error) = &result.error {
            return Self {
                is_read: true,
                ..Self::empty(partition_error(error))
            };
        }
        Self {
            code: ErrorCode::None,
            high_watermark: result.high_watermark,
            last_stable: result.last_stable,
            log_start: result.log_start,
            diverging: result.diverging,
            chunks: result.chunks,
            is_read: true,
        }
    }
}
