//! Signs of life, and what their absence does.

use super::*;

const UNKNOWN: Result<(), GroupError> = Err(GroupError::UnknownMemberId);
const REBALANCING: Result<(), GroupError> = Err(GroupError::RebalanceInProgress);

#[test]
fn heartbeats_are_checked() {
    let mut f = Fixture::new();
    assert_eq!(f.heartbeat(&client().named("m"), 1), UNKNOWN);
    let mut pending = client();
    f.name(&mut pending);
    assert_eq!(
        f.heartbeat(&pending, 0),
        UNKNOWN,
        "an empty group, a pending id"
    );

    let (mut f, [a]) = up::<1>();
    assert_eq!(f.heartbeat(&a, 1), Ok(()));
    assert_eq!(f.heartbeat(&a, 2), Err(GroupError::IllegalGeneration));
    assert_eq!(f.heartbeat(&client().named("m"), 1), UNKNOWN);

    let (mut f, _, follower) = up_static(30_000);
    assert_eq!(f.heartbeat(&follower, 1), Ok(()));
    assert_eq!(
        f.heartbeat(&follower.clone().named("other"), 1),
        Err(GroupError::FencedInstanceId)
    );
    assert_eq!(f.heartbeat(&follower.of_instance("nobody"), 1), UNKNOWN);
}

#[test]
fn only_members_that_are_to_rejoin_hear_of_a_rebalance() {
    let mut clients = [client()];
    let mut f = joined(&mut clients);
    let [a] = clients;
    assert_eq!(f.heartbeat(&a, 1), Ok(()), "it has joined, and is to sync");
    f.enter(&mut client());
    assert_eq!(f.heartbeat(&a, 1), REBALANCING);
}

#[test]
fn a_heartbeat_is_good_for_a_session_timeout() {
    let mut clients = [client().session(5000)];
    let mut f = stable(&mut clients);
    let [a] = clients;
    for _ in 0..4 {
        f.pass(4999);
        assert_eq!(f.heartbeat(&a, 1), Ok(()));
    }
    f.pass(5000);
    assert_eq!(f.heartbeat(&a, 1), UNKNOWN);
    assert_eq!((f.state(), f.recorded()), (GroupState::Empty, vec![(2, 0)]));
    assert_eq!(f.machine.timers.len(), 1, "only the expiry of offsets");
}

#[test]
fn an_expiry_that_leaves_only_joined_members_ends_the_join_phase() {
    let mut clients = [client().session(5000)];
    let mut f = stable(&mut clients);
    let [a] = clients;
    let waiting = f.enter(&mut client().session(5000));
    f.pass(2500);
    assert_eq!(f.heartbeat(&a, 1), REBALANCING);
    f.pass(4999);
    assert!(f.waits(waiting));
    f.pass(1);
    assert_eq!(f.joined(waiting).generation, 2);
    assert_eq!(f.heartbeat(&a, 1), UNKNOWN);
}

#[test]
fn a_member_that_waits_does_not_expire() {
    let mut clients = [client().session(5000), client()];
    let mut f = stable(&mut clients);
    let [a, b] = clients;
    let waiting = f.join(&a);
    f.pass(REBALANCE - 1);
    assert!(f.waits(waiting));
    let other = f.join(&b);
    assert_eq!(f.joined(waiting).generation, 2);
    assert_eq!(f.joined(other).generation, 2);

    // Nor does one that waits for its assignment. Its time counts anew from the answer on.
    let waiting = f.sync(&a, 2, &[]);
    f.assignment(waiting).expect("the leader's own");
    let mut clients = [client(), client().session(5000)];
    let mut f = joined(&mut clients);
    let [a, b] = clients;
    let waiting = f.sync(&b, 1, &[]);
    f.pass(REBALANCE - 1);
    let leader = f.sync(&a, 1, &[]);
    f.assignment(leader).expect("the leader's own");
    f.assignment(waiting).expect("the follower's");
    f.pass(4999);
    assert_eq!(f.heartbeat(&b, 1), Ok(()));
}

#[test]
fn a_static_member_stays_through_a_rebalance_that_it_misses() {
    let fixed = client().of_instance("i").session(5000);
    let mut clients = [fixed];
    let mut f = stable(&mut clients);
    let [fixed] = clients;
    let mut newcomer = client();
    let waiting = f.enter(&mut newcomer);
    for _ in 0..3 {
        f.pass(2500);
        assert_eq!(f.heartbeat(&fixed, 1), REBALANCING);
    }
    f.pass(2500);
    let reply = f.joined(waiting);
    assert_eq!((reply.generation, &reply.leader), (2, &newcomer.id));
    assert_eq!(reply.members.len(), 2);
    assert_eq!(f.heartbeat(&fixed, 1), Err(GroupError::IllegalGeneration));

    // It has a whole session from then on, and goes before the time to sync is up.
    let synced = f.sync(&newcomer, 2, &[]);
    assert_eq!(f.assignment(synced).as_deref(), Ok(""));
    for _ in 0..2 {
        f.pass(2000);
        assert_eq!(f.heartbeat(&newcomer, 2), Ok(()));
    }
    f.pass(1000);
    assert_eq!(f.heartbeat(&newcomer, 2), REBALANCING);
    let again = f.join(&newcomer);
    assert_eq!(f.joined(again).generation, 3);
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut clients = [client().session(5000)];
    let mut f = stable(&mut clients);
    let [a] = clients;
    for _ in 0..4 {
        f.pass(4999);
        assert_eq!(f.commit(&a, 1), Ok(()));
    }
    f.pass(5000);
    assert_eq!(f.commit(&a, 1), UNKNOWN);

    // Not while the leader assigns: there it is refused.
    let mut clients = [client().session(5000)];
    let mut f = joined(&mut clients);
    f.pass(2500);
    assert_eq!(f.commit(&clients[0], 1), REBALANCING);
    f.pass(2500);
    assert_eq!(f.commit(&clients[0], 1), UNKNOWN);
}
