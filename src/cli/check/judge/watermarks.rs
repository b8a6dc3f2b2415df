//! High watermark, log start and leader epoch of a partition, which never go backwards, and what is
//! appended, which comes behind them. Only an observation that began after another one had ended is
//! compared to it: of two that overlap either may be the older one.
//!
//! What is known exactly is only what a leader tells of its log to who names its epoch. All else
//! shows that a log was as long as that at least: a record that was acknowledged or read, what a
//! fetch tells beside records, which may be late just after an election, and what somebody was told
//! by whoever had been the leader.

use std::collections::BTreeMap;

use super::{Case, Found};
use crate::cli::check::history::{Answer, Call, Watermarks};

/// That a mark was as high as this at some time between two.
#[derive(Clone, Copy)]
struct Seen {
    began: u64,
    ended: u64,
    mark: i64,
    line: usize,
}

/// By the mark's name, the partition, and, where only that compares, the leader's epoch.
type Marks = BTreeMap<(&'static str, i32, Option<i32>), Vec<Seen>>;

const HIGH: &str = "high watermark";

pub fn judge(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("observations");
    let (exact, at_least) = observed(case);
    for (key, seen) in exact {
        found.looked_at += seen.len();
        let lower = at_least.get(&key).cloned().unwrap_or_default();
        let lower = lower.into_iter().chain(seen.iter().copied()).collect();
        let (name, partition, _) = key;
        sweep(seen, lower, |before, then| {
            found.add([before.line, then.line], || {
                let (before, then) = (before.mark, then.mark);
                format!("the {name} of partition {partition} was {before} and then {then}")
            });
        });
    }
    found
}

/// What is sent is appended later than it began to be sent, so behind all that was there by then.
pub fn appends(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("records");
    let mut appended: BTreeMap<i32, Vec<(Seen, &str)>> = BTreeMap::new();
    for ((partition, offset), placed) in case.placed() {
        let write = case.write(placed.value);
        if let Some(write) = write.filter(|write| write.partition == partition) {
            let (began, ended) = (write.began, u64::MAX);
            let (mark, line) = (offset, write.lines[1]);
            let seen = Seen {
                began,
                ended,
                mark,
                line,
            };
            appended
                .entry(partition)
                .or_default()
                .push((seen, placed.value));
        }
    }
    let (exact, at_least) = observed(case);
    for (partition, appended) in appended {
        found.looked_at += appended.len();
        let key = (HIGH, partition, None);
        let lower = [exact.get(&key), at_least.get(&key)].into_iter().flatten();
        let lower = lower.flatten().copied().collect();
        let values: BTreeMap<i64, &str> = appended
            .iter()
            .map(|(seen, value)| (seen.mark, *value))
            .collect();
        let appended = appended.into_iter().map(|(seen, _)| seen).collect();
        sweep(appended, lower, |before, then| {
            found.add([before.line, then.line], || {
                let value = values.get(&then.mark).copied().unwrap_or_default();
                format!(
                    "partition {partition} was known to end at {}, and then {value} was sent and \
                     put at {}",
                    before.mark, then.mark
                )
            });
        });
    }
    found
}

/// Tells of each of `seen` that is smaller than the largest of `lower` that was over before it
/// began.
fn sweep(mut seen: Vec<Seen>, mut lower: Vec<Seen>, mut tell: impl FnMut(Seen, Seen)) {
    seen.sort_by_key(|seen| seen.began);
    lower.sort_by_key(|seen| seen.ended);
    let mut over = lower.into_iter().peekable();
    let mut highest: Option<Seen> = None;
    for seen in seen {
        while let Some(before) = over.next_if(|before| before.ended < seen.began) {
            if highest.is_none_or(|highest| before.mark > highest.mark) {
                highest = Some(before);
            }
        }
        if let Some(highest) = highest.filter(|highest| highest.mark > seen.mark) {
            tell(highest, seen);
        }
    }
}

/// What was observed, and what that was at least by other evidence.
fn observed(case: &Case<'_>) -> (Marks, Marks) {
    let (mut exact, mut at_least) = (Marks::new(), Marks::new());
    for op in &case.history.ops {
        let Some((answer, end)) = op.ok() else {
            continue;
        };
        let add = |marks: &mut Marks, name, partition, of_epoch, mark: i64| {
            let seen = marks.entry((name, partition, of_epoch)).or_default();
            seen.push(Seen {
                began: op.began,
                ended: end.at,
                mark,
                line: end.line,
            });
        };
        let mut add_end = |partition, mark| add(&mut at_least, HIGH, partition, None, mark);
        match (&op.call, answer) {
            (_, Answer::Watermarks(marks)) => {
                let Watermarks {
                    partition,
                    start,
                    high,
                    epoch,
                    ..
                } = *marks;
                add_end(partition, marks.end());
                if let Some(epoch) = epoch {
                    add(&mut exact, HIGH, partition, None, high);
                    add(&mut exact, "leader epoch", partition, None, epoch.into());
                    // Another leader may hear later of what was deleted.
                    add(&mut exact, "log start", partition, Some(epoch), start);
                }
            }
            (
                _,
                Answer::Poll {
                    records,
                    watermarks,
                },
            ) => {
                let marks = watermarks.iter().map(|it| (it.partition, it.end()));
                let records = records.iter().map(|it| (it.partition, it.offset + 1));
                marks.chain(records).for_each(|(at, end)| add_end(at, end));
            }
            (
                Call::Send {
                    partition, values, ..
                },
                Answer::Send {
                    offset: Some(base), ..
                },
            ) => add_end(*partition, base + values.len() as i64),
            _ => {}
        }
    }
    (exact, at_least)
}
