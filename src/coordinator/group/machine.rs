//! All groups and committed offsets of one partition of `__consumer_offsets`: commands in, replies
//! and records out. Pure; owned by the shard that owns the partition, which keeps the time, sends
//! the replies and appends the records.
//!
//! Commands are checked against what was replayed. The requests that a group's records must not
//! overtake (those that delete something, and reads that want what is under way) wait until the
//! group's appends have ended, and what is about offsets waits behind them. Membership goes on, but
//! for a group that is being deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::classic::{Context, Group, TimerKey, detached};
use super::command::{
    Command, Effects, FetchOffsets, Heartbeat, JoinGroup, JoinReply, LeaveReply, Now, Reply,
    ReplyId, SyncGroup,
};
use super::commit::ExpiryRound;
use super::config::GroupConfig;
use super::deleted_topics::DeletedTopics;
use super::error::GroupError;
use super::event::Why;
use super::join;
use super::memory::Limits;
use super::offsets::{OffsetResult, Offsets};
use super::planted::{self, Bug};
use super::record::GroupRecord;
use super::static_members::Replacement;
use super::timers::Timers;
use crate::base::ids::{PartitionIndex, TopicId};
use crate::base::limits::{
    GROUP_EFFECTS_PER_STEP_MAX, GROUP_REQUESTS_WAITING_MAX, GROUP_TIMERS_PER_STEP_MAX,
};

/// What waits for the records of an operation; opaque to who appends them.
#[derive(Debug)]
pub struct After {
    pub(super) group: ByteString,
    pub(super) incarnation: u64,
    pub(super) then: Then,
}

/// What follows an append.
#[derive(Debug)]
pub(super) enum Then {
    /// The group exists.
    Created,
    /// The members of the generation learn their assignments.
    Assigned {
        /// The generation.
        generation: i32,
    },
    /// The group is known to be empty, and who left hears of it.
    Emptied {
        /// The LeaveGroup that emptied it.
        leave: Option<(ReplyId, LeaveReply)>,
    },
    /// A static member learns what it has taken over.
    Replaced(Box<Replacement>),
    /// A commit is answered.
    Committed {
        /// Who committed.
        reply_to: ReplyId,
        /// What becomes of each offset.
        results: Vec<OffsetResult>,
    },
    /// An OffsetDelete is answered.
    OffsetsDeleted {
        /// Who asked for it.
        reply_to: ReplyId,
        /// What becomes of each offset.
        results: Vec<OffsetResult>,
    },
    /// The group is gone.
    Deleted {
        /// Who asked for it.
        reply_to: ReplyId,
    },
    /// Offsets, and perhaps the group, have expired.
    Expired,
    /// The offsets of a deleted topic are gone.
    TopicForgotten,
}

/// Whether the machine has what is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Loading,
    Active,
    Unloaded,
}

/// All groups of one partition.
#[derive(Debug)]
pub struct Machine {
    pub(super) config: GroupConfig,
    partition: PartitionIndex,
    life: Life,
    pub(super) groups: BTreeMap<ByteString, Group>,
    pub(super) offsets: Offsets,
    pub(super) timers: Timers<TimerKey>,
    /// Ids handed out in all groups.
    pub(super) pending_ids: usize,
    /// What the groups take without their offsets, in bytes.
    pub(super) groups_bytes: usize,
    /// What they may take with them.
    pub(super) limits: Limits,
    next_incarnation: u64,
    /// What is known of the round that looks for expired offsets.
    pub(super) expiry: ExpiryRound,
    /// Topics for which a commit may still be on its way although they are gone.
    deleted_topics: DeletedTopics,
    /// Groups that have offsets of deleted topics, which go as soon as nothing is on its way for
    /// the group. Beside each the topics of which offsets without an id go as well.
    orphaned: BTreeMap<ByteString, BTreeSet<ByteString>>,
}

