//! Floods, and sizes that no client has: what is bounded is refused with an answer, other groups
//! notice nothing, and what was kept is gone some time.

use super::*;
use crate::base::limits::{
    EXPIRED_OFFSETS_PER_BATCH_MAX, GROUP_EFFECTS_PER_STEP_MAX, GROUP_REQUESTS_WAITING_MAX,
    GROUP_TIMERS_PER_STEP_MAX, PENDING_IDS_OF_ANY_GROUP, PENDING_IDS_PER_GROUP_MAX,
    PENDING_IDS_PER_PARTITION_MAX,
};

/// The longest string of the protocol, in bytes.
const STRING_MAX: usize = 32_767;

fn offset_of(topic: &str, partition: i32) -> OffsetToCommit {
    OffsetToCommit {
        topic: topic.into(),
        topic_id: TopicId::ZERO,
        partition,
        offset: 7,
        leader_epoch: -1,
        metadata: None,
    }
}

/// A commit of a client that is in no generation.
fn simple_commit(group: &str, offsets: Vec<OffsetToCommit>) -> Command {
    Command::Commit(CommitOffsets {
        group: group.into(),
        generation: -1,
        member_id: ByteString::new(),
        instance_id: None,
        knows_group_id_not_found: true,
        retention_ms: None,
        offsets,
    })
}

impl Fixture {
    /// The error that a join of `group` gets at once; none if it waits.
    fn error_of_join(&mut self, group: &str, client: &Client) -> Option<GroupError> {
        let random = u128::from(self.next_reply);
        let reply_to = self.ask(Command::Join(join_of(group, client, random)));
        (!self.waits(reply_to)).then(|| self.joined(reply_to).result.expect_err("a refusal"))
    }

