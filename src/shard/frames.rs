//! Buffers for request frames, inside the shard's budget, reused without page faults.
//!
//! A frame is filled on its home shard, becomes [`Bytes`], and may be dropped on any other; the
//! last drop brings the buffer back to its home through a bounded lock-free queue. A buffer kept
//! for reuse still counts as used, and is given up as soon as somebody waits for memory; so is that
//! of a frame whose peer keeps the broker waiting, see [`super::unfilled`]. Nothing here reads a
//! socket.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;

use super::budget::{Acquired, Budget, LargerThanBudget, Notifier, Permit};
use super::unfilled::{SetAside, UnfilledFrames};

/// Frames up to this size are allocated to measure: the allocator serves them without page faults.
const POOLED_FRAME_BYTES_MIN: usize = 16 << 10;
/// Beyond the power of two of each class, so that a batch of that size fits with its request.
const CLASS_SLACK_BYTES: usize = 4 << 10;
/// Classes from 16 KiB to 8 MiB; larger frames are rare and allocated to measure.
const CLASSES: usize = 10;
/// Buffers of one class that are kept for reuse.
const KEPT_FRAMES_MAX: usize = 64;
/// Beside the reserve, so large a part of it may be what has come of frames that had to give way.
const PARKING_SHARE: u64 = 4;
/// What a frame costs beside its bytes: its counted handle and the allocator's share.
const FRAME_OVERHEAD_BYTES: usize = 128;
/// New memory is made zeros in pieces, at least so large, just ahead of what comes: whoever only
/// announces a request has no time spent on it.
const ZEROED_AHEAD_BYTES: usize = 64 << 10;

/// The longest frame, in bytes, that a budget of `budget_bytes` can ever provide.
pub const fn longest_frame(budget_bytes: u64) -> u64 {
    budget_bytes.saturating_sub(FRAME_OVERHEAD_BYTES as u64)
}

const fn class_bytes(class: usize) -> usize {
    (POOLED_FRAME_BYTES_MIN << class) + CLASS_SLACK_BYTES
}

/// The smallest class whose buffers hold `length` bytes.
fn class_of(length: usize) -> Option<usize> {
    if length <= POOLED_FRAME_BYTES_MIN / 2 {
        return None;
    }
    (0..CLASSES).find(|class| length <= class_bytes(*class))
}

struct Kept {
    /// Its capacity is within what the permit stands for, its length what was ever written of it.
    bytes: Vec<u8>,
    /// Dropped with the bytes, which gives their memory back to the budget.
    _permit: Permit,
}

impl Kept {
    #[inline]
    fn new(capacity: usize, permit: Permit) -> Self {
        let bytes = if capacity <= ZEROED_AHEAD_BYTES {
            vec![0; capacity]
        } else {
            Vec::with_capacity(capacity)
        };
        Self {
            bytes,
            _permit: permit,
        }
    }

    #[cold]
    fn make_zeros(&mut self, length: usize) {
        debug_assert!(length <= self.bytes.capacity(), "it would move");
        self.bytes.resize(length, 0);
    }
}

/// What comes back from other shards; shared with every frame in use.
struct Returns {
    classes: Vec<ArrayQueue<Kept>>,
    notifier: Notifier,
}

/// A shard's frame buffers. Clones share them.
#[derive(Clone)]
pub struct Frames {
    budget: Budget,
    reserve: Budget,
    returns: Arc<Returns>,
    unfilled: UnfilledFrames,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frames: {:?}; reserve: {:?}", self.budget, self.reserve)
    }
}

impl Frames {
    /// Frame buffers out of `budget`; small requests without records draw on `reserve` instead, so
    /// that a flood of records never keeps a heartbeat out.
    pub fn new(budget: Budget, reserve: Budget) -> Self {
        let returns = Arc::new(Returns {
            classes: (0..CLASSES)
                .map(|_| ArrayQueue::new(KEPT_FRAMES_MAX))
                .collect(),
            notifier: budget.notifier(),
        });
        let unfilled = UnfilledFrames::new(Budget::new(reserve.capacity() / PARKING_SHARE));
        // The frames keep the queues alive, the budget must not: it would never be dropped.
        let kept = Arc::downgrade(&returns);
        let of_records = unfilled.clone();
        budget.reclaim_with(move || {
            let free_one = |returns: Arc<Returns>| {
                let mut largest_first = returns.classes.iter().rev();
                largest_first.any(|class| class.pop().is_some())
            };
            // What only waits for its peer goes first: clients that send have buffers at hand.
            of_records.park_one(Source::Budget)
                || kept.upgrade().is_some_and(free_one)
                || of_records.give_up(Source::Budget)
        });
        let of_reserve = unfilled.clone();
        reserve.reclaim_with(move || of_reserve.give_way(Source::Reserve));
        Self {
            budget,
            reserve,
            returns,
            unfilled,
        }
    }

    /// The budget that frames are taken from.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The budget of small requests without records.
    pub fn reserve(&self) -> &Budget {
        &self.reserve
    }

    /// The longest frame that [`Frames::frame`] can ever provide, in bytes.
    pub fn frame_bytes_max(&self) -> u64 {
        longest_frame(self.budget.capacity())
    }

