//! The partitions of a request to a group that asks about existing partitions only: those that do
//! not exist are answered here, and the coordinator's answers are put beside them. Pure.

use ahash::AHashMap;
use bytestring::ByteString;

use crate::api::errors::group_error;
use crate::base::ids::{PartitionIndex, TopicId};
use crate::coordinator::group::error::GroupError;
use crate::metadata::image::{MetadataImage, TopicImage};
use crate::protocol::error_code::ErrorCode;

/// A topic and what becomes of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicAnswer {
    pub(super) name: ByteString,
    pub(super) id: TopicId,
    pub(super) partitions: Vec<(i32, ErrorCode)>,
}

/// What is left to answer once the coordinator has.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    /// What was refused, in the order of the request; a topic has one entry.
    refused: Vec<TopicAnswer>,
    /// Where a topic stands in `refused`.
    places: AHashMap<(ByteString, TopicId), usize>,
    /// What the coordinator was asked about, in the order of the request.
    sent: Vec<(ByteString, TopicId, Vec<i32>)>,
}

impl Partitions {
    /// Refuses a partition.
    pub(super) fn refuse(&mut self, name: &ByteString, id: TopicId, at: i32, error: ErrorCode) {
        let place = self.place(name, id);
        self.refused[place].partitions.push((at, error));
    }

    /// Makes the entry of a topic of which everything is refused.
    pub(super) fn refuse_topic(&mut self, name: &ByteString, id: TopicId) {
        self.place(name, id);
    }

    /// Takes the topic that a request names and sorts its partitions: those that do not exist are
    /// refused, the others are noted as sent and returned.
    pub(super) fn existing<P>(
        &mut self,
        topic: &TopicImage,
        partitions: Vec<P>,
        index: impl Fn(&P) -> i32,
    ) -> Vec<P> {
        let mut existing = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let at = index(&partition);
            if topic.partition(PartitionIndex(at)).is_some() {
                existing.push(partition);
            } else {
                self.refuse(
                    &topic.name,
                    topic.id,
                    at,
                    ErrorCode::UnknownTopicOrPartition,
                );
            }
        }
        if !existing.is_empty() {
            let indexes = existing.iter().map(index).collect();
            self.sent.push((topic.name.clone(), topic.id, indexes));
        }
        existing
    }

    /// Whether there is nothing to ask the coordinator.
    pub(super) fn is_all_refused(&self) -> bool {
        self.sent.is_empty()
    }

    /// Everything, once the coordinator has answered what it was sent, partition by partition or
    /// all alike. What was refused comes first, and a topic that it is part of takes up the rest.
    pub(super) fn answered(
        mut self,
        results: Result<Vec<Result<(), GroupError>>, GroupError>,
    ) -> Vec<TopicAnswer> {
        let (mut each, all) = match results {
            Ok(results) => (results.into_iter(), ErrorCode::UnknownServerError),
            Err(error) => (Vec::new().into_iter(), group_error(error)),
        };
        let mut code = || match each.next() {
            Some(result) => result.err().map_or(ErrorCode::None, group_error),
            None => all,
        };
        let is_merged = !self.refused.is_empty();
        for (name, id, partitions) in std::mem::take(&mut self.sent) {
            let answers = partitions.into_iter().map(|partition| (partition, code()));
            if is_merged {
                let place = self.place(&name, id);
                self.refused[place].partitions.extend(answers);
            } else {
                self.refused.push(TopicAnswer {
                    name,
                    id,
                    partitions: answers.collect(),
                });
            }
        }
        self.refused
    }

    fn place(&mut self, name: &ByteString, id: TopicId) -> usize {
        let (places, refused) = (&mut self.places, &mut self.refused);
        *places.entry((name.clone(), id)).or_insert_with(|| {
            refused.push(TopicAnswer {
                name: name.clone(),
                id,
                partitions: Vec::new(),
            });
            refused.len() - 1
        })
    }
}

/// The topic that a request means: by id where it has ids, else by name.
pub(super) fn named<'a>(
    image: &'a MetadataImage,
    uses_ids: bool,
    name: &str,
    id: TopicId,
) -> Option<&'a TopicImage> {
    let topic = if uses_ids {
        image.topic(id)
    } else {
        image.topic_named(name)
    };
    topic.map(|topic| &**topic)
}
