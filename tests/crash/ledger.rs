//! Holds a topic's final content against what its producers were told and its consumers saw.
//!
//! Pure: no broker, no clock. The tests below prove that each kind of violation is found.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::value::Value;

/// Where a record is: partition and offset.
pub type Place = (i32, i64);

/// What has to be true of what was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Every acknowledged record is there once, at its place, in its producer's order.
    Once,
    /// Every acknowledged record is at its place; a repeated send may have left it twice.
    AtLeastOnce,
    /// An acknowledged record may be gone, but whatever is there was sent, and is whole.
    Nothing,
}

/// What one producer did.
pub struct Sent {
    pub producer: u32,
    pub promise: Promise,
    /// The partition of each record, by its number.
    pub partitions: Vec<i32>,
    /// What it was told of each record, by its number: where it is, or why it is nowhere.
    pub told: Vec<Option<Result<Place, String>>>,
    /// Why it could not go on: its topic, or what it had written before, was gone.
    pub gave_up: Option<String>,
}

/// A record as a consumer saw it; `None` where its bytes are no value of ours.
pub type Seen = BTreeMap<Place, Option<Value>>;

/// What is wrong, in words; one kind can hold many records, of which the first is shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Violations(BTreeMap<&'static str, (usize, String)>);

impl Violations {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, kind: &str) -> bool {
        self.0.contains_key(kind)
    }

    /// Takes over what another topic's judgement found.
    pub fn merge(&mut self, other: Self) {
        for (kind, (count, first)) in other.0 {
            self.0.entry(kind).or_insert((0, first)).0 += count;
        }
    }

    /// One more of a kind.
    pub fn add(&mut self, kind: &'static str, what: impl FnOnce() -> String) {
        let entry = self.0.entry(kind).or_insert_with(|| (0, what()));
        entry.0 += 1;
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, (count, first)) in &self.0 {
            writeln!(f, "{kind}: {count}, the first: {first}")?;
        }
        Ok(())
    }
}

/// The judgement if a producer had to give up: then its topic may not even be there to look at.
pub fn judge_producers(sent: &[Sent]) -> Option<Violations> {
    let mut violations = Violations::default();
    for sent in sent {
        if let Some(why) = &sent.gave_up {
            violations.add("lost", || {
                format!("producer {} gave up: {why}", sent.producer)
            });
        }
    }
    (!violations.is_empty()).then_some(violations)
}

/// Judges the final content `log` of a topic with `partitions` partitions, read from offset 0 to
/// its end, by what the producers were told and what consumers saw on the way.
pub fn judge(sent: &[Sent], log: &Seen, seen: &Seen) -> Violations {
    let mut violations = Violations::default();
    judge_offsets(log, &mut violations);
    judge_content(sent, log, &mut violations);
    for sent in sent {
        judge_acknowledged(sent, log, &mut violations);
        if sent.promise == Promise::Once {
            judge_order(sent, log, &mut violations);
        }
    }
    for (place, value) in seen {
        if log.get(place) != Some(value) {
            violations.add("taken back", || {
                format!(
                    "{value:?} was read at {place:?}, where now {:?} is",
                    log.get(place)
                )
            });
        }
    }
    violations
}

/// Offsets begin at 0 and leave none out: nothing here compacts, deletes or aborts.
fn judge_offsets(log: &Seen, violations: &mut Violations) {
    let mut next: HashMap<i32, i64> = HashMap::new();
    for &(partition, offset) in log.keys() {
        let expected = next.entry(partition).or_insert(0);
        if offset != *expected {
            violations.add("gap", || {
                format!("{partition}: {offset} comes after {}", *expected - 1)
            });
        }
        *expected = offset + 1;
    }
}

/// Whatever is there was sent, whole, to this partition, and, where promised, is there once.
fn judge_content(sent: &[Sent], log: &Seen, violations: &mut Violations) {
    let by_producer: HashMap<u32, &Sent> = sent.iter().map(|sent| (sent.producer, sent)).collect();
    let mut places: HashMap<Value, Place> = HashMap::new();
    for (&place, value) in log {
        let Some(value) = *value else {
            violations.add("damaged", || format!("at {place:?}"));
            continue;
        };
        let number = usize::try_from(value.number).unwrap_or(usize::MAX);
        let sent = by_producer.get(&value.producer);
        let partition = sent.and_then(|sent| sent.partitions.get(number));
        if partition != Some(&place.0) {
            violations.add("never sent", || format!("{value:?} at {place:?}"));
            continue;
        }
        let earlier = places.insert(value, place);
        if let (Some(earlier), Some(Promise::Once)) = (earlier, sent.map(|sent| sent.promise)) {
            violations.add("twice", || {
                format!("{value:?} at {earlier:?} and {place:?}")
            });
        }
    }
}

