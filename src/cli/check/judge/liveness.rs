//! Once the broker is well again everything goes on in time: each process has something
//! acknowledged and gets answers, and each partition takes records.

use std::collections::BTreeMap;
use std::fmt;

use super::{Case, Found};
use crate::cli::check::history::{Answer, Call, Setup, What};

/// What is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alive {
    Producer(u32),
    Consumer(u32),
    Partition(i32),
}

impl Alive {
    /// All that is to go on.
    pub fn all(setup: &Setup) -> Vec<Self> {
        let producers = (0..setup.processes).map(Self::Producer);
        let consumers = (0..setup.processes).map(Self::Consumer);
        let partitions = (0..setup.partitions).map(Self::Partition);
        producers.chain(consumers).chain(partitions).collect()
    }

    /// What goes on, as this shows.
    pub fn shown_by(process: u32, call: &Call, answer: &Answer) -> Vec<Self> {
        match (call, answer) {
            (Call::Send { partition, .. }, Answer::Send { .. }) => {
                vec![Self::Producer(process), Self::Partition(*partition)]
            }
            // Some clients answer a poll with nothing while no broker is there.
            (_, Answer::Poll { records, .. }) if records.is_empty() => Vec::new(),
            _ => vec![Self::Consumer(process)],
        }
    }
}

impl fmt::Display for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Producer(process) => write!(f, "the producer of process {process}"),
            Self::Consumer(process) => write!(f, "the consumer of process {process}"),
            Self::Partition(partition) => write!(f, "writing to partition {partition}"),
        }
    }
}

pub fn judge(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("processes-and-partitions");
    let mut notes = case.history.notes.iter();
    let Some(healed) = notes.find(|note| note.event.what == What::Healed) else {
        return found;
    };
    // When each went on first.
    let mut first: BTreeMap<Alive, u64> = BTreeMap::new();
    for op in &case.history.ops {
        let Some((answer, end)) = op.ok().filter(|_| op.line > healed.line) else {
            continue;
        };
        for alive in Alive::shown_by(op.process, &op.call, answer) {
            let at = first.entry(alive).or_insert(end.at);
            *at = end.at.min(*at);
        }
    }
    let within_ms = case.history.setup.progress_within_ms;
    let deadline = healed.event.at + within_ms * 1_000_000;
    for alive in Alive::all(&case.history.setup) {
        found.looked_at += 1;
        if first.get(&alive).is_none_or(|at| *at > deadline) {
            found.add([healed.line], || {
                format!("{alive} did not go on within {within_ms} ms of healing")
            });
        }
    }
    found
}
