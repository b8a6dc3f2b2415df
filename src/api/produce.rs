//! Produce: the ordered phase hands every batch to its partition, the completion gathers answers.
//!
//! The ordered phase ends when all parts are in their owners' mailboxes, so the batches of one
//! connection reach a partition in the order in which they were sent, however long they then take.

use std::rc::Rc;

use bytes::Bytes;
use bytestring::ByteString;

use super::broker::Broker;
use super::errors::append_error;
use crate::base::ids::{PartitionIndex, TopicId, TopicIdPartition};
use crate::metadata::image::{MetadataImage, TopicImage};
use crate::metadata::topic_name;
use crate::partition::message::{
    Acks, AppendError, AppendRequest, Appended, PartitionMessage, RefusedAppend,
};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::produce_request::{ProduceRequest, TopicProduceData};
use crate::protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use crate::record::header::BatchHeader;
use crate::record::validate::RecordError;
use crate::shard::reply::{self, Receiver};

/// The first version whose batches may be compressed by zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;
/// The first version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;

/// A request whose batches are with their partitions.
pub struct Pending {
    is_acknowledged: bool,
    topics: Vec<PendingTopic>,
}

struct PendingTopic {
    name: ByteString,
    topic_id: TopicId,
    partitions: Vec<(i32, Part)>,
}

enum Part {
    Refused(ErrorCode),
    Waits(Receiver<Result<Appended, RefusedAppend>>),
}

/// The ordered phase.
pub async fn dispatch(broker: &Rc<Broker>, version: i16, request: ProduceRequest) -> Pending {
    let image = broker.image();
    let acks = match request.acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        _ => Err(ErrorCode::InvalidRequiredAcks),
    };
    let allowed = acks.and_then(|acks| check_transactional(&request).map(|()| acks));
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        // Kafka answers partitions, and a topic only where it has one.
        if topic.partition_data.is_empty() {
            continue;
        }
        let known = find_topic(&image, version, &topic);
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let partition = PartitionIndex(data.index);
            let target = known.and_then(|known| match known.partition(partition) {
                Some(_) => Ok(known.topic_id_partition(partition)),
                None => Err(ErrorCode::UnknownTopicOrPartition),
            });
            let part = match allowed.and_then(|acks| target.map(|id| (acks, id))) {
                Ok((acks, id)) => {
                    let records = data.records.unwrap_or_default();
                    Part::Waits(send(broker, id, records, acks, version >= ZSTD_SINCE).await)
                }
                Err(code) => Part::Refused(code),
            };
            partitions.push((data.index, part));
        }
        topics.push(PendingTopic {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions,
        });
    }
    Pending {
        is_acknowledged: request.acks != 0,
        topics,
    }
}

/// Nobody may write as part of a transaction without saying of which: the whole request is refused.
fn check_transactional(request: &ProduceRequest) -> Result<(), ErrorCode> {
    let mut batches = request
        .topic_data
        .iter()
        .flat_map(|topic| &topic.partition_data)
        .filter_map(|data| data.records.as_deref().and_then(BatchHeader::parse));
    if request.transactional_id.is_none() && batches.any(|header| header.is_transactional()) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    Ok(())
}

fn find_topic<'a>(
    image: &'a MetadataImage,
    version: i16,
    topic: &TopicProduceData,
) -> Result<&'a TopicImage, ErrorCode> {
    let (found, unknown) = if version >= TOPIC_IDS_SINCE {
        (image.topic(topic.topic_id), ErrorCode::UnknownTopicId)
    } else {
        (
            image.topic_named(&topic.name),
            ErrorCode::UnknownTopicOrPartition,
        )
    };
    let found = found.ok_or(unknown)?;
    if topic_name::is_internal(&found.name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    Ok(found)
}

async fn send(
    broker: &Rc<Broker>,
    id: TopicIdPartition,
    records: Bytes,
    acks: Acks,
    zstd_allowed: bool,
) -> Receiver<Result<Appended, RefusedAppend>> {
    let (reply, answer) = reply::channel();
    let request = AppendRequest {
        id,
        records,
        acks,
        zstd_allowed,
        reply,
    };
    let owner = broker.router.owner(&id);
    broker
        .router
        .send(owner, PartitionMessage::Append(request))
        .await;
    answer
}

