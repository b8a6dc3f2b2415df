//! The heartbeat of a member of a large, stable group, by far the most frequent request to groups.
//!
//! The machine's own work: neither the request around it nor the way to its shard. What rebalances
//! cost is in `benches/groups.rs`.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use millrace::base::ids::PartitionIndex;
use millrace::coordinator::group::command::{
    Command, Effects, Heartbeat, JoinGroup, Now, Protocol, Reply, ReplyId, SyncGroup,
};
use millrace::coordinator::group::config::GroupConfig;
use millrace::coordinator::group::machine::Machine;

use super::{NOW, Part};

const MEMBERS: usize = 1000;
const CALLS: u64 = MEMBERS as u64;
const GROUP: ByteString = ByteString::from_static("orders");

/// A group's machine and the time it has.
struct Timed {
    machine: Machine,
    now: Duration,
}

impl Timed {
    fn now(&self) -> Now {
        Now {
            monotonic: self.now,
            wall_ms: NOW + self.now.as_millis() as i64,
        }
    }

    fn ask(&mut self, command: Command) -> Effects {
        let mut effects = Effects::default();
        let now = self.now();
        self.machine.handle(command, ReplyId(0), now, &mut effects);
        self.end_appends(&mut effects);
        effects
    }

    /// The log takes everything at once.
    fn end_appends(&mut self, effects: &mut Effects) {
        while let Some(append) = effects.appends.pop() {
            let now = self.now();
            for record in &append.records {
                self.machine.replay(record, now);
            }
            self.machine.appended(append.after, Ok(()), now, effects);
        }
    }

    /// Lets all happen that is due within `time`.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.machine.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let now = self.now();
            let mut effects = Effects::default();
            self.machine.tick(now, &mut effects);
            self.end_appends(&mut effects);
        }
        self.now = end;
    }
}

fn join(member_id: ByteString, random: u128) -> Command {
    let range = Protocol {
        name: ByteString::from_static("range"),
        metadata: Bytes::from_static(&[0; 32]),
    };
    Command::Join(JoinGroup {
        group: GROUP,
        member_id,
        instance_id: None,
        client_id: "consumer-orders-1".into(),
        client_host: "/10.0.0.7".into(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".into(),
        protocols: vec![range],
        knows_member_id_required: true,
        knows_skip_assignment: true,
        random,
        reason: None,
    })
}

/// A machine with one stable group, and the ids of its members.
fn stable() -> (Timed, Vec<ByteString>) {
    let mut timed = Timed {
        machine: Machine::new(GroupConfig::default(), PartitionIndex(0)),
        now: Duration::ZERO,
    };
    let now = timed.now();
    timed.machine.loaded(now, &mut Effects::default());
    let mut members = Vec::new();
    for random in 0..MEMBERS as u128 {
        let asked = timed.ask(join(ByteString::new(), random));
        let [(_, Reply::Join(reply))] = &asked.replies[..] else {
            panic!("a new member is given its id at once");
        };
        let id = reply.member_id.clone();
        timed.ask(join(id.clone(), random));
        members.push(id);
    }
    timed.wait(Duration::from_secs(10));
    let assignments: Vec<_> = members
        .iter()
        .map(|id| (id.clone(), Bytes::from_static(&[7; 64])))
        .collect();
    for (member, id) in members.iter().enumerate() {
        timed.ask(Command::Sync(SyncGroup {
            group: GROUP,
            generation: 1,
            member_id: id.clone(),
            instance_id: None,
            protocol_type: Some("consumer".into()),
            protocol_name: None,
            assignments: match member {
                0 => assignments.clone(),
                _ => Vec::new(),
            },
        }));
    }
    (timed, members)
}

pub fn parts() -> Vec<Part> {
    let (mut timed, members) = stable();
    let mut effects = Effects::default();
    vec![Part::new("heartbeat/1000-members", CALLS, 0, move || {
        let now = timed.now();
        for id in &members {
            let beat = Heartbeat {
                group: GROUP,
                generation: 1,
                member_id: id.clone(),
                instance_id: None,
            };
            let command = Command::Heartbeat(beat);
            timed.machine.handle(command, ReplyId(0), now, &mut effects);
            let [(_, Reply::Heartbeat(told))] = &effects.replies[..] else {
                panic!("a heartbeat is answered at once");
            };
            assert!(black_box(told).is_ok(), "the group is stable: {told:?}");
            effects.replies.clear();
        }
        timed.now += Duration::from_secs(3);
    })]
}
