//! How much of a segment is preallocated in one go. Its log's alone; pure.
//!
//! A step holds what the log appends in about a second: a busy log asks for room once a second, an
//! idle one holds little that it does not use. A step is at most twice, and at least half, the one
//! before.

use crate::base::clock::TimestampMs;

/// The smallest step, and the first.
pub const STEP_BYTES_MIN: u64 = 64 << 10;
/// The largest.
pub const STEP_BYTES_MAX: u64 = 64 << 20;
/// What a step should last for.
const STEP_MS: u64 = 1000;

/// The pace at which a log is appended to.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    step: u64,
    /// Bytes appended since the last step was taken.
    appended: u64,
    taken_ms: TimestampMs,
}

impl Pace {
    /// The pace of a log of which nothing is known.
    pub fn new(now: TimestampMs) -> Self {
        Self {
            step: STEP_BYTES_MIN,
            appended: 0,
            taken_ms: now,
        }
    }

    /// The last step, in bytes.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// So many bytes were appended.
    pub fn appended(&mut self, bytes: u64) {
        self.appended += bytes;
    }

    /// Takes the next step, in bytes.
    pub fn take_step(&mut self, now: TimestampMs) -> u64 {
        let elapsed_ms = now.saturating_sub(self.taken_ms).max(1) as u64;
        let lasting = self.appended.saturating_mul(STEP_MS) / elapsed_ms;
        let near = lasting.clamp(self.step / 2, self.step * 2);
        self.step = near
            .next_power_of_two()
            .clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
        (self.appended, self.taken_ms) = (0, now);
        self.step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps taken at a steady rate, each when the one before is used up.
    fn after(pace: &mut Pace, now: &mut TimestampMs, bytes_per_s: u64, steps: usize) -> u64 {
        for _ in 0..steps {
            let step = pace.step();
            pace.appended(step);
            *now += (step * 1000 / bytes_per_s) as i64;
            pace.take_step(*now);
        }
        pace.step()
    }

    #[test]
    fn steps_follow_the_rate_up_and_down() {
        let mut now = 1_000_000;
        let mut pace = Pace::new(now);
        assert_eq!(after(&mut pace, &mut now, 1 << 10, 20), STEP_BYTES_MIN);
        assert_eq!(after(&mut pace, &mut now, 1 << 20, 20), 1 << 20);
        assert_eq!(after(&mut pace, &mut now, 1 << 30, 5), 32 << 20, "by twice");
        assert_eq!(after(&mut pace, &mut now, 1 << 30, 5), STEP_BYTES_MAX);
        assert_eq!(after(&mut pace, &mut now, 1 << 20, 5), 2 << 20, "by half");
        assert_eq!(after(&mut pace, &mut now, 1 << 10, 20), STEP_BYTES_MIN);
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_makes_no_harm() {
        let mut pace = Pace::new(1_000);
        pace.appended(u64::MAX / 2);
        assert_eq!(pace.take_step(1_000), 2 * STEP_BYTES_MIN);
        pace.appended(0);
        assert_eq!(pace.take_step(i64::MIN), STEP_BYTES_MIN);
    }
}
