//! The registry of settings: what is known of each key, for brokers and for topics. Any shard.
//!
//! The facts stand in two tables beside this file, one line a setting, read once. Facts never
//! change while the process runs; values do, and live elsewhere.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::ConfigError;
use super::value::{Allowed, Kind, Value};

/// How much a setting matters to an operator, as Kafka ranks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// Everyone should look at it.
    High,
    /// For tuning.
    Medium,
    /// Rarely touched.
    Low,
}

/// Whether a broker's setting can change while it runs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Only by a restart.
    ReadOnly,
    /// For one broker.
    PerBroker,
    /// For one broker or for all.
    ClusterWide,
}

/// What a setting does in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The broker goes by it.
    Acts,
    /// It is checked, kept and described, and changes nothing: it belongs to a part that is not
    /// built yet, or that Millrace does not need.
    Kept,
}

/// What is known of one key.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Kafka's name of it, or one under `millrace.`.
    pub key: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// Its value when nobody set one; `None` where Kafka answers null.
    pub default: Option<&'static str>,
    /// What is allowed beyond the type.
    pub allowed: Allowed,
    /// Its rank.
    pub importance: Importance,
    /// Whether it can change while the broker runs. A topic's settings always can.
    pub update: Update,
    /// Whether it acts.
    pub state: State,
    /// Accepted, but described by nobody: Kafka's own tests and tuning use it.
    pub internal: bool,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// For a topic's setting, the broker's setting that holds its default.
    pub broker_key: Option<&'static str>,
}

impl Setting {
    /// Whether its value is a secret, which no answer and no log line shows.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Whether it can change only by a restart.
    pub fn is_read_only(&self) -> bool {
        self.update == Update::ReadOnly
    }

    /// Says what values it takes, for a person.
    pub fn allows(&self) -> String {
        let kind = match self.kind {
            Kind::Boolean => return "true or false".to_owned(),
            Kind::Int => "a 32-bit integer",
            Kind::Short => "a 16-bit integer",
            Kind::Long => "a 64-bit integer",
            Kind::Double => "a number",
            Kind::List => "a list",
            Kind::String | Kind::Class | Kind::Password => "a text",
        };
        match &self.allowed {
            Allowed::Any => kind.to_owned(),
            Allowed::Range(..) | Allowed::OneOr(..) if self.key.ends_with(".bytes") => {
                format!("{kind} without a unit, in bytes, {}", self.allowed)
            }
            Allowed::Range(..) | Allowed::OneOr(..) => format!("{kind}, {}", self.allowed),
            allowed => allowed.to_string(),
        }
    }

    /// Reads `text` as a value of this setting, and refuses it where it is not allowed.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let value = self.kind.read(self.key, text)?;
        self.allowed.check(self.key, &value)?;
        Ok(value)
    }

    /// The value when nobody set one.
    pub fn default_value(&self) -> Option<Value> {
        let value = self.kind.read(self.key, self.default?);
        Some(value.expect("a default is of its setting's type, which a test holds"))
    }
}

/// All settings of one scope, sorted by key.
#[derive(Debug)]
pub struct Settings {
    rows: Vec<Setting>,
    by_key: HashMap<&'static str, usize>,
}

static BROKER: LazyLock<Settings> = LazyLock::new(|| Settings::read(include_str!("broker.tsv")));
static TOPIC: LazyLock<Settings> = LazyLock::new(|| Settings::read(include_str!("topic.tsv")));

impl Settings {
    /// The broker's settings.
    pub fn broker() -> &'static Self {
        &BROKER
    }

    /// A topic's settings.
    pub fn topic() -> &'static Self {
        &TOPIC
    }

    /// What is known of `key`.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.by_key.get(key).map(|index| &self.rows[*index])
    }

    /// All of them, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.rows.iter()
    }

    fn read(table: &'static str) -> Self {
        let rows: Vec<_> = table
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| read_row(line).unwrap_or_else(|| panic!("the line '{line}' is no setting")))
            .collect();
        let by_key = rows
            .iter()
            .enumerate()
            .map(|(index, row)| (row.key, index))
            .collect();
        Self { rows, by_key }
    }
}

/// The broker's settings that stand for one and the same thing, in the order in which they count:
/// the first that is set wins (KIP-226).
pub fn broker_synonyms(key: &str) -> &'static [&'static str] {
    const ROLL: &[&str] = &["log.roll.ms", "log.roll.hours"];
    const JITTER: &[&str] = &["log.roll.jitter.ms", "log.roll.jitter.hours"];
    const FLUSH: &[&str] = &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"];
    const RETENTION: &[&str] = &[
        "log.retention.ms",
        "log.retention.minutes",
        "log.retention.hours",
    ];
    match key {
        key if ROLL.contains(&key) => ROLL,
        key if JITTER.contains(&key) => JITTER,
        key if RETENTION.contains(&key) => RETENTION,
        "log.flush.interval.ms" => FLUSH,
        _ => &[],
    }
}

/// Columns: key, type, default (`~` for null), allowed, importance, update, state, the broker's
/// setting behind a topic's (`~` for none), documentation.
fn read_row(line: &'static str) -> Option<Setting> {
    let columns: Vec<&'static str> = line.split('\t').collect();
    let [
        key,
        kind,
        default,
        allowed,
        importance,
        update,
        state,
        broker_key,
        doc,
    ] = columns.try_into().ok()?;
    let not_null = |text: &'static str| (text != "~").then_some(text);
    Some(Setting {
        key,
        kind: Kind::from_name(kind)?,
        default: not_null(default),
        allowed: Allowed::from_table(allowed)?,
        importance: match importance {
            "high" => Importance::High,
            "medium" => Importance::Medium,
            "low" => Importance::Low,
            _ => return None,
        },
        update: match update {
            "read-only" => Update::ReadOnly,
            "per-broker" => Update::PerBroker,
            "cluster-wide" => Update::ClusterWide,
            _ => return None,
        },
        state: match state.trim_end_matches(",internal") {
            "acts" => State::Acts,
            "kept" => State::Kept,
            _ => return None,
        },
        internal: state.ends_with(",internal"),
        doc,
        broker_key: not_null(broker_key),
    })
}
