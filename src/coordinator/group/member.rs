//! The members of one classic group, in the order in which they joined, with the counts that the
//! group goes by. Pure; it decides nothing.

use std::collections::BTreeMap;

use ahash::AHashMap;
use bytes::Bytes;
use bytestring::ByteString;

use super::command::{JoinGroup, Protocol, ReplyId};
use super::record::{MemberMetadata, member_value_bytes};

/// A member of a classic group.
#[derive(Clone, Debug)]
pub struct Member {
    /// The id that the coordinator gave it.
    pub id: ByteString,
    /// `group.instance.id`, of a static member.
    pub instance_id: Option<ByteString>,
    /// `client.id`.
    pub client_id: ByteString,
    /// Its address as Java prints it.
    pub client_host: ByteString,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// What the leader assigned to it last.
    pub assignment: Bytes,
    /// Whether it has joined, but was in no generation yet.
    pub is_new: bool,
    /// The SyncGroup of it that waits.
    pub sync: Option<ReplyId>,
    /// The JoinGroup of it that waits.
    join: Option<ReplyId>,
    /// Without duplicates.
    protocols: Vec<Protocol>,
}

impl Member {
    /// The member that `join` makes of its sender. Nothing waits yet.
    pub fn joining(join: &JoinGroup, id: ByteString) -> Self {
        Self {
            id,
            instance_id: join.instance_id.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            assignment: Bytes::new(),
            is_new: true,
            sync: None,
            join: None,
            protocols: join.protocols.clone(),
        }
    }

    /// The member that a record tells of: it has one protocol, the group's.
    pub fn recorded(member: &MemberMetadata, protocol: Option<&ByteString>) -> Self {
        let protocol = protocol.map(|name| Protocol {
            name: name.clone(),
            metadata: member.subscription.clone(),
        });
        let rebalance_timeout_ms = match member.rebalance_timeout_ms {
            -1 => member.session_timeout_ms,
            timeout_ms => timeout_ms,
        };
        Self {
            id: member.member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            assignment: member.assignment.clone(),
            is_new: false,
            sync: None,
            join: None,
            protocols: protocol.into_iter().collect(),
        }
    }

    /// A member with the id `id` in this one's place. Nothing of it waits.
    pub fn successor(&self, id: ByteString) -> Self {
        Self {
            id,
            is_new: false,
            sync: None,
            join: None,
            ..self.clone()
        }
    }

    /// What a record tells of the member.
    pub fn to_record(&self, protocol: Option<&ByteString>, assignment: Bytes) -> MemberMetadata {
        MemberMetadata {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: protocol.map_or_else(Bytes::new, |name| self.metadata(name)),
            assignment,
        }
    }

    /// Its protocols, best first.
    pub fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// What it has to say for the protocol of this name.
    pub fn metadata(&self, name: &str) -> Bytes {
        let mut all = self.protocols.iter();
        let protocol = all.find(|protocol| protocol.name == name);
        protocol.map_or_else(Bytes::new, |protocol| protocol.metadata.clone())
    }

    /// Whether its JoinGroup waits.
    pub fn has_joined(&self) -> bool {
        self.join.is_some()
    }

    /// Whether a request of it waits, so that it cannot send heartbeats.
    pub fn is_waiting(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }

    /// What it takes of its group's record at most, before it has an assignment.
    pub fn record_bytes(&self) -> usize {
        let of_protocol = |protocol: &Protocol| protocol.metadata.len();
        let metadata = self.protocols.iter().map(of_protocol).max().unwrap_or(0);
        let names = [&self.id, &self.client_id, &self.client_host];
        member_value_bytes(names, self.instance_id.as_ref(), metadata)
    }

    /// What its protocols take in memory, all of them: its record has only one.
    pub fn protocols_bytes(&self) -> usize {
        let of_protocol = |protocol: &Protocol| {
            size_of::<Protocol>() + protocol.name.len() + protocol.metadata.len()
        };
        self.protocols.iter().map(of_protocol).sum()
    }
}

/// The members of one group.
#[derive(Debug, Default)]
pub struct Members {
    /// Boxed, since a map sets aside places for eleven, and most groups have few.
    by_order: BTreeMap<u64, Box<Member>>,
    order_of: AHashMap<ByteString, u64>,
    id_of_instance: AHashMap<ByteString, ByteString>,
    /// By the name of a protocol, how many members list it.
    supporters: AHashMap<ByteString, usize>,
    joined: usize,
    record_bytes: usize,
    protocols_bytes: usize,
    next_order: u64,
}

