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
use self::judge::{Check as Rule, Found};
use self::recorder::Recorder;
use self::run::Plan;
use super::CliError;
use super::connect::Connection;
use super::output::{counted, tell};
use super::stop::Stop;
use super::time::{now_ms, parse_span};

/// How long after healing everything may take to go on, at least: some lives of clients whose join
/// waits for the session of one that has crashed.
const PROGRESS_WITHIN_MIN: Duration = Duration::from_secs(30);
const _: () = assert!(3 * ours::JOINED_WITHIN.as_secs() <= PROGRESS_WITHIN_MIN.as_secs());

const AFTER_HELP: &str = "\
The processes go on while the broker is away, so that it can be killed, paused, cut off or filled \
up meanwhile, by hand or by a script. When the time is over the broker has to be well within \
--timeout; then fresh clients read everything, and the history is judged. Exit code 3 means that \
something is wrong, 1 that the run could not come to its end and what there is shows nothing \
wrong. Clients connect without TLS and SASL.";

/// Have clients work with a broker, and check that it keeps its word
#[derive(Debug, clap::Subcommand)]
pub enum Check {
    /// Send and read while faults are made from outside, and judge what was answered
    Run(Box<Run>),
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
    /// How long everything may take to go on once the broker is well again; 30s or more
    #[arg(
        long, value_name = "SPAN", default_value = "30s", value_parser = parse_progress_within,
        allow_hyphen_values = true
    )]
    progress_within: Duration,
    /// Fail where a check found nothing to look at
    #[arg(long)]
    require_all: bool,
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
    /// Fail where a check found nothing to look at
    #[arg(long)]
    require_all: bool,
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
        self.refuse_security()?;
        let config = self.connection.config()?;
        let servers = config.get("bootstrap.servers").unwrap_or_default();
        let servers = servers.to_owned();
        let setup = self.setup();
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
        let ran = run::run(plan, recorder, &stop);
        if let Some(error) = &ran.unwritten {
            tell(format_args!(
                "The file of the history is not whole: {error}."
            ));
        }
        // Who has no file of it gets one where there is something to look into.
        let file = self.history.as_ref().filter(|_| ran.unwritten.is_none());
        let unkept = file.is_none().then(|| ran.events.clone());
        let history = History::new(ran.events);
        let history = history.map_err(|why| CliError::failed("the history", why))?;
        let judged = judge::judge(&history);
        let found = judge::total(&judged);
        let own = PathBuf::from(format!("{topic}.history"));
        if let Some(events) = unkept.filter(|_| found > 0) {
            match Recorder::save(&events, &own) {
                Ok(()) => tell(format_args!("The history is in {}.", own.display())),
                Err(error) => tell(format_args!("The history could not be kept: {error}.")),
            }
        }
        let printed = report::print(&history, &judged, self.json);
        if found > 0 {
            return Err(CliError::Damaged(format!(
                "{} found: 'millrace check history {}' judges the same history again, and the \
                 topic '{topic}' is left as it is",
                counted(found as u64, "violation"),
                file.unwrap_or(&own).display()
            )));
        }
        if let Some(trouble) = ran.trouble {
            return Err(trouble);
        }
        run::delete_topic(&client, &topic);
        stop.obey();
        printed.and_then(|()| complete(&judged, self.require_all))
    }

    /// The project's own clients speak without TLS and SASL.
    fn refuse_security(&self) -> Result<(), CliError> {
        let key = "security.protocol";
        match self.connection.given(key)? {
            Some(given) if !given.eq_ignore_ascii_case("plaintext") => {
                Err(CliError::Configuration(format!(
                    "the property {key}={given} cannot be set here: a check connects without TLS \
                     and SASL; name a listener of the broker that is PLAINTEXT"
                )))
            }
            _ => Ok(()),
        }
    }

    fn setup(&self) -> Setup {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Setup {
            topic: format!("{}-{:x}", self.topic_prefix, now_ms()),
            partitions: self.partitions,
            processes: self.processes,
            seed: self
                .seed
                .unwrap_or_else(|| now.map_or(0, |it| it.as_nanos() as u64)),
            progress_within_ms: self.progress_within.as_millis() as u64,
        }
    }
}

impl Judge {
    fn run(&self) -> Result<(), CliError> {
        let history = History::read(&self.file)?;
        let judged = judge::judge(&history);
        let printed = report::print(&history, &judged, self.json);
        let file = self.file.display();
        match (judge::total(&judged), &history.unfinished) {
            (0, None) => printed.and_then(|()| complete(&judged, self.require_all)),
            (0, Some(why)) => Err(CliError::failed(
                file,
                format_args!("the run did not come to its end ({why}), what is there is sound"),
            )),
            (found, _) => Err(CliError::Damaged(format!(
                "{} found in {file}: the lines in brackets are those of the file",
                counted(found as u64, "violation"),
            ))),
        }
    }
}

/// Reads how long everything may take to go on.
fn parse_progress_within(text: &str) -> Result<Duration, String> {
    let span = parse_span(text)?;
    match span >= PROGRESS_WITHIN_MIN {
        true => Ok(span),
        false => Err(format!(
            "{PROGRESS_WITHIN_MIN:?} is the least: a member may have to wait for one that crashed"
        )),
    }
}

/// Whether every check had something to look at, if that is asked for.
fn complete(judged: &[(&'static Rule, Found)], is_required: bool) -> Result<(), CliError> {
    let idle = judged.iter().filter(|(_, found)| found.looked_at == 0);
    let idle: Vec<_> = idle.map(|(check, _)| check.name).collect();
    match is_required && !idle.is_empty() {
        true => Err(CliError::Failed(format!(
            "nothing to look at for {}: a longer run may have it, and one with faults",
            idle.join(", ")
        ))),
        false => Ok(()),
    }
}
