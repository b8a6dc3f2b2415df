//! One record of `__consumer_offsets`: a committed offset or a classic group, to and from its key
//! and value. Pure; any shard; it decides nothing.
//!
//! A key begins with the record's type and a value with its version, both 16 bits. What is written
//! is what Kafka 4.3 writes: offsets in version 4, or 1 where an expire timestamp must be kept, and
//! groups in version 3. All that Kafka reads is read, also the keys of releases before 0.9.

use bytes::Bytes;
use bytestring::ByteString;

use crate::base::clock::TimestampMs;
use crate::base::ids::TopicId;
use crate::protocol::error::{DecodeError, EncodeError};
use crate::protocol::messages::group_metadata_key::GroupMetadataKey;
use crate::protocol::messages::group_metadata_value::{self, GroupMetadataValue};
use crate::protocol::messages::legacy_offset_commit_key::LegacyOffsetCommitKey;
use crate::protocol::messages::legacy_offset_commit_value::LegacyOffsetCommitValue;
use crate::protocol::messages::offset_commit_key::OffsetCommitKey;
use crate::protocol::messages::offset_commit_value::OffsetCommitValue;
use crate::protocol::reader::Reader;
use crate::protocol::wire::Message;
use crate::protocol::writer::Writer;

/// The version of an offset's value: with the leader's epoch and the topic's id.
const OFFSET_VERSION: i16 = 4;
/// The version of an offset's value that has an expire timestamp, but neither epoch nor id.
const EXPIRING_OFFSET_VERSION: i16 = 1;
/// The version of a group's value. Kafka can read 4, and writes 3.
const GROUP_VERSION: i16 = 3;
/// What stands for "none" in a timestamp.
const NO_TIMESTAMP: TimestampMs = -1;

/// A key or value that is no record of `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A key that is not what its type says.
    #[error("a malformed key: {0}")]
    Key(DecodeError),
    /// A value that is not what its version says, or of a version that does not exist.
    #[error("a malformed value of a record of type {kind}: {error}")]
    Value {
        /// Kafka's number of the record's type.
        kind: i16,
        /// What is wrong with it.
        error: DecodeError,
    },
}

/// A change to a group or to its offsets. A value of none is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// Kafka's `OffsetCommit`, type 1, and `LegacyOffsetCommit`, type 0, which is only read.
    Offset {
        /// The group.
        group: ByteString,
        /// The topic's name.
        topic: ByteString,
        /// The partition within the topic.
        partition: i32,
        /// What was committed.
        value: Option<CommittedOffset>,
    },
    /// Kafka's `GroupMetadata`, type 2.
    Group {
        /// The group.
        group: ByteString,
        /// What the group is now.
        value: Option<GroupMetadata>,
    },
}

/// A committed offset, Kafka's `OffsetCommitValue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record that the group wants to read. Any number: nothing checks it.
    pub offset: i64,
    /// The leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// What the client wrote beside it; never null.
    pub metadata: ByteString,
    /// When it was committed, in milliseconds since the epoch.
    pub commit_timestamp: TimestampMs,
    /// When it expires, if the client said so (OffsetCommit 2-4).
    pub expire_timestamp: Option<TimestampMs>,
    /// The topic's incarnation, or zero where it is not known.
    pub topic_id: TopicId,
}

/// A classic group as of its last rebalance, Kafka's `GroupMetadataValue`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `consumer`, `connect` and the like; empty until the first member.
    pub protocol_type: ByteString,
    /// The number of the rebalance.
    pub generation: i32,
    /// The protocol that was chosen, none without members.
    pub protocol: Option<ByteString>,
    /// The member that assigned, none without members.
    pub leader: Option<ByteString>,
    /// When the group entered its state, in milliseconds since the epoch.
    pub state_timestamp: Option<TimestampMs>,
    /// The members in order.
    pub members: Vec<MemberMetadata>,
}

