//! The page `sending.md`: what a byte costs its sender, from memory, from a file's cached pages,
//! and by the calls that promise not to copy.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use io_uring::{IoUring, cqueue, opcode, types};

use crate::measure::{Table, gib, pin};
use crate::memory::{Memory, Pages};
use crate::ring::{Registered, Scratch, queue};
use crate::system::{checked, set_option};
use crate::tcp::{self, HERE, Wait};
use crate::{KIB, MIB, Options, Result};

/// Twice the last level cache of the machine of the page: what is sent was written a while ago.
const SOURCE_BYTES: usize = 64 * MIB;
const SENT_BYTES: usize = 384 * MIB;
/// SO_EE_CODE_ZEROCOPY_COPIED of linux/errqueue.h.
const ZEROCOPY_COPIED: u8 = 1;
const COLUMNS: [&str; 2] = ["sender s/GiB", "MB/s"];
const BOTH_COLUMNS: [&str; 3] = ["sender s/GiB", "MB/s", "receiver s/GiB"];

pub fn measure(options: &Options) -> Result<()> {
    pin(HERE)?;
    println!("huge pages of shared memory: {}", setting("shmem_enabled"));
    let sources = Sources::new(options)?;
    for chunk in [64 * KIB, 256 * KIB, MIB] {
        let name = format!("chunks of {} KiB", chunk / KIB);
        sources.measure(options, &name, chunk, SOURCE_BYTES, Wait::Spinning)?;
    }
    let chunk = 256 * KIB;
    let name = "256 KiB, from the processor's cache";
    sources.measure(options, name, chunk, MIB, Wait::Spinning)?;
    let name = "256 KiB, to a receiver that sleeps";
    sources.measure(options, name, chunk, SOURCE_BYTES, Wait::Sleeping)?;
    copied()?;
    units(options)
}

fn setting(name: &str) -> String {
    let path = format!("/sys/kernel/mm/transparent_hugepage/{name}");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let chosen = text.split(['[', ']']).nth(1);
    chosen.unwrap_or("unknown").to_owned()
}

fn figures(sent: &tcp::Sent) -> Vec<f64> {
    vec![
        sent.sender / gib(SENT_BYTES),
        SENT_BYTES as f64 / 1e6 / sent.wall,
    ]
}

type Send<'a> = Box<dyn Fn(&TcpStream, usize, usize) -> Result<()> + 'a>;

/// Where bytes are sent from.
struct Sources {
    small: Memory,
    huge: Memory,
    memfd: File,
    huge_memfd: Option<File>,
    scratch: Scratch,
}

impl Sources {
    fn new(options: &Options) -> Result<Self> {
        let memfd = memfd(0)?;
        memfd.set_len(SOURCE_BYTES as u64)?;
        Memory::of_file(memfd.as_fd(), SOURCE_BYTES)?
            .as_mut_slice()
            .fill(7);
        Ok(Self {
            small: Memory::new(SOURCE_BYTES, Pages::Small)?,
            huge: Memory::new(SOURCE_BYTES, Pages::Huge)?,
            memfd,
            huge_memfd: huge_memfd(),
            scratch: Scratch::written(&options.dir, "sending", SOURCE_BYTES)?,
        })
    }

    /// A table of all ways to send, from the first `span` bytes of each source.
    fn measure(
        &self,
        options: &Options,
        name: &str,
        chunk: usize,
        span: usize,
        wait: Wait,
    ) -> Result<()> {
        let columns = match wait {
            Wait::Spinning => &COLUMNS[..],
            Wait::Sleeping => &BOTH_COLUMNS[..],
        };
        let mut table = Table::new(name, columns);
        for (name, send) in self.ways()? {
            let is_plain = ["send", "MSG_ZEROCOPY"]
                .iter()
                .any(|plain| name.starts_with(plain));
            if !is_plain && (span < SOURCE_BYTES || wait == Wait::Sleeping) {
                continue;
            }
            table.row(name, move || {
                let sent = tcp::send(SENT_BYTES, wait, |socket| {
                    (0..SENT_BYTES / chunk)
                        .try_for_each(|turn| send(socket, turn * chunk % span, chunk))
                })?;
                let mut figures = figures(&sent);
                if wait == Wait::Sleeping {
                    figures.push(sent.receiver / gib(SENT_BYTES));
                }
                Ok(figures)
            });
        }
        table.print(options);
        Ok(())
    }

