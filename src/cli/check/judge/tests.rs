//! Each check with histories that break what it looks for, and ones near them that do not. The
//! fresh readers at the end are the processes 2 and 3.

mod story;

use super::{CHECKS, Found, judge};

/// By check, what was looked at and what was found.
fn judged(story: &str) -> Vec<(&'static str, usize, usize)> {
    let history = story::history(story);
    let row = |(check, found): (&super::Check, Found)| {
        let lines = found.violations.iter().flat_map(|it| &it.lines);
        assert!(lines.clone().all(|line| *line > 1), "{found:?}");
        assert!(lines.count() >= found.violations.len(), "{found:?}");
        (check.name, found.looked_at, found.count)
    };
    judge(&history).into_iter().map(row).collect()
}

/// Holds what is found in a story against what is to be found, `check count` each.
#[track_caller]
fn finds(expected: &str, story: &str) {
    let judged = judged(story);
    let found = judged.iter().filter(|(_, _, count)| *count > 0);
    let found: Vec<_> = found
        .map(|(name, _, count)| format!("{name} {count}"))
        .collect();
    assert_eq!(found.join(", "), expected, "{story}\n{judged:?}");
}

/// What a check looked at.
fn looked_at(check: &str, story: &str) -> usize {
    let judged = judged(story);
    let row = judged.iter().find(|(name, ..)| *name == check);
    row.unwrap_or_else(|| panic!("no {check}")).1
}

#[test]
fn what_has_nothing_to_look_at_says_so() {
    let judged = judged("");
    assert_eq!(judged.len(), CHECKS.len());
    let is_idle = judged.iter().all(|(_, looked_at, _)| *looked_at == 0);
    assert!(is_idle, "{judged:?}");
}

#[test]
fn one_offset_has_one_value() {
    finds(
        "inconsistent-offsets 1",
        "0 send a 1 -> 5\n0 send a 2\n0 poll 1 -> 5:2",
    );
    finds(
        "inconsistent-offsets 1",
        "0 send a 1 2\n0 poll 1 -> 5:1\n0 poll 2 -> 5:2",
    );
    finds(
        "",
        "0 send a 1 2 -> 5\n0 poll 1 -> 5:1 6:2\n0 poll 2 -> 5:1",
    );
}

#[test]
fn one_value_has_one_offset_unless_it_was_sent_again() {
    for (producer, answer, expected) in [
        ("i", "5", "duplicates 1"),
        ("i", "info", "duplicates 1"),
        ("i", "5 x3", "duplicates 1"),
        // It may send again what it has no answer for.
        ("a", "5", ""),
        ("a", "5 x2", ""),
        ("a", "info", ""),
        ("a", "5 x1", "duplicates 1"),
    ] {
        finds(
            expected,
            &format!("0 send {producer} 1 -> {answer}\n0 poll 1 -> 5:1 6:1"),
        );
    }
}

#[test]
fn what_is_acknowledged_is_there_at_the_end() {
    let tell = |read: &str, ended: &str| {
        format!(
            "0 send i 1 -> 0\n0 send i 2 -> 1\n0 send i 3 -> ?\n0 send i 4 -> info\n0 send i 5\n\
             2 poll 1 -> {read}\n2 read-to {ended}"
        )
    };
    finds("", &tell("0:1 1:2 2:3", "3 at-end"));
    finds("", &tell("0:1 1:2 2:3 3:5", "4 at-end"));
    finds("lost-writes 1, polls 1", &tell("0:1 2:3", "3 at-end"));
    finds("lost-writes 1", &tell("1:2 2:3", "3 at-end"));
    finds("unseen-writes 1", &tell("0:1 1:2", "2 at-end"));
    finds("unseen-writes 3, ends-reached 1", &tell("", "0 at-end"));
    // One that did not read to the end says nothing of what is behind, and all of what is not.
    finds("", &tell("0:1", "1 cut-short"));
    finds("lost-writes 1", &tell("1:2", "2 cut-short"));
    finds("ends-reached 1", &tell("0:1", "1 stuck"));
    // Nobody has looked, or nobody knows how far.
    finds("", "0 send i 1 -> 0");
    finds("", "0 send i 1 -> 0\n2 poll 1 ->");
    // In another partition it is not there.
    finds(
        "unseen-writes 1, aborted-reads 1",
        "0 send i 1 -> ?\n2 poll 1 -> 1/0:1\n2 read-to 0 at-end",
    );
    // Each of the readers has to get it.
    finds(
        "unseen-writes 1, ends-reached 1",
        "0 send i 1 -> 0\n2 poll 1 -> 0:1\n2 read-to 1 at-end\n3 read-to 0 at-end",
    );
}

