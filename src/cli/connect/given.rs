//! The properties of the client that the command line gives, in a file and by `-X`. Pure but for
//! reading the file; what the commands set by themselves is not here.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::CliError;

/// Names of librdkafka that mean the same property as another one: the library takes both, and
/// whichever comes last would count.
const ALIASES: [(&str, &str); 6] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("request.required.acks", "acks"),
    ("compression.codec", "compression.type"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("message.send.max.retries", "retries"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
];

/// Properties by the one name that each has here. What `-X` gives counts more than the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    properties: BTreeMap<String, String>,
}

impl Given {
    /// Reads the file, if there is one, and then what was given by `-X`.
    pub(super) fn read(file: Option<&Path>, by_x: &[(String, String)]) -> Result<Self, CliError> {
        let mut given = Self::default();
        if let Some(file) = file {
            given.read_file(file)?;
        }
        for (key, value) in by_x {
            given.set(key, value.clone());
        }
        Ok(given)
    }

    fn read_file(&mut self, file: &Path) -> Result<(), CliError> {
        let wrong = |why: &dyn std::fmt::Display| {
            CliError::Configuration(format!("--command-config {}: {why}", file.display()))
        };
        let text = std::fs::read(file).map_err(|error| wrong(&error))?;
        let mut properties = java_properties::PropertiesIter::new(&*text);
        let read = properties.read_into(|key, value| self.set(&key, value));
        read.map_err(|error| wrong(&error))
    }

    fn set(&mut self, key: &str, value: String) {
        let alias = ALIASES.iter().find(|(alias, _)| *alias == key);
        let key = alias.map_or(key, |(_, name)| name);
        self.properties.insert(key.to_owned(), value);
    }

    /// What was given for the property.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(String::as_str)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let properties = self.properties.iter();
        properties.map(|(key, value)| (key.as_str(), value.as_str()))
    }
}
