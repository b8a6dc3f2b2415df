//! Once the broker is well again everything that is tried goes on in time: each process has
//! something acknowledged and gets answers, and each partition takes records.

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

    /// What a call shows to go on, if it is answered.
    fn tried_by(process: u32, call: &Call) -> Vec<Self> {
        match call {
            Call::Send { partition, .. } => {
                vec![Self::Producer(process), Self::Partition(*partition)]
            }
            _ => vec![Self::Consumer(process)],
        }
    }

    /// What goes on, as this shows.
    pub fn shown_by(process: u32, call: &Call, answer: &Answer) -> Vec<Self> {
        match answer {
            // Some clients answer a poll with nothing while no broker is there.
            Answer::Poll { records, .. } if records.is_empty() => Vec::new(),
            _ => Self::tried_by(process, call),
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

/// Nothing is accused that was not tried, or so late that the run ended before its time was over.
pub fn judge(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("processes-and-partitions");
    let notes = &case.history.notes;
    let noted = |what: What| notes.iter().find(|note| note.event.what == what);
    let Some(healed) = noted(What::Healed) else {
        return found;
    };
    let over = noted(What::Over).map_or(case.history.ended_at, |note| note.event.at);
    // When each was tried first, and when it went on first.
    let mut tried: BTreeMap<Alive, (u64, usize)> = BTreeMap::new();
    let mut shown: BTreeMap<Alive, u64> = BTreeMap::new();
    // What is refused is no try: a run sends records that are too large.
    let since = case.history.ops.iter();
    for op in since.filter(|op| op.line > healed.line && !op.is_failed()) {
        for alive in Alive::tried_by(op.process, &op.call) {
            tried.entry(alive).or_insert((op.began, op.line));
        }
        let Some((answer, end)) = op.ok() else {
            continue;
        };
        for alive in Alive::shown_by(op.process, &op.call, answer) {
            let at = shown.entry(alive).or_insert(end.at);
            *at = end.at.min(*at);
        }
    }
    let within_ms = case.history.setup.progress_within_ms;
    for alive in Alive::all(&case.history.setup) {
        let Some((at, line)) = tried.get(&alive) else {
            continue;
        };
        let deadline = at + within_ms * 1_000_000;
        let is_in_time = shown.get(&alive).is_some_and(|at| *at <= deadline);
        if !is_in_time && deadline > over {
            continue;
        }
        found.looked_at += 1;
        if !is_in_time {
            found.add([healed.line, *line], || {
                format!("{alive} did not go on within {within_ms} ms, the broker being well")
            });
        }
    }
    found
}
