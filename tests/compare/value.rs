//! The value of a message or of one of its fields, with the names that Kafka's formats give them.

use std::fmt;

/// A field of any type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Uuid([u8; 16]),
    List(Vec<Value>),
    Struct(Vec<(String, Value)>),
}

impl Value {
    /// The value at `path`, such as `Members.0.MemberId`.
    pub fn at(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self, |value, step| match value {
            Self::List(items) => items.get(step.parse::<usize>().ok()?),
            Self::Struct(_) => value.field(step),
            _ => None,
        })
    }

    /// The field of a struct that is called `name`.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let Self::Struct(fields) = self else {
            return None;
        };
        let found = fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    /// Where `self` and `other` differ: the path, such as `Members[0].MemberId`, and both values. A
    /// field that one of them lacks is absent as a whole; of lists, what both have is compared,
    /// and their lengths.
    pub fn differences(&self, other: &Value) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        compare(String::new(), Some(self), Some(other), &mut found);
        found
    }
}

fn compare(
    path: String,
    one: Option<&Value>,
    other: Option<&Value>,
    found: &mut Vec<(String, String, String)>,
) {
    match (one, other) {
        (Some(Value::List(ones)), Some(Value::List(others))) => {
            if ones.len() != others.len() {
                let lengths = (ones.len().to_string(), others.len().to_string());
                found.push((format!("{path}.length"), lengths.0, lengths.1));
            }
            for (index, (one, other)) in ones.iter().zip(others).enumerate() {
                compare(format!("{path}[{index}]"), Some(one), Some(other), found);
            }
        }
        (Some(one @ Value::Struct(ones)), Some(other @ Value::Struct(others))) => {
            let only_other = others.iter().filter(|(name, _)| one.field(name).is_none());
            for (name, _) in ones.iter().chain(only_other) {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{name}");
                compare(path, one.field(name), other.field(name), found);
            }
        }
        (one, other) if one == other => {}
        (one, other) => {
            let text = |value: Option<&Value>| {
                value.map_or_else(|| "(absent)".to_owned(), Value::to_string)
            };
            found.push((path, text(one), text(other)));
        }
    }
}

/// As scripts and the table of differences write it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Bytes(value) => {
                f.write_str("x\"")?;
                value.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("\"")
            }
            Self::Uuid(value) => write!(f, "{:?}", base64(value)),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str("]")
            }
            Self::Struct(fields) => {
                f.write_str("{")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{name}: {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

/// A topic's id as Kafka prints it: URL-safe base64 of 22 characters.
pub fn base64(id: &[u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // Shifted so that the last digit's four missing bits are zero.
    let bits = u128::from_be_bytes(*id);
    (0..22)
        .map(|digit| {
            let end = 6 * (digit + 1);
            let six = if end <= 128 {
                bits >> (128 - end)
            } else {
                bits << (end - 128)
            };
            char::from(DIGITS[(six & 63) as usize])
        })
        .collect()
}
