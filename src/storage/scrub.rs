//! Looks whether what was written is still as it was: reads a log's segments from the disk, slowly,
//! and checks each batch. The log's shard alone, in the queue of what nobody waits for.
//!
//! A segment is looked at as it is at the moment: what is durable and stands in its file. What is
//! in the journal or in memory only is not asked for. What looks damaged is looked at again, with
//! what is known of the log then, before it is told: a segment that was deleted meanwhile is no
//! damage. One piece is read at a time, counted with what readers of old data may take.
//!
//! It changes nothing, and what it reads does not go through the read cache: nobody else's data has
//! to leave for it.

use std::num::NonZeroU64;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::base::ids::Offset;
use crate::base::limits::{BLOCK_BYTES, READ_PIECE_BYTES};
use crate::runtime::Timer;

use super::error::FileError;
use super::file::File;
use super::layout;
use super::log::{Appender, Log, State};
use super::walk::{Bounds, Damage, SegmentWalk};

/// What looks damaged is looked at again after so long.
const LOOKED_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What scrubs have looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubTally {
    /// Segments.
    pub segments: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Damaged places that were told.
    pub damaged: u64,
}

/// What a scrub tells of a segment.
#[derive(Debug)]
pub enum Finding<'a> {
    /// No sound batch stands here.
    Damage(&'a Damage),
    /// The disk does not give what stands from this position on; the rest was not looked at.
    Unreadable {
        /// Where.
        position: u64,
        /// What the system says.
        error: &'a FileError,
    },
}

/// Checks logs, at a rate.
#[derive(Debug)]
pub struct Scrub {
    bytes_per_second: NonZeroU64,
    tally: ScrubTally,
}

impl Scrub {
    /// Reads so many bytes a second at most.
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self {
            bytes_per_second,
            tally: ScrubTally::default(),
        }
    }

    /// What was looked at so far.
    pub fn tally(&self) -> ScrubTally {
        self.tally
    }

    /// Checks all segments of a log. `tell` gets what is wrong, each place once. It ends early if
    /// the log is deleted or its directory fails. May be dropped at any time.
    pub async fn check(&mut self, log: &Rc<Log>, tell: &mut dyn FnMut(&Path, Finding<'_>)) {
        let mut from = Offset(0);
        while let Some(base) = log.segment_from(from) {
            self.check_segment(log, base, tell).await;
            from = base.plus(1);
        }
    }

    async fn check_segment(
        &mut self,
        log: &Rc<Log>,
        base: Offset,
        tell: &mut dyn FnMut(&Path, Finding<'_>),
    ) {
        let Some(bounds) = log.written_part(base) else {
            return;
        };
        let path = layout::segment_file(&log.path, base, layout::LOG);
        if bounds.limit == 0 {
            return;
        }
        let file = match log.open_to_scrub(base, &path).await {
            Ok(Some(file)) => file,
            Ok(None) => return,
            Err(error) => {
                self.tally.damaged += 1;
                let (position, error) = (0, &error);
                return tell(&path, Finding::Unreadable { position, error });
            }
        };
        self.tally.segments += 1;
        let mut walk = SegmentWalk::new(bounds);
        let mut suspected = None;
        loop {
            let next = self.next_damage(log, &file, &mut walk).await;
            let Some(bounds) = log.written_part(base) else {
                break;
            };
            match next {
                Ok(None) => break,
                Ok(Some(damage)) if suspected == Some(damage.position) => {
                    self.tally.damaged += 1;
                    tell(&path, Finding::Damage(&damage));
                }
                Ok(Some(damage)) => {
                    suspected = Some(damage.position);
                    Timer::new(LOOKED_AGAIN_AFTER).await;
                    walk = SegmentWalk::from(bounds, damage.position, damage.first);
                }
                Err(Unread { position, error }) => {
                    self.tally.damaged += 1;
                    let error = &error;
                    tell(&path, Finding::Unreadable { position, error });
                    break;
                }
            }
        }
        file.close().await;
    }

    /// Reads on to the next damage, or to the end.
    async fn next_damage(
        &mut self,
        log: &Rc<Log>,
        file: &File,
        walk: &mut SegmentWalk,
    ) -> Result<Option<Damage>, Unread> {
        while let Some(wanted) = walk.wants() {
            if log.check().is_err() {
                return Ok(None);
            }
            let began = Instant::now();
            let start = wanted - wanted % BLOCK_BYTES;
            let length = (walk.limit() - start).min(READ_PIECE_BYTES);
            let (damage, bytes) = {
                let _admitted = log.shard.read_cache.admit(READ_PIECE_BYTES).await;
                let read = file.read(start, &[length as usize]).await;
                let read = read.map_err(|error| Unread {
                    position: wanted,
                    error,
                })?;
                let piece = read[0].as_bytes();
                if (piece.len() as u64) < length {
                    walk.ends_at(start + piece.len() as u64);
                }
                (walk.take(start, piece, &mut |_, _| {}), piece.len() as u64)
            };
            self.tally.bytes += bytes;
            let due = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64);
            Timer::new(due.saturating_sub(began.elapsed())).await;
            if damage.is_some() {
                return Ok(damage);
            }
        }
        Ok(walk.finish())
    }
}

