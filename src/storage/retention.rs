//! Which segments a log may let go. Pure.

use std::collections::VecDeque;

use crate::base::clock::TimestampMs;
use crate::base::ids::Offset;

use super::segment::Segment;

/// What a topic keeps: `retention.ms`, `retention.bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments all of whose records are older go; `None` keeps them.
    pub retention_ms: Option<u64>,
    /// The oldest segments go while the others still hold this much; `None` keeps them.
    pub retention_bytes: Option<u64>,
    /// Segments that lie wholly below this offset go: the log start that `DeleteRecords` set.
    pub log_start: Offset,
}

/// How many of the oldest `segments` go. As in Kafka's `UnifiedLog.deleteOldSegments`: only those
/// whose records all lie below `upper`, and an empty active segment never.
pub(super) fn expired(
    segments: &VecDeque<Segment>,
    end: Offset,
    retention: Retention,
    upper: Offset,
    now: TimestampMs,
) -> usize {
    let deletable = |index: usize| {
        let is_active = index + 1 == segments.len();
        let next = segments.get(index + 1).map_or(end, |next| next.base_offset);
        next <= upper && !(is_active && segments[index].size == 0)
    };
    let by_time = |segment: &Segment| {
        retention.retention_ms.is_some_and(|kept_ms| {
            now.saturating_sub(segment.largest_timestamp()) > kept_ms.min(i64::MAX as u64) as i64
        })
    };
    let total: u64 = segments.iter().map(|segment| segment.size).sum();
    let mut surplus = retention
        .retention_bytes
        .map_or(0, |kept| total.saturating_sub(kept));
    let mut count = 0;
    for (index, segment) in segments.iter().enumerate() {
        let next = segments.get(index + 1).map(|next| next.base_offset);
        let by_size = segment.size <= surplus && surplus > 0;
        let by_start = next.is_some_and(|next| next <= retention.log_start);
        if !deletable(index) || !(by_time(segment) || by_size || by_start) {
            break;
        }
        surplus = surplus.saturating_sub(segment.size);
        count += 1;
    }
    count
}
