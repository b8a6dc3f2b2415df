//! What a broker's process costs: its CPU time with all its threads, its memory, and, beside it,
//! the CPU time of the kernel's own threads, which work for whoever uses the disk. From /proc.

use std::collections::HashMap;
use std::fs;

use super::super::CliError;

/// The kernel's flag of a thread of its own, `PF_KTHREAD`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What a process has used up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU seconds, in it and in the kernel for it, of all its threads.
    pub seconds: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

impl Usage {
    /// What process `pid` has used so far.
    pub fn of(pid: u32) -> Result<Self, CliError> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).map_err(CliError::io(path))?;
        let stat = Stat::parse(&stat)
            .ok_or_else(|| CliError::Failed(format!("/proc/{pid}/stat cannot be read")))?;
        Ok(Self {
            seconds: seconds(stat.ticks),
            resident_bytes: stat.resident_pages * page_bytes(),
        })
    }
}

/// What the threads of the kernel have used up to a moment, by id and start: ids come again.
#[derive(Clone, Debug, Default)]
pub struct KernelThreads(HashMap<(u32, u64), u64>);

impl KernelThreads {
    /// All of them. It looks at every process of the machine, which takes milliseconds.
    pub fn now() -> Self {
        let threads = all_processes().filter(|(_, stat)| stat.is_of_kernel());
        Self(
            threads
                .map(|(id, it)| ((id, it.started), it.ticks))
                .collect(),
        )
    }

    /// CPU seconds since then. One that has ended meanwhile takes its last ones along.
    pub fn seconds(&self) -> f64 {
        let now = Self::now().0.into_iter();
        let used = now.map(|(thread, ticks)| {
            let before = self.0.get(&thread).copied().unwrap_or(0);
            ticks.saturating_sub(before)
        });
        seconds(used.sum())
    }
}

/// What one line of `/proc/PID/stat` says.
#[derive(Debug, PartialEq)]
struct Stat {
    flags: u64,
    ticks: u64,
    /// When it started, in ticks since the machine did.
    started: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The name is in brackets and may hold anything.
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            flags: number(9)?,
            ticks: number(14)? + number(15)?,
            started: number(22)?,
            resident_pages: number(24)?,
        })
    }

    fn is_of_kernel(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }
}

fn all_processes() -> impl Iterator<Item = (u32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    // A process that ends while it is looked at is none.
    entries.filter_map(|entry| {
        let name = entry.file_name();
        let id = name.to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((id, Stat::parse(&stat)?))
    })
}

fn seconds(ticks: u64) -> f64 {
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    ticks as f64 / per_second.ok().flatten().unwrap_or(100) as f64
}

fn page_bytes() -> u64 {
    let bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    bytes.ok().flatten().unwrap_or(4096) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line = "7 (a) b (c) R 1 2 3 4 5 2097152 7 8 9 10 100 23 13 14 15 16 17 18 19 20 4096";
        let stat = Stat::parse(line).expect("a line");
        assert_eq!(
            (stat.ticks, stat.started, stat.resident_pages),
            (123, 19, 4096)
        );
        assert!(stat.is_of_kernel());
        assert_eq!(Stat::parse("7 (a) R 1"), None);
    }

    #[test]
    fn this_process_takes_time_and_memory() {
        let usage = || Usage::of(std::process::id()).expect("this process");
        let before = usage();
        let mut sum = 0_u64;
        while usage().seconds <= before.seconds {
            sum = (0..100_000).fold(sum, |sum, number| sum.wrapping_mul(31) ^ number);
        }
        assert!(usage().resident_bytes > 1 << 20, "{sum}");
        assert!(KernelThreads::default().seconds() > 0.0);
        assert!(KernelThreads::now().seconds() < KernelThreads::default().seconds());
    }
}
