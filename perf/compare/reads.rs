//! What a disk allows to readers: bare direct reads of the same files, and nothing else.
//!
//! The files are gone through once, as one reader would, or as so many that take turns, each with a
//! part of its own. So many threads each have one read in flight, into memory of their own that is
//! a huge page where the kernel gives one: the device's requests are larger then, as they are in a
//! broker that does likewise. Prints MB/s.
//!
//! rustc -O --edition 2024 reads.rs; reads KIB IN-FLIGHT STREAMS FILE...

use std::alloc::{Layout, alloc};
use std::env;
use std::error::Error;
use std::ffi::{c_int, c_void};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

#[cfg(target_arch = "x86_64")]
const O_DIRECT: c_int = 0x4000;
#[cfg(target_arch = "aarch64")]
const O_DIRECT: c_int = 0x10000;
const SEEK_HOLE: c_int = 4;
const MADV_HUGEPAGE: c_int = 14;
const HUGE_PAGE: usize = 2 << 20;

unsafe extern "C" {
    safe fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    safe fn lseek(file: c_int, offset: i64, whence: c_int) -> i64;
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kib, in_flight, streams, paths @ ..] = arguments.as_slice() else {
        return Err("KIB IN-FLIGHT STREAMS FILE...".into());
    };
    let (size, in_flight): (usize, usize) = (kib.parse::<usize>()? << 10, in_flight.parse()?);
    if size == 0 || size > HUGE_PAGE {
        return Err("a read is from 1 to 2048 KiB".into());
    }
    let mut places = Vec::new();
    let open = |path| OpenOptions::new().read(true).custom_flags(O_DIRECT).open(path);
    let files: Vec<File> = paths.iter().map(open).collect::<io::Result<_>>()?;
    for file in &files {
        let length = written(file)?;
        places.extend((0..length).step_by(size).map(|at| (file, at)));
    }
    let places = in_streams(&places, streams.parse()?);
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let read = || -> io::Result<()> {
        let buffer = huge_page(size);
        while let Some((file, at)) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
            bytes.fetch_add(file.read_at(buffer, *at)? as u64, Ordering::Relaxed);
        }
        Ok(())
    };
    let began = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..in_flight).map(|_| scope.spawn(read)).collect();
        let mut ends = threads.into_iter().map(|each| each.join().expect("no panic"));
        ends.try_for_each(|end| end)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    println!("{}", bytes.into_inner() as f64 / 1e6 / seconds);
    Ok(())
}

/// How far a file is written: what it has room for behind that is read without the disk.
fn written(file: &File) -> io::Result<u64> {
    let hole = lseek(file.as_raw_fd(), 0, SEEK_HOLE);
    u64::try_from(hole).map_err(|_| io::Error::last_os_error())
}

/// The same places in the order in which so many readers come to them that take turns, each with a
/// part of its own.
fn in_streams<T: Copy>(places: &[T], streams: usize) -> Vec<T> {
    let bound = |stream| places.len() * stream / streams;
    let parts: Vec<&[T]> = (0..streams).map(|n| &places[bound(n)..bound(n + 1)]).collect();
    let longest = parts.iter().map(|part| part.len()).max().unwrap_or(0);
    let turn = |at| parts.iter().filter_map(move |part| part.get(at));
    (0..longest).flat_map(turn).copied().collect()
}

/// Memory that is a part of a huge page where the kernel gives one; it is never given back.
fn huge_page(size: usize) -> &'static mut [u8] {
    let layout = Layout::from_size_align(HUGE_PAGE, HUGE_PAGE).expect("a layout");
    // SAFETY: the layout has a size.
    let page = unsafe { alloc(layout) };
    assert!(!page.is_null(), "no memory");
    // Before it is touched. Without huge pages it is slower, and no error.
    let _advised = madvise(page.cast(), HUGE_PAGE, MADV_HUGEPAGE);
    // SAFETY: so much was allocated, it is nobody else's, and it is written before it is a slice.
    let page = unsafe {
        page.write_bytes(0, HUGE_PAGE);
        std::slice::from_raw_parts_mut(page, HUGE_PAGE)
    };
    &mut page[..size]
}