#[test]
fn a_log_is_read_to_where_it_was_known_to_end() {
    for (known, expected) in [
        ("1 marks -> 0 2", ""),
        ("1 marks -> 0 3", "ends-reached 1"),
        ("1 poll 1 -> high=2 stable=2", ""),
        ("1 poll 1 -> high=3", "ends-reached 1"),
        ("1 poll 1 -> high=2 stable=3", "ends-reached 1"),
        ("1 send a 3 -> 2", "ends-reached 1"),
    ] {
        for ended in ["stuck", "at-end", "cut-short"] {
            let story = format!(
                "0 send a 1 2 -> 0\n{known}\n2 assigned 1 2.1 g- 0\n2 poll 1 -> 0:1 1:2\n\
                 2 read-to 2 {ended}"
            );
            match (ended, known) {
                ("cut-short", _) => finds("", &story),
                ("at-end", "1 send a 3 -> 2") => finds("unseen-writes 1, ends-reached 1", &story),
                _ => finds(expected, &story),
            }
        }
    }
    // What came while it read was not there for it: a request without an answer may come late.
    finds(
        "",
        "0 send a 1 2 -> 0\n0 send a 3 -> info\n2 assigned 1 2.1 g- 0\n2 poll 1 -> 0:1 1:2\n\
         2 poll 1 -> high=3\n2 read-to 2 at-end\n3 assigned 2 3.1 g- 0\n\
         3 poll 2 -> 0:1 1:2 2:3\n3 read-to 3 at-end",
    );
}

#[test]
fn what_is_refused_is_not_read() {
    let tell = |record: &str| {
        format!("0 send a 1 -> fail\n0 send a 2 -> info\n0 send a 3\n0 poll 1 -> {record}")
    };
    finds("aborted-reads 1", &tell("0:1"));
    finds("aborted-reads 1", &tell("0:of-nobody"));
    finds("aborted-reads 1", &tell("1/0:2"));
    finds("", &tell("0:2"));
    finds("", &tell("0:3"));
    // A second copy where it was not sent to.
    finds(
        "aborted-reads 1",
        "0 send a 1 -> 5\n0 poll 1 -> 5:1\n0 poll 1 -> 1/9:1",
    );
}

#[test]
fn appends_come_behind_what_was_there_before_they_began() {
    // A hole that was filled later.
    finds("appends 1", "0 send x 1 -> 10\n1 send y 2 -> 9");
    finds(
        "appends 1",
        "0 send x 1 -> 10\n1 send y 2 -> info\n0 poll 1 -> 9:2",
    );
    finds("appends 1", "0 poll 1 -> high=11\n1 send y 2 -> 10");
    finds("", "0 send x 1 -> 10\n1 send y 2 -> 11");
    finds("", "a = 0 send x 1\nb = 1 send y 2\na -> 10\nb -> 9");
    finds("", "1 send y 2 -> 9\n0 send x 1 -> 10");
    finds("", "0 send x 1 -> 10\n1 send 1/y 2 -> 9");
}

