//! What must hold whatever happens, looked at from outside and from inside after every event.

use std::collections::BTreeSet;

use ahash::AHashMap;
use bytestring::ByteString;

use super::super::super::classic::{Group, TimerKey};
use super::super::super::command::{Command, Reply};
use super::super::super::error::GroupError;
use super::super::super::machine::Machine;
use super::super::super::member::Member;
use super::super::super::record::GroupRecord;
use super::super::super::state::GroupState;
use super::assignor::read_assignment;
use super::broker::{APPENDS_MS_MAX, Broker};
use super::network::Sent;
use super::world::{REBALANCE_MS_MAX, SESSION_MS_MAX};

/// A group's name, and how often a group of the name was deleted: it begins with the first
/// generation again then.
type Life = (ByteString, u32);

#[derive(Debug, Default)]
pub struct Judge {
    deleted: AHashMap<ByteString, u32>,
    /// Who owns a partition in a generation, by what stays the same when a static member restarts.
    owners: AHashMap<(Life, i32, i32), ByteString>,
    /// What the coordinator says is committed.
    committed: AHashMap<(ByteString, i32), i64>,
    /// The incarnation and generation of each group that were seen last.
    generations: AHashMap<ByteString, (u64, i32)>,
    /// Whether it looks into the machine, too.
    looks_inside: bool,
    /// The state and generation of each group, and since when.
    since: AHashMap<ByteString, (GroupState, i32, u64)>,
    /// The errors that requests have met.
    pub met: BTreeSet<GroupError>,
}

impl Judge {
    pub fn new(looks_inside: bool) -> Self {
        Self {
            looks_inside,
            ..Self::default()
        }
    }

    /// An answer leaves the coordinator.
    pub fn answered(&mut self, asked: &Sent, reply: &Reply) {
        let error = match (reply, &*asked.command) {
            (Reply::Sync(Ok(reply)), Command::Sync(request)) => {
                let (generation, partitions) = read_assignment(&reply.assignment);
                assert_eq!(generation, request.generation, "of another generation");
                let owner = request.instance_id.as_ref().unwrap_or(&request.member_id);
                self.owns(&request.group, generation, &partitions, owner);
                None
            }
            (Reply::Join(reply), Command::Join(_)) => reply.result.err(),
            (Reply::Leave(Ok(reply)), Command::Leave(request)) => {
                assert_eq!(reply.members.len(), request.members.len());
                None
            }
            (Reply::Commit(Ok(results)), Command::Commit(request)) => {
                assert_eq!(results.len(), request.offsets.len());
                for offset in &request.offsets {
                    let key = (request.group.clone(), offset.partition);
                    let committed = self.committed.get(&key).copied();
                    assert!(
                        committed >= Some(offset.offset),
                        "acknowledged, but not in the log"
                    );
                }
                None
            }
            (Reply::Sync(result), Command::Sync(_)) => result.as_ref().err().copied(),
            (Reply::Leave(result), Command::Leave(_)) => result.as_ref().err().copied(),
            (Reply::Commit(result), Command::Commit(_)) => result.as_ref().err().copied(),
            (Reply::Heartbeat(result), Command::Heartbeat(_)) => result.err(),
            (Reply::Fetch(result), Command::Fetch(_)) => result.as_ref().err().copied(),
            (Reply::DeleteOffsets(result), Command::DeleteOffsets(_)) => {
                result.as_ref().err().copied()
            }
            (Reply::DeleteGroup(result), Command::DeleteGroup { .. }) => result.err(),
            other => panic!("an answer to something else: {other:?}"),
        };
        self.met.extend(error);
    }

    /// No partition is owned twice within a generation.
    fn owns(&mut self, group: &ByteString, generation: i32, partitions: &[i32], id: &ByteString) {
        let deleted = self.deleted.get(group).copied().unwrap_or(0);
        for partition in partitions {
            let key = ((group.clone(), deleted), generation, *partition);
            let owner = self.owners.entry(key).or_insert_with(|| id.clone());
            assert_eq!(
                owner, id,
                "{group}-{partition} twice in generation {generation}"
            );
        }
    }

