//! What came of a load: records, bytes, and how long they took. Pure.

use hdrhistogram::Histogram;

/// The times that a histogram tells apart go from here, in nanoseconds...
const NANOSECONDS_MIN: u64 = 1_000;
/// ...to here, an hour, to three digits.
const NANOSECONDS_MAX: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// The time that is measured, in nanoseconds since the run began: after the warm-up, and before the
/// rest is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
}

impl Window {
    /// Whether a moment is measured.
    pub fn contains(self, at: u64) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// What came of one kind of load.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Records that were acknowledged or received.
    pub records: u64,
    /// The bytes of their batches, as they travel.
    pub bytes: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// How long they took, in nanoseconds.
    pub times: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let times = Histogram::new_with_bounds(NANOSECONDS_MIN, NANOSECONDS_MAX, DIGITS);
        Self {
            records: 0,
            bytes: 0,
            requests: 0,
            times: times.expect("the bounds are in order"),
        }
    }
}

impl Tally {
    /// Records that took so many nanoseconds. What is outside of the bounds counts as the bound.
    pub fn took(&mut self, nanoseconds: u64, records: u64) {
        self.times.saturating_record_n(nanoseconds, records);
    }

    /// Adds what came of another part of the load.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.requests += other.requests;
        let added = self.times.add(&other.times);
        added.expect("all histograms have the same bounds");
    }
}
