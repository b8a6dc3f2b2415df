//! Reads settings into the types of Rust. Any shard; pure.
//!
//! Which value counts is decided elsewhere: this only turns it into a number, a text or a list.
//! Where it panics, the tables contradict the code, which the room's tests hold.

use super::ConfigError;
use super::value::Value;

/// Looks up the value that counts for a key; `None` where that is null.
pub(super) type Lookup<'a> = dyn Fn(&str) -> Result<Option<Value>, ConfigError> + 'a;

/// Typed access to the values that a lookup finds.
pub(super) struct Read<'a>(pub(super) &'a Lookup<'a>);

impl Read<'_> {
    fn present(&self, key: &str) -> Result<Value, ConfigError> {
        let value = (self.0)(key)?;
        Ok(value.unwrap_or_else(|| panic!("'{key}' always has a value")))
    }

    /// Any integer.
    pub(super) fn integer(&self, key: &str) -> Result<i64, ConfigError> {
        match self.present(key)? {
            Value::Integer(number) => Ok(number),
            value => panic!("'{key}' is an integer, not {value}"),
        }
    }

    /// An integer, or nothing where the setting is null.
    pub(super) fn optional_integer(&self, key: &str) -> Result<Option<i64>, ConfigError> {
        match (self.0)(key)? {
            None => Ok(None),
            Some(Value::Integer(number)) => Ok(Some(number)),
            Some(value) => panic!("'{key}' is an integer, not {value}"),
        }
    }

    /// A size or count of at most 31 bits; where Kafka lets it be negative, 0 stands for that.
    pub(super) fn size(&self, key: &str) -> Result<u32, ConfigError> {
        let number = self.integer(key)?.max(0);
        Ok(u32::try_from(number).unwrap_or_else(|_| panic!("'{key}' has more than 31 bits")))
    }

    /// A time or count; where Kafka lets it be negative, 0 stands for that.
    pub(super) fn long(&self, key: &str) -> Result<u64, ConfigError> {
        Ok(self.integer(key)?.max(0) as u64)
    }

    /// A time or size that is unlimited where it is negative.
    pub(super) fn limit(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        Ok(u64::try_from(self.integer(key)?).ok())
    }

    pub(super) fn boolean(&self, key: &str) -> Result<bool, ConfigError> {
        match self.present(key)? {
            Value::Boolean(value) => Ok(value),
            value => panic!("'{key}' is a boolean, not {value}"),
        }
    }

    pub(super) fn double(&self, key: &str) -> Result<f64, ConfigError> {
        match self.present(key)? {
            Value::Double(value) => Ok(value),
            value => panic!("'{key}' is a double, not {value}"),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<String, ConfigError> {
        Ok(self.present(key)?.to_string())
    }

    /// A text, or nothing where the setting is null or empty.
    pub(super) fn optional_text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        let value = (self.0)(key)?;
        Ok(value
            .map(|value| value.to_string())
            .filter(|text| !text.is_empty()))
    }

    /// The elements of a list; none where the setting is null.
    pub(super) fn list(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        match (self.0)(key)? {
            None => Ok(Vec::new()),
            Some(Value::List(values)) => Ok(values),
            Some(value) => panic!("'{key}' is a list, not {value}"),
        }
    }
}
