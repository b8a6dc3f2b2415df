//! What the requests of one shard are handled with. That shard's alone.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytestring::ByteString;

use super::fetch_session::FetchSessions;
use super::metadata::view::View;
use super::producer_ids::ProducerIds;
use crate::base::clock::{Clock, TimestampMs};
use crate::base::ids::NodeId;
use crate::base::log_limit::LogLimit;
use crate::config::{BrokerConfig, ConfigError, TopicConfig, Values};
use crate::controller::ControllerHandle;
use crate::coordinator::group::coordinators::GroupRouter;
use crate::metadata::image::MetadataImage;
use crate::partition::router::Router;
use crate::shard::advertised::AdvertisedShards;
use crate::shard::budget::Budget;
use crate::shard::reply;

/// The ways from a shard to what requests are about.
#[derive(Debug)]
pub struct Ways {
    /// To the partitions.
    pub partitions: Router,
    /// To consumer groups.
    pub groups: GroupRouter,
    /// To who changes the metadata.
    pub controller: ControllerHandle,
}

/// A shard's view of the broker.
#[derive(Debug)]
pub struct Broker {
    /// The settings it was started with.
    pub config: Arc<BrokerConfig>,
    /// The time.
    pub clock: Clock,
    /// The cluster's id.
    pub cluster_id: ByteString,
    /// This broker's id.
    pub node_id: NodeId,
    /// How many brokers clients take it for.
    pub advertised: AdvertisedShards,
    /// The way to the partitions.
    pub router: Router,
    /// The way to consumer groups.
    pub groups: GroupRouter,
    /// Who changes the metadata.
    pub controller: ControllerHandle,
    /// The fetch sessions of this shard's connections.
    pub sessions: RefCell<FetchSessions>,
    /// Memory for the fetches that wait, beside what each connection has for them.
    pub(super) waits: Budget,
    /// The producer ids that this shard may give out.
    pub(super) producer_ids: ProducerIds,
    /// Topics whose creation this shard has asked for and not heard of yet.
    pub(super) topics_being_created: RefCell<BTreeSet<ByteString>>,
    /// Who waits for the creation of `__consumer_offsets`; a connection does so once.
    pub(super) waiting_for_group_metadata: RefCell<Vec<reply::Sender<()>>>,
    /// Any client can ask for as many topics that cannot be created as it likes.
    pub(super) creation_log_limit: LogLimit,
    image: RefCell<Arc<MetadataImage>>,
}

impl Broker {
    /// A broker that knows `image`.
    pub fn new(
        config: Arc<BrokerConfig>,
        clock: Clock,
        cluster_id: ByteString,
        ways: Ways,
        sessions: FetchSessions,
        waits: Budget,
        image: Arc<MetadataImage>,
    ) -> Rc<Self> {
        let advertised = match config.advertise_shards {
            true => AdvertisedShards::each(ways.partitions.shards()),
            false => AdvertisedShards::TOGETHER,
        };
        Rc::new(Self {
            node_id: config.node_id,
            advertised,
            config,
            clock,
            cluster_id,
            router: ways.partitions,
            groups: ways.groups,
            controller: ways.controller,
            producer_ids: ProducerIds::default(),
            topics_being_created: RefCell::default(),
            waiting_for_group_metadata: RefCell::default(),
            creation_log_limit: LogLimit::default(),
            sessions: RefCell::new(sessions),
            waits,
            image: RefCell::new(image),
        })
    }

    /// The cluster's metadata as this shard knows it.
    pub fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    /// The cluster of `image` as a connection's client sees it.
    pub(super) fn view<'a>(
        &'a self,
        image: &'a MetadataImage,
        connection: &'a Connection,
    ) -> View<'a> {
        View {
            image,
            config: &self.config,
            cluster_id: &self.cluster_id,
            listener: &connection.listener,
            advertised: self.advertised,
        }
    }

    pub(super) fn set_image(&self, image: Arc<MetadataImage>) {
        *self.image.borrow_mut() = image;
    }

    /// The time, in milliseconds since the Unix epoch.
    pub fn now(&self) -> TimestampMs {
        self.clock.now_ms()
    }

    /// The settings of a topic: what was set on it, and below that the broker's.
    pub fn topic_config(
        &self,
        image: &MetadataImage,
        name: &ByteString,
    ) -> Result<TopicConfig, ConfigError> {
        match image.topic_config(name) {
            None => Ok(self.config.topic_defaults.clone()),
            Some(overrides) => {
                let overrides: &Values = overrides;
                TopicConfig::new(&self.config.layers, overrides)
            }
        }
    }
}

/// One connection, as requests see it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The name of the listener that it came in by.
    pub listener: Arc<str>,
    /// Who it is from.
    pub peer: SocketAddr,
}
