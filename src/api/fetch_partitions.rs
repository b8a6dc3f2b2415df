//! The partitions of a fetch session, in the order in which they are served. A session's shard
//! owns them; pure data.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;

use crate::base::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};

/// How a request names a topic. A session uses one of the two throughout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    /// By id: Fetch 13 and later. The id need not be known here (yet).
    Id(TopicId),
    /// By name.
    Name(Arc<str>),
}

/// How a request names a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionKey {
    /// The topic.
    pub topic: TopicKey,
    /// The partition of it.
    pub partition: PartitionIndex,
}

/// What a client wants of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRequest {
    /// Where to read from.
    pub fetch_offset: Offset,
    /// The most to read, in bytes, beyond the first batch.
    pub max_bytes: i32,
    /// The leader epoch that the client knows.
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// The epoch of the last record that the client has.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// A follower's own log start, or -1.
    pub fetcher_log_start_offset: Offset,
}

/// What of a partition's result decides whether a reply holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOutcome {
    /// The high watermark in the result.
    pub high_watermark: Offset,
    /// The log's start in the result.
    pub log_start_offset: Offset,
    /// Whether there are records.
    pub has_records: bool,
    /// Whether there is an error.
    pub has_error: bool,
    /// Whether the client must act on it anyway: it is sent to another replica, or has to truncate.
    pub must_tell: bool,
}

/// A partition as a session remembers it: what the client wants, and what it was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct CachedPartition {
    request: PartitionRequest,
    high_watermark: Offset,
    log_start_offset: Offset,
}

const NOT_TOLD: Offset = Offset(-1);

impl CachedPartition {
    fn new(request: PartitionRequest) -> Self {
        Self {
            request,
            high_watermark: NOT_TOLD,
            log_start_offset: NOT_TOLD,
        }
    }

    /// Notes what the client is told now. True where it must be told: there is something new.
    pub(super) fn answer(&mut self, outcome: &PartitionOutcome) -> bool {
        let has_news = outcome.has_records
            || outcome.has_error
            || outcome.must_tell
            || self.high_watermark != outcome.high_watermark
            || self.log_start_offset != outcome.log_start_offset;
        self.log_start_offset = outcome.log_start_offset;
        // When an error goes away, the client must hear of it.
        self.high_watermark = match outcome.has_error {
            true => NOT_TOLD,
            false => outcome.high_watermark,
        };
        has_news
    }
}

/// Partitions in an order of their own, each found by its key. Those that had data go to the end,
/// so that under a reply's size limit each has its turn.
#[derive(Debug, Default)]
pub(super) struct PartitionMap {
    places: AHashMap<PartitionKey, u64>,
    in_order: BTreeMap<u64, (PartitionKey, CachedPartition)>,
    next_place: u64,
}

impl PartitionMap {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What the client wants, in order.
    pub(super) fn requests(&self) -> impl Iterator<Item = (PartitionKey, PartitionRequest)> {
        let request =
            |(key, cached): &(PartitionKey, CachedPartition)| (key.clone(), cached.request);
        self.in_order.values().map(request)
    }

    /// Changes what the client wants of a partition, where it stands, or adds it at the end.
    pub(super) fn request(&mut self, key: PartitionKey, request: PartitionRequest) {
        match self.get_mut(&key) {
            Some(cached) => cached.request = request,
            None => self.push(key, CachedPartition::new(request)),
        }
    }

    pub(super) fn get_mut(&mut self, key: &PartitionKey) -> Option<&mut CachedPartition> {
        let place = self.places.get(key)?;
        self.in_order.get_mut(place).map(|(_, cached)| cached)
    }

    pub(super) fn remove(&mut self, key: &PartitionKey) -> Option<(PartitionKey, CachedPartition)> {
        let place = self.places.remove(key)?;
        self.in_order.remove(&place)
    }

    /// Notes a result, and moves a partition that had records to the end. True where the client
    /// must be told; what is not in the session, such as a forgotten partition, need not be.
    pub(super) fn answer(&mut self, key: &PartitionKey, outcome: &PartitionOutcome) -> bool {
        let Some(cached) = self.get_mut(key) else {
            return false;
        };
        let has_news = cached.answer(outcome);
        if outcome.has_records
            && let Some((key, cached)) = self.remove(key)
        {
            self.push(key, cached);
        }
        has_news
    }

    fn push(&mut self, key: PartitionKey, cached: CachedPartition) {
        self.places.insert(key.clone(), self.next_place);
        self.in_order.insert(self.next_place, (key, cached));
        self.next_place += 1;
    }
}
