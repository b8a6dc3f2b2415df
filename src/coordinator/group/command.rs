//! What goes into a machine and what comes out: commands, replies, and records to append. Plain
//! values near the wire, without versions; `api` makes and sends them. Pure.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::error::GroupError;
use super::event::GroupEvent;
use super::machine::After;
use super::offsets::{FetchedOffset, OffsetResult, OffsetToCommit, TopicPartition};
use super::record::GroupRecord;
use crate::base::clock::TimestampMs;

/// The time, as the one who runs the machine reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since a moment that stays the same while the process runs; it never goes back. Timers go by
    /// it.
    pub monotonic: Duration,
    /// What goes into records.
    pub wall_ms: TimestampMs,
}

/// Names a request that waits for its answer. The machine only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// What a machine wants done, in order.
#[derive(Debug, Default)]
pub struct Effects {
    /// Answers, each to be sent at once.
    pub replies: Vec<(ReplyId, Reply)>,
    /// Records to append, each with what follows.
    pub appends: Vec<Append>,
    /// What operators are told.
    pub events: Vec<GroupEvent>,
    /// Whether somebody was refused because groups take all the memory that they may.
    pub lacks_memory: bool,
}

/// The records of one operation: one batch, whole or not at all.
///
/// They are appended in the order in which the machine hands them out. Once they are durable each
/// is given to `Machine::replay`, then `after` to `Machine::appended`, before anything of a later
/// append; where they could not be made durable only the latter. If it is not known whether they
/// are in the log, no later append of this machine may succeed: its successor will find them.
#[derive(Debug)]
pub struct Append {
    /// At least one.
    pub records: Vec<GroupRecord>,
    /// What waits for them.
    pub after: After,
}

/// A request to one group.
#[derive(Clone, Debug)]
pub enum Command {
    /// JoinGroup.
    Join(JoinGroup),
    /// SyncGroup.
    Sync(SyncGroup),
    /// Heartbeat.
    Heartbeat(Heartbeat),
    /// LeaveGroup.
    Leave(LeaveGroup),
    /// OffsetCommit.
    Commit(CommitOffsets),
    /// OffsetFetch.
    Fetch(FetchOffsets),
    /// OffsetDelete.
    DeleteOffsets(DeleteOffsets),
    /// DeleteGroups, of one group.
    DeleteGroup {
        /// The group.
        group: ByteString,
    },
}

impl Command {
    /// The group that it is for.
    pub fn group(&self) -> &ByteString {
        match self {
            Self::Join(JoinGroup { group, .. })
            | Self::Sync(SyncGroup { group, .. })
            | Self::Heartbeat(Heartbeat { group, .. })
            | Self::Leave(LeaveGroup { group, .. })
            | Self::Commit(CommitOffsets { group, .. })
            | Self::Fetch(FetchOffsets { group, .. })
            | Self::DeleteOffsets(DeleteOffsets { group, .. })
            | Self::DeleteGroup { group } => group,
        }
    }

    /// The answer that refuses it with `error` before its group is looked at.
    pub(super) fn refusal(&self, error: GroupError) -> Reply {
        match self {
            Self::Join(_) => Reply::Join(JoinReply::refused(error, ByteString::new())),
            Self::Sync(_) => Reply::Sync(Err(error)),
            Self::Heartbeat(_) => Reply::Heartbeat(Err(error)),
            Self::Leave(_) => Reply::Leave(Err(error)),
            Self::Commit(_) => Reply::Commit(Err(error)),
            Self::Fetch(_) => Reply::Fetch(Err(error)),
            Self::DeleteOffsets(_) => Reply::DeleteOffsets(Err(error)),
            Self::DeleteGroup { .. } => Reply::DeleteGroup(Err(error)),
        }
    }
}

/// One of the protocols that a member can work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Its name, for consumers that of an assignor.
    pub name: ByteString,
    /// What the member has to say for it, opaque to the broker.
    pub metadata: Bytes,
}

/// A request to join a group.
#[derive(Clone, Debug)]
pub struct JoinGroup {
    /// The group.
    pub group: ByteString,
    /// The member's id, empty before it has one.
    pub member_id: ByteString,
    /// `group.instance.id`, of a static member (KIP-345).
    pub instance_id: Option<ByteString>,
    /// `client.id`; empty for none.
    pub client_id: ByteString,
    /// The client's address as Java prints it, with a slash in front.
    pub client_host: ByteString,
    /// In milliseconds.
    pub session_timeout_ms: i32,
    /// In milliseconds. Version 0 has none: there it is the session timeout.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect` and the like.
    pub protocol_type: ByteString,
    /// What the member can work with, best first.
    pub protocols: Vec<Protocol>,
    /// Whether the client understands MEMBER_ID_REQUIRED (version 4, KIP-394).
    pub knows_member_id_required: bool,
    /// Whether the client understands that a leader is not to assign (version 9, KIP-814).
    pub knows_skip_assignment: bool,
    /// Random bits, for the id that the member may be given.
    pub random: u128,
    /// Why the member joins, in the client's words (version 8, KIP-800). For the log alone.
    pub reason: Option<ByteString>,
}