/// A member of a classic group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberMetadata {
    /// The id that the coordinator gave it.
    pub member_id: ByteString,
    /// `group.instance.id`, of a static member (KIP-345).
    pub instance_id: Option<ByteString>,
    /// `client.id`.
    pub client_id: ByteString,
    /// Its address as Java prints it, with a slash in front.
    pub client_host: ByteString,
    /// In milliseconds; -1 in records of releases before 0.10.1.
    pub rebalance_timeout_ms: i32,
    /// In milliseconds.
    pub session_timeout_ms: i32,
    /// Its metadata for the protocol that was chosen.
    pub subscription: Bytes,
    /// What the leader assigned to it.
    pub assignment: Bytes,
}

impl GroupRecord {
    /// The key.
    ///
    /// # Errors
    /// A string of more than 32,767 bytes.
    pub fn key(&self) -> Result<Bytes, EncodeError> {
        match self {
            Self::Offset {
                group,
                topic,
                partition,
                ..
            } => key_bytes(&OffsetCommitKey {
                group: group.clone(),
                topic: topic.clone(),
                partition: *partition,
            }),
            Self::Group { group, .. } => key_bytes(&GroupMetadataKey {
                group: group.clone(),
            }),
        }
    }

    /// The value; none for a tombstone.
    ///
    /// # Errors
    /// A string of more than 32,767 bytes.
    pub fn value(&self) -> Result<Option<Bytes>, EncodeError> {
        match self {
            Self::Offset { value, .. } => value.as_ref().map(offset_value).transpose(),
            Self::Group { value, .. } => value.as_ref().map(group_value).transpose(),
        }
    }

    /// Reads a record. None stands for a type of record that this release does not know and skips.
    /// What it returns are handles to `key` and `value`, and keep them alive.
    ///
    /// # Errors
    /// A record of a known type that is malformed, or whose value has an unknown version.
    pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Self>, RecordError> {
        let mut reader = Reader::new(key.clone());
        let kind = reader.int16().map_err(RecordError::Key)?;
        match kind {
            LegacyOffsetCommitKey::KEY => {
                let key: LegacyOffsetCommitKey = decode_key(&mut reader)?;
                let value = decode_value(value)?.map(CommittedOffset::from_legacy);
                Ok(Some(Self::Offset {
                    group: key.group,
                    topic: key.topic,
                    partition: key.partition,
                    value,
                }))
            }
            OffsetCommitKey::KEY => {
                let key: OffsetCommitKey = decode_key(&mut reader)?;
                let value = decode_value(value)?.map(CommittedOffset::from_value);
                Ok(Some(Self::Offset {
                    group: key.group,
                    topic: key.topic,
                    partition: key.partition,
                    value,
                }))
            }
            GroupMetadataKey::KEY => {
                let key: GroupMetadataKey = decode_key(&mut reader)?;
                let value = decode_value(value)?.map(GroupMetadata::from_value);
                Ok(Some(Self::Group {
                    group: key.group,
                    value,
                }))
            }
            _ => Ok(None),
        }
    }
}

impl CommittedOffset {
    fn from_value(value: OffsetCommitValue) -> Self {
        Self {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata,
            commit_timestamp: value.commit_timestamp,
            expire_timestamp: timestamp(value.expire_timestamp),
            topic_id: value.topic_id,
        }
    }

    fn from_legacy(value: LegacyOffsetCommitValue) -> Self {
        Self {
            offset: value.offset,
            leader_epoch: -1,
            metadata: value.metadata,
            commit_timestamp: value.commit_timestamp,
            expire_timestamp: None,
            topic_id: TopicId::ZERO,
        }
    }
}

impl GroupMetadata {
    /// The length of the record's value, in bytes: the whole group is one record, which must fit
    /// a batch.
    pub fn value_bytes(&self) -> usize {
        const VERSION: usize = 2;
        const NUMBERS: usize = 4 + 8 + 4;
        let members = self.members.iter().map(MemberMetadata::value_bytes);
        VERSION
            + NUMBERS
            + string_bytes(Some(&self.protocol_type))
            + string_bytes(self.protocol.as_ref())
            + string_bytes(self.leader.as_ref())
            + members.sum::<usize>()
    }

