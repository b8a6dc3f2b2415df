//! Reading as a member of a consumer group, and committing what was printed.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::printer::Printer;
use super::{Consume, Start, TICK, heed};
use crate::cli::CliError;
use crate::cli::connect::{Complaints, create};
use crate::cli::stop::Stop;

/// Under a steady stream, what was printed is handed over this often.
const FLUSHED_EVERY: Duration = Duration::from_secs(1);

/// How long a broker that comes back may take to answer, and a signal waits meanwhile.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How a member came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It read what it was to read.
    Done,
    /// No broker could be reached for as long as the command line allows.
    Lost,
}

impl Consume {
    pub(super) fn read_in_group(&self, group: &str, stop: &Stop) -> Result<(), CliError> {
        let consumer = self.join(group, stop)?;
        let mut printer = Printer::new(self);
        let read = self.read_members_share(&consumer, &mut printer, stop);
        if let Ok(Ended::Lost) = read {
            let why = consumer.context().last();
            let why = why.map_or_else(String::new, |why| format!(" ({why})"));
            // Nobody is there to take the offsets, nor to hear that the member leaves, for which
            // the client would wait.
            std::mem::forget(consumer);
            return Err(CliError::Failed(format!(
                "the connection has been lost for {:?}{why}. --timeout gives it longer; the group \
                 reads on from what it committed last",
                self.connection.timeout
            )));
        }
        // Only what was printed is stored, also when printing failed.
        let committed = match consumer.commit_consumer_state(CommitMode::Sync) {
            Ok(()) => Ok(()),
            // Nothing was read, or all of it was committed on the way.
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
            Err(error) => {
                let what = format!("committing the offsets of the group '{group}'");
                Err(CliError::client(what, &error))
            }
        };
        read.map(|_| ()).and(committed)
    }

    fn join(&self, group: &str, stop: &Stop) -> Result<BaseConsumer<Complaints>, CliError> {
        let reset = match self.offset {
            Start::Beginning => "earliest",
            Start::End => "latest",
            Start::At(_) | Start::Last(_) => {
                return Err(CliError::Usage(
                    "in a group, --offset is beginning or end, for where nothing is committed; \
                     'millrace groups reset-offsets' moves a group"
                        .to_owned(),
                ));
            }
        };
        let is_pattern = |topic: &&String| topic.starts_with('^');
        let client = self.connection.connect()?;
        for topic in self.topics.iter().filter(|topic| !is_pattern(topic)) {
            client.topic(topic)?;
        }
        if self.topics.iter().any(|topic| is_pattern(&topic)) && !self.follow {
            return Err(CliError::Usage(
                "a pattern of topics is read with --follow".to_owned(),
            ));
        }
        let mut config = self.connection.config()?;
        let required = [
            ("group.id", group, "--group names the group"),
            ("auto.offset.reset", reset, "--offset says where to begin"),
            (
                "enable.auto.offset.store",
                "false",
                "what is printed is committed",
            ),
            ("enable.partition.eof", "true", "ends are looked for"),
        ];
        self.connection.require(&mut config, &required)?;
        let consumer: BaseConsumer<Complaints> = create(&config, Complaints::default())?;
        let topics: Vec<_> = self.topics.iter().map(String::as_str).collect();
        stop.begin();
        let subscribed = consumer.subscribe(&topics);
        subscribed.map_err(|error| CliError::client("subscribing", &error))?;
        Ok(consumer)
    }

    fn read_members_share(
        &self,
        consumer: &BaseConsumer<Complaints>,
        printer: &mut Printer,
        stop: &Stop,
    ) -> Result<Ended, CliError> {
        let mut lost_at: Option<Instant> = None;
        let mut ended: HashSet<i32> = HashSet::new();
        let mut flushed_at = Instant::now();
        while !stop.is_requested() && !printer.is_done() {
            let mut next = consumer.poll(Duration::ZERO);
            if next.is_none() || flushed_at.elapsed() > FLUSHED_EVERY {
                store(consumer, printer.flush()?)?;
                flushed_at = Instant::now();
            }
            if next.is_none() {
                next = consumer.poll(TICK);
            }
            let is_record = matches!(next, Some(Ok(_)));
            match next {
                Some(Ok(record)) => {
                    ended.remove(&record.partition());
                    printer.print(&record)?;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(error)) => match heed(&error, consumer.context()) {
                    Ok(false) => {}
                    Ok(true) => lost_at = lost_at.or_else(|| Some(Instant::now())),
                    Err(error) => {
                        store(consumer, printer.flush()?)?;
                        return Err(error);
                    }
                },
                None => {
                    // Not merely silent: a rebalance may take minutes.
                    if lost_at.is_some() && self.is_answered(consumer) {
                        lost_at = None;
                    }
                }
            }
            // Never for each record: the library copies the whole assignment.
            if !self.follow && !is_record && is_at_end(consumer, &mut ended)? {
                break;
            }
            let timeout = self.connection.timeout;
            if !self.follow && lost_at.is_some_and(|at| at.elapsed() > timeout) {
                store(consumer, printer.flush()?)?;
                return Ok(Ended::Lost);
            }
        }
        store(consumer, printer.flush()?)?;
        Ok(Ended::Done)
    }

    /// Whether a broker answers.
    fn is_answered(&self, consumer: &BaseConsumer<Complaints>) -> bool {
        // Of a pattern the broker knows no topic, which is an answer as well.
        let topic = self.topics.first().map(String::as_str);
        consumer.fetch_metadata(topic, ANSWERED_WITHIN).is_ok()
    }
}

/// Whether the end of each partition was reached that the group has assigned: none, perhaps.
fn is_at_end(
    consumer: &BaseConsumer<Complaints>,
    ended: &mut HashSet<i32>,
) -> Result<bool, CliError> {
    let assignment = consumer.assignment();
    let assignment = assignment.map_err(|error| CliError::client("the assignment", &error))?;
    let assigned: HashSet<i32> = assignment
        .elements()
        .iter()
        .map(|e| e.partition())
        .collect();
    ended.retain(|partition| assigned.contains(partition));
    match assigned.is_empty() {
        true => Ok(consumer.context().take_assigned()),
        false => Ok(ended.len() == assigned.len()),
    }
}

/// Takes note of what was printed, for the next commit.
fn store(
    consumer: &BaseConsumer<Complaints>,
    printed: HashMap<(String, i32), i64>,
) -> Result<(), CliError> {
    if printed.is_empty() {
        return Ok(());
    }
    let failed = |error: &KafkaError| CliError::client("storing offsets", error);
    let mut list = TopicPartitionList::with_capacity(printed.len());
    for ((topic, partition), next) in printed {
        let added = list.add_partition_offset(&topic, partition, Offset::Offset(next));
        added.map_err(|error| failed(&error))?;
    }
    match consumer.store_offsets(&list) {
        // A partition that was taken away meanwhile is read again by its new owner.
        Ok(()) | Err(KafkaError::StoreOffset(RDKafkaErrorCode::State)) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}
