//! Static members (KIP-345): restarts without rebalances, and who is fenced by them.

use super::super::queue::{enqueue, in_order};
use super::*;

const FENCED: GroupError = GroupError::FencedInstanceId;
const UNKNOWN: GroupError = GroupError::UnknownMemberId;
/// A session timeout shorter than the rebalance timeout, and one that is longer.
const SHORT: i32 = 5000;
const LONG: i32 = 15_000;

#[test]
fn a_restarted_follower_takes_its_place_without_a_rebalance() {
    let (mut f, leader, follower) = up_static(SHORT);
    f.holds = true;
    let waiting = f.join(&follower.restarted());
    assert!(f.waits(waiting), "its record is not durable yet");
    f.end_append(Ok(()));
    f.holds = false;
    let reply = f.joined(waiting);
    let new = follower.restarted().named(&reply.member_id);
    assert_eq!((reply.result, reply.generation), (Ok(()), 1));
    assert_eq!((reply.leader, reply.members.len()), (leader.id.clone(), 0));
    assert_eq!(reply.protocol_name.as_deref(), Some("range"));
    assert!(!reply.skip_assignment);
    assert_ne!(new.id, follower.id);
    assert!(new.id.starts_with("fi-"));
    assert_eq!(
        (f.state(), f.recorded()),
        (GroupState::Stable, vec![(1, 2)])
    );
    let members = f.last_record().members;
    let assigned: Vec<_> = members
        .iter()
        .map(|it| (&it.member_id, &it.assignment[..]))
        .collect();
    assert_eq!(assigned, [(&leader.id, &b"01"[..]), (&new.id, b"02")]);

    // The client that it was is fenced everywhere.
    assert_eq!(f.refused(&follower), (FENCED, follower.id.clone()));
    let old = f.sync(&follower, 1, &[]);
    assert_eq!(f.assignment(old), Err(FENCED));
    assert_eq!(f.heartbeat(&follower, 1), Err(FENCED));
    assert_eq!(f.commit(&follower, 1), Err(FENCED));
    let anonymous = Client {
        instance: None,
        ..follower
    };
    let old = f.sync(&anonymous, 1, &[]);
    assert_eq!(f.assignment(old), Err(UNKNOWN));

    let synced = f.sync(&new, 1, &[]);
    assert_eq!(f.assignment(synced).as_deref(), Ok("02"));
    assert_eq!(f.recorded(), []);
}

#[test]
fn a_restarted_leader_is_told_not_to_assign() {
    let (mut f, leader, _) = up_static(SHORT);
    let waiting = f.join(&leader.restarted());
    let reply = f.joined(waiting);
    assert!(reply.skip_assignment);
    assert_eq!(reply.leader, reply.member_id);
    assert_eq!(reply.members.len(), 2);
    assert_eq!(f.recorded(), [(1, 2)]);
    assert_eq!(f.last_record().leader, Some(reply.member_id));

    // A client that cannot be told sees the id that it had.
    let (mut f, leader, _) = up_static(SHORT);
    let waiting = f.join(&leader.restarted().version(8));
    let reply = f.joined(waiting);
    assert!(!reply.skip_assignment);
    assert_eq!((reply.leader, reply.members.len()), (leader.id, 0));
    assert_eq!(f.recorded(), [(1, 2)]);
    assert_eq!(f.last_record().leader, Some(reply.member_id));
}

#[test]
fn members_that_restart_at_once_share_the_record_that_is_still_to_be_written() {
    for error in [None, Some(GroupError::NotAvailable)] {
        let (mut f, leader, follower) = up_static(SHORT);
        f.holds = true;
        let first = f.join(&follower.restarted());
        let committed = f.ask(Command::Commit(commit_request(&leader, 1)));
        let second = f.join(&leader.restarted());
        let mut waiting = VecDeque::new();
        let appends = std::mem::take(&mut f.appends);
        appends.into_iter().for_each(|it| enqueue(&mut waiting, it));
        let afters: Vec<_> = waiting.iter().map(|it| it.afters.len()).collect();
        assert_eq!(afters, [2, 1]);

        let result = error.map_or(Ok(()), Err);
        for write in waiting {
            for record in write.records.iter().filter(|_| result.is_ok()) {
                let now = f.now();
                f.machine.replay(record, now);
                f.log.push(record.clone());
            }
            for after in in_order(write.afters, result.is_err()) {
                f.run(|machine, now, out| machine.appended(after, result, now, out));
            }
        }
        let replies = [first, second].map(|waiting| f.joined(waiting));
        assert!(replies.iter().all(|reply| reply.result == result));
        assert!(!f.waits(committed));
        let ids = match error {
            None => replies.map(|reply| reply.member_id),
            Some(_) => [follower.id, leader.id],
        };
        for id in &ids {
            let member = client().named(id);
            assert_eq!(f.heartbeat(&member, 1), Ok(()), "of {id}");
        }
        let assigned = f.sync(&client().named(&ids[0]), 1, &[]);
        assert_eq!(f.assignment(assigned).as_deref(), Ok("02"));
        if error.is_none() {
            f.log.pop();
            let recorded = f.last_record().members.into_iter();
            let recorded: Vec<_> = recorded.map(|it| it.member_id).collect();
            assert_eq!(recorded, [ids[1].clone(), ids[0].clone()]);
        }
    }
}

