//! One classic group: what its last record says, and what is under way. Pure; the files beside
//! this one say what each request does to it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::command::{Append, Command, Effects, JoinReply, JoinedMember, Now, Reply, ReplyId};
use super::config::GroupConfig;
use super::error::GroupError;
use super::machine::{After, Then};
use super::member::{Member, Members};
use super::record::{GroupMetadata, GroupRecord, MemberMetadata};
use super::state::GroupState;
use super::subscription::Subscribed;
use super::timers::Timers;
use crate::base::clock::TimestampMs;

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TimerKey {
    /// A member, or an id that was handed out, was silent for too long.
    Member {
        /// The group.
        group: ByteString,
        /// The member or the id.
        member: ByteString,
    },
    /// The join phase has lasted long enough.
    Join(ByteString),
    /// The members have had time enough to sync.
    Sync(ByteString),
    /// Expired offsets are to be looked for.
    OffsetsExpiry,
}

/// What an operation on a group may use besides the group.
pub struct Context<'a> {
    /// The settings.
    pub config: &'a GroupConfig,
    /// The timers of all groups of the machine.
    pub timers: &'a mut Timers<TimerKey>,
    /// How many ids were handed out to clients that have not joined yet, in all groups.
    pub pending_ids: &'a mut usize,
    /// The time.
    pub now: Now,
    /// What is to be done.
    pub out: &'a mut Effects,
}

impl Context<'_> {
    /// Arms `key` to be due after `delay`.
    pub fn arm(&mut self, key: TimerKey, delay: Duration) {
        self.timers.arm(key, self.now.monotonic + delay);
    }
}

/// The first join phase of a group waits for more members, again as long as some come.
#[derive(Clone, Copy, Debug)]
pub struct InitialDelay {
    /// How long this step waits.
    pub step: Duration,
    /// How much longer further steps may wait in all.
    pub remaining: Duration,
}

/// One classic group.
#[derive(Debug)]
pub struct Group {
    /// Its id.
    pub id: ByteString,
    /// Tells it from a group that had the id before.
    pub incarnation: u64,
    /// The durable half: what the last replayed record says. None for a group that exists only
    /// through its offsets, or whose first record is under way.
    pub recorded: Option<GroupMetadata>,
    /// What that takes in memory, in bytes.
    pub recorded_bytes: usize,
    /// What the machine has counted for the group, in bytes.
    pub counted_bytes: usize,
    /// Where it is.
    pub state: GroupState,
    /// Where it was before.
    pub previous: GroupState,
    /// Since when it is there.
    pub state_since_ms: Option<TimestampMs>,
    /// `consumer`, `connect` and the like; none before the first member.
    pub protocol_type: Option<ByteString>,
    /// The number of the last rebalance that came to an end.
    pub generation: i32,
    /// The protocol of the generation.
    pub protocol: Option<ByteString>,
    /// The member that assigns.
    pub leader: Option<ByteString>,
    /// The members.
    pub members: Members,
    /// Ids that were handed out to clients that have not joined with them yet (KIP-394).
    pub pending_ids: BTreeSet<ByteString>,
    /// What those take, in bytes.
    pub pending_bytes: usize,
    /// Members of this generation that have not sent SyncGroup yet.
    pub pending_syncs: BTreeSet<ByteString>,
    /// The wait of a first join phase, while it lasts.
    pub initial_delay: Option<InitialDelay>,
    /// Whether a member was added since the last step of that wait.
    pub has_newcomer: bool,
    /// Whether the record with this generation's assignments is on its way to the log.
    pub is_recording_assignments: bool,
    /// Topics of the members of this generation.
    pub subscribed: Subscribed,
    /// What those take, in bytes.
    pub subscribed_bytes: usize,
    /// How many appends of the group are under way.
    pub appends: usize,
    /// Whether one of them ends the group, so that everything else waits for it.
    pub is_ending: bool,
    /// Requests that wait for the appends under way.
    pub waiting: VecDeque<(ReplyId, Command)>,
}

impl Group {
    /// A group that nobody has joined yet.
    pub fn new(id: ByteString, incarnation: u64) -> Self {
        let mut group = Self {
            id,
            incarnation,
            recorded: None,
            recorded_bytes: 0,
            counted_bytes: 0,
            state: GroupState::Empty,
            previous: GroupState::Empty,
            state_since_ms: None,
            protocol_type: None,
            generation: 0,
            protocol: None,
            leader: None,
            members: Members::default(),
            pending_ids: BTreeSet::new(),
            pending_bytes: 0,
            pending_syncs: BTreeSet::new(),
            initial_delay: None,
            has_newcomer: false,
            is_recording_assignments: false,
            subscribed: Subscribed::Unknown,
            subscribed_bytes: 0,
            appends: 0,
            is_ending: false,
            waiting: VecDeque::new(),
        };
        group.counted_bytes = group.bytes();
        group
    }

    /// Makes the volatile half from the durable one: the group as its record left it.
    pub fn restore(&mut self) {
        let Some(recorded) = &self.recorded else {
            return;
        };
        let protocol = recorded.protocol.as_ref();
        let mut members = Members::default();
        for member in &recorded.members {
            // A record of another broker may be damaged: whoever is named first is the member.
            let instance_id = member.instance_id.as_ref();
            let is_known = members.get(&member.member_id).is_some()
                || instance_id.is_some_and(|it| members.id_of_instance(it).is_some());
            if is_known {
                continue;
            }
            members.add(Member::recorded(member, protocol));
        }
        let has_type = !recorded.protocol_type.is_empty();
        self.protocol_type = has_type.then(|| recorded.protocol_type.clone());
        self.generation = recorded.generation;
        self.protocol.clone_from(&recorded.protocol);
        self.leader.clone_from(&recorded.leader);
        self.state_since_ms = recorded.state_timestamp;
        self.state = match members.is_empty() {
            true => GroupState::Empty,
            false => GroupState::Stable,
        };
        self.members = members;
        self.note_subscription();
    }