impl Pending {
    /// The completion: waits for every partition. `Err` is why the connection must be closed:
    /// without acks it is the only way to tell of an error.
    pub async fn complete(self) -> Result<Option<ProduceResponse>, String> {
        let mut responses = Vec::with_capacity(self.topics.len());
        let mut first_error = None;
        for topic in self.topics {
            let mut partition_responses = Vec::with_capacity(topic.partitions.len());
            for (index, part) in topic.partitions {
                let (response, code) = part.complete(index).await;
                if code != ErrorCode::None {
                    let (topic, topic_id) = (&topic.name, topic.topic_id);
                    let error = response.error_message.as_deref().unwrap_or_default();
                    tracing::debug!(
                        %topic, %topic_id, partition = index, %code, error, "append refused"
                    );
                }
                if response.error_code != 0 {
                    first_error.get_or_insert(response.error_code);
                }
                partition_responses.push(response);
            }
            responses.push(TopicProduceResponse {
                name: topic.name,
                topic_id: topic.topic_id,
                partition_responses,
            });
        }
        match (self.is_acknowledged, first_error) {
            (true, _) => Ok(Some(ProduceResponse {
                responses,
                ..ProduceResponse::default()
            })),
            (false, None) => Ok(None),
            (false, Some(code)) => Err(format!(
                "a produce request with acks=0 failed with error code {code}"
            )),
        }
    }
}

impl Part {
    async fn complete(self, index: i32) -> (PartitionProduceResponse, ErrorCode) {
        let result = match self {
            Self::Refused(code) => Err((code, None)),
            Self::Waits(answer) => match answer.await {
                Ok(Ok(appended)) => Ok(appended),
                Ok(Err(refused)) => Err((append_error(&refused.error), Some(refused))),
                // The owner has stopped with the request in its hands: it may have been appended.
                Err(_gone) => Err((ErrorCode::NotLeaderOrFollower, None)),
            },
        };
        let code = result
            .as_ref()
            .err()
            .map_or(ErrorCode::None, |(code, _)| *code);
        let response = match result {
            Ok(appended) => PartitionProduceResponse {
                index,
                base_offset: appended.base_offset.0,
                log_append_time_ms: appended.log_append_time,
                log_start_offset: appended.log_start.0,
                ..PartitionProduceResponse::default()
            },
            Err((code, refused)) => {
                let told = refused.as_ref().filter(|it| tells_log_start(&it.error));
                PartitionProduceResponse {
                    index,
                    error_code: code.into(),
                    base_offset: -1,
                    log_append_time_ms: -1,
                    log_start_offset: told.map_or(-1, |refused| refused.log_start.0),
                    record_errors: refused
                        .as_ref()
                        .map_or_else(Vec::new, |refused| record_errors(&refused.error)),
                    error_message: refused.map(|refused| refused.to_string().into()),
                    ..PartitionProduceResponse::default()
                }
            }
        };
        (response, code)
    }
}

/// Whether an answer names the log start offset, as Kafka does where it had looked into the log or
/// into the records: not for what is no batch, is too large, or was damaged on its way.
fn tells_log_start(error: &AppendError) -> bool {
    match error {
        AppendError::Partition(_) => false,
        AppendError::Producer(_) | AppendError::NoTransaction(_) => true,
        AppendError::Record(error) => !matches!(
            error,
            RecordError::NoBatch
                | RecordError::Incomplete { .. }
                | RecordError::Length { .. }
                | RecordError::OldMagic { .. }
                | RecordError::UnknownMagic { .. }
                | RecordError::MoreThanOneBatch { .. }
                | RecordError::Crc { .. }
                | RecordError::ZstdNotAllowed
                | RecordError::BatchTooLarge { .. }
                | RecordError::LargerThanSegment { .. }
        ),
    }
}

/// The records that were refused one by one (KIP-467).
fn record_errors(error: &AppendError) -> Vec<BatchIndexAndErrorMessage> {
    let (AppendError::Record(RecordError::InvalidRecords(refused))
    | AppendError::Record(RecordError::InvalidTimestamps(refused))) = error
    else {
        return Vec::new();
    };
    refused
        .named
        .iter()
        .map(|(index, why)| BatchIndexAndErrorMessage {
            batch_index: *index,
            batch_index_error_message: Some(why.to_string().into()),
        })
        .collect()
}
