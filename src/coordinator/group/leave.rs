//! LeaveGroup: members go, by themselves or named by an administrator. Pure.

use super::classic::{Context, Group};
use super::command::{Append, LeaveGroup, LeaveReply, LeavingMember, Reply, ReplyId};
use super::error::GroupError;
use super::event::What;
use super::machine::{After, Then};

impl LeaveReply {
    /// The answer of a group that does not exist: nobody is a member of it.
    pub fn of_no_group(request: LeaveGroup) -> Self {
        let unknown = Err(GroupError::UnknownMemberId);
        let members = request.members.into_iter();
        Self {
            members: members.map(|leaving| (leaving, unknown)).collect(),
        }
    }
}

impl Group {
    /// Takes members out, each for itself. If the group becomes empty by it, the answer waits for
    /// the record that says so.
    pub fn leave(&mut self, request: LeaveGroup, reply_to: ReplyId, cx: &mut Context<'_>) {
        let mut members = Vec::with_capacity(request.members.len());
        for leaving in request.members {
            let result = self.leave_one(&leaving, cx);
            members.push((leaving, result));
        }
        let appends_before = cx.out.appends.len();
        if members.iter().any(|(_, result)| result.is_ok()) {
            self.after_leave(cx);
        }
        let reply = LeaveReply { members };
        match cx.out.appends.get_mut(appends_before) {
            Some(Append {
                after:
                    After {
                        then: Then::Emptied { leave },
                        ..
                    },
                ..
            }) => *leave = Some((reply_to, reply)),
            _ => cx.out.reply(reply_to, Reply::Leave(Ok(reply))),
        }
    }

    fn leave_one(
        &mut self,
        leaving: &LeavingMember,
        cx: &mut Context<'_>,
    ) -> Result<(), GroupError> {
        let instance_id = leaving.instance_id.as_ref();
        let id = if leaving.member_id.is_empty() {
            let holder = instance_id.and_then(|it| self.members.id_of_instance(it));
            holder.cloned().ok_or(GroupError::UnknownMemberId)?
        } else if self.drop_pending_id(&leaving.member_id, cx) {
            return Ok(());
        } else {
            self.check_member(&leaving.member_id, instance_id)?;
            leaving.member_id.clone()
        };
        let event = What::Left {
            member: id.clone(),
            client: leaving.reason.clone(),
        };
        self.tell(event, cx);
        self.remove_member(&id, cx);
        Ok(())
    }
}
