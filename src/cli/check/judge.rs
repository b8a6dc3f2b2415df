//! Judges a history: each check looks at all of it and says what it looked at and what is wrong.
//! Pure; a check never asks a broker, so that a recorded history can be judged again.
//!
//! What must stay true: a check accuses only what no correct broker can have done. What is not
//! known, how an operation without an answer ended, or in what order two that overlapped were done,
//! counts as what is best for the broker. A check that has looked at nothing says so.

mod answers;
mod ends;
mod groups;
mod liveness;
mod polls;
mod records;
mod watermarks;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use super::history::{Answer, Call, History, Op};

pub use self::liveness::Alive;

/// A check, by its name.
pub struct Check {
    pub name: &'static str,
    /// What it looks for.
    pub what: &'static str,
    judge: fn(&Case<'_>) -> Found,
}

/// All of them, in the order in which they are shown.
pub static CHECKS: [Check; 16] = [
    Check {
        name: "inconsistent-offsets",
        what: "two values at one offset",
        judge: records::inconsistent,
    },
    Check {
        name: "duplicates",
        what: "one value at two offsets, sent once or by an idempotent producer",
        judge: records::duplicates,
    },
    Check {
        name: "lost-writes",
        what: "acknowledged, not among what was read up to behind it",
        judge: writes::lost,
    },
    Check {
        name: "unseen-writes",
        what: "acknowledged, and the log was read to its end before it came",
        judge: writes::unseen,
    },
    Check {
        name: "aborted-reads",
        what: "read, though it was refused or nobody sent it",
        judge: writes::aborted,
    },
    Check {
        name: "ends-reached",
        what: "a log that could not be read at the end up to where it was known to end",
        judge: ends::judge,
    },
    Check {
        name: "appends",
        what: "a record in front of what was there before it was sent",
        judge: watermarks::appends,
    },
    Check {
        name: "polls",
        what: "offsets left out or read again inside one assignment",
        judge: polls::judge,
    },
    Check {
        name: "send-order",
        what: "records of one idempotent producer in another order than it sent them",
        judge: records::order,
    },
    Check {
        name: "committed-offsets",
        what: "a group's offset that was replaced before, or never committed",
        judge: groups::committed,
    },
    Check {
        name: "old-generations",
        what: "a commit of a generation that was over",
        judge: groups::outdated,
    },
    Check {
        name: "owned-twice",
        what: "a partition of two members in one generation",
        judge: groups::owned,
    },
    Check {
        name: "watermarks",
        what: "high watermark, log start or leader epoch smaller than before",
        judge: watermarks::judge,
    },
    Check {
        name: "record-epochs",
        what: "a record's leader epoch smaller than one in front of it",
        judge: records::epochs,
    },
    Check {
        name: "bad-answers",
        what: "an answer that no broker may give",
        judge: answers::judge,
    },
    Check {
        name: "liveness",
        what: "no progress in time once the broker was well again",
        judge: liveness::judge,
    },
];

/// How many violations of a check are kept in words.
const KEPT: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub looked_at: usize,
    /// What of, in the plural.
    pub of: &'static str,
    /// How often what it looks for is there.
    pub count: usize,
    /// The first of them.
    pub violations: Vec<Violation>,
}

/// Something that must not be.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Violation {
    pub what: String,
    /// The lines of the history that show it.
    pub lines: Vec<usize>,
}

impl Found {
    fn looking_at(of: &'static str) -> Self {
        Self {
            of,
            ..Self::default()
        }
    }

    fn add(&mut self, lines: impl IntoIterator<Item = usize>, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.violations.len() < KEPT {
            let mut lines: Vec<_> = lines.into_iter().collect();
            lines.sort_unstable();
            lines.dedup();
            let what = what();
            self.violations.push(Violation { what, lines });
        }
    }
}

/// Has every check judge the history.
pub fn judge(history: &History) -> Vec<(&'static Check, Found)> {
    let case = Case::of(history);
    let found = |check: &'static Check| (check, (check.judge)(&case));
    CHECKS.iter().map(found).collect()
}

