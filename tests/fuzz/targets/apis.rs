//! Every API that the broker serves, with the types of its request and its response.

use bytes::Bytes;
use millrace::protocol::api::{ApiKey, SUPPORTED};
use millrace::protocol::messages as m;
use millrace::protocol::wire::{Message, Reader, Request};

/// What is done with an API whose types are known.
pub trait Visit {
    type Output;

    fn visit<R: Request>(self) -> Self::Output;
}

macro_rules! served {
    ($($api:ident => $module:ident::$request:ident,)*) => {
        /// Calls `visitor` with the types of `key`; none if the broker does not serve it.
        pub fn visit<V: Visit>(key: ApiKey, visitor: V) -> Option<V::Output> {
            Some(match key {
                $(ApiKey::$api => visitor.visit::<m::$module::$request>(),)*
                _ => return None,
            })
        }
    };
}

served! {
    Produce => produce_request::ProduceRequest,
    Fetch => fetch_request::FetchRequest,
    ListOffsets => list_offsets_request::ListOffsetsRequest,
    Metadata => metadata_request::MetadataRequest,
    OffsetCommit => offset_commit_request::OffsetCommitRequest,
    OffsetFetch => offset_fetch_request::OffsetFetchRequest,
    FindCoordinator => find_coordinator_request::FindCoordinatorRequest,
    JoinGroup => join_group_request::JoinGroupRequest,
    Heartbeat => heartbeat_request::HeartbeatRequest,
    LeaveGroup => leave_group_request::LeaveGroupRequest,
    SyncGroup => sync_group_request::SyncGroupRequest,
    DescribeGroups => describe_groups_request::DescribeGroupsRequest,
    ListGroups => list_groups_request::ListGroupsRequest,
    ApiVersions => api_versions_request::ApiVersionsRequest,
    CreateTopics => create_topics_request::CreateTopicsRequest,
    DeleteTopics => delete_topics_request::DeleteTopicsRequest,
    InitProducerId => init_producer_id_request::InitProducerIdRequest,
    OffsetForLeaderEpoch => offset_for_leader_epoch_request::OffsetForLeaderEpochRequest,
    DescribeConfigs => describe_configs_request::DescribeConfigsRequest,
    CreatePartitions => create_partitions_request::CreatePartitionsRequest,
    DeleteGroups => delete_groups_request::DeleteGroupsRequest,
    OffsetDelete => offset_delete_request::OffsetDeleteRequest,
    DescribeCluster => describe_cluster_request::DescribeClusterRequest,
    GetTelemetrySubscriptions =>
        get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequest,
    PushTelemetry => push_telemetry_request::PushTelemetryRequest,
    DescribeTopicPartitions =>
        describe_topic_partitions_request::DescribeTopicPartitionsRequest,
}

/// The API at a place in the broker's table, which goes round, and the version that `byte` stands
/// for; 0 for the latest.
pub fn served(place: u8, byte: u8) -> (ApiKey, i16) {
    let served = SUPPORTED[usize::from(place) % SUPPORTED.len()];
    // Versions of Produce that are named are not all taken.
    let versions = (served.min_version..=served.max_version).rev();
    let versions: Vec<_> = versions
        .filter(|version| served.key.serves(*version))
        .collect();
    (served.key, versions[usize::from(byte) % versions.len()])
}

/// Whether the body of a request of `key` can be read.
pub fn is_readable(key: ApiKey, version: i16, body: &Bytes) -> bool {
    struct Read(Bytes, i16);

    impl Visit for Read {
        type Output = bool;

        fn visit<R: Request>(self) -> bool {
            R::from_bytes(self.0, self.1).is_ok()
        }
    }
    visit(key, Read(body.clone(), version)).unwrap_or(false)
}

/// Makes sure that `body` is a response to `key` in `version` and nothing else.
pub fn check_response(key: ApiKey, version: i16, body: Bytes) {
    struct Check(Bytes, i16);

    impl Visit for Check {
        type Output = ();

        fn visit<R: Request>(self) {
            let (name, version) = (<R::Response as Message>::NAME, self.1);
            let mut reader = Reader::new(self.0);
            let response = <R::Response as Message>::decode(&mut reader, version);
            if let Err(error) = response {
                panic!("{name} version {version}: {error}");
            }
            let left = reader.remaining();
            assert_eq!(left, 0, "bytes behind {name} version {version}");
        }
    }
    visit(key, Check(body, version)).expect("a request of a served API was answered");
}
