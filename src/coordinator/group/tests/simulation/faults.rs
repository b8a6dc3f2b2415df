//! What goes wrong. Each seed has a weather of its own, in which some things happen often and
//! others never: together they would hide each other.

use super::super::super::command::DeleteOffsets;
use super::super::super::command::{Command, FetchOffsets, LeaveGroup, LeavingMember};
use super::super::super::offsets::TopicPartition;
use super::super::super::reads::ListFilter;
use super::consumer::{Life, Phase};
use super::network::{COPY_MS_MAX, Sent};
use super::random::Random;
use super::world::{Event, World};
use crate::base::ids::TopicId;
use bytestring::ByteString;

/// What may happen by itself, as often as the seed wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Reset,
    Kill,
    Move,
    Die,
    Close,
    Silence,
    Change,
    Grow,
    Expel,
    DeleteGroup,
    DeleteOffsets,
    Look,
}

const FAULTS: [Fault; 12] = [
    Fault::Reset,
    Fault::Kill,
    Fault::Move,
    Fault::Die,
    Fault::Close,
    Fault::Silence,
    Fault::Change,
    Fault::Grow,
    Fault::Expel,
    Fault::DeleteGroup,
    Fault::DeleteOffsets,
    Fault::Look,
];

/// How often what goes wrong, in a million times.
#[derive(Clone, Debug)]
pub struct Weather {
    pub stalls: u64,
    pub copies: u64,
    pub slow_appends: u64,
    pub refused_appends: u64,
    pub broken_logs: u64,
    pub slow_polls: u64,
    pub outage_ms_max: u64,
    faults: Vec<Fault>,
    pause_ms_max: u64,
}

impl Weather {
    /// Nothing goes wrong.
    pub fn calm() -> Self {
        Self {
            stalls: 0,
            copies: 0,
            slow_appends: 0,
            refused_appends: 0,
            broken_logs: 0,
            slow_polls: 0,
            outage_ms_max: 1000,
            faults: Vec::new(),
            pause_ms_max: 0,
        }
    }

    pub fn draw(random: &mut Random) -> Self {
        let mut often = |all: &[u64]| random.pick(all);
        let stalls = often(&[0, 1000, 10_000]);
        let copies = often(&[0, 20_000, 200_000]);
        let slow_appends = often(&[0, 20_000, 200_000]);
        let refused_appends = often(&[0, 0, 10_000, 100_000]);
        let broken_logs = often(&[0, 0, 5000, 20_000]);
        let slow_polls = often(&[0, 0, 5000, 30_000]);
        let outage_ms_max = often(&[500, 3000, 20_000]);
        let pause_ms_max = often(&[2000, 8000, 20_000]);
        let all = FAULTS.into_iter();
        Self {
            stalls,
            copies,
            slow_appends,
            refused_appends,
            broken_logs,
            slow_polls,
            outage_ms_max,
            faults: all.filter(|_| random.one_in(2)).collect(),
            pause_ms_max,
        }
    }
}

impl World {
    /// Something goes wrong, and something else later.
    pub fn fail(&mut self) {
        if self.weather.faults.is_empty() {
            return;
        }
        let fault = self.random.pick(&self.weather.faults.clone());
        let n = self.random.below(self.consumers.len() as u64) as usize;
        self.fail_by(fault, n);
        let at = self.now_ms + self.random.between(100, self.weather.pause_ms_max);
        self.push(at, Event::Fault);
    }

    fn fail_by(&mut self, fault: Fault, n: usize) {
        let is_loaded = self.broker.machine.describe(&"none".into()).is_err();
        match fault {
            Fault::Reset => {
                if let Some(connection) = self.consumers[n].connection {
                    let cut_at = self.now_ms + self.random.below(2000);
                    self.network.cut(connection, cut_at);
                    let at = self.now_ms + self.random.below(500);
                    self.push(at, Event::Reset { connection });
                }
            }
            Fault::Kill | Fault::Move if self.broker.is_up && is_loaded => {
                self.stop(fault == Fault::Kill);
            }
            Fault::Die => self.die(n),
            Fault::Close => {
                if self.consumers[n].phase == Phase::Member {
                    self.leave(n);
                }
                self.die(n);
            }
            Fault::Silence => self.consumers[n].syncs = false,
            Fault::Change => {
                let it = &mut self.consumers[n];
                it.mind += 1;
                it.rejoins |= it.phase == Phase::Member;
            }
            Fault::Grow => {
                let topic = &mut self.topics[self.consumers[n].topic];
                topic.partitions += i32::from(topic.grows);
            }
            Fault::Expel => self.expel(n),
            Fault::DeleteGroup => {
                let group = self.topics[self.consumers[n].topic].name.clone();
                self.administer(Command::DeleteGroup { group });
            }
            Fault::DeleteOffsets => self.delete_offsets(n),
            Fault::Look => self.look_around(n),
            Fault::Kill | Fault::Move => {}
        }
    }

