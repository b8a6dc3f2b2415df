//! A log directory as one shard uses it: the directory, and the shard's journal in it. The shard's
//! alone; every log holds the site that it is in, so that nothing is looked up to append or read.

use std::rc::Rc;

use super::directory::LogDirectory;
use super::journal::Journal;
use super::shard::StorageLimits;
use crate::runtime::{Permit, Semaphore, TaskQueue};

/// Where logs of a shard are.
#[derive(Debug)]
pub(super) struct Site {
    pub directory: LogDirectory,
    pub journal: Rc<Journal>,
    writes: Semaphore,
}

impl Site {
    pub fn new(directory: &LogDirectory, limits: StorageLimits, queue: TaskQueue) -> Rc<Self> {
        Rc::new(Self {
            directory: directory.clone(),
            journal: Journal::new(directory.clone(), limits.journal, queue),
            writes: Semaphore::new(limits.writes_max),
        })
    }

    /// Held while a write is in flight: those of a slow disk do not keep others waiting.
    pub async fn write_permit(&self) -> Permit<'_> {
        self.writes
            .acquire_permit(1)
            .await
            .expect("the semaphore is never closed")
    }
}
