//! The operations that wait for the log, and what is written once for several of them. Pure; owned
//! by the coordinator of a partition of `__consumer_offsets`.

use std::collections::VecDeque;

use super::command::Append;
use super::machine::{After, Then};
use super::record::GroupRecord;

/// Records that wait, and what follows when they are durable.
#[derive(Debug)]
pub struct Waiting {
    /// What is written.
    pub records: Vec<GroupRecord>,
    /// What follows, of each operation that it is written for, oldest first.
    pub afters: Vec<After>,
}

impl Waiting {
    fn is_replacement_in(&self, group: &After) -> bool {
        let last = self.afters.last();
        last.is_some_and(|it| is_replacement(it) && it.incarnation == group.incarnation)
    }
}

/// Whether it is the record of a group in which a static member has another id.
fn is_replacement(after: &After) -> bool {
    matches!(after.then, Then::Replaced(_))
}

/// Puts an operation behind the others. A group whose static members all come back at once has its
/// whole record written for each: where one still waits the next takes its place, since it says the
/// same and more.
pub fn enqueue(waiting: &mut VecDeque<Waiting>, append: Append) {
    let Append { records, after } = append;
    if is_replacement(&after)
        && let Some(before) = waiting.iter_mut().find(|it| it.is_replacement_in(&after))
    {
        before.records = records;
        before.afters.push(after);
        return;
    }
    let afters = vec![after];
    waiting.push_back(Waiting { records, afters });
}

/// The order in which operations learn what has become of their records. What one has changed on
/// top of another that failed with it is undone first.
pub fn in_order(mut afters: Vec<After>, has_failed: bool) -> Vec<After> {
    if has_failed {
        afters.reverse();
    }
    afters
}
