//! The instructions that each part of the hot path takes, checked against `instructions.tsv`.
//!
//! `benches/instructions` counts by callgrind and fails where a part takes 3 % more than the
//! committed table says, or 10 % less; `--record` rewrites the table; `--show` prints the counts.
//! A count does not depend on what else the machine does, so it shows a slow-down that no clock
//! would on a busy one.
//!
//! What it leaves out: the kernel, the disk, waiting, caches and mispredicted branches. A copy
//! counts by instructions of 32 bytes, so little for what it costs. A change may save instructions
//! and cost time: `cargo bench --bench hot_path` has the times of the same parts. The build is not
//! the released one either: its dependencies are those of the tests, nothing is optimised across
//! crates, and the faults that tests inject are compiled in.

#[path = "counting/callgrind.rs"]
mod callgrind;
mod parts;
#[path = "counting/table.rs"]
mod table;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::rc::Rc;

use parts::{Meter, Part};
use table::{Counts, Difference, LESS_PERCENT, MORE_PERCENT, Table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Passes before it is counted: buffers and maps have grown by then.
const WARM_PASSES: u64 = 4;
const COUNTED_PASSES: u64 = 8;
/// How often a part is counted at most before it is said to differ.
const TRIES: usize = 5;
/// What this program is called with by itself, under callgrind.
const COUNT: &str = "--count";

struct Callgrind;

impl Meter for Callgrind {
    fn start(&self) {
        callgrind::toggle();
    }

    fn stop(&self) {
        callgrind::toggle();
    }
}

struct Nothing;

impl Meter for Nothing {
    fn start(&self) {}
    fn stop(&self) {}
}

/// Makes the passes of all parts, with a dump after each part that says what it was.
async fn count(parts: Vec<Part>) {
    for mut part in parts {
        part.run(WARM_PASSES, Rc::new(Nothing)).await;
        part.run(COUNTED_PASSES, Rc::new(Callgrind)).await;
        let calls = part.calls * COUNTED_PASSES;
        callgrind::dump(&format!("{calls} {} {}", part.bytes, part.name));
    }
}

/// What was counted of one part.
struct Counted {
    name: String,
    /// Of one call.
    instructions: u64,
    /// Bytes that a call goes through, or 0.
    bytes: u64,
}

fn counted() -> Result<Vec<Counted>, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let dumps = callgrind::run(COUNT, directory.path())?;
    let counted = |(name, total): (String, u64)| {
        let mut words = name.splitn(3, ' ');
        let calls: u64 = words.next()?.parse().ok()?;
        Some(Counted {
            bytes: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
            instructions: (total + calls / 2) / calls,
        })
    };
    let counted: Option<Vec<_>> = dumps.into_iter().map(counted).collect();
    counted.ok_or_else(|| "callgrind has written dumps that are none of these parts".to_owned())
}

fn counts() -> Result<Counts, String> {
    let counted = counted()?.into_iter();
    Ok(counted.map(|it| (it.name, it.instructions)).collect())
}

/// Where a part's count is not the recorded one it is counted again, and the nearest counts: maps
/// are seeded by chance, and memory lies elsewhere each time, so a few are off by 5 % now and then.
fn counts_beside(recorded: &Table) -> Result<Counts, String> {
    let mut nearest = counts()?;
    for _ in 1..TRIES {
        if recorded.compare(&nearest).is_empty() {
            break;
        }
        for (name, count) in counts()? {
            let wanted = recorded.counts.get(&name).copied().unwrap_or(count);
            let known = nearest.entry(name).or_insert(count);
            if count.abs_diff(wanted) < known.abs_diff(wanted) {
                *known = count;
            }
        }
    }
    Ok(nearest)
}

fn show() -> Result<(), String> {
    for Counted {
        name,
        instructions,
        bytes,
    } in counted()?
    {
        let per_byte = instructions as f64 / bytes as f64;
        match bytes {
            0 => println!("{name:<36}{instructions:>10}"),
            _ => println!("{name:<36}{instructions:>10}{per_byte:>8.2} a byte"),
        }
    }
    Ok(())
}

/// The tools on which the counts depend, beside the code.
fn tools() -> Vec<String> {
    let versions = [
        ("rustc", &["--version"][..]),
        ("getconf", &["GNU_LIBC_VERSION"]),
        ("valgrind", &["--version"]),
    ];
    let version = |(program, arguments): (&str, &[&str])| {
        let ran = Command::new(program).args(arguments).output();
        let text = ran.map(|ran| String::from_utf8_lossy(&ran.stdout).trim().to_owned());
        text.unwrap_or_else(|error| format!("{program}: {error}"))
    };
    versions.into_iter().map(version).collect()
}

fn record(file: &Path, before: &Table, counts: Counts) -> Result<(), String> {
    for difference in before.compare(&counts) {
        println!("{difference}");
    }
    let table = Table {
        tools: tools(),
        counts,
    };
    fs::write(file, table.to_string()).map_err(|error| error.to_string())?;
    println!(
        "recorded in {}: commit it, and say there what moved it",
        file.display()
    );
    Ok(())
}

fn check(recorded: &Table, counts: &Counts) -> Result<(), String> {
    let differences = recorded.compare(counts);
    if differences.is_empty() {
        println!(
            "{} parts take the instructions recorded, at most {MORE_PERCENT} % more and \
             {LESS_PERCENT} % less",
            counts.len()
        );
        return Ok(());
    }
    let lines: Vec<_> = differences.iter().map(Difference::to_string).collect();
    let mut told = format!(
        "instructions differ from benches/instructions.tsv by more than {MORE_PERCENT} % \
         upwards or {LESS_PERCENT} % downwards:\n  {}\nWhere a part takes more, find out why. \
         Where that is as it must be, and where a part takes less, record it and commit the \
         table: benches/instructions --record",
        lines.join("\n  ")
    );
    let tools = tools();
    if tools != recorded.tools {
        let (before, now) = (recorded.tools.join(", "), tools.join(", "));
        told += &format!("\nRecorded with {before}; this is {now}: that alone may move counts.");
    }
    Err(told)
}

fn run(arguments: &[&str]) -> Result<(), String> {
    if arguments == [COUNT] {
        if !callgrind::is_watching() {
            return Err(format!("{COUNT} counts nothing unless callgrind runs it"));
        }
        parts::on_shard(true, count);
        return Ok(());
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.tsv");
    let recorded = fs::read_to_string(&file).map_err(|error| error.to_string());
    match arguments {
        [] | ["--check"] => {
            let recorded = recorded.and_then(|text| Table::parse(&text));
            let recorded = recorded.map_err(|error| format!("{}: {error}", file.display()))?;
            check(&recorded, &counts_beside(&recorded)?)
        }
        ["--record"] => {
            // One that cannot be read is written anew all the same.
            let before = recorded.and_then(|text| Table::parse(&text));
            record(&file, &before.unwrap_or_default(), counts()?)
        }
        ["--show"] => show(),
        _ => Err("benches/instructions [--check | --record | --show]".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    // Cargo adds an argument of its own.
    let arguments = arguments.iter().map(String::as_str);
    let arguments: Vec<_> = arguments.filter(|it| *it != "--bench").collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
