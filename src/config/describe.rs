//! What DescribeConfigs answers: every value with its source and its synonyms (KIP-226, KIP-569).
//! Any shard; pure.
//!
//! The rules are Kafka's, the odd ones included: a synonym counts only from the first one that has
//! the described name, so `retention.ms` that comes from `log.retention.hours` reads as a default.

use std::collections::BTreeSet;

use super::broker::BrokerConfig;
use super::layers::{Layers, Source, Values};
use super::registry::{Setting, Settings, broker_synonyms};
use super::topic::Effective;
use super::value::Kind;

/// One described setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// The value that counts; `None` where it is null or a secret.
    pub value: Option<String>,
    /// Where that value comes from.
    pub source: Source,
    /// Whether it can change only by a restart.
    pub read_only: bool,
    /// Whether it is a secret. A key that nobody knows might hold one.
    pub sensitive: bool,
    /// Every place in which it is set, the one that counts first.
    pub synonyms: Vec<Synonym>,
    /// Its type; `None` for a key that nobody knows.
    pub kind: Option<Kind>,
    /// What it does.
    pub doc: Option<&'static str>,
}

/// A place in which a setting is set, perhaps under another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The name.
    pub name: String,
    /// The value as it was written; `None` for a secret.
    pub value: Option<String>,
    /// Where it is set.
    pub source: Source,
}

impl BrokerConfig {
    /// Describes this broker: every setting, and every unknown key that was set.
    pub fn describe(&self) -> Vec<Described> {
        let layers = &self.layers;
        let set = layers
            .in_order()
            .into_iter()
            .flat_map(|(values, _)| values.keys());
        let public = Settings::broker()
            .iter()
            .filter(|setting| !setting.internal);
        let names: BTreeSet<&str> = public
            .map(|setting| setting.key)
            .chain(set.map(String::as_str))
            .collect();
        names
            .into_iter()
            .map(|name| describe_broker_setting(layers, name))
            .collect()
    }

    /// Describes what is set for all brokers alike, Kafka's broker resource without a name.
    pub fn describe_cluster(&self) -> Vec<Described> {
        let described = self.layers.dynamic_default.iter().map(|(name, value)| {
            let mut described = describe_broker_setting(&self.layers, name);
            described.value = (!described.sensitive).then(|| value.clone());
            let of_all = |synonym: &Synonym| synonym.source == Source::DynamicDefaultBroker;
            described.synonyms.retain(of_all);
            described.source = source_of(&described.synonyms);
            described
        });
        described.collect()
    }

    /// Describes a topic on which `overrides` are set.
    pub fn describe_topic(&self, overrides: &Values) -> Vec<Described> {
        Settings::topic()
            .iter()
            .filter(|setting| !setting.internal || overrides.contains_key(setting.key))
            .map(|setting| describe_topic_setting(&self.layers, overrides, setting))
            .collect()
    }
}

fn source_of(synonyms: &[Synonym]) -> Source {
    synonyms
        .first()
        .map_or(Source::Default, |first| first.source)
}

fn describe_broker_setting(layers: &Layers, name: &str) -> Described {
    let exact = Settings::broker().get(name);
    // A key with a listener's prefix has the type of the setting behind it.
    let setting = exact.or_else(|| Settings::broker().get(listener_base(name)?));
    let sensitive = setting.is_none_or(Setting::is_sensitive);
    let value = match exact {
        Some(setting) => layers
            .value(setting)
            .expect("a broker's values are checked at its start")
            .map(|value| value.to_string()),
        None => layers.set_value(name).map(str::to_owned),
    };
    let synonyms = broker_values(layers, name, sensitive);
    Described {
        name: name.to_owned(),
        value: value.filter(|_| !sensitive),
        source: source_of(&synonyms),
        read_only: exact.is_none_or(Setting::is_read_only),
        sensitive,
        synonyms,
        kind: setting.map(|setting| setting.kind),
        doc: exact.map(|setting| setting.doc),
    }
}

fn describe_topic_setting(layers: &Layers, overrides: &Values, setting: &Setting) -> Described {
    let effective = Effective {
        broker: layers,
        overrides,
    };
    let sensitive = setting.is_sensitive();
    let value = match effective.value(setting.key) {
        Ok(value) => value.map(|value| value.to_string()),
        // The broker's are checked at its start. A topic's come from the metadata log, and another
        // version may have taken what this one does not: it is shown as it was written.
        Err(_) => overrides.get(setting.key).cloned(),
    };
    let value = value.filter(|_| !sensitive);
    let mut synonyms = match setting.broker_key {
        Some(broker_key) => broker_values(layers, broker_key, sensitive),
        None => Vec::new(),
    };
    if overrides.contains_key(setting.key) {
        let own = Synonym {
            name: setting.key.to_owned(),
            value: value.clone(),
            source: Source::Topic,
        };
        synonyms.insert(0, own);
    }
    Described {
        name: setting.key.to_owned(),
        value,
        source: source_of(&synonyms),
        read_only: false,
        sensitive,
        synonyms,
        kind: Some(setting.kind),
        doc: Some(setting.doc),
    }
}

/// Every place in which the broker's setting `name` or a synonym of it is set, in the order in
/// which they count, from the first one of that very name.
fn broker_values(layers: &Layers, name: &str, sensitive: bool) -> Vec<Synonym> {
    let mut alone = vec![name];
    alone.extend(listener_base(name));
    let names: &[&str] = match broker_synonyms(name) {
        [] => &alone,
        names => names,
    };
    let synonym = |name: &str, value: &str, source: Source| Synonym {
        name: name.to_owned(),
        value: (!sensitive).then(|| value.to_owned()),
        source,
    };
    let mut found = Vec::new();
    for (values, source) in layers.in_order() {
        for name in names {
            found.extend(values.get(*name).map(|value| synonym(name, value, source)));
        }
    }
    for name in names {
        let default = Settings::broker().get(name).and_then(|known| known.default);
        found.extend(default.map(|value| synonym(name, value, Source::Default)));
    }
    let first = found.iter().position(|synonym| synonym.name == name);
    found.split_off(first.unwrap_or(found.len()))
}

/// The setting behind `listener.name.<listener>.<setting>`, or behind
/// `listener.name.<listener>.<mechanism>.<setting>` for those that SASL mechanisms have.
pub(super) fn listener_base(name: &str) -> Option<&str> {
    const OF_MECHANISMS: [&str; 5] = [
        "sasl.jaas.config",
        "sasl.login.callback.handler.class",
        "sasl.login.class",
        "sasl.server.callback.handler.class",
        "connections.max.reauth.ms",
    ];
    let (_, base) = name.strip_prefix("listener.name.")?.split_once('.')?;
    let of_mechanism = OF_MECHANISMS
        .into_iter()
        .find(|known| base.ends_with(known));
    Some(of_mechanism.unwrap_or(base))
}
