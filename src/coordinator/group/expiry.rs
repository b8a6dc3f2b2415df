//! Members that were silent for too long, and ids that nobody joined with. Pure.

use bytestring::ByteString;

use super::classic::{Context, Group};
use super::event::What;
use super::state::GroupState;

impl Group {
    /// The time of a member, or of an id that was handed out, is up.
    ///
    /// A member that waits for an answer cannot send heartbeats and stays: its time starts anew
    /// when it is answered. One that was in no generation yet goes all the same, since it may have
    /// left without a word.
    pub fn on_member_timer(&mut self, id: &ByteString, cx: &mut Context<'_>) {
        if self.drop_pending_id(id, cx) {
            if self.state == GroupState::PreparingRebalance {
                self.after_expiry(cx);
            }
            return;
        }
        let member = self.members.get(id);
        if member.is_some_and(|member| member.is_new || !member.is_waiting()) {
            self.tell(What::Expired(id.clone()), cx);
            self.remove_member(id, cx);
            self.after_expiry(cx);
        }
    }
}
