//! Sessions as clients use them, the eviction rules, and a client that keeps its own account.
//! Tests only.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::base::ids::{Offset, PartitionIndex, TopicId};

const T: i64 = FETCH_SESSION_EVICTION_MS;

fn key(topic: u128, partition: i32) -> PartitionKey {
    PartitionKey {
        topic: TopicKey::Id(TopicId(topic)),
        partition: PartitionIndex(partition),
    }
}

fn at(fetch_offset: i64) -> PartitionRequest {
    PartitionRequest {
        fetch_offset: Offset(fetch_offset),
        max_bytes: 1_000,
        current_leader_epoch: None,
        last_fetched_epoch: None,
        fetcher_log_start_offset: Offset(-1),
    }
}

fn request(session_id: i32, session_epoch: i32, partitions: &[i32]) -> SessionRequest {
    SessionRequest {
        session_id,
        session_epoch,
        uses_topic_ids: true,
        is_follower: false,
        partitions: partitions
            .iter()
            .map(|index| (key(5, *index), at(0)))
            .collect(),
        forgotten: Vec::new(),
    }
}

/// Nothing new since the log began.
const QUIET: PartitionOutcome = PartitionOutcome {
    high_watermark: Offset(10),
    log_start_offset: Offset(0),
    has_records: false,
    has_error: false,
    must_tell: false,
};

fn sessions(slots_max: usize) -> FetchSessions {
    FetchSessions::new(slots_max, ShardId(0), 1, 42)
}

fn indexes<T>(partitions: &[(PartitionKey, T)]) -> Vec<i32> {
    partitions.iter().map(|(key, _)| key.partition.0).collect()
}

/// One fetch in which every partition is quiet but the given ones. What the reply holds.
fn fetch_with(
    sessions: &mut FetchSessions,
    request: SessionRequest,
    news: &[(i32, PartitionOutcome)],
    now_ms: i64,
) -> Result<(i32, Vec<i32>), SessionError> {
    let plan = sessions.begin(request, now_ms)?;
    let outcome = |key: &PartitionKey| {
        let news = news.iter().find(|(index, _)| *index == key.partition.0);
        news.map_or(QUIET, |(_, outcome)| *outcome)
    };
    let keys = plan.partitions.iter().map(|(key, _)| key.clone());
    let mut results: Vec<_> = keys.map(|key| (key.clone(), outcome(&key))).collect();
    let id = sessions.complete(&plan, &mut results, |outcome| *outcome, now_ms)?;
    Ok((id, indexes(&results)))
}

fn fetch(
    sessions: &mut FetchSessions,
    request: SessionRequest,
) -> Result<(i32, Vec<i32>), SessionError> {
    fetch_with(sessions, request, &[], 0)
}

/// A new session with these partitions.
fn open(sessions: &mut FetchSessions, partitions: &[i32]) -> i32 {
    let (id, told) = fetch(sessions, request(0, 0, partitions)).expect("a new session");
    assert_eq!(told, partitions, "a full reply holds everything");
    id
}

#[test]
fn an_incremental_reply_holds_what_is_new_and_nothing_else() {
    let mut sessions = sessions(10);
    let id = open(&mut sessions, &[0, 1, 2, 3, 4, 5]);
    assert_ne!(id, NO_SESSION);
    let news = [
        (
            1,
            PartitionOutcome {
                high_watermark: Offset(11),
                ..QUIET
            },
        ),
        (
            2,
            PartitionOutcome {
                log_start_offset: Offset(3),
                ..QUIET
            },
        ),
        (
            3,
            PartitionOutcome {
                has_records: true,
                ..QUIET
            },
        ),
        (
            4,
            PartitionOutcome {
                has_error: true,
                high_watermark: Offset(-1),
                ..QUIET
            },
        ),
        (
            5,
            PartitionOutcome {
                must_tell: true,
                ..QUIET
            },
        ),
    ];
    let told = fetch_with(&mut sessions, request(id, 1, &[]), &news, 0);
    assert_eq!(told, Ok((id, vec![1, 2, 3, 4, 5])));
    // Once told, the marks are no news; that an error went away is, and so it is until it does.
    let told = fetch_with(&mut sessions, request(id, 2, &[]), &news[..2], 0);
    assert_eq!(told, Ok((id, vec![4])));
    let told = fetch_with(&mut sessions, request(id, 3, &[]), &news[..2], 0);
    assert_eq!(told, Ok((id, vec![])));
    let told = fetch_with(&mut sessions, request(id, 4, &[]), &news[3..4], 0);
    assert_eq!(told, Ok((id, vec![1, 2, 4])));
    let told = fetch_with(&mut sessions, request(id, 5, &[]), &news[3..4], 0);
    assert_eq!(told, Ok((id, vec![4])));
}

