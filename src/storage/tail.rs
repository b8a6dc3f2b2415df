//! The tail of a log in memory: sealed units, readable by offset. Its log's shard alone.
//!
//! Units are contiguous and in order, batches never span two of them, and the oldest go first when
//! the shard's budget is used up. The open unit comes to them when it is full, when much of it is
//! made durable, and when somebody reads much of it. A unit begins at a block's start: where the
//! log's end lay within a block, its first bytes repeat the end of the unit before, the *carry*.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::{Rc, Weak};

use crate::base::ids::Offset;

use super::log::{Appender, Log, State};
use super::reader::ReadRange;
use super::ready::OpenUnit;
use super::unit::SealedUnit;

/// Units are allowed so much in any case: what is being filled and written must not look like a
/// debt of slow consumers.
const OVERDRAFT_BYTES_MIN: usize = 8 << 20;

/// A batch is findable without a walk at least every so many bytes of a unit.
const MARK_INTERVAL_BYTES: usize = 4096;

/// Where batches begin in a unit, sparsely.
#[derive(Clone, Debug, Default)]
pub struct Marks(Vec<(Offset, u32)>);

impl Marks {
    /// Takes note of a batch that begins at `position` of the unit.
    pub fn note(&mut self, base_offset: Offset, position: usize) {
        let last = self.0.last().map(|(_, last)| *last as usize);
        if last.is_none_or(|last| position - last >= MARK_INTERVAL_BYTES) {
            self.0.push((base_offset, position as u32));
        }
    }
}

/// A sealed unit with what it holds.
#[derive(Debug)]
pub struct TailUnit {
    /// The bytes.
    pub unit: SealedUnit,
    /// Base offset of the segment that it belongs to.
    pub segment: Offset,
    /// Where its first byte goes in the segment's file: a multiple of the block.
    pub position: u64,
    /// How many of its first bytes repeat the unit before.
    pub carry: usize,
    /// Its first offset.
    pub base_offset: Offset,
    /// The offset after its last.
    pub next_offset: Offset,
    /// Where its batches begin.
    pub marks: Marks,
    /// Its place in the shard's budget, which it leaves when it is dropped.
    pub place: Place,
}

impl TailUnit {
    fn batches(&self) -> Batches<'_> {
        Batches {
            bytes: self.unit.as_bytes(),
            carry: self.carry,
            marks: &self.marks,
        }
    }
}

/// The batches of a unit, open or sealed.
#[derive(Clone, Copy, Debug)]
pub struct Batches<'a> {
    /// All that the unit holds.
    pub bytes: &'a [u8],
    /// How many of its first bytes repeat the unit before.
    pub carry: usize,
    /// Where batches begin in it.
    pub marks: &'a Marks,
}

impl Batches<'_> {
    /// Where the whole batches of a read are, from the one that holds its first offset on: as many
    /// as fit, but at least one if the read wants that. Empty if none does.
    pub fn find(&self, read: &ReadRange) -> Range<usize> {
        let (bytes, marks) = (self.bytes, &self.marks.0);
        let after = marks.partition_point(|(base, _)| *base <= read.from);
        let mut at = after
            .checked_sub(1)
            .map_or(self.carry, |index| marks[index].1 as usize);
        while at < bytes.len() && batch_next_offset(bytes, at) <= read.from {
            at += batch_bytes(bytes, at);
        }
        let start = at;
        // Far ahead, whole stretches between marks fit: go on from the last mark that does.
        let limit = start.saturating_add(read.bytes_max);
        let fitting = marks
            .partition_point(|(base, position)| *position as usize <= limit && *base < read.upper);
        if let Some((_, position)) = fitting.checked_sub(1).map(|index| marks[index]) {
            at = at.max(position as usize);
        }
        while at < bytes.len() && batch_base_offset(bytes, at) < read.upper {
            let next = at + batch_bytes(bytes, at);
            let first = read.at_least_one && at == start;
            if next > limit && !first {
                break;
            }
            at = next;
        }
        start..at
    }
}

impl State {
    /// Whether `from` is in the tail or in the open unit.
    pub(super) fn is_in_memory(&self, from: Offset) -> bool {
        let oldest = self.tail.front().map(|oldest| oldest.base_offset);
        let open = self.open_unit().map(|open| open.base_offset);
        oldest.or(open).is_some_and(|oldest| oldest <= from)
    }

    /// The unit that is being filled.
    pub(super) fn open_unit(&self) -> Option<&OpenUnit> {
        match &self.appender {
            Appender::Ready(ready) => ready.open.as_ref(),
            Appender::Parked => None,
        }
    }

