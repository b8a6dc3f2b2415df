//! Values of settings: their types, what is allowed, and how Kafka writes them. Any shard; pure.
//!
//! Nothing here knows a single setting: the facts stand in the tables that `registry` reads.

use std::fmt;

use super::ConfigError;

/// The type of a setting, as DescribeConfigs names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text without white space around it.
    String,
    /// A 32-bit integer.
    Int,
    /// A 16-bit integer.
    Short,
    /// A 64-bit integer.
    Long,
    /// A floating-point number.
    Double,
    /// Texts separated by commas.
    List,
    /// The name of a Java class: kept as text, never loaded.
    Class,
    /// A secret: never shown.
    Password,
}

impl Kind {
    /// The id of the type in a DescribeConfigs response (KIP-569); 0 stands for an unknown one.
    pub fn id(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    /// Kafka's name of the type, as its messages and the tables write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        const ALL: [Kind; 9] = [
            Kind::Boolean,
            Kind::String,
            Kind::Int,
            Kind::Short,
            Kind::Long,
            Kind::Double,
            Kind::List,
            Kind::Class,
            Kind::Password,
        ];
        ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Reads `text` as a value of this type, without looking at what the setting allows.
    pub(super) fn read(self, key: &str, text: &str) -> Result<Value, ConfigError> {
        let trimmed = trim(text);
        let invalid = |reason: &str| ConfigError::InvalidValue {
            key: key.to_owned(),
            value: text.to_owned(),
            reason: reason.to_owned(),
        };
        let not_a_number = || invalid(&format!("Not a number of type {}", self.name()));
        match self {
            Self::Boolean if trimmed.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            Self::Boolean if trimmed.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
            Self::Boolean => Err(invalid("Expected value to be either true or false")),
            Self::Int | Self::Short | Self::Long => {
                let number: i64 = trimmed.parse().map_err(|_| not_a_number())?;
                let fits = match self {
                    Self::Int => i32::try_from(number).is_ok(),
                    Self::Short => i16::try_from(number).is_ok(),
                    _ => true,
                };
                fits.then_some(Value::Integer(number))
                    .ok_or_else(not_a_number)
            }
            Self::Double => {
                let number: Option<f64> = trimmed.parse().ok();
                number
                    .filter(|number| number.is_finite())
                    .map(Value::Double)
                    .ok_or_else(not_a_number)
            }
            Self::List if trimmed.is_empty() => Ok(Value::List(Vec::new())),
            Self::List => Ok(Value::List(
                trimmed
                    .split(',')
                    .map(|part| trim(part).to_owned())
                    .collect(),
            )),
            Self::String | Self::Class | Self::Password => Ok(Value::Text(trimmed.to_owned())),
        }
    }
}

/// White space is every character up to the space, as in Java's `String.trim`.
fn trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// A value that was read and found allowed. It prints as Kafka prints it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a boolean setting.
    Boolean(bool),
    /// Of a short, int or long setting; it fits the setting's type.
    Integer(i64),
    /// Of a double setting; finite.
    Double(f64),
    /// Of a string, class or password setting.
    Text(String),
    /// Of a list setting.
    List(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Double(value) => f.write_str(&java_double(*value)),
            Self::Text(value) => f.write_str(value),
            Self::List(values) => f.write_str(&values.join(",")),
        }
    }
}

/// A finite double as `Double.toString` writes it, since clients compare the text: `0.5`, `1.0`,
/// `1.0E10`.
fn java_double(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let scientific = format!("{value:E}");
    match scientific.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => scientific,
    }
}

