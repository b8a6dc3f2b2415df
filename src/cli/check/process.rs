//! A process of a run: a thread that sends and one that reads, each with one client after the
//! other, until the run is over. What they do next follows from the seed; when, from the broker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;

use super::history::{Answer, At, Call, Setup, What};
use super::recorder::{Failed, Recorder};
use super::{librdkafka, ours};
use crate::base::random::split_mix64;
use crate::cli::CliError;

/// How long a client lives, and how long a consumer keeps to partitions that it chose.
pub const LIFE_MS: (u64, u64) = (2_000, 8_000);
const KEPT_MS: (u64, u64) = (500, 3_000);

/// The longest pause between two sends.
const PAUSE_MS: u64 = 50;

/// Batches that are sent at once, at most, and records of a batch.
const BATCHES_MAX: u64 = 5;
const RECORDS_MAX: u64 = 4;

/// How far back a consumer begins to read, at most, unless it reads all.
const BACK_MAX: u64 = 300;

/// What all threads of a run share.
pub struct World {
    pub setup: Setup,
    pub group: String,
    /// librdkafka's.
    pub config: ClientConfig,
    /// The brokers, for our own clients.
    pub servers: String,
    pub recorder: Recorder,
    pub is_over: AtomicBool,
    /// The newest leader epoch of each partition that any of our own clients was told.
    pub epochs: Mutex<BTreeMap<i32, i32>>,
}

impl World {
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// A leader epoch was told. The newest one of the partition, which may be another.
    pub fn newest_epoch(&self, partition: i32, told: i32) -> i32 {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = epochs.entry(partition).or_insert(told);
        *newest = told.max(*newest);
        *newest
    }

    /// The question for the offsets that the group has committed of all partitions.
    pub fn committed_of_all(&self) -> Call {
        let partitions = (0..self.setup.partitions).collect();
        Call::Committed { partitions }
    }
}

/// Whose clients a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Ours,
    Librdkafka,
}

impl Make {
    /// Half of the processes have the one, half the other.
    pub fn of(process: u32) -> Self {
        match process % 2 {
            0 => Self::Ours,
            _ => Self::Librdkafka,
        }
    }
}

/// A batch that is to be sent.
#[derive(Clone, Debug)]
pub struct Batch {
    pub partition: i32,
    pub values: Vec<String>,
    /// Too large for the topic: the broker must refuse it.
    pub is_too_large: bool,
}

/// A producer. It tells the recorder of every send, and of what became of it.
pub trait Producing {
    /// Sends batches. Whether the client can go on afterwards: one that does not know what was
    /// written cannot say what comes next.
    fn send(&mut self, batches: &[Batch]) -> bool;
    /// Lets time pass.
    fn serve(&mut self, time: Duration);
    /// Waits until it is known what became of all that was sent.
    fn settle(&mut self);
    /// Sends batches, and ends before anything is known of them.
    fn crash(self: Box<Self>, batches: &[Batch]);
}

/// A consumer.
pub trait Consuming {
    /// The assignment that it reads by, if there is one.
    fn assignment(&self) -> Option<u64>;
    /// The generation with which it would commit now, where the client shows it.
    fn generation(&self) -> Option<i32>;
    /// Reads these partitions from these offsets on.
    fn assign(&mut self, from: &[At]) -> Result<(), Failed>;
    /// Reads what its group assigns it.
    fn subscribe(&mut self) -> Result<(), Failed>;
    /// Does what is asked. A poll has records of the assignment; after a change of it none.
    fn call(&mut self, call: &Call) -> Result<Answer, Failed>;
    /// Ends in order; dropped without, it crashes, as far as the client can.
    fn leave(&mut self);
}

/// A new producer.
pub fn producer(
    world: &Arc<World>,
    process: u32,
    name: &str,
) -> Result<Box<dyn Producing>, CliError> {
    // Every second of each make may write twice what it sends again.
    let is_idempotent = (process / 2).is_multiple_of(2);
    Ok(match Make::of(process) {
        Make::Ours => Box::new(ours::Producer::new(world, process, name, is_idempotent)),
        Make::Librdkafka => Box::new(librdkafka::Producer::new(
            world,
            process,
            name,
            is_idempotent,
        )?),
    })
}

