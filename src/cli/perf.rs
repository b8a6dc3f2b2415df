//! `millrace perf`: puts a load on any broker of Kafka's protocol and says what came of it.
//!
//! It speaks the protocol itself, where the other commands use a client library: the load must cost
//! less than the broker, and the moment at which each record is due must be its own. One thread
//! holds all connections. Batches are built before the load begins; only records that have a moment
//! are built when that has come.
//!
//! What must stay true: no figure leaves out what did not come in time. With a rate, a record's
//! time counts from the moment at which it was due, whenever it was sent (no coordinated omission),
//! and what is never acknowledged is told.

mod cluster;
mod consumer;
mod load;
mod producer;
mod report;
mod run;
mod sizes;
pub(super) mod socket;
mod tally;
mod usage;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use self::cluster::{Asking, CONNECTED_WITHIN, EARLIEST, LATEST, NewTopic, Topic};
use self::consumer::{Consumer, Fetching, Until};
use self::load::{Records, STAMP_BYTES, Workload};
use self::producer::{Manner, Pace, Producer, Source};
use self::report::Kind;
use self::run::{Link, Plan, Role};
use self::sizes::Sizes;
use self::socket::Socket;
use self::tally::Window;
use super::CliError;
use super::connect::key_value;
use super::output::tell;
use super::produce::{Acks, Compression};
use super::stop::Stop;
use super::time::{now_ms, parse_span};
use crate::record::compression::Codec;

/// The versions in which requests are sent: those that every broker since Kafka 2.7 serves.
mod versions {
    pub const CREATE_TOPICS: i16 = 5;
    pub const FETCH: i16 = 12;
    pub const INIT_PRODUCER_ID: i16 = 4;
    pub const LIST_OFFSETS: i16 = 6;
    pub const METADATA: i16 = 9;
    pub const PRODUCE: i16 = 9;
}

const PRODUCE: Kind = Kind {
    name: "produce",
    times: "from sending, or with a rate from when a record was due, to its acknowledgement",
};
const CONSUME: Kind = Kind {
    name: "consume",
    times: "from a fetch to its records",
};
const CONSUME_COLD: Kind = Kind {
    name: "consume-cold",
    times: "from a fetch to its records",
};
const END_TO_END: Kind = Kind {
    name: "end-to-end",
    times: "from when a record was due to when a consumer has it",
};

/// Put a load on a broker, and measure
#[derive(Debug, clap::Subcommand)]
pub enum Perf {
    /// Write as fast as the broker takes it, or at a rate
    Produce(Produce),
    /// Read what is there
    Consume(Consume),
    /// How long records take from when they are due to when a consumer has them
    Latency(Latency),
    /// Write, read what is written, and read what is old, all at once
    Mixed(Mixed),
}

impl Perf {
    pub(super) fn run(&self) -> Result<(), CliError> {
        match self {
            Self::Produce(produce) => produce.run(),
            Self::Consume(consume) => consume.run(),
            Self::Latency(latency) => latency.run(),
            Self::Mixed(mixed) => mixed.run(),
        }
    }
}

/// Where the load goes, how long, and what is printed.
#[derive(Debug, clap::Args)]
struct Target {
    /// Brokers to find the cluster by
    #[arg(
        short = 'b',
        long,
        value_name = "HOST:PORT,...",
        env = "MILLRACE_BOOTSTRAP_SERVER",
        default_value = "localhost:9092"
    )]
    bootstrap_server: String,
    /// The topic, which is made if it is not there
    #[arg(long, default_value = "millrace-perf")]
    topic: String,
    /// How many partitions it gets then
    #[arg(
        long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..),
        allow_negative_numbers = true
    )]
    partitions: i32,
    /// How many replicas it gets then; -1 for as many as the broker has them
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    replication_factor: i16,
    /// A setting that it gets then; may be given again
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    configs: Vec<(String, String)>,
    /// How long is measured
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = parse_span)]
    duration: Duration,
    /// How long the load runs before that
    #[arg(long, value_name = "SPAN", default_value = "2s", value_parser = parse_span)]
    warmup: Duration,
    /// The broker's process on this machine: its CPU time and memory are printed
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
    /// Write the times by percentile to a file, for HdrHistogram's tools
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// What producers do.
#[derive(Debug, clap::Args)]
struct Producing {
    /// How many producers there are, each with a connection to each broker
    #[arg(long, default_value_t = 1)]
    producers: usize,
    /// Requests that each has in flight
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    /// Who has a record when it is acknowledged
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// Send with a producer id and sequence numbers
    #[arg(long)]
    idempotent: bool,
    /// How large values are: 1024, 100..2000, or 100*9,1024
    #[arg(long, value_name = "SIZES", default_value = "1024")]
    record_bytes: Sizes,
    /// How large keys are; 0 for none
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    key_bytes: usize,
    /// How large batches get before compression
    #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
    batch_bytes: usize,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Compression::None)]
    codec: Compression,
    /// Records a second, of all producers together, each at its moment; without it as many as go
    #[arg(long, value_name = "RECORDS")]
    rate: Option<f64>,
}

