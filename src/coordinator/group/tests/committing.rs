//! Who may commit, and when offsets go away.

use super::super::command::{DeleteOffsets, FetchOffsets};
use super::super::offsets::TopicPartition;
use super::*;

const UNKNOWN: GroupError = GroupError::UnknownMemberId;
const GENERATION: GroupError = GroupError::IllegalGeneration;

#[test]
fn without_a_group_only_clients_without_a_generation_commit() {
    let mut f = Fixture::new();
    assert_eq!(f.commit(&client(), 10), Err(GroupError::GroupIdNotFound));
    let old = CommitOffsets {
        knows_group_id_not_found: false,
        ..commit_request(&client(), 10)
    };
    let reply_to = f.ask(Command::Commit(old));
    assert_eq!(f.reply(reply_to), Reply::Commit(Err(GENERATION)));
    assert!(f.machine.groups.is_empty() && f.log.is_empty());

    assert_eq!(f.commit(&client().of_instance("i"), -1), Ok(()));
    assert_eq!(f.log.len(), 1, "an offset makes a group");
    assert_eq!(f.commit(&client().named("m"), 10), Err(UNKNOWN));
    assert_eq!(f.commit(&client(), -1), Ok(()));
}

#[test]
fn in_a_group_only_members_commit() {
    let mut empty = Fixture::new();
    empty.name(&mut client());
    assert_eq!(empty.commit(&client().named("m"), 10), Err(UNKNOWN));
    assert_eq!(empty.commit(&client().named("m"), -1), Ok(()));

    let mut clients = [client()];
    let mut f = joined(&mut clients);
    let [a] = clients;
    let rebalancing = GroupError::RebalanceInProgress;
    assert_eq!(f.commit(&a, 10), Err(GENERATION));
    assert_eq!(f.commit(&a.clone().of_instance("i"), 1), Err(UNKNOWN));
    assert_eq!(f.commit(&a, 1), Err(rebalancing));
    assert_eq!(f.commit(&client(), -1), Err(UNKNOWN));

    sync_all(&mut f, std::slice::from_ref(&a), 1);
    assert_eq!(f.commit(&a, 1), Ok(()));
    assert_eq!(f.commit(&a, -1), Err(GENERATION));
    assert_eq!(f.commit(&client(), -1), Err(UNKNOWN));

    // While members join, the generation that goes may still commit.
    f.enter(&mut client());
    assert_eq!(f.commit(&a, 1), Ok(()));
}

#[test]
fn what_cannot_be_committed_does_not_keep_the_rest() {
    let mut f = Fixture::new();
    let mut request = commit_request(&client(), -1);
    let mut too_long = request.offsets[0].clone();
    too_long.metadata = Some("x".repeat(4097).into());
    request.offsets.insert(0, too_long.clone());
    let too_large = Err(GroupError::OffsetMetadataTooLarge);
    let reply_to = f.ask(Command::Commit(request.clone()));
    assert_eq!(
        f.reply(reply_to),
        Reply::Commit(Ok(vec![too_large, Ok(())]))
    );
    assert_eq!(f.log.len(), 1);
    request.offsets = vec![too_long];
    let reply_to = f.ask(Command::Commit(request));
    assert_eq!(f.reply(reply_to), Reply::Commit(Ok(vec![too_large])));
    assert_eq!(f.log.len(), 1);
}

#[test]
fn a_commit_that_the_log_refuses_is_reported_and_forgotten() {
    let mut f = Fixture::new();
    f.holds = true;
    let request = commit_request(&client(), -1);
    let reply_to = f.ask(Command::Commit(request));
    f.end_append(Err(GroupError::NotAvailable));
    assert_eq!(
        f.reply(reply_to),
        Reply::Commit(Err(GroupError::NotAvailable))
    );
    assert!(f.machine.groups.is_empty());
    assert_eq!(f.machine.offsets().count(), 0);
}

fn partition() -> TopicPartition {
    TopicPartition {
        topic: "t".into(),
        topic_id: TopicId::ZERO,
        partition: 0,
    }
}

impl Fixture {
    fn fetch(&mut self, partitions: Option<Vec<TopicPartition>>, require_stable: bool) -> ReplyId {
        self.ask(Command::Fetch(FetchOffsets {
            group: "g".into(),
            partitions,
            require_stable,
        }))
    }

    fn fetched(&mut self, reply_to: ReplyId) -> Vec<Option<i64>> {
        let Reply::Fetch(Ok(all)) = self.reply(reply_to) else {
            panic!("offsets");
        };
        let offset = |it: &super::super::offsets::FetchedOffset| {
            let committed = it.committed.as_ref().expect("no open transaction");
            committed.as_ref().map(|committed| committed.offset)
        };
        all.iter().map(offset).collect()
    }

