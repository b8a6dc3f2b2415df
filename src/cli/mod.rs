//! The commands beside the broker: topics, groups, producing, consuming, and a look into the files
//! of a log.
//!
//! They run in a process of their own, on its main thread, which alone prints; never inside a shard
//! and never beside one. All but `log` talk to any broker of Kafka's protocol, `perf` by itself,
//! `check` both by itself and through librdkafka, and the others through it, as any other program
//! would: nothing here knows what the broker at the other end is made of.
//!
//! What must stay true:
//! - standard output has what was asked for and nothing else; what a person wants to know besides,
//!   progress and complaints, goes to standard error;
//! - with `--json` standard output is one JSON object a line, whose fields are only ever added to;
//! - every complaint says what to do about it;
//! - nothing is printed in colour, so that a pipe and a terminal get the same.

mod check;
mod completions;
mod connect;
mod consume;
mod dump;
mod error;
mod groups;
mod log;
mod native;
mod output;
mod perf;
mod produce;
mod progress;
mod record;
mod repair;
mod stop;
mod time;
mod topics;
mod verify;
mod version;

#[cfg(test)]
mod tests;

pub use error::CliError;

/// A command beside the broker.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List, describe, create, grow and delete topics
    #[command(subcommand)]
    Topics(topics::Topics),
    /// Write the lines of standard input to a topic, a record each
    Produce(produce::Produce),
    /// Print the records of a topic
    Consume(consume::Consume),
    /// List, describe and delete consumer groups, and move where they read on
    #[command(subcommand)]
    Groups(groups::Groups),
    /// Look into the files of a log, and check them
    #[command(subcommand)]
    Log(log::Log),
    /// Put a load on a broker, and measure
    #[command(subcommand)]
    Perf(perf::Perf),
    /// Have clients work with a broker while faults are made, and judge what it answered
    #[command(subcommand)]
    Check(check::Check),
    /// Print the version
    Version(version::Version),
    /// Print completions for a shell
    Completions(completions::Completions),
}

/// Runs a command to its end. `program` is the whole command line, for the completions.
///
/// # Errors
/// Why it did not do what it was asked; everything else was told on the way.
pub fn run(command: Command, program: clap::Command) -> Result<(), CliError> {
    let ended = match command {
        Command::Topics(topics) => topics.run(),
        Command::Produce(produce) => produce.run(),
        Command::Consume(consume) => consume.run(),
        Command::Groups(groups) => groups.run(),
        Command::Log(log) => log.run(),
        Command::Perf(perf) => perf.run(),
        Command::Check(check) => check.run(),
        Command::Version(version) => version.run(),
        Command::Completions(completions) => completions.run(program),
    };
    match ended {
        // Who reads has seen enough, as `head` has.
        Err(CliError::PipeClosed) => Ok(()),
        ended => ended,
    }
}
