//! The APIs: their keys, and which versions the broker serves. A table; it decides nothing else.

include!(concat!(env!("OUT_DIR"), "/api_keys.rs"));

struct ApiFacts {
    key: ApiKey,
    name: &'static str,
    first: i16,
    last: i16,
    /// The first flexible version.
    flexible: i16,
}

/// An API that the broker serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Which one.
    pub key: ApiKey,
    /// The first version that ApiVersions names.
    pub min_version: i16,
    /// The last one.
    pub max_version: i16,
}

/// What ApiVersions answers, by key: the ranges of Kafka 4.3.1. An API that is not implemented is
/// not in it. Produce is named from version 0, or librdkafka stops compressing, but its versions
/// 0 to 2 are refused (KAFKA-18659).
pub const SUPPORTED: &[Served] = &[
    served(ApiKey::Produce, 0, 13),
    served(ApiKey::Fetch, 4, 18),
    served(ApiKey::ListOffsets, 1, 11),
    served(ApiKey::Metadata, 0, 13),
    served(ApiKey::OffsetCommit, 2, 10),
    served(ApiKey::OffsetFetch, 1, 10),
    served(ApiKey::FindCoordinator, 0, 6),
    served(ApiKey::JoinGroup, 0, 9),
    served(ApiKey::Heartbeat, 0, 4),
    served(ApiKey::LeaveGroup, 0, 5),
    served(ApiKey::SyncGroup, 0, 5),
    served(ApiKey::DescribeGroups, 0, 6),
    served(ApiKey::ListGroups, 0, 5),
    served(ApiKey::ApiVersions, 0, 4),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::InitProducerId, 0, 5),
    served(ApiKey::OffsetForLeaderEpoch, 2, 4),
    served(ApiKey::DescribeConfigs, 1, 4),
    served(ApiKey::CreatePartitions, 0, 3),
    served(ApiKey::DeleteGroups, 0, 2),
    served(ApiKey::OffsetDelete, 0, 0),
    served(ApiKey::DescribeCluster, 0, 2),
    served(ApiKey::GetTelemetrySubscriptions, 0, 0),
    served(ApiKey::PushTelemetry, 0, 0),
    served(ApiKey::DescribeTopicPartitions, 0, 0),
];

const fn served(key: ApiKey, min_version: i16, max_version: i16) -> Served {
    Served {
        key,
        min_version,
        max_version,
    }
}

impl ApiKey {
    /// The API with this key, if there is one.
    pub fn from_code(code: i16) -> Option<Self> {
        APIS.iter()
            .map(|facts| facts.key)
            .find(|key| key.code() == code)
    }

    /// Its key on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Whether the broker takes requests of this version: those that it names and that exist.
    pub fn serves(self, version: i16) -> bool {
        let facts = self.facts();
        (facts.first..=facts.last).contains(&version)
            && SUPPORTED.iter().any(|served| {
                served.key == self && (served.min_version..=served.max_version).contains(&version)
            })
    }

    /// The version of the header before a request of this version: 1 or 2.
    pub fn request_header_version(self, version: i16) -> i16 {
        if version >= self.facts().flexible {
            2
        } else {
            1
        }
    }

    /// The version of the header before a response of this version: 0 or 1. Before that of
    /// ApiVersions always 0: the client does not know yet what the broker speaks (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        let flexible = self != Self::ApiVersions && version >= self.facts().flexible;
        i16::from(flexible)
    }

    fn facts(self) -> &'static ApiFacts {
        APIS.iter()
            .find(|facts| facts.key == self)
            .expect("the build script writes a row for each key")
    }
}