#[test]
fn a_member_that_restarts_twice_in_vain_is_the_one_that_it_was() {
    let (mut f, _, follower) = up_static(SHORT);
    f.holds = true;
    let restarts = [(); 2].map(|()| f.join(&follower.restarted()));
    let mut waiting = VecDeque::new();
    let appends = std::mem::take(&mut f.appends);
    appends.into_iter().for_each(|it| enqueue(&mut waiting, it));
    let write = waiting.pop_front().expect("a record");
    assert_eq!((write.afters.len(), waiting.len()), (2, 0));
    let result = Err(GroupError::Unexpected);
    for after in in_order(write.afters, true) {
        f.run(|machine, now, out| machine.appended(after, result, now, out));
    }
    assert!(
        restarts
            .map(|it| f.joined(it).result)
            .iter()
            .all(Result::is_err)
    );
    assert_eq!(f.heartbeat(&follower, 1), Ok(()));
}

#[test]
fn a_restart_whose_record_is_refused_never_was() {
    for error in [GroupError::NotAvailable, GroupError::Unexpected] {
        let (mut f, leader, follower) = up_static(SHORT);
        f.holds = true;
        let waiting = f.join(&follower.restarted());
        f.end_append(Err(error));
        let reply = f.joined(waiting);
        assert_eq!((reply.result, reply.generation), (Err(error), 1));
        assert_eq!((&reply.leader, &*reply.member_id), (&leader.id, ""));
        assert_eq!(reply.protocol_type.as_deref(), Some("consumer"));
        assert_eq!(reply.protocol_name.as_deref(), Some("range"));
        assert_eq!(f.heartbeat(&follower, 1), Ok(()));
        let synced = f.sync(&follower, 1, &[]);
        assert_eq!(f.assignment(synced).as_deref(), Ok("02"));
    }
}

#[test]
fn a_restart_that_changes_the_protocol_starts_a_rebalance() {
    let (mut f, leader, follower) = up_static(LONG);
    let waiting = f.join(&follower.restarted().lists(&["roundrobin"]));
    assert!(f.waits(waiting));
    f.pass(REBALANCE);
    let reply = f.joined(waiting);
    assert_eq!((reply.generation, reply.members.len()), (2, 2));
    assert_eq!(reply.protocol_name.as_deref(), Some("roundrobin"));
    assert_eq!(reply.leader, reply.member_id);
    assert_eq!(f.heartbeat(&leader, 2), Ok(()), "it is still a member");
    assert_eq!(f.recorded(), []);

    // One that changes only what is not elected starts none.
    let (mut f, _, follower) = up_static(SHORT);
    let waiting = f.join(&follower.restarted().lists(&["range"]));
    assert_eq!(f.joined(waiting).generation, 1);
    assert_eq!(f.state(), GroupState::Stable);
}

#[test]
fn a_silent_static_member_expires_as_any() {
    let (mut f, leader, _) = up_static(SHORT);
    let waiting = f.join(&leader);
    f.pass(SHORT as u64 - 1);
    assert!(f.waits(waiting));
    f.pass(1);
    assert_eq!(f.joined(waiting).generation, 2);
    assert_eq!(f.size(), 1);
}

#[test]
fn a_static_member_that_rejoins_is_as_any_member() {
    let (mut f, _, follower) = up_static(LONG);
    let again = f.join(&follower);
    assert_eq!(f.joined(again).generation, 1);
    let again = f.join(&follower.clone().lists(&["roundrobin"]));
    f.pass(REBALANCE);
    let reply = f.joined(again);
    assert_eq!((reply.generation, reply.leader), (2, follower.id));
    assert_eq!(reply.members.len(), 2);
}

