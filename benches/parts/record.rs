//! Validation: everything that a batch has to pass before it is appended, its CRC first.
//!
//! A broker computes the CRC while it copies; here it has a pass of its own over bytes that lie in
//! the cache. How much of the whole it is, the CRC alone tells.

use std::hint::black_box;

use bytes::Bytes;
use millrace::record::header::{BatchHeader, crc_of};
use millrace::record::{Codec, Decompressor, Rules, TimestampType, validate_produce};

use super::{NOW, Part, batch};

const CALLS: u64 = 8;

/// Kafka's defaults, but for the size of a batch.
const RULES: Rules = Rules {
    batch_bytes_max: 2 << 20,
    segment_bytes: 1 << 30,
    timestamp_type: TimestampType::CreateTime,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: 3_600_000,
    keys_required: false,
    zstd_allowed: true,
    decompressed_bytes_max: 16 << 20,
};

fn validate(name: &'static str, batch: Bytes) -> Part {
    let mut decompressor = Decompressor::default();
    Part::new(name, CALLS, batch.len() as u64, move || {
        for _ in 0..CALLS {
            let checked = validate_produce(black_box(&batch), &RULES, NOW, &mut decompressor);
            black_box(checked.expect("a right batch"));
        }
    })
}

fn crc(name: &'static str, batch: Bytes) -> Part {
    let header = BatchHeader::parse(&batch).expect("a batch");
    Part::new(name, CALLS, batch.len() as u64, move || {
        for _ in 0..CALLS {
            assert_eq!(crc_of(black_box(&batch)), header.crc);
        }
    })
}

pub fn parts() -> Vec<Part> {
    vec![
        validate("validate/1x100B", batch(Codec::None, 1, 100)),
        validate("validate/64x1KiB", batch(Codec::None, 64, 1024)),
        validate("validate/600x100B", batch(Codec::None, 600, 100)),
        validate("validate/1000x1KiB", batch(Codec::None, 1000, 1024)),
        validate("validate/lz4-600x100B", batch(Codec::Lz4, 600, 100)),
        validate("validate/zstd-600x100B", batch(Codec::Zstd, 600, 100)),
        crc("crc/64KiB", batch(Codec::None, 64, 1024)),
    ]
}
