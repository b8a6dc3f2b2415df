//! How assignments reach the members.

use super::*;

fn pair() -> (Fixture, Client, Client) {
    let mut clients = [client(), client()];
    let f = joined(&mut clients);
    let [a, b] = clients;
    (f, a, b)
}

const REBALANCING: GroupError = GroupError::RebalanceInProgress;

#[test]
fn members_wait_for_the_leaders_record() {
    let (mut f, a, b) = pair();
    f.recorded();
    f.holds = true;
    let follower = f.sync(&b, 1, &[(&a, "not a leader's word")]);
    assert!(f.appends.is_empty());
    let leader = f.sync(&a, 1, &[(&a, "01"), (&b, "02")]);
    assert!(f.waits(leader) && f.waits(follower));
    f.end_append(Ok(()));
    let reply = f.synced(leader).expect("an assignment");
    assert_eq!(reply.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(reply.protocol_name.as_deref(), Some("range"));
    assert_eq!(reply.assignment, "01");
    assert_eq!(f.assignment(follower).as_deref(), Ok("02"));
    assert_eq!(f.state(), GroupState::Stable);
    assert_eq!(f.recorded(), [(1, 2)]);
    let record = f.last_record();
    assert_eq!(record.leader, Some(a.id.clone()));
    assert_eq!(record.state_timestamp, Some(TIME + 2 * DELAY as i64));
    let member = &record.members[1];
    assert_eq!(
        (&member.member_id, &member.assignment[..]),
        (&b.id, &b"02"[..])
    );
    assert_eq!(member.subscription, "m");
    assert_eq!(
        (&*member.client_id, &*member.client_host),
        ("c", "/127.0.0.1")
    );
}

#[test]
fn a_follower_that_comes_later_is_answered_at_once() {
    let (mut f, a, b) = pair();
    let leader = f.sync(
        &a,
        1,
        &[(&a, "01"), (&b, "02"), (&client().named("nobody"), "03")],
    );
    assert_eq!(f.assignment(leader).as_deref(), Ok("01"));
    let follower = f.sync(&b, 1, &[]);
    assert_eq!(f.assignment(follower).as_deref(), Ok("02"));
    assert_eq!(f.last_record().members.len(), 2);
    f.recorded();

    // What is assigned stays until the next rebalance.
    let again = f.sync(&a, 1, &[(&a, "11"), (&b, "12")]);
    assert_eq!(f.assignment(again).as_deref(), Ok("01"));
    assert_eq!(f.recorded(), []);
}

#[test]
fn who_is_left_out_is_assigned_nothing() {
    let (mut f, a, b) = pair();
    let follower = f.sync(&b, 1, &[]);
    f.sync(&a, 1, &[(&a, "01")]);
    assert_eq!(f.assignment(follower).as_deref(), Ok(""));
}

#[test]
fn a_record_that_is_refused_starts_over() {
    for error in [GroupError::NotCoordinator, GroupError::Unexpected] {
        let (mut f, a, b) = pair();
        f.holds = true;
        let follower = f.sync(&b, 1, &[]);
        let leader = f.sync(&a, 1, &[(&a, "01"), (&b, "02")]);
        f.end_append(Err(error));
        assert_eq!(f.assignment(leader), Err(error));
        assert_eq!(f.assignment(follower), Err(error));
        assert_eq!(f.state(), GroupState::PreparingRebalance);
        let waiting = [f.join(&a), f.join(&b)];
        assert_eq!(
            waiting.map(|reply_to| f.joined(reply_to).generation),
            [2, 2]
        );
    }
}

#[test]
fn syncs_are_checked() {
    let mut f = Fixture::new();
    let unknown = f.sync(&client().named("m"), 1, &[]);
    assert_eq!(f.assignment(unknown), Err(GroupError::UnknownMemberId));

    let (mut f, a, _) = pair();
    let mut pending = client();
    f.name(&mut pending);
    let rows = [
        (client().named("m"), 1, GroupError::UnknownMemberId),
        (pending, 1, GroupError::UnknownMemberId),
        (a.clone(), 0, GroupError::IllegalGeneration),
        (a.clone(), 2, GroupError::IllegalGeneration),
        (a.clone().of_instance("i"), 1, GroupError::UnknownMemberId),
    ];
    for (client, generation, error) in rows {
        let reply_to = f.sync(&client, generation, &[]);
        assert_eq!(f.assignment(reply_to), Err(error), "{client:?}");
    }

    let (mut f, leader, _) = up_static(30_000);
    let reply_to = f.sync(&leader.named("other"), 1, &[]);
    assert_eq!(f.assignment(reply_to), Err(GroupError::FencedInstanceId));
}

#[test]
fn what_the_member_takes_for_the_protocol_is_compared_where_it_says_so() {
    let rows = [
        (Some("consumer"), Some("range"), Ok(())),
        (None, Some("range"), Ok(())),
        (None, None, Ok(())),
        (
            Some("connect"),
            Some("range"),
            Err(GroupError::InconsistentProtocol),
        ),
        (
            Some("consumer"),
            Some("sticky"),
            Err(GroupError::InconsistentProtocol),
        ),
        (None, Some("sticky"), Err(GroupError::InconsistentProtocol)),
    ];
    for (protocol_type, protocol_name, expected) in rows {
        let (mut f, [a]) = up::<1>();
        let reply_to = f.ask(Command::Sync(SyncGroup {
            group: "g".into(),
            generation: 1,
            member_id: a.id,
            instance_id: None,
            protocol_type: protocol_type.map(Into::into),
            protocol_name: protocol_name.map(Into::into),
            assignments: Vec::new(),
        }));
        assert_eq!(f.synced(reply_to).map(drop), expected);
    }
}

#[test]
fn a_leader_that_goes_sends_the_others_back() {
    let (mut f, a, b) = pair();
    let follower = f.sync(&b, 1, &[]);
    let leaving = f.leave(&[(&a.id, None)]);
    assert_eq!(f.left(leaving), [Ok(())]);
    assert_eq!(f.assignment(follower), Err(REBALANCING));
    assert_eq!((f.state(), f.size()), (GroupState::PreparingRebalance, 1));

    // The same when it is silent for too long.
    let mut clients = [client().session(5000), client()];
    let mut f = joined(&mut clients);
    let follower = f.sync(&clients[1], 1, &[]);
    f.pass(4999);
    assert!(f.waits(follower));
    f.pass(1);
    let reply = f.synced(follower);
    assert_eq!(reply, Err(REBALANCING));
    assert_eq!((f.state(), f.size()), (GroupState::PreparingRebalance, 1));
}

#[test]
fn a_rebalance_overtakes_the_leaders_record() {
    let mut clients = [client()];
    let mut f = joined(&mut clients);
    let [a] = clients;
    f.holds = true;
    let leader = f.sync(&a, 1, &[(&a, "01")]);
    let newcomer = f.enter(&mut client());
    assert_eq!(f.assignment(leader), Err(REBALANCING));
    f.end_append(Ok(()));
    assert_eq!(f.state(), GroupState::PreparingRebalance);
    assert!(f.waits(newcomer));
    // What is in the log is what a successor starts from.
    let successor = f.successor(|_| {});
    assert_eq!(
        (successor.state(), successor.size()),
        (GroupState::Stable, 1)
    );
}

#[test]
fn who_does_not_sync_in_time_is_taken_out() {
    // Nobody does.
    let mut clients = [client(), client(), client()];
    let mut f = joined(&mut clients);
    f.recorded();
    f.pass(REBALANCE);
    assert_eq!((f.state(), f.recorded()), (GroupState::Empty, vec![(2, 0)]));
    for client in &clients {
        assert_eq!(f.heartbeat(client, 1), Err(GroupError::UnknownMemberId));
    }

    // Only the leader does.
    let mut clients = [client(), client(), client()];
    let mut f = joined(&mut clients);
    f.sync(&clients[0], 1, &[]);
    f.pass(REBALANCE);
    assert_eq!(f.heartbeat(&clients[0], 1), Err(REBALANCING));
    assert_eq!(
        f.heartbeat(&clients[1], 1),
        Err(GroupError::UnknownMemberId)
    );
    assert_eq!(f.size(), 1);

    // Only the followers do.
    let mut clients = [client(), client(), client()];
    let mut f = joined(&mut clients);
    let waiting = [f.sync(&clients[1], 1, &[]), f.sync(&clients[2], 1, &[])];
    f.pass(REBALANCE);
    for reply_to in waiting {
        assert_eq!(f.assignment(reply_to), Err(REBALANCING));
    }
    assert_eq!(
        f.heartbeat(&clients[0], 1),
        Err(GroupError::UnknownMemberId)
    );
    assert_eq!((f.state(), f.size()), (GroupState::PreparingRebalance, 2));
    let waiting = [f.join(&clients[1]), f.join(&clients[2])];
    for reply_to in waiting {
        assert_eq!(f.joined(reply_to).leader, clients[1].id);
    }

    // All do.
    let (mut f, clients) = up::<3>();
    for _ in 0..2 {
        f.pass(REBALANCE);
        for client in &clients {
            assert_eq!(f.heartbeat(client, 1), Ok(()));
        }
    }
}

#[test]
fn a_follower_that_waits_may_be_taken_out_and_hears_of_it() {
    let (mut f, _, b) = pair();
    let follower = f.sync(&b, 1, &[]);
    let leaving = f.leave(&[(&b.id, None)]);
    assert_eq!(f.left(leaving), [Ok(())]);
    assert_eq!(f.assignment(follower), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_second_sync_sends_the_first_away() {
    let (mut f, a, b) = pair();
    f.recorded();
    f.holds = true;
    let first = f.sync(&b, 1, &[]);
    let second = f.sync(&b, 1, &[]);
    assert_eq!(f.assignment(first), Err(REBALANCING));
    // The leader's first word counts, whatever it repeats.
    let first = f.sync(&a, 1, &[(&a, "01"), (&b, "02")]);
    let third = f.sync(&a, 1, &[(&a, "11"), (&b, "12")]);
    assert_eq!(f.assignment(first), Err(REBALANCING));
    assert_eq!(f.appends.len(), 1);
    f.end_append(Ok(()));
    assert_eq!(f.assignment(second).as_deref(), Ok("02"));
    assert_eq!(f.assignment(third).as_deref(), Ok("01"));
}
