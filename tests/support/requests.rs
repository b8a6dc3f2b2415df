//! Requests for one partition, and the part of the answer that is about it.

use bytes::Bytes;
use kacrab_protocol::generated::fetch_request::{FetchPartition, FetchTopic};
use kacrab_protocol::generated::fetch_response::PartitionData;
use kacrab_protocol::generated::produce_response::PartitionProduceResponse;
use kacrab_protocol::generated::{
    FetchRequestData, FetchResponseData, PartitionProduceData, ProduceRequestData,
    ProduceResponseData, TopicProduceData,
};

use super::wire::text;

/// A Produce request of one batch, by the topic's name.
pub fn produce(topic: &str, partition: i32, acks: i16, records: &[u8]) -> ProduceRequestData {
    let partition = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(Bytes::copy_from_slice(records)));
    let topic = TopicProduceData::default()
        .with_name(text(topic))
        .with_partition_data(vec![partition]);
    ProduceRequestData::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// The one partition of a Produce answer.
pub fn produced(answer: &mut Bytes, version: i16) -> PartitionProduceResponse {
    let answer = ProduceResponseData::read(answer, version).expect("a decodable answer");
    let mut topics = answer.responses;
    assert_eq!(topics.len(), 1, "topics answered");
    let mut partitions = topics.remove(0).partition_responses;
    assert_eq!(partitions.len(), 1, "partitions answered");
    partitions.remove(0)
}

/// A Fetch request outside any session, by the topic's name, that does not wait.
pub fn fetch(topic: &str, partition: i32, offset: i64) -> FetchRequestData {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(text(topic))
        .with_partitions(vec![partition]);
    FetchRequestData::default()
        .with_replica_id(-1)
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// The one partition of a Fetch answer.
pub fn fetched(answer: &mut Bytes, version: i16) -> PartitionData {
    let answer = FetchResponseData::read(answer, version).expect("a decodable answer");
    assert_eq!(answer.error_code, 0, "the answer as a whole");
    let mut topics = answer.responses;
    assert_eq!(topics.len(), 1, "topics answered");
    let mut partitions = topics.remove(0).partitions;
    assert_eq!(partitions.len(), 1, "partitions answered");
    partitions.remove(0)
}
