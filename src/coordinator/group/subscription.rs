//! The topics that a member of a `consumer` group subscribes to, out of its metadata. Pure; any
//! shard; it never refuses a member.
//!
//! The metadata is the clients' own business (Kafka's `ConsumerProtocolSubscription`); the broker
//! looks at it only to know which offsets are in use. It is read as version 0, whatever version it
//! claims: there are clients that claim a later one and leave out its fields.

use ahash::AHashSet;
use bytes::Bytes;
use bytestring::ByteString;

use crate::protocol::error::DecodeError;
use crate::protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use crate::protocol::reader::Reader;
use crate::protocol::wire::Message;

/// The type of a group whose members' metadata are subscriptions.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// About what a set takes for each topic beside its name.
const TOPIC_BYTES: usize = 2 * size_of::<ByteString>();

/// What a group is known to subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscribed {
    /// The group is of another type, or a member's metadata is no subscription.
    Unknown,
    /// These topics, and no other.
    Topics(AHashSet<ByteString>),
}

impl Subscribed {
    /// No topic at all: a `consumer` group without members.
    pub fn nothing() -> Self {
        Self::Topics(AHashSet::new())
    }

    /// What the members of a group of `protocol_type` subscribe to, by their metadata for the
    /// protocol that was chosen.
    pub fn of_members<'a>(
        protocol_type: &str,
        metadata: impl IntoIterator<Item = &'a Bytes>,
    ) -> Self {
        if protocol_type != CONSUMER_PROTOCOL_TYPE {
            return Self::Unknown;
        }
        let mut all = AHashSet::new();
        for metadata in metadata {
            match topics(metadata) {
                Ok(topics) => add(&mut all, topics),
                Err(_) => return Self::Unknown,
            }
        }
        Self::Topics(all)
    }

    /// About what it takes, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Unknown => 0,
            Self::Topics(topics) => {
                let of_topic = |topic: &ByteString| TOPIC_BYTES + topic.len();
                topics.iter().map(of_topic).sum()
            }
        }
    }

    /// Whether the offsets of `topic` are in use by a group of `protocol_type`: if nothing is
    /// known of a `consumer` group, all are.
    pub fn contains(&self, protocol_type: &str, topic: &str) -> bool {
        match self {
            Self::Topics(topics) => topics.contains(topic),
            Self::Unknown => protocol_type == CONSUMER_PROTOCOL_TYPE,
        }
    }
}

/// Adds what is new, as copies: a handle would keep the member's whole request.
fn add(all: &mut AHashSet<ByteString>, topics: Vec<ByteString>) {
    for topic in topics {
        if !all.contains(&topic) {
            all.insert(ByteString::from(&*topic));
        }
    }
}

/// The topics of one member. Every version begins as the first one does.
fn topics(metadata: &Bytes) -> Result<Vec<ByteString>, DecodeError> {
    let mut reader = Reader::new(metadata.clone());
    reader.int16()?;
    Ok(ConsumerProtocolSubscription::decode(&mut reader, 0)?.topics)
}

#[cfg(test)]
mod tests;
