//! What a topic may be called, and which names belong to the broker itself. Pure; any shard.

use std::fmt;

/// The log of the metadata itself. Never a topic of the image.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";
/// The topic in which groups are kept.
pub const GROUP_METADATA: &str = "__consumer_offsets";
/// The topic in which transactions are kept.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// The topic in which share groups are kept.
pub const SHARE_GROUP_STATE: &str = "__share_group_state";

/// The longest name, in UTF-16 units as Kafka counts: with a partition's number behind it, the name
/// of a directory still fits in 255 bytes.
const NAME_LENGTH_MAX: usize = 249;

/// Why a name is no topic's. Prints Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Topic name is invalid: {0}")]
pub struct InvalidTopicName(InvalidReason);

#[derive(Clone, Debug, PartialEq, Eq)]
enum InvalidReason {
    Empty,
    Dots(&'static str),
    Long(String),
    Characters(String),
}

impl fmt::Display for InvalidReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the empty string is not allowed"),
            Self::Dots(name) => write!(f, "'{name}' is not allowed"),
            Self::Long(name) => write!(
                f,
                "the length of '{name}' is longer than the max allowed length {NAME_LENGTH_MAX}"
            ),
            Self::Characters(name) => write!(
                f,
                "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' \
                 and '-'"
            ),
        }
    }
}

/// Checks a name as Kafka's `Topic.validate` does.
///
/// # Errors
/// The first rule that it breaks.
pub fn validate(name: &str) -> Result<(), InvalidTopicName> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let reason = match name {
        "" => InvalidReason::Empty,
        "." => InvalidReason::Dots("."),
        ".." => InvalidReason::Dots(".."),
        _ if name.encode_utf16().count() > NAME_LENGTH_MAX => InvalidReason::Long(name.to_owned()),
        _ if !name.chars().all(allowed) => InvalidReason::Characters(name.to_owned()),
        _ => return Ok(()),
    };
    Err(InvalidTopicName(reason))
}

/// Whether the topic is the broker's own, as Metadata answers it.
pub fn is_internal(name: &str) -> bool {
    matches!(name, GROUP_METADATA | TRANSACTION_STATE | SHARE_GROUP_STATE)
}

/// The name under which it collides with others in the names of metrics, where `.` and `_` are the
/// same; `None` if it has neither.
pub fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_in_kafkas_order_and_words() {
        let longest = "x".repeat(NAME_LENGTH_MAX);
        let cases = [
            ("a", None),
            ("A.b_c-9", None),
            ("...", None),
            (longest.as_str(), None),
            ("", Some("the empty string is not allowed")),
            (".", Some("'.' is not allowed")),
            ("..", Some("'..' is not allowed")),
            (
                "a b",
                Some(
                    "'a b' contains one or more characters other than ASCII alphanumerics, '.', \
                     '_' and '-'",
                ),
            ),
            (
                "é",
                Some(
                    "'é' contains one or more characters other than ASCII alphanumerics, '.', '_' \
                     and '-'",
                ),
            ),
        ];
        for (name, reason) in cases {
            let expected = reason.map(|reason| format!("Topic name is invalid: {reason}"));
            let found = validate(name).err().map(|error| error.to_string());
            assert_eq!(found, expected, "{name:?}");
        }
        let long = "é".repeat(NAME_LENGTH_MAX + 1);
        let found = validate(&long).expect_err("too long").to_string();
        assert!(found.ends_with("is longer than the max allowed length 249"));
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert_eq!(collision_key("a.b_c").as_deref(), Some("a_b_c"));
        assert_eq!(collision_key("a-b"), None);
    }
}
