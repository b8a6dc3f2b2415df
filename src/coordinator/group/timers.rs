//! Deadlines by key. Pure: it holds no clock, and whoever owns it asks what is due.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::time::Duration;

use ahash::AHashMap;

/// Deadlines, one a key. Those of one moment are due in the order in which they were armed.
#[derive(Debug)]
pub struct Timers<K> {
    /// The number tells timers of one moment apart.
    due: BTreeMap<(Duration, u64), K>,
    armed: AHashMap<K, (Duration, u64)>,
    next_number: u64,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self {
            due: BTreeMap::new(),
            armed: AHashMap::new(),
            next_number: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> Timers<K> {
    /// Arms `key` for `deadline`, which replaces the deadline that it had.
    pub fn arm(&mut self, key: K, deadline: Duration) {
        let place = (deadline, self.next_number);
        self.next_number += 1;
        if let Some(before) = self.armed.insert(key.clone(), place) {
            self.due.remove(&before);
        }
        self.due.insert(place, key);
    }

    /// Disarms `key`, if it is armed.
    pub fn cancel(&mut self, key: &K) {
        if let Some(place) = self.armed.remove(key) {
            self.due.remove(&place);
        }
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.due.keys().next().map(|(deadline, _)| *deadline)
    }

    /// Takes the earliest timer whose deadline is not after `now`.
    pub fn take_due(&mut self, now: Duration) -> Option<K> {
        let entry = self.due.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let key = entry.remove();
        self.armed.remove(&key);
        Some(key)
    }

    /// Whether `key` is armed.
    #[cfg(test)]
    pub fn is_armed(&self, key: &K) -> bool {
        self.armed.contains_key(key)
    }

    /// Disarms all.
    pub fn clear(&mut self) {
        self.due.clear();
        self.armed.clear();
    }

    /// How many are armed.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        debug_assert_eq!(self.due.len(), self.armed.len());
        self.armed.len()
    }
}

#[cfg(test)]
mod tests;
