//! The memory that a shard may hand out, in bytes.
//!
//! A [`Budget`] belongs to one shard: only its tasks acquire. A [`Permit`] may be dropped on any
//! shard, usually with the last reference to the bytes that it stands for. Whoever asks first is
//! served first, so a large frame is never starved by small ones behind it. Nothing here allocates
//! the memory itself.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bell::Bell;
use super::line::Line;

/// More was asked for than the whole budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are more than the budget of {capacity} bytes")]
pub struct LargerThanBudget {
    /// What was asked for.
    pub bytes: u64,
    /// The whole budget.
    pub capacity: u64,
}

/// What the shard and the holders of its permits share.
#[derive(Debug)]
struct Account {
    capacity: u64,
    used: AtomicU64,
    first_in_line: Bell,
}

impl Account {
    fn try_take(&self, bytes: u64) -> bool {
        let take = |used: u64| {
            let after = used.checked_add(bytes)?;
            (after <= self.capacity).then_some(after)
        };
        let ordering = Ordering::SeqCst;
        self.used.fetch_update(ordering, ordering, take).is_ok()
    }

    fn release(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::SeqCst);
        debug_assert!(before >= bytes, "more was released than was taken");
        self.first_in_line.ring();
    }
}

/// Gives back one thing that is not in use, or comes closer to that; false if there is none.
type Reclaim = Box<dyn Fn() -> bool>;

/// What an acquisition got.
#[derive(Debug)]
pub(super) enum Acquired<T> {
    /// The bytes that were asked for.
    Permit(Permit),
    /// Something that made them unnecessary.
    Instead(T),
}

struct Home {
    account: Arc<Account>,
    line: Line,
    reclaim: RefCell<Option<Reclaim>>,
}

/// A shard's budget. Clones share it.
#[derive(Clone)]
pub struct Budget {
    home: Rc<Home>,
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.used(), self.capacity())
    }
}

impl Budget {
    /// A budget of `capacity` bytes, all of them free.
    pub fn new(capacity: u64) -> Self {
        let account = Account {
            capacity,
            used: AtomicU64::new(0),
            first_in_line: Bell::default(),
        };
        Self {
            home: Rc::new(Home {
                account: Arc::new(account),
                line: Line::default(),
                reclaim: RefCell::new(None),
            }),
        }
    }

    /// The whole budget in bytes.
    pub fn capacity(&self) -> u64 {
        self.home.account.capacity
    }

    /// The bytes that are handed out, wherever they are, and those kept for reuse.
    pub fn used(&self) -> u64 {
        self.home.account.used.load(Ordering::Relaxed)
    }

    /// Whether a task waits for bytes.
    pub fn is_awaited(&self) -> bool {
        !self.home.line.is_empty()
    }

    /// Takes `bytes` if they are free and nobody waits for them.
    pub fn try_acquire(&self, bytes: u64) -> Option<Permit> {
        (self.home.line.is_empty() && self.try_take(bytes)).then(|| self.permit(bytes))
    }

    /// Waits until `bytes` are free and everybody who came before has been served. May be dropped
    /// at any time, which takes nothing.
    ///
    /// # Errors
    /// At once, if the whole budget is smaller than that.
    pub async fn acquire(&self, bytes: u64) -> Result<Permit, LargerThanBudget> {
        match self.acquire_or(bytes, || None::<Infallible>).await? {
            Acquired::Permit(permit) => Ok(permit),
            Acquired::Instead(never) => match never {},
        }
    }

    /// As [`Budget::acquire`], but whoever is first in line takes what `instead` finds, if it does.
    pub(super) async fn acquire_or<T>(
        &self,
        bytes: u64,
        instead: impl Fn() -> Option<T>,
    ) -> Result<Acquired<T>, LargerThanBudget> {
        let capacity = self.capacity();
        if bytes > capacity {
            return Err(LargerThanBudget { bytes, capacity });
        }
        let take = || {
            loop {
                if let Some(found) = instead() {
                    return Some(Acquired::Instead(found));
                }
                if self.home.account.try_take(bytes) {
                    return Some(Acquired::Permit(self.permit(bytes)));
                }
                if !self.reclaim() {
                    return None;
                }
            }
        };
        if self.home.line.is_empty()
            && let Some(acquired) = take()
        {
            return Ok(acquired);
        }
        let _turn = self.home.line.turn().await;
        let bell = &self.home.account.first_in_line;
        Ok(poll_fn(|context| bell.poll(context, take)).await)
    }

    /// Has `reclaim` called, while it returns true, before a task waits: it drops the permit of one
    /// thing that is kept for reuse, or makes one fit for that.
    pub(super) fn reclaim_with(&self, reclaim: impl Fn() -> bool + 'static) {
        *self.home.reclaim.borrow_mut() = Some(Box::new(reclaim));
    }

    /// Tells the first in line that there may be something to reclaim.
    pub(super) fn notifier(&self) -> Notifier {
        Notifier(self.home.account.clone())
    }

    fn permit(&self, bytes: u64) -> Permit {
        let account = self.home.account.clone();
        Permit { account, bytes }
    }

    fn try_take(&self, bytes: u64) -> bool {
        while !self.home.account.try_take(bytes) {
            if !self.reclaim() {
                return false;
            }
        }
        true
    }

    fn reclaim(&self) -> bool {
        let reclaim = self.home.reclaim.borrow();
        reclaim.as_ref().is_some_and(|reclaim| reclaim())
    }
}

/// Wakes the first in line of a budget. Any shard.
#[derive(Clone, Debug)]
pub(super) struct Notifier(Arc<Account>);

impl Notifier {
    pub(super) fn notify(&self) {
        self.0.first_in_line.ring();
    }
}

/// Bytes of a budget, given back when it is dropped, on whatever shard.
#[derive(Debug)]
pub struct Permit {
    account: Arc<Account>,
    bytes: u64,
}

impl Permit {
    /// What it stands for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back all but `bytes`.
    ///
    /// # Panics
    /// If it stands for less.
    pub fn shrink_to(&mut self, bytes: u64) {
        assert!(bytes <= self.bytes, "a permit only shrinks");
        self.account.release(self.bytes - bytes);
        self.bytes = bytes;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.account.release(self.bytes);
    }
}
