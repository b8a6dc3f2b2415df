//! Producer state as a `.snapshot` file holds it: bytes in, bytes out. Any shard; the file itself
//! is storage's.
//!
//! The format is our own, since Kafka's keeps one batch of each producer and so cannot tell a
//! duplicate of the four before it after a restart. Integers are big-endian:
//!
//! ```text
//! version          u8    1
//! crc              u32   CRC-32C of everything behind it
//! end offset       i64   the batches before it are in the state
//! ended count      u32   transactions that ended above the high watermark
//!   first offset   i64
//!   marker offset  i64
//! producers count  u32
//!   id             i64
//!   epoch          i16
//!   coordinator    i32   epoch, or -1
//!   timestamp      i64   of the last batch or marker
//!   transaction    i64   first offset of the open one, or -1
//!   batches count  u8    at most 5, oldest first
//!     sequences    i32, i32   first and last
//!     offsets      i64, i64   first and last
//!     timestamp    i64
//! ```

use crate::base::ids::{Offset, ProducerEpoch, ProducerId};
use crate::base::limits::{PRODUCER_BATCHES_KEPT, PRODUCERS_PER_PARTITION_MAX};
use crate::partition::producer_state::{KeptBatch, ProducerState, ProducerStates};

const VERSION: u8 = 1;
const CRC_COVERS_FROM: usize = 5;
const ENDED_BYTES: usize = 16;
const PRODUCER_BYTES_MIN: usize = 31;
const BATCH_BYTES: usize = 32;

/// Why bytes are no snapshot. The producers begin then with what recovery scans behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// They end too early, or too late.
    #[error("the producer snapshot does not end where it says")]
    Length,
    /// A version of later than this one.
    #[error("the producer snapshot has version {version}, this broker knows {VERSION}")]
    Version {
        /// The version byte.
        version: u8,
    },
    /// The bytes were changed since they were written.
    #[error("the producer snapshot's CRC is {computed:#010x}, it says {stored:#010x}")]
    Crc {
        /// What the snapshot says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A value that no state has.
    #[error("the producer snapshot holds an impossible {what}")]
    Impossible {
        /// Which.
        what: &'static str,
    },
}

/// The snapshot of `states`, at its end offset. The same state gives the same bytes.
pub fn encode(states: &ProducerStates) -> Vec<u8> {
    let batches: usize = states.iter().map(|(_, state)| state.batches().len()).sum();
    let bytes = 64 + states.len() * PRODUCER_BYTES_MIN + batches * BATCH_BYTES;
    let mut out = Vec::with_capacity(bytes + states.ended().len() * ENDED_BYTES);
    out.push(VERSION);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&states.end_offset().0.to_be_bytes());
    out.extend_from_slice(&(states.ended().len() as u32).to_be_bytes());
    for (first, marker) in states.ended() {
        out.extend_from_slice(&first.0.to_be_bytes());
        out.extend_from_slice(&marker.0.to_be_bytes());
    }
    let mut producers: Vec<_> = states.iter().collect();
    producers.sort_unstable_by_key(|(id, _)| *id);
    out.extend_from_slice(&(producers.len() as u32).to_be_bytes());
    for (id, state) in producers {
        put_producer(&mut out, id, state);
    }
    let crc = crc32c::crc32c(&out[CRC_COVERS_FROM..]);
    out[1..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
    out
}

/// The state that `encode` wrote. Nothing is allocated that the bytes do not fill.
pub fn decode(bytes: &[u8]) -> Result<ProducerStates, SnapshotError> {
    let mut fields = Fields { rest: bytes };
    let [version] = fields.take()?;
    if version != VERSION {
        return Err(SnapshotError::Version { version });
    }
    let stored = u32::from_be_bytes(fields.take()?);
    let computed = crc32c::crc32c(fields.rest);
    if stored != computed {
        return Err(SnapshotError::Crc { stored, computed });
    }
    let mut states = ProducerStates::new(fields.offset("end offset")?);
    for _ in 0..fields.count(ENDED_BYTES)? {
        let first = fields.offset("transaction")?;
        let marker = fields.offset("marker")?;
        if first >= marker {
            return Err(SnapshotError::Impossible { what: "marker" });
        }
        states.restore_ended(first, marker);
    }
    let count = fields.count(PRODUCER_BYTES_MIN)?;
    if count > PRODUCERS_PER_PARTITION_MAX {
        return Err(SnapshotError::Impossible {
            what: "number of producers",
        });
    }
    for _ in 0..count {
        let (id, state) = fields.producer()?;
        if !states.restore(id, state) {
            return Err(SnapshotError::Impossible {
                what: "second producer",
            });
        }
    }
    match fields.rest {
        [] => Ok(states),
        _ => Err(SnapshotError::Length),
    }
}

fn put_producer(out: &mut Vec<u8>, id: ProducerId, state: &ProducerState) {
    let transaction = state.transaction_first_offset.map_or(-1, |offset| offset.0);
    out.extend_from_slice(&id.0.to_be_bytes());
    out.extend_from_slice(&state.epoch.0.to_be_bytes());
    out.extend_from_slice(&state.coordinator_epoch.to_be_bytes());
    out.extend_from_slice(&state.last_timestamp.to_be_bytes());
    out.extend_from_slice(&transaction.to_be_bytes());
    out.push(state.batches().len() as u8);
    for batch in state.batches() {
        out.extend_from_slice(&batch.base_sequence.to_be_bytes());
        out.extend_from_slice(&batch.last_sequence.to_be_bytes());
        out.extend_from_slice(&batch.base_offset.0.to_be_bytes());
        out.extend_from_slice(&batch.last_offset.0.to_be_bytes());
        out.extend_from_slice(&batch.timestamp.to_be_bytes());
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(SnapshotError::Length)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn offset(&mut self, what: &'static str) -> Result<Offset, SnapshotError> {
        match i64::from_be_bytes(self.take()?) {
            offset @ 0.. => Ok(Offset(offset)),
            _ => Err(SnapshotError::Impossible { what }),
        }
    }

    /// A number of things of at least `bytes_each` that are still to come.
    fn count(&mut self, bytes_each: usize) -> Result<usize, SnapshotError> {
        let count = u32::from_be_bytes(self.take()?) as usize;
        if count > self.rest.len() / bytes_each {
            return Err(SnapshotError::Length);
        }
        Ok(count)
    }

    fn producer(&mut self) -> Result<(ProducerId, ProducerState), SnapshotError> {
        let id = ProducerId(i64::from_be_bytes(self.take()?));
        if id <= ProducerId::NONE {
            return Err(SnapshotError::Impossible {
                what: "producer id",
            });
        }
        let mut state = ProducerState::new(ProducerEpoch(i16::from_be_bytes(self.take()?)));
        state.coordinator_epoch = i32::from_be_bytes(self.take()?);
        state.last_timestamp = i64::from_be_bytes(self.take()?);
        let transaction = i64::from_be_bytes(self.take()?);
        state.transaction_first_offset = (transaction >= 0).then_some(Offset(transaction));
        let [batches] = self.take()?;
        if usize::from(batches) > PRODUCER_BATCHES_KEPT {
            return Err(SnapshotError::Impossible {
                what: "number of batches",
            });
        }
        for _ in 0..batches {
            state.keep(KeptBatch {
                base_sequence: i32::from_be_bytes(self.take()?),
                last_sequence: i32::from_be_bytes(self.take()?),
                base_offset: self.offset("batch offset")?,
                last_offset: self.offset("batch offset")?,
                timestamp: i64::from_be_bytes(self.take()?),
            });
        }
        Ok((id, state))
    }
}

#[cfg(test)]
mod tests;
