//! A rebalance from its start to the answers of the join phase, Kafka's `prepareRebalance` and
//! `completeClassicGroupJoin`. Pure.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::classic::{Context, Group, InitialDelay, TimerKey};
use super::command::{JoinReply, Reply};
use super::error::GroupError;
use super::event::{GroupEvent, What, Why};
use super::machine::Then;
use super::member::Member;
use super::planted::{self, Bug};
use super::protocols;
use super::state::GroupState;
use crate::base::limits::REBALANCE_REPEATED_MS_MIN;

impl Group {
    /// Starts a rebalance, which ends at once where everybody has joined. A group that was empty
    /// waits a little for more members first.
    pub fn prepare_rebalance(&mut self, why: Why, cx: &mut Context<'_>) {
        self.prepare_rebalance_for(why, None, cx);
    }

    /// The same for a client that may have said why it joins.
    pub fn prepare_rebalance_for(
        &mut self,
        why: Why,
        client: Option<ByteString>,
        cx: &mut Context<'_>,
    ) {
        self.tell(What::Rebalances { why, client }, cx);
        if self.state == GroupState::CompletingRebalance {
            self.fail_assignments(GroupError::RebalanceInProgress, cx);
        }
        cx.timers.cancel(&TimerKey::Sync(self.id.clone()));
        self.pending_syncs.clear();
        self.is_recording_assignments = false;
        let is_first = self.state == GroupState::Empty;
        self.transition(GroupState::PreparingRebalance, cx.now);
        if is_first {
            let step = cx.config.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(step);
            self.initial_delay = Some(InitialDelay { step, remaining });
            self.has_newcomer = false;
            cx.arm(TimerKey::Join(self.id.clone()), step);
        } else if self.all_have_joined() {
            self.complete_join(cx);
        } else {
            cx.arm(TimerKey::Join(self.id.clone()), self.rebalance_timeout());
        }
    }

    /// Ends the join phase if nobody is missing. The first phase of a group lasts as long as it
    /// lasts, since more members may come.
    pub fn maybe_complete_join(&mut self, cx: &mut Context<'_>) {
        if self.previous != GroupState::Empty {
            self.complete_join_of_all(cx);
        }
    }

    /// Has operators told.
    pub fn tell(&self, what: What, cx: &mut Context<'_>) {
        cx.out.events.push(GroupEvent {
            group: self.id.clone(),
            generation: self.generation,
            what,
        });
    }