    /// Shows `take` the batches that a read is to have of the tail, unit by unit, none of them
    /// empty. Returns what it is to have of the open unit behind it; nothing if it ends before.
    pub(super) fn walk_tail(
        &self,
        mut read: ReadRange,
        mut take: impl FnMut(&TailUnit, Range<usize>),
    ) -> Option<Range<usize>> {
        let first = self
            .tail
            .partition_point(|unit| unit.next_offset <= read.from);
        for unit in self.tail.range(first..) {
            let found = unit.batches().find(&read);
            let ends_early = found.end < unit.unit.len();
            if !found.is_empty() {
                read.bytes_max = read.bytes_max.saturating_sub(found.len());
                read.at_least_one = false;
                take(unit, found);
            }
            if ends_early {
                return None;
            }
            read.from = unit.next_offset;
        }
        let open = self.open_unit()?;
        let found = open.batches().find(&read);
        (!found.is_empty()).then_some(found)
    }
}

fn batch_base_offset(bytes: &[u8], at: usize) -> Offset {
    Offset(i64::from_be_bytes(
        bytes[at..at + 8].try_into().expect("eight bytes"),
    ))
}

fn batch_bytes(bytes: &[u8], at: usize) -> usize {
    12 + u32::from_be_bytes(bytes[at + 8..at + 12].try_into().expect("four bytes")) as usize
}

fn batch_next_offset(bytes: &[u8], at: usize) -> Offset {
    let last_delta = i32::from_be_bytes(bytes[at + 23..at + 27].try_into().expect("four bytes"));
    batch_base_offset(bytes, at).plus(i64::from(last_delta) + 1)
}

/// What the tails of a shard's logs keep in memory, and the order in which it goes.
#[derive(Debug)]
pub struct TailBudget {
    bytes_max: usize,
    bytes: Cell<usize>,
    next_ticket: Cell<u64>,
    /// The log of each unit that is kept, the oldest unit first.
    oldest_first: RefCell<BTreeMap<u64, Weak<Log>>>,
    /// No unit with a lower ticket may go: none of them is in its segment.
    from: Cell<u64>,
}

/// The memory of one unit, accounted for as long as this lives.
#[derive(Debug)]
pub struct Place {
    budget: Rc<TailBudget>,
    ticket: u64,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let budget = &self.budget;
        budget.bytes.set(budget.bytes.get() - self.bytes);
        budget.oldest_first.borrow_mut().remove(&self.ticket);
    }
}

impl TailBudget {
    /// Keeps about `bytes_max` bytes. What is not yet in its segment stays beyond it, and so do
    /// units that have left their tail but are still held by replies: see
    /// [`TailBudget::is_overdrawn`].
    pub fn new(bytes_max: usize) -> Rc<Self> {
        Rc::new(Self {
            bytes_max,
            bytes: Cell::new(0),
            next_ticket: Cell::new(0),
            oldest_first: RefCell::default(),
            from: Cell::new(0),
        })
    }

    /// Whether replies that wait for their receivers hold half as much memory again as the tails
    /// may keep, where `live_bytes` is what all units and copies take. Then reads are small,
    /// and copies: slow consumers may not take more. What they hold of the tails already can leave
    /// these later, so that all units together take at most two and a half times what the tails may
    /// keep.
    pub fn is_overdrawn(&self, live_bytes: usize) -> bool {
        let allowed = self.bytes_max.saturating_add(self.bytes_max / 2);
        live_bytes > allowed.max(OVERDRAFT_BYTES_MIN)
    }

    /// Bytes kept now.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Units kept now.
    #[cfg(test)]
    pub fn units(&self) -> usize {
        self.oldest_first.borrow().len()
    }

    /// A place for one more unit of `log`, the youngest.
    pub fn place(self: &Rc<Self>, log: &Rc<Log>, bytes: usize) -> Place {
        let ticket = self.next_ticket.replace(self.next_ticket.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
        self.oldest_first
            .borrow_mut()
            .insert(ticket, Rc::downgrade(log));
        Place {
            budget: Rc::clone(self),
            ticket,
            bytes,
        }
    }

    /// The unit with this place is in its segment now.
    pub fn may_go(&self, place: &Place) {
        self.from.set(self.from.get().min(place.ticket));
    }

    /// Lets logs drop their oldest units until the rest fits.
    pub fn evict(&self) {
        while self.bytes.get() > self.bytes_max {
            let next = {
                let oldest_first = self.oldest_first.borrow();
                let next = oldest_first.range(self.from.get()..).next();
                next.map(|(ticket, log)| (*ticket, log.upgrade()))
            };
            let Some((ticket, log)) = next else { return };
            // What cannot go now is looked at again once its log says so.
            self.from.set(ticket + 1);
            if let Some(log) = log {
                log.drop_oldest_unit();
            }
        }
    }
}
