//! Histories as text, an event or a whole operation a line, a millisecond apart:
//!
//! - `0 send i 1 2 -> 5`: process 0 has the producer `i` send the values 1 and 2, and is told
//!   offset 5; `-> ?` tells none, `-> 5 x1` also that the batch was sent once, `-> fail` and
//!   `-> info` are no answers, and without an arrow nothing comes. A producer whose name begins
//!   with `i` is idempotent.
//! - `0 poll 1 -> 5:1@2 6:2@2 high=7`: it reads by assignment 1 the value 1 at offset 5, of epoch
//!   2; `stable=8` tells a last stable offset.
//! - `0 marks -> 0 7 @2`: log start, high watermark, and leader epoch 2, if one is shown.
//! - `0 commit g3 5 -> ok` and `0 committed -> 5` or `-> none`.
//! - `a = 0 marks` begins an operation that `a -> 0 7` ends.
//! - `0 assigned 1 0.1 g3 0` assigns the member 0.1 partition 0 from offset 0; `g-` is no group's.
//! - `2 read-to 7 at-end`, `0 healed`, `0 over`, `0 bad-answer`, and `0 wait 100` for milliseconds.
//!
//! Partition 0 is meant where an offset or a producer has none in front of it: `1/5:v`, `1/i`.

use std::collections::HashMap;

use crate::cli::check::history::{
    Answer, At, Call, Ended, Event, History, Record, Setup, Watermarks, What,
};

pub const PROCESSES: u32 = 2;

/// A history in the making.
struct Story {
    events: Vec<Event>,
    now_ms: u64,
    next_op: u64,
    /// Operations that a line may end, with what was asked.
    begun: HashMap<String, (u64, String)>,
}

/// The history that the text tells.
pub fn history(text: &str) -> History {
    let mut story = Story {
        events: Vec::new(),
        now_ms: 0,
        next_op: 0,
        begun: HashMap::new(),
    };
    let setup = Setup {
        topic: "t".into(),
        partitions: 2,
        processes: PROCESSES,
        seed: 0,
        progress_within_ms: 100,
    };
    story.push(0, What::Run(setup));
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .for_each(|line| story.tell(line));
    story.push(0, What::End);
    History::new(story.events).expect("a history")
}

impl Story {
    fn push(&mut self, process: u32, what: What) {
        self.now_ms += 1;
        let at = self.now_ms * 1_000_000;
        self.events.push(Event { at, process, what });
    }

    fn tell(&mut self, line: &str) {
        let (begin, end) = match line.split_once("->") {
            Some((begin, end)) => (begin, Some(end)),
            None => (line, None),
        };
        let end: Option<Vec<&str>> = end.map(|end| end.split_whitespace().collect());
        let mut words: Vec<&str> = begin.split_whitespace().collect();
        if let (Some((op, verb)), Some(end)) = (self.begun.remove(words[0]), &end) {
            return self.end(op, &verb, end);
        }
        let label = (words.get(1) == Some(&"=")).then(|| words[0].to_owned());
        if label.is_some() {
            words.drain(..2);
        }
        let (process, verb, rest) = (number(words[0]) as u32, words[1], &words[2..]);
        let Some(call) = call(verb, rest) else {
            if verb == "wait" {
                self.now_ms += number(rest[0]) as u64;
            } else {
                self.push(process, note(verb, rest));
            }
            return;
        };
        let op = self.next_op;
        self.next_op += 1;
        self.push(process, What::Invoke { op, call });
        if let Some(label) = label {
            self.begun.insert(label, (op, verb.to_owned()));
        }
        if let Some(end) = end {
            self.end(op, verb, &end);
        }
    }

    fn end(&mut self, op: u64, verb: &str, words: &[&str]) {
        let error = "no".to_owned();
        let what = match words.first() {
            Some(&"fail") => What::Fail { op, error },
            Some(&"info") => What::Info { op, error },
            _ => {
                let answer = answer(verb, words);
                What::Ok { op, answer }
            }
        };
        self.push(0, what);
    }
}

