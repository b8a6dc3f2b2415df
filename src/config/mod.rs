//! Broker and topic settings under Kafka's names: what each key means, what values it takes, and
//! which value counts.
//!
//! Depends on `base` alone. Every shard reads the same immutable values.
//!
//! What must stay true:
//! - every setting stands once, in `broker.tsv` or `topic.tsv`; parsing, validation,
//!   DescribeConfigs and the documentation all go by that line;
//! - the facts are those of Kafka 4.3.1, which the fixtures under `tests/data` hold against a run
//!   of it; where a default of ours differs, a test lists it;
//! - a value that was accepted is never ignored in silence: what does not act here is reported at
//!   start, and what would protect data or access and is not built yet is refused;
//! - nothing here opens a socket or a log; only [`sources`] reads a file, before any shard starts.

mod broker;
mod describe;
mod groups;
mod layers;
mod listener;
mod read;
mod registry;
pub mod sources;
mod topic;
mod value;

#[cfg(test)]
mod tests;

pub use broker::BrokerConfig;
pub use describe::{Described, Synonym};
pub use groups::GroupsConfig;
pub use layers::{Layers, Source, Values};
pub use listener::{AdvertisedListener, Listener};
pub use registry::{Importance, Setting, Settings, State, Update, broker_synonyms};
pub use topic::{CleanupPolicy, CompressionType, FlushMode, TimestampType, TopicConfig};
pub use value::{Allowed, Kind, Value};

/// Why a setting or its value is refused. The texts are the ones that Kafka's users know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No topic setting has this name.
    #[error("Unknown topic config name: {key}")]
    UnknownTopicSetting {
        /// The name.
        key: String,
    },
    /// The value is not of the setting's type, or out of its bounds.
    #[error("Invalid value {value} for configuration {key}: {reason}")]
    InvalidValue {
        /// The setting.
        key: String,
        /// The value, or the element of a list, as it was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A list that must hold something holds nothing.
    #[error("Configuration '{key}' must not be empty. Valid values include: {allowed}")]
    EmptyList {
        /// The setting.
        key: String,
        /// What it may hold.
        allowed: String,
    },
    /// A list holds an empty element.
    #[error("Configuration '{key}' values must not be empty.")]
    EmptyElement {
        /// The setting.
        key: String,
    },
    /// A list holds an element twice.
    #[error("Configuration '{key}' values must not be duplicated.")]
    RepeatedElement {
        /// The setting.
        key: String,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// The value is right for Kafka and asks for something that Millrace does not do yet.
    #[error("Unsupported value {value} for configuration {key}: {reason}")]
    Unsupported {
        /// The setting.
        key: String,
        /// The value as it was given.
        value: String,
        /// What is missing, and what to do.
        reason: String,
    },
}

impl ConfigError {
    /// The setting at fault; none where two contradict each other.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::UnknownTopicSetting { key }
            | Self::InvalidValue { key, .. }
            | Self::EmptyList { key, .. }
            | Self::EmptyElement { key }
            | Self::RepeatedElement { key }
            | Self::Unsupported { key, .. } => Some(key),
            Self::Conflict(_) => None,
        }
    }

    /// What is wrong, for a text that has named the setting and its whole value already: only an
    /// element of a list is named again.
    pub(crate) fn reason(&self, whole: &str) -> String {
        match self {
            Self::InvalidValue { value, reason, .. } | Self::Unsupported { value, reason, .. } => {
                match value.trim() == whole.trim() {
                    true => reason.clone(),
                    false => format!("{value}: {reason}"),
                }
            }
            error => error.to_string(),
        }
    }
}
