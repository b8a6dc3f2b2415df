//! Work that is due every so often, by the clock that nobody sets: a wall clock that is set back
//! must not put it off. Any shard.

use std::time::{Duration, Instant};

/// When something is due next.
#[derive(Debug)]
pub(super) struct Due {
    every: Duration,
    /// None where the interval is longer than the clock can tell: never.
    at: Option<Instant>,
}

impl Due {
    /// Due `first` after `now`, and from then on `every` so often.
    pub(super) fn new(now: Instant, first: Duration, every: Duration) -> Self {
        Self {
            every,
            at: now.checked_add(first),
        }
    }

    /// Whether it is due at `now`; then the next time counts from here.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.at.is_some_and(|at| at <= now);
        if is_due {
            self.at = now.checked_add(self.every);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_due_once_an_interval() {
        let start = Instant::now();
        let mut due = Due::new(start, SECOND, 10 * SECOND);
        let at = |seconds: u32| start + seconds * SECOND;
        let found: Vec<_> = [0, 1, 2, 10, 11, 12, 30, 39, 40]
            .into_iter()
            .filter(|seconds| due.is_due(at(*seconds)))
            .collect();
        assert_eq!(found, [1, 11, 30, 40]);
    }

    #[test]
    fn an_interval_beyond_the_clock_is_never_due() {
        let start = Instant::now();
        let for_ever = Duration::from_millis(u64::MAX);
        let mut never = Due::new(start, for_ever, SECOND);
        assert!(!never.is_due(start + 1_000_000 * SECOND));
        let mut once = Due::new(start, Duration::ZERO, for_ever);
        assert!(once.is_due(start));
        assert!(!once.is_due(start + 1_000_000 * SECOND));
    }
}
