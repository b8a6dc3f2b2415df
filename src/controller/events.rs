//! What the log tells of topics: one line for each that was made, deleted or given more partitions,
//! and a warning for each whose settings promise what is not done. Shard 0; it changes nothing.

use bytestring::ByteString;

use crate::base::ids::TopicId;
use crate::config::{BrokerConfig, TopicConfig};
use crate::metadata::image::ConfigValues;
use crate::metadata::{Changes, MetadataImage, topic_name};

/// Topics that a line names at most; of the others it tells how many there are.
const NAMES_MAX: usize = 10;

/// What became of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It is new. It may ask for compaction, which there is none of yet.
    Created { is_compacted: bool },
    /// It is gone.
    Deleted,
    /// It has so many partitions more.
    Grown { added: usize },
}

/// A change of a topic that an operator is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicEvent {
    pub name: ByteString,
    pub id: TopicId,
    /// How many partitions it has, or had.
    pub partitions: usize,
    pub what: What,
}

/// What `changes`, which lead to `image`, did to whole topics: first those that are gone.
pub(super) fn of(
    image: &MetadataImage,
    changes: &Changes,
    config: &BrokerConfig,
) -> Vec<TopicEvent> {
    let deleted = changes.deleted.iter().map(|topic| TopicEvent {
        name: topic.name.clone(),
        id: topic.id,
        partitions: topic.partitions.len(),
        what: What::Deleted,
    });
    // The partitions of a topic follow each other.
    let created = changes.created.chunk_by(|a, b| a.topic_id == b.topic_id);
    let created = created.filter_map(|new| {
        let topic = image.topic(new[0].topic_id)?;
        let is_new = new.len() == topic.partitions.len();
        Some(TopicEvent {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions.len(),
            what: match is_new {
                true => What::Created {
                    is_compacted: is_compacted(image, &topic.name, config),
                },
                false => What::Grown { added: new.len() },
            },
        })
    });
    deleted.chain(created).collect()
}

/// Whether somebody has asked for compaction. Of the broker's own topics nobody has.
fn is_compacted(image: &MetadataImage, name: &ByteString, config: &BrokerConfig) -> bool {
    if topic_name::is_internal(name) {
        return false;
    }
    let Some(set) = image.topic_config(name) else {
        return config.topic_defaults.cleanup_policy.compact;
    };
    let set: &ConfigValues = set;
    // Settings that are not understood are told where they are put in force.
    TopicConfig::new(&config.layers, set).is_ok_and(|topic| topic.cleanup_policy.compact)
}

/// Logs what [`of`] found.
pub(super) fn tell(events: &[TopicEvent]) {
    for event in events {
        let TopicEvent {
            name: topic,
            id,
            partitions,
            what,
        } = event;
        match what {
            What::Created { is_compacted } => {
                tracing::info!(%topic, %id, partitions, "topic created");
                if *is_compacted {
                    tracing::warn!(
                        %topic,
                        "cleanup.policy=compact: records are kept, none is removed by key yet"
                    );
                }
            }
            What::Deleted => tracing::info!(%topic, %id, partitions, "topic deleted"),
            What::Grown { added } => {
                tracing::info!(%topic, %id, partitions, added, "partitions added");
            }
        }
    }
}

/// Says at the start what of the settings promises compaction.
pub(super) fn tell_compaction(image: &MetadataImage, config: &BrokerConfig) {
    let not_yet = "records are kept, none is removed by key yet";
    if config.topic_defaults.cleanup_policy.compact {
        tracing::warn!("log.cleanup.policy=compact: {not_yet}");
    }
    let mut compacted = image
        .topics()
        .filter(|topic| is_compacted(image, &topic.name, config));
    let names: Vec<&str> = compacted
        .by_ref()
        .take(NAMES_MAX)
        .map(|topic| &*topic.name)
        .collect();
    if !names.is_empty() {
        let others = std::num::NonZeroUsize::new(compacted.count());
        let topics = names.join(",");
        tracing::warn!(%topics, others, "cleanup.policy=compact: {not_yet}");
    }
}

#[cfg(test)]
mod tests;
