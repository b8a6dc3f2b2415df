//! The tasks behind a log's appends: writing, preallocating, rolling, parking.
//!
//! Each runs on the log's shard, in the storage task queue, and only while it has work. What may
//! overlap: one write and one preallocation of a log, or its being taken back where there was not
//! enough room. What may not: two writes; a transition (open, roll, park) with another or with
//! writes, since it first waits until all is in its segment; and two users of the names in the
//! log's directory, of which its deletion is one.
//!
//! A segment is opened with `O_DSYNC`, so a write that has completed is durable, with the length
//! and the blocks it needs: `kernel-notes/sync.md` has the figures. While a unit is being written
//! the next one fills, which is the group commit. What is little goes into the shard's journal
//! first, with what other logs have, and is written here later: the two may overlap, since either
//! makes a prefix of the log durable.
//!
//! A failed write or sync takes the log directory out of service and is never tried again.

use std::cell::Ref;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::runtime::{Part, Permit};

use crate::base::clock::TimestampMs;
use crate::base::ids::Offset;
use crate::base::limits::BLOCK_BYTES;

use super::directory::LogDirectory;
use super::error::{FileError, LogError};
use super::file::File;
use super::journal::{self, At, Taken};
use super::layout;
use super::log::{Appender, Incoming, Log};
use super::pace::{Pace, STEP_BYTES_MIN};
use super::ready::{Ready, Write};
use super::segment::Segment;
use super::unit::{SealedUnit, Unit};

impl Log {
    /// Begins what has to be done next: what is little goes into the journal, what is much, or
    /// has been in the journal for long enough, into its segment.
    pub(super) fn go_on(self: &Rc<Self>) {
        let (is_enlisted, is_written) = {
            let mut state = self.state.borrow_mut();
            let (settled, durable) = (state.settled, state.durable);
            let is_closed = state.closed;
            let Appender::Ready(ready) = &mut state.appender else {
                return;
            };
            let by_journal = !is_closed && self.is_for_journal(ready);
            // What is on its way comes first: when it has come, the log is here again.
            let is_free = ready.in_flight_to <= durable && !ready.enlisted;
            let enlists = by_journal && ready.pending_bytes > 0 && is_free;
            let writes = !ready.writing && ready.must_write(settled, by_journal);
            ready.enlisted |= enlists;
            ready.writing |= writes;
            (enlists, writes)
        };
        if is_enlisted {
            self.site.journal.enlist(self);
        }
        if is_written {
            let log = Rc::clone(self);
            self.shard.spawn(async move { log.write_all().await });
        }
    }

    /// Whether what is pending becomes durable by the journal.
    fn is_for_journal(&self, ready: &Ready) -> bool {
        ready.file.syncs_writes() && self.site.journal.takes(ready.pending_bytes)
    }

    /// Writes what has to go into the segment until nothing is left.
    async fn write_all(self: Rc<Self>) {
        loop {
            // What comes while it waits for its turn goes along.
            let permit = self.site.write_permit().await;
            let Some((file, write)) = self.next_write() else {
                break;
            };
            let mut parts = write.parts;
            // Through the page cache it is no matter which blocks are written.
            if write.zero_bytes > 0 && self.site.directory.is_direct() {
                parts.push(Part::new(self.shard.zeros(), write.zero_bytes));
            }
            let written = file.write(parts, write.position).await;
            drop(permit);
            drop(write.guards);
            match written {
                Ok(()) => self.wrote(file.syncs_writes(), write.next_offset),
                Err(error) => self.site.directory.fail(&error),
            }
        }
        self.go_on();
    }