/// A new consumer.
pub fn consumer(
    world: &Arc<World>,
    make: Make,
    process: u32,
    name: &str,
) -> Result<Box<dyn Consuming>, CliError> {
    Ok(match make {
        Make::Ours => Box::new(ours::Consumer::new(world, process, name)),
        Make::Librdkafka => Box::new(librdkafka::Consumer::new(world, process, name)?),
    })
}

/// Sends until the run is over.
pub fn produce(world: &Arc<World>, process: u32) -> Result<(), CliError> {
    let mut random = Random::new(world.setup.seed, process, 0);
    for life in 1.. {
        let name = format!("{process}.{life}");
        let mut producer = producer(world, process, &name)?;
        let mut count = 0;
        let end = Instant::now() + random.span(LIFE_MS);
        let mut goes_on = true;
        while goes_on && !world.is_over() && Instant::now() < end {
            let batches = batches(&mut random, world, process, &name, &mut count);
            goes_on = producer.send(&batches);
            producer.serve(Duration::from_millis(random.below(PAUSE_MS)));
        }
        if world.is_over() {
            producer.settle();
            return Ok(());
        }
        producer.crash(&batches(&mut random, world, process, &name, &mut count));
        world.recorder.note(process, What::Crashed { client: name });
    }
    Ok(())
}

fn batches(
    random: &mut Random,
    world: &World,
    process: u32,
    name: &str,
    count: &mut u64,
) -> Vec<Batch> {
    // librdkafka fails all that it has in flight together with what is refused.
    let is_too_large = Make::of(process) == Make::Ours && random.below(25) == 0;
    let (batches, records) = match is_too_large {
        true => (1, 1),
        false => (1 + random.below(BATCHES_MAX), RECORDS_MAX),
    };
    let partitions = match is_too_large {
        true => vec![random.below(world.setup.partitions as u64) as i32],
        false => targets(random, world, batches),
    };
    let mut batch = |partition| {
        let mut value = |_| {
            *count += 1;
            format!("{name}-{count}")
        };
        let values = (0..=random.below(records)).map(&mut value).collect();
        Batch {
            partition,
            values,
            is_too_large,
        }
    };
    partitions.into_iter().map(&mut batch).collect()
}

/// Where so many batches go: anywhere; once the broker is well again, every second time, to
/// partitions that have taken nothing since, so that each is tried in time.
fn targets(random: &mut Random, world: &World, batches: u64) -> Vec<i32> {
    let owed = world.recorder.owed();
    if owed.is_empty() || random.below(2) == 0 {
        let partition = |_| random.below(world.setup.partitions as u64) as i32;
        return (0..batches).map(partition).collect();
    }
    let first = random.below(owed.len() as u64) as usize;
    let count = owed.len().min(BATCHES_MAX as usize);
    owed.iter()
        .copied()
        .cycle()
        .skip(first)
        .take(count)
        .collect()
}

/// Reads until the run is over.
pub fn consume(world: &Arc<World>, process: u32) -> Result<(), CliError> {
    let mut random = Random::new(world.setup.seed, process, 1);
    for life in 1.. {
        let client = format!("{process}.{life}");
        let consumer = consumer(world, Make::of(process), process, &client)?;
        let end = Instant::now() + random.span(LIFE_MS);
        let mut reader = Reader {
            world,
            process,
            consumer,
            is_member: false,
            positions: (None, BTreeMap::new()),
        };
        match random.below(2) {
            0 => reader.read_assigned(&mut random, end),
            _ => reader.read_in_group(&mut random, end),
        }
        if world.is_over() || random.below(2) == 0 {
            reader.consumer.leave();
        } else {
            world.recorder.note(process, What::Crashed { client });
        }
        if world.is_over() {
            return Ok(());
        }
    }
    Ok(())
}

