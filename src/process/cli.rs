//! The command line. Pure: it parses, and tells what `--help` and `--version` tell.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::Exit;

const AFTER_HELP: &str = "\
Settings have Kafka's names. A flag counts more than the environment, the environment more than \
the file, the file more than the default. In the environment a setting is written with MILLRACE_ \
in front, in upper case, with underscores for dots: MILLRACE_NUM_PARTITIONS=3.

MILLRACE_LOG filters the log: error, warn, info (the default), debug, or module=level by comma.

Exit codes: 0 stopped cleanly, 1 failure, 2 wrong command line, 74 input or output, \
78 configuration or surroundings.";

#[derive(Debug, Parser)]
#[command(
    name = "millrace",
    version,
    about = "An event streaming broker that speaks the Kafka protocol",
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Subcommands>,
    #[command(flatten)]
    start: StartArguments,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Start the broker; without a command the same
    Start(StartArguments),
}

/// What `start` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct StartArguments {
    /// A server.properties, as Kafka has it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Set one setting; may be given again
    #[arg(long = "override", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(super) overrides: Vec<(String, String)>,
    /// How the log is written to standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// A line of text an event
    #[default]
    Plain,
    /// A JSON object an event, one a line
    Json,
}

/// What the process is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Run the broker.
    Start(StartArguments),
}

/// Help, the version, or what is wrong with the command line.
#[derive(Debug)]
pub(super) struct Told(clap::Error);

impl Told {
    /// Prints it: help and the version to standard output, what is wrong to standard error.
    pub(super) fn print(self) -> ExitCode {
        let exit = self.exit();
        // With standard output closed there is nobody to tell.
        let _ = self.0.print();
        exit.into()
    }

    pub(super) fn exit(&self) -> Exit {
        if self.0.use_stderr() {
            Exit::Usage
        } else {
            Exit::Clean
        }
    }
}

pub(super) fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Command, Told> {
    let line = CommandLine::try_parse_from(arguments).map_err(Told)?;
    Ok(match line.command {
        Some(Subcommands::Start(arguments)) => Command::Start(arguments),
        None => Command::Start(line.start),
    })
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("it is written key=value, such as num.partitions=3".to_owned()),
    }
}
