//! The rules row by row, then a producer that retries as it likes. Tests only.

use proptest::prelude::*;

use super::*;
use crate::partition::producer_snapshot;
use crate::record::builder::{BatchBuilder, RecordToWrite};
use crate::record::compression::Codec;

const MAX: i32 = i32::MAX;
const A: i64 = 7;

/// The header of a batch of `count` records.
pub(crate) fn header(producer: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    let (producer, epoch) = (ProducerId(producer), ProducerEpoch(epoch));
    let mut builder = BatchBuilder::new(Codec::None).producer(producer, epoch, sequence);
    for _ in 0..count {
        builder.append(&RecordToWrite::default()).expect("small");
    }
    BatchHeader::parse(&builder.build().expect("small")).expect("a whole header")
}

fn transactional(mut header: BatchHeader) -> BatchHeader {
    header.attributes |= 1 << 4;
    header
}

/// The header of a control batch with one marker.
fn control(producer: i64, epoch: i16) -> BatchHeader {
    let mut header = transactional(header(producer, epoch, NO_SEQUENCE, 1));
    header.attributes |= 1 << 5;
    header
}

fn marker(is_commit: bool, coordinator_epoch: i32) -> EndTransactionMarker {
    EndTransactionMarker {
        is_commit,
        coordinator_epoch,
    }
}

/// A log that holds only its producers' states.
#[derive(Default)]
struct Log {
    states: ProducerStates,
    headers: Vec<(BatchHeader, Option<EndTransactionMarker>)>,
}

impl Log {
    fn take(
        &mut self,
        mut header: BatchHeader,
        marker: Option<EndTransactionMarker>,
    ) -> Option<CompletedTransaction> {
        header.base_offset = self.states.end_offset();
        self.headers.push((header, marker));
        self.states.apply(&header, marker)
    }

    fn produce(&mut self, header: BatchHeader) -> Result<Verdict, ProducerError> {
        let verdict = self.states.check(&header, Origin::Client)?;
        if verdict == Verdict::Accept {
            self.take(header, None);
        }
        Ok(verdict)
    }
}

/// A log in which producer A has appended these (epoch, sequence, count).
fn log_of(batches: &[(i16, i32, i32)]) -> Log {
    let mut log = Log::default();
    for (epoch, sequence, count) in batches {
        log.take(header(A, *epoch, *sequence, *count), None);
    }
    log
}

#[test]
fn what_comes_next_is_decided_as_in_kafka() {
    let order = |sequence, last_sequence| ProducerError::OutOfOrder {
        producer_id: ProducerId(A),
        sequence,
        last_sequence,
    };
    let epoch = |epoch, current| ProducerError::InvalidEpoch {
        producer_id: ProducerId(A),
        epoch: ProducerEpoch(epoch),
        current: ProducerEpoch(current),
    };
    let new_epoch = |epoch, sequence| ProducerError::NewEpoch {
        producer_id: ProducerId(A),
        epoch: ProducerEpoch(epoch),
        sequence,
    };
    type Batch = (i16, i32, i32);
    let table: &[(&[Batch], Batch, Result<(), ProducerError>)] = &[
        // An unknown producer may start anywhere.
        (&[], (0, 0, 1), Ok(())),
        (&[], (5, 1_000, 3), Ok(())),
        (&[(0, 0, 10)], (0, 10, 1), Ok(())),
        (&[(0, 0, 10)], (0, 11, 1), Err(order(11, 9))),
        (&[(0, 0, 10)], (0, 9, 1), Err(order(9, 9))),
        // The same start with another end is no duplicate.
        (&[(0, 0, 10)], (0, 0, 9), Err(order(0, 9))),
        (&[(0, 0, 10)], (0, 0, 11), Err(order(0, 9))),
        // A new epoch begins at 0, an old one is over.
        (&[(3, 0, 10)], (4, 0, 1), Ok(())),
        (&[(3, 0, 10)], (4, 10, 1), Err(new_epoch(4, 10))),
        (&[(3, 0, 10)], (2, 10, 1), Err(epoch(2, 3))),
        (&[(3, 0, 10)], (2, 0, 10), Err(epoch(2, 3))),
        // The sequence wraps from the end of i32 to 0, between batches and inside one.
        (&[(0, MAX, 1)], (0, 0, 1), Ok(())),
        (&[(0, MAX - 4, 5)], (0, 0, 5), Ok(())),
        (&[(0, MAX - 1, 5)], (0, 3, 1), Ok(())),
        (&[(0, MAX - 1, 5)], (0, 4, 1), Err(order(4, 2))),
        (&[(0, MAX - 1, 1)], (0, 0, 1), Err(order(0, MAX - 1))),
        // Older than the last five: not recognised any more.
        (
            &[
                (0, 0, 1),
                (0, 1, 1),
                (0, 2, 1),
                (0, 3, 1),
                (0, 4, 1),
                (0, 5, 1),
            ],
            (0, 0, 1),
            Err(order(0, 5)),
        ),
    ];
    for (before, (epoch, sequence, count), expected) in table {
        let log = log_of(before);
        let batch = header(A, *epoch, *sequence, *count);
        let verdict = log.states.check(&batch, Origin::Client);
        assert_eq!(
            verdict,
            expected.map(|()| Verdict::Accept),
            "{before:?} then {batch:?}"
        );
    }
}

