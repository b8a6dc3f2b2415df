//! The small files of a log directory and of a partition. What is read is written as it was read;
//! where a file has a sum, the first byte says whether that is set right first.

use std::collections::HashMap;

use millrace::base::ids::{LeaderEpoch, Offset, TopicId};
use millrace::partition::leader_epoch::LeaderEpochs;
use millrace::partition::producer_snapshot;
use millrace::storage::{checkpoint, layout};

use super::choices::Choices;

/// The recovery checkpoint of a shard.
pub fn recovery_checkpoint(data: &[u8]) {
    let mut choices = Choices::new(data);
    let is_sealed = choices.flag();
    let mut bytes = choices.rest().to_vec();
    if is_sealed {
        let end = bytes.windows(7).rposition(|bytes| bytes == b"crc32c ");
        bytes.truncate(end.unwrap_or(bytes.len()));
        let line = format!("crc32c {:08x}\n", crc32c::crc32c(&bytes));
        bytes.extend_from_slice(line.as_bytes());
    }
    let mut points = HashMap::new();
    if checkpoint::decode(&bytes, &mut points).is_ok() {
        let mut again = HashMap::new();
        let written = checkpoint::encode(&points);
        assert_eq!(checkpoint::decode(&written, &mut again), Ok(()));
        assert_eq!(again, points);
    }
}

/// The producers of a partition.
pub fn producer_snapshot(data: &[u8]) {
    const CRC_COVERS_FROM: usize = 5;
    let mut choices = Choices::new(data);
    let is_sealed = choices.flag();
    let mut bytes = choices.rest().to_vec();
    if is_sealed && bytes.len() >= CRC_COVERS_FROM {
        bytes[0] = 1;
        let crc = crc32c::crc32c(&bytes[CRC_COVERS_FROM..]);
        bytes[1..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
    }
    let Ok(mut states) = producer_snapshot::decode(&bytes) else {
        return;
    };
    let written = producer_snapshot::encode(&states);
    let again = producer_snapshot::decode(&written).expect("what was read can be written");
    assert_eq!(producer_snapshot::encode(&again), written);
    if let Some(undecided) = states.first_undecided_offset() {
        assert!(states.first_unstable_offset() <= Some(undecided));
    }
    states.on_log_start(Offset(1 << 20));
    states.remove_expired(i64::MAX, 1);
    states.remove_expired(i64::MIN, i64::MAX);
}

/// The leader epochs of a partition.
pub fn leader_epochs(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(epochs) = LeaderEpochs::from_checkpoint(text) else {
        return;
    };
    let written = epochs.to_checkpoint();
    assert_eq!(LeaderEpochs::from_checkpoint(&written), Ok(epochs.clone()));
    for start in epochs.starts() {
        let (epoch, offset) = (start.epoch, start.start_offset);
        assert_eq!(epochs.epoch_for_offset(offset), Some(epoch));
        let end = epochs.end_offset_for(epoch, Offset(i64::MAX));
        let end = end.expect("a known epoch ends somewhere");
        assert!(end.epoch == epoch && end.end_offset >= offset);
        assert!(
            epochs
                .previous(epoch)
                .is_none_or(|previous| previous.epoch < epoch)
        );
        let (mut cut, mut begun) = (epochs.clone(), epochs.clone());
        cut.truncate_from_end(offset);
        assert!(
            cut.latest()
                .is_none_or(|latest| latest.start_offset < offset)
        );
        begun.truncate_from_start(offset);
        assert_eq!(begun.earliest(), Some(*start));
    }
    assert_eq!(epochs.end_offset_for(LeaderEpoch::UNKNOWN, Offset(0)), None);
}

/// Whose a partition's directory is.
pub fn partition_metadata(data: &[u8]) {
    let found = layout::parse_partition_metadata(data);
    if let Some(found) = found
        && found.is_summed
    {
        assert_eq!(layout::partition_metadata(found.id).as_bytes(), data);
    }
    let mut id = [0; 16];
    let taken = data.len().min(id.len());
    id[..taken].copy_from_slice(&data[..taken]);
    let id = TopicId(u128::from_be_bytes(id));
    let written = layout::partition_metadata(id);
    let read = layout::parse_partition_metadata(written.as_bytes()).expect("what was written");
    assert_eq!((read.id, read.is_summed), (id, true));
    let Ok(name) = std::str::from_utf8(data) else {
        return;
    };
    if let Some((topic, partition)) = layout::parse_partition_directory(name) {
        let again = layout::partition_directory(topic, partition);
        assert_eq!(
            layout::parse_partition_directory(&again),
            Some((topic, partition))
        );
    }
    if let Some((base, extension)) = layout::parse_segment_file(name) {
        let file = layout::segment_file(std::path::Path::new(""), base, extension);
        assert_eq!(file.as_os_str(), name);
    }
}
