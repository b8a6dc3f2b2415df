//! Groups of consumers under lost, late and repeated requests, clients that die or misbehave, and
//! coordinators that crash. A failure names its seed, which repeats it:
//! `MILLRACE_GROUP_SEED=4711 cargo test --lib groups_settle -- --nocapture`.

mod assignor;
mod broker;
mod consumer;
mod faults;
mod judge;
mod network;
mod random;
mod world;

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::super::error::GroupError;
use super::super::planted::{Bug, plant};
use world::World;

/// How many worlds are lived through.
const SEEDS: u64 = 10_000;
/// How long faults last in each of the parts of a world's life, in milliseconds.
const FAULTS_MS: [u64; 2] = [60_000, 30_000];
/// The environment variable that names the only seed to run.
const SEED: &str = "MILLRACE_GROUP_SEED";

/// What a world has seen.
#[derive(Debug, Default)]
struct Seen {
    met: BTreeSet<GroupError>,
    settled_in_ms: u64,
    events: u64,
}

fn live(seed: u64, looks_inside: bool, is_told: bool) -> Result<Seen, String> {
    let life = || {
        let mut world = World::new(seed, looks_inside);
        world.is_told = is_told;
        for faults_ms in FAULTS_MS {
            world.live_through(faults_ms);
        }
        world.restart();
        Seen {
            met: world.judge.met,
            settled_in_ms: world.settled_in_ms,
            events: world.happened,
        }
    };
    catch_unwind(AssertUnwindSafe(life)).map_err(|payload| text_of(&*payload))
}

fn text_of(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|it| (*it).to_owned()));
    text.unwrap_or_default()
}

/// Lives through the seeds that are next until there are no more.
fn live_on(next: &AtomicU64) -> Seen {
    let mut all = Seen::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= SEEDS {
            return all;
        }
        let seen = live(seed, true, false);
        let seen = seen.unwrap_or_else(|_| panic!("{SEED}={seed} repeats this"));
        all.met.extend(seen.met);
        all.settled_in_ms = all.settled_in_ms.max(seen.settled_in_ms);
        all.events += seen.events;
    }
}

#[test]
fn groups_settle_and_no_partition_is_owned_twice() {
    if let Ok(seed) = std::env::var(SEED) {
        let seed = seed.parse().expect("a seed is a number");
        println!("{:?}", live(seed, true, true).expect("the seed ends well"));
        return;
    }
    let next = AtomicU64::new(0);
    let seen = thread::scope(|scope| {
        let workers = [(); 2].map(|()| scope.spawn(|| live_on(&next)));
        workers.map(|it| it.join().expect("all seeds end well"))
    });
    println!("{seen:?}");
    // What is simulated is worth it only where it goes wrong.
    let met: BTreeSet<_> = seen.into_iter().flat_map(|it| it.met).collect();
    let expected = [
        GroupError::Unexpected,
        GroupError::LoadInProgress,
        GroupError::NotAvailable,
        GroupError::NotCoordinator,
        GroupError::IllegalGeneration,
        GroupError::UnknownMemberId,
        GroupError::RebalanceInProgress,
        GroupError::NonEmptyGroup,
        GroupError::GroupIdNotFound,
        GroupError::MemberIdRequired,
        GroupError::FencedInstanceId,
    ];
    assert_eq!(met, BTreeSet::from(expected));
}

/// The simulation is worth something only if it finds bugs. Only what clients see counts here.
#[test]
fn planted_bugs_are_found() {
    const SEEDS_MAX: u64 = 500;
    let bugs = [
        (Bug::CommitOfAnyGeneration, &["goes back"][..]),
        (Bug::CommitAcknowledgedAtOnce, &["not in the log"]),
        (Bug::SyncOfAnyGeneration, &["of another generation"]),
        // Whichever of its consequences is seen first.
        (
            Bug::AssignedAtOnce,
            &["twice in generation", "a restart changed the group"],
        ),
        (Bug::AnyoneAssigns, &["no assignment"]),
        (Bug::SessionsForgottenByLoad, &["never settled"]),
        (Bug::SyncsAwaitedForEver, &["lasts too long"]),
    ];
    for (bug, expected) in bugs {
        plant(Some(bug));
        let mut failed =
            (0..SEEDS_MAX).filter_map(|seed| Some((seed, live(seed, false, false).err()?)));
        let found = failed.next();
        plant(None);
        let (seed, text) = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
        let line = text.lines().next().unwrap_or_default();
        println!("{bug:?} is found by {SEED}={seed}, after {seed} others: {line}");
        let is_expected = expected.iter().any(|expected| text.contains(expected));
        assert!(is_expected, "{bug:?}: {line}");
    }
}
