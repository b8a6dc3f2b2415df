//! How a partition takes appends: in the order of their arrival. Its shard's alone.
//!
//! An append is validated, checked against its producer's sequence and given its offset without
//! awaiting. Two kinds have to wait, and then all that come later queue up behind them, in order,
//! while one task works the queue off: those for which the log has no room (it is parked, must
//! roll, or must grow), and those whose compressed records take long to check, which is done on
//! the blocking pool.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::clock::TimestampMs;
use crate::base::limits::{
    COMPRESSED_BYTES_CHECKED_INLINE_MAX, DECOMPRESSED_BATCH_BYTES_MAX,
    DECOMPRESSED_BYTES_CHECKED_INLINE_MAX,
};
use crate::config::{self, TopicConfig};
use crate::record::compression::{Codec, Decompressor};
use crate::record::header::{BatchHeader, TimestampType, crc_of, set_max_timestamp};
use crate::record::validate::{self, RecordError, Rules, Validated};
use crate::storage::log::{Assigned, Incoming};

use super::core::{Partition, Unacknowledged};
use super::message::{Acks, AppendError, AppendRequest, Appended, RefusedAppend};
use super::planted;
use super::producer_state::{KeptBatch, Origin, ProducerError, Verdict};

/// The appends that have to wait, in order.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    arrivals: RefCell<VecDeque<Arrival>>,
    /// Whether a task works it off.
    is_worked_off: Cell<bool>,
}

/// An append of what is one batch, by its header no larger than it may be.
#[derive(Debug)]
struct Arrival {
    header: BatchHeader,
    request: AppendRequest,
    check: Check,
}

/// Where the check of a batch's records is made.
#[derive(Debug)]
enum Check {
    /// Here, while they are copied.
    Inline,
    /// On the blocking pool, and it has not been made.
    OffReactor,
    /// It has been made there, and found nothing wrong.
    Made(Validated),
}

impl Arrival {
    fn new(header: BatchHeader, request: AppendRequest) -> Self {
        let is_compressed = header.codec() != Ok(Codec::None);
        let is_large = request.records.len() > COMPRESSED_BYTES_CHECKED_INLINE_MAX;
        let check = match is_compressed && is_large {
            true => Check::OffReactor,
            false => Check::Inline,
        };
        Self {
            header,
            request,
            check,
        }
    }

    fn must_wait(&self) -> bool {
        matches!(self.check, Check::OffReactor)
    }
}

/// How an append ended that left nothing in the log.
enum Refusal {
    Duplicate(KeptBatch),
    /// Its compressed records are too many to check them here.
    TakesLong,
    Error(AppendError),
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        Self::Error(error.into())
    }
}

impl From<ProducerError> for Refusal {
    fn from(error: ProducerError) -> Self {
        Self::Error(error.into())
    }
}

impl Partition {
    /// Takes an append. Its answer comes when its acks ask for it.
    pub fn append(self: &Rc<Self>, request: AppendRequest) {
        let arrival = match self.look_at(&request) {
            Ok(header) => Arrival::new(header, request),
            Err(error) => {
                // Nobody waits for it any more: its connection is gone.
                let _gone = request.reply.send(Err(self.refused(error)));
                return;
            }
        };
        let has_to_queue = self.backlog.is_worked_off.get()
            || arrival.must_wait()
            || !self.log.has_room(self.incoming(&arrival));
        if !has_to_queue {
            return self.append_now(arrival);
        }
        self.backlog.arrivals.borrow_mut().push_back(arrival);
        self.start_working_off();
    }

    fn start_working_off(self: &Rc<Self>) {
        if !self.backlog.is_worked_off.replace(true) {
            let partition = Rc::clone(self);
            self.shared
                .queue
                .detach(async move { partition.work_off().await });
        }
    }

    /// What has to hold of a batch before room is made for it. It costs no look at the records.
    fn look_at(&self, request: &AppendRequest) -> Result<BatchHeader, AppendError> {
        let rules = rules(&self.config.borrow(), request.zstd_allowed);
        let header = validate::frame(&request.records, &rules)?;
        validate::check_append(&header, &rules)?;
        if header.is_transactional() {
            return Err(AppendError::NoTransaction(header.producer_id));
        }
        Ok(header)
    }

