//! Reads the log of a partition of `__consumer_offsets` from its start to its end.
//!
//! It ends where the partition says that the log ends, or it has failed: nobody may be told that a
//! group has no offsets because some could not be read.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Coordinator;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::limits::DECOMPRESSED_BATCH_BYTES_MAX;
use crate::coordinator::group::machine::Machine;
use crate::coordinator::group::record::{GroupRecord, RecordError as GroupRecordError};
use crate::partition::message::{PartitionError, PartitionMessage, ReadRequest, ReadResult};
use crate::record::batches::{BatchFault, Batches};
use crate::record::compression::Decompressor;
use crate::record::validate::RecordError;
use crate::record::view::RecordSet;
use crate::shard::reply;

/// Records replayed before others of the shard have their turn: some tens of microseconds.
const RECORDS_BEFORE_YIELD: u64 = 64;
/// A load that takes longer is told to operators.
const LONG: Duration = Duration::from_secs(1);

/// Why the log of a partition could not be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("the shard stops")]
    Gone,
    #[error(transparent)]
    Partition(#[from] PartitionError),
    #[error("behind offset {from}: {fault}")]
    Framing { from: i64, fault: BatchFault },
    #[error("nothing can be read at offset {from}, and the log ends at {end}")]
    Short { from: i64, end: i64 },
    #[error("the batch at offset {at} is part of a transaction, which groups have none of yet")]
    Transactional { at: i64 },
    #[error("the batch at offset {at}: {error}")]
    Batch { at: i64, error: RecordError },
    #[error("a record of the batch at offset {at}: {error}")]
    Record { at: i64, error: GroupRecordError },
}

/// What was read so far.
#[derive(Debug, Default)]
struct Tally {
    next: i64,
    records: u64,
    /// Records of kinds that this broker does not know.
    unknown: u64,
}

impl Coordinator {
    /// Loads the machine, unless it is unloaded meanwhile.
    pub(super) async fn load(self: Rc<Self>) {
        let Ok(_one) = self.shared.loading.acquire_permit(1).await else {
            return;
        };
        let began = Instant::now();
        let mut tally = Tally::default();
        let loaded = self.replay_log(&mut tally).await;
        // The log may have gone away with its partition.
        if self.look(Machine::is_unloaded) {
            return;
        }
        let partition = self.id.partition.0;
        if let Err(error) = loaded {
            // Requests go on being refused.
            tracing::error!(partition, %error, "the groups of a partition cannot be loaded");
            self.stop();
            return;
        }
        self.with_machine(|machine, now, out| machine.loaded(now, out));
        let deleted = self.deleted_topics.take();
        for (topic, id) in deleted.into_iter().flatten() {
            self.topic_deleted(&topic, id);
        }
        let Tally {
            records, unknown, ..
        } = tally;
        let milliseconds = began.elapsed().as_millis() as u64;
        if unknown > 0 {
            tracing::warn!(
                partition,
                unknown,
                "records of groups of unknown kinds are ignored"
            );
        }
        if began.elapsed() > LONG {
            tracing::info!(partition, records, milliseconds, "groups loaded");
        } else {
            tracing::debug!(partition, records, milliseconds, "groups loaded");
        }
    }

    async fn replay_log(&self, tally: &mut Tally) -> Result<(), LoadError> {
        let mut decompressor = Decompressor::default();
        while !self.look(Machine::is_unloaded) {
            let found = self.read(tally.next).await?;
            // What is below the start was read once and is not needed any more.
            if tally.next < found.log_start.0 {
                tally.next = found.log_start.0;
                continue;
            }
            if let Some(error) = found.error {
                return Err(error.into());
            }
            let before = tally.next;
            let bytes = found.chunks.concat();
            for batch in Batches::new(&bytes) {
                match batch {
                    Ok((header, batch)) => {
                        if header.is_transactional() {
                            let at = header.base_offset.0;
                            return Err(LoadError::Transactional { at });
                        }
                        if !header.is_control() {
                            let at = header.base_offset.0;
                            self.replay_batch(at, batch, &mut decompressor, tally)
                                .await?;
                        }
                        tally.next = header.next_offset().0;
                    }
                    Err(fault) if fault.is_incomplete() && tally.next > before => break,
                    Err(fault) => {
                        return Err(LoadError::Framing {
                            from: before,
                            fault,
                        });
                    }
                }
            }
            let end = found.high_watermark.0;
            if tally.next >= end {
                return Ok(());
            }
            if tally.next == before {
                return Err(LoadError::Short { from: before, end });
            }
        }
        Ok(())
    }

    async fn read(&self, from: i64) -> Result<ReadResult, LoadError> {
        let (reply, answer) = reply::channel();
        let bytes_max = self.shared.load_bytes;
        let request = ReadRequest {
            id: self.id,
            from: Offset(from),
            bytes_max,
            current_leader_epoch: LeaderEpoch::UNKNOWN,
            last_fetched_epoch: None,
            committed_only: false,
        };
        let read = PartitionMessage::Read(vec![request], bytes_max, reply);
        self.shared.table.handle(read);
        let found = answer.await.map_err(|_gone| LoadError::Gone)?;
        found.into_iter().next().ok_or(LoadError::Gone)
    }

    async fn replay_batch(
        &self,
        at: i64,
        batch: &[u8],
        decompressor: &mut Decompressor,
        tally: &mut Tally,
    ) -> Result<(), LoadError> {
        let damaged = |error| LoadError::Batch { at, error };
        let set = RecordSet::open(batch, DECOMPRESSED_BATCH_BYTES_MAX, decompressor);
        let set = set.map_err(damaged)?;
        let now = self.now();
        for record in set.iter() {
            let record = record.map_err(damaged)?;
            let key = record.key.unwrap_or_default().to_vec().into();
            let value = record.value.map(|value| value.to_vec().into());
            match GroupRecord::decode(&key, value.as_ref()) {
                Ok(Some(record)) => self.change(|machine| machine.replay(&record, now)),
                Ok(None) => tally.unknown += 1,
                Err(error) => return Err(LoadError::Record { at, error }),
            }
            tally.records += 1;
            if tally.records.is_multiple_of(RECORDS_BEFORE_YIELD) {
                crate::runtime::yield_if_needed().await;
            }
        }
        Ok(())
    }
}
