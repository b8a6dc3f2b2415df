//! From a frame to its handler, and back to a frame.
//!
//! A request that cannot be parsed, or asks for what is not served, closes its connection, as in
//! Kafka: there is no reply that such a client could be known to understand.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use tracing::level_filters::LevelFilter;

use super::broker::{Broker, Connection};
use super::metadata::view::View;
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
    if request.header.key == ApiKey::Produce {
        return dispatch_produce(broker, request).await;
    }
    Handled::Now(handle(broker, connection, &request).await.into())
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
        ApiKey::Fetch => {
            let response = fetch::handle(broker, header.version, request.decode()?).await;
            reply(header, &response)
        }
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
        _ => describe(broker, connection, request),
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
    for result in configs::results(&image, &broker.config, level, request) {
        results.push(result);
        glommio::yield_if_needed().await;
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
    let view = View {
        image: &image,
        config: &broker.config,
        cluster_id: &broker.cluster_id,
        listener: &connection.listener,
    };
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
        ApiKey::FindCoordinator => {
            let response = coordinators::respond(header.version, request.decode()?);
            reply(header, &response)
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
