//! Requests about records and their offsets.

use bytes::Bytes;
use millrace::base::ids::{Offset, ProducerEpoch, ProducerId};
use millrace::protocol::frame::Frame;
use millrace::protocol::messages::fetch_request::{
    FetchPartition, FetchRequest, FetchTopic, ForgottenTopic, ReplicaState,
};
use millrace::protocol::messages::init_producer_id_request::InitProducerIdRequest;
use millrace::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use millrace::protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use millrace::protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millrace::record::{BatchBuilder, Codec, RecordToWrite};

use super::Maker;

/// The longest that a fetch asks to wait: nobody waits for an input.
pub const WAIT_MS_MAX: i32 = 20;
const TIMESTAMP: i64 = 1_700_000_000_000;

impl Maker<'_> {
    pub(super) fn produce(&mut self) -> Option<Frame> {
        let topic_data = self.some(|it| TopicProduceData {
            name: it.topic(),
            topic_id: it.topic_id(),
            partition_data: it.some(|it| PartitionProduceData {
                index: it.partition(),
                records: it.records(),
            }),
        });
        let request = ProduceRequest {
            transactional_id: match self.choices.byte() {
                0..=250 => None,
                _ => Some(self.text()),
            },
            acks: self.choices.pick(&[-1, 1, 0, -1, 1, -1, 1, 2]),
            timeout_ms: self.choices.number32(),
            topic_data,
        };
        self.frame(&request)
    }

    fn records(&mut self) -> Option<Bytes> {
        let kind = self.choices.byte();
        if kind == 255 {
            return None;
        }
        let batch = self.batch();
        let mut bytes = match kind {
            // Two batches, where one is allowed.
            254 => [batch.clone(), batch].concat(),
            _ => batch,
        };
        if kind >= 240 {
            let at = self.choices.below(bytes.len().min(255));
            bytes[at] ^= self.choices.byte();
        }
        Some(bytes.into())
    }

    fn batch(&mut self) -> Vec<u8> {
        let mut builder = BatchBuilder::new(self.choices.pick(&Codec::ALL));
        if self.choices.one_in(3) {
            let (id, epoch) = self.known.producer;
            let sequence = self.choices.pick(&[0, 1, 2, 5, -1, i32::MAX]);
            builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
        }
        if self.choices.one_in(32) {
            builder.base_offset = Offset(self.choices.number());
        }
        builder.is_transactional = self.choices.one_in(32);
        builder.is_control = self.choices.one_in(32);
        for _ in 0..=self.choices.below(4) {
            let (key, value) = (self.bytes(), self.bytes());
            let timestamp = match self.choices.one_in(16) {
                true => self.choices.number(),
                false => TIMESTAMP,
            };
            let record = RecordToWrite {
                timestamp,
                key: (!key.is_empty()).then_some(&key[..]),
                value: Some(&value),
                headers: &[("name", None)],
            };
            builder.append(&record).expect("a small record");
        }
        builder.build().expect("a small batch")
    }

    pub(super) fn fetch(&mut self) -> Option<Frame> {
        let topics = self.some(|it| FetchTopic {
            topic: it.topic(),
            topic_id: it.topic_id(),
            partitions: it.some(Self::fetch_partition),
        });
        let forgotten = match self.choices.one_in(4) {
            true => self.some(|it| ForgottenTopic {
                topic: it.topic(),
                topic_id: it.topic_id(),
                partitions: it.some(Self::partition),
            }),
            false => Vec::new(),
        };
        let (session_id, session_epoch) = match self.choices.byte() % 4 {
            0 => (0, -1),
            1 => (0, 0),
            2 => self.known.session,
            _ => (self.choices.number32(), self.choices.number32()),
        };
        let replica_id = match self.choices.one_in(16) {
            true => self.choices.number32(),
            false => -1,
        };
        let request = FetchRequest {
            replica_id: if self.version < 15 { replica_id } else { -1 },
            replica_state: ReplicaState {
                replica_id: if self.version < 15 { -1 } else { replica_id },
                ..ReplicaState::default()
            },
            max_wait_ms: i32::from(self.choices.byte()) % WAIT_MS_MAX,
            min_bytes: self.choices.number32(),
            max_bytes: match self.choices.one_in(4) {
                true => self.choices.number32(),
                false => 1 << 20,
            },
            isolation_level: self.choices.pick(&[0, 1, 0, 1, 0, 1, 7, -1]),
            session_id,
            session_epoch,
            topics,
            forgotten_topics_data: self.since(7, forgotten),
            rack_id: self.text(),
            ..FetchRequest::default()
        };
        self.frame(&request)
    }

    fn fetch_partition(&mut self) -> FetchPartition {
        FetchPartition {
            partition: self.partition(),
            current_leader_epoch: self.epoch(),
            fetch_offset: self.choices.number(),
            last_fetched_epoch: if self.version < 12 { -1 } else { self.epoch() },
            log_start_offset: self.choices.number(),
            partition_max_bytes: match self.choices.one_in(4) {
                true => self.choices.number32(),
                false => 1 << 20,
            },
            ..FetchPartition::default()
        }
    }

    pub(super) fn list_offsets(&mut self) -> Option<Frame> {
        let topics = self.some(|it| ListOffsetsTopic {
            name: it.topic(),
            partitions: it.some(|it| ListOffsetsPartition {
                partition_index: it.partition(),
                current_leader_epoch: it.epoch(),
                timestamp: match it.choices.byte() % 8 {
                    0..=5 => -i64::from(it.choices.byte() % 8),
                    6 => TIMESTAMP,
                    _ => it.choices.number(),
                },
            }),
        });
        let isolation_level = self.choices.pick(&[0, 1, 7]);
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: self.since(2, isolation_level),
            topics,
            timeout_ms: self.choices.number32(),
        };
        self.frame(&request)
    }

    pub(super) fn offset_for_leader_epoch(&mut self) -> Option<Frame> {
        let topics = self.some(|it| OffsetForLeaderTopic {
            topic: it.topic(),
            partitions: it.some(|it| OffsetForLeaderPartition {
                partition: it.partition(),
                current_leader_epoch: it.epoch(),
                leader_epoch: it.choices.number32(),
            }),
        });
        let replica_id = self.choices.number32();
        self.frame(&OffsetForLeaderEpochRequest { replica_id, topics })
    }

    pub(super) fn init_producer_id(&mut self) -> Option<Frame> {
        let (mut producer_id, mut producer_epoch) = (-1, -1);
        if self.version >= 3 && self.choices.one_in(2) {
            (producer_id, producer_epoch) = match self.choices.one_in(4) {
                true => (self.choices.number(), self.choices.number() as i16),
                false => self.known.producer,
            };
        }
        let request = InitProducerIdRequest {
            transactional_id: match self.choices.byte() {
                0..=200 => None,
                _ => Some(self.text()),
            },
            transaction_timeout_ms: self.choices.number32(),
            producer_id,
            producer_epoch,
            ..InitProducerIdRequest::default()
        };
        self.frame(&request)
    }
}
