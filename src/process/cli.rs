//! The command line. Pure: it parses, and tells what `--help` and `--version` tell.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use super::Exit;

const AFTER_HELP: &str = "\
Settings have Kafka's names. A flag counts more than the environment, the environment more than \
the file, the file more than the default. In the environment a setting is written with MILLRACE_ \
in front, in upper case, with underscores for dots: MILLRACE_NUM_PARTITIONS=3.

MILLRACE_LOG filters the log: error, warn, info (the default), debug, or module=level by comma.

Exit codes: 0 stopped cleanly, 1 failure, 2 wrong command line, 3 damage found (log verify), \
74 input or output, 78 configuration or surroundings.";

#[derive(Debug, Parser)]
#[command(
    name = "millrace",
    version,
    about = "An event streaming broker that speaks the Kafka protocol",
    after_help = AFTER_HELP
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
    #[command(flatten)]
    Client(Box<crate::cli::Command>),
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
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(super) log_format: Option<LogFormat>,
}

impl StartArguments {
    /// Joins what stands before the command with what stands behind it. Settings may be given in
    /// both places, and the later one counts; anything else only once.
    fn join(mut self, behind: Self) -> Result<Self, Told> {
        fn once<T>(flag: &str, before: Option<T>, behind: Option<T>) -> Result<Option<T>, Told> {
            if before.is_some() && behind.is_some() {
                let told = format!("{flag} was given before the command and behind it");
                let error = CommandLine::command().error(ErrorKind::ArgumentConflict, told);
                return Err(Told(error));
            }
            Ok(before.or(behind))
        }
        self.overrides.extend(behind.overrides);
        Ok(Self {
            config: once("--config", self.config, behind.config)?,
            overrides: self.overrides,
            log_format: once("--log-format", self.log_format, behind.log_format)?,
        })
    }
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
#[derive(Debug)]
pub(super) enum Command {
    /// Run the broker.
    Start(StartArguments),
    /// Run a command beside the broker.
    Client(Box<crate::cli::Command>),
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

    /// The code with which the process ends.
    pub(super) fn exit(&self) -> Exit {
        if self.0.use_stderr() {
            Exit::Usage
        } else {
            Exit::Clean
        }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.render().fmt(f)
    }
}

pub(super) fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<Command, Told> {
    let parsed = CommandLine::try_parse_from(arguments);
    let line = parsed.map_err(|error| Told(with_hint(error)))?;
    Ok(match line.command {
        Some(Subcommands::Start(arguments)) => Command::Start(line.start.join(arguments)?),
        Some(Subcommands::Client(_)) if line.start != StartArguments::default() => {
            let told = "the broker's settings go with 'start'; this command does not start it";
            let error = CommandLine::command().error(ErrorKind::ArgumentConflict, told);
            return Err(Told(error));
        }
        Some(Subcommands::Client(command)) => Command::Client(command),
        None => Command::Start(line.start),
    })
}

/// The whole command line, of which shells' completions are made.
pub(super) fn program() -> clap::Command {
    CommandLine::command()
}

/// Kafka's own script takes the file by its place; here it has a flag.
fn with_hint(mut error: clap::Error) -> clap::Error {
    let misplaced = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand];
    let misplaced = misplaced.into_iter().find_map(|kind| error.get(kind));
    if let Some(ContextValue::String(text)) = misplaced
        && matches!(
            error.kind(),
            ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand
        )
        && (text.ends_with(".properties") || text.contains('/'))
    {
        let hint = format!("a file of settings is given by a flag: --config {text}");
        let hint = ContextValue::StyledStrs(vec![hint.into()]);
        error.insert(ContextKind::Suggested, hint);
    }
    error
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("it is written key=value, such as num.partitions=3".to_owned()),
    }
}
