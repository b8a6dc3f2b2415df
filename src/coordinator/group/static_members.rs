//! Static members (KIP-345): a restarted client takes the place of the one it was. Pure.

use bytestring::ByteString;

use super::classic::{Context, Group};
use super::command::{JoinGroup, JoinReply, Reply, ReplyId};
use super::error::GroupError;
use super::event::{What, Why};
use super::machine::Then;
use super::member::Member;
use super::protocols;
use super::state::GroupState;

/// A replacement that becomes known when its record is durable.
#[derive(Debug)]
pub struct Replacement {
    /// The member that was replaced, as it was.
    old: Member,
    /// The id of the one that took over.
    new_id: ByteString,
    /// Who led before.
    old_leader: Option<ByteString>,
    knows_skip_assignment: bool,
    reply_to: ReplyId,
}

impl Replacement {
    /// The answer where the record could not be appended, or the group is gone.
    pub fn failed(self, error: GroupError) -> (ReplyId, Reply) {
        let reply = JoinReply::refused(error, ByteString::new());
        (self.reply_to, Reply::Join(reply))
    }
}

impl Group {
    /// Gives the place of the static member `old` to a client that has its instance id and got the
    /// id `new`. There is no rebalance if the group is stable and stays with its protocol.
    pub fn replace_static_member(
        &mut self,
        old: &ByteString,
        new: ByteString,
        join: &JoinGroup,
        reply_to: ReplyId,
        cx: &mut Context<'_>,
    ) {
        let old_leader = self.leader.clone();
        let successor = self.members.get(old).map(|it| it.successor(new.clone()));
        let replaced = successor.and_then(|member| self.take_over(old, member, cx));
        let before = replaced.expect("the group knows the instance id by this member");
        let event = What::Replaced {
            old: old.clone(),
            new: new.clone(),
        };
        self.tell(event, cx);
        self.arm_session(&new, cx);
        self.members.update(&new, join);
        let keeps_protocol = protocols::elect(&self.members) == self.protocol;
        if self.state == GroupState::Stable && keeps_protocol {
            let record = self.to_record(|member| member.assignment.clone());
            let replacement = Replacement {
                old: before,
                new_id: new,
                old_leader,
                knows_skip_assignment: join.knows_skip_assignment,
                reply_to,
            };
            self.append(vec![record], Then::Replaced(Box::new(replacement)), cx);
            return;
        }
        self.members.park_join(&new, reply_to);
        match self.state {
            GroupState::PreparingRebalance => self.maybe_complete_join(cx),
            _ => self.prepare_rebalance_for(Why::StaticMemberBack, join.reason.clone(), cx),
        }
    }

    /// The record of a replacement is durable: the member learns what it has taken over.
    pub fn replaced(&mut self, replacement: Replacement, cx: &mut Context<'_>) {
        let id = &replacement.new_id;
        let instance_id = replacement.old.instance_id.as_ref();
        let reply = match self.check_member(id, instance_id) {
            Err(error) => JoinReply::refused(error, id.clone()),
            Ok(()) if replacement.knows_skip_assignment => JoinReply {
                skip_assignment: self.leader.as_ref() == Some(id),
                ..self.generation_reply(id)
            },
            // A client that cannot be told to skip it would assign if it saw that it leads. The
            // leader of before is nobody's id now.
            Ok(()) => JoinReply {
                leader: replacement.old_leader.unwrap_or_default(),
                members: Vec::new(),
                ..self.generation_reply(id)
            },
        };
        cx.out.reply(replacement.reply_to, Reply::Join(reply));
    }

    /// The record of a replacement is not in the log: the member that was replaced is back.
    pub fn not_replaced(
        &mut self,
        replacement: Replacement,
        error: GroupError,
        cx: &mut Context<'_>,
    ) {
        let reply = JoinReply {
            result: Err(error),
            leader: replacement.old_leader.unwrap_or_default(),
            member_id: ByteString::new(),
            members: Vec::new(),
            ..self.generation_reply(&replacement.new_id)
        };
        cx.out.reply(replacement.reply_to, Reply::Join(reply));
        let old_id = replacement.old.id.clone();
        if self
            .take_over(&replacement.new_id, replacement.old, cx)
            .is_some()
        {
            self.arm_session(&old_id, cx);
        }
    }

    /// Puts `member` where that of the id `old` was, whose requests are fenced. Returns the latter
    /// without them.
    fn take_over(
        &mut self,
        old: &ByteString,
        member: Member,
        cx: &mut Context<'_>,
    ) -> Option<Member> {
        let fenced = GroupError::FencedInstanceId;
        if let Some(reply_to) = self.members.take_join(old) {
            let reply = JoinReply::refused(fenced, old.clone());
            cx.out.reply(reply_to, Reply::Join(reply));
        }
        let new = member.id.clone();
        let mut before = self.members.replace(old, member)?;
        if let Some(reply_to) = before.sync.take() {
            cx.out.reply(reply_to, Reply::Sync(Err(fenced)));
        }
        let timer = self.member_timer(old);
        cx.timers.cancel(&timer);
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(new.clone());
        }
        if self.pending_syncs.remove(old) {
            self.pending_syncs.insert(new);
        }
        Some(before)
    }
}
