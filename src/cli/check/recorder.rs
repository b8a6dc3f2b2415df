//! Writes the history while it happens. All threads of a run share it: an event has its time and
//! its line under one lock, so that the order of the lines is that of the times.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::history::{Answer, At, Call, Event, Setup, What};
use super::judge::Alive;
use crate::cli::CliError;

/// Why an operation has no answer.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Whether it is known not to have happened.
    pub is_definite: bool,
    pub why: String,
}

impl Failed {
    /// It may have happened, or not.
    pub fn perhaps(why: impl std::fmt::Display) -> Self {
        let (is_definite, why) = (false, why.to_string());
        Self { is_definite, why }
    }

    /// It has not happened, and will not.
    pub fn surely(why: impl std::fmt::Display) -> Self {
        let (is_definite, why) = (true, why.to_string());
        Self { is_definite, why }
    }
}

/// The history so far.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    events: Vec<Event>,
    file: Option<BufWriter<File>>,
    failed: Option<io::Error>,
    next: u64,
    /// What is under way.
    open: HashMap<u64, Call>,
    partitions: i32,
    /// Where the log of each partition begins and ends at least.
    starts: BTreeMap<i32, i64>,
    ends: BTreeMap<i32, i64>,
    /// Since the broker has healed: the first operation of then, and what goes on.
    healed: Option<u64>,
    alive: BTreeSet<Alive>,
}

impl Recorder {
    /// Begins a history, in a file too if there is one.
    pub fn new(setup: Setup, file: Option<&Path>) -> Result<Self, CliError> {
        let create = |path: &Path| File::create(path).map_err(CliError::io(shown(path)));
        let recorder = Self {
            began: Instant::now(),
            state: Mutex::new(State {
                events: Vec::new(),
                file: file.map(create).transpose()?.map(BufWriter::new),
                failed: None,
                next: 0,
                open: HashMap::new(),
                partitions: setup.partitions,
                starts: BTreeMap::new(),
                ends: BTreeMap::new(),
                healed: None,
                alive: BTreeSet::new(),
            }),
        };
        recorder.note(0, What::Run(setup));
        Ok(recorder)
    }

    /// Writes what is in memory to a file.
    pub fn save(events: &[Event], path: &Path) -> Result<(), CliError> {
        let mut file = BufWriter::new(File::create(path).map_err(CliError::io(shown(path)))?);
        let written = events.iter().try_for_each(|event| line(&mut file, event));
        written
            .and_then(|()| file.flush())
            .map_err(CliError::io(shown(path)))
    }

    /// An operation begins. Its number.
    pub fn invoke(&self, process: u32, call: Call) -> u64 {
        let mut state = self.state();
        let op = state.next;
        state.next += 1;
        state.open.insert(op, call.clone());
        self.push(&mut state, process, What::Invoke { op, call });
        op
    }

    /// An operation ends.
    pub fn complete(&self, process: u32, op: u64, outcome: &Result<Answer, Failed>) {
        let mut state = self.state();
        let call = state.open.remove(&op);
        let what = match outcome {
            Ok(answer) => {
                if let Some(call) = call {
                    state.learn(process, op, &call, answer);
                }
                let answer = answer.clone();
                What::Ok { op, answer }
            }
            Err(Failed { is_definite, why }) => {
                let error = why.clone();
                match is_definite {
                    true => What::Fail { op, error },
                    false => What::Info { op, error },
                }
            }
        };
        self.push(&mut state, process, what);
    }

    /// A consumer was assigned partitions. The assignment's number.
    pub fn assigned(
        &self,
        process: u32,
        member: &str,
        generation: Option<i32>,
        from: Vec<(i32, Option<i64>)>,
    ) -> u64 {
        let mut state = self.state();
        let assignment = state.next;
        state.next += 1;
        let what = What::Assigned {
            assignment,
            member: member.to_owned(),
            generation,
            from,
        };
        self.push(&mut state, process, what);
        assignment
    }

    /// Anything else.
    pub fn note(&self, process: u32, what: What) {
        let mut state = self.state();
        if what == What::Healed {
            state.healed = Some(state.next);
        }
        self.push(&mut state, process, what);
    }

    /// What goes on again since the broker has healed.
    pub fn alive(&self) -> BTreeSet<Alive> {
        self.state().alive.clone()
    }

    /// The partitions that have taken nothing since the broker has healed; none before.
    pub fn owed(&self) -> Vec<i32> {
        let state = self.state();
        if state.healed.is_none() {
            return Vec::new();
        }
        let is_owed = |it: &i32| !state.alive.contains(&Alive::Partition(*it));
        (0..state.partitions).filter(is_owed).collect()
    }

    /// Behind the largest offset that is known of each partition.
    pub fn ends(&self) -> BTreeMap<i32, i64> {
        self.state().ends.clone()
    }

    /// Whether an offset is known to be in a partition's log, or just behind it.
    pub fn is_known(&self, partition: i32, offset: i64) -> bool {
        let state = self.state();
        let start = state.starts.get(&partition).copied().unwrap_or(0);
        let end = state.ends.get(&partition).copied().unwrap_or(0);
        (start..=end).contains(&offset)
    }

    /// Ends the history, and hands it over, with the reason if its file does not have all of it.
    pub fn finish(&self) -> (Vec<Event>, Option<io::Error>) {
        self.note(0, What::End);
        let mut state = self.state();
        let flushed = state.file.as_mut().map_or(Ok(()), BufWriter::flush);
        let failed = state.failed.take().or(flushed.err());
        (std::mem::take(&mut state.events), failed)
    }

    fn push(&self, state: &mut State, process: u32, what: What) {
        let at = self.began.elapsed().as_nanos() as u64;
        let event = Event { at, process, what };
        if let Some(file) = &mut state.file
            && let Err(error) = line(file, &event)
        {
            state.failed = state.failed.take().or(Some(error));
        }
        state.events.push(event);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn learn(&mut self, process: u32, op: u64, call: &Call, answer: &Answer) {
        if self.healed.is_some_and(|healed| op >= healed) {
            self.alive.extend(Alive::shown_by(process, call, answer));
        }
        let mut known = |(partition, end): At| {
            let known = self.ends.entry(partition).or_default();
            *known = end.max(*known);
        };
        match (call, answer) {
            (
                Call::Send {
                    partition, values, ..
                },
                Answer::Send {
                    offset: Some(base), ..
                },
            ) => known((*partition, base + values.len() as i64)),
            (
                _,
                Answer::Poll {
                    records,
                    watermarks,
                },
            ) => {
                let ends = records.iter().map(|it| (it.partition, it.offset + 1));
                let marks = watermarks.iter().map(|it| (it.partition, it.end()));
                ends.chain(marks).for_each(known);
            }
            (_, Answer::Watermarks(marks)) => {
                known((marks.partition, marks.end()));
                let start = self.starts.entry(marks.partition).or_default();
                *start = marks.start.max(*start);
            }
            _ => {}
        }
    }
}

fn line(file: &mut BufWriter<File>, event: &Event) -> io::Result<()> {
    serde_json::to_writer(&mut *file, event)?;
    file.write_all(b"\n")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
