//! A run: the processes play until the time is over, then the broker is waited for, everything has
//! to go on, and fresh clients read all that is there. What harms the broker meanwhile comes from
//! outside.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;

use super::history::{Answer, At, Call, Ended, Event, Record, Setup, What};
use super::judge::Alive;
use super::process::{self, Consuming, Make, World, perform};
use super::recorder::Recorder;
use super::value::MESSAGE_BYTES_MAX;
use crate::cli::CliError;
use crate::cli::connect::Client;
use crate::cli::native::TopicToCreate;
use crate::cli::output::tell;
use crate::cli::progress::Progress;
use crate::cli::stop::{Stop, TICK};

/// How long a reader at the end waits for what is missing, and when it asks whether it is there.
struct Patience {
    quiet_max: Duration,
    asked_after: Duration,
}

const PATIENCE: Patience = Patience {
    quiet_max: Duration::from_secs(10),
    asked_after: Duration::from_secs(1),
};

/// How often it begins again, at most, without coming further.
const IDLE_PASSES_MAX: u32 = 5;

/// How long after healing everything may take to be tried, by which then may go on in its time.
const TRIED_WITHIN: Duration = Duration::from_secs(5);

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

/// What a run leaves.
pub struct Ran {
    pub events: Vec<Event>,
    /// Why the file does not have all of them, if there is one that does not.
    pub unwritten: Option<io::Error>,
    /// Why the run did not come to its end, if it did not.
    pub trouble: Option<CliError>,
}

/// Runs it, as far as that goes: whatever happens, there is a history.
pub fn run(plan: Plan, recorder: Recorder, stop: &Stop) -> Ran {
    let (duration, within) = (plan.duration, plan.healed_within);
    let world = Arc::new(World {
        group: format!("{}-group", plan.setup.topic),
        setup: plan.setup,
        config: plan.config,
        servers: plan.servers,
        recorder,
        is_over: AtomicBool::new(false),
        epochs: Mutex::default(),
    });
    let mut threads = Threads::new();
    let started = start(&world, &mut threads);
    let went = started.and_then(|()| {
        wait_for(duration, stop, &threads);
        wait_until_healthy(&world, within)?;
        wait_until_all_goes_on(&world);
        Ok(())
    });
    world.is_over.store(true, Ordering::Relaxed);
    world.recorder.note(0, What::Over);
    let joined: Vec<_> = threads.into_iter().map(join).collect();
    let went = went.and_then(|()| read_all(&world, within));
    let ended = joined.into_iter().fold(went, Result::and);
    let trouble = ended.err();
    if let Some(trouble) = &trouble {
        let error = trouble.to_string();
        world.recorder.note(0, What::Unwell { error });
    }
    let (events, unwritten) = world.recorder.finish();
    Ran {
        events,
        unwritten,
        trouble,
    }
}

type Threads = Vec<JoinHandle<Result<(), CliError>>>;

/// What a thread of a process does.
type Main = fn(&Arc<World>, u32) -> Result<(), CliError>;

fn join(thread: JoinHandle<Result<(), CliError>>) -> Result<(), CliError> {
    let ended = thread.join();
    ended.map_err(|_| CliError::failed("the run", "one of its threads panicked"))?
}

fn start(world: &Arc<World>, threads: &mut Threads) -> Result<(), CliError> {
    let mains: [(&str, Main); 2] = [("sends", process::produce), ("reads", process::consume)];
    for process in 0..world.setup.processes {
        for (what, main) in mains {
            let world = Arc::clone(world);
            let thread = thread::Builder::new().name(format!("{process} {what}"));
            let spawned = thread.spawn(move || main(&world, process));
            threads.push(spawned.map_err(CliError::io("a thread"))?);
        }
    }
    Ok(())
}

/// Waits for the time to pass; a signal ends it early, and so does a thread that cannot go on.
fn wait_for(duration: Duration, stop: &Stop, threads: &Threads) {
    let began = Instant::now();
    let mut progress = Progress::new("seconds", Some(duration.as_secs()), false);
    let is_broken = || threads.iter().any(JoinHandle::is_finished);
    while began.elapsed() < duration && !stop.is_requested() && !is_broken() {
        thread::sleep(TICK);
        progress.at(began.elapsed().as_secs());
    }
}

