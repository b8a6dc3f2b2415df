//! Each check with histories that break what it looks for, and ones near them that do not.

use super::super::history::{Answer, At, Call, Event, History, Record, Setup, Watermarks, What};
use super::{CHECKS, judge};

const PROCESSES: u32 = 2;

/// The fresh readers at the end.
const FINAL: u32 = PROCESSES;

/// A history in the making: an event after the other, a millisecond apart.
struct Story {
    events: Vec<Event>,
    next_op: u64,
}

impl Story {
    fn new() -> Self {
        let setup = Setup {
            topic: "t".into(),
            partitions: 2,
            processes: PROCESSES,
            seed: 0,
            progress_within_ms: 100,
        };
        let mut story = Self {
            events: Vec::new(),
            next_op: 0,
        };
        story.note(0, What::Run(setup));
        story
    }

    fn note(&mut self, process: u32, what: What) {
        let at = self.events.len() as u64 * 1_000_000;
        self.events.push(Event { at, process, what });
    }

    fn begin(&mut self, process: u32, call: Call) -> u64 {
        let op = self.next_op;
        self.next_op += 1;
        self.note(process, What::Invoke { op, call });
        op
    }

    fn ok(&mut self, op: u64, answer: Answer) {
        self.note(0, What::Ok { op, answer });
    }

    fn fail(&mut self, op: u64) {
        let error = "no".into();
        self.note(0, What::Fail { op, error });
    }

    fn info(&mut self, op: u64) {
        let error = "lost".into();
        self.note(0, What::Info { op, error });
    }

    /// A producer whose name begins with `i` is idempotent. It sends to partition 0.
    fn send(&mut self, producer: &str, values: &[&str]) -> u64 {
        let call = Call::Send {
            producer: producer.into(),
            is_idempotent: producer.starts_with('i'),
            partition: 0,
            values: values.iter().map(|value| (*value).into()).collect(),
        };
        self.begin(0, call)
    }

    fn sent(&mut self, producer: &str, values: &[&str], offset: i64) {
        let op = self.send(producer, values);
        let offset = Some(offset);
        self.ok(op, Answer::Send { offset });
    }

    fn read(&mut self, process: u32, assignment: u64, records: &[(i64, &str)]) {
        let assignment = Some(assignment);
        let op = self.begin(process, Call::Poll { assignment });
        let record = |(offset, value): &(i64, &str)| Record {
            partition: 0,
            offset: *offset,
            value: (*value).into(),
            epoch: None,
        };
        let records = records.iter().map(record).collect();
        let watermarks = Vec::new();
        self.ok(
            op,
            Answer::Poll {
                records,
                watermarks,
            },
        );
    }

    fn assigned(&mut self, assignment: u64, member: &str, of: Option<i32>, from: &[At]) {
        let from = from.iter().map(|(at, offset)| (*at, Some(*offset)));
        let what = What::Assigned {
            assignment,
            member: member.into(),
            generation: of,
            from: from.collect(),
        };
        self.note(0, what);
    }

    fn commit(&mut self, offset: i64) -> u64 {
        let (assignment, offsets) = (1, vec![(0, offset)]);
        let call = Call::Commit {
            assignment,
            offsets,
        };
        self.begin(0, call)
    }

    fn ask_committed(&mut self) -> u64 {
        let partitions = vec![0];
        self.begin(1, Call::Committed { partitions })
    }

    fn committed(&mut self, op: u64, offset: Option<i64>) {
        let offsets = vec![(0, offset)];
        self.ok(op, Answer::Committed { offsets });
    }

    fn ask_marks(&mut self) -> u64 {
        self.begin(1, Call::Watermarks { partition: 0 })
    }

    fn marks(&mut self, op: u64, start: i64, high: i64, epoch: i32) {
        let epoch = Some(epoch);
        let partition = 0;
        let marks = Watermarks {
            partition,
            start,
            high,
            epoch,
        };
        self.ok(op, Answer::Watermarks(marks));
    }

