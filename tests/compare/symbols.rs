//! Makes two brokers' answers comparable: what each of them chooses for itself becomes a symbol,
//! numbered by its first appearance in the conversation, and what has no order is sorted.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::value::{Value, base64};

/// Lists that have no order, since Kafka makes them by walking a hash map: API and field.
const UNORDERED: &[(&str, &str)] = &[
    ("CreatePartitions", "Results"),
    ("CreateTopics", "Topics"),
    ("DeleteGroups", "Results"),
    ("DeleteTopics", "Responses"),
    ("DescribeGroups", "Groups"),
    ("DescribeGroups", "Members"),
    ("JoinGroup", "Members"),
    ("ListGroups", "Groups"),
    ("ListOffsets", "Partitions"),
    ("Metadata", "Topics"),
    ("Produce", "PartitionResponses"),
];

/// Lists that are maps: API, field, and the field of an element that is its key. An element that
/// one broker lacks does not shift the others.
const MAPS: &[(&str, &str, &str)] = &[
    ("ApiVersions", "ApiKeys", "ApiKey"),
    ("ApiVersions", "SupportedFeatures", "Name"),
    ("ApiVersions", "FinalizedFeatures", "Name"),
    ("CreateTopics", "Configs", "Name"),
    ("DescribeConfigs", "Configs", "Name"),
];

/// Lists of everything that a broker has, of which a conversation sees only what is its own.
const SHARED: &[(&str, &str, &str)] = &[
    ("ListGroups", "Groups", "GroupId"),
    ("Metadata", "Topics", "Name"),
];

/// How far a time may be from now to be one that the broker read from its clock.
const NOW_MS: i64 = 3_600_000;

/// The symbols of one broker in one conversation.
pub struct Symbols {
    port: u16,
    cluster_id: String,
    prefix: String,
    /// The symbol of each value that the broker chose, as it is written.
    known: HashMap<String, String>,
    counts: HashMap<&'static str, usize>,
}

impl Symbols {
    /// For the broker on `port`, and a conversation whose names begin with `prefix`.
    pub fn new(port: u16, cluster_id: &str, prefix: &str) -> Self {
        Self {
            port,
            cluster_id: cluster_id.to_owned(),
            prefix: prefix.to_owned(),
            known: HashMap::new(),
            counts: HashMap::new(),
        }
    }

    /// The comparable form of an answer of `api` to `request`.
    pub fn comparable(&mut self, api: &str, request: &Value, answer: &Value) -> Value {
        let mut answer = answer.clone();
        self.order(api, request, &mut answer);
        self.replace(api, "", answer)
    }

    /// Leaves out what belongs to others, and sorts what has no order.
    fn order(&self, api: &str, request: &Value, value: &mut Value) {
        let Value::Struct(fields) = value else {
            return;
        };
        for (name, value) in fields {
            let Value::List(items) = value else {
                self.order(api, request, value);
                continue;
            };
            let shared = SHARED.iter().find(|it| (it.0, it.1) == (api, name));
            if let Some((_, _, key)) = shared
                && asks_for_everything(request)
            {
                items.retain(|item| match item.field(key) {
                    Some(Value::Text(name)) => name.starts_with(&self.prefix),
                    _ => true,
                });
            }
            for item in items.iter_mut() {
                self.order(api, request, item);
            }
            let is_all_offsets = (api, name.as_str()) == ("OffsetFetch", "Topics")
                && (request.field("Topics") == Some(&Value::Null)
                    || request.at("Groups.0.Topics") == Some(&Value::Null));
            if is_all_offsets || UNORDERED.contains(&(api, name)) {
                items.sort_by_cached_key(|item| self.masked(item));
            }
        }
    }

    /// A value's text, with symbols for the ids that have one and the same word for all others.
    fn masked(&self, value: &Value) -> String {
        self.mask(value).to_string()
    }

