//! What the groups of a machine take of memory, and what is refused where the shard has no more for
//! them: first new offsets, later new members, so that whoever commits locks nobody out who joins.
//! Who is there goes on as long as it takes no more than it has. Pure; owned by the machine of a
//! partition of `__consumer_offsets`.
//!
//! What is in the log is always loaded: durable offsets count, but nobody is refused them.

use bytestring::ByteString;

use super::classic::Group;
use super::command::{CommitOffsets, JoinGroup, SyncGroup};
use super::machine::Machine;
use super::member::Member;
use super::record::{GroupMetadata, MemberMetadata};

/// About what the maps of members, timers and ids take for each, beside keys and values.
const ENTRIES_BYTES: usize = 256;

/// New offsets are taken up to so many quarters of what groups may take...
const OFFSETS_QUARTERS: usize = 3;
/// ...new members up to all of it...
const MEMBERS_QUARTERS: usize = 4;
/// ...and what members and their assignments grow by up to this, so that a rebalance does not end
/// at the first byte.
const GROWTH_QUARTERS: usize = 5;

/// What a machine goes by.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What all groups of the shard may take, in bytes.
    bytes_max: usize,
    /// What those of its other machines take.
    bytes_of_others: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: usize::MAX,
            bytes_of_others: 0,
        }
    }
}

impl Machine {
    /// About what all groups and their offsets take, in bytes.
    pub fn bytes(&self) -> usize {
        self.groups_bytes + self.offsets.bytes()
    }

    /// Sets what all groups of the shard may take, and what those of its other machines do.
    pub fn limit(&mut self, bytes_max: usize, bytes_of_others: usize) {
        self.limits = Limits {
            bytes_max,
            bytes_of_others,
        };
    }

    /// Whether so many quarters of what the groups may take are taken.
    fn is_taken(&self, quarters: usize) -> bool {
        let Limits {
            bytes_max,
            bytes_of_others,
        } = self.limits;
        bytes_of_others.saturating_add(self.bytes()) >= (bytes_max / 4).saturating_mul(quarters)
    }

    /// Whether there is no memory for what `join` brings: a new member, or more than the member has
    /// that it comes from.
    pub(super) fn lacks_memory_for_member(&self, join: &JoinGroup) -> bool {
        let group = self.groups.get(&join.group);
        let member = group.and_then(|group| group.member_of(join));
        match (group, member) {
            (_, Some(_)) if !self.is_taken(GROWTH_QUARTERS) => false,
            (_, Some(member)) => {
                let joining = Member::joining(join, member.id.clone());
                memory_of(&joining) > memory_of(member)
            }
            // Whoever names an id that nobody has is told so.
            (Some(group), None) if !group.is_newcomer(join) => false,
            (_, None) => self.is_taken(MEMBERS_QUARTERS),
        }
    }

    /// Whether there is no memory for the assignments that a leader brings.
    pub(super) fn lacks_memory_for_assignments(&self, sync: &SyncGroup) -> bool {
        let assignments = sync.assignments.iter();
        let bytes: usize = assignments.map(|(id, bytes)| id.len() + bytes.len()).sum();
        let recorded = self
            .groups
            .get(&sync.group)
            .map_or(0, |it| it.recorded_bytes);
        bytes > recorded && self.is_taken(GROWTH_QUARTERS)
    }

    /// Whether there is no memory for offsets of partitions for which the group has none, or for
    /// more metadata than it has.
    pub(super) fn lacks_memory_for_offsets(&self, request: &CommitOffsets) -> bool {
        if !self.is_taken(OFFSETS_QUARTERS) {
            return false;
        }
        let (mut stored_bytes, mut bytes) = (0, 0);
        for offset in &request.offsets {
            let stored = self
                .offsets
                .get(&request.group, &offset.topic, offset.partition);
            let Some(stored) = stored else {
                return true;
            };
            stored_bytes += stored.metadata.len();
            bytes += offset
                .metadata
                .as_ref()
                .map_or(0, |metadata| metadata.len());
        }
        bytes > stored_bytes
    }

    /// After anything that may have changed a group: forgets it if nothing is left of it, and
    /// counts what it takes.
    pub(super) fn settle(&mut self, id: &ByteString) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        if group.is_vacant() {
            self.forget(id);
            return;
        }
        let bytes = group.bytes();
        self.groups_bytes = self.groups_bytes - group.counted_bytes + bytes;
        group.counted_bytes = bytes;
    }

    /// Forgets a group, whatever is left of it.
    pub(super) fn forget(&mut self, id: &ByteString) {
        if let Some(group) = self.groups.remove(id) {
            self.groups_bytes -= group.counted_bytes;
        }
    }

    #[cfg(test)]
    pub(super) fn assert_all_is_counted(&self) {
        let bytes: usize = self.groups.values().map(Group::bytes).sum();
        assert_eq!(self.groups_bytes, bytes, "what the groups take");
    }
}

impl Group {
    /// About what it takes, in bytes. Costs nothing to ask.
    pub(super) fn bytes(&self) -> usize {
        let members = self.members.record_bytes() + self.members.protocols_bytes();
        let each = size_of::<Member>() + ENTRIES_BYTES;
        // The assignments are those of the record, which members share.
        let entries = (self.members.len() + 1) * each + self.pending_ids.len() * ENTRIES_BYTES;
        let others = self.recorded_bytes + self.pending_bytes + self.subscribed_bytes;
        size_of::<Self>() + 2 * self.id.len() + members + entries + others
    }

    /// The member that `join` comes from.
    fn member_of(&self, join: &JoinGroup) -> Option<&Member> {
        let of_instance = |id: &ByteString| self.members.id_of_instance(id);
        let id = match join.instance_id.as_ref().and_then(of_instance) {
            Some(id) => id,
            None => &join.member_id,
        };
        self.members.get(id)
    }

    /// Whether `join` comes from nobody whom the group had before.
    fn is_newcomer(&self, join: &JoinGroup) -> bool {
        join.member_id.is_empty() || self.pending_ids.contains(&join.member_id)
    }

    /// Takes over what its members subscribe to.
    pub(super) fn note_subscription(&mut self) {
        self.subscribed = self.current_subscription();
        self.subscribed_bytes = self.subscribed.bytes();
    }

    /// Takes over what its record says.
    pub(super) fn record_is(&mut self, recorded: Option<GroupMetadata>) {
        let of_member = |it: &MemberMetadata| size_of::<MemberMetadata>() + it.value_bytes();
        let members = recorded.iter().flat_map(|recorded| &recorded.members);
        self.recorded_bytes = members.map(of_member).sum();
        self.recorded = recorded;
    }
}

fn memory_of(member: &Member) -> usize {
    member.record_bytes() + member.protocols_bytes()
}
