//! Signals. A thread of its own waits for SIGTERM, SIGINT and SIGHUP: the first asks for a clean
//! stop, a later one ends the process at once. No signal handler runs code: the signals are blocked
//! in every thread, and the waiting thread takes them.
//!
//! A terminal that closes sends SIGHUP. Who started the process so that it ignores it (`nohup`)
//! wants it to go on; blocked it would come all the same, so then it is left alone.
//!
//! SIGPIPE is ignored by Rust's runtime before `main`, so a closed socket or pipe is an error of
//! the write and never kills.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use super::Exit;

/// A signal that follows the first one within this time means the same: `timeout` and some shells
/// send it to the process and then again to its group.
const SAME_INTENT: Duration = Duration::from_millis(500);

/// A stop that takes longer than this ends with a failure.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// The signals that stop the process, blocked in the thread that blocked them and in every thread
/// that it starts.
#[derive(Debug)]
pub(super) struct Signals {
    set: SigSet,
    blocked: nix::Result<()>,
}

impl Signals {
    /// Blocks the signals. Must come before the process starts any other thread.
    pub(super) fn block() -> Self {
        let mut set: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
        if !is_ignored(Signal::SIGHUP) {
            set.add(Signal::SIGHUP);
        }
        Self {
            set,
            blocked: set.thread_block(),
        }
    }

    /// Waits for them from now on. One that came before counts as well.
    pub(super) fn watch(self) -> io::Result<StopRequest> {
        self.blocked?;
        let request = StopRequest::default();
        let told = request.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || wait(self.set, &told))?;
        Ok(request)
    }
}

/// Whether the process was started with the signal ignored. Where that cannot be told, it was not.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal as u32 - 1)) != 0)
}

/// Whether somebody asked the process to stop, and what happens then. Any thread may hold one.
#[derive(Clone, Default)]
pub struct StopRequest {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    requested: bool,
    action: Option<Box<dyn FnOnce() + Send>>,
}

impl StopRequest {
    /// Asks for a clean stop. Only the first time counts.
    pub fn request(&self) {
        let action = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.requested = true;
            state.action.take()
        };
        if let Some(action) = action {
            action();
        }
    }

    /// Runs `action` when a stop is asked for; at once, if one was. A later action replaces it.
    pub fn on_stop(&self, action: impl FnOnce() + Send + 'static) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.requested {
            drop(state);
            action();
        } else {
            state.action = Some(Box::new(action));
        }
    }

    /// Whether a stop was asked for.
    pub fn is_requested(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requested
    }
}

impl std::fmt::Debug for StopRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StopRequest({})", self.is_requested())
    }
}

/// What a signal means, by those that came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The first: stop cleanly.
    Stop,
    /// An echo of the first: nothing new.
    Same,
    /// Somebody is out of patience: stop at once.
    StopNow,
}

/// Tells what signals mean, each with the time at which it came.
#[derive(Debug, Default)]
pub(super) struct Meanings {
    asked_at: Option<Instant>,
}

impl Meanings {
    pub(super) fn of(&mut self, now: Instant) -> Meaning {
        match self.asked_at {
            None => {
                self.asked_at = Some(now);
                Meaning::Stop
            }
            Some(asked_at) if now.duration_since(asked_at) < SAME_INTENT => Meaning::Same,
            Some(_) => Meaning::StopNow,
        }
    }
}

fn wait(set: SigSet, request: &StopRequest) {
    let mut meanings = Meanings::default();
    loop {
        let signal = set.wait().map_or("an unknown signal", Signal::as_str);
        match meanings.of(Instant::now()) {
            Meaning::Stop => {
                tracing::info!(
                    "{signal}: stopping; another signal, half a second later or more, stops at \
                     once"
                );
                watch_deadline();
                request.request();
            }
            Meaning::Same => {}
            Meaning::StopNow => {
                tracing::warn!("{signal} again: stopping at once, without a clean end");
                std::process::exit(Exit::Failure as i32);
            }
        }
    }
}

fn watch_deadline() {
    let deadline = thread::Builder::new().name("deadline".to_owned());
    let watching = deadline.spawn(|| {
        thread::sleep(STOP_DEADLINE);
        tracing::error!("the stop took longer than {STOP_DEADLINE:?}: stopping at once");
        std::process::exit(Exit::Failure as i32);
    });
    if let Err(error) = watching {
        tracing::warn!("the stop has no deadline, its thread cannot be started: {error}");
    }
}
