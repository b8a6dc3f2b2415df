//! Membership of a group, by Kafka's classic protocol with the assignor that all clients have. The
//! members of a run's group subscribe to its one topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use super::Consumer;
use super::link::{accept, code_of, versions};
use crate::cli::check::history::{Answer, At, Call};
use crate::cli::check::process::perform;
use crate::cli::check::recorder::Failed;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_protocol_assignment::{
    ConsumerProtocolAssignment, TopicPartition,
};
use crate::protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::messages::leave_group_request::LeaveGroupRequest;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestTopic,
};
use crate::protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use crate::protocol::reader::Reader;
use crate::protocol::wire::Message;
use crate::protocol::writer::Writer;

/// The least that Kafka's defaults allow, so that who crashed is soon replaced.
pub const SESSION_MS: i32 = 6_000;

const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);

/// How long a join may take: the others have until their sessions end.
pub const JOINED_WITHIN: Duration = Duration::from_secs(10);
const LOOKED_EVERY: Duration = Duration::from_millis(100);

const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";

/// The version of what members and leaders say to each other.
const VERSION: i16 = 0;

/// What a member knows of itself.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    /// Empty until the coordinator has given one.
    id: ByteString,
    /// None while it is to join, again perhaps.
    pub(super) generation: Option<i32>,
    heartbeat_at: Option<Instant>,
}

impl Consumer {
    /// Joins the group where it is to, and says that it is alive where that is due.
    pub(super) fn stay_member(&mut self) -> Result<(), Failed> {
        let membership = self.membership.clone().unwrap_or_default();
        match (membership.generation, membership.heartbeat_at) {
            (None, _) => {
                let joined = self.join(membership.id);
                joined.map_err(|why| self.lost(why))
            }
            (Some(_), Some(at)) if at.elapsed() < HEARTBEAT_EVERY => Ok(()),
            (Some(generation_id), _) => {
                let request = HeartbeatRequest {
                    group_id: self.world.group.as_str().into(),
                    generation_id,
                    member_id: membership.id,
                    group_instance_id: None,
                };
                let group = self.world.group.clone();
                let answer = self.links.coordinator(&group).and_then(|coordinator| {
                    self.links.ask(coordinator, versions::HEARTBEAT, &request)
                });
                let code = answer.map_err(|why| self.lost(why))?.error_code;
                if let Some(membership) = &mut self.membership {
                    membership.heartbeat_at = Some(Instant::now());
                }
                self.heed(code_of(code))
            }
        }
    }

    /// Does what the coordinator's answer asks of a member.
    fn heed(&mut self, code: ErrorCode) -> Result<(), Failed> {
        let Some(membership) = &mut self.membership else {
            return Ok(());
        };
        match code {
            ErrorCode::None => return Ok(()),
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => {
                membership.generation = None;
                self.give_up();
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                *membership = Membership::default();
                self.give_up();
            }
            _ => self.links.forget(),
        }
        Err(Failed::perhaps(code))
    }

