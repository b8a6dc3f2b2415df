//! What a partition knows of its idempotent and transactional producers. The shard that owns the
//! partition owns it; it never reads the clock, a file or a socket.
//!
//! [`ProducerStates::check`] is pure: it says whether a batch is next, a duplicate, or wrong.
//! [`ProducerStates::apply`] changes the state, by a batch that the log has taken and nothing else,
//! so that recovery rebuilds the same state by applying the same batches. The rules are those of
//! Kafka's `ProducerAppendInfo` and `ProducerStateManager` (KIP-98, KIP-360).
//!
//! State outlives the records it came from: when the log's start moves past them, a producer that
//! is still there goes on with its sequence (KAFKA-7190). Only time and
//! [`PRODUCERS_PER_PARTITION_MAX`] make the partition forget one; such a producer may start
//! anywhere.

use std::collections::BTreeMap;

use ahash::AHashMap;

use crate::base::clock::TimestampMs;
use crate::base::ids::{Offset, ProducerEpoch, ProducerId};
use crate::base::limits::{PRODUCER_BATCHES_KEPT, PRODUCERS_PER_PARTITION_MAX};
use crate::record::BatchHeader;
use crate::record::control::EndTransactionMarker;
use crate::record::header::{NO_SEQUENCE, NO_TIMESTAMP};

/// Who appends, and so how much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer: epoch and sequence.
    Client,
    /// A coordinator, which has no sequence: the epoch only.
    Coordinator,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Append it, then apply it.
    Accept,
    /// It is there already: answer with where it is, once that is as durable as the request asks.
    Duplicate(KeptBatch),
}

/// Why a batch is refused. Each names Kafka's error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// A newer incarnation has written. INVALID_PRODUCER_EPOCH.
    #[error("producer {producer_id} writes with epoch {epoch} after epoch {current}")]
    InvalidEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The batch's epoch.
        epoch: ProducerEpoch,
        /// The newest one seen.
        current: ProducerEpoch,
    },
    /// Neither the next batch nor one of the last five. OUT_OF_ORDER_SEQUENCE_NUMBER.
    #[error("producer {producer_id} sent sequence {sequence} after {last_sequence}")]
    OutOfOrder {
        /// The producer.
        producer_id: ProducerId,
        /// The batch's first sequence.
        sequence: i32,
        /// The last one appended; -1 where the epoch has none yet.
        last_sequence: i32,
    },
    /// A new epoch begins at sequence 0. OUT_OF_ORDER_SEQUENCE_NUMBER.
    #[error("producer {producer_id} began epoch {epoch} with sequence {sequence}, not 0")]
    NewEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The batch's epoch.
        epoch: ProducerEpoch,
        /// The batch's first sequence.
        sequence: i32,
    },
    /// A batch outside of the transaction that the producer has open here. INVALID_TXN_STATE.
    #[error("producer {producer_id} has a transaction open and sent a batch outside of it")]
    OutsideTransaction {
        /// The producer.
        producer_id: ProducerId,
    },
    /// A marker of a coordinator that was replaced. TRANSACTION_COORDINATOR_FENCED.
    #[error("coordinator epoch {epoch} is older than {current} for producer {producer_id}")]
    CoordinatorFenced {
        /// The producer.
        producer_id: ProducerId,
        /// The marker's coordinator epoch.
        epoch: i32,
        /// The newest one seen.
        current: i32,
    },
}

/// A batch that a producer appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptBatch {
    /// Its first sequence, or -1.
    pub base_sequence: i32,
    /// Its last sequence, or -1.
    pub last_sequence: i32,
    /// Its first offset.
    pub base_offset: Offset,
    /// Its last offset.
    pub last_offset: Offset,
    /// Its maximum timestamp; under LogAppendTime the time of the append.
    pub timestamp: TimestampMs,
}

/// One producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// The epoch of the transaction coordinator that last ended a transaction of it, or -1.
    pub coordinator_epoch: i32,
    /// The timestamp of its last batch or marker. Expiry counts from here.
    pub last_timestamp: TimestampMs,
    /// Where its open transaction began in this partition.
    pub transaction_first_offset: Option<Offset>,
    batches: [KeptBatch; PRODUCER_BATCHES_KEPT],
    batches_count: u8,
}

impl ProducerState {
    /// A producer of whom nothing is known but its epoch.
    pub fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: NO_TIMESTAMP,
            transaction_first_offset: None,
            batches: [KeptBatch::default(); PRODUCER_BATCHES_KEPT],
            batches_count: 0,
        }
    }

    /// The last batches of its epoch, at most five, oldest first.
    pub fn batches(&self) -> &[KeptBatch] {
        &self.batches[..usize::from(self.batches_count)]
    }

    /// The last sequence that was appended in its epoch, or -1.
    pub fn last_sequence(&self) -> i32 {
        self.batches()
            .last()
            .map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    /// Keeps a batch, and forgets the oldest where five were kept.
    pub(super) fn keep(&mut self, batch: KeptBatch) {
        if self.batches().len() == PRODUCER_BATCHES_KEPT {
            self.batches.rotate_left(1);
        } else {
            self.batches_count += 1;
        }
        self.batches[usize::from(self.batches_count) - 1] = batch;
    }

    fn enter_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches = Default::default();
            self.batches_count = 0;
        }
    }
}

