//! Which committed offsets nobody will want any more (KIP-211). Pure; the shard that owns the
//! offsets; it removes nothing, it makes tombstones.

use bytestring::ByteString;

use super::{CommittedOffset, GroupRecord, Offsets, Subscribed, tombstone};
use crate::base::clock::TimestampMs;

/// What is to know of a group to tell which of its offsets have expired.
#[derive(Clone, Copy, Debug)]
pub struct Expiry<'a> {
    /// The group's type; empty for one that only has offsets.
    pub protocol_type: &'a str,
    /// Whether it has members.
    pub phase: Phase,
    /// The topics that it subscribes to.
    pub subscribed: &'a Subscribed,
    /// The time, in milliseconds since the epoch.
    pub now_ms: TimestampMs,
    /// `offsets.retention.minutes`, in milliseconds.
    pub retention_ms: i64,
}

/// What a group does, as far as its offsets care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has no members.
    Empty {
        /// Since when, in milliseconds since the epoch; not known of groups of old releases.
        since: Option<TimestampMs>,
    },
    /// Its members have their assignments.
    Stable,
    /// Its members wait for the next generation.
    Rebalancing,
}

/// From when the retention counts.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// From each offset's commit.
    Commit,
    /// For all offsets from one moment.
    At(TimestampMs),
}

impl Offsets {
    /// Adds the tombstones of the offsets of `group` that have expired. Returns whether none would
    /// be left: then the group goes as well, if it is empty.
    pub fn prepare_expiry(
        &self,
        group: &ByteString,
        expiry: &Expiry<'_>,
        records: &mut Vec<GroupRecord>,
    ) -> bool {
        let Some(topics) = self.groups.get(group) else {
            return true;
        };
        let Some(start) = expiry.start() else {
            return false;
        };
        let mut is_all = true;
        for (topic, partitions) in topics {
            if expiry.subscribed.contains(expiry.protocol_type, topic) {
                is_all = false;
                continue;
            }
            for (partition, committed) in partitions {
                if expiry.is_due(committed, start) {
                    records.push(tombstone(group, topic, *partition));
                } else {
                    is_all = false;
                }
            }
        }
        is_all
    }
}

impl Expiry<'_> {
    /// None while the group's offsets must stay.
    fn start(&self) -> Option<Start> {
        if self.protocol_type.is_empty() {
            return Some(Start::Commit);
        }
        match self.phase {
            Phase::Empty { since } => Some(since.map_or(Start::Commit, Start::At)),
            Phase::Stable if matches!(self.subscribed, Subscribed::Topics(_)) => {
                Some(Start::Commit)
            }
            Phase::Stable | Phase::Rebalancing => None,
        }
    }

    fn is_due(&self, committed: &CommittedOffset, start: Start) -> bool {
        if let Some(at) = committed.expire_timestamp {
            return self.now_ms >= at;
        }
        let start = match start {
            Start::Commit => committed.commit_timestamp,
            Start::At(since) => since,
        };
        self.now_ms.saturating_sub(start) >= self.retention_ms
    }
}
