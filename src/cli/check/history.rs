//! A history: what was asked of a broker and what it answered, an event a line of JSON. Pure but
//! for reading the file.
//!
//! An operation is two events, its invocation and its end: `ok` was answered, `fail` is known not
//! to have happened, `info` may have happened or not, now or later. One without an end is `info`.
//! The other events are notes, such as which partitions a consumer was assigned. A history may be
//! cut off anywhere: what is there can be judged.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::CliError;

/// A partition, and an offset in it.
pub type At = (i32, i64);

/// A line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since the run began, by the monotonic clock.
    pub at: u64,
    /// Whose event it is.
    pub process: u32,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum What {
    /// The first event.
    Run(Setup),
    Invoke {
        op: u64,
        call: Call,
    },
    Ok {
        op: u64,
        answer: Answer,
    },
    Fail {
        op: u64,
        error: String,
    },
    Info {
        op: u64,
        error: String,
    },
    /// A consumer reads these partitions from now on, from these offsets where they are known.
    Assigned {
        assignment: u64,
        /// The client; a process has one after the other.
        member: String,
        /// Where a group assigned them.
        generation: Option<i32>,
        from: Vec<(i32, Option<i64>)>,
    },
    /// It reads them no more. No check needs it; a person who reads the history does.
    Revoked {
        assignment: u64,
    },
    /// A client ended without a word; for a person, too.
    Crashed {
        client: String,
    },
    /// A client that cannot go on, by its library's own judgement; for a person, too.
    Disabled {
        client: String,
        error: String,
    },
    /// A client was answered what no broker may answer.
    BadAnswer {
        error: String,
    },
    /// The broker is well, and no fault follows.
    Healed,
    /// The processes begin nothing more.
    Over,
    /// A fresh reader at the end has read a partition from its beginning.
    ReadTo {
        partition: i32,
        /// Behind the last record that it got.
        position: i64,
        ended: Ended,
    },
    /// The run could not do all that it was to do.
    Unwell {
        error: String,
    },
    /// The last event.
    End,
}

/// Why a reader read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It has all that is known to be there, or the broker says that the log ends there.
    AtEnd,
    /// The broker is well and says that there is more, and does not give it.
    Stuck,
    /// The broker was not well: what it would have given is not known.
    CutShort,
}

/// What was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    pub topic: String,
    pub partitions: i32,
    /// Their numbers are 0 and on. The fresh readers at the end have the numbers behind theirs.
    pub processes: u32,
    pub seed: u64,
    /// How long after healing everything may take to go on.
    pub progress_within_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// A batch of records.
    Send {
        /// The client; its sends are in order, those of two are not.
        producer: String,
        is_idempotent: bool,
        partition: i32,
        values: Vec<String>,
    },
    Poll {
        assignment: Option<u64>,
    },
    /// Where a log begins and ends.
    Watermarks {
        partition: i32,
    },
    Commit {
        /// That of the request, where the client shows it. One that does not may also send the
        /// request again by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<i32>,
        offsets: Vec<At>,
    },
    /// What the group has committed.
    Committed {
        partitions: Vec<i32>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Send {
        /// Of the first record; a broker need not know it of a batch that it had before.
        offset: Option<i64>,
        /// How often the batch was sent, where the client shows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempts: Option<u32>,
    },
    Poll {
        records: Vec<Record>,
        watermarks: Vec<Watermarks>,
    },
    Watermarks(Watermarks),
    Commit,
    Committed {
        offsets: Vec<(i32, Option<i64>)>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub value: String,
    /// The leader's when it was written, where the client shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watermarks {
    pub partition: i32,
    pub start: i64,
    pub high: i64,
    /// The last stable offset, where it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<i64>,
    /// The leader's now, where the client shows it: then no leader of an older epoch than was known
    /// to any client can have answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i32>,
}

impl Watermarks {
    /// Where the log ends at least.
    pub fn end(&self) -> i64 {
        self.stable
            .map_or(self.high, |stable| stable.max(self.high))
    }
}

impl Call {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Send { .. } => "send",
            Self::Poll { .. } => "poll",
            Self::Watermarks { .. } => "watermarks",
            Self::Commit { .. } => "commit",
            Self::Committed { .. } => "committed",
        }
    }

    fn is_answered_by(&self, answer: &Answer) -> bool {
        matches!(
            (self, answer),
            (Self::Send { .. }, Answer::Send { .. })
                | (Self::Poll { .. }, Answer::Poll { .. })
                | (Self::Watermarks { .. }, Answer::Watermarks(_))
                | (Self::Commit { .. }, Answer::Commit)
                | (Self::Committed { .. }, Answer::Committed { .. })
        )
    }
}

