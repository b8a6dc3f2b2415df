//! Stopping a command that runs on. SIGINT, SIGTERM and SIGHUP, which a terminal that closes sends,
//! are blocked in every thread, and one thread of its own waits for them. While there is nothing to
//! tidy up, the first one ends the process; then it asks the command to end what it is at, so that
//! a consumer leaves its group, and a second one ends the process at once.
//!
//! A command that was stopped ends by the very signal, so that a shell's loop ends with it.

use std::fs;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, SigSet, Signal};

use super::CliError;

/// How long a command that runs on waits for anything else, before it looks at the signals.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// In place of a signal: nothing is begun that would have to be tidied up.
const IDLE: i32 = -1;

/// In place of a signal: none came.
const NONE: i32 = 0;

/// What a shell reports of a process that a signal ended.
const EXIT_BY_SIGNAL: i32 = 128;

/// A signal that follows the first one within this time means the same: `timeout` and some shells
/// send it to the process and then again to its group.
const SAME_INTENT: Duration = Duration::from_millis(500);

/// Whether somebody asked the command to stop.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    /// The signal that came, [`NONE`] or [`IDLE`].
    signal: Arc<AtomicI32>,
}

impl Stop {
    /// Waits for the signals from now on. Must come before the client library starts its threads.
    pub(super) fn watch() -> Result<Self, CliError> {
        // Blocked, an ignored signal would come all the same. Who ignores one wants the command to
        // go on: `nohup` without a terminal, a job in the background when its script is stopped.
        let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
        let set: SigSet = signals.into_iter().filter(|it| !is_ignored(*it)).collect();
        set.thread_block()
            .map_err(|error| CliError::failed("signals", error))?;
        let stop = Self {
            signal: Arc::new(AtomicI32::new(IDLE)),
        };
        let told = stop.clone();
        let thread = thread::Builder::new().name("signals".to_owned());
        let waiting = thread.spawn(move || told.wait(set));
        waiting.map_err(CliError::io("a thread for signals"))?;
        Ok(stop)
    }

    fn wait(&self, set: SigSet) {
        let mut asked_at: Option<Instant> = None;
        while let Ok(signal) = set.wait() {
            if asked_at.is_some_and(|asked| asked.elapsed() < SAME_INTENT) {
                continue;
            }
            match self.signal.swap(signal as i32, Ordering::Relaxed) {
                IDLE => end_by(signal),
                NONE => asked_at = Some(Instant::now()),
                _ => process::exit(EXIT_BY_SIGNAL + signal as i32),
            }
        }
    }

    /// From now on a signal asks, and the command sees to it: something is to be tidied up.
    pub(super) fn begin(&self) {
        // Where it fails a signal is just ending the process.
        let (from, to) = (IDLE, NONE);
        let _ = self
            .signal
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether a signal came.
    pub(super) fn is_requested(&self) -> bool {
        self.signal.load(Ordering::Relaxed) > NONE
    }

    /// Ends the process by the signal that came, if one came.
    pub(super) fn obey(&self) {
        if let Ok(signal) = Signal::try_from(self.signal.load(Ordering::Relaxed)) {
            end_by(signal);
        }
    }
}

fn end_by(signal: Signal) -> ! {
    let _ = (signal::raise(signal), SigSet::from(signal).thread_unblock());
    // Not reached, unless whoever started the process had it ignore the signal.
    process::exit(EXIT_BY_SIGNAL + signal as i32);
}

/// Whether the process was started with the signal ignored. Where that cannot be told, it was not.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal as u32 - 1)) != 0)
}
