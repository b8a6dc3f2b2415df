//! Loading, unloading, and what others see of a group.

use super::super::reads::{ListFilter, ListedGroup};
use super::super::record::MemberMetadata;
use super::*;

fn record(generation: i32, members: usize) -> GroupRecord {
    let member = |n: usize| MemberMetadata {
        member_id: format!("m{n}").into(),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: -1,
        session_timeout_ms: 5000,
        subscription: Bytes::from_static(b"s"),
        assignment: Bytes::from(vec![n as u8]),
        ..MemberMetadata::default()
    };
    let protocol = (members > 0).then(|| ByteString::from("range"));
    GroupRecord::Group {
        group: "g".into(),
        value: Some(GroupMetadata {
            protocol_type: "consumer".into(),
            generation,
            leader: protocol.as_ref().map(|_| "m0".into()),
            protocol,
            state_timestamp: Some(TIME - 1),
            members: (0..members).map(member).collect(),
        }),
    }
}

fn loading() -> Fixture {
    let mut f = Fixture::new();
    f.machine = Machine::new(f.machine.config.clone(), PartitionIndex(0));
    f
}

fn loaded(records: &[GroupRecord]) -> Fixture {
    let mut f = Fixture::new();
    f.log = records.to_vec();
    f.successor(|_| {})
}

fn tombstone() -> GroupRecord {
    GroupRecord::Group {
        group: "g".into(),
        value: None,
    }
}

#[test]
fn a_record_that_names_a_member_twice_has_it_once() {
    let mut doubled = record(3, 3);
    if let GroupRecord::Group {
        value: Some(value), ..
    } = &mut doubled
    {
        value.members[1].member_id = "m0".into();
        value.members[0].instance_id = Some("i".into());
        value.members[2].instance_id = Some("i".into());
    }
    let mut f = loaded(&[doubled]);
    assert_eq!(f.size(), 1);
    let back = f.join(&client().of_instance("i"));
    assert!(!f.waits(back), "its place is taken over");
    f.pass(10_000);
    assert_eq!(f.size(), 0, "nobody is left after its session");
}

fn rebalances(why: Why, client: Option<&str>) -> What {
    let client = client.map(Into::into);
    What::Rebalances { why, client }
}

#[test]
fn operators_are_told_why_a_group_rebalances() {
    let (mut f, [a, b]) = up::<2>();
    let stable = What::Stable { members: 2 };
    assert_eq!(f.events[0], rebalances(Why::NewMember, Some("started")));
    assert_eq!(f.events.last(), Some(&stable));
    f.events.clear();
    f.leave(&[(&a.id, None)]);
    f.pass(REBALANCE);
    let told = [
        What::Left {
            member: a.id.clone(),
            client: Some("closed".into()),
        },
        rebalances(Why::MembersGone, None),
        What::NotRejoined(b.id.clone()),
        What::Empty,
    ];
    assert_eq!(f.events, told);
    let (mut f, [a]) = up::<1>();
    f.events.clear();
    f.pass(30_000);
    assert_eq!(f.events[0], What::Expired(a.id));
}

#[test]
fn a_group_is_what_its_last_record_says() {
    let f = loaded(&[record(1, 3), record(2, 2)]);
    let group = &f.machine.groups["g"];
    assert_eq!((group.state, group.generation), (GroupState::Stable, 2));
    assert_eq!(group.leader.as_deref(), Some("m0"));
    assert_eq!(group.state_since_ms, Some(TIME - 1));
    let members: Vec<_> = group.members.iter().collect();
    assert_eq!(members.len(), 2);
    assert_eq!(members[1].assignment, &[1_u8][..]);
    assert_eq!(members[1].metadata("range"), &b"s"[..]);
    assert_eq!(
        members[1].rebalance_timeout_ms, 5000,
        "the session timeout stands for none"
    );
    assert_eq!(
        f.machine.timers.len(),
        3,
        "a session for each, and the expiry of offsets"
    );

    assert_eq!(loaded(&[record(2, 0)]).state(), GroupState::Empty);
    let gone = loaded(&[record(1, 1), tombstone(), tombstone()]);
    assert!(gone.machine.groups.is_empty());
}

