//! The layers in which a broker's settings are set, and which of them counts. Any shard; pure.
//!
//! What was given at start (flag, environment, file) is one layer, merged by `sources`. The other
//! two are dynamic: they change with the cluster's metadata, never here.

use std::collections::BTreeMap;

use super::ConfigError;
use super::registry::{Setting, Settings, broker_synonyms};
use super::value::Value;

/// Values by key, as they were written.
pub type Values = BTreeMap<String, String>;

/// Where a value comes from, as DescribeConfigs names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Set on the topic.
    Topic,
    /// Set for this broker while it ran.
    DynamicBroker,
    /// Set for all brokers while they ran.
    DynamicDefaultBroker,
    /// Given at start.
    StaticBroker,
    /// Nobody set it.
    Default,
}

impl Source {
    /// The id of the source in a DescribeConfigs response (KIP-226).
    pub fn id(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }

    /// Kafka's name of the source.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "DYNAMIC_TOPIC_CONFIG",
            Self::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            Self::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            Self::StaticBroker => "STATIC_BROKER_CONFIG",
            Self::Default => "DEFAULT_CONFIG",
        }
    }
}

/// Every value that was set for a broker, each in its layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Set for this broker while it ran; counts most.
    pub dynamic_broker: Values,
    /// Set for all brokers while they ran.
    pub dynamic_default: Values,
    /// Given at start by flag, environment or file.
    pub fixed: Values,
}

impl Layers {
    /// Only what was given at start.
    pub fn of_start(fixed: Values) -> Self {
        Self {
            fixed,
            ..Self::default()
        }
    }

    /// The value that was set for `key`, from the layer that counts most.
    pub fn set_value(&self, key: &str) -> Option<&str> {
        self.in_order()
            .into_iter()
            .find_map(|(values, _)| values.get(key).map(String::as_str))
    }

    /// The layers, the one that counts most first.
    pub(super) fn in_order(&self) -> [(&Values, Source); 3] {
        [
            (&self.dynamic_broker, Source::DynamicBroker),
            (&self.dynamic_default, Source::DynamicDefaultBroker),
            (&self.fixed, Source::StaticBroker),
        ]
    }

    /// The value that counts for a known `key`, its default included; `None` where that is null.
    pub(super) fn value(&self, setting: &Setting) -> Result<Option<Value>, ConfigError> {
        match self.set_value(setting.key) {
            Some(text) if !self.is_superseded(setting.key) => setting.parse(text).map(Some),
            _ => Ok(setting.default_value()),
        }
    }

    /// Whether a synonym of `key` was set while the broker ran, and `key` only at its start: then
    /// Kafka forgets the latter, and answers with the default.
    fn is_superseded(&self, key: &str) -> bool {
        let dynamic = [&self.dynamic_broker, &self.dynamic_default];
        let is_set = |key: &str| dynamic.iter().any(|values| values.contains_key(key));
        let mut set = dynamic.iter().flat_map(|values| values.keys());
        !is_set(key) && set.any(|other| broker_synonyms(other).contains(&key))
    }

    /// The value behind `key` and its synonyms, such as `log.roll.ms` and `log.roll.hours`: in
    /// milliseconds where their units differ.
    pub(super) fn value_with_synonyms(&self, key: &str) -> Result<Option<Value>, ConfigError> {
        let alone = [key];
        let names: &[&str] = match broker_synonyms(key) {
            [] => &alone,
            names => names,
        };
        for name in names {
            let setting = known(name);
            let value = self.value(setting)?;
            let unit_ms = match name {
                name if name.ends_with(".hours") => 3_600_000,
                name if name.ends_with(".minutes") => 60_000,
                _ => 1,
            };
            match value {
                // The coarser units are 32-bit integers: in milliseconds they fit into 64 bits.
                Some(Value::Integer(number)) => return Ok(Some(Value::Integer(number * unit_ms))),
                Some(value) => return Ok(Some(value)),
                None => {}
            }
        }
        Ok(None)
    }
}

/// The broker's setting `key`, which the caller names literally or takes from a table.
pub(super) fn known(key: &str) -> &'static Setting {
    Settings::broker()
        .get(key)
        .unwrap_or_else(|| panic!("'{key}' is a broker setting, which a test holds"))
}
