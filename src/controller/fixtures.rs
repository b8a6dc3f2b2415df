//! A cluster of one broker for tests.

use std::sync::Arc;

use super::brokers::{BrokerRegistration, register_broker};
use super::topics::create_topics;
use crate::base::ids::{LeaderEpoch, NodeId, TopicId, Uuid};
use crate::config::{AdvertisedListener, BrokerConfig, Layers, Values};
use crate::metadata::{MetadataDelta, MetadataImage, MetadataRecord, batch};
use crate::protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};

/// The settings of a broker on which `values` are set.
pub(super) fn config(values: &[(&str, &str)]) -> Arc<BrokerConfig> {
    let values = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let layers = Layers::of_start(values.collect::<Values>());
    Arc::new(BrokerConfig::new(layers).expect("valid settings"))
}

pub(super) fn registration(was_clean_shutdown: bool) -> BrokerRegistration {
    BrokerRegistration {
        node_id: NodeId(1),
        incarnation: Uuid(77),
        endpoints: vec![AdvertisedListener {
            name: "PLAINTEXT".to_owned(),
            host: "localhost".to_owned(),
            port: 9092,
        }],
        rack: Some("r1".to_owned()),
        log_directories: vec![Uuid(5)],
        was_clean_shutdown,
    }
}

/// The image after `records`, by way of the bytes in the log.
pub(super) fn replayed(image: &MetadataImage, records: &[MetadataRecord]) -> MetadataImage {
    let mut delta = MetadataDelta::new(image);
    let bytes = batch::to_batch(records, image.next_offset(), LeaderEpoch(1), 0);
    batch::replay(&bytes.expect("records that fit"), &mut delta).expect("a plan that replays");
    delta.finish().0
}

/// An image with broker 1.
pub(super) fn with_broker() -> MetadataImage {
    let image = MetadataImage::default();
    let plan = register_broker(&image, &config(&[]), &registration(true));
    replayed(&image, &plan.records)
}

pub(super) fn creatable(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        ..CreatableTopic::default()
    }
}

pub(super) fn creation(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics,
        ..CreateTopicsRequest::default()
    }
}

/// Ids that count up from 100.
pub(super) fn ids() -> impl FnMut() -> TopicId {
    let mut next = 99;
    move || {
        next += 1;
        TopicId(next)
    }
}

/// An image with broker 1 and topics of these names and partition counts, with ids from 100 on.
pub(super) fn with_topics(topics: &[(&str, i32)]) -> MetadataImage {
    let image = with_broker();
    let topics = topics
        .iter()
        .map(|(name, count)| creatable(name, *count, 1));
    let request = creation(topics.collect());
    let plan = create_topics(&image, &config(&[]), &request, &mut ids());
    for (name, result) in &plan.reply {
        assert!(result.is_ok(), "{name}: {result:?}");
    }
    replayed(&image, &plan.records)
}