#[test]
fn any_of_the_last_five_batches_is_answered_with_where_it_is() {
    let mut log = log_of(&[(0, MAX - 3, 2)]);
    for _ in 0..5 {
        let sequence = log
            .states
            .get(ProducerId(A))
            .map(ProducerState::last_sequence);
        let next = crate::record::header::sequence_plus(sequence.expect("known"), 1);
        log.take(header(A, 0, next, 3), None);
        log.take(header(99, 0, next, 1), None);
    }
    let all = log.headers.clone();
    let mine: Vec<_> = all
        .iter()
        .filter(|(header, _)| header.producer_id.0 == A)
        .collect();
    for (index, (sent, _)) in mine.iter().enumerate() {
        let retry = BatchHeader {
            base_offset: Offset(0),
            ..*sent
        };
        let verdict = log.states.check(&retry, Origin::Client);
        if index == 0 {
            assert!(verdict.is_err(), "the sixth last is forgotten");
            continue;
        }
        let Ok(Verdict::Duplicate(kept)) = verdict else {
            panic!("batch {index}: {verdict:?}");
        };
        assert_eq!(kept.base_offset, sent.base_offset);
        assert_eq!(kept.last_offset, sent.last_offset());
        assert_eq!(kept.timestamp, sent.max_timestamp);
    }
    assert_eq!(
        log.produce(mine[5].0),
        log.states.check(&mine[5].0, Origin::Client)
    );
    assert_eq!(log.headers.len(), all.len(), "a duplicate is not appended");
}

#[test]
fn batches_without_a_producer_and_of_coordinators_are_not_sequenced() {
    let mut log = log_of(&[(3, 0, 10)]);
    let plain = header(-1, -1, NO_SEQUENCE, 2);
    assert_eq!(log.produce(plain), Ok(Verdict::Accept));
    assert_eq!(log.states.len(), 1);
    assert_eq!(log.states.end_offset(), Offset(12));
    let commit = header(A, 3, NO_SEQUENCE, 1);
    assert_eq!(
        log.states.check(&commit, Origin::Coordinator),
        Ok(Verdict::Accept)
    );
    let stale = header(A, 2, NO_SEQUENCE, 1);
    assert!(log.states.check(&stale, Origin::Coordinator).is_err());
}

#[test]
fn a_transaction_holds_the_stable_offset_until_its_marker_is_below_the_high_watermark() {
    let mut log = Log::default();
    log.take(header(-1, -1, NO_SEQUENCE, 10), None);
    assert_eq!(
        log.produce(transactional(header(A, 0, 0, 2))),
        Ok(Verdict::Accept)
    );
    assert_eq!(
        log.produce(transactional(header(8, 0, 0, 2))),
        Ok(Verdict::Accept)
    );
    assert_eq!(
        log.produce(transactional(header(A, 0, 2, 1))),
        Ok(Verdict::Accept)
    );
    assert_eq!(log.states.first_unstable_offset(), Some(Offset(10)));

    let outside = log.states.check(&header(A, 0, 3, 1), Origin::Client);
    let producer_id = ProducerId(A);
    assert_eq!(
        outside,
        Err(ProducerError::OutsideTransaction { producer_id })
    );

    let completed = log.take(control(A, 0), Some(marker(false, 4)));
    let expected = CompletedTransaction {
        producer_id,
        first_offset: Offset(10),
        last_offset: Offset(15),
        is_aborted: true,
        last_stable_offset: Offset(12),
    };
    assert_eq!(completed, Some(expected));
    assert_eq!(log.states.first_unstable_offset(), Some(Offset(10)));
    assert_eq!(log.states.first_undecided_offset(), Some(Offset(12)));
    log.states.on_high_watermark(Offset(15));
    assert_eq!(log.states.first_unstable_offset(), Some(Offset(10)));
    log.states.on_high_watermark(Offset(16));
    assert_eq!(log.states.first_unstable_offset(), Some(Offset(12)));

    let completed = log
        .take(control(8, 0), Some(marker(true, 4)))
        .expect("it was open");
    assert_eq!(completed.last_stable_offset, Offset(17));
    assert!(!completed.is_aborted);
    log.states.on_log_start(Offset(30));
    assert_eq!(log.states.first_unstable_offset(), None);
    assert_eq!(log.states.end_offset(), Offset(30));
    // The sequence goes on after the transaction, in its epoch.
    assert_eq!(log.produce(header(A, 0, 3, 1)), Ok(Verdict::Accept));
    // A marker without a transaction completes none, and one with a new epoch begins at 0.
    assert_eq!(log.take(control(A, 1), Some(marker(true, 4))), None);
    assert!(log.produce(header(A, 1, 4, 1)).is_err());
    assert_eq!(log.produce(header(A, 1, 0, 1)), Ok(Verdict::Accept));
}

