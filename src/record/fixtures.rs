//! Batches for tests: built ones, and those that Kafka's Java client wrote. Tests only.

use proptest::prelude::*;

use crate::base::clock::TimestampMs;
use crate::record::builder::{BatchBuilder, RecordToWrite};
use crate::record::compression::Codec;
use crate::record::header::{CRC_AT, TimestampType, crc_of};
use crate::record::validate::Rules;

/// A moment for tests, in milliseconds.
pub(crate) const NOW_MS: TimestampMs = 1_700_000_000_000;

/// What a topic with default settings allows.
pub(crate) fn rules() -> Rules {
    Rules {
        batch_bytes_max: 1 << 20,
        segment_bytes: 1 << 30,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        keys_required: false,
        zstd_allowed: true,
        decompressed_bytes_max: 8 << 20,
    }
}

/// A record that owns its parts, as property tests make them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnedRecord {
    pub(crate) timestamp: TimestampMs,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Any record, near [`NOW_MS`].
pub(crate) fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    let headers = prop::collection::vec(("[a-z]{0,8}", bytes()), 0..4);
    (-5_000_i64..5_000, bytes(), bytes(), headers).prop_map(|(delta, key, value, headers)| {
        OwnedRecord {
            timestamp: NOW_MS + delta,
            key,
            value,
            headers,
        }
    })
}

/// Appends `records` and returns the batch.
pub(crate) fn build(mut builder: BatchBuilder, records: &[OwnedRecord]) -> Vec<u8> {
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()))
            .collect();
        let record = RecordToWrite {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        builder.append(&record).expect("a small record");
    }
    builder.build().expect("a small batch")
}

/// An uncompressed batch of `count` small records with keys.
pub(crate) fn plain_batch(count: usize) -> Vec<u8> {
    batch(Codec::None, count)
}

/// A batch of `count` small records with keys.
pub(crate) fn batch(codec: Codec, count: usize) -> Vec<u8> {
    let records: Vec<_> = (0..count)
        .map(|index| OwnedRecord {
            timestamp: NOW_MS + index as i64,
            key: Some(format!("key-{index}").into_bytes()),
            value: Some(vec![b'v'; 10 + index]),
            headers: vec![("trace".into(), Some(vec![index as u8]))],
        })
        .collect();
    build(BatchBuilder::new(codec), &records)
}

/// Changes bytes of a batch and makes its CRC right again.
pub(crate) fn with_crc(mut batch: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut batch);
    let crc = crc_of(&batch);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// The batch of this name that kafka-clients 4.3.1 wrote.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let all = include_str!("testdata/kafka-clients-4.3.1.hex");
    let line = all
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let hex = line.expect("a batch of this name").as_bytes();
    let nibble = |digit: u8| char::from(digit).to_digit(16).expect("a hex digit") as u8;
    hex.chunks_exact(2)
        .map(|pair| nibble(pair[0]) << 4 | nibble(pair[1]))
        .collect()
}
