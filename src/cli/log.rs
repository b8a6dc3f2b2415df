//! `millrace log`: what is done with the files of a log.

use super::CliError;
use super::dump::Dump;
use super::repair::Repair;
use super::verify::Verify;

/// What to do with the files of a log.
#[derive(Debug, clap::Subcommand)]
pub enum Log {
    /// Print the batches of segments, and their records
    Dump(Dump),
    /// Check that files are as they were written; no broker may run on them
    Verify(Verify),
    /// Put right what the check has found, as far as it can be; first it is only said
    Repair(Repair),
}

impl Log {
    pub(super) fn run(&self) -> Result<(), CliError> {
        match self {
            Self::Dump(dump) => dump.run(),
            Self::Verify(verify) => verify.run(),
            Self::Repair(repair) => repair.run(),
        }
    }
}
