//! Replay of a shard's journals into the segments. The first byte says whether sums and secrets are
//! set right first; then come the two files. It never panics, it does all that it does once, and
//! what it does not remove it keeps under another name.

use std::fs;
use std::path::Path;

use millrace::base::ids::{Offset, PartitionIndex, ShardId, TopicId};
use millrace::storage::directory::LogDirectory;
use millrace::storage::journal::replay::{Replayed, replay};
use millrace::storage::layout;

use super::choices::Choices;
use super::{scratch, seal};

/// The partitions that are there, each with a segment that begins at 0.
const PARTITIONS: [(&str, u128); 2] = [("t", 7), ("u", 8)];

/// What the metadata of a partition that is there says.
pub fn identity(partition: usize) -> String {
    layout::partition_metadata(TopicId(PARTITIONS[partition].1))
}

pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let home = scratch::directory();
    make_partitions(home.path());
    let flags = choices.byte();
    let first = choices.slice();
    for (index, contents) in [first, choices.rest()].into_iter().enumerate() {
        let mut contents = contents.to_vec();
        if flags & 1 == 1 {
            seal::journal(&mut contents);
        }
        let file = layout::journal_file(ShardId(0), index);
        fs::write(home.path().join(file), contents).expect("a directory that takes files");
    }
    let directory = LogDirectory::new(home.path().to_owned(), false);
    // A position that no file can have is the system's to refuse.
    let Ok(replayed) = replay(&directory, flags & 2 == 2) else {
        return;
    };
    for damaged in &replayed.damaged {
        assert!(damaged.kept.exists() && !damaged.journal.exists());
    }
    let again = replay(&directory, false).expect("nothing is left to replay");
    assert_eq!(again, Replayed::default());
}

fn make_partitions(home: &Path) {
    for (topic, id) in PARTITIONS {
        let partition = home.join(layout::partition_directory(topic, PartitionIndex(0)));
        fs::create_dir(&partition).expect("a directory of its own");
        let metadata = layout::partition_metadata(TopicId(id));
        let segment = layout::segment_file(&partition, Offset(0), layout::LOG);
        for (file, contents) in [
            (
                partition.join(layout::PARTITION_METADATA),
                metadata.as_bytes(),
            ),
            (segment, &[]),
        ] {
            fs::write(file, contents).expect("a directory that takes files");
        }
    }
}
