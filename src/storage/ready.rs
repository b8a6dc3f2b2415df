//! How a log's active segment is held while it is open: the unit that is filled, those that wait
//! for their write, and what of them is durable. Its log's alone.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::clock::TimestampMs;
use crate::base::ids::Offset;
use crate::base::limits::BLOCK_BYTES;
use crate::runtime::Part;

use super::ahead::Ahead;
use super::file::File;
use super::log::Log;
use super::pace::Pace;
use super::segment::Segment;
use super::shard::ShardStorage;
use super::tail::{Batches, Marks, TailUnit};
use super::unit::{SealedUnit, Unit};

/// What the journal holds of a log goes into its segment once it is so much: large writes cost
/// little.
const SETTLE_BYTES: usize = 1 << 20;
/// A write has so many parts at most.
const PARTS_MAX: usize = 64;
/// The smallest unit.
const UNIT_BYTES_MIN: usize = BLOCK_BYTES as usize;
/// A unit grows to this; a larger batch gets a unit of its own.
const UNIT_BYTES_MAX: usize = 1 << 20;
/// One that is filled little by little, over several commits of the journal, grows to this: there
/// may be one for each log.
const SLOW_UNIT_BYTES_MAX: usize = 64 << 10;

/// An active segment that is open for appends.
#[derive(Debug)]
pub(super) struct Ready {
    pub file: Rc<File>,
    /// How far the file is preallocated.
    pub allocated: u64,
    /// How much is preallocated in one go.
    pub pace: Pace,
    /// Which of its blocks are written.
    pub ahead: Ahead,
    pub open: Option<OpenUnit>,
    /// Sealed and not yet on the way to its segment.
    pub queue: VecDeque<Sealed>,
    /// Bytes of batches in `queue`.
    pub queued_bytes: usize,
    /// Bytes appended that are not known to be durable.
    pub pending_bytes: usize,
    /// Whether the journal comes to it by itself.
    pub enlisted: bool,
    /// The count of logs that share the journal in which this one was counted.
    pub journal_count: u64,
    /// The queue is written up to here, however little it is.
    pub due: Offset,
    /// What is on its way, to the segment or into the journal, ends here.
    pub in_flight_to: Offset,
    pub writing: bool,
    pub growing: bool,
    /// It is being closed: appends wait.
    pub parking: bool,
    /// The bytes of the last, partial block, if the last unit is not in the tail: after opening,
    /// and when memory ran short.
    pub carry: Vec<u8>,
    /// Capacity that the next unit gets at least; follows the rate.
    pub unit_bytes: usize,
    /// When the last append came.
    pub used_ms: TimestampMs,
}

/// The unit that is being filled.
#[derive(Debug)]
pub(super) struct OpenUnit {
    pub unit: Unit,
    pub position: u64,
    pub carry: usize,
    pub base_offset: Offset,
    pub marks: Marks,
    pub pending: Pending,
}

/// A unit on its way to the disk.
#[derive(Debug)]
pub(super) struct Sealed {
    pub unit: SealedUnit,
    pub position: u64,
    /// How many of its first bytes repeat the unit before.
    pub carry: usize,
    pub next_offset: Offset,
    pub pending: Pending,
}

/// How much of a unit is durable, by the journal.
#[derive(Debug)]
pub(super) struct Pending {
    /// Its bytes from here on are not known to be durable.
    pub from: usize,
    /// What is on its way into the journal.
    taken: Option<TakenTo>,
    /// What the appends were made from: it keeps their memory accounted for until it is durable.
    pub guards: Vec<Bytes>,
}

/// How far a unit has been taken into the journal.
#[derive(Clone, Copy, Debug)]
struct TakenTo {
    offset: Offset,
    bytes: usize,
    guards: usize,
}

impl Pending {
    /// Of a unit in which nothing is new but what comes behind so many bytes.
    fn new(from: usize) -> Self {
        Self {
            from,
            taken: None,
            guards: Vec::new(),
        }
    }