#[test]
fn members_find_their_group_after_a_restart() {
    let (f, [a, b]) = up::<2>();
    let mut f = f.successor(|_| {});
    for client in [&a, &b] {
        assert_eq!(f.heartbeat(client, 1), Ok(()));
        assert_eq!(f.commit(client, 1), Ok(()));
    }
    let synced = f.sync(&b, 1, &[]);
    assert_eq!(f.assignment(synced).as_deref(), Ok("02"));
    f.pass(30_000);
    assert_eq!(f.heartbeat(&a, 1), Err(GroupError::UnknownMemberId));
}

#[test]
fn nothing_is_known_while_the_log_is_read() {
    let mut f = loading();
    let error = GroupError::LoadInProgress;
    assert_eq!(f.heartbeat(&client().named("m"), 3), Ok(()));
    assert_eq!(f.refused(&client().named("m")), (error, ByteString::new()));
    let synced = f.sync(&client().named("m"), 1, &[]);
    assert_eq!(f.assignment(synced), Err(error));
    assert_eq!(f.commit(&client(), -1), Err(error));
    let leaving = f.leave(&[("m", None)]);
    assert_eq!(f.reply(leaving), Reply::Leave(Err(error)));
    assert_eq!(f.machine.describe(&"g".into()), Err(error));
    assert_eq!(f.machine.list(&ListFilter::default()), Err(error));
    assert_eq!(f.machine.deadline(), None);
    // What is wrong with the request itself is said all the same.
    let refused = (GroupError::InvalidSessionTimeout, ByteString::new());
    assert_eq!(f.refused(&client().session(0)), refused);
}

#[test]
fn an_empty_id_names_no_group() {
    let mut f = Fixture::new();
    let group = ByteString::new();
    let reply_to = f.ask(Command::Heartbeat(Heartbeat {
        group,
        generation: 1,
        member_id: "m".into(),
        instance_id: None,
    }));
    assert_eq!(
        f.reply(reply_to),
        Reply::Heartbeat(Err(GroupError::InvalidGroupId))
    );
    // It may have offsets, though.
    let request = CommitOffsets {
        group: ByteString::new(),
        ..commit_request(&client(), -1)
    };
    let reply_to = f.ask(Command::Commit(request));
    assert_eq!(f.reply(reply_to), Reply::Commit(Ok(vec![Ok(())])));
}

#[test]
fn who_waits_hears_that_the_partition_has_gone() {
    let error = GroupError::NotCoordinator;
    let (mut f, [a, b]) = up::<2>();
    let leader = f.join(&a);
    f.name(&mut client());
    let follower = f.join(&b);
    f.run(|machine, _, out| machine.unload(out));
    for (client, reply_to) in [(&a, leader), (&b, follower)] {
        let reply = f.joined(reply_to);
        assert_eq!(
            (reply.result, reply.member_id),
            (Err(error), client.id.clone())
        );
    }
    assert_eq!(f.machine.deadline(), None);
    assert_eq!(f.heartbeat(&a, 1), Err(error));

    let mut clients = [client(), client(), client()];
    let mut f = joined(&mut clients);
    f.holds = true;
    let follower = f.sync(&clients[1], 1, &[]);
    let leader = f.sync(&clients[0], 1, &[]);
    f.run(|machine, _, out| machine.unload(out));
    for reply_to in [leader, follower] {
        assert_eq!(f.assignment(reply_to), Err(error));
    }
    // What was under way ends, and wakes nobody.
    f.end_append(Err(error));
    assert_eq!(f.machine.describe(&"g".into()), Err(error));
}