#[test]
fn markers_are_fenced_by_both_epochs() {
    let mut log = Log::default();
    log.take(transactional(header(A, 3, 0, 1)), None);
    log.take(control(A, 3), Some(marker(true, 5)));
    let check = |epoch, coordinator| {
        let (id, epoch) = (ProducerId(A), ProducerEpoch(epoch));
        log.states
            .check_marker(id, epoch, marker(true, coordinator))
    };
    assert_eq!(check(3, 5), Ok(()));
    assert_eq!(check(4, 6), Ok(()));
    assert!(matches!(
        check(2, 5),
        Err(ProducerError::InvalidEpoch { .. })
    ));
    assert!(matches!(
        check(3, 4),
        Err(ProducerError::CoordinatorFenced { .. })
    ));
    let unknown = log
        .states
        .check_marker(ProducerId(1), ProducerEpoch(0), marker(true, 0));
    assert_eq!(unknown, Ok(()));
    // A control batch that compaction has emptied changes nothing but the end.
    let before = log.states.clone();
    assert_eq!(log.take(control(A, 9), None), None);
    assert_eq!(log.states.get(ProducerId(A)), before.get(ProducerId(A)));
}

#[test]
fn idle_producers_expire_unless_a_transaction_is_open() {
    let mut log = Log::default();
    let at = |mut header: BatchHeader, timestamp| {
        header.max_timestamp = timestamp;
        header
    };
    log.take(at(header(1, 0, 0, 1), 1_000), None);
    log.take(at(header(2, 0, 0, 1), 1_001), None);
    log.take(at(transactional(header(3, 0, 0, 1)), 0), None);
    log.states.remove_expired(2_000, 1_000);
    let mut left: Vec<_> = log.states.iter().map(|(id, _)| id.0).collect();
    left.sort_unstable();
    assert_eq!(left, [2, 3]);
    // Forgotten, it goes on where it was.
    assert_eq!(log.produce(header(1, 0, 1, 1)), Ok(Verdict::Accept));
    log.states.reset(Offset(5));
    assert_eq!(log.states, ProducerStates::new(Offset(5)));
}

