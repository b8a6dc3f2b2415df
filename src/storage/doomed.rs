//! Files and directories that are deleted and not yet unlinked: they have a name by which nobody
//! finds them, and keep it for `file.delete.delay.ms`, as in Kafka. A shard's own.
//!
//! What is lost of the list, by a crash or a stop, is found by its name at the next start.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::directory::LogDirectory;
use super::error::FileError;
use crate::base::limits::DOOMED_FILES_MAX;

/// What a shard is about to unlink.
#[derive(Debug, Default)]
pub struct Doomed {
    /// The one that is due first on top.
    waiting: RefCell<BinaryHeap<Reverse<(Instant, PathBuf)>>>,
}

impl Doomed {
    /// Has `path` unlinked once `delay` is over, with all in it if it is a directory.
    pub fn add(&self, path: PathBuf, now: Instant, delay: Duration) {
        // A delay beyond what the clock can tell is as good as for ever.
        let due = now.checked_add(delay).unwrap_or(now + FOR_EVER);
        self.waiting.borrow_mut().push(Reverse((due, path)));
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes one that is due, or one before its time if too many wait.
    fn next(&self, now: Instant) -> Option<PathBuf> {
        let mut waiting = self.waiting.borrow_mut();
        let is_crowded = waiting.len() > DOOMED_FILES_MAX;
        let Reverse((due, _)) = waiting.peek()?;
        if *due > now && !is_crowded {
            return None;
        }
        waiting.pop().map(|Reverse((_, path))| path)
    }

    /// Unlinks what is due, one after the other, off the reactor. A failure is told, and leaves the
    /// file to the next start.
    pub async fn unlink_due(&self, directory: &LogDirectory, now: Instant) {
        while let Some(path) = self.next(now) {
            let unlinked = directory.off_reactor(move |directory| unlink(directory, &path));
            if let Err(error) = unlinked.await {
                tracing::error!(%error, "a deleted file is left to the next start");
            }
        }
    }
}

/// A century.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A file or a directory: which one, its name does not say.
fn unlink(directory: &LogDirectory, path: &std::path::Path) -> Result<(), FileError> {
    if path.is_dir() {
        directory.remove_directory(path)
    } else {
        directory.remove_file(path)
    }
}

#[cfg(test)]
mod tests;
