//! Buffers for direct I/O: whole blocks, aligned to their size.
//!
//! They are cut from chunks of 2 MiB. A chunk is halved until a piece fits, and halves that are
//! both free become whole again; a few whole ones are kept. A buffer belongs to the thread that
//! made it.
//!
//! A chunk that is one huge page spares the kernel the pinning and mapping of every small page of a
//! transfer, and makes the device's requests larger. But its first touch takes it all from the
//! kernel, or from a virtual machine's host, at once: milliseconds, in which the shard stands
//! still. So chunks are huge pages where they are needed so fast that small ones would cost more:
//! `kernel-notes/buffers.md`.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use nix::libc::c_void;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::base::limits::BLOCK_BYTES;

const CHUNK_BYTES: usize = 2 << 20;
/// Free chunks that a thread keeps.
const CHUNKS_KEPT: usize = 8;
/// A thread that fills or empties so many chunks in less than [`HURRY`] (100 MiB/s) is in one.
/// Many, since partitions that are written evenly need their next units all at once.
const TURNS: usize = 32;
const HURRY: Duration = Duration::from_millis(640);
const ORDERS: usize = CHUNK_BYTES.trailing_zeros() as usize + 1;

thread_local! {
    static ARENA: RefCell<Arena> = RefCell::default();
}

/// The pieces of a thread that are free, by the power of two that they are.
#[derive(Default)]
struct Arena {
    free: [BTreeSet<usize>; ORDERS],
    /// The chunks that are small pages.
    small: BTreeSet<usize>,
    /// When chunks were taken from the kernel or became free, [`TURNS`] times at most.
    turned: VecDeque<Instant>,
}

impl Arena {
    /// Whether the thread is in a hurry, now that a chunk was taken or became free.
    fn turn(&mut self) -> bool {
        let now = Instant::now();
        let is_hurried = self.turned.len() == TURNS
            && self
                .turned
                .pop_front()
                .is_some_and(|first| now - first < HURRY);
        self.turned.push_back(now);
        is_hurried
    }

    fn map_chunk(&mut self) -> usize {
        let chunk = map(CHUNK_BYTES);
        let address = chunk.as_ptr() as usize;
        if self.turn() {
            advise(chunk, CHUNK_BYTES, MmapAdvise::MADV_HUGEPAGE);
        } else {
            // Where all memory may be huge pages this is not to be.
            advise(chunk, CHUNK_BYTES, MmapAdvise::MADV_NOHUGEPAGE);
            self.small.insert(address);
        }
        address
    }

    /// A piece of `bytes`, a power of two that a chunk holds.
    fn take(&mut self, bytes: usize) -> NonNull<u8> {
        let wanted = order(bytes);
        let found = (wanted..ORDERS).find_map(|order| Some((order, self.free[order].pop_first()?)));
        let (mut at, piece) = found.unwrap_or_else(|| (order(CHUNK_BYTES), self.map_chunk()));
        while at > wanted {
            at -= 1;
            self.free[at].insert(piece + (1 << at));
        }
        NonNull::new(piece as *mut u8).expect("no mapping begins at zero")
    }

    fn give_back(&mut self, memory: NonNull<u8>, bytes: usize) {
        let mut piece = memory.as_ptr() as usize;
        let mut at = order(bytes);
        // Chunks are aligned to their size, so the other half is one bit away.
        while at < order(CHUNK_BYTES) && self.free[at].remove(&(piece ^ (1 << at))) {
            piece &= !(1 << at);
            at += 1;
        }
        if at == order(CHUNK_BYTES) {
            let is_hurried = self.turn();
            let is_to_be_huge = is_hurried && self.small.contains(&piece);
            if is_to_be_huge || self.free[at].len() >= CHUNKS_KEPT {
                self.small.remove(&piece);
                return unmap(piece, CHUNK_BYTES);
            }
        }
        self.free[at].insert(piece);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // A chunk of which something is in use stays mapped: whoever has it outlives the thread's
        // own memory, as the test harness's main thread may have it.
        for chunk in std::mem::take(&mut self.free[order(CHUNK_BYTES)]) {
            unmap(chunk, CHUNK_BYTES);
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
