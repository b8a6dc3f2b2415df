//! Older data of a shard's logs in memory: pieces of segments' files, read directly. The shard's
//! alone.
//!
//! A piece lies within [`READ_PIECE_BYTES`] of a file that begin at a multiple of that. Few are on
//! their way from the disk at a time, since a write that is to be acknowledged waits behind them
//! (`kernel-notes/cold-reads.md`): first those that a reader waits for, in the order in which they
//! were asked for, then those that are read ahead. They stay until the budget is used up, and go
//! least recently used first; what was read ahead and is not wanted yet stays longer. If some of
//! that goes all the same, there are more readers than can be read ahead of, and none is for a
//! while. What replies hold of the pieces stays beyond that, see [`ReadCache::is_overdrawn`]; what
//! readers collect at a time is bounded by [`ReadCache::admit`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::base::limits::{
    DEMANDED_IN_FLIGHT_MAX, READ_PIECE_BYTES, READ_TOGETHER_BYTES_MAX, READS_BESIDE_WRITES_MAX,
    READS_IN_FLIGHT_MAX,
};
use crate::runtime::{DmaBuffer, Semaphore, TaskQueue, Timer};

use super::admission::{Admission, Admitted};
use super::error::FileError;
use super::file::File;
use super::unit::{SealedUnit, UnitHome};

/// So many pieces are kept at least, whatever the budget.
const PIECES_MIN: usize = 8;

/// Names a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PieceKey {
    /// The log's number.
    pub log: u64,
    /// Base offset of the segment.
    pub segment: Offset,
    /// Where in the file, in pieces.
    pub number: u64,
}

/// A piece, from when it is asked for.
#[derive(Debug)]
pub(super) struct Piece {
    key: PieceKey,
    /// Where it lies in the file. These bytes will not change any more.
    range: Range<u64>,
    stage: RefCell<Stage>,
    waiting: RefCell<Vec<Waker>>,
    /// Asked for ahead of a reader, and not yet wanted.
    is_ahead: Cell<bool>,
    /// When it was wanted last, counted in uses, once it is loaded; later, if it was read ahead.
    used_at: Cell<Option<u64>>,
}

#[derive(Debug)]
enum Stage {
    /// To be read from this file, which only this keeps open.
    Asked(Rc<File>),
    Loading,
    Loaded(SealedUnit),
    Failed(Rc<FileError>),
}

impl Piece {
    /// Where it begins in the file.
    pub fn start(&self) -> u64 {
        self.range.start
    }

