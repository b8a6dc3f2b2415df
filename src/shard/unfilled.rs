//! Frames of which the peers still owe something, while these are waited for. The shard's alone.
//!
//! The memory of a frame is taken when it is announced, so that it is received without a copy. But
//! anybody can announce a request of 100 MiB and then send nothing, or a byte a second. So while
//! the peer is waited for, the memory is only lent: whoever needs some takes it back on the spot.
//!
//! - Where little has come, that moves into a small buffer with some room, out of a budget of its
//!   own. Once the room is filled, the frame gets in line for memory again.
//! - Where much has come, copying it costs more than it brings. The frame is given up, and its
//!   connection with it, if it comes too slowly.
//! - Otherwise it stays as it is, and whoever needs memory waits.
//!
//! So what peers can hold without memory being in use is in proportion to what they send.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::budget::Budget;
use super::frames::{Frame, Source, Whole, bytes_to_measure};

/// So much of a frame is little, or a part of it, whichever is more.
const LITTLE_BYTES: usize = 16 << 10;
const LITTLE_PART: usize = 16;
/// Room in a small buffer beyond what has come.
const ROOM_BYTES: usize = 2 << 10;
/// A frame is too slow if it is not whole after this time, and at its pace will not be within that
/// of [`WHOLE_WITHIN`].
const PATIENCE: Duration = Duration::from_millis(500);
const WHOLE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Unfilled {
    /// None once it was given up.
    frame: Option<Frame>,
    filled: usize,
    whole: Whole,
    /// Whoever waits for the peer, to be told that the frame was given up.
    waiting: Option<Waker>,
}

impl Unfilled {
    fn is_from(&self, source: Source) -> bool {
        let frame = self.frame.as_ref();
        frame.is_some_and(|frame| frame.source() == source)
    }

    fn small_length(&self) -> usize {
        self.filled + ROOM_BYTES
    }

    /// Whether a small buffer for what has come frees most of its memory.
    fn is_little(&self) -> bool {
        let length = self.whole.length;
        self.filled <= LITTLE_BYTES.max(length / LITTLE_PART) && self.small_length() <= length / 2
    }

    fn is_slow(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.whole.since);
        let needed = age.as_micros() * self.whole.length as u128;
        age >= PATIENCE && needed > WHOLE_WITHIN.as_micros() * self.filled as u128
    }
}

/// The frames of one shard that are waited for. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct UnfilledFrames {
    entries: Rc<RefCell<Slab<Unfilled>>>,
    /// What the small buffers take.
    parking: Budget,
}

impl UnfilledFrames {
    pub(super) fn new(parking: Budget) -> Self {
        Self {
            entries: Rc::default(),
            parking,
        }
    }

    pub(super) fn set_aside(&self, frame: Frame, filled: usize, whole: Whole) -> SetAside {
        debug_assert!(filled < frame.length() && frame.length() <= whole.length);
        let key = self.entries.borrow_mut().insert(Unfilled {
            frame: Some(frame),
            filled,
            whole,
            waiting: None,
        });
        SetAside {
            frames: self.clone(),
            key,
        }
    }

    /// Takes one frame's memory of this source back; false if there is none to take.
    pub(super) fn give_way(&self, source: Source) -> bool {
        self.park_one(source) || self.give_up(source)
    }

    /// The same, where there is none to copy.
    pub(super) fn give_up(&self, source: Source) -> bool {
        self.give_up_one(source) || self.has_little(source) && self.give_up_one(Source::Parking)
    }

    fn has_little(&self, source: Source) -> bool {
        let entries = self.entries.borrow();
        let mut all = entries.iter();
        all.any(|(_, entry)| entry.is_from(source) && entry.is_little())
    }

    /// Moves what has come of one frame into a small buffer, which frees its memory; false if there
    /// is none of which little has come, or no room for such a buffer.
    pub(super) fn park_one(&self, source: Source) -> bool {
        let room = self.parking.capacity() - self.parking.used();
        let mut entries = self.entries.borrow_mut();
        let little = entries
            .iter_mut()
            .map(|(_, entry)| entry)
            .filter(|entry| entry.is_from(source) && entry.is_little())
            .filter(|entry| bytes_to_measure(entry.small_length()) <= room);
        let Some(entry) = little.max_by_key(|entry| entry.whole.length) else {
            return false;
        };
        let Some(mut small) = Frame::parked(&self.parking, entry.small_length()) else {
            return false;
        };
        if let Some(frame) = &entry.frame {
            small.begin_with(frame.come(entry.filled));
        }
        entry.frame = Some(small);
        true
    }

    fn give_up_one(&self, source: Source) -> bool {
        let now = Instant::now();
        let mut entries = self.entries.borrow_mut();
        let slow = entries
            .iter_mut()
            .map(|(_, entry)| entry)
            .filter(|entry| entry.is_from(source) && entry.is_slow(now));
        let Some(entry) = slow.max_by_key(|entry| entry.whole.length) else {
            return false;
        };
        if let Some(waker) = entry.waiting.take() {
            waker.wake();
        }
        entry.frame.take().is_some()
    }
}

/// A frame that was set aside. Dropped, it is given back to the budget.
#[derive(Debug)]
pub struct SetAside {
    frames: UnfilledFrames,
    key: usize,
}

impl SetAside {
    /// Waits until the frame was given up, for ever if it is not.
    pub async fn given_up(&self) {
        poll_fn(|context| {
            let mut entries = self.frames.entries.borrow_mut();
            match entries.get_mut(self.key) {
                Some(entry) if entry.frame.is_some() => {
                    entry.waiting = Some(context.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    /// The frame, to go on with: as it was; or a shorter one with what has come, to be exchanged
    /// once it is full; or none if it was given up.
    pub fn take(self) -> Option<Frame> {
        let mut entries = self.frames.entries.borrow_mut();
        entries
            .get_mut(self.key)
            .and_then(|entry| entry.frame.take())
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        let entry = self.frames.entries.borrow_mut().try_remove(self.key);
        drop(entry);
    }
}
