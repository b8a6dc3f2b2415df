//! What no broker may answer, as clients note it who look at each byte: an answer to another
//! request than the one that was asked, one that cannot be read, what is no batch, a log that ends
//! in front of its beginning, an offset that is not there any more.

use super::{Case, Found};
use crate::cli::check::history::{Outcome, What};

pub fn judge(case: &Case<'_>) -> Found {
    let mut found = Found::looking_at("answers");
    let ends = case.history.ops.iter().filter_map(|op| op.end.as_ref());
    let answers = ends.filter(|end| !matches!(end.outcome, Outcome::Info));
    found.looked_at = answers.count();
    for note in &case.history.notes {
        if let What::BadAnswer { error } = &note.event.what {
            found.looked_at += 1;
            let process = note.event.process;
            found.add([note.line], || format!("process {process} got {error}"));
        }
    }
    found
}
