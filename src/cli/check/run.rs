//! A run: the processes play until the time is over, then the broker is waited for, everything has
//! to go on, and fresh clients read all that is there. What harms the broker meanwhile comes from
//! outside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;

use super::history::{Answer, At, Event, Setup, What};
use super::judge::Alive;
use super::process::{self, Consuming, Make, World};
use super::recorder::Recorder;
use super::value::MESSAGE_BYTES_MAX;
use crate::cli::CliError;
use crate::cli::connect::Client;
use crate::cli::native::TopicToCreate;
use crate::cli::output::tell;
use crate::cli::progress::Progress;
use crate::cli::stop::{Stop, TICK};

/// How long a reader at the end waits for what is missing, and when it asks whether it is there.
const QUIET_MAX: Duration = Duration::from_secs(10);
const ASKED_AFTER: Duration = Duration::from_secs(1);

/// What is to be run.
pub struct Plan {
    pub setup: Setup,
    /// librdkafka's properties, the brokers among them.
    pub config: ClientConfig,
    pub servers: String,
    pub duration: Duration,
    /// How long the broker may take to be well again.
    pub healed_within: Duration,
}

/// Makes the topic of a run.
pub fn create_topic(client: &Client, setup: &Setup) -> Result<(), CliError> {
    let configs = [
        ("max.message.bytes", MESSAGE_BYTES_MAX.to_string()),
        // Small, so that segments roll; what is old stays.
        ("segment.bytes", (1 << 20).to_string()),
        ("retention.ms", "-1".to_owned()),
        ("retention.bytes", "-1".to_owned()),
        ("cleanup.policy", "delete".to_owned()),
    ];
    let configs = configs.map(|(key, value)| (key.to_owned(), value));
    let topic = TopicToCreate {
        name: &setup.topic,
        partitions: setup.partitions,
        replication_factor: -1,
        configs: &configs,
    };
    let what = format!("creating the topic '{}'", setup.topic);
    let created = client.admin().create_topics(&[topic]);
    let outcomes = created.map_err(|refusal| CliError::refused(&what, &refusal))?;
    let refused = outcomes.into_iter().find_map(|(_, outcome)| outcome.err());
    refused.map_or(Ok(()), |refusal| Err(CliError::refused(&what, &refusal)))
}

/// Removes the topic of a run that found nothing.
pub fn delete_topic(client: &Client, topic: &str) {
    let deleted = client.admin().delete_topics(&[topic]);
    let is_deleted = deleted.is_ok_and(|outcomes| outcomes.iter().all(|(_, it)| it.is_ok()));
    if !is_deleted {
        tell(format_args!(
            "The topic '{topic}' could not be deleted: 'millrace topics delete {topic}' does it."
        ));
    }
}

/// Runs it to its end. The history.
pub fn run(plan: Plan, recorder: Recorder, stop: &Stop) -> Result<Vec<Event>, CliError> {
    let world = Arc::new(World {
        group: format!("{}-group", plan.setup.topic),
        setup: plan.setup,
        config: plan.config,
        servers: plan.servers,
        recorder,
        is_over: AtomicBool::new(false),
    });
    let threads = start(&world)?;
    wait_for(plan.duration, stop);
    let healed = wait_until_healthy(&world, plan.healed_within);
    if healed.is_ok() {
        world.recorder.note(0, What::Healed);
        let within = Duration::from_millis(world.setup.progress_within_ms);
        let all = Alive::all(&world.setup);
        let end = Instant::now() + within;
        let goes_on = || {
            let alive = world.recorder.alive();
            all.iter().all(|it| alive.contains(it))
        };
        while !goes_on() && Instant::now() < end {
            thread::sleep(TICK);
        }
    }
    world.is_over.store(true, Ordering::Relaxed);
    healed?;
    for thread in threads {
        let ended = thread.join();
        ended.map_err(|_| CliError::failed("the run", "one of its threads panicked"))??;
    }
    read_all(&world, plan.healed_within)?;
    world.recorder.finish()
}

type Threads = Vec<JoinHandle<Result<(), CliError>>>;

/// What a thread of a process does.
type Main = fn(&Arc<World>, u32) -> Result<(), CliError>;

fn start(world: &Arc<World>) -> Result<Threads, CliError> {
    let mains: [(&str, Main); 2] = [("sends", process::produce), ("reads", process::consume)];
    let mut threads = Vec::new();
    for process in 0..world.setup.processes {
        for (what, main) in mains {
            let world = Arc::clone(world);
            let thread = thread::Builder::new().name(format!("{process} {what}"));
            let spawned = thread.spawn(move || main(&world, process));
            threads.push(spawned.map_err(CliError::io("a thread"))?);
        }
    }
    Ok(threads)
}

