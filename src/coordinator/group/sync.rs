//! SyncGroup: the leader's assignments, and how they reach the members. Pure.

use ahash::AHashMap;
use bytes::Bytes;
use bytestring::ByteString;

use super::classic::{Context, Group, TimerKey};
use super::command::{Reply, ReplyId, SyncGroup, SyncReply};
use super::config::GroupConfig;
use super::error::GroupError;
use super::event::{What, Why};
use super::machine::Then;
use super::planted::{self, Bug};
use super::record::{GroupMetadata, GroupRecord};
use super::state::GroupState;
use crate::base::limits::GROUP_BATCH_OVERHEAD_BYTES;

impl Group {
    /// Answers a member with its assignment, now or when the leader's record is durable.
    pub fn sync(&mut self, request: SyncGroup, reply_to: ReplyId, cx: &mut Context<'_>) {
        if let Err(error) = self.check_sync(&request) {
            cx.out.reply(reply_to, Reply::Sync(Err(error)));
            return;
        }
        let id = &request.member_id;
        self.pending_syncs.remove(id);
        if self.pending_syncs.is_empty() {
            cx.timers.cancel(&TimerKey::Sync(self.id.clone()));
        }
        if self.state == GroupState::Stable {
            let reply = Reply::Sync(Ok(self.sync_reply(id)));
            cx.out.reply(reply_to, reply);
            return;
        }
        let member = self.members.get_mut(id);
        if let Some(before) = member.and_then(|member| member.sync.replace(reply_to)) {
            let error = GroupError::RebalanceInProgress;
            cx.out.reply(before, Reply::Sync(Err(error)));
        }
        // One record decides a generation: a leader that repeats itself waits for the first.
        let leads = self.leader.as_ref() == Some(id) || planted::is(Bug::AnyoneAssigns);
        if leads && !self.is_recording_assignments {
            self.record_assignments(request.assignments, cx);
        }
    }

    fn check_sync(&self, request: &SyncGroup) -> Result<(), GroupError> {
        let differs = |given: &Option<ByteString>, known: &Option<ByteString>| {
            given.is_some() && known.is_some() && given != known
        };
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        let is_old = request.generation != self.generation;
        if is_old && !planted::is(Bug::SyncOfAnyGeneration) {
            Err(GroupError::IllegalGeneration)
        } else if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            Err(GroupError::InconsistentProtocol)
        } else if self.state == GroupState::PreparingRebalance {
            Err(GroupError::RebalanceInProgress)
        } else {
            Ok(())
        }
    }

    /// Members that the leader left out get nothing; ids that are no members' are passed over. What
    /// the log would refuse is refused at once, as Kafka does: however large, it is not encoded.
    fn record_assignments(&mut self, given: Vec<(ByteString, Bytes)>, cx: &mut Context<'_>) {
        let given: AHashMap<_, _> = given.into_iter().collect();
        let record = self.to_record(|it| given.get(&it.id).cloned().unwrap_or_default());
        if !self.fits_log(&record, cx.config) {
            self.fail_assignments(GroupError::Unexpected, cx);
            self.prepare_rebalance(Why::NotWritten, cx);
            return;
        }
        self.is_recording_assignments = true;
        let generation = self.generation;
        if planted::is(Bug::AssignedAtOnce)
            && let GroupRecord::Group { value, .. } = &record
        {
            self.recorded.clone_from(value);
            self.append(vec![record], Then::Expired, cx);
            self.assigned(generation, Ok(()), cx);
            return;
        }
        self.append(vec![record], Then::Assigned { generation }, cx);
    }

    /// The record with the assignments of `generation` has reached the log, or has not. If the
    /// group has moved on meanwhile, whoever waited for it knows.
    pub fn assigned(
        &mut self,
        generation: i32,
        result: Result<(), GroupError>,
        cx: &mut Context<'_>,
    ) {
        if self.state != GroupState::CompletingRebalance || self.generation != generation {
            return;
        }
        self.is_recording_assignments = false;
        if let Err(error) = result {
            self.fail_assignments(error, cx);
            self.prepare_rebalance(Why::NotWritten, cx);
            return;
        }
        let recorded = self.recorded.iter().flat_map(|recorded| &recorded.members);
        for member in recorded {
            if let Some(known) = self.members.get_mut(&member.member_id) {
                known.assignment = member.assignment.clone();
            }
        }
        self.transition(GroupState::Stable, cx.now);
        let members = self.members.len();
        self.tell(What::Stable { members }, cx);
        for id in self.members.ids_where(|member| member.sync.is_some()) {
            let waited = self.members.get_mut(&id).and_then(|it| it.sync.take());
            if let Some(reply_to) = waited {
                let reply = Reply::Sync(Ok(self.sync_reply(&id)));
                cx.out.reply(reply_to, reply);
            }
            self.arm_session(&id, cx);
        }
    }

    fn fits_log(&self, record: &GroupRecord, config: &GroupConfig) -> bool {
        let GroupRecord::Group { value, .. } = record else {
            return true;
        };
        let bytes = value.as_ref().map_or(0, GroupMetadata::value_bytes);
        self.id.len() + bytes + GROUP_BATCH_OVERHEAD_BYTES <= config.record_bytes_max
    }

    fn sync_reply(&self, member_id: &str) -> SyncReply {
        let member = self.members.get(member_id);
        SyncReply {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: member.map_or_else(Bytes::new, |member| member.assignment.clone()),
        }
    }
}
