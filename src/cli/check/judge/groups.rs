//! A group's committed offsets, and who owns which partition.
//!
//! No time says how long a member owns a partition: it may learn late that it does, or does so no
//! more. But in one generation each partition has one owner, whenever that hears of it.

use std::collections::{BTreeMap, HashMap};

use super::{Case, Found};
use crate::cli::check::history::{Answer, Call, What};

/// A committed offset that was written: none to begin with.
struct Written {
    offset: Option<i64>,
    began: u64,
    /// None where it may still be under way, as a commit without an answer may be for ever.
    ended: Option<u64>,
    line: Option<usize>,
}

/// An offset that was committed may be read as long as no commit that began behind its end has
/// ended before: then that one has replaced it.
pub fn committed(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("offsets-read");
    let written = written(case);
    for op in &case.history.ops {
        let Some((Answer::Committed { offsets }, end)) = op.ok() else {
            continue;
        };
        for (partition, offset) in offsets {
            found.looked_at += 1;
            let all = written.get(partition).map_or(&[][..], |all| &all[..]);
            // The last one to begin of those that were over before anybody asked.
            let over = all
                .iter()
                .filter(|it| it.ended.is_some_and(|ended| ended < op.began));
            let last = over.max_by_key(|it| it.began);
            let is_left = |it: &Written| {
                let is_replaced = |last: &Written| it.ended.is_some_and(|at| at < last.began);
                it.offset == *offset && it.began < end.at && !last.is_some_and(is_replaced)
            };
            let is_none_yet = offset.is_none() && last.is_none();
            if !is_none_yet && !all.iter().any(is_left) {
                let shown = |offset: Option<i64>| offset.map_or("none".into(), |at| at.to_string());
                let before = last.and_then(|last| last.line);
                found.add(before.into_iter().chain(op.lines()), || {
                    let of_before = match last {
                        Some(last) => format!("{} was committed", shown(last.offset)),
                        None => "nothing was committed".to_owned(),
                    };
                    format!(
                        "the group's offset of partition {partition} is {}, where {of_before} \
                         before",
                        shown(*offset)
                    )
                });
            }
        }
    }
    found
}

fn written(case: &Case<'_>) -> HashMap<i32, Vec<Written>> {
    let mut written: HashMap<i32, Vec<Written>> = HashMap::new();
    for op in &case.history.ops {
        let Call::Commit {
            generation,
            offsets,
        } = &op.call
        else {
            continue;
        };
        if op.is_failed() {
            continue;
        }
        // A client that shows no generation may have sent it twice, and the other one may come yet.
        let end = op.ok().filter(|_| generation.is_some());
        for (partition, offset) in offsets {
            written.entry(*partition).or_default().push(Written {
                offset: Some(*offset),
                began: op.began,
                ended: end.map(|(_, end)| end.at),
                line: Some(op.line),
            });
        }
    }
    written
}

/// Whoever is assigned something has it from a generation that was complete: from then on the
/// coordinator refuses commits of those before.
pub fn outdated(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("commits");
    // The newest generation that was known from a line on.
    let mut newest: Vec<(usize, i32)> = Vec::new();
    for note in &case.history.notes {
        if let What::Assigned {
            generation: Some(generation),
            ..
        } = note.event.what
            && newest.last().is_none_or(|(_, last)| generation > *last)
        {
            newest.push((note.line, generation));
        }
    }
    for op in &case.history.ops {
        let Call::Commit {
            generation: Some(generation),
            ..
        } = op.call
        else {
            continue;
        };
        if op.ok().is_none() {
            continue;
        }
        found.looked_at += 1;
        let known = newest.partition_point(|(line, _)| *line < op.line);
        if let Some((line, newer)) = newest[..known].last()
            && *newer > generation
        {
            found.add([*line].into_iter().chain(op.lines()), || {
                format!(
                    "process {} could commit in generation {generation}, where {newer} had begun",
                    op.process
                )
            });
        }
    }
    found
}

pub fn owned(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("partitions-of-generations");
    let mut owners: BTreeMap<(i32, i32), (&str, usize)> = BTreeMap::new();
    for note in &case.history.notes {
        let What::Assigned {
            member,
            generation: Some(generation),
            from,
            ..
        } = &note.event.what
        else {
            continue;
        };
        for (partition, _) in from {
            let owner = (member.as_str(), note.line);
            let (first, line) = *owners.entry((*generation, *partition)).or_insert(owner);
            if first != member {
                found.add([line, note.line], || {
                    format!(
                        "in generation {generation} partition {partition} is owned by {first} and \
                         by {member}"
                    )
                });
            }
        }
    }
    found.looked_at = owners.len();
    found
}
