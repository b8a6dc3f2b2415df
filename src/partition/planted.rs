//! Promises that are broken on purpose, so that tests can prove that whoever judges a broker from
//! outside notices. Test builds only: without the `faults` feature nothing here does anything, and
//! with it only what the environment of the process asks for. Any shard.

#[cfg(feature = "faults")]
use std::sync::LazyLock;

use crate::base::ids::Offset;

#[cfg(feature = "faults")]
static SKIPS_DEDUPLICATION: LazyLock<bool> =
    LazyLock::new(|| is_asked_for("MILLRACE_FAULT_SKIP_DEDUPLICATION"));

#[cfg(feature = "faults")]
static IS_AHEAD: LazyLock<bool> =
    LazyLock::new(|| is_asked_for("MILLRACE_FAULT_HIGH_WATERMARK_AHEAD"));

#[cfg(feature = "faults")]
fn is_asked_for(switch: &str) -> bool {
    std::env::var(switch).is_ok_and(|value| value == "1")
}

/// Whether a batch is appended again that an idempotent producer sends again.
#[inline]
pub fn skips_deduplication() -> bool {
    #[cfg(feature = "faults")]
    return *SKIPS_DEDUPLICATION;
    #[cfg(not(feature = "faults"))]
    false
}

/// Where a client that asks is told that a log ends: at `end`, or one too far.
#[inline]
pub fn told(end: Offset) -> Offset {
    #[cfg(feature = "faults")]
    if *IS_AHEAD {
        return Offset(end.0 + 1);
    }
    end
}
