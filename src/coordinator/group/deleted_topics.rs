//! The topics that were deleted last. Pure; owned by the machine of a partition of
//! `__consumer_offsets`.
//!
//! A commit may be on its way to the log when its topic is deleted, or come from a shard that has
//! not heard of it. What arrives for an id that stands here is removed again.

use std::collections::VecDeque;

use ahash::AHashSet;

use crate::base::ids::TopicId;
use crate::base::limits::DELETED_TOPICS_REMEMBERED_MAX;

/// Ids of deleted topics. No topic ever gets one of them again.
#[derive(Debug, Default)]
pub struct DeletedTopics {
    ids: AHashSet<TopicId>,
    /// The same, oldest first.
    order: VecDeque<TopicId>,
}

impl DeletedTopics {
    /// Notes a topic; the oldest gives way where there are too many.
    pub fn insert(&mut self, id: TopicId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > DELETED_TOPICS_REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    /// Whether a topic was deleted.
    pub fn contains(&self, id: TopicId) -> bool {
        self.ids.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let mut deleted = DeletedTopics::default();
        let most = DELETED_TOPICS_REMEMBERED_MAX as u128;
        assert!(!deleted.contains(TopicId(1)));
        for id in 1..=most {
            deleted.insert(TopicId(id));
            deleted.insert(TopicId(id));
        }
        assert!((1..=most).all(|id| deleted.contains(TopicId(id))));
        deleted.insert(TopicId(most + 1));
        assert!(!deleted.contains(TopicId(1)));
        assert!((2..=most + 1).all(|id| deleted.contains(TopicId(id))));
    }
}