    fn ways(&self) -> Result<Vec<(&'static str, Send<'_>)>> {
        let file = self.scratch.open(0)?;
        std::io::copy(&mut &file, &mut std::io::sink())?;
        let piece = |at: usize, bytes: usize| at..at + bytes;
        let mut ways: Vec<(&'static str, Send<'_>)> = Vec::new();
        for (memory, names) in [
            (
                &self.small,
                ["send, 4 KiB pages", "MSG_ZEROCOPY, 4 KiB pages"],
            ),
            (&self.huge, ["send, huge pages", "MSG_ZEROCOPY, huge pages"]),
        ] {
            ways.push((
                names[0],
                Box::new(move |socket, at, bytes| {
                    send_all(socket, &memory.as_slice()[piece(at, bytes)], 0)
                }),
            ));
            ways.push((
                names[1],
                Box::new(move |socket, at, bytes| {
                    zero_copy(socket, &memory.as_slice()[piece(at, bytes)]).map(drop)
                }),
            ));
        }
        ways.extend(self.by_ring()?);
        ways.push((
            "sendfile, memfd",
            Box::new(|to, at, bytes| sendfile(to, &self.memfd, at, bytes)),
        ));
        if let Some(memfd) = &self.huge_memfd {
            ways.push((
                "sendfile, memfd of huge pages",
                Box::new(move |to, at, bytes| sendfile(to, memfd, at, bytes)),
            ));
        }
        ways.push((
            "sendfile, cached file",
            Box::new(move |to, at, bytes| sendfile(to, &file, at, bytes)),
        ));
        let pipe = Pipe::new()?;
        ways.push((
            "splice, memfd",
            Box::new(move |socket, at, bytes| pipe.splice(socket, &self.memfd, at, bytes)),
        ));
        for (memory, name) in [
            (&self.small, "vmsplice, 4 KiB pages"),
            (&self.huge, "vmsplice, huge pages"),
        ] {
            let pipe = Pipe::new()?;
            ways.push((
                name,
                Box::new(move |socket, at, bytes| {
                    pipe.vmsplice(socket, &memory.as_slice()[piece(at, bytes)])
                }),
            ));
        }
        Ok(ways)
    }

    /// By io_uring: each chunk's operation is awaited, as a connection that keeps its order must.
    fn by_ring(&self) -> Result<Vec<(&'static str, Send<'_>)>> {
        let mut ways: Vec<(&'static str, Send<'_>)> = Vec::new();
        for (name, zero_copy, fixed) in [
            ("io_uring SEND, huge pages", false, false),
            ("io_uring SEND_ZC, huge pages", true, false),
            ("io_uring SEND_ZC, registered huge pages", true, true),
        ] {
            let registered = std::cell::RefCell::new(Registered::new(SOURCE_BYTES, Pages::Huge)?);
            ways.push((
                name,
                Box::new(move |socket, at, bytes| {
                    let Registered { ring, memory } = &mut *registered.borrow_mut();
                    send_by_ring(
                        ring,
                        socket,
                        &memory.as_slice()[at..at + bytes],
                        zero_copy,
                        fixed,
                    )
                }),
            ));
        }
        Ok(ways)
    }
}

fn memfd(flags: libc::c_uint) -> io::Result<File> {
    // SAFETY: the name is a string that ends with a zero, and is copied.
    let fd = unsafe { libc::memfd_create(c"kernel-notes".as_ptr(), flags | libc::MFD_CLOEXEC) };
    match fd {
        ..0 => Err(io::Error::last_os_error()),
        // SAFETY: a descriptor just made, which nobody else has.
        _ => Ok(unsafe { File::from_raw_fd(fd) }),
    }
}

/// A memfd in huge pages, if the machine's settings give any: by `shmem_enabled`, or reserved ones.
fn huge_memfd() -> Option<File> {
    for flags in [0, libc::MFD_HUGETLB] {
        let file = memfd(flags).ok()?;
        file.set_len(SOURCE_BYTES as u64).ok()?;
        if flags == libc::MFD_HUGETLB && !has_reserved(SOURCE_BYTES) {
            println!("no huge pages are reserved for a memfd");
            return None;
        }
        let mut memory = Memory::of_file(file.as_fd(), SOURCE_BYTES).ok()?;
        memory.as_mut_slice().fill(7);
        if flags == libc::MFD_HUGETLB || memory.huge_bytes().ok()? == SOURCE_BYTES {
            let kind = if flags == 0 {
                "transparent"
            } else {
                "reserved"
            };
            println!("the memfd of huge pages has {kind} ones");
            return Some(file);
        }
    }
    None
}

