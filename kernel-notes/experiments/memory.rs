//! Memory of which the experiments know by what pages it is backed.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::Result;

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// What backs anonymous memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// Pages of 4 KiB.
    Small,
    /// Transparent huge pages of 2 MiB, asked for by `madvise`.
    Huge,
}

impl Pages {
    pub fn name(self) -> &'static str {
        match self {
            Pages::Small => "4 KiB pages",
            Pages::Huge => "huge pages",
        }
    }
}

/// A mapping, aligned to huge pages, all of it touched.
#[derive(Debug)]
pub struct Memory {
    mapped: *mut libc::c_void,
    mapped_bytes: usize,
    address: *mut u8,
    bytes: usize,
}

// SAFETY: the mapping belongs to no thread; references to its bytes follow the borrow of `Memory`.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub fn new(bytes: usize, pages: Pages) -> Result<Self> {
        let mut memory = Self::untouched(bytes, pages)?;
        memory.as_mut_slice().fill(7);
        Ok(memory)
    }

    /// As `new`, but its pages are made when they are touched.
    pub fn untouched(bytes: usize, pages: Pages) -> Result<Self> {
        let mapped_bytes = bytes.next_multiple_of(HUGE_PAGE_BYTES) + HUGE_PAGE_BYTES;
        // SAFETY: a new private mapping, at an address that the kernel chooses.
        let mapped = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        checked(mapped)?;
        let to_huge = mapped.cast::<u8>().align_offset(HUGE_PAGE_BYTES);
        // SAFETY: the mapping has a huge page more than what is used, so this stays within it.
        let address = unsafe { mapped.cast::<u8>().add(to_huge) };
        let advice = match pages {
            Pages::Small => libc::MADV_NOHUGEPAGE,
            Pages::Huge => libc::MADV_HUGEPAGE,
        };
        // SAFETY: advice about the mapping just made; it changes no contents.
        let advised = unsafe { libc::madvise(mapped, mapped_bytes, advice) };
        let memory = Self {
            mapped,
            mapped_bytes,
            address,
            bytes,
        };
        match advised {
            0 => Ok(memory),
            _ => Err(io::Error::last_os_error().into()),
        }
    }

    /// The first bytes of a file, shared with it.
    pub fn of_file(file: BorrowedFd<'_>, bytes: usize) -> Result<Self> {
        // SAFETY: a new mapping, at an address that the kernel chooses. The file is a memfd of
        // this process which nobody truncates.
        let mapped = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        checked(mapped)?;
        // SAFETY: advice about the mapping just made. It fails where huge pages are not compiled.
        unsafe { libc::madvise(mapped, bytes, libc::MADV_HUGEPAGE) };
        Ok(Self {
            mapped,
            mapped_bytes: bytes,
            address: mapped.cast(),
            bytes,
        })
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `self`; pages that were never touched read as zeros.
        unsafe { std::slice::from_raw_parts(self.address, self.bytes) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.bytes) }
    }

    /// Where it begins, for the kernel to write to.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.address
    }

    /// How many of its bytes lie in huge pages, by the kernel's own account.
    pub fn huge_bytes(&self) -> Result<usize> {
        let start = self.mapped as usize;
        let range = start..start + self.mapped_bytes;
        let (mut is_ours, mut kib) = (false, 0);
        for line in fs::read_to_string("/proc/self/smaps")?.lines() {
            let first = line.split([' ', ':']).next().unwrap_or_default();
            if let Some((from, _)) = first.split_once('-') {
                is_ours = usize::from_str_radix(from, 16).is_ok_and(|from| range.contains(&from));
            } else if is_ours
                && matches!(
                    first,
                    "AnonHugePages" | "ShmemPmdMapped" | "Private_Hugetlb" | "Shared_Hugetlb"
                )
            {
                let value = line.split_whitespace().nth(1).unwrap_or("0");
                kib += value.parse::<usize>()?;
            }
        }
        Ok(kib << 10)
    }
}

/// How many bytes of anonymous memory of this process lie in huge pages.
pub fn huge_bytes_of_process() -> Result<usize> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup
        .lines()
        .find(|line| line.starts_with("AnonHugePages:"));
    let kib = line
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap_or("0");
    Ok(kib.parse::<usize>()? << 10)
}

fn checked(mapped: *mut libc::c_void) -> Result<()> {
    match mapped == libc::MAP_FAILED {
        true => Err(io::Error::last_os_error().into()),
        false => Ok(()),
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing borrows from it any more.
        unsafe { libc::munmap(self.mapped, self.mapped_bytes) };
    }
}
