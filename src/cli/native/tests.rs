//! What becomes of answers, without a broker.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::codes::refusal;
use super::{Outcome, Refusal, ask_each};

const EARLY: RDKafkaErrorCode = RDKafkaErrorCode::CoordinatorLoadInProgress;
const GONE: RDKafkaErrorCode = RDKafkaErrorCode::GroupIdNotFound;

fn refused(code: RDKafkaErrorCode) -> Refusal {
    Refusal::local(code, code.to_string())
}

/// Groups of which each is early so many times, and then deleted once.
struct Groups(RefCell<Vec<(&'static str, usize)>>);

impl Groups {
    fn delete(&self, ids: &[&str]) -> Vec<Outcome> {
        let mut groups = self.0.borrow_mut();
        let mut delete = |id: &&str| {
            let at = groups.iter().position(|(there, _)| there == id);
            let at = at.ok_or_else(|| refused(GONE))?;
            match groups[at].1.checked_sub(1) {
                Some(left) => {
                    groups[at].1 = left;
                    Err(refused(EARLY))
                }
                None => {
                    groups.remove(at);
                    Ok(())
                }
            }
        };
        ids.iter()
            .map(|id| ((*id).to_owned(), delete(id)))
            .collect()
    }
}

#[test]
fn only_what_was_early_is_asked_for_again() {
    let groups = Groups(RefCell::new(vec![("a", 0), ("b", 2), ("c", 1)]));
    let end = Instant::now() + Duration::from_secs(60);
    let outcomes = ask_each(&["a", "b", "nope", "c"], end, |ids| Ok(groups.delete(ids)));
    let outcomes = outcomes.expect("answers");
    let of = |name: &str| {
        let found: Vec<_> = outcomes.iter().filter(|(id, _)| id == name).collect();
        assert_eq!(found.len(), 1, "one outcome each: {outcomes:?}");
        found[0].1.as_ref().map_err(|refusal| refusal.code).copied()
    };
    assert_eq!([of("a"), of("b"), of("c")], [Ok(()); 3]);
    assert_eq!(of("nope"), Err(GONE));
}

#[test]
fn what_was_done_is_told_also_where_the_rest_fails_or_stays_early() {
    for last in [EARLY, RDKafkaErrorCode::OperationTimedOut] {
        let groups = Groups(RefCell::new(vec![("a", 0), ("b", usize::MAX)]));
        let end = Instant::now() + Duration::from_millis(250);
        let mut is_first = true;
        let outcomes = ask_each(&["a", "b"], end, |ids| {
            match std::mem::take(&mut is_first) {
                false if last != EARLY => Err(refused(last)),
                _ => Ok(groups.delete(ids)),
            }
        });
        let expected = [
            ("a".to_owned(), Ok(())),
            ("b".to_owned(), Err(refused(last))),
        ];
        assert_eq!(outcomes, Ok(expected.to_vec()));
    }
    let all_refused = ask_each(&["a"], Instant::now(), |_| Err(refused(EARLY)));
    assert_eq!(all_refused, Err(refused(EARLY)));
}

#[test]
fn a_group_that_is_gone_after_a_late_answer_was_deleted() {
    const LATE: RDKafkaErrorCode = RDKafkaErrorCode::CoordinatorNotAvailable;
    for (first, expected) in [(LATE, Ok(())), (EARLY, Err(refused(GONE)))] {
        let mut codes = [first, GONE].into_iter();
        let end = Instant::now() + Duration::from_secs(60);
        let outcomes = ask_each(&["a"], end, |_| {
            let code = codes.next().expect("no third question");
            Ok(vec![("a".to_owned(), Err(refused(code)))])
        });
        assert_eq!(outcomes, Ok(vec![("a".to_owned(), expected)]));
    }
}

#[test]
fn a_code_that_the_library_does_not_know_keeps_its_number() {
    assert_eq!(refusal(0, String::new()), None);
    let known = refusal(69, String::new()).expect("an error");
    assert_eq!(known.code, GONE);
    // Between and behind those that librdkafka has.
    for number in [121, 128, 133, i32::MAX] {
        let unknown = refusal(number, String::new()).expect("an error");
        assert_eq!(unknown.code, RDKafkaErrorCode::Unknown);
        assert!(unknown.reason.contains(&number.to_string()), "{unknown}");
        let unknown = refusal(number, "why".to_owned()).expect("an error");
        let has_both =
            unknown.reason.contains("why") && unknown.reason.contains(&number.to_string());
        assert!(has_both, "{unknown}");
    }
}
