//! The committed offsets of one partition of `__consumer_offsets`. Pure; owned by the shard that
//! owns the partition.
//!
//! Commands are answered from what was replayed and make records; only [`Offsets::replay`] changes
//! anything. Whether a group exists, and whether a member may commit, is decided before: nothing
//! here knows a group's members.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;

use bytestring::ByteString;

use super::error::GroupError;
use super::record::{CommittedOffset, GroupRecord};
use super::subscription::Subscribed;
use crate::base::clock::TimestampMs;
use crate::base::ids::TopicId;

mod expiry;

pub use expiry::{Expiry, Phase};

/// How many entries a node of a map has places for, the first one as well.
const NODE_PLACES: usize = 11;
/// How many of them are taken, about.
const NODE_ENTRIES: usize = 8;
/// What a node takes beside its places, in bytes.
const NODE_BYTES: usize = 32;

/// An offset that a group wants to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The topic's name.
    pub topic: ByteString,
    /// The topic's incarnation, which is stored with the offset.
    pub topic_id: TopicId,
    /// The partition within the topic. One may be named twice; the last one counts.
    pub partition: i32,
    /// The offset: any number, as in Kafka.
    pub offset: i64,
    /// The leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// What the client wants to keep beside it.
    pub metadata: Option<ByteString>,
}

/// A partition that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: ByteString,
    /// The incarnation that is meant, or zero for any.
    pub topic_id: TopicId,
    /// The partition within the topic.
    pub partition: i32,
}

/// A partition that was asked for, or that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The topic's name.
    pub topic: ByteString,
    /// The incarnation that was asked for; zero where none was.
    pub topic_id: TopicId,
    /// The partition within the topic.
    pub partition: i32,
    /// What was committed, if anything; or why it cannot be told.
    pub committed: Result<Option<CommittedOffset>, GroupError>,
}

/// Whether a partition's offset was committed, or deleted.
pub type OffsetResult = Result<(), GroupError>;

/// The committed offsets of one partition of `__consumer_offsets`.
#[derive(Debug, Default)]
pub struct Offsets {
    /// In order, so that they can be gone through in steps.
    groups: BTreeMap<ByteString, Topics>,
    count: usize,
    bytes: usize,
}

/// Some groups by their ids.
pub type Range<'a> = (Bound<&'a ByteString>, Bound<&'a ByteString>);

/// A group's offsets by topic and partition, in order, so that answers do not vary.
type Topics = BTreeMap<ByteString, Partitions>;

type Partitions = BTreeMap<i32, CommittedOffset>;

