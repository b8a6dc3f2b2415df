//! What a command prints: tables for people, one JSON object a line for programs.
//!
//! Standard output is written through one buffer. A closed pipe is [`CliError::PipeClosed`].

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

use super::CliError;

/// Standard output.
pub(super) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
}

impl Output {
    pub(super) fn new() -> Self {
        let out = io::stdout().lock();
        let is_terminal = out.is_terminal();
        let out = BufWriter::with_capacity(64 << 10, out);
        Self { out, is_terminal }
    }

    /// Whether a person sees it as it comes.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out.write_all(bytes).map_err(closed)
    }

    /// Writes a line.
    pub(super) fn line(&mut self, line: impl std::fmt::Display) -> Result<(), CliError> {
        writeln!(self.out, "{line}").map_err(closed)
    }

    /// Writes an object as a line of JSON.
    pub(super) fn json(&mut self, object: &impl Serialize) -> Result<(), CliError> {
        serde_json::to_writer(&mut self.out, object).map_err(|error| closed(error.into()))?;
        self.bytes(b"\n")
    }

    /// Hands over what is buffered.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        self.out.flush().map_err(closed)
    }
}

fn closed(error: io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::PipeClosed,
        _ => CliError::io("standard output")(error),
    }
}

/// Rows under a head, each column as wide as its widest cell. Nothing is cut, and a column of
/// numbers stands to the right.
#[derive(Debug)]
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// Between two columns.
const GAP: &str = "  ";

impl Table {
    pub(super) fn new(head: &[&'static str]) -> Self {
        let head = head.to_vec();
        Self {
            head,
            rows: Vec::new(),
        }
    }

    /// Adds a row, with as many cells as the head has. Each is one word for `awk`: an empty cell is
    /// a dash, and blanks are shown as what stands for them in a format.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.head.len(), "a cell for each column");
        let shown = |cell: String| match &*cell {
            "" => "-".to_owned(),
            cell => word(cell),
        };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    pub(super) fn print(&self, output: &mut Output) -> Result<(), CliError> {
        for line in self.lines() {
            output.line(line)?;
        }
        Ok(())
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let columns = 0..self.head.len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.head[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = columns.clone().map(width).collect();
        let is_number = |cell: &str| {
            cell == "-"
                || cell
                    .strip_prefix('-')
                    .unwrap_or(cell)
                    .bytes()
                    .all(|b| b.is_ascii_digit())
        };
        let is_numeric = |column: usize| self.rows.iter().all(|row| is_number(&row[column]));
        let to_right: Vec<_> = columns
            .map(|c| !self.rows.is_empty() && is_numeric(c))
            .collect();
        let head = self.head.iter().map(|cell| (*cell).to_owned()).collect();
        let line = |cells: &Vec<String>| {
            let cells = cells.iter().enumerate().map(|(column, cell)| {
                let width = widths[column];
                match to_right[column] {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                }
            });
            let line = cells.collect::<Vec<_>>().join(GAP);
            line.trim_end().to_owned()
        };
        std::iter::once(&head).chain(&self.rows).map(line).collect()
    }
}

/// A name without what would end a word, a line, or begin a terminal's command. Kafka lets clients
/// choose any names for groups and for themselves.
fn word(name: &str) -> String {
    let mut word = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            ' ' => word.push_str("\\x20"),
            c if c.is_whitespace() || c.is_control() => word.extend(c.escape_default()),
            c => word.push(c),
        }
    }
    word
}

/// A name in a line of its own, in which only blanks may be.
pub(super) fn on_a_line(name: &str) -> String {
    let words: Vec<_> = name.split(' ').map(word).collect();
    words.join(" ")
}

/// Tells a person something beside the output.
pub(super) fn tell(what: impl std::fmt::Display) {
    // With standard error closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{what}");
}

/// `1 record`, `2 records`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}