/// A transaction whose marker has just been applied: a row of the transaction index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedTransaction {
    /// The producer.
    pub producer_id: ProducerId,
    /// The transaction's first offset in this partition.
    pub first_offset: Offset,
    /// The marker's offset.
    pub last_offset: Offset,
    /// Whether its records are to be skipped.
    pub is_aborted: bool,
    /// What was the first undecided offset once this was decided.
    pub last_stable_offset: Offset,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    producers: AHashMap<ProducerId, ProducerState>,
    /// Open transactions: first offset to producer.
    open: BTreeMap<Offset, ProducerId>,
    /// Ended transactions whose marker is not below the high watermark: first offset to marker.
    ended: BTreeMap<Offset, Offset>,
    end_offset: Offset,
}

impl ProducerStates {
    /// No producers, at `end_offset`: the next batch to apply begins there or later.
    pub fn new(end_offset: Offset) -> Self {
        Self {
            end_offset,
            ..Self::default()
        }
    }

    /// The offset up to which batches have been applied.
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// How many producers are known.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether no producer is known.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// What is known of a producer.
    pub fn get(&self, producer_id: ProducerId) -> Option<&ProducerState> {
        self.producers.get(&producer_id)
    }

    /// All producers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.producers.iter().map(|(id, state)| (*id, state))
    }

    /// Whether a data batch may be appended. Batches without a producer id always may.
    pub fn check(&self, header: &BatchHeader, origin: Origin) -> Result<Verdict, ProducerError> {
        if !header.has_producer_id() {
            return Ok(Verdict::Accept);
        }
        let producer_id = header.producer_id;
        let Some(state) = self.producers.get(&producer_id) else {
            // Never seen, or forgotten: it may go on from wherever it is.
            return Ok(Verdict::Accept);
        };
        if origin == Origin::Client
            && let Some(batch) = find_duplicate(state, header)
        {
            return Ok(Verdict::Duplicate(batch));
        }
        check_epoch(state, producer_id, header.producer_epoch)?;
        if origin == Origin::Client {
            check_sequence(state, header)?;
        }
        if state.transaction_first_offset.is_some() && !header.is_transactional() {
            return Err(ProducerError::OutsideTransaction { producer_id });
        }
        Ok(Verdict::Accept)
    }

    /// Whether a marker that ends a transaction may be appended.
    pub fn check_marker(
        &self,
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        marker: EndTransactionMarker,
    ) -> Result<(), ProducerError> {
        let Some(state) = self.producers.get(&producer_id) else {
            return Ok(());
        };
        check_epoch(state, producer_id, epoch)?;
        if state.coordinator_epoch > marker.coordinator_epoch {
            return Err(ProducerError::CoordinatorFenced {
                producer_id,
                epoch: marker.coordinator_epoch,
                current: state.coordinator_epoch,
            });
        }
        Ok(())
    }

    /// Applies a batch that the log has taken; `header` has its assigned offsets. For a control
    /// batch `marker` is what its first record says, or `None` where compaction has removed it or
    /// it is of another kind.
    ///
    /// It does not check: of what stands in the log, the later batch is right.
    pub fn apply(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndTransactionMarker>,
    ) -> Option<CompletedTransaction> {
        let completed = match (header.has_producer_id(), header.is_control(), marker) {
            (true, false, _) => {
                self.apply_data(header);
                None
            }
            (true, true, Some(marker)) => self.apply_marker(header, marker),
            _ => None,
        };
        if self.producers.len() > PRODUCERS_PER_PARTITION_MAX {
            self.forget_idlest();
        }
        self.end_offset = self.end_offset.max(header.next_offset());
        completed
    }

    /// Forgets the producers that were idle for `expiration_ms`, `producer.id.expiration.ms`, and
    /// have no transaction open.
    pub fn remove_expired(&mut self, now_ms: TimestampMs, expiration_ms: i64) {
        self.producers.retain(|_, state| {
            state.transaction_first_offset.is_some()
                || now_ms.saturating_sub(state.last_timestamp) < expiration_ms
        });
    }

    /// The high watermark has reached `offset`: transactions that ended below it are stable.
    pub fn on_high_watermark(&mut self, offset: Offset) {
        self.ended
            .retain(|_, marker_offset| *marker_offset >= offset);
    }

    /// The log's start has moved to `offset`. Producers stay; they are forgotten by time alone.
    pub fn on_log_start(&mut self, offset: Offset) {
        self.on_high_watermark(offset);
        self.end_offset = self.end_offset.max(offset);
    }

    /// Forgets everything; the log begins anew at `offset`. After a truncation to the middle, begin
    /// with the last snapshot at or below the new end and apply the batches behind it.
    pub fn reset(&mut self, offset: Offset) {
        *self = Self::new(offset);
    }

    /// The first offset that a read_committed consumer may not see yet, apart from the high
    /// watermark: the start of a transaction that is open, or that ended above the high watermark.
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        let open = self.open.keys().next();
        let ended = self.ended.keys().next();
        open.into_iter().chain(ended).min().copied()
    }

    /// The start of the first transaction that is open.
    pub fn first_undecided_offset(&self) -> Option<Offset> {
        self.open.keys().next().copied()
    }

    fn apply_data(&mut self, header: &BatchHeader) {
        let new = || ProducerState::new(header.producer_epoch);
        let state = self.producers.entry(header.producer_id).or_insert_with(new);
        state.enter_epoch(header.producer_epoch);
        state.last_timestamp = header.max_timestamp;
        state.keep(KeptBatch {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp: header.max_timestamp,
        });
        if header.is_transactional() && state.transaction_first_offset.is_none() {
            state.transaction_first_offset = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
    }

    fn apply_marker(
        &mut self,
        header: &BatchHeader,
        marker: EndTransactionMarker,
    ) -> Option<CompletedTransaction> {
        let new = || ProducerState::new(header.producer_epoch);
        let state = self.producers.entry(header.producer_id).or_insert_with(new);
        state.enter_epoch(header.producer_epoch);
        state.coordinator_epoch = marker.coordinator_epoch;
        state.last_timestamp = header.max_timestamp;
        // A marker without a transaction here changes nothing that a reader sees.
        let first_offset = state.transaction_first_offset.take()?;
        let last_offset = header.base_offset;
        self.open.remove(&first_offset);
        self.ended.insert(first_offset, last_offset);
        let last_stable_offset = self.first_undecided_offset();
        Some(CompletedTransaction {
            producer_id: header.producer_id,
            first_offset,
            last_offset,
            is_aborted: !marker.is_commit,
            last_stable_offset: last_stable_offset.unwrap_or(last_offset.plus(1)),
        })
    }

    /// Forgets a sixteenth of the producers, so that the next one finds room without another
    /// search: those whose last batch lies furthest back in the log, whatever its timestamp says.
    #[cold]
    fn forget_idlest(&mut self) {
        let mut idle: Vec<_> = self
            .iter()
            .filter(|(_, state)| state.transaction_first_offset.is_none())
            .map(|(id, state)| (state.batches().last().map(|batch| batch.last_offset), id))
            .collect();
        let count = (PRODUCERS_PER_PARTITION_MAX / 16).min(idle.len());
        idle.sort_unstable();
        for (_, id) in &idle[..count] {
            self.producers.remove(id);
        }
    }

    /// Adds what a snapshot holds. False where the producer or its transaction was there already.
    pub(super) fn restore(&mut self, producer_id: ProducerId, state: ProducerState) -> bool {
        let is_new_transaction = state
            .transaction_first_offset
            .is_none_or(|offset| self.open.insert(offset, producer_id).is_none());
        is_new_transaction && self.producers.insert(producer_id, state).is_none()
    }

    /// Adds a transaction that ended above the high watermark, as a snapshot holds it.
    pub(super) fn restore_ended(&mut self, first_offset: Offset, marker_offset: Offset) {
        self.ended.insert(first_offset, marker_offset);
    }

    /// The transactions that ended above the high watermark: first offset and marker.
    pub(super) fn ended(&self) -> impl ExactSizeIterator<Item = (Offset, Offset)> {
        self.ended.iter().map(|(first, marker)| (*first, *marker))
    }
}

