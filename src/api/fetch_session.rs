//! Incremental fetch sessions (KIP-227): what a client fetches is remembered, so that its requests
//! name only what changed and its replies only what is new.
//!
//! Each shard has its own [`FetchSessions`], for the connections that it serves; the ids of the
//! shards do not overlap. A client whose connection comes back on another shard finds its session
//! unknown, and begins a new one. Nothing here knows the wire's types, the clock or a partition: a
//! handler asks [`FetchSessions::begin`] what to fetch, fetches it, and has
//! [`FetchSessions::complete`] leave out what the client knows already.
//!
//! The rules are those of Kafka's `FetchSession.scala`. Beyond it, the partitions that one shard
//! remembers have a bound: past it there is no session, and the client fetches in full.

use std::collections::BTreeSet;

use ahash::AHashMap;

use crate::api::fetch_partitions::PartitionMap;
pub use crate::api::fetch_partitions::{
    PartitionKey, PartitionOutcome, PartitionRequest, TopicKey,
};
use crate::base::clock::TimestampMs;
use crate::base::ids::ShardId;
use crate::base::limits::{FETCH_SESSION_EVICTION_MS, FETCH_SESSION_PARTITIONS_MAX};
use crate::base::random::split_mix64;

/// The id that stands for no session.
pub const NO_SESSION: i32 = 0;
/// The epoch that asks for a new session; one that is named is closed.
pub const INITIAL_EPOCH: i32 = 0;
/// The epoch that asks for no session; one that is named is closed.
pub const FINAL_EPOCH: i32 = -1;

/// What a fetch request says, apart from the limits on its reply.
#[derive(Clone, Debug, Default)]
pub struct SessionRequest {
    /// The session's id, or [`NO_SESSION`], as in requests of before version 7.
    pub session_id: i32,
    /// The session's epoch: one more with each request. [`FINAL_EPOCH`] before version 7.
    pub session_epoch: i32,
    /// Whether topics go by id: version 13 and later.
    pub uses_topic_ids: bool,
    /// Whether a follower fetches. Its sessions go before those of consumers.
    pub is_follower: bool,
    /// What to fetch; in a session, what to fetch from now on.
    pub partitions: Vec<(PartitionKey, PartitionRequest)>,
    /// What not to fetch any more.
    pub forgotten: Vec<PartitionKey>,
}

/// What to fetch, and what to hand back to [`FetchSessions::complete`]. It borrows nothing.
#[derive(Debug)]
pub struct FetchPlan {
    /// The partitions in the order in which the reply's bytes are to be shared out.
    pub partitions: Vec<(PartitionKey, PartitionRequest)>,
    kind: PlanKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlanKind {
    Sessionless,
    Full {
        uses_topic_ids: bool,
        is_follower: bool,
    },
    Incremental {
        session_id: i32,
        next_epoch: i32,
    },
}

/// Why a request cannot go on with its session. The client then begins a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Closed, evicted, or of another shard. FETCH_SESSION_ID_NOT_FOUND.
    #[error("there is no fetch session {session_id}")]
    NotFound {
        /// What the request said.
        session_id: i32,
    },
    /// A request was lost, or came twice. INVALID_FETCH_SESSION_EPOCH.
    #[error("fetch session {session_id} is at epoch {expected}, not {epoch}")]
    Epoch {
        /// The session.
        session_id: i32,
        /// What the request said.
        epoch: i32,
        /// What comes next.
        expected: i32,
    },
    /// The session goes by topic ids and the request by names, or the other way around.
    /// FETCH_SESSION_TOPIC_ID_ERROR.
    #[error("fetch session {session_id} names topics differently than the request")]
    TopicIds {
        /// The session.
        session_id: i32,
    },
}

#[derive(Debug)]
struct Session {
    is_follower: bool,
    uses_topic_ids: bool,
    partitions: PartitionMap,
    created_ms: TimestampMs,
    last_used_ms: TimestampMs,
    /// What the next request must say.
    epoch: i32,
    /// The number of partitions that the totals and the eviction order go by.
    counted_partitions: usize,
}

/// How much a session is worth keeping: followers before consumers, then the larger.
type Worth = (bool, usize, i32);

impl Session {
    fn worth(&self, id: i32) -> Worth {
        (self.is_follower, self.counted_partitions, id)
    }
}

/// The fetch sessions of one shard's connections.
#[derive(Debug)]
pub struct FetchSessions {
    slots_max: usize,
    first_id: i32,
    ids: i32,
    random: u64,
    sessions: AHashMap<i32, Session>,
    last_used: BTreeSet<(TimestampMs, i32)>,
    evictable_by_all: BTreeSet<Worth>,
    evictable_by_followers: BTreeSet<Worth>,
    partitions_count: usize,
    evictions_count: u64,
}

