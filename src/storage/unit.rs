//! The aligned buffers that a log is written from, which are also its tail cache, and those that
//! older data is read into.
//!
//! A [`Unit`] is filled by one log, sealed, written to its segment by one direct write, by itself
//! or with those behind it, and then kept as long as the cache's budget lets it. What is read is
//! sealed at once, see [`UnitHome::adopt`]. A sealed unit never changes; its bytes may be sent by
//! any shard, as [`Bytes`] that keep it alive.
//!
//! This is the file that holds the unsafe code for bytes that cross shards. The runtime's buffers
//! belong to the executor that made them, so the last handle that another shard drops sends the
//! buffer home through a queue, which the owner empties when it makes a unit, or asks how much
//! memory all of them take.

#![allow(unsafe_code)]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};

use bytes::Bytes;
use crossbeam_queue::SegQueue;

use crate::base::limits::BLOCK_BYTES;
use crate::runtime::DmaBuffer;

/// Makes units on one shard, and takes back those that another shard dropped last.
#[derive(Clone, Debug)]
pub struct UnitHome {
    homecoming: Arc<Homecoming>,
}

#[derive(Debug)]
struct Homecoming {
    thread: ThreadId,
    returned: SegQueue<Returned>,
    live_bytes: Arc<AtomicUsize>,
    copied_bytes: Arc<AtomicUsize>,
}

/// A copy, which counts until it is dropped.
struct Copied {
    bytes: Box<[u8]>,
    _live: Live,
}

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Counts a buffer among the live ones until it is dropped, which is beside the buffer.
#[derive(Debug)]
struct Live {
    capacity: usize,
    live_bytes: Arc<AtomicUsize>,
}

impl Live {
    fn new(capacity: usize, live_bytes: &Arc<AtomicUsize>) -> Self {
        live_bytes.fetch_add(capacity, Ordering::Relaxed);
        Self {
            capacity,
            live_bytes: Arc::clone(live_bytes),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.live_bytes.fetch_sub(self.capacity, Ordering::Relaxed);
    }
}

/// A buffer on its way home. Only the home thread ever takes one out of the queue.
#[derive(Debug)]
struct Returned {
    _buffer: Rc<DmaBuffer>,
    _live: Live,
}

// SAFETY: the reference count and the allocator behind the buffer are not atomic, so only the home
// thread may touch them. A foreign thread moves the value into the home's queue without cloning,
// dereferencing or dropping it, and only the home thread takes it out again (`UnitHome::welcome`
// checks the thread), or the queue is dropped after the home's executor has ended, when no other
// thread can touch the buffer's count any more: see `Homecoming::drop`.
unsafe impl Send for Returned {}

impl Drop for Homecoming {
    fn drop(&mut self) {
        // The last owner of the queue may be another shard's handle, after this one's executor has
        // ended: the buffers' allocator is then no longer anyone's. Leaking them is sound, and the
        // process is about to end.
        if thread::current().id() != self.thread {
            while let Some(returned) = self.returned.pop() {
                std::mem::forget(returned);
            }
        }
    }
}

impl UnitHome {
    /// The home of the units of the shard that runs on this thread.
    pub fn new() -> Self {
        let thread = thread::current().id();
        Self {
            homecoming: Arc::new(Homecoming {
                thread,
                returned: SegQueue::new(),
                live_bytes: Arc::default(),
                copied_bytes: Arc::default(),
            }),
        }
    }

    /// A unit with room for `capacity` bytes, a power of two of at least one block.
    pub fn unit(&self, capacity: usize) -> Unit {
        assert!(
            capacity.is_power_of_two() && capacity as u64 >= BLOCK_BYTES,
            "{capacity}"
        );
        self.welcome();
        Unit {
            buffer: DmaBuffer::new(capacity),
            length: 0,
            live: Live::new(capacity, &self.homecoming.live_bytes),
        }
    }

    /// A unit of what was read from a file, in the buffer that it was read into.
    pub fn adopt(&self, buffer: DmaBuffer) -> SealedUnit {
        self.welcome();
        let length = buffer.len();
        let inner = SealedInner {
            address: buffer.as_ptr(),
            length,
            live: ManuallyDrop::new(Live::new(buffer.capacity(), &self.homecoming.live_bytes)),
            buffer: ManuallyDrop::new(Rc::new(buffer)),
            homecoming: self.homecoming.clone(),
        };
        SealedUnit {
            inner: Arc::new(inner),
        }
    }

    /// A copy of a part of a unit, which does not keep the unit.
    pub fn copy(&self, bytes: &[u8]) -> Bytes {
        Bytes::from_owner(Copied {
            bytes: bytes.into(),
            _live: Live::new(bytes.len(), &self.homecoming.copied_bytes),
        })
    }

    /// Bytes of copies that are held now.
    pub fn copied_bytes(&self) -> usize {
        self.homecoming.copied_bytes.load(Ordering::Relaxed)
    }

    /// The memory that all units take together, in bytes: those in tails, and those that left them
    /// but are still held by replies.
    pub fn live_bytes(&self) -> usize {
        self.welcome();
        self.homecoming.live_bytes.load(Ordering::Relaxed)
    }

