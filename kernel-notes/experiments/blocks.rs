//! The page `blocks.md`: how large a write should be, how many in flight, and what becomes of the
//! block in which the log ends.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use io_uring::IoUring;

use crate::measure::{Meter, Table, gib, percentile_us, pin};
use crate::memory::{Memory, Pages};
use crate::ring::{self, Load, Operation, Scratch};
use crate::tcp::HERE;
use crate::{KIB, MIB, Options, Result};

const FILE_BYTES: usize = 64 * MIB;
const APPENDS: usize = 1500;

pub fn measure(options: &Options) -> Result<()> {
    pin(HERE)?;
    sizes(options)?;
    partial(options)
}

fn sizes(options: &Options) -> Result<()> {
    let scratch = Scratch::written(&options.dir, "blocks", FILE_BYTES)?;
    let file = scratch.open(libc::O_DIRECT | libc::O_DSYNC)?;
    let memory = Memory::new(32 * MIB, Pages::Huge)?;
    for in_flight in [1, 2, 4, 8] {
        let title = format!("O_DSYNC, {in_flight} in flight");
        let columns = [
            "CPU s/GiB",
            "kernel threads s/GiB",
            "MB/s",
            "p50 µs",
            "p99 µs",
        ];
        let mut table = Table::new(&title, &columns);
        for (unit, count) in [
            (4, 1000),
            (16, 800),
            (64, 600),
            (256, 400),
            (1024, 200),
            (4096, 60),
        ] {
            let (file, memory) = (&file, &memory);
            table.row(format!("{unit} KiB"), move || {
                let mut ring = IoUring::new(64)?;
                let load = Load {
                    operation: Operation::Write,
                    file,
                    file_bytes: FILE_BYTES,
                    memory,
                    unit: unit * KIB,
                    in_flight,
                    count,
                };
                let meter = Meter::start()?;
                let mut latencies_ns = ring::run(&mut ring, &load)?;
                let used = meter.stop()?;
                let bytes = unit * KIB * count;
                Ok(vec![
                    used.process / gib(bytes),
                    used.kernel_threads / gib(bytes),
                    bytes as f64 / 1e6 / used.wall,
                    percentile_us(&mut latencies_ns, 0.5),
                    percentile_us(&mut latencies_ns, 0.99),
                ])
            });
        }
        table.print(options);
    }
    Ok(())
}

/// What an append does about the block in which the one before ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Partial {
    /// Writes it again, with what is new.
    Rewrite,
    /// Leaves it half empty and begins the next.
    Pad,
}

fn partial(options: &Options) -> Result<()> {
    let scratch = Scratch::written(&options.dir, "partial", FILE_BYTES)?;
    let file = scratch.open(libc::O_DIRECT | libc::O_DSYNC)?;
    for append in [100, 1024] {
        let title = format!("one append of {append} bytes after the other, durable");
        let columns = ["p50 µs", "p99 µs", "CPU µs", "bytes written for each"];
        let mut table = Table::new(&title, &columns);
        for (name, block, partial) in [
            (
                "blocks of 4 KiB, the last one rewritten",
                4096,
                Partial::Rewrite,
            ),
            (
                "blocks of 512 bytes, the last one rewritten",
                512,
                Partial::Rewrite,
            ),
            ("blocks of 4 KiB, padded", 4096, Partial::Pad),
            ("blocks of 512 bytes, padded", 512, Partial::Pad),
        ] {
            let file = &file;
            table.row(name, move || appended(file, append, block, partial));
        }
        table.print(options);
    }
    Ok(())
}

fn appended(file: &File, append: usize, block: usize, partial: Partial) -> Result<Vec<f64>> {
    let memory = Memory::new(MIB, Pages::Small)?;
    let (mut end, mut written) = (0, 0);
    let mut latencies_ns = Vec::with_capacity(APPENDS);
    let meter = Meter::start()?;
    for _ in 0..APPENDS {
        let from = end / block * block;
        end += append;
        let to = end.next_multiple_of(block);
        let began = Instant::now();
        file.write_all_at(&memory.as_slice()[..to - from], from as u64)?;
        latencies_ns.push(began.elapsed().as_nanos() as u64);
        written += to - from;
        if partial == Partial::Pad {
            end = to;
        }
    }
    let used = meter.stop()?;
    Ok(vec![
        percentile_us(&mut latencies_ns, 0.5),
        percentile_us(&mut latencies_ns, 0.99),
        used.process * 1e6 / APPENDS as f64,
        written as f64 / (APPENDS * append) as f64,
    ])
}
