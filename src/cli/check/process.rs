//! A process of a run: a thread that sends and one that reads, each with one client after the
//! other, until the run is over. What they do next follows from the seed; when, from the broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;

use super::history::{Answer, At, Call, Setup, Watermarks, What};
use super::recorder::{Failed, Recorder};
use super::{librdkafka, ours};
use crate::cli::CliError;

/// How long a client lives, and how long a consumer keeps to partitions that it chose.
const LIFE_MS: (u64, u64) = (2_000, 8_000);
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
}

impl World {
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
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
    /// Reads these partitions from these offsets on.
    fn assign(&mut self, from: &[At]) -> Result<(), Failed>;
    /// Reads what its group assigns it.
    fn subscribe(&mut self) -> Result<(), Failed>;
    /// Records of the assignment; after a change of it none.
    fn poll(&mut self) -> Result<Answer, Failed>;
    fn commit(&mut self, offsets: &[At]) -> Result<Answer, Failed>;
    fn committed(&mut self, partitions: &[i32]) -> Result<Answer, Failed>;
    fn watermarks(&mut self, partition: i32) -> Result<Watermarks, Failed>;
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
    let mut batch = |_| {
        let partition = random.below(world.setup.partitions as u64) as i32;
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
    (0..batches).map(&mut batch).collect()
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
            let is_done = match random.below(20) {
                0 => watermarks(self.world, self.process, &mut *self.consumer, partition).is_ok(),
                1 => committed(self.world, self.process, &mut *self.consumer).is_ok(),
                2 | 3 => self.commit(),
                _ => self.poll(),
            };
            if !is_done {
                std::thread::sleep(Duration::from_millis(random.below(PAUSE_MS)));
            }
        }
    }

    fn poll(&mut self) -> bool {
        let polled = poll(self.world, self.process, &mut *self.consumer);
        let Ok((assignment, Answer::Poll { records, .. })) = polled else {
            return false;
        };
        if self.positions.0 != assignment {
            self.positions = (assignment, BTreeMap::new());
        }
        let positions = records.iter().map(|it| (it.partition, it.offset + 1));
        self.positions.1.extend(positions);
        true
    }

    /// Commits what was read, where a group has assigned it.
    fn commit(&mut self) -> bool {
        let (read_in, positions) = &self.positions;
        let assignment = self.consumer.assignment();
        let Some(assignment) = assignment.filter(|it| self.is_member && *read_in == Some(*it))
        else {
            return true;
        };
        let offsets: Vec<At> = positions.iter().map(|(at, next)| (*at, *next)).collect();
        if offsets.is_empty() {
            return true;
        }
        let call = Call::Commit {
            assignment,
            offsets: offsets.clone(),
        };
        let consumer = &mut self.consumer;
        let commit = || consumer.commit(&offsets);
        self.world
            .recorder
            .record(self.process, call, commit)
            .is_ok()
    }
}

/// Polls, with the assignment to which the records belong.
pub fn poll(
    world: &World,
    process: u32,
    consumer: &mut dyn Consuming,
) -> Result<(Option<u64>, Answer), Failed> {
    let assignment = consumer.assignment();
    let call = Call::Poll { assignment };
    let answer = world.recorder.record(process, call, || consumer.poll())?;
    Ok((assignment, answer))
}

/// Asks where a partition's log begins and ends.
pub fn watermarks(
    world: &World,
    process: u32,
    consumer: &mut dyn Consuming,
    partition: i32,
) -> Result<(), Failed> {
    let call = Call::Watermarks { partition };
    let ask = || consumer.watermarks(partition).map(Answer::Watermarks);
    world.recorder.record(process, call, ask).map(|_| ())
}

/// Asks for all offsets of the group.
pub fn committed(world: &World, process: u32, consumer: &mut dyn Consuming) -> Result<(), Failed> {
    let partitions: Vec<i32> = (0..world.setup.partitions).collect();
    let call = Call::Committed {
        partitions: partitions.clone(),
    };
    let ask = || consumer.committed(&partitions);
    world.recorder.record(process, call, ask).map(|_| ())
}

/// Numbers that follow from a seed (SplitMix64).
pub struct Random(u64);

impl Random {
    /// Those of a thread of a process.
    pub fn new(seed: u64, process: u32, thread: u64) -> Self {
        Self(seed ^ (u64::from(process) << 32) ^ (thread << 16))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `0..end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn span(&mut self, (from, to): (u64, u64)) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}
