//! Requests about the broker itself, and those that clients send about themselves.

use millrace::base::ids::Uuid;
use millrace::protocol::frame::Frame;
use millrace::protocol::messages::api_versions_request::ApiVersionsRequest;
use millrace::protocol::messages::describe_cluster_request::DescribeClusterRequest;
use millrace::protocol::messages::get_telemetry_subscriptions_request as subscriptions;
use millrace::protocol::messages::push_telemetry_request::PushTelemetryRequest;

use super::Maker;

impl Maker<'_> {
    pub(super) fn api_versions(&mut self) -> Option<Frame> {
        let (name, version) = match self.choices.flag() {
            false => ("fuzz".into(), "1".into()),
            true => (self.text(), self.text()),
        };
        let request = ApiVersionsRequest {
            client_software_name: self.since(3, name),
            client_software_version: self.since(3, version),
        };
        self.frame(&request)
    }

    pub(super) fn describe_cluster(&mut self) -> Option<Frame> {
        let (kind, fenced) = (self.choices.pick(&[1, 1, 2, 0]), self.choices.flag());
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: self.choices.flag(),
            endpoint_type: if self.version >= 1 { kind } else { 1 },
            include_fenced_brokers: self.version >= 2 && fenced,
        };
        self.frame(&request)
    }

    pub(super) fn telemetry_subscriptions(&mut self) -> Option<Frame> {
        let client_instance_id = Uuid(u128::from(self.choices.byte()));
        self.frame(&subscriptions::GetTelemetrySubscriptionsRequest { client_instance_id })
    }

    pub(super) fn push_telemetry(&mut self) -> Option<Frame> {
        let request = PushTelemetryRequest {
            client_instance_id: Uuid(u128::from(self.choices.byte())),
            subscription_id: self.choices.number32(),
            terminating: self.choices.flag(),
            compression_type: self.choices.pick(&[0, 1, 2, 3, 4, 5, -1]),
            metrics: self.bytes(),
        };
        self.frame(&request)
    }
}