/// What consumers do.
#[derive(Debug, clap::Args)]
struct Consuming {
    /// How many consumers there are, each of all partitions and with a connection to each broker
    #[arg(long, default_value_t = 1)]
    consumers: usize,
    /// fetch.max.wait.ms
    #[arg(long, value_name = "MS", default_value_t = 500)]
    fetch_wait: i32,
    /// fetch.min.bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1)]
    fetch_min_bytes: i32,
    /// fetch.max.bytes
    #[arg(long, value_name = "BYTES", default_value_t = 50 << 20)]
    fetch_max_bytes: i32,
    /// max.partition.fetch.bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    partition_max_bytes: i32,
}

/// Where consumers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// At the beginning
    Earliest,
    /// At the end
    Latest,
    /// Each somewhere else, from the beginning to the end
    Spread,
}

/// `perf produce`.
#[derive(Debug, clap::Args)]
pub struct Produce {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    producing: Producing,
    /// Stop after so many records, whatever time it takes; there is no warm-up then
    #[arg(long)]
    records: Option<u64>,
}

/// `perf consume`.
#[derive(Debug, clap::Args)]
pub struct Consume {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    consuming: Consuming,
    /// Where to begin
    #[arg(long, value_enum, default_value_t = From::Earliest)]
    from: From,
    /// Go on for the whole time, from the beginning again at the end; without it everything that
    /// is there is read once, without a warm-up
    #[arg(long)]
    again: bool,
}

/// `perf latency`.
#[derive(Debug, clap::Args)]
pub struct Latency {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    producing: Producing,
    #[command(flatten)]
    consuming: Consuming,
}

/// `perf mixed`.
#[derive(Debug, clap::Args)]
pub struct Mixed {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    producing: Producing,
    #[command(flatten)]
    consuming: Consuming,
    /// How many consumers read all that is there, again and again
    #[arg(long, default_value_t = 1)]
    cold_consumers: usize,
}

/// Records a second of `perf latency` where nothing is said.
const LATENCY_RATE: f64 = 1_000.0;

impl Produce {
    fn run(&self) -> Result<(), CliError> {
        let mut building = self.target.prepare()?;
        if self.records.is_some() {
            building.window = Window {
                from: 0,
                to: u64::MAX,
            };
            building.records_max = self.records.unwrap_or(u64::MAX);
        }
        building.kind(PRODUCE);
        building.add_producers(&self.producing, self.producing.rate)?;
        building.run(&self.target)
    }
}

impl Consume {
    fn run(&self) -> Result<(), CliError> {
        let mut building = self.target.prepare()?;
        if !self.again {
            building.window = Window {
                from: 0,
                to: u64::MAX,
            };
        }
        building.kind(CONSUME);
        for number in 0..self.consuming.consumers {
            let place = number as f64 / self.consuming.consumers as f64;
            building.add_consumer(&self.consuming, |starts, ends| {
                let from = match self.from {
                    From::Earliest => starts.clone(),
                    From::Latest => ends.clone(),
                    From::Spread => between(&starts, &ends, place),
                };
                let until = match self.again {
                    true => Until::Again(ends, starts),
                    false => Until::Offsets(ends),
                };
                (from, until)
            })?;
        }
        building.run(&self.target)
    }
}

