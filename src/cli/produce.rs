//! `millrace produce`: the lines of standard input, a record each.
//!
//! A thread of its own reads standard input, so that a signal is heeded while a terminal is waited
//! for; the main thread hands the records to the client library and serves its reports.

mod deliveries;
mod lines;

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::CliError;
use super::connect::{Connection, create, key_value, topic_error};
use super::output::{Output, tell};
use super::progress::Progress;
use super::record::{Data, RecordToProduce};
use super::stop::{Stop, TICK};
use deliveries::Deliveries;
use lines::{BATCHES_AHEAD_MAX, Batch, read_lines};

/// How long a topic that the broker makes by itself may take to be there.
const CREATED_WITHIN: Duration = Duration::from_secs(3);

const AFTER_HELP: &str = "\
With --json each line is an object: {\"value\": \"v\", \"key\": \"k\", \"headers\": [[\"name\", \
\"value\"]], \"timestamp\": 1767225600000, \"partition\": 0}. Only the value is needed; null is a \
tombstone, {\"base64\": \"...\"} stands for bytes. What 'consume --json' prints can be written \
again.";

/// The produce command.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Produce {
    /// The topic; a broker that makes topics by itself makes it
    topic: String,
    /// Each line is a key, this text, and a value
    #[arg(short = 'K', long, value_name = "TEXT", value_parser = separator)]
    key_separator: Option<String>,
    /// A header of every record; may be given again
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = key_value)]
    headers: Vec<(String, String)>,
    /// Send all records to this partition; without it their keys decide, as for Java clients
    #[arg(
        short, long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..),
        allow_negative_numbers = true
    )]
    partition: Option<i32>,
    /// A value of this text is null, a tombstone
    #[arg(long, value_name = "TEXT")]
    null_marker: Option<String>,
    /// How batches are compressed; without it, none
    #[arg(short = 'z', long, value_enum)]
    compression: Option<Compression>,
    /// What is waited for: all, 1 or 0 replicas; without it, all
    #[arg(long, value_enum)]
    acks: Option<Acks>,
    /// Lines are JSON objects, and so is the summary
    #[arg(long, conflicts_with_all = ["key_separator", "null_marker"])]
    json: bool,
    /// Print no summary
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Acks {
    All,
    #[value(name = "1")]
    One,
    #[value(name = "0")]
    Zero,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl Acks {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::One => "1",
            Self::Zero => "0",
        }
    }
}

/// Whether the rest of the configuration goes with an idempotent producer; where it does not, the
/// library refuses the one for the other.
fn may_be_idempotent(config: &ClientConfig) -> bool {
    let number = |key| config.get(key).and_then(|value| value.parse::<i64>().ok());
    let waits_for_all = matches!(config.get("acks"), None | Some("all" | "-1"));
    let tries_again = number("retries") != Some(0);
    let in_flight = number("max.in.flight.requests.per.connection");
    let keeps_order = config.get("queuing.strategy") != Some("lifo");
    waits_for_all && tries_again && keeps_order && in_flight.is_none_or(|count| count <= 5)
}

/// A text between key and value, in which `\t` is a tab.
fn separator(text: &str) -> Result<String, String> {
    match text {
        "" => Err("it may not be empty".to_owned()),
        text => Ok(text.replace("\\t", "\t")),
    }
}

