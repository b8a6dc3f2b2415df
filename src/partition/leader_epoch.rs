//! Where each leader's reign over a partition began, and the file that keeps it. The shard that
//! owns the partition owns it; it does no I/O.
//!
//! Followers and consumers compare their history with the leader's through it (KIP-101, KIP-279,
//! KIP-320). An epoch stands here from its first batch on, never before. The rules are those of
//! Kafka's `LeaderEpochFileCache`; the file is Kafka's `leader-epoch-checkpoint`.

use std::fmt::Write;

use crate::base::ids::{LeaderEpoch, Offset};

const CHECKPOINT_VERSION: &str = "0";

/// The first offset of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The offset of its first batch; after the log's start has moved into it, the log's start.
    pub start_offset: Offset,
}

/// Where an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest known epoch up to the one asked for.
    pub epoch: LeaderEpoch,
    /// The offset after its last batch.
    pub end_offset: Offset,
}

/// The epochs of one partition. Both epochs and offsets strictly increase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    starts: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// No epochs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that the log has a batch of `epoch` at `start_offset`. True where that changed
    /// something, so that the file must be written before the batch is acknowledged.
    ///
    /// Known epochs that it contradicts are dropped: those at or above it, or at or behind its
    /// offset. A batch without an epoch changes nothing.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if epoch <= LeaderEpoch::UNKNOWN || start_offset < Offset(0) {
            return false;
        }
        let known =
            |latest: &EpochStart| latest.epoch == epoch && latest.start_offset <= start_offset;
        if self.starts.last().is_some_and(known) {
            return false;
        }
        let contradicts =
            |start: &EpochStart| start.epoch >= epoch || start.start_offset >= start_offset;
        while self.starts.last().is_some_and(contradicts) {
            self.starts.pop();
        }
        self.starts.push(EpochStart {
            epoch,
            start_offset,
        });
        true
    }

    /// The epochs in their order.
    pub fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    /// The latest epoch that has a batch.
    pub fn latest(&self) -> Option<EpochStart> {
        self.starts.last().copied()
    }

    /// The earliest epoch that is known.
    pub fn earliest(&self) -> Option<EpochStart> {
        self.starts.first().copied()
    }

    /// The latest epoch before `epoch`.
    pub fn previous(&self, epoch: LeaderEpoch) -> Option<EpochStart> {
        let at = self.starts.partition_point(|start| start.epoch < epoch);
        at.checked_sub(1).map(|at| self.starts[at])
    }

    /// The epoch of the batch at `offset`.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        let at = self
            .starts
            .partition_point(|start| start.start_offset <= offset);
        at.checked_sub(1).map(|at| self.starts[at].epoch)
    }

    /// Where `epoch` ended in this log: the largest known epoch up to it, and the start of the next
    /// one, or, for the latest epoch, the log's end. `None` where that cannot be said: no epoch was
    /// asked for, or one that this log has not seen yet. An epoch of before the log's start ends
    /// there.
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end_offset: Offset) -> Option<EpochEnd> {
        let latest = self.latest()?;
        if epoch <= LeaderEpoch::UNKNOWN || epoch > latest.epoch {
            return None;
        }
        if epoch == latest.epoch {
            return Some(EpochEnd {
                epoch,
                end_offset: log_end_offset,
            });
        }
        let above = self.starts.partition_point(|start| start.epoch <= epoch);
        Some(EpochEnd {
            epoch: above
                .checked_sub(1)
                .map_or(epoch, |at| self.starts[at].epoch),
            end_offset: self.starts[above].start_offset,
        })
    }

    /// The log now ends at `end_offset`. True where that changed something.
    pub fn truncate_from_end(&mut self, end_offset: Offset) -> bool {
        let kept = self
            .starts
            .partition_point(|start| start.start_offset < end_offset);
        let changed = kept < self.starts.len();
        self.starts.truncate(kept);
        changed
    }

    /// The log now starts at `start_offset`: earlier epochs are dropped, and the one that holds the
    /// start begins there. True where that changed something.
    pub fn truncate_from_start(&mut self, start_offset: Offset) -> bool {
        let holds = self
            .starts
            .partition_point(|start| start.start_offset <= start_offset);
        let Some(holds) = holds.checked_sub(1) else {
            return false;
        };
        let changed = holds > 0 || self.starts[0].start_offset != start_offset;
        self.starts.drain(..holds);
        self.starts[0].start_offset = start_offset;
        changed
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.starts.clear();
    }

    /// The `leader-epoch-checkpoint` file: a version, a count, and a line for each epoch.
    pub fn to_checkpoint(&self) -> String {
        let mut text = format!("{CHECKPOINT_VERSION}\n{}\n", self.starts.len());
        for start in &self.starts {
            writeln!(text, "{} {}", start.epoch, start.start_offset)
                .expect("writing to a string cannot fail");
        }
        text
    }

    /// Reads a `leader-epoch-checkpoint` file.
    pub fn from_checkpoint(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.lines();
        let version = lines.next().unwrap_or_default();
        if version.trim() != CHECKPOINT_VERSION {
            return Err(CheckpointError::Version {
                version: version.chars().take(20).collect(),
            });
        }
        let count = lines
            .next()
            .and_then(|line| line.trim().parse::<usize>().ok());
        let count = count.ok_or(CheckpointError::Line { line: 2 })?;
        let mut epochs = Self::new();
        for (index, text) in lines.enumerate() {
            let line = index + 3;
            let start = parse_start(text).ok_or(CheckpointError::Line { line })?;
            let is_in_order = epochs.latest().is_none_or(|latest| {
                latest.epoch < start.epoch && latest.start_offset < start.start_offset
            });
            if !is_in_order {
                return Err(CheckpointError::Order { line });
            }
            epochs.starts.push(start);
        }
        let found = epochs.starts.len();
        if found != count {
            return Err(CheckpointError::Count { count, found });
        }
        Ok(epochs)
    }
}

/// Why a file is no leader epoch checkpoint. The epochs can be read from the log's batches anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Another version than 0.
    #[error("the leader epoch checkpoint has version '{version}', 0 is expected")]
    Version {
        /// The first line, as far as it is worth showing.
        version: String,
    },
    /// A line that is not two numbers.
    #[error("line {line} of the leader epoch checkpoint is not an epoch and an offset")]
    Line {
        /// Which, from 1.
        line: usize,
    },
    /// Epochs and offsets must both increase.
    #[error("line {line} of the leader epoch checkpoint goes backwards")]
    Order {
        /// Which, from 1.
        line: usize,
    },
    /// The file was cut, or written over.
    #[error("the leader epoch checkpoint says {count} epochs and holds {found}")]
    Count {
        /// What the second line says.
        count: usize,
        /// How many lines follow.
        found: usize,
    },
}

fn parse_start(line: &str) -> Option<EpochStart> {
    let mut words = line.split_ascii_whitespace();
    let epoch: i32 = words.next()?.parse().ok()?;
    let start_offset: i64 = words.next()?.parse().ok()?;
    let is_sound = words.next().is_none() && epoch >= 0 && start_offset >= 0;
    is_sound.then_some(EpochStart {
        epoch: LeaderEpoch(epoch),
        start_offset: Offset(start_offset),
    })
}

#[cfg(test)]
mod tests;
