//! Progress of work that takes longer than two seconds: a line on standard error that renews
//! itself, only where that is a terminal. A command's thread draws it.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that ends sooner shows nothing.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

const DRAWS_A_SECOND: u8 = 5;

/// A line that says how far the work is.
pub(super) struct Progress {
    since: Instant,
    bar: Option<ProgressBar>,
    total: Option<u64>,
    noun: &'static str,
}

impl Progress {
    /// `total` of `noun`, or as many as there will be. Nothing is drawn where `is_hidden`, as where
    /// a person sees the output itself.
    pub(super) fn new(noun: &'static str, total: Option<u64>, is_hidden: bool) -> Self {
        let is_shown = !is_hidden && std::io::stderr().is_terminal();
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_A_SECOND);
        Self {
            since: Instant::now(),
            bar: is_shown.then(|| ProgressBar::with_draw_target(total, target)),
            total,
            noun,
        }
    }

    /// So much is done.
    pub(super) fn at(&mut self, position: u64) {
        let Some(bar) = &self.bar else { return };
        if self.since.elapsed() < SHOWN_AFTER {
            return;
        }
        if bar.position() == 0 {
            bar.set_style(style(self.total.is_some(), self.noun));
        }
        bar.set_position(position);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(has_end: bool, noun: &str) -> ProgressStyle {
    let template = match (noun, has_end) {
        ("bytes", _) => {
            "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go".to_owned()
        }
        (_, true) => format!("{{wide_bar}} {{human_pos}} of {{human_len}} {noun}, {{eta}} to go"),
        (_, false) => format!("{{human_pos}} {noun}, {{per_sec}}, {{elapsed}}"),
    };
    ProgressStyle::with_template(&template).expect("a template of known keys")
}
