//! What produce asks of the library, without a broker.

use rdkafka::config::ClientConfig;

use super::may_be_idempotent;

#[test]
fn a_producer_is_idempotent_where_the_other_properties_allow_it() {
    let table = [
        ("acks", "all", true),
        ("acks", "-1", true),
        ("acks", "1", false),
        ("acks", "0", false),
        ("retries", "0", false),
        ("retries", "3", true),
        ("max.in.flight.requests.per.connection", "5", true),
        ("max.in.flight.requests.per.connection", "6", false),
        ("queuing.strategy", "fifo", true),
        ("queuing.strategy", "lifo", false),
    ];
    for (key, value, expected) in table {
        let mut config = ClientConfig::new();
        config.set(key, value);
        assert_eq!(may_be_idempotent(&config), expected, "{key}={value}");
        config.set("enable.idempotence", expected.to_string());
        // The library itself is asked as well.
        config.create_native_config().expect("known properties");
        let made: Result<rdkafka::producer::BaseProducer, _> = config.create();
        assert!(made.is_ok(), "{key}={value}: {:?}", made.err());
    }
}