#[test]
fn partitions_are_added_changed_and_forgotten() {
    let mut sessions = sessions(10);
    let id = open(&mut sessions, &[0, 1, 2]);
    let mut change = request(id, 1, &[3]);
    change.partitions.push((key(5, 1), at(77)));
    change.forgotten = vec![key(5, 0), key(9, 9)];
    let plan = sessions.begin(change, 0).expect("the session goes on");
    assert_eq!(indexes(&plan.partitions), [1, 2, 3]);
    assert_eq!(plan.partitions[0].1, at(77));
    assert_eq!(sessions.partitions_count(), 3);
    // A partition that was added is told of once, whatever there is.
    let mut results: Vec<_> = [1, 2, 3].map(|index| (key(5, index), QUIET)).into();
    assert_eq!(
        sessions.complete(&plan, &mut results, |result| *result, 0),
        Ok(id)
    );
    assert_eq!(indexes(&results), [3]);
}

#[test]
fn a_session_without_partitions_closes() {
    let mut sessions = sessions(10);
    let id = open(&mut sessions, &[0, 1]);
    let mut last = request(id, 1, &[]);
    last.forgotten = vec![key(5, 0), key(5, 1)];
    assert_eq!(fetch(&mut sessions, last), Ok((NO_SESSION, vec![])));
    assert!(sessions.is_empty());
    let gone = SessionError::NotFound { session_id: id };
    assert_eq!(fetch(&mut sessions, request(id, 2, &[])), Err(gone));
}

#[test]
fn epochs_count_up_and_a_repeated_or_lost_request_is_noticed() {
    let mut sessions = sessions(10);
    let id = open(&mut sessions, &[0]);
    let wrong = |epoch, expected| SessionError::Epoch {
        session_id: id,
        epoch,
        expected,
    };
    assert_eq!(fetch(&mut sessions, request(id, 2, &[])), Err(wrong(2, 1)));
    assert!(fetch(&mut sessions, request(id, 1, &[])).is_ok());
    assert_eq!(fetch(&mut sessions, request(id, 1, &[])), Err(wrong(1, 2)));
    assert_eq!(
        fetch(&mut sessions, request(id, -2, &[])),
        Err(wrong(-2, 2))
    );
    assert!(fetch(&mut sessions, request(id, 2, &[])).is_ok());
    assert_eq!((next_epoch(1), next_epoch(i32::MAX)), (2, 1));

    // Two requests of one session in progress: the first one's reply is refused, as in Kafka.
    let first = sessions.begin(request(id, 3, &[]), 0).expect("first");
    let second = sessions.begin(request(id, 4, &[]), 0).expect("second");
    let mut results = vec![(key(5, 0), QUIET)];
    let refused = sessions.complete(&first, &mut results, |result| *result, 0);
    assert_eq!(refused, Err(wrong(4, 5)));
    assert!(
        sessions
            .complete(&second, &mut results, |result| *result, 0)
            .is_ok()
    );
}

#[test]
fn ids_that_are_not_there_and_other_ways_to_name_topics_are_refused() {
    let mut sessions = sessions(10);
    let id = open(&mut sessions, &[0]);
    for session_id in [id ^ 1, 0, -7, i32::MIN] {
        let refused = fetch(&mut sessions, request(session_id, 1, &[]));
        assert_eq!(refused, Err(SessionError::NotFound { session_id }));
    }
    let by_name = SessionRequest {
        uses_topic_ids: false,
        ..request(id, 1, &[])
    };
    let refused = fetch(&mut sessions, by_name);
    assert_eq!(refused, Err(SessionError::TopicIds { session_id: id }));
    assert!(
        fetch(&mut sessions, request(id, 1, &[])).is_ok(),
        "the session is not harmed"
    );
}

