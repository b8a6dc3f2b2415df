//! What stands where: one value at an offset, one offset for a value, in the order of sending.

use std::collections::{BTreeMap, HashMap};

use super::{Case, Found};

pub fn inconsistent(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("offsets");
    let mut values: HashMap<(i32, i64), (&str, usize)> = HashMap::new();
    for (partition, offset, value, line) in case.placed() {
        let (first, first_line) = *values.entry((partition, offset)).or_insert((value, line));
        if first != value {
            found.add([first_line, line], || {
                format!("partition {partition} offset {offset} is {first} and {value}")
            });
        }
    }
    found.looked_at = values.len();
    found
}

pub fn duplicates(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("values");
    let writes = case.writes.iter().filter(|write| write.is_idempotent);
    let mut places: HashMap<&str, Option<(i32, i64, usize)>> =
        writes.map(|write| (write.value, None)).collect();
    for (partition, offset, value, line) in case.placed() {
        let Some(place) = places.get_mut(value) else {
            continue;
        };
        let (in_partition, at, first_line) = *place.get_or_insert((partition, offset, line));
        if (in_partition, at) != (partition, offset) {
            found.add([first_line, line], || {
                format!(
                    "{value} is at partition {in_partition} offset {at} and at partition \
                     {partition} offset {offset}"
                )
            });
        }
    }
    found.looked_at = places.values().flatten().count();
    found
}

pub fn order(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("records");
    let writes = case.writes.iter().enumerate();
    let writes = writes.filter(|(_, write)| write.is_idempotent);
    let sent: HashMap<&str, (usize, &str)> = writes
        .map(|(number, write)| (write.value, (number, write.producer)))
        .collect();
    let mut logs: BTreeMap<(i32, i64), (&str, usize)> = BTreeMap::new();
    for (partition, offset, value, line) in case.placed() {
        logs.entry((partition, offset)).or_insert((value, line));
    }
    // By partition and producer, the last one that it had sent.
    let mut last: HashMap<(i32, &str), (usize, &str, i64, usize)> = HashMap::new();
    for ((partition, offset), (value, line)) in logs {
        let Some(&(number, producer)) = sent.get(value) else {
            continue;
        };
        found.looked_at += 1;
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
    let mut logs: BTreeMap<(i32, i64), (i32, usize)> = BTreeMap::new();
    for read in &case.reads {
        let Some(epoch) = read.epoch else { continue };
        let place = (read.partition, read.offset);
        let (first, line) = *logs.entry(place).or_insert((epoch, read.line));
        if first != epoch {
            let (partition, offset) = place;
            found.add([line, read.line], || {
                format!("partition {partition} offset {offset} has epoch {first} and {epoch}")
            });
        }
    }
    found.looked_at = logs.len();
    let pairs = logs.iter().zip(logs.iter().skip(1));
    for ((&(partition, before), &(earlier, line)), (&(of, offset), &(epoch, behind))) in pairs {
        if of == partition && epoch < earlier {
            found.add([line, behind], || {
                format!(
                    "partition {partition} has epoch {earlier} at {before} and {epoch} behind \
                     it, at {offset}"
                )
            });
        }
    }
    found
}