impl FetchSessions {
    /// No sessions, and room for this shard's part of `slots_max`, the whole broker's
    /// `max.incremental.fetch.session.cache.slots`. `seed` makes the ids random.
    ///
    /// # Panics
    /// If `shard` is not below `shards_count`.
    pub fn new(slots_max: usize, shard: ShardId, shards_count: u16, seed: u64) -> Self {
        assert!(shard.0 < shards_count, "a shard is one of all shards");
        let ids = i32::MAX / i32::from(shards_count);
        // Id 0 means no session.
        let first_id = (i32::from(shard.0) * ids).max(1);
        Self {
            slots_max: slots_of(slots_max, shard, shards_count),
            first_id,
            ids: ids - 1,
            random: seed,
            sessions: AHashMap::new(),
            last_used: BTreeSet::new(),
            evictable_by_all: BTreeSet::new(),
            evictable_by_followers: BTreeSet::new(),
            partitions_count: 0,
            evictions_count: 0,
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many partitions the sessions remember.
    pub fn partitions_count(&self) -> usize {
        self.partitions_count
    }

    /// How many sessions have been evicted for others since the start.
    pub fn evictions_count(&self) -> u64 {
        self.evictions_count
    }

    /// Takes a request into its session and says what to fetch. On an error the reply is empty
    /// and names [`NO_SESSION`].
    pub fn begin(
        &mut self,
        request: SessionRequest,
        now_ms: TimestampMs,
    ) -> Result<FetchPlan, SessionError> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            // A request in full closes the session that it names.
            self.remove(id);
            let kind = match epoch {
                FINAL_EPOCH => PlanKind::Sessionless,
                _ => PlanKind::Full {
                    uses_topic_ids: request.uses_topic_ids,
                    is_follower: request.is_follower,
                },
            };
            return Ok(plan_in_full(request.partitions, kind));
        }
        let not_found = SessionError::NotFound { session_id: id };
        let session = self.sessions.get_mut(&id).ok_or(not_found)?;
        if session.epoch != epoch {
            return Err(SessionError::Epoch {
                session_id: id,
                epoch,
                expected: session.epoch,
            });
        }
        if session.uses_topic_ids != request.uses_topic_ids {
            return Err(SessionError::TopicIds { session_id: id });
        }
        for (key, partition) in &request.partitions {
            session.partitions.request(key.clone(), *partition);
        }
        for key in &request.forgotten {
            session.partitions.remove(key);
        }
        if session.partitions.is_empty() {
            self.remove(id);
            return Ok(plan_in_full(request.partitions, PlanKind::Sessionless));
        }
        session.epoch = next_epoch(epoch);
        let kind = PlanKind::Incremental {
            session_id: id,
            next_epoch: session.epoch,
        };
        let partitions = session.partitions.requests().collect();
        self.touch(id, now_ms);
        if self.partitions_count > FETCH_SESSION_PARTITIONS_MAX {
            self.remove(id);
            return Err(not_found);
        }
        Ok(FetchPlan { partitions, kind })
    }

    /// Takes the results of a plan, in the order of its partitions or any other, leaves those that
    /// the reply is to hold, and returns the reply's session id. `outcome` says of a result what
    /// the session goes by.
    ///
    /// On an error the reply is empty and names the session of the error.
    pub fn complete<T>(
        &mut self,
        plan: &FetchPlan,
        results: &mut Vec<(PartitionKey, T)>,
        outcome: impl Fn(&T) -> PartitionOutcome,
        now_ms: TimestampMs,
    ) -> Result<i32, SessionError> {
        match plan.kind {
            PlanKind::Sessionless => Ok(NO_SESSION),
            PlanKind::Full {
                uses_topic_ids,
                is_follower,
            } => {
                let mut partitions = PartitionMap::default();
                for (key, request) in &plan.partitions {
                    partitions.request(key.clone(), *request);
                }
                for (key, result) in results.iter() {
                    if let Some(cached) = partitions.get_mut(key) {
                        cached.answer(&outcome(result));
                    }
                }
                Ok(self.create(partitions, uses_topic_ids, is_follower, now_ms))
            }
            PlanKind::Incremental { session_id, .. } => {
                self.current(plan)?;
                // Evicted while it waited for data: it is told everything, and that its session
                // is gone with its next request.
                if let Some(session) = self.sessions.get_mut(&session_id) {
                    results
                        .retain(|(key, result)| session.partitions.answer(key, &outcome(result)));
                }
                Ok(session_id)
            }
        }
    }

