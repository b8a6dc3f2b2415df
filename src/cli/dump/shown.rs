//! A batch as it is printed: a line and a line for each record, or an object of JSON.

use std::borrow::Cow;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::decoded::Kind;
use super::segment::RawBatch;
use crate::base::limits::DECOMPRESSED_BATCH_BYTES_MAX;
use crate::cli::CliError;
use crate::cli::output::{Output, counted};
use crate::cli::record::{Data, RecordRead};
use crate::cli::time::show_point;
use crate::record::{Decompressor, RecordSet, RecordView, TimestampType};

/// A batch, with its records where they are wanted.
#[derive(Serialize)]
pub(super) struct Batch {
    file: String,
    position: u64,
    size: usize,
    base_offset: i64,
    last_offset: i64,
    records_count: i32,
    codec: String,
    timestamp_type: &'static str,
    base_timestamp: i64,
    max_timestamp: i64,
    leader_epoch: i32,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    transactional: bool,
    control: bool,
    crc: u32,
    crc_valid: bool,
    /// How many offsets are left out before it, as where a log was compacted.
    #[serde(skip_serializing_if = "is_zero")]
    offsets_missing: i64,
    /// Where its offsets are not behind those before it, which no CRC tells, what they may begin
    /// at.
    #[serde(skip_serializing_if = "Option::is_none")]
    out_of_order: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Vec<Record>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Record {
    #[serde(flatten)]
    record: RecordRead<'static>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded: Option<Value>,
}

impl Batch {
    pub(super) fn new(
        file: &Path,
        batch: &RawBatch,
        with_records: bool,
        kind: Kind,
        decompressor: &mut Decompressor,
    ) -> Self {
        let header = &batch.header;
        let (records, error) = match with_records {
            true => match records(batch, kind, decompressor) {
                Ok(records) => (Some(records), None),
                Err(error) => (None, Some(error)),
            },
            false => (None, None),
        };
        let codec = header.codec();
        Self {
            file: file.display().to_string(),
            position: batch.position,
            size: batch.bytes.len(),
            base_offset: header.base_offset.0,
            last_offset: header.last_offset().0,
            records_count: header.records_count,
            codec: codec.map_or_else(|id| id.to_string(), |codec| codec.name().to_owned()),
            timestamp_type: match header.timestamp_type() {
                TimestampType::CreateTime => "CreateTime",
                TimestampType::LogAppendTime => "LogAppendTime",
            },
            base_timestamp: header.base_timestamp,
            max_timestamp: header.max_timestamp,
            leader_epoch: header.partition_leader_epoch.0,
            producer_id: header.producer_id.0,
            producer_epoch: header.producer_epoch.0,
            base_sequence: header.base_sequence,
            transactional: header.is_transactional(),
            control: header.is_control(),
            crc: header.crc,
            crc_valid: batch.crc_valid,
            offsets_missing: 0,
            out_of_order: None,
            records,
            error,
        }
    }

    /// Compares its offset with the one behind the batch before, or in the segment's name.
    pub(super) fn hold_against(&mut self, expected_offset: Option<i64>) {
        let Some(expected) = expected_offset else {
            return;
        };
        self.out_of_order = (self.base_offset < expected).then_some(expected);
        self.offsets_missing = self.base_offset.saturating_sub(expected).max(0);
    }

    /// What is wrong with it.
    pub(super) fn fault(&self) -> Option<&'static str> {
        if !self.crc_valid || self.error.is_some() {
            return Some("is damaged");
        }
        self.out_of_order.map(|_| "is out of order")
    }

    pub(super) fn print(&self, output: &mut Output) -> Result<(), CliError> {
        let (first, last) = (self.base_offset, self.last_offset);
        let count = u64::try_from(self.records_count).unwrap_or(0);
        let mut line = format!(
            "  {first}..{last} at {}: {}, {} bytes, {}, {} {}, epoch {}",
            self.position,
            counted(count, "record"),
            self.size,
            self.codec,
            self.timestamp_type,
            show_point(self.max_timestamp),
            self.leader_epoch,
        );
        if self.producer_id >= 0 {
            line += &format!(
                ", producer {} epoch {} sequence {}",
                self.producer_id, self.producer_epoch, self.base_sequence
            );
        }
        for (is, word) in [
            (self.transactional, ", transactional"),
            (self.control, ", control"),
        ] {
            line += if is { word } else { "" };
        }
        line += if self.crc_valid {
            ", crc ok"
        } else {
            ", CRC WRONG"
        };
        if let Some(expected) = self.out_of_order {
            line += &format!(", OFFSET OUT OF ORDER: {expected} is the least");
        }
        if self.offsets_missing > 0 {
            let missing = self.offsets_missing.unsigned_abs();
            line += &format!(", {} missing before it", counted(missing, "offset"));
        }
        output.line(line)?;
        if let Some(error) = &self.error {
            output.line(format_args!("    {error}"))?;
        }
        for record in self.records.iter().flatten() {
            output.line(record.line())?;
        }
        Ok(())
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn records(
    batch: &RawBatch,
    kind: Kind,
    decompressor: &mut Decompressor,
) -> Result<Vec<Record>, String> {
    let set = RecordSet::open(&batch.bytes, DECOMPRESSED_BATCH_BYTES_MAX, decompressor);
    let set = set.map_err(|error| error.to_string())?;
    let is_control = batch.header.is_control();
    let record = |record: RecordView<'_>| Record {
        record: owned(&record),
        decoded: kind.decode(&record, is_control),
    };
    let records = set
        .iter()
        .map(|read| read.map(record).map_err(|error| error.to_string()));
    records.collect()
}

fn owned(record: &RecordView<'_>) -> RecordRead<'static> {
    let data = |bytes: &[u8]| match Data::new(bytes) {
        Data::Text(text) => Data::Text(Cow::Owned(text.into_owned())),
        Data::Binary { base64 } => Data::Binary { base64 },
    };
    let header = |(name, value): (&[u8], Option<&[u8]>)| {
        let name = String::from_utf8_lossy(name).into_owned();
        (Cow::Owned(name), value.map(data))
    };
    RecordRead {
        topic: None,
        partition: None,
        offset: record.offset.0,
        timestamp: (record.timestamp >= 0).then_some(record.timestamp),
        key: record.key.map(data),
        value: record.value.map(data),
        headers: record.headers.map(header).collect(),
    }
}

impl Record {
    fn line(&self) -> String {
        let record = &self.record;
        let time = record.timestamp.map_or_else(|| "-".to_owned(), show_point);
        let mut line = format!("    {} {time}", record.offset);
        if let Some(decoded) = &self.decoded {
            return line + " " + &decoded.to_string();
        }
        let text = |data: &Option<Data<'_>>| match data {
            None => "null".to_owned(),
            Some(Data::Text(text)) => format!("{text:?}"),
            Some(Data::Binary { base64 }) => format!("base64:{base64}"),
        };
        line += &format!(" {} = {}", text(&record.key), text(&record.value));
        for (name, value) in &record.headers {
            line += &format!(" {name}:{}", text(value));
        }
        line
    }
}