    fn delete_offsets(&mut self) -> Reply {
        let reply_to = self.ask(Command::DeleteOffsets(DeleteOffsets {
            group: "g".into(),
            partitions: vec![partition()],
        }));
        self.reply(reply_to)
    }
}

#[test]
fn a_fetch_sees_what_is_durable_and_a_stable_one_waits_for_the_rest() {
    let mut f = Fixture::new();
    let nothing = f.fetch(Some(vec![partition()]), true);
    assert_eq!(f.fetched(nothing), [None]);
    f.holds = true;
    let request = commit_request(&client(), -1);
    f.ask(Command::Commit(request));
    let at_once = f.fetch(Some(vec![partition()]), false);
    assert_eq!(f.fetched(at_once), [None]);
    let stable = f.fetch(None, true);
    assert!(f.waits(stable));
    f.end_append(Ok(()));
    assert_eq!(f.fetched(stable), [Some(7)]);
}

#[test]
fn members_live_on_while_requests_about_offsets_wait() {
    let (mut f, clients) = up::<2>();
    f.holds = true;
    let first = f.ask(Command::Commit(commit_request(&clients[0], 1)));
    let stable = f.fetch(Some(vec![partition()]), true);
    let behind = f.ask(Command::Commit(commit_request(&clients[1], 1)));
    assert!([first, stable, behind].iter().all(|it| f.waits(*it)));
    // Session after session passes while the disk hangs.
    for _ in 0..10 {
        f.pass(20_000);
        for client in &clients {
            assert_eq!(f.heartbeat(client, 1), Ok(()));
        }
    }
    f.end_append(Ok(()));
    assert_eq!(f.fetched(stable), [Some(7)]);
    assert!(f.waits(behind));
    f.end_append(Ok(()));
    assert!(!f.waits(behind));
}

#[test]
fn offsets_are_deleted_unless_the_group_needs_them() {
    let mut f = Fixture::new();
    let not_found = Reply::DeleteOffsets(Err(GroupError::GroupIdNotFound));
    assert_eq!(f.delete_offsets(), not_found);

    // Of a group that cannot be asked what it subscribes to.
    let mut clients = [client().of_type("connect")];
    let mut f = stable(&mut clients);
    let non_empty = Reply::DeleteOffsets(Err(GroupError::NonEmptyGroup));
    assert_eq!(f.delete_offsets(), non_empty);

    // Of consumers: by topic. Metadata that is no subscription may mean any topic.
    let subscriptions: [(&[u8], Result<(), GroupError>); 3] = [
        (b"\0\x03\0\0\0\x01\0\x01u\xff\xff\xff\xff", Ok(())),
        (
            b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff",
            Err(GroupError::GroupSubscribedToTopic),
        ),
        (b"m", Err(GroupError::GroupSubscribedToTopic)),
    ];
    for (subscription, result) in subscriptions {
        let mut member = client();
        member.protocols[0].metadata = Bytes::copy_from_slice(subscription);
        let mut clients = [member];
        let mut f = stable(&mut clients);
        assert_eq!(f.commit(&clients[0], 1), Ok(()));
        assert_eq!(f.delete_offsets(), Reply::DeleteOffsets(Ok(vec![result])));
        let left = f.machine.offsets().count();
        assert_eq!(left, usize::from(result.is_err()));
        // Once nobody is left, any.
        f.leave(&[(&clients[0].id, None)]);
        assert_eq!(f.delete_offsets(), Reply::DeleteOffsets(Ok(vec![Ok(())])));
        assert_eq!(f.machine.offsets().count(), 0);
    }
}

const MINUTE: u64 = 60_000;
const WEEK: u64 = 7 * 24 * 60 * MINUTE;