#[test]
fn a_group_is_seen_once_its_record_is_durable() {
    let mut f = Fixture::new();
    f.holds = true;
    let mut a = client();
    f.name(&mut a);
    let not_found = Err(GroupError::GroupIdNotFound);
    assert_eq!(f.machine.describe(&"g".into()), not_found);
    assert_eq!(f.machine.list(&ListFilter::default()), Ok(vec![]));
    f.end_append(Ok(()));
    let described = f.machine.describe(&"g".into()).expect("a group");
    assert_eq!(
        (described.state, &*described.protocol_type),
        (GroupState::Empty, "")
    );
    assert_eq!(described.members, []);
    assert_eq!(
        f.machine.list(&ListFilter::default()).map(|all| all.len()),
        Ok(1)
    );
}

#[test]
fn a_group_is_described_as_it_is_now() {
    let (mut f, [a, b]) = up::<2>();
    let described = f.machine.describe(&"g".into()).expect("a group");
    assert_eq!(described.state, GroupState::Stable);
    assert_eq!(
        (&*described.protocol_type, &*described.protocol),
        ("consumer", "range")
    );
    assert_eq!(described.members.len(), 2);
    let member = &described.members[1];
    assert_eq!((&member.member_id, &member.instance_id), (&b.id, &None));
    assert_eq!(
        (&*member.client_id, &*member.client_host),
        ("c", "/127.0.0.1")
    );
    assert_eq!(
        (&member.metadata[..], &member.assignment[..]),
        (&b"m"[..], &b"02"[..])
    );

    // In a rebalance the old assignment shows, and nothing of the next generation.
    f.join(&a);
    let described = f.machine.describe(&"g".into()).expect("a group");
    assert_eq!(described.state, GroupState::PreparingRebalance);
    assert_eq!(described.protocol, "");
    let member = &described.members[1];
    assert_eq!(
        (&member.metadata[..], &member.assignment[..]),
        (&b""[..], &b"02"[..])
    );
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let (mut f, _) = up::<1>();
    let rows: [(&[&str], &[&str], bool); 10] = [
        (&[], &[], true),
        (&["stable"], &[], true),
        (&[" STABLE "], &[], true),
        (&["foo"], &[], false),
        (&["Empty", "Stable"], &[], true),
        (&[], &["classic"], true),
        (&[], &["Classic"], true),
        (&[], &[" classic "], false),
        (&[], &["classic", "foo"], true),
        (&["Empty"], &["classic"], false),
    ];
    for (states, types, matches) in rows {
        let names = |all: &[&str]| all.iter().map(|name| (*name).into()).collect();
        let filter = ListFilter {
            states: names(states),
            types: names(types),
        };
        let expected = matches.then(|| ListedGroup {
            group: "g".into(),
            protocol_type: "consumer".into(),
            state: GroupState::Stable,
        });
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(
            f.machine.list(&filter),
            Ok(expected),
            "{states:?} {types:?}"
        );
    }

    // One that only has offsets has no type.
    let request = CommitOffsets {
        group: "a simple one".into(),
        ..commit_request(&client(), -1)
    };
    f.ask(Command::Commit(request));
    let listed = f.machine.list(&ListFilter::default()).expect("two groups");
    assert_eq!(listed.len(), 2);
    assert_eq!(
        (&*listed[0].group, &*listed[0].protocol_type),
        ("a simple one", "")
    );
    assert_eq!(listed[0].state, GroupState::Empty);
}

impl Fixture {
    fn delete(&mut self) -> ReplyId {
        self.ask(Command::DeleteGroup { group: "g".into() })
    }

