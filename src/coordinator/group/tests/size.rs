//! Bounds: of a group's members, of its record, and of the ids that are handed out.

use super::*;
use crate::base::limits::PENDING_IDS_PER_GROUP_MAX;

fn full() -> (GroupError, ByteString) {
    (GroupError::GroupMaxSizeReached, ByteString::new())
}

fn of_size(max_size: usize) -> Fixture {
    Fixture::with(|config| config.max_size = max_size)
}

#[test]
fn a_group_takes_no_more_members_than_it_may() {
    for member in [client().version(3), client(), client().version(9)] {
        let mut f = of_size(10);
        let mut clients = vec![member; 11];
        for client in &mut clients {
            if client.version >= 4 {
                f.name(client);
            }
        }
        let waiting: Vec<_> = clients[..10].iter().map(|client| f.join(client)).collect();
        assert!(waiting.iter().all(|reply_to| f.waits(*reply_to)));
        assert_eq!(f.refused(&clients[10]), full());
        f.pass(2 * DELAY);
        for (client, reply_to) in clients.iter_mut().zip(waiting) {
            let reply = f.joined(reply_to);
            assert_eq!(reply.generation, 1);
            client.id = reply.member_id;
        }
        assert_eq!(f.pending_ids(), 0);

        // Those that are in it may join again.
        for client in &clients[..10] {
            let again = f.join(client);
            assert_eq!(f.joined(again).generation, 1);
        }
        assert_eq!(f.refused(&client()), full());
    }
}

#[test]
fn static_members_count_as_well() {
    let mut f = of_size(10);
    let member = |n: usize| client().of_instance(&format!("i{n}"));
    let waiting: Vec<_> = (0..10).map(|n| f.join(&member(n))).collect();
    assert_eq!(f.refused(&member(10)), full());
    f.pass(2 * DELAY);
    for (n, reply_to) in waiting.into_iter().enumerate() {
        let id = f.joined(reply_to).member_id;
        let again = f.join(&member(n).named(&id));
        assert_eq!(f.joined(again).generation, 1);
    }
}

/// Kafka locks it out until the session of what it was is over.
#[test]
fn a_full_group_takes_a_restarted_static_member() {
    let (f, _, follower) = up_static(30_000);
    let mut f = f.successor(|config| config.max_size = 2);
    let waiting = f.join(&follower.restarted());
    assert_eq!(f.joined(waiting).result, Ok(()));
    assert_eq!(f.refused(&client()), full());
}

#[test]
fn of_a_group_that_is_too_large_the_last_are_sent_away() {
    let mut clients: [Client; 12] = std::array::from_fn(|_| client());
    let mut f = stable(&mut clients).successor(|config| config.max_size = 10);
    assert_eq!(f.state(), GroupState::PreparingRebalance);
    assert_eq!(f.size(), 12);
    let waiting: Vec<_> = clients[..10].iter().map(|client| f.join(client)).collect();
    for client in &clients[10..] {
        assert_eq!(f.refused(client), full());
    }
    for reply_to in waiting {
        assert_eq!(f.joined(reply_to).generation, 2);
    }
    assert_eq!(f.size(), 10);
}

#[test]
fn a_groups_record_must_fit_its_log() {
    let mut f = Fixture::with(|config| config.record_bytes_max = 100_000);
    let mut large = client();
    large.protocols[0].metadata = Bytes::from(vec![0; 30_000]);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(f.enter(&mut large.clone()));
    }
    assert_eq!(f.refused(&large), full());
    let mut small = client();
    waiting.push(f.enter(&mut small));
    f.pass(REBALANCE);
    for reply_to in waiting {
        assert_eq!(f.joined(reply_to).generation, 1);
    }

    // A member that grows beyond it has to go.
    small.protocols = large.protocols;
    assert_eq!(f.refused(&small), full());
    assert_eq!((f.state(), f.size()), (GroupState::PreparingRebalance, 3));
}

#[test]
fn ids_that_are_handed_out_have_bounds() {
    let mut f = Fixture::new();
    let flood = client().session(60_000);
    for _ in 0..PENDING_IDS_PER_GROUP_MAX {
        f.name(&mut flood.clone());
    }
    let refused = (GroupError::NotAvailable, ByteString::new());
    assert_eq!(f.refused(&flood), refused);
    assert_eq!(f.machine.timers.len(), PENDING_IDS_PER_GROUP_MAX + 1);
    f.pass(60_000);
    assert_eq!((f.pending_ids(), f.machine.timers.len()), (0, 1));
    f.name(&mut flood.clone());
}
