//! What a person or a program is told of a judged history.

use std::collections::BTreeMap;

use serde::Serialize;

use super::history::{History, Outcome};
use super::judge::{self, Check, Found, Violation};
use crate::cli::CliError;
use crate::cli::output::{Output, Table, counted};

/// Violations of one check that a person is shown.
const SHOWN: usize = 5;

/// Lines of a violation that a person is shown.
const LINES: usize = 6;

/// Operations of a kind, by what became of them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Ended {
    ok: u64,
    fail: u64,
    info: u64,
}

#[derive(Serialize)]
struct Judged<'a> {
    check: &'static str,
    looks_for: &'static str,
    looked_at: usize,
    of: &'static str,
    found: usize,
    violations: &'a [Violation],
}

#[derive(Serialize)]
struct Report<'a> {
    topic: &'a str,
    seed: u64,
    processes: u32,
    partitions: i32,
    seconds: f64,
    /// Why the run did not come to its end, if it did not.
    unfinished: Option<&'a str>,
    operations: BTreeMap<&'static str, Ended>,
    checks: Vec<Judged<'a>>,
    /// All of them together.
    found: usize,
}

/// Prints what was found.
pub fn print(
    history: &History,
    judged: &[(&'static Check, Found)],
    as_json: bool,
) -> Result<(), CliError> {
    let report = Report::of(history, judged);
    let mut output = Output::new();
    match as_json {
        true => output.json(&report)?,
        false => report.print(&mut output)?,
    }
    output.flush()
}

impl<'a> Report<'a> {
    fn of(history: &'a History, judged: &'a [(&'static Check, Found)]) -> Self {
        let mut operations: BTreeMap<&'static str, Ended> = BTreeMap::new();
        for op in &history.ops {
            let ended = operations.entry(op.call.name()).or_default();
            match op.end.as_ref().map(|end| &end.outcome) {
                Some(Outcome::Ok(_)) => ended.ok += 1,
                Some(Outcome::Fail) => ended.fail += 1,
                Some(Outcome::Info) | None => ended.info += 1,
            }
        }
        let checks = judged.iter().map(|(check, found)| Judged {
            check: check.name,
            looks_for: check.what,
            looked_at: found.looked_at,
            of: found.of,
            found: found.count,
            violations: &found.violations,
        });
        let setup = &history.setup;
        Self {
            topic: &setup.topic,
            seed: setup.seed,
            processes: setup.processes,
            partitions: setup.partitions,
            seconds: history.ended_at as f64 / 1e9,
            unfinished: history.unfinished.as_deref(),
            operations,
            checks: checks.collect(),
            found: judge::total(judged),
        }
    }

    fn print(&self, output: &mut Output) -> Result<(), CliError> {
        output.line(format_args!(
            "{}: {} processes, {} partitions, {:.1} s, seed {}",
            self.topic, self.processes, self.partitions, self.seconds, self.seed
        ))?;
        output.line("")?;
        let mut table = Table::new(&["OPERATION", "OK", "FAIL", "INFO"]);
        for (name, ended) in &self.operations {
            let counts = [ended.ok, ended.fail, ended.info].map(|count| count.to_string());
            table.row([vec![(*name).to_owned()], counts.to_vec()].concat());
        }
        table.print(output)?;
        output.line("")?;
        let mut table = Table::new(&["CHECK", "LOOKED-AT", "OF", "FOUND"]);
        for check in &self.checks {
            let found = match check.looked_at {
                0 => "-".to_owned(),
                _ => check.found.to_string(),
            };
            let looked_at = check.looked_at.to_string();
            let (name, of) = (check.check.to_owned(), check.of.to_owned());
            table.row(vec![name, looked_at, of, found]);
        }
        table.print(output)?;
        let checks = self.checks.iter();
        let idle: Vec<_> = checks
            .filter(|it| it.looked_at == 0)
            .map(|it| it.check)
            .collect();
        if !idle.is_empty() {
            output.line("")?;
            output.line(format_args!("Nothing to look at: {}.", idle.join(", ")))?;
        }
        if let Some(why) = self.unfinished {
            output.line("")?;
            output.line(format_args!("Only a part could be judged: {why}."))?;
        }
        self.print_violations(output)
    }

    fn print_violations(&self, output: &mut Output) -> Result<(), CliError> {
        for check in self.checks.iter().filter(|check| check.found > 0) {
            output.line("")?;
            output.line(format_args!("{}: {}", check.check, check.looks_for))?;
            for violation in check.violations.iter().take(SHOWN) {
                let lines = violation.lines.iter().take(LINES).map(ToString::to_string);
                let lines = lines.collect::<Vec<_>>().join(", ");
                output.line(format_args!("  {} (lines {lines})", violation.what))?;
            }
            let more = check.found.saturating_sub(SHOWN) as u64;
            if more > 0 {
                output.line(format_args!("  and {} more", counted(more, "time")))?;
            }
        }
        Ok(())
    }
}