/// The answer to a request to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    /// Whether the member is in the generation.
    pub result: Result<(), GroupError>,
    /// The generation, -1 where there is none to tell.
    pub generation: i32,
    /// The group's, where there is one.
    pub protocol_type: Option<ByteString>,
    /// The protocol of the generation.
    pub protocol_name: Option<ByteString>,
    /// The leader's member id, or empty.
    pub leader: ByteString,
    /// Whether the leader is not to assign, since what was assigned still holds.
    pub skip_assignment: bool,
    /// The id of the member that is answered.
    pub member_id: ByteString,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

/// The number of the generation in an answer that has none.
pub const NO_GENERATION: i32 = -1;

impl JoinReply {
    /// A refusal that echoes `member_id`.
    pub fn refused(error: GroupError, member_id: ByteString) -> Self {
        Self {
            result: Err(error),
            generation: NO_GENERATION,
            protocol_type: None,
            protocol_name: None,
            leader: ByteString::new(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

/// A member as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: ByteString,
    /// `group.instance.id`, of a static member.
    pub instance_id: Option<ByteString>,
    /// Its metadata for the protocol of the generation.
    pub metadata: Bytes,
}

/// A request for the member's assignment; the leader's brings everybody's.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    /// The group.
    pub group: ByteString,
    /// The generation that the member joined.
    pub generation: i32,
    /// The member's id.
    pub member_id: ByteString,
    /// `group.instance.id`, of a static member.
    pub instance_id: Option<ByteString>,
    /// What the member takes for the group's protocol type; none of clients before version 5.
    pub protocol_type: Option<ByteString>,
    /// What it takes for the generation's protocol; none of clients before version 5.
    pub protocol_name: Option<ByteString>,
    /// Assignments by member id, from the leader.
    pub assignments: Vec<(ByteString, Bytes)>,
}

/// A member's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReply {
    /// The group's protocol type.
    pub protocol_type: Option<ByteString>,
    /// The protocol of the generation.
    pub protocol_name: Option<ByteString>,
    /// What the leader assigned, opaque; no bytes where it left the member out.
    pub assignment: Bytes,
}

/// A sign of life.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The group.
    pub group: ByteString,
    /// The generation that the member is in.
    pub generation: i32,
    /// The member's id.
    pub member_id: ByteString,
    /// `group.instance.id`, of a static member.
    pub instance_id: Option<ByteString>,
}

/// A request to take members out of a group.
#[derive(Clone, Debug)]
pub struct LeaveGroup {
    /// The group.
    pub group: ByteString,
    /// Who leaves; one before version 3.
    pub members: Vec<LeavingMember>,
}

/// A member that is to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id; empty where an administrator names a static member.
    pub member_id: ByteString,
    /// `group.instance.id`, of a static member.
    pub instance_id: Option<ByteString>,
    /// Why it leaves, in the client's words (version 5, KIP-800). For the log alone.
    pub reason: Option<ByteString>,
}

/// Who left and who could not, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveReply {
    /// Each member as the request named it.
    pub members: Vec<(LeavingMember, Result<(), GroupError>)>,
}

/// A request to commit offsets, of partitions that exist and that the client may read.
#[derive(Clone, Debug)]
pub struct CommitOffsets {
    /// The group.
    pub group: ByteString,
    /// The generation that the member is in, negative for a client that is in no generation.
    pub generation: i32,
    /// The member's id, or empty.
    pub member_id: ByteString,
    /// `group.instance.id`, of a static member.
    pub instance_id: Option<ByteString>,
    /// Whether the client understands GROUP_ID_NOT_FOUND here (version 9).
    pub knows_group_id_not_found: bool,
    /// How long the offsets are kept, where the client says so (versions 2 to 4).
    pub retention_ms: Option<i64>,
    /// What to commit.
    pub offsets: Vec<OffsetToCommit>,
}

/// A request for committed offsets.
#[derive(Clone, Debug)]
pub struct FetchOffsets {
    /// The group.
    pub group: ByteString,
    /// The partitions; none for all.
    pub partitions: Option<Vec<TopicPartition>>,
    /// Whether to wait for commits that are under way (KIP-447).
    pub require_stable: bool,
}

/// A request to forget committed offsets (KIP-496).
#[derive(Clone, Debug)]
pub struct DeleteOffsets {
    /// The group.
    pub group: ByteString,
    /// Whose offsets.
    pub partitions: Vec<TopicPartition>,
}

/// The answer to a [`Command`], of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To JoinGroup.
    Join(JoinReply),
    /// To SyncGroup.
    Sync(Result<SyncReply, GroupError>),
    /// To Heartbeat.
    Heartbeat(Result<(), GroupError>),
    /// To LeaveGroup.
    Leave(Result<LeaveReply, GroupError>),
    /// To OffsetCommit: one result for each partition, in the order of the request.
    Commit(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To OffsetFetch.
    Fetch(Result<Vec<FetchedOffset>, GroupError>),
    /// To OffsetDelete: one result for each partition, in the order of the request.
    DeleteOffsets(Result<Vec<OffsetResult>, GroupError>),
    /// To DeleteGroups.
    DeleteGroup(Result<(), GroupError>),
}

impl Effects {
    /// Answers `reply_to`.
    pub(super) fn reply(&mut self, reply_to: ReplyId, reply: Reply) {
        self.replies.push((reply_to, reply));
    }
}
