//! What a check of files has found, for eyes and for scripts.

use std::path::Path;

use serde::Serialize;

use crate::cli::CliError;
use crate::cli::output::{Output, Table, on_a_line};
use crate::storage::walk::Damage;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Finding {
    pub(in crate::cli) file: String,
    /// Where it begins in the file, and where it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) end: Option<u64>,
    /// The offsets that it has taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) first_offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) last_offset: Option<i64>,
    pub(in crate::cli) what: String,
    /// What is kept all the same, and what comes of it.
    pub(in crate::cli) kept: &'static str,
}

impl Finding {
    pub(in crate::cli) fn of_file(
        file: &Path,
        what: impl std::fmt::Display,
        kept: &'static str,
    ) -> Self {
        Self {
            file: file.display().to_string(),
            position: None,
            end: None,
            first_offset: None,
            last_offset: None,
            what: what.to_string(),
            kept,
        }
    }

    pub(in crate::cli) fn of_batches(file: &Path, damage: &Damage, kept: &'static str) -> Self {
        let takes_none = damage.next.is_some_and(|next| next <= damage.first);
        Self {
            position: Some(damage.position),
            end: Some(damage.end),
            first_offset: (!takes_none).then_some(damage.first.0),
            last_offset: damage.last().map(|last| last.0),
            ..Self::of_file(file, damage.fault, kept)
        }
    }

    pub(in crate::cli) fn line(&self) -> String {
        let mut line = self.file.clone();
        match (self.position, self.end) {
            (Some(from), Some(to)) if to > from => line += &format!(" at {from} to {}", to - 1),
            (Some(from), _) => line += &format!(" at {from}"),
            _ => {}
        }
        match (self.first_offset, self.last_offset) {
            (Some(first), Some(last)) => line += &format!(", offsets {first} to {last}"),
            (Some(first), None) => line += &format!(", from offset {first} on"),
            _ => {}
        }
        format!("{line}: {}. {}", self.what, self.kept)
    }
}

/// What was found of a partition, or of what stands beside the partitions of a data directory.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::cli) struct Report {
    /// What was checked.
    pub(in crate::cli) path: String,
    #[serde(flatten)]
    pub(in crate::cli) counted: Option<Counted>,
    pub(in crate::cli) damage: Vec<Finding>,
    /// What is no damage, and good to know.
    pub(in crate::cli) notes: Vec<String>,
}

/// What is sound of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Counted {
    pub(in crate::cli) segments: u64,
    pub(in crate::cli) batches: u64,
    pub(in crate::cli) records: u64,
    pub(in crate::cli) bytes: u64,
    pub(in crate::cli) start_offset: i64,
    /// The offset with which the log goes on.
    pub(in crate::cli) end_offset: i64,
}

impl Report {
    pub(in crate::cli) fn new(path: &Path) -> Self {
        Self {
            path: path.display().to_string(),
            ..Self::default()
        }
    }

    pub(in crate::cli) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// Prints reports: a table, and below it what is wrong and what is good to know.
pub(super) fn print(reports: &[Report], output: &mut Output) -> Result<(), CliError> {
    let head = [
        "LOG", "SEGMENTS", "BATCHES", "RECORDS", "BYTES", "START", "END", "RESULT",
    ];
    let mut table = Table::new(&head);
    for report in reports {
        let Some(counted) = report.counted else {
            continue;
        };
        let result = match report.damage.len() {
            0 => "ok".to_owned(),
            places => format!("damaged:{places}"),
        };
        let numbers = [
            counted.segments,
            counted.batches,
            counted.records,
            counted.bytes,
        ];
        let mut cells = vec![report.path.clone()];
        cells.extend(numbers.map(|number| number.to_string()));
        cells.push(counted.start_offset.to_string());
        cells.push(counted.end_offset.to_string());
        cells.push(result);
        table.row(cells);
    }
    table.print(output)?;
    for report in reports {
        for finding in &report.damage {
            output.line(format_args!("damage: {}", on_a_line(&finding.line())))?;
        }
    }
    for report in reports {
        for note in &report.notes {
            let note = format!("{}: {note}", report.path);
            output.line(format_args!("note: {}", on_a_line(&note)))?;
        }
    }
    Ok(())
}
