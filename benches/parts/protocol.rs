//! Decoding: from the bytes of a frame to the request, and its end.
//!
//! A call parses the header, decodes the body and drops it. Records are handles into the frame, so
//! the size of a batch should not show here, only their number.

use std::hint::black_box;

use bytes::Bytes;
use bytestring::ByteString;
use millrace::base::ids::TopicId;
use millrace::protocol::frame::{self, LENGTH_BYTES};
use millrace::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use millrace::protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millrace::protocol::wire::Request;
use millrace::record::Codec;

use super::{Part, batch};

/// The newest versions that clients speak: topics go by id.
pub const PRODUCE_VERSION: i16 = 13;
pub const FETCH_VERSION: i16 = 17;
const CALLS: u64 = 32;

/// The frame of a request, without its length, as the intake hands it on.
pub fn framed<R: Request>(version: i16, request: &R) -> Bytes {
    let client_id = ByteString::from_static("producer-1");
    let frame = frame::request(version, 7, &client_id, request).expect("a right request");
    Bytes::from(frame.chunks.concat()).slice(LENGTH_BYTES..)
}

/// A request that writes `records` to so many partitions of a topic.
pub fn produce(topic_id: TopicId, partitions: i32, records: &Bytes) -> ProduceRequest {
    let data = |index| PartitionProduceData {
        index,
        records: Some(records.clone()),
    };
    ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            topic_id,
            partition_data: (0..partitions).map(data).collect(),
            ..TopicProduceData::default()
        }],
    }
}

/// A request that reads so many partitions of a topic, from `offset` on, without waiting.
pub fn fetch(topic_id: TopicId, partitions: i32, offset: i64) -> FetchRequest {
    let wanted = |partition| FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic_id,
            partitions: (0..partitions).map(wanted).collect(),
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

fn decode<R: Request + 'static>(name: &'static str, version: i16, request: &R) -> Part {
    let frame = framed(version, request);
    Part::new(name, CALLS, 0, move || {
        for _ in 0..CALLS {
            let request = frame::parse_request(frame.clone()).expect("a right header");
            black_box(request.decode::<R>().expect("a right body"));
        }
    })
}

pub fn parts() -> Vec<Part> {
    let topic = TopicId(7);
    let (large, small) = (batch(Codec::None, 64, 1024), batch(Codec::None, 1, 1024));
    let in_session = FetchRequest {
        session_id: 77,
        session_epoch: 5,
        topics: Vec::new(),
        ..fetch(topic, 0, 0)
    };
    vec![
        decode(
            "produce-decode/1-partition",
            PRODUCE_VERSION,
            &produce(topic, 1, &large),
        ),
        decode(
            "produce-decode/100-partitions",
            PRODUCE_VERSION,
            &produce(topic, 100, &small),
        ),
        decode(
            "fetch-decode/100-partitions",
            FETCH_VERSION,
            &fetch(topic, 100, 1_000_000),
        ),
        decode("fetch-decode/in-session", FETCH_VERSION, &in_session),
    ]
}
