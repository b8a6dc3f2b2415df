//! Members that join again, and those that do not.

use super::*;

#[test]
fn a_lost_answer_is_given_again() {
    let mut clients = [client()];
    let mut f = joined(&mut clients);
    let [a] = clients;
    let again = f.join(&a);
    let reply = f.joined(again);
    assert_eq!((reply.generation, reply.members.len()), (1, 1));
    assert_eq!(f.state(), GroupState::CompletingRebalance);

    // With other protocols it is a new rebalance, of one member through at once.
    let again = f.join(&a.lists(&["range", "roundrobin"]));
    assert_eq!(f.joined(again).generation, 2);
    assert_eq!(f.state(), GroupState::CompletingRebalance);
}

#[test]
fn a_leader_that_rejoins_starts_a_rebalance() {
    let (mut f, [a]) = up::<1>();
    let again = f.join(&a);
    assert_eq!(f.joined(again).generation, 2);
    assert_eq!(f.state(), GroupState::CompletingRebalance);
}

#[test]
fn a_follower_that_rejoins_unchanged_starts_none() {
    let (mut f, [_, b]) = up::<2>();
    let again = f.join(&b);
    let reply = f.joined(again);
    assert_eq!((reply.generation, reply.members.len()), (1, 0));
    assert_eq!(f.state(), GroupState::Stable);
}

#[test]
fn any_change_of_a_followers_protocols_starts_one() {
    let listed = client().lists(&["range", "sticky"]);
    let mut other_bytes = listed.clone();
    other_bytes.protocols[1].metadata = Bytes::from_static(b"n");
    let rows = [
        listed.clone().lists(&["range"]),
        listed.clone().lists(&["sticky", "range"]),
        listed.clone().lists(&["range", "sticky", "roundrobin"]),
        other_bytes,
    ];
    for changed in rows {
        let mut clients = [listed.clone(), listed.clone()];
        let mut f = stable(&mut clients);
        let [a, b] = clients;
        let follower = f.join(&changed.clone().named(&b.id));
        assert!(f.waits(follower));
        assert_eq!(f.state(), GroupState::PreparingRebalance);
        let leader = f.join(&a);
        for reply_to in [follower, leader] {
            assert_eq!(f.joined(reply_to).generation, 2, "{changed:?}");
        }
    }
}

#[test]
fn a_silent_leader_loses_its_place() {
    let mut clients = [client().rebalance(1000)];
    let mut f = stable(&mut clients);
    let [a] = clients;
    let mut newcomer = client();
    let waiting = f.enter(&mut newcomer);
    // The newcomer is patient, and the group with it.
    f.pass(REBALANCE - 1);
    assert!(f.waits(waiting));
    f.pass(1);
    let reply = f.joined(waiting);
    assert_eq!((reply.generation, reply.leader), (2, newcomer.id));
    assert_eq!(f.heartbeat(&a, 1), Err(GroupError::UnknownMemberId));
}

#[test]
fn after_a_restart_only_the_elected_protocol_is_known() {
    let listed = client().lists(&["range", "roundrobin"]);
    let mut clients = [listed.clone(), listed];
    let mut f = stable(&mut clients).successor(|_| {});
    let [_, b] = clients;
    let follower = f.join(&b);
    assert!(f.waits(follower));
    assert_eq!(f.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_rebalance_of_static_members_lasts_until_one_rejoins() {
    let (mut f, a, b) = up_static(1_000_000);
    let mut newcomer = client().lists(&["range"]);
    f.enter(&mut newcomer);
    let leaving = f.leave(&[(&newcomer.id, None)]);
    assert_eq!(f.left(leaving), [Ok(())]);
    f.pass(5 * REBALANCE);
    assert_eq!(f.state(), GroupState::PreparingRebalance);
    let waiting = [f.join(&a), f.join(&b)];
    for reply_to in waiting {
        assert_eq!(f.joined(reply_to).generation, 2);
    }
    assert_eq!(f.recorded(), []);
}

/// A group of two in a rebalance in which both wait for the client that was given an id.
fn waiting_for_an_id() -> (Fixture, [ReplyId; 2], Client) {
    let (mut f, [a, b]) = up::<2>();
    let leader = f.join(&a);
    let mut newcomer = client().session(2000);
    f.name(&mut newcomer);
    let follower = f.join(&b);
    assert!(f.waits(leader) && f.waits(follower));
    (f, [leader, follower], newcomer)
}

#[test]
fn a_rebalance_waits_for_an_id_that_was_handed_out() {
    // It joins.
    let (mut f, [leader, follower], newcomer) = waiting_for_an_id();
    let third = f.join(&newcomer);
    for reply_to in [leader, follower, third] {
        assert_eq!(f.joined(reply_to).generation, 2);
    }
    assert_eq!((f.size(), f.pending_ids()), (3, 0));

    // Its time is up.
    let (mut f, [leader, follower], _) = waiting_for_an_id();
    f.pass(1999);
    assert!(f.waits(leader));
    f.pass(1);
    for reply_to in [leader, follower] {
        assert_eq!(f.joined(reply_to).generation, 2);
    }
    assert_eq!((f.size(), f.pending_ids()), (2, 0));

    // It leaves.
    let (mut f, waiting, left) = waiting_for_an_id();
    let leaving = f.leave(&[(&left.id, None)]);
    assert_eq!(f.left(leaving), [Ok(())]);
    for reply_to in waiting {
        assert_eq!(f.joined(reply_to).generation, 2);
    }

    // The rebalance has no more time. The id stays.
    let (mut f, [a, b]) = up::<2>();
    let leader = f.join(&a);
    f.name(&mut client().session(50_000));
    let waiting = [leader, f.join(&b)];
    f.pass(REBALANCE);
    for reply_to in waiting {
        assert_eq!(f.joined(reply_to).generation, 2);
    }
    assert_eq!((f.size(), f.pending_ids()), (2, 1));
}

#[test]
fn an_id_that_nobody_joins_with_is_forgotten() {
    let (mut f, [a]) = up::<1>();
    f.name(&mut client().session(2000));
    f.pass(1000);
    assert_eq!(f.heartbeat(&a, 1), Ok(()));
    f.pass(1000);
    assert_eq!(f.heartbeat(&a, 1), Ok(()));
    assert_eq!((f.state(), f.pending_ids()), (GroupState::Stable, 0));
}
