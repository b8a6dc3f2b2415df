//! High watermark, log start and leader epoch of a partition, which never go backwards. Only an
//! observation that began after another one had ended is compared to it: of two that overlap
//! either may be the older one. A record that was acknowledged or read shows a high watermark, too.

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

/// By the mark's name and the partition.
type Marks = BTreeMap<(&'static str, i32), Vec<Seen>>;

const HIGH: &str = "high watermark";

pub fn judge(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("observations");
    let (exact, at_least) = observed(case);
    for ((name, partition), seen) in &exact {
        found.looked_at += seen.len();
        let lower = at_least.get(&(*name, *partition));
        let all = seen.iter().chain(lower.into_iter().flatten());
        let mut by_end: Vec<Seen> = all.copied().collect();
        by_end.sort_by_key(|seen| seen.ended);
        let mut by_beginning = seen.clone();
        by_beginning.sort_by_key(|seen| seen.began);
        let mut over = by_end.into_iter().peekable();
        let mut highest: Option<Seen> = None;
        for seen in by_beginning {
            while let Some(before) = over.next_if(|before| before.ended < seen.began) {
                if highest.is_none_or(|highest| before.mark > highest.mark) {
                    highest = Some(before);
                }
            }
            if let Some(highest) = highest.filter(|highest| highest.mark > seen.mark) {
                found.add([highest.line, seen.line], || {
                    format!(
                        "the {name} of partition {partition} was {} and then {}",
                        highest.mark, seen.mark
                    )
                });
            }
        }
    }
    found
}

/// What was observed, and what that was at least by other evidence.
fn observed(case: &Case<'_>) -> (Marks, Marks) {
    let (mut exact, mut at_least) = (Marks::new(), Marks::new());
    for op in &case.history.ops {
        let Some((answer, end)) = op.ok() else {
            continue;
        };
        let add = |marks: &mut Marks, name, partition, mark: i64| {
            let (began, ended, line) = (op.began, end.at, end.line);
            let seen = marks.entry((name, partition)).or_default();
            seen.push(Seen {
                began,
                ended,
                mark,
                line,
            });
        };
        let mut add_all = |marks: &Watermarks| {
            add(&mut exact, HIGH, marks.partition, marks.high);
            add(&mut exact, "log start", marks.partition, marks.start);
            if let Some(epoch) = marks.epoch {
                add(&mut exact, "leader epoch", marks.partition, epoch.into());
            }
        };
        match (&op.call, answer) {
            (_, Answer::Watermarks(marks)) => add_all(marks),
            (
                _,
                Answer::Poll {
                    records,
                    watermarks,
                },
            ) => {
                watermarks.iter().for_each(add_all);
                for record in records {
                    add(&mut at_least, HIGH, record.partition, record.offset + 1);
                }
            }
            (
                Call::Send {
                    partition, values, ..
                },
                Answer::Send { offset: Some(base) },
            ) => {
                let end = base + values.len() as i64;
                add(&mut at_least, HIGH, *partition, end);
            }
            _ => {}
        }
    }
    (exact, at_least)
}
