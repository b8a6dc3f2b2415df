//! Identifiers, each a type of its own. Any shard; pure data.

use std::fmt;
use std::str::FromStr;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// A record's position in its partition.
    Offset(i64)
}
number_id! {
    /// The reign of one leader over a partition; in the metadata log, the Raft term.
    LeaderEpoch(i32)
}
number_id! {
    /// A partition's number within its topic, from 0.
    PartitionIndex(i32)
}
number_id! {
    /// A broker or controller, Kafka's `node.id`.
    NodeId(i32)
}
number_id! {
    /// An idempotent or transactional producer.
    ProducerId(i64)
}
number_id! {
    /// The incarnation of a producer id; a newer one fences the older.
    ProducerEpoch(i16)
}
number_id! {
    /// One executor and the partitions that it owns, from 0.
    ShardId(u16)
}

impl Offset {
    /// The offset `count` records on. It saturates, so that what a damaged file names cannot wrap
    /// around.
    #[must_use]
    pub fn plus(self, count: i64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl LeaderEpoch {
    /// What the protocol sends where no epoch is known: never 0, which is a real epoch.
    pub const UNKNOWN: Self = Self(-1);
}

impl ProducerId {
    /// What a batch carries when its producer is not idempotent.
    pub const NONE: Self = Self(-1);
}

/// A topic's incarnation: stable while the topic lives, new when it is created again (KIP-516).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u128);

impl TopicId {
    /// The id that the protocol sends where none is known.
    pub const ZERO: Self = Self(0);
    /// The id of `__cluster_metadata`, Kafka's `Uuid.METADATA_TOPIC_ID`.
    pub const METADATA: Self = Self(1);

    /// A random id that is neither of the reserved ones and, as in Kafka, does not print with a
    /// leading dash, which command lines take for an option.
    pub fn random() -> Self {
        loop {
            let id = Self(uuid::Uuid::new_v4().as_u128());
            if id > Self::METADATA && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// 128 bits as unpadded base64.
const TOPIC_ID_CHARS: usize = 22;

/// Prints as Kafka does: URL-safe base64 without padding.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for index in 0..TOPIC_ID_CHARS {
            // 22 characters hold 132 bits: the last one carries 2 bits, shifted up by 4.
            let low_bit = 122 - 6 * index as i32;
            let six = if low_bit >= 0 {
                self.0 >> low_bit
            } else {
                self.0 << -low_bit
            };
            fmt::Write::write_char(f, BASE64_URL[(six & 63) as usize] as char)?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Any other 128-bit id: of a directory, an incarnation, a client instance. Prints as Kafka's
/// `Uuid` does.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TopicId(self.0).fmt(f)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A string that is no topic id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a topic id: 22 characters of URL-safe base64 are expected")]
pub struct InvalidTopicId(pub String);

impl FromStr for TopicId {
    type Err = InvalidTopicId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidTopicId(text.to_owned());
        if text.len() != TOPIC_ID_CHARS {
            return Err(invalid());
        }
        let mut id = 0_u128;
        for (index, byte) in text.bytes().enumerate() {
            let six = BASE64_URL
                .iter()
                .position(|known| *known == byte)
                .ok_or_else(invalid)? as u128;
            id = if index + 1 < TOPIC_ID_CHARS {
                (id << 6) | six
            } else if six & 0b1111 == 0 {
                (id << 2) | (six >> 4)
            } else {
                return Err(invalid());
            };
        }
        Ok(Self(id))
    }
}

/// A partition of one incarnation of a topic: what routing and storage go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIdPartition {
    /// The topic's incarnation.
    pub topic_id: TopicId,
    /// The partition within it.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicIdPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_print_and_parse_as_kafka_prints_them() {
        // Uuid.METADATA_TOPIC_ID and Uuid.ZERO_UUID as Kafka prints them.
        assert_eq!(TopicId::METADATA.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        for _ in 0..100 {
            let id = TopicId::random();
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for wrong in [
            "",
            "AAAAAAAAAAAAAAAAAAAAAB",
            "AAAAAAAAAAAAAAAAAAAA+A",
            "AAAA",
        ] {
            assert!(wrong.parse::<TopicId>().is_err(), "{wrong}");
        }
    }
}