    /// The process ends without a word. Somebody may start it again.
    fn die(&mut self, n: usize) {
        if self.consumers[n].life != Life::Up {
            return;
        }
        self.give_up_connection(n);
        let it = &mut self.consumers[n];
        if self.random.one_in(4) {
            it.life = Life::Dead;
            return;
        }
        it.life = Life::Down;
        let at = self.now_ms + self.random.pick(&[10, 1000, 20_000]);
        self.consumers[n].wakes_at = at;
        self.push(at, Event::Wake { consumer: n });
    }

    /// An administrator takes some members out, static ones by their names (KIP-345).
    fn expel(&mut self, n: usize) {
        let topic = self.consumers[n].topic;
        let all = self.consumers.iter().filter(|it| it.topic == topic);
        let mut members: Vec<LeavingMember> = all.map(super::consumer::Consumer::leaving).collect();
        members.retain(|_| self.random.one_in(2));
        for member in &mut members {
            if member.instance_id.is_some() && self.random.one_in(2) {
                member.member_id = ByteString::new();
            }
        }
        let group = self.topics[topic].name.clone();
        self.administer(Command::Leave(LeaveGroup { group, members }));
    }

    fn delete_offsets(&mut self, n: usize) {
        let topic = &self.topics[self.consumers[n].topic];
        let partition = self.random.below(topic.partitions as u64) as i32;
        let group = topic.name.clone();
        let partitions = vec![TopicPartition {
            topic: group.clone(),
            topic_id: TopicId::ZERO,
            partition,
        }];
        self.administer(Command::DeleteOffsets(DeleteOffsets { group, partitions }));
    }

    /// Tools look at the groups, which must not change anything.
    fn look_around(&mut self, n: usize) {
        let group = self.topics[self.consumers[n].topic].name.clone();
        let machine = &self.broker.machine;
        let listed = machine.list(&ListFilter::default());
        let described = machine.describe(&group);
        if let (Ok(listed), Ok(described)) = (listed, described) {
            let listed = listed.iter().find(|it| it.group == group);
            assert_eq!(listed.map(|it| it.state), Some(described.state));
        }
        let require_stable = self.random.one_in(2);
        self.administer(Command::Fetch(FetchOffsets {
            group,
            partitions: None,
            require_stable,
        }));
    }

    /// Sends a request of nobody in the simulation, whose answer only the judge sees.
    fn administer(&mut self, command: Command) {
        let sent = Sent {
            connection: None,
            boot: self.broker.boot,
            consumer: 0,
            number: 0,
            arrived_at: 0,
            command: Box::new(command),
        };
        self.push(self.now_ms + 1, Event::Arrive(sent));
    }

    /// A request arrives once more, some time.
    pub fn copy_perhaps(&mut self, sent: &Sent) {
        if self.random.in_a_million(self.weather.copies) {
            let most = self.random.pick(&[100, 3000, COPY_MS_MAX]);
            let at = self.now_ms + self.random.below(most);
            self.push(
                at,
                Event::Arrive(Sent {
                    connection: None,
                    ..sent.clone()
                }),
            );
        }
    }

    /// Has cooperative groups with static members rebalance once more. If such a member dies after
    /// it has given partitions up and before it joins again, nobody has them until the next
    /// rebalance, since its return causes none: so it is with Kafka, too.
    pub fn nudge(&mut self) {
        for topic in 0..self.topics.len() {
            let mut all = self.consumers.iter_mut().filter(|it| it.topic == topic);
            if all.any(|it| it.is_cooperative() && it.instance.is_some())
                && let Some(it) = self.consumers.iter_mut().find(|it| {
                    it.topic == topic && it.life == Life::Up && it.phase == Phase::Member
                })
            {
                it.mind += 1;
                it.rejoins = true;
            }
        }
    }

    /// From here on nothing goes wrong, and everybody does what it should.
    pub fn clear_up(&mut self) {
        self.weather = Weather::calm();
        for n in 0..self.consumers.len() {
            self.behave(n);
        }
    }
}
