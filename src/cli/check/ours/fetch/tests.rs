//! What is read from the bytes of a fetch: whole batches, damaged ones, and what is none.

use bytes::Bytes;

use super::*;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::record::builder::{BatchBuilder, RecordToWrite};
use crate::record::compression::Codec;
use crate::record::header::{set_base_offset, set_leader_epoch};

const VALUES: [&str; 3] = ["0.1-1", "0.1-2", "0.1-3"];

/// Three records from this offset on.
fn batch(base: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    for text in VALUES {
        let bytes = value::encode(text, false);
        let record = RecordToWrite {
            timestamp: 1,
            key: None,
            value: Some(&bytes),
            headers: &[],
        };
        builder.append(&record).expect("a record");
    }
    let mut batch = builder.build().expect("a batch");
    set_base_offset(&mut batch, Offset(base));
    set_leader_epoch(&mut batch, LeaderEpoch(7));
    batch
}

/// Flips the highest bit of a byte.
fn flipped(mut batch: Vec<u8>, at: usize) -> Vec<u8> {
    batch[at] ^= 0x80;
    batch
}

/// Offsets and values from `position` on.
fn read(batches: &[Vec<u8>], position: i64) -> Result<Vec<(i64, String)>, String> {
    let data = PartitionData {
        records: Some(Bytes::from(batches.concat()).into()),
        ..Default::default()
    };
    let records = records_of(data, position, &mut Decompressor::default())?;
    assert!(records.iter().all(|record| record.epoch == Some(7)));
    Ok(records
        .into_iter()
        .map(|it| (it.offset, it.value))
        .collect())
}

fn expected(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
    let row = |(offset, value): &(i64, &str)| (*offset, (*value).to_owned());
    rows.iter().map(row).collect()
}

#[test]
fn records_begin_at_the_position() {
    let [first, second, third] = VALUES;
    let both = [batch(40), batch(43)];
    let rows = [(42, third), (43, first), (44, second), (45, third)];
    assert_eq!(read(&both, 42), Ok(expected(&rows)));
    let mut cut = batch(43);
    cut.pop();
    assert_eq!(read(&[batch(40), cut], 42), Ok(expected(&rows[..1])));
}

/// The last byte belongs to a record, and bytes 23 to 26 to the number of the last one.
#[test]
fn a_damaged_batch_is_passed_over_as_a_whole() {
    let [first, second, third] = VALUES;
    let behind = [(43, first), (44, second), (45, third)];
    let last = batch(40).len() - 1;
    for (at, position, broken) in [
        (last, 40, 40..43),
        (last, 41, 41..43),
        // How many records there are is what is damaged: less than none, or too many.
        (23, 41, 41..42),
        (24, 40, 40..41),
    ] {
        let mut rows: Vec<_> = broken.map(|offset| (offset, BROKEN)).collect();
        rows.extend(behind);
        let batches = [flipped(batch(40), at), batch(43)];
        assert_eq!(read(&batches, position), Ok(expected(&rows)), "byte {at}");
    }
}

#[test]
fn what_is_no_batch_is_an_error() {
    // A length, the format, and an offset in front of all.
    for at in [8, 16] {
        assert!(read(&[flipped(batch(40), at)], 40).is_err(), "byte {at}");
    }
    assert!(read(&[batch(-1)], 0).is_err());
}
