//! The turns that replies take at collecting older data: a reply has one for all its partitions, so
//! that none waits for memory while it holds some.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::admission::Admitted;
use super::read_cache::ReadCache;
use super::shard::ShardStorage;

/// One reply's turn.
#[derive(Debug)]
pub struct Turn {
    cache: Rc<ReadCache>,
    admitted: RefCell<Option<Admitted>>,
    is_small: bool,
    has_given: Cell<bool>,
    is_exceeded: Cell<bool>,
}

impl ShardStorage {
    /// The memory that the older data of one reply may take, in bytes.
    pub fn turn_bytes_max(&self) -> u64 {
        self.read_cache.collected_max()
    }

    /// Waits until a reply may collect older data that takes so many bytes of memory.
    pub async fn turn_to_read(&self, bytes: u64) -> Turn {
        let cache = Rc::clone(&self.read_cache);
        let admitted = cache.admit(bytes).await;
        Turn {
            admitted: RefCell::new(Some(admitted)),
            is_small: cache.stays_overdrawn().await,
            has_given: Cell::default(),
            is_exceeded: Cell::default(),
            cache,
        }
    }
}

impl Turn {
    /// Whether replies that nobody takes hold too much: then what is collected is little, and
    /// copied.
    pub fn is_small(&self) -> bool {
        self.is_small
    }

    /// Whether there is no more to be collected in it.
    pub fn is_over(&self) -> bool {
        self.is_exceeded.get() || (self.is_small && self.has_given.get())
    }

    /// A read gives something.
    pub(super) fn gives(&self) {
        self.has_given.set(true);
    }

    /// Waits until more may be collected than what it was for: so many bytes, and nothing else.
    pub(super) async fn exceed(&self, bytes: u64) {
        self.is_exceeded.set(true);
        self.admitted.take();
        let admitted = self.cache.admit(bytes).await;
        self.admitted.replace(Some(admitted));
    }
}
