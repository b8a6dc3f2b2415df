//! What the groups of a machine take of memory, and what is refused where that is all that they may
//! take: new members and new offsets. Who is there goes on. Pure.
//!
//! What is in the log is always loaded: durable offsets count, but nobody is refused them.

use bytestring::ByteString;

use super::classic::Group;
use super::command::{CommitOffsets, JoinGroup};
use super::machine::Machine;
use super::member::Member;
use super::record::{GroupMetadata, MemberMetadata};

/// About what the maps of members, timers and ids take for each, beside keys and values.
const ENTRIES_BYTES: usize = 256;

impl Machine {
    /// About what all groups and their offsets take, in bytes.
    pub fn bytes(&self) -> usize {
        self.groups_bytes + self.offsets.bytes()
    }

    /// Sets what they may take. What is above it stays, and nothing is added.
    pub fn limit(&mut self, bytes: usize) {
        self.bytes_max = bytes;
    }

    fn is_full(&self) -> bool {
        self.bytes() >= self.bytes_max
    }

    /// Whether there is no memory for the member that `join` would make.
    pub(super) fn lacks_memory_for_member(&self, join: &JoinGroup) -> bool {
        let is_member = |group: &Group| match &join.instance_id {
            Some(instance_id) => group.members.id_of_instance(instance_id).is_some(),
            None => !join.member_id.is_empty() && !group.pending_ids.contains(&join.member_id),
        };
        self.is_full() && !self.groups.get(&join.group).is_some_and(is_member)
    }

    /// Whether there is no memory for offsets of partitions for which the group has none.
    pub(super) fn lacks_memory_for_offsets(&self, request: &CommitOffsets) -> bool {
        let is_there = |topic: &str, partition| {
            let stored = self.offsets.get(&request.group, topic, partition);
            stored.is_some()
        };
        let mut offsets = request.offsets.iter();
        self.is_full() && !offsets.all(|offset| is_there(&offset.topic, offset.partition))
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
        size_of::<Self>() + 2 * self.id.len() + members + entries + self.recorded_bytes
    }

    /// Takes over what its record says.
    pub(super) fn record_is(&mut self, recorded: Option<GroupMetadata>) {
        let of_member = |it: &MemberMetadata| size_of::<MemberMetadata>() + it.value_bytes();
        let members = recorded.iter().flat_map(|recorded| &recorded.members);
        self.recorded_bytes = members.map(of_member).sum();
        self.recorded = recorded;
    }
}
