//! What DescribeGroups and ListGroups see: groups whose records or offsets are durable, in the
//! state that they are in now. Pure; nothing is changed.

use std::iter;

use bytes::Bytes;
use bytestring::ByteString;

use super::classic::Group;
use super::error::GroupError;
use super::machine::Machine;
use super::member::Member;
use super::state::GroupState;

/// A group as DescribeGroups shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Where it is.
    pub state: GroupState,
    /// Its type, or empty.
    pub protocol_type: ByteString,
    /// The protocol of its generation if it is stable, or empty.
    pub protocol: ByteString,
    /// Its members in the order in which they joined.
    pub members: Vec<DescribedMember>,
}

/// A member as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: ByteString,
    /// `group.instance.id`, of a static member.
    pub instance_id: Option<ByteString>,
    /// `client.id`.
    pub client_id: ByteString,
    /// Its address as Java prints it.
    pub client_host: ByteString,
    /// Its metadata for the group's protocol if the group is stable, or nothing.
    pub metadata: Bytes,
    /// What it was assigned last.
    pub assignment: Bytes,
}

/// A group as ListGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group: ByteString,
    /// Its type, or empty.
    pub protocol_type: ByteString,
    /// Where it is.
    pub state: GroupState,
}

/// The type of every group here, as ListGroups names it.
pub const GROUP_TYPE: &str = "classic";

/// Which groups ListGroups asks for (KIP-518, KIP-848). An empty list asks for all.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Names of states.
    pub states: Vec<ByteString>,
    /// Names of types.
    pub types: Vec<ByteString>,
}

impl ListFilter {
    /// Whether it asks for `group`. As in Kafka, neither kind of name minds case, and only a
    /// state's may stand between blanks.
    pub fn wants(&self, group: &ListedGroup) -> bool {
        let is_state = |name: &ByteString| name.trim().eq_ignore_ascii_case(group.state.name());
        let is_type = |name: &ByteString| name.eq_ignore_ascii_case(GROUP_TYPE);
        (self.states.is_empty() || self.states.iter().any(is_state))
            && (self.types.is_empty() || self.types.iter().any(is_type))
    }
}

impl Machine {
    /// What there is to see of a group.
    ///
    /// # Errors
    /// `GroupIdNotFound`, or what keeps the machine from telling.
    pub fn describe(&self, group: &ByteString) -> Result<DescribedGroup, GroupError> {
        self.check_ready()?;
        if !self.is_durable(group) {
            return Err(GroupError::GroupIdNotFound);
        }
        let group = self.groups.get(group);
        Ok(group.map_or_else(DescribedGroup::default, Group::described))
    }

    /// The groups that `filter` asks for, by id.
    ///
    /// # Errors
    /// What keeps the machine from telling.
    pub fn list(&self, filter: &ListFilter) -> Result<Vec<ListedGroup>, GroupError> {
        self.check_ready()?;
        let of_group = |group: &Group| ListedGroup {
            group: group.id.clone(),
            protocol_type: group.type_or_empty(),
            state: group.state,
        };
        let of_offsets = |id: &ByteString| ListedGroup {
            group: id.clone(),
            protocol_type: ByteString::new(),
            state: GroupState::Empty,
        };
        let mut simple = self.offsets.groups().peekable();
        let mut listed = Vec::new();
        for (id, group) in &self.groups {
            listed.extend(iter::from_fn(|| simple.next_if(|it| *it < id)).map(of_offsets));
            let has_offsets = simple.next_if_eq(&id).is_some();
            let is_durable = has_offsets || group.recorded.is_some();
            listed.extend(is_durable.then(|| of_group(group)));
        }
        listed.extend(simple.map(of_offsets));
        listed.retain(|group| filter.wants(group));
        Ok(listed)
    }
}

impl Group {
    fn type_or_empty(&self) -> ByteString {
        self.protocol_type.clone().unwrap_or_default()
    }

    fn described(&self) -> DescribedGroup {
        let is_stable = self.state == GroupState::Stable;
        let protocol = self.protocol.clone().filter(|_| is_stable);
        let protocol = protocol.unwrap_or_default();
        let described = |member: &Member| DescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(&protocol),
            assignment: member.assignment.clone(),
        };
        DescribedGroup {
            state: self.state,
            protocol_type: self.type_or_empty(),
            members: self.members.iter().map(described).collect(),
            protocol,
        }
    }
}
