//! Buffers for direct I/O: whole blocks, aligned to their size.
//!
//! They are cut from chunks of 2 MiB. A chunk is halved until a piece fits, and halves that are
//! both free become whole again; a few whole ones are kept. A buffer belongs to the thread that
//! made it.
//!
//! A chunk that is one huge page spares the kernel the pinning and mapping of every small page of a
//! transfer, and makes the device's requests larger. But its first touch takes it all from the
//! kernel, or from a virtual machine's host, at once: milliseconds, in which the shard stands
//! still. So a thread cuts from huge pages where it takes buffers so fast that small pages would
//! cost more, and leaves what is free of its small ones alone meanwhile: they become whole and go
//! back. `kernel-notes/buffers.md`.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use nix::libc::c_void;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::base::limits::BLOCK_BYTES;

const CHUNK_BYTES: usize = 2 << 20;
/// Free chunks of each kind that a thread keeps.
const CHUNKS_KEPT: usize = 8;
/// A thread that takes so many chunks' worth of buffers in less than [`HURRY`] (100 MiB/s) is in
/// one. Many, since partitions that are written evenly need their next units all at once.
const TURNS: usize = 32;
const HURRY: Duration = Duration::from_millis(640);
const ORDERS: usize = CHUNK_BYTES.trailing_zeros() as usize + 1;

thread_local! {
    static ARENA: RefCell<Arena> = RefCell::default();
}

/// The pieces of a thread that are free, and how fast it takes them.
#[derive(Default)]
struct Arena {
    huge: Pieces,
    small: Pieces,
    /// The chunks that are small pages.
    small_chunks: HashSet<usize>,
    /// What was taken since the last turn.
    taken_bytes: usize,
    /// When a chunk's worth was taken, [`TURNS`] times at most.
    turns: VecDeque<Instant>,
    is_hurried: bool,
}

/// Pieces of chunks of one kind that are free, by the power of two that they are.
#[derive(Default)]
struct Pieces([BTreeSet<usize>; ORDERS]);

impl Pieces {
    /// A piece of that order, out of the smallest that is large enough.
    fn take(&mut self, wanted: usize) -> Option<usize> {
        let found = (wanted..ORDERS).find(|order| !self.0[*order].is_empty())?;
        let piece = self.0[found].pop_first()?;
        self.split(piece, found, wanted);
        Some(piece)
    }

    /// Makes all free of a piece but its beginning.
    fn split(&mut self, piece: usize, mut order: usize, wanted: usize) {
        while order > wanted {
            order -= 1;
            self.0[order].insert(piece + (1 << order));
        }
    }

    /// Joins a piece with its other half if that is free, and so on. What it is a part of then, and
    /// the order of that; it is no longer among these.
    fn join(&mut self, mut piece: usize, mut order: usize) -> (usize, usize) {
        // Chunks are aligned to their size, so the other half is one bit away.
        while order < WHOLE && self.0[order].remove(&(piece ^ (1 << order))) {
            piece &= !(1 << order);
            order += 1;
        }
        (piece, order)
    }
}

/// The order of a whole chunk.
const WHOLE: usize = order(CHUNK_BYTES);

impl Arena {
    /// A piece of `bytes`, a power of two that a chunk holds.
    fn take(&mut self, bytes: usize) -> NonNull<u8> {
        self.taken_bytes += bytes;
        if self.taken_bytes >= CHUNK_BYTES {
            self.taken_bytes = 0;
            self.turn(Instant::now());
        }
        let wanted = order(bytes);
        let piece = match self.huge.take(wanted) {
            Some(piece) => piece,
            None if self.is_hurried => self.cut_chunk(wanted),
            None => match self.small.take(wanted) {
                Some(piece) => piece,
                None => self.cut_chunk(wanted),
            },
        };
        NonNull::new(piece as *mut u8).expect("no mapping begins at zero")
    }

    /// Takes note that a chunk's worth was taken.
    fn turn(&mut self, now: Instant) {
        self.is_hurried = self.turns.len() == TURNS
            && self
                .turns
                .pop_front()
                .is_some_and(|first| now.saturating_duration_since(first) < HURRY);
        self.turns.push_back(now);
    }

    fn cut_chunk(&mut self, wanted: usize) -> usize {
        let chunk = map(CHUNK_BYTES);
        let address = chunk.as_ptr() as usize;
        if self.is_hurried {
            advise(chunk, CHUNK_BYTES, MmapAdvise::MADV_HUGEPAGE);
            self.huge.split(address, WHOLE, wanted);
        } else {
            // Where all memory may be huge pages this is not to be.
            advise(chunk, CHUNK_BYTES, MmapAdvise::MADV_NOHUGEPAGE);
            self.small_chunks.insert(address);
            self.small.split(address, WHOLE, wanted);
        }
        address
    }