    fn join(&mut self, id: ByteString) -> Result<(), String> {
        let group = self.world.group.clone();
        let coordinator = self.links.coordinator(&group)?;
        let mut request = JoinGroupRequest {
            group_id: group.as_str().into(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: SESSION_MS,
            member_id: id,
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: ASSIGNOR.into(),
                metadata: subscription(&self.world.setup.topic)?,
            }],
            ..Default::default()
        };
        let end = Instant::now() + JOINED_WITHIN;
        let joined = loop {
            let sent = self
                .links
                .send(coordinator, versions::JOIN_GROUP, &request)?;
            let answer = loop {
                if self.world.is_over() || Instant::now() > end {
                    return Err("the join was given up".to_owned());
                }
                let until = Instant::now() + LOOKED_EVERY;
                let version = versions::JOIN_GROUP;
                let answer = self
                    .links
                    .answer::<JoinGroupRequest>(sent, version, until)?;
                if let Some(answer) = answer {
                    break answer;
                }
            };
            match code_of(answer.error_code) {
                ErrorCode::None => break answer,
                ErrorCode::MemberIdRequired => request.member_id = answer.member_id,
                code => {
                    if code == ErrorCode::UnknownMemberId {
                        self.membership = Some(Membership::default());
                    }
                    return Err(code.to_string());
                }
            }
        };
        self.membership = Some(Membership {
            id: joined.member_id.clone(),
            generation: None,
            heartbeat_at: None,
        });
        let partitions = self.sync(&joined)?;
        let from = self.positions_of(&partitions)?;
        self.membership = Some(Membership {
            id: joined.member_id,
            generation: Some(joined.generation_id),
            heartbeat_at: Some(Instant::now()),
        });
        self.take(&from, Some(joined.generation_id));
        Ok(())
    }

    /// Assigns the partitions if this member leads the group, and learns which are its own.
    fn sync(&mut self, joined: &JoinGroupResponse) -> Result<Vec<i32>, String> {
        let topic = self.world.setup.topic.clone();
        let mut assignments = Vec::new();
        if joined.leader == joined.member_id {
            let members = joined.members.iter().map(|member| &member.member_id);
            let shares = shares(members.cloned(), self.world.setup.partitions);
            for (member_id, share) in shares {
                let assignment = assignment(&topic, share)?;
                assignments.push(SyncGroupRequestAssignment {
                    member_id,
                    assignment,
                });
            }
        }
        let request = SyncGroupRequest {
            group_id: self.world.group.as_str().into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            assignments,
            ..Default::default()
        };
        let group = self.world.group.clone();
        let coordinator = self.links.coordinator(&group)?;
        let answer = self
            .links
            .ask(coordinator, versions::SYNC_GROUP, &request)?;
        accept(answer.error_code)?;
        read_assignment(answer.assignment)
    }

    /// Where the group has read up to: the beginning, where it has committed nothing.
    fn positions_of(&mut self, partitions: &[i32]) -> Result<Vec<At>, String> {
        let world = Arc::clone(&self.world);
        let call = Call::Committed {
            partitions: partitions.to_vec(),
        };
        let answer = perform(&world, self.process, self, &call);
        let Answer::Committed { offsets } = answer.map_err(|failed| failed.why)? else {
            return Ok(Vec::new());
        };
        let from = offsets.into_iter();
        Ok(from.map(|(at, next)| (at, next.unwrap_or(0))).collect())
    }

    pub(super) fn fetch_committed(
        &mut self,
        partitions: &[i32],
    ) -> Result<Vec<(i32, Option<i64>)>, String> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let group = self.world.group.clone();
        let request = OffsetFetchRequest {
            group_id: group.as_str().into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: self.world.setup.topic.as_str().into(),
                partition_indexes: partitions.to_vec(),
            }]),
            ..Default::default()
        };
        let coordinator = self.links.coordinator(&group)?;
        let answer = self
            .links
            .ask(coordinator, versions::OFFSET_FETCH, &request)?;
        accept(answer.error_code)?;
        let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let offset = |offset: i64| (offset >= 0).then_some(offset);
        let rows = rows.map(|row| {
            accept(row.error_code)?;
            Ok((row.partition_index, offset(row.committed_offset)))
        });
        let offsets: Vec<_> = rows.collect::<Result<_, String>>()?;
        let told: BTreeSet<i32> = offsets.iter().map(|(partition, _)| *partition).collect();
        if !partitions.iter().all(|partition| told.contains(partition)) {
            let why = "committed offsets without a partition that was asked for";
            return Err(self.links.bad(why));
        }
        Ok(offsets)
    }

    pub(super) fn commit_as_member(&mut self, offsets: &[At]) -> Result<Answer, Failed> {
        let membership = self.membership.clone().unwrap_or_default();
        let Some(generation) = membership.generation else {
            return Err(Failed::surely("it is no member"));
        };
        let partition = |(partition_index, offset): &At| OffsetCommitRequestPartition {
            partition_index: *partition_index,
            committed_offset: *offset,
            committed_leader_epoch: -1,
            committed_metadata: None,
        };
        let request = OffsetCommitRequest {
            group_id: self.world.group.as_str().into(),
            generation_id_or_member_epoch: generation,
            member_id: membership.id,
            topics: vec![OffsetCommitRequestTopic {
                name: self.world.setup.topic.as_str().into(),
                partitions: offsets.iter().map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let group = self.world.group.clone();
        let coordinator = self.links.coordinator(&group);
        let coordinator = coordinator.map_err(Failed::surely)?;
        let answer = self
            .links
            .ask(coordinator, versions::OFFSET_COMMIT, &request);
        let answer = answer.map_err(|why| self.lost(why))?;
        let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<_> = rows.map(|row| code_of(row.error_code)).collect();
        let wrong = codes.iter().find(|code| **code != ErrorCode::None);
        let Some(code) = wrong.copied() else {
            return Ok(Answer::Commit);
        };
        let is_refused = |code: &ErrorCode| {
            matches!(
                code,
                ErrorCode::IllegalGeneration
                    | ErrorCode::UnknownMemberId
                    | ErrorCode::RebalanceInProgress
                    | ErrorCode::FencedInstanceId
            )
        };
        let is_definite = codes.iter().all(is_refused);
        let _ = self.heed(code);
        Err(match is_definite {
            true => Failed::surely(code),
            false => Failed::perhaps(code),
        })
    }

    /// Tells the coordinator, if it is there.
    pub(super) fn leave_group(&mut self) {
        let Some(membership) = self.membership.take() else {
            return;
        };
        let group = self.world.group.clone();
        if membership.id.is_empty() {
            return;
        }
        let request = LeaveGroupRequest {
            group_id: group.as_str().into(),
            member_id: membership.id,
            ..Default::default()
        };
        // A member that could not say so is missed when its session ends.
        if let Ok(coordinator) = self.links.coordinator(&group) {
            let _ = self.links.ask(coordinator, versions::LEAVE_GROUP, &request);
        }
    }
}

/// A share of the partitions for each member, one behind the other.
fn shares(
    members: impl Iterator<Item = ByteString>,
    partitions: i32,
) -> BTreeMap<ByteString, Vec<i32>> {
    let mut shares: BTreeMap<_, Vec<i32>> = members.map(|id| (id, Vec::new())).collect();
    let count = shares.len();
    for (index, share) in shares.values_mut().enumerate() {
        let share_of = |partition: &i32| *partition as usize * count / partitions as usize == index;
        share.extend((0..partitions).filter(share_of));
    }
    shares
}

fn subscription(topic: &str) -> Result<Bytes, String> {
    versioned(&ConsumerProtocolSubscription {
        topics: vec![topic.into()],
        ..Default::default()
    })
}

fn assignment(topic: &str, partitions: Vec<i32>) -> Result<Bytes, String> {
    versioned(&ConsumerProtocolAssignment {
        assigned_partitions: vec![TopicPartition {
            topic: topic.into(),
            partitions,
        }],
        ..Default::default()
    })
}

fn versioned(message: &impl Message) -> Result<Bytes, String> {
    let mut writer = Writer::new();
    writer.int16(VERSION);
    let written = message.encode(&mut writer, VERSION);
    written.map_err(|error| error.to_string())?;
    Ok(writer.into_bytes())
}

fn read_assignment(bytes: Bytes) -> Result<Vec<i32>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("an assignment: {error}");
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(bytes);
    // Newer versions only add fields at the end, which are left.
    reader.int16().map_err(|error| wrong(&error))?;
    let assignment = ConsumerProtocolAssignment::decode(&mut reader, VERSION);
    let assignment = assignment.map_err(|error| wrong(&error))?;
    let topics = assignment.assigned_partitions.into_iter();
    Ok(topics.flat_map(|topic| topic.partitions).collect())
}

#[test]
fn shares_are_all_partitions_once() {
    for (members, partitions) in [(1, 4), (3, 4), (4, 4), (5, 2), (2, 7)] {
        let ids = (0..members).map(|id: i32| ByteString::from(id.to_string()));
        let shares = shares(ids, partitions);
        let mut all: Vec<i32> = shares.values().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..partitions).collect::<Vec<_>>(), "{shares:?}");
        let most = shares.values().map(Vec::len).max().unwrap_or(0);
        assert!(
            most <= partitions as usize / members as usize + 1,
            "{shares:?}"
        );
    }
}
