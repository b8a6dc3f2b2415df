//! JoinGroup: who may be a member, and what joining does in each state. Pure.

use std::time::Duration;

use bytestring::ByteString;
use uuid::Builder;

use super::classic::{Context, Group, millis};
use super::command::{JoinGroup, JoinReply, Reply, ReplyId};
use super::config::GroupConfig;
use super::error::GroupError;
use super::event::Why;
use super::member::Member;
use super::protocols;
use super::state::GroupState;
use crate::base::limits::{
    GROUP_RECORD_OVERHEAD_BYTES, NEW_MEMBER_JOIN_TIMEOUT_MS, PENDING_IDS_OF_ANY_GROUP,
    PENDING_IDS_PER_GROUP_MAX, PENDING_IDS_PER_PARTITION_MAX, PROTOCOLS_TO_RECORD_MAX,
};

/// What is wrong with a request before its group is looked at.
pub fn check(join: &JoinGroup, config: &GroupConfig) -> Result<(), GroupError> {
    let allowed = config.min_session_timeout_ms..=config.max_session_timeout_ms;
    if join.group.is_empty() {
        Err(GroupError::InvalidGroupId)
    } else if !allowed.contains(&join.session_timeout_ms) {
        Err(GroupError::InvalidSessionTimeout)
    } else {
        Ok(())
    }
}

/// The id of a new member: the client's name, or its instance id, and 122 random bits. A name that
/// is as long as names get is cut: with more behind it neither an answer nor a record could hold
/// it.
fn new_member_id(join: &JoinGroup) -> ByteString {
    let uuid = Builder::from_random_bytes(join.random.to_be_bytes()).into_uuid();
    let name = join.instance_id.as_ref().unwrap_or(&join.client_id);
    let name = &name[..name.floor_char_boundary(MEMBER_NAME_BYTES_MAX)];
    ByteString::from(format!("{name}-{uuid}"))
}

/// What a member's id has of its client's name at most, in bytes: 37 follow, and a protocol string
/// has no more than 32,767.
const MEMBER_NAME_BYTES_MAX: usize = i16::MAX as usize - 37;

impl Group {
    /// Lets a client join. The answer is given at once, or when the rebalance is through.
    pub fn join(&mut self, mut join: JoinGroup, reply_to: ReplyId, cx: &mut Context<'_>) {
        protocols::without_duplicates(&mut join.protocols);
        let refused = if !self.has_room(&join, cx.config) {
            self.expel(&join.member_id, cx);
            Some((GroupError::GroupMaxSizeReached, ByteString::new()))
        } else if !self.accepts_protocols(&join) {
            Some((GroupError::InconsistentProtocol, join.member_id.clone()))
        } else if join.member_id.is_empty() {
            self.join_without_id(join, reply_to, cx);
            None
        } else {
            self.join_with_id(join, reply_to, cx);
            None
        };
        if let Some((error, member_id)) = refused {
            refuse(reply_to, error, member_id, cx);
        }
    }

    /// Whether the group may take the member (KIP-389), and its record all members' metadata.
    ///
    /// Unlike Kafka, a static member that has lost its id is the member that it was: it adds
    /// nobody, so that a full group does not lock it out.
    fn has_room(&self, join: &JoinGroup, config: &GroupConfig) -> bool {
        let instance_id = join.instance_id.as_ref();
        let member_id = match instance_id.filter(|_| join.member_id.is_empty()) {
            Some(instance_id) => self.members.id_of_instance(instance_id),
            None => Some(&join.member_id),
        };
        let member = member_id.and_then(|id| self.members.get(id));
        let is_within_size = match self.state {
            GroupState::Empty => true,
            GroupState::PreparingRebalance => {
                member.is_some_and(Member::has_joined) || self.members.joined() < config.max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || self.members.len() < config.max_size
            }
        };
        let joining = Member::joining(join, join.member_id.clone());
        let others = self.members.record_bytes() - member.map_or(0, Member::record_bytes);
        let overhead = self.id.len() + join.protocol_type.len() + GROUP_RECORD_OVERHEAD_BYTES;
        let record_bytes = others + joining.record_bytes() + overhead;
        let others = self.members.protocols_bytes() - member.map_or(0, Member::protocols_bytes);
        let protocols_bytes = others + joining.protocols_bytes();
        is_within_size
            && record_bytes <= config.record_bytes_max
            && protocols_bytes <= config.record_bytes_max * PROTOCOLS_TO_RECORD_MAX
    }

    /// Takes out whoever there is no room for.
    fn expel(&mut self, member_id: &ByteString, cx: &mut Context<'_>) {
        if self.drop_pending_id(member_id, cx) {
            if self.state == GroupState::PreparingRebalance {
                self.maybe_complete_join(cx);
            }
        } else if self.members.get(member_id).is_some() {
            self.remove_member(member_id, cx);
            self.after_leave(cx);
        }
    }