/// What could not be read.
struct Unread {
    position: u64,
    error: FileError,
}

impl Log {
    /// The first segment whose base offset is at least this.
    fn segment_from(&self, from: Offset) -> Option<Offset> {
        let state = self.state.borrow();
        let mut segments = state.segments.iter().map(|segment| segment.base_offset);
        let found = segments.find(|base| *base >= from);
        found.filter(|_| !state.closed)
    }

    /// What is durable of a segment and stands in its file; `None` if the segment is gone, or that
    /// is not known.
    fn written_part(&self, base: Offset) -> Option<Bounds> {
        if self.check().is_err() {
            return None;
        }
        let state = self.state.borrow();
        let index = state
            .segments
            .iter()
            .position(|it| it.base_offset == base)?;
        let next = state.segments.get(index + 1);
        let (limit, end) = match next.map(|next| next.base_offset) {
            // It was complete and durable when the next one was made.
            Some(next) => (state.segments[index].size, next),
            None => state.written_part_of_active()?,
        };
        // Offsets that were missing at the start were told then.
        let mut damaged = state.damaged.iter();
        let lacks_some = damaged.any(|gone| gone.start < end && base < gone.end);
        Some(Bounds {
            base,
            limit,
            end: (!lacks_some).then_some(end),
        })
    }

    /// Opens a segment's file; `None` if the segment is gone or no descriptor is left, and nothing
    /// is wrong with that.
    async fn open_to_scrub(&self, base: Offset, path: &Path) -> Result<Option<File>, FileError> {
        // No file changes its name meanwhile.
        let files = self.files.acquire_permit(1).await;
        let _files = files.expect("the semaphore is never closed");
        if self.written_part(base).is_none() {
            return Ok(None);
        }
        match File::open_to_read(&self.site.directory, path).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.is_no_descriptor() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl State {
    /// Where what is settled of the active segment ends in its file, and in offsets. `None` while
    /// that is not durable yet: nothing is synced where the settings say so.
    fn written_part_of_active(&self) -> Option<(u64, Offset)> {
        let (active, settled) = (self.active(), self.settled);
        if self.durable < settled {
            return None;
        }
        if settled == self.end {
            return Some((active.size, settled));
        }
        let first = self
            .tail
            .partition_point(|unit| unit.next_offset <= settled);
        if let Some(unit) = self.tail.get(first) {
            let is_next = unit.base_offset == settled && unit.segment == active.base_offset;
            return is_next.then_some((unit.position + unit.carry as u64, settled));
        }
        let Appender::Ready(ready) = &self.appender else {
            return None;
        };
        let open = ready.open.as_ref().filter(|it| it.base_offset == settled)?;
        Some((open.position + open.carry as u64, settled))
    }
}
