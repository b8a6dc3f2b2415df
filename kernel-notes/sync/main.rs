//! Measures how a shard should make a group commit durable: a sync a file, one write-ahead log,
//! or one `syncfs`. One process measures one cell, on the executor's thread. It decides nothing:
//! `kernel-notes/sync.md` holds the decision.

mod commit;
mod files;
mod hot;
#[path = "../experiments/kernel_threads.rs"]
mod kernel_threads;
mod machine;
mod noise;
mod paced;
mod semantics;
mod table;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};

use machine::{Meter, Used};

/// What a step of the experiment can fail with.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How a group commit becomes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Design {
    /// All writes, then an fdatasync a file through io_uring, `in_flight` at a time.
    File,
    /// As `File`, but each file is synced as soon as its own write has completed.
    Chain,
    /// All writes, then one `syncfs` off the reactor.
    Syncfs,
    /// The file's writes carry O_DSYNC.
    Dsync,
    /// One sequential log and one fdatasync; the segments are written behind it with O_DSYNC.
    Wal,
    /// Writes only: nothing is durable. What the others are measured against.
    Unsynced,
}

/// On which blocks the segments are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Blocks {
    /// Nothing is preallocated (unless by `step_kib`): each write makes the file longer.
    Extending,
    /// Preallocated beyond the file's size, which each write moves.
    Keep,
    /// Preallocated with size, never written: the first write converts the extent.
    Fresh,
    /// Written before, as a recycled segment is.
    Written,
}

#[derive(Parser, Clone, Debug)]
struct Cell {
    /// A directory on the file system under test; its files are made and reused here.
    #[arg(long)]
    dir: PathBuf,
    /// The block device below it, as in /sys/block.
    #[arg(long)]
    device: String,
    #[arg(long)]
    design: Design,
    #[arg(long, default_value = "written")]
    blocks: Blocks,
    /// Dirty partitions in each group commit.
    #[arg(long, default_value_t = 6)]
    partitions: usize,
    /// Bytes of each partition in each group commit.
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
    /// Group commits, one after the other.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Syncs in flight at most; with O_DSYNC that is writes.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// A buffered writer on the same file system, in MiB a second; 0 is none.
    #[arg(long, default_value_t = 0)]
    noise_mib: usize,
    /// Size of the write-ahead log: when half of it is full, the segments are written and synced.
    #[arg(long, default_value_t = 256)]
    wal_mib: usize,
    /// Appends that arrive in a second (paced cells).
    #[arg(long, default_value_t = 10_000)]
    rate: usize,
    /// Preallocate so much, with size, whenever the appends reach the end (hot cells); 0 is never.
    #[arg(long, default_value_t = 0)]
    step_kib: usize,
    /// Appends of each partition in flight (hot cells).
    #[arg(long, default_value_t = 2)]
    lanes: usize,
}

#[derive(Subcommand)]
enum What {
    /// Group commits of many dirty partitions, one after the other.
    Rounds(Cell),
    /// Each partition appends all the time; whatever waits shares a sync.
    Hot(Cell),
    /// Small appends arrive at a fixed pace for partitions taken at random.
    Paced(Cell),
    /// Whether each design sends the device a flush in every commit, on rewritten blocks.
    Flushes(Cell),
    /// Grows files, writes and syncs some; for the check after a power loss.
    Leave(Cell),
    /// Checks what `leave` synced.
    Check(Cell),
    /// Prints the lines of JSON of a run as tables.
    Table { file: PathBuf },
}

#[derive(Parser)]
#[command(about = "Measures one cell of kernel-notes/sync.md and prints it as a line of JSON")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// What a cell measured.
struct Figures {
    /// Each acknowledgement's latency in microseconds.
    latencies_us: Vec<u64>,
    bytes: u64,
    used: Used,
}

fn main() -> Result<()> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .ring_depth(256)
        .io_memory(4 << 20)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(2))
        .make()?;
    executor.run(async {
        glommio::spawn_local(stay_awake()).detach();
        match Arguments::parse().what {
            What::Rounds(cell) => print("rounds", &cell, commit::measure(&cell).await?),
            What::Hot(cell) => print("hot", &cell, hot::measure(&cell).await?),
            What::Paced(cell) => print("paced", &cell, paced::measure(&cell).await?),
            What::Flushes(cell) => semantics::flushes(&cell).await?,
            What::Leave(cell) => semantics::leave(&cell).await?,
            What::Check(cell) => semantics::check(&cell)?,
            What::Table { file } => table::print(&file)?,
        }
        Ok(())
    })
}

/// An executor of glommio-ng 0.12 that is preempted before it ran anything parks although tasks
/// are runnable. This bounds that sleep, which otherwise nothing here would end.
async fn stay_awake() {
    loop {
        glommio::timer::sleep(Duration::from_millis(100)).await;
    }
}

fn print(what: &str, cell: &Cell, mut figures: Figures) {
    figures.latencies_us.sort_unstable();
    let at = |share: f64| {
        let last = figures.latencies_us.len() - 1;
        figures.latencies_us[(last as f64 * share).round() as usize] as f64 / 1000.0
    };
    let load = match (what, cell.noise_mib) {
        ("paced", 0) => format!("{} appends/s", cell.rate),
        ("hot", 0) if cell.step_kib > 0 => {
            format!(
                "{} in flight each steps of {} KiB",
                cell.lanes, cell.step_kib
            )
        }
        ("hot", 0) => format!("{} in flight each", cell.lanes),
        (_, 0) => String::new(),
        (_, noise) => format!("beside {noise} MiB/s buffered"),
    };
    let used = &figures.used;
    let gib = figures.bytes as f64 / f64::from(1 << 30);
    println!(
        "{{\"what\":\"{what}\",\"design\":\"{:?}\",\"blocks\":\"{:?}\",\"partitions\":{},\
         \"bytes\":{},\"load\":\"{load}\",\"in_flight\":{},\"acks\":{},\"p50_ms\":{:.3},\
         \"p99_ms\":{:.3},\"max_ms\":{:.3},\"mb_s\":{:.1},\"cpu_s_gib\":{:.3},\
         \"kernel_s_gib\":{:.3},\"written_ratio\":{:.2},\"flushes\":{},\"seconds\":{:.2}}}",
        cell.design,
        cell.blocks,
        cell.partitions,
        cell.bytes,
        cell.in_flight,
        figures.latencies_us.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        figures.bytes as f64 / 1e6 / used.seconds,
        used.process_cpu_s / gib,
        used.kernel_cpu_s / gib,
        used.device_bytes as f64 / figures.bytes as f64,
        used.device_flushes,
        used.seconds,
    );
}

/// A meter of the cell's device.
fn meter(cell: &Cell) -> Result<Meter> {
    Meter::start(&cell.device)
}