impl Latency {
    fn run(&self) -> Result<(), CliError> {
        let mut building = self.target.prepare()?;
        building.kind(PRODUCE);
        let rate = self.producing.rate.unwrap_or(LATENCY_RATE);
        building.add_producers(&self.producing, Some(rate))?;
        building.kind(END_TO_END);
        building.is_timed = true;
        building.add_tail_consumers(&self.consuming)?;
        building.run(&self.target)
    }
}

impl Mixed {
    fn run(&self) -> Result<(), CliError> {
        let mut building = self.target.prepare()?;
        building.kind(PRODUCE);
        building.add_producers(&self.producing, self.producing.rate)?;
        building.kind(if self.producing.rate.is_some() {
            END_TO_END
        } else {
            CONSUME
        });
        building.is_timed = self.producing.rate.is_some();
        building.add_tail_consumers(&self.consuming)?;
        building.kind(CONSUME_COLD);
        building.is_timed = false;
        for _ in 0..self.cold_consumers {
            building.add_consumer(&self.consuming, |starts, ends| {
                (starts.clone(), Until::Again(ends, starts))
            })?;
        }
        building.run(&self.target)
    }
}

/// A load in the making.
struct Building {
    topic: Topic,
    kinds: Vec<Kind>,
    links: Vec<Link>,
    began: Instant,
    wall_ms: i64,
    window: Window,
    records_max: u64,
    /// What tells this run's records from all others.
    run: u64,
    /// Whether consumers look at when records were due.
    is_timed: bool,
}

impl Target {
    /// Finds the topic, or makes it.
    fn prepare(&self) -> Result<Building, CliError> {
        let mut asking = Asking::connect(&self.bootstrap_server)?;
        let topic = asking.find(&NewTopic {
            name: self.topic.as_str().into(),
            partitions: self.partitions,
            replication_factor: self.replication_factor,
            configs: self.configs.clone(),
        })?;
        let nanoseconds = |span: Duration| span.as_nanos() as u64;
        let from = nanoseconds(self.warmup);
        let to = from + nanoseconds(self.duration);
        let wall_ms = now_ms();
        Ok(Building {
            topic,
            kinds: Vec::new(),
            links: Vec::new(),
            began: Instant::now(),
            wall_ms,
            window: Window { from, to },
            records_max: u64::MAX,
            run: wall_ms as u64 ^ u64::from(std::process::id()) << 44,
            is_timed: false,
        })
    }
}

impl Building {
    /// What is added from now on is of this kind.
    fn kind(&mut self, kind: Kind) {
        self.kinds.push(kind);
    }

    fn link(&mut self, address: SocketAddr, role: Role) -> Result<(), CliError> {
        let socket = Socket::connect(address, CONNECTED_WITHIN);
        let socket = socket.map_err(CliError::io(format!("connecting to {address}")))?;
        let kind = self.kinds.len() - 1;
        self.links.push(Link { kind, role, socket });
        Ok(())
    }

    fn leaders(&self) -> Vec<(SocketAddr, Vec<i32>)> {
        let by_leader = self.topic.by_leader.iter();
        by_leader
            .map(|(address, led)| (*address, led.clone()))
            .collect()
    }

    fn add_producers(&mut self, producing: &Producing, rate: Option<f64>) -> Result<(), CliError> {
        if rate.is_some() && producing.record_bytes.min() < STAMP_BYTES {
            let why =
                format!("--record-bytes must be at least {STAMP_BYTES} where there is a rate");
            return Err(CliError::Usage(why));
        }
        let failed = |error| CliError::failed("the batches", error);
        let records = producing.records();
        let leaders = self.leaders();
        let share = rate.map(|rate| rate / (producing.producers * leaders.len()) as f64);
        let prepared = Workload::new(records.clone(), self.run).prepare(self.wall_ms);
        let prepared = Rc::new(prepared.map_err(failed)?);
        let mut number = 0;
        for (address, led) in leaders {
            for _ in 0..producing.producers {
                let source = match share {
                    None => Source::Prepared(Rc::clone(&prepared)),
                    Some(per_second) => Source::Paced(Box::new(Pace {
                        workload: Workload::new(records.clone(), self.run + number as u64),
                        per_second,
                        began: 0,
                        wall_ms: self.wall_ms,
                        run: self.run,
                        sent: 0,
                    })),
                };
                let manner = producing.manner();
                let topic = &self.topic.name;
                let mut producer = Producer::new(topic, &led, manner, source, number);
                if producing.idempotent {
                    let asking = Asking::to(address);
                    let asking = asking.map_err(CliError::io(format!("connecting to {address}")));
                    let (id, epoch) = asking?.producer_id()?;
                    producer.identify(id, epoch);
                }
                self.link(address, Role::Producer(Box::new(producer)))?;
                number += 1;
            }
        }
        Ok(())
    }