    /// By check, what was looked at and what was found.
    fn judged(mut self) -> Vec<(&'static str, usize, usize)> {
        self.note(0, What::End);
        let history = History::new(self.events).expect("a history");
        let judged = judge(&history).into_iter();
        let row = |(check, found): (&super::Check, super::Found)| {
            let lines = found.violations.iter().flat_map(|it| &it.lines);
            assert!(lines.clone().count() >= found.violations.len(), "{found:?}");
            (check.name, found.looked_at, found.count)
        };
        judged.map(row).collect()
    }
}

/// Tells a story, and holds what is found against what is to be found.
#[track_caller]
fn finds(expected: &[(&str, usize)], tell: impl FnOnce(&mut Story)) {
    let mut story = Story::new();
    tell(&mut story);
    let judged = story.judged();
    let found = judged.iter().filter(|(_, _, count)| *count > 0);
    let found: Vec<_> = found.map(|(name, _, count)| (*name, *count)).collect();
    assert_eq!(found, expected, "{judged:?}");
}

#[test]
fn what_has_nothing_to_look_at_says_so() {
    let judged = Story::new().judged();
    assert_eq!(judged.len(), CHECKS.len());
    assert!(
        judged.iter().all(|(_, looked_at, _)| *looked_at == 0),
        "{judged:?}"
    );
}

#[test]
fn one_offset_has_one_value() {
    finds(&[("inconsistent-offsets", 1)], |story| {
        story.sent("a", &["1"], 5);
        story.send("a", &["2"]);
        story.read(0, 1, &[(5, "2")]);
    });
    finds(&[("inconsistent-offsets", 1)], |story| {
        story.send("a", &["1", "2"]);
        story.read(0, 1, &[(5, "1")]);
        story.read(0, 2, &[(5, "2")]);
    });
    finds(&[], |story| {
        story.sent("a", &["1", "2"], 5);
        story.read(0, 1, &[(5, "1"), (6, "2")]);
        story.read(0, 2, &[(5, "1")]);
    });
}

#[test]
fn one_value_of_an_idempotent_producer_has_one_offset() {
    let tell = |producer: &'static str| {
        move |story: &mut Story| {
            story.sent(producer, &["1"], 5);
            story.read(0, 1, &[(5, "1"), (6, "1")]);
        }
    };
    finds(&[("duplicates", 1)], tell("i"));
    // It may send again what it has no answer for.
    finds(&[], tell("a"));
    finds(&[("duplicates", 1)], |story| {
        let op = story.send("i", &["1"]);
        story.read(0, 1, &[(5, "1"), (6, "1")]);
        story.info(op);
    });
}

#[test]
fn what_is_acknowledged_is_there_at_the_end() {
    let tell = |read: &'static [(i64, &'static str)]| {
        move |story: &mut Story| {
            story.sent("i", &["1"], 0);
            story.sent("i", &["2"], 1);
            let op = story.send("i", &["3"]);
            story.ok(op, Answer::Send { offset: None });
            let unknown = story.send("i", &["4"]);
            story.info(unknown);
            story.send("i", &["5"]);
            story.read(FINAL, 1, read);
        }
    };
    finds(&[], tell(&[(0, "1"), (1, "2"), (2, "3")]));
    finds(&[], tell(&[(0, "1"), (1, "2"), (2, "3"), (3, "5")]));
    let lost = [("lost-writes", 1), ("polls", 1)];
    finds(&lost, tell(&[(0, "1"), (2, "3")]));
    finds(&[("lost-writes", 1)], tell(&[(1, "2"), (2, "3")]));
    finds(&[("unseen-writes", 1)], tell(&[(0, "1"), (1, "2")]));
    finds(&[("unseen-writes", 3)], tell(&[]));
    // Nobody has looked.
    finds(&[], |story| story.sent("i", &["1"], 0));
    // Each of the readers has to get it.
    finds(&[("unseen-writes", 1)], |story| {
        story.sent("i", &["1"], 0);
        story.read(FINAL, 1, &[(0, "1")]);
        story.read(FINAL + 1, 2, &[]);
    });
}