    /// The plan's session, as long as no other request has gone ahead in it.
    fn current(&self, plan: &FetchPlan) -> Result<i32, SessionError> {
        let PlanKind::Incremental {
            session_id,
            next_epoch,
        } = plan.kind
        else {
            return Ok(NO_SESSION);
        };
        match self.sessions.get(&session_id) {
            Some(session) if session.epoch != next_epoch => Err(SessionError::Epoch {
                session_id,
                epoch: next_epoch,
                expected: session.epoch,
            }),
            _ => Ok(session_id),
        }
    }

    /// Makes a session where there is room, or something less worth keeping.
    fn create(
        &mut self,
        partitions: PartitionMap,
        uses_topic_ids: bool,
        is_follower: bool,
        now_ms: TimestampMs,
    ) -> i32 {
        let count = partitions.len();
        let has_slot = self.sessions.len() < self.slots_max
            && self.partitions_count + count <= FETCH_SESSION_PARTITIONS_MAX;
        if !has_slot && !self.try_evict(is_follower, count, now_ms) {
            return NO_SESSION;
        }
        let id = self.unused_id();
        let session = Session {
            is_follower,
            uses_topic_ids,
            partitions,
            created_ms: now_ms,
            last_used_ms: now_ms,
            epoch: next_epoch(INITIAL_EPOCH),
            counted_partitions: 0,
        };
        self.sessions.insert(id, session);
        self.touch(id, now_ms);
        id
    }

    /// Evicts the session that was idle for too long, or else the one least worth keeping, if that
    /// is worth less than a new one with `partitions_count` partitions, and leaves room for them. A
    /// session is safe from others of its kind for [`FETCH_SESSION_EVICTION_MS`] from its creation.
    fn try_evict(&mut self, is_follower: bool, partitions_count: usize, now_ms: i64) -> bool {
        let Some((last_used_ms, idlest)) = self.last_used.first().copied() else {
            return false;
        };
        let victim = if now_ms - last_used_ms > FETCH_SESSION_EVICTION_MS {
            idlest
        } else {
            let evictable = match is_follower {
                true => &self.evictable_by_followers,
                false => &self.evictable_by_all,
            };
            match evictable.first() {
                Some(least) if (is_follower, partitions_count, NO_SESSION) > *least => least.2,
                _ => return false,
            }
        };
        let given_up = self.sessions.get(&victim).map(|it| it.counted_partitions);
        let kept = self.partitions_count - given_up.unwrap_or(0);
        if kept + partitions_count > FETCH_SESSION_PARTITIONS_MAX {
            return false;
        }
        self.remove(victim);
        self.evictions_count += 1;
        true
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            let worth = session.worth(id);
            self.last_used.remove(&(session.last_used_ms, id));
            self.evictable_by_all.remove(&worth);
            self.evictable_by_followers.remove(&worth);
            self.partitions_count -= session.counted_partitions;
        }
    }

    /// Notes that a session is in use, and how many partitions it has now.
    fn touch(&mut self, id: i32, now_ms: TimestampMs) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let worth = session.worth(id);
        self.last_used.remove(&(session.last_used_ms, id));
        self.evictable_by_all.remove(&worth);
        self.evictable_by_followers.remove(&worth);
        self.partitions_count -= session.counted_partitions;

        session.last_used_ms = now_ms;
        session.counted_partitions = session.partitions.len();
        let worth = session.worth(id);
        self.last_used.insert((now_ms, id));
        self.partitions_count += session.counted_partitions;
        let is_settled = now_ms - session.created_ms > FETCH_SESSION_EVICTION_MS;
        if is_settled {
            self.evictable_by_all.insert(worth);
        }
        if is_settled || !session.is_follower {
            self.evictable_by_followers.insert(worth);
        }
    }

    fn unused_id(&mut self) -> i32 {
        loop {
            // Ids need to differ between restarts, not to be secret.
            let random = split_mix64(&mut self.random);
            let id = self.first_id + (random % self.ids as u64) as i32;
            if !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

/// A shard's part of the broker's slots: one at least, unless sessions are switched off.
fn slots_of(slots_max: usize, shard: ShardId, shards_count: u16) -> usize {
    let (shard, shards_count) = (usize::from(shard.0), usize::from(shards_count));
    let part = slots_max / shards_count + usize::from(shard < slots_max % shards_count);
    part.max(slots_max.min(1))
}

/// A plan for the partitions of the request itself, each once, the last mention of it counting.
fn plan_in_full(requested: Vec<(PartitionKey, PartitionRequest)>, kind: PlanKind) -> FetchPlan {
    let mut partitions = PartitionMap::default();
    for (key, request) in requested {
        partitions.request(key, request);
    }
    FetchPlan {
        partitions: partitions.requests().collect(),
        kind,
    }
}

/// The epoch after `epoch`: after the last one comes 1, since 0 begins a session.
fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        i32::MAX => 1,
        epoch => epoch + 1,
    }
}

#[cfg(test)]
mod tests;