fn number(word: &str) -> i64 {
    let number = word.trim_start_matches(['g', '@', 'x']).parse();
    number.unwrap_or_else(|error| panic!("{word}: {error}"))
}

/// What a word is of, and the rest of it.
fn of_partition(word: &str) -> (i32, &str) {
    let split = word.split_once('/');
    split.map_or((0, word), |(partition, rest)| {
        (number(partition) as i32, rest)
    })
}

fn at(word: &str) -> At {
    let (partition, offset) = of_partition(word);
    (partition, number(offset))
}

fn generation(word: &str) -> Option<i32> {
    (word != "g-").then(|| number(word) as i32)
}

fn call(verb: &str, words: &[&str]) -> Option<Call> {
    Some(match verb {
        "send" => {
            let (partition, producer) = of_partition(words[0]);
            Call::Send {
                producer: producer.to_owned(),
                is_idempotent: producer.starts_with('i'),
                partition,
                values: words[1..].iter().map(|value| (*value).to_owned()).collect(),
            }
        }
        "poll" => Call::Poll {
            assignment: Some(number(words[0]) as u64),
        },
        "marks" => Call::Watermarks { partition: 0 },
        "commit" => Call::Commit {
            generation: generation(words[0]),
            offsets: words[1..].iter().map(|word| at(word)).collect(),
        },
        "committed" => Call::Committed {
            partitions: vec![0],
        },
        _ => return None,
    })
}

fn answer(verb: &str, words: &[&str]) -> Answer {
    match verb {
        "send" => Answer::Send {
            offset: (words[0] != "?").then(|| number(words[0])),
            attempts: words.get(1).map(|word| number(word) as u32),
        },
        "poll" => poll(words),
        "marks" => Answer::Watermarks(Watermarks {
            partition: 0,
            start: number(words[0]),
            high: number(words[1]),
            stable: None,
            epoch: words.get(2).map(|word| number(word) as i32),
        }),
        "commit" => Answer::Commit,
        _ => Answer::Committed {
            offsets: vec![(0, (words[0] != "none").then(|| number(words[0])))],
        },
    }
}

fn poll(words: &[&str]) -> Answer {
    let marks = |high: i64, stable: Option<i64>| Watermarks {
        partition: 0,
        start: 0,
        high,
        stable,
        epoch: None,
    };
    let (mut records, mut watermarks) = (Vec::new(), Vec::new());
    for word in words {
        if let Some(high) = word.strip_prefix("high=") {
            watermarks.push(marks(number(high), None));
            continue;
        }
        if let Some(stable) = word.strip_prefix("stable=") {
            watermarks.push(marks(0, Some(number(stable))));
            continue;
        }
        let (partition, record) = of_partition(word);
        let (offset, value) = record.split_once(':').expect("offset:value");
        let (value, epoch) = match value.split_once('@') {
            Some((value, epoch)) => (value, Some(number(epoch) as i32)),
            None => (value, None),
        };
        records.push(Record {
            partition,
            offset: number(offset),
            value: value.to_owned(),
            epoch,
        });
    }
    Answer::Poll {
        records,
        watermarks,
    }
}

fn note(verb: &str, words: &[&str]) -> What {
    match verb {
        "assigned" => What::Assigned {
            assignment: number(words[0]) as u64,
            member: words[1].to_owned(),
            generation: generation(words[2]),
            from: words[3..]
                .iter()
                .map(|word| at(word))
                .map(|(p, it)| (p, Some(it)))
                .collect(),
        },
        "read-to" => {
            let (partition, position) = at(words[0]);
            let ended = match words[1] {
                "at-end" => Ended::AtEnd,
                "stuck" => Ended::Stuck,
                "cut-short" => Ended::CutShort,
                other => panic!("no end: {other}"),
            };
            What::ReadTo {
                partition,
                position,
                ended,
            }
        }
        "healed" => What::Healed,
        "over" => What::Over,
        "bad-answer" => What::BadAnswer {
            error: "nonsense".to_owned(),
        },
        other => panic!("no event: {other}"),
    }
}