    fn give_back(&mut self, memory: NonNull<u8>, bytes: usize) {
        let piece = memory.as_ptr() as usize;
        let is_small = self.small_chunks.contains(&(piece - piece % CHUNK_BYTES));
        let pieces = if is_small {
            &mut self.small
        } else {
            &mut self.huge
        };
        let (piece, order) = pieces.join(piece, order(bytes));
        if order < WHOLE || (pieces.0[WHOLE].len() < CHUNKS_KEPT && !(is_small && self.is_hurried))
        {
            pieces.0[order].insert(piece);
            return;
        }
        self.small_chunks.remove(&piece);
        unmap(piece, CHUNK_BYTES);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // A chunk of which something is in use stays mapped: whoever has it outlives the thread's
        // own memory, as the test harness's main thread may have it.
        for pieces in [&mut self.huge, &mut self.small] {
            for chunk in std::mem::take(&mut pieces.0[WHOLE]) {
                unmap(chunk, CHUNK_BYTES);
            }
        }
    }
}

const fn order(bytes: usize) -> usize {
    bytes.trailing_zeros() as usize
}

/// Memory of whole chunks, aligned to one, of zeros.
fn map(bytes: usize) -> NonNull<u8> {
    let length = NonZeroUsize::new(bytes + CHUNK_BYTES).expect("it is not empty");
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: the kernel chooses the place, so no other mapping is touched.
    let mapped = unsafe { mmap_anonymous(None, length, protection, flags) };
    let mapped = mapped.unwrap_or_else(|error| panic!("no memory for direct I/O: {error}"));
    let start = mapped.as_ptr() as usize;
    let aligned = start.next_multiple_of(CHUNK_BYTES);
    if aligned > start {
        unmap(start, aligned - start);
    }
    let end = aligned + bytes;
    let surplus = start + length.get() - end;
    if surplus > 0 {
        unmap(end, surplus);
    }
    NonNull::new(aligned as *mut u8).expect("no mapping begins at zero")
}

fn advise(memory: NonNull<u8>, bytes: usize, advice: MmapAdvise) {
    // SAFETY: the advice is about a mapping made by `map`, and changes nothing that it holds. Where
    // there are no huge pages it is refused, and small ones do.
    let _small = unsafe { madvise(memory.cast::<c_void>(), bytes, advice) };
}

fn unmap(start: usize, bytes: usize) {
    let memory = NonNull::new(start as *mut c_void).expect("no mapping begins at zero");
    // SAFETY: it is a part of a mapping made by `map` of which nothing is in use any more.
    let unmapped = unsafe { munmap(memory, bytes) };
    debug_assert!(unmapped.is_ok(), "whole pages of a mapping: {unmapped:?}");
}

/// A buffer of whole blocks.
pub struct DmaBuffer {
    memory: NonNull<u8>,
    capacity: usize,
    length: usize,
}

impl DmaBuffer {
    /// A buffer of `length` bytes, which hold anything. Its memory is the next power of two.
    ///
    /// # Panics
    /// If there is no memory left.
    pub fn new(length: usize) -> Self {
        let capacity = length.max(BLOCK_BYTES as usize).next_power_of_two();
        let memory = if capacity <= CHUNK_BYTES {
            ARENA.with_borrow_mut(|arena| arena.take(capacity))
        } else {
            let memory = map(capacity);
            advise(memory, capacity, MmapAdvise::MADV_HUGEPAGE);
            memory
        };
        Self {
            memory,
            capacity,
            length,
        }
    }

    /// How much memory it takes, in bytes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Makes it shorter.
    ///
    /// # Panics
    /// If it is not as long as that.
    pub fn trim_to_size(&mut self, length: usize) {
        assert!(length <= self.length, "{length} of {}", self.length);
        self.length = length;
    }

    /// Where it begins.
    pub fn as_ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_ptr()
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `length` bytes of its own, zeros from the kernel or what was written since, which
        // nobody changes while this is lent.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.length) }
    }

    /// Its bytes, to change.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else reads them meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.length) }
    }
}

impl fmt::Debug for DmaBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:p}[..{}]", self.memory, self.length)
    }
}

impl Drop for DmaBuffer {
    fn drop(&mut self) {
        if self.capacity > CHUNK_BYTES {
            return unmap(self.memory.as_ptr() as usize, self.capacity);
        }
        // At the thread's end there is nothing left to give it back to.
        let _ended = ARENA.try_with(|arena| {
            arena.borrow_mut().give_back(self.memory, self.capacity);
        });
    }
}

#[cfg(test)]
mod tests;
