//! The part of `preallocation.md` that is of the file system at hand, without an image and without
//! a privilege: fresh and recycled blocks, with `O_DSYNC`, with fdatasync, and unsynced.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use crate::measure::{Meter, Table, gib, percentile_us, pin};
use crate::memory::{Memory, Pages};
use crate::ring::Scratch;
use crate::system::checked;
use crate::tcp::HERE;
use crate::{KIB, MIB, Options, Result};

/// What lies where a log is appended to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blocks {
    /// Nothing: each write makes the file longer.
    Extending,
    /// Preallocated beyond the file's size.
    Keep,
    /// Preallocated with size, never written.
    Fresh,
    /// As fresh, but a write that comes to blocks that were never written has zeros behind it:
    /// eight times as many bytes, no more than [`ZEROS_MAX`], nor than were written before.
    Ahead,
    /// Written before, as a recycled segment's are.
    Written,
}

const ZEROS_MAX: usize = 512 * KIB;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sync {
    Never,
    Dsync,
    Fdatasync,
}

pub fn measure(options: &Options) -> Result<()> {
    pin(HERE)?;
    for (unit, count) in [(4, 500), (64, 400), (256, 250), (1024, 100)] {
        let title = format!("writes of {unit} KiB, one after the other");
        let columns = [
            "CPU s/GiB",
            "kernel threads s/GiB",
            "MB/s",
            "p50 µs",
            "p99 µs",
        ];
        let mut table = Table::new(&title, &columns);
        for blocks in [
            Blocks::Extending,
            Blocks::Keep,
            Blocks::Fresh,
            Blocks::Ahead,
            Blocks::Written,
        ] {
            for sync in [Sync::Dsync, Sync::Fdatasync, Sync::Never] {
                table.row(format!("{blocks:?}, {sync:?}"), move || {
                    appended(options, unit * KIB, count, blocks, sync)
                });
            }
        }
        table.print(options);
    }
    Ok(())
}

fn appended(
    options: &Options,
    unit: usize,
    count: usize,
    blocks: Blocks,
    sync: Sync,
) -> Result<Vec<f64>> {
    let bytes = unit * count;
    let scratch = match blocks {
        Blocks::Written => Scratch::written(&options.dir, "durable", bytes.next_multiple_of(MIB))?,
        _ => Scratch::empty(&options.dir, "durable")?,
    };
    let dsync = if sync == Sync::Dsync {
        libc::O_DSYNC
    } else {
        0
    };
    let file = scratch.open(libc::O_DIRECT | dsync)?;
    match blocks {
        Blocks::Keep => preallocate(&file, bytes, libc::FALLOC_FL_KEEP_SIZE)?,
        Blocks::Fresh | Blocks::Ahead => preallocate(&file, bytes + ZEROS_MAX, 0)?,
        Blocks::Extending | Blocks::Written => {}
    }
    file.sync_all()?;
    let memory = Memory::new(unit + ZEROS_MAX, Pages::Huge)?;
    let mut written_to = 0;
    let mut latencies_ns = Vec::with_capacity(count);
    let meter = Meter::start()?;
    for turn in 0..count {
        let began = Instant::now();
        let (begin, end) = (turn * unit, turn * unit + unit);
        let mut zeros = 0;
        if blocks == Blocks::Ahead && end > written_to {
            zeros = (8 * unit).min(ZEROS_MAX).min(end);
            written_to = end + zeros;
        }
        file.write_all_at(&memory.as_slice()[..unit + zeros], begin as u64)?;
        if sync == Sync::Fdatasync {
            file.sync_data()?;
        }
        latencies_ns.push(began.elapsed().as_nanos() as u64);
    }
    let used = meter.stop()?;
    Ok(vec![
        used.process / gib(bytes),
        used.kernel_threads / gib(bytes),
        bytes as f64 / 1e6 / used.wall,
        percentile_us(&mut latencies_ns, 0.5),
        percentile_us(&mut latencies_ns, 0.99),
    ])
}

pub fn preallocate(file: &File, bytes: usize, mode: i32) -> Result<()> {
    // SAFETY: the call takes no pointer.
    let done = unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, bytes as libc::off_t) };
    checked(done as isize)?;
    Ok(())
}