#[test]
fn polls_leave_nothing_out() {
    let tell = |from: i64, polls: &str| {
        format!("0 send a v0 v1 v2 v3 v4 v5\n0 assigned 1 0.1 g- {from}\n{polls}")
    };
    finds("", &tell(1, "0 poll 1 -> 1:v1 2:v2\n0 poll 1 -> 3:v3 4:v4"));
    // Another assignment begins where it likes.
    finds("", &tell(1, "0 poll 1 -> 1:v1 2:v2\n0 poll 2 -> 1:v1 2:v2"));
    finds(
        "polls 1",
        &tell(1, "0 poll 1 -> 1:v1 2:v2\n0 poll 1 -> 1:v1 2:v2"),
    );
    finds(
        "polls 1",
        &tell(1, "0 poll 1 -> 1:v1 2:v2\n0 poll 1 -> 4:v4 5:v5"),
    );
    finds(
        "polls 1",
        &tell(1, "0 poll 1 -> 1:v1 3:v3\n0 poll 1 -> 4:v4"),
    );
    finds(
        "polls 1",
        &tell(0, "0 poll 1 -> 1:v1 2:v2\n0 poll 1 -> 3:v3"),
    );
}

#[test]
fn sends_of_one_producer_stay_in_order() {
    let tell = |producer: &str, other: &str| {
        format!("0 send {producer} 1 2\n0 send {other} 3\n0 poll 1 -> 0:1 1:3 2:2")
    };
    finds("send-order 1", &tell("i1", "i1"));
    finds("", &tell("i1", "i2"));
    finds("", &tell("a", "a"));
}

#[test]
fn committed_offsets_are_those_that_were_committed_last() {
    let one_by_one = "0 commit g1 5 -> ok\n0 commit g1 7 -> ok\n1 committed -> ";
    finds("", &format!("{one_by_one} 7"));
    for wrong in ["5", "6", "none"] {
        finds("committed-offsets 1", &format!("{one_by_one} {wrong}"));
    }
    // Two at once may be done in either order.
    for read in [5, 7] {
        let at_once = "a = 0 commit g1 5\nb = 0 commit g1 7\na -> ok\nb -> ok\n1 committed -> ";
        finds("", &format!("{at_once} {read}"));
    }
    // One without an answer may be done at any time, and so may one that a library sends again.
    for first in ["commit g1 5 -> info", "commit g1 5", "commit g- 5 -> ok"] {
        let then = "0 commit g1 7 -> ok\n1 committed -> 7\n1 committed -> 5";
        finds("", &format!("0 {first}\n{then}"));
    }
    // One that was refused never, and one while it is asked may be read or not.
    finds(
        "committed-offsets 1",
        "0 commit g1 5 -> fail\n1 committed -> 5",
    );
    for read in ["none", "5"] {
        finds(
            "",
            &format!("a = 1 committed\n0 commit g1 5 -> ok\na -> {read}"),
        );
    }
}

#[test]
fn a_generation_that_is_over_commits_nothing() {
    let tell = |second: &str, commit: &str| {
        format!(
            "0 assigned 1 0.1 g3 0\n0 assigned 2 {second} 0\n0 commit g4 50 -> ok\n\
             0 commit {commit}"
        )
    };
    finds("old-generations 1", &tell("2.1 g4", "g3 41 -> ok"));
    finds("", &tell("2.1 g4", "g4 51 -> ok"));
    for commit in ["g3 41 -> fail", "g3 41 -> info", "g- 41 -> ok"] {
        finds("", &tell("2.1 g4", commit));
    }
    // Nobody is known to have the newer one, or not before it began.
    finds("", &tell("2.1 g-", "g3 41 -> ok"));
    finds(
        "",
        "0 assigned 1 0.1 g3 0\na = 0 commit g3 5\n0 assigned 2 2.1 g4 0\na -> ok",
    );
}

#[test]
fn a_partition_has_one_owner_in_a_generation() {
    let tell = |second: &str| format!("0 assigned 1 0.1 g3 0\n0 assigned 2 {second}");
    finds("owned-twice 1", &tell("1.1 g3 0"));
    finds("", &tell("1.1 g4 0"));
    finds("", &tell("0.1 g3 0"));
    finds("", &tell("1.1 g3 1/0"));
    // Chosen, not assigned.
    finds("", &tell("1.1 g- 0"));
}

