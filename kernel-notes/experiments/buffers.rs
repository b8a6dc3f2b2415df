//! The page `buffers.md`: what pinning a buffer's pages costs a direct read or write, what
//! registration saves, what huge pages change, and how much may be registered.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Instant;

use io_uring::IoUring;

use crate::measure::{Meter, Table, gib, percentile_us, pin};
use crate::memory::{self, Memory, Pages};
use crate::ring::{self, Load, Operation, Registered, Scratch};
use crate::{KIB, MIB, Options, Result};

const FILE_BYTES: usize = 128 * MIB;
/// Fits into the 8 MiB that an ordinary user may lock.
const REGISTERED_BYTES: usize = 4 * MIB;
const IN_FLIGHT: usize = 4;
const FILLED_BYTES: usize = 512 * MIB;

pub fn measure(options: &Options) -> Result<()> {
    pin(0)?;
    for (title, operations, flags) in [
        (
            "direct write, O_DSYNC",
            [Operation::Write, Operation::WriteFixed],
            libc::O_DIRECT | libc::O_DSYNC,
        ),
        (
            "direct write, not synced",
            [Operation::Write, Operation::WriteFixed],
            libc::O_DIRECT,
        ),
        (
            "direct read",
            [Operation::Read, Operation::ReadFixed],
            libc::O_DIRECT,
        ),
    ] {
        disk(options, title, operations, flags)?;
    }
    registration(options)?;
    filling(options);
    first_touches()
}

/// How long it takes to write the first byte of each page of 2 MiB: of memory that nobody has
/// had for a while, and of memory that was given back a moment ago.
fn first_touches() -> Result<()> {
    const CHUNKS: usize = 200;
    println!("\n| {CHUNKS} times 2 MiB, touched for the first time | p50 µs | p99 µs |");
    println!("|---|---|---|");
    for pages in [Pages::Huge, Pages::Small] {
        for since in ["for the first time here", "given back a moment ago"] {
            let mut held = Vec::with_capacity(CHUNKS);
            let mut took_ns = Vec::with_capacity(CHUNKS);
            for _ in 0..CHUNKS {
                let mut memory = Memory::untouched(2 * MIB, pages)?;
                let began = Instant::now();
                for page in memory.as_mut_slice().chunks_exact_mut(4 * KIB) {
                    page[0] = 1;
                }
                took_ns.push(u64::try_from(began.elapsed().as_nanos())?);
                held.push(memory);
            }
            let (p50, p99) = (
                percentile_us(&mut took_ns, 0.5),
                percentile_us(&mut took_ns, 0.99),
            );
            println!("| {}, {since} | {p50:.0} | {p99:.0} |", pages.name());
        }
    }
    Ok(())
}

fn disk(options: &Options, title: &str, operations: [Operation; 2], flags: i32) -> Result<()> {
    let scratch = Scratch::written(&options.dir, "buffers", FILE_BYTES)?;
    let file = scratch.open(flags)?;
    let columns = ["CPU s/GiB", "kernel threads s/GiB", "MB/s", "p50 µs"];
    let mut table = Table::new(title, &columns);
    for (unit, count) in [(16, 3072), (64, 1536), (256, 1024), (1024, 384)] {
        for operation in operations {
            for pages in [Pages::Small, Pages::Huge] {
                let mut registered = Registered::new(REGISTERED_BYTES, pages)?;
                let file = &file;
                let name = format!("{unit} KiB, {operation:?}, {}", pages.name());
                table.row(name, move || {
                    let load = Load {
                        operation,
                        file,
                        file_bytes: FILE_BYTES,
                        memory: &registered.memory,
                        unit: unit * KIB,
                        in_flight: IN_FLIGHT,
                        count,
                    };
                    let meter = Meter::start()?;
                    let mut latencies_ns = ring::run(&mut registered.ring, &load)?;
                    let used = meter.stop()?;
                    let bytes = unit * KIB * count;
                    Ok(vec![
                        used.process / gib(bytes),
                        used.kernel_threads / gib(bytes),
                        bytes as f64 / 1e6 / used.wall,
                        percentile_us(&mut latencies_ns, 0.5),
                    ])
                });
            }
        }
    }
    table.print(options);
    Ok(())
}

/// What it costs to pin and to give back: the price that each unregistered operation pays by the
/// page, here for all of a memory at once.
fn registration(options: &Options) -> Result<()> {
    let mut table = Table::new("register and give back", &["µs a MiB"]);
    let before = memory::huge_bytes_of_process()?;
    let units: Vec<_> = (0..64).map(|_| Allocated::new(MIB)).map(touched).collect();
    println!(
        "\nthe broker's allocator: {} of {} MiB in huge pages",
        (memory::huge_bytes_of_process()? - before) / MIB,
        units.len()
    );
    drop(units);
    for pages in [Pages::Small, Pages::Huge] {
        let memory = Memory::new(8 * MIB, pages)?;
        println!(
            "\n{}: {} of {} MiB in huge pages",
            pages.name(),
            memory.huge_bytes()? / MIB,
            memory.len() / MIB
        );
        table.row(pages.name(), move || {
            let ring = IoUring::new(8)?;
            let turns = 20;
            let began = Instant::now();
            for _ in 0..turns {
                // SAFETY: given back below; the ring does nothing else.
                unsafe { ring::register(&ring, &memory) }?;
                ring.submitter().unregister_buffers()?;
            }
            let micros = began.elapsed().as_secs_f64() * 1e6;
            Ok(vec![
                micros / f64::from(turns) / (memory.len() / MIB) as f64,
            ])
        });
    }
    table.print(options);
    Ok(())
}

