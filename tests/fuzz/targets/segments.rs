//! Recovery of a partition's directory: segments and indexes of any content, a recovery point or
//! none. It never fails for what a file holds; what it accepts has offsets in order; it leaves
//! behind what it would accept again as it is; and what it saw brings up producers and leader
//! epochs that their files can hold.

use std::fs;
use std::path::Path;

use millrace::base::ids::Offset;
use millrace::partition::leader_epoch::LeaderEpochs;
use millrace::partition::producer_snapshot;
use millrace::partition::producer_state::ProducerStates;
use millrace::record::BatchHeader;
use millrace::storage::directory::LogDirectory;
use millrace::storage::layout;
use millrace::storage::recovery::{Recovered, RecoveryInput, RecoveryPoint, recover};

use super::choices::Choices;
use super::{scratch, seal};

const INDEX_INTERVAL_BYTES: u64 = 100;
/// Where segments begin, beside right behind the one before.
const BASES: [i64; 8] = [
    0,
    1,
    100,
    i32::MAX as i64,
    u32::MAX as i64,
    1 << 40,
    i64::MAX - 1,
    i64::MAX,
];

pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let home = scratch::directory();
    let path = home.path().join("t-0");
    fs::create_dir(&path).expect("a directory of its own");
    let flags = choices.byte();
    let point = (flags & 2 != 0).then(|| point(&mut choices));
    let mut base = 0;
    for _ in 0..=choices.below(3) {
        base = write_segment(&mut choices, &path, base, flags & 4 != 0);
    }
    let directory = LogDirectory::new(home.path().to_owned(), false);
    let mut input = RecoveryInput {
        path,
        point,
        clean: flags & 1 != 0,
        identity: String::new(),
        index_interval_bytes: INDEX_INTERVAL_BYTES,
        now: 1_700_000_000_000,
    };
    let found = check(&directory, &input);
    // What a clean stop vouched for and is not so is found by the scan of the next start.
    input.clean = false;
    let unclean = check(&directory, &input);
    let again = check(&directory, &input);
    assert_eq!(again.end(), unclean.end());
    assert!(!again.is_cut, "cut twice: {:?}", again.reports);
    assert!(found.scanned_bytes <= 1 << 20);
}

/// A recovery point as a checkpoint could hold one.
fn point(choices: &mut Choices<'_>) -> RecoveryPoint {
    let segment = choices.pick(&BASES);
    let log_start = segment.saturating_sub(choices.byte().into()).max(0);
    let offset = segment.saturating_add(choices.byte().into());
    RecoveryPoint {
        log_start: Offset(log_start),
        offset: Offset(offset),
        segment: Offset(segment),
        position: choices.number().unsigned_abs() >> 1,
    }
}

/// Writes one segment with its indexes, and says where the next one begins if it follows.
fn write_segment(choices: &mut Choices<'_>, path: &Path, follows: i64, is_sealed: bool) -> i64 {
    let base = match choices.byte() {
        0..=127 => follows,
        place => BASES[usize::from(place) % BASES.len()],
    };
    let (index, time_index) = (choices.short_slice(), choices.short_slice());
    let mut log = choices.slice().to_vec();
    if is_sealed {
        seal::batches(&mut log, Some(base));
    }
    let last = millrace::record::Batches::new(&log)
        .map_while(Result::ok)
        .last();
    let next = last.map_or(base, |(header, _)| header.next_offset().0);
    for (extension, contents) in [
        (layout::LOG, &log[..]),
        (layout::INDEX, index),
        (layout::TIME_INDEX, time_index),
    ] {
        let file = layout::segment_file(path, Offset(base), extension);
        fs::write(file, contents).expect("a directory that takes files");
    }
    next.max(0)
}

fn check(directory: &LogDirectory, input: &RecoveryInput) -> Recovered {
    let mut accepted = Vec::new();
    let recovered = recover(directory, input, &mut |header| accepted.push(*header));
    let recovered = recovered.expect("no contents of a file make recovery fail");
    let mut next = Offset(0);
    for header in &accepted {
        assert!(
            header.base_offset >= next,
            "offsets go back in {accepted:?}"
        );
        next = header.next_offset();
    }
    assert!(recovered.end() >= next, "the end is before the last batch");
    bring_up(&accepted);
    recovered
}

/// What a partition makes of the batches: producers and epochs, to their files and back.
fn bring_up(accepted: &[BatchHeader]) {
    let mut producers = ProducerStates::new(Offset(0));
    let mut epochs = LeaderEpochs::new();
    for header in accepted {
        producers.apply(header, None);
        epochs.assign(header.partition_leader_epoch, header.base_offset);
    }
    let snapshot = producer_snapshot::encode(&producers);
    let read = producer_snapshot::decode(&snapshot).expect("a snapshot of what was recovered");
    assert_eq!(producer_snapshot::encode(&read), snapshot);
    let checkpoint = epochs.to_checkpoint();
    assert_eq!(LeaderEpochs::from_checkpoint(&checkpoint), Ok(epochs));
}