/// What a setting allows beyond its type. The tables write it as the text in each comment.
#[derive(Clone, Debug, PartialEq)]
pub enum Allowed {
    /// `-`: every value of the type.
    Any,
    /// `A..B` or `A..`: numbers from the first to the second, both included.
    Range(f64, Option<f64>),
    /// `-1|1..9`: one number, or the numbers of a range.
    OneOr(i64, i64, i64),
    /// `text`: any text but an empty one.
    NonEmpty,
    /// `one:a,b`: one of these texts.
    OneOf(Vec<&'static str>),
    /// `any-case:A,B`: one of these texts in any case.
    AnyCase(Vec<&'static str>),
    /// `set`: a list without empty or repeated elements. `set+`: not empty either. With `:a,b`:
    /// only these elements.
    Set {
        /// Whether the list may be empty.
        empty: bool,
        /// The elements that are allowed; any, when there are none.
        of: Vec<&'static str>,
    },
    /// `throttled`: `*`, or replicas as `partition:broker`.
    ThrottledReplicas,
    /// `voters`: controllers as `id@host:port`.
    Voters,
    /// `endpoints`: addresses as `host:port`.
    Endpoints,
}

impl Allowed {
    pub(super) fn from_table(text: &'static str) -> Option<Self> {
        let words = |list: &'static str| list.split(',').collect::<Vec<_>>();
        if let Some(list) = text.strip_prefix("one:") {
            return Some(Self::OneOf(words(list)));
        }
        if let Some(list) = text.strip_prefix("any-case:") {
            return Some(Self::AnyCase(words(list)));
        }
        if let Some(rest) = text.strip_prefix("set") {
            let (empty, rest) = match rest.strip_prefix('+') {
                Some(rest) => (false, rest),
                None => (true, rest),
            };
            let of = rest.strip_prefix(':').map(words).unwrap_or_default();
            return Some(Self::Set { empty, of });
        }
        match text {
            "-" => return Some(Self::Any),
            "text" => return Some(Self::NonEmpty),
            "throttled" => return Some(Self::ThrottledReplicas),
            "voters" => return Some(Self::Voters),
            "endpoints" => return Some(Self::Endpoints),
            _ => {}
        }
        let (one, range) = match text.split_once('|') {
            Some((one, range)) => (Some(one.parse().ok()?), range),
            None => (None, text),
        };
        let (low, high) = range.split_once("..")?;
        match one {
            Some(one) => Some(Self::OneOr(one, low.parse().ok()?, high.parse().ok()?)),
            None => Some(Self::Range(
                low.parse().ok()?,
                match high {
                    "" => None,
                    high => Some(high.parse().ok()?),
                },
            )),
        }
    }

    /// Refuses a value that is not allowed, in Kafka's words, which its clients show to people.
    pub(super) fn check(&self, key: &str, value: &Value) -> Result<(), ConfigError> {
        let refuse = |shown: String, reason: String| {
            Err(ConfigError::InvalidValue {
                key: key.to_owned(),
                value: shown,
                reason,
            })
        };
        let one_of = |text: &str, of: &[&str]| {
            if of.contains(&text) {
                return Ok(());
            }
            let reason = format!("String must be one of: {}", of.join(", "));
            refuse(text.to_owned(), reason)
        };
        match (self, value) {
            (Self::Any, _) => Ok(()),
            (Self::Range(low, high), Value::Integer(_) | Value::Double(_)) => {
                let number = match value {
                    Value::Integer(number) => *number as f64,
                    Value::Double(number) => *number,
                    _ => unreachable!("the pattern admits numbers alone"),
                };
                if number < *low {
                    refuse(value.to_string(), format!("Value must be at least {low}"))
                } else if let Some(high) = high.filter(|high| number > *high) {
                    let reason = format!("Value must be no more than {high}");
                    refuse(value.to_string(), reason)
                } else {
                    Ok(())
                }
            }
            (Self::OneOr(one, low, high), Value::Integer(number)) => {
                if number == one || (low..=high).contains(&number) {
                    return Ok(());
                }
                let reason = format!("Value must be between {low} and {high} or equal to {one}");
                refuse(value.to_string(), reason)
            }
            (Self::NonEmpty, Value::Text(text)) if text.is_empty() => {
                refuse(String::new(), "String must be non-empty".to_owned())
            }
            (Self::NonEmpty, Value::Text(_)) => Ok(()),
            (Self::OneOf(of), Value::Text(text)) => one_of(text, of),
            (Self::AnyCase(of), Value::Text(text)) => {
                if of.iter().any(|known| known.eq_ignore_ascii_case(text)) {
                    return Ok(());
                }
                let list = of.join(", ");
                let reason = format!("String must be one of (case insensitive): {list}");
                refuse(text.clone(), reason)
            }
            (Self::Set { empty, of }, Value::List(list)) => check_set(key, list, *empty, of),
            (Self::ThrottledReplicas, Value::List(list)) => check_throttled(key, list),
            (Self::Voters, Value::List(list)) => check_each(key, list, "{id}@{host}:{port}", |v| {
                v.split_once('@')
                    .is_some_and(|(id, rest)| id.parse::<u32>().is_ok() && is_endpoint(rest))
            }),
            (Self::Endpoints, Value::List(list)) => {
                check_each(key, list, "{host}:{port}", is_endpoint)
            }
            _ => unreachable!("the tables pair {self:?} with its own type, which a test holds"),
        }
    }
}

/// Says what is allowed, for a person.
impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any value of its type"),
            Self::Range(low, None) => write!(f, "at least {low}"),
            Self::Range(low, Some(high)) => write!(f, "{low} to {high}"),
            Self::OneOr(one, low, high) => write!(f, "{one}, or {low} to {high}"),
            Self::NonEmpty => f.write_str("a text that is not empty"),
            Self::OneOf(of) => write!(f, "one of {}", of.join(", ")),
            Self::AnyCase(of) => write!(f, "one of {}, in any case", of.join(", ")),
            Self::Set { empty, of } => {
                let least = if *empty { "" } else { ", one at least" };
                match of.as_slice() {
                    [] => write!(f, "a list without repeats or empty elements{least}"),
                    of => write!(f, "a list of {} without repeats{least}", of.join(", ")),
                }
            }
            Self::ThrottledReplicas => f.write_str("* or a list of partition:broker"),
            Self::Voters => f.write_str("a list of id@host:port"),
            Self::Endpoints => f.write_str("a list of host:port"),
        }
    }
}

