//! The seam to the log of the metadata, `__cluster_metadata-0`. Shard 0.
//!
//! [`MetadataLog::append`] promises that what it was given is durable, whole batches in their
//! order, when it returns without an error; and that nothing was appended when it returns
//! [`MetadataLogError::NoRoom`]. Any other error is the end of the log.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::clock::Clock;
use crate::base::ids::Offset;
use crate::record::header::BatchHeader;
use crate::storage::error::LogError;
use crate::storage::log::{Assigned, Incoming, Log};

/// Where records are made durable.
#[derive(Debug)]
pub enum MetadataLog {
    /// A log on disk.
    Stored {
        /// The log of `__cluster_metadata-0`, recovered and replayed.
        log: Rc<Log>,
        /// When its segments roll.
        clock: Clock,
    },
    /// Batches in memory, which a test looks at and makes fail.
    #[cfg(test)]
    Memory(Rc<std::cell::RefCell<MemoryLog>>),
}

/// Why records did not become durable.
#[derive(Debug, thiserror::Error)]
pub enum MetadataLogError {
    /// No room is left, or no descriptor; nothing was appended, and a later append may work.
    #[error("no room is left for the metadata log")]
    NoRoom,
    /// The log is out of service. What was appended may or may not be in it.
    #[error("the metadata log has failed: {0}")]
    Failed(String),
}

impl From<LogError> for MetadataLogError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::NoRoom | LogError::NoDescriptor => Self::NoRoom,
            error => Self::Failed(error.to_string()),
        }
    }
}

impl MetadataLog {
    /// Appends `batches`, whose base offsets follow each other from the log's end on, and waits
    /// until they are durable.
    ///
    /// # Errors
    /// There is no room, or the log has failed.
    pub async fn append(&self, batches: &[Bytes]) -> Result<(), MetadataLogError> {
        match self {
            Self::Stored { log, clock } => {
                let bytes: usize = batches.iter().map(Bytes::len).sum();
                // Room for all of them first, so that a full disk refuses all or none.
                loop {
                    let now = clock.now_ms();
                    let incoming = Incoming {
                        bytes,
                        timestamp: now,
                        now,
                    };
                    if log.has_room(incoming) {
                        break;
                    }
                    log.prepare(incoming).await?;
                }
                for batch in batches {
                    append_one(log, batch, clock);
                }
                Ok(log.make_durable(log.end()).await?)
            }
            #[cfg(test)]
            Self::Memory(memory) => {
                crate::runtime::yield_if_needed().await;
                memory.borrow_mut().append(batches)
            }
        }
    }
}

fn append_one(log: &Rc<Log>, batch: &Bytes, clock: &Clock) {
    let header = BatchHeader::parse(batch).expect("the controller builds whole batches");
    let assigned = Assigned {
        offsets: i64::from(header.last_offset_delta) + 1,
        leader_epoch: header.partition_leader_epoch,
        max_timestamp: header.max_timestamp,
    };
    let checked = |_: &mut [u8], _| Ok::<_, Infallible>(assigned);
    let Ok(base): Result<Offset, Infallible> =
        log.append(batch, clock.now_ms(), Some(batch.clone()), checked);
    assert_eq!(
        base, header.base_offset,
        "the image ends where the log does"
    );
}

/// A log for tests of what is above it.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct MemoryLog {
    /// What was appended, one entry a call.
    pub appends: Vec<Vec<Bytes>>,
    /// What the next append fails with.
    pub next_error: Option<MetadataLogError>,
}

#[cfg(test)]
impl MemoryLog {
    fn append(&mut self, batches: &[Bytes]) -> Result<(), MetadataLogError> {
        match self.next_error.take() {
            Some(error) => Err(error),
            None => {
                self.appends.push(batches.to_vec());
                Ok(())
            }
        }
    }
}
