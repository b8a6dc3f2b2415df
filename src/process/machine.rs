//! What the machine allows: CPUs, memory, open files, io_uring. Asked once by the
//! main thread before any shard starts; changes nothing but the soft limit of open files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::runtime::check_rings;
use crate::shard::executor::allowed_cpus;
use crate::shard::frames;

/// Entries of each submission queue.
pub(super) const RING_DEPTH: u32 = 256;

/// The default of `millrace.memory.bytes` is this share of the machine's memory...
const MEMORY_SHARE: u64 = 4;

/// ...but not more than this for each shard...
const MEMORY_BYTES_PER_SHARD_MAX: u64 = 1 << 30;

/// ...and `millrace.memory.bytes` is never less than this for each shard.
pub(super) const MEMORY_BYTES_PER_SHARD_MIN: u64 = 32 << 20;

/// Below this many open files a warning is given: a connection takes one, and so does a segment
/// that is written or read.
const OPEN_FILES_WANTED: u64 = 16_384;

/// Below this many open files even an idle broker with a few clients fails.
const OPEN_FILES_NEEDED: u64 = 256;

/// Why the machine does not do.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The kernel or a container's policy forbids io_uring.
    #[error("io_uring is forbidden ({error}): {advice}")]
    IoUringForbidden {
        /// What the system says.
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The process may open too few files.
    #[error(
        "the limit of open files is {limit}, and {needed} are the least: raise it (ulimit -n, \
         LimitNOFILE= of systemd, --ulimit nofile= of a container)",
        needed = OPEN_FILES_NEEDED
    )]
    OpenFiles {
        /// The limit, the hard one.
        limit: u64,
    },
    /// `millrace.memory.bytes` is too little for the shards.
    #[error(
        "millrace.memory.bytes={memory_bytes} is less than {} MiB for each of {shards} shards: \
         raise it, or set millrace.shards lower",
        MEMORY_BYTES_PER_SHARD_MIN >> 20
    )]
    Memory {
        /// What is set.
        memory_bytes: u64,
        /// The shards to start.
        shards: u16,
    },
    /// The kernel does not tell something.
    #[error("the system does not tell {what}: {error}")]
    Unknown {
        /// What was asked.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

/// The CPUs for the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cpus {
    /// Those that the process may run on.
    pub(super) allowed: Vec<usize>,
    /// How many of them its control group lets it use at a time, if it sets a quota.
    pub(super) quota: Option<u16>,
}

impl Cpus {
    pub(super) fn of_process() -> Result<Self, MachineError> {
        let allowed = allowed_cpus().map_err(|error| MachineError::Unknown {
            what: "on which CPUs the process may run",
            error,
        })?;
        let quotas = control_groups("").into_iter().filter_map(|group| {
            let text = fs::read_to_string(group.join("cpu.max")).ok()?;
            cpu_quota(&text)
        });
        Ok(Self {
            allowed,
            quota: quotas.min(),
        })
    }

    /// A shard for each CPU, where no number is set.
    pub(super) fn shards(&self) -> u16 {
        let allowed = u16::try_from(self.allowed.len()).unwrap_or(u16::MAX).max(1);
        self.quota.map_or(allowed, |quota| quota.min(allowed))
    }

    /// Says that shards will share cores, where more are wanted than there are: they are then not
    /// pinned, and wait for each other.
    pub(super) fn tell_about_too_many(&self, shards: u16) {
        let cores = self.shards();
        if shards > cores {
            tracing::warn!(
                "millrace.shards={shards} is more than the {cores} cores that the process may \
                 use: no shard is pinned and they share the cores, at more CPU and latency a \
                 request; set it to {cores}, or leave it out"
            );
        }
    }

    /// The CPUs to pin to: none where a quota leaves it to the scheduler which ones are used, or
    /// every process with such a quota would crowd the first ones.
    pub(super) fn to_pin(&self) -> Vec<usize> {
        match self.quota {
            Some(quota) if usize::from(quota) < self.allowed.len() => Vec::new(),
            _ => self.allowed.clone(),
        }
    }
}

/// `cpu.max` of a control group: quota and period in microseconds, or `max` for no quota.
pub(super) fn cpu_quota(text: &str) -> Option<u16> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    let cpus = quota.div_ceil(period.max(1)).max(1);
    Some(u16::try_from(cpus).unwrap_or(u16::MAX))
}

/// The directories of the control groups that the process is in, from its own up to the root, of
/// version 2 where `controller` is empty.
fn control_groups(controller: &str) -> Vec<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of = |line: &str| -> Option<PathBuf> {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let ours = controllers.split(',').any(|each| each == controller);
        let root = Path::new("/sys/fs/cgroup").join(controller);
        ours.then(|| root.join(path.trim_start_matches('/')))
    };
    let Some(group) = groups.lines().find_map(of) else {
        return Vec::new();
    };
    let above = group.ancestors().map(Path::to_owned);
    above
        .take_while(|path| path.starts_with("/sys/fs/cgroup"))
        .collect()
}