    /// Does for the appends that wait what they wait for, one after the other, until none waits.
    async fn work_off(self: Rc<Self>) {
        while self.check_first().await
            && let Some(incoming) = self.first(|next| self.incoming(next))
        {
            let prepared = match self.write_epochs().await {
                Ok(()) => self.log.prepare(incoming).await,
                Err(error) => Err(error),
            };
            let arrival = self.backlog.arrivals.borrow_mut().pop_front();
            let arrival = arrival.expect("it is still in front");
            match prepared {
                Ok(()) => self.append_now(arrival),
                Err(error) => {
                    let refused = self.refused(AppendError::Partition(error.into()));
                    let _gone = arrival.request.reply.send(Err(refused));
                }
            }
            self.append_waiting();
        }
        self.backlog.is_worked_off.set(false);
    }

    fn first<T>(&self, look: impl FnOnce(&Arrival) -> T) -> Option<T> {
        self.backlog.arrivals.borrow().front().map(look)
    }

    /// Sees to it that the records of the first append that waits are checked, where that is not
    /// done here. Those that are not as they must be are refused at once: no room is made for them.
    /// False if none waits.
    async fn check_first(&self) -> bool {
        loop {
            let wanted = self.first(|next| {
                let request = &next.request;
                let rules = rules(&self.config.borrow(), request.zstd_allowed);
                next.must_wait()
                    .then(|| (next.header, request.records.clone(), rules))
            });
            let Some(wanted) = wanted else { return false };
            let Some((header, records, rules)) = wanted else {
                return true;
            };
            let now = self.shared.clock.now_ms();
            let check = move |_: &_| {
                validate::check_crc(&header, crc_of(&records))?;
                let mut decompressor = Decompressor::default();
                validate::check_records(&records, &header, &rules, now, &mut decompressor)
            };
            let made = self.log.directory().off_reactor(check).await;
            let mut arrivals = self.backlog.arrivals.borrow_mut();
            match made {
                Ok(checked) => {
                    let first = arrivals.front_mut().expect("it is still in front");
                    first.check = Check::Made(checked);
                    return true;
                }
                Err(error) => {
                    let refused = arrivals.pop_front().expect("it is still in front");
                    let _gone = refused.request.reply.send(Err(self.refused(error.into())));
                }
            }
        }
    }

    /// Appends what waits as far as nothing has to be done for it.
    fn append_waiting(self: &Rc<Self>) {
        loop {
            let next = {
                let mut arrivals = self.backlog.arrivals.borrow_mut();
                let goes =
                    |next: &Arrival| !next.must_wait() && self.log.has_room(self.incoming(next));
                let goes = arrivals.front().is_some_and(goes);
                goes.then(|| arrivals.pop_front()).flatten()
            };
            match next {
                Some(arrival) => self.append_now(arrival),
                None => return,
            }
        }
    }

    /// What the log has to know to make room. The records are not checked yet: a timestamp that
    /// they may not have does not end a segment.
    fn incoming(&self, arrival: &Arrival) -> Incoming {
        let now = self.shared.clock.now_ms();
        let config = self.config.borrow();
        let timestamp = match config.message_timestamp_type {
            config::TimestampType::CreateTime => {
                let latest = now.saturating_add(saturate(config.message_timestamp_after_max_ms));
                arrival.header.max_timestamp.min(latest)
            }
            config::TimestampType::LogAppendTime => now,
        };
        Incoming {
            bytes: arrival.request.records.len(),
            timestamp,
            now,
        }
    }