fn judge_acknowledged(sent: &Sent, log: &Seen, violations: &mut Violations) {
    for (number, told) in sent.told.iter().enumerate() {
        let value = Value {
            producer: sent.producer,
            number: number as u64,
        };
        match told {
            Some(Ok(place))
                if sent.promise != Promise::Nothing && log.get(place) != Some(&Some(value)) =>
            {
                violations.add("lost", || {
                    let instead = log.get(place);
                    format!("{value:?} acknowledged at {place:?}, where {instead:?} is")
                });
            }
            // With retries for longer than any outage, a send that fails is a broken promise too.
            Some(Err(error)) if sent.promise == Promise::Once => {
                violations.add("refused", || format!("{value:?}: {error}"));
            }
            None if sent.promise == Promise::Once => {
                violations.add("untold", || format!("{value:?} has no report"));
            }
            _ => (),
        }
    }
}

/// A producer's records stand in each partition in the order in which it sent them.
fn judge_order(sent: &Sent, log: &Seen, violations: &mut Violations) {
    let mut last: HashMap<i32, Value> = HashMap::new();
    for (&(partition, offset), value) in log {
        let Some(value) = value.filter(|value| value.producer == sent.producer) else {
            continue;
        };
        let earlier = last.insert(partition, value);
        if earlier.is_some_and(|earlier| earlier.number >= value.number) {
            violations.add("order", || {
                format!("{value:?} at {offset} after {earlier:?}")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(number: u64) -> Value {
        Value {
            producer: 1,
            number,
        }
    }

    /// Three acknowledged records of one partition, and the log that holds them.
    fn healthy(promise: Promise) -> (Vec<Sent>, Seen) {
        let log = (0..3_u64)
            .map(|n| ((0, n as i64), Some(value(n))))
            .collect();
        let sent = Sent {
            producer: 1,
            promise,
            partitions: vec![0; 5],
            told: vec![Some(Ok((0, 0))), Some(Ok((0, 1))), Some(Ok((0, 2)))],
            gave_up: None,
        };
        (vec![sent], log)
    }

    #[track_caller]
    fn found(kind: &str, sent: &[Sent], log: &Seen, seen: &Seen) {
        let violations = judge(sent, log, seen);
        assert!(violations.has(kind), "{kind} was not found:\n{violations}");
    }

    #[test]
    fn a_healthy_log_is_healthy() {
        for promise in [Promise::Once, Promise::AtLeastOnce, Promise::Nothing] {
            let (sent, log) = healthy(promise);
            assert_eq!(judge(&sent, &log, &log), Violations::default());
            assert_eq!(judge_producers(&sent), None);
        }
    }

    #[test]
    fn a_producer_that_gives_up_has_lost_something() {
        let (mut sent, _) = healthy(Promise::Once);
        sent[0].gave_up = Some("unknown topic".to_owned());
        assert!(judge_producers(&sent).is_some_and(|violations| violations.has("lost")));
    }

    #[test]
    fn each_broken_promise_is_found() {
        let (mut sent, log) = healthy(Promise::Once);
        let none = Seen::new();

        let mut short = log.clone();
        short.pop_last();
        found("lost", &sent, &short, &none);
        found("taken back", &sent, &short, &log);

        let mut gap = log.clone();
        gap.remove(&(0, 1));
        found("gap", &sent, &gap, &none);

        let mut twice = log.clone();
        twice.insert((0, 3), Some(value(1)));
        found("twice", &sent, &twice, &none);
        found("order", &sent, &twice, &none);

        let mut swapped = log.clone();
        swapped.insert((0, 0), Some(value(1)));
        swapped.insert((0, 1), Some(value(0)));
        found("lost", &sent, &swapped, &none);
        found("order", &sent, &swapped, &none);

        let mut damaged = log.clone();
        damaged.insert((0, 1), None);
        found("damaged", &sent, &damaged, &none);

        let mut foreign = log.clone();
        foreign.insert(
            (0, 3),
            Some(Value {
                producer: 9,
                number: 0,
            }),
        );
        found("never sent", &sent, &foreign, &none);
        let mut elsewhere = log.clone();
        elsewhere.insert((1, 0), Some(value(3)));
        found("never sent", &sent, &elsewhere, &none);

        sent[0].told.push(Some(Err("timed out".to_owned())));
        found("refused", &sent, &log, &none);
        sent[0].told[3] = None;
        found("untold", &sent, &log, &none);
    }

    #[test]
    fn a_weaker_promise_allows_more() {
        let (sent, mut log) = healthy(Promise::AtLeastOnce);
        log.insert((0, 3), Some(value(1)));
        assert_eq!(judge(&sent, &log, &log), Violations::default());
        log.retain(|place, _| place.1 < 2);
        found("lost", &sent, &log, &Seen::new());
        let (sent, mut log) = healthy(Promise::Nothing);
        log.retain(|place, _| place.1 < 2);
        assert_eq!(judge(&sent, &log, &Seen::new()), Violations::default());
    }
}
