//! A repair that ends after any of its steps leaves files with which a start loses nothing more.

use std::fs;

use super::*;
use crate::base::ids::{PartitionIndex, TopicId};
use crate::record::builder::{BatchBuilder, RecordToWrite};
use crate::record::compression::Codec;
use crate::record::header::{MAGIC_AT, set_base_offset};
use crate::storage::checkpoint::CLEAN_MARKER;
use crate::storage::recovery::{RecoveryInput, recover};

const TOPIC: TopicId = TopicId(7);
const SEGMENTS: i64 = 3;
const BATCHES: i64 = 4;
const END: i64 = SEGMENTS * BATCHES;

fn batch(offset: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    let value = vec![offset as u8; 100];
    let record = RecordToWrite {
        value: Some(&value),
        ..RecordToWrite::default()
    };
    builder.append(&record).expect("a record that fits");
    let mut batch = builder.build().expect("a batch");
    set_base_offset(&mut batch, Offset(offset));
    batch
}

fn id() -> TopicIdPartition {
    TopicIdPartition {
        topic_id: TOPIC,
        partition: PartitionIndex(0),
    }
}

/// A data directory with a log that was closed cleanly, three segments of four batches each.
struct Data {
    home: tempfile::TempDir,
}

impl Data {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let data = Self { home };
        fs::create_dir(data.partition()).expect("a directory");
        let metadata = data.partition().join(layout::PARTITION_METADATA);
        fs::write(metadata, layout::partition_metadata(TOPIC)).expect("a file");
        for segment in 0..SEGMENTS {
            let offsets = segment * BATCHES..(segment + 1) * BATCHES;
            let bytes: Vec<_> = offsets.flat_map(batch).collect();
            fs::write(data.segment(segment, layout::LOG), bytes).expect("a segment");
        }
        let point = RecoveryPoint {
            log_start: Offset(0),
            offset: Offset(END),
            segment: Offset(END - BATCHES),
            position: BATCHES as u64 * batch(0).len() as u64,
        };
        let checkpoint = checkpoint::encode([(&id(), &point)]);
        let file = data.path().join(checkpoint::file_name(ShardId(0)));
        fs::write(file, checkpoint).expect("a checkpoint");
        fs::write(data.path().join(CLEAN_MARKER), b"").expect("a marker");
        data
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    fn partition(&self) -> PathBuf {
        self.path().join("t-0")
    }

    fn segment(&self, number: i64, kind: &str) -> PathBuf {
        layout::segment_file(&self.partition(), Offset(number * BATCHES), kind)
    }

    fn damage(&self, segment: i64, index: usize, byte: usize) {
        let file = self.segment(segment, layout::LOG);
        let mut bytes = fs::read(&file).expect("a segment");
        bytes[index * batch(0).len() + byte] ^= 1;
        fs::write(file, bytes).expect("a segment");
    }

    fn plan(&self) -> Vec<Step> {
        let (found, partitions) = check_directory(self.path()).expect("a directory");
        plan(&found, &partitions)
    }

    /// All that stands in its segments and beside them.
    fn kept(&self) -> Vec<u8> {
        let mut files = Vec::new();
        for segment in 0..=SEGMENTS {
            for kind in [layout::LOG, layout::CUT] {
                files.extend(fs::read(self.segment(segment, kind)).unwrap_or_default());
            }
        }
        files
    }

    fn start(&self) -> crate::storage::recovery::Recovered {
        let directory = LogDirectory::new(self.path().to_owned(), false);
        let mut points = RecoveryPoints::new();
        let bytes = fs::read(self.path().join(checkpoint::file_name(ShardId(0))));
        checkpoint::decode(&bytes.expect("a checkpoint"), &mut points).expect("a checkpoint");
        let input = RecoveryInput {
            path: self.partition(),
            point: points.get(&id()).copied(),
            clean: true,
            identity: layout::partition_metadata(TOPIC),
            index_interval_bytes: 4096,
            now: 0,
        };
        recover(&directory, &input, &mut |_| {}).expect("a log")
    }
}

#[test]
fn a_repair_may_end_after_any_step() {
    let last = BATCHES as usize - 1;
    for hits in [
        &[(SEGMENTS - 1, last)][..],
        &[(0, last)],
        &[(1, 1), (1, last)],
        &[(SEGMENTS - 1, 1), (SEGMENTS - 1, last)],
    ] {
        let mut done = 0;
        loop {
            let data = Data::new();
            hits.iter()
                .for_each(|(segment, index)| data.damage(*segment, *index, MAGIC_AT));
            let before = data.kept();
            let steps = data.plan();
            let directory = LogDirectory::new(data.path().to_owned(), false);
            for step in &steps[..done] {
                step.apply(&directory).expect("a step");
            }
            let recovered = data.start();
            let told = format!("{hits:?} after {done} of {steps:?}");
            assert_eq!(
                recovered.end(),
                Offset(END),
                "{told}: {:?}",
                recovered.reports
            );
            assert!(!recovered.is_cut, "{told}: {:?}", recovered.reports);
            let after = data.kept();
            for offset in 0..END {
                let batch = batch(offset);
                let is_in = |all: &[u8]| all.windows(batch.len()).any(|bytes| bytes == batch);
                assert_eq!(is_in(&before), is_in(&after), "{told}: offset {offset}");
            }
            assert!(after.len() >= before.len(), "{told}");
            if done == steps.len() {
                assert!(done >= 2, "{told}");
                assert!(data.plan().is_empty(), "{told}: {:?}", data.plan());
                break;
            }
            done += 1;
        }
    }
}

#[test]
fn a_log_whose_recovery_point_is_lost_goes_on_where_it_ended() {
    for hits in [&[][..], &[(1, 1)], &[(2, 0)], &[(2, BATCHES as usize - 1)]] {
        let data = Data::new();
        // A record: the lengths still tell where the batches end.
        hits.iter()
            .for_each(|(segment, index)| data.damage(*segment, *index, 80));
        let checkpoint = data.path().join(checkpoint::file_name(ShardId(0)));
        fs::write(&checkpoint, b"no checkpoint").expect("a file");
        let directory = LogDirectory::new(data.path().to_owned(), false);
        let steps = data.plan();
        for step in &steps {
            step.apply(&directory).expect("a step");
        }
        let told = format!("{hits:?}: {steps:?}");
        let kept = fs::read(checkpoint.with_extension("damaged")).expect("what it was");
        assert_eq!(kept, b"no checkpoint", "{told}");
        let recovered = data.start();
        assert_eq!(
            recovered.end(),
            Offset(END),
            "{told}: {:?}",
            recovered.reports
        );
        assert!(!recovered.is_cut, "{told}: {:?}", recovered.reports);
    }
}
