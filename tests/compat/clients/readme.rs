//! The table of the README: who was tried with what. It is made from the table of scenarios, and a
//! trial holds it against the README; another holds each client against its driver's own word.
//!
//! `clients print-table` prints it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use libtest_mimic::Trial;

use crate::client::{CLIENTS, Client, Need};
use crate::driver::Driver;
use crate::scenarios::{SCENARIOS, mixed};

const BEGIN: &str = "<!-- clients and scenarios: begin -->\n";
const END: &str = "<!-- clients and scenarios: end -->";

/// The table as Markdown.
pub fn table() -> String {
    let mut text = "| scenario |".to_owned();
    for client in CLIENTS {
        let _ = write!(text, " {} |", client.title);
    }
    text.push_str("\n|---|");
    text.push_str(&":-:|".repeat(CLIENTS.len()));
    for scenario in SCENARIOS {
        row(&mut text, scenario.title, |client| {
            client.can(scenario.needs)
        });
    }
    row(&mut text, mixed::TITLE, mixed::takes_part);
    text.push('\n');
    text
}

fn row(text: &mut String, title: &str, has: impl Fn(&Client) -> bool) {
    let _ = write!(text, "\n| {title} |");
    for client in CLIENTS {
        let mark = match has(client) {
            true => "✓",
            false => "—",
        };
        let _ = write!(text, " {mark} |");
    }
}

/// The trials of this part.
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<_> = CLIENTS
        .iter()
        .map(|client| {
            Trial::test(format!("{}::capabilities", client.name), || {
                capabilities(client);
                Ok(())
            })
        })
        .collect();
    trials.push(Trial::test("table::readme", || {
        readme();
        Ok(())
    }));
    trials
}

/// What the table says a client lacks is what its driver says it lacks.
fn capabilities(client: &'static Client) {
    let Some(program) = client.program() else {
        return;
    };
    let command = program().expect("what was installed a moment ago");
    let none = serde_json::json!({});
    let events = Driver::start(command, client.name, "capabilities", &none).finish_with_events();
    let [said] = &events[..] else {
        panic!("{} said {events:?} of itself", client.name);
    };
    let needs = SCENARIOS.iter().flat_map(|scenario| scenario.needs);
    let needs = needs.chain(mixed::NEEDS);
    let show = |need: &Need| format!("{need:?}");
    let lacking = needs.filter(|need| !need.is_met(said)).map(show);
    let lacking: BTreeSet<_> = lacking.collect();
    let written: BTreeSet<_> = client.lacks.iter().map(show).collect();
    assert_eq!(
        written, lacking,
        "what {} lacks; it says {said}",
        client.name
    );
}

fn readme() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(path).expect("README.md");
    let part = readme
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END));
    let (part, _) = part.expect("README.md has a part for the table, between two marks");
    let table = table();
    assert!(part == table, "the README's table should be:\n{table}");
}