#[test]
fn a_full_request_closes_the_session_it_names() {
    let mut sessions = sessions(10);
    let first = open(&mut sessions, &[0]);
    let (second, _) = fetch(&mut sessions, request(first, INITIAL_EPOCH, &[0])).expect("full");
    assert!(second != first && second != NO_SESSION);
    assert_eq!(sessions.len(), 1);
    let closed = fetch(&mut sessions, request(second, FINAL_EPOCH, &[0, 1]));
    assert_eq!(closed, Ok((NO_SESSION, vec![0, 1])));
    assert!(sessions.is_empty());
    assert_eq!(
        (sessions.partitions_count(), sessions.evictions_count()),
        (0, 0)
    );
}

#[test]
fn a_partition_that_is_named_twice_is_fetched_once_as_it_was_named_last() {
    let mut sessions = sessions(10);
    let mut twice = request(0, FINAL_EPOCH, &[0, 1, 0]);
    twice.partitions[2].1 = at(9);
    let plan = sessions.begin(twice, 0).expect("sessionless");
    assert_eq!(plan.partitions, [(key(5, 0), at(9)), (key(5, 1), at(0))]);
}

#[test]
fn partitions_that_had_data_go_to_the_end_of_the_line() {
    let mut sessions = sessions(10);
    let id = open(&mut sessions, &[0, 1, 2, 3]);
    let records = |index| {
        (
            index,
            PartitionOutcome {
                has_records: true,
                ..QUIET
            },
        )
    };
    fetch_with(
        &mut sessions,
        request(id, 1, &[]),
        &[records(0), records(2)],
        0,
    )
    .expect("good");
    let plan = sessions.begin(request(id, 2, &[3]), 0).expect("good");
    assert_eq!(indexes(&plan.partitions), [1, 3, 0, 2]);
}

/// A session that holds a slot: of a follower or not, its partitions, when it was last used.
type Held = (bool, usize, i64);