    fn error_of_heartbeat(&mut self, reply_to: ReplyId) -> Option<GroupError> {
        match self.reply(reply_to) {
            Reply::Heartbeat(result) => result.err(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn requests_that_wait_for_a_record_have_a_bound() {
    let mut f = Fixture::new();
    f.ask(simple_commit("g", vec![offset_of("t", 0)]));
    f.holds = true;
    let deleting = f.ask(Command::DeleteGroup { group: "g".into() });
    let beat = Command::Heartbeat(Heartbeat {
        group: "g".into(),
        generation: 1,
        member_id: "m".into(),
        instance_id: None,
    });
    let waiting: Vec<_> = (0..GROUP_REQUESTS_WAITING_MAX)
        .map(|_| f.ask(beat.clone()))
        .collect();
    assert!(waiting.iter().all(|reply_to| f.waits(*reply_to)));
    let refused = f.ask(beat);
    let refused = f.error_of_heartbeat(refused);
    assert_eq!(refused, Some(GroupError::NotAvailable));
    let elsewhere = f.error_of_join("h", &client());
    assert_eq!(elsewhere, Some(GroupError::MemberIdRequired));

    f.end_append(Ok(()));
    assert!(!f.waits(deleting));
    for reply_to in waiting {
        let error = f.error_of_heartbeat(reply_to);
        assert_eq!(error, Some(GroupError::UnknownMemberId));
    }
}

#[test]
fn a_flood_of_first_joins_is_bounded_in_all_groups_together() {
    let (mut f, clients) = up::<2>();
    let flood = client().session(60_000);
    let mut handed_out = 0;
    for n in 0..PENDING_IDS_PER_PARTITION_MAX.div_ceil(PENDING_IDS_PER_GROUP_MAX) + 1 {
        let group = format!("flooded-{n}");
        for _ in 0..PENDING_IDS_PER_GROUP_MAX {
            match f.error_of_join(&group, &flood) {
                Some(GroupError::MemberIdRequired) => handed_out += 1,
                refused => assert_eq!(refused, Some(GroupError::NotAvailable)),
            }
        }
    }
    let beyond = PENDING_IDS_OF_ANY_GROUP;
    assert_eq!(handed_out, PENDING_IDS_PER_PARTITION_MAX + beyond);

    // Another group is not locked out by it.
    let elsewhere = f.error_of_join("fresh", &flood);
    assert_eq!(elsewhere, Some(GroupError::MemberIdRequired));

    // Who is in a group stays, and who needs no id gets in.
    for client in &clients {
        assert_eq!(f.heartbeat(client, 1), Ok(()));
        assert_eq!(f.commit(client, 1), Ok(()));
    }
    assert_eq!(f.error_of_join("other", &client().version(3)), None);

    // Nothing of the flood is left: neither ids nor timers, and no groups at the next check.
    f.pass(29_000);
    clients
        .iter()
        .for_each(|it| f.heartbeat(it, 1).expect("a member"));
    f.pass(29_000);
    clients
        .iter()
        .for_each(|it| f.heartbeat(it, 1).expect("a member"));
    f.pass(3_000);
    assert_eq!(f.machine.pending_ids, 0);
    f.pass(600_000);
    let flooded = f
        .machine
        .groups
        .keys()
        .filter(|id| id.starts_with("flooded"));
    assert_eq!(flooded.count(), 0);
    assert_eq!(f.machine.timers.len(), 1);
}

#[test]
fn a_flood_of_members_ends_where_their_record_would_not_fit() {
    const RECORD_BYTES_MAX: usize = 20_000;
    let mut f = Fixture::with(|config| config.record_bytes_max = RECORD_BYTES_MAX);
    let member = client().version(3);
    let mut members = 0;
    let refused = loop {
        match f.error_of_join("g", &member) {
            None => members += 1,
            Some(refused) => break refused,
        }
    };
    assert_eq!(refused, GroupError::GroupMaxSizeReached);
    assert_eq!(f.size(), members);
    assert!(f.machine.groups["g"].members.record_bytes() < RECORD_BYTES_MAX);
    assert!(members > 50, "{members}");
    assert_eq!(f.error_of_join("h", &member), None);
}

#[test]
fn a_member_may_not_list_more_than_memory_is_for() {
    let mut f = Fixture::with(|config| config.record_bytes_max = 20_000);
    // Its record would have one of them, and a short one.
    let names: Vec<String> = (0..20).map(|n| format!("{n}").repeat(8_000)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let member = client().version(3);
    let refused = f.error_of_join("g", &member.clone().lists(&names));
    assert_eq!(refused, Some(GroupError::GroupMaxSizeReached));
    assert_eq!(f.error_of_join("g", &member.lists(&names[..5])), None);
}

#[test]
fn where_memory_is_full_nothing_is_added_and_who_is_there_goes_on() {
    let (mut f, [a]) = up::<1>();
    assert_eq!(f.commit(&a, 1), Ok(()));
    let handed_out = f.error_of_join("g", &client());
    assert_eq!(handed_out, Some(GroupError::MemberIdRequired));
    f.bytes_max = f.machine.bytes();

    let newcomer = client().version(3);
    for group in ["g", "fresh"] {
        let refused = f.error_of_join(group, &newcomer);
        assert_eq!(refused, Some(GroupError::NotAvailable));
    }
    let refused = Reply::Commit(Err(GroupError::NotAvailable));
    let more = f.ask(simple_commit("simple", vec![offset_of("t", 0)]));
    assert_eq!(f.reply(more), refused);
    let mut longer = commit_request(&a, 1);
    longer.offsets[0].metadata = Some("m".repeat(100).into());
    let longer = f.ask(Command::Commit(longer));
    assert_eq!(f.reply(longer), refused);
    let back = f.error_of_join("g", &client().named("unknown"));
    assert_eq!(back, Some(GroupError::UnknownMemberId));
    assert!(f.lacks_memory);

    assert_eq!(f.heartbeat(&a, 1), Ok(()));
    assert_eq!(f.commit(&a, 1), Ok(()));
    let again = f.join(&a);
    assert!(f.waits(again), "a member that rejoins is no new member");

    // There is room again when somebody has gone.
    f.leave(&[(&a.id, None)]);
    f.pass(600_000);
    let deleted = f.ask(Command::DeleteGroup { group: "g".into() });
    assert_eq!(f.reply(deleted), Reply::DeleteGroup(Ok(())));
    assert_eq!(f.machine.bytes(), 0);
    assert_eq!(f.error_of_join("fresh", &newcomer), None);
}

#[test]
fn offsets_leave_room_for_members_and_members_for_what_they_grow_by() {
    let (mut f, [a]) = up::<1>();
    let names: Vec<_> = (0..40).map(|n| format!("{n}").repeat(1000)).collect();
    let names = ["range"]
        .into_iter()
        .chain(names.iter().map(String::as_str));
    let larger = a.clone().lists(&names.collect::<Vec<_>>());
    let assignment = "a".repeat(1000);
    // Whoever takes the rest is in another partition of the shard.
    f.bytes_max = 4_000_000;
    for (taken, offset, member, growth) in [
        (2_000_000, true, true, true),
        (3_000_000, false, true, true),
        (4_000_000, false, false, true),
        (5_000_000, false, false, false),
    ] {
        f.bytes_of_others = taken;
        let commit = f.ask(simple_commit("simple", vec![offset_of("t", taken as i32)]));
        let is_committed = matches!(f.reply(commit), Reply::Commit(Ok(_)));
        assert_eq!(is_committed, offset, "at {taken}");
        let group = format!("g{taken}");
        let refused = f.error_of_join(&group, &client().version(3));
        assert_eq!(refused.is_none(), member, "at {taken}");
        let mut others = f.successor(|_| {});
        others.bytes_of_others = taken;
        others.bytes_max = f.bytes_max;
        let joined = others.join(&larger);
        assert_eq!(others.joined(joined).result.is_ok(), growth, "at {taken}");
        let mut others = f.successor(|_| {});
        others.bytes_max = f.bytes_max;
        let joined = others.join(&a);
        assert_eq!(others.joined(joined).generation, 2);
        others.bytes_of_others = taken;
        let synced = others.sync(&a, 2, &[(&a, &assignment)]);
        assert_eq!(others.assignment(synced).is_ok(), growth, "at {taken}");
    }
}

#[test]
fn ids_that_were_handed_out_count_with_the_names_in_them() {
    let mut f = Fixture::new();
    let mut join = join_of("g", &client(), 1);
    join.client_id = "c".repeat(STRING_MAX).into();
    for random in 0..100 {
        join.random = random;
        f.ask(Command::Join(join.clone()));
    }
    assert_eq!(f.pending_ids(), 100);
    assert!(f.machine.bytes() > 100 * (STRING_MAX - 100));
    f.pass(700_000);
    assert_eq!(f.machine.bytes(), 0);
}

#[test]
fn ten_thousand_groups_are_taken_care_of_in_small_steps() {
    const GROUPS: usize = 10_000;
    let mut f = Fixture::new();
    let member = client().version(3).session(60_000).rebalance(60_000);
    let names: Vec<_> = (0..GROUPS).map(|n| format!("g{n}")).collect();
    for name in &names {
        assert_eq!(f.error_of_join(name, &member), None);
        f.ask(simple_commit(name, vec![offset_of("t", 0)]));
    }
    // All first join phases end at one moment.
    f.now_ms = DELAY;
    let mut answered = 0;
    let mut steps = 0;
    while f.machine.deadline() <= Some(Duration::from_millis(DELAY)) {
        let mut out = Effects::default();
        let now = f.now();
        f.machine.tick(now, &mut out);
        assert!(out.replies.len() <= GROUP_EFFECTS_PER_STEP_MAX);
        answered += out.replies.len();
        steps += 1;
    }
    assert_eq!(answered, GROUPS);
    assert!(steps >= GROUPS / GROUP_TIMERS_PER_STEP_MAX, "{steps}");

    // Nobody syncs. The groups go with their offsets, a few at a time as well.
    f.pass(120_000);
    assert!(
        f.machine
            .groups
            .values()
            .all(|it| it.state == GroupState::Empty)
    );
    let retention = f.machine.config.offsets_retention.as_millis() as u64;
    f.pass(retention + 1_000_000);
    assert_eq!((f.machine.groups.len(), f.machine.offsets.count()), (0, 0));
    assert_eq!(f.machine.timers.len(), 1);
}

#[test]
fn many_expired_offsets_go_batch_by_batch() {
    let mut f = Fixture::new();
    let count = 2 * EXPIRED_OFFSETS_PER_BATCH_MAX + 500;
    let offsets = (0..count as i32).map(|partition| offset_of("t", partition));
    f.ask(simple_commit("g", offsets.collect()));
    assert_eq!(f.machine.offsets.count(), count);
    f.holds = true;
    f.now_ms = f.machine.config.offsets_retention.as_millis() as u64 + 600_000;
    let mut batches = Vec::new();
    while f.machine.exists(&"g".into()) {
        let deadline = f.machine.deadline().expect("the next look").as_millis() as u64;
        f.now_ms = f.now_ms.max(deadline);
        f.run(|machine, now, out| machine.tick(now, out));
        batches.push(f.appends[0].records.len());
        // Members are served meanwhile.
        let other = f.error_of_join("other", &client());
        assert_eq!(other, Some(GroupError::MemberIdRequired));
        while !f.appends.is_empty() {
            f.end_append(Ok(()));
        }
    }
    let of_batch = EXPIRED_OFFSETS_PER_BATCH_MAX;
    assert_eq!(batches, [of_batch, of_batch, 500 + 1]);
    assert_eq!(f.machine.offsets.count(), 0);
}

/// As in Kafka all members hear of it, and the group tries again: at -1 a client gives up, which
/// leaves the group to the others.
#[test]
fn assignments_that_the_log_would_refuse_are_refused() {
    let mut clients = [client(), client()];
    let mut f = Fixture::with(|config| config.record_bytes_max = 100_000);
    let waiting: Vec<_> = clients.iter_mut().map(|it| f.enter(it)).collect();
    f.pass(2 * DELAY);
    for (client, reply_to) in clients.iter_mut().zip(waiting) {
        client.id = f.joined(reply_to).member_id;
    }
    let [leader, follower] = &clients;
    f.recorded();
    let large = "x".repeat(60_000);
    let waiting = f.sync(follower, 1, &[]);
    let refused = f.sync(leader, 1, &[(leader, &large), (follower, &large)]);
    assert_eq!(f.synced(waiting), Err(GroupError::Unexpected));
    assert_eq!(f.synced(refused), Err(GroupError::Unexpected));
    assert_eq!(f.state(), GroupState::PreparingRebalance);
    assert_eq!(f.recorded(), []);

    let waiting = [f.join(leader), f.join(follower)];
    for reply_to in waiting {
        assert_eq!(f.joined(reply_to).generation, 2);
    }
    let taken = f.sync(leader, 2, &[(leader, "1"), (follower, &large)]);
    assert_eq!(f.assignment(taken).as_deref(), Ok("1"));
    assert_eq!(f.recorded(), [(2, 2)]);
}

#[test]
fn names_may_be_as_long_as_names_get() {
    // A name that ends in the middle of a character where it is cut, too.
    let long = ["x".repeat(STRING_MAX), "é".repeat(STRING_MAX / 2)];
    for name in long {
        for is_static in [false, true] {
            let mut f = Fixture::new();
            let mut client = client().version(if is_static { 9 } else { 3 });
            client.instance = is_static.then(|| name.as_str().into());
            let mut join = join_of(&name, &client, 1);
            join.client_id = name.as_str().into();
            let waiting = f.ask(Command::Join(join.clone()));
            f.pass(DELAY);
            let joined = f.joined(waiting);
            assert_eq!((joined.result, joined.generation), (Ok(()), 1));
            let id = joined.member_id;
            assert!(
                id.len() <= STRING_MAX && id.len() > STRING_MAX - 40,
                "{}",
                id.len()
            );
            let synced = f.ask(Command::Sync(SyncGroup {
                group: join.group.clone(),
                generation: 1,
                member_id: id.clone(),
                instance_id: join.instance_id.clone(),
                protocol_type: None,
                protocol_name: None,
                assignments: vec![(id.clone(), Bytes::from_static(b"1"))],
            }));
            assert_eq!(f.assignment(synced).as_deref(), Ok("1"));
            f.ask(simple_commit(
                &format!("{}2", &name[2..]),
                vec![offset_of(&name[2..], 0)],
            ));

            // A successor can read all of it.
            for record in &f.log {
                let key = record.key().expect("a name that fits");
                let value = record.value().expect("names that fit");
                let read = GroupRecord::decode(&key, value.as_ref());
                assert_eq!(read.as_ref().map(Option::as_ref), Ok(Some(record)));
            }
            let f = f.successor(|_| {});
            assert!(f.machine.groups[&join.group].members.get(&id).is_some());
        }
    }
}