    /// Drops the buffers that came home.
    pub fn welcome(&self) {
        assert_eq!(
            thread::current().id(),
            self.homecoming.thread,
            "a unit's home is one thread"
        );
        while let Some(returned) = self.homecoming.returned.pop() {
            drop(returned);
        }
    }
}

impl Default for UnitHome {
    fn default() -> Self {
        Self::new()
    }
}

/// A buffer that is being filled: its log's alone.
#[derive(Debug)]
pub struct Unit {
    buffer: DmaBuffer,
    length: usize,
    live: Live,
}

impl Unit {
    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many bytes it has room for in all.
    pub fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// How many more bytes fit.
    pub fn room(&self) -> usize {
        self.capacity() - self.length
    }

    /// The next `length` bytes, for the caller to fill without reading: what they hold until then
    /// is undefined. [`Unit::commit`] makes them part of the unit.
    pub fn spare(&mut self, length: usize) -> &mut [u8] {
        &mut self.buffer.as_bytes_mut()[self.length..self.length + length]
    }

    /// Takes the next `length` bytes, which [`Unit::spare`] gave and the caller filled.
    pub fn commit(&mut self, length: usize) {
        assert!(length <= self.room());
        self.length += length;
    }

    /// The bytes that it holds.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer.as_bytes()[..self.length]
    }

    /// Ends the filling: the rest of the last block becomes zeros, and the unit whole blocks.
    pub fn seal(mut self, home: &UnitHome) -> SealedUnit {
        let padded = self.length.next_multiple_of(BLOCK_BYTES as usize);
        self.buffer.as_bytes_mut()[self.length..padded].fill(0);
        self.buffer.trim_to_size(padded);
        let address = self.buffer.as_ptr();
        let inner = SealedInner {
            address,
            length: self.length,
            buffer: ManuallyDrop::new(Rc::new(self.buffer)),
            live: ManuallyDrop::new(self.live),
            homecoming: home.homecoming.clone(),
        };
        SealedUnit {
            inner: Arc::new(inner),
        }
    }
}

/// A unit that no longer changes. Handles to it may cross shards.
#[derive(Clone, Debug)]
pub struct SealedUnit {
    inner: Arc<SealedInner>,
}

struct SealedInner {
    address: *const u8,
    length: usize,
    buffer: ManuallyDrop<Rc<DmaBuffer>>,
    live: ManuallyDrop<Live>,
    homecoming: Arc<Homecoming>,
}

// SAFETY: other threads only read the `length` bytes at `address`, which are initialised, never
// change after sealing (nor after the read that filled them has completed: the kernel only reads
// them then), and live until the last handle is dropped. The `Rc` is cloned on the home thread
// alone (`SealedUnit::for_write` checks), and dropped there (`Drop` sends it home).
unsafe impl Send for SealedInner {}
// SAFETY: as above; the buffer itself is out of reach of other threads: nothing here looks into it,
// `Debug` included.
unsafe impl Sync for SealedInner {}

impl fmt::Debug for SealedInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:p}[..{}]", self.address, self.length)
    }
}

impl Drop for SealedInner {
    fn drop(&mut self) {
        // SAFETY: both are taken once, here, and not used again.
        let (buffer, live) = unsafe {
            (
                ManuallyDrop::take(&mut self.buffer),
                ManuallyDrop::take(&mut self.live),
            )
        };
        let returned = Returned {
            _buffer: buffer,
            _live: live,
        };
        if thread::current().id() == self.homecoming.thread {
            drop(returned);
        } else {
            self.homecoming.returned.push(returned);
        }
    }
}

impl SealedUnit {
    /// How many bytes it holds, without the zeros that fill its last block.
    pub fn len(&self) -> usize {
        self.inner.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.inner.length == 0
    }

    /// The bytes it holds.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `address` points to `length` initialised bytes that live as long as `self.inner`
        // and that nobody changes.
        unsafe { std::slice::from_raw_parts(self.inner.address, self.inner.length) }
    }

    /// How many bytes it holds with the zeros that fill its last block.
    pub fn padded_len(&self) -> usize {
        self.len().next_multiple_of(BLOCK_BYTES as usize)
    }

    /// The memory that it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.inner.live.capacity
    }

    /// The buffer to write, whole blocks.
    ///
    /// # Panics
    /// Off the shard that made the unit.
    pub fn for_write(&self) -> Rc<DmaBuffer> {
        assert_eq!(
            thread::current().id(),
            self.inner.homecoming.thread,
            "written off its shard"
        );
        Rc::clone(&self.inner.buffer)
    }

    /// Some of its bytes, as a handle that keeps the unit alive and may cross shards.
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        assert!(
            range.end <= self.len() && range.start <= range.end,
            "{range:?} of {}",
            self.len()
        );
        // The one small allocation a slice costs; the bytes themselves are not copied.
        Bytes::from_owner(UnitSlice {
            unit: self.clone(),
            range,
        })
    }
}

struct UnitSlice {
    unit: SealedUnit,
    range: Range<usize>,
}

impl AsRef<[u8]> for UnitSlice {
    fn as_ref(&self) -> &[u8] {
        &self.unit.as_bytes()[self.range.clone()]
    }
}
