//! The page `pinning.md`: what it changes on which CPU the server and the client of small requests
//! stand, and on which a writer stands beside the disk's interrupts.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::connections::served;
use crate::executor::{Owner, Standing};
use crate::measure::{self, Meter, Table, percentile_us};
use crate::memory::{Memory, Pages};
use crate::ring::{self, Load, Operation, Scratch};
use crate::tcp::{HERE, THERE};
use crate::{KIB, MIB, Options, Result};

const FILE_BYTES: usize = 32 * MIB;

pub fn measure(options: &Options) -> Result<()> {
    echoes(options);
    writes(options)
}

fn echoes(options: &Options) {
    for connections in [1, 16] {
        let title = format!("requests of 100 bytes, {connections} connections; the server");
        let columns = ["server µs of CPU", "p50 µs", "p99 µs"];
        let mut table = Table::new(&title, &columns);
        for (name, cpu) in [
            ("alone on CPU 0, the client on CPU 1", Some(HERE)),
            ("on the client's CPU", Some(THERE)),
            ("on no CPU in particular, the client on CPU 1", None),
        ] {
            table.row(name, move || {
                let standing = Standing {
                    cpu,
                    other_cpu: None,
                    spin: Duration::ZERO,
                    owner: Owner::Same,
                };
                served(standing, connections)
            });
        }
        table.print(options);
    }
}

fn writes(options: &Options) -> Result<()> {
    let scratch = Scratch::written(&options.dir, "pinning", FILE_BYTES)?;
    let file = scratch.open(libc::O_DIRECT | libc::O_DSYNC)?;
    let memory = Memory::new(4 * MIB, Pages::Huge)?;
    for (unit, in_flight, count) in [(4, 1, 1500), (256, 4, 1000)] {
        let title = format!("O_DSYNC writes of {unit} KiB, {in_flight} in flight; the writer");
        let columns = [
            "CPU µs",
            "kernel threads µs",
            "p50 µs",
            "p99 µs",
            "interrupts on CPU 0",
            "on CPU 1",
        ];
        let mut table = Table::new(&title, &columns);
        for (name, cpu) in [
            ("on CPU 0", Some(0)),
            ("on CPU 1", Some(1)),
            ("on neither", None),
        ] {
            let (file, memory) = (&file, &memory);
            table.row(name, move || {
                stand(cpu)?;
                // The kernel moves a thread when it next runs.
                thread::yield_now();
                let mut ring = io_uring::IoUring::new(64)?;
                let load = Load {
                    operation: Operation::Write,
                    file,
                    file_bytes: FILE_BYTES,
                    memory,
                    unit: unit * KIB,
                    in_flight,
                    count,
                };
                let interrupts = disk_interrupts()?;
                let meter = Meter::start()?;
                let mut latencies_ns = ring::run(&mut ring, &load)?;
                let used = meter.stop()?;
                let now = disk_interrupts()?;
                let a_write = |cpu: usize| (now[cpu] - interrupts[cpu]) as f64 / count as f64;
                Ok(vec![
                    used.process * 1e6 / count as f64,
                    used.kernel_threads * 1e6 / count as f64,
                    percentile_us(&mut latencies_ns, 0.5),
                    percentile_us(&mut latencies_ns, 0.99),
                    a_write(0),
                    a_write(1),
                ])
            });
        }
        table.print(options);
    }
    stand(None)
}

fn stand(cpu: Option<usize>) -> Result<()> {
    match cpu {
        Some(cpu) => measure::pin(cpu),
        None => {
            let mut cpus = CpuSet::new();
            cpus.set(HERE)?;
            cpus.set(THERE)?;
            Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
        }
    }
}

/// Interrupts of block devices by CPU: of the lines that name a queue of requests.
fn disk_interrupts() -> Result<[u64; 2]> {
    let mut counts = [0; 2];
    for line in fs::read_to_string("/proc/interrupts")?.lines() {
        if line.contains("-req.") || line.contains("nvme") {
            let fields: Vec<_> = line.split_whitespace().collect();
            for (cpu, count) in counts.iter_mut().enumerate() {
                *count += fields
                    .get(cpu + 1)
                    .and_then(|count| count.parse().ok())
                    .unwrap_or(0);
            }
        }
    }
    Ok(counts)
}
