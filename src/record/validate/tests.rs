//! One row for each way in which a batch can be wrong, then mutation. Tests only.

use proptest::prelude::*;

use super::*;
use crate::record::batches::Batches;
use crate::record::builder::{BatchBuilder, RecordToWrite};
use crate::record::fixtures::{self, NOW_MS, OwnedRecord, golden, rules, with_crc};
use crate::record::header::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, BATCH_LENGTH_AT, LAST_OFFSET_DELTA_AT, MAGIC_AT,
    MAX_TIMESTAMP_AT, NO_TIMESTAMP, PRODUCER_EPOCH_AT, PRODUCER_ID_AT, RECORDS_COUNT_AT,
};

fn check(batch: &[u8], rules: &Rules) -> Result<Validated, RecordError> {
    validate_produce(batch, rules, NOW_MS, &mut Decompressor::new())
}

fn put(at: usize, value: &[u8]) -> impl FnOnce(&mut [u8]) {
    move |batch| batch[at..at + value.len()].copy_from_slice(value)
}

/// A batch around `body`, as if it were `count` records.
fn around(body: &[u8], count: i32, codec: Codec) -> Vec<u8> {
    let packed = crate::record::compression::compress(codec, body).expect("compresses");
    let mut batch = fixtures::batch(codec, 1)[..RECORDS_AT].to_vec();
    batch.extend_from_slice(&packed);
    let length = (batch.len() - 12) as i32;
    batch[BATCH_LENGTH_AT..][..4].copy_from_slice(&length.to_be_bytes());
    batch[LAST_OFFSET_DELTA_AT..][..4].copy_from_slice(&(count - 1).to_be_bytes());
    with_crc(batch, put(RECORDS_COUNT_AT, &count.to_be_bytes()))
}

#[test]
fn what_kafkas_java_client_wrote_passes_with_every_codec() {
    for codec in Codec::ALL {
        let batch = golden(&format!("small-{codec}"));
        let validated = check(&batch, &rules()).expect("a good batch");
        assert_eq!(validated.header.codec(), Ok(codec));
        assert_eq!(validated.max_timestamp, 1_700_000_000_005);
        assert!(!validated.needs_timestamp());
        if codec != Codec::None {
            let batch = golden(&format!("large-{codec}"));
            let validated = check(&batch, &rules()).expect("a good batch");
            assert!(validated.header.is_transactional());
            assert_eq!(validated.header.records_count, 100);
            assert_eq!(validated.header.last_sequence(), 51);
            assert!(validated.body_bytes > 200_000);
        }
    }
}