#[test]
fn groups_without_members_expire() {
    // One that only has offsets goes by their age.
    let mut f = Fixture::new();
    assert_eq!(f.commit(&client(), -1), Ok(()));
    f.pass(WEEK - MINUTE);
    assert_eq!(f.log.len(), 1);
    f.pass(11 * MINUTE);
    assert_eq!(f.machine.offsets().count(), 0);
    assert_eq!(f.log.len(), 3, "two tombstones");
    assert!(f.machine.groups.is_empty());

    // One that had members goes by when it became empty, however young its offsets are.
    let (mut f, [a]) = up::<1>();
    assert_eq!(f.commit(&a, 1), Ok(()));
    f.leave(&[(&a.id, None)]);
    f.pass(WEEK - MINUTE);
    assert_eq!(f.commit(&client(), -1), Ok(()));
    f.pass(11 * MINUTE);
    assert_eq!(f.machine.offsets().count(), 0);
    assert!(f.machine.groups.is_empty());
    assert!(f.successor(|_| {}).machine.groups.is_empty());

    // One with members stays.
    let mut clients = [client().session(1_800_000)];
    let mut f = stable(&mut clients);
    assert_eq!(f.commit(&clients[0], 1), Ok(()));
    let end = f.now_ms + WEEK + 20 * MINUTE;
    while f.now_ms < end {
        f.pass(20 * MINUTE);
        assert_eq!(f.heartbeat(&clients[0], 1), Ok(()));
    }
    assert_eq!(f.machine.offsets().count(), 1);

    // One without offsets goes at the next look.
    let (mut f, [a]) = up::<1>();
    f.leave(&[(&a.id, None)]);
    f.pass(10 * MINUTE);
    assert!(f.machine.groups.is_empty());
}

impl Fixture {
    /// Commits for an incarnation of `t`.
    fn commit_of(&mut self, id: u128, offset: i64) -> ReplyId {
        let mut request = commit_request(&client(), -1);
        request.offsets[0].topic_id = TopicId(id);
        request.offsets[0].offset = offset;
        self.ask(Command::Commit(request))
    }

    fn delete_topic(&mut self, id: u128) {
        self.run(|machine, now, out| machine.topic_deleted(&"t".into(), TopicId(id), now, out));
    }

    fn stored(&self) -> Option<i64> {
        let stored = self.machine.offsets().get("g", "t", 0);
        stored.map(|committed| committed.offset)
    }
}

#[test]
fn a_commit_that_comes_after_its_topic_has_gone_leaves_nothing() {
    let committed = Reply::Commit(Ok(vec![Ok(())]));
    let mut f = Fixture::new();
    f.holds = true;
    let on_its_way = f.commit_of(1, 5);
    f.delete_topic(1);
    assert_eq!(f.appends.len(), 1, "there is nothing to remove yet");
    let of_a_late_shard = f.commit_of(1, 6);
    f.end_append(Ok(()));
    f.end_append(Ok(()));
    assert_eq!(f.reply(on_its_way), committed);
    assert_eq!(f.reply(of_a_late_shard), committed);
    f.end_append(Ok(()));
    assert_eq!((f.stored(), f.appends.len()), (None, 0));
    assert!(f.machine.groups.is_empty());

    f.holds = false;
    f.commit_of(1, 7);
    assert_eq!(f.stored(), None);
    f.commit_of(2, 8);
    assert_eq!(f.stored(), Some(8), "of the next topic of that name");
}

#[test]
fn a_deletion_that_is_heard_of_late_takes_nothing_of_the_next_topic() {
    let mut f = Fixture::new();
    f.commit_of(1, 5);
    f.holds = true;
    let of_the_next = f.commit_of(2, 8);
    f.delete_topic(1);
    while !f.appends.is_empty() {
        f.end_append(Ok(()));
    }
    assert_eq!(f.reply(of_the_next), Reply::Commit(Ok(vec![Ok(())])));
    assert_eq!(f.stored(), Some(8));
}

#[test]
fn offsets_of_a_deleted_topic_go_however_much_is_on_its_way() {
    let mut f = Fixture::new();
    // One whose record does not say which topic it was for, as those of older brokers.
    f.commit_of(0, 5);
    f.holds = true;
    let mut other = commit_request(&client(), -1);
    other.offsets[0].topic = "u".into();
    f.ask(Command::Commit(other.clone()));
    f.delete_topic(1);
    // There is always another one on its way.
    for _ in 0..3 {
        f.ask(Command::Commit(other.clone()));
        f.end_append(Ok(()));
    }
    assert_eq!(f.stored(), None);
    f.holds = false;
    while !f.appends.is_empty() {
        f.end_append(Ok(()));
    }
    assert!(f.machine.offsets().get("g", "u", 0).is_some());
    assert!(f.answered.len() as u64 == f.next_reply, "all are answered");
}

#[test]
fn a_late_commit_takes_none_of_the_next_topic_with_it() {
    let mut f = Fixture::new();
    f.holds = true;
    f.commit_of(1, 5);
    f.delete_topic(1);
    f.commit_of(2, 8);
    while !f.appends.is_empty() {
        f.end_append(Ok(()));
    }
    assert_eq!(f.stored(), Some(8));
    let tombstones = f
        .log
        .iter()
        .filter(|record| matches!(record, GroupRecord::Offset { value: None, .. }));
    assert_eq!(tombstones.count(), 0);
}