#[test]
fn too_many_producers_push_out_the_longest_idle_and_no_open_transaction() {
    let mut log = Log::default();
    log.take(transactional(header(0, 0, 0, 1)), None);
    let template = header(0, 0, 0, 1);
    for producer in 1..=PRODUCERS_PER_PARTITION_MAX as i64 {
        let producer_id = ProducerId(producer);
        log.take(
            BatchHeader {
                producer_id,
                ..template
            },
            None,
        );
    }
    let newest = ProducerId(PRODUCERS_PER_PARTITION_MAX as i64);
    assert!(log.states.len() <= PRODUCERS_PER_PARTITION_MAX);
    assert!(log.states.len() > PRODUCERS_PER_PARTITION_MAX * 9 / 10);
    assert!(
        log.states.get(ProducerId(0)).is_some(),
        "its transaction is open"
    );
    assert!(
        log.states.get(ProducerId(1)).is_none(),
        "it is the longest idle"
    );
    assert!(log.states.get(newest).is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Next { producer: usize, count: i32 },
    Retry { producer: usize, back: usize },
    Gap { producer: usize },
    NewEpoch { producer: usize },
    Transaction { producer: usize },
    End { producer: usize, is_commit: bool },
    HighWatermark,
}

fn any_step() -> impl Strategy<Value = Step> {
    let producer = 0_usize..3;
    prop_oneof![
        5 => (producer.clone(), 1..5).prop_map(|(producer, count)| Step::Next { producer, count }),
        3 => (producer.clone(), 0_usize..7)
            .prop_map(|(producer, back)| Step::Retry { producer, back }),
        1 => producer.clone().prop_map(|producer| Step::Gap { producer }),
        1 => producer.clone().prop_map(|producer| Step::NewEpoch { producer }),
        2 => producer.clone().prop_map(|producer| Step::Transaction { producer }),
        2 => (producer, any::<bool>())
            .prop_map(|(producer, is_commit)| Step::End { producer, is_commit }),
        1 => Just(Step::HighWatermark),
    ]
}

#[derive(Clone, Debug, Default)]
struct Client {
    epoch: i16,
    next_sequence: i32,
    sent: Vec<BatchHeader>,
    in_transaction: bool,
}

/// One step of a client that only ever sends what it may, retries of any age included.
fn run(log: &mut Log, clients: &mut [Client], step: &Step) -> Result<(), TestCaseError> {
    let (Step::Next { producer, .. }
    | Step::Retry { producer, .. }
    | Step::Gap { producer }
    | Step::NewEpoch { producer }
    | Step::Transaction { producer }
    | Step::End { producer, .. }) = *step
    else {
        log.states.on_high_watermark(log.states.end_offset());
        return Ok(());
    };
    let id = producer as i64;
    let client = &mut clients[producer];
    let appended = log.headers.len();
    match *step {
        Step::Next { count, .. } => {
            let mut batch = header(id, client.epoch, client.next_sequence, count);
            if client.in_transaction {
                batch = transactional(batch);
            }
            prop_assert_eq!(log.produce(batch), Ok(Verdict::Accept));
            client.next_sequence = crate::record::header::sequence_plus(batch.base_sequence, count);
            client.sent.push(log.headers[appended].0);
        }
        Step::Retry { back, .. } if back < client.sent.len() => {
            let original = client.sent[client.sent.len() - 1 - back];
            let retry = BatchHeader {
                base_offset: Offset(0),
                ..original
            };
            match log.produce(retry) {
                Ok(Verdict::Duplicate(kept)) => {
                    prop_assert_eq!(kept.base_offset, original.base_offset);
                    prop_assert!(back < PRODUCER_BATCHES_KEPT);
                }
                Ok(Verdict::Accept) => prop_assert!(false, "a retry was appended twice"),
                Err(_) => prop_assert!(back >= PRODUCER_BATCHES_KEPT),
            }
            prop_assert_eq!(log.headers.len(), appended);
        }
        Step::Gap { .. } if !client.sent.is_empty() => {
            let sequence = crate::record::header::sequence_plus(client.next_sequence, 1);
            prop_assert!(log.produce(header(id, client.epoch, sequence, 1)).is_err());
        }
        Step::NewEpoch { .. } if !client.in_transaction => {
            client.epoch += 1;
            client.next_sequence = 0;
            client.sent.clear();
        }
        Step::Transaction { .. } => client.in_transaction = true,
        // A marker makes a producer known, who then begins at 0.
        Step::End { is_commit, .. }
            if client.in_transaction && (!client.sent.is_empty() || client.next_sequence == 0) =>
        {
            client.in_transaction = false;
            log.take(control(id, client.epoch), Some(marker(is_commit, 1)));
        }
        _ => {}
    }
    Ok(())
}

proptest! {
    /// Whatever a producer retries, a batch is in the log once; and a snapshot taken anywhere plus
    /// the batches behind it is the same state as all batches.
    #[test]
    fn every_batch_is_appended_once_and_recovery_is_the_same_code(
        steps in prop::collection::vec(any_step(), 1..120),
        start in prop_oneof![Just(0), Just(MAX - 20)],
        snapshot_at in any::<prop::sample::Index>(),
    ) {
        let mut log = Log::default();
        let client = Client { next_sequence: start, ..Client::default() };
        let mut clients = vec![client; 3];
        let snapshot_at = snapshot_at.index(steps.len());
        let mut snapshot = (Vec::new(), 0);
        for (index, step) in steps.iter().enumerate() {
            if index == snapshot_at {
                snapshot = (producer_snapshot::encode(&log.states), log.headers.len());
            }
            run(&mut log, &mut clients, step)?;
        }
        let restored = producer_snapshot::decode(&snapshot.0);
        let mut restored = restored.expect("it was just written");
        for (header, marker) in &log.headers[snapshot.1..] {
            restored.apply(header, *marker);
        }
        let end = log.states.end_offset();
        restored.on_high_watermark(end);
        log.states.on_high_watermark(end);
        prop_assert_eq!(&restored, &log.states);
        let mut replayed = ProducerStates::default();
        for (header, marker) in &log.headers {
            replayed.apply(header, *marker);
        }
        replayed.on_high_watermark(end);
        prop_assert_eq!(&replayed, &log.states);
    }
}
