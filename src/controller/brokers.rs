//! Plans for a broker that starts: its registration, the levels of the features, what an unclean
//! stop does to the partitions that it leads, and where it has found its replicas. Pure.

use bytestring::ByteString;

use super::Plan;
use super::placement::NO_DIRECTORY;
use crate::base::ids::{NodeId, TopicIdPartition, Uuid};
use crate::config::{AdvertisedListener, BrokerConfig, FlushMode, TopicConfig, Values};
use crate::metadata::{MetadataImage, MetadataRecord, features};
use crate::protocol::messages::feature_level_record::FeatureLevelRecord;
use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
use crate::protocol::messages::register_broker_record::{
    BrokerEndpoint, BrokerFeature, RegisterBrokerRecord,
};

/// PLAINTEXT, the only security protocol so far.
const PLAINTEXT: i16 = 0;

/// What a broker says of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// Its `node.id`.
    pub node_id: NodeId,
    /// A random id of this process.
    pub incarnation: Uuid,
    /// Where clients reach it, hosts and ports filled in.
    pub endpoints: Vec<AdvertisedListener>,
    /// Its `broker.rack`.
    pub rack: Option<String>,
    /// The ids of its log directories, `directory.id` of their `meta.properties`.
    pub log_directories: Vec<Uuid>,
    /// Whether the logs were closed in order when it stopped before.
    pub was_clean_shutdown: bool,
}

/// Plans the registration; the answer is the broker's new epoch.
///
/// After an unclean stop, a partition that the broker leads begins a new leader epoch if it shows
/// records before they are durable: they may be gone, and by the epoch a client that has read them
/// can tell (KIP-320). Everywhere else nothing that was shown can be gone. The broker is not
/// fenced: nobody reaches it before the registration is applied.
pub fn register_broker(
    image: &MetadataImage,
    config: &BrokerConfig,
    registration: &BrokerRegistration,
) -> Plan<i64> {
    let mut records = Vec::new();
    for feature in features::SUPPORTED {
        if image.feature(feature.name).is_none() {
            let record = FeatureLevelRecord {
                name: feature.name.into(),
                feature_level: feature.max_level,
            };
            records.push(MetadataRecord::from(record));
        }
    }
    let epoch = image.next_offset().plus(records.len() as i64).0;
    records.push(registration_record(registration, epoch).into());
    if !registration.was_clean_shutdown {
        records.extend(new_leader_epochs(image, config, registration.node_id));
    }
    Plan {
        records,
        reply: epoch,
    }
}

/// Plans that the metadata says in which log directories replicas of `broker` were found, where it
/// says otherwise: somebody has moved them. Kafka's AssignReplicasToDirs (KIP-858). Without that a
/// replica whose new directory is lost later would be looked for in the old one, and made anew.
pub fn assign_directories(
    image: &MetadataImage,
    broker: NodeId,
    found: &[(TopicIdPartition, Uuid)],
) -> Plan<()> {
    let record = |(id, directory): &(TopicIdPartition, Uuid)| {
        let partition = image.partition(*id)?;
        let is_its = |replica: &NodeId| *replica == broker;
        let at = partition.replicas.iter().position(is_its)?;
        let mut directories = partition.directories.clone();
        directories.resize(partition.replicas.len(), NO_DIRECTORY);
        let before = std::mem::replace(&mut directories[at], *directory);
        let record = PartitionChangeRecord {
            partition_id: id.partition.0,
            topic_id: id.topic_id,
            directories: Some(directories),
            ..PartitionChangeRecord::default()
        };
        (before != *directory).then(|| MetadataRecord::from(record))
    };
    Plan {
        records: found.iter().filter_map(record).collect(),
        reply: (),
    }
}

fn registration_record(registration: &BrokerRegistration, epoch: i64) -> RegisterBrokerRecord {
    let endpoints = registration
        .endpoints
        .iter()
        .map(|endpoint| BrokerEndpoint {
            name: endpoint.name.as_str().into(),
            host: endpoint.host.as_str().into(),
            port: endpoint.port,
            security_protocol: PLAINTEXT,
        });
    let features = features::SUPPORTED.iter().map(|feature| BrokerFeature {
        name: feature.name.into(),
        min_supported_version: feature.min_level,
        max_supported_version: feature.max_level,
    });
    RegisterBrokerRecord {
        broker_id: registration.node_id.0,
        incarnation_id: registration.incarnation,
        broker_epoch: epoch,
        end_points: endpoints.collect(),
        features: features.collect(),
        rack: registration.rack.as_deref().map(ByteString::from),
        fenced: false,
        log_dirs: registration.log_directories.clone(),
        ..RegisterBrokerRecord::default()
    }
}

fn new_leader_epochs(
    image: &MetadataImage,
    config: &BrokerConfig,
    node: NodeId,
) -> impl Iterator<Item = MetadataRecord> {
    let exposed = image.topics().filter(|topic| {
        let overrides = image.topic_config(&topic.name);
        shows_what_is_not_durable(config, overrides.map(|values| &**values))
    });
    exposed.flat_map(move |topic| {
        let led = topic.iter().filter(move |(_, it)| it.leader == Some(node));
        led.map(move |(index, _)| {
            MetadataRecord::from(PartitionChangeRecord {
                partition_id: index.0,
                topic_id: topic.id,
                leader: node.0,
                ..PartitionChangeRecord::default()
            })
        })
    })
}

/// Settings that cannot be read any more are taken for the worst; the shards report them.
fn shows_what_is_not_durable(config: &BrokerConfig, overrides: Option<&Values>) -> bool {
    match overrides {
        None => config.topic_defaults.flush == FlushMode::Never,
        Some(overrides) => TopicConfig::new(&config.layers, overrides)
            .map_or(true, |topic| topic.flush == FlushMode::Never),
    }
}
