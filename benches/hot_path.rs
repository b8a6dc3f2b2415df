//! The times of the hot path's parts, by criterion: `cargo bench --bench hot_path`.
//!
//! Each figure is of one call, request or message, in the released build, on a shard that nothing
//! else runs on. What each part does stands at the head of its file in `parts/`; the parts but for
//! the round trip between two shards are those that `benches/instructions` counts.
//!
//! What it leaves out: the kernel's share of receiving, sending and writing, and everything that
//! many connections or partitions do to the caches. `millrace perf` and `perf/` measure the whole.

mod parts;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use millrace::base::ids::ShardId;
use millrace::runtime::TaskQueue;
use millrace::shard::executor::{ExecutorConfig, allowed_cpus, start};
use millrace::shard::mailbox::{MailboxEnd, mesh};
use millrace::shard::reply::{self, Sender};
use parts::{Meter, Part};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The time that the calls take.
#[derive(Default)]
struct Stopwatch {
    began: Cell<Option<Instant>>,
    took: Cell<Duration>,
}

impl Meter for Stopwatch {
    fn start(&self) {
        self.began.set(Some(Instant::now()));
    }

    fn stop(&self) {
        let now = Instant::now();
        let began = self.began.take().expect("it was started");
        self.took.set(self.took.get() + (now - began));
    }
}

/// What criterion is told of a part.
struct Listed {
    name: &'static str,
    calls: u64,
    bytes: u64,
}

/// So many passes of a part, and where the time goes that they took.
type Order = (usize, u64, mpsc::Sender<Duration>);

/// Makes passes on the shard as they are ordered, until nobody orders any.
async fn work_off(
    mut parts: Vec<Part>,
    list: mpsc::Sender<Vec<Listed>>,
    orders: mpsc::Receiver<Order>,
) {
    let listed = parts.iter().map(|part| Listed {
        name: part.name,
        calls: part.calls,
        bytes: part.bytes,
    });
    list.send(listed.collect()).expect("it is waited for");
    // Nothing else runs on the shard, so it may wait here.
    while let Ok((part, passes, answer)) = orders.recv() {
        let stopwatch = Rc::new(Stopwatch::default());
        parts[part].run(passes, stopwatch.clone()).await;
        answer.send(stopwatch.took.get()).expect("it is waited for");
    }
}

fn time_parts(group: &mut BenchmarkGroup<'_, WallTime>) {
    let (list, listed) = mpsc::channel();
    let (order, orders) = mpsc::channel::<Order>();
    let shard = thread::spawn(move || {
        parts::on_shard(false, move |parts| work_off(parts, list, orders));
    });
    let listed = listed.recv().expect("the parts");
    for (index, part) in listed.iter().enumerate() {
        match part.bytes {
            0 => group.throughput(Throughput::Elements(1)),
            bytes => group.throughput(Throughput::Bytes(bytes)),
        };
        group.bench_function(part.name, |bencher| {
            bencher.iter_custom(|calls| {
                let (answer, took) = mpsc::channel();
                let passes = calls.div_ceil(part.calls);
                order.send((index, passes, answer)).expect("a shard");
                let took = took.recv().expect("a shard");
                took.mul_f64(calls as f64 / (passes * part.calls) as f64)
            });
        });
    }
    drop(order);
    shard.join().expect("a good end");
}

type Question = (u64, Sender<u64>);

/// What each of the two shards does: one answers, the other asks as it is ordered.
async fn ask_or_answer(
    end: MailboxEnd<Question>,
    orders: Option<mpsc::Receiver<(u64, mpsc::Sender<Duration>)>>,
) -> Result<(), String> {
    let (mailboxes, receiver) = end.open();
    let closer = receiver.closer();
    let receiving = receiver.run(|_, (question, answer): Question| {
        answer.send(question + 1).expect("who asked waits");
    });
    let Some(orders) = orders else {
        receiving.await;
        return Ok(());
    };
    TaskQueue::Requests.detach(receiving);
    while let Ok((trips, answer)) = orders.recv() {
        let began = Instant::now();
        for trip in 0..trips {
            let (sender, told) = reply::channel();
            let sent = mailboxes.send(ShardId(1), (trip, sender)).await;
            sent.map_err(|error| error.to_string())?;
            told.await.map_err(|error| error.to_string())?;
        }
        answer.send(began.elapsed()).expect("it is waited for");
    }
    closer.close();
    Ok(())
}

/// One message to a shard that sleeps and its answer back to one that sleeps: two wakes.
fn time_round_trip(group: &mut BenchmarkGroup<'_, WallTime>) {
    let cpus = allowed_cpus().expect("the kernel tells");
    if cpus.len() < 2 {
        println!("mailbox/round-trip-between-shards: needs two CPUs");
        return;
    }
    let config = ExecutorConfig {
        shards: 2,
        cpus,
        ..ExecutorConfig::default()
    };
    let (order, orders) = mpsc::channel();
    let mut orders = Some(orders);
    let bodies = mesh::<Question>(2, 128).into_iter().map(|end| {
        let orders = orders.take();
        move |_| ask_or_answer(end, orders)
    });
    let shards = start(&config, bodies.collect()).expect("two executors");
    group.throughput(Throughput::Elements(1));
    group.bench_function("mailbox/round-trip-between-shards", |bencher| {
        bencher.iter_custom(|trips| {
            let (answer, took) = mpsc::channel();
            order.send((trips, answer)).expect("a shard");
            took.recv().expect("a shard")
        });
    });
    drop(order);
    shards.stopper().stop();
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    let mut group = criterion.benchmark_group("hot-path");
    time_parts(&mut group);
    time_round_trip(&mut group);
    group.finish();
    criterion.final_summary();
}