    /// Consumers of what comes from now on.
    fn add_tail_consumers(&mut self, consuming: &Consuming) -> Result<(), CliError> {
        for _ in 0..consuming.consumers {
            self.add_consumer(consuming, |_, ends| (ends, Until::Stopped))?;
        }
        Ok(())
    }

    /// A consumer that begins and ends where `place` says, for the offsets at which the partitions
    /// begin and end.
    fn add_consumer(
        &mut self,
        consuming: &Consuming,
        place: impl Fn(Offsets, Offsets) -> (Offsets, Until),
    ) -> Result<(), CliError> {
        for (address, led) in self.leaders() {
            let asking = Asking::to(address);
            let mut asking = asking.map_err(CliError::io(format!("connecting to {address}")))?;
            let starts = asking.offsets(&self.topic.name, &led, EARLIEST)?;
            let ends = asking.offsets(&self.topic.name, &led, LATEST)?;
            let (from, until) = place(starts, ends);
            let run = self.is_timed.then_some(self.run);
            let fetching = consuming.fetching();
            let consumer = Consumer::new(&self.topic.name, &from, until, fetching, run);
            self.link(address, Role::Consumer(Box::new(consumer)))?;
        }
        Ok(())
    }

    fn run(mut self, target: &Target) -> Result<(), CliError> {
        let stop = Stop::watch()?;
        // The moments count from here: connecting is no part of them.
        let ready = self.began.elapsed().as_nanos() as u64;
        self.began += Duration::from_nanos(ready);
        self.wall_ms += (ready / 1_000_000) as i64;
        let plan = Plan {
            kinds: self.kinds.len(),
            links: self.links,
            window: self.window,
            records_max: self.records_max,
            pid: target.broker_pid,
        };
        let measured = run::run(plan, self.began, &stop)?;
        if let Some(file) = &target.hdr {
            report::write_times(&self.kinds, &measured, file)?;
        }
        report::print(&self.kinds, &measured, target.json)?;
        if stop.is_requested() {
            tell("stopped before the time was over");
            stop.obey();
        }
        Ok(())
    }
}

type Offsets = BTreeMap<i32, i64>;

/// Offsets at that share of the way from the first to the last.
fn between(starts: &Offsets, ends: &Offsets, share: f64) -> Offsets {
    let at = |(index, start): (&i32, &i64)| {
        let end = ends.get(index).copied().unwrap_or(*start);
        (*index, start + ((end - start) as f64 * share) as i64)
    };
    starts.iter().map(at).collect()
}

impl Producing {
    fn records(&self) -> Records {
        Records {
            value_bytes: self.record_bytes.clone(),
            key_bytes: self.key_bytes,
            codec: match self.codec {
                Compression::None => Codec::None,
                Compression::Gzip => Codec::Gzip,
                Compression::Snappy => Codec::Snappy,
                Compression::Lz4 => Codec::Lz4,
                Compression::Zstd => Codec::Zstd,
            },
            batch_bytes: self.batch_bytes,
        }
    }

    fn manner(&self) -> Manner {
        Manner {
            acks: match self.acks {
                Acks::All => -1,
                Acks::One => 1,
                Acks::Zero => 0,
            },
            window: self.in_flight.max(1),
        }
    }
}

impl Consuming {
    fn fetching(&self) -> Fetching {
        Fetching {
            wait_ms: self.fetch_wait,
            bytes_min: self.fetch_min_bytes,
            bytes_max: self.fetch_max_bytes,
            partition_bytes_max: self.partition_max_bytes,
        }
    }
}