#[test]
fn watermarks_never_go_back() {
    let in_turn = |first: &str, then: &str| format!("1 marks -> {first}\n1 marks -> {then}");
    finds("", &in_turn("1 5 @2", "1 5 @2"));
    finds("", &in_turn("1 5 @2", "2 6 @3"));
    for then in ["1 4 @2", "0 5 @2", "1 5 @1"] {
        finds("watermarks 1", &in_turn("1 5 @2", then));
        let overlapping = format!("a = 1 marks\nb = 1 marks\na -> 1 5 @2\nb -> {then}");
        finds("", &overlapping);
    }
    // Another leader may hear later of what was deleted.
    finds("", &in_turn("1 5 @2", "0 5 @3"));
    // Whoever shows no epoch may have asked one who does not lead any more.
    finds("", &in_turn("1 5 @2", "0 4"));
    finds("watermarks 1", &in_turn("1 5", "1 4 @2"));
}

#[test]
fn a_high_watermark_is_behind_all_that_was_acknowledged_read_or_told() {
    for evidence in [
        "0 send a 1 -> 5",
        "0 send a 1\n0 poll 1 -> 5:1",
        "0 poll 1 -> high=6",
        "0 poll 1 -> stable=6",
    ] {
        finds("watermarks 1", &format!("{evidence}\n1 marks -> 0 5 @1"));
        finds("", &format!("{evidence}\n1 marks -> 0 6 @1"));
        // Beside records it may be late, just after an election.
        finds("", &format!("{evidence}\n0 poll 1 -> high=5 stable=5"));
    }
}

#[test]
fn records_have_the_epochs_of_leaders_one_after_the_other() {
    for (second, expected) in [(3, ""), (2, ""), (1, "record-epochs 1")] {
        finds(
            expected,
            &format!("0 send a 1 2\n0 poll 1 -> 0:1@2 1:2@{second}"),
        );
    }
    finds(
        "record-epochs 1",
        "0 send a 1\n0 poll 1 -> 0:1@2\n0 poll 2 -> 0:1@3",
    );
}

#[test]
fn an_answer_that_no_broker_may_give_is_one() {
    finds("bad-answers 1", "0 bad-answer\n0 poll 1 -> info");
    assert_eq!(
        looked_at("bad-answers", "0 marks -> 0 0\n0 marks -> info"),
        1
    );
}

#[test]
fn everything_that_is_tried_goes_on_after_healing() {
    // Both processes and both partitions, with the answers in time or late.
    let tell = |wait_ms: u32, over_ms: u32| {
        format!(
            "0 healed\na = 0 send p 1\nb = 1 send 1/q 2\nc = 0 marks\nd = 1 marks\n\
             0 wait {wait_ms}\na -> ?\nb -> ?\nc -> 0 0\nd -> 0 0\n0 wait {over_ms}\n0 over"
        )
    };
    finds("", &tell(0, 0));
    finds("liveness 6", &tell(110, 0));
    // Nothing comes at all, and the run goes on for long enough, or not.
    let silent = "0 healed\n0 send p 1\n1 send 1/q 2\n0 marks -> info\n1 poll 1 ->\n";
    finds("liveness 6", &format!("{silent}0 wait 110\n0 over"));
    finds(
        "",
        &format!("{silent}0 wait 50\n0 over\n0 wait 500\n0 healed"),
    );
    // What nobody tried is not accused, nor what was refused.
    let others = "0 healed\n0 send p 1 -> ?\n0 marks -> 0 0\n1 marks -> 0 0\n";
    finds("", &format!("{others}0 wait 500\n0 over"));
    finds(
        "",
        &format!("{others}1 send 1/q 2 -> fail\n0 wait 500\n0 over"),
    );
    finds(
        "liveness 2",
        &format!("{others}1 send 1/q 2 -> info\n0 wait 500\n0 over"),
    );
    assert_eq!(looked_at("liveness", &format!("{others}0 over")), 4);
}