    fn mask(&self, value: &Value) -> Value {
        let symbol = |id: &str| self.known.get(id).map_or("{id}", |symbol| symbol);
        match value {
            Value::Uuid(id) => Value::Text(symbol(&base64(id)).to_owned()),
            Value::Text(text) => {
                let masked = uuids(text)
                    .iter()
                    .fold(text.clone(), |text, id| text.replace(id, symbol(id)));
                Value::Text(masked)
            }
            Value::List(items) => Value::List(items.iter().map(|item| self.mask(item)).collect()),
            Value::Struct(fields) => {
                let fields = fields.iter();
                Value::Struct(
                    fields
                        .map(|(name, value)| (name.clone(), self.mask(value)))
                        .collect(),
                )
            }
            other => other.clone(),
        }
    }

    fn replace(&mut self, api: &str, field: &str, value: Value) -> Value {
        match value {
            Value::List(items) => {
                let map = MAPS.iter().find(|it| (it.0, it.1) == (api, field));
                let items = items.into_iter().map(|item| {
                    let key = map.and_then(|(_, _, key)| item.field(key).cloned());
                    (key, self.replace(api, field, item))
                });
                let items: Vec<_> = items.collect();
                match map {
                    None => Value::List(items.into_iter().map(|(_, item)| item).collect()),
                    Some(_) => {
                        let named = items.into_iter().map(|(key, item)| match key {
                            Some(Value::Text(key)) => (key, item),
                            key => (key.map_or_else(String::new, |key| key.to_string()), item),
                        });
                        Value::Struct(named.collect())
                    }
                }
            }
            Value::Struct(fields) => {
                let fields = fields.into_iter().map(|(name, value)| {
                    let value = self.replace(api, &name, value);
                    (name, value)
                });
                Value::Struct(fields.collect())
            }
            Value::Uuid(id) if id != [0; 16] => Value::Text(self.symbol("uuid", base64(&id))),
            Value::Text(text) => Value::Text(self.replace_in_text(text)),
            Value::Number(number) => self.replace_number(api, field, number),
            other => other,
        }
    }

    fn replace_number(&mut self, api: &str, field: &str, number: i64) -> Value {
        let is_time = matches!(field, "Timestamp" | "LogAppendTimeMs");
        let symbol = match (api, field) {
            (_, "Port") if number == i64::from(self.port) => "{port}".to_owned(),
            (_, "ProducerId") if number >= 0 => self.symbol("producer", number.to_string()),
            ("Fetch", "SessionId") if number != 0 => self.symbol("session", number.to_string()),
            ("ApiVersions", "FinalizedFeaturesEpoch") if number > 0 => "{epoch}".to_owned(),
            _ if is_time && (number - now_ms()).abs() < NOW_MS => "{now}".to_owned(),
            _ => return Value::Number(number),
        };
        Value::Text(symbol)
    }

    fn replace_in_text(&mut self, text: String) -> String {
        let mut replaced = text.clone();
        for id in uuids(&text) {
            let symbol = self.symbol("id", id.clone());
            replaced = replaced.replace(&id, &symbol);
        }
        // A topic's id also stands in messages.
        for (value, symbol) in &self.known {
            if symbol.starts_with("{uuid") {
                replaced = replaced.replace(value, symbol);
            }
        }
        replaced
            .replace(&self.prefix, "@")
            .replace(&self.cluster_id, "{cluster}")
            .replace(&format!(":{}", self.port), ":{port}")
    }

    fn symbol(&mut self, kind: &'static str, value: String) -> String {
        let counts = &mut self.counts;
        let symbol = self.known.entry(value).or_insert_with(|| {
            let count = counts.entry(kind).or_default();
            *count += 1;
            format!("{{{kind} {count}}}")
        });
        symbol.clone()
    }
}

fn asks_for_everything(request: &Value) -> bool {
    matches!(request.field("Topics"), None | Some(Value::Null))
        || request.field("Topics") == Some(&Value::List(Vec::new()))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_millis() as i64
}

/// The parts of a text that are written as Java writes a UUID, which is how member ids end.
fn uuids(text: &str) -> Vec<String> {
    const LENGTH: usize = 36;
    let is_uuid = |part: &[u8]| {
        part.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(part) = text.as_bytes().get(at..at + LENGTH) {
        if is_uuid(part) {
            found.push(String::from_utf8_lossy(part).into_owned());
            at += LENGTH;
        } else {
            at += 1;
        }
    }
    found
}
