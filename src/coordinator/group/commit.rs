//! Committed offsets as the machine serves them: who may commit, and what a group's state means for
//! its offsets. Pure.

use std::mem;
use std::ops::Bound;
use std::time::Duration;

use bytestring::ByteString;

use super::classic::{Group, TimerKey};
use super::command::{CommitOffsets, DeleteOffsets, Effects, FetchOffsets, Now, Reply, ReplyId};
use super::error::GroupError;
use super::machine::{Machine, Then};
use super::offsets::{Expiry, Offsets, Phase};
use super::planted::{self, Bug};
use super::record::GroupRecord;
use super::state::GroupState;
use super::subscription::{CONSUMER_PROTOCOL_TYPE, Subscribed};
use crate::base::limits::{
    EXPIRED_OFFSETS_PER_BATCH_MAX, EXPIRY_CONTINUED_MS, EXPIRY_GROUPS_PER_STEP_MAX,
    EXPIRY_STEP_PAUSE_MS,
};

/// A round through all groups, in steps, that looks for expired offsets.
#[derive(Debug, Default)]
pub struct ExpiryRound {
    /// The last group that was looked at; none at the beginning.
    after: Option<ByteString>,
    /// Whether there was more than fits into a batch.
    leaves_some: bool,
}

impl Group {
    /// Whether the sender may commit, Kafka's `validateOffsetCommit`. Clients that assign by hand
    /// send no generation, and may as long as the group has no members.
    fn check_commit(&self, request: &CommitOffsets) -> Result<(), GroupError> {
        if request.generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        let names_member = request.generation >= 0
            || !request.member_id.is_empty()
            || request.instance_id.is_some();
        if !names_member {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        let is_old = request.generation != self.generation;
        if is_old && !planted::is(Bug::CommitOfAnyGeneration) {
            Err(GroupError::IllegalGeneration)
        } else if self.state == GroupState::CompletingRebalance {
            // The member has joined the next generation and does not know what it owns there.
            Err(GroupError::RebalanceInProgress)
        } else {
            Ok(())
        }
    }

    /// The group's state as far as its offsets care.
    fn offsets_phase(&self) -> Phase {
        match self.state {
            GroupState::Empty => Phase::Empty {
                since: self.state_since_ms,
            },
            GroupState::Stable => Phase::Stable,
            GroupState::PreparingRebalance | GroupState::CompletingRebalance => Phase::Rebalancing,
        }
    }
}

impl Machine {
    pub(super) fn commit(
        &mut self,
        request: CommitOffsets,
        reply_to: ReplyId,
        now: Now,
        out: &mut Effects,
    ) {
        if let Err(error) = self.check_commit(&request) {
            out.reply(reply_to, Reply::Commit(Err(error)));
            return;
        }
        if self.lacks_memory_for_offsets(&request) {
            out.lacks_memory = true;
            out.reply(reply_to, Reply::Commit(Err(GroupError::NotAvailable)));
            return;
        }
        let (records, results) = Offsets::prepare_commit(
            &request.group,
            request.offsets,
            request.retention_ms,
            self.config.offset_metadata_units_max,
            now.wall_ms,
        );
        let (group, mut cx) = self.group_or_new(&request.group, now, out);
        if matches!(
            group.state,
            GroupState::Stable | GroupState::PreparingRebalance
        ) {
            group.arm_session(&request.member_id, &mut cx);
        }
        if records.is_empty() {
            cx.out.reply(reply_to, Reply::Commit(Ok(results)));
        } else if planted::is(Bug::CommitAcknowledgedAtOnce) {
            cx.out.reply(reply_to, Reply::Commit(Ok(results)));
            group.append(records, Then::Expired, &mut cx);
        } else {
            group.append(records, Then::Committed { reply_to, results }, &mut cx);
        }
    }

    fn check_commit(&self, request: &CommitOffsets) -> Result<(), GroupError> {
        match self.groups.get(&request.group) {
            Some(group) => group.check_commit(request),
            None if request.generation < 0 => Ok(()),
            None if self.offsets.has_any(&request.group) => Err(GroupError::UnknownMemberId),
            None if request.knows_group_id_not_found => Err(GroupError::GroupIdNotFound),
            None => Err(GroupError::IllegalGeneration),
        }
    }

    pub(super) fn fetch(&self, request: FetchOffsets) -> Reply {
        Reply::Fetch(Ok(match request.partitions {
            Some(partitions) => self.offsets.fetch(&request.group, partitions),
            None => self.offsets.fetch_all(&request.group),
        }))
    }

    pub(super) fn delete_offsets(
        &mut self,
        request: &DeleteOffsets,
        reply_to: ReplyId,
        now: Now,
        out: &mut Effects,
    ) {
        let refused = match self.groups.get(&request.group) {
            None if !self.exists(&request.group) => Some(GroupError::GroupIdNotFound),
            Some(group) if group.state != GroupState::Empty && !group.is_of_consumers() => {
                Some(GroupError::NonEmptyGroup)
            }
            _ => None,
        };
        if let Some(error) = refused {
            out.reply(reply_to, Reply::DeleteOffsets(Err(error)));
            return;
        }
        let group = self.groups.get(&request.group);
        let group = group.filter(|group| group.state != GroupState::Empty);
        // Without members nothing is subscribed to.
        let nothing = Subscribed::nothing();
        let subscribed = group.map_or(&nothing, |group| &group.subscribed);
        let (records, results) = self.offsets.prepare_delete(
            &request.group,
            &request.partitions,
            group.map_or("", Group::type_name),
            subscribed,
        );
        if records.is_empty() {
            out.reply(reply_to, Reply::DeleteOffsets(Ok(results)));
        } else {
            let (group, mut cx) = self.group_or_new(&request.group, now, out);
            let then = Then::OffsetsDeleted { reply_to, results };
            group.append(records, then, &mut cx);
        }
    }

