//! The one source of wall-clock time. Any shard; it never sleeps.
//!
//! Protocol logic takes the time as an argument. Only the places that execute plans hold a
//! [`Clock`], so that a test can hand them one that it moves itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, as Kafka's record timestamps.
pub type TimestampMs = i64;

/// The system's clock, or one that a test moves by hand.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's wall clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `now_ms` until [`Clock::advance`] moves it.
    pub fn manual(now_ms: TimestampMs) -> Self {
        Self {
            manual: Some(Arc::new(AtomicI64::new(now_ms))),
        }
    }

    /// Now, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> TimestampMs {
        match &self.manual {
            Some(manual) => manual.load(Ordering::Relaxed),
            // A clock before 1970 reads as 0: timestamps are data here, never ordering.
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_millis() as TimestampMs),
        }
    }

    /// Moves a manual clock on by `by_ms`.
    ///
    /// # Panics
    /// If the clock is the system's.
    pub fn advance(&self, by_ms: i64) {
        let manual = self.manual.as_ref().expect("only a manual clock is moved");
        manual.fetch_add(by_ms, Ordering::Relaxed);
    }
}
