//! What became of the records: the client library reports each one, on the thread that polls it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use serde::Serialize;

use crate::cli::CliError;
use crate::cli::error::with_advice;
use crate::cli::native::Refusal;
use crate::cli::output::{Output, Table, counted, tell};

/// Counts what was delivered, and keeps the first reason why something was not.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sent: u64,
    partitions: BTreeMap<i32, Delivered>,
    failed: u64,
    first_failure: Option<String>,
    complaint: Option<String>,
}

/// What a partition got.
#[derive(Clone, Copy, Debug, Serialize)]
struct Delivered {
    partition: i32,
    records: u64,
    /// None where no acknowledgement was asked for.
    first_offset: Option<i64>,
    last_offset: Option<i64>,
}

/// What became of all records.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    topic: &'a str,
    records: u64,
    failed: u64,
    /// Handed over, and given up before anybody said what became of them.
    unknown: u64,
    partitions: Vec<Delivered>,
}

impl Deliveries {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another record was handed to the library, which will report it.
    pub(super) fn note_sent(&self) {
        self.state().sent += 1;
    }

    /// Why records were not delivered, if any were not.
    pub(super) fn failure(&self) -> Option<String> {
        let state = self.state();
        let why = state.first_failure.as_ref()?;
        let failed = counted(state.failed, "record");
        Some(match &state.complaint {
            Some(complaint) => format!("{failed} not delivered: {why} ({complaint})"),
            None => format!("{failed} not delivered: {why}"),
        })
    }

    pub(super) fn summary<'a>(&self, topic: &'a str) -> Summary<'a> {
        let state = self.state();
        let partitions: Vec<_> = state.partitions.values().copied().collect();
        let records = partitions.iter().map(|partition| partition.records).sum();
        Summary {
            topic,
            records,
            failed: state.failed,
            unknown: state.sent.saturating_sub(records + state.failed),
            partitions,
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if level as i32 > RDKafkaLogLevel::Notice as i32 {
            tell(format_args!("{facility}: {message}"));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.state().complaint = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut state = self.state();
        match result {
            Ok(message) => {
                let partition = message.partition();
                let offset = (message.offset() >= 0).then_some(message.offset());
                let delivered = state.partitions.entry(partition).or_insert(Delivered {
                    partition,
                    records: 0,
                    first_offset: offset,
                    last_offset: offset,
                });
                delivered.records += 1;
                // Of a record that had arrived before, the broker tells no offset.
                let offsets = [delivered.first_offset, offset];
                delivered.first_offset = offsets.into_iter().flatten().min();
                delivered.last_offset = delivered.last_offset.max(offset);
            }
            Err((error, _)) => {
                state.failed += 1;
                let code = error
                    .rdkafka_error_code()
                    .unwrap_or(RDKafkaErrorCode::Unknown);
                let why = || with_advice(&Refusal::of(code));
                state.first_failure.get_or_insert_with(why);
            }
        }
    }
}

impl Summary<'_> {
    /// What to know of records whose fate is not known, if there are any.
    pub(super) fn unknown(&self) -> Option<String> {
        let unknown = counted(self.unknown, "record");
        let told = format!("{unknown} without an answer, each of which may be written or not");
        (self.unknown > 0).then_some(told)
    }

    pub(super) fn print(&self, output: &mut Output) -> Result<(), CliError> {
        let records = counted(self.records, "record");
        output.line(format_args!("{records} written to {}", self.topic))?;
        if self.records == 0 {
            return Ok(());
        }
        let mut table = Table::new(&["PARTITION", "RECORDS", "FIRST-OFFSET", "LAST-OFFSET"]);
        let offset = |offset: Option<i64>| offset.map_or_else(String::new, |at| at.to_string());
        for partition in &self.partitions {
            table.row(vec![
                partition.partition.to_string(),
                partition.records.to_string(),
                offset(partition.first_offset),
                offset(partition.last_offset),
            ]);
        }
        table.print(output)
    }
}