fn check_set(key: &str, list: &[String], empty: bool, of: &[&str]) -> Result<(), ConfigError> {
    let key = || key.to_owned();
    if list.is_empty() && !empty {
        let allowed = match of {
            [] => "any non-empty value".to_owned(),
            of => format!("[{}]", of.join(", ")),
        };
        return Err(ConfigError::EmptyList {
            key: key(),
            allowed,
        });
    }
    let mut sorted: Vec<_> = list.iter().collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(ConfigError::RepeatedElement { key: key() });
    }
    for element in list {
        if of.is_empty() && element.is_empty() {
            return Err(ConfigError::EmptyElement { key: key() });
        }
        if !of.is_empty() && !of.contains(&element.as_str()) {
            return Err(ConfigError::InvalidValue {
                key: key(),
                value: element.clone(),
                reason: format!("String must be one of: {}", of.join(", ")),
            });
        }
    }
    Ok(())
}

fn check_throttled(key: &str, list: &[String]) -> Result<(), ConfigError> {
    let is_replica = |element: &String| {
        element.split_once(':').is_some_and(|(partition, broker)| {
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits(partition) && digits(broker)
        })
    };
    // Kafka overlooks empty elements at the end of this list, and so do we.
    let end = list.iter().rposition(|element| !element.is_empty());
    let list = &list[..end.map_or(0, |end| end + 1)];
    if list == ["*"] || list.iter().all(is_replica) {
        return Ok(());
    }
    Err(ConfigError::InvalidValue {
        key: key.to_owned(),
        value: format!("[{}]", list.join(", ")),
        reason: format!(
            "{key} must be the literal '*' or a list of replicas in the following format: \
             [partitionId]:[brokerId],[partitionId]:[brokerId],..."
        ),
    })
}

fn check_each(
    key: &str,
    list: &[String],
    form: &str,
    holds: impl Fn(&str) -> bool,
) -> Result<(), ConfigError> {
    match list.iter().find(|element| !holds(element)) {
        None => Ok(()),
        Some(element) => Err(ConfigError::InvalidValue {
            key: key.to_owned(),
            value: element.clone(),
            reason: format!("Each entry should be in the form `{form}`."),
        }),
    }
}

fn is_endpoint(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}