    /// The coordinator has taken over a record.
    pub fn replayed(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Offset {
                group,
                partition,
                value,
                ..
            } => {
                let key = (group.clone(), *partition);
                match value {
                    Some(value) => self.commits(key, value.offset),
                    None => drop(self.committed.remove(&key)),
                }
            }
            GroupRecord::Group { group, value: None } => self.ends(group),
            GroupRecord::Group { .. } => {}
        }
    }

    /// A record reaches the log, but no coordinator hears of it before the next one.
    pub fn lost(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Offset {
                group,
                partition,
                value: None,
                ..
            } => {
                self.committed.remove(&(group.clone(), *partition));
            }
            GroupRecord::Group { group, value: None } => self.ends(group),
            _ => {}
        }
    }

    fn ends(&mut self, group: &ByteString) {
        *self.deleted.entry(group.clone()).or_default() += 1;
    }

    /// No committed offset goes back, neither within a generation nor from one to the next, as long
    /// as members go on from where their group is.
    fn commits(&mut self, key: (ByteString, i32), offset: i64) {
        let before = self.committed.insert(key.clone(), offset).unwrap_or(0);
        assert!(
            before <= offset,
            "{key:?} goes back from {before} to {offset}"
        );
    }

    /// A coordinator has read the log: nothing is lost.
    pub fn loaded(&mut self, machine: &Machine) {
        self.generations.clear();
        self.since.clear();
        let offsets = machine.offsets();
        for ((group, partition), before) in &mut self.committed {
            let after = offsets.get(group, group, *partition);
            let after = after.map(|it| it.offset);
            assert!(
                after >= Some(*before),
                "{group}-{partition}: {before} was committed"
            );
            *before = after.unwrap_or(*before);
        }
        for group in offsets.groups() {
            for found in offsets.fetch_all(group) {
                let offset = found.committed.ok().flatten().map_or(0, |it| it.offset);
                self.committed
                    .insert((group.clone(), found.partition), offset);
            }
        }
    }

    /// Neither phase of a rebalance lasts longer than members may take, whoever does not take part.
    fn check_progress(&mut self, group: &Group, now_ms: u64) {
        let is_at = (group.state, group.generation);
        if let Some((state, generation, since)) = self.since.get(&group.id)
            && (*state, *generation) == is_at
        {
            let may_last = match state {
                GroupState::Empty | GroupState::Stable => return,
                GroupState::PreparingRebalance => REBALANCE_MS_MAX + SESSION_MS_MAX,
                GroupState::CompletingRebalance => REBALANCE_MS_MAX,
            };
            let lasts = now_ms - since;
            assert!(
                lasts <= may_last + APPENDS_MS_MAX,
                "{} lasts too long",
                state.name()
            );
        } else {
            let entry = (is_at.0, is_at.1, now_ms);
            self.since.insert(group.id.clone(), entry);
        }
    }

    /// What holds of every group after every event.
    pub fn look(&mut self, broker: &Broker, now_ms: u64) {
        let machine = &broker.machine;
        machine
            .groups
            .values()
            .for_each(|group| self.check_progress(group, now_ms));
        if !self.looks_inside {
            return;
        }
        let mut pending = 0;
        for group in machine.groups.values() {
            let seen = self.generations.entry(group.id.clone()).or_default();
            let (incarnation, generation) = *seen;
            assert!(group.incarnation > incarnation || group.generation >= generation);
            *seen = (group.incarnation, group.generation);
            pending += group.pending_ids.len();
            check_members(group);
            check_state(group);
            check_timers(group, machine);
        }
        assert_eq!(pending, machine.pending_ids);
    }
}

fn check_members(group: &Group) {
    let members = &group.members;
    let joined = members.iter().filter(|it| it.has_joined()).count();
    assert_eq!(joined, members.joined());
    let bytes: usize = members.iter().map(Member::record_bytes).sum();
    assert_eq!(bytes, members.record_bytes());
    let is_member = |id: &ByteString| members.get(id).is_some();
    assert!(group.pending_syncs.iter().all(is_member));
    assert!(!group.pending_ids.iter().any(is_member));
}

fn check_state(group: &Group) {
    let members = &group.members;
    let is_syncing = |it: &Member| it.sync.is_some();
    match group.state {
        GroupState::Empty => assert!(members.is_empty()),
        GroupState::PreparingRebalance => assert!(!members.iter().any(is_syncing)),
        GroupState::CompletingRebalance | GroupState::Stable => {
            let leader = group.leader.as_ref().expect("a leader");
            assert!(members.get(leader).is_some());
            let protocol = group.protocol.as_ref().expect("a protocol");
            assert!(members.all_support(protocol));
            assert_eq!(members.joined(), 0);
            let is_stable = group.state == GroupState::Stable;
            assert!(!(is_stable && members.iter().any(is_syncing)));
        }
    }
}

/// Nothing is left to wait for ever.
fn check_timers(group: &Group, machine: &Machine) {
    let timers = &machine.timers;
    let has_timer = |id: &ByteString| timers.is_armed(&group.member_timer(id));
    assert!(
        group.pending_ids.iter().all(has_timer),
        "an id that is kept for ever"
    );
    let mut silent = group.members.iter().filter(|it| !it.is_waiting());
    assert!(
        silent.all(|it| has_timer(&it.id)),
        "a member that is kept for ever"
    );
    let id = group.id.clone();
    match group.state {
        GroupState::PreparingRebalance => assert!(timers.is_armed(&TimerKey::Join(id))),
        GroupState::CompletingRebalance => assert!(
            timers.is_armed(&TimerKey::Sync(id)) || group.is_recording_assignments,
            "nobody is to sync"
        ),
        GroupState::Empty | GroupState::Stable => {}
    }
}
