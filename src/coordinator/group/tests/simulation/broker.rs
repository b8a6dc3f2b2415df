//! The broker: the machine under test, the log under it, and what becomes of both when the process
//! or the disk fails.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ahash::AHashSet;
use bytes::Bytes;

use super::super::super::command::{Append, Command, Effects, Now, Reply, ReplyId};
use super::super::super::config::GroupConfig;
use super::super::super::error::GroupError;
use super::super::super::machine::Machine;
use super::super::super::record::GroupRecord;
use super::super::TIME;
use super::network::Sent;
use super::random::Random;
use super::world::{Event, REBALANCE_MS_MAX, World};
use crate::base::ids::PartitionIndex;

/// How long an append takes at most, where nothing is wrong.
const APPEND_MS_MAX: u64 = 8;
/// How long a slow one takes at most.
const SLOW_APPEND_MS_MAX: u64 = 4000;
/// What a request's records wait for at most: the appends before, and their own.
pub const APPENDS_MS_MAX: u64 = 3 * SLOW_APPEND_MS_MAX;

#[derive(Debug)]
pub struct Broker {
    pub machine: Machine,
    /// Counts the broker's processes.
    pub boot: u64,
    pub is_up: bool,
    /// The group's log as it is on the disk, encoded.
    pub log: Vec<(Bytes, Option<Bytes>)>,
    pub appends: VecDeque<Append>,
    is_appending: bool,
    /// Nothing more can be appended until the log is opened anew: whether the last records are in
    /// it is not known.
    pub is_log_broken: bool,
    /// Requests without an answer.
    pub open: BTreeMap<ReplyId, Sent>,
    next_reply: u64,
    /// When the machine is woken.
    pub wakes_at: Option<u64>,
    /// Counts the machines, so that events of an earlier one are passed over.
    pub life: u64,
}

impl Broker {
    pub fn new(config: GroupConfig) -> Self {
        Self {
            machine: Machine::new(config, PartitionIndex(0)),
            boot: 0,
            is_up: true,
            log: Vec::new(),
            appends: VecDeque::new(),
            is_appending: false,
            is_log_broken: false,
            open: BTreeMap::new(),
            next_reply: 0,
            wakes_at: None,
            life: 0,
        }
    }

    fn write(&mut self, append: &Append) {
        for record in &append.records {
            let key = record.key().expect("short names");
            self.log.push((key, record.value().expect("short names")));
        }
    }

    /// Drops what later records of the same key replace, and perhaps tombstones.
    fn compact(&mut self, drops_tombstones: bool) {
        let mut seen = AHashSet::new();
        let mut kept = Vec::new();
        while let Some((key, value)) = self.log.pop() {
            if seen.insert(key.clone()) && !(drops_tombstones && value.is_none()) {
                kept.push((key, value));
            }
        }
        kept.reverse();
        self.log = kept;
    }
}

impl World {
    pub fn now(&self) -> Now {
        Now {
            monotonic: Duration::from_millis(self.now_ms),
            wall_ms: TIME + self.now_ms as i64,
        }
    }

    /// Lets the machine do something, and carries out what it wants done.
    pub fn run(&mut self, act: impl FnOnce(&mut Machine, Now, &mut Effects)) {
        let mut out = Effects::default();
        let now = self.now();
        act(&mut self.broker.machine, now, &mut out);
        self.broker.appends.extend(out.appends);
        for (reply_to, reply) in out.replies {
            let asked = self.broker.open.remove(&reply_to);
            let asked = asked.unwrap_or_else(|| panic!("{reply_to:?} answered twice"));
            self.check_patience(&asked);
            self.judge.answered(&asked, &reply);
            self.answer(&asked, reply);
        }
        self.judge.look(&self.broker, self.now_ms);
        self.start_appending();
        self.set_alarm();
    }

