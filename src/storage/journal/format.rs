//! What stands in a journal's file. Pure.
//!
//! The first block says that it is one: magic, CRC-32C of what follows, the file's secret. Commits
//! follow, whole blocks each: magic, CRC-32C of what follows, the secret, the commit's number, how
//! many bytes it has and how many entries; then the entries: the lengths of three, the segment's
//! base offset, the position in it; then the three: the name of the partition's directory, its
//! `partition.metadata`, bytes. All numbers are little-endian. Numbers of commits go up by one,
//! over both files of a shard.
//!
//! What clients send lies in these files, so a part of it could look like a commit. The secret is
//! random, and nobody outside is told.

use crate::base::ids::Offset;
use crate::base::limits::BLOCK_BYTES;
use crate::runtime::DmaBuffer;

use super::At;
use crate::storage::log::Log;

const FILE_MAGIC: u32 = u32::from_le_bytes(*b"MRF1");
const MAGIC: u32 = u32::from_le_bytes(*b"MRJ1");
/// The first block: magic, CRC, secret.
const FILE_HEAD_BYTES: usize = 4 + 4 + 16;
/// Magic, CRC, secret, number, bytes, entries.
pub const HEAD_BYTES: usize = 4 + 4 + 16 + 8 + 4 + 4;
/// What the CRC does not cover.
const CRC_END: usize = 8;
/// Lengths of name, identity and bytes; segment; position.
const ENTRY_HEAD_BYTES: usize = 2 + 2 + 4 + 8 + 8;

/// Bytes of a log, and where they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name of the partition's directory.
    pub name: &'a [u8],
    /// What its `partition.metadata` says.
    pub identity: &'a [u8],
    /// Where the bytes belong.
    pub at: At,
    /// Whole batches.
    pub bytes: &'a [u8],
}

/// What the commits of a file carry.
pub type Secret = [u8; 16];

/// The first block of a file.
pub fn encode_head(secret: &Secret) -> DmaBuffer {
    let mut buffer = DmaBuffer::new(BLOCK_BYTES as usize);
    let target = buffer.as_bytes_mut();
    target.fill(0);
    target[..4].copy_from_slice(&FILE_MAGIC.to_le_bytes());
    target[8..FILE_HEAD_BYTES].copy_from_slice(secret);
    let crc = crc32c::crc32c(&target[CRC_END..FILE_HEAD_BYTES]);
    target[4..8].copy_from_slice(&crc.to_le_bytes());
    buffer
}

/// The secret of a file that begins with `bytes`.
pub fn decode_head(bytes: &[u8]) -> Option<Secret> {
    let mut head = Reader(bytes.get(..FILE_HEAD_BYTES)?);
    let magic = u32::from_le_bytes(head.array()?);
    let crc = u32::from_le_bytes(head.array()?);
    let is_sound = magic == FILE_MAGIC && crc == crc32c::crc32c(head.0);
    is_sound.then(|| head.array())?
}

/// What an entry of `bytes` takes.
pub fn entry_bytes(log: &Log, bytes: usize) -> usize {
    ENTRY_HEAD_BYTES + log.name().len() + log.identity().len() + bytes
}