    /// The next write, of sealed units or else of the open one. Ends the task if there is none, or
    /// none can be made any more: then nothing waits for it either.
    fn next_write(self: &Rc<Self>) -> Option<(Rc<File>, Write)> {
        let mut borrow = self.state.borrow_mut();
        let state = &mut *borrow;
        let settled = state.settled;
        let Appender::Ready(ready) = &mut state.appender else {
            return None;
        };
        if state.closed || self.site.directory.failure().is_some() {
            ready.writing = false;
            ready.pending_bytes = 0;
            ready.due = Offset(0);
            ready.queue.clear();
            ready.queued_bytes = 0;
            if let Some(open) = &mut ready.open {
                open.pending.give_up();
            }
            drop(borrow);
            self.progressed();
            return None;
        }
        let by_journal = self.is_for_journal(ready);
        if !ready.must_write(settled, by_journal) {
            ready.writing = false;
            drop(borrow);
            self.wake_waiting();
            return None;
        }
        let queued_to = ready.queue.back().map(|sealed| sealed.next_offset);
        let is_short = queued_to.is_none_or(|queued| queued < ready.due);
        if ready.open.is_some() && (!by_journal || is_short) {
            let segment = state.segments.back().expect("a log has a segment");
            let unit = ready.seal(self, segment.base_offset, state.end);
            state.tail.push_back(unit);
        }
        let write = ready.take_write();
        ready.writing = write.is_some();
        if !by_journal && ready.file.syncs_writes() {
            let journal = &self.site.journal;
            journal.note(&mut ready.journal_count, ready.pending_bytes);
            journal.passed_by(ready.pending_bytes);
        }
        let file = Rc::clone(&ready.file);
        write.map(|write| (file, write))
    }

    fn wrote(self: &Rc<Self>, is_synced: bool, next_offset: Offset) {
        {
            let mut borrow = self.state.borrow_mut();
            let state = &mut *borrow;
            assert!(state.settled <= next_offset, "writes complete in order");
            state.settled = next_offset;
            state.written = state.written.max(next_offset);
            if is_synced {
                state.durable = state.durable.max(next_offset);
            }
            let written = state.written;
            if let Appender::Ready(ready) = &mut state.appender {
                ready.became_durable(written);
            }
            if let Some(oldest) = state.tail.front() {
                self.shard.tails.may_go(&oldest.place);
            }
        }
        self.shard.tails.evict();
        self.start_growing();
        self.progressed();
    }

    /// Shows what is pending to the journal, which is to hold it, unit by unit. Of the open unit
    /// little is copied there, and it goes on being filled; with much in it it is sealed, and its
    /// blocks go there. Returns how far that goes. Nothing, if it becomes durable without the
    /// journal.
    pub(super) fn take_pending(self: &Rc<Self>, mut take: impl FnMut(Taken)) -> Option<Offset> {
        let mut borrow = self.state.borrow_mut();
        let state = &mut *borrow;
        let durable = state.durable;
        let Appender::Ready(ready) = &mut state.appender else {
            return None;
        };
        ready.enlisted = false;
        let is_in_flight = ready.in_flight_to > durable;
        let is_for_journal = !state.closed && self.is_for_journal(ready);
        if is_in_flight || !is_for_journal || ready.pending_bytes == 0 {
            drop(borrow);
            self.go_on();
            return None;
        }
        let journal = &self.site.journal;
        journal.note(&mut ready.journal_count, ready.pending_bytes);
        let segment = state.segments.back().expect("a log has a segment");
        let segment = segment.base_offset;
        let open = ready.open.as_ref();
        if open.is_some_and(|it| journal::is_beside(it.pending_bytes())) {
            let unit = ready.seal(self, segment, state.end);
            state.tail.push_back(unit);
        }
        let durable_units = ready.queue.partition_point(|it| it.next_offset <= durable);
        for sealed in ready.queue.range_mut(durable_units..) {
            let is_first = sealed.pending.from == sealed.carry;
            let range = sealed.pending.take(sealed.unit.len(), sealed.next_offset);
            let position = sealed.position + range.start as u64;
            take(Taken {
                at: At { segment, position },
                unit: Some(sealed.unit.clone()),
                range,
                memory_bytes: if is_first {
                    sealed.unit.memory_bytes()
                } else {
                    0
                },
            });
        }
        if let Some(open) = &mut ready.open {
            let is_first = open.pending.from == open.carry;
            let range = open.pending.take(open.unit.len(), state.end);
            let position = open.position + range.start as u64;
            take(Taken {
                at: At { segment, position },
                unit: None,
                range,
                memory_bytes: if is_first { open.unit.capacity() } else { 0 },
            });
        }
        ready.in_flight_to = state.end;
        Some(state.end)
    }

