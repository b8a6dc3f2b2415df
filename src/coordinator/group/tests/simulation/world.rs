//! Consumers, network and broker in one simulated time. Everything that happens is an event; the
//! seed decides when and what.

use std::collections::BTreeMap;

use ahash::AHashSet;
use bytestring::ByteString;

use super::super::super::command::Reply;
use super::super::super::record::GroupRecord;
use super::super::super::state::GroupState;
use super::broker::{Broker, config};
use super::consumer::{Consumer, Life, Phase};
use super::faults::Weather;
use super::judge::Judge;
use super::network::{COPY_MS_MAX, Network, Sent};
use super::random::Random;

/// How long a group may take until all its live members are in it, once nothing fails any more. In
/// this order: the last copies arrive, among them joins of members that are none; the last client
/// that died is missed (a session), which may be after its join was answered (a join phase, and the
/// sync phase that it does not take part in); whoever was sent away by that joins again (the same
/// once more, and the first delay of a group); cooperative members take two rebalances more.
pub const SETTLED_MS_MAX: u64 = COPY_MS_MAX + SESSION_MS_MAX + 4 * REBALANCE_MS_MAX;
/// The longest session timeout of a consumer.
pub const SESSION_MS_MAX: u64 = 30_000;
/// The longest rebalance timeout of a consumer.
pub const REBALANCE_MS_MAX: u64 = 20_000;

/// How long a settled group is watched.
const WATCHED_MS: u64 = 30_000;

#[derive(Debug)]
pub enum Event {
    /// A request reaches the broker.
    Arrive(Sent),
    /// An answer reaches its consumer.
    Answer {
        connection: usize,
        consumer: usize,
        number: u64,
        reply: Box<Reply>,
    },
    /// A connection is gone, and its consumer hears of it.
    Reset { connection: usize },
    /// A batch of records is in the log, or is not.
    Appended { life: u64 },
    /// The machine asked to be woken for this deadline.
    Tick { life: u64, deadline: u64 },
    /// A machine has to go since its log does not take anything any more.
    Reopen { life: u64 },
    /// A machine comes.
    Start { life: u64 },
    /// It has read the log.
    Load { life: u64 },
    /// A consumer has something to do.
    Wake { consumer: usize },
    /// Something goes wrong.
    Fault,
}

/// A group, which reads the topic of its name.
#[derive(Debug)]
pub struct Topic {
    pub name: ByteString,
    pub partitions: i32,
    /// Whether its members are told of new partitions. Between the generation that a static leader
    /// had and its return nobody looks (KIP-814), so only where all are dynamic.
    pub grows: bool,
}

#[derive(Debug)]
pub struct World {
    pub random: Random,
    pub now_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    pub broker: Broker,
    pub network: Network,
    pub consumers: Vec<Consumer>,
    pub topics: Vec<Topic>,
    pub weather: Weather,
    pub judge: Judge,
    pub next_number: u64,
    /// How long the groups took to settle at most.
    pub settled_in_ms: u64,
    /// How many events there were.
    pub happened: u64,
    /// Whether it is printed what happens.
    pub is_told: bool,
}

impl World {
    pub fn new(seed: u64, looks_inside: bool) -> Self {
        let mut random = Random::new(seed);
        let (topics, consumers) = super::consumer::cast(&mut random);
        let sessions: Vec<i32> = consumers.iter().map(|it| it.session_ms).collect();
        let config = config(&mut random, &sessions);
        let mut world = Self {
            weather: Weather::calm(),
            broker: Broker::new(config),
            random,
            now_ms: 0,
            events: BTreeMap::new(),
            next_event: 0,
            network: Network::default(),
            consumers,
            topics,
            judge: Judge::new(looks_inside),
            next_number: 1,
            settled_in_ms: 0,
            happened: 0,
            is_told: false,
        };
        world.run(|machine, now, out| machine.loaded(now, out));
        for consumer in 0..world.consumers.len() {
            let at = world.random.below(5000);
            world.push(at, Event::Wake { consumer });
            world.consumers[consumer].wakes_at = at;
        }
        world
    }

    pub fn push(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((at, self.next_event), event);
    }

    /// Lets everything happen that does until `until`.
    fn pass(&mut self, until: u64) {
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= until
        {
            let ((at, _), event) = entry.remove_entry();
            self.now_ms = self.now_ms.max(at);
            self.happened += 1;
            self.happen(event);
        }
        self.now_ms = until;
    }