impl Machine {
    /// A machine that has nothing yet: it is given the log's records, then told that it is loaded.
    pub fn new(config: GroupConfig, partition: PartitionIndex) -> Self {
        Self {
            config,
            partition,
            life: Life::Loading,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            timers: Timers::default(),
            pending_ids: 0,
            groups_bytes: 0,
            limits: Limits::default(),
            next_incarnation: 0,
            expiry: ExpiryRound::default(),
            deleted_topics: DeletedTopics::default(),
            orphaned: BTreeMap::new(),
        }
    }

    /// The partition of `__consumer_offsets`.
    pub fn partition(&self) -> PartitionIndex {
        self.partition
    }

    /// The committed offsets.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Carries out `command`. `reply_to` is answered exactly once, now or by a later call.
    pub fn handle(&mut self, command: Command, reply_to: ReplyId, now: Now, out: &mut Effects) {
        let waits_for_orphans = self.waits_for_orphans(&command);
        if let Some(reply) = self.refusal(&command) {
            out.reply(reply_to, reply);
        } else if let Some(group) = self.groups.get_mut(command.group())
            && (must_wait(group, &command) || is_behind(group, &command) || waits_for_orphans)
        {
            match group.waiting.len() < GROUP_REQUESTS_WAITING_MAX {
                true => group.waiting.push_back((reply_to, command)),
                false => out.reply(reply_to, command.refusal(GroupError::NotAvailable)),
            }
        } else {
            self.carry_out(command, reply_to, now, out);
        }
    }

    /// The answer to what cannot be carried out whatever the group is.
    fn refusal(&self, command: &Command) -> Option<Reply> {
        if let Some(invalid) = invalid(command, &self.config) {
            return Some(invalid);
        }
        match (self.check_ready(), command) {
            (Ok(()), _) => None,
            // A member must not take a coordinator that is loading for one that has lost it.
            (Err(GroupError::LoadInProgress), Command::Heartbeat(_)) => {
                Some(Reply::Heartbeat(Ok(())))
            }
            (Err(error), _) => Some(command.refusal(error)),
        }
    }

    /// Whether the partition was given up.
    pub fn is_unloaded(&self) -> bool {
        self.life == Life::Unloaded
    }

    pub(super) fn check_ready(&self) -> Result<(), GroupError> {
        match self.life {
            Life::Loading => Err(GroupError::LoadInProgress),
            Life::Active => Ok(()),
            Life::Unloaded => Err(GroupError::NotCoordinator),
        }
    }

    fn carry_out(&mut self, command: Command, reply_to: ReplyId, now: Now, out: &mut Effects) {
        let group = command.group().clone();
        match command {
            Command::Join(request) => self.join(request, reply_to, now, out),
            Command::Sync(request) => self.sync(request, reply_to, now, out),
            Command::Heartbeat(request) => {
                let result = self.heartbeat(&request, now, out);
                out.reply(reply_to, Reply::Heartbeat(result));
            }
            Command::Leave(request) => match self.group_if_any(&group, now, out) {
                Some((group, mut cx)) => group.leave(request, reply_to, &mut cx),
                None => {
                    let reply = LeaveReply::of_no_group(request);
                    out.reply(reply_to, Reply::Leave(Ok(reply)));
                }
            },
            Command::Commit(request) => self.commit(request, reply_to, now, out),
            Command::Fetch(request) => out.reply(reply_to, self.fetch(request)),
            Command::DeleteOffsets(request) => self.delete_offsets(&request, reply_to, now, out),
            Command::DeleteGroup { group } => self.delete_group(&group, reply_to, now, out),
        }
        self.settle(&group);
    }

