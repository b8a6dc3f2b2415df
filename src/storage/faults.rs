//! File calls that fail on purpose. Test builds only: without the `faults` feature every function
//! here is empty.
//!
//! A `Plan` lets the n-th file call of storage fail, by number, so that a test can walk through
//! all of them. A power loss is played by the tests from outside, on a real file system.

use std::io;
use std::path::Path;

/// A call of the file system that storage makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// `openat` of a file that is there.
    Open,
    /// `openat` that makes a file.
    Create,
    /// `mkdir`.
    CreateDirectory,
    /// `fallocate`.
    Preallocate,
    /// `pread` or a direct read.
    Read,
    /// `pwrite` or a direct write.
    Write,
    /// `fdatasync` or `fsync` of a file.
    Sync,
    /// `fsync` of a directory.
    SyncDirectory,
    /// `ftruncate`.
    Truncate,
    /// `rename`.
    Rename,
    /// `unlink`.
    Remove,
    /// `getdents`.
    List,
    /// `statx`.
    Stat,
}

impl Call {
    /// The system call's name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::CreateDirectory => "mkdir",
            Self::Preallocate => "fallocate",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "fdatasync",
            Self::SyncDirectory => "fsync of the directory",
            Self::Truncate => "truncate",
            Self::Rename => "rename",
            Self::Remove => "unlink",
            Self::List => "readdir",
            Self::Stat => "stat",
        }
    }
}

/// What is to fail. The default fails nothing.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    #[cfg(feature = "faults")]
    plan: Option<std::sync::Arc<Plan>>,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Fault {
    #[cfg(feature = "faults")]
    fails: Option<(How, i32)>,
}

#[cfg(not(feature = "faults"))]
impl Fault {
    /// Asked before the call is made.
    #[inline]
    pub fn before(self) -> io::Result<()> {
        Ok(())
    }

    /// Asked once it has been made.
    #[inline]
    pub fn after(self) -> io::Result<()> {
        Ok(())
    }

    /// How many of `length` bytes a write takes.
    #[inline]
    pub fn taken(self, length: usize) -> usize {
        length
    }
}

#[cfg(not(feature = "faults"))]
impl Faults {
    /// Asked for each call.
    #[inline]
    pub fn next(&self, _call: Call, _path: &Path) -> Fault {
        Fault::default()
    }

    /// Whether syncs are left out, to prove that the tests notice.
    #[inline]
    pub fn skips_sync(&self) -> bool {
        false
    }
}

#[cfg(feature = "faults")]
pub use plan::{How, Plan};

#[cfg(feature = "faults")]
mod plan {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Call, Fault, Faults, Path, io};

    /// How a call fails.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum How {
        /// It is not made.
        #[default]
        Refused,
        /// It is made, and reported as failed all the same.
        Done,
        /// A write takes a part of its bytes; any other call is refused.
        Short,
    }

    impl Fault {
        fn error(self, hows: &[How]) -> io::Result<()> {
            match self.fails {
                Some((how, errno)) if hows.contains(&how) => {
                    Err(io::Error::from_raw_os_error(errno))
                }
                _ => Ok(()),
            }
        }

        /// Asked before the call is made.
        pub fn before(self) -> io::Result<()> {
            self.error(&[How::Refused])
        }

        /// Asked once it has been made.
        pub fn after(self) -> io::Result<()> {
            self.error(&[How::Done, How::Short])
        }

        /// How many of `length` bytes a write takes: whole blocks of about a half.
        pub fn taken(self, length: usize) -> usize {
            match self.fails {
                Some((How::Short, _)) => length / 2 / 4096 * 4096,
                _ => length,
            }
        }
    }

    /// Which calls fail, and how.
    #[derive(Debug, Default)]
    pub struct Plan {
        /// The number of the first call to fail, from 1; 0 fails none. See [`Plan::fail_next`].
        pub first: AtomicU64,
        /// How many calls in a row fail from there on.
        pub count: u64,
        /// Only calls of this kind count and fail; `None` is every kind.
        pub only: Option<Call>,
        /// Only calls on paths that contain this count and fail.
        pub on: &'static str,
        /// How they fail.
        pub how: How,
        /// What the kernel answers, an errno.
        pub errno: i32,
        /// Leaves every sync out and reports success.
        pub skip_sync: bool,
        /// Calls counted so far.
        pub calls: AtomicU64,
    }

    impl Plan {
        /// Lets the next call be the first to fail.
        pub fn fail_next(&self) {
            self.first
                .store(self.calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    impl Faults {
        /// Fails what `plan` says.
        pub fn planned(plan: Arc<Plan>) -> Self {
            Self { plan: Some(plan) }
        }

        /// The plan that the environment asks for: `MILLRACE_FAULT_SKIP_SYNC=1` leaves syncs out.
        pub fn from_environment() -> Self {
            match std::env::var("MILLRACE_FAULT_SKIP_SYNC").as_deref() {
                Ok("1") => Self::planned(Arc::new(Plan {
                    skip_sync: true,
                    ..Plan::default()
                })),
                _ => Self::default(),
            }
        }

        /// Asked for each call.
        pub fn next(&self, call: Call, path: &Path) -> Fault {
            let Some(plan) = &self.plan else {
                return Fault::default();
            };
            let is_other = plan.only.is_some_and(|only| only != call);
            if is_other || !path.to_string_lossy().contains(plan.on) {
                return Fault::default();
            }
            let number = plan.calls.fetch_add(1, Ordering::Relaxed) + 1;
            let first = plan.first.load(Ordering::Relaxed);
            let fails = first > 0 && (first..first.saturating_add(plan.count)).contains(&number);
            let how = match plan.how {
                How::Short if call != Call::Write => How::Refused,
                how => how,
            };
            Fault {
                fails: fails.then_some((how, plan.errno)),
            }
        }

        /// Whether syncs are left out, to prove that the tests notice.
        pub fn skips_sync(&self) -> bool {
            self.plan.as_ref().is_some_and(|plan| plan.skip_sync)
        }
    }
}

#[cfg(not(feature = "faults"))]
impl Faults {
    /// No faults: the release build has none.
    pub fn from_environment() -> Self {
        Self::default()
    }
}