/// An operation, put together from its two events.
#[derive(Clone, Debug)]
pub struct Op {
    /// The line of its invocation, from 1.
    pub line: usize,
    pub process: u32,
    pub began: u64,
    pub call: Call,
    /// None where the history has none.
    pub end: Option<End>,
}

#[derive(Clone, Debug)]
pub struct End {
    pub line: usize,
    pub at: u64,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    Ok(Answer),
    Fail,
    Info,
}

impl Op {
    /// The answer and when it came, if it is one that says that it was done.
    pub fn ok(&self) -> Option<(&Answer, &End)> {
        let end = self.end.as_ref()?;
        match &end.outcome {
            Outcome::Ok(answer) => Some((answer, end)),
            Outcome::Fail | Outcome::Info => None,
        }
    }

    pub fn is_failed(&self) -> bool {
        matches!(&self.end, Some(end) if matches!(end.outcome, Outcome::Fail))
    }

    /// Its lines, twice the same where the history has no end of it.
    pub fn lines(&self) -> [usize; 2] {
        let end = self.end.as_ref().map_or(self.line, |end| end.line);
        [self.line, end]
    }
}

/// An event that is no part of an operation.
#[derive(Clone, Debug)]
pub struct Note {
    pub line: usize,
    pub event: Event,
}

/// A history, or as much of it as was written.
#[derive(Clone, Debug)]
pub struct History {
    pub setup: Setup,
    /// In the order of their invocations.
    pub ops: Vec<Op>,
    pub notes: Vec<Note>,
    /// When its last event was.
    pub ended_at: u64,
    /// Why the run did not come to its end, if it did not.
    pub unfinished: Option<String>,
}

impl History {
    /// Reads the file of a run. A run that was killed may have written a part of its last line.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let shown = path.display().to_string();
        let file = File::open(path).map_err(CliError::io(&shown))?;
        let mut events = Vec::new();
        let mut lines = BufReader::new(file).split(b'\n').peekable();
        while let Some(line) = lines.next() {
            let line = line.map_err(CliError::io(&shown))?;
            match serde_json::from_slice(&line) {
                Ok(event) => events.push(event),
                Err(_) if lines.peek().is_none() => {}
                Err(error) => {
                    let number = events.len() + 1;
                    let why = format!("line {number} is no event of a history ({error})");
                    return Err(CliError::failed(&shown, why));
                }
            }
        }
        Self::new(events).map_err(|why| CliError::failed(&shown, why))
    }

    /// Puts operations together.
    pub fn new(events: Vec<Event>) -> Result<Self, String> {
        let Some(What::Run(setup)) = events.first().map(|event| event.what.clone()) else {
            return Err("it does not begin as a history of 'millrace check run' does".to_owned());
        };
        let (ended_at, unfinished) = (events.last().map_or(0, |it| it.at), unfinished(&events));
        let (mut ops, mut notes): (Vec<Op>, Vec<Note>) = (Vec::new(), Vec::new());
        let mut by_number = HashMap::new();
        for (index, event) in events.into_iter().enumerate() {
            let (line, at, process) = (index + 1, event.at, event.process);
            let (op, outcome) = match event.what {
                What::Invoke { op, call } => {
                    if by_number.insert(op, ops.len()).is_some() {
                        return Err(format!("line {line} begins operation {op} again"));
                    }
                    ops.push(Op {
                        line,
                        process,
                        began: at,
                        call,
                        end: None,
                    });
                    continue;
                }
                What::Ok { op, answer } => (op, Outcome::Ok(answer)),
                What::Fail { op, .. } => (op, Outcome::Fail),
                What::Info { op, .. } => (op, Outcome::Info),
                _ => {
                    notes.push(Note { line, event });
                    continue;
                }
            };
            let known = by_number.get(&op).and_then(|at| ops.get_mut(*at));
            let known = known.filter(|known| match &outcome {
                Outcome::Ok(answer) => known.call.is_answered_by(answer),
                Outcome::Fail | Outcome::Info => true,
            });
            match known {
                Some(known) if known.end.is_none() => known.end = Some(End { line, at, outcome }),
                _ => {
                    return Err(format!(
                        "line {line} ends operation {op}, which is not open"
                    ));
                }
            }
        }
        Ok(Self {
            setup,
            ops,
            notes,
            ended_at,
            unfinished,
        })
    }
}

