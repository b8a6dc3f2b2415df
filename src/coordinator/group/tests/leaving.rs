//! Members that leave, and who takes them out.

use super::*;

const UNKNOWN: Result<(), GroupError> = Err(GroupError::UnknownMemberId);
const FENCED: Result<(), GroupError> = Err(GroupError::FencedInstanceId);

#[test]
fn nobody_is_a_member_of_no_group() {
    let mut f = Fixture::new();
    let leaving = f.leave(&[("a", None), ("", Some("i"))]);
    assert_eq!(f.left(leaving), [UNKNOWN, UNKNOWN]);
    assert!(f.machine.groups.is_empty() && f.log.is_empty());

    let (mut f, [_]) = up::<1>();
    let leaving = f.leave(&[("a", None)]);
    assert_eq!(f.left(leaving), [UNKNOWN]);
    let leaving = f.leave(&[]);
    assert_eq!(f.left(leaving), []);
    assert_eq!((f.state(), f.recorded()), (GroupState::Stable, vec![]));
}

#[test]
fn the_last_member_hears_when_the_record_is_durable() {
    for is_stable in [false, true] {
        let mut clients = [client()];
        let mut f = joined(&mut clients);
        if is_stable {
            sync_all(&mut f, &clients, 1);
        }
        f.recorded();
        f.holds = true;
        let leaving = f.leave(&[(&clients[0].id, None)]);
        assert!(f.waits(leaving));
        f.end_append(Ok(()));
        assert_eq!(f.left(leaving), [Ok(())]);
        assert_eq!((f.state(), f.recorded()), (GroupState::Empty, vec![(2, 0)]));
        let record = f.last_record();
        assert_eq!(record.protocol_type, "consumer");
        assert_eq!((record.protocol, record.leader), (None, None));
    }
}

#[test]
fn a_record_that_is_refused_is_reported_to_who_leaves() {
    let (mut f, [a]) = up::<1>();
    f.holds = true;
    let leaving = f.leave(&[(&a.id, None)]);
    f.end_append(Err(GroupError::NotAvailable));
    assert_eq!(
        f.reply(leaving),
        Reply::Leave(Err(GroupError::NotAvailable))
    );
    assert_eq!(f.state(), GroupState::Empty);
}

#[test]
fn members_are_found_by_their_ids_and_instances() {
    // Each row: who leaves, the results, and how many are left.
    type Row<'a> = (
        Vec<(&'a str, Option<&'a str>)>,
        Vec<Result<(), GroupError>>,
        usize,
    );
    let (_, leader, _) = up_static(30_000);
    let id = &*leader.id;
    let rows: [Row<'_>; 8] = [
        (
            vec![("", Some("li")), ("wrong", Some("fi"))],
            vec![Ok(()), FENCED],
            1,
        ),
        (
            vec![("", Some("nobody")), ("", Some("fi"))],
            vec![UNKNOWN, Ok(())],
            1,
        ),
        (
            vec![("", Some("li")), ("", Some("fi"))],
            vec![Ok(()), Ok(())],
            0,
        ),
        (vec![("", None)], vec![UNKNOWN], 2),
        (vec![(id, Some("li"))], vec![Ok(())], 1),
        (vec![(id, None), (id, None)], vec![Ok(()), UNKNOWN], 1),
        (vec![(id, Some("fi"))], vec![FENCED], 2),
        (vec![(id, Some("nobody"))], vec![UNKNOWN], 2),
    ];
    for (leaving, results, left) in rows {
        // The same requests make the same ids.
        let (mut f, same, _) = up_static(30_000);
        assert_eq!(same.id, leader.id);
        let reply_to = f.leave(&leaving);
        assert_eq!(f.left(reply_to), results, "{leaving:?}");
        let (state, records) = match left {
            2 => (GroupState::Stable, vec![]),
            1 => (GroupState::PreparingRebalance, vec![]),
            _ => (GroupState::Empty, vec![(2, 0)]),
        };
        assert_eq!((f.size(), f.state()), (left, state), "{leaving:?}");
        assert_eq!(f.recorded(), records, "{leaving:?}");
    }
}

#[test]
fn all_who_wait_for_a_rebalance_may_leave_together() {
    let (mut f, [a, b]) = up::<2>();
    let leader = f.join(&a);
    let mut pending = client();
    f.name(&mut pending);
    let follower = f.join(&b);
    let all = [
        (&*a.id, None),
        (&*b.id, None),
        (&*pending.id, None),
        ("x", None),
    ];
    let leaving = f.leave(&all);
    assert_eq!(f.left(leaving), [Ok(()), Ok(()), Ok(()), UNKNOWN]);
    for reply_to in [leader, follower] {
        let reply = f.joined(reply_to);
        assert_eq!((reply.result, &*reply.member_id), (UNKNOWN, ""));
    }
    assert_eq!((f.state(), f.recorded()), (GroupState::Empty, vec![(2, 0)]));
    assert_eq!(f.machine.timers.len(), 1, "only the expiry of offsets");
}

#[test]
fn who_is_left_rejoins() {
    let (mut f, [a, b]) = up::<2>();
    let leaving = f.leave(&[(&b.id, None)]);
    assert_eq!(f.left(leaving), [Ok(())]);
    assert_eq!(f.heartbeat(&a, 1), Err(GroupError::RebalanceInProgress));
    let again = f.join(&a);
    assert_eq!(f.joined(again).generation, 2);
}

#[test]
fn an_id_that_leaves_starts_a_rebalance_as_a_member_does() {
    let (mut f, [a]) = up::<1>();
    let mut pending = client();
    f.name(&mut pending);
    let leaving = f.leave(&[(&pending.id, None)]);
    assert_eq!(f.left(leaving), [Ok(())]);
    assert_eq!(f.heartbeat(&a, 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_group_of_ids_only_becomes_empty_with_the_next_timer() {
    let (mut f, [a]) = up::<1>();
    f.name(&mut client());
    let leaving = f.leave(&[(&a.id, None)]);
    assert_eq!(f.left(leaving), [Ok(())]);
    assert_eq!(f.state(), GroupState::PreparingRebalance);
    f.pass(0);
    assert_eq!((f.state(), f.recorded()), (GroupState::Empty, vec![(2, 0)]));
    assert_eq!(f.pending_ids(), 1);
}
