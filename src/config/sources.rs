//! Gathers what was given at start: flags, environment, `server.properties`. Runs once, before any
//! shard starts; the one file here that reads a file.
//!
//! A flag counts more than the environment, the environment more than the file, the file more than
//! the default.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use java_properties::PropertiesIter;

use super::ConfigError;
use super::describe::listener_base;
use super::layers::Values;
use super::registry::{Settings, State};

/// Before every setting that is not one of Kafka's.
const OUR_KEYS: &str = "millrace.";

/// Before every variable of the environment that sets something.
const PREFIX: &str = "MILLRACE_";

/// Variables with our prefix that are no settings: the log filter, which must count before any
/// setting is read.
const NOT_SETTINGS: [&str; 2] = ["MILLRACE_BOOTSTRAP_SERVER", "MILLRACE_LOG"];

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By `--override`.
    Flag,
    /// By this variable of the environment.
    Environment(String),
    /// In this file.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--override"),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What was given at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The value of each key that counts.
    pub values: Values,
    /// Where each of them was given.
    pub origins: BTreeMap<String, Origin>,
    /// Variables of the environment that have our prefix and set nothing. Others put such into a
    /// container for reasons of their own.
    pub unknown_variables: Vec<String>,
}

/// Why the sources could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is not in the form of Java's properties.
    #[error("the configuration file {path} is not a properties file: {error}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which line.
        error: String,
    },
}

impl Given {
    /// Gathers the sources. `overrides` stand in the order of the command line: the last counts.
    pub fn gather(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SourceError> {
        let mut given = Self::default();
        if let Some(path) = file {
            for (key, value) in read_properties(path)? {
                given.set(key, value, Origin::File(path.to_owned()));
            }
        }
        let keys = environment_names();
        for (name, value) in environment {
            if let Some(key) = keys.get(&name) {
                given.set((*key).to_owned(), value, Origin::Environment(name));
            } else if name.starts_with(PREFIX) && !NOT_SETTINGS.contains(&name.as_str()) {
                given.unknown_variables.push(name);
            }
        }
        for (key, value) in overrides {
            given.set(key, value, Origin::Flag);
        }
        Ok(given)
    }

    fn set(&mut self, key: String, value: String, origin: Origin) {
        self.origins.insert(key.clone(), origin);
        self.values.insert(key, value);
    }

    /// The keys that are no setting, each with the one that may have been meant.
    pub fn unknown(&self) -> Vec<(&str, Option<&'static str>)> {
        self.values
            .keys()
            .filter(|key| !is_known(key))
            .map(|key| (key.as_str(), nearest(key)))
            .collect()
    }

    /// The unknown variables, each with the one that may have been meant.
    pub fn unknown_variables(&self) -> Vec<(&str, Option<String>)> {
        let keys = environment_names();
        self.unknown_variables
            .iter()
            .map(|name| {
                (
                    name.as_str(),
                    nearest_of(name, keys.keys().map(String::as_str)),
                )
            })
            .map(|(name, nearest)| (name, nearest.map(str::to_owned)))
            .collect()
    }

    /// Tells why a key under our own prefix that is no setting is refused. Nobody else reads it, so
    /// it is misspelt, and what it was to protect would silently not be.
    pub fn explain_unknown_of_ours(&self) -> Option<String> {
        let of_ours = |(key, _): &(&str, _)| key.starts_with(OUR_KEYS);
        let (key, nearest) = self.unknown().into_iter().find(of_ours)?;
        let (value, origin) = (self.values.get(key)?, self.origins.get(key)?);
        let meant = nearest.map_or_else(String::new, |key| format!(": did you mean {key}?"));
        Some(format!(
            "{key}={value} (from {origin}): Millrace has no such setting{meant}"
        ))
    }

    /// The settings that were given and change nothing in this version.
    pub fn without_effect(&self) -> Vec<&str> {
        let kept = |key: &&String| {
            let setting = Settings::broker().get(key);
            setting.is_some_and(|setting| setting.state == State::Kept)
        };
        self.values
            .keys()
            .filter(kept)
            .map(String::as_str)
            .collect()
    }

    /// Tells a person what is wrong: the key, its value and where it was given, and what is
    /// allowed. Secrets stay secret.
    pub fn explain(&self, error: &ConfigError) -> String {
        let Some(key) = error.key() else {
            return error.to_string();
        };
        let setting = Settings::broker().get(key);
        let (Some(value), Some(origin)) = (self.values.get(key), self.origins.get(key)) else {
            return error.to_string();
        };
        let reason = error.reason(value);
        let Some(setting) = setting else {
            return format!("{key}={value} (from {origin}): {reason}");
        };
        if setting.is_sensitive() {
            return format!("{key} (from {origin}) is not allowed: {}", setting.allows());
        }
        let told = format!("{key}={value} (from {origin}): {reason}");
        match error {
            ConfigError::Unsupported { .. } => told,
            _ => format!(
                "{}. Allowed: {}",
                told.trim_end_matches('.'),
                setting.allows()
            ),
        }
    }
}

/// A key that the table holds, by itself or behind a listener's prefix.
fn is_known(key: &str) -> bool {
    let settings = Settings::broker();
    settings.get(key).is_some()
        || listener_base(key).is_some_and(|base| settings.get(base).is_some())
}

/// The variable that sets `key`: upper case, dots as underscores, and our prefix once.
pub fn environment_name(key: &str) -> String {
    let key = key.strip_prefix(OUR_KEYS).unwrap_or(key);
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "_"))
}

