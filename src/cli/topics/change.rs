//! Creating, growing and deleting topics.

use rdkafka::error::RDKafkaErrorCode;
use serde::Serialize;

use crate::cli::CliError;
use crate::cli::connect::{Connection, key_value};
use crate::cli::error::with_advice;
use crate::cli::native::{Outcome, Refusal, TopicToCreate};
use crate::cli::output::{Output, counted, tell};

const BROKERS_DEFAULT: i32 = -1;

/// `topics create`.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// The names
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// How many partitions; without it the broker's num.partitions
    #[arg(
        short, long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..),
        allow_negative_numbers = true
    )]
    partitions: Option<i32>,
    /// How many replicas of each; without it the broker's default.replication.factor
    #[arg(
        short, long, value_name = "COUNT", value_parser = clap::value_parser!(i16).range(1..),
        allow_negative_numbers = true
    )]
    replication_factor: Option<i16>,
    /// A setting of the topic, such as retention.ms=3600000; may be given again
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    configs: Vec<(String, String)>,
    /// Take a topic that is there already as it is
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    common: Common,
}

/// `topics add-partitions`.
#[derive(Debug, clap::Args)]
pub struct AddPartitions {
    /// The topic
    topic: String,
    /// How many partitions it has then, in all
    #[arg(
        short, long, value_name = "TOTAL", value_parser = clap::value_parser!(i32).range(1..),
        allow_negative_numbers = true
    )]
    partitions: i32,
    #[command(flatten)]
    common: Common,
}

/// `topics delete`.
#[derive(Debug, clap::Args)]
pub struct Delete {
    /// The names
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// A topic that is not there is as good as deleted
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    common: Common,
}

/// What all changes can be given.
#[derive(Debug, clap::Args)]
struct Common {
    /// Have it checked, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON object for each topic
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What became of a topic, for programs.
#[derive(Serialize)]
struct Changed<'a> {
    topic: &'a str,
    /// `created`, `exists`, `grown`, `deleted`, `absent`, or `failed`.
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    dry_run: bool,
}

impl Create {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let client = self.common.connection.connect()?;
        let replicas = self.replication_factor.map_or(BROKERS_DEFAULT, i32::from);
        let topics: Vec<_> = self
            .topics
            .iter()
            .map(|name| TopicToCreate {
                name,
                partitions: self.partitions.unwrap_or(BROKERS_DEFAULT),
                replication_factor: replicas,
                configs: &self.configs,
            })
            .collect();
        let admin = client.admin().only_validate(self.common.dry_run);
        let outcomes = admin.create_topics(&topics);
        let outcomes = outcomes.map_err(|refusal| CliError::refused("topics create", &refusal))?;
        self.common.report(outcomes, "created", |code| {
            let exists = code == RDKafkaErrorCode::TopicAlreadyExists;
            (exists && self.if_not_exists).then_some("exists")
        })
    }
}

impl AddPartitions {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let client = self.common.connection.connect()?;
        let has = client.partitions(&self.topic)?.len();
        let total = usize::try_from(self.partitions).expect("clap takes only counts above 0");
        if total <= has {
            return Err(CliError::Failed(format!(
                "the topic '{}' has {} already, and partitions cannot be taken away: give a \
                 --partitions above {has}",
                self.topic,
                counted(has as u64, "partition"),
            )));
        }
        let admin = client.admin().only_validate(self.common.dry_run);
        let outcomes = admin.create_partitions(&self.topic, total);
        let what = format!("topics add-partitions {}", self.topic);
        let outcomes = outcomes.map_err(|refusal| CliError::refused(what, &refusal))?;
        let grown = self
            .common
            .report_with(outcomes, "grown", Some(self.partitions), |_| None);
        if grown.is_ok() && !self.common.dry_run {
            tell(format_args!(
                "Records with a key may go to another partition from now on than before."
            ));
        }
        grown
    }
}

impl Delete {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let client = self.common.connection.connect()?;
        let absent = |code| {
            let unknown = [
                RDKafkaErrorCode::UnknownTopicOrPartition,
                RDKafkaErrorCode::UnknownTopic,
            ];
            (unknown.contains(&code) && self.if_exists).then_some("absent")
        };
        if self.common.dry_run {
            let metadata = client.metadata()?;
            let exists = |name: &String| metadata.topics().iter().any(|t| t.name() == name);
            let outcomes = self.topics.iter().map(|name| {
                let refusal = Refusal::of(RDKafkaErrorCode::UnknownTopicOrPartition);
                let outcome = if exists(name) { Ok(()) } else { Err(refusal) };
                (name.clone(), outcome)
            });
            return self.common.report(outcomes.collect(), "deleted", absent);
        }
        let names: Vec<_> = self.topics.iter().map(String::as_str).collect();
        let outcomes = client.admin().delete_topics(&names);
        let outcomes = outcomes.map_err(|refusal| CliError::refused("topics delete", &refusal))?;
        self.common.report(outcomes, "deleted", absent)
    }
}

impl Common {
    fn report(
        &self,
        outcomes: Vec<Outcome>,
        done: &'static str,
        accept: impl Fn(RDKafkaErrorCode) -> Option<&'static str>,
    ) -> Result<(), CliError> {
        self.report_with(outcomes, done, None, accept)
    }

    /// Prints what became of each topic. `accept` says which errors are none.
    fn report_with(
        &self,
        outcomes: Vec<Outcome>,
        done: &'static str,
        partitions: Option<i32>,
        accept: impl Fn(RDKafkaErrorCode) -> Option<&'static str>,
    ) -> Result<(), CliError> {
        let mut output = Output::new();
        let (all, mut failed) = (outcomes.len(), Vec::new());
        for (topic, outcome) in &outcomes {
            let (result, error) = match outcome {
                Ok(()) => (done, None),
                Err(refusal) => match accept(refusal.code) {
                    Some(result) => (result, None),
                    None => ("failed", Some(with_advice(refusal))),
                },
            };
            if self.json {
                let error = error.clone();
                let (topic, dry_run) = (topic.as_str(), self.dry_run);
                output.json(&Changed {
                    topic,
                    result,
                    partitions,
                    error,
                    dry_run,
                })?;
            } else if error.is_none() {
                output.line(self.line(topic, result, partitions))?;
            }
            failed.extend(error.map(|error| format!("the topic '{topic}': {error}")));
        }
        output.flush()?;
        CliError::of_many(&failed, all)
    }

    fn line(&self, topic: &str, result: &str, partitions: Option<i32>) -> String {
        let would = if self.dry_run { "would be " } else { "" };
        match (result, partitions) {
            ("exists", _) => format!("{topic}: is there already"),
            ("absent", _) => format!("{topic}: was not there"),
            (_, Some(total)) => format!("{topic}: {would}grown to {total} partitions"),
            (done, None) => format!("{topic}: {would}{done}"),
        }
    }
}
