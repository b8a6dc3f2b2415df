//! `millrace check`: whether a broker keeps its word while faults are made around it.
//!
//! `check run` has several processes send and read through two makes of clients, the project's own
//! and librdkafka, writes down all that they ask and are answered, and judges that history.
//! Whatever harms the broker meanwhile comes from outside. `check history` judges a written history
//! again.
//!
//! What must stay true:
//! - a history holds all that the checks know, so that it can be judged anywhere, at any time;
//! - what is not known for certain to have failed may have happened;
//! - a healthy broker is never accused, of whatever make it is: the checks know the protocol's
//!   promises and nothing of what is at the other end.

mod history;
mod judge;
mod librdkafka;
mod ours;
mod process;
mod recorder;
mod report;
mod run;
mod value;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::history::{History, Setup};
use self::recorder::Recorder;
use self::run::Plan;
use super::CliError;
use super::connect::Connection;
use super::output::{counted, tell};
use super::stop::Stop;
use super::time::now_ms;

/// How long after healing everything may take to go on: several times the session of a member.
const PROGRESS_WITHIN_MS: u64 = 30_000;

const AFTER_HELP: &str = "\
The processes go on while the broker is away, so that it can be killed, paused, cut off or filled \
up meanwhile, by hand or by a script. When the time is over the broker has to be well within \
--timeout; then fresh clients read everything, and the history is judged. Exit code 3 means that \
something is wrong.";

/// Have clients work with a broker, and check that it keeps its word
#[derive(Debug, clap::Subcommand)]
pub enum Check {
    /// Send and read while faults are made from outside, and judge what was answered
    Run(Run),
    /// Judge a history again that a run has written
    History(Judge),
}

/// `check run`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Run {
    /// What the name of the topic begins with, which the run makes for itself
    #[arg(long, value_name = "NAME", default_value = "millrace-check")]
    topic_prefix: String,
    /// How long the processes send and read
    #[arg(
        long, value_name = "NUMBER", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    seconds: u64,
    /// How many processes; each sends and reads, half of them through librdkafka
    #[arg(
        long, value_name = "NUMBER", default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=64)
    )]
    processes: u32,
    /// How many partitions the topic has
    #[arg(
        long, value_name = "NUMBER", default_value_t = 4,
        value_parser = clap::value_parser!(i32).range(1..=1000), allow_negative_numbers = true
    )]
    partitions: i32,
    /// What the processes choose follows from it; without it, from the time
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Write the history to this file; without it, only a violation leaves one
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// `check history`.
#[derive(Debug, clap::Args)]
pub struct Judge {
    /// A history that 'check run --history' has written
    file: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(&self) -> Result<(), CliError> {
        match self {
            Self::Run(run) => run.run(),
            Self::History(judge) => judge.run(),
        }
    }
}

impl Run {
    fn run(&self) -> Result<(), CliError> {
        let stop = Stop::watch()?;
        let config = self.connection.config()?;
        let servers = config.get("bootstrap.servers").unwrap_or_default();
        let servers = servers.to_owned();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let setup = Setup {
            topic: format!("{}-{:x}", self.topic_prefix, now_ms()),
            partitions: self.partitions,
            processes: self.processes,
            seed: self
                .seed
                .unwrap_or_else(|| now.map_or(0, |it| it.as_nanos() as u64)),
            progress_within_ms: PROGRESS_WITHIN_MS,
        };
        let topic = setup.topic.clone();
        let client = self.connection.connect()?;
        let recorder = Recorder::new(setup.clone(), self.history.as_deref())?;
        run::create_topic(&client, &setup)?;
        stop.begin();
        let plan = Plan {
            setup,
            servers,
            config,
            duration: Duration::from_secs(self.seconds),
            healed_within: self.connection.timeout,
        };
        let events = run::run(plan, recorder, &stop)?;
        // Who asked for no file gets one where there is something to look into.
        let unkept = self.history.is_none().then(|| events.clone());
        let history = History::new(events);
        let history = history.map_err(|why| CliError::failed("the history", why))?;
        let found = report::print(&history, &judge::judge(&history), self.json)?;
        if found == 0 {
            run::delete_topic(&client, &topic);
            stop.obey();
            return Ok(());
        }
        let own = PathBuf::from(format!("{topic}.history"));
        let kept = self.history.as_ref().unwrap_or(&own);
        if let Some(events) = unkept {
            Recorder::save(&events, kept)?;
            tell(format_args!("The history is in {}.", kept.display()));
        }
        Err(CliError::Damaged(format!(
            "{} found: 'millrace check history {}' judges the same history again, and the topic \
             '{topic}' is left as it is",
            counted(found as u64, "violation"),
            kept.display()
        )))
    }
}

impl Judge {
    fn run(&self) -> Result<(), CliError> {
        let history = History::read(&self.file)?;
        let found = report::print(&history, &judge::judge(&history), self.json)?;
        match found {
            0 => Ok(()),
            _ => Err(CliError::Damaged(format!(
                "{} found in {}: the lines in brackets are those of the file",
                counted(found as u64, "violation"),
                self.file.display()
            ))),
        }
    }
}
