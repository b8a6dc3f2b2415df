//! Whether the file system of a log directory has room: its operator is told when there is none,
//! and when there is some again, but not for each append. One a directory; any shard.
//!
//! It takes the time as an argument, and refuses nothing itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A line at most for so long.
const INTERVAL: Duration = Duration::from_secs(60);

/// What is known of a directory's room.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Whether a call found none since one last found some: all that a call with room looks at.
    is_missing: AtomicBool,
    missing: Mutex<Missing>,
}

#[derive(Debug, Default)]
struct Missing {
    told_at: Option<Instant>,
    /// Whether it was told that there is none, and not yet that there is some again.
    is_told: bool,
    /// Calls without room since the last line.
    refused: u64,
    /// What the last of them needed.
    needed_bytes: u64,
}

impl Room {
    /// A call found no room for `needed_bytes`. If that is to be told now, how many calls found
    /// none since it was told last.
    pub fn refused(&self, needed_bytes: u64, now: Instant) -> Option<u64> {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_missing.store(true, Ordering::Relaxed);
        missing.needed_bytes = needed_bytes;
        missing.refused += 1;
        let told_at = missing.told_at;
        if told_at.is_some_and(|told| now.saturating_duration_since(told) < INTERVAL) {
            return None;
        }
        missing.told_at = Some(now);
        missing.is_told = true;
        Some(std::mem::take(&mut missing.refused))
    }

    /// A call found room. Whether that is to be told: there was none before, and what `free_bytes`
    /// says is enough for the one that found none.
    pub fn granted(&self, free_bytes: impl FnOnce() -> u64) -> bool {
        if !self.is_missing.load(Ordering::Relaxed) {
            return false;
        }
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if free_bytes() < missing.needed_bytes {
            return false;
        }
        self.is_missing.store(false, Ordering::Relaxed);
        std::mem::take(&mut missing.is_told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_once_an_interval_and_its_end_once() {
        let room = Room::default();
        let began = Instant::now();
        assert!(!room.granted(|| unreachable!("nothing was refused")));
        assert_eq!(room.refused(100, began), Some(1));
        for _ in 0..7 {
            assert_eq!(room.refused(100, began + INTERVAL / 2), None);
        }
        assert_eq!(room.refused(100, began + INTERVAL), Some(8));
        assert!(!room.granted(|| 99), "a small call finds room");
        assert!(room.granted(|| 100));
        assert!(!room.granted(|| unreachable!("it was told")));
        // It comes and goes: neither is told before the interval is over.
        let soon = began + INTERVAL * 3 / 2;
        assert_eq!(room.refused(100, soon), None);
        assert!(!room.granted(|| 100));
        assert_eq!(room.refused(100, began + 2 * INTERVAL), Some(2));
        assert!(room.granted(|| 100));
    }
}
