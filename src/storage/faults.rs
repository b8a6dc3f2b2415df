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
        }
    }
}

/// What is to fail. The default fails nothing.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    #[cfg(feature = "faults")]
    plan: Option<std::sync::Arc<Plan>>,
}

#[cfg(not(feature = "faults"))]
impl Faults {
    /// Asked before each call.
    #[inline]
    pub fn before(&self, _call: Call, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Whether syncs are left out, to prove that the tests notice.
    #[inline]
    pub fn skips_sync(&self) -> bool {
        false
    }
}

#[cfg(feature = "faults")]
pub use plan::Plan;

#[cfg(feature = "faults")]
mod plan {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Call, Faults, Path, io};

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

        /// Asked before each call.
        pub fn before(&self, call: Call, path: &Path) -> io::Result<()> {
            let Some(plan) = &self.plan else {
                return Ok(());
            };
            let is_other = plan.only.is_some_and(|only| only != call);
            if is_other || !path.to_string_lossy().contains(plan.on) {
                return Ok(());
            }
            let number = plan.calls.fetch_add(1, Ordering::Relaxed) + 1;
            let first = plan.first.load(Ordering::Relaxed);
            let fails = first > 0 && (first..first.saturating_add(plan.count)).contains(&number);
            if fails {
                Err(io::Error::from_raw_os_error(plan.errno))
            } else {
                Ok(())
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