/// Waits until every partition and the group's coordinator answer.
fn wait_until_healthy(world: &Arc<World>, within: Duration) -> Result<(), CliError> {
    let end = Instant::now() + within;
    let process = world.setup.processes;
    let mut probe = process::consumer(world, Make::Ours, process, "probe")?;
    loop {
        let mut asked = all(world).map(|call| perform(world, process, &mut *probe, &call));
        match asked.find_map(Result::err) {
            None => return Ok(()),
            Some(failed) if Instant::now() >= end => {
                return Err(CliError::Failed(format!(
                    "the broker is not well, {within:?} after the last fault should have been \
                     over ({}). What follows from the time before is judged; --timeout gives it \
                     longer",
                    failed.why
                )));
            }
            Some(_) => thread::sleep(TICK),
        }
    }
}

/// The questions for the ends of all logs, and for what the group has committed.
fn all(world: &World) -> impl Iterator<Item = Call> + use<> {
    let watermarks = (0..world.setup.partitions).map(|partition| Call::Watermarks { partition });
    watermarks.chain([world.committed_of_all()])
}

/// The broker is well: what was tried has its time to go on.
fn wait_until_all_goes_on(world: &World) {
    world.recorder.note(0, What::Healed);
    let within = Duration::from_millis(world.setup.progress_within_ms);
    let end = Instant::now() + TRIED_WITHIN + within;
    let all = Alive::all(&world.setup);
    let goes_on = || {
        let alive = world.recorder.alive();
        all.iter().all(|it| alive.contains(it))
    };
    while !goes_on() && Instant::now() < end {
        thread::sleep(TICK);
    }
}

/// Has a fresh client of each make read everything that is known to be there.
fn read_all(world: &Arc<World>, within: Duration) -> Result<(), CliError> {
    for (number, make) in (0..).zip([Make::Ours, Make::Librdkafka]) {
        let process = world.setup.processes + number;
        let name = format!("{process}.1");
        let mut reader = process::consumer(world, make, process, &name)?;
        let end = Instant::now() + within;
        for call in all(world) {
            while let Err(failed) = perform(world, process, &mut *reader, &call) {
                if Instant::now() >= end {
                    let what = format!("the {} at the end", call.name());
                    return Err(CliError::failed(what, failed.why));
                }
                thread::sleep(TICK);
            }
        }
        let (pass, read) = read_through(world, process, &mut *reader, within);
        for partition in 0..world.setup.partitions {
            let what = What::ReadTo {
                partition,
                position: pass.position(partition),
                ended: pass.ended(partition),
            };
            world.recorder.note(process, what);
        }
        read?;
        reader.leave();
    }
    Ok(())
}

/// Reads everything, from the beginning again after an outage: whoever takes the broker away once
/// more is not to be told that it lost something. The last pass, and whether it is one to judge by.
fn read_through(
    world: &Arc<World>,
    process: u32,
    reader: &mut dyn Consuming,
    within: Duration,
) -> (Pass, Result<(), CliError>) {
    let mut furthest: BTreeMap<i32, i64> = BTreeMap::new();
    // How many passes in a row came no further than those before; the first one has none.
    let mut idle: Option<u32> = None;
    loop {
        let mut pass = match read_to_ends(world, process, reader, &PATIENCE) {
            Ok(pass) => pass,
            Err(error) => return (Pass::default(), Err(error)),
        };
        let mut now_idle = idle.map_or(0, |idle| idle + 1);
        for (partition, position) in &pass.positions {
            let furthest = furthest.entry(*partition).or_default();
            if position > furthest {
                (*furthest, now_idle) = (*position, 0);
            }
        }
        idle = Some(now_idle);
        let is_stuck = now_idle > 0 && pass.was_well;
        if pass.is_at_ends() || is_stuck || now_idle == IDLE_PASSES_MAX {
            return (pass, Ok(()));
        }
        if let Err(error) = wait_until_healthy(world, within) {
            pass.was_well = false;
            return (pass, Err(error));
        }
    }
}

