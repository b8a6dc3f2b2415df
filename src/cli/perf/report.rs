//! What a run came to: a table for people, an object for programs, and the times by percentile.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::CliError;
use super::super::output::{Output, Table, tell};
use super::run::Measured;
use super::tally::Tally;

const MEGABYTE: f64 = 1e6;
const GIBIBYTE: f64 = (1_u64 << 30) as f64;
const NANOSECONDS_PER_MS: f64 = 1e6;

/// Percentiles of a written histogram go in so many steps for each halving of what is left.
const STEPS_PER_HALF: u32 = 5;

/// A kind of load, and what its times are.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What its times are: from where to where.
    pub times: &'static str,
}

#[derive(Debug, Serialize)]
struct Shown {
    seconds: f64,
    loads: Vec<Load>,
    overdue: u64,
    broker: Option<Broker>,
}

#[derive(Debug, Serialize)]
struct Load {
    load: &'static str,
    records: u64,
    bytes: u64,
    requests: u64,
    records_per_second: f64,
    mb_per_second: f64,
    times: &'static str,
    mean_ms: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p99_9_ms: f64,
    p99_99_ms: f64,
    max_ms: f64,
}

#[derive(Debug, Serialize)]
struct Broker {
    cpu_seconds: f64,
    cpu_seconds_per_gib: f64,
    kernel_threads_cpu_seconds: f64,
    resident_bytes: u64,
}

impl Shown {
    fn new(kinds: &[Kind], measured: &Measured) -> Self {
        let seconds = measured.seconds;
        let loads = kinds.iter().zip(&measured.tallies);
        let bytes: u64 = measured.tallies.iter().map(|tally| tally.bytes).sum();
        let broker = measured.usage.map(|usage| Broker {
            cpu_seconds: usage.seconds,
            cpu_seconds_per_gib: usage.seconds / (bytes as f64 / GIBIBYTE),
            kernel_threads_cpu_seconds: usage.kernel_threads_seconds,
            resident_bytes: usage.resident_bytes,
        });
        Self {
            seconds,
            loads: loads
                .map(|(kind, tally)| Load::new(*kind, tally, seconds))
                .collect(),
            overdue: measured.overdue,
            broker,
        }
    }
}

impl Load {
    fn new(kind: Kind, tally: &Tally, seconds: f64) -> Self {
        let ms = |nanoseconds: u64| nanoseconds as f64 / NANOSECONDS_PER_MS;
        let at = |quantile: f64| ms(tally.times.value_at_quantile(quantile));
        Self {
            load: kind.name,
            records: tally.records,
            bytes: tally.bytes,
            requests: tally.requests,
            records_per_second: tally.records as f64 / seconds,
            mb_per_second: tally.bytes as f64 / MEGABYTE / seconds,
            times: kind.times,
            mean_ms: tally.times.mean() / NANOSECONDS_PER_MS,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p99_9_ms: at(0.999),
            p99_99_ms: at(0.9999),
            max_ms: ms(tally.times.max()),
        }
    }

    fn row(&self) -> Vec<String> {
        let times = [
            self.p50_ms,
            self.p99_ms,
            self.p99_9_ms,
            self.p99_99_ms,
            self.max_ms,
        ];
        let mut row = vec![
            self.load.to_owned(),
            self.records.to_string(),
            format!("{:.0}", self.records_per_second),
            format!("{:.1}", self.mb_per_second),
        ];
        row.extend(times.map(|ms| format!("{ms:.3}")));
        row
    }
}

/// Prints what came of a run.
pub fn print(kinds: &[Kind], measured: &Measured, is_json: bool) -> Result<(), CliError> {
    let shown = Shown::new(kinds, measured);
    let mut output = Output::new();
    if is_json {
        output.json(&shown)?;
        return output.flush();
    }
    let mut table = Table::new(&[
        "LOAD",
        "RECORDS",
        "RECORDS/S",
        "MB/S",
        "P50-MS",
        "P99-MS",
        "P99.9-MS",
        "P99.99-MS",
        "MAX-MS",
    ]);
    shown.loads.iter().for_each(|load| table.row(load.row()));
    table.print(&mut output)?;
    if let Some(broker) = &shown.broker {
        output.line(format_args!(
            "broker: {:.2} CPU-s, {:.3} CPU-s/GiB, {:.2} CPU-s of kernel threads, \
             {:.1} MiB resident",
            broker.cpu_seconds,
            broker.cpu_seconds_per_gib,
            broker.kernel_threads_cpu_seconds,
            broker.resident_bytes as f64 / (1 << 20) as f64,
        ))?;
    }
    output.flush()?;
    for load in &shown.loads {
        tell(format_args!("{}: times are {}", load.load, load.times));
    }
    if shown.overdue > 0 {
        tell(format_args!(
            "{} records were due and not acknowledged when the run ended: the broker, or this \
             client, does not keep up with the rate",
            shown.overdue
        ));
    }
    Ok(())
}

/// Writes the times of each kind of load by percentile, as HdrHistogram's tools plot them: the
/// last kind's to `file`, those of the others to files beside it that have their names.
pub fn write_times(kinds: &[Kind], measured: &Measured, file: &Path) -> Result<(), CliError> {
    let last = kinds.len() - 1;
    for (at, (kind, tally)) in kinds.iter().zip(&measured.tallies).enumerate() {
        let path = if at == last {
            file.to_owned()
        } else {
            beside(file, kind.name)
        };
        let written = fs::write(&path, percentiles(tally));
        written.map_err(CliError::io(path.display().to_string()))?;
    }
    Ok(())
}

fn beside(file: &Path, name: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".");
    path.push(name.replace(' ', "-"));
    path.into()
}

fn percentiles(tally: &Tally) -> String {
    let mut text = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
    for step in tally.times.iter_quantiles(STEPS_PER_HALF) {
        let value = step.value_iterated_to() as f64 / NANOSECONDS_PER_MS;
        let quantile = step.quantile_iterated_to();
        let count = tally.times.count_between(0, step.value_iterated_to());
        let inverse = 1.0 / (1.0 - quantile);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{value:12.3} {quantile:14.12} {count:10} {inverse:14.2}"
        );
    }
    let (mean, deviation) = (tally.times.mean(), tally.times.stdev());
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n\
         #[Max     = {:12.3}, Total count    = {:12}]",
        mean / NANOSECONDS_PER_MS,
        deviation / NANOSECONDS_PER_MS,
        tally.times.max() as f64 / NANOSECONDS_PER_MS,
        tally.times.len(),
    );
    text
}