fn has_reserved(bytes: usize) -> bool {
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let free = std::fs::read_to_string(path).unwrap_or_default();
    free.trim()
        .parse::<usize>()
        .is_ok_and(|pages| pages * 2 * MIB >= bytes)
}

fn send_all(socket: &TcpStream, mut bytes: &[u8], flags: i32) -> Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the call reads the slice, which outlives it; MSG_ZEROCOPY is not among the flags
        // of any caller whose slice does not outlive the connection's use of it.
        let sent = unsafe {
            libc::send(
                socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                flags,
            )
        };
        bytes = &bytes[checked(sent)?..];
    }
    Ok(())
}

/// Sends with MSG_ZEROCOPY and takes the notifications that have come; how many calls the kernel
/// says it copied after all. The memory of the callers lives, unchanged, for the whole experiment.
fn zero_copy(socket: &TcpStream, bytes: &[u8]) -> Result<u32> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
    send_all(socket, bytes, libc::MSG_ZEROCOPY)?;
    let mut copied = 0;
    while let Some(calls) = notification(socket.as_raw_fd())? {
        copied += calls;
    }
    Ok(copied)
}

/// The next notification: how many calls it says were copied.
fn notification(socket: RawFd) -> Result<Option<u32>> {
    let mut control = [0_u64; 16];
    // SAFETY: plain numbers and pointers, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control);
    // SAFETY: the message points to the buffer above, with its length.
    let received = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_ERRQUEUE) };
    match checked(received) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    // SAFETY: the kernel filled the buffer; what it says is that a first header is there or not.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return Ok(Some(0));
    }
    // SAFETY: on such a socket the header is followed by this structure.
    let error =
        unsafe { ptr::read_unaligned(libc::CMSG_DATA(header).cast::<libc::sock_extended_err>()) };
    let calls = error.ee_data.wrapping_sub(error.ee_info) + 1;
    let was_copied = error.ee_code & ZEROCOPY_COPIED != 0;
    Ok(Some(if was_copied { calls } else { 0 }))
}

fn send_by_ring(
    ring: &mut IoUring,
    socket: &TcpStream,
    bytes: &[u8],
    zero_copy: bool,
    fixed: bool,
) -> Result<()> {
    let fd = types::Fd(socket.as_raw_fd());
    let (address, length) = (bytes.as_ptr(), bytes.len() as u32);
    let entry = match zero_copy {
        false => opcode::Send::new(fd, address, length)
            .flags(libc::MSG_WAITALL)
            .build(),
        true => opcode::SendZc::new(fd, address, length)
            .flags(libc::MSG_WAITALL)
            .buf_index(fixed.then_some(0))
            .build(),
    };
    // SAFETY: the memory is the registered one, which outlives the ring and is never changed.
    unsafe { queue(ring, entry) }?;
    // The result is awaited here, the notification that the bytes are no longer used is not.
    let mut has_result = false;
    while !has_result {
        ring.submit_and_wait(1)?;
        for end in ring.completion() {
            if !cqueue::notif(end.flags()) {
                has_result = true;
                if end.result() != length as i32 {
                    return Err(format!("sent {} of {length}", end.result()).into());
                }
            }
        }
    }
    Ok(())
}

fn sendfile(socket: &TcpStream, file: &File, at: usize, bytes: usize) -> Result<()> {
    let (mut from, end) = (at as libc::off_t, (at + bytes) as libc::off_t);
    while from < end {
        // SAFETY: the offset outlives the call.
        let sent = unsafe {
            libc::sendfile(
                socket.as_raw_fd(),
                file.as_raw_fd(),
                &raw mut from,
                (end - from) as usize,
            )
        };
        if checked(sent)? == 0 {
            return Err("the file is short".into());
        }
    }
    Ok(())
}

struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    fn new() -> Result<Self> {
        let (out, into) = nix::unistd::pipe()?;
        // 1 MiB is what an ordinary user may have.
        nix::fcntl::fcntl(&into, nix::fcntl::FcntlArg::F_SETPIPE_SZ(MIB as i32))?;
        Ok(Self { out, into })
    }

    fn splice(&self, socket: &TcpStream, file: &File, at: usize, bytes: usize) -> Result<()> {
        let (mut from, end) = (at as libc::off64_t, (at + bytes) as libc::off64_t);
        while from < end {
            // SAFETY: the offset outlives the call.
            let moved = unsafe {
                libc::splice(
                    file.as_raw_fd(),
                    &raw mut from,
                    self.into.as_raw_fd(),
                    ptr::null_mut(),
                    (end - from) as usize,
                    0,
                )
            };
            self.empty(socket, checked(moved)?)?;
        }
        Ok(())
    }

    /// The pages go into the socket as they are, so they must not change until the other end has
    /// them. The memory of the callers lives, unchanged, for the whole experiment.
    fn vmsplice(&self, socket: &TcpStream, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let slice = libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            };
            // SAFETY: one slice that outlives the call; the pipe only reads it.
            let moved = unsafe { libc::vmsplice(self.into.as_raw_fd(), &raw const slice, 1, 0) };
            let moved = checked(moved)?;
            self.empty(socket, moved)?;
            bytes = &bytes[moved..];
        }
        Ok(())
    }

    fn empty(&self, socket: &TcpStream, mut bytes: usize) -> Result<()> {
        while bytes > 0 {
            // SAFETY: the call takes no pointer that is not null.
            let moved = unsafe {
                libc::splice(
                    self.out.as_raw_fd(),
                    ptr::null_mut(),
                    socket.as_raw_fd(),
                    ptr::null_mut(),
                    bytes,
                    0,
                )
            };
            bytes -= checked(moved)?;
        }
        Ok(())
    }
}

/// Asks the kernel whether MSG_ZEROCOPY copied after all.
fn copied() -> Result<()> {
    let memory = Memory::new(MIB, Pages::Small)?;
    let (calls, copied) = (64, Cell::new(0));
    tcp::send(calls * MIB, Wait::Spinning, |socket| {
        for _ in 0..calls {
            copied.set(copied.get() + zero_copy(socket, memory.as_slice())?);
        }
        // What is still on its way.
        std::thread::sleep(std::time::Duration::from_millis(50));
        while let Some(more) = notification(socket.as_raw_fd())? {
            copied.set(copied.get() + more);
        }
        Ok(())
    })?;
    println!(
        "\nMSG_ZEROCOPY on the loopback: {} of {calls} or more calls copied",
        copied.get()
    );
    Ok(())
}

/// A tail's unit from beginning to end: 1 MiB is filled, sent once, and its place used again.
fn units(options: &Options) -> Result<()> {
    let source = vec![1_u8; MIB];
    let mut table = Table::new("units of 1 MiB filled, then sent by 256 KiB", &COLUMNS);
    for (name, pages) in [
        ("send, 4 KiB pages", Pages::Small),
        ("send, huge pages", Pages::Huge),
    ] {
        let source = &source;
        let mut memory = Memory::new(SOURCE_BYTES, pages)?;
        table.row(name, move || {
            filled_and_sent(|socket, at| {
                let unit = &mut memory.as_mut_slice()[at..at + MIB];
                unit.copy_from_slice(source);
                unit.chunks(256 * KIB)
                    .try_for_each(|piece| send_all(socket, piece, 0))
            })
        });
    }
    for (name, punch) in [
        (
            "sendfile, memfd, overwritten while it may still be on its way (wrong)",
            false,
        ),
        ("sendfile, memfd, given back by a hole and made anew", true),
    ] {
        let source = &source;
        let file = memfd(0)?;
        file.set_len(SOURCE_BYTES as u64)?;
        let mut memory = Memory::of_file(file.as_fd(), SOURCE_BYTES)?;
        table.row(name, move || {
            filled_and_sent(|socket, at| {
                if punch {
                    hole(&file, at)?;
                }
                memory.as_mut_slice()[at..at + MIB].copy_from_slice(source);
                (0..4).try_for_each(|piece| {
                    sendfile(socket, &file, at + piece * 256 * KIB, 256 * KIB)
                })
            })
        });
    }
    table.print(options);
    Ok(())
}

fn filled_and_sent(mut unit: impl FnMut(&TcpStream, usize) -> Result<()>) -> Result<Vec<f64>> {
    let sent = tcp::send(SENT_BYTES, Wait::Spinning, |socket| {
        (0..SENT_BYTES / MIB).try_for_each(|turn| unit(socket, turn * MIB % SOURCE_BYTES))
    })?;
    Ok(figures(&sent))
}

fn hole(file: &File, at: usize) -> Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the call takes no pointer.
    let punched = unsafe {
        libc::fallocate(
            file.as_raw_fd(),
            mode,
            at as libc::off_t,
            MIB as libc::off_t,
        )
    };
    checked(punched as isize)?;
    Ok(())
}
