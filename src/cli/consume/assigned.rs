//! Reading partitions that are named, or all of a topic, without a group.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;

use super::printer::Printer;
use super::{Consume, Start, TICK, heed};
use crate::cli::CliError;
use crate::cli::connect::{Client, Complaints, Partition, create};
use crate::cli::native::Reading;
use crate::cli::stop::Stop;

/// How often a command that follows looks for partitions that were added, and how long it waits
/// for the answer.
const LOOKED_AFTER: Duration = Duration::from_secs(5);

/// What of a partition is to be read.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: i64,
    /// The log's end as it was when the command began.
    end: i64,
}

impl Consume {
    pub(super) fn read_assigned(&self, stop: &Stop) -> Result<(), CliError> {
        let client = self.connection.connect()?;
        let mut spans = self.spans(&client)?;
        drop(client);
        if !self.follow {
            spans.retain(|_, span| span.start < span.end);
        }
        if spans.is_empty() {
            return Ok(());
        }
        let consumer = self.reader()?;
        stop.begin();
        let mut reading = Reading::new(consumer.client());
        for ((topic, partition), span) in &spans {
            start(&mut reading, topic, *partition, span.start)?;
        }
        self.read(&consumer, &mut reading, spans, stop)
    }

    fn read(
        &self,
        consumer: &BaseConsumer<Complaints>,
        reading: &mut Reading<'_>,
        mut spans: HashMap<Partition, Span>,
        stop: &Stop,
    ) -> Result<(), CliError> {
        let mut printer = Printer::new(self);
        let mut heard_at = Instant::now();
        let mut looked_at = Instant::now();
        while !stop.is_requested() && !printer.is_done() && !spans.is_empty() {
            if self.follow && self.partitions.is_empty() && looked_at.elapsed() > LOOKED_AFTER {
                self.read_new_partitions(consumer, reading, &mut spans)?;
                looked_at = Instant::now();
            }
            let mut next = consumer.poll(Duration::ZERO);
            if next.is_none() {
                printer.flush()?;
                next = consumer.poll(TICK);
            }
            match next {
                Some(Ok(record)) => {
                    heard_at = Instant::now();
                    let partition = (record.topic().to_owned(), record.partition());
                    let end = spans.get(&partition).map(|span| span.end);
                    if self.follow || end.is_some_and(|end| record.offset() < end) {
                        printer.print(&record)?;
                    }
                    if end.is_some_and(|end| record.offset() + 1 >= end) && !self.follow {
                        spans.remove(&partition);
                    }
                }
                // The last offsets may be control records, which are never handed out.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    heard_at = Instant::now();
                    if !self.follow {
                        spans.retain(|(_, at), _| *at != partition);
                    }
                }
                Some(Err(error)) => {
                    if let Err(error) = heed(&error, consumer.context()) {
                        printer.flush()?;
                        return Err(error);
                    }
                }
                None => {}
            }
            if !self.follow && heard_at.elapsed() > self.connection.timeout {
                printer.flush()?;
                return Err(self.silent(consumer));
            }
        }
        printer.flush()?;
        Ok(())
    }

    /// Reads partitions that were added, from their beginnings.
    fn read_new_partitions(
        &self,
        consumer: &BaseConsumer<Complaints>,
        reading: &mut Reading<'_>,
        spans: &mut HashMap<Partition, Span>,
    ) -> Result<(), CliError> {
        for topic in &self.topics {
            // Where no broker answers now, reading says so if it matters.
            let Ok(metadata) = consumer.fetch_metadata(Some(topic), LOOKED_AFTER) else {
                continue;
            };
            let partitions = metadata.topics().iter().flat_map(|it| it.partitions());
            for partition in partitions.map(|partition| partition.id()) {
                let new = spans.entry((topic.clone(), partition));
                if let Entry::Vacant(new) = new {
                    new.insert(Span { start: 0, end: 0 });
                    start(reading, topic, partition, 0)?;
                }
            }
        }
        Ok(())
    }

    fn silent(&self, consumer: &BaseConsumer<Complaints>) -> CliError {
        let why = consumer.context().last();
        let why = why.map_or_else(String::new, |why| format!(" ({why})"));
        CliError::Failed(format!(
            "nothing came from the broker for {:?}{why}. --timeout gives it longer",
            self.connection.timeout
        ))
    }

    /// A consumer of no group.
    fn reader(&self) -> Result<BaseConsumer<Complaints>, CliError> {
        let mut config = self.connection.config()?;
        config
            // A file of properties may have it, for programs that read in a group.
            .remove("group.id")
            .set("enable.auto.commit", "false");
        let required = [
            ("enable.partition.eof", "true", "ends are looked for"),
            // Records may be deleted between looking for the beginning and reading it.
            (
                "auto.offset.reset",
                "earliest",
                "--offset says where to begin",
            ),
        ];
        self.connection.require(&mut config, &required)?;
        create(&config, Complaints::default())
    }

    /// Where each partition is read from, and where its log ends now.
    fn spans(&self, client: &Client) -> Result<HashMap<Partition, Span>, CliError> {
        let mut partitions = Vec::new();
        for topic in &self.topics {
            let there = client.partitions(topic)?;
            if let Some(missing) = self
                .partitions
                .iter()
                .find(|wanted| !there.contains(wanted))
            {
                return Err(CliError::unknown_partition(topic, *missing));
            }
            let chosen =
                |partition: &i32| self.partitions.is_empty() || self.partitions.contains(partition);
            let chosen = there.into_iter().filter(chosen);
            partitions.extend(chosen.map(|partition| (topic.clone(), partition)));
        }
        let earliest = client.offsets(&partitions, Offset::Beginning)?;
        let latest = client.offsets(&partitions, Offset::End)?;
        let timed = match self.from_time {
            Some(time) => Some(client.offsets(&partitions, Offset::Offset(time))?),
            None => None,
        };
        let mut spans = HashMap::with_capacity(partitions.len());
        for (index, partition) in partitions.into_iter().enumerate() {
            let found = |offset: Result<i64, RDKafkaErrorCode>| {
                offset.map_err(|code| {
                    let what = format!("the offsets of {}-{}", partition.0, partition.1);
                    CliError::failed(what, code)
                })
            };
            let (first, end) = (found(earliest[index])?, found(latest[index])?);
            let start = match (&timed, self.offset) {
                (Some(timed), _) => found(timed[index])?,
                (None, Start::Beginning) => first,
                (None, Start::End) => end,
                (None, Start::Last(count)) => end.saturating_sub(count).max(first),
                (None, Start::At(offset)) if (first..=end).contains(&offset) => offset,
                (None, Start::At(offset)) => {
                    let advice = match self.partitions.is_empty() {
                        true => ". --partition chooses one partition",
                        false => "",
                    };
                    return Err(CliError::Failed(format!(
                        "the offset {offset} is out of range: {}-{} has {first} to {end}{advice}",
                        partition.0, partition.1
                    )));
                }
            };
            spans.insert(partition, Span { start, end });
        }
        Ok(spans)
    }
}

fn start(
    reading: &mut Reading<'_>,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<(), CliError> {
    let started = reading.start(topic, partition, offset);
    started.map_err(|refusal| CliError::refused(format!("{topic}-{partition}"), &refusal))
}