    /// What goes into the journal now: all that is pending of a unit of so many bytes, which ends
    /// before `next_offset`.
    pub fn take(&mut self, bytes: usize, next_offset: Offset) -> Range<usize> {
        self.taken = Some(TakenTo {
            offset: next_offset,
            bytes,
            guards: self.guards.len(),
        });
        self.from..bytes
    }

    /// All below `durable` is.
    fn became_durable(&mut self, durable: Offset) {
        if let Some(taken) = self.taken.take_if(|taken| taken.offset <= durable) {
            self.from = taken.bytes;
            self.guards.drain(..taken.guards);
        }
    }

    /// Nothing of it is written any more.
    pub fn give_up(&mut self) {
        self.taken = None;
        self.guards.clear();
    }
}

impl OpenUnit {
    /// What it holds, to be read.
    pub fn batches(&self) -> Batches<'_> {
        Batches {
            bytes: self.unit.as_bytes(),
            carry: self.carry,
            marks: &self.marks,
        }
    }

    /// Whether the journal has or gets some of it.
    pub fn was_taken(&self) -> bool {
        self.pending.from > self.carry || self.pending.taken.is_some()
    }

    /// Bytes of batches in it that are not known to be durable.
    pub fn pending_bytes(&self) -> usize {
        self.unit.len() - self.pending.from
    }
}

impl Sealed {
    /// Bytes of batches that only it holds.
    pub fn bytes(&self) -> usize {
        self.unit.len() - self.carry
    }

    /// Bytes of batches in it that are not known to be durable.
    pub fn pending_bytes(&self) -> usize {
        self.unit.len() - self.pending.from
    }
}

/// A write to the segment.
#[derive(Debug)]
pub(super) struct Write {
    /// Whole blocks.
    pub parts: Vec<Part>,
    /// Where they go.
    pub position: u64,
    /// The offset after the last batch in them.
    pub next_offset: Offset,
    /// How many zeros go behind them.
    pub zero_bytes: usize,
    /// Dropped when it has completed.
    pub guards: Vec<Bytes>,
}

impl Ready {
    /// Of a file that holds `size` bytes, the last of them `carry`, and has no room for more.
    pub fn new(file: Rc<File>, size: u64, carry: Vec<u8>, now: TimestampMs) -> Self {
        Self {
            file,
            allocated: size,
            pace: Pace::new(now),
            ahead: Ahead::new(size),
            open: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            pending_bytes: 0,
            enlisted: false,
            journal_count: 0,
            due: Offset(0),
            in_flight_to: Offset(0),
            writing: false,
            growing: false,
            parking: false,
            carry,
            unit_bytes: UNIT_BYTES_MIN,
            used_ms: now,
        }
    }

    /// Begins a unit where the segment ends, with the bytes of the partial block before.
    pub fn begin_unit(
        &mut self,
        shard: &ShardStorage,
        segment: &Segment,
        tail: &VecDeque<TailUnit>,
        base_offset: Offset,
        batch_bytes: usize,
    ) {
        let carry = (segment.size % BLOCK_BYTES) as usize;
        let capacity = self
            .unit_bytes
            .max((carry + batch_bytes).next_power_of_two());
        let mut unit = shard.units.unit(capacity.max(UNIT_BYTES_MIN));
        let before = match tail.back() {
            Some(last) if last.segment == segment.base_offset => last.unit.as_bytes(),
            _ => &self.carry,
        };
        unit.spare(carry)
            .copy_from_slice(&before[before.len() - carry..]);
        unit.commit(carry);
        self.open = Some(OpenUnit {
            unit,
            position: segment.size - carry as u64,
            carry,
            base_offset,
            marks: Marks::default(),
            pending: Pending::new(carry),
        });
    }