    /// Whether the machine may forget it: nothing of it is in the log or under way.
    pub fn is_vacant(&self) -> bool {
        self.recorded.is_none()
            && self.state == GroupState::Empty
            && self.pending_ids.is_empty()
            && self.appends == 0
            && self.waiting.is_empty()
    }

    /// Goes over to `state`.
    pub fn transition(&mut self, state: GroupState, now: Now) {
        self.previous = self.state;
        self.state = state;
        self.state_since_ms = Some(now.wall_ms);
    }

    /// Whether every member has joined, and nobody is known to be about to.
    pub fn all_have_joined(&self) -> bool {
        self.members.joined() == self.members.len() && self.pending_ids.is_empty()
    }

    /// How long a rebalance waits: as long as the most patient member asks for.
    pub fn rebalance_timeout(&self) -> Duration {
        let timeouts = self
            .members
            .iter()
            .map(|member| member.rebalance_timeout_ms);
        millis(timeouts.max().unwrap_or(0))
    }

    /// Checks that a request comes from a member: Kafka's `validateMember`.
    pub fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&ByteString>,
    ) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.members.id_of_instance(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(holder) if holder != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.get(member_id) {
            Some(_) => Ok(()),
            None => Err(GroupError::UnknownMemberId),
        }
    }

    /// All members as their leader sees them.
    pub fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_ref();
        let joined = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: protocol.map_or_else(Bytes::new, |name| member.metadata(name)),
        };
        self.members.iter().map(joined).collect()
    }

    /// What the members' metadata say about topics.
    pub fn current_subscription(&self) -> Subscribed {
        let Some(protocol_type) = &self.protocol_type else {
            return Subscribed::Unknown;
        };
        let protocol = self.protocol.clone().unwrap_or_default();
        let metadata: Vec<_> = self
            .members
            .iter()
            .map(|it| it.metadata(&protocol))
            .collect();
        Subscribed::of_members(protocol_type, &metadata)
    }

    /// The group's record, with `assignment` of each member.
    pub fn to_record(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupRecord {
        let protocol = self.protocol.as_ref();
        let members = self.members.iter();
        let members = members.map(|member| member.to_record(protocol, assignment(member)));
        let metadata = GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_since_ms,
            members: members.collect(),
        };
        GroupRecord::Group {
            group: self.id.clone(),
            value: Some(metadata),
        }
    }

    /// Has `records` appended, and `then` done when that has ended.
    pub fn append(&mut self, records: Vec<GroupRecord>, then: Then, cx: &mut Context<'_>) {
        debug_assert!(!records.is_empty(), "an append has records");
        self.appends += 1;
        let after = After {
            group: self.id.clone(),
            incarnation: self.incarnation,
            then,
        };
        cx.out.appends.push(Append { records, after });
    }

    /// Starts to wait for the next sign of life of a member.
    pub fn arm_session(&self, member_id: &str, cx: &mut Context<'_>) {
        if let Some(member) = self.members.get(member_id) {
            let timeout = millis(member.session_timeout_ms);
            cx.arm(self.member_timer(&member.id), timeout);
        }
    }

    /// The timer of a member or of an id that was handed out.
    pub fn member_timer(&self, member: &ByteString) -> TimerKey {
        TimerKey::Member {
            group: self.id.clone(),
            member: member.clone(),
        }
    }

    /// Forgets an id that was handed out. False if it was not.
    pub fn drop_pending_id(&mut self, id: &ByteString, cx: &mut Context<'_>) -> bool {
        let was_pending = self.pending_ids.remove(id);
        if was_pending {
            *cx.pending_ids -= 1;
            self.pending_bytes -= id.len();
            let timer = self.member_timer(id);
            cx.timers.cancel(&timer);
        }
        was_pending
    }

    /// Takes a member out. What it waits for is answered that it is unknown.
    pub fn remove_member(&mut self, id: &ByteString, cx: &mut Context<'_>) {
        if let Some(reply_to) = self.members.take_join(id) {
            let refused = GroupError::UnknownMemberId;
            let reply = JoinReply::refused(refused, ByteString::new());
            cx.out.reply(reply_to, Reply::Join(reply));
        }
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Some(reply_to) = member.sync {
            let refused = Reply::Sync(Err(GroupError::UnknownMemberId));
            cx.out.reply(reply_to, refused);
        }
        self.pending_syncs.remove(id);
        let timer = self.member_timer(id);
        cx.timers.cancel(&timer);
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.iter().next().map(|member| member.id.clone());
        }
    }
}

/// A number of milliseconds off the wire; a negative one counts as none.
pub fn millis(ms: i32) -> Duration {
    Duration::from_millis(ms.max(0) as u64)
}

/// A copy that shares no memory with what was read together with `metadata`.
pub fn detached(metadata: &GroupMetadata) -> GroupMetadata {
    let text = |text: &ByteString| ByteString::from(&**text);
    let bytes = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let member = |member: &MemberMetadata| MemberMetadata {
        member_id: text(&member.member_id),
        instance_id: member.instance_id.as_ref().map(text),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        subscription: bytes(&member.subscription),
        assignment: bytes(&member.assignment),
        ..*member
    };
    GroupMetadata {
        protocol_type: text(&metadata.protocol_type),
        protocol: metadata.protocol.as_ref().map(text),
        leader: metadata.leader.as_ref().map(text),
        members: metadata.members.iter().map(member).collect(),
        ..*metadata
    }
}