    /// Its bytes, once they are there: fewer than were asked for if the file has ended.
    pub async fn loaded(&self) -> Result<SealedUnit, Rc<FileError>> {
        poll_fn(|context| match &*self.stage.borrow() {
            Stage::Loaded(unit) => Poll::Ready(Ok(unit.clone())),
            Stage::Failed(error) => Poll::Ready(Err(Rc::clone(error))),
            Stage::Asked(_) | Stage::Loading => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn is_asked(&self) -> bool {
        matches!(&*self.stage.borrow(), Stage::Asked(_))
    }

    fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn touches(&self, other: &Range<u64>) -> bool {
        self.range.start <= other.end && other.start <= self.range.end
    }

    fn holds(&self, wanted: &Range<u64>) -> bool {
        self.range.start <= wanted.start && wanted.end <= self.range.end
    }
}

fn lengths(pieces: &[Rc<Piece>]) -> Vec<usize> {
    pieces.iter().map(|it| it.bytes() as usize).collect()
}

/// Whether all that was asked for has been read.
fn is_all(pieces: &[Rc<Piece>], buffers: &[DmaBuffer]) -> bool {
    let mut both = pieces.iter().zip(buffers);
    both.all(|(piece, buffer)| buffer.len() as u64 == piece.bytes())
}

/// After so long without an append nobody is taken to write.
const UNDISTURBED_AFTER: Duration = Duration::from_millis(250);

/// So many pieces are loaded before anything is read ahead again.
const AHEAD_PAUSE_PIECES: usize = 1024;

/// How long a reader waits for replies to be taken that hold too much: until half of what the cache
/// keeps could be sent at a gigabit a second, but at least so long. And how often it looks.
const TAKEN_WITHIN_MIN: Duration = Duration::from_millis(100);
const TAKEN_BYTES_A_MICROSECOND: u64 = 125;
const TAKEN_LOOK: Duration = Duration::from_micros(200);

/// The pieces of one shard.
#[derive(Debug)]
pub(super) struct ReadCache {
    queue: TaskQueue,
    bytes_max: u64,
    home: UnitHome,
    /// Bytes that readers may collect at a time.
    admission: Admission,
    /// Replies hold too much and were waited for in vain.
    is_stuck: Cell<bool>,
    /// One reader at a time looks whether they still do.
    looking: Semaphore,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    pieces: BTreeMap<PieceKey, Rc<Piece>>,
    /// The loaded ones, the least recently used first.
    by_use: BTreeSet<(u64, PieceKey)>,
    loaded_bytes: u64,
    uses: u64,
    /// By so many uses does what was read ahead outlast what was used when it came.
    uses_outlasted: u64,
    /// What is to be loaded; a piece that is on its way already is passed over.
    demanded: VecDeque<Rc<Piece>>,
    /// What is to be loaded after that; all of them are asked for.
    ahead: VecDeque<PieceKey>,
    loading: usize,
    /// When something was appended last.
    appended_at: Option<Instant>,
    /// Bytes that were asked for ahead and are not yet wanted.
    ahead_bytes: u64,
    /// So many pieces are to be loaded before anything is read ahead again.
    ahead_pause: usize,
    ends: Ends,
}

impl ReadCache {
    /// Keeps about `bytes_max` bytes. Loads run in `queue`.
    pub fn new(bytes_max: usize, queue: TaskQueue) -> Rc<Self> {
        let pieces_max = (bytes_max as u64 / READ_PIECE_BYTES).max(PIECES_MIN as u64);
        Rc::new(Self {
            queue,
            bytes_max: pieces_max * READ_PIECE_BYTES,
            home: UnitHome::new(),
            admission: Admission::new(pieces_max * READ_PIECE_BYTES),
            is_stuck: Cell::default(),
            looking: Semaphore::new(1),
            state: RefCell::new(State {
                // Until what was read ahead is wanted, as many pieces as are kept come and are
                // wanted, those at the ends of reads twice.
                uses_outlasted: 4 * pieces_max,
                ..State::default()
            }),
        })
    }

    /// The memory of all pieces, those included that only replies still hold.
    pub fn live_bytes(&self) -> usize {
        self.home.live_bytes()
    }

    /// Frees what other shards are done with.
    pub fn welcome(&self) {
        self.home.welcome();
    }

    /// Bytes of copies that replies hold.
    pub fn copied_bytes(&self) -> usize {
        self.home.copied_bytes()
    }

    /// A copy of a part of a piece, which does not keep the piece. It counts until it is dropped.
    pub fn copy(&self, bytes: &[u8]) -> Bytes {
        self.home.copy(bytes)
    }

    /// Whether replies that wait for their receivers hold half as much memory again as the cache
    /// may keep. Then reads are small, and copies. With what readers collect meanwhile, pieces take
    /// about two and a half times what the cache may keep, beside what is being read ahead.
    pub fn is_overdrawn(&self) -> bool {
        let live = self.live_bytes() + self.copied_bytes();
        live as u64 > self.bytes_max / 2 * 3
    }

    /// Waits a while for replies to be taken, if they hold too much. Whether they still do.
    pub async fn stays_overdrawn(&self) -> bool {
        if !self.is_overdrawn() {
            self.is_stuck.set(false);
            return false;
        }
        let _looks = self.looking.acquire_permit(1).await;
        let enough = Duration::from_micros(self.bytes_max / 2 / TAKEN_BYTES_A_MICROSECOND);
        let began = Instant::now();
        while self.is_overdrawn() {
            // They are for consumers that do not read. Nobody else waits for those.
            if self.is_stuck.get() || began.elapsed() >= enough.max(TAKEN_WITHIN_MIN) {
                self.is_stuck.set(true);
                return true;
            }
            Timer::new(TAKEN_LOOK).await;
        }
        self.is_stuck.set(false);
        false
    }

    /// The most that one reply may collect, but for a batch that is larger: two collect at a time.
    pub fn collected_max(&self) -> u64 {
        self.bytes_max / READ_PIECE_BYTES / 2 * READ_PIECE_BYTES
    }

    /// Waits until a reader may collect pieces of so many bytes: all readers together at most what
    /// the cache may keep. Whoever comes first is first.
    pub async fn admit(&self, bytes: u64) -> Admitted {
        self.admission.admit(bytes).await
    }

    /// Whether those that go on are read ahead of.
    pub fn reads_ahead(&self) -> bool {
        self.state.borrow().ahead_pause == 0
    }

    /// A piece that a reader wants, with at least what lies in `wanted`; if it is not there, `load`
    /// is read from `file` once [`ReadCache::start_loads`] is called.
    pub fn demand(
        &self,
        key: PieceKey,
        file: &Rc<File>,
        wanted: Range<u64>,
        load: Range<u64>,
    ) -> Rc<Piece> {
        debug_assert!(load.start <= wanted.start && wanted.end <= load.end);
        let mut state = self.state.borrow_mut();
        let piece = match state.pieces.get(&key).cloned() {
            Some(piece) if piece.holds(&wanted) => piece,
            // What is read again is longer, so that two readers do not evict each other.
            Some(piece) if piece.touches(&load) => {
                let start = piece.range.start.min(load.start);
                let end = piece.range.end.max(load.end);
                state.add(key, file, start..end, false)
            }
            _ => state.add(key, file, load, false),
        };
        state.wanted(&piece);
        piece
    }

    /// Has `load` read before it is wanted, once [`ReadCache::start_loads`] is called, unless some
    /// of that piece is there or three quarters of what the cache keeps were read ahead already.
    pub fn read_ahead(&self, key: PieceKey, file: &Rc<File>, load: Range<u64>) {
        let mut state = self.state.borrow_mut();
        if state.pieces.contains_key(&key) || state.ahead_bytes >= self.bytes_max / 4 * 3 {
            return;
        }
        state.add(key, file, load, true);
        state.ahead.push_back(key);
    }

    /// Something was appended, and is about to be written: reads leave room for it.
    pub fn appended(&self) {
        self.state.borrow_mut().appended_at = Some(Instant::now());
    }

    /// Starts loads of what was asked for, as many as there may be.
    pub fn start_loads(self: &Rc<Self>) {
        loop {
            let mut state = self.state.borrow_mut();
            let Some(first) = state.next_to_load() else {
                return;
            };
            let pieces = state.read_together(first);
            let Stage::Asked(file) = pieces[0].stage.replace(Stage::Loading) else {
                unreachable!("what is to be loaded was asked for");
            };
            for piece in &pieces[1..] {
                piece.stage.replace(Stage::Loading);
                // Only what is still to be loaded stands there.
                state.ahead.retain(|key| *key != piece.key);
            }
            state.loading += 1;
            state.ahead_pause = state.ahead_pause.saturating_sub(pieces.len());
            drop(state);
            let cache = Rc::clone(self);
            self.queue
                .detach(async move { cache.load(&pieces, &file).await });
        }
    }

    /// Reads pieces that lie one behind the other, in one go if all of that can be read.
    async fn load(self: Rc<Self>, pieces: &[Rc<Piece>], file: &File) {
        match file.read(pieces[0].range.start, &lengths(pieces)).await {
            Ok(buffers) if pieces.len() == 1 || is_all(pieces, &buffers) => {
                for (piece, buffer) in pieces.iter().zip(buffers) {
                    self.loaded(piece, Ok(buffer));
                }
            }
            Err(error) if pieces.len() == 1 => self.loaded(&pieces[0], Err(error)),
            // What cannot be read of one is no harm to the others.
            _ => {
                for piece in pieces {
                    let alone = std::slice::from_ref(piece);
                    let read = file.read(piece.range.start, &lengths(alone)).await;
                    self.loaded(piece, read.map(|mut buffers| buffers.remove(0)));
                }
            }
        }
        self.state.borrow_mut().loading -= 1;
        self.make_room();
        let wakers = pieces.iter().flat_map(|piece| piece.waiting.take());
        wakers.for_each(Waker::wake);
        self.start_loads();
    }

    fn loaded(&self, piece: &Rc<Piece>, read: Result<DmaBuffer, FileError>) {
        let mut state = self.state.borrow_mut();
        let stage = match read {
            Ok(buffer) => {
                let unit = self.home.adopt(buffer);
                // What came short is not kept: whoever asks again has it read again.
                match unit.len() as u64 == piece.bytes() {
                    true => state.loaded(piece),
                    false => state.remove(piece),
                }
                Stage::Loaded(unit)
            }
            Err(error) => {
                state.remove(piece);
                Stage::Failed(Rc::new(error))
            }
        };
        *piece.stage.borrow_mut() = stage;
    }

    fn make_room(&self) {
        let mut state = self.state.borrow_mut();
        while state.loaded_bytes > self.bytes_max
            && let Some(was_ahead) = state.evict_oldest()
        {
            if was_ahead {
                state.ahead_pause = AHEAD_PAUSE_PIECES;
            }
        }
        // What replies hold is no less for it, but nothing else stays beside that.
        while self.live_bytes() as u64 > 2 * self.bytes_max && state.evict_oldest().is_some() {}
    }

    /// Whether nothing is on its way from the disk or waits for it.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        state.loading == 0 && state.demanded.is_empty() && state.ahead.is_empty()
    }

    /// Where in `segment` a read that begins at `from` may begin, if another has ended there.
    pub fn end_at(&self, log: u64, segment: Offset, from: Offset) -> Option<u64> {
        let state = self.state.borrow();
        let (of, position) = state.ends.positions.get(&(log, from))?;
        (*of == segment).then_some(*position)
    }

    /// Remembers that a read of a segment has ended before `next`, at `position`; it had begun at
    /// `from`.
    pub fn ended(&self, from: (u64, Offset), next: Offset, segment: Offset, position: u64) {
        let ends = &mut self.state.borrow_mut().ends;
        ends.ended(from, (from.0, next), (segment, position));
    }

    /// Forgets a segment that is deleted; replies keep what they hold.
    pub fn forget(&self, log: u64, segment: Offset) {
        let key = |number| PieceKey {
            log,
            segment,
            number,
        };
        let mut state = self.state.borrow_mut();
        let of_it = state.pieces.range(key(0)..=key(u64::MAX));
        let of_it: Vec<_> = of_it.map(|(_, piece)| Rc::clone(piece)).collect();
        of_it.iter().for_each(|piece| state.remove(piece));
    }
}

/// Where reads have ended and readers go on: a log and the offset after the last, with the segment
/// and the position in it.
#[derive(Debug, Default)]
struct Ends {
    positions: HashMap<(u64, Offset), (Offset, u64)>,
    /// Those from which a reader has gone on, the oldest first: kept for those in step with it.
    passed: VecDeque<(u64, Offset)>,
}

impl Ends {
    /// Remembered in all. Readers that stopped leave theirs behind.
    const REMEMBERED_MAX: usize = 16 << 10;
    const PASSED_MAX: usize = 256;

    fn ended(&mut self, from: (u64, Offset), next: (u64, Offset), position: (Offset, u64)) {
        if self.positions.len() >= Self::REMEMBERED_MAX {
            // Who goes on looks into the index once, as at its start.
            *self = Self::default();
        }
        self.positions.insert(next, position);
        if self.positions.contains_key(&from) {
            self.passed.push_back(from);
        }
        if self.passed.len() > Self::PASSED_MAX {
            let oldest = self.passed.pop_front();
            oldest.map(|oldest| self.positions.remove(&oldest));
        }
    }
}

impl State {
    /// Adds a piece, in place of one that holds less of what is wanted now.
    fn add(
        &mut self,
        key: PieceKey,
        file: &Rc<File>,
        range: Range<u64>,
        is_ahead: bool,
    ) -> Rc<Piece> {
        if let Some(other) = self.pieces.get(&key).cloned() {
            self.remove(&other);
        }
        let piece = Rc::new(Piece {
            key,
            range,
            stage: RefCell::new(Stage::Asked(Rc::clone(file))),
            waiting: RefCell::default(),
            is_ahead: Cell::new(is_ahead),
            used_at: Cell::new(None),
        });
        self.pieces.insert(key, Rc::clone(&piece));
        if is_ahead {
            self.ahead_bytes += piece.bytes();
        }
        piece
    }

    /// A reader wants it now.
    fn wanted(&mut self, piece: &Rc<Piece>) {
        self.no_longer_ahead(piece);
        if piece.used_at.get().is_some() {
            self.touch(piece);
        } else if piece.is_asked() {
            self.demanded.push_back(Rc::clone(piece));
        }
    }

    fn no_longer_ahead(&mut self, piece: &Piece) {
        if piece.is_ahead.replace(false) {
            self.ahead_bytes -= piece.bytes();
            if piece.is_asked() {
                self.ahead.retain(|key| *key != piece.key);
            }
        }
    }

    /// Takes note of a use of a loaded piece.
    fn touch(&mut self, piece: &Piece) {
        self.uses += 1;
        let used_at = match piece.is_ahead.get() {
            true => self.uses + self.uses_outlasted,
            false => self.uses,
        };
        if let Some(before) = piece.used_at.replace(Some(used_at)) {
            self.by_use.remove(&(before, piece.key));
        }
        self.by_use.insert((used_at, piece.key));
    }

    fn is_undisturbed(&self) -> bool {
        let quiet = self.appended_at.map(|at| at.elapsed());
        quiet.is_none_or(|quiet| quiet >= UNDISTURBED_AFTER)
    }

    fn next_to_load(&mut self) -> Option<Rc<Piece>> {
        let (ahead_max, demanded_max) = match self.is_undisturbed() {
            true => (READS_IN_FLIGHT_MAX, DEMANDED_IN_FLIGHT_MAX),
            false => (READS_BESIDE_WRITES_MAX, READS_BESIDE_WRITES_MAX),
        };
        if self.loading < demanded_max {
            while let Some(demanded) = self.demanded.pop_front() {
                if demanded.is_asked() {
                    return Some(demanded);
                }
            }
        }
        while self.loading < ahead_max
            && let Some(key) = self.ahead.pop_front()
        {
            let ahead = self.pieces.get(&key).filter(|ahead| ahead.is_asked());
            debug_assert!(ahead.is_some(), "all of them are asked for");
            if let Some(ahead) = ahead {
                return Some(Rc::clone(ahead));
            }
        }
        None
    }

    /// A piece that is to be loaded, with those behind it that are read in one go with it.
    fn read_together(&self, first: Rc<Piece>) -> Vec<Rc<Piece>> {
        let bytes_max = match self.is_undisturbed() && self.is_in(&first) {
            true => READ_TOGETHER_BYTES_MAX,
            false => READ_PIECE_BYTES,
        };
        let start = first.range.start;
        let mut last = first;
        let mut together = vec![Rc::clone(&last)];
        loop {
            let key = PieceKey {
                number: last.key.number + 1,
                ..last.key
            };
            match self.pieces.get(&key) {
                Some(next)
                    if next.is_asked()
                        && next.range.start == last.range.end
                        && next.range.end - start <= bytes_max =>
                {
                    last = Rc::clone(next);
                    together.push(Rc::clone(&last));
                }
                _ => return together,
            }
        }
    }

    /// A piece has come. It is kept, if it is still in.
    fn loaded(&mut self, piece: &Rc<Piece>) {
        if self.is_in(piece) {
            self.loaded_bytes += piece.bytes();
            self.touch(piece);
        }
    }

    fn is_in(&self, piece: &Rc<Piece>) -> bool {
        let found = self.pieces.get(&piece.key);
        found.is_some_and(|found| Rc::ptr_eq(found, piece))
    }

    /// Takes a piece out, if it is still in.
    fn remove(&mut self, piece: &Rc<Piece>) {
        if !self.is_in(piece) {
            return;
        }
        self.pieces.remove(&piece.key);
        self.no_longer_ahead(piece);
        if let Some(used_at) = piece.used_at.take() {
            self.by_use.remove(&(used_at, piece.key));
            self.loaded_bytes -= piece.bytes();
        }
    }

    /// Takes out what was used least recently. Whether it was read ahead and is not wanted yet.
    fn evict_oldest(&mut self) -> Option<bool> {
        let (_, oldest) = self.by_use.first()?;
        let oldest = Rc::clone(&self.pieces[oldest]);
        let is_ahead = oldest.is_ahead.get();
        self.remove(&oldest);
        Some(is_ahead)
    }
}
