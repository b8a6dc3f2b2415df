//! What stands where: one value at an offset, one offset for a value, in the order of sending.

use std::collections::HashMap;

use super::{Case, Found};

pub fn inconsistent(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("offsets");
    for ((partition, offset), placed) in &case.log {
        found.looked_at += 1;
        for pair in placed.windows(2) {
            let [first, then] = pair else { continue };
            if first.value != then.value {
                found.add([first.line, then.line], || {
                    let (first, then) = (first.value, then.value);
                    format!("partition {partition} offset {offset} is {first} and {then}")
                });
            }
        }
    }
    found
}

/// A producer without idempotence may write twice what it sends again, but not what it sent once.
pub fn duplicates(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("values");
    let mut places: HashMap<&str, ((i32, i64), usize)> = HashMap::new();
    for (&(partition, offset), placed) in &case.log {
        for placed in placed {
            let value = placed.value;
            let write = case.write(value);
            if !write.is_some_and(|it| it.is_idempotent || it.is_sent_once) {
                continue;
            }
            let here = ((partition, offset), placed.line);
            let (first, line) = *places.entry(value).or_insert(here);
            if first != here.0 {
                let (in_partition, at) = first;
                found.add([line, placed.line], || {
                    format!(
                        "{value} is at partition {in_partition} offset {at} and at partition \
                         {partition} offset {offset}"
                    )
                });
            }
        }
    }
    found.looked_at = places.len();
    found
}

pub fn order(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("records");
    // By partition and producer, the last one that it had sent.
    let mut last: HashMap<(i32, &str), (usize, &str, i64, usize)> = HashMap::new();
    for ((partition, offset), placed) in case.placed() {
        let (value, line) = (placed.value, placed.line);
        let number = case.sent.get(value).copied();
        let number = number.filter(|number| case.writes[*number].is_idempotent);
        let Some(number) = number else { continue };
        found.looked_at += 1;
        let producer = case.writes[number].producer;
        let before = last.insert((partition, producer), (number, value, offset, line));
        if let Some((earlier, other, at, other_line)) = before
            && earlier > number
        {
            found.add([other_line, line], || {
                format!(
                    "partition {partition} has {other} at {at} and {value} at {offset}, which \
                     was sent before it"
                )
            });
        }
    }
    found
}

pub fn epochs(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("records");
    // Of the last offset that was read of a client that shows epochs.
    let mut before: Option<(i32, i64, i32, usize)> = None;
    for (&(partition, offset), placed) in &case.log {
        let mut epochs = placed.iter().filter_map(|it| Some((it.epoch?, it.line)));
        let Some((epoch, line)) = epochs.next() else {
            continue;
        };
        found.looked_at += 1;
        if let Some((other, behind)) = epochs.find(|(other, _)| *other != epoch) {
            found.add([line, behind], || {
                format!("partition {partition} offset {offset} has epoch {epoch} and {other}")
            });
        }
        let next = (partition, offset, epoch, line);
        if let Some((of, at, earlier, earlier_line)) = before.replace(next)
            && of == partition
            && epoch < earlier
        {
            found.add([earlier_line, line], || {
                format!(
                    "partition {partition} has epoch {earlier} at {at} and {epoch} behind it, at \
                     {offset}"
                )
            });
        }
    }
    found
}
