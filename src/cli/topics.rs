//! `millrace topics`: list, describe, create, add-partitions, delete.

mod change;
mod show;

use super::CliError;

/// What to do with topics.
#[derive(Debug, clap::Subcommand)]
pub enum Topics {
    /// List the topics
    List(show::List),
    /// Show partitions, replicas, offsets and settings of topics
    Describe(show::Describe),
    /// Create topics
    Create(change::Create),
    /// Give a topic more partitions
    AddPartitions(change::AddPartitions),
    /// Delete topics with all their records
    Delete(change::Delete),
}

impl Topics {
    pub(super) fn run(&self) -> Result<(), CliError> {
        match self {
            Self::List(list) => list.run(),
            Self::Describe(describe) => describe.run(),
            Self::Create(create) => create.run(),
            Self::AddPartitions(add) => add.run(),
            Self::Delete(delete) => delete.run(),
        }
    }
}
