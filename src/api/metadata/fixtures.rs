//! A small cluster for the tests of this room. Tests only.
//!
//! Broker 1 is this one; 2 has no OTHER listener; 3 is fenced. There are the topics `abc` with
//! three partitions, `b` with one, and `__consumer_offsets` with one.

use bytestring::ByteString;

use super::view::View;
use crate::base::ids::{NodeId, Offset, TopicId, Uuid};
use crate::config::{BrokerConfig, Layers, Values};
use crate::metadata::{MetadataDelta, MetadataImage, MetadataRecord};
use crate::protocol::messages::config_record::ConfigRecord;
use crate::protocol::messages::feature_level_record::FeatureLevelRecord;
use crate::protocol::messages::partition_record::PartitionRecord;
use crate::protocol::messages::register_broker_record::{BrokerEndpoint, RegisterBrokerRecord};
use crate::protocol::messages::topic_record::TopicRecord;
use crate::shard::advertised::AdvertisedShards;

pub(crate) const ABC: TopicId = TopicId(0xabc);
pub(crate) const B: TopicId = TopicId(0xb);
pub(crate) const OFFSETS: TopicId = TopicId(0x0ff);

/// The one log directory of each broker that works.
const DIRECTORY: Uuid = Uuid(77);

pub(crate) struct Cluster {
    pub(crate) image: MetadataImage,
    pub(crate) config: BrokerConfig,
    pub(crate) cluster_id: ByteString,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// Broker 1 with these settings.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let mut values: Values = [("node.id", "1"), ("log.dirs", "/nowhere")]
            .iter()
            .chain(settings)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        values
            .entry("num.partitions".to_owned())
            .or_insert_with(|| "4".to_owned());
        Self {
            image: image(),
            config: BrokerConfig::new(Layers::of_start(values)).expect("right settings"),
            cluster_id: "a-cluster".into(),
        }
    }

    pub(crate) fn view<'a>(&'a self, listener: &'a str) -> View<'a> {
        View {
            image: &self.image,
            config: &self.config,
            cluster_id: &self.cluster_id,
            listener,
            advertised: AdvertisedShards::TOGETHER,
        }
    }

    /// As [`Cluster::view`], with three shards a broker that are advertised.
    pub(crate) fn view_of_shards<'a>(&'a self, listener: &'a str) -> View<'a> {
        View {
            advertised: AdvertisedShards::each(3),
            ..self.view(listener)
        }
    }

    /// Replays one more record.
    pub(crate) fn replay(&mut self, record: impl Into<MetadataRecord>) {
        let mut delta = MetadataDelta::new(&self.image);
        let offset = self.image.next_offset();
        delta
            .replay(offset, &record.into())
            .expect("a right record");
        self.image = delta.finish().0;
    }
}

fn image() -> MetadataImage {
    let records: Vec<MetadataRecord> = vec![
        FeatureLevelRecord {
            name: "metadata.version".into(),
            feature_level: 30,
        }
        .into(),
        broker(1, &["PLAINTEXT", "OTHER"], false).into(),
        broker(2, &["PLAINTEXT"], false).into(),
        broker(3, &["PLAINTEXT", "OTHER"], true).into(),
        topic("b", B).into(),
        partition(B, 0, &[1, 3], Some(1)).into(),
        topic("abc", ABC).into(),
        partition(ABC, 0, &[1, 2], Some(1)).into(),
        partition(ABC, 1, &[2, 1], Some(2)).into(),
        partition(ABC, 2, &[1, 9], None).into(),
        topic("__consumer_offsets", OFFSETS).into(),
        partition(OFFSETS, 0, &[1], Some(1)).into(),
        ConfigRecord {
            resource_type: 2,
            resource_name: "abc".into(),
            name: "retention.ms".into(),
            value: Some("1000".into()),
        }
        .into(),
    ];
    let mut delta = MetadataDelta::new(&MetadataImage::default());
    for (offset, record) in (0..).zip(&records) {
        delta
            .replay(Offset(offset), record)
            .expect("a right record");
    }
    delta.finish().0
}

pub(crate) fn topic(name: &str, topic_id: TopicId) -> TopicRecord {
    TopicRecord {
        name: ByteString::from(name),
        topic_id,
    }
}

/// In sync are all replicas; the leader's epoch is 10 and the partition's number.
pub(crate) fn partition(
    topic_id: TopicId,
    partition_id: i32,
    replicas: &[i32],
    leader: Option<i32>,
) -> PartitionRecord {
    let replicas: Vec<_> = replicas.iter().copied().map(NodeId).collect();
    let ids: Vec<i32> = replicas.iter().map(|node| node.0).collect();
    PartitionRecord {
        partition_id,
        topic_id,
        replicas: ids.clone(),
        isr: ids.clone(),
        leader: leader.unwrap_or(-1),
        leader_epoch: 10 + partition_id,
        partition_epoch: 0,
        directories: vec![DIRECTORY; ids.len()],
        ..PartitionRecord::default()
    }
}

/// At `<listener>-<id>:<9000 + id>`, in the rack `r<id>`.
pub(crate) fn broker(broker_id: i32, listeners: &[&str], fenced: bool) -> RegisterBrokerRecord {
    let end_points = listeners.iter().map(|name| BrokerEndpoint {
        name: (*name).into(),
        host: format!("{}-{broker_id}", name.to_lowercase()).into(),
        port: 9000 + broker_id as u16,
        security_protocol: 0,
    });
    RegisterBrokerRecord {
        broker_id,
        broker_epoch: 1,
        end_points: end_points.collect(),
        rack: Some(format!("r{broker_id}").into()),
        fenced,
        log_dirs: vec![DIRECTORY],
        ..RegisterBrokerRecord::default()
    }
}
