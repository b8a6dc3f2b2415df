//! The checks of a produced batch. The first byte says under which rules, and whether length and
//! CRC are set right first; the batch follows. What passes can be read record by record, and
//! passes again as it is stored.

use bytes::Bytes;
use millrace::record::control::EndTransactionMarker;
use millrace::record::header::set_max_timestamp;
use millrace::record::{
    Batches, Decompressor, RecordSet, Rules, SharedBatches, TimestampType, Validated,
    validate_produce,
};

use super::choices::Choices;
use super::seal;

const NOW_MS: i64 = 1_700_000_000_000;
const DECOMPRESSED_BYTES_MAX: u64 = 1 << 20;

pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let flags = choices.byte();
    let mut batch = choices.rest().to_vec();
    if flags & 1 == 1 {
        seal::batches(&mut batch, Some(0));
    }
    let rules = rules(flags);
    let mut decompressor = Decompressor::new();
    walk(&batch, &mut decompressor);
    if let Ok(validated) = validate_produce(&batch, &rules, NOW_MS, &mut decompressor) {
        check_passed(batch, &rules, &validated, &mut decompressor);
    }
}

fn rules(flags: u8) -> Rules {
    Rules {
        batch_bytes_max: 1 << 20,
        segment_bytes: 1 << 20,
        timestamp_type: match flags & 2 {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: match flags & 4 {
            0 => 3_600_000,
            _ => i64::MAX,
        },
        keys_required: flags & 8 != 0,
        zstd_allowed: flags & 16 == 0,
        decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
    }
}

/// Both walks see the same batches, and whatever is in these can be asked for.
fn walk(bytes: &[u8], decompressor: &mut Decompressor) {
    let plain: Vec<_> = Batches::new(bytes).collect();
    let shared: Vec<_> = SharedBatches::new(Bytes::copy_from_slice(bytes)).collect();
    assert_eq!(plain.len(), shared.len());
    for (plain, shared) in plain.into_iter().zip(shared) {
        let (Ok((header, batch)), Ok((same, bytes))) = (plain, shared.clone()) else {
            assert_eq!(plain.err(), shared.err());
            continue;
        };
        assert_eq!((header, batch), (same, &bytes[..]));
        let Ok(set) = RecordSet::open(batch, DECOMPRESSED_BYTES_MAX, decompressor) else {
            continue;
        };
        for record in set.iter().map_while(Result::ok) {
            let _marker = EndTransactionMarker::from_record(&record);
            assert_eq!(record.headers.count(), record.headers.len());
        }
    }
}

fn check_passed(
    mut batch: Vec<u8>,
    rules: &Rules,
    validated: &Validated,
    decompressor: &mut Decompressor,
) {
    let set = RecordSet::open(&batch, DECOMPRESSED_BYTES_MAX, decompressor);
    let set = set.expect("what was checked opens");
    let records = set
        .iter()
        .map(|record| record.expect("what was checked reads"));
    assert_eq!(records.count() as i32, validated.header.records_count);
    let was_created = validated.header.timestamp_type() == TimestampType::CreateTime;
    set_max_timestamp(
        &mut batch,
        validated.timestamp_type,
        validated.max_timestamp,
    );
    if rules.timestamp_type == TimestampType::CreateTime && was_created {
        let again = validate_produce(&batch, rules, NOW_MS, decompressor);
        let again = again.expect("what was checked passes as it is stored");
        assert!(!again.needs_timestamp());
        assert_eq!(again.max_timestamp, validated.max_timestamp);
        assert_eq!(again.body_bytes, validated.body_bytes);
    }
}
