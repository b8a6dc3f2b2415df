//! Deadlines by key.

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn timers_come_due_in_order_and_once() {
    let mut timers = Timers::default();
    timers.arm("late", ms(30));
    timers.arm("b", ms(10));
    timers.arm("a", ms(10));
    assert_eq!(timers.next_deadline(), Some(ms(10)));
    assert_eq!(timers.take_due(ms(9)), None);
    assert_eq!(timers.take_due(ms(10)), Some("b"));
    assert_eq!(timers.take_due(ms(10)), Some("a"));
    assert_eq!(timers.take_due(ms(29)), None);
    assert_eq!(timers.take_due(ms(1000)), Some("late"));
    assert_eq!((timers.next_deadline(), timers.len()), (None, 0));
}

#[test]
fn arming_again_replaces_and_cancelling_forgets() {
    let mut timers = Timers::default();
    timers.arm("moved", ms(10));
    timers.arm("cancelled", ms(10));
    timers.arm("moved", ms(20));
    timers.cancel(&"cancelled");
    timers.cancel(&"never armed");
    assert_eq!(timers.take_due(ms(19)), None);
    assert_eq!(timers.take_due(ms(20)), Some("moved"));
    assert_eq!(timers.len(), 0);
    timers.arm("left", ms(1));
    timers.clear();
    assert_eq!((timers.next_deadline(), timers.len()), (None, 0));
}
