//! The committed table of instruction counts, and how it compares with what was counted. Pure.

use std::collections::BTreeMap;
use std::fmt;

/// A count may be above the recorded one by so much, in percent of it.
pub const MORE_PERCENT: f64 = 3.0;
/// And below it by so much. This is the wider one: of what waits for the kernel (a connection's
/// replies) some falls out of the counted span on a machine whose kernel answers at other moments,
/// and nobody is harmed by it.
pub const LESS_PERCENT: f64 = 10.0;
/// And by so many instructions: a call of a few dozen is rounded.
const TOLERANCE_INSTRUCTIONS: u64 = 2;

/// Instructions of one call of each part, by the parts' names.
pub type Counts = BTreeMap<String, u64>;

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// With which tools, in their own words.
    pub tools: Vec<String>,
    /// The counts.
    pub counts: Counts,
}

/// A part whose count is not the recorded one.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// It takes more or less than it may.
    Moved {
        part: String,
        recorded: u64,
        counted: u64,
    },
    /// It is not in the table.
    New { part: String, counted: u64 },
    /// It is in the table and nowhere else.
    Gone { part: String },
}

const HEAD: &str = "\
# Instructions of one call, request or message of each part of the hot path, counted by callgrind.
# Written by `benches/instructions --record`; `benches/instructions` checks it, as CI does.
";
const TOOL: &str = "# tool: ";

impl Table {
    /// Reads the table.
    ///
    /// # Errors
    /// The first line that is none of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut table = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(tool) = line.strip_prefix(TOOL) {
                table.tools.push(tool.to_owned());
                continue;
            }
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            let row = line.split_once('\t');
            let row = row.and_then(|(part, count)| Some((part, count.parse().ok()?)));
            let (part, count) = row.ok_or_else(|| format!("line {number} is no row: {line}"))?;
            if table.counts.insert(part.to_owned(), count).is_some() {
                return Err(format!("line {number}: {part} was there before"));
            }
        }
        Ok(table)
    }

    /// How `counted` differs from it by more than it may, upwards or downwards: an improvement that
    /// is not recorded could be lost again without anybody seeing it.
    pub fn compare(&self, counted: &Counts) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (part, &counted) in counted {
            let part = part.clone();
            match self.counts.get(&part) {
                None => differences.push(Difference::New { part, counted }),
                Some(&recorded) if is_moved(recorded, counted) => {
                    differences.push(Difference::Moved {
                        part,
                        recorded,
                        counted,
                    });
                }
                Some(_) => {}
            }
        }
        let gone = self
            .counts
            .keys()
            .filter(|part| !counted.contains_key(*part));
        differences.extend(gone.map(|part| Difference::Gone { part: part.clone() }));
        differences
    }
}

fn is_moved(recorded: u64, counted: u64) -> bool {
    let percent = match counted > recorded {
        true => MORE_PERCENT,
        false => LESS_PERCENT,
    };
    let allowed = recorded as f64 * percent / 100.0;
    let allowed = allowed.max(TOLERANCE_INSTRUCTIONS as f64);
    recorded.abs_diff(counted) as f64 > allowed
}

/// By how much `counted` is above `recorded`, in percent of that.
pub fn percent(recorded: u64, counted: u64) -> f64 {
    (counted as f64 / recorded as f64 - 1.0) * 100.0
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for tool in &self.tools {
            writeln!(f, "{TOOL}{tool}")?;
        }
        for (part, count) in &self.counts {
            writeln!(f, "{part}\t{count}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moved {
                part,
                recorded,
                counted,
            } => {
                let percent = percent(*recorded, *counted);
                write!(
                    f,
                    "{part}: {recorded} before, {counted} now ({percent:+.1} %)"
                )
            }
            Self::New { part, counted } => write!(f, "{part}: not recorded, {counted} now"),
            Self::Gone { part } => write!(f, "{part}: recorded, but there is no such part"),
        }
    }
}