#[test]
fn what_is_refused_is_not_read() {
    let tell = |value: &'static str| {
        move |story: &mut Story| {
            let refused = story.send("a", &["1"]);
            story.fail(refused);
            let unknown = story.send("a", &["2"]);
            story.info(unknown);
            story.send("a", &["3"]);
            story.read(0, 1, &[(0, value)]);
        }
    };
    finds(&[("aborted-reads", 1)], tell("1"));
    finds(&[("aborted-reads", 1)], tell("of nobody"));
    finds(&[], tell("2"));
    finds(&[], tell("3"));
}

#[test]
fn polls_leave_nothing_out() {
    let tell = |from: i64, first: &'static [i64], then: &'static [i64], assignment: u64| {
        move |story: &mut Story| {
            let names = ["0", "1", "2", "3", "4", "5"];
            story.send("a", &names);
            story.assigned(1, "0.1", None, &[(0, from)]);
            let records = |offsets: &[i64]| -> Vec<(i64, &'static str)> {
                let record = |offset: &i64| (*offset, names[*offset as usize]);
                offsets.iter().map(record).collect()
            };
            story.read(0, 1, &records(first));
            story.read(0, assignment, &records(then));
        }
    };
    finds(&[], tell(1, &[1, 2], &[3, 4], 1));
    // Another assignment begins where it likes.
    finds(&[], tell(1, &[1, 2], &[1, 2], 2));
    finds(&[("polls", 1)], tell(1, &[1, 2], &[1, 2], 1));
    finds(&[("polls", 1)], tell(1, &[1, 2], &[4, 5], 1));
    finds(&[("polls", 1)], tell(1, &[1, 3], &[4], 1));
    finds(&[("polls", 1)], tell(0, &[1, 2], &[3], 1));
}

#[test]
fn sends_of_one_producer_stay_in_order() {
    let tell = |producer: &'static str, other: &'static str| {
        move |story: &mut Story| {
            story.send(producer, &["1", "2"]);
            story.send(other, &["3"]);
            story.read(0, 1, &[(0, "1"), (1, "3"), (2, "2")]);
        }
    };
    finds(&[("send-order", 1)], tell("i1", "i1"));
    finds(&[], tell("i1", "i2"));
    finds(&[], tell("a", "a"));
}

#[test]
fn committed_offsets_are_those_that_were_committed_last() {
    // Two commits one after the other.
    let tell = |read: Option<i64>| {
        move |story: &mut Story| {
            let first = story.commit(5);
            story.ok(first, Answer::Commit);
            let second = story.commit(7);
            story.ok(second, Answer::Commit);
            let asked = story.ask_committed();
            story.committed(asked, read);
        }
    };
    finds(&[], tell(Some(7)));
    for wrong in [Some(5), Some(6), None] {
        finds(&[("committed-offsets", 1)], tell(wrong));
    }
    // Two at once may be done in either order.
    for read in [5, 7] {
        finds(&[], |story| {
            let (first, second) = (story.commit(5), story.commit(7));
            story.ok(first, Answer::Commit);
            story.ok(second, Answer::Commit);
            let asked = story.ask_committed();
            story.committed(asked, Some(read));
        });
    }
    // One without an answer may be done at any time.
    finds(&[], |story| {
        let (first, second) = (story.commit(5), story.commit(7));
        story.info(first);
        story.ok(second, Answer::Commit);
        for read in [7, 5] {
            let asked = story.ask_committed();
            story.committed(asked, Some(read));
        }
    });
    // One that was refused never, and one while it is asked may be read or not.
    finds(&[("committed-offsets", 1)], |story| {
        let first = story.commit(5);
        story.fail(first);
        let asked = story.ask_committed();
        story.committed(asked, Some(5));
    });
    for read in [None, Some(5)] {
        finds(&[], |story| {
            let asked = story.ask_committed();
            let first = story.commit(5);
            story.ok(first, Answer::Commit);
            story.committed(asked, read);
        });
    }
}