    fn join(&mut self, request: JoinGroup, reply_to: ReplyId, now: Now, out: &mut Effects) {
        let is_known = self.exists(&request.group);
        if !is_known && !request.member_id.is_empty() {
            let error = GroupError::UnknownMemberId;
            let reply = JoinReply::refused(error, request.member_id);
            out.reply(reply_to, Reply::Join(reply));
            return;
        }
        if self.lacks_memory_for_member(&request) {
            out.lacks_memory = true;
            let reply = JoinReply::refused(GroupError::NotAvailable, request.member_id);
            out.reply(reply_to, Reply::Join(reply));
            return;
        }
        let (group, mut cx) = self.group_or_new(&request.group, now, out);
        if !is_known {
            group.state_since_ms = Some(now.wall_ms);
            let record = group.to_record(|_| Bytes::new());
            group.append(vec![record], Then::Created, &mut cx);
        }
        group.join(request, reply_to, &mut cx);
    }

    fn sync(&mut self, request: SyncGroup, reply_to: ReplyId, now: Now, out: &mut Effects) {
        if self.lacks_memory_for_assignments(&request) {
            out.lacks_memory = true;
            out.reply(reply_to, Reply::Sync(Err(GroupError::NotAvailable)));
            return;
        }
        match self.group_if_any(&request.group, now, out) {
            Some((group, mut cx)) => group.sync(request, reply_to, &mut cx),
            None => out.reply(reply_to, Reply::Sync(Err(GroupError::UnknownMemberId))),
        }
    }

    fn heartbeat(
        &mut self,
        request: &Heartbeat,
        now: Now,
        out: &mut Effects,
    ) -> Result<(), GroupError> {
        let found = self.group_if_any(&request.group, now, out);
        let (group, mut cx) = found.ok_or(GroupError::UnknownMemberId)?;
        group.heartbeat(request, &mut cx)
    }

    /// Takes over a record that is durable at last. While the machine loads these are the records
    /// of the log, in its order.
    pub fn replay(&mut self, record: &GroupRecord, now: Now) {
        if self.life == Life::Unloaded {
            return;
        }
        match record {
            GroupRecord::Offset {
                group,
                topic,
                partition,
                value,
            } => {
                let value = value.as_ref();
                self.offsets.replay(group, topic, *partition, value);
                if value.is_some_and(|value| self.deleted_topics.contains(value.topic_id)) {
                    let group = ByteString::from(&**group);
                    self.orphaned.entry(group).or_default();
                }
            }
            GroupRecord::Group { group, value } => {
                let is_active = self.life == Life::Active;
                let is_new = !self.groups.contains_key(group);
                if value.is_none() && (is_new || !is_active) {
                    self.forget(group);
                    return;
                }
                let mut effects = Effects::default();
                let (known, mut cx) = self.group_or_new(group, now, &mut effects);
                // What is read from the log would be kept in memory with all that was read with it.
                known.record_is(value.as_ref().map(|value| match is_active {
                    true => value.clone(),
                    false => detached(value),
                }));
                // A group whose first record was refused, but not a later one.
                if is_active && is_new {
                    known.revive(&mut cx);
                }
                self.settle(group);
            }
        }
    }

    /// The records of an operation were replayed, or did not reach the log.
    pub fn appended(
        &mut self,
        after: After,
        result: Result<(), GroupError>,
        now: Now,
        out: &mut Effects,
    ) {
        let After {
            group: id,
            incarnation,
            then,
        } = after;
        let found = self.group_if_any(&id, now, out);
        match found.filter(|(group, _)| group.incarnation == incarnation) {
            None => answer_alone(then, result, out),
            Some((group, mut cx)) => {
                group.appends -= 1;
                let is_gone = group.appended(then, result, &mut cx);
                if is_gone {
                    self.remove(&id, result, now, out);
                }
            }
        }
        self.forget_orphans(&id, now, out);
        self.carry_out_waiting(&id, now, out);
        self.settle(&id);
    }

    /// The log was read to its end. That means nothing to a machine that was unloaded meanwhile.
    pub fn loaded(&mut self, now: Now, out: &mut Effects) {
        if self.is_unloaded() {
            return;
        }
        self.life = Life::Active;
        let all: Vec<ByteString> = self.groups.keys().cloned().collect();
        for id in all {
            if let Some((group, mut cx)) = self.group_if_any(&id, now, out) {
                group.revive(&mut cx);
                self.settle(&id);
            }
        }
        let interval = self.config.offsets_retention_check_interval;
        let first = now.monotonic + interval;
        self.timers.arm(TimerKey::OffsetsExpiry, first);
    }