    pub(super) fn delete_group(
        &mut self,
        id: &ByteString,
        reply_to: ReplyId,
        now: Now,
        out: &mut Effects,
    ) {
        let state = self.groups.get(id).map(|group| group.state);
        let refused = match state {
            None if !self.exists(id) => Some(GroupError::GroupIdNotFound),
            None | Some(GroupState::Empty) => None,
            Some(_) => Some(GroupError::NonEmptyGroup),
        };
        if let Some(error) = refused {
            out.reply(reply_to, Reply::DeleteGroup(Err(error)));
            return;
        }
        let mut records = Vec::new();
        self.offsets.prepare_delete_all(id, &mut records);
        records.push(GroupRecord::Group {
            group: id.clone(),
            value: None,
        });
        let (group, mut cx) = self.group_or_new(id, now, out);
        group.is_ending = true;
        group.append(records, Then::Deleted { reply_to }, &mut cx);
    }

    /// Has the offsets that have expired removed, and the groups that are nothing without them, of
    /// some groups at a time. A group with an append under way is looked at the next time.
    pub(super) fn expire_offsets(&mut self, now: Now, out: &mut Effects) {
        let groups = self.groups_to_expire();
        self.expiry.after = groups.last().cloned();
        let is_over = groups.len() < EXPIRY_GROUPS_PER_STEP_MAX;
        for id in groups {
            self.expire_offsets_of(&id, now, out);
        }
        let pause = if !is_over {
            Duration::from_millis(EXPIRY_STEP_PAUSE_MS)
        } else if mem::take(&mut self.expiry).leaves_some {
            Duration::from_millis(EXPIRY_CONTINUED_MS)
        } else {
            self.config.offsets_retention_check_interval
        };
        let at = now.monotonic + pause;
        self.timers.arm(TimerKey::OffsetsExpiry, at);
    }

    fn expire_offsets_of(&mut self, id: &ByteString, now: Now, out: &mut Effects) {
        let (mut records, mut is_ending) = self.expired_of(id, now);
        if records.len() > EXPIRED_OFFSETS_PER_BATCH_MAX {
            records.truncate(EXPIRED_OFFSETS_PER_BATCH_MAX);
            is_ending = false;
            self.expiry.leaves_some = true;
        }
        if !records.is_empty() {
            let (group, mut cx) = self.group_or_new(id, now, out);
            group.is_ending = is_ending;
            group.append(records, Then::Expired, &mut cx);
        }
    }

    /// The next groups in order, also those that are nothing but offsets.
    fn groups_to_expire(&self) -> Vec<ByteString> {
        let after = self.expiry.after.as_ref();
        let range = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        let live = self.groups.range::<ByteString, _>(range).map(|(id, _)| id);
        let simple = self.offsets.groups_in(range);
        let most = EXPIRY_GROUPS_PER_STEP_MAX;
        let mut next: Vec<_> = live.take(most).chain(simple.take(most)).cloned().collect();
        next.sort_unstable();
        next.dedup();
        next.truncate(most);
        next
    }

    /// The records that remove what has expired of a group, and whether the group goes with it.
    fn expired_of(&self, id: &ByteString, now: Now) -> (Vec<GroupRecord>, bool) {
        let simple = Subscribed::Unknown;
        let group = self.groups.get(id);
        if group.is_some_and(|group| group.appends > 0 || !group.waiting.is_empty()) {
            return (Vec::new(), false);
        }
        let no_members = Phase::Empty { since: None };
        let phase = group.map_or(no_members, Group::offsets_phase);
        let nothing = Subscribed::nothing();
        let subscribed = match (group, phase) {
            (Some(_), Phase::Empty { .. }) => &nothing,
            (Some(group), _) => &group.subscribed,
            (None, _) => &simple,
        };
        let expiry = Expiry {
            protocol_type: group.map_or("", Group::type_name),
            phase,
            subscribed,
            now_ms: now.wall_ms,
            retention_ms: self.config.offsets_retention.as_millis() as i64,
        };
        let mut records = Vec::new();
        let is_all = self.offsets.prepare_expiry(id, &expiry, &mut records);
        // An id that was handed out is a member to be: it would find its group gone.
        let is_abandoned = group
            .is_none_or(|group| group.state == GroupState::Empty && group.pending_ids.is_empty());
        let is_ending = is_all && is_abandoned;
        if is_ending {
            records.push(GroupRecord::Group {
                group: id.clone(),
                value: None,
            });
        }
        (records, is_ending)
    }
}

impl Group {
    /// The group's type; empty where it has none yet.
    pub fn type_name(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    fn is_of_consumers(&self) -> bool {
        self.type_name() == CONSUMER_PROTOCOL_TYPE
    }
}
