//! A record as JSON has it, the same for what is produced, consumed and dumped. Pure.
//!
//! Keys, values and header values are bytes. They are strings where they are UTF-8, otherwise
//! `{"base64": "..."}`; none is null.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

/// Bytes in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, expecting = "it is a string, null, or {\"base64\": \"...\"}")]
pub(super) enum Data<'a> {
    /// Bytes that are UTF-8.
    Text(Cow<'a, str>),
    /// Any others.
    Binary {
        /// In base64, with padding.
        base64: String,
    },
}

impl<'a> Data<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(Cow::Borrowed(text)),
            Err(_) => Self::Binary {
                base64: BASE64_STANDARD.encode(bytes),
            },
        }
    }

    pub(super) fn into_bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_owned().into_bytes()),
            Self::Binary { base64 } => {
                let bytes = BASE64_STANDARD.decode(base64);
                bytes.map_err(|error| format!("base64: {error}"))
            }
        }
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RecordRead<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partition: Option<i32>,
    pub(super) offset: i64,
    /// In milliseconds since the epoch; none where the record has none.
    pub(super) timestamp: Option<i64>,
    pub(super) key: Option<Data<'a>>,
    pub(super) value: Option<Data<'a>>,
    /// In their order, since a name may come again.
    pub(super) headers: Vec<(Cow<'a, str>, Option<Data<'a>>)>,
}

/// A record to be written. What `consume --json` prints can be written again; any other field is a
/// misspelt one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordToProduce {
    /// Where it was read, which says nothing about where it is written.
    #[serde(default, rename = "topic")]
    _topic: IgnoredAny,
    #[serde(default, rename = "offset")]
    _offset: IgnoredAny,
    #[serde(default, deserialize_with = "key")]
    pub(super) key: Option<Data<'static>>,
    /// Null is a tombstone; it must be said, so that a misspelt name does not make one.
    #[serde(deserialize_with = "value")]
    pub(super) value: Option<Data<'static>>,
    #[serde(default, deserialize_with = "headers")]
    pub(super) headers: Headers,
    #[serde(default, deserialize_with = "timestamp")]
    pub(super) timestamp: Option<i64>,
    #[serde(default, deserialize_with = "partition")]
    pub(super) partition: Option<i32>,
}

/// Names and values, in their order.
type Headers = Vec<(String, Option<Data<'static>>)>;

/// Defines how the fields are read, each of which is named by its errors.
macro_rules! named {
    ($($field:ident: $type:ty),*) => {$(
        fn $field<'d, D: Deserializer<'d>>(from: D) -> Result<$type, D::Error> {
            let read = <$type>::deserialize(from);
            read.map_err(|error| D::Error::custom(format_args!("{}: {error}", stringify!($field))))
        }
    )*};
}

named! {
    key: Option<Data<'static>>, value: Option<Data<'static>>, headers: Headers,
    timestamp: Option<i64>, partition: Option<i32>
}

impl RecordToProduce {
    /// Reads a line. What is wrong with it is told with its column; whoever has the lines counts
    /// them.
    pub(super) fn read(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| {
            let told = error.to_string();
            let position = format!(" at line {} column {}", error.line(), error.column());
            match told.strip_suffix(&position) {
                Some(why) => format!("{why} (column {})", error.column()),
                None => told,
            }
        })
    }
}