/// A commit of `entries`, which take `bytes` with its head.
pub fn encode<'a>(
    secret: &Secret,
    number: u64,
    entries: impl Iterator<Item = Entry<'a>>,
    bytes: usize,
) -> DmaBuffer {
    let mut buffer = DmaBuffer::new(bytes.next_multiple_of(BLOCK_BYTES as usize));
    let target = buffer.as_bytes_mut();
    let mut at = HEAD_BYTES;
    let mut put = |part: &[u8]| {
        target[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    let mut count = 0u32;
    for entry in entries {
        put(&(entry.name.len() as u16).to_le_bytes());
        put(&(entry.identity.len() as u16).to_le_bytes());
        put(&(entry.bytes.len() as u32).to_le_bytes());
        put(&entry.at.segment.0.to_le_bytes());
        put(&entry.at.position.to_le_bytes());
        put(entry.name);
        put(entry.identity);
        put(entry.bytes);
        count += 1;
    }
    assert_eq!(at, bytes, "entries take what they were said to");
    target[at..].fill(0);
    target[..4].copy_from_slice(&MAGIC.to_le_bytes());
    target[8..24].copy_from_slice(secret);
    target[24..32].copy_from_slice(&number.to_le_bytes());
    target[32..36].copy_from_slice(&(bytes as u32).to_le_bytes());
    target[36..40].copy_from_slice(&count.to_le_bytes());
    let crc = crc32c::crc32c(&target[CRC_END..bytes]);
    target[4..8].copy_from_slice(&crc.to_le_bytes());
    buffer
}

/// A commit that was found whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its number.
    pub number: u64,
    /// What it holds.
    pub entries: Vec<Entry<'a>>,
    /// Whole blocks that it takes.
    pub blocks: usize,
}

/// The commit of a file with this secret that `bytes` begin with, if they do, and it is whole.
pub fn decode<'a>(secret: &Secret, bytes: &'a [u8]) -> Option<Found<'a>> {
    let mut head = Reader(bytes);
    if u32::from_le_bytes(head.array()?) != MAGIC {
        return None;
    }
    let crc = u32::from_le_bytes(head.array()?);
    if head.array()? != *secret {
        return None;
    }
    let number = u64::from_le_bytes(head.array()?);
    let length = u32::from_le_bytes(head.array()?) as usize;
    let count = u32::from_le_bytes(head.array()?);
    let body = bytes.get(CRC_END..length)?;
    if crc32c::crc32c(body) != crc {
        return None;
    }
    let mut reader = Reader(bytes.get(HEAD_BYTES..length)?);
    let entries: Option<Vec<_>> = (0..count).map(|_| reader.entry()).collect();
    Some(Found {
        number,
        entries: entries?,
        blocks: length.div_ceil(BLOCK_BYTES as usize),
    })
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let name = u16::from_le_bytes(self.array()?).into();
        let identity = u16::from_le_bytes(self.array()?).into();
        let bytes = u32::from_le_bytes(self.array()?) as usize;
        let at = At {
            segment: Offset(i64::from_le_bytes(self.array()?)),
            position: u64::from_le_bytes(self.array()?),
        };
        Some(Entry {
            name: self.take(name)?,
            identity: self.take(identity)?,
            at,
            bytes: self.take(bytes)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = [3; 16];

    fn entry(bytes: &[u8]) -> Entry<'_> {
        Entry {
            name: b"t-0",
            identity: b"version: 0",
            at: At {
                segment: Offset(7),
                position: 4000,
            },
            bytes,
        }
    }

    fn commit(number: u64, bodies: &[&[u8]]) -> DmaBuffer {
        let overhead = ENTRY_HEAD_BYTES + 3 + 10;
        let bodies_bytes: usize = bodies.iter().map(|body| overhead + body.len()).sum();
        let entries = bodies.iter().map(|body| entry(body));
        encode(&SECRET, number, entries, HEAD_BYTES + bodies_bytes)
    }

    #[test]
    fn a_commit_is_found_as_it_was_written() {
        let large = vec![5; 9000];
        let buffer = commit(42, &[b"abc", &large]);
        assert_eq!(buffer.len(), 12 << 10);
        let found = decode(&SECRET, buffer.as_bytes()).expect("a commit");
        assert_eq!((found.number, found.blocks), (42, 3));
        assert_eq!(found.entries, [entry(b"abc"), entry(&large)]);
    }

    #[test]
    fn a_file_tells_its_secret() {
        let buffer = encode_head(&SECRET);
        assert_eq!(buffer.len(), 4096);
        assert_eq!(decode_head(buffer.as_bytes()), Some(SECRET));
        for at in 0..FILE_HEAD_BYTES {
            let mut changed = buffer.as_bytes().to_vec();
            changed[at] ^= 1;
            assert_eq!(decode_head(&changed), None, "{at}");
        }
    }

    #[test]
    fn no_part_of_a_commit_and_no_commit_that_was_changed_is_one() {
        let buffer = commit(1, &[b"abc", b"d"]);
        assert_eq!(decode(&[4; 16], buffer.as_bytes()), None, "another file's");
        let bytes = buffer.as_bytes();
        let length = HEAD_BYTES + 2 * (ENTRY_HEAD_BYTES + 13) + 4;
        for cut in 0..length {
            assert_eq!(decode(&SECRET, &bytes[..cut]), None, "{cut}");
        }
        for at in 0..length {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x10;
            assert_eq!(decode(&SECRET, &changed), None, "{at}");
        }
        assert_eq!(decode(&SECRET, &[0; 4096]), None);
    }
}
