//! The records of the metadata log. The input is a list of records, each behind its length, as the
//! log has them in its batches. What can be read can be written; the records that can be replayed
//! make the same image one by one and from a batch; and the input as a whole is no batch that
//! makes anything panic.

use bytes::Bytes;
use millrace::base::ids::{LeaderEpoch, Offset};
use millrace::metadata::{MetadataDelta, MetadataImage, MetadataRecord, batch};

use super::choices::Choices;
use super::seal;

const RECORDS_MAX: usize = 200;

pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut records = Vec::new();
    while !choices.is_empty() && records.len() < RECORDS_MAX {
        let value = Bytes::copy_from_slice(choices.slice());
        if let Ok(record) = MetadataRecord::from_value(value) {
            check_written(&record);
            records.push(record);
        }
    }
    replay(&records);
    let mut bytes = data.to_vec();
    read_batch(&bytes);
    seal::batches(&mut bytes, None);
    read_batch(&bytes);
}

/// Fields of later versions than the one that is written may be left out, with an error.
fn check_written(record: &MetadataRecord) {
    if let Ok(value) = record.to_value() {
        assert_eq!(MetadataRecord::from_value(value).as_ref(), Ok(record));
    }
}

/// Replays records, and begins a new delta at each that contradicts those before it.
fn replay(records: &[MetadataRecord]) {
    let mut image = MetadataImage::default();
    let mut taken = Vec::new();
    for record in records {
        let mut delta = MetadataDelta::new(&image);
        let next = image.next_offset();
        if delta.replay(next, record).is_err() {
            continue;
        }
        image = delta.finish().0;
        taken.push(record.clone());
        check_image(&image);
    }
    let written = batch::to_batch(&taken, Offset(0), LeaderEpoch(1), 0);
    if taken.is_empty() || written.is_err() {
        return;
    }
    let written = written.expect("looked at above");
    let mut delta = MetadataDelta::new(&MetadataImage::default());
    batch::replay(&written, &mut delta).expect("what was replayed one by one");
    assert_eq!(delta.finish().0, image);
}

fn check_image(image: &MetadataImage) {
    for topic in image.topics() {
        assert_eq!(image.topic_id(&topic.name), Some(topic.id));
        assert_eq!(image.topic(topic.id), Some(topic));
        for (index, partition) in topic.iter() {
            let id = topic.topic_id_partition(index);
            assert_eq!(image.partition(id), Some(partition));
        }
    }
}

fn read_batch(bytes: &[u8]) {
    let _records = batch::from_batch(bytes);
    let mut delta = MetadataDelta::new(&MetadataImage::default());
    if batch::replay(bytes, &mut delta).is_ok() {
        check_image(&delta.finish().0);
    }
}
