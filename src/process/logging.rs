//! The log: to standard error, in UTC, one line an event; and the panic hook, which logs and ends
//! the process. Installed once by the main thread, used by every thread.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::thread;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use super::Exit;
use super::cli::LogFormat;
use super::log_threads::ByThread;

/// Filters what is logged.
const FILTER_VARIABLE: &str = "MILLRACE_LOG";

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error(
    "{FILTER_VARIABLE}={filter} is no filter: {reason}. Allowed: error, warn, info, debug, trace, \
     or module=level by comma"
)]
pub(super) struct LogError {
    filter: String,
    reason: String,
}

/// Installs the log for the whole process. Where the filter is wrong, everything from `info` on is
/// logged, so that the error itself is seen.
pub(super) fn install(format: LogFormat) -> Result<(), LogError> {
    let wanted = std::env::var_os(FILTER_VARIABLE).unwrap_or_default();
    let wanted = wanted.to_string_lossy().into_owned();
    let (targets, wrong) = match filter(&wanted) {
        Ok(targets) => (targets, None),
        Err(reason) => (default_filter(), Some(reason)),
    };
    let lines = fmt::layer()
        .with_writer(|| OneLine(io::stderr()))
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // It would tell of a failed write by another write to standard error, and panic if that
        // fails: a closed pipe must not end the broker.
        .log_internal_errors(false);
    let lines = match format {
        LogFormat::Plain => lines.map_event_format(ByThread::new).boxed(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            lines.map_event_format(ByThread::new).boxed()
        }
    };
    registry().with(targets).with(lines).init();
    match wrong {
        None => Ok(()),
        Some(reason) => Err(LogError {
            filter: wanted,
            reason,
        }),
    }
}

fn default_filter() -> Targets {
    Targets::new().with_default(LevelFilter::INFO)
}

/// Reads a level for everything, or levels of modules, by comma; a module that is not named stays
/// at the level of everything, which is `info` where none is given. Nothing turns errors off.
pub(super) fn filter(text: &str) -> Result<Targets, String> {
    let mut targets = default_filter();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        targets = match part.split_once('=') {
            None => targets.with_default(level(part)?),
            Some((module, wanted)) => {
                let is_path = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
                if module.is_empty() || !module.chars().all(is_path) {
                    return Err(format!("'{module}' is no module"));
                }
                targets.with_target(module, level(wanted)?)
            }
        };
    }
    Ok(targets)
}

fn level(text: &str) -> Result<LevelFilter, String> {
    let levels = ["error", "warn", "info", "debug", "trace"];
    let is_level = levels.iter().any(|level| level.eq_ignore_ascii_case(text));
    let level = text.parse().ok().filter(|_| is_level);
    level.ok_or_else(|| format!("'{text}' is no level"))
}

/// Writes each event as one line, whatever the event says: the subscriber hands over an event and
/// its line break in one piece.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        if text.contains(&b'\n') || text.contains(&b'\r') {
            let text = String::from_utf8_lossy(text);
            let text = text.replace('\n', "\\n").replace('\r', "\\r");
            self.0.write_all(format!("{text}\n").as_bytes())?;
        } else {
            self.0.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Logs why the process ends, and says with which code.
pub(super) fn fail(exit: Exit, error: &dyn Display) -> ExitCode {
    let code = exit as u8;
    tracing::error!(exit_code = code, "{error}");
    exit.into()
}

/// Makes a panic in any thread end the process with its reason: half a broker is worse than none.
/// Also where panics unwind, as in builds for development.
pub(super) fn install_panic_hook() {
    panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let place = info.location().map(ToString::to_string);
        let place = place.as_deref().unwrap_or("an unknown place");
        let reason = reason(info);
        tracing::error!(
            exit_code = Exit::Failure as u8,
            "the thread {name} panicked at {place}: {reason}; the process ends"
        );
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            let backtrace = std::backtrace::Backtrace::force_capture();
            // A panic within the hook aborts without the exit code, so nobody listening is fine.
            let _closed = writeln!(io::stderr(), "{backtrace}");
        }
        std::process::exit(Exit::Failure as i32);
    }));
}

fn reason<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    info.payload_as_str().unwrap_or("no reason was given")
}

#[cfg(test)]
pub(super) fn written(event: &str) -> String {
    let mut writer = OneLine(Vec::new());
    writer
        .write_all(event.as_bytes())
        .expect("a Vec takes every byte");
    String::from_utf8(writer.0).expect("text")
}
