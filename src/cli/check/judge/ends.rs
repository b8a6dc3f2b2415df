//! Whether a log can be read to where it is known to end: whoever waits for what a broker only says
//! is there waits for ever. A reader is held to what was known before it began, since a request
//! without an answer may add to the log while it reads.

use std::collections::BTreeMap;

use super::{Case, Found};
use crate::cli::check::history::{Answer, Ended, What};

/// Where a log ends at least, by what the history has up to a line.
type Known = BTreeMap<i32, Vec<(usize, i64)>>;

pub fn judge(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("readings");
    let known = known(case);
    // By process, where its last reading began.
    let mut began: BTreeMap<u32, usize> = BTreeMap::new();
    for note in &case.history.notes {
        let process = note.event.process;
        match note.event.what {
            What::Assigned { .. } => {
                began.insert(process, note.line);
            }
            What::ReadTo {
                partition,
                position,
                ended,
            } if ended != Ended::CutShort => {
                found.looked_at += 1;
                let since = began.get(&process).copied().unwrap_or(note.line);
                let ends = known.get(&partition).map_or(&[][..], |ends| &ends[..]);
                let before = ends.partition_point(|(line, _)| *line < since);
                if let Some((line, end)) = ends[..before].last()
                    && position < *end
                {
                    found.add([*line, note.line], || {
                        format!(
                            "process {process} could read partition {partition} up to {position} \
                             at the end, which was known to end at {end}"
                        )
                    });
                }
            }
            _ => {}
        }
    }
    found
}

fn known(case: &Case<'_>) -> Known {
    let mut all: Vec<(usize, i32, i64)> = Vec::new();
    for (&(partition, offset), placed) in &case.log {
        all.extend(placed.first().map(|it| (it.line, partition, offset + 1)));
    }
    for op in &case.history.ops {
        let Some((answer, end)) = op.ok() else {
            continue;
        };
        let marks = match answer {
            Answer::Watermarks(marks) => std::slice::from_ref(marks),
            Answer::Poll { watermarks, .. } => watermarks,
            _ => &[],
        };
        all.extend(marks.iter().map(|it| (end.line, it.partition, it.end())));
    }
    all.sort_unstable();
    let mut known = Known::new();
    for (line, partition, end) in all {
        let ends = known.entry(partition).or_default();
        if ends.last().is_none_or(|(_, last)| end > *last) {
            ends.push((line, end));
        }
    }
    known
}
