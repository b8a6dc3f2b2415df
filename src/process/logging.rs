//! The log: to standard error, in UTC, one line an event; and the panic hook, which logs and ends
//! the process. Installed once by the main thread, used by every thread.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::thread;

use tracing_subscriber::EnvFilter;

use super::Exit;
use super::cli::LogFormat;

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
    let wanted = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let builder = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into());
    let (filter, wrong) = match builder.parse(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error.to_string())),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(|| OneLine(io::stderr()))
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_target(false)
        .with_thread_names(true)
        // It would tell of a failed write by another write to standard error, and panic if that
        // fails: a closed pipe must not end the broker.
        .log_internal_errors(false);
    match format {
        LogFormat::Plain => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    match wrong {
        None => Ok(()),
        Some(reason) => Err(LogError {
            filter: wanted,
            reason,
        }),
    }
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
