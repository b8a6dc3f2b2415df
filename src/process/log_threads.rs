//! Names in the log the thread that an event is from, where it has a name: those that the runtime
//! makes for blocking calls have none, and a number would tell nobody anything.

use std::fmt;
use std::thread;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// One format for the events of threads with a name, and one for the others.
pub(super) struct ByThread<F, T> {
    named: Format<F, T>,
    unnamed: Format<F, T>,
}

impl<F: Clone, T: Clone> ByThread<F, T> {
    /// `format`, with the names that there are.
    pub fn new(format: Format<F, T>) -> Self {
        Self {
            named: format.clone().with_thread_names(true),
            unnamed: format.with_thread_names(false),
        }
    }
}

impl<S, N, F, T> FormatEvent<S, N> for ByThread<F, T>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Format<F, T>: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let is_named = thread::current().name().is_some();
        let format = if is_named { &self.named } else { &self.unnamed };
        format.format_event(context, writer, event)
    }
}
