//! The experiments behind the pages of `kernel-notes/`: a subcommand prints the tables of a page.
//! It decides nothing; the pages do. `kernel-notes/run PAGE` builds it and runs it.
//!
//! A row is measured `--rounds` times, all rows in turn, after a first round that is thrown away;
//! the tables show medians, with the lowest and the highest beside.

mod blocks;
mod buffers;
mod connections;
mod durable;
mod executor;
mod flood;
mod kernel_threads;
mod measure;
mod memory;
mod pace;
mod page_cache;
mod parking;
mod partitions;
mod pinning;
mod ring;
mod rings;
mod sending;
mod sockets;
mod system;
mod tcp;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, Subcommand};

/// What an experiment can fail with.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

#[derive(Parser)]
#[command(about = "Measures what a page of kernel-notes/ decides on")]
struct Arguments {
    #[command(subcommand)]
    page: Subject,
    #[command(flatten)]
    options: Options,
}

#[derive(clap::Args, Clone)]
struct Options {
    /// How often each row is measured.
    #[arg(long, global = true, default_value_t = 5)]
    rounds: usize,
    /// Only rows whose name holds this.
    #[arg(long, global = true, default_value = "")]
    only: String,
    /// A directory on the file system under test, where files are made and removed.
    #[arg(long, global = true, default_value = "target")]
    dir: PathBuf,
}

#[derive(Subcommand, Clone, Copy)]
enum Subject {
    /// Registered buffers, locked memory and huge pages: buffers.md.
    Buffers,
    /// How much an ordinary user may register, one line a kind of memory: buffers.md.
    Memlock,
    /// Sending from memory, from files and without a copy: sending.md.
    Sending,
    /// Socket buffers, the size of a receive, NODELAY and busy polling: sockets.md.
    Sockets,
    /// A ring's flags and its depth: rings.md.
    Rings,
    /// Spinning before sleeping: parking.md.
    Parking,
    /// The size of writes, their number in flight, the partial block: blocks.md.
    Blocks,
    /// Fresh and recycled blocks on the file system at hand: preallocation.md.
    Durable,
    /// Durable writes at the pace of one client: pace.md.
    Pace,
    /// Durable writes of eight clients, as fast as they go: flood.md.
    Flood,
    /// Direct and buffered writes and reads, readahead: page-cache.md.
    PageCache,
    /// SO_REUSEPORT, and requests for another shard: connections.md.
    Connections,
    /// On which CPU who stands: pinning.md.
    Pinning,
    /// Open files by the thousand: partitions.md.
    Partitions,
}

fn main() -> Result<()> {
    let Arguments { page, options } = Arguments::parse();
    let began = Instant::now();
    match page {
        Subject::Buffers => buffers::measure(&options),
        Subject::Memlock => buffers::memlock(),
        Subject::Sending => sending::measure(&options),
        Subject::Sockets => sockets::measure(&options),
        Subject::Rings => rings::measure(&options),
        Subject::Parking => parking::measure(&options),
        Subject::Blocks => blocks::measure(&options),
        Subject::Durable => durable::measure(&options),
        Subject::Pace => pace::measure(&options),
        Subject::Flood => flood::measure(&options),
        Subject::PageCache => page_cache::measure(&options),
        Subject::Connections => connections::measure(&options),
        Subject::Pinning => pinning::measure(&options),
        Subject::Partitions => partitions::measure(&options),
    }?;
    println!("\n{} s", began.elapsed().as_secs());
    Ok(())
}
