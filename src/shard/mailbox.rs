//! Messages between shards: every shard has one inbox a mesh, every pair of shards a lane into it.
//!
//! Messages on one lane arrive in the order in which they were sent, also those of a shard to
//! itself. A lane holds a bounded number of messages; past it the sender waits, in turn, and other
//! lanes are not affected. The receiving loop handles one message after the other and never awaits
//! a handler, so no two shards can wait for each other here: a handler that has to wait spawns, and
//! its answer travels by [`super::reply`].
//!
//! The inbox is one unbounded lock-free queue, its bound kept by the lanes, so an idle mesh of many
//! shards takes no memory: a ring a pair would take its whole capacity for each of the shards
//! squared. A message costs a wake across cores only when the receiver sleeps.

use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;
use crossbeam_utils::CachePadded;

use super::bell::Bell;
use super::line::Line;
use crate::base::ids::ShardId;
use crate::runtime::yield_now;

/// Messages handled in one go before the loop gives way to the reactor.
const MESSAGES_BEFORE_YIELD_MAX: usize = 256;

/// The receiving shard takes no more messages; this one comes back.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the mailbox is closed")]
pub struct Closed<M>(pub M);

impl<M> fmt::Debug for Closed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed")
    }
}

/// Why a message could not be sent at once; it comes back.
#[derive(PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<M> {
    /// The lane holds as many messages as it may, or other tasks wait for room.
    #[error("the mailbox is full")]
    Full(M),
    /// The receiving shard takes no more messages.
    #[error("the mailbox is closed")]
    Closed(M),
}

impl<M> fmt::Debug for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
        })
    }
}

/// What one shard has sent to another and that one has not taken yet.
#[derive(Debug, Default)]
struct Lane {
    in_flight: AtomicUsize,
    room: Bell,
}

struct Inbox<M> {
    messages: SegQueue<(ShardId, M)>,
    receiver: CachePadded<Bell>,
    is_closed: AtomicBool,
    /// By the sending shard.
    lanes: Box<[CachePadded<Lane>]>,
}

impl<M> Inbox<M> {
    fn new(shards: u16) -> Self {
        Self {
            messages: SegQueue::new(),
            receiver: CachePadded::default(),
            is_closed: AtomicBool::new(false),
            lanes: (0..shards).map(|_| CachePadded::default()).collect(),
        }
    }

    fn lane(&self, from: ShardId) -> &Lane {
        &self.lanes[usize::from(from.0)]
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.drop_messages();
        self.receiver.ring();
        for lane in &self.lanes {
            lane.room.ring();
        }
    }

    /// Drops what nobody will handle, so that those who await the answers hear of it.
    fn drop_messages(&self) {
        while self.messages.pop().is_some() {}
    }

    fn push(&self, from: ShardId, message: M) {
        self.messages.push((from, message));
        self.receiver.ring();
        // A close between the look at the flag and the push has not seen this message.
        if self.is_closed() {
            self.drop_messages();
        }
    }
}

/// One shard's end of a mesh, made before the shards run and moved to its own.
pub struct MailboxEnd<M> {
    shard: ShardId,
    inboxes: Arc<[Inbox<M>]>,
    messages_max: usize,
}

impl<M> fmt::Debug for MailboxEnd<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mailbox end of shard {}", self.shard)
    }
}

/// A full mesh between `shards` shards, in which each lane holds up to `messages_max` messages. The
/// ends come in the order of the shards.
///
/// # Panics
/// If a lane could hold no message.
pub fn mesh<M: Send>(shards: u16, messages_max: usize) -> Vec<MailboxEnd<M>> {
    assert!(messages_max > 0, "a lane holds at least one message");
    let inboxes: Arc<[Inbox<M>]> = (0..shards).map(|_| Inbox::new(shards)).collect();
    let end = |shard| MailboxEnd {
        shard: ShardId(shard),
        inboxes: inboxes.clone(),
        messages_max,
    };
    (0..shards).map(end).collect()
}

impl<M: Send> MailboxEnd<M> {
    /// Opens it on its shard: the sending half for every task that wants one, and the receiving
    /// half for the one loop.
    pub fn open(self) -> (Mailboxes<M>, Receiver<M>) {
        let lines = (0..self.inboxes.len()).map(|_| Line::default()).collect();
        let receiver = Receiver {
            shard: self.shard,
            inboxes: self.inboxes.clone(),
            messages_max: self.messages_max,
        };
        let mailboxes = Mailboxes {
            shard: self.shard,
            inboxes: self.inboxes,
            messages_max: self.messages_max,
            lines,
        };
        (mailboxes, receiver)
    }
}

/// Sends messages from this shard to any shard, itself included. Clones share it.
pub struct Mailboxes<M> {
    shard: ShardId,
    inboxes: Arc<[Inbox<M>]>,
    messages_max: usize,
    /// The tasks of this shard that wait for room, by the receiving shard.
    lines: Rc<[Line]>,
}

impl<M> Clone for Mailboxes<M> {
    fn clone(&self) -> Self {
        Self {
            shard: self.shard,
            inboxes: self.inboxes.clone(),
            messages_max: self.messages_max,
            lines: self.lines.clone(),
        }
    }
}

impl<M> fmt::Debug for Mailboxes<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mailboxes of shard {}", self.shard)
    }
}