fn unfinished(events: &[Event]) -> Option<String> {
    let unwell = events.iter().find_map(|event| match &event.what {
        What::Unwell { error } => Some(error.clone()),
        _ => None,
    });
    let is_cut = events.last().is_some_and(|event| event.what != What::End);
    unwell.or_else(|| is_cut.then(|| format!("it is cut off behind line {}", events.len())))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn events() -> Vec<Event> {
        let setup = Setup {
            topic: "t".into(),
            partitions: 1,
            processes: 1,
            seed: 1 << 60,
            progress_within_ms: 1,
        };
        let call = Call::Send {
            producer: "0.1".into(),
            is_idempotent: true,
            partition: 0,
            values: vec!["0.1-0".into()],
        };
        let answer = sent(Some(5));
        let from = vec![(0, None), (1, Some(7))];
        let all = [
            What::Run(setup),
            What::Invoke { op: 0, call },
            What::Assigned {
                assignment: 1,
                member: "0.1".into(),
                generation: Some(3),
                from,
            },
            What::Ok { op: 0, answer },
            What::Healed,
            What::End,
        ];
        let event = |(at, what)| Event {
            at,
            process: 0,
            what,
        };
        (0..).zip(all).map(event).collect()
    }

    fn sent(offset: Option<i64>) -> Answer {
        let attempts = None;
        Answer::Send { offset, attempts }
    }

    fn file(lines: &[String]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(lines.join("\n").as_bytes()).expect("a file");
        file
    }

    #[test]
    fn a_history_comes_back_from_its_lines() {
        let events = events();
        let lines = events
            .iter()
            .map(|event| serde_json::to_string(event).expect("JSON"));
        let mut lines: Vec<_> = lines.collect();
        for (event, line) in events.iter().zip(&lines) {
            assert_eq!(
                event,
                &serde_json::from_str(line).expect("an event"),
                "{line}"
            );
        }
        let history = History::read(file(&lines).path()).expect("a history");
        assert_eq!((history.ops.len(), history.notes.len()), (1, 4));
        assert_eq!(history.ops[0].lines(), [2, 4]);
        assert_eq!(history.unfinished, None);
        lines[4].truncate(8);
        for (lines, expected) in [
            (&lines[..], "line 5 is no event"),
            (&lines[1..4], "not begin"),
        ] {
            let told = History::read(file(lines).path()).expect_err(expected);
            assert!(told.to_string().contains(expected), "{told}");
        }
        let told = History::read(file(&[]).path()).expect_err("nothing");
        assert!(told.to_string().contains("not begin"), "{told}");
        // What was written before the cut is there, and a half of a line is nothing.
        for lines in [&lines[..5], &lines[..4]] {
            let history = History::read(file(lines).path()).expect("a history");
            assert_eq!((history.ops.len(), history.notes.len()), (1, 2));
            let why = history.unfinished.expect("a reason");
            assert!(why.contains("cut off behind line 4"), "{why}");
        }
    }

    #[test]
    fn ends_belong_to_what_was_begun() {
        let end = |op, answer| What::Ok { op, answer };
        for (at, what, expected) in [
            (3, end(1, sent(None)), "operation 1"),
            (3, end(0, Answer::Commit), "operation 0"),
            (4, end(0, sent(None)), "line 5"),
        ] {
            let mut events = events();
            events[at].what = what;
            let told = History::new(events).expect_err(expected);
            assert!(told.contains(expected), "{told}");
        }
    }
}
