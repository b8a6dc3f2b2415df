//! `millrace consume`: the records of a topic, from where one wants, to the end or as they come.

mod assigned;
pub(super) mod format;
mod grouped;
mod printer;

use clap::builder::NonEmptyStringValueParser;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::CliError;
use super::connect::{Complaints, Connection};
use super::output::tell;
use super::stop::{Stop, TICK};
use super::time::parse_point;
use crate::base::clock::TimestampMs;
use format::Format;

const AFTER_HELP: &str = "\
In a format, %s is the value, %k the key, %h the headers, %t the topic, %p the partition, %o the \
offset, %T the timestamp in milliseconds, %S and %K the bytes of the value and the key (-1 for \
null), %% a percent sign; \\n, \\t, \\r, \\\\ and \\x1f are escapes.

Without --follow it ends at the end of the log, as that was when it began; in a group, when it has \
reached the end of each of its partitions. In a group it reads on where the group has been, and \
commits what it has printed.";

/// The consume command.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Consume {
    /// The topics; more than one with --follow or in a group that follows
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only this partition; may be given again
    #[arg(
        short, long = "partition", value_name = "NUMBER", conflicts_with = "group",
        value_parser = clap::value_parser!(i32).range(0..), allow_negative_numbers = true
    )]
    partitions: Vec<i32>,
    /// Where to begin: beginning, end, an offset, or -N for the last N of each partition; in a
    /// group, where it begins without a committed offset: beginning or end
    #[arg(
        short,
        long,
        value_name = "WHERE",
        default_value = "beginning",
        allow_hyphen_values = true,
        conflicts_with = "from_time"
    )]
    offset: Start,
    /// Begin at the first record at or after this time, such as 2026-01-31T08:30:00+01:00 or -1h;
    /// without an offset it is in UTC
    #[arg(
        long, value_name = "TIME", value_parser = parse_point, allow_hyphen_values = true,
        conflicts_with = "group"
    )]
    from_time: Option<TimestampMs>,
    /// As --offset beginning, which is the default
    #[arg(long, hide = true, conflicts_with_all = ["offset", "from_time"])]
    from_beginning: bool,
    /// Go on as records come
    #[arg(short = 'F', long)]
    follow: bool,
    /// Read as a member of this consumer group
    #[arg(short, long, value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
    group: Option<String>,
    /// End after so many records
    #[arg(short = 'n', long, value_name = "COUNT", alias = "max-messages")]
    count: Option<u64>,
    /// How a record is printed
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "%s\\n",
        conflicts_with = "json"
    )]
    format: Format,
    /// Print the key, this text, and the value
    #[arg(short = 'K', long, value_name = "TEXT", conflicts_with_all = ["json", "format"])]
    key_separator: Option<String>,
    /// Print a JSON object for each record
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Beginning,
    End,
    At(i64),
    /// So many before the end.
    Last(i64),
}

impl std::str::FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" | "earliest" => return Ok(Self::Beginning),
            "end" | "latest" => return Ok(Self::End),
            _ => {}
        }
        let number: i64 = text
            .parse()
            .map_err(|_| "it is beginning, end, an offset, or -N for the last N".to_owned())?;
        Ok(match number {
            0.. => Self::At(number),
            _ => Self::Last(number.saturating_neg()),
        })
    }
}

impl Consume {
    pub(super) fn run(&self) -> Result<(), CliError> {
        if self.topics.len() > 1 && !self.follow {
            return Err(CliError::Usage(
                "several topics are read with --follow; without it, name one".to_owned(),
            ));
        }
        if self.count == Some(0) {
            return Ok(());
        }
        let stop = Stop::watch()?;
        let ended = match &self.group {
            Some(group) => self.read_in_group(group, &stop),
            None => self.read_assigned(&stop),
        };
        match ended {
            Ok(()) | Err(CliError::PipeClosed) => stop.obey(),
            Err(_) => {}
        }
        ended
    }
}

/// What a failed poll means: an error ends the command, and where the client goes on trying it says
/// whether no broker can be reached any more.
fn heed(error: &KafkaError, complaints: &Complaints) -> Result<bool, CliError> {
    let Some(code) = error.rdkafka_error_code() else {
        return Ok(false);
    };
    match code {
        RDKafkaErrorCode::BrokerTransportFailure
        | RDKafkaErrorCode::AllBrokersDown
        | RDKafkaErrorCode::Resolve
        | RDKafkaErrorCode::OperationTimedOut
        | RDKafkaErrorCode::RequestTimedOut
        | RDKafkaErrorCode::NotCoordinator
        | RDKafkaErrorCode::CoordinatorNotAvailable
        | RDKafkaErrorCode::CoordinatorLoadInProgress => {
            let is_lost = complaints.take_all_down();
            if is_lost {
                let why = complaints.last().unwrap_or_else(|| code.to_string());
                tell(format_args!(
                    "millrace: the connection is lost, trying again: {why}"
                ));
            }
            Ok(is_lost)
        }
        RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownPartition => Err(CliError::Failed(
            "the topic, or a partition of it, is gone".to_owned(),
        )),
        _ => Err(CliError::client("reading", error)),
    }
}