/// How far a reader came from the beginning on.
#[derive(Default)]
struct Pass {
    positions: BTreeMap<i32, i64>,
    /// Where each log was known to end, and where the broker said last that it does.
    ends: BTreeMap<i32, i64>,
    told: BTreeMap<i32, i64>,
    /// Whether all that was asked while nothing came was answered.
    was_well: bool,
}

impl Pass {
    fn position(&self, partition: i32) -> i64 {
        self.positions.get(&partition).copied().unwrap_or(0)
    }

    fn is_at_end(&self, partition: i32) -> bool {
        let mut ends = [&self.ends, &self.told].into_iter();
        let is_reached = |end: &i64| self.position(partition) >= *end;
        ends.any(|ends| ends.get(&partition).is_some_and(is_reached))
    }

    fn is_at_ends(&self) -> bool {
        self.ends.keys().all(|partition| self.is_at_end(*partition))
    }

    fn ended(&self, partition: i32) -> Ended {
        match (self.is_at_end(partition), self.was_well) {
            (true, _) => Ended::AtEnd,
            (false, true) => Ended::Stuck,
            (false, false) => Ended::CutShort,
        }
    }

    /// Takes what was read. Whether it came nearer to an end, and so never for ever.
    fn advance(&mut self, records: &[Record]) -> bool {
        let mut is_nearer = false;
        for record in records {
            let is_missing = !self.is_at_end(record.partition);
            let position = self.positions.entry(record.partition).or_default();
            is_nearer |= is_missing && record.offset >= *position;
            *position = (record.offset + 1).max(*position);
        }
        is_nearer
    }
}

/// Reads every partition from its beginning on, until it is at their ends or nothing comes.
fn read_to_ends(
    world: &World,
    process: u32,
    reader: &mut dyn Consuming,
    patience: &Patience,
) -> Result<Pass, CliError> {
    let mut pass = Pass {
        ends: world.recorder.ends(),
        ..Pass::default()
    };
    let total: i64 = pass.ends.values().sum();
    let from: Vec<At> = (0..world.setup.partitions).map(|it| (it, 0)).collect();
    let assigned = reader.assign(&from);
    assigned.map_err(|failed| CliError::failed("reading at the end", failed.why))?;
    let mut progress = Progress::new("records", u64::try_from(total).ok(), false);
    let (mut moved_at, mut is_ill) = (Instant::now(), false);
    let mut asked_at = moved_at;
    while !pass.is_at_ends() && moved_at.elapsed() < patience.quiet_max {
        let assignment = reader.assignment();
        match perform(world, process, reader, &Call::Poll { assignment }) {
            Ok(Answer::Poll { records, .. }) if pass.advance(&records) => {
                (moved_at, is_ill) = (Instant::now(), false);
                asked_at = moved_at;
                progress.at(pass.positions.values().sum::<i64>().unsigned_abs());
            }
            Ok(_) => {}
            Err(_) => {
                is_ill = true;
                thread::sleep(TICK);
            }
        }
        if asked_at.elapsed() > patience.asked_after {
            is_ill |= !ask_ends(world, process, reader, &mut pass);
            asked_at = Instant::now();
        }
    }
    // What was not asked may have been ill.
    pass.was_well = !is_ill && !pass.told.is_empty();
    Ok(pass)
}

/// Asks the broker where the logs end that were not read to an end yet. Whether it answers.
fn ask_ends(world: &World, process: u32, reader: &mut dyn Consuming, pass: &mut Pass) -> bool {
    let behind = (0..world.setup.partitions).filter(|it| !pass.is_at_end(*it));
    for partition in behind.collect::<Vec<_>>() {
        match perform(world, process, reader, &Call::Watermarks { partition }) {
            Ok(Answer::Watermarks(marks)) => {
                pass.told.insert(partition, marks.high);
            }
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests;
