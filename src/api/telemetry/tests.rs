//! Subscriptions as Kafka 4.3.1 gave them, and what is wrong with a push. Tests only.

use bytes::Bytes;

use super::*;
use crate::api::metadata::fixtures::Cluster;
use crate::protocol::wire::Message;

/// A client's id and its subscription, from a run of Kafka 4.3.1 without subscriptions.
const CLIENT: &str = "PrOqfEbaSHi2YP422jSZpQ";
const SUBSCRIPTION: i32 = -1_057_300_919;

fn client() -> Uuid {
    let id: TopicId = CLIENT.parse().expect("an id");
    Uuid(id.0)
}

#[test]
fn a_client_subscribes_to_nothing_under_kafkas_id() {
    let cluster = Cluster::with(&[("telemetry.max.bytes", "12345")]);
    let ask = |client_instance_id| {
        let request = GetTelemetrySubscriptionsRequest { client_instance_id };
        let response = subscriptions(&cluster.config, &request);
        response.to_bytes(0).expect("it can be sent");
        response
    };
    let expected = GetTelemetrySubscriptionsResponse {
        throttle_time_ms: 0,
        error_code: 0,
        client_instance_id: client(),
        subscription_id: SUBSCRIPTION,
        accepted_compression_types: vec![4, 3, 1, 2],
        push_interval_ms: 300_000,
        telemetry_max_bytes: 12_345,
        delta_temporality: true,
        requested_metrics: Vec::new(),
    };
    assert_eq!(ask(client()), expected);

    let (one, other) = (ask(Uuid(0)), ask(Uuid(0)));
    assert!(!RESERVED.contains(&one.client_instance_id));
    assert_ne!(one.client_instance_id, other.client_instance_id);
    assert_ne!(one.subscription_id, other.subscription_id);
    assert_eq!(
        ask(one.client_instance_id),
        one,
        "the id stays, and so does the subscription"
    );
}

#[test]
fn a_push_is_checked_and_forgotten() {
    let right = PushTelemetryRequest {
        client_instance_id: client(),
        subscription_id: SUBSCRIPTION,
        terminating: false,
        compression_type: 4,
        metrics: Bytes::from_static(&[1; 100]),
    };
    let with = |change: fn(&mut PushTelemetryRequest)| {
        let mut request = right.clone();
        change(&mut request);
        request
    };
    let cases = [
        ("right", right.clone(), 0),
        ("without metrics", with(|it| it.metrics = Bytes::new()), 0),
        ("the last one", with(|it| it.terminating = true), 0),
        ("not compressed", with(|it| it.compression_type = 0), 0),
        ("no client", with(|it| it.client_instance_id = Uuid(0)), 42),
        (
            "a reserved client",
            with(|it| it.client_instance_id = Uuid(1)),
            42,
        ),
        (
            "another client's subscription",
            with(|it| it.client_instance_id = Uuid(9)),
            117,
        ),
        ("no subscription", with(|it| it.subscription_id = 0), 117),
        ("an unknown codec", with(|it| it.compression_type = 5), 76),
        ("a negative codec", with(|it| it.compression_type = -1), 76),
        (
            "too much",
            with(|it| it.metrics = Bytes::from_static(&[1; 101])),
            118,
        ),
    ];
    let cluster = Cluster::with(&[("telemetry.max.bytes", "100")]);
    for (case, request, code) in cases {
        assert_eq!(push(&cluster.config, &request).error_code, code, "{case}");
    }
}
