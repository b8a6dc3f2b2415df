//! Older data of a shard's logs in memory: pieces of segments' files, read directly. The shard's
//! alone.
//!
//! A piece begins at a multiple of [`READ_PIECE_BYTES`]. Few are on their way from the disk at a
//! time, since a write that is to be acknowledged waits behind them (`kernel-notes/cold-reads.md`):
//! first those that a reader waits for, in the order in which they were asked for, then those that
//! are read ahead. They stay until the budget is used up, and go least recently used first. What
//! replies hold of them stays beyond that, see [`ReadCache::is_overdrawn`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use glommio::TaskQueueHandle;

use crate::base::ids::Offset;
use crate::base::limits::{READ_PIECE_BYTES, READS_IN_FLIGHT_MAX};

use super::error::FileError;
use super::file::File;
use super::shard::spawn_into;
use super::unit::{SealedUnit, UnitHome};

/// So many pieces are kept at least, whatever the budget.
const PIECES_MIN: usize = 8;

/// So many ends of reads are remembered.
const ENDS_MAX: usize = 1024;

/// Names a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PieceKey {
    /// The log's number.
    pub log: u64,
    /// Base offset of the segment.
    pub segment: Offset,
    /// Where the piece begins in the file, in pieces.
    pub number: u64,
}

/// A piece, from when it is asked for.
#[derive(Debug)]
pub(super) struct Piece {
    key: PieceKey,
    file: Rc<File>,
    /// How many bytes are read: those that will not change any more.
    length: usize,
    stage: RefCell<Stage>,
    waiting: RefCell<Vec<Waker>>,
    /// Asked for ahead of a reader, and not yet wanted.
    is_ahead: Cell<bool>,
    /// When it was wanted last, counted in uses.
    used: Cell<u64>,
}

#[derive(Debug)]
enum Stage {
    Asked,
    Loading,
    Loaded(SealedUnit),
    Failed(Rc<FileError>),
}

