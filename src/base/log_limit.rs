//! Keeps peers from filling the log: so many lines an interval, then a count of those left out.
//!
//! One a shard and kind of line; it takes the time as an argument.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Lines in one interval.
const LINES_MAX: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(10);

/// How many lines were left out before one, if any. As the field of an event it is only written if
/// there were some.
pub type LeftOut = Option<NonZeroU64>;

/// Counts lines.
#[derive(Debug, Default)]
pub struct LogLimit {
    began: Cell<Option<Instant>>,
    lines: Cell<u32>,
    left_out: Cell<u64>,
}

impl LogLimit {
    /// Whether a line may be written now, and then how many were left out before it.
    pub fn permit(&self, now: Instant) -> Option<LeftOut> {
        let is_over = |began: Instant| now.saturating_duration_since(began) >= INTERVAL;
        if self.began.get().is_none_or(is_over) {
            self.began.set(Some(now));
            self.lines.set(0);
        }
        if self.lines.get() == LINES_MAX {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        }
        self.lines.set(self.lines.get() + 1);
        Some(NonZeroU64::new(self.left_out.take()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_ten_lines_and_a_count() {
        let limit = LogLimit::default();
        let began = Instant::now();
        let permits = |at| (0..25).filter_map(|_| limit.permit(at)).collect::<Vec<_>>();
        assert_eq!(permits(began), [None; 10]);
        assert_eq!(permits(began + INTERVAL / 2), []);
        let mut next = vec![NonZeroU64::new(40)];
        next.extend([None; 9]);
        assert_eq!(permits(began + INTERVAL), next);
    }
}
