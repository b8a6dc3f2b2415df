//! Follows the metadata on one shard: its partitions are made, changed and deleted as it says.
//!
//! A change is applied when its partitions are there and the new image is the shard's. Deletions
//! come first, since a new topic may have the name of a deleted one.

use std::rc::Rc;
use std::sync::Arc;

use bytestring::ByteString;

use super::broker::Broker;
use crate::base::ids::TopicIdPartition;
use crate::metadata::delta::Changes;
use crate::metadata::image::{ConfigResource, MetadataImage, TopicImage};
use crate::partition::open::OpenPartition;
use crate::storage::checkpoint::RecoveryPoints;
use crate::storage::error::FileError;

/// Partitions opened at once: as many as the blocking pool has threads, and some on the way.
const OPENING_MAX: usize = 8;

/// Why a shard could not follow the metadata.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A partition's files could not be made or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A topic has settings that this broker does not understand.
    #[error("topic {topic}: {error}")]
    Config {
        /// The topic.
        topic: ByteString,
        /// What is wrong with them.
        error: crate::config::ConfigError,
    },
}

/// Opens all partitions of the image that this shard owns: at start, before any request.
/// `points` are the recovery points of the last run, and `clean` whether it ended cleanly.
pub async fn open_all(
    broker: &Rc<Broker>,
    points: &RecoveryPoints,
    clean: bool,
) -> Result<usize, ApplyError> {
    let image = broker.image();
    let mut wanted = Vec::new();
    for topic in image.topics() {
        for (partition, _) in topic.iter() {
            let id = topic.topic_id_partition(partition);
            if is_mine(broker, &id) {
                let mut open = to_open(broker, &image, topic, id)?;
                open.point = points.get(&id).copied();
                open.clean = clean;
                wanted.push(open);
            }
        }
    }
    let count = wanted.len();
    open(broker, wanted).await?;
    Ok(count)
}

/// Applies one change.
pub async fn apply(
    broker: &Rc<Broker>,
    image: Arc<MetadataImage>,
    changes: &Changes,
) -> Result<(), ApplyError> {
    let table = Rc::clone(broker.router.table());
    for topic in &changes.deleted {
        for (partition, _) in topic.iter() {
            let id = topic.topic_id_partition(partition);
            if let Err(error) = table.delete(&id).await {
                // Its files go at the next start: no topic claims them.
                tracing::error!(topic = %topic.name, %partition, %error, "partition not deleted");
            }
        }
    }
    let mut wanted = Vec::new();
    for id in changes.created.iter().filter(|id| is_mine(broker, id)) {
        if let Some(topic) = image.topic(id.topic_id) {
            wanted.push(to_open(broker, &image, topic, *id)?);
        }
    }
    open(broker, wanted).await?;
    for resource in &changes.configs {
        let ConfigResource::Topic(name) = resource else {
            continue;
        };
        let Some(topic) = image.topic_named(name) else {
            continue;
        };
        let config = Rc::new(config_of(broker, &image, name)?);
        for (partition, _) in topic.iter() {
            table.reconfigure(&topic.topic_id_partition(partition), &config);
        }
    }
    broker.set_image(image);
    Ok(())
}

fn is_mine(broker: &Broker, id: &TopicIdPartition) -> bool {
    broker.router.owner(id) == broker.router.shard()
}

fn to_open(
    broker: &Broker,
    image: &MetadataImage,
    topic: &TopicImage,
    id: TopicIdPartition,
) -> Result<OpenPartition, ApplyError> {
    let partition = topic
        .partition(id.partition)
        .expect("a partition of this topic");
    Ok(OpenPartition {
        id,
        topic: topic.name.to_string(),
        leader_epoch: partition.leader_epoch,
        config: config_of(broker, image, &topic.name)?,
        point: None,
        clean: false,
    })
}

fn config_of(
    broker: &Broker,
    image: &MetadataImage,
    name: &ByteString,
) -> Result<crate::config::TopicConfig, ApplyError> {
    broker
        .topic_config(image, name)
        .map_err(|error| ApplyError::Config {
            topic: name.clone(),
            error,
        })
}

/// Opens partitions, several at once.
async fn open(broker: &Rc<Broker>, wanted: Vec<OpenPartition>) -> Result<(), ApplyError> {
    let mut rest = wanted.into_iter();
    let mut opening = std::collections::VecDeque::with_capacity(OPENING_MAX);
    loop {
        while opening.len() < OPENING_MAX {
            let Some(next) = rest.next() else { break };
            let table = Rc::clone(broker.router.table());
            opening.push_back(glommio::spawn_local(async move { table.open(next).await }));
        }
        match opening.pop_front() {
            Some(first) => first.await?,
            None => return Ok(()),
        }
    }
}