    /// The partition has gone to another broker: whoever waits is sent there. What is under way to
    /// the log is still to be reported, and answered then.
    pub fn unload(&mut self, out: &mut Effects) {
        self.life = Life::Unloaded;
        self.timers.clear();
        self.offsets = Offsets::default();
        self.expiry = ExpiryRound::default();
        self.orphaned.clear();
        self.pending_ids = 0;
        self.groups_bytes = 0;
        for (_, mut group) in std::mem::take(&mut self.groups) {
            group.dismiss(GroupError::NotCoordinator, out);
        }
    }

    /// Removes the offsets that were committed for a topic that is deleted, also those that are on
    /// their way or come from shards that have not heard of it.
    pub fn topic_deleted(&mut self, topic: &ByteString, id: TopicId, now: Now, out: &mut Effects) {
        self.deleted_topics.insert(id);
        for (id, records) in self.offsets.prepare_topic_deletion(topic, id) {
            let (group, mut cx) = self.group_or_new(&id, now, out);
            // A commit for the next topic of that name may be on its way already.
            if group.appends > 0 {
                self.orphaned.entry(id).or_default().insert(topic.clone());
            } else {
                group.append(records, Then::TopicForgotten, &mut cx);
            }
        }
    }

    /// Removes what was committed too late, once nothing is on its way for the group: a tombstone
    /// behind a commit for a new topic of the same name would take that one.
    fn forget_orphans(&mut self, id: &ByteString, now: Now, out: &mut Effects) {
        let has_appends = self.groups.get(id).is_some_and(|group| group.appends > 0);
        if has_appends {
            return;
        }
        let Some(topics) = self.orphaned.remove(id) else {
            return;
        };
        let is_gone = |topic: &ByteString, id: TopicId| match id {
            TopicId::ZERO => topics.contains(topic),
            id => self.deleted_topics.contains(id),
        };
        let records = self.offsets.prepare_forgetting(id, is_gone);
        if !records.is_empty() {
            let (group, mut cx) = self.group_or_new(id, now, out);
            group.append(records, Then::TopicForgotten, &mut cx);
        }
    }