/// Waits for the time to pass; a signal ends it early.
fn wait_for(duration: Duration, stop: &Stop) {
    let began = Instant::now();
    let mut progress = Progress::new("seconds", Some(duration.as_secs()), false);
    while began.elapsed() < duration && !stop.is_requested() {
        thread::sleep(TICK);
        progress.at(began.elapsed().as_secs());
    }
}

/// Waits until every partition and the group's coordinator answer.
fn wait_until_healthy(world: &Arc<World>, within: Duration) -> Result<(), CliError> {
    let end = Instant::now() + within;
    let mut probe = process::consumer(world, Make::Ours, world.setup.processes, "probe")?;
    let partitions: Vec<i32> = (0..world.setup.partitions).collect();
    loop {
        let mut asked = partitions
            .iter()
            .map(|it| probe.watermarks(*it).map(|_| ()));
        let answered = asked.find(Result::is_err).unwrap_or(Ok(()));
        let answered = answered.and_then(|()| probe.committed(&partitions).map(|_| ()));
        match answered {
            Ok(()) => return Ok(()),
            Err(failed) if Instant::now() >= end => {
                return Err(CliError::Failed(format!(
                    "the broker is not well, {within:?} after the last fault should have been \
                     over ({}). Nothing is judged; --timeout gives it longer",
                    failed.why
                )));
            }
            Err(_) => thread::sleep(TICK),
        }
    }
}

/// Has a fresh client of each make read everything that is known to be there.
fn read_all(world: &Arc<World>, within: Duration) -> Result<(), CliError> {
    for (number, make) in (0..).zip([Make::Ours, Make::Librdkafka]) {
        let process = world.setup.processes + number;
        let name = format!("{process}.1");
        let mut reader = process::consumer(world, make, process, &name)?;
        let end = Instant::now() + within;
        for partition in 0..world.setup.partitions {
            while let Err(failed) = process::watermarks(world, process, &mut *reader, partition) {
                if Instant::now() >= end {
                    let what = format!("the end of partition {partition}");
                    return Err(CliError::failed(what, failed.why));
                }
                thread::sleep(TICK);
            }
        }
        // A part of the offsets may be missing for a while; the check looks at what is there.
        let _ = process::committed(world, process, &mut *reader);
        // Whoever takes the broker away again is not to be told that it lost something; one that is
        // well and does not give what it has is.
        while !read_to_ends(world, process, &mut *reader)? && Instant::now() < end {
            wait_until_healthy(world, within)?;
        }
        reader.leave();
    }
    Ok(())
}

/// Reads every partition from its beginning on. Whether it came to their ends, or to where the
/// broker says that they are.
fn read_to_ends(world: &World, process: u32, reader: &mut dyn Consuming) -> Result<bool, CliError> {
    let ends = world.recorder.ends();
    let total: i64 = ends.values().sum();
    let from: Vec<At> = (0..world.setup.partitions).map(|it| (it, 0)).collect();
    let assigned = reader.assign(&from);
    assigned.map_err(|failed| CliError::failed("reading at the end", failed.why))?;
    let mut positions: BTreeMap<i32, i64> = BTreeMap::new();
    let mut progress = Progress::new("records", u64::try_from(total).ok(), false);
    let mut moved_at = Instant::now();
    let is_there = |positions: &BTreeMap<i32, i64>| {
        let behind = |(at, end): (&i32, &i64)| positions.get(at).copied().unwrap_or(0) >= *end;
        ends.iter().all(behind)
    };
    while !is_there(&positions) {
        let polled = process::poll(world, process, reader);
        match polled {
            Ok((_, Answer::Poll { records, .. })) if !records.is_empty() => {
                let read = records.iter().map(|it| (it.partition, it.offset + 1));
                positions.extend(read);
                moved_at = Instant::now();
                progress.at(positions.values().sum::<i64>().unsigned_abs());
            }
            _ if moved_at.elapsed() > QUIET_MAX => return Ok(false),
            _ if moved_at.elapsed() > ASKED_AFTER && is_at_end(world, reader, &positions) => {
                return Ok(true);
            }
            _ => {}
        }
    }
    Ok(true)
}

/// Whether the broker itself has nothing behind these positions.
fn is_at_end(world: &World, reader: &mut dyn Consuming, positions: &BTreeMap<i32, i64>) -> bool {
    (0..world.setup.partitions).all(|partition| {
        let position = positions.get(&partition).copied().unwrap_or(0);
        let marks = reader.watermarks(partition);
        marks.is_ok_and(|marks| marks.high <= position)
    })
}
