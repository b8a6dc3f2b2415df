//! Stopping a command that runs on. SIGINT and SIGTERM are blocked in every thread, and one thread
//! of its own waits for them: the first asks the command to end what it is at, so that a consumer
//! leaves its group; the second ends the process at once.
//!
//! A command that was stopped ends by the very signal, so that a shell's loop ends with it.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use nix::sys::signal::{self, SigSet, Signal};

use super::CliError;

const NONE: i32 = 0;

/// What a shell reports of a process that a signal ended.
const EXIT_BY_SIGNAL: i32 = 128;

/// Whether somebody asked the command to stop.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    signal: Arc<AtomicI32>,
}

impl Stop {
    /// Waits for the signals from now on. Must come before the client library starts its threads.
    pub(super) fn watch() -> Result<Self, CliError> {
        let set: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
        set.thread_block()
            .map_err(|error| CliError::failed("signals", error))?;
        let stop = Self::default();
        let told = stop.clone();
        let thread = thread::Builder::new().name("signals".to_owned());
        let waiting = thread.spawn(move || {
            while let Ok(signal) = set.wait() {
                if told.signal.swap(signal as i32, Ordering::Relaxed) != NONE {
                    process::exit(EXIT_BY_SIGNAL + signal as i32);
                }
            }
        });
        waiting.map_err(CliError::io("a thread for signals"))?;
        Ok(stop)
    }

    /// Whether a signal came.
    pub(super) fn is_requested(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != NONE
    }

    /// Ends the process by the signal that came, if one came.
    pub(super) fn obey(&self) {
        let Ok(signal) = Signal::try_from(self.signal.load(Ordering::Relaxed)) else {
            return;
        };
        let _ = (signal::raise(signal), SigSet::from(signal).thread_unblock());
        // Not reached, unless whoever started the process had it ignore the signal.
        process::exit(EXIT_BY_SIGNAL + signal as i32);
    }
}
