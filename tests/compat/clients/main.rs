//! Every client, unmodified, through one table of scenarios: what any Kafka program may expect of
//! groups, offsets, records and administration.
//!
//! A trial is named `<client>::<scenario>`. All share one broker, each with topics and groups of
//! its own. `MILLRACE_TEST_PEER=kafka` starts Apache Kafka in the broker's place, and
//! `MILLRACE_TEST_BOOTSTRAP=127.0.0.1:<port>` uses a broker that runs already: every expectation
//! here also holds against Apache Kafka 4.3.1.
//!
//! The program has a harness of its own for three reasons: the trials come from the table, the
//! broker they share has to end with them, and most of their time is waiting, so that more of them
//! than there are processors run at once. Called as `clients as-driver <verb> <options>` it is the
//! driver of librdkafka; as `clients print-table` it prints the README's table.

#[allow(
    dead_code,
    reason = "each test program uses its own part of the support"
)]
#[path = "../../support/mod.rs"]
mod support;

#[path = "../../drivers/librdkafka/mod.rs"]
mod librdkafka_driver;

mod client;
mod committed;
mod driver;
mod kills;
mod member;
mod nonsense;
mod readme;
mod scenarios;
mod scene;
mod tools;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use client::{CLIENTS, Client};
use scenarios::{SCENARIOS, Scenario};
use scene::{Scene, Stage};

/// How many trials run at once: they wait more than they work.
const AT_ONCE: usize = 6;

/// The first argument that makes this program a driver.
pub const AS_DRIVER: &str = "as-driver";

/// The first argument that makes this program print the table of the README.
const PRINT_TABLE: &str = "print-table";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == AS_DRIVER) {
        let code = librdkafka_driver::run(&arguments[1..]);
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    if arguments.first().is_some_and(|first| first == PRINT_TABLE) {
        print!("{}", readme::table());
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let stage = Arc::new(Stage::default());
    let mut trials = readme::trials();
    trials.extend(nonsense::trials(&stage));
    trials.extend(tools::trials(&stage));
    trials.extend(kills::trials());
    trials.push(scenarios::mixed::trial(&stage));
    for scenario in SCENARIOS {
        for client in CLIENTS.iter().filter(|client| client.can(scenario.needs)) {
            trials.push(trial(&stage, client, scenario));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    stage.end(conclusion.has_failed());
    conclusion.exit_code()
}

fn trial(stage: &Arc<Stage>, client: &'static Client, scenario: &'static Scenario) -> Trial {
    let stage = Arc::clone(stage);
    let name = format!("{}::{}", client.name, scenario.name);
    Trial::test(name, move || {
        if let Some(program) = client.program() {
            let scene = Scene::new(&stage, client, program, scenario.name);
            (scenario.run)(&scene);
        }
        Ok(())
    })
}