    /// Waits for a buffer of `length` bytes.
    ///
    /// # Errors
    /// If the budget as a whole is smaller.
    pub async fn frame(&self, length: usize) -> Result<Frame, LargerThanBudget> {
        let Some(class) = class_of(length) else {
            return self.to_measure(Source::Budget, length).await;
        };
        let capacity = class_bytes(class);
        if capacity as u64 > self.budget.capacity() {
            return self.to_measure(Source::Budget, length).await;
        }
        let reuse = || self.returns.classes[class].pop();
        let kept = match self.budget.acquire_or(capacity as u64, reuse).await? {
            Acquired::Instead(kept) => kept,
            Acquired::Permit(permit) => Kept::new(capacity, permit),
        };
        Ok(Frame {
            kept: Some(kept),
            length,
            source: Source::Budget,
            home: Some((class, self.returns.clone())),
        })
    }

    /// Waits for a small buffer out of the reserve.
    ///
    /// # Errors
    /// If the reserve as a whole is smaller.
    pub async fn reserved_frame(&self, length: usize) -> Result<Frame, LargerThanBudget> {
        self.to_measure(Source::Reserve, length).await
    }

    /// Keeps a frame while its peer is waited for, and nothing has come of it that is not among its
    /// first `filled` bytes. Whoever needs memory meanwhile takes that of this frame.
    pub fn set_aside(&self, frame: Frame, filled: usize, whole: Whole) -> SetAside {
        self.unfilled.set_aside(frame, filled, whole)
    }

    /// Has whoever waits for memory look again for frames that have to give way: some do only after
    /// a while.
    pub fn look_again(&self) {
        for budget in [&self.budget, &self.reserve] {
            if budget.is_awaited() {
                budget.notifier().notify();
            }
        }
    }

    async fn to_measure(&self, source: Source, length: usize) -> Result<Frame, LargerThanBudget> {
        let budget = match source {
            Source::Budget => &self.budget,
            _ => &self.reserve,
        };
        let permit = budget.acquire(bytes_to_measure(length)).await?;
        Ok(Frame::to_measure(source, length, permit))
    }
}

/// What a frame that is allocated to measure takes of a budget.
pub(super) fn bytes_to_measure(length: usize) -> u64 {
    (length + FRAME_OVERHEAD_BYTES) as u64
}

/// Where the memory of a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Budget,
    Reserve,
    /// It is what has come of a frame that had to give way.
    Parking,
}

/// What a frame is to become.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    /// Its length then.
    pub length: usize,
    /// Since when its peer could have sent all of it.
    pub since: Instant,
}

/// One frame: a buffer and the memory that it takes from the budget.
pub struct Frame {
    /// Empty only while it is dropped.
    kept: Option<Kept>,
    length: usize,
    source: Source,
    home: Option<(usize, Arc<Returns>)>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame of {} bytes", self.length)
    }
}

impl Frame {
    #[inline]
    fn to_measure(source: Source, length: usize, permit: Permit) -> Self {
        Self {
            kept: Some(Kept::new(length, permit)),
            length,
            source,
            home: None,
        }
    }

    /// A small frame for what has come of another one, if there is room for it.
    pub(super) fn parked(parking: &Budget, length: usize) -> Option<Self> {
        let permit = parking.try_acquire(bytes_to_measure(length))?;
        Some(Self::to_measure(Source::Parking, length, permit))
    }

    /// Its bytes. Fewer than those of the request that it is for, if it had to give way.
    pub fn length(&self) -> usize {
        self.length
    }

    pub(super) fn source(&self) -> Source {
        self.source
    }

    /// Puts `come` at its beginning.
    ///
    /// # Panics
    /// If that is more than the frame.
    pub fn begin_with(&mut self, come: &[u8]) {
        assert!(come.len() <= self.length, "a frame holds what it is for");
        if let Some(kept) = &mut self.kept {
            match kept.bytes.get_mut(..come.len()) {
                Some(used) => used.copy_from_slice(come),
                None => {
                    kept.bytes.clear();
                    kept.bytes.extend_from_slice(come);
                }
            }
        }
    }

    /// Its first `filled` bytes, which were filled before.
    pub fn come(&self, filled: usize) -> &[u8] {
        match &self.kept {
            Some(kept) => &kept.bytes[..filled],
            None => &[],
        }
    }

    /// Room to fill behind the first `filled` bytes, which were filled before, its content
    /// arbitrary: not always all that is left, but some of it.
    #[inline]
    pub fn room(&mut self, filled: usize) -> &mut [u8] {
        let Some(kept) = &mut self.kept else {
            return &mut [];
        };
        let wanted = self.length.min(filled + ZEROED_AHEAD_BYTES);
        if kept.bytes.len() < wanted {
            kept.make_zeros(self.length.min(wanted.max(2 * filled)));
        }
        let end = kept.bytes.len().min(self.length);
        &mut kept.bytes[filled..end]
    }

    /// The filled frame, immutable from now on; its last drop gives the buffer back.
    ///
    /// # Panics
    /// If it is not filled.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Frame {
    /// All of it, once it is filled.
    fn as_ref(&self) -> &[u8] {
        match &self.kept {
            Some(kept) => &kept.bytes[..self.length],
            None => &[],
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let (Some(kept), Some((class, returns))) = (self.kept.take(), &self.home) {
            // A full queue hands the buffer back, and it is freed here.
            let _freed = returns.classes[*class].push(kept);
            // Whoever waits reclaims it; the look at the flag comes after the push, theirs at the
            // queue after they set the flag, so one of the two sees the other.
            returns.notifier.notify();
        }
    }
}