impl Produce {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let stop = Stop::watch()?;
        let producer: BaseProducer<Deliveries> = create(&self.config()?, Deliveries::default())?;
        // Asking for a topic by its name makes it, so whether it is there is asked before.
        let is_told = self.quiet || self.is_listed(&producer)?;
        self.find_topic(&producer, &stop)?;
        if !is_told {
            tell(format_args!(
                "There was no topic '{}': the broker made it.",
                self.topic
            ));
        }
        stop.begin();
        if io::stdin().is_terminal() {
            tell("Each line is a record. Ctrl-D ends.");
        }
        let (lines, received) = sync_channel(BATCHES_AHEAD_MAX);
        let reader = thread::Builder::new().name("input".to_owned());
        let reader = reader.spawn(move || read_lines(io::stdin().lock(), &lines));
        reader.map_err(CliError::io("a thread for standard input"))?;
        let sent = self.send_all(&producer, &received, &stop);
        let flushed = self.flush(&producer, &stop);
        let summed = self.sum_up(&producer);
        let ended = sent.and(flushed).and(summed);
        if stop.is_requested()
            && let Err(error) = &ended
        {
            // The signal ends the command, and whoever sent it still hears of what was lost.
            tell(format_args!("millrace: {error}"));
        }
        stop.obey();
        ended
    }

    /// The client's configuration: a flag counts more than a property that is given, and that more
    /// than the default.
    fn config(&self) -> Result<ClientConfig, CliError> {
        let mut config = self.connection.config()?;
        let timeout_ms = self.connection.timeout.as_millis().max(1).to_string();
        let compression = self.compression.map(Compression::name);
        for (key, flag, default) in [
            ("compression.type", compression, "none"),
            ("acks", self.acks.map(Acks::name), "all"),
            ("message.timeout.ms", None, &*timeout_ms),
            ("allow.auto.create.topics", None, "true"),
            // Keys go where Java clients send them.
            ("partitioner", None, "murmur2_random"),
        ] {
            if flag.is_some() || self.connection.given(key)?.is_none() {
                config.set(key, flag.unwrap_or(default));
            }
        }
        if self.connection.given("enable.idempotence")?.is_none() {
            let may_be = may_be_idempotent(&config);
            config.set("enable.idempotence", may_be.to_string());
        }
        Ok(config)
    }

    /// Whether the topic is among those that are there.
    fn is_listed(&self, producer: &BaseProducer<Deliveries>) -> Result<bool, CliError> {
        let metadata = producer
            .client()
            .fetch_metadata(None, self.connection.timeout);
        let metadata = metadata.map_err(|error| CliError::client("the metadata", &error))?;
        let mut topics = metadata.topics().iter();
        Ok(topics.any(|topic| topic.name() == self.topic))
    }

    /// Asks for the topic, upon which a broker may make it.
    fn find_topic(&self, producer: &BaseProducer<Deliveries>, stop: &Stop) -> Result<(), CliError> {
        let end = Instant::now() + CREATED_WITHIN;
        loop {
            let topic = Some(self.topic.as_str());
            let metadata = producer
                .client()
                .fetch_metadata(topic, self.connection.timeout);
            let metadata = metadata.map_err(|error| CliError::client("the metadata", &error))?;
            let code = match metadata.topics().first() {
                Some(found) => found.error().map(RDKafkaErrorCode::from),
                None => Some(RDKafkaErrorCode::UnknownTopicOrPartition),
            };
            match code {
                None => return Ok(()),
                Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::LeaderNotAvailable,
                ) if Instant::now() < end => thread::sleep(TICK),
                Some(code) => return Err(topic_error(&self.topic, code)),
            }
            stop.obey();
        }
    }

    fn send_all(
        &self,
        producer: &BaseProducer<Deliveries>,
        lines: &Receiver<Batch>,
        stop: &Stop,
    ) -> Result<(), CliError> {
        let mut progress = Progress::new("records", None, io::stdin().is_terminal());
        let mut line_number = 0;
        let is_over = || stop.is_requested() || producer.context().failure().is_some();
        while !is_over() {
            let batch = match lines.recv_timeout(TICK) {
                Ok(batch) => batch,
                Err(RecvTimeoutError::Timeout) => Batch::default(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            for line in batch.lines {
                if is_over() {
                    break;
                }
                line_number += 1;
                let record = self.record(line).map_err(|why| {
                    CliError::Failed(format!("line {line_number} of standard input: {why}"))
                })?;
                self.send(producer, line_number, &record, stop)?;
                progress.at(line_number);
                producer.poll(Duration::ZERO);
            }
            if let Some(error) = batch.error {
                return Err(error);
            }
            producer.poll(Duration::ZERO);
        }
        Ok(())
    }

    /// The record that a line stands for.
    fn record(&self, line: Vec<u8>) -> Result<Record, String> {
        let mut headers = OwnedHeaders::new_with_capacity(self.headers.len());
        for (key, value) in &self.headers {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        if !self.json {
            let (key, value) = self.split(line)?;
            let is_null = self
                .null_marker
                .as_ref()
                .is_some_and(|text| text.as_bytes() == value);
            let value = (!is_null).then_some(value);
            return Ok(Record {
                key,
                value,
                headers,
                timestamp: None,
                partition: self.partition,
            });
        }
        let record = RecordToProduce::read(&line)?;
        let bytes = |field: &str, data: Option<Data<'static>>| {
            let bytes = data.map(Data::into_bytes).transpose();
            bytes.map_err(|why| format!("{field}: {why}"))
        };
        for (key, value) in record.headers {
            let value = bytes("headers", value)?;
            headers = headers.insert(Header {
                key: &key,
                value: value.as_ref(),
            });
        }
        Ok(Record {
            key: bytes("key", record.key)?,
            value: bytes("value", record.value)?,
            headers,
            timestamp: record.timestamp,
            partition: self.partition.or(record.partition),
        })
    }

    fn split(&self, line: Vec<u8>) -> Result<(Option<Vec<u8>>, Vec<u8>), String> {
        let Some(separator) = &self.key_separator else {
            return Ok((None, line));
        };
        let separator = separator.as_bytes();
        let at = line
            .windows(separator.len())
            .position(|window| window == separator);
        let at = at.ok_or_else(|| {
            let line = String::from_utf8_lossy(&line);
            format!(
                "no key: there is no '{}' in '{line}'",
                separator.escape_ascii()
            )
        })?;
        let value = line[at + separator.len()..].to_vec();
        Ok((Some(line[..at].to_vec()), value))
    }

    fn send(
        &self,
        producer: &BaseProducer<Deliveries>,
        line_number: u64,
        record: &Record,
        stop: &Stop,
    ) -> Result<(), CliError> {
        let mut wanted = BaseRecord::<[u8], [u8]>::to(&self.topic);
        wanted.key = record.key.as_deref();
        wanted.payload = record.value.as_deref();
        wanted.partition = record.partition;
        wanted.timestamp = record.timestamp;
        if record.headers.count() > 0 {
            wanted.headers = Some(record.headers.clone());
        }
        loop {
            match producer.send(wanted) {
                Ok(()) => {
                    producer.context().note_sent();
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    if stop.is_requested() || producer.context().failure().is_some() {
                        return Ok(());
                    }
                    producer.poll(TICK);
                    wanted = again;
                }
                Err((error, _)) => {
                    let what = format!("line {line_number} of standard input");
                    return Err(CliError::client(what, &error));
                }
            }
        }
    }

    /// Waits until every record has its report. The library gives each one up by its deadline.
    fn flush(&self, producer: &BaseProducer<Deliveries>, stop: &Stop) -> Result<(), CliError> {
        let mut asked_before = stop.is_requested().then(Instant::now);
        while producer.in_flight_count() > 0 {
            producer.poll(TICK);
            if stop.is_requested() {
                let asked = *asked_before.get_or_insert_with(Instant::now);
                if asked.elapsed() > CREATED_WITHIN {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn sum_up(&self, producer: &BaseProducer<Deliveries>) -> Result<(), CliError> {
        let deliveries = producer.context();
        let summary = deliveries.summary(&self.topic);
        if let Some(unknown) = summary.unknown() {
            tell(unknown);
        }
        if !self.quiet {
            let mut output = Output::new();
            match self.json {
                true => output.json(&summary)?,
                false => summary.print(&mut output)?,
            }
            output.flush()?;
        }
        match deliveries.failure() {
            Some(why) => Err(CliError::Failed(why)),
            None => Ok(()),
        }
    }
}

struct Record {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: OwnedHeaders,
    timestamp: Option<i64>,
    partition: Option<i32>,
}
