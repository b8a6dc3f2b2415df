//! Why a command did not do what it was asked. Each says what to do about it.

use std::io;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::native::Refusal;
use super::output::{counted, tell};
use crate::storage::error::FileError;

/// Why a command ends.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line asks for something that does not go together.
    #[error("{0}")]
    Usage(String),
    /// A setting of the client is wrong.
    #[error("{0}")]
    Configuration(String),
    /// A file, standard input or standard output cannot be read or written.
    #[error("{what}: {error}")]
    Io {
        /// What was being done, and to which file.
        what: String,
        /// The system's reason.
        error: io::Error,
    },
    /// No broker answers.
    #[error(
        "no broker answers at {addresses} ({reason}). Start one with 'millrace start', or name \
         another with --bootstrap-server HOST:PORT or in MILLRACE_BOOTSTRAP_SERVER"
    )]
    Unreachable {
        /// Where it was looked for.
        addresses: String,
        /// What came of it.
        reason: String,
    },
    /// The broker refused, or the request failed on its way.
    #[error("{0}")]
    Failed(String),
    /// Some of several things were not done, and each was told.
    #[error("{failed} of {all} failed")]
    Partly {
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
    },
    /// Files are not as they were written, and each place was told.
    #[error("{0}")]
    Damaged(String),
    /// Nobody reads standard output any more: the end of a pipe was closed.
    #[error("nobody reads the output")]
    PipeClosed,
}

impl CliError {
    /// What comes of `all` things that were tried, of which these failed: one alone is the error,
    /// of several each is told.
    pub(super) fn of_many(failed: &[String], all: usize) -> Result<(), Self> {
        match failed {
            [] => Ok(()),
            [one] if all == 1 => Err(Self::Failed(one.clone())),
            several => {
                for one in several {
                    tell(format_args!("millrace: {one}"));
                }
                let failed = several.len();
                Err(Self::Partly { failed, all })
            }
        }
    }

    /// What comes of brokers that did not tell of their groups, which the output lacks.
    pub(super) fn of_silent_brokers(refusals: &[Refusal]) -> Result<(), Self> {
        match refusals {
            [] => Ok(()),
            [first, ..] => {
                let brokers = counted(refusals.len() as u64, "broker");
                let what = format!("the groups of {brokers} are missing here");
                Err(Self::refused(what, first))
            }
        }
    }

    /// A partition that was named and is not there.
    pub(super) fn unknown_partition(topic: &str, partition: i32) -> Self {
        Self::Failed(format!(
            "the topic '{topic}' has no partition {partition}. 'millrace topics describe {topic}' \
             shows those that are there"
        ))
    }

    /// A failure to read or write.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }

    /// A failed request: what was wanted, and why it was not done.
    pub(super) fn failed(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{what}: {why}"))
    }

    /// As [`CliError::failed`], with what a refusal suggests.
    pub(super) fn refused(what: impl std::fmt::Display, refusal: &Refusal) -> Self {
        Self::Failed(format!("{what}: {}", with_advice(refusal)))
    }

    /// A failed call of the client library.
    pub(super) fn client(what: impl std::fmt::Display, error: &KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(code) => Self::refused(what, &Refusal::of(code)),
            None => Self::failed(what, error),
        }
    }

    /// A topic that is not there.
    pub(super) fn unknown_topic(topic: &str) -> Self {
        Self::Failed(format!(
            "there is no topic '{topic}'. 'millrace topics list' shows those that are there, \
             'millrace topics create {topic}' makes it"
        ))
    }

    /// A group that is not there.
    pub(super) fn unknown_group(group: &str) -> Self {
        Self::Failed(format!(
            "there is no consumer group '{group}'. 'millrace groups list' shows those that are \
             there"
        ))
    }
}

impl From<FileError> for CliError {
    fn from(error: FileError) -> Self {
        let FileError { call, path, source } = error;
        Self::io(format!("{call} of {}", path.display()))(source)
    }
}

/// The refusal, and what can be done about it.
pub(super) fn with_advice(refusal: &Refusal) -> String {
    match advice(refusal.code) {
        Some(advice) => format!("{refusal}. {advice}"),
        None => refusal.to_string(),
    }
}

fn advice(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    Some(match code {
        Code::TopicAlreadyExists => {
            "'millrace topics describe' shows it; --if-not-exists takes it as it is"
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic => {
            "'millrace topics list' shows the topics that are there"
        }
        Code::UnknownPartition => "'millrace topics describe' shows the partitions that are there",
        Code::InvalidReplicationFactor => {
            "There can be as many replicas as brokers; without --replication-factor the broker \
             chooses"
        }
        Code::NonEmptyGroup => "Stop its members first: 'millrace groups describe' shows them",
        Code::UnknownMemberId | Code::RebalanceInProgress | Code::IllegalGeneration => {
            "The group has members: stop them first; 'millrace groups describe' shows them"
        }
        Code::GroupIdNotFound => "'millrace groups list' shows the groups that are there",
        Code::CoordinatorNotAvailable | Code::NotCoordinator | Code::CoordinatorLoadInProgress => {
            "The coordinator of the group is not ready, or the broker has none yet: try again"
        }
        Code::MessageSizeTooLarge => {
            "A larger record needs -X message.max.bytes=N here and max.message.bytes of the topic"
        }
        Code::UnsupportedFeature | Code::UnsupportedVersion => {
            "The broker does not know this request"
        }
        Code::OperationTimedOut | Code::RequestTimedOut | Code::MessageTimedOut => {
            "The broker may be busy or gone; --timeout gives it longer"
        }
        Code::BrokerTransportFailure | Code::AllBrokersDown => {
            "The connection was lost: is it a broker of Kafka's protocol without TLS, and does it \
             run?"
        }
        _ => return None,
    })
}
