//! Sends requests to the shard that owns a partition; the own shard's are handled on the spot.
//!
//! Requests from one shard for one partition are taken in the order in which they were sent.

use std::rc::Rc;

use crate::base::ids::{ShardId, TopicIdPartition};
use crate::shard::mailbox::{Closed, Mailboxes};
use crate::shard::placement;

use super::message::PartitionMessage;
use super::table::PartitionTable;

/// A shard's way to all partitions of the broker.
#[derive(Clone, Debug)]
pub struct Router {
    table: Rc<PartitionTable>,
    mailboxes: Rc<Mailboxes<PartitionMessage>>,
}

impl Router {
    /// Routes between `table`, the own shard's, and the other shards' mailboxes.
    pub fn new(table: Rc<PartitionTable>, mailboxes: Rc<Mailboxes<PartitionMessage>>) -> Self {
        Self { table, mailboxes }
    }

    /// The own shard's partitions.
    pub fn table(&self) -> &Rc<PartitionTable> {
        &self.table
    }

    /// The shard that this is.
    pub fn shard(&self) -> ShardId {
        self.mailboxes.shard()
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.mailboxes.shards()
    }

    /// The shard that owns `id`.
    pub fn owner(&self, id: &TopicIdPartition) -> ShardId {
        placement::owner(id, self.mailboxes.shards())
    }

    /// Hands a request to the shard that owns what it asks for. Waits while that one's mailbox is
    /// full. A shard that has stopped drops the request, and with it its reply.
    pub async fn send(&self, to: ShardId, message: PartitionMessage) {
        if to == self.mailboxes.shard() {
            return self.table.handle(message);
        }
        if let Err(Closed(message)) = self.mailboxes.send(to, message).await {
            drop(message);
        }
    }
}