impl Members {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_order.is_empty()
    }

    /// How many wait for the answer to their JoinGroup.
    pub fn joined(&self) -> usize {
        self.joined
    }

    /// What they take of the group's record at most, before they have assignments.
    pub fn record_bytes(&self) -> usize {
        self.record_bytes
    }

    /// What all their protocols take in memory.
    pub fn protocols_bytes(&self) -> usize {
        self.protocols_bytes
    }

    /// All, in the order in which they joined.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_order.values().map(Box::as_ref)
    }

    /// All, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.by_order.values_mut().map(Box::as_mut)
    }

    /// The ids of those that `wanted` picks.
    pub fn ids_where(&self, wanted: impl Fn(&Member) -> bool) -> Vec<ByteString> {
        let wanted = self.iter().filter(|member| wanted(member));
        wanted.map(|member| member.id.clone()).collect()
    }

    /// The member of this id.
    pub fn get(&self, id: &str) -> Option<&Member> {
        self.by_order.get(self.order_of.get(id)?).map(Box::as_ref)
    }

    /// The member of this id, to change.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        let member = self.by_order.get_mut(self.order_of.get(id)?);
        member.map(Box::as_mut)
    }

    /// The id of the member that holds this `group.instance.id`.
    pub fn id_of_instance(&self, instance_id: &str) -> Option<&ByteString> {
        self.id_of_instance.get(instance_id)
    }

    /// Whether all list the protocol of this name.
    pub fn all_support(&self, name: &str) -> bool {
        self.supporters.get(name).copied().unwrap_or(0) == self.len()
    }

    /// Adds `member` behind the others. Its id and its instance id are new.
    pub fn add(&mut self, member: Member) {
        let order = self.next_order;
        self.next_order += 1;
        self.insert(order, member);
    }

    /// Takes the member of this id out.
    pub fn remove(&mut self, id: &str) -> Option<Member> {
        self.take(id).map(|(_, member)| member)
    }

    /// Puts `member` where that of the id `old` was, which is returned.
    pub fn replace(&mut self, old: &str, member: Member) -> Option<Member> {
        let (order, before) = self.take(old)?;
        self.insert(order, member);
        Some(before)
    }

    /// Takes over what a JoinGroup says that may differ from the one before.
    pub fn update(&mut self, id: &str, join: &JoinGroup) {
        let Some((order, mut member)) = self.take(id) else {
            return;
        };
        member.protocols.clone_from(&join.protocols);
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        self.insert(order, member);
    }

    /// Lets the JoinGroup of the member wait. Returns the one that waited.
    pub fn park_join(&mut self, id: &str, reply_to: ReplyId) -> Option<ReplyId> {
        let member = self.by_order.get_mut(self.order_of.get(id)?)?;
        let before = member.join.replace(reply_to);
        self.joined += usize::from(before.is_none());
        before
    }

    /// Takes the JoinGroup of the member that waits.
    pub fn take_join(&mut self, id: &str) -> Option<ReplyId> {
        let member = self.by_order.get_mut(self.order_of.get(id)?)?;
        let waited = member.join.take();
        self.joined -= usize::from(waited.is_some());
        waited
    }

    fn insert(&mut self, order: u64, member: Member) {
        self.joined += usize::from(member.has_joined());
        self.record_bytes += member.record_bytes();
        self.protocols_bytes += member.protocols_bytes();
        for protocol in &member.protocols {
            *self.supporters.entry(protocol.name.clone()).or_default() += 1;
        }
        if let Some(instance_id) = &member.instance_id {
            let id = member.id.clone();
            self.id_of_instance.insert(instance_id.clone(), id);
        }
        self.order_of.insert(member.id.clone(), order);
        let before = self.by_order.insert(order, Box::new(member));
        debug_assert!(before.is_none(), "a place has one member");
        debug_assert_eq!(self.by_order.len(), self.order_of.len(), "ids are unique");
    }

    fn take(&mut self, id: &str) -> Option<(u64, Member)> {
        let order = self.order_of.remove(id)?;
        let member = self.by_order.remove(&order)?;
        self.joined -= usize::from(member.has_joined());
        self.record_bytes -= member.record_bytes();
        self.protocols_bytes -= member.protocols_bytes();
        for protocol in &member.protocols {
            if let Some(count) = self.supporters.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supporters.remove(&protocol.name);
                }
            }
        }
        if let Some(instance_id) = &member.instance_id {
            self.id_of_instance.remove(instance_id);
        }
        Some((order, *member))
    }
}