    /// When [`Machine::tick`] is to be called at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        self.timers.next_deadline()
    }

    /// Does what is due, but no more at a time than holds up a shard for a moment: where more is,
    /// the deadline stays in the past.
    pub fn tick(&mut self, now: Now, out: &mut Effects) {
        for _ in 0..GROUP_TIMERS_PER_STEP_MAX {
            if out.replies.len() + out.appends.len() >= GROUP_EFFECTS_PER_STEP_MAX {
                return;
            }
            let Some(key) = self.timers.take_due(now.monotonic) else {
                return;
            };
            match key {
                TimerKey::OffsetsExpiry => self.expire_offsets(now, out),
                TimerKey::Member { group: id, member } => {
                    if let Some((group, mut cx)) = self.group_if_any(&id, now, out) {
                        group.on_member_timer(&member, &mut cx);
                    }
                    self.settle(&id);
                }
                TimerKey::Join(id) => {
                    if let Some((group, mut cx)) = self.group_if_any(&id, now, out) {
                        group.on_join_timer(&mut cx);
                    }
                    self.settle(&id);
                }
                TimerKey::Sync(id) => {
                    if let Some((group, mut cx)) = self.group_if_any(&id, now, out) {
                        group.on_sync_timer(&mut cx);
                    }
                    self.settle(&id);
                }
            }
        }
    }

    /// Whether anything is known of the group, also what is still under way.
    pub(super) fn exists(&self, id: &ByteString) -> bool {
        self.groups.contains_key(id) || self.offsets.has_any(id)
    }

    /// Whether a successor would know of the group.
    pub(super) fn is_durable(&self, id: &ByteString) -> bool {
        let group = self.groups.get(id);
        group.is_some_and(|group| group.recorded.is_some()) || self.offsets.has_any(id)
    }

    fn group_if_any<'a>(
        &'a mut self,
        id: &ByteString,
        now: Now,
        out: &'a mut Effects,
    ) -> Option<(&'a mut Group, Context<'a>)> {
        let group = self.groups.get_mut(id)?;
        let cx = Context {
            config: &self.config,
            timers: &mut self.timers,
            pending_ids: &mut self.pending_ids,
            now,
            out,
        };
        Some((group, cx))
    }

    pub(super) fn group_or_new<'a>(
        &'a mut self,
        id: &ByteString,
        now: Now,
        out: &'a mut Effects,
    ) -> (&'a mut Group, Context<'a>) {
        if !self.groups.contains_key(id) {
            // A copy: a handle would keep the request that it came in.
            let id = ByteString::from(&**id);
            self.next_incarnation += 1;
            let group = Group::new(id.clone(), self.next_incarnation);
            self.groups_bytes += group.counted_bytes;
            self.groups.insert(id, group);
        }
        self.group_if_any(id, now, out)
            .expect("it was just seen to be there")
    }

    /// Whether `command` would keep offsets of a deleted topic from going, where there is always
    /// another commit on its way.
    fn waits_for_orphans(&self, command: &Command) -> bool {
        is_commit(command) && self.orphaned.contains_key(command.group())
    }

    /// Carries out what has waited for the group's appends.
    fn carry_out_waiting(&mut self, id: &ByteString, now: Now, out: &mut Effects) {
        while let Some(group) = self.groups.get_mut(id)
            && let Some((reply_to, command)) = group.waiting.pop_front()
        {
            let must_wait = must_wait(group, &command);
            if must_wait || self.waits_for_orphans(&command) {
                let group = self
                    .groups
                    .get_mut(id)
                    .expect("it was just seen to be there");
                group.waiting.push_front((reply_to, command));
                return;
            }
            self.carry_out(command, reply_to, now, out);
        }
    }

    /// Forgets a group that is gone, or that never came to be. What waited for that comes anew.
    fn remove(
        &mut self,
        id: &ByteString,
        result: Result<(), GroupError>,
        now: Now,
        out: &mut Effects,
    ) {
        let Some((group, mut cx)) = self.group_if_any(id, now, out) else {
            return;
        };
        let waiting = std::mem::take(&mut group.waiting);
        group.disarm(&mut cx);
        group.dismiss(result.err().unwrap_or(GroupError::UnknownMemberId), cx.out);
        self.forget(id);
        for (reply_to, command) in waiting {
            self.handle(command, reply_to, now, out);
        }
    }
}

/// The answer to what no coordinator would carry out, whatever groups it has.
pub(super) fn invalid(command: &Command, config: &GroupConfig) -> Option<Reply> {
    match command {
        Command::Join(request) => join::check(request, config)
            .err()
            .map(|error| Reply::Join(JoinReply::refused(error, request.member_id.clone()))),
        Command::Sync(_)
        | Command::Heartbeat(_)
        | Command::Leave(_)
        | Command::DeleteOffsets(_)
            if command.group().is_empty() =>
        {
            Some(command.refusal(GroupError::InvalidGroupId))
        }
        _ => None,
    }
}

fn is_commit(command: &Command) -> bool {
    matches!(command, Command::Commit(_))
}

/// Whether `command` stands behind those that wait. Offsets are committed, deleted and read in the
/// order of the requests; membership goes on meanwhile, since its timers do.
fn is_behind(group: &Group, command: &Command) -> bool {
    let is_of_members = matches!(
        command,
        Command::Join(_) | Command::Sync(_) | Command::Heartbeat(_) | Command::Leave(_)
    );
    !group.waiting.is_empty() && (group.is_ending || !is_of_members)
}

