//! What is produced: records of given sizes, keys and entropy, in batches that are built before the
//! load begins, or, where each record has a moment at which it is due, when that has come. Pure.

use bytes::{Bytes, BytesMut};

use super::sizes::Sizes;
use crate::base::clock::TimestampMs;
use crate::base::ids::{ProducerEpoch, ProducerId};
use crate::base::limits::BATCH_HEADER_BYTES;
use crate::base::random::split_mix64;
use crate::record::builder::{BatchBuilder, BuildError, RecordToWrite};
use crate::record::compression::Codec;
use crate::record::header::{BatchHeader, crc_append, crc_range};

/// Different batches of one load: enough that a codec, or a disk that looks for doubles, gains
/// nothing from their being the same.
const PREPARED: usize = 32;

/// Values are cut out of so much text.
const TEXT_BYTES: usize = 4 << 20;

/// What tells the records of a run: its number, and when each was due.
pub const STAMP_BYTES: usize = 16;

/// What a record takes in a batch beside key and value, at most.
const RECORD_OVERHEAD_BYTES: usize = 24;

/// What records are like.
#[derive(Clone, Debug)]
pub struct Records {
    /// Values, in bytes.
    pub value_bytes: Sizes,
    /// Keys, in bytes; 0 for none.
    pub key_bytes: usize,
    /// How batches are compressed.
    pub codec: Codec,
    /// Batches are filled up to here, in bytes before compression.
    pub batch_bytes: usize,
}

/// A batch that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The whole batch.
    pub bytes: Bytes,
    /// How many records it has.
    pub records: u64,
}

/// Makes records and batches.
#[derive(Debug)]
pub struct Workload {
    records: Records,
    text: Vec<u8>,
    next: u64,
}

impl Workload {
    /// A workload that is the same for the same `seed`.
    pub fn new(records: Records, seed: u64) -> Self {
        let bytes = TEXT_BYTES + records.value_bytes.max().max(records.key_bytes);
        let text = text(seed, bytes);
        Self {
            records,
            text,
            next: seed,
        }
    }

    /// The batches of a load that sends as fast as it may.
    pub fn prepare(&mut self, now_ms: TimestampMs) -> Result<Vec<Batch>, BuildError> {
        let prepare_one = |_| {
            let mut building = Building::new(self.records.codec);
            while building.records == 0 || !building.is_full(&self.records) {
                self.append(&mut building, now_ms, None)?;
            }
            building.finish()
        };
        (0..PREPARED).map(prepare_one).collect()
    }

    /// An empty batch for records that are due one by one.
    pub fn begin(&self) -> Building {
        Building::new(self.records.codec)
    }

    /// Whether another record would make the batch larger than it may be.
    pub fn is_full(&self, building: &Building) -> bool {
        building.is_full(&self.records)
    }

    /// Adds a record, which begins with `stamp` if there is one.
    pub fn append(
        &mut self,
        building: &mut Building,
        timestamp: TimestampMs,
        stamp: Option<[u8; STAMP_BYTES]>,
    ) -> Result<(), BuildError> {
        let number = mixed(self.next);
        self.next = self.next.wrapping_add(1);
        let bytes = self.records.value_bytes.pick(number);
        let at = (number >> 20) as usize % TEXT_BYTES;
        let plain = &self.text[at..at + bytes];
        let mut stamped;
        let value = match stamp {
            None => plain,
            Some(stamp) => {
                stamped = plain.to_vec();
                stamped[..STAMP_BYTES].copy_from_slice(&stamp);
                &stamped
            }
        };
        let at = (number >> 8) as usize % TEXT_BYTES;
        let key = &self.text[at..at + self.records.key_bytes];
        let key = (!key.is_empty()).then_some(key);
        building.records += 1;
        building.builder.append(&RecordToWrite {
            timestamp,
            key,
            value: Some(value),
            headers: &[],
        })
    }
}

/// A batch in the making.
#[derive(Debug)]
pub struct Building {
    builder: BatchBuilder,
    records: u64,
}

impl Building {
    fn new(codec: Codec) -> Self {
        Self {
            builder: BatchBuilder::new(codec),
            records: 0,
        }
    }

    fn is_full(&self, records: &Records) -> bool {
        let next = records.value_bytes.max() + records.key_bytes + RECORD_OVERHEAD_BYTES;
        self.builder.uncompressed_bytes() + next > records.batch_bytes
    }

    /// Whether it has no record yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The batch with its CRC.
    pub fn finish(self) -> Result<Batch, BuildError> {
        Ok(Batch {
            bytes: self.builder.build()?.into(),
            records: self.records,
        })
    }
}

/// The header of `batch` as an idempotent producer sends it, with the CRC that it has then.
pub fn of_producer(
    batch: &[u8],
    id: ProducerId,
    epoch: ProducerEpoch,
    base_sequence: i32,
) -> Option<Bytes> {
    let mut header = BatchHeader::parse(batch)?;
    header.producer_id = id;
    header.producer_epoch = epoch;
    header.base_sequence = base_sequence;
    let covered = crc_range(batch.len());
    let crc = crc_append(0, &header.to_bytes()[covered.start..]);
    header.crc = crc_append(crc, &batch[BATCH_HEADER_BYTES..]);
    Some(BytesMut::from(&header.to_bytes()[..]).freeze())
}

/// Capital letters in no order, as Kafka's own load generator sends them.
fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let letters = |word: u64| word.to_le_bytes().map(|byte| b'A' + byte % 26);
    let words = (0..bytes.div_ceil(8) as u64).map(|at| mixed(seed ^ at << 32));
    words.flat_map(letters).take(bytes).collect()
}

/// A number that looks random, and is the same for the same one.
fn mixed(mut number: u64) -> u64 {
    split_mix64(&mut number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::header::crc_of;

    fn workload(value_bytes: &str, batch_bytes: usize) -> Workload {
        let records = Records {
            value_bytes: value_bytes.parse().expect("sizes"),
            key_bytes: 8,
            codec: Codec::None,
            batch_bytes,
        };
        Workload::new(records, 7)
    }

    #[test]
    fn batches_are_as_large_as_they_may_be_and_differ() {
        let batches = workload("100", 16_384).prepare(1).expect("batches");
        assert_eq!(batches.len(), PREPARED);
        for batch in &batches {
            assert!((16_000..=16_384).contains(&batch.bytes.len()));
            assert!(batch.records > 100);
        }
        assert_ne!(batches[0].bytes, batches[1].bytes);
        // One record at least, however large.
        let large = workload("100000", 16_384).prepare(1).expect("batches");
        assert!(large.iter().all(|batch| batch.records == 1));
    }

    #[test]
    fn a_header_of_a_producer_has_the_right_crc() {
        let batch = workload("10..50", 1_000)
            .prepare(1)
            .expect("batches")
            .remove(0);
        let (id, epoch) = (ProducerId(9), ProducerEpoch(2));
        let header = of_producer(&batch.bytes, id, epoch, 40).expect("a batch");
        let whole = [&header, &batch.bytes[BATCH_HEADER_BYTES..]].concat();
        let parsed = BatchHeader::parse(&whole).expect("a header");
        assert_eq!(parsed.crc, crc_of(&whole));
        assert_eq!((parsed.producer_id, parsed.base_sequence), (id, 40));
        assert_eq!(parsed.records_count as u64, batch.records);
    }
}