#[test]
fn ids_and_instances_belong_together() {
    let (mut f, _, follower) = up_static(SHORT);
    let rows = [("li", FENCED), ("nobody", UNKNOWN)];
    for (instance, error) in rows {
        let wrong = follower.clone().of_instance(instance);
        assert_eq!(f.refused(&wrong), (error, follower.id.clone()));
    }
    // The id alone is enough.
    let anonymous = Client {
        instance: None,
        ..follower
    };
    let again = f.join(&anonymous);
    assert_eq!(f.joined(again).generation, 1);
}

#[test]
fn requests_that_wait_are_fenced_by_a_restart() {
    // A sync.
    let member = |instance| client().of_instance(instance);
    let mut clients = [member("li"), member("fi")];
    let mut f = joined(&mut clients);
    let [leader, follower] = clients;
    let syncing = f.sync(&follower, 1, &[]);
    let newcomer = f.join(&follower.restarted());
    assert_eq!(f.assignment(syncing), Err(FENCED));
    assert!(f.waits(newcomer));
    assert_eq!(f.state(), GroupState::PreparingRebalance);

    // A join.
    let second = f.join(&follower.restarted());
    let reply = f.joined(newcomer);
    assert_eq!((reply.result, reply.generation), (Err(FENCED), -1));
    assert!(reply.member_id.starts_with("fi-"));

    // The rebalance goes on with the new one.
    let waiting = f.join(&leader);
    for reply_to in [second, waiting] {
        assert_eq!(f.joined(reply_to).generation, 2);
    }
    assert_eq!(f.refused(&follower), (FENCED, follower.id.clone()));
}

#[test]
fn every_restart_gets_an_id_of_its_own() {
    let (mut f, leader, _) = up_static(SHORT);
    let mut ids = BTreeSet::from([leader.id.clone()]);
    for _ in 0..5 {
        let waiting = f.join(&leader.restarted());
        assert!(ids.insert(f.joined(waiting).member_id));
    }
    assert_eq!(f.recorded(), [(1, 2); 5]);
    assert_eq!(f.size(), 2);
}

#[test]
fn a_rebalance_without_a_static_member_keeps_it() {
    // Follower or leader: whoever does not rejoin is still listed.
    for missing in [1, 0] {
        let (mut f, leader, follower) = up_static(LONG);
        let clients = [leader, follower];
        let mut third = client();
        let newcomer = f.enter(&mut third);
        let other = f.join(&clients[1 - missing]);
        f.pass(REBALANCE);
        let replies = [f.joined(newcomer), f.joined(other)];
        let leads = replies.iter().find(|reply| reply.leader == reply.member_id);
        let leads = leads.expect("one of those that have joined leads");
        let ids: Vec<_> = leads.members.iter().map(|it| &it.member_id).collect();
        assert_eq!(ids, [&clients[0].id, &clients[1].id, &third.id]);
    }
}

#[test]
fn a_static_member_alone_keeps_the_rebalance_open() {
    let (mut f, leader, follower) = up_static(1_000_000);
    let mut dynamic = client();
    let newcomer = f.enter(&mut dynamic);
    let leaving = f.leave(&[(&follower.id, Some("fi"))]);
    assert_eq!(f.left(leaving), [Ok(())]);
    f.pass(REBALANCE);
    assert_eq!(f.joined(newcomer).leader, dynamic.id);
    let waiting = f.enter(&mut client());
    f.leave(&[(&dynamic.id, None)]);
    let last = &f.machine.groups["g"].members;
    let last = last.iter().last().expect("a member").id.clone();
    f.leave(&[(&last, None)]);
    assert_eq!(f.joined(waiting).result, Err(UNKNOWN));
    f.pass(5 * REBALANCE);
    assert_eq!((f.state(), f.size()), (GroupState::PreparingRebalance, 1));
    let again = f.join(&leader);
    assert_eq!(f.joined(again).generation, 3);
}

#[test]
fn a_restart_before_the_sync_is_not_missed_at_the_sync() {
    let member = |instance| client().of_instance(instance);
    let mut clients = [member("li"), member("fi")];
    let mut f = joined(&mut clients);
    let [leader, follower] = clients;
    let synced = f.sync(&leader, 1, &[(&leader, "01"), (&follower, "02")]);
    assert_eq!(f.assignment(synced).as_deref(), Ok("01"));
    let waiting = f.join(&follower.restarted());
    let new = follower.restarted().named(&f.joined(waiting).member_id);
    let synced = f.sync(&new, 1, &[]);
    assert_eq!(f.assignment(synced).as_deref(), Ok("02"));
    f.pass(REBALANCE);
    assert_eq!(f.heartbeat(&leader, 1), Ok(()));
    assert_eq!(f.state(), GroupState::Stable);
}
