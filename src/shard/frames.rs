//! Buffers for request frames, inside the shard's budget, reused without page faults.
//!
//! A frame is filled on its home shard, becomes [`Bytes`], and may be dropped on any other; the
//! last drop brings the buffer back to its home through a bounded lock-free queue. A buffer kept
//! for reuse still counts as used, and is given up as soon as somebody waits for memory. Nothing
//! here reads a socket.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;

use super::budget::{Acquired, Budget, LargerThanBudget, Notifier, Permit};

/// Frames up to this size are allocated to measure: the allocator serves them without page faults.
const POOLED_FRAME_BYTES_MIN: usize = 16 << 10;
/// Beyond the power of two of each class, so that a batch of that size fits with its request.
const CLASS_SLACK_BYTES: usize = 4 << 10;
/// Classes from 16 KiB to 8 MiB; larger frames are rare and allocated to measure.
const CLASSES: usize = 10;
/// Buffers of one class that are kept for reuse.
const KEPT_FRAMES_MAX: usize = 64;
/// What a frame costs beside its bytes: its counted handle and the allocator's share.
const FRAME_OVERHEAD_BYTES: usize = 128;

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
    bytes: Box<[u8]>,
    /// Dropped with the bytes, which gives their memory back to the budget.
    _permit: Permit,
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
        // The frames keep the queues alive, the budget must not: it would never be dropped.
        let kept = Arc::downgrade(&returns);
        budget.reclaim_with(move || {
            let Some(returns) = kept.upgrade() else {
                return false;
            };
            returns
                .classes
                .iter()
                .rev()
                .any(|class| class.pop().is_some())
        });
        Self {
            budget,
            reserve,
            returns,
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

    /// Waits for a buffer of `length` bytes, its content arbitrary.
    ///
    /// # Errors
    /// If the budget as a whole is smaller.
    pub async fn frame(&self, length: usize) -> Result<Frame, LargerThanBudget> {
        let Some(class) = class_of(length) else {
            return Self::to_measure(&self.budget, length).await;
        };
        let capacity = class_bytes(class);
        if capacity as u64 > self.budget.capacity() {
            return Self::to_measure(&self.budget, length).await;
        }
        let reuse = || self.returns.classes[class].pop();
        let kept = match self.budget.acquire_or(capacity as u64, reuse).await? {
            Acquired::Instead(kept) => kept,
            Acquired::Permit(permit) => Kept {
                bytes: vec![0; capacity].into_boxed_slice(),
                _permit: permit,
            },
        };
        Ok(Frame {
            kept: Some(kept),
            length,
            home: Some((class, self.returns.clone())),
        })
    }

    /// Waits for a small buffer out of the reserve.
    ///
    /// # Errors
    /// If the reserve as a whole is smaller.
    pub async fn reserved_frame(&self, length: usize) -> Result<Frame, LargerThanBudget> {
        Self::to_measure(&self.reserve, length).await
    }

    async fn to_measure(budget: &Budget, length: usize) -> Result<Frame, LargerThanBudget> {
        let permit = budget
            .acquire((length + FRAME_OVERHEAD_BYTES) as u64)
            .await?;
        let bytes = vec![0; length].into_boxed_slice();
        Ok(Frame {
            kept: Some(Kept {
                bytes,
                _permit: permit,
            }),
            length,
            home: None,
        })
    }
}

/// One frame: a buffer and the memory that it takes from the budget.
pub struct Frame {
    /// Empty only while it is dropped.
    kept: Option<Kept>,
    length: usize,
    home: Option<(usize, Arc<Returns>)>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame of {} bytes", self.length)
    }
}

impl Frame {
    /// The whole frame, to fill.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.kept {
            Some(kept) => &mut kept.bytes[..self.length],
            None => &mut [],
        }
    }

    /// The filled frame, immutable from now on; its last drop gives the buffer back.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Frame {
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
