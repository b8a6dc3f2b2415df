//! One segment of a log: what is known of its files. Its log's alone; it does no I/O.

use crate::base::clock::TimestampMs;
use crate::base::ids::Offset;

use super::index::IndexTail;
use super::log::Assigned;

/// A segment. The last one of a log is the active one, the only one that grows.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its first offset, which names its files.
    pub base_offset: Offset,
    /// Bytes of batches in it: where the next one goes.
    pub size: u64,
    /// Its sparse indexes.
    pub index: IndexTail,
    /// Largest timestamp of its first batch, by which it rolls; `None` while it is empty.
    pub first_timestamp: Option<TimestampMs>,
    /// When it was made, or last changed before the broker started.
    pub changed_ms: TimestampMs,
}

impl Segment {
    /// An empty segment.
    pub fn new(base_offset: Offset, now: TimestampMs) -> Self {
        Self {
            base_offset,
            size: 0,
            index: IndexTail::new(base_offset),
            first_timestamp: None,
            changed_ms: now,
        }
    }

    /// Takes note of a batch that was put at its end.
    pub(super) fn append(
        &mut self,
        base_offset: Offset,
        batch_bytes: usize,
        assigned: &Assigned,
        index_interval_bytes: u64,
    ) {
        self.first_timestamp.get_or_insert(assigned.max_timestamp);
        self.index.append(
            base_offset.plus(assigned.offsets - 1),
            u32::try_from(self.size).expect("a segment is below 4 GiB"),
            batch_bytes as u32,
            assigned.max_timestamp,
            index_interval_bytes,
        );
        self.size += batch_bytes as u64;
    }

    /// The timestamp that retention goes by: the largest of its records, or, where none has one,
    /// when it last changed.
    pub fn largest_timestamp(&self) -> TimestampMs {
        let recorded = self.index.max_timestamp();
        if recorded >= 0 {
            recorded
        } else {
            self.changed_ms
        }
    }
}