/// The memory that the process may use: the machine's, or less where a control group says so.
pub(super) fn memory_bytes() -> Result<u64, MachineError> {
    let unknown = |error| MachineError::Unknown {
        what: "how much memory there is",
        error,
    };
    let info = fs::read_to_string("/proc/meminfo").map_err(unknown)?;
    let machine = memory_total(&info).ok_or_else(|| unknown(io::ErrorKind::InvalidData.into()))?;
    let limit = |group: PathBuf, file: &str| -> Option<u64> {
        let text = fs::read_to_string(group.join(file)).ok()?;
        text.trim().parse().ok()
    };
    let second = control_groups("").into_iter();
    let second = second.filter_map(|group| limit(group, "memory.max"));
    let first = control_groups("memory").into_iter();
    let first = first.filter_map(|group| limit(group, "memory.limit_in_bytes"));
    Ok(second.chain(first).fold(machine, u64::min))
}

fn memory_total(info: &str) -> Option<u64> {
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// The ceiling of all buffers: what is set, or a share of the machine's memory.
pub(super) fn memory_ceiling(set: Option<u64>, shards: u16) -> Result<u64, MachineError> {
    let least = MEMORY_BYTES_PER_SHARD_MIN * u64::from(shards);
    match set {
        Some(memory_bytes) if memory_bytes < least => Err(MachineError::Memory {
            memory_bytes,
            shards,
        }),
        Some(memory_bytes) => Ok(memory_bytes),
        None => {
            let share = memory_bytes()? / MEMORY_SHARE;
            let most = MEMORY_BYTES_PER_SHARD_MAX * u64::from(shards);
            Ok(share.min(most).max(least))
        }
    }
}

/// What each shard may use for requests with records, of a ceiling of `memory_bytes` for all.
pub(super) fn frame_bytes(memory_bytes: u64, shards: u16) -> u64 {
    memory_bytes / u64::from(shards) / 4
}

/// The longest request that a shard can hold in memory.
pub(super) fn request_bytes_that_fit(memory_bytes: u64, shards: u16) -> u64 {
    frames::longest_frame(frame_bytes(memory_bytes, shards))
}

/// The ceiling with which a request of `bytes` fits.
pub(super) fn memory_for_requests(bytes: u64, shards: u16) -> u64 {
    let overhead = frame_bytes(MEMORY_BYTES_PER_SHARD_MIN, 1)
        - request_bytes_that_fit(MEMORY_BYTES_PER_SHARD_MIN, 1);
    (bytes + overhead) * 4 * u64::from(shards)
}

/// Lifts the soft limit of open files to the hard one. Returns the limit.
pub(super) fn raise_open_files() -> Result<u64, MachineError> {
    let unknown = |error: Errno| MachineError::Unknown {
        what: "the limit of open files",
        error: error.into(),
    };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(unknown)?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        tracing::warn!("the limit of open files stays at {soft}: it could not be raised to {hard}");
    }
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(unknown)?;
    if limit < OPEN_FILES_NEEDED {
        return Err(MachineError::OpenFiles { limit });
    }
    if limit < OPEN_FILES_WANTED {
        tracing::warn!(
            "only {limit} files may be open: connections and segments share them; raise the limit \
             to {OPEN_FILES_WANTED} or more (ulimit -n, LimitNOFILE= of systemd)"
        );
    }
    Ok(limit)
}

/// Sets up as many rings as the shards will, and drops them: what fails fails here, with advice.
pub(super) fn check_io_uring(shards: u16) -> Result<(), MachineError> {
    match check_rings(shards, RING_DEPTH) {
        Ok(()) => Ok(()),
        Err(error) => {
            let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            let advice = io_uring_advice(&error, disabled.unwrap_or_default().trim());
            Err(MachineError::IoUringForbidden { error, advice })
        }
    }
}

pub(super) fn io_uring_advice(error: &io::Error, disabled: &str) -> &'static str {
    match (error.raw_os_error().map(Errno::from_raw), disabled) {
        (Some(Errno::ENOSYS), _) => {
            "the kernel has no io_uring, or a filter of system calls hides it: run Linux 5.15 or \
             later, and let a container's seccomp profile pass io_uring_setup, io_uring_enter and \
             io_uring_register"
        }
        (Some(Errno::EPERM), "2") => {
            "kernel.io_uring_disabled is 2, which forbids it to everybody: set it to 0 \
             (sysctl -w kernel.io_uring_disabled=0)"
        }
        (Some(Errno::EPERM), "1") => {
            "kernel.io_uring_disabled is 1, which forbids it to ordinary users: set it to 0 \
             (sysctl -w kernel.io_uring_disabled=0), or add the user's group to \
             kernel.io_uring_group"
        }
        (Some(Errno::EPERM | Errno::EACCES), _) => {
            "a filter of system calls or a security module forbids it: let a container's seccomp \
             profile pass io_uring_setup, io_uring_enter and io_uring_register (Docker: \
             --security-opt seccomp=profile.json)"
        }
        _ => "a ring could not be set up; see the system's log",
    }
}
