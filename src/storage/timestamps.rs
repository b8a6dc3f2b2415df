//! Where a search by timestamp begins: the time indexes, in memory and in files.
//!
//! The indexes are sparse, so an answer here is an offset at or before the one sought; the caller
//! reads on from it.

use std::rc::Rc;

use crate::base::clock::TimestampMs;
use crate::base::ids::Offset;

use super::error::{FileError, LogError};
use super::index;
use super::layout;
use super::log::Log;

impl Log {
    /// An offset from which on a scan finds the first record of at least `timestamp`; `None` if
    /// there is no such record.
    pub async fn seek_timestamp(
        self: &Rc<Self>,
        timestamp: TimestampMs,
    ) -> Result<Option<Offset>, LogError> {
        loop {
            let (segment, entries) = {
                let state = self.state.borrow();
                let found = state
                    .segments
                    .iter()
                    .find(|s| s.index.max_timestamp() >= timestamp);
                let Some(segment) = found else {
                    return Ok(None);
                };
                if let Some(offset) = segment.index.lookup_time(timestamp) {
                    return Ok(Some(offset.max(state.start)));
                }
                (segment.base_offset, segment.index.in_files().1)
            };
            let path = layout::segment_file(&self.path, segment, layout::TIME_INDEX);
            let found = self.site.directory.off_reactor(move |directory| {
                let file = directory.open_for_reads(&path)?;
                let found = index::lookup_time_in_file(&file, entries, timestamp);
                found.map_err(|source| FileError::new("read", &path, source))
            });
            match found.await {
                Ok(relative) => {
                    return Ok(Some(segment.plus(i64::from(relative)).max(self.start())));
                }
                Err(error) => {
                    let state = self.state.borrow();
                    if state.closed {
                        return Err(LogError::Closed);
                    }
                    // Where retention took the segment meanwhile, the next one may have it.
                    if state.segments.iter().any(|s| s.base_offset == segment) {
                        tracing::error!(%error, "search by timestamp failed");
                        return Err(LogError::Failed(error.to_string()));
                    }
                }
            }
        }
    }

    /// The last offset of the batch that holds the largest timestamp of the log; `None` if no
    /// record has one.
    pub fn largest_timestamp_offset(&self) -> Option<Offset> {
        let state = self.state.borrow();
        let with_any = state
            .segments
            .iter()
            .filter(|s| s.index.max_timestamp() >= 0);
        // The first of equals, as Kafka answers.
        let largest = with_any.rev().max_by_key(|s| s.index.max_timestamp())?;
        Some(largest.index.offset_of_max_timestamp())
    }
}