    fn deleted(&mut self) -> Result<(), GroupError> {
        let reply_to = self.delete();
        match self.reply(reply_to) {
            Reply::DeleteGroup(result) => result,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn only_groups_without_members_are_deleted() {
    let mut f = Fixture::new();
    assert_eq!(f.deleted(), Err(GroupError::GroupIdNotFound));
    let mut clients = [client()];
    let mut f = joined(&mut clients);
    let [a] = clients;
    assert_eq!(f.deleted(), Err(GroupError::NonEmptyGroup));
    sync_all(&mut f, std::slice::from_ref(&a), 1);
    assert_eq!(f.deleted(), Err(GroupError::NonEmptyGroup));
    f.enter(&mut client());
    assert_eq!(f.deleted(), Err(GroupError::NonEmptyGroup));

    let (mut f, [a]) = up::<1>();
    assert_eq!(f.commit(&a, 1), Ok(()));
    f.leave(&[(&a.id, None)]);
    f.name(&mut client());
    let before = f.log.len();
    assert_eq!(f.deleted(), Ok(()));
    assert_eq!(f.log.len(), before + 2, "an offset and the group");
    assert_eq!(f.log.last(), Some(&tombstone()));
    assert_eq!(f.deleted(), Err(GroupError::GroupIdNotFound));
    assert_eq!(f.machine.offsets().count(), 0);
    assert_eq!(f.machine.timers.len(), 1, "only the expiry of offsets");
    assert!(f.successor(|_| {}).machine.groups.is_empty());
}

#[test]
fn a_group_of_offsets_only_is_deleted() {
    let mut f = Fixture::new();
    assert_eq!(f.commit(&client(), -1), Ok(()));
    assert_eq!(f.deleted(), Ok(()));
    assert_eq!(f.deleted(), Err(GroupError::GroupIdNotFound));
}

#[test]
fn a_deletion_waits_for_commits_and_everything_for_a_deletion() {
    let mut f = Fixture::new();
    f.holds = true;
    let request = commit_request(&client(), -1);
    let commit = f.ask(Command::Commit(request));
    let deletion = f.delete();
    assert!(f.waits(commit) && f.waits(deletion));
    f.end_append(Ok(()));
    let mut newcomer = client();
    let join = f.join(&newcomer);
    assert!(!f.waits(commit) && f.waits(deletion) && f.waits(join));
    f.end_append(Ok(()));
    assert_eq!(f.reply(deletion), Reply::DeleteGroup(Ok(())));
    // The newcomer makes a new group.
    let reply = f.joined(join);
    assert_eq!(reply.result, Err(GroupError::MemberIdRequired));
    newcomer.id = reply.member_id;
    f.end_append(Ok(()));
    assert_eq!(f.machine.offsets().count(), 0);
    f.enter(&mut newcomer);

    // One whose record is refused leaves the group as it is.
    let mut f = Fixture::new();
    assert_eq!(f.commit(&client(), -1), Ok(()));
    f.holds = true;
    let deletion = f.delete();
    f.end_append(Err(GroupError::NotAvailable));
    let refused = Reply::DeleteGroup(Err(GroupError::NotAvailable));
    assert_eq!(f.reply(deletion), refused);
    assert_eq!(f.machine.offsets().count(), 1);
    f.holds = false;
    assert_eq!(f.deleted(), Ok(()));
}

#[test]
fn a_record_that_is_taken_after_the_first_was_refused_brings_the_group_back() {
    let mut f = Fixture::new();
    f.holds = true;
    let mut a = client().version(3);
    let waiting = f.enter(&mut a);
    f.pass(DELAY);
    a.id = f.joined(waiting).member_id;
    let syncing = f.sync(&a, 1, &[(&a, "01")]);
    f.end_append(Err(GroupError::NotAvailable));
    assert_eq!(f.assignment(syncing), Err(GroupError::NotAvailable));
    assert!(f.machine.groups.is_empty());
    f.end_append(Ok(()));
    f.holds = false;
    assert_eq!((f.state(), f.size()), (GroupState::Stable, 1));
    assert_eq!(f.heartbeat(&a, 1), Ok(()));
    f.pass(30_000);
    assert_eq!(f.state(), GroupState::Empty);
}

#[test]
fn who_waits_behind_a_deletion_hears_that_the_partition_has_gone() {
    let mut f = Fixture::new();
    assert_eq!(f.commit(&client(), -1), Ok(()));
    f.holds = true;
    let deletion = f.delete();
    let joining = f.join(&client());
    f.run(|machine, _, out| machine.unload(out));
    let error = GroupError::NotCoordinator;
    assert_eq!(f.joined(joining).result, Err(error));
    f.end_append(Err(error));
    assert_eq!(f.reply(deletion), Reply::DeleteGroup(Err(error)));
}
