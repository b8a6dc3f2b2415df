//! DescribeConfigs: every setting of topics and of this broker, with where its value comes from
//! (KIP-226, KIP-569). Any shard; pure.
//!
//! The rows are those of the room `config`; here they become a reply, and errors become codes.

#[cfg(test)]
mod tests;

use std::fmt;

use ahash::AHashSet;
use bytestring::ByteString;
use tracing::level_filters::LevelFilter;

use crate::base::ids::NodeId;
use crate::base::limits::DESCRIBED_SETTINGS_MAX;
use crate::config::{BrokerConfig, Described, Kind, Synonym, Values};
use crate::metadata::image::MetadataImage;
use crate::metadata::topic_name;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use crate::protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::shard::advertised::AdvertisedShards;

/// What a log level that was never changed comes from, in Kafka's numbers.
const BROKER_LOGGER_SOURCE: i8 = 6;
/// The one logger: the level of everything that is not filtered by itself.
const ROOT_LOGGER: &str = "root";

/// The results of a request, each made when it is taken, so that whoever takes them can give way
/// in between. `log_level` is the one that the broker logs at.
pub fn results<'a>(
    image: &'a MetadataImage,
    config: &'a BrokerConfig,
    advertised: AdvertisedShards,
    log_level: LevelFilter,
    request: &'a DescribeConfigsRequest,
) -> impl Iterator<Item = DescribeConfigsResult> + 'a {
    results_within(
        DESCRIBED_SETTINGS_MAX,
        image,
        config,
        advertised,
        log_level,
        request,
    )
}

/// What has got `settings_max` settings already is refused the rest.
fn results_within<'a>(
    settings_max: usize,
    image: &'a MetadataImage,
    config: &'a BrokerConfig,
    advertised: AdvertisedShards,
    log_level: LevelFilter,
    request: &'a DescribeConfigsRequest,
) -> impl Iterator<Item = DescribeConfigsResult> + 'a {
    let has_unknown = request
        .resources
        .iter()
        .any(|resource| ResourceType::of(resource.resource_type).is_none());
    let describer = Describer {
        image,
        config,
        advertised,
        log_level,
        request,
    };
    // A resource that is asked for twice, by whatever name, is answered once: every row of it can
    // be a thousand times as long as the question.
    let mut seen = AHashSet::new();
    let mut settings_left = settings_max;
    request
        .resources
        .iter()
        .filter(move |resource| seen.insert(Identity::of(resource)))
        .map(move |resource| {
            // One type that does not exist makes the whole request wrong, as in Kafka.
            let result = if has_unknown {
                Err(Refusal::invalid_request(MALFORMED))
            } else if settings_left == 0 {
                Err(Refusal::invalid_request(TOO_MUCH))
            } else {
                describer.describe(resource)
            };
            let rows = result.as_ref().map_or(0, Rows::len);
            settings_left = settings_left.saturating_sub(rows);
            result_of(resource, result)
        })
}

/// What the resources of a request are told apart by.
#[derive(PartialEq, Eq, Hash)]
enum Identity<'a> {
    /// A broker, or its loggers: numbers can be written in many ways.
    Number(i8, NodeId),
    Name(i8, &'a str),
}

impl<'a> Identity<'a> {
    fn of(resource: &'a DescribeConfigsResource) -> Self {
        let (code, name) = (resource.resource_type, &*resource.resource_name);
        let is_broker = matches!(
            ResourceType::of(code),
            Some(ResourceType::Broker | ResourceType::BrokerLogger)
        );
        match broker_id(name) {
            Ok(id) if is_broker => Self::Number(code, id),
            _ => Self::Name(code, name),
        }
    }
}

/// Why a resource of a request is not described that has got [`DESCRIBED_SETTINGS_MAX`] already.
const TOO_MUCH: &str = "One answer does not hold that many settings: name fewer resources at once, \
                        or the settings that are wanted.";

/// Kafka's words for INVALID_REQUEST where nobody said more.
const MALFORMED: &str = "This most likely occurs because of a request being malformed by the \
                         client library or the message was sent to an incompatible broker. See \
                         the broker logs for more details.";

/// What has settings, as Kafka 4.3.1 numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResourceType {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
}

impl ResourceType {
    fn of(code: i8) -> Option<Self> {
        match code {
            2 => Some(Self::Topic),
            4 => Some(Self::Broker),
            8 => Some(Self::BrokerLogger),
            16 => Some(Self::ClientMetrics),
            32 => Some(Self::Group),
            _ => None,
        }
    }
}

/// Kafka's names.
impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Topic => "TOPIC",
            Self::Broker => "BROKER",
            Self::BrokerLogger => "BROKER_LOGGER",
            Self::ClientMetrics => "CLIENT_METRICS",
            Self::Group => "GROUP",
        })
    }
}

/// Why a resource is not described. A topic that is not there needs no words.
struct Refusal {
    code: ErrorCode,
    message: String,
}

impl Refusal {
    fn invalid_request(message: impl Into<String>) -> Self {
        Self {
            code: ErrorCode::InvalidRequest,
            message: message.into(),
        }
    }
}

type Rows = Vec<DescribeConfigsResourceResult>;

