//! From a frame to its handler, and back to a frame.
//!
//! A request that cannot be parsed, or asks for what is not served, closes its connection, as in
//! Kafka: there is no reply that such a client could be known to understand.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use bytestring::ByteString;
use tracing::level_filters::LevelFilter;

use super::broker::{Broker, Connection};
use super::groups::requests;
use super::metadata::{cluster, topic_partitions};
use super::{
    api_versions, configs, coordinators, fetch, metadata, offsets, produce, producer_ids,
    telemetry, topics,
};
use crate::protocol::api::ApiKey;
use crate::protocol::error::EncodeError;
use crate::protocol::frame::{self, FrameError, Reply, RequestFrame, RequestHeader};
use crate::protocol::messages::describe_configs_request::DescribeConfigsRequest;
use crate::protocol::messages::describe_configs_response::DescribeConfigsResponse;
use crate::protocol::wire::Message;

/// How a request ended.
#[derive(Debug)]
pub enum Outcome {
    /// The reply.
    Reply(Reply),
    /// Nothing is written: Produce with acks=0.
    NoReply,
    /// The connection is closed, for this reason.
    Close(String),
}

/// What is left of a request when its ordered phase is over.
pub enum Handled {
    /// Nothing.
    Now(Outcome),
    /// Its completion.
    Later(Pin<Box<dyn Future<Output = Outcome>>>),
}

/// Why a request closes its connection.
#[derive(Debug, thiserror::Error)]
enum DispatchError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the reply cannot be expressed: {0}")]
    Encode(#[from] EncodeError),
}

impl From<Result<Reply, DispatchError>> for Outcome {
    fn from(result: Result<Reply, DispatchError>) -> Self {
        match result {
            Ok(reply) => Self::Reply(reply),
            Err(error) => Self::Close(error.to_string()),
        }
    }
}

/// Whether the request that starts with these bytes is dispatched while earlier ones of its
/// connection are in progress: Produce alone.
pub fn pipelines(frame_start: &[u8]) -> bool {
    frame::peek_api_key(frame_start) == Some(ApiKey::Produce.code())
}

/// Runs the ordered phase of a request.
pub async fn dispatch(broker: &Rc<Broker>, connection: &Rc<Connection>, bytes: Bytes) -> Handled {
    let request = match frame::parse_request(bytes) {
        Ok(request) => request,
        Err(error) => return Handled::Now(Outcome::Close(error.to_string())),
    };
    match request.header.key {
        ApiKey::Produce => dispatch_produce(broker, request).await,
        ApiKey::JoinGroup | ApiKey::SyncGroup => {
            Handled::Now(wait_for_group(broker, connection, request).await.into())
        }
        ApiKey::Fetch => Handled::Now(wait_for_records(broker, request).await.into()),
        _ => Handled::Now(handle(broker, connection, &request).await.into()),
    }
}

/// Answers a request that waits for the other members of a group. It may wait for minutes, so its
/// frame goes at once.
async fn wait_for_group(
    broker: &Rc<Broker>,
    connection: &Connection,
    request: RequestFrame,
) -> Result<Reply, DispatchError> {
    let header = RequestHeader {
        client_id: ByteString::from(&*request.header.client_id),
        ..request.header
    };
    let body = RequestFrame {
        header: header.clone(),
        body: request.body,
    };
    if header.key == ApiKey::JoinGroup {
        let join = body.decode()?;
        drop(body);
        let response = requests::join(broker, connection, &header, join).await;
        reply(&header, &response)
    } else {
        let sync = body.decode()?;
        drop(body);
        reply(&header, &requests::sync(broker, header.version, sync).await)
    }
}

/// Answers a fetch. It may wait as long as a connection may be idle, so its frame goes at once.
async fn wait_for_records(
    broker: &Rc<Broker>,
    request: RequestFrame,
) -> Result<Reply, DispatchError> {
    let fetch = request.decode()?;
    let header = nameless(request);
    reply(&header, &fetch::handle(broker, header.version, fetch).await)
}

/// A request's header, without the client's id, which is a part of the frame.
fn nameless(request: RequestFrame) -> RequestHeader {
    RequestHeader {
        client_id: ByteString::new(),
        ..request.header
    }
}

async fn dispatch_produce(broker: &Rc<Broker>, request: RequestFrame) -> Handled {
    let body = match request.decode() {
        Ok(body) => body,
        Err(error) => return Handled::Now(Outcome::Close(error.to_string())),
    };
    let header = request.header;
    let pending = produce::dispatch(broker, header.version, body).await;
    Handled::Later(Box::pin(async move {
        match pending.complete().await {
            Ok(Some(response)) => reply(&header, &response).into(),
            Ok(None) => Outcome::NoReply,
            Err(reason) => Outcome::Close(reason),
        }
    }))
}