    fn from_value(value: GroupMetadataValue) -> Self {
        Self {
            protocol_type: value.protocol_type,
            generation: value.generation,
            protocol: value.protocol,
            leader: value.leader,
            state_timestamp: timestamp(value.current_state_timestamp),
            members: value.members.into_iter().map(member_from_value).collect(),
        }
    }
}

impl MemberMetadata {
    /// What the member takes of its group's record, in bytes.
    pub fn value_bytes(&self) -> usize {
        let names = [&self.member_id, &self.client_id, &self.client_host];
        let data = self.subscription.len() + self.assignment.len();
        member_value_bytes(names, self.instance_id.as_ref(), data)
    }
}

/// What a member with these names and so many bytes of metadata and assignment takes of its group's
/// record, in bytes.
pub fn member_value_bytes(
    names: [&ByteString; 3],
    instance_id: Option<&ByteString>,
    data: usize,
) -> usize {
    const NUMBERS: usize = 4 + 4;
    const LENGTHS: usize = 4 + 4;
    let names = names.map(|name| string_bytes(Some(name)));
    NUMBERS + LENGTHS + names.iter().sum::<usize>() + string_bytes(instance_id) + data
}

/// What a string takes in a version that is not flexible.
fn string_bytes(string: Option<&ByteString>) -> usize {
    2 + string.map_or(0, |string| string.len())
}

fn timestamp(stored: TimestampMs) -> Option<TimestampMs> {
    (stored != NO_TIMESTAMP).then_some(stored)
}

fn key_bytes<M: Message>(key: &M) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.int16(M::KEY);
    key.encode(&mut writer, 0)?;
    Ok(writer.into_bytes())
}

fn value_bytes<M: Message>(value: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.int16(version);
    value.encode(&mut writer, version)?;
    Ok(writer.into_bytes())
}

fn offset_value(value: &CommittedOffset) -> Result<Bytes, EncodeError> {
    let version = match value.expire_timestamp {
        Some(_) => EXPIRING_OFFSET_VERSION,
        None => OFFSET_VERSION,
    };
    let value = OffsetCommitValue {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.clone(),
        commit_timestamp: value.commit_timestamp,
        expire_timestamp: value.expire_timestamp.unwrap_or(NO_TIMESTAMP),
        topic_id: value.topic_id,
    };
    value_bytes(&value, version)
}

fn group_value(value: &GroupMetadata) -> Result<Bytes, EncodeError> {
    let members = value.members.iter().map(member_value).collect();
    let value = GroupMetadataValue {
        protocol_type: value.protocol_type.clone(),
        generation: value.generation,
        protocol: value.protocol.clone(),
        leader: value.leader.clone(),
        current_state_timestamp: value.state_timestamp.unwrap_or(NO_TIMESTAMP),
        members,
    };
    value_bytes(&value, GROUP_VERSION)
}

fn member_value(member: &MemberMetadata) -> group_metadata_value::MemberMetadata {
    group_metadata_value::MemberMetadata {
        member_id: member.member_id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
    }
}

fn member_from_value(member: group_metadata_value::MemberMetadata) -> MemberMetadata {
    MemberMetadata {
        member_id: member.member_id,
        instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        rebalance_timeout_ms: member.rebalance_timeout,
        session_timeout_ms: member.session_timeout,
        subscription: member.subscription,
        assignment: member.assignment,
    }
}

fn decode_key<M: Message>(reader: &mut Reader) -> Result<M, RecordError> {
    M::decode(reader, 0).map_err(RecordError::Key)
}

fn decode_value<M: Message>(value: Option<&Bytes>) -> Result<Option<M>, RecordError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let mut reader = Reader::new(value.clone());
    let version = reader.int16();
    let value = version.and_then(|version| M::decode(&mut reader, version));
    let value = value.map_err(|error| RecordError::Value {
        kind: M::KEY,
        error,
    })?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests;