    /// Whether the group can work with what the client brings, Kafka's `supportsProtocols`.
    fn accepts_protocols(&self, join: &JoinGroup) -> bool {
        if self.state == GroupState::Empty {
            !join.protocol_type.is_empty() && !join.protocols.is_empty()
        } else {
            self.protocol_type.as_ref() == Some(&join.protocol_type)
                && protocols::has_common(&self.members, &join.protocols)
        }
    }

    fn join_without_id(&mut self, join: JoinGroup, reply_to: ReplyId, cx: &mut Context<'_>) {
        let id = new_member_id(&join);
        match &join.instance_id {
            Some(instance_id) => match self.members.id_of_instance(instance_id).cloned() {
                Some(old) => self.replace_static_member(&old, id, &join, reply_to, cx),
                None => self.add_member(&join, id, reply_to, cx),
            },
            None if join.knows_member_id_required => {
                let timeout = millis(join.session_timeout_ms);
                match self.hand_out_id(&id, timeout, cx) {
                    true => refuse(reply_to, GroupError::MemberIdRequired, id, cx),
                    false => refuse(reply_to, GroupError::NotAvailable, ByteString::new(), cx),
                }
            }
            None => self.add_member(&join, id, reply_to, cx),
        }
    }

    /// Keeps `id` for the client to join with. False where too many are kept already.
    fn hand_out_id(&mut self, id: &ByteString, timeout: Duration, cx: &mut Context<'_>) -> bool {
        let is_full = self.pending_ids.len() >= PENDING_IDS_PER_GROUP_MAX
            || (*cx.pending_ids >= PENDING_IDS_PER_PARTITION_MAX
                && self.pending_ids.len() >= PENDING_IDS_OF_ANY_GROUP);
        if !is_full && self.pending_ids.insert(id.clone()) {
            *cx.pending_ids += 1;
            self.pending_bytes += id.len();
            cx.arm(self.member_timer(id), timeout);
        }
        !is_full
    }

    fn join_with_id(&mut self, join: JoinGroup, reply_to: ReplyId, cx: &mut Context<'_>) {
        let id = join.member_id.clone();
        if self.pending_ids.contains(&id) {
            if join.instance_id.is_some() {
                refuse(reply_to, GroupError::Unexpected, ByteString::new(), cx);
            } else {
                self.drop_pending_id(&id, cx);
                self.add_member(&join, id, reply_to, cx);
            }
            return;
        }
        if let Err(error) = self.check_member(&id, join.instance_id.as_ref()) {
            refuse(reply_to, error, id, cx);
            return;
        }
        let member = self.members.get(&id);
        let is_same = member.is_some_and(|member| member.protocols() == join.protocols);
        match self.state {
            GroupState::Empty => refuse(reply_to, GroupError::UnknownMemberId, id, cx),
            GroupState::PreparingRebalance => {
                self.rejoin(&join, reply_to, cx);
                self.maybe_complete_join(cx);
            }
            // The answer was lost on its way: it is given again.
            GroupState::CompletingRebalance if is_same => {
                cx.out
                    .reply(reply_to, Reply::Join(self.generation_reply(&id)));
            }
            // Only a leader that sees a change in the topics rejoins without one in its protocols.
            GroupState::Stable if is_same && self.leader.as_ref() != Some(&id) => {
                cx.out
                    .reply(reply_to, Reply::Join(self.generation_reply(&id)));
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.rejoin(&join, reply_to, cx);
                self.prepare_rebalance_for(Why::MemberRejoins, join.reason, cx);
            }
        }
    }

    /// Lets a member wait for the next generation, with what it says now.
    fn rejoin(&mut self, join: &JoinGroup, reply_to: ReplyId, cx: &mut Context<'_>) {
        self.members.update(&join.member_id, join);
        if let Some(before) = self.members.park_join(&join.member_id, reply_to) {
            let id = join.member_id.clone();
            refuse(before, GroupError::RebalanceInProgress, id, cx);
        }
    }

    fn add_member(
        &mut self,
        join: &JoinGroup,
        id: ByteString,
        reply_to: ReplyId,
        cx: &mut Context<'_>,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.has_newcomer |= self.initial_delay.is_some();
        self.leader.get_or_insert_with(|| id.clone());
        self.members.add(Member::joining(join, id.clone()));
        self.members.park_join(&id, reply_to);
        let timeout = Duration::from_millis(NEW_MEMBER_JOIN_TIMEOUT_MS);
        cx.arm(self.member_timer(&id), timeout);
        match self.state {
            GroupState::PreparingRebalance => self.maybe_complete_join(cx),
            _ => self.prepare_rebalance_for(Why::NewMember, join.reason.clone(), cx),
        }
    }
}

fn refuse(reply_to: ReplyId, error: GroupError, member_id: ByteString, cx: &mut Context<'_>) {
    let reply = JoinReply::refused(error, member_id);
    cx.out.reply(reply_to, Reply::Join(reply));
}
