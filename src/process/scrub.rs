//! The scrub of one shard: all of its logs again and again, as often and as fast as the settings
//! say, and an error in the log for each damaged place that a pass finds. It begins anew with each
//! start of the broker.

use std::num::NonZeroU64;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::BrokerConfig;
use crate::partition::table::PartitionTable;
use crate::runtime::Timer;
use crate::storage::log::Log;
use crate::storage::scrub::{Finding, Scrub, ScrubTally};

/// A pass goes no slower than this, unless the settings say so: 64 KiB a second.
const SLOWEST: NonZeroU64 = NonZeroU64::new(64 << 10).expect("it is not zero");

/// The first pass comes no earlier, unless passes come more often: a start has enough to do.
const FIRST_AFTER: Duration = Duration::from_secs(60);

/// Scrubs the partitions of a shard, and `other`, a log that is no partition: that of the metadata.
/// Never ends, but where the settings turn it off; may be dropped at any time.
pub(super) async fn scrub(
    config: &BrokerConfig,
    table: Rc<PartitionTable>,
    other: Option<Rc<Log>>,
) {
    let Some(fastest) = NonZeroU64::new(config.scrub_bytes_per_second) else {
        return;
    };
    let interval = Duration::from_millis(config.scrub_interval_ms);
    Timer::new(interval.min(FIRST_AFTER)).await;
    loop {
        let began = Instant::now();
        let partitions = table.all();
        let kept = partitions
            .iter()
            .map(|partition| partition.log().size_bytes());
        let pace = pace(kept.sum(), interval, fastest);
        drop(partitions);
        let tally = pass(pace, &table, other.as_ref()).await;
        tell_pass(tally, began.elapsed());
        Timer::new(interval.saturating_sub(began.elapsed())).await;
    }
}

/// How many bytes a second a pass over so many takes: it has half of its interval, so that what
/// nobody waits for is hardly in the way of a read or write, however little there is.
fn pace(bytes: u64, interval: Duration, fastest: NonZeroU64) -> NonZeroU64 {
    let wanted = u128::from(bytes) * 2000 / interval.as_millis().max(1);
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let wanted = NonZeroU64::new(wanted).unwrap_or(SLOWEST);
    wanted.max(SLOWEST).min(fastest)
}

/// Looks at each log once. A partition that comes meanwhile is looked at by the next pass.
async fn pass(
    bytes_per_second: NonZeroU64,
    table: &PartitionTable,
    other: Option<&Rc<Log>>,
) -> ScrubTally {
    let mut scrub = Scrub::new(bytes_per_second);
    if let Some(log) = other {
        scrub.check(log, &mut tell).await;
    }
    // Those that are deleted meanwhile are not kept for this.
    let ids: Vec<_> = table.all().iter().map(|partition| partition.id()).collect();
    for id in ids {
        if let Some(partition) = table.get(&id) {
            scrub.check(partition.log(), &mut tell).await;
        }
    }
    scrub.tally()
}

fn tell(file: &Path, finding: Finding<'_>) {
    let file = file.display();
    match finding {
        Finding::Damage(damage) => {
            tracing::error!(
                %file,
                position = damage.position,
                end = damage.end,
                first_offset = damage.first.0,
                last_offset = damage.last().map(|last| last.0),
                reason = %damage.fault,
                "scrub: no sound batch stands where one was written"
            );
        }
        Finding::Unreadable { position, error } => {
            tracing::error!(
                %file,
                position,
                %error,
                "scrub: the disk does not give what was written, and the rest of the segment was \
                 not looked at"
            );
        }
    }
}

fn tell_pass(tally: ScrubTally, took: Duration) {
    let ScrubTally {
        segments,
        bytes,
        damaged,
    } = tally;
    let seconds = took.as_secs();
    match (bytes, damaged) {
        (0, 0) => tracing::debug!("scrub: nothing to look at"),
        (_, 0) => tracing::info!(
            segments,
            bytes,
            seconds,
            damaged,
            "scrub: all is as written"
        ),
        _ => tracing::warn!(segments, bytes, seconds, damaged, "scrub: damage was found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_has_half_of_its_interval_and_is_neither_crawling_nor_faster_than_allowed() {
        let week = Duration::from_secs(7 * 24 * 3600);
        let fastest = NonZeroU64::new(8 << 20).expect("not zero");
        for (bytes, interval, expected) in [
            (0, week, SLOWEST.get()),
            (16 << 30, week, SLOWEST.get()),
            (604_800_000_000, week, 2_000_000),
            (1 << 50, week, 8 << 20),
            (u64::MAX, Duration::from_millis(1), 8 << 20),
            (1_000_000, Duration::from_secs(10), 200_000),
        ] {
            assert_eq!(pace(bytes, interval, fastest).get(), expected, "{bytes}");
        }
        let slow = NonZeroU64::MIN;
        assert_eq!(pace(1 << 40, week, slow), slow);
    }
}
