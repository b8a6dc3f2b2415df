//! Takes the records of operations to the log. One append is under way at a time, with the records
//! of all operations that came meanwhile, so that many commits share a write.
//!
//! An operation of more records than a batch may have is written in several: the tombstones of a
//! group, which a crash may well leave half done, since the group's own comes last. What the log
//! has taken is replayed, whatever becomes of the rest.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use super::Coordinator;
use crate::base::limits::BATCH_HEADER_BYTES;
use crate::coordinator::group::command::Append;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::machine::After;
use crate::coordinator::group::queue::{Waiting, enqueue, in_order};
use crate::coordinator::group::record::GroupRecord;
use crate::partition::message::{Acks, AppendError, AppendRequest, PartitionMessage};
use crate::protocol::error::EncodeError;
use crate::record::builder::{BatchBuilder, BuildError, RecordToWrite};
use crate::shard::reply;

/// What a record takes in a batch at most beside its key and its value: lengths, deltas, attributes
/// and the count of its headers.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// Operations on their way to the log.
#[derive(Debug, Default)]
pub(super) struct Appends {
    waiting: RefCell<VecDeque<Waiting>>,
    is_running: Cell<bool>,
}

/// Why records could not be appended.
#[derive(Clone, Debug, thiserror::Error)]
enum Failure {
    #[error("they cannot be written: {0}")]
    Encode(#[from] EncodeError),
    #[error("they make no batch: {0}")]
    Build(#[from] BuildError),
    #[error(transparent)]
    Log(#[from] AppendError),
    #[error("the shard stops")]
    Gone,
}

impl Failure {
    /// What a client is told. It may find the record there all the same.
    fn told(&self) -> GroupError {
        match self {
            Self::Log(AppendError::Partition(_)) | Self::Gone => GroupError::NotCoordinator,
            Self::Log(_) | Self::Encode(_) | Self::Build(_) => GroupError::Unexpected,
        }
    }

    /// Whether it is about what was to be written, not about where.
    fn is_of_records(&self) -> bool {
        !matches!(self, Self::Log(AppendError::Partition(_)) | Self::Gone)
    }
}

/// A record as it is written.
struct Encoded {
    record: GroupRecord,
    key: Bytes,
    value: Option<Bytes>,
}

impl Encoded {
    fn new(record: GroupRecord) -> Result<Self, EncodeError> {
        Ok(Self {
            key: record.key()?,
            value: record.value()?,
            record,
        })
    }

    fn bytes(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        self.key.len() + value + RECORD_OVERHEAD_BYTES
    }
}

/// An operation whose records are ready to be written.
struct Ready {
    records: Result<Vec<Encoded>, EncodeError>,
    afters: Vec<After>,
}

impl Ready {
    fn new(waiting: Waiting) -> Self {
        let records = waiting.records.into_iter().map(Encoded::new);
        Self {
            records: records.collect(),
            afters: waiting.afters,
        }
    }

    fn encoded(&self) -> impl Iterator<Item = &Encoded> {
        self.records.iter().flatten()
    }

    fn bytes(&self) -> usize {
        self.encoded().map(Encoded::bytes).sum()
    }
}

impl Coordinator {
    /// Appends these behind what waits already.
    pub(super) fn start_appending(self: &Rc<Self>, appends: Vec<Append>) {
        for append in appends {
            enqueue(&mut self.appends.waiting.borrow_mut(), append);
        }
        let nothing = self.appends.waiting.borrow().is_empty();
        if nothing || self.appends.is_running.replace(true) {
            return;
        }
        let coordinator = Rc::clone(self);
        let task = async move {
            // One that no longer fitted into the last batch.
            let mut held = None;
            while let Some(first) = held.take().or_else(|| coordinator.next_ready()) {
                let together = coordinator.with_others(first, &mut held);
                coordinator.append_together(together).await;
            }
            coordinator.appends.is_running.set(false);
        };
        self.shared.queue.spawn(task).detach();
    }

    /// Encoded only now: what waits is not in memory twice.
    fn next_ready(&self) -> Option<Ready> {
        self.appends
            .waiting
            .borrow_mut()
            .pop_front()
            .map(Ready::new)
    }

    /// Those that fit into one batch with the first. One whose records cannot be written stands
    /// alone, so that only it fails.
    fn with_others(&self, first: Ready, held: &mut Option<Ready>) -> Vec<Ready> {
        let bytes_max = self.batch_bytes_max();
        let mut bytes = BATCH_HEADER_BYTES + first.bytes();
        let mut together = vec![first];
        while together[0].records.is_ok()
            && let Some(next) = self.next_ready()
        {
            bytes += next.bytes();
            if bytes > bytes_max || next.records.is_err() {
                *held = Some(next);
                break;
            }
            together.push(next);
        }
        together
    }

    /// `max.message.bytes` of the topic, which may change at any time.
    fn batch_bytes_max(&self) -> usize {
        let partition = self.shared.table.get(&self.id);
        let config = partition.map(|partition| partition.config());
        config.map_or(0, |config| config.max_message_bytes as usize)
    }

    /// Appends operations as one batch. If that is refused for what is in it, each by itself.
    async fn append_together(self: &Rc<Self>, together: Vec<Ready>) {
        if together.len() > 1 {
            let all: Vec<&Encoded> = together.iter().flat_map(Ready::encoded).collect();
            let result = self.append(&all).await;
            if result.is_ok() {
                self.replay(&all);
            }
            if !matches!(&result, Err(failure) if failure.is_of_records()) {
                let has_failed = result.is_err();
                let afters = together.into_iter();
                let afters = afters.flat_map(|ready| in_order(ready.afters, has_failed));
                return self.report(afters.collect(), result);
            }
        }
        for ready in together {
            let result = match &ready.records {
                Ok(_) => self.append_in_parts(&ready).await,
                Err(error) => Err(error.clone().into()),
            };
            self.report(in_order(ready.afters, result.is_err()), result);
        }
    }

    /// Appends the records of one operation, in as many batches as they need, and replays those
    /// that the log has taken.
    async fn append_in_parts(&self, ready: &Ready) -> Result<(), Failure> {
        let bytes_max = self.batch_bytes_max();
        let all: Vec<&Encoded> = ready.encoded().collect();
        let mut rest = &all[..];
        while !rest.is_empty() {
            let mut bytes = BATCH_HEADER_BYTES;
            let fitting = rest.iter().take_while(|record| {
                bytes += record.bytes();
                bytes <= bytes_max
            });
            let (now, later) = rest.split_at(fitting.count().max(1));
            self.append(now).await?;
            self.replay(now);
            rest = later;
        }
        Ok(())
    }

    fn replay(&self, records: &[&Encoded]) {
        let now = self.now();
        self.change(|machine| {
            for encoded in records {
                machine.replay(&encoded.record, now);
            }
        });
    }

    /// Tells the machine what has become of operations.
    fn report(self: &Rc<Self>, afters: Vec<After>, result: Result<(), Failure>) {
        if let Err(failure) = &result
            && !matches!(failure, Failure::Gone)
            && let Some(left_out) = self.shared.log_limit.permit(Instant::now())
        {
            let (partition, operations) = (self.id.partition.0, afters.len());
            tracing::warn!(
                partition,
                operations,
                error = %failure,
                left_out,
                "changes of groups not written to __consumer_offsets"
            );
        }
        let told = result.map_err(|failure| failure.told());
        self.with_machine(|machine, now, out| {
            for after in afters {
                machine.appended(after, told, now, out);
            }
        });
    }

    /// Appends records as one batch, and waits until it is committed.
    async fn append(&self, records: &[&Encoded]) -> Result<(), Failure> {
        let (reply, answer) = reply::channel();
        let request = AppendRequest {
            id: self.id,
            records: self.build(records)?,
            acks: Acks::All,
            zstd_allowed: true,
            reply,
        };
        self.shared.table.handle(PartitionMessage::Append(request));
        match answer.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refused)) => Err(refused.error.into()),
            Err(_gone) => Err(Failure::Gone),
        }
    }

    fn build(&self, records: &[&Encoded]) -> Result<Bytes, BuildError> {
        let mut builder = BatchBuilder::new(self.shared.codec);
        let timestamp = self.shared.clock.now_ms();
        for Encoded { key, value, .. } in records {
            builder.append(&RecordToWrite {
                timestamp,
                key: Some(key),
                value: value.as_deref(),
                headers: &[],
            })?;
        }
        Ok(builder.build()?.into())
    }
}