struct Reader<'a> {
    world: &'a Arc<World>,
    process: u32,
    consumer: Box<dyn Consuming>,
    /// Whether it is a group that assigns partitions.
    is_member: bool,
    /// Behind what was read in an assignment.
    positions: (Option<u64>, BTreeMap<i32, i64>),
}

impl Reader<'_> {
    fn read_assigned(&mut self, random: &mut Random, end: Instant) {
        while !self.world.is_over() && Instant::now() < end {
            let from = self.choose(random);
            if self.consumer.assign(&from).is_err() {
                std::thread::sleep(Duration::from_millis(PAUSE_MS));
                continue;
            }
            let kept_until = Instant::now() + random.span(KEPT_MS);
            self.read_on(random, end.min(kept_until));
        }
    }

    fn read_in_group(&mut self, random: &mut Random, end: Instant) {
        if self.consumer.subscribe().is_ok() {
            self.is_member = true;
            self.read_on(random, end);
        }
    }

    /// Some of the partitions, from their beginning or from somewhere near their end.
    fn choose(&self, random: &mut Random) -> Vec<At> {
        let ends = self.world.recorder.ends();
        let partitions = self.world.setup.partitions;
        let always = random.below(partitions as u64) as i32;
        let mut from = Vec::new();
        for partition in 0..partitions {
            let back = match random.below(4) {
                0 => i64::MAX,
                _ => random.below(BACK_MAX) as i64,
            };
            if partition == always || random.below(2) == 0 {
                let end = ends.get(&partition).copied().unwrap_or(0);
                from.push((partition, end.saturating_sub(back).max(0)));
            }
        }
        from
    }

    fn read_on(&mut self, random: &mut Random, end: Instant) {
        while !self.world.is_over() && Instant::now() < end {
            let partition = random.below(self.world.setup.partitions as u64) as i32;
            let call = match random.below(20) {
                0 => Some(Call::Watermarks { partition }),
                1 => Some(self.world.committed_of_all()),
                2 | 3 => self.commit(),
                _ => Some(Call::Poll {
                    assignment: self.consumer.assignment(),
                }),
            };
            let Some(call) = call else { continue };
            if self.perform(&call).is_err() {
                std::thread::sleep(Duration::from_millis(random.below(PAUSE_MS)));
            }
        }
    }

    fn perform(&mut self, call: &Call) -> Result<(), Failed> {
        let answer = perform(self.world, self.process, &mut *self.consumer, call)?;
        if let (Call::Poll { assignment }, Answer::Poll { records, .. }) = (call, answer) {
            if self.positions.0 != *assignment {
                self.positions = (*assignment, BTreeMap::new());
            }
            let positions = records.iter().map(|it| (it.partition, it.offset + 1));
            self.positions.1.extend(positions);
        }
        Ok(())
    }

    /// Commits what was read, where a group has assigned it.
    fn commit(&self) -> Option<Call> {
        let (read_in, positions) = &self.positions;
        let is_current = read_in.is_some() && *read_in == self.consumer.assignment();
        if !self.is_member || !is_current || positions.is_empty() {
            return None;
        }
        Some(Call::Commit {
            generation: self.consumer.generation(),
            offsets: positions.iter().map(|(at, next)| (*at, *next)).collect(),
        })
    }
}

/// Has a consumer do what is asked, and tells the recorder of it.
pub fn perform(
    world: &World,
    process: u32,
    consumer: &mut dyn Consuming,
    call: &Call,
) -> Result<Answer, Failed> {
    let op = world.recorder.invoke(process, call.clone());
    let outcome = consumer.call(call);
    world.recorder.complete(process, op, &outcome);
    outcome
}

/// Numbers that follow from a seed (SplitMix64).
pub struct Random(u64);

impl Random {
    /// Those of a thread of a process.
    pub fn new(seed: u64, process: u32, thread: u64) -> Self {
        Self(seed ^ (u64::from(process) << 32) ^ (thread << 16))
    }

    /// A number of `0..end`.
    pub fn below(&mut self, end: u64) -> u64 {
        split_mix64(&mut self.0) % end
    }

    fn span(&mut self, (from, to): (u64, u64)) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}