    /// What follows when members have left or an id was given up.
    pub fn after_leave(&mut self, cx: &mut Context<'_>) {
        match self.state {
            GroupState::Empty => {}
            GroupState::PreparingRebalance => self.maybe_complete_join(cx),
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.prepare_rebalance(Why::MembersGone, cx);
            }
        }
    }

    /// What follows when a member has expired. As in Kafka this ends a first join phase, too, if
    /// nobody else is missing.
    pub fn after_expiry(&mut self, cx: &mut Context<'_>) {
        match self.state {
            GroupState::PreparingRebalance => self.complete_join_of_all(cx),
            _ => self.after_leave(cx),
        }
    }

    fn complete_join_of_all(&mut self, cx: &mut Context<'_>) {
        if self.state == GroupState::PreparingRebalance && self.all_have_joined() {
            self.complete_join(cx);
        }
    }

    /// The time of the join phase is up.
    pub fn on_join_timer(&mut self, cx: &mut Context<'_>) {
        if self.state != GroupState::PreparingRebalance {
            return;
        }
        if let Some(delay) = self.initial_delay
            && self.has_newcomer
            && delay.remaining > Duration::ZERO
        {
            let step = delay.remaining.min(cx.config.initial_rebalance_delay);
            let remaining = delay.remaining.saturating_sub(delay.step);
            self.has_newcomer = false;
            self.initial_delay = Some(InitialDelay { step, remaining });
            cx.arm(TimerKey::Join(self.id.clone()), step);
        } else {
            self.complete_join(cx);
        }
    }

    /// The time of the sync phase is up: who has not synced is taken for gone.
    pub fn on_sync_timer(&mut self, cx: &mut Context<'_>) {
        let is_in_generation = matches!(
            self.state,
            GroupState::CompletingRebalance | GroupState::Stable
        );
        if !is_in_generation || self.pending_syncs.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_syncs) {
            self.tell(What::NotSynced(id.clone()), cx);
            self.remove_member(&id, cx);
        }
        self.prepare_rebalance(Why::NotSynced, cx);
    }

    /// Ends the join phase: whoever has joined is in the next generation. Static members stay in
    /// the group even if they have not (KIP-345).
    pub fn complete_join(&mut self, cx: &mut Context<'_>) {
        cx.timers.cancel(&TimerKey::Join(self.id.clone()));
        self.initial_delay = None;
        self.has_newcomer = false;
        let is_absent = |it: &Member| !it.has_joined() && it.instance_id.is_none();
        for id in self.members.ids_where(is_absent) {
            self.tell(What::NotRejoined(id.clone()), cx);
            self.remove_member(&id, cx);
        }
        if !self.members.is_empty() && self.members.joined() == 0 {
            // Only static members are left, and nobody could assign.
            let again = self.rebalance_timeout();
            let again = again.max(Duration::from_millis(REBALANCE_REPEATED_MS_MIN));
            cx.arm(TimerKey::Join(self.id.clone()), again);
            return;
        }
        // The number is 32 bits wide on the wire and never negative there.
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        if self.members.is_empty() {
            self.become_empty(cx);
        } else {
            self.begin_generation(cx);
        }
    }

    fn become_empty(&mut self, cx: &mut Context<'_>) {
        self.protocol = None;
        self.leader = None;
        self.note_subscription();
        self.transition(GroupState::Empty, cx.now);
        self.tell(What::Empty, cx);
        let record = self.to_record(|_| Bytes::new());
        self.append(vec![record], Then::Emptied { leave: None }, cx);
    }

    fn begin_generation(&mut self, cx: &mut Context<'_>) {
        let leads = self.leader.as_ref().and_then(|id| self.members.get(id));
        if !leads.is_some_and(|leader| leader.has_joined()) {
            let mut joined = self.members.iter().filter(|member| member.has_joined());
            self.leader = joined.next().map(|member| member.id.clone());
        }
        self.protocol = protocols::elect(&self.members);
        self.note_subscription();
        self.transition(GroupState::CompletingRebalance, cx.now);
        let members = self.members.len();
        self.tell(What::Joined { members }, cx);
        for id in self.members.ids_where(|_| true) {
            if let Some(reply_to) = self.members.take_join(&id) {
                let reply = self.generation_reply(&id);
                cx.out.reply(reply_to, Reply::Join(reply));
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.arm_session(&id, cx);
            self.pending_syncs.insert(id);
        }
        let timeout = self.rebalance_timeout();
        let timeout = timeout.max(Duration::from_millis(REBALANCE_REPEATED_MS_MIN));
        if !planted::is(Bug::SyncsAwaitedForEver) {
            cx.arm(TimerKey::Sync(self.id.clone()), timeout);
        }
    }

    /// The answer to a member of the generation.
    pub fn generation_reply(&self, member_id: &ByteString) -> JoinReply {
        let leads = self.leader.as_ref() == Some(member_id);
        JoinReply {
            result: Ok(()),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.clone(),
            members: match leads {
                true => self.joined_members(),
                false => Vec::new(),
            },
        }
    }

    /// Nobody is assigned anything, and whoever waits for it is told why.
    pub fn fail_assignments(&mut self, error: GroupError, cx: &mut Context<'_>) {
        let mut told = Vec::new();
        for member in self.members.iter_mut() {
            member.assignment = Bytes::new();
            if let Some(reply_to) = member.sync.take() {
                cx.out.reply(reply_to, Reply::Sync(Err(error)));
                told.push(member.id.clone());
            }
        }
        for id in told {
            self.arm_session(&id, cx);
        }
    }
}