/// How much is wrong, by all checks together.
pub fn total(judged: &[(&'static Check, Found)]) -> usize {
    judged.iter().map(|(_, found)| found.count).sum()
}

/// A history as checks look at it.
struct Case<'a> {
    history: &'a History,
    /// In the order in which they were sent.
    writes: Vec<Write<'a>>,
    /// Which of them has this value.
    sent: HashMap<&'a str, usize>,
    /// In the order in which polls began.
    reads: Vec<Read<'a>>,
    log: Log<'a>,
}

/// By partition and offset, all that is said to be there by what was acknowledged and read: one
/// value, if all is well.
type Log<'a> = BTreeMap<(i32, i64), Vec<Placed<'a>>>;

/// That a value is at an offset.
#[derive(Clone, Copy, Debug)]
struct Placed<'a> {
    value: &'a str,
    epoch: Option<i32>,
    /// The first line that says so.
    line: usize,
}

/// A record that was sent.
struct Write<'a> {
    value: &'a str,
    producer: &'a str,
    is_idempotent: bool,
    /// Whether it is known that no request but one had it.
    is_sent_once: bool,
    partition: i32,
    fate: Fate,
    /// Where it is, if it is acknowledged and the broker told.
    offset: Option<i64>,
    began: u64,
    lines: [usize; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    /// It is known not to be there.
    Refused,
    Unknown,
}

/// A record that was read.
struct Read<'a> {
    partition: i32,
    offset: i64,
    value: &'a str,
    epoch: Option<i32>,
    process: u32,
    assignment: Option<u64>,
    line: usize,
}

impl<'a> Case<'a> {
    fn of(history: &'a History) -> Self {
        let (mut writes, mut reads) = (Vec::new(), Vec::new());
        for op in &history.ops {
            match (&op.call, op.ok()) {
                (Call::Send { .. }, _) => writes.extend(Write::all(op)),
                (Call::Poll { assignment }, Some((Answer::Poll { records, .. }, end))) => {
                    reads.extend(records.iter().map(|record| Read {
                        partition: record.partition,
                        offset: record.offset,
                        value: &record.value,
                        epoch: record.epoch,
                        process: op.process,
                        assignment: *assignment,
                        line: end.line,
                    }));
                }
                _ => {}
            }
        }
        let numbered = writes.iter().enumerate();
        Self {
            history,
            sent: numbered.map(|(number, it)| (it.value, number)).collect(),
            log: log(&writes, &reads),
            writes,
            reads,
        }
    }

    /// What was sent with this value.
    fn write(&self, value: &str) -> Option<&Write<'a>> {
        self.sent.get(value).map(|number| &self.writes[*number])
    }

    /// The first of what is said to be at each offset.
    fn placed(&self) -> impl Iterator<Item = ((i32, i64), Placed<'a>)> {
        let first = |(place, all): (&(i32, i64), &Vec<Placed<'a>>)| Some((*place, *all.first()?));
        self.log.iter().filter_map(first)
    }

    /// Whether it is one of the fresh readers that read everything at the end.
    fn is_final(&self, process: u32) -> bool {
        process >= self.history.setup.processes
    }
}

impl<'a> Write<'a> {
    /// The records of a send.
    fn all(op: &'a Op) -> Vec<Self> {
        let Call::Send {
            producer,
            is_idempotent,
            partition,
            values,
        } = &op.call
        else {
            return Vec::new();
        };
        let (base, attempts) = match op.ok() {
            Some((Answer::Send { offset, attempts }, _)) => (*offset, *attempts),
            _ => (None, None),
        };
        let fate = match op.ok() {
            Some(_) => Fate::Acknowledged,
            None if op.is_failed() => Fate::Refused,
            None => Fate::Unknown,
        };
        let writes = (0..).zip(values).map(|(index, value)| Self {
            value,
            producer,
            is_idempotent: *is_idempotent,
            is_sent_once: attempts == Some(1),
            partition: *partition,
            fate,
            offset: base.map(|base| base + index),
            began: op.began,
            lines: op.lines(),
        });
        writes.collect()
    }
}

fn log<'a>(writes: &[Write<'a>], reads: &[Read<'a>]) -> Log<'a> {
    let mut log = Log::new();
    let mut add = |place, value: &'a str, epoch, line| {
        let all = log.entry(place).or_default();
        let is_same = |it: &Placed<'_>| it.value == value && it.epoch == epoch;
        if !all.iter().any(is_same) {
            all.push(Placed { value, epoch, line });
        }
    };
    for write in writes {
        if let Some(offset) = write.offset {
            add((write.partition, offset), write.value, None, write.lines[1]);
        }
    }
    for read in reads {
        let place = (read.partition, read.offset);
        add(place, read.value, read.epoch, read.line);
    }
    log
}