fn find_duplicate(state: &ProducerState, header: &BatchHeader) -> Option<KeptBatch> {
    let same = |batch: &&KeptBatch| {
        batch.base_sequence == header.base_sequence && batch.last_sequence == header.last_sequence()
    };
    let is_epoch = state.epoch == header.producer_epoch;
    is_epoch.then(|| state.batches().iter().find(same).copied())?
}

fn check_epoch(
    state: &ProducerState,
    producer_id: ProducerId,
    epoch: ProducerEpoch,
) -> Result<(), ProducerError> {
    if epoch < state.epoch {
        return Err(ProducerError::InvalidEpoch {
            producer_id,
            epoch,
            current: state.epoch,
        });
    }
    Ok(())
}

fn check_sequence(state: &ProducerState, header: &BatchHeader) -> Result<(), ProducerError> {
    let (producer_id, sequence) = (header.producer_id, header.base_sequence);
    if header.producer_epoch != state.epoch {
        if sequence != 0 {
            return Err(ProducerError::NewEpoch {
                producer_id,
                epoch: header.producer_epoch,
                sequence,
            });
        }
        return Ok(());
    }
    let last_sequence = state.last_sequence();
    let is_next = match last_sequence {
        i32::MAX => sequence == 0,
        last => sequence == last + 1,
    };
    if !is_next {
        return Err(ProducerError::OutOfOrder {
            producer_id,
            sequence,
            last_sequence,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