impl<M: Send> Mailboxes<M> {
    /// The sending shard: the one that runs the caller.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.inboxes.len() as u16
    }

    /// Messages to `to` that it has not taken yet.
    pub fn in_flight(&self, to: ShardId) -> usize {
        self.lane(to).in_flight.load(Ordering::Relaxed)
    }

    /// Sends at once, or not at all.
    ///
    /// # Errors
    /// If the lane is full, somebody waits for room in it, or the receiver has closed.
    pub fn try_send(&self, to: ShardId, message: M) -> Result<(), TrySendError<M>> {
        if self.inbox(to).is_closed() {
            return Err(TrySendError::Closed(message));
        }
        if !self.line(to).is_empty() || self.take_room(to).is_none() {
            return Err(TrySendError::Full(message));
        }
        self.inbox(to).push(self.shard, message);
        Ok(())
    }

    /// Sends, waiting for room behind the tasks that came before. Dropped while it waits, it sends
    /// nothing.
    ///
    /// # Errors
    /// If the receiver has closed; the message comes back.
    pub async fn send(&self, to: ShardId, message: M) -> Result<(), Closed<M>> {
        let message = match self.try_send(to, message) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(message)) => return Err(Closed(message)),
            Err(TrySendError::Full(message)) => message,
        };
        let _turn = self.line(to).turn().await;
        let room = &self.lane(to).room;
        let is_open = poll_fn(|context| room.poll(context, || self.room_or_end(to))).await;
        if !is_open {
            return Err(Closed(message));
        }
        self.inbox(to).push(self.shard, message);
        Ok(())
    }

    fn inbox(&self, to: ShardId) -> &Inbox<M> {
        &self.inboxes[usize::from(to.0)]
    }

    fn lane(&self, to: ShardId) -> &Lane {
        self.inbox(to).lane(self.shard)
    }

    fn line(&self, to: ShardId) -> &Line {
        &self.lines[usize::from(to.0)]
    }

    /// Reserves room for one message. Only this shard adds to its lanes.
    fn take_room(&self, to: ShardId) -> Option<()> {
        let in_flight = &self.lane(to).in_flight;
        if in_flight.load(Ordering::SeqCst) >= self.messages_max {
            return None;
        }
        in_flight.fetch_add(1, Ordering::SeqCst);
        Some(())
    }

    /// Whether room was reserved, or the receiver closed instead.
    fn room_or_end(&self, to: ShardId) -> Option<bool> {
        if self.inbox(to).is_closed() {
            return Some(false);
        }
        self.take_room(to).map(|()| true)
    }
}

/// Takes the messages to one shard. Dropping it closes the mailbox.
pub struct Receiver<M> {
    shard: ShardId,
    inboxes: Arc<[Inbox<M>]>,
    messages_max: usize,
}

impl<M> fmt::Debug for Receiver<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mailbox of shard {}", self.shard)
    }
}

impl<M> Receiver<M> {
    fn inbox(&self) -> &Inbox<M> {
        &self.inboxes[usize::from(self.shard.0)]
    }

    /// Closes this shard's mailbox from another task of it: the loop handles nothing more and ends,
    /// senders get their messages back.
    pub fn closer(&self) -> Closer<M> {
        Closer {
            shard: self.shard,
            inboxes: self.inboxes.clone(),
        }
    }

    /// The loop: calls `handle` for each message with the shard that sent it, one after the other,
    /// until the mailbox is closed.
    pub async fn run(self, mut handle: impl FnMut(ShardId, M)) {
        // Room is given back in batches: a lane's counter is a cache line of two cores.
        let batch_max = (self.messages_max / 4).clamp(1, MESSAGES_BEFORE_YIELD_MAX);
        let mut taken = vec![0; self.inboxes.len()];
        loop {
            let mut handled = 0;
            while handled < MESSAGES_BEFORE_YIELD_MAX
                && let Some((from, message)) = self.inbox().messages.pop()
            {
                let count: &mut usize = &mut taken[usize::from(from.0)];
                *count += 1;
                if *count >= batch_max {
                    self.give_back(from, std::mem::take(count));
                }
                handled += 1;
                handle(from, message);
            }
            for (from, count) in taken
                .iter_mut()
                .enumerate()
                .filter(|(_, count)| **count > 0)
            {
                self.give_back(ShardId(from as u16), std::mem::take(count));
            }
            if handled == MESSAGES_BEFORE_YIELD_MAX {
                yield_now().await;
            } else if !self.arrival().await {
                return;
            }
        }
    }

    fn give_back(&self, from: ShardId, count: usize) {
        let lane = self.inbox().lane(from);
        lane.in_flight.fetch_sub(count, Ordering::SeqCst);
        lane.room.ring();
    }

    /// Waits for a message; false if the mailbox was closed instead.
    async fn arrival(&self) -> bool {
        let inbox = self.inbox();
        let arrived = || match inbox.is_closed() {
            true => Some(false),
            false => (!inbox.messages.is_empty()).then_some(true),
        };
        poll_fn(|context| inbox.receiver.poll(context, arrived)).await
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        self.inbox().close();
    }
}

/// Closes a mailbox; see [`Receiver::closer`].
pub struct Closer<M> {
    shard: ShardId,
    inboxes: Arc<[Inbox<M>]>,
}

impl<M> fmt::Debug for Closer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "closer of the mailbox of shard {}", self.shard)
    }
}

impl<M> Closer<M> {
    /// Closes it: messages not handled yet are dropped, and with them their reply senders.
    pub fn close(&self) {
        self.inboxes[usize::from(self.shard.0)].close();
    }
}