    fn happen(&mut self, event: Event) {
        if self.is_told {
            println!("{} {event:?}", self.now_ms);
        }
        match event {
            Event::Arrive(sent) => self.arrive(sent),
            Event::Answer {
                connection,
                consumer,
                number,
                reply,
            } => {
                if self.network.is_open(connection) {
                    self.hear(consumer, number, *reply);
                }
            }
            Event::Reset { connection } => self.lose_connection(connection),
            Event::Appended { life } => self.end_appends(life),
            Event::Tick { life, deadline } => self.tick(life, deadline),
            Event::Reopen { life } if life == self.broker.life => self.stop(false),
            Event::Reopen { .. } => {}
            Event::Start { life } => self.start(life),
            Event::Load { life } => self.load(life),
            Event::Wake { consumer } => {
                if self.consumers[consumer].wakes_at == self.now_ms {
                    self.consumers[consumer].wakes_at = u64::MAX;
                    self.advance(consumer);
                }
            }
            Event::Fault => self.fail(),
        }
    }

    /// A time of faults, then one without, at whose end all groups have settled and stay so.
    pub fn live_through(&mut self, faults_ms: u64) {
        self.weather = Weather::draw(&mut self.random);
        let end = self.now_ms + faults_ms;
        self.push(self.now_ms, Event::Fault);
        self.pass(end);
        self.clear_up();
        let end = self.now_ms;
        self.pass(end + COPY_MS_MAX);
        self.nudge();
        while !self.is_settled() {
            assert!(self.now_ms < end + SETTLED_MS_MAX, "{}", self.unsettled());
            self.pass(self.now_ms + 250);
        }
        self.settled_in_ms = self.settled_in_ms.max(self.now_ms - end);
        self.watch();
    }

    /// A settled group stays as it is, also when its coordinator is another one for a moment.
    fn watch(&mut self) {
        let before = self.records();
        self.pass(self.now_ms + WATCHED_MS);
        self.broker
            .open
            .values()
            .for_each(|sent| self.check_patience(sent));
        assert!(self.is_settled(), "no longer settled: {}", self.unsettled());
        assert_eq!(
            self.records(),
            before,
            "the group changed though nothing happened"
        );
    }

    /// Another machine loads what this one has written, and the members do not notice.
    pub fn restart(&mut self) {
        let before = self.records();
        let is_killed = self.random.one_in(2);
        self.stop(is_killed);
        self.pass(self.now_ms + 10_000);
        assert_eq!(self.records(), before, "a restart changed the group");
        // That a group is empty may not have reached the log: the dead are members once more.
        let mut alive = (0..self.topics.len()).filter(|topic| self.is_alive(*topic));
        let is_settled = alive.all(|topic| self.has_settled(topic));
        assert!(is_settled, "no longer settled: {}", self.unsettled());
    }

    /// What the groups would write of themselves, without the time.
    fn records(&self) -> Vec<GroupRecord> {
        let alive = (0..self.topics.len()).filter(|topic| self.is_alive(*topic));
        let groups = &self.broker.machine.groups;
        let groups = alive.filter_map(|topic| groups.get(&self.topics[topic].name));
        let records = groups.map(|group| {
            let mut record = group.to_record(|it| it.assignment.clone());
            if let GroupRecord::Group {
                value: Some(value), ..
            } = &mut record
            {
                value.state_timestamp = None;
            }
            record
        });
        records.collect()
    }

    /// Whether all live members of all groups are in one generation, nobody else is, and every
    /// partition has one owner.
    fn is_settled(&self) -> bool {
        (0..self.topics.len()).all(|topic| self.has_settled(topic))
    }

    /// Whether a group has a member that is alive.
    fn is_alive(&self, topic: usize) -> bool {
        let mut all = self.consumers.iter();
        all.any(|it| it.topic == topic && it.life != Life::Dead)
    }

    fn has_settled(&self, topic: usize) -> bool {
        let Topic {
            name, partitions, ..
        } = &self.topics[topic];
        let of_group = |it: &&Consumer| it.topic == topic && it.life != Life::Dead;
        let live: Vec<&Consumer> = self.consumers.iter().filter(of_group).collect();
        let group = self.broker.machine.groups.get(name);
        if live.is_empty() {
            return group.is_none_or(|group| group.state == GroupState::Empty);
        }
        let Some(group) = group.filter(|it| it.state == GroupState::Stable) else {
            return false;
        };
        let is_in = |it: &&Consumer| {
            it.life == Life::Up
                && it.phase == Phase::Member
                && !it.rejoins
                && it.generation == group.generation
                && group.members.get(&it.member_id).is_some()
        };
        let owned = live.iter().flat_map(|it| it.owned.keys());
        let all: AHashSet<i32> = owned.clone().copied().collect();
        group.members.len() == live.len()
            && live.iter().all(is_in)
            && owned.count() == *partitions as usize
            && all.len() == *partitions as usize
    }

    fn unsettled(&self) -> String {
        let topics = 0..self.topics.len();
        let names = topics.filter(|topic| !self.has_settled(*topic));
        let names: Vec<_> = names.map(|topic| &self.topics[topic]).collect();
        let groups = &self.broker.machine.groups;
        format!(
            "never settled: {names:#?}\n{:#?}\n{groups:#?}",
            self.consumers
        )
    }
}