/// The sessions that hold all slots, then a new one (of a follower or not, its partitions), the
/// time, and which of the sessions gives way to it.
type Eviction = (&'static [Held], (bool, usize), i64, Option<usize>);

const EVICTIONS: &[Eviction] = &[
    // Young sessions are safe from their own kind, but consumers' not from followers'.
    (&[(false, 2, 0), (false, 3, 0)], (false, 9), 5, None),
    (&[(false, 3, 0), (false, 2, 0)], (true, 1), 5, Some(1)),
    (&[(true, 2, 0), (true, 3, 0)], (true, 9), 5, None),
    (&[(true, 2, 0), (false, 3, 0)], (true, 1), 5, Some(1)),
    // Settled ones give way to larger ones, but not to ones that are smaller.
    (
        &[(false, 2, T + 1), (false, 3, T + 1)],
        (false, 3),
        T + 2,
        Some(0),
    ),
    (
        &[(false, 2, T + 1), (false, 3, T + 1)],
        (false, 1),
        T + 2,
        None,
    ),
    (
        &[(false, 2, T + 1), (false, 3, T + 1)],
        (false, 2),
        T + 2,
        None,
    ),
    (
        &[(false, 2, T + 1), (true, 1, T + 1)],
        (false, 9),
        T + 2,
        Some(0),
    ),
    (
        &[(true, 1, T + 1), (true, 2, T + 1)],
        (false, 9),
        T + 2,
        None,
    ),
    (
        &[(true, 1, T + 1), (true, 2, T + 1)],
        (true, 2),
        T + 2,
        Some(0),
    ),
    // Idle for too long: the idlest goes, whoever asks and whatever it is.
    (&[(true, 9, 7), (true, 9, 0)], (false, 1), T + 1, Some(1)),
    (&[(true, 9, 7), (true, 9, 1)], (false, 1), T + 1, None),
];

/// A full request for `count` partitions.
fn sized(is_follower: bool, count: usize) -> SessionRequest {
    let partitions: Vec<_> = (0..count as i32).collect();
    SessionRequest {
        is_follower,
        ..request(0, 0, &partitions)
    }
}

#[test]
fn the_session_that_is_evicted_is_the_least_worth() {
    for (row, (held, (is_follower, count), now_ms, expected)) in EVICTIONS.iter().enumerate() {
        let mut sessions = sessions(held.len());
        let ids: Vec<_> = held
            .iter()
            .map(|(is_follower, count, last_used_ms)| {
                let new = fetch(&mut sessions, sized(*is_follower, *count));
                let (id, _) = new.expect("there is room");
                let used = fetch_with(&mut sessions, request(id, 1, &[]), &[], *last_used_ms);
                used.map(|(id, _)| id).expect("the session is there")
            })
            .collect();
        let new = fetch_with(&mut sessions, sized(*is_follower, *count), &[], *now_ms);
        let (id, _) = new.expect("a full fetch");
        assert_eq!(id != NO_SESSION, expected.is_some(), "row {row}");
        for (index, id) in ids.iter().enumerate() {
            let is_there = sessions.sessions.contains_key(id);
            assert_eq!(
                is_there,
                *expected != Some(index),
                "row {row}, session {index}"
            );
        }
        assert_eq!(sessions.len(), held.len());
        assert_eq!(sessions.evictions_count(), u64::from(expected.is_some()));
    }
    assert_eq!(open(&mut sessions(0), &[1]), NO_SESSION);
}

#[test]
fn a_session_evicted_while_it_waits_tells_everything_and_is_gone_then() {
    let mut sessions = sessions(1);
    let id = open(&mut sessions, &[0, 1]);
    let plan = sessions.begin(request(id, 1, &[]), 0).expect("good");
    let follower = SessionRequest {
        is_follower: true,
        ..request(0, 0, &[7])
    };
    assert!(fetch(&mut sessions, follower).is_ok());
    let mut results: Vec<_> = [0, 1].map(|index| (key(5, index), QUIET)).into();
    assert_eq!(
        sessions.complete(&plan, &mut results, |result| *result, 0),
        Ok(id)
    );
    assert_eq!(indexes(&results), [0, 1]);
    let gone = SessionError::NotFound { session_id: id };
    assert_eq!(fetch(&mut sessions, request(id, 2, &[])), Err(gone));
}

#[test]
fn what_all_sessions_remember_has_a_bound() {
    let max = FETCH_SESSION_PARTITIONS_MAX as i32;
    let mut sessions = sessions(10);
    let all: Vec<_> = (0..max).collect();
    let id = open(&mut sessions, &all[1..]);
    assert_eq!(open(&mut sessions, &[0, 1]), NO_SESSION);
    assert_ne!(open(&mut sessions, &[0]), NO_SESSION);
    assert_eq!(sessions.partitions_count(), max as usize);
    // A session that grows past it is closed.
    let gone = SessionError::NotFound { session_id: id };
    assert_eq!(fetch(&mut sessions, request(id, 1, &[0])), Err(gone));
    assert_eq!(sessions.partitions_count(), 1);
}

/// An eviction that leaves too little room would cost a session and win none.
#[test]
fn nothing_is_evicted_in_vain() {
    let max = FETCH_SESSION_PARTITIONS_MAX as i32;
    let mut sessions = sessions(10);
    let idle = fetch_with(&mut sessions, request(0, INITIAL_EPOCH, &[0, 1]), &[], 0);
    let all: Vec<_> = (2..max).collect();
    let large = fetch_with(&mut sessions, request(0, INITIAL_EPOCH, &all), &[], T);
    let (idle, large) = (idle.expect("a session").0, large.expect("a session").0);
    assert!(idle != NO_SESSION && large != NO_SESSION);
    let now = 2 * T;
    let new = fetch_with(
        &mut sessions,
        request(0, INITIAL_EPOCH, &[0, 1, 2]),
        &[],
        now,
    );
    assert_eq!(new.expect("in full").0, NO_SESSION);
    assert_eq!((sessions.len(), sessions.evictions_count()), (2, 0));
    let new = fetch_with(&mut sessions, request(0, INITIAL_EPOCH, &[0, 1]), &[], now);
    assert_ne!(new.expect("a session").0, NO_SESSION);
    assert_eq!((sessions.len(), sessions.evictions_count()), (2, 1));
    let gone = SessionError::NotFound { session_id: idle };
    assert_eq!(
        fetch_with(&mut sessions, request(idle, 1, &[]), &[], now),
        Err(gone)
    );
}

#[test]
fn the_slots_of_the_broker_are_shared_out() {
    for (slots, shards_count, expected) in [
        (1000, 1, vec![1000]),
        (1000, 3, vec![334, 333, 333]),
        (2, 4, vec![1, 1, 1, 1]),
        (0, 2, vec![0, 0]),
    ] {
        let made = (0..shards_count)
            .map(|shard| FetchSessions::new(slots, ShardId(shard), shards_count, 42));
        let parts: Vec<_> = made.map(|sessions| sessions.slots_max).collect();
        assert_eq!(parts, expected, "{slots} for {shards_count}");
    }
}

#[test]
fn the_ids_of_shards_do_not_overlap_and_none_is_0() {
    for shards_count in [1, 2, 3, 64, u16::MAX] {
        let mut end = 0;
        for shard in [0, 1, 2, u16::MAX - 1] {
            if shard >= shards_count {
                continue;
            }
            let mut sessions = FetchSessions::new(
                4 * usize::from(shards_count),
                ShardId(shard),
                shards_count,
                shard.into(),
            );
            assert!(sessions.first_id > end || shard == 0);
            for _ in 0..4 {
                let id = open(&mut sessions, &[0]);
                assert!(id >= sessions.first_id && id > 0);
                assert!(id - sessions.first_id < sessions.ids);
            }
            end = sessions.first_id + (sessions.ids - 1);
        }
    }
}

proptest! {
    /// A client that knows only what replies told it knows the truth after each of them.
    #[test]
    fn what_a_client_was_told_is_what_there_is(
        steps in prop::collection::vec(
            (
                prop::collection::vec((0_i32..6, 0_i64..4, 0_i64..3, any::<bool>()), 0..4),
                prop::option::of(0_i32..6),
                prop::option::of(0_i32..6),
            ),
            1..40,
        ),
    ) {
        let mut sessions = sessions(2);
        let nothing = (0_i64, 0_i64, false);
        let mut truth: BTreeMap<_, _> = (0..6).map(|index| (index, nothing)).collect();
        let mut wanted: Vec<i32> = vec![0, 1, 2];
        let mut known = BTreeMap::new();
        let (mut id, mut epoch) = (0, 0);
        for (changes, add, forget) in steps {
            for (index, mark, start, has_error) in changes {
                truth.insert(index, (mark, start, has_error));
            }
            let mut request = request(id, epoch, if epoch == 0 { &wanted } else { &[] });
            if epoch != 0 {
                let forget = forget.filter(|index| wanted.len() > 1 && wanted.contains(index));
                request.forgotten = forget.iter().map(|index| key(5, *index)).collect();
                wanted.retain(|index| Some(*index) != forget);
                known.retain(|index, _| Some(*index) != forget);
                if let Some(add) = add.filter(|add| Some(*add) != forget) {
                    request.partitions.push((key(5, add), at(0)));
                    wanted.retain(|index| *index != add);
                    wanted.push(add);
                }
            }
            let plan = sessions.begin(request, 0).expect("the client keeps to the rules");
            let mut planned = indexes(&plan.partitions);
            planned.sort_unstable();
            let mut expected = wanted.clone();
            expected.sort_unstable();
            prop_assert_eq!(planned, expected);
            let mut results: Vec<_> = plan
                .partitions
                .iter()
                .map(|(key, _)| (key.clone(), truth[&key.partition.0]))
                .collect();
            let outcome = |(mark, start, has_error): &(i64, i64, bool)| PartitionOutcome {
                high_watermark: Offset(*mark),
                log_start_offset: Offset(*start),
                has_error: *has_error,
                ..QUIET
            };
            id = sessions.complete(&plan, &mut results, outcome, 0).expect("its turn");
            epoch += 1;
            for (key, told) in results {
                known.insert(key.partition.0, told);
            }
            for index in &wanted {
                prop_assert_eq!(known.get(index), truth.get(index), "partition {}", index);
            }
        }
    }
}