#[test]
fn framing_decides_before_anything_else() {
    let good = fixtures::plain_batch(2);
    let size = good.len();
    let changed = |at: usize, value: &[u8]| {
        let mut batch = good.clone();
        put(at, value)(&mut batch);
        batch
    };
    let incomplete = |needed_bytes, remaining_bytes| RecordError::Incomplete {
        needed_bytes,
        remaining_bytes,
    };
    let length = |batch_length| RecordError::Length { batch_length };
    let table = [
        (Vec::new(), RecordError::NoBatch),
        (good[..11].to_vec(), RecordError::NoBatch),
        (good[..16].to_vec(), RecordError::NoBatch),
        (good[..60].to_vec(), RecordError::NoBatch),
        (good[..size - 1].to_vec(), incomplete(size, size - 1)),
        (
            changed(BATCH_LENGTH_AT, &(-1_i32).to_be_bytes()),
            length(-1),
        ),
        (changed(BATCH_LENGTH_AT, &13_i32.to_be_bytes()), length(13)),
        (changed(BATCH_LENGTH_AT, &48_i32.to_be_bytes()), length(48)),
        (changed(MAGIC_AT, &[0]), RecordError::OldMagic { magic: 0 }),
        (changed(MAGIC_AT, &[1]), RecordError::OldMagic { magic: 1 }),
        (
            changed(MAGIC_AT, &[3]),
            RecordError::UnknownMagic { magic: 3 },
        ),
        (
            changed(MAGIC_AT, &[255]),
            RecordError::UnknownMagic { magic: -1 },
        ),
        (
            [&good[..], &[0]].concat(),
            RecordError::MoreThanOneBatch { bytes: 1 },
        ),
        (
            [&good[..], &good[..]].concat(),
            RecordError::MoreThanOneBatch { bytes: size },
        ),
    ];
    for (records, expected) in table {
        assert_eq!(check(&records, &rules()), Err(expected));
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let good = fixtures::plain_batch(2);
    let changed = |at: usize, value: &[u8]| with_crc(good.clone(), put(at, value));
    let i32_at = |at, value: i32| changed(at, &value.to_be_bytes());
    let attributes = |bits: i16| changed(ATTRIBUTES_AT, &bits.to_be_bytes());
    let count = |records_count| RecordError::RecordsCount { records_count };
    let range = |records_count, last_offset_delta| RecordError::OffsetRange {
        records_count,
        last_offset_delta,
    };
    let sequence = |epoch, base_sequence| RecordError::Sequence {
        producer_id: ProducerId(9),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence,
    };
    let producer = |epoch: i16, base_sequence: i32| {
        with_crc(good.clone(), |batch| {
            put(PRODUCER_ID_AT, &9_i64.to_be_bytes())(batch);
            put(PRODUCER_EPOCH_AT, &epoch.to_be_bytes())(batch);
            put(BASE_SEQUENCE_AT, &base_sequence.to_be_bytes())(batch);
        })
    };
    let base_offset = RecordError::BaseOffset {
        base_offset: Offset(1),
    };
    let table = [
        (changed(0, &1_i64.to_be_bytes()), base_offset),
        (i32_at(RECORDS_COUNT_AT, 0), count(0)),
        (i32_at(RECORDS_COUNT_AT, -2), count(-2)),
        (i32_at(RECORDS_COUNT_AT, 3), range(3, 1)),
        (i32_at(LAST_OFFSET_DELTA_AT, 0), range(2, 0)),
        (i32_at(LAST_OFFSET_DELTA_AT, i32::MIN), range(2, i32::MIN)),
        (attributes(0b10_0000), RecordError::ControlBatch),
        (attributes(0b11_0000), RecordError::ControlBatch),
        (attributes(5), RecordError::UnknownCodec { id: 5 }),
        (attributes(7), RecordError::UnknownCodec { id: 7 }),
        (producer(0, -1), sequence(0, -1)),
        (producer(-1, 0), sequence(-1, 0)),
    ];
    for (batch, expected) in table {
        assert_eq!(check(&batch, &rules()), Err(expected));
    }
    assert!(check(&producer(0, 0), &rules()).is_ok());
    // The attributes that have no meaning yet are let through, as in Kafka.
    assert!(check(&attributes(1 << 9), &rules()).is_ok());
}

#[test]
fn a_flipped_bit_under_the_crc_is_found_and_one_outside_is_not_its_business() {
    let good = fixtures::plain_batch(2);
    for at in ATTRIBUTES_AT..good.len() {
        let mut batch = good.clone();
        batch[at] ^= 0x10;
        let error = check(&batch, &rules()).expect_err("a wrong CRC");
        assert!(
            matches!(error, RecordError::Crc { .. }),
            "byte {at}: {error}"
        );
    }
    let mut batch = good.clone();
    crate::record::header::set_leader_epoch(&mut batch, crate::base::ids::LeaderEpoch(77));
    assert!(check(&batch, &rules()).is_ok());
}

#[test]
fn sizes_are_held_against_topic_and_segment() {
    let batch = fixtures::plain_batch(2);
    let size = batch.len() as u32;
    let with = |batch_bytes_max, segment_bytes| Rules {
        batch_bytes_max,
        segment_bytes,
        ..rules()
    };
    assert!(check(&batch, &with(size, size)).is_ok());
    let too_large = RecordError::BatchTooLarge {
        batch_bytes: batch.len(),
        batch_bytes_max: size - 1,
    };
    assert_eq!(check(&batch, &with(size - 1, size)), Err(too_large));
    let larger = RecordError::LargerThanSegment {
        batch_bytes: batch.len(),
        segment_bytes: size - 1,
    };
    assert_eq!(check(&batch, &with(size, size - 1)), Err(larger));
}

#[test]
fn zstd_needs_a_request_that_knows_it() {
    let rules = Rules {
        zstd_allowed: false,
        ..rules()
    };
    let batch = fixtures::batch(Codec::Zstd, 1);
    assert_eq!(check(&batch, &rules), Err(RecordError::ZstdNotAllowed));
    assert!(check(&fixtures::batch(Codec::Lz4, 1), &rules).is_ok());
}

#[test]
fn malformed_records_are_found_with_every_codec() {
    use MalformedRecord::*;
    // length, attributes, timestamp delta, offset delta, key, value, headers
    let good: &[u8] = &[12, 0, 0, 0, 1, 1, 0];
    let length = |length| Length { length };
    let field = |length| FieldLength { length };
    let table: &[(&[u8], MalformedRecord)] = &[
        (&[], Cut),
        (&good[..1], Cut),
        (&good[..6], Cut),
        (&[14, 0, 0, 0, 1, 1, 0], length(7)),
        (&[10, 0, 0, 0, 1, 1, 0], length(5)),
        (&[1, 0, 0, 0, 1, 1, 0], length(-1)),
        (&[12, 0, 0, 2, 1, 1, 0], OffsetDelta { offset_delta: 1 }),
        (&[12, 0, 0, 1, 1, 1, 0], OffsetDelta { offset_delta: -1 }),
        (&[12, 0, 0, 0, 3, 1, 0], field(-2)),
        (&[12, 0, 0, 0, 1, 3, 0], field(-2)),
        (&[12, 0, 0, 0, 200, 1, 0], field(100)),
        (&[12, 0, 0, 0, 1, 1, 1], Headers { headers: -1 }),
        (&[12, 0, 0, 0, 1, 1, 2], Headers { headers: 1 }),
        (&[16, 0, 0, 0, 1, 1, 2, 1, 1], HeaderKey),
        (&[16, 0, 0, 0, 1, 1, 2, 0, 3], field(-2)),
        (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01], Varint),
        (
            &[26, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2, 0, 1],
            Varint,
        ),
    ];
    for codec in Codec::ALL {
        assert!(check(&around(good, 1, codec), &rules()).is_ok(), "{codec}");
        for (body, fault) in table {
            let mut body = body.to_vec();
            let is_cut = *fault == Cut;
            if !is_cut {
                // Bytes of a next record behind it must not hide the fault.
                body.extend_from_slice(&[0; 7]);
            }
            let error = check(&around(&body, 1, codec), &rules()).expect_err("malformed");
            let expected = RecordError::Malformed {
                index: 0,
                fault: *fault,
            };
            assert_eq!(error, expected, "{codec} {body:?}");
        }
        let after = check(&around(&[good, &[0]].concat(), 1, codec), &rules());
        assert_eq!(
            after,
            Err(RecordError::BytesAfterRecords { count: 1 }),
            "{codec}"
        );
        let cut = check(&around(good, 2, codec), &rules()).expect_err("one is missing");
        let expected = RecordError::Malformed {
            index: 1,
            fault: Cut,
        };
        assert_eq!(cut, expected, "{codec}");
    }
}

