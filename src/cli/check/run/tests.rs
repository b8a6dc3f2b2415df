//! A reader at the end, before brokers that give what they have, and ones that do not.

use rdkafka::config::ClientConfig;

use super::*;
use crate::cli::check::history::Watermarks;
use crate::cli::check::recorder::Failed;

const PATIENCE: Patience = Patience {
    quiet_max: Duration::from_millis(60),
    asked_after: Duration::from_millis(10),
};

/// The log of partition 0, as a broker says that it is and as it can be read.
struct Log {
    high: i64,
    /// The offset that comes next, up to which one, and which one comes after it for ever.
    next: i64,
    last: i64,
    then: Option<i64>,
    /// Whether questions are answered once there is nothing more to read.
    answers: bool,
}

impl Consuming for Log {
    fn assignment(&self) -> Option<u64> {
        None
    }

    fn generation(&self) -> Option<i32> {
        None
    }

    fn assign(&mut self, _: &[At]) -> Result<(), Failed> {
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), Failed> {
        Ok(())
    }

    fn call(&mut self, call: &Call) -> Result<Answer, Failed> {
        let partition = 0;
        match call {
            Call::Poll { .. } => {
                let offset = match self.next <= self.last {
                    true => Some(self.next),
                    false => self.then,
                };
                self.next += 1;
                let record = |offset| Record {
                    partition,
                    offset,
                    value: offset.to_string(),
                    epoch: None,
                };
                thread::sleep(Duration::from_millis(1));
                Ok(Answer::Poll {
                    records: offset.into_iter().map(record).collect(),
                    watermarks: Vec::new(),
                })
            }
            _ if self.answers => Ok(Answer::Watermarks(Watermarks {
                partition,
                start: 0,
                high: self.high,
                stable: None,
                epoch: None,
            })),
            _ => Err(Failed::perhaps("away")),
        }
    }

    fn leave(&mut self) {}
}

/// Where the log is known to end by an acknowledged record: at 5.
fn world() -> World {
    let setup = Setup {
        topic: "t".into(),
        partitions: 1,
        processes: 1,
        seed: 0,
        progress_within_ms: 1,
    };
    let recorder = Recorder::new(setup.clone(), None).expect("no file");
    let call = Call::Send {
        producer: "0.1".into(),
        is_idempotent: true,
        partition: 0,
        values: vec!["4".into()],
    };
    let op = recorder.invoke(0, call);
    let (offset, attempts) = (Some(4), Some(1));
    recorder.complete(0, op, &Ok(Answer::Send { offset, attempts }));
    World {
        setup,
        group: "g".into(),
        config: ClientConfig::new(),
        servers: String::new(),
        recorder,
        is_over: AtomicBool::new(true),
        epochs: Mutex::default(),
    }
}

#[test]
fn a_reading_ends_and_says_why() {
    // What the broker says the end is, the last offset that it gives, what it gives then, and
    // whether it answers.
    for (high, last, then, answers, expected) in [
        (5, 4, None, true, (5, Ended::AtEnd)),
        (5, 4, None, false, (5, Ended::AtEnd)),
        // Less than was known is the end all the same, by its own word.
        (3, 2, None, true, (3, Ended::AtEnd)),
        (5, 2, None, true, (3, Ended::Stuck)),
        (5, 2, None, false, (3, Ended::CutShort)),
        (5, -1, None, true, (0, Ended::Stuck)),
        // The same record for ever, and whatever it gives: no position gets nearer to the end.
        (5, 2, Some(2), true, (3, Ended::Stuck)),
        (5, 2, Some(0), false, (3, Ended::CutShort)),
    ] {
        let mut log = Log {
            high,
            next: 0,
            last,
            then,
            answers,
        };
        let pass = read_to_ends(&world(), 1, &mut log, &PATIENCE).expect("a pass");
        let read = (pass.position(0), pass.ended(0));
        assert_eq!(read, expected, "{high} {last} {then:?} {answers}");
    }
}