    /// A unit was full. Of those that are filled between two commits there are few.
    pub fn grow_unit(&mut self, was_taken: bool) {
        let bytes_max = match was_taken {
            true => SLOW_UNIT_BYTES_MAX,
            false => UNIT_BYTES_MAX,
        };
        self.unit_bytes = (self.unit_bytes * 2).min(bytes_max);
    }

    /// Whether something of it is to go into its segment now.
    pub fn must_write(&self, settled: Offset, by_journal: bool) -> bool {
        (self.pending_bytes > 0 && !by_journal)
            || self.due > settled
            || self.queued_bytes >= SETTLE_BYTES
            || self.queue.len() >= PARTS_MAX
    }

    /// Takes what is to be written next out of the queue: units that follow each other.
    pub fn take_write(&mut self) -> Option<Write> {
        let mut sealed = self.queue.pop_front()?;
        let position = sealed.position;
        let mut write = Write {
            parts: Vec::new(),
            position,
            next_offset: sealed.next_offset,
            zero_bytes: 0,
            guards: Vec::new(),
        };
        let mut end = position;
        loop {
            // A unit repeats the partial block that the one before ends with.
            if let Some(last) = write.parts.last_mut() {
                last.cut(last.bytes() - (end - sealed.position) as usize);
            }
            self.queued_bytes -= sealed.bytes();
            let bytes = sealed.unit.padded_len();
            write.parts.push(Part::new(sealed.unit.for_write(), bytes));
            end = sealed.position + bytes as u64;
            write.next_offset = sealed.next_offset;
            write.guards.append(&mut sealed.pending.guards);
            let fits = |next: &mut Sealed| {
                next.position + next.unit.padded_len() as u64 - position <= UNIT_BYTES_MAX as u64
            };
            match self.queue.pop_front_if(fits) {
                Some(next) if write.parts.len() < PARTS_MAX => sealed = next,
                Some(next) => {
                    self.queue.push_front(next);
                    break;
                }
                None => break,
            }
        }
        write.parts.retain(|part| part.bytes() > 0);
        write.zero_bytes = self.ahead.zeros(position, end - position, self.allocated);
        self.in_flight_to = self.in_flight_to.max(write.next_offset);
        Some(write)
    }

    /// All below `durable` is: nothing of it is pending any more.
    pub fn became_durable(&mut self, durable: Offset) {
        self.pending_bytes = 0;
        if let Some(open) = &mut self.open {
            open.pending.became_durable(durable);
            self.pending_bytes += open.pending_bytes();
        }
        // Durable is a prefix of the log.
        for sealed in self.queue.iter_mut().rev() {
            if sealed.pending_bytes() == 0 {
                break;
            }
            sealed.pending.became_durable(durable);
            if sealed.next_offset <= durable {
                sealed.pending.from = sealed.unit.len();
                sealed.pending.give_up();
            }
            self.pending_bytes += sealed.pending_bytes();
        }
    }

    /// Ends the open unit and puts it into the queue.
    pub fn seal(&mut self, log: &Rc<Log>, segment: Offset, next_offset: Offset) -> TailUnit {
        let open = self.open.take().expect("a unit to seal");
        let unit = open.unit.seal(&log.shard.units);
        if unit.len() <= unit.memory_bytes() / 4 {
            self.unit_bytes = (self.unit_bytes / 2).max(UNIT_BYTES_MIN);
        }
        self.carry = Vec::new();
        let memory_bytes = unit.memory_bytes();
        self.queued_bytes += unit.len() - open.carry;
        self.queue.push_back(Sealed {
            unit: unit.clone(),
            position: open.position,
            carry: open.carry,
            next_offset,
            pending: open.pending,
        });
        TailUnit {
            unit,
            segment,
            position: open.position,
            carry: open.carry,
            base_offset: open.base_offset,
            next_offset,
            marks: open.marks,
            place: log.shard.tails.place(log, memory_bytes),
        }
    }
}
