//! What the main thread hands to each shard: settings, shares of the machine, sockets, mailboxes.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use bytestring::ByteString;

use crate::api::apply::OpenedAtStart;
use crate::base::limits::MAILBOX_MESSAGES_MAX;
use crate::config::BrokerConfig;
use crate::controller::{BrokerRegistration, Call, ImageChange};
use crate::coordinator::group::coordinators::GroupMessage;
use crate::net::listener::Bound;
use crate::net::quota::ConnectionQuota;
use crate::partition::message::PartitionMessage;
use crate::shard::mailbox::{self, MailboxEnd};
use crate::storage::directories::LogDirectories;
use crate::storage::shard::StorageLimits;

/// A socket of one shard, with its listener's name.
#[derive(Debug)]
pub struct ShardListener {
    /// The listener's name.
    pub name: String,
    /// The socket, bound and not yet listening.
    pub socket: Bound,
}

/// One shard's ends of the meshes that connect the shards.
#[derive(Debug)]
pub struct ShardEnds {
    /// Requests to partitions.
    pub partitions: MailboxEnd<PartitionMessage>,
    /// Requests to consumer groups.
    pub groups: MailboxEnd<GroupMessage>,
    /// Calls to the controller.
    pub calls: MailboxEnd<Call>,
    /// Changes of the metadata.
    pub images: MailboxEnd<ImageChange>,
}

/// The meshes between `shards` shards, cut into their ends.
pub fn meshes(shards: u16) -> Vec<ShardEnds> {
    let partitions = mailbox::mesh(shards, MAILBOX_MESSAGES_MAX);
    let groups = mailbox::mesh(shards, MAILBOX_MESSAGES_MAX);
    let calls = mailbox::mesh(shards, MAILBOX_MESSAGES_MAX);
    let images = mailbox::mesh(shards, MAILBOX_MESSAGES_MAX);
    partitions
        .into_iter()
        .zip(groups)
        .zip(calls)
        .zip(images)
        .map(|(((partitions, groups), calls), images)| ShardEnds {
            partitions,
            groups,
            calls,
            images,
        })
        .collect()
}

/// What one shard is started with.
#[derive(Debug)]
pub struct ShardPlan {
    /// The broker's settings.
    pub config: Arc<BrokerConfig>,
    /// The cluster's id.
    pub cluster_id: ByteString,
    /// The log directories.
    pub directories: LogDirectories,
    /// What the last run left.
    pub opened_at_start: Arc<OpenedAtStart>,
    /// What this shard's storage may use.
    pub storage: StorageLimits,
    /// A longer request closes its connection.
    pub request_bytes_max: usize,
    /// Memory for requests with records, in bytes.
    pub frame_bytes: u64,
    /// Memory for all other requests, in bytes.
    pub reserve_bytes: u64,
    /// Memory for fetches that wait, in bytes.
    pub wait_bytes: u64,
    /// Memory for groups and their offsets, in bytes.
    pub group_bytes: usize,
    /// Counts the broker's connections.
    pub quota: ConnectionQuota,
    /// Makes this shard's fetch session ids hard to guess.
    pub session_seed: u64,
    /// How this broker is registered.
    pub registration: BrokerRegistration,
    /// The sockets, taken when the shard is ready.
    pub listeners: RefCell<Vec<ShardListener>>,
    /// Told when the broker is ready.
    pub ready: ReadyLine,
}

/// What the ready line says.
#[derive(Clone, Debug)]
pub struct ReadyLine {
    /// When the process began.
    pub started: Instant,
    /// Where it listens.
    pub addresses: String,
}

impl ShardPlan {
    /// The sockets of this shard: once.
    pub fn take_listeners(&self) -> Vec<ShardListener> {
        self.listeners.take()
    }

    /// Says that the broker takes requests.
    pub fn tell_ready(&self, shards: u16) {
        let ReadyLine { started, addresses } = &self.ready;
        tracing::info!(
            listeners = %addresses,
            shards,
            data = %self.directories,
            milliseconds = started.elapsed().as_millis() as u64,
            "ready"
        );
    }
}
