//! Looks at a partition's directory from outside: its segments, and the headers of their batches.
//!
//! It knows the v2 batch format only as the protocol guide states it and shares no code with the
//! broker, so that a mistake there is not repeated here.

use std::fs;
use std::path::{Path, PathBuf};

/// A segment file, named by its first offset.
#[derive(Debug)]
pub struct Segment {
    pub base_offset: i64,
    pub log: PathBuf,
}

/// What a v2 batch's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    pub last_offset: i64,
    /// Bytes from the base offset to the end of the last record.
    pub size: usize,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub producer_id: i64,
    pub record_count: i32,
}

impl BatchHeader {
    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn codec(&self) -> i16 {
        self.attributes & 0x07
    }
}

/// The segments of a partition under the data directory `data`, in the order of their offsets.
pub fn segments(data: &Path, topic: &str, partition: i32) -> Vec<Segment> {
    let dir = data.join(format!("{topic}-{partition}"));
    let mut segments: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|log| {
            let name = log.file_stem().expect("a file name").to_string_lossy();
            assert_eq!(name.len(), 20, "a segment's name has 20 digits: {name}");
            let base_offset = name.parse().expect("a segment is named by its offset");
            Segment { base_offset, log }
        })
        .collect();
    segments.sort_by_key(|segment| segment.base_offset);
    segments
}

/// The headers of every batch of a segment file of a stopped broker: the file ends with its last
/// batch, each batch is whole, and its CRC holds.
pub fn batches(log: &Path) -> Vec<BatchHeader> {
    let bytes = fs::read(log).expect("a readable segment");
    let mut rest = &bytes[..];
    let mut headers = Vec::new();
    while !rest.is_empty() {
        let header = parse(rest)
            .unwrap_or_else(|| panic!("{}: no batch at {}", log.display(), at(&bytes, rest)));
        let crc = crc32c::crc32c(&rest[21..header.size]);
        assert_eq!(
            crc,
            header.crc,
            "{}: CRC at {}",
            log.display(),
            at(&bytes, rest)
        );
        rest = &rest[header.size..];
        headers.push(header);
    }
    headers
}

fn at(whole: &[u8], rest: &[u8]) -> usize {
    whole.len() - rest.len()
}

fn parse(bytes: &[u8]) -> Option<BatchHeader> {
    let size = usize::try_from(i32_at(bytes, 8)?).ok()? + 12;
    if size < 61 || size > bytes.len() {
        return None;
    }
    let base_offset = i64_at(bytes, 0)?;
    Some(BatchHeader {
        base_offset,
        last_offset: base_offset + i64::from(i32_at(bytes, 23)?),
        size,
        leader_epoch: i32_at(bytes, 12)?,
        magic: i8::from_be_bytes([bytes[16]]),
        crc: u32::from_be_bytes(bytes[17..21].try_into().ok()?),
        attributes: i16::from_be_bytes(bytes[21..23].try_into().ok()?),
        producer_id: i64_at(bytes, 43)?,
        record_count: i32_at(bytes, 57)?,
    })
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