fn result_of(
    resource: &DescribeConfigsResource,
    result: Result<Rows, Refusal>,
) -> DescribeConfigsResult {
    let (code, message, configs) = match result {
        Ok(configs) => (ErrorCode::None, String::new(), configs),
        Err(refusal) => (refusal.code, refusal.message, Vec::new()),
    };
    DescribeConfigsResult {
        error_code: code.into(),
        // Empty, not null, where there is nothing to say.
        error_message: Some(super::errors::text_of(&message)),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        configs,
    }
}

struct Describer<'a> {
    image: &'a MetadataImage,
    config: &'a BrokerConfig,
    advertised: AdvertisedShards,
    log_level: LevelFilter,
    request: &'a DescribeConfigsRequest,
}

impl Describer<'_> {
    fn describe(&self, resource: &DescribeConfigsResource) -> Result<Rows, Refusal> {
        let Some(resource_type) = ResourceType::of(resource.resource_type) else {
            return Err(Refusal::invalid_request(MALFORMED));
        };
        match resource_type {
            ResourceType::Topic => self.topic(resource),
            ResourceType::Broker => self.broker(resource),
            ResourceType::BrokerLogger => self.loggers(resource),
            // Neither client metrics nor groups are served yet.
            ResourceType::ClientMetrics | ResourceType::Group => Err(Refusal::invalid_request(
                format!("Unsupported resource type: {resource_type}"),
            )),
        }
    }

    fn topic(&self, resource: &DescribeConfigsResource) -> Result<Rows, Refusal> {
        let name = &resource.resource_name;
        topic_name::validate(name).map_err(|error| Refusal {
            code: ErrorCode::InvalidTopicException,
            message: error.to_string(),
        })?;
        if self.image.topic_id(name).is_none() {
            return Err(Refusal {
                code: ErrorCode::UnknownTopicOrPartition,
                message: String::new(),
            });
        }
        let overrides = self.image.topic_config(name);
        let none = Values::new();
        let overrides: &Values = overrides.map_or(&none, |overrides| overrides);
        Ok(self.rows(resource, self.config.describe_topic(overrides)))
    }

    fn broker(&self, resource: &DescribeConfigsResource) -> Result<Rows, Refusal> {
        let name = &resource.resource_name;
        let own = self.config.node_id;
        if name.is_empty() {
            return Ok(self.rows(resource, self.config.describe_cluster()));
        }
        if self.advertised.broker(broker_id(name)?) != own {
            return Err(Refusal::invalid_request(format!(
                "Unexpected broker id, expected {own} or empty string, but received {name}"
            )));
        }
        Ok(self.rows(resource, self.config.describe()))
    }

    /// The level at which the broker logs. It is set at start and does not change.
    fn loggers(&self, resource: &DescribeConfigsResource) -> Result<Rows, Refusal> {
        let name = &resource.resource_name;
        let own = self.config.node_id;
        if name.is_empty() {
            return Err(Refusal::invalid_request("Broker id must not be empty"));
        }
        if self.advertised.broker(broker_id(name)?) != own {
            return Err(Refusal::invalid_request(format!(
                "Unexpected broker id, expected {own} but received {name}"
            )));
        }
        let level = self.log_level.to_string().to_uppercase();
        let root = DescribeConfigsResourceResult {
            name: ByteString::from_static(ROOT_LOGGER),
            value: Some(level.into()),
            read_only: true,
            config_source: BROKER_LOGGER_SOURCE,
            ..DescribeConfigsResourceResult::default()
        };
        Ok(if Wanted::of(resource).has(ROOT_LOGGER) {
            vec![root]
        } else {
            Vec::new()
        })
    }

    /// Those rows that the client named, or all if it named none.
    fn rows(&self, resource: &DescribeConfigsResource, described: Vec<Described>) -> Rows {
        let wanted = Wanted::of(resource);
        described
            .into_iter()
            .filter(|described| wanted.has(&described.name))
            .map(|described| self.row(described))
            .collect()
    }

    fn row(&self, described: Described) -> DescribeConfigsResourceResult {
        debug_assert!(!described.sensitive || described.value.is_none());
        let synonyms = if self.request.include_synonyms {
            described.synonyms.into_iter().map(synonym).collect()
        } else {
            Vec::new()
        };
        let documentation = described.doc.filter(|_| self.request.include_documentation);
        DescribeConfigsResourceResult {
            name: described.name.into(),
            value: described.value.map(Into::into),
            read_only: described.read_only,
            config_source: described.source.id(),
            is_sensitive: described.sensitive,
            synonyms,
            config_type: described.kind.map_or(0, Kind::id),
            documentation: documentation.map(ByteString::from_static),
        }
    }
}

fn synonym(synonym: Synonym) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym {
        name: synonym.name.into(),
        value: synonym.value.map(Into::into),
        source: synonym.source.id(),
    }
}

/// The keys that a resource is asked for; no keys at all are all keys.
struct Wanted<'a>(Option<AHashSet<&'a str>>);

impl<'a> Wanted<'a> {
    fn of(resource: &'a DescribeConfigsResource) -> Self {
        let keys = resource.configuration_keys.as_deref().unwrap_or_default();
        Self((!keys.is_empty()).then(|| keys.iter().map(|key| &**key).collect()))
    }

    fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|keys| keys.contains(name))
    }
}

fn broker_id(name: &str) -> Result<NodeId, Refusal> {
    name.parse().map(NodeId).map_err(|_| {
        Refusal::invalid_request(format!("Broker id must be an integer, but it is: {name}"))
    })
}
