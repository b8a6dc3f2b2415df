//! Runs a target over its corpus and over mutations of it, for as long as it was asked to.
//!
//! | variable | |
//! |---|---|
//! | `MILLRACE_FUZZ_SECONDS` | each target goes on for so long |
//! | `MILLRACE_FUZZ_INPUTS` | each target tries so many mutations |
//! | `MILLRACE_FUZZ_SEED` | other mutations than those of an ordinary run |
//! | `MILLRACE_FUZZ_INPUT` | the input in this file and nothing else |

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use crate::mutate::{Random, mutated};
use crate::targets::Target;

/// What an ordinary run takes for one target, at most.
const DEFAULT_TIME: Duration = Duration::from_millis(1200);
/// What one input may take.
const INPUT_TIME_MAX: Duration = Duration::from_secs(2);
/// An input that takes so long does not end at all.
const HANGS_AFTER: Duration = Duration::from_secs(60);
const DEFAULT_SEED: u64 = 1;

/// How much is tried.
struct Bounds {
    inputs: u64,
    time: Duration,
    seed: u64,
}

impl Bounds {
    fn of(target: &Target) -> Self {
        let seconds: Option<u64> = variable("MILLRACE_FUZZ_SECONDS");
        let inputs = variable("MILLRACE_FUZZ_INPUTS");
        let default_inputs = if seconds.is_some() {
            u64::MAX
        } else {
            target.inputs
        };
        let default_time = if inputs.is_some() {
            Duration::MAX
        } else {
            DEFAULT_TIME
        };
        Self {
            inputs: inputs.unwrap_or(default_inputs),
            time: seconds.map_or(default_time, Duration::from_secs),
            seed: variable("MILLRACE_FUZZ_SEED").unwrap_or(DEFAULT_SEED),
        }
    }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    let parsed = value.parse().ok();
    Some(parsed.unwrap_or_else(|| panic!("{name}={value} is no value")))
}

/// Where the inputs that are kept lie.
pub fn corpus_directory(target: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("fuzz").join("corpus").join(target)
}

/// The inputs that are kept for a target, by their names.
pub fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let directory = corpus_directory(target);
    let entries = fs::read_dir(&directory);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("a readable directory");
        let contents = fs::read(entry.path()).expect("a readable input");
        (entry.file_name().to_string_lossy().into_owned(), contents)
    };
    entries.map(read).collect()
}

/// Tries a target; what is wrong, if something is.
pub fn run(target: &Target) -> Result<(), String> {
    watch();
    if let Some(path) = std::env::var_os("MILLRACE_FUZZ_INPUT") {
        let input = fs::read(&path).map_err(|error| error.to_string())?;
        return attempt(target, &input, "the input of MILLRACE_FUZZ_INPUT");
    }
    let corpus = corpus(target.name);
    for (name, input) in &corpus {
        attempt(target, input, name)?;
    }
    let corpus: Vec<_> = corpus.into_values().collect();
    let bounds = Bounds::of(target);
    let (began, mut tried) = (Instant::now(), 0);
    while tried < bounds.inputs && began.elapsed() < bounds.time {
        // Each input by itself, so that one can be made again without those before it.
        let mut random = Random::new(bounds.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ tried);
        let input = mutated(&corpus, &mut random);
        let name = format!("input {tried} of MILLRACE_FUZZ_SEED={}", bounds.seed);
        attempt(target, &input, &name)?;
        tried += 1;
    }
    let (name, kept) = (target.name, corpus.len());
    eprintln!(
        "{name}: {kept} inputs kept, {tried} made, {:?}",
        began.elapsed()
    );
    Ok(())
}

/// The inputs that are tried at the moment, by target, each with when that began.
static TRIED: Mutex<BTreeMap<&str, (Instant, Vec<u8>)>> = Mutex::new(BTreeMap::new());

fn attempt(target: &Target, input: &[u8], name: &str) -> Result<(), String> {
    // A machine that is busy with something else is given a second chance, and a third.
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let began = Instant::now();
        let tried = || TRIED.lock().expect("nobody panics with it");
        tried().insert(target.name, (began, input.to_vec()));
        let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        tried().remove(target.name);
        if ended.is_err() {
            let kept = keep(target.name, input);
            return Err(format!(
                "{}: {name} panics; it is in {}",
                target.name,
                kept.display()
            ));
        }
        fastest = fastest.min(began.elapsed());
        if fastest <= INPUT_TIME_MAX {
            return Ok(());
        }
    }
    let kept = keep(target.name, input);
    let target = target.name;
    Err(format!(
        "{target}: {name} takes {fastest:?}; it is in {}",
        kept.display()
    ))
}

fn keep(target: &str, input: &[u8]) -> PathBuf {
    let name = format!("fuzz-{target}-{:08x}", crc32c::crc32c(input));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, input).expect("a writable target directory");
    path
}

/// Ends the process when an input does not: there is no other way to end a thread.
fn watch() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        thread::spawn(|| {
            loop {
                thread::sleep(Duration::from_secs(1));
                let tried = TRIED.lock().expect("nobody panics with it");
                let mut tried = tried.iter();
                let hung = tried.find(|(_, (began, _))| began.elapsed() > HANGS_AFTER);
                if let Some((target, (_, input))) = hung {
                    let kept = keep(target, input);
                    eprintln!(
                        "{target}: an input that does not end is in {}",
                        kept.display()
                    );
                    std::process::abort();
                }
            }
        });
    });
}