    /// The unit that is being filled.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn open_unit(&self) -> Ref<'_, Unit> {
        Ref::map(self.state.borrow(), |state| {
            &state.open_unit().expect("an open unit").unit
        })
    }

    /// Ends the open unit, which comes into the tail.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn seal_open(self: &Rc<Self>) -> SealedUnit {
        let mut borrow = self.state.borrow_mut();
        let state = &mut *borrow;
        let Appender::Ready(ready) = &mut state.appender else {
            panic!("a parked log has no unit")
        };
        let segment = state.segments.back().expect("a log has a segment");
        let sealed = ready.seal(self, segment.base_offset, state.end);
        let unit = sealed.unit.clone();
        state.tail.push_back(sealed);
        unit
    }

    /// The journal holds all below `next_offset`, durably.
    pub(super) fn journaled(self: &Rc<Self>, next_offset: Offset) {
        {
            let mut borrow = self.state.borrow_mut();
            let state = &mut *borrow;
            state.written = state.written.max(next_offset);
            state.durable = state.durable.max(next_offset);
            let durable = state.durable;
            if let Appender::Ready(ready) = &mut state.appender {
                ready.became_durable(durable);
            }
        }
        self.start_growing();
        self.go_on();
        self.progressed();
    }

    /// Has all below `offset` written into its segment.
    pub(super) fn write_out(self: &Rc<Self>, offset: Offset) {
        if let Appender::Ready(ready) = &mut self.state.borrow_mut().appender {
            ready.due = ready.due.max(offset);
        }
        self.go_on();
    }

    /// Waits until all below `offset` is in its segment, or nothing is written any more.
    pub(super) async fn written_out(&self, offset: Offset) {
        while self.check().is_ok() && self.state.borrow().settled < offset {
            self.next_progress().await;
        }
    }

    /// Takes the directory out of service and lets everyone who waits on this log know.
    pub(super) fn fail(&self, error: &FileError) {
        self.site.directory.fail(error);
        self.progressed();
    }

    /// Preallocates the next step once the one before is half used, so that appends need not wait.
    fn start_growing(self: &Rc<Self>) {
        let next = {
            let mut borrow = self.state.borrow_mut();
            let state = &mut *borrow;
            let size = state.active().size;
            let segment_bytes = self.config.borrow().segment_bytes;
            let Appender::Ready(ready) = &mut state.appender else {
                return;
            };
            let wanted = ready.allocated - size.min(ready.allocated) < ready.pace.step() / 2;
            if !wanted || ready.growing || ready.parking || ready.allocated >= segment_bytes {
                return;
            }
            ready.growing = true;
            let step = ready.pace.take_step(ready.used_ms);
            let length = (ready.allocated + step).min(segment_bytes);
            let length = length.next_multiple_of(BLOCK_BYTES);
            (Rc::clone(&ready.file), ready.allocated, length)
        };
        let log = Rc::clone(self);
        self.shard.spawn(async move {
            let (file, allocated, length) = next;
            let keeps_reserve = log.keeps_reserve;
            let grown = log.grow(&file, keeps_reserve, allocated, length, length);
            let grown = grown.await;
            log.grew(&grown, length);
            match grown {
                // Without room the append that needs it asks again and gets the answer.
                Err(error) if !error.is_no_room() => log.fail(&error),
                _ => log.progressed(),
            }
        });
    }

    /// Notes how an attempt to grow to `wanted` ended. After one that found less room the next
    /// steps are small, and go as far as there is room.
    fn grew(&self, grown: &Result<u64, FileError>, wanted: u64) {
        let mut state = self.state.borrow_mut();
        let Appender::Ready(ready) = &mut state.appender else {
            return;
        };
        ready.growing = false;
        if let Ok(length) = grown {
            ready.allocated = ready.allocated.max(*length);
        }
        if !matches!(grown, Ok(length) if *length == wanted) {
            ready.pace = Pace::new(ready.used_ms);
        }
        drop(state);
        self.wake_waiting();
        if grown.is_ok() {
            self.site.directory.found_room();
        }
    }

    /// Waits until no task preallocates.
    pub(super) async fn growth_ends(&self) {
        let grows = || match &self.state.borrow().appender {
            Appender::Ready(ready) => ready.growing,
            Appender::Parked => false,
        };
        while grows() {
            self.next_progress().await;
        }
    }

    /// Waits for its turn to change how the active segment is held, and keeps it while the permit
    /// lives.
    pub(super) async fn begin_transition(&self) -> Result<Permit<'_>, LogError> {
        let permit = self.transition.acquire_permit(1).await;
        let permit = permit.map_err(|_| LogError::Closed)?;
        self.check()?;
        Ok(permit)
    }

    /// Runs `work` on the log's directory, which keeps its name and its files until that is done.
    pub async fn in_directory<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LogDirectory, &Path) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, LogError> {
        let files = self.files.acquire_permit(1).await;
        let _files = files.map_err(|_| LogError::Closed)?;
        self.check()?;
        let path = self.path.clone();
        let directory = &self.site.directory;
        let done = directory.off_reactor(move |directory| work(directory, &path));
        done.await.map_err(|error| self.refuse(error))
    }

    /// Makes room for a batch: opens the log if it is parked, rolls if a roll is due, preallocates.
    /// Appends must not be made while it runs.
    pub async fn prepare(self: &Rc<Self>, incoming: Incoming) -> Result<(), LogError> {
        let _transition = self.begin_transition().await?;
        if self.is_open_otherwise() {
            self.finish_active().await?;
        }
        let parked = matches!(self.state.borrow().appender, Appender::Parked);
        if parked {
            self.open(incoming.now).await?;
        }
        let must_roll = self.must_roll(&self.state.borrow(), incoming);
        if must_roll {
            self.roll(incoming.now, self.keeps_reserve).await?;
        }
        self.growth_ends().await;
        self.check()?;
        if !self.has_room(incoming) {
            self.preallocate(incoming).await?;
        }
        self.check()
    }

    /// Opens the active segment's file and reads the partial block at its end.
    async fn open(self: &Rc<Self>, now: TimestampMs) -> Result<(), LogError> {
        let (path, size) = {
            let state = self.state.borrow();
            let segment = state.active();
            (
                layout::segment_file(&self.path, segment.base_offset, layout::LOG),
                segment.size,
            )
        };
        let syncs_writes = self.syncs_writes();
        let file = File::open(&self.site.directory, &path, syncs_writes).await;
        let file = file.map_err(|error| self.refuse(error))?;
        let partial = (size % BLOCK_BYTES) as usize;
        let carry = if partial == 0 {
            Vec::new()
        } else {
            self.read_carry(&file, size, partial).await?
        };
        let ready = Ready::new(Rc::new(file), size, carry, now);
        self.state.borrow_mut().appender = Appender::Ready(Box::new(ready));
        self.shard.opened(self);
        Ok(())
    }

    /// The partial block at the end of a parked file. What cannot be read of it is in the way of
    /// this log's appends, and harms no other.
    async fn read_carry(
        &self,
        file: &File,
        size: u64,
        partial: usize,
    ) -> Result<Vec<u8>, LogError> {
        let reason = match file.read(size - partial as u64, &[partial]).await {
            Ok(read) if read[0].len() == partial => return Ok(read[0].as_bytes().to_vec()),
            Ok(_) => "its file is shorter than it was".to_owned(),
            Err(error) => error.to_string(),
        };
        let (path, end) = (self.path.display(), self.end());
        tracing::error!(log = %path, %reason, "nothing can be appended: its end cannot be read");
        Err(LogError::Damaged(end))
    }

    /// Gives the file room for a batch more, and for a step if there is that much. Who comes here
    /// was faster than the steps: they grow here too, or each batch would come here.
    async fn preallocate(&self, incoming: Incoming) -> Result<(), LogError> {
        let (file, allocated, needed, wanted) = {
            let mut borrow = self.state.borrow_mut();
            let state = &mut *borrow;
            let size = state.active().size;
            let segment_bytes = self.config.borrow().segment_bytes;
            let Appender::Ready(ready) = &mut state.appender else {
                return Err(LogError::Closed);
            };
            let needed = (size + incoming.bytes as u64).next_multiple_of(BLOCK_BYTES);
            let wanted = (size + ready.pace.take_step(incoming.now)).min(segment_bytes);
            let wanted = wanted.next_multiple_of(BLOCK_BYTES).max(needed);
            // A write that completes meanwhile begins no other.
            ready.growing = true;
            (Rc::clone(&ready.file), ready.allocated, needed, wanted)
        };
        let grown = self.grow(&file, self.keeps_reserve, allocated, needed, wanted);
        let grown = grown.await;
        self.grew(&grown, wanted);
        match grown {
            Ok(_) => Ok(()),
            Err(error) => Err(self.refuse_growth(error, needed.saturating_sub(allocated))),
        }
    }

    /// Ends the active segment and begins the next one at the log's end. The old one is complete,
    /// cut and durable, with its indexes, before the new one's file is made. `keeps_reserve` says
    /// whether that leaves the directory's reserve alone.
    pub(super) async fn roll(
        self: &Rc<Self>,
        now: TimestampMs,
        keeps_reserve: bool,
    ) -> Result<(), LogError> {
        let pace = match &self.state.borrow().appender {
            Appender::Ready(ready) => ready.pace,
            Appender::Parked => Pace::new(now),
        };
        self.finish_active().await?;
        let base_offset = self.end();
        let path = layout::segment_file(&self.path, base_offset, layout::LOG);
        let made = File::create(&self.site.directory, &path, self.syncs_writes()).await;
        let directory = &self.site.directory;
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                let is_made_perhaps = error.is_no_room();
                let refused = self.refuse(error);
                if is_made_perhaps {
                    // Appends may go on in the segment before, past where this one would begin.
                    self.remove_unmade(path).await?;
                }
                return Err(refused);
            }
        };
        let parent = self.path.clone();
        let grown = self.grow(&file, keeps_reserve, 0, BLOCK_BYTES, STEP_BYTES_MIN);
        let mut readied = grown.await;
        if let Ok(allocated) = readied {
            let synced = directory.off_reactor(move |dir| dir.sync_directory(&parent));
            readied = synced.await.map(|()| allocated);
        }
        let allocated = match readied {
            Ok(allocated) => allocated,
            Err(error) => {
                let refused = self.refuse_growth(error, BLOCK_BYTES);
                file.close().await;
                self.remove_unmade(path).await?;
                return Err(refused);
            }
        };
        directory.found_room();
        let mut state = self.state.borrow_mut();
        state.segments.push_back(Segment::new(base_offset, now));
        let mut ready = Ready::new(Rc::new(file), 0, Vec::new(), now);
        (ready.allocated, ready.pace) = (allocated, pace);
        state.appender = Appender::Ready(Box::new(ready));
        drop(state);
        // Closing the segment before took the log out of those that are held open.
        self.shard.opened(self);
        Ok(())
    }

    /// Removes the file of a segment that could not be made, durably: appends go on in the one
    /// before, and a start takes the last one that it finds for the active one. For want of room
    /// nothing should fail to be removed: then the directory is out of service too.
    async fn remove_unmade(&self, path: PathBuf) -> Result<(), LogError> {
        let parent = self.path.clone();
        let removed = self.site.directory.off_reactor(move |directory| {
            directory.remove_file(&path)?;
            directory.sync_directory(&parent)
        });
        removed.await.map_err(|error| match error.is_no_room() {
            true => {
                self.fail(&error);
                LogError::Failed(error.to_string())
            }
            false => self.refuse(error),
        })
    }

    /// Waits until all that was appended is written and synced, whatever `millrace.flush` says.
    pub(super) async fn settle(self: &Rc<Self>) -> Result<(), LogError> {
        loop {
            self.check()?;
            let file = {
                let mut borrow = self.state.borrow_mut();
                let state = &mut *borrow;
                let Appender::Ready(ready) = &mut state.appender else {
                    return Ok(());
                };
                ready.due = state.end;
                let is_settled = state.settled == state.end;
                match (ready.writing || ready.growing, state.durable == state.end) {
                    (false, true) if is_settled => return Ok(()),
                    (false, false) if is_settled => Some((Rc::clone(&ready.file), state.settled)),
                    _ => None,
                }
            };
            match file {
                // Nothing runs and something is not durable: this log does not sync by itself.
                Some((file, written)) => {
                    file.sync().await.map_err(|error| self.refuse(error))?;
                    self.synced(written);
                }
                None => {
                    self.go_on();
                    self.next_progress().await;
                }
            }
        }
    }

    /// All below `offset` was in its segment before a sync that has completed.
    pub(super) fn synced(&self, offset: Offset) {
        {
            let mut state = self.state.borrow_mut();
            state.durable = state.durable.max(offset);
        }
        self.progressed();
    }

    /// Ends the appends to the active segment: all is durable, the file is cut to its length, the
    /// indexes are in their files, and the descriptor is closed. Without room for the indexes the
    /// appends go on.
    async fn finish_active(self: &Rc<Self>) -> Result<(), LogError> {
        // From here on appends find no room and wait for `prepare`, which waits for this.
        self.set_parking(true);
        let finished = self.close_active().await;
        if finished.is_err() {
            self.set_parking(false);
        }
        finished
    }

    fn set_parking(&self, parking: bool) {
        if let Appender::Ready(ready) = &mut self.state.borrow_mut().appender {
            ready.parking = parking;
        }
    }

    async fn close_active(self: &Rc<Self>) -> Result<(), LogError> {
        self.settle().await?;
        let (file, size) = {
            let mut state = self.state.borrow_mut();
            let Appender::Ready(ready) = &state.appender else {
                return Ok(());
            };
            let file = Rc::clone(&ready.file);
            let active = state.segments.back_mut().expect("a log has a segment");
            active.index.note_time();
            (file, active.size)
        };
        let cut = file.truncate(size).await;
        cut.map_err(|error| self.refuse(error))?;
        if let Appender::Ready(ready) = &mut self.state.borrow_mut().appender {
            ready.allocated = size;
        }
        file.sync().await.map_err(|error| self.refuse(error))?;
        self.flush_indexes().await?;
        self.state.borrow_mut().appender = Appender::Parked;
        self.shard.closed(self);
        if let Ok(file) = Rc::try_unwrap(file) {
            file.close().await;
        }
        Ok(())
    }

    /// Appends what the indexes hold in memory to their files.
    pub async fn flush_indexes(&self) -> Result<(), LogError> {
        // Each of these is asked under the permit: another flush may have come before.
        let _files = self.files.acquire_permit(1).await;
        loop {
            self.check()?;
            let next = {
                let state = self.state.borrow();
                let unflushed = state.segments.iter().rev().find(|s| !s.index.is_flushed());
                unflushed.map(|s| (s.base_offset, s.index.to_flush(), s.index.tail_len()))
            };
            let Some((base_offset, [offsets, times], (offset_count, time_count))) = next else {
                return Ok(());
            };
            let index = layout::segment_file(&self.path, base_offset, layout::INDEX);
            let time_index = layout::segment_file(&self.path, base_offset, layout::TIME_INDEX);
            let flushed = self.site.directory.off_reactor(move |dir| {
                dir.extend_file(&index, offsets.0, &offsets.1)?;
                dir.extend_file(&time_index, times.0, &times.1)
            });
            flushed.await.map_err(|error| self.refuse(error))?;
            let mut state = self.state.borrow_mut();
            if let Some(segment) = state
                .segments
                .iter_mut()
                .find(|s| s.base_offset == base_offset)
            {
                segment.index.flushed(offset_count, time_count);
            }
        }
    }

    /// Gives back descriptor and buffers of a log that is not written: cut, synced and closed.
    pub async fn park(self: &Rc<Self>) -> Result<(), LogError> {
        let _transition = self.begin_transition().await?;
        self.finish_active().await
    }

    /// What a failed call means for the log. The files of one that is being deleted matter no more.
    pub(super) fn refuse(&self, error: FileError) -> LogError {
        self.refuse_call(error, None)
    }

    /// As [`Log::refuse`], for a call that was to give a file so many bytes more.
    fn refuse_growth(&self, error: FileError, needed_bytes: u64) -> LogError {
        self.refuse_call(error, Some(needed_bytes))
    }

    /// No room and no descriptor are the failures that heal; any other takes the directory out of
    /// service.
    fn refuse_call(&self, error: FileError, needed_bytes: Option<u64>) -> LogError {
        if self.state.borrow().closed {
            return LogError::Closed;
        }
        if error.is_no_room() {
            self.site.directory.found_no_room(&error, needed_bytes);
            return LogError::NoRoom;
        }
        if error.is_no_descriptor() {
            tracing::warn!(%error, "no file descriptor left");
            return LogError::NoDescriptor;
        }
        self.fail(&error);
        LogError::Failed(error.to_string())
    }
}

