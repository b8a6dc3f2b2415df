//! The process: command line, logs, signals, the checks of its surroundings, start and stop.
//!
//! May use every room; none uses it. It runs on the main thread and on two small ones beside the
//! shards: one waits for signals, one watches the deadline of a stop.
//!
//! What must stay true:
//! - everything that can be known to be wrong is found before the first shard starts, and each
//!   message says what to do about it;
//! - a start that fails leaves nothing behind: no half-written `meta.properties`, no held port;
//! - the process ends with one of the codes of [`Exit`]; a panic in any thread ends it at once.

pub mod boot;
mod cli;
mod directories;
mod directory;
mod due;
mod last_run;
mod listeners;
mod log_threads;
mod logging;
mod machine;
mod plan;
mod run;
mod scrub;
mod serve;
mod service;
mod signals;

#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Instant;

pub use boot::{BootError, Prepared};
pub use directories::DataDirectories;
pub use directory::{DataDirectory, DirectoryError};
pub use listeners::{ListenError, ReservedListener};
pub use run::run;
pub use signals::StopRequest;

use crate::cli::CliError;
use cli::Command;
use signals::Signals;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to stop, and did.
    Clean = 0,
    /// It failed, and may succeed when it is started again.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Files are damaged that were to be checked.
    Damaged = 3,
    /// A file or directory could not be read or written.
    Io = 74,
    /// The configuration or the surroundings are wrong: starting again does not help.
    Configuration = 78,
}

impl From<&CliError> for Exit {
    fn from(error: &CliError) -> Self {
        match error {
            CliError::Usage(_) => Self::Usage,
            CliError::Configuration(_) => Self::Configuration,
            CliError::Io { .. } => Self::Io,
            CliError::Damaged(_) => Self::Damaged,
            CliError::PipeClosed => Self::Clean,
            CliError::Unreachable { .. } | CliError::Failed(_) | CliError::Partly { .. } => {
                Self::Failure
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Runs the program: what `main` is.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(told) => return told.print(),
    };
    match command {
        Command::Start(arguments) => start(arguments, started),
        Command::Client(command) => client(*command),
    }
}

/// Runs a command beside the broker. No log is set up and no signal blocked for it: it tells what
/// there is to tell by itself.
fn client(command: crate::cli::Command) -> ExitCode {
    match crate::cli::run(command, cli::program()) {
        Ok(()) => Exit::Clean.into(),
        Err(error) => {
            // With standard error closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "millrace: {error}");
            Exit::from(&error).into()
        }
    }
}

fn start(arguments: cli::StartArguments, started: Instant) -> ExitCode {
    // Before any thread exists: they all inherit that these signals are blocked.
    let signals = Signals::block();
    if let Err(error) = logging::install(arguments.log_format.unwrap_or_default()) {
        return logging::fail(Exit::Configuration, &error);
    }
    logging::install_panic_hook();
    let stop = match signals.watch() {
        Ok(stop) => stop,
        Err(error) => return logging::fail(Exit::Failure, &error),
    };
    let ended = boot::gather(&arguments.config, arguments.overrides)
        .and_then(|given| boot::prepare(&given, started));
    let prepared = match ended {
        Ok(prepared) => prepared,
        Err(error) => return logging::fail(error.exit(), &error),
    };
    match run(prepared, &stop) {
        Ok(()) => {
            tracing::info!("stopped cleanly");
            Exit::Clean.into()
        }
        Err(error) => logging::fail(error.exit(), &error),
    }
}