async fn handle(
    broker: &Rc<Broker>,
    connection: &Connection,
    request: &RequestFrame,
) -> Result<Reply, DispatchError> {
    let header = &request.header;
    match header.key {
        ApiKey::ListOffsets => reply(
            header,
            &offsets::list(broker, header.version, request.decode()?).await,
        ),
        ApiKey::OffsetForLeaderEpoch => reply(
            header,
            &offsets::for_leader_epochs(broker, request.decode()?).await,
        ),
        ApiKey::CreateTopics => reply(
            header,
            &topics::create(broker, header, request.decode()?).await,
        ),
        ApiKey::DeleteTopics => reply(
            header,
            &topics::delete(broker, header, request.decode()?).await,
        ),
        ApiKey::CreatePartitions => reply(
            header,
            &topics::create_partitions(broker, request.decode()?).await,
        ),
        ApiKey::InitProducerId => reply(
            header,
            &producer_ids::handle(broker, &request.decode()?).await,
        ),
        ApiKey::DescribeConfigs => {
            reply(header, &describe_configs(broker, &request.decode()?).await)
        }
        ApiKey::FindCoordinator => {
            let body = request.decode()?;
            reply(
                header,
                &coordinators::find(broker, connection, header.version, body).await,
            )
        }
        ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::OffsetDelete
        | ApiKey::DeleteGroups
        | ApiKey::DescribeGroups
        | ApiKey::ListGroups => handle_group(broker, request).await,
        _ => describe(broker, connection, request),
    }
}

/// Answers a request to groups that does not wait for other members.
async fn handle_group(broker: &Rc<Broker>, request: &RequestFrame) -> Result<Reply, DispatchError> {
    let header = &request.header;
    let version = header.version;
    match header.key {
        ApiKey::Heartbeat => reply(
            header,
            &requests::heartbeat(broker, request.decode()?).await,
        ),
        ApiKey::LeaveGroup => reply(
            header,
            &requests::leave(broker, version, request.decode()?).await,
        ),
        ApiKey::OffsetCommit => reply(
            header,
            &requests::commit_offsets(broker, version, request.decode()?).await,
        ),
        ApiKey::OffsetFetch => reply(
            header,
            &requests::fetch_offsets(broker, version, request.decode()?).await,
        ),
        ApiKey::OffsetDelete => reply(
            header,
            &requests::delete_offsets(broker, request.decode()?).await,
        ),
        ApiKey::DeleteGroups => reply(
            header,
            &requests::delete_groups(broker, request.decode()?).await,
        ),
        ApiKey::DescribeGroups => reply(
            header,
            &requests::describe_groups(broker, version, request.decode()?).await,
        ),
        ApiKey::ListGroups => reply(
            header,
            &requests::list_groups(broker, request.decode()?).await,
        ),
        key => unreachable!("{key:?} is no request to groups"),
    }
}

/// Describes resource by resource, and gives way to other requests in between.
async fn describe_configs(
    broker: &Broker,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let image = broker.image();
    let level = LevelFilter::current();
    let mut results = Vec::new();
    for result in configs::results(&image, &broker.config, broker.advertised, level, request) {
        results.push(result);
        crate::runtime::yield_if_needed().await;
    }
    DescribeConfigsResponse {
        results,
        ..DescribeConfigsResponse::default()
    }
}

/// Answers what this shard knows by itself: the metadata, the settings, the broker.
fn describe(
    broker: &Rc<Broker>,
    connection: &Connection,
    request: &RequestFrame,
) -> Result<Reply, DispatchError> {
    let header = &request.header;
    let image = broker.image();
    let view = broker.view(&image, connection);
    match header.key {
        ApiKey::ApiVersions if request.is_unsupported_api_versions() => Ok(frame::reply(
            header.key,
            api_versions::FALLBACK_VERSION,
            header.correlation_id,
            &api_versions::unsupported_version(),
        )?),
        ApiKey::ApiVersions => {
            let body = request.decode()?;
            reply(
                header,
                &api_versions::respond(&image, header.version, &body),
            )
        }
        ApiKey::Metadata => {
            let answer = metadata::respond(view, header.version, &request.decode()?);
            topics::create_behind(broker, &answer.to_create);
            reply(header, &answer.response)
        }
        ApiKey::DescribeTopicPartitions => {
            reply(header, &topic_partitions::respond(view, &request.decode()?))
        }
        ApiKey::DescribeCluster => {
            let body = request.decode()?;
            reply(header, &cluster::respond(view, header.version, &body))
        }
        ApiKey::GetTelemetrySubscriptions => {
            let response = telemetry::subscriptions(&broker.config, &request.decode()?);
            reply(header, &response)
        }
        ApiKey::PushTelemetry => {
            reply(header, &telemetry::push(&broker.config, &request.decode()?))
        }
        key => unreachable!("{key:?} is not served, and was refused with the frame"),
    }
}

fn reply<M: Message>(header: &RequestHeader, response: &M) -> Result<Reply, DispatchError> {
    Ok(frame::reply(
        header.key,
        header.version,
        header.correlation_id,
        response,
    )?)
}