impl Log {
    /// As [`grow`], but where `keeps_reserve` says so only with what is free beyond the reserve.
    async fn grow(
        &self,
        file: &File,
        keeps_reserve: bool,
        allocated: u64,
        needed: u64,
        wanted: u64,
    ) -> Result<u64, FileError> {
        let directory = &self.site.directory;
        if wanted <= allocated || !keeps_reserve || !directory.has_reserve() {
            return grow(file, allocated, needed, wanted).await;
        }
        let path = self.path.clone();
        let (least, most) = (needed.saturating_sub(allocated), wanted - allocated);
        let taken =
            directory.off_reactor(move |directory| directory.beside_reserve(&path, least, most));
        let wanted = allocated + taken.await?;
        grow(file, allocated, needed, wanted).await
    }
}

/// Gives `file`, which has room up to `allocated`, room up to `wanted`, or where there is not that
/// much, up to `needed`. Returns how far it got.
async fn grow(file: &File, allocated: u64, needed: u64, wanted: u64) -> Result<u64, FileError> {
    // There is room where it was the directory's failure, just now, that refused the append.
    if wanted <= allocated {
        return Ok(allocated);
    }
    let refused = match file.preallocate(allocated, wanted).await {
        Ok(()) => return Ok(wanted),
        Err(error) => error,
    };
    if !refused.is_no_room() {
        return Err(refused);
    }
    // Some file systems keep the blocks that they found: other logs need them.
    file.truncate(allocated).await?;
    if needed == wanted {
        return Err(refused);
    }
    if let Err(refused) = file.preallocate(allocated, needed).await {
        if refused.is_no_room() {
            file.truncate(allocated).await?;
        }
        return Err(refused);
    }
    Ok(needed)
}