#[test]
fn a_partition_has_one_owner_in_a_generation() {
    let tell = |generation: Option<i32>, member: &'static str, partition: i32| {
        move |story: &mut Story| {
            story.assigned(1, "0.1", Some(3), &[(0, 0)]);
            story.assigned(2, member, generation, &[(partition, 0)]);
        }
    };
    finds(&[("owned-twice", 1)], tell(Some(3), "1.1", 0));
    finds(&[], tell(Some(4), "1.1", 0));
    finds(&[], tell(Some(3), "0.1", 0));
    finds(&[], tell(Some(3), "1.1", 1));
    // Chosen, not assigned.
    finds(&[], tell(None, "1.1", 0));
}

#[test]
fn watermarks_never_go_back() {
    let tell = |first: (i64, i64, i32), then: (i64, i64, i32), overlap: bool| {
        move |story: &mut Story| {
            let a = story.ask_marks();
            if !overlap {
                story.marks(a, first.0, first.1, first.2);
            }
            let b = story.ask_marks();
            if overlap {
                story.marks(a, first.0, first.1, first.2);
            }
            story.marks(b, then.0, then.1, then.2);
        }
    };
    finds(&[], tell((1, 5, 2), (1, 5, 2), false));
    finds(&[], tell((1, 5, 2), (2, 6, 3), false));
    for then in [(1, 4, 2), (0, 5, 2), (1, 5, 1)] {
        finds(&[("watermarks", 1)], tell((1, 5, 2), then, false));
        finds(&[], tell((1, 5, 2), then, true));
    }
    // What was acknowledged is below it, and what was read.
    for high in [5, 6] {
        let expected: &[_] = if high < 6 { &[("watermarks", 1)] } else { &[] };
        finds(expected, |story| {
            story.sent("a", &["1"], 5);
            let asked = story.ask_marks();
            story.marks(asked, 0, high, 0);
        });
        finds(expected, |story| {
            story.send("a", &["1"]);
            story.read(0, 1, &[(5, "1")]);
            let asked = story.ask_marks();
            story.marks(asked, 0, high, 0);
        });
    }
}

#[test]
fn records_have_the_epochs_of_leaders_one_after_the_other() {
    for (second, expected) in [(3, &[][..]), (2, &[][..]), (1, &[("record-epochs", 1)][..])] {
        finds(expected, |story| {
            story.send("a", &["1", "2"]);
            let assignment = Some(1);
            let op = story.begin(0, Call::Poll { assignment });
            let record = |(offset, value, epoch): (i64, &str, i32)| Record {
                partition: 0,
                offset,
                value: value.into(),
                epoch: Some(epoch),
            };
            let records = [(0, "1", 2), (1, "2", second)].map(record).to_vec();
            let watermarks = Vec::new();
            story.ok(
                op,
                Answer::Poll {
                    records,
                    watermarks,
                },
            );
        });
    }
}

#[test]
fn everything_goes_on_after_healing() {
    // Both processes and both partitions, in time or late.
    let tell = |late: bool, processes: u32| {
        move |story: &mut Story| {
            story.note(0, What::Healed);
            for process in 0..processes {
                let call = Call::Send {
                    producer: process.to_string(),
                    is_idempotent: false,
                    partition: process as i32,
                    values: vec![process.to_string()],
                };
                let send = story.begin(process, call);
                let ask = story.begin(process, Call::Watermarks { partition: 0 });
                if late {
                    (0..100).for_each(|_| {
                        let client = "another".into();
                        story.note(0, What::Crashed { client });
                    });
                }
                let offset = None;
                story.ok(send, Answer::Send { offset });
                story.marks(ask, 0, 0, 0);
            }
        }
    };
    finds(&[], tell(false, 2));
    finds(&[("liveness", 6)], tell(true, 2));
    finds(&[("liveness", 3)], tell(false, 1));
}