/// Where the units of a tail come from: kept and filled again, or made anew each time.
fn filling(options: &Options) {
    let source = vec![1_u8; MIB];
    let mut table = Table::new(
        "filling units of 1 MiB",
        &["CPU s/GiB", "page faults a MiB"],
    );
    for pages in [Pages::Small, Pages::Huge] {
        for kept in [4 * MIB, 256 * MIB] {
            let source = &source;
            let mut memory = None;
            let name = format!("{} MiB of {}, filled again", kept / MIB, pages.name());
            table.row(name, move || {
                let memory = match &mut memory {
                    Some(memory) => memory,
                    none => none.insert(Memory::new(kept, pages)?),
                };
                filled(|turn| {
                    let at = turn * MIB % kept;
                    memory.as_mut_slice()[at..at + MIB].copy_from_slice(source);
                    Ok(())
                })
            });
        }
        let source = &source;
        table.row(
            format!("mapped and unmapped each time, {}", pages.name()),
            move || {
                filled(|_| {
                    // Two units in a mapping: else a huge page would be half unused.
                    let mut memory = Memory::untouched(2 * MIB, pages)?;
                    for half in memory.as_mut_slice().chunks_exact_mut(MIB) {
                        half.copy_from_slice(source);
                    }
                    std::hint::black_box(memory.as_slice());
                    Ok(())
                })
                .map(|figures| figures.iter().map(|figure| figure / 2.0).collect())
            },
        );
    }
    for kept in [4, 64] {
        let source = &source;
        let mut units = Vec::new();
        table.row(
            format!("the broker's allocator, {kept} units live"),
            move || {
                filled(|turn| {
                    if units.len() < kept {
                        units.resize_with(kept, || None);
                    }
                    let slot = &mut units[turn % kept];
                    *slot = None;
                    slot.insert(Allocated::new(MIB))
                        .as_mut_slice()
                        .copy_from_slice(source);
                    Ok(())
                })
            },
        );
    }
    table.print(options);
}

fn filled(mut fill: impl FnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
    let turns = FILLED_BYTES / MIB;
    let faults = page_faults()?;
    let meter = Meter::start()?;
    for turn in 0..turns {
        fill(turn)?;
    }
    let used = meter.stop()?;
    let faults = (page_faults()? - faults) as f64;
    Ok(vec![
        used.process / gib(FILLED_BYTES),
        faults / turns as f64,
    ])
}

fn page_faults() -> Result<i64> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD)?;
    Ok(usage.minor_page_faults())
}

fn touched(mut unit: Allocated) -> Allocated {
    unit.as_mut_slice().fill(7);
    unit
}

/// A block of the allocator that the broker is built with, aligned as the runtime asks for it.
struct Allocated {
    address: *mut u8,
    layout: Layout,
}

impl Allocated {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, 4096).expect("a power of two");
        // SAFETY: the layout is not empty.
        let address = unsafe { mimalloc::MiMalloc.alloc(layout) };
        assert!(!address.is_null(), "no memory");
        Self { address, layout }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the block is this value's own; what it holds is only overwritten.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.layout.size()) }
    }
}

impl Drop for Allocated {
    fn drop(&mut self) {
        // SAFETY: from the same allocator, with the same layout.
        unsafe { mimalloc::MiMalloc.dealloc(self.address, self.layout) };
    }
}

/// How much this user may register: on one ring, on a second ring with the same memory, and on a
/// second ring that takes over the registration of the first.
pub fn memlock() -> Result<()> {
    let (limit, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK)?;
    // SAFETY: the call only returns a number.
    let user = unsafe { libc::geteuid() };
    println!("user {user}, may lock {} KiB; rings of 256", limit / 1024);
    println!("\n| memory | one ring, MiB | the same with three | with three, two of them cloned |");
    println!("|---|---|---|---|");
    for (name, pages, offset) in [
        ("4 KiB pages", Pages::Small, 0),
        ("huge pages", Pages::Huge, 0),
        (
            "huge pages, 512 KiB off their start",
            Pages::Huge,
            512 * KIB,
        ),
    ] {
        let memory = Memory::new(32 * MIB + offset, pages)?;
        let part = |bytes: usize| &memory.as_slice()[offset..offset + bytes];
        let one = most(1, |rings, bytes| register(&rings[0], part(bytes)))?;
        let three = most(3, |rings, bytes| {
            rings
                .iter()
                .try_for_each(|ring| register(ring, part(bytes)))
        })?;
        let cloned = most(3, |rings, bytes| {
            register(&rings[0], part(bytes))?;
            let first = rings[0].as_raw_fd();
            rings[1..]
                .iter()
                .try_for_each(|ring| ring.submitter().register_buffers_clone(first))
        })?;
        println!("| {name} | {one:.2} | {three:.2} | {cloned:.2} |");
    }
    Ok(())
}

fn register(ring: &IoUring, part: &[u8]) -> io::Result<()> {
    let buffer = libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    };
    // SAFETY: the ring does no operation, and `most` gives back what was registered.
    unsafe { ring.submitter().register_buffers(&[buffer]) }
}

/// The most MiB, in steps of a quarter, that `register` takes on so many rings; up to 32.
fn most(count: usize, register: impl Fn(&[IoUring], usize) -> io::Result<()>) -> Result<f64> {
    let rings: Vec<_> = (0..count)
        .map(|_| IoUring::new(256))
        .collect::<io::Result<_>>()?;
    let mut most = 0;
    for bytes in (1..=32 * 4).map(|step| step * 256 * KIB) {
        let registered = register(&rings, bytes);
        for ring in rings.iter().rev() {
            // It has none where registering failed.
            let _none = ring.submitter().unregister_buffers();
        }
        if registered.is_err() {
            break;
        }
        most = bytes;
    }
    Ok(most as f64 / MIB as f64)
}
