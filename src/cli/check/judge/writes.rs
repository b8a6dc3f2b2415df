//! Whether what was acknowledged is there at the end, and nothing else is.

use std::collections::{BTreeMap, HashSet};

use super::{Case, Fate, Found, Write};
use crate::cli::check::history::{Ended, What};

/// What a fresh reader read at the end.
#[derive(Default)]
struct Reader<'a> {
    values: HashSet<(i32, &'a str)>,
    /// The highest offset of each partition.
    highest: BTreeMap<i32, i64>,
    /// The partitions that it read to their ends.
    finished: HashSet<i32>,
}

impl Reader<'_> {
    fn has(&self, write: &Write<'_>) -> bool {
        self.values.contains(&(write.partition, write.value))
    }
}

/// What a reader has passed is missing for good, however far it read.
pub fn lost(case: &Case<'_>) -> Found {
    missing(case, |reader, write| {
        let highest = reader.highest.get(&write.partition)?;
        Some(write.offset? < *highest)
    })
}

/// What is behind all that it got, or told no offset, is only if it read to the end.
pub fn unseen(case: &Case<'_>) -> Found {
    missing(case, |reader, write| {
        let is_finished = reader.finished.contains(&write.partition);
        let highest = reader.highest.get(&write.partition);
        let place = write.offset.zip(highest);
        let is_passed = place.is_some_and(|(offset, highest)| offset < *highest);
        is_finished.then_some(!is_passed)
    })
}

/// Whether a reader has to have a write; none where nothing can be said of it.
type Owed = fn(&Reader<'_>, &Write<'_>) -> Option<bool>;

/// Acknowledged writes that are owed to a reader, and that it did not get.
fn missing(case: &Case<'_>, owed: Owed) -> Found {
    let mut found = Found::looking_at("acknowledged-records");
    let readers = readers(case);
    let is_acknowledged = |write: &&Write<'_>| write.fate == Fate::Acknowledged;
    for write in case.writes.iter().filter(is_acknowledged) {
        let (mut is_looked_at, mut misses) = (false, Vec::new());
        for (process, reader) in &readers {
            let owed = owed(reader, write);
            is_looked_at |= owed.is_some();
            if owed == Some(true) && !reader.has(write) {
                misses.push(process.to_string());
            }
        }
        found.looked_at += usize::from(is_looked_at);
        if !misses.is_empty() {
            let offset = write.offset.map_or("?".to_owned(), |at| at.to_string());
            found.add(write.lines, || {
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

/// By process, those that read at the end.
fn readers<'a>(case: &Case<'a>) -> BTreeMap<u32, Reader<'a>> {
    let mut readers: BTreeMap<u32, Reader<'_>> = BTreeMap::new();
    for read in case.reads.iter().filter(|it| case.is_final(it.process)) {
        let reader = readers.entry(read.process).or_default();
        reader.values.insert((read.partition, read.value));
        let highest = reader.highest.entry(read.partition).or_default();
        *highest = read.offset.max(*highest);
    }
    for note in &case.history.notes {
        if let What::ReadTo {
            partition,
            ended: Ended::AtEnd,
            ..
        } = note.event.what
        {
            let reader = readers.entry(note.event.process).or_default();
            reader.finished.insert(partition);
        }
    }
    readers
}

/// Each value once in a partition: what may be read in one may be misplaced in another.
pub fn aborted(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("values-read");
    let mut seen = HashSet::new();
    for read in &case.reads {
        if !seen.insert((read.value, read.partition)) {
            continue;
        }
        let place = format!("partition {} offset {}", read.partition, read.offset);
        let value = read.value;
        let Some(write) = case.write(value) else {
            found.add([read.line], || {
                format!("nobody has sent {value}, which was read at {place}")
            });
            continue;
        };
        let lines = write.lines.into_iter().chain([read.line]);
        let to = write.partition;
        if write.fate == Fate::Refused {
            found.add(lines, || {
                format!("{value} was refused, and read at {place}")
            });
        } else if to != read.partition {
            found.add(lines, || {
                format!("{value} was sent to partition {to}, and read at {place}")
            });
        }
    }
    found.looked_at = seen.len();
    found
}
