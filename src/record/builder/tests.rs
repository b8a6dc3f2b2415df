//! Built batches against the bytes of Kafka's Java client, and headers field by field. Tests only.

use super::*;
use crate::record::fixtures::{self, NOW_MS, golden};
use crate::record::header::{
    crc_append, crc_range, sequence_minus, sequence_plus, set_base_offset, set_leader_epoch,
    set_max_timestamp,
};

#[test]
fn an_uncompressed_batch_is_byte_for_byte_the_java_clients() {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.leader_epoch = LeaderEpoch(7);
    let headers: [(&str, Option<&[u8]>); 2] = [("h1", Some(b"one")), ("h2", None)];
    let empty: [(&str, Option<&[u8]>); 1] = [("", Some(b""))];
    let record = |timestamp, key, value, headers| RecordToWrite {
        timestamp,
        key,
        value,
        headers,
    };
    let records = [
        record(NOW_MS, Some(&b"key"[..]), Some(&b"value"[..]), &[][..]),
        record(NOW_MS + 5, None, Some(&b"no key"[..]), &headers),
        record(NOW_MS - 1, Some(&b"tombstone"[..]), None, &empty),
        record(NOW_MS + 1, Some(&b""[..]), Some(&b""[..]), &[]),
    ];
    for record in &records {
        builder.append(record).expect("small");
    }
    let batch = builder.build().expect("small");
    assert_eq!(batch, golden("small-none"));
    assert_eq!(builder.uncompressed_bytes(), batch.len());
    assert_eq!(builder.records_count(), 4);
}

#[test]
fn headers_of_the_java_client_parse_and_go_back_to_the_same_bytes() {
    for name in ["small-zstd", "large-gzip", "append-time", "commit-marker"] {
        let batch = golden(name);
        let header = BatchHeader::parse(&batch).expect("a whole header");
        assert_eq!(header.to_bytes(), batch[..BATCH_HEADER_BYTES], "{name}");
        assert_eq!(header.size_in_bytes(), batch.len(), "{name}");
        assert_eq!(header.crc, crc_of(&batch), "{name}");
        assert_eq!(header.partition_leader_epoch, LeaderEpoch(7), "{name}");
    }
    let header = BatchHeader::parse(&golden("large-lz4")).expect("a whole header");
    assert_eq!(header.codec(), Ok(Codec::Lz4));
    assert_eq!(header.producer_id, ProducerId(4711));
    assert_eq!(header.producer_epoch, ProducerEpoch(3));
    assert_eq!(
        (header.base_sequence, header.last_sequence()),
        (2_147_483_600, 51)
    );
    assert_eq!(
        (header.last_offset(), header.next_offset()),
        (Offset(99), Offset(100))
    );
    assert!(header.is_transactional() && !header.is_control() && header.has_producer_id());
    assert_eq!(header.delete_horizon_ms(), None);
    assert_eq!(BatchHeader::parse(&golden("large-lz4")[..60]), None);
}

#[test]
fn offsets_and_epochs_are_assigned_without_a_new_crc() {
    let mut batch = fixtures::plain_batch(3);
    set_base_offset(&mut batch, Offset(1 << 40));
    set_leader_epoch(&mut batch, LeaderEpoch(9));
    let header = BatchHeader::parse(&batch).expect("a whole header");
    assert_eq!(header.last_offset(), Offset((1 << 40) + 2));
    assert_eq!(header.partition_leader_epoch, LeaderEpoch(9));
    assert_eq!(header.crc, crc_of(&batch));
}

#[test]
fn append_time_changes_two_fields_and_the_crc_and_nothing_when_it_is_right() {
    let mut batch = fixtures::plain_batch(3);
    let before = BatchHeader::parse(&batch).expect("a whole header");
    let crc = set_max_timestamp(&mut batch, TimestampType::LogAppendTime, NOW_MS + 77);
    let after = BatchHeader::parse(&batch).expect("a whole header");
    assert_eq!(after.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(after.max_timestamp, NOW_MS + 77);
    assert_eq!((crc, after.crc), (Some(crc_of(&batch)), crc_of(&batch)));
    let same = BatchHeader {
        attributes: before.attributes,
        max_timestamp: before.max_timestamp,
        crc: before.crc,
        ..after
    };
    assert_eq!(same, before);
    let again = set_max_timestamp(&mut batch, TimestampType::LogAppendTime, NOW_MS + 77);
    assert_eq!(again, None);
    set_max_timestamp(&mut batch, TimestampType::CreateTime, before.max_timestamp);
    assert_eq!(batch, fixtures::plain_batch(3));
}

#[test]
fn a_crc_computed_in_pieces_is_the_whole_ones() {
    let batch = golden("large-snappy");
    let covered = &batch[crc_range(batch.len())];
    for piece in [1, 7, 4_096, batch.len()] {
        let crc = covered.chunks(piece).fold(0, crc_append);
        assert_eq!(crc, crc_of(&batch));
    }
    assert!(crc_range(3).is_empty());
}

#[test]
fn sequences_wrap_at_the_end_of_i32() {
    let max = i32::MAX;
    for (sequence, by, sum) in [
        (0, 0, 0),
        (5, 3, 8),
        (max, 1, 0),
        (max - 1, 5, 3),
        (max, max, max - 1),
    ] {
        assert_eq!(sequence_plus(sequence, by), sum);
        assert_eq!(sequence_minus(sum, by), sequence);
    }
}

#[test]
fn hostile_header_values_do_not_overflow() {
    let header = BatchHeader {
        base_offset: Offset(i64::MAX),
        last_offset_delta: i32::MAX,
        batch_length: i32::MIN,
        ..BatchHeader::parse(&golden("small-none")).expect("a whole header")
    };
    assert_eq!(header.last_offset(), Offset(i64::MAX));
    assert_eq!(header.next_offset(), Offset(i64::MAX));
    assert_eq!(header.size_in_bytes(), 12);
}

#[test]
fn a_marked_batch_shows_its_delete_horizon() {
    let header = BatchHeader {
        attributes: 1 << 6,
        base_timestamp: 123,
        ..BatchHeader::parse(&golden("small-none")).expect("a whole header")
    };
    assert_eq!(header.delete_horizon_ms(), Some(123));
}
