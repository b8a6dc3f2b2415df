//! Hands every new image to every shard and waits until all of them have applied it. Shard 0.

use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::metadata::{Changes, MetadataImage};
use crate::shard::mailbox::Mailboxes;
use crate::shard::reply;

/// A new image for one shard. The shard applies them one after the other, in the order in which
/// they come: first what was deleted, then what is new, then what changed.
#[derive(Debug)]
pub struct ImageChange {
    /// The image to hold from now on.
    pub image: Arc<MetadataImage>,
    /// How it differs from the one that the shard holds.
    pub changes: Arc<Changes>,
    /// Answered when requests on the shard see the image and its partitions follow it. A partition
    /// that cannot be opened is the shard's to report; the image is applied all the same.
    pub applied: reply::Sender<()>,
}

/// A shard is gone: the process is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard {0} does not follow the metadata any more")]
pub struct ShardGone(pub ShardId);

/// The publishing end of the mesh of [`ImageChange`]s.
#[derive(Clone, Debug)]
pub struct Publisher {
    mailboxes: Mailboxes<ImageChange>,
}

impl Publisher {
    /// Publishes to every shard of the mesh, shard 0 itself included.
    pub fn new(mailboxes: Mailboxes<ImageChange>) -> Self {
        Self { mailboxes }
    }

    /// Returns when every shard has applied `image`.
    ///
    /// # Errors
    /// A shard has stopped; others may have applied it.
    pub async fn publish(
        &self,
        image: &Arc<MetadataImage>,
        changes: &Arc<Changes>,
    ) -> Result<(), ShardGone> {
        let mut waiting = Vec::with_capacity(usize::from(self.mailboxes.shards()));
        for shard in (0..self.mailboxes.shards()).map(ShardId) {
            let (applied, is_applied) = reply::channel();
            let change = ImageChange {
                image: image.clone(),
                changes: changes.clone(),
                applied,
            };
            let sent = self.mailboxes.send(shard, change).await;
            sent.map_err(|_| ShardGone(shard))?;
            waiting.push((shard, is_applied));
        }
        for (shard, is_applied) in waiting {
            is_applied.await.map_err(|_| ShardGone(shard))?;
        }
        Ok(())
    }
}
