//! The log directories of the node: that of the metadata, and those that partitions are in. Cheap
//! to clone; may cross shards.
//!
//! They fail one by one: what is in the others is served on. Only without that of the metadata
//! nothing goes on.

use std::fmt;
use std::sync::Arc;

use super::directory::LogDirectory;
use crate::base::ids::Uuid;

/// All log directories that are there.
#[derive(Clone, Debug)]
pub struct LogDirectories {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// That of the metadata first.
    all: Vec<LogDirectory>,
    /// Whether the first one has partitions, too: `metadata.log.dir` may name one that has none.
    first_has_partitions: bool,
    /// Whether every directory that the node ever had is among them.
    is_complete: bool,
}

impl LogDirectories {
    /// `metadata` and the `others`. `is_complete` says that none is missing that the node knows.
    pub fn new(
        metadata: LogDirectory,
        others: Vec<LogDirectory>,
        first_has_partitions: bool,
        is_complete: bool,
    ) -> Self {
        let all = [metadata].into_iter().chain(others).collect();
        Self {
            state: Arc::new(State {
                all,
                first_has_partitions,
                is_complete,
            }),
        }
    }

    /// All of them, that of the metadata first.
    pub fn all(&self) -> &[LogDirectory] {
        &self.state.all
    }

    /// That of the metadata.
    pub fn first(&self) -> &LogDirectory {
        &self.state.all[0]
    }

    /// Those that partitions are in.
    pub fn of_partitions(&self) -> &[LogDirectory] {
        &self.state.all[usize::from(!self.state.first_has_partitions)..]
    }

    /// The ids of those that take partitions now.
    pub fn ids_in_service(&self) -> Vec<Uuid> {
        let working = self.of_partitions().iter();
        let working = working.filter(|directory| directory.failure().is_none());
        working.filter_map(LogDirectory::id).collect()
    }

    /// Whether all that the node ever had are there and work: what is in none of them is nowhere.
    pub fn are_complete(&self) -> bool {
        let works = |directory: &LogDirectory| directory.failure().is_none();
        self.state.is_complete && self.state.all.iter().all(works)
    }

    /// The place of one of them in their order.
    pub fn number_of(&self, directory: &LogDirectory) -> usize {
        let is_it = |each: &LogDirectory| each.is(directory);
        let number = self.all().iter().position(is_it);
        number.expect("it is one of these")
    }

    /// Whether `directory` has failed and the rest of the node goes on without it.
    pub fn have_lost(&self, directory: &LogDirectory) -> bool {
        directory.failure().is_some() && self.is_dispensable(directory)
    }

    /// Whether what is in `directory` may fail while the rest of the node goes on.
    pub fn is_dispensable(&self, directory: &LogDirectory) -> bool {
        !directory.is(self.first())
    }
}

/// Their paths, separated by commas, as in the settings.
impl fmt::Display for LogDirectories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, directory) in self.all().iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", directory.path().display())?;
        }
        Ok(())
    }
}

/// A directory that is the only one.
impl From<LogDirectory> for LogDirectories {
    fn from(only: LogDirectory) -> Self {
        Self::new(only, Vec::new(), true, true)
    }
}
