//! What Kafka's Java client wrote, read record by record. Tests only.

use proptest::prelude::*;

use super::*;
use crate::record::builder::BatchBuilder;
use crate::record::control::EndTransactionMarker;
use crate::record::fixtures::{self, NOW_MS, OwnedRecord, golden, with_crc};

fn read(batch: &[u8]) -> Result<Vec<OwnedRecord>, RecordError> {
    let set = RecordSet::open(batch, 8 << 20, &mut Decompressor::new())?;
    set.iter()
        .map(|record| {
            let record = record?;
            Ok(OwnedRecord {
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers
                    .map(|(key, value)| {
                        let key = String::from_utf8(key.to_vec()).expect("UTF-8");
                        (key, value.map(<[u8]>::to_vec))
                    })
                    .collect(),
            })
        })
        .collect()
}

fn owned(timestamp: i64, key: Option<&str>, value: Option<&str>) -> OwnedRecord {
    OwnedRecord {
        timestamp,
        key: key.map(|key| key.as_bytes().to_vec()),
        value: value.map(|value| value.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

#[test]
fn the_small_batches_of_the_java_client_read_the_same_with_every_codec() {
    let mut expected = [
        owned(NOW_MS, Some("key"), Some("value")),
        owned(NOW_MS + 5, None, Some("no key")),
        owned(NOW_MS - 1, Some("tombstone"), None),
        owned(NOW_MS + 1, Some(""), Some("")),
    ];
    expected[1].headers = vec![("h1".into(), Some(b"one".to_vec())), ("h2".into(), None)];
    expected[2].headers = vec![(String::new(), Some(Vec::new()))];
    for codec in Codec::ALL {
        let records = read(&golden(&format!("small-{codec}"))).expect("a good batch");
        assert_eq!(records, expected, "{codec}");
    }
}

#[test]
fn the_large_batches_of_the_java_client_read_the_same_with_every_codec() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = golden(&format!("large-{codec}"));
        let set = RecordSet::open(&batch, 8 << 20, &mut Decompressor::new()).expect("opens");
        let mut count = 0;
        for (index, record) in set.iter().enumerate() {
            let record = record.expect("a good record");
            let value: Vec<u8> = (0..2_000)
                .map(|at| b'a' + ((index + at) % 7) as u8)
                .collect();
            assert_eq!(record.key, Some(format!("k{index}").as_bytes()));
            assert_eq!(record.value, Some(value.as_slice()));
            assert_eq!(record.offset, Offset(index as i64));
            assert_eq!(record.timestamp, NOW_MS + index as i64);
            // The sequence wraps inside the batch.
            let sequence = (i64::from(2_147_483_600) + index as i64) % (1 << 31);
            assert_eq!(i64::from(record.sequence), sequence);
            count += 1;
        }
        assert_eq!(count, 100, "{codec}");
        let fits = RecordSet::open(&batch, 1_000, &mut Decompressor::new());
        assert!(matches!(
            fits,
            Err(RecordError::DecompressedTooLarge { .. })
        ));
    }
}

#[test]
fn append_time_hides_the_records_own_time() {
    let batch = golden("append-time");
    let set = RecordSet::open(&batch, 0, &mut Decompressor::new()).expect("opens");
    let record = set.iter().next().expect("one").expect("good");
    assert_eq!(record.timestamp, NOW_MS + 9_999);
    assert_eq!(record.offset, Offset(42));
    assert_eq!(record.sequence, NO_SEQUENCE);
}

#[test]
fn transaction_markers_of_the_broker_are_read_and_built_the_same() {
    for (name, is_commit, offset, epoch, coordinator_epoch) in [
        ("commit-marker", true, 100, 3, 12),
        ("abort-marker", false, 101, 4, 13),
    ] {
        let batch = golden(name);
        let set = RecordSet::open(&batch, 0, &mut Decompressor::new()).expect("opens");
        assert!(set.header().is_control() && set.header().is_transactional());
        let record = set.iter().next().expect("one").expect("good");
        assert_eq!(record.offset, Offset(offset));
        let marker = EndTransactionMarker {
            is_commit,
            coordinator_epoch,
        };
        assert_eq!(EndTransactionMarker::from_record(&record), Some(marker));

        let mut builder = BatchBuilder::new(Codec::None).producer(
            crate::base::ids::ProducerId(4711),
            crate::base::ids::ProducerEpoch(epoch),
            NO_SEQUENCE,
        );
        builder.base_offset = Offset(offset);
        builder.leader_epoch = crate::base::ids::LeaderEpoch(7);
        (builder.is_control, builder.is_transactional) = (true, true);
        marker
            .append_to(&mut builder, record.timestamp)
            .expect("small");
        assert_eq!(builder.build().expect("small"), batch, "{name}");
    }
}

#[test]
fn a_record_that_cannot_be_read_ends_the_walk() {
    let batch = with_crc(fixtures::plain_batch(3), |batch| batch[RECORDS_AT] = 3);
    let set = RecordSet::open(&batch, 0, &mut Decompressor::new()).expect("opens");
    let records: Vec<_> = set.iter().collect();
    assert_eq!(records.len(), 1);
    assert!(matches!(
        records[0],
        Err(RecordError::Malformed { index: 0, .. })
    ));
}

#[test]
fn bytes_after_the_records_are_an_error_once() {
    let mut batch = fixtures::plain_batch(1);
    batch.extend_from_slice(&[0; 3]);
    let set = RecordSet::open(&batch, 0, &mut Decompressor::new()).expect("opens");
    let ends: Vec<_> = set.iter().map(|record| record.err()).collect();
    assert_eq!(
        ends,
        [None, Some(RecordError::BytesAfterRecords { count: 1 })]
    );
}

proptest! {
    #[test]
    fn what_was_built_is_read_back(
        records in prop::collection::vec(fixtures::any_record(), 0..30),
    ) {
        for codec in Codec::ALL {
            let batch = fixtures::build(BatchBuilder::new(codec), &records);
            prop_assert_eq!(read(&batch), Ok(records.clone()));
        }
    }
}
