//! DescribeCluster: the brokers, without any topic (KIP-700). Any shard; pure.

use super::super::authorized_operations;
use super::view::{NO_NODE, View};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_cluster_request::DescribeClusterRequest;
use crate::protocol::messages::describe_cluster_response::{
    DescribeClusterBroker, DescribeClusterResponse,
};

/// What a client wants to talk to (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers a request.
pub fn respond(
    view: View<'_>,
    version: i16,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        return refuse(version, request.endpoint_type);
    }
    let brokers: Vec<_> = view
        .brokers()
        .filter(|broker| request.include_fenced_brokers || !broker.image.is_fenced)
        .map(|broker| DescribeClusterBroker {
            broker_id: broker.id.0,
            host: broker.host.clone(),
            port: broker.port.into(),
            rack: broker.image.rack.clone(),
            is_fenced: broker.image.is_fenced,
        })
        .collect();
    // A controller that is not among the brokers would be of no use to the client.
    let controller_id = view.controller_id();
    let is_listed = brokers
        .iter()
        .any(|broker| broker.broker_id == controller_id);
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: view.cluster_id.clone(),
        controller_id: if is_listed { controller_id } else { NO_NODE },
        brokers,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            authorized_operations::CLUSTER
        } else {
            authorized_operations::NOT_ASKED
        },
        ..DescribeClusterResponse::default()
    }
}

fn refuse(version: i16, endpoint_type: i8) -> DescribeClusterResponse {
    let (code, message) = if endpoint_type == CONTROLLERS {
        let message = "The request was sent to an endpoint of type BROKER, but we wanted an \
                       endpoint of type CONTROLLER";
        (ErrorCode::MismatchedEndpointType, message.to_owned())
    } else {
        let message = format!("Unsupported endpoint type {endpoint_type}");
        (ErrorCode::UnsupportedEndpointType, message)
    };
    // Version 0 knows neither the types nor their errors.
    let code = if version == 0 {
        ErrorCode::InvalidRequest
    } else {
        code
    };
    DescribeClusterResponse {
        error_code: code.into(),
        error_message: Some(message.into()),
        ..DescribeClusterResponse::default()
    }
}
