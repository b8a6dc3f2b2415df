//! Sets right what a mutation nearly always breaks, lengths and checksums, so that what lies behind
//! them is reached too.

use millrace::base::limits::{BATCH_HEADER_BYTES, BLOCK_BYTES};
use millrace::record::header::{
    BASE_OFFSET_AT, BATCH_LENGTH_AT, BatchHeader, CRC_AT, MAGIC_AT, MAGIC_V2, crc_of,
};

/// Makes `bytes` whole batches with right CRCs, as far as their lengths go; the last one takes what
/// is left. With `first` their offsets follow each other from there.
pub fn batches(mut bytes: &mut [u8], first: Option<i64>) {
    let mut next = first;
    while bytes.len() >= BATCH_HEADER_BYTES {
        let header = BatchHeader::parse(bytes).expect("as long as a header");
        let mut size = header.size_in_bytes();
        if size < BATCH_HEADER_BYTES || size > bytes.len() {
            size = bytes.len();
        }
        let (batch, rest) = bytes.split_at_mut(size);
        put(batch, BATCH_LENGTH_AT, &(size as i32 - 12).to_be_bytes());
        batch[MAGIC_AT] = MAGIC_V2 as u8;
        if let Some(offset) = next {
            put(batch, BASE_OFFSET_AT, &offset.to_be_bytes());
            let header = BatchHeader::parse(batch).expect("as long as a header");
            next = Some(header.next_offset().0);
        }
        put(batch, CRC_AT, &crc_of(batch).to_be_bytes());
        bytes = rest;
    }
}

/// Sets the CRCs and secrets of a journal's file right: those of its first block, and of every
/// block that begins as a commit does.
pub fn journal(bytes: &mut [u8]) {
    const HEAD_BYTES: usize = 24;
    let Some(head) = bytes.get_mut(..HEAD_BYTES) else {
        return;
    };
    let crc = crc32c::crc32c(&head[8..]);
    put(head, 4, &crc.to_le_bytes());
    let secret = head[8..].to_vec();
    for block in (BLOCK_BYTES as usize..bytes.len()).step_by(BLOCK_BYTES as usize) {
        let commit = &mut bytes[block..];
        let Some(length) = commit.get(32..36).and_then(<[u8]>::first_chunk) else {
            return;
        };
        let length = u32::from_le_bytes(*length) as usize;
        if !commit.starts_with(b"MRJ") || length < 40 || length > commit.len() {
            continue;
        }
        put(commit, 8, &secret);
        let crc = crc32c::crc32c(&commit[8..length]);
        put(commit, 4, &crc.to_le_bytes());
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