    /// A request reaches the broker.
    pub fn arrive(&mut self, mut sent: Sent) {
        let boot = self.broker.boot;
        if !self.broker.is_up || !self.network.lets_through(&sent, boot, self.now_ms) {
            return;
        }
        let reply_to = ReplyId(self.broker.next_reply);
        self.broker.next_reply += 1;
        let mut command = (*sent.command).clone();
        if let Command::Join(join) = &mut command {
            join.random = self.random.bits();
        }
        sent.arrived_at = self.now_ms;
        self.broker.open.insert(reply_to, sent);
        self.run(|machine, now, out| machine.handle(command, reply_to, now, out));
    }

    /// No request waits longer than a rebalance may take, and its records to be appended.
    pub fn check_patience(&self, asked: &Sent) {
        let waited = self.now_ms - asked.arrived_at;
        assert!(
            waited <= REBALANCE_MS_MAX + APPENDS_MS_MAX,
            "waited too long: {asked:?}"
        );
    }

    fn answer(&mut self, asked: &Sent, reply: Reply) {
        let Some(connection) = asked.connection.filter(|it| self.network.is_open(*it)) else {
            return;
        };
        let stalls = self.weather.stalls;
        let at = self
            .network
            .answer(connection, self.now_ms, stalls, &mut self.random);
        let (consumer, number) = (asked.consumer, asked.number);
        let reply = Box::new(reply);
        self.push(
            at,
            Event::Answer {
                connection,
                consumer,
                number,
                reply,
            },
        );
    }

    fn start_appending(&mut self) {
        if self.broker.appends.is_empty() || self.broker.is_appending {
            return;
        }
        self.broker.is_appending = true;
        let most = match self.random.in_a_million(self.weather.slow_appends) {
            true => SLOW_APPEND_MS_MAX,
            false => APPEND_MS_MAX,
        };
        let at = self.now_ms + self.random.below(most);
        let life = self.broker.life;
        self.push(at, Event::Appended { life });
    }

    /// The appends of before were one batch, whole or not at all.
    pub fn end_appends(&mut self, life: u64) {
        if life != self.broker.life {
            return;
        }
        self.broker.is_appending = false;
        let count = self.broker.appends.len() as u64;
        let count = self.random.between(1, count) as usize;
        let batch: Vec<_> = self.broker.appends.drain(..count).collect();
        let result = self.outcome(&batch);
        for append in batch {
            if result.is_ok() {
                let now = self.now();
                self.broker.write(&append);
                for record in &append.records {
                    self.broker.machine.replay(record, now);
                    self.judge.replayed(record);
                }
            }
            self.run(|machine, now, out| machine.appended(append.after, result, now, out));
        }
        self.start_appending();
    }

    fn outcome(&mut self, batch: &[Append]) -> Result<(), GroupError> {
        if self.broker.is_log_broken {
            return Err(GroupError::NotCoordinator);
        }
        if self.random.in_a_million(self.weather.broken_logs) {
            // The records may be there, but nobody knows.
            self.broker.is_log_broken = true;
            if self.random.one_in(2) {
                self.lose(batch);
            }
            let at = self.now_ms + self.random.below(5000);
            let life = self.broker.life;
            self.push(at, Event::Reopen { life });
            return Err(GroupError::NotAvailable);
        }
        match self.random.in_a_million(self.weather.refused_appends) {
            true => Err(self
                .random
                .pick(&[GroupError::NotAvailable, GroupError::Unexpected])),
            false => Ok(()),
        }
    }

    /// Writes records of which the machine will never hear.
    fn lose(&mut self, batch: &[Append]) {
        for append in batch {
            self.broker.write(append);
            for record in &append.records {
                self.judge.lost(record);
            }
        }
    }

    fn set_alarm(&mut self) {
        let deadline = self.broker.machine.deadline();
        let Some(deadline) = deadline.map(|it| it.as_millis() as u64) else {
            return;
        };
        if self.broker.wakes_at.is_none_or(|at| at > deadline) {
            self.broker.wakes_at = Some(deadline);
            let at = deadline.max(self.now_ms) + self.random.below(4);
            let life = self.broker.life;
            self.push(at, Event::Tick { life, deadline });
        }
    }

