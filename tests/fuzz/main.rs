//! Fuzzing in bounds: every target over its committed corpus, then over seeded mutations of it. The
//! corpora are made by [`seeds`] from the project's own encoders; `fuzz write-corpora`, as
//! arguments of this program, writes them anew. `fuzz/run` runs the same targets without end,
//! led by coverage.

mod mutate;
mod run;
mod seeds;
mod targets;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use targets::TARGETS;

/// The first argument that makes this program write the corpora.
const WRITE_CORPORA: &str = "write-corpora";

fn main() -> ExitCode {
    if std::env::args()
        .nth(1)
        .is_some_and(|first| first == WRITE_CORPORA)
    {
        seeds::write();
        return ExitCode::SUCCESS;
    }
    let check = || seeds::check().map_err(Failed::from);
    let mut trials = vec![Trial::test("corpora_are_those_of_the_seeds", check)];
    for target in TARGETS {
        let run = || run::run(target).map_err(Failed::from);
        trials.push(Trial::test(target.name, run));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
