//! `millrace groups`: list, describe, reset-offsets, delete.

mod describe;
mod list;
mod reset;

use super::CliError;

/// What to do with consumer groups.
#[derive(Debug, clap::Subcommand)]
pub enum Groups {
    /// List the consumer groups
    List(list::List),
    /// Show where groups are in their topics, how far behind, and their members
    Describe(describe::Describe),
    /// Move where a group reads on; without --execute it only shows what would be
    ResetOffsets(reset::ResetOffsets),
    /// Delete groups without members, with their offsets
    Delete(list::Delete),
}

impl Groups {
    pub(super) fn run(&self) -> Result<(), CliError> {
        match self {
            Self::List(list) => list.run(),
            Self::Describe(describe) => describe.run(),
            Self::ResetOffsets(reset) => reset.run(),
            Self::Delete(delete) => delete.run(),
        }
    }
}
