//! When what is deleted is unlinked.

use super::*;

fn named(name: &str) -> PathBuf {
    PathBuf::from(name)
}

#[test]
fn each_goes_when_its_own_delay_is_over() {
    let (doomed, now) = (Doomed::default(), Instant::now());
    doomed.add(named("late"), now, Duration::from_secs(60));
    doomed.add(named("early"), now, Duration::from_secs(1));
    doomed.add(named("never"), now, Duration::from_millis(u64::MAX));
    assert_eq!(doomed.next(now), None);
    let soon = now + Duration::from_secs(1);
    assert_eq!(doomed.next(soon), Some(named("early")));
    assert_eq!(doomed.next(soon), None);
    let later = now + Duration::from_secs(60);
    assert_eq!(doomed.next(later), Some(named("late")));
    assert_eq!(doomed.next(later), None);
    assert_eq!(doomed.len(), 1);
}

#[test]
fn past_the_bound_the_first_ones_go_before_their_time() {
    let (doomed, now) = (Doomed::default(), Instant::now());
    for number in 0..=DOOMED_FILES_MAX {
        let delay = Duration::from_secs(60 + number as u64);
        doomed.add(named(&number.to_string()), now, delay);
    }
    assert_eq!(doomed.next(now), Some(named("0")));
    assert_eq!(doomed.next(now), None, "within the bound each has its time");
}
