//! Inside one assignment a consumer reads every offset once, from where it began. That holds for
//! topics such as a run makes: nothing in them is compacted, and no transaction marks its end.

use std::collections::HashMap;

use super::{Case, Found};
use crate::cli::check::history::What;

pub fn judge(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("records");
    // The offset that is next, and the line that says so.
    let mut next: HashMap<(u64, i32), (i64, usize)> = HashMap::new();
    for note in &case.history.notes {
        if let What::Assigned {
            assignment, from, ..
        } = &note.event.what
        {
            for (partition, offset) in from {
                if let Some(offset) = offset {
                    next.insert((*assignment, *partition), (*offset, note.line));
                }
            }
        }
    }
    for read in &case.reads {
        let Some(assignment) = read.assignment else {
            continue;
        };
        found.looked_at += 1;
        let (partition, offset) = (read.partition, read.offset);
        let expected = next.insert((assignment, partition), (offset + 1, read.line));
        if let Some((expected, line)) = expected
            && expected != offset
        {
            let how = if offset > expected {
                "skips"
            } else {
                "goes back"
            };
            found.add([line, read.line], || {
                format!(
                    "process {} {how}: partition {partition} offset {offset} comes where \
                     {expected} is next",
                    read.process
                )
            });
        }
    }
    found
}