#[test]
fn what_does_not_decompress_and_what_is_too_much_are_told_apart() {
    let records = [OwnedRecord {
        timestamp: NOW_MS,
        key: None,
        value: Some(vec![0; 3 << 20]),
        headers: Vec::new(),
    }];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = fixtures::build(BatchBuilder::new(codec), &records);
        assert!(check(&batch, &rules()).is_ok(), "{codec}");
        let bytes_max = 1 << 20;
        let small = Rules {
            decompressed_bytes_max: bytes_max,
            ..rules()
        };
        let too_large = RecordError::DecompressedTooLarge { codec, bytes_max };
        assert_eq!(check(&batch, &small), Err(too_large));
        let garbage = with_crc(batch, |batch| batch[RECORDS_AT..].fill(0x55));
        let error = check(&garbage, &rules()).expect_err("garbage");
        assert!(
            matches!(error, RecordError::Compression { .. }),
            "{codec}: {error}"
        );
    }
}

#[test]
fn compacted_topics_name_every_record_without_a_key() {
    let compacted = Rules {
        keys_required: true,
        ..rules()
    };
    for codec in Codec::ALL {
        let batch = golden(&format!("small-{codec}"));
        let Err(RecordError::InvalidRecords(refused)) = check(&batch, &compacted) else {
            panic!("{codec}: a record without a key passed");
        };
        assert_eq!(refused.named, [(1, RefusedRecord::NoKey)]);
        assert!(check(&fixtures::batch(codec, 3), &compacted).is_ok());
    }
    let keyless = OwnedRecord {
        timestamp: NOW_MS,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    let batch = fixtures::build(BatchBuilder::new(Codec::None), &vec![keyless; 1_000]);
    let Err(RecordError::InvalidRecords(refused)) = check(&batch, &compacted) else {
        panic!("records without keys passed");
    };
    assert_eq!(refused.count, 1_000);
    assert_eq!(refused.named.len(), REFUSED_RECORDS_NAMED_MAX);
}

#[test]
fn timestamps_must_be_near_the_clock() {
    let near = Rules {
        timestamp_before_max_ms: 10,
        timestamp_after_max_ms: 5,
        ..rules()
    };
    let at = |timestamp| {
        let mut builder = BatchBuilder::new(Codec::None);
        let record = RecordToWrite {
            timestamp,
            ..RecordToWrite::default()
        };
        builder.append(&record).expect("a small record");
        builder.build().expect("a small batch")
    };
    for good in [NOW_MS - 10, NOW_MS, NOW_MS + 5, NO_TIMESTAMP] {
        assert!(check(&at(good), &near).is_ok(), "{good}");
    }
    for timestamp in [NOW_MS - 11, NOW_MS + 6, 0, i64::MIN, i64::MAX] {
        let Err(RecordError::InvalidTimestamps(refused)) = check(&at(timestamp), &near) else {
            panic!("{timestamp} passed");
        };
        assert_eq!(refused.named, [(0, RefusedRecord::Timestamp { timestamp })]);
    }
}

#[test]
fn the_timestamp_type_follows_the_topic() {
    let append_time = Rules {
        timestamp_type: TimestampType::LogAppendTime,
        timestamp_after_max_ms: 0,
        ..rules()
    };
    let batch = fixtures::plain_batch(3);
    let validated = check(&batch, &append_time).expect("timestamps do not matter");
    assert_eq!(validated.max_timestamp, NOW_MS);
    assert!(validated.needs_timestamp());

    // Clients may not set LogAppendTime where the topic has it, and where the topic has not, the
    // batch is stored as CreateTime, as in Kafka.
    let from_client = with_crc(batch, put(ATTRIBUTES_AT, &8_i16.to_be_bytes()));
    let Err(RecordError::InvalidTimestamps(refused)) = check(&from_client, &append_time) else {
        panic!("a client's LogAppendTime passed");
    };
    assert_eq!(refused.named[0], (0, RefusedRecord::AppendTime));
    assert_eq!(refused.count, 3);
    let validated = check(&from_client, &rules()).expect("stored as CreateTime");
    assert_eq!(validated.timestamp_type, TimestampType::CreateTime);
    assert!(validated.needs_timestamp());
}

#[test]
fn a_wrong_maximum_timestamp_is_put_right() {
    let wrong = with_crc(
        fixtures::plain_batch(3),
        put(MAX_TIMESTAMP_AT, &(NOW_MS + 999_999).to_be_bytes()),
    );
    let validated = check(&wrong, &rules()).expect("the header's maximum is not trusted");
    assert!(validated.needs_timestamp());
    let mut stored = wrong;
    let (timestamp_type, max) = (validated.timestamp_type, validated.max_timestamp);
    let crc = crate::record::header::set_max_timestamp(&mut stored, timestamp_type, max);
    assert!(crc.is_some());
    assert_eq!(stored, fixtures::plain_batch(3));
}

proptest! {
    #[test]
    fn good_batches_pass_and_their_records_are_measured(
        records in prop::collection::vec(fixtures::any_record(), 1..40),
    ) {
        let newest = records.iter().map(|record| record.timestamp).max();
        for codec in Codec::ALL {
            let batch = fixtures::build(BatchBuilder::new(codec), &records);
            let validated = check(&batch, &rules()).expect("a good batch");
            prop_assert_eq!(Some(validated.max_timestamp), newest);
            prop_assert_eq!(validated.header.records_count as usize, records.len());
        }
    }

    /// Damage with a right CRC reaches every check; nothing may panic, and what still passes must
    /// be readable in full.
    #[test]
    fn mutations_never_panic_and_what_passes_can_be_read(
        count in 1_usize..6,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for codec in Codec::ALL {
            let mut batch = fixtures::batch(codec, count);
            if let Some(cut) = cut {
                batch.truncate(RECORDS_AT.max(cut.index(batch.len())));
                let length = (batch.len() - 12) as i32;
                batch[BATCH_LENGTH_AT..][..4].copy_from_slice(&length.to_be_bytes());
            }
            let batch = with_crc(batch, |batch| {
                for (at, byte) in &flips {
                    let at = ATTRIBUTES_AT + at.index(batch.len() - ATTRIBUTES_AT);
                    batch[at] ^= byte;
                }
            });
            if let Ok(validated) = check(&batch, &rules()) {
                let mut decompressor = Decompressor::new();
                let set = crate::record::view::RecordSet::open(&batch, 8 << 20, &mut decompressor);
                let set = set.expect("it decompressed before");
                prop_assert_eq!(set.iter().filter(Result::is_ok).count(), set.iter().count());
                prop_assert_eq!(set.iter().count(), validated.header.records_count as usize);
            }
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = check(&noise, &rules());
        let _ = Batches::new(&noise).count();
        let mut framed = noise;
        if framed.len() >= RECORDS_AT {
            let length = (framed.len() - 12) as i32;
            framed[..8].fill(0);
            framed[BATCH_LENGTH_AT..][..4].copy_from_slice(&length.to_be_bytes());
            framed[MAGIC_AT] = 2;
            framed[ATTRIBUTES_AT..][..2].copy_from_slice(&(length as i16 & 7).to_be_bytes());
            let framed = with_crc(framed, put(RECORDS_COUNT_AT, &[0, 0, 0, 1]));
            let framed = with_crc(framed, put(LAST_OFFSET_DELTA_AT, &[0, 0, 0, 0]));
            let _ = check(&framed, &rules());
        }
    }
}
