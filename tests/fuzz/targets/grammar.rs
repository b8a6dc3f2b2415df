//! Requests of every served API, out of choices. All zeros make a request that a client could
//! send; others name what is not there, or ask for what makes no sense.

mod describing;
mod groups;
mod records;
mod topics;

use bytes::Bytes;
use bytestring::ByteString;
use millrace::base::ids::TopicId;
use millrace::protocol::api::ApiKey;
use millrace::protocol::frame::{self, Frame};
use millrace::protocol::wire::Request;

pub use records::WAIT_MS_MAX;
pub use topics::PARTITIONS_MAX;

use super::choices::Choices;

/// What the answers have told so far.
#[derive(Clone, Debug)]
pub struct Known {
    /// The ids of topics, the first for the first name.
    pub topic_ids: Vec<TopicId>,
    /// The member ids that were handed out, each with its generation.
    pub members: Vec<(ByteString, i32)>,
    /// The latest producer's id and epoch.
    pub producer: (i64, i16),
    /// The latest fetch session and its next epoch.
    pub session: (i32, i32),
}

impl Default for Known {
    fn default() -> Self {
        Self {
            topic_ids: vec![TopicId::ZERO],
            members: vec![(ByteString::new(), -1)],
            producer: (-1, -1),
            session: (0, -1),
        }
    }
}

/// What a request is made from.
pub struct Maker<'a> {
    choices: Choices<'a>,
    known: &'a Known,
    version: i16,
    correlation_id: i32,
}

/// A request of `key` in `version`; none where the choices say what the version cannot express.
pub fn request(
    choices: Choices<'_>,
    known: &Known,
    (key, version): (ApiKey, i16),
    correlation_id: i32,
) -> Option<Frame> {
    let mut maker = Maker {
        choices,
        known,
        version,
        correlation_id,
    };
    let make = match key {
        ApiKey::Produce => Maker::produce,
        ApiKey::Fetch => Maker::fetch,
        ApiKey::ListOffsets => Maker::list_offsets,
        ApiKey::OffsetForLeaderEpoch => Maker::offset_for_leader_epoch,
        ApiKey::InitProducerId => Maker::init_producer_id,
        ApiKey::Metadata => Maker::metadata,
        ApiKey::CreateTopics => Maker::create_topics,
        ApiKey::DeleteTopics => Maker::delete_topics,
        ApiKey::CreatePartitions => Maker::create_partitions,
        ApiKey::DescribeTopicPartitions => Maker::describe_topic_partitions,
        ApiKey::DescribeConfigs => Maker::describe_configs,
        ApiKey::FindCoordinator => Maker::find_coordinator,
        ApiKey::JoinGroup => Maker::join_group,
        ApiKey::SyncGroup => Maker::sync_group,
        ApiKey::Heartbeat => Maker::heartbeat,
        ApiKey::LeaveGroup => Maker::leave_group,
        ApiKey::OffsetCommit => Maker::offset_commit,
        ApiKey::OffsetFetch => Maker::offset_fetch,
        ApiKey::OffsetDelete => Maker::offset_delete,
        ApiKey::DeleteGroups => Maker::delete_groups,
        ApiKey::DescribeGroups => Maker::describe_groups,
        ApiKey::ListGroups => Maker::list_groups,
        ApiKey::ApiVersions => Maker::api_versions,
        ApiKey::DescribeCluster => Maker::describe_cluster,
        ApiKey::GetTelemetrySubscriptions => Maker::telemetry_subscriptions,
        ApiKey::PushTelemetry => Maker::push_telemetry,
        key => unreachable!("{key:?} is not served"),
    };
    make(&mut maker)
}

const TOPICS: [&str; 8] = [
    "a",
    "b",
    "a.b",
    "a_b",
    "",
    "..",
    "__consumer_offsets",
    "no topic!",
];
const GROUPS: [&str; 4] = ["g", "h", "", "\u{e9}"];
/// A name that is as long as the protocol allows.
const LONG_NAME_BYTES: usize = 32_767;

/// What most requests are made of.
impl Maker<'_> {
    fn frame<R: Request>(&self, request: &R) -> Option<Frame> {
        let client = ByteString::from_static("fuzz");
        frame::request(self.version, self.correlation_id, &client, request).ok()
    }

    /// `value` from the version on that knows it, and the default before.
    fn since<T: Default>(&self, version: i16, value: T) -> T {
        match self.version >= version {
            true => value,
            false => T::default(),
        }
    }

    /// One thing at least, and few.
    fn some<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = match self.choices.byte() % 8 {
            0..=4 => 1,
            5 => 0,
            6 => 2,
            _ => 5,
        };
        (0..count).map(|_| make(self)).collect()
    }

    fn topic(&mut self) -> ByteString {
        self.name(&TOPICS)
    }

    fn group(&mut self) -> ByteString {
        self.name(&GROUPS)
    }

    fn name(&mut self, usual: &[&str]) -> ByteString {
        match self.choices.byte() {
            0..=150 => ByteString::from(usual[0]),
            151 => "x".repeat(LONG_NAME_BYTES).into(),
            152 => "x".repeat(249).into(),
            byte => ByteString::from(usual[usize::from(byte) % usual.len()]),
        }
    }

    fn text(&mut self) -> ByteString {
        String::from_utf8_lossy(self.choices.short_slice())
            .into_owned()
            .into()
    }

    fn bytes(&mut self) -> Bytes {
        Bytes::copy_from_slice(self.choices.short_slice())
    }

    fn topic_id(&mut self) -> TopicId {
        let known = &self.known.topic_ids;
        match self.choices.byte() {
            255 => TopicId(u128::MAX),
            254 => TopicId::METADATA,
            byte => known[usize::from(byte) % known.len()],
        }
    }

    fn partition(&mut self) -> i32 {
        match self.choices.byte() {
            0..=100 => 0,
            101..=200 => 1,
            _ => self.choices.number32(),
        }
    }

    fn epoch(&mut self) -> i32 {
        match self.choices.byte() {
            0..=150 => -1,
            151..=220 => 0,
            _ => self.choices.number32(),
        }
    }

    fn instance(&mut self) -> Option<ByteString> {
        let instances = [None, None, Some("i"), Some("j"), Some("")];
        self.choices.pick(&instances).map(ByteString::from)
    }
}