    pub fn tick(&mut self, life: u64, deadline: u64) {
        if life != self.broker.life || self.broker.wakes_at != Some(deadline) {
            return;
        }
        self.broker.wakes_at = None;
        self.run(|machine, now, out| machine.tick(now, out));
        let next = self.broker.machine.deadline();
        let now = Duration::from_millis(self.now_ms);
        assert!(
            next.is_none_or(|next| next > now),
            "a tick left something due"
        );
    }

    /// The machine goes, and another one will load the log. Some of what is under way has reached
    /// it.
    pub fn stop(&mut self, is_killed: bool) {
        if !is_killed {
            self.run(|machine, _, out| machine.unload(out));
        }
        let appends: Vec<_> = self.broker.appends.drain(..).collect();
        let survivors = match self.broker.is_log_broken {
            true => 0,
            false => self.random.below(1 + appends.len() as u64) as usize,
        };
        self.lose(&appends[..survivors]);
        // A rebalance that does not end has a number that the next one has again. Nothing tells a
        // leader's answer and its sync apart then, so connections end with the machine.
        self.broker.boot += 1;
        for connection in self.network.open() {
            self.network.cut(connection, self.now_ms);
            let at = self.now_ms + self.random.below(100);
            self.push(at, Event::Reset { connection });
        }
        if is_killed {
            self.broker.open.clear();
            self.broker.is_up = false;
        } else {
            for append in appends {
                let result = Err(GroupError::NotCoordinator);
                self.run(|machine, now, out| machine.appended(append.after, result, now, out));
            }
            let open = &self.broker.open;
            assert!(open.is_empty(), "never answered: {open:?}");
        }
        self.broker.life += 1;
        self.broker.is_appending = false;
        self.broker.wakes_at = None;
        let at = self.now_ms + self.random.below(self.weather.outage_ms_max);
        let life = self.broker.life;
        self.push(at, Event::Start { life });
    }

    /// A machine is there, which has to load the log first.
    pub fn start(&mut self, life: u64) {
        if life != self.broker.life {
            return;
        }
        self.broker.is_up = true;
        self.broker.is_log_broken = false;
        let config = self.broker.machine.config.clone();
        self.broker.machine = Machine::new(config, PartitionIndex(0));
        if self.random.one_in(3) {
            let drops_tombstones = self.random.one_in(2);
            self.broker.compact(drops_tombstones);
        }
        let at = self.now_ms + self.random.below(self.weather.outage_ms_max);
        self.push(at, Event::Load { life });
    }

    pub fn load(&mut self, life: u64) {
        if life != self.broker.life {
            return;
        }
        let now = self.now();
        let log = std::mem::take(&mut self.broker.log);
        for (key, value) in &log {
            let record = GroupRecord::decode(key, value.as_ref());
            let record = record.expect("what was written").expect("a known type");
            self.broker.machine.replay(&record, now);
        }
        self.broker.log = log;
        self.judge.loaded(&self.broker.machine);
        self.run(|machine, now, out| machine.loaded(now, out));
    }
}

/// How long the machine and the disk are at it, drawn once for each seed.
pub fn config(random: &mut Random, sessions: &[i32]) -> GroupConfig {
    let least = sessions.iter().copied().min().unwrap_or(1000);
    let retention = random.pick(&[30, 60, 10_080 * 60]);
    GroupConfig {
        min_session_timeout_ms: least,
        initial_rebalance_delay: Duration::from_millis(random.pick(&[0, 1000, 3000])),
        offsets_retention: Duration::from_secs(retention),
        offsets_retention_check_interval: Duration::from_secs(random.pick(&[20, 600])),
        ..GroupConfig::default()
    }
}