fn environment_names() -> BTreeMap<String, &'static str> {
    let settings = Settings::broker().iter();
    settings
        .map(|setting| (environment_name(setting.key), setting.key))
        .collect()
}

fn read_properties(path: &Path) -> Result<Values, SourceError> {
    let unreadable = |error| SourceError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let bytes = fs::read(path).map_err(unreadable)?;
    parse_properties(&bytes).map_err(|error| SourceError::Malformed {
        path: path.to_owned(),
        error,
    })
}

/// The keys and values of a file in the form of Java's properties, or what is wrong with it.
pub(crate) fn parse_properties(bytes: &[u8]) -> Result<Values, String> {
    // The parser would take the rest for what a mark at its start says, and panics where the file
    // ends in the middle of a letter, or of a mark.
    const UTF_8_MARK: &[u8] = b"\xef\xbb\xbf";
    const MARKS: [&[u8]; 3] = [UTF_8_MARK, b"\xfe\xff", b"\xff\xfe"];
    let bytes = bytes.strip_prefix(UTF_8_MARK).unwrap_or(bytes);
    if MARKS.iter().any(|mark| bytes.starts_with(mark)) {
        return Err("it begins with a byte order mark: save it as plain text".to_owned());
    }
    let mut values = Values::new();
    let mut add = |key, value| drop(values.insert(key, value));
    let with_an_end = bytes.chain(&b"\n"[..]);
    let read = PropertiesIter::new(with_an_end).read_into(&mut add);
    read.map_err(|error| error.to_string())?;
    Ok(values)
}

/// The known key that may have been meant by `key`.
fn nearest(key: &str) -> Option<&'static str> {
    nearest_of(key, Settings::broker().iter().map(|setting| setting.key))
}

/// The one of `known` that differs from `name` by the fewest letters, if few differ.
fn nearest_of<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LETTERS_MAX: usize = 2;
    // Lengths that differ by more need no closer look.
    let is_near = |known: &&str| name.len().abs_diff(known.len()) <= 4 * LETTERS_MAX;
    known
        .filter(is_near)
        .map(|known| (distance(name, known), known))
        .filter(|(distance, _)| *distance <= LETTERS_MAX)
        .min()
        .map(|(_, known)| known)
}

/// How many letters must be added, dropped or changed to turn one text into the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, compared) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *compared);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