impl Piece {
    /// Its bytes, once they are there: fewer than were to be read if the file has ended.
    pub async fn loaded(&self) -> Result<SealedUnit, Rc<FileError>> {
        poll_fn(|context| match &*self.stage.borrow() {
            Stage::Loaded(unit) => Poll::Ready(Ok(unit.clone())),
            Stage::Failed(error) => Poll::Ready(Err(Rc::clone(error))),
            Stage::Asked | Stage::Loading => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn is(&self, wanted: fn(&Stage) -> bool) -> bool {
        wanted(&self.stage.borrow())
    }
}

/// The pieces of one shard.
#[derive(Debug)]
pub(super) struct ReadCache {
    queue: TaskQueueHandle,
    pieces_max: usize,
    home: UnitHome,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    pieces: HashMap<PieceKey, Rc<Piece>>,
    /// The same, the least recently used first.
    by_use: BTreeMap<u64, PieceKey>,
    uses: u64,
    /// What is to be loaded. A piece whose stage says otherwise is passed over.
    demanded: VecDeque<Rc<Piece>>,
    ahead: VecDeque<Rc<Piece>>,
    loading: usize,
    /// How many were asked for ahead and are not yet wanted.
    ahead_pieces: usize,
    ends: Ends,
}

/// Where reads have ended: a log, the offset after the last, the position in its segment.
#[derive(Debug, Default)]
struct Ends {
    positions: HashMap<(u64, Offset), u64>,
    oldest_first: VecDeque<(u64, Offset)>,
}

impl ReadCache {
    /// Keeps about `bytes_max` bytes. Loads run in `queue`.
    pub fn new(bytes_max: usize, queue: TaskQueueHandle) -> Rc<Self> {
        Rc::new(Self {
            queue,
            pieces_max: (bytes_max / READ_PIECE_BYTES as usize).max(PIECES_MIN),
            home: UnitHome::new(),
            state: RefCell::default(),
        })
    }

    /// The memory of all pieces, those included that only replies still hold.
    pub fn live_bytes(&self) -> usize {
        self.home.live_bytes()
    }

    /// Whether replies that wait for their receivers hold as much beyond the cache as it may keep.
    /// Then reads are small, and copies.
    pub fn is_overdrawn(&self) -> bool {
        self.live_bytes() > 2 * self.pieces_max * READ_PIECE_BYTES as usize
    }

    /// A piece that a reader wants, with at least `needed` bytes; if it is not there, `length`
    /// bytes of it are loaded.
    pub fn demand(
        self: &Rc<Self>,
        key: PieceKey,
        file: &Rc<File>,
        needed: usize,
        length: usize,
    ) -> Rc<Piece> {
        let piece = {
            let mut state = self.state.borrow_mut();
            let found = state.pieces.get(&key).filter(|it| it.length >= needed);
            let piece = match found.cloned() {
                Some(piece) => piece,
                None => state.add(key, file, length, false),
            };
            state.wanted(&piece);
            piece
        };
        self.load_next();
        piece
    }

    /// Has `length` bytes of a piece loaded before it is wanted, unless too much is already.
    pub fn read_ahead(self: &Rc<Self>, key: PieceKey, file: &Rc<File>, length: usize) {
        {
            let mut state = self.state.borrow_mut();
            let is_there = state.pieces.get(&key).is_some_and(|it| it.length >= length);
            if is_there || state.ahead_pieces >= self.pieces_max / 2 {
                return;
            }
            let piece = state.add(key, file, length, true);
            state.ahead.push_back(piece);
        }
        self.load_next();
    }

    /// Starts loads while there may be more.
    fn load_next(self: &Rc<Self>) {
        loop {
            let mut state = self.state.borrow_mut();
            if state.loading >= READS_IN_FLIGHT_MAX {
                return;
            }
            let Some(piece) = state.next_to_load() else {
                return;
            };
            *piece.stage.borrow_mut() = Stage::Loading;
            state.loading += 1;
            drop(state);
            let cache = Rc::clone(self);
            spawn_into(self.queue, async move { cache.load(&piece).await });
        }
    }

    async fn load(self: Rc<Self>, piece: &Rc<Piece>) {
        let position = piece.key.number * READ_PIECE_BYTES;
        let read = piece.file.read(position, piece.length).await;
        let mut state = self.state.borrow_mut();
        *piece.stage.borrow_mut() = match read {
            Ok(read) => Stage::Loaded(self.home.adopt(read)),
            Err(error) => {
                // Whoever asks again has it read again.
                state.remove(piece);
                Stage::Failed(Rc::new(error))
            }
        };
        state.loading -= 1;
        state.evict(self.pieces_max);
        drop(state);
        piece.waiting.take().into_iter().for_each(Waker::wake);
        self.load_next();
    }

    /// Where a read that begins at `from` may begin, if another has ended there.
    pub fn end_at(&self, log: u64, from: Offset) -> Option<u64> {
        self.state
            .borrow()
            .ends
            .positions
            .get(&(log, from))
            .copied()
    }

    /// Remembers that a read has ended before `next`, which lies at `position` of the same segment.
    pub fn ended(&self, log: u64, next: Offset, position: u64) {
        let ends = &mut self.state.borrow_mut().ends;
        if ends.positions.insert((log, next), position).is_none() {
            ends.oldest_first.push_back((log, next));
        }
        if ends.oldest_first.len() > ENDS_MAX {
            let oldest = ends.oldest_first.pop_front();
            oldest.map(|oldest| ends.positions.remove(&oldest));
        }
    }

    /// Forgets a segment that is deleted; replies keep what they hold.
    pub fn forget(&self, log: u64, segment: Offset) {
        let mut state = self.state.borrow_mut();
        let pieces = state.pieces.values();
        let of_it = pieces.filter(|it| it.key.log == log && it.key.segment == segment);
        let of_it: Vec<_> = of_it.cloned().collect();
        of_it.iter().for_each(|piece| state.remove(piece));
    }
}

impl State {
    /// Adds a piece, in place of a shorter one.
    fn add(&mut self, key: PieceKey, file: &Rc<File>, length: usize, is_ahead: bool) -> Rc<Piece> {
        if let Some(shorter) = self.pieces.get(&key).cloned() {
            self.remove(&shorter);
        }
        let piece = Rc::new(Piece {
            key,
            file: Rc::clone(file),
            length,
            stage: RefCell::new(Stage::Asked),
            waiting: RefCell::default(),
            is_ahead: Cell::new(is_ahead),
            used: Cell::new(0),
        });
        self.pieces.insert(key, Rc::clone(&piece));
        self.ahead_pieces += usize::from(is_ahead);
        self.used(&piece);
        piece
    }

    /// A reader wants it now.
    fn wanted(&mut self, piece: &Rc<Piece>) {
        self.used(piece);
        self.ahead_pieces -= usize::from(piece.is_ahead.replace(false));
        if piece.is(|stage| matches!(stage, Stage::Asked)) {
            self.demanded.push_back(Rc::clone(piece));
        }
    }

    fn used(&mut self, piece: &Piece) {
        self.by_use.remove(&piece.used.get());
        self.uses += 1;
        piece.used.set(self.uses);
        self.by_use.insert(self.uses, piece.key);
    }

    fn next_to_load(&mut self) -> Option<Rc<Piece>> {
        loop {
            let next = self.demanded.pop_front();
            let next = next.or_else(|| self.ahead.pop_front())?;
            if next.is(|stage| matches!(stage, Stage::Asked)) {
                return Some(next);
            }
        }
    }

    /// Takes a piece out, if it is still in.
    fn remove(&mut self, piece: &Rc<Piece>) {
        let found = self.pieces.get(&piece.key);
        if found.is_some_and(|found| Rc::ptr_eq(found, piece)) {
            self.pieces.remove(&piece.key);
            self.by_use.remove(&piece.used.get());
            self.ahead_pieces -= usize::from(piece.is_ahead.replace(false));
        }
    }

    fn evict(&mut self, pieces_max: usize) {
        while self.pieces.len() > pieces_max {
            let mut oldest_first = self.by_use.values().map(|key| &self.pieces[key]);
            // What is not loaded takes no memory, and somebody waits for it.
            let oldest = oldest_first.find(|it| it.is(|stage| matches!(stage, Stage::Loaded(_))));
            let Some(oldest) = oldest.cloned() else {
                return;
            };
            self.remove(&oldest);
        }
    }
}
