//! Rounds of load, harm and restart, and the judgement at their end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::beside::Beside;
use crate::ledger::{Promise, Violations, judge, judge_producers};
use crate::load::{Load, PARTITIONS, Plan, plans, read_all};
use crate::support::broker::Broker;
use crate::support::{Random, topics};

/// What is played.
pub struct Game {
    pub rounds: u64,
    pub seed: u64,
    /// The promise to the producers with acks=all and idempotence, and to those with acks=1.
    pub all: Promise,
    pub one: Promise,
}

impl Game {
    /// `rounds` rounds, unless the environment says how many, and which choices to repeat.
    pub fn new(rounds: u64, one: Promise) -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(
                text.parse()
                    .unwrap_or_else(|_| panic!("{name} is {text}: a number is wanted")),
            )
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock past 1970");
        Self {
            rounds: number("MILLRACE_CRASH_ROUNDS").unwrap_or(rounds),
            seed: number("MILLRACE_CRASH_SEED").unwrap_or(now.as_nanos() as u64),
            all: Promise::Once,
            one,
        }
    }

    /// Plays: in each round `harm` stops the broker its own way and brings it back. Gives what was
    /// found wrong in the end.
    pub fn play(
        &self,
        broker: &mut Broker,
        mut harm: impl FnMut(&mut Broker, &mut Random),
    ) -> Violations {
        let mut random = Random::new(self.seed);
        // Fresh topics and producers every few rounds: what goes wrong is found near its cause.
        const ROUNDS_A_TOPIC: u64 = 5;
        let mut left = self.rounds;
        while left > 0 {
            let now = left.min(ROUNDS_A_TOPIC);
            let violations = self.play_topics(now, broker, &mut random, &mut harm);
            if !violations.is_empty() {
                return violations;
            }
            left -= now;
        }
        Violations::default()
    }

    fn play_topics(
        &self,
        rounds: u64,
        broker: &mut Broker,
        random: &mut Random,
        harm: &mut impl FnMut(&mut Broker, &mut Random),
    ) -> Violations {
        let name = random.next();
        // The one rolls every now and then, the other all the time.
        let kinds = [
            ("all", self.all, ("internal.segment.bytes", "262144")),
            ("one", self.one, ("segment.bytes", "1048576")),
        ];
        let loads: Vec<(String, Load)> = kinds
            .into_iter()
            .map(|(kind, promise, config)| {
                let topic = format!("{kind}-{name:x}");
                topics::create(broker, &topic, PARTITIONS, &[config]);
                let acks = if kind == "all" { "all" } else { "1" };
                let plans: Vec<Plan> = plans(acks, promise);
                let load = Load::start(broker, &topic, plans, random.next());
                (topic, load)
            })
            .collect();
        let beside = Beside::start(broker, &format!("{name:x}"), &loads[0].0, random.next());
        for _ in 0..rounds {
            pause(random, 100, 1_200);
            harm(broker, random);
        }
        pause(random, 0, 500);
        let mut all = Violations::default();
        for (topic, load) in loads {
            let (sent, seen) = load.stop();
            if let Some(lost) = judge_producers(&sent) {
                all.merge(lost);
                continue;
            }
            let log = read_all(broker, &topic);
            let acknowledged = sent
                .iter()
                .flat_map(|sent| &sent.told)
                .filter(|told| told.as_ref().is_some_and(Result::is_ok));
            println!(
                "{topic}: {rounds} rounds, {} records acknowledged, {} there, {} seen on the way",
                acknowledged.count(),
                log.len(),
                seen.len()
            );
            all.merge(judge(&sent, &log, &seen));
        }
        all.merge(beside.stop(broker));
        all
    }

    /// Fails with everything that is needed to look into it.
    pub fn assert_healthy(&self, violations: &Violations) {
        assert!(violations.is_empty(), "seed {}:\n{violations}", self.seed);
    }
}

pub fn pause(random: &mut Random, low_ms: u64, high_ms: u64) {
    std::thread::sleep(Duration::from_millis(random.range(low_ms, high_ms)));
}
