//! Requests about topics and the broker's settings.

use bytestring::ByteString;
use millrace::protocol::frame::Frame;
use millrace::protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use millrace::protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use millrace::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use millrace::protocol::messages::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use millrace::protocol::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use millrace::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};

use super::Maker;

const SETTINGS: [&str; 8] = [
    "retention.ms",
    "cleanup.policy",
    "segment.bytes",
    "message.timestamp.type",
    "millrace.flush",
    "compression.type",
    "",
    "no.setting",
];
const VALUES: [&str; 8] = [
    "1",
    "-1",
    "compact",
    "LogAppendTime",
    "never",
    "zstd",
    "",
    "2147483648",
];
/// The most partitions that are asked for: more take long to make.
pub const PARTITIONS_MAX: i32 = 4;

impl Maker<'_> {
    pub(super) fn metadata(&mut self) -> Option<Frame> {
        let topics = match self.choices.byte() % 4 {
            0..=2 => Some(self.some(|it| MetadataRequestTopic {
                topic_id: match it.choices.one_in(4) {
                    true => it.topic_id(),
                    false => Default::default(),
                },
                name: match it.version >= 10 && it.choices.one_in(8) {
                    true => None,
                    false => Some(it.topic()),
                },
            })),
            _ => None,
        };
        let (cluster, topic) = (self.choices.flag(), self.choices.flag());
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation: self.version < 4 || !self.choices.flag(),
            include_cluster_authorized_operations: (8..=10).contains(&self.version) && cluster,
            include_topic_authorized_operations: self.version >= 8 && topic,
        };
        self.frame(&request)
    }

    pub(super) fn create_topics(&mut self) -> Option<Frame> {
        let topics = self.some(|it| {
            let assignments = match it.choices.one_in(8) {
                true => it.some(|it| CreatableReplicaAssignment {
                    partition_index: it.partition(),
                    broker_ids: it.some(|it| it.choices.number32()),
                }),
                false => Vec::new(),
            };
            let configs = match it.choices.one_in(3) {
                true => it.some(|it| CreatableTopicConfig {
                    name: it.choices.pick(&SETTINGS).into(),
                    value: it.value(),
                }),
                false => Vec::new(),
            };
            CreatableTopic {
                name: it.topic(),
                num_partitions: it.partitions_count(),
                replication_factor: it.choices.pick(&[1, -1, 1, -1, 1, 0, 2, i16::MAX]),
                assignments,
                configs,
            }
        });
        let request = CreateTopicsRequest {
            topics,
            timeout_ms: self.choices.number32(),
            validate_only: self.choices.one_in(8),
        };
        self.frame(&request)
    }

    fn value(&mut self) -> Option<ByteString> {
        match self.choices.byte() {
            0..=200 => Some(self.choices.pick(&VALUES).into()),
            201..=210 => None,
            _ => Some(self.text()),
        }
    }

    fn partitions_count(&mut self) -> i32 {
        match self.choices.byte() {
            0..=240 => i32::from(self.choices.byte()) % PARTITIONS_MAX + 1,
            241..=245 => -1,
            _ => self.choices.number32().min(PARTITIONS_MAX),
        }
    }

    pub(super) fn delete_topics(&mut self) -> Option<Frame> {
        let mut request = DeleteTopicsRequest {
            timeout_ms: self.choices.number32(),
            ..DeleteTopicsRequest::default()
        };
        if self.version < 6 {
            request.topic_names = self.some(Self::topic);
        } else {
            request.topics = self.some(|it| match it.choices.flag() {
                false => DeleteTopicState {
                    name: Some(it.topic()),
                    topic_id: Default::default(),
                },
                true => DeleteTopicState {
                    name: it.choices.one_in(8).then(|| it.topic()),
                    topic_id: it.topic_id(),
                },
            });
        }
        self.frame(&request)
    }

    pub(super) fn create_partitions(&mut self) -> Option<Frame> {
        let topics = self.some(|it| CreatePartitionsTopic {
            name: it.topic(),
            count: it.partitions_count(),
            assignments: it.choices.one_in(8).then(|| {
                it.some(|it| CreatePartitionsAssignment {
                    broker_ids: it.some(|it| it.choices.number32()),
                })
            }),
        });
        let request = CreatePartitionsRequest {
            topics,
            timeout_ms: self.choices.number32(),
            validate_only: self.choices.one_in(8),
        };
        self.frame(&request)
    }

    pub(super) fn describe_topic_partitions(&mut self) -> Option<Frame> {
        let request = DescribeTopicPartitionsRequest {
            topics: self.some(|it| TopicRequest { name: it.topic() }),
            response_partition_limit: match self.choices.one_in(4) {
                true => self.choices.number32(),
                false => 2000,
            },
            cursor: self.choices.one_in(4).then(|| Cursor {
                topic_name: self.topic(),
                partition_index: self.choices.number32(),
            }),
        };
        self.frame(&request)
    }

    pub(super) fn describe_configs(&mut self) -> Option<Frame> {
        let resources = self.some(|it| DescribeConfigsResource {
            resource_type: it.choices.pick(&[2, 4, 8, 2, 4, 2, 32, 0]),
            resource_name: match it.choices.byte() % 4 {
                0 | 1 => it.topic(),
                2 => ByteString::from_static("1"),
                _ => it.text(),
            },
            configuration_keys: it
                .choices
                .flag()
                .then(|| it.some(|it| it.choices.pick(&SETTINGS).into())),
        });
        let request = DescribeConfigsRequest {
            resources,
            include_synonyms: self.choices.flag(),
            include_documentation: self.version >= 3 && self.choices.flag(),
        };
        self.frame(&request)
    }
}