/// Whether `command` must not be carried out before the group's appends have ended.
fn must_wait(group: &Group, command: &Command) -> bool {
    let wants_all = matches!(
        command,
        Command::DeleteGroup { .. }
            | Command::DeleteOffsets(_)
            | Command::Fetch(FetchOffsets {
                require_stable: true,
                ..
            })
    );
    group.is_ending || (wants_all && group.appends > 0)
}

impl Group {
    /// What follows an append of the group. True if the group is gone by it.
    fn appended(
        &mut self,
        then: Then,
        result: Result<(), GroupError>,
        cx: &mut Context<'_>,
    ) -> bool {
        match (then, result) {
            (Then::Created, result) => return result.is_err(),
            (Then::Assigned { generation }, result) => self.assigned(generation, result, cx),
            (Then::Replaced(replacement), Ok(())) => self.replaced(*replacement, cx),
            (Then::Replaced(replacement), Err(error)) => {
                self.not_replaced(*replacement, error, cx);
            }
            (then @ (Then::Deleted { .. } | Then::Expired), result) => {
                let is_gone = self.is_ending && result.is_ok();
                self.is_ending = false;
                answer_alone(then, result, cx.out);
                return is_gone;
            }
            (then, result) => answer_alone(then, result, cx.out),
        }
        false
    }

    /// Makes the group what its record says, with a whole session's time for each member.
    fn revive(&mut self, cx: &mut Context<'_>) {
        self.restore();
        if !planted::is(Bug::SessionsForgottenByLoad) {
            for id in self.members.ids_where(|_| true) {
                self.arm_session(&id, cx);
            }
        }
        if self.members.len() > cx.config.max_size {
            self.prepare_rebalance(Why::TooLarge, cx);
        }
    }

    /// Answers everybody who waits for the group, which is no longer here.
    fn dismiss(&mut self, error: GroupError, out: &mut Effects) {
        for id in self.members.ids_where(|member| member.has_joined()) {
            if let Some(reply_to) = self.members.take_join(&id) {
                out.reply(reply_to, Reply::Join(JoinReply::refused(error, id)));
            }
        }
        for member in self.members.iter_mut() {
            if let Some(reply_to) = member.sync.take() {
                out.reply(reply_to, Reply::Sync(Err(error)));
            }
        }
        for (reply_to, command) in self.waiting.drain(..) {
            out.reply(reply_to, command.refusal(error));
        }
    }

    /// Disarms all timers of the group and forgets the ids that it has handed out.
    fn disarm(&mut self, cx: &mut Context<'_>) {
        self.pending_bytes = 0;
        for id in std::mem::take(&mut self.pending_ids) {
            *cx.pending_ids -= 1;
            let timer = self.member_timer(&id);
            cx.timers.cancel(&timer);
        }
        for member in self.members.iter() {
            cx.timers.cancel(&self.member_timer(&member.id));
        }
        cx.timers.cancel(&TimerKey::Join(self.id.clone()));
        cx.timers.cancel(&TimerKey::Sync(self.id.clone()));
    }
}

/// Answers who waited for an append, where there is no more to do about it.
fn answer_alone(then: Then, result: Result<(), GroupError>, out: &mut Effects) {
    match then {
        Then::Created
        | Then::Assigned { .. }
        | Then::Emptied { leave: None }
        | Then::Expired
        | Then::TopicForgotten => {}
        Then::Emptied {
            leave: Some((reply_to, reply)),
        } => out.reply(reply_to, Reply::Leave(result.map(|()| reply))),
        Then::Replaced(replacement) => {
            let error = result.err().unwrap_or(GroupError::UnknownMemberId);
            let (reply_to, reply) = replacement.failed(error);
            out.reply(reply_to, reply);
        }
        Then::Committed { reply_to, results } => {
            out.reply(reply_to, Reply::Commit(result.map(|()| results)));
        }
        Then::OffsetsDeleted { reply_to, results } => {
            out.reply(reply_to, Reply::DeleteOffsets(result.map(|()| results)));
        }
        Then::Deleted { reply_to } => out.reply(reply_to, Reply::DeleteGroup(result)),
    }
}
