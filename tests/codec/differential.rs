//! The codec against an independent one, `kacrab-protocol`, for every API that the broker serves:
//! what either writes, the other reads, and writes again byte for byte.

use bytes::{Bytes, BytesMut};

use crate::{Codec, codecs};

/// Reads with the other codec and writes with it again.
type Recode = fn(Bytes, i16) -> Result<(usize, Bytes), String>;

macro_rules! theirs {
    ($($name:literal => $module:ident :: $data:ident,)*) => {
        &[$(($name, |mut bytes, version| {
            use kacrab_protocol::generated::$module::$data;
            let read = $data::read(&mut bytes, version).map_err(|error| error.to_string())?;
            let mut written = BytesMut::new();
            read.write(&mut written, version).map_err(|error| error.to_string())?;
            Ok((bytes.len(), written.freeze()))
        }),)*]
    };
}

const THEIRS: &[(&str, Recode)] = theirs! {
    "RequestHeader" => request_header::RequestHeaderData,
    "ResponseHeader" => response_header::ResponseHeaderData,
    "ProduceRequest" => produce_request::ProduceRequestData,
    "ProduceResponse" => produce_response::ProduceResponseData,
    "FetchRequest" => fetch_request::FetchRequestData,
    "FetchResponse" => fetch_response::FetchResponseData,
    "ListOffsetsRequest" => list_offsets_request::ListOffsetsRequestData,
    "ListOffsetsResponse" => list_offsets_response::ListOffsetsResponseData,
    "MetadataRequest" => metadata_request::MetadataRequestData,
    "MetadataResponse" => metadata_response::MetadataResponseData,
    "OffsetCommitRequest" => offset_commit_request::OffsetCommitRequestData,
    "OffsetCommitResponse" => offset_commit_response::OffsetCommitResponseData,
    "OffsetFetchRequest" => offset_fetch_request::OffsetFetchRequestData,
    "OffsetFetchResponse" => offset_fetch_response::OffsetFetchResponseData,
    "JoinGroupRequest" => join_group_request::JoinGroupRequestData,
    "JoinGroupResponse" => join_group_response::JoinGroupResponseData,
    "HeartbeatRequest" => heartbeat_request::HeartbeatRequestData,
    "HeartbeatResponse" => heartbeat_response::HeartbeatResponseData,
    "LeaveGroupRequest" => leave_group_request::LeaveGroupRequestData,
    "LeaveGroupResponse" => leave_group_response::LeaveGroupResponseData,
    "SyncGroupRequest" => sync_group_request::SyncGroupRequestData,
    "SyncGroupResponse" => sync_group_response::SyncGroupResponseData,
    "DescribeGroupsRequest" => describe_groups_request::DescribeGroupsRequestData,
    "DescribeGroupsResponse" => describe_groups_response::DescribeGroupsResponseData,
    "ListGroupsRequest" => list_groups_request::ListGroupsRequestData,
    "ListGroupsResponse" => list_groups_response::ListGroupsResponseData,
    "DeleteGroupsRequest" => delete_groups_request::DeleteGroupsRequestData,
    "DeleteGroupsResponse" => delete_groups_response::DeleteGroupsResponseData,
    "OffsetDeleteRequest" => offset_delete_request::OffsetDeleteRequestData,
    "OffsetDeleteResponse" => offset_delete_response::OffsetDeleteResponseData,
    "ApiVersionsRequest" => api_versions_request::ApiVersionsRequestData,
    "ApiVersionsResponse" => api_versions_response::ApiVersionsResponseData,
    "FindCoordinatorRequest" => find_coordinator_request::FindCoordinatorRequestData,
    "FindCoordinatorResponse" => find_coordinator_response::FindCoordinatorResponseData,
    "CreateTopicsRequest" => create_topics_request::CreateTopicsRequestData,
    "CreateTopicsResponse" => create_topics_response::CreateTopicsResponseData,
    "DeleteTopicsRequest" => delete_topics_request::DeleteTopicsRequestData,
    "DeleteTopicsResponse" => delete_topics_response::DeleteTopicsResponseData,
    "InitProducerIdRequest" => init_producer_id_request::InitProducerIdRequestData,
    "InitProducerIdResponse" => init_producer_id_response::InitProducerIdResponseData,
    "OffsetForLeaderEpochRequest" =>
        offset_for_leader_epoch_request::OffsetForLeaderEpochRequestData,
    "OffsetForLeaderEpochResponse" =>
        offset_for_leader_epoch_response::OffsetForLeaderEpochResponseData,
    "DescribeConfigsRequest" => describe_configs_request::DescribeConfigsRequestData,
    "DescribeConfigsResponse" => describe_configs_response::DescribeConfigsResponseData,
    "CreatePartitionsRequest" => create_partitions_request::CreatePartitionsRequestData,
    "CreatePartitionsResponse" => create_partitions_response::CreatePartitionsResponseData,
    "DescribeClusterRequest" => describe_cluster_request::DescribeClusterRequestData,
    "DescribeClusterResponse" => describe_cluster_response::DescribeClusterResponseData,
    "GetTelemetrySubscriptionsRequest" =>
        get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequestData,
    "GetTelemetrySubscriptionsResponse" =>
        get_telemetry_subscriptions_response::GetTelemetrySubscriptionsResponseData,
    "PushTelemetryRequest" => push_telemetry_request::PushTelemetryRequestData,
    "PushTelemetryResponse" => push_telemetry_response::PushTelemetryResponseData,
    "DescribeTopicPartitionsRequest" =>
        describe_topic_partitions_request::DescribeTopicPartitionsRequestData,
    "DescribeTopicPartitionsResponse" =>
        describe_topic_partitions_response::DescribeTopicPartitionsResponseData,
};

fn theirs(codec: &Codec) -> Option<Recode> {
    let found = THEIRS.iter().find(|(name, _)| *name == codec.facts.name);
    found.map(|(_, recode)| *recode)
}

#[test]
fn what_either_codec_writes_the_other_reads() {
    let mut compared = 0;
    for codec in codecs() {
        let Some(theirs) = theirs(&codec) else {
            continue;
        };
        compared += 1;
        codec.fill(40, |version, name, _, bytes| {
            let ours = codec.read(bytes.into(), version, name).written.expect(name);
            let (unread, written) =
                theirs(ours.clone(), version).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((unread, &written), (0, &ours), "{name}");
            let read = codec.read(written, version, name);
            assert_eq!((read.unread, read.written), (0, Ok(ours)), "{name}");
        });
    }
    assert_eq!(compared, THEIRS.len());
}

#[test]
fn every_served_api_is_compared() {
    for served in millrace::protocol::api::SUPPORTED {
        for part in ["Request", "Response"] {
            let name = format!("{}{part}", served.key.name());
            assert!(THEIRS.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
