//! CPU time, rows measured in turn, and tables of medians.
//!
//! The CPU of the process counts its io workers, which are threads of it. Kernel threads stand
//! beside it, those that worked for others as well. Interrupts are in neither where they found
//! their CPU idle.

use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;

use crate::kernel_threads::{self, Times};
use crate::{Options, Result, system};

/// What was used between two readings, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    pub wall: f64,
    pub process: f64,
    pub kernel_threads: f64,
}

/// A first reading.
pub struct Meter {
    kernel: Times,
    process: f64,
    at: Instant,
}

impl Meter {
    pub fn start() -> Result<Self> {
        Ok(Self {
            kernel: kernel_threads::times()?,
            process: process_seconds()?,
            at: Instant::now(),
        })
    }

    pub fn stop(&self) -> Result<Used> {
        Ok(Used {
            wall: self.at.elapsed().as_secs_f64(),
            process: process_seconds()? - self.process,
            kernel_threads: kernel_threads::seconds_since(&self.kernel)?,
        })
    }
}

/// CPU seconds of this thread so far.
pub fn thread_seconds() -> Result<f64> {
    Ok(system::thread_cpu()?.as_secs_f64())
}

fn process_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}

/// Keeps this thread on one CPU.
pub fn pin(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}

type Row<'a> = (String, Box<dyn FnMut() -> Result<Vec<f64>> + 'a>);

/// Rows that are measured in turn.
pub struct Table<'a> {
    title: String,
    columns: Vec<String>,
    rows: Vec<Row<'a>>,
}

impl<'a> Table<'a> {
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// A row, whose figures `measure` gives in the order of the columns.
    pub fn row(&mut self, name: impl Into<String>, measure: impl FnMut() -> Result<Vec<f64>> + 'a) {
        self.rows.push((name.into(), Box::new(measure)));
    }

    /// Measures all rows and prints them. A row that fails says so in its place: that may be a
    /// finding, and is not the end of the others.
    pub fn print(mut self, options: &Options) {
        let rounds = options.rounds;
        self.rows.retain(|(name, _)| name.contains(&options.only));
        if self.rows.is_empty() {
            return;
        }
        let mut measured: Vec<Vec<Vec<f64>>> = vec![Vec::new(); self.rows.len()];
        let mut failures: Vec<Option<String>> = vec![None; self.rows.len()];
        for round in 0..=rounds {
            for (index, (_, measure)) in self.rows.iter_mut().enumerate() {
                if failures[index].is_some() {
                    continue;
                }
                match measure() {
                    Ok(figures) if round > 0 => measured[index].push(figures),
                    Ok(_warm_up) => {}
                    Err(error) => failures[index] = Some(error.to_string()),
                }
            }
        }
        println!("\n| {} | {} |", self.title, self.columns.join(" | "));
        println!("|---|{}", "---|".repeat(self.columns.len()));
        for (index, (name, _)) in self.rows.iter().enumerate() {
            match &failures[index] {
                Some(failure) => println!("| {name} | {failure} |"),
                None => println!("| {name} | {} |", cells(&measured[index]).join(" | ")),
            }
        }
    }
}

fn cells(rounds: &[Vec<f64>]) -> Vec<String> {
    let columns = rounds.first().map_or(0, Vec::len);
    (0..columns)
        .map(|column| {
            let mut figures: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
            figures.sort_by(f64::total_cmp);
            let (low, high) = (figures[0], figures[figures.len() - 1]);
            let median = figures[figures.len() / 2];
            match low == high {
                true => short(median),
                false => format!("{} ({}-{})", short(median), short(low), short(high)),
            }
        })
        .collect()
}

/// Three significant digits, or the whole number.
fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{figure:.3}"),
        size if size < 10.0 => format!("{figure:.2}"),
        size if size < 100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

/// The latency below which `share` of `latencies_ns` lie, in microseconds.
pub fn percentile_us(latencies_ns: &mut [u64], share: f64) -> f64 {
    latencies_ns.sort_unstable();
    let last = latencies_ns.len() - 1;
    latencies_ns[(last as f64 * share).round() as usize] as f64 / 1000.0
}

pub fn gib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}