    fn append_now(self: &Rc<Self>, arrival: Arrival) {
        let now = self.shared.clock.now_ms();
        let appended = self.try_append(&arrival, now);
        if let Err(Refusal::TakesLong) = appended {
            // It goes first again: whatever waits came later.
            let check = Check::OffReactor;
            let arrival = Arrival { check, ..arrival };
            self.backlog.arrivals.borrow_mut().push_front(arrival);
            return self.start_working_off();
        }
        let AppendRequest { acks, reply, .. } = arrival.request;
        let (needed, appended) = match appended {
            Ok(appended) => (self.log.end(), appended),
            Err(Refusal::TakesLong) => unreachable!("it was looked at"),
            Err(Refusal::Duplicate(original)) => {
                let appended = Appended {
                    base_offset: original.base_offset,
                    // Kafka tells the batch's timestamp, whoever gave it.
                    log_append_time: original.timestamp,
                    log_start: self.log.start(),
                };
                (original.last_offset.plus(1), appended)
            }
            Err(Refusal::Error(error)) => {
                let _gone = reply.send(Err(self.refused(error)));
                return;
            }
        };
        // acks=1 and acks=all differ by the followers that all waits for; there are none.
        if acks == Acks::None || needed <= self.high_watermark() {
            let _gone = reply.send(Ok(appended));
            return;
        }
        let waiting = Unacknowledged {
            needed,
            appended,
            reply,
        };
        let mut unacknowledged = self.unacknowledged.borrow_mut();
        // A duplicate may need less than what already waits.
        let at = unacknowledged.partition_point(|other| other.needed <= needed);
        unacknowledged.insert(at, waiting);
    }

    pub(super) fn refused(&self, error: AppendError) -> RefusedAppend {
        RefusedAppend {
            error,
            log_start: self.log.start(),
        }
    }

    fn try_append(&self, arrival: &Arrival, now: TimestampMs) -> Result<Appended, Refusal> {
        let (header, records) = (&arrival.header, &arrival.request.records);
        let rules = rules(&self.config.borrow(), arrival.request.zstd_allowed);
        let mut max_timestamp = header.max_timestamp;
        let base_offset = self
            .log
            .append(records, now, Some(records.clone()), |copy, crc| {
                let checked = match &arrival.check {
                    Check::Made(checked) => *checked,
                    Check::Inline | Check::OffReactor => {
                        self.check_inline(copy, crc, header, &rules, now)?
                    }
                };
                if !planted::skips_deduplication()
                    && let Verdict::Duplicate(original) =
                        self.producers.borrow().check(header, Origin::Client)?
                {
                    return Err(Refusal::Duplicate(original));
                }
                if checked.needs_timestamp() {
                    set_max_timestamp(copy, checked.timestamp_type, checked.max_timestamp);
                }
                max_timestamp = checked.max_timestamp;
                Ok(Assigned {
                    offsets: i64::from(header.last_offset_delta) + 1,
                    leader_epoch: self.leader_epoch(),
                    max_timestamp: checked.max_timestamp,
                })
            })?;
        let stored = BatchHeader {
            base_offset,
            max_timestamp,
            ..*header
        };
        self.producers.borrow_mut().apply(&stored, None);
        let append_time = rules.timestamp_type == TimestampType::LogAppendTime;
        Ok(Appended {
            base_offset,
            // That of the check, which may have been made a while ago.
            log_append_time: if append_time { max_timestamp } else { -1 },
            log_start: self.log.start(),
        })
    }

    /// Checks what was copied. Records that are larger than they looked are not checked to their
    /// end.
    fn check_inline(
        &self,
        copy: &[u8],
        crc: u32,
        header: &BatchHeader,
        rules: &Rules,
        now: TimestampMs,
    ) -> Result<Validated, Refusal> {
        validate::check_crc(header, crc)?;
        let rules = Rules {
            decompressed_bytes_max: DECOMPRESSED_BYTES_CHECKED_INLINE_MAX,
            ..*rules
        };
        let mut decompressor = self.shared.decompressor.borrow_mut();
        let checked = validate::check_records(copy, header, &rules, now, &mut decompressor);
        checked.map_err(|error| match error {
            RecordError::DecompressedTooLarge { .. } => Refusal::TakesLong,
            error => error.into(),
        })
    }
}

/// What the topic and the request allow.
fn rules(config: &TopicConfig, zstd_allowed: bool) -> Rules {
    Rules {
        batch_bytes_max: config.max_message_bytes,
        segment_bytes: config.segment_bytes,
        timestamp_type: match config.message_timestamp_type {
            config::TimestampType::CreateTime => TimestampType::CreateTime,
            config::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: saturate(config.message_timestamp_before_max_ms),
        timestamp_after_max_ms: saturate(config.message_timestamp_after_max_ms),
        keys_required: config.cleanup_policy.compact,
        zstd_allowed,
        decompressed_bytes_max: DECOMPRESSED_BATCH_BYTES_MAX,
    }
}

fn saturate(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX)
}