impl Offsets {
    /// How many offsets there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.count
    }

    /// About what they take of memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether `group` has any.
    pub fn has_any(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// The groups that have offsets, in order.
    pub fn groups(&self) -> impl Iterator<Item = &ByteString> {
        self.groups.keys()
    }

    /// Those that `range` picks.
    pub fn groups_in(&self, range: Range<'_>) -> impl Iterator<Item = &ByteString> {
        self.groups.range::<ByteString, _>(range).map(|(id, _)| id)
    }

    /// What `group` has committed for a partition.
    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.get(topic)?.get(&partition)
    }

    /// Takes over what an offset's record says; none removes the offset.
    pub fn replay(
        &mut self,
        group: &ByteString,
        topic: &ByteString,
        partition: i32,
        value: Option<&CommittedOffset>,
    ) {
        match value {
            Some(value) => self.put(group, topic, partition, value),
            None => self.remove(group, topic, partition),
        }
    }

    /// The records that commit what may be committed, and what becomes of each offset.
    ///
    /// `retention_ms` is that of OffsetCommit 2-4, where the client gave one. `metadata_units_max`
    /// is `offset.metadata.max.bytes`, which Kafka counts in UTF-16 units.
    pub fn prepare_commit(
        group: &ByteString,
        offsets: Vec<OffsetToCommit>,
        retention_ms: Option<i64>,
        metadata_units_max: usize,
        now_ms: TimestampMs,
    ) -> (Vec<GroupRecord>, Vec<OffsetResult>) {
        // Not before 1970: -1 would be read as none.
        let expires_at = |retention_ms: i64| now_ms.saturating_add(retention_ms).max(0);
        let expire_timestamp = retention_ms.map(expires_at);
        let mut records = Vec::with_capacity(offsets.len());
        let mut results = Vec::with_capacity(offsets.len());
        for to_commit in offsets {
            if is_too_long(to_commit.metadata.as_ref(), metadata_units_max) {
                results.push(Err(GroupError::OffsetMetadataTooLarge));
                continue;
            }
            results.push(Ok(()));
            records.push(GroupRecord::Offset {
                group: group.clone(),
                topic: to_commit.topic,
                partition: to_commit.partition,
                value: Some(CommittedOffset {
                    offset: to_commit.offset,
                    leader_epoch: to_commit.leader_epoch,
                    metadata: to_commit.metadata.unwrap_or_default(),
                    commit_timestamp: now_ms,
                    expire_timestamp,
                    topic_id: to_commit.topic_id,
                }),
            });
        }
        (records, results)
    }

    /// The committed offsets of the partitions that are asked for, in the order of the request. An
    /// offset that was committed for another incarnation of the topic counts as none (KIP-848).
    pub fn fetch(&self, group: &str, partitions: Vec<TopicPartition>) -> Vec<FetchedOffset> {
        let topics = self.groups.get(group);
        let fetch_one = |asked: TopicPartition| {
            let stored = topics.and_then(|topics| topics.get(&*asked.topic));
            let committed = stored.and_then(|partitions| partitions.get(&asked.partition));
            let committed = committed.filter(|offset| is_same(offset.topic_id, asked.topic_id));
            FetchedOffset {
                committed: Ok(committed.cloned()),
                topic: asked.topic,
                topic_id: asked.topic_id,
                partition: asked.partition,
            }
        };
        partitions.into_iter().map(fetch_one).collect()
    }

    /// All committed offsets of `group`, by name of topic and by partition.
    pub fn fetch_all(&self, group: &str) -> Vec<FetchedOffset> {
        let mut found = Vec::new();
        for (topic, partitions) in self.groups.get(group).into_iter().flatten() {
            found.extend(
                partitions
                    .iter()
                    .map(|(partition, committed)| FetchedOffset {
                        topic: topic.clone(),
                        topic_id: TopicId::ZERO,
                        partition: *partition,
                        committed: Ok(Some(committed.clone())),
                    }),
            );
        }
        found
    }

    /// The tombstones that delete the offsets of `partitions`, unless the group subscribes to the
    /// topic (OffsetDelete, KIP-496), and what becomes of each. One without an offset is deleted as
    /// well, without a record.
    pub fn prepare_delete(
        &self,
        group: &ByteString,
        partitions: &[TopicPartition],
        protocol_type: &str,
        subscribed: &Subscribed,
    ) -> (Vec<GroupRecord>, Vec<OffsetResult>) {
        let mut records = Vec::new();
        let mut results = Vec::with_capacity(partitions.len());
        for TopicPartition {
            topic, partition, ..
        } in partitions
        {
            if subscribed.contains(protocol_type, topic) {
                results.push(Err(GroupError::GroupSubscribedToTopic));
                continue;
            }
            results.push(Ok(()));
            if self.get(group, topic, *partition).is_some() {
                records.push(tombstone(group, topic, *partition));
            }
        }
        (records, results)
    }

    /// Adds the tombstones of all offsets of `group`, which is to be deleted.
    pub fn prepare_delete_all(&self, group: &ByteString, records: &mut Vec<GroupRecord>) {
        for (topic, partitions) in self.groups.get(group).into_iter().flatten() {
            let partitions = partitions.keys();
            records.extend(partitions.map(|partition| tombstone(group, topic, *partition)));
        }
    }

    /// The tombstones of the offsets of a topic that was deleted, by group. Offsets that were
    /// committed for another incarnation of it stay.
    pub fn prepare_topic_deletion(
        &self,
        topic: &ByteString,
        id: TopicId,
    ) -> Vec<(ByteString, Vec<GroupRecord>)> {
        let mut by_group = Vec::new();
        for (group, topics) in &self.groups {
            let committed = topics.get(topic).into_iter().flatten();
            let records: Vec<_> = committed
                .filter(|(_, committed)| is_same(committed.topic_id, id))
                .map(|(partition, _)| tombstone(group, topic, *partition))
                .collect();
            if !records.is_empty() {
                by_group.push((group.clone(), records));
            }
        }
        by_group
    }

    /// The tombstones of the offsets of `group` that `is_deleted` names by topic and by the id that
    /// they were committed for.
    pub fn prepare_forgetting(
        &self,
        group: &ByteString,
        is_deleted: impl Fn(&ByteString, TopicId) -> bool,
    ) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for (topic, partitions) in self.groups.get(group).into_iter().flatten() {
            let is_orphan = |it: &CommittedOffset| is_deleted(topic, it.topic_id);
            let orphans = partitions.iter().filter(|(_, it)| is_orphan(it));
            records.extend(orphans.map(|(partition, _)| tombstone(group, topic, *partition)));
        }
        records
    }

    /// Stores copies of what has to be kept: a handle would keep the request or the piece of log
    /// that it came in.
    fn put(
        &mut self,
        group: &ByteString,
        topic: &ByteString,
        partition: i32,
        value: &CommittedOffset,
    ) {
        let value = CommittedOffset {
            metadata: copy_of(&value.metadata),
            ..value.clone()
        };
        let before = self.bytes_of_maps(group, topic);
        if !self.groups.contains_key(group) {
            self.groups.insert(copy_of(group), Topics::new());
            self.bytes += group.len();
        }
        let topics = self
            .groups
            .get_mut(group)
            .expect("it was just seen to be there");
        if !topics.contains_key(topic) {
            topics.insert(copy_of(topic), Partitions::new());
            self.bytes += topic.len();
        }
        let partitions = topics.get_mut(topic).expect("it was just seen to be there");
        self.bytes += value.metadata.len();
        match partitions.insert(partition, value) {
            Some(old) => self.bytes -= old.metadata.len(),
            None => self.count += 1,
        }
        self.bytes = self.bytes - before + self.bytes_of_maps(group, topic);
    }

    fn remove(&mut self, group: &ByteString, topic: &ByteString, partition: i32) {
        let before = self.bytes_of_maps(group, topic);
        let Some(topics) = self.groups.get_mut(group) else {
            return;
        };
        let Some(partitions) = topics.get_mut(topic) else {
            return;
        };
        let Some(old) = partitions.remove(&partition) else {
            return;
        };
        self.count -= 1;
        self.bytes -= old.metadata.len();
        if partitions.is_empty() {
            topics.remove(topic);
            self.bytes -= topic.len();
        }
        if topics.is_empty() {
            self.groups.remove(group);
            self.bytes -= group.len();
        }
        self.bytes = self.bytes - before + self.bytes_of_maps(group, topic);
    }

    /// About what the three maps take that lead to a topic's offsets, in bytes.
    fn bytes_of_maps(&self, group: &ByteString, topic: &ByteString) -> usize {
        let topics = self.groups.get(group);
        let partitions = topics.and_then(|topics| topics.get(topic));
        map_bytes(&self.groups) + topics.map_or(0, map_bytes) + partitions.map_or(0, map_bytes)
    }
}

/// Whether an offset stored for one incarnation of a topic counts for another. Zero is any.
fn is_same(stored: TopicId, wanted: TopicId) -> bool {
    stored == TopicId::ZERO || wanted == TopicId::ZERO || stored == wanted
}

fn tombstone(group: &ByteString, topic: &ByteString, partition: i32) -> GroupRecord {
    GroupRecord::Offset {
        group: group.clone(),
        topic: topic.clone(),
        partition,
        value: None,
    }
}

fn is_too_long(metadata: Option<&ByteString>, units_max: usize) -> bool {
    // There are at least as many bytes as units.
    metadata.is_some_and(|metadata| {
        metadata.len() > units_max && metadata.encode_utf16().count() > units_max
    })
}

fn copy_of(text: &ByteString) -> ByteString {
    ByteString::from(&**text)
}

/// About what a map takes, in bytes, without what its keys and values point to.
fn map_bytes<K, V>(map: &BTreeMap<K, V>) -> usize {
    let node = NODE_BYTES + NODE_PLACES * mem::size_of::<(K, V)>();
    map.len().div_ceil(NODE_ENTRIES) * node
}

#[cfg(test)]
mod tests;
