//! Whether what was acknowledged is there at the end, and nothing else is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Case, Fate, Found, Write};

/// What a fresh reader read at the end.
#[derive(Default)]
struct Reader<'a> {
    values: HashSet<&'a str>,
    /// The highest offset of each partition.
    highest: BTreeMap<i32, i64>,
}

pub fn lost(case: &Case<'_>) -> Found {
    missing(case, true)
}

pub fn unseen(case: &Case<'_>) -> Found {
    missing(case, false)
}

/// Acknowledged writes that a reader did not get: those in front of something that it got, or the
/// others, which are behind it all or told no offset.
fn missing(case: &Case<'_>, is_in_front: bool) -> Found {
    let mut found = Found::looking_at("acknowledged-records");
    let readers = readers(case);
    if readers.is_empty() {
        return found;
    }
    let is_acknowledged = |write: &&Write<'_>| write.fate == Fate::Acknowledged;
    for write in case.writes.iter().filter(is_acknowledged) {
        found.looked_at += 1;
        let misses = readers.iter().filter(|(_, reader)| {
            let highest = reader.highest.get(&write.partition);
            let is_passed = highest
                .zip(write.offset)
                .is_some_and(|(highest, offset)| offset < *highest);
            !reader.values.contains(write.value) && is_passed == is_in_front
        });
        let misses: Vec<_> = misses.map(|(process, _)| process.to_string()).collect();
        if !misses.is_empty() {
            let offset = write.offset.map_or("?".to_owned(), |at| at.to_string());
            found.add(write.lines.iter().copied(), || {
                format!(
                    "{} is acknowledged at partition {} offset {offset}, and process {} did not \
                     read it at the end",
                    write.value,
                    write.partition,
                    misses.join(" and ")
                )
            });
        }
    }
    found
}

/// By process, those that were assigned something at the end: one that got nothing is among them.
fn readers<'a>(case: &Case<'a>) -> BTreeMap<u32, Reader<'a>> {
    let ops = case.history.ops.iter().map(|op| op.process);
    let finals: BTreeSet<u32> = ops.filter(|process| case.is_final(*process)).collect();
    let mut readers: BTreeMap<u32, Reader<'_>> = finals
        .into_iter()
        .map(|process| (process, Reader::default()))
        .collect();
    for read in &case.reads {
        if let Some(reader) = readers.get_mut(&read.process) {
            reader.values.insert(read.value);
            let highest = reader.highest.entry(read.partition).or_default();
            *highest = read.offset.max(*highest);
        }
    }
    readers
}

pub fn aborted(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("values-read");
    let sent: HashMap<&str, &Write<'_>> = case
        .writes
        .iter()
        .map(|write| (write.value, write))
        .collect();
    let mut seen = HashSet::new();
    for read in &case.reads {
        if !seen.insert(read.value) {
            continue;
        }
        let place = format!("partition {} offset {}", read.partition, read.offset);
        let value = read.value;
        match sent.get(value) {
            None => found.add([read.line], || {
                format!("nobody has sent {value}, which was read at {place}")
            }),
            Some(write) if write.fate == Fate::Refused => {
                let lines = write.lines.iter().copied().chain([read.line]);
                found.add(lines, || {
                    format!("{value} was refused, and read at {place}")
                });
            }
            Some(write) if write.partition != read.partition => {
                let lines = write.lines.iter().copied().chain([read.line]);
                let to = write.partition;
                found.add(lines, || {
                    format!("{value} was sent to partition {to}, and read at {place}")
                });
            }
            Some(_) => {}
        }
    }
    found.looked_at = seen.len();
    found
}
