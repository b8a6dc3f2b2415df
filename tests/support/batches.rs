//! Record batches that a test bends out of shape, and the two older message formats.

use bytes::{BufMut, Bytes, BytesMut};
use kacrab_protocol::record::{Record, RecordBatch};

/// Where the fields of a v2 batch's header stand.
pub mod field {
    pub const BASE_OFFSET: usize = 0;
    pub const LENGTH: usize = 8;
    pub const LEADER_EPOCH: usize = 12;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const FIRST_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const PRODUCER_EPOCH: usize = 51;
    pub const BASE_SEQUENCE: usize = 53;
    pub const RECORD_COUNT: usize = 57;
    pub const RECORDS: usize = 61;
}

/// The time of every record: Kafka takes a past of any length and refuses a far future.
pub const TIMESTAMP: i64 = 1_700_000_000_000;

/// A well-formed uncompressed batch of records with these values and the key `key`.
pub fn batch(values: &[&[u8]]) -> Vec<u8> {
    batch_with_key(Some(b"key"), values)
}

/// As [`batch`], with any key or none.
pub fn batch_with_key(key: Option<&[u8]>, values: &[&[u8]]) -> Vec<u8> {
    let records = values
        .iter()
        .zip(0..)
        .map(|(value, at)| Record {
            attributes: 0,
            timestamp_delta: 0,
            offset_delta: at,
            key: key.map(Bytes::copy_from_slice),
            value: Some(Bytes::copy_from_slice(value)),
            headers: Vec::new(),
        })
        .collect();
    let batch = RecordBatch {
        base_offset: 0,
        partition_leader_epoch: -1,
        magic: 2,
        attributes: 0,
        last_offset_delta: i32::try_from(values.len()).expect("a small batch") - 1,
        first_timestamp: TIMESTAMP,
        max_timestamp: TIMESTAMP,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        records,
    };
    let mut bytes = BytesMut::new();
    batch.encode(&mut bytes).expect("an encodable batch");
    bytes.to_vec()
}

/// A batch of an idempotent producer.
pub fn sequenced(producer_id: i64, epoch: i16, sequence: i32, values: &[&[u8]]) -> Vec<u8> {
    let bytes = batch(values);
    let bytes = with(bytes, field::PRODUCER_ID, &producer_id.to_be_bytes());
    let bytes = with(bytes, field::PRODUCER_EPOCH, &epoch.to_be_bytes());
    sealed(with(bytes, field::BASE_SEQUENCE, &sequence.to_be_bytes()))
}

/// The batch with other bytes at `at`; its CRC stays as it was.
pub fn with(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    batch
}

/// The batch with the CRC that its bytes call for.
pub fn sealed(batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&batch[field::ATTRIBUTES..]);
    with(batch, field::CRC, &crc.to_be_bytes())
}

/// The batch with other bytes at `at`, and the right CRC.
pub fn sealed_with(batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    sealed(with(batch, at, bytes))
}

/// A well-formed header over `records` as they are, with the right length and CRC.
pub fn with_records(records: &[u8], count: i32, attributes: i16) -> Vec<u8> {
    let mut bytes = batch(&[b"value"]);
    bytes.truncate(field::RECORDS);
    bytes.extend_from_slice(records);
    let length = i32::try_from(bytes.len() - field::LEADER_EPOCH).expect("a small batch");
    let bytes = with(bytes, field::LENGTH, &length.to_be_bytes());
    let bytes = with(bytes, field::RECORD_COUNT, &count.to_be_bytes());
    let bytes = with(bytes, field::LAST_OFFSET_DELTA, &(count - 1).to_be_bytes());
    sealed_with(bytes, field::ATTRIBUTES, &attributes.to_be_bytes())
}

/// A message of format 0 or 1, as clients before Kafka 0.11 sent them.
pub fn old_message(magic: u8, value: &[u8]) -> Vec<u8> {
    let mut message = BytesMut::new();
    message.put_u8(magic);
    message.put_u8(0);
    if magic == 1 {
        message.put_i64(TIMESTAMP);
    }
    message.put_i32(-1);
    message.put_i32(i32::try_from(value.len()).expect("a small value"));
    message.put_slice(value);
    let mut crc = flate2::Crc::new();
    crc.update(&message);
    let mut bytes = BytesMut::new();
    bytes.put_i64(0);
    bytes.put_i32(i32::try_from(message.len()).expect("a small message") + 4);
    bytes.put_u32(crc.sum());
    bytes.put_slice(&message);
    bytes.to_vec()
}
