//! How a group begins, and who may join it.

use super::*;

#[test]
fn a_first_join_is_given_an_id_and_the_second_waits_for_the_delay() {
    let mut f = Fixture::new();
    let mut a = client();
    f.name(&mut a);
    assert!(a.id.starts_with("c-") && a.id.len() == 2 + 36, "{}", a.id);
    assert_eq!((f.state(), f.pending_ids()), (GroupState::Empty, 1));
    let created = GroupMetadata {
        state_timestamp: Some(TIME),
        ..GroupMetadata::default()
    };
    assert_eq!(f.last_record(), created);

    let waiting = f.join(&a);
    assert_eq!(f.pending_ids(), 0);
    f.pass(DELAY - 1);
    assert!(f.waits(waiting));
    assert_eq!(f.state(), GroupState::PreparingRebalance);
    f.pass(1);
    let reply = f.joined(waiting);
    assert_eq!((reply.result, reply.generation), (Ok(()), 1));
    assert_eq!((&reply.leader, &reply.member_id), (&a.id, &a.id));
    assert_eq!(reply.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(reply.protocol_name.as_deref(), Some("range"));
    assert!(!reply.skip_assignment);
    assert_eq!(reply.members.len(), 1);
    assert_eq!(reply.members[0].metadata, &b"m"[..]);
    assert_eq!(f.state(), GroupState::CompletingRebalance);
    assert_eq!(f.recorded(), [(0, 0)], "completing a join writes nothing");
}

#[test]
fn a_client_that_cannot_be_given_an_id_is_added_at_once() {
    let mut f = Fixture::new();
    let waiting = f.enter(&mut client().version(3));
    assert_eq!(f.size(), 1);
    f.pass(DELAY);
    assert_eq!(f.joined(waiting).generation, 1);
}

#[test]
fn a_group_whose_first_record_is_refused_never_was() {
    for error in [GroupError::NotCoordinator, GroupError::NotAvailable] {
        let mut f = Fixture::new();
        f.holds = true;
        let waiting = f.enter(&mut client().of_instance("i"));
        f.end_append(Err(error));
        assert_eq!(f.joined(waiting).result, Err(error));
        assert!(f.machine.groups.is_empty());
        assert_eq!(f.machine.timers.len(), 1, "only the expiry of offsets");
    }
}

#[test]
fn an_id_that_nobody_was_given_makes_no_group() {
    let mut f = Fixture::new();
    let unknown = (GroupError::UnknownMemberId, "m".into());
    assert_eq!(f.refused(&client().named("m")), unknown);
    assert_eq!(f.refused(&client().named("m").of_instance("i")), unknown);
    assert!(f.machine.groups.is_empty() && f.log.is_empty());
}

#[test]
fn protocols_must_fit() {
    let refused = (GroupError::InconsistentProtocol, ByteString::new());
    let mut f = Fixture::new();
    for wrong in [client().of_type(""), client().lists(&[])] {
        assert_eq!(f.refused(&wrong), refused);
        assert_eq!(f.refused(&wrong.of_instance("i")), refused);
    }
    assert_eq!(f.recorded(), [(0, 0)], "the group is there all the same");

    // One that was given an id keeps it.
    let mut a = client();
    f.name(&mut a);
    let refused_with_id = (GroupError::InconsistentProtocol, a.id.clone());
    assert_eq!(f.refused(&a.clone().lists(&[])), refused_with_id);
    let waiting = f.enter(&mut a);

    // One that waits already decides for the others.
    assert_eq!(f.refused(&client().lists(&["roundrobin"])), refused);
    f.pass(DELAY);
    assert_eq!(f.joined(waiting).generation, 1);

    let (mut f, [_]) = up::<1>();
    assert_eq!(f.refused(&client().of_type("connect")), refused);
}

#[test]
fn an_id_that_was_handed_out_is_of_no_static_member() {
    let mut f = Fixture::new();
    let mut a = client();
    f.name(&mut a);
    let wrong = (GroupError::Unexpected, ByteString::new());
    assert_eq!(f.refused(&a.clone().of_instance("i")), wrong);
    assert_eq!(f.pending_ids(), 1);
}

#[test]
fn session_timeouts_have_bounds() {
    let mut f = Fixture::with(|config| {
        config.min_session_timeout_ms = 6000;
        config.max_session_timeout_ms = 60_000;
    });
    for wrong in [5999, 60_001, -1] {
        let refused = (GroupError::InvalidSessionTimeout, "m".into());
        assert_eq!(f.refused(&client().session(wrong).named("m")), refused);
    }
    assert!(f.machine.groups.is_empty());
    for right in [6000, 60_000] {
        f.name(&mut client().session(right));
    }
}

#[test]
fn only_the_leader_sees_the_members() {
    let mut f = Fixture::new();
    let mut clients = [client(), client()].map(|it| it.version(7).rebalance(DELAY as i32));
    let waiting = clients.each_mut().map(|client| f.enter(client));
    f.pass(DELAY);
    let [leads, follows] = waiting.map(|reply_to| f.joined(reply_to));
    assert_eq!((leads.generation, follows.generation), (1, 1));
    assert_eq!((leads.members.len(), follows.members.len()), (2, 0));
    let ids: Vec<_> = leads
        .members
        .iter()
        .map(|it| it.member_id.clone())
        .collect();
    assert_eq!(ids, [clients[0].id.clone(), clients[1].id.clone()]);
    assert_eq!(follows.leader, clients[0].id);
    assert_eq!(follows.protocol_name.as_deref(), Some("range"));
}

/// Rebalance timeout of the first, when the others come, and when all are answered.
#[test]
fn the_first_join_phase_waits_for_newcomers() {
    let rows: [(u64, &[u64], u64); 6] = [
        (3 * DELAY, &[], DELAY),
        (3 * DELAY, &[DELAY - 1], 2 * DELAY),
        (2 * DELAY, &[0, DELAY + 1], 2 * DELAY),
        (5 * DELAY / 2, &[1, DELAY + 1, 2 * DELAY + 1], 5 * DELAY / 2),
        (DELAY / 2, &[1], DELAY),
        (10 * DELAY, &[1, DELAY + 1], 3 * DELAY),
    ];
    for (rebalance_ms, others, end) in rows {
        let mut f = Fixture::new();
        let member = client().rebalance(rebalance_ms as i32);
        let mut waiting = vec![f.enter(&mut member.clone())];
        for at in others {
            f.pass(at - f.now_ms);
            waiting.push(f.enter(&mut member.clone()));
        }
        f.pass(end - 1 - f.now_ms);
        let row = format!("{rebalance_ms} {others:?}");
        assert!(waiting.iter().all(|reply_to| f.waits(*reply_to)), "{row}");
        f.pass(1);
        for reply_to in waiting {
            assert_eq!(f.joined(reply_to).generation, 1, "{row}");
        }
    }
}

#[test]
fn without_a_delay_the_first_run_of_the_timers_completes() {
    let mut f = Fixture::with(|config| config.initial_rebalance_delay = Duration::ZERO);
    let waiting = f.enter(&mut client());
    f.pass(0);
    assert_eq!(f.joined(waiting).generation, 1);
}

#[test]
fn a_member_that_joins_again_while_it_waits_extends_nothing() {
    let mut f = Fixture::new();
    let (mut a, mut b) = (client(), client());
    let first = f.enter(&mut a);
    f.pass(1);
    let superseded = f.enter(&mut b);
    f.pass(DELAY);
    let second = f.join(&b);
    assert_eq!(
        f.joined(superseded).result,
        Err(GroupError::RebalanceInProgress)
    );
    f.pass(2 * DELAY - f.now_ms);
    assert_eq!(f.joined(first).generation, 1);
    assert_eq!(f.joined(second).generation, 1);
}

#[test]
fn a_group_that_everybody_leaves_in_the_first_join_phase_becomes_empty() {
    let mut f = Fixture::new();
    let mut a = client();
    let waiting = f.enter(&mut a);
    let leaving = f.leave(&[(&a.id, None)]);
    assert_eq!(f.left(leaving), [Ok(())]);
    let reply = f.joined(waiting);
    let unknown = Err(GroupError::UnknownMemberId);
    assert_eq!((reply.result, &*reply.member_id), (unknown, ""));
    assert_eq!(f.state(), GroupState::PreparingRebalance);
    f.pass(DELAY);
    assert_eq!(f.state(), GroupState::Empty);
    assert_eq!(f.recorded(), [(0, 0), (1, 0)]);
    assert_eq!(f.last_record().protocol_type, "consumer");
}

#[test]
fn a_new_member_waits_no_longer_than_five_minutes() {
    let member = client().session(1_000_000).rebalance(1_000_000);
    let mut clients = [member.clone()];
    let mut f = stable(&mut clients);
    let waiting = f.enter(&mut member.clone());
    f.pass(299_999);
    assert!(f.waits(waiting));
    f.pass(1);
    let reply = f.joined(waiting);
    let unknown = Err(GroupError::UnknownMemberId);
    assert_eq!((reply.result, &*reply.member_id), (unknown, ""));
    assert_eq!(f.size(), 1);
}

#[test]
fn a_member_of_a_generation_goes_by_its_session_timeout() {
    let member = client().session(305_000);
    let mut clients = [member.clone(), member];
    let mut f = stable(&mut clients);
    f.pass(300_000);
    assert_eq!(f.size(), 2);
    f.pass(4_999);
    assert_eq!(f.size(), 2);
    f.pass(1);
    // The first goes and leaves a rebalance behind, which the second ends in the same moment.
    assert_eq!(f.recorded(), [(2, 0)]);
    assert_eq!(f.state(), GroupState::Empty);
}

#[test]
fn a_newcomer_of_an_old_version_makes_a_generation_with_the_leader() {
    let (mut f, [a]) = up::<1>();
    let newcomer = f.enter(&mut client().version(3));
    assert_eq!(f.state(), GroupState::PreparingRebalance);
    assert_eq!(f.heartbeat(&a, 1), Err(GroupError::RebalanceInProgress));
    let leader = f.join(&a);
    for reply_to in [newcomer, leader] {
        let reply = f.joined(reply_to);
        assert_eq!((reply.result, reply.generation), (Ok(()), 2));
        assert_eq!(reply.leader, a.id);
    }
    assert_eq!(f.state(), GroupState::CompletingRebalance);
}

#[test]
fn an_unknown_id_is_refused_by_a_living_group() {
    let (mut f, [_]) = up::<1>();
    let unknown = (GroupError::UnknownMemberId, "nobody".into());
    assert_eq!(f.refused(&client().named("nobody")), unknown);
    assert_eq!(f.state(), GroupState::Stable);
}

#[test]
fn a_protocol_that_is_listed_twice_counts_once() {
    let mut f = Fixture::new();
    let waiting = f.enter(&mut client().lists(&["range", "range"]));
    f.pass(DELAY);
    assert_eq!(f.joined(waiting).protocol_name.as_deref(), Some("range"));
}

#[test]
fn members_elect_the_protocol() {
    let rows: [(&[&[&str]], &str); 6] = [
        (&[&["range"]], "range"),
        (
            &[&["range", "sticky"], &["sticky", "range"], &["range"]],
            "range",
        ),
        (&[&["range", "sticky"], &["sticky", "range"]], "sticky"),
        (
            &[&["roundrobin", "range"], &["range", "roundrobin"]],
            "range",
        ),
        (&[&["b", "a"], &["a", "b"]], "a"),
        (&[&["b", "a"], &["a", "b"], &["b", "a", "c"]], "b"),
    ];
    for (lists, elected) in rows {
        let mut f = Fixture::new();
        let enter = |names: &&[&str]| f.enter(&mut client().lists(names));
        let waiting: Vec<_> = lists.iter().map(enter).collect();
        f.pass(REBALANCE);
        for reply_to in waiting {
            let reply = f.joined(reply_to);
            assert_eq!(reply.protocol_name.as_deref(), Some(elected), "{lists:?}");
        }
    }
}
