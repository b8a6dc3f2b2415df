//! What stands in a journal's file. Pure.
//!
//! The first block says that it is one: magic, CRC-32C of what follows, the file's secret. Commits
//! follow, whole blocks each. A commit has a head: magic, CRC-32C of what follows, the secret, the
//! commit's number, how many bytes the head has and how many entries; then the entries: the lengths
//! of three, the segment's base offset, the position in it, two numbers that are explained below;
//! then the three: the name of the partition's directory, its `partition.metadata`, bytes. All
//! numbers are little-endian. Numbers of commits go up by one, over both files of a shard.
//!
//! Of larger entries the bytes are not in the head but behind it, each in whole blocks of its own:
//! the blocks that will be written to the segment, so that nothing is copied. The two numbers say
//! where the bytes begin in the first of them, and what the CRC-32C is of what the batches' own CRC
//! does not cover, the beginnings of all batches one after the other. So nothing is summed up twice
//! either. For bytes that are in the head they are all ones, and 0. Commits of the former format
//! have neither number, and all bytes in the head.
//!
//! What clients send lies in these files, so a part of it could look like a commit. The secret is
//! random, and nobody outside is told.

use crate::base::ids::Offset;
use crate::base::limits::{BATCH_HEADER_BYTES, BLOCK_BYTES};
use crate::record::header::{ATTRIBUTES_AT, CRC_AT};
use crate::runtime::DmaBuffer;

use super::At;

const FILE_MAGIC: u32 = u32::from_le_bytes(*b"MRF1");
const MAGIC: u32 = u32::from_le_bytes(*b"MRJ2");
/// Of a commit of the former format.
const FORMER_MAGIC: u32 = u32::from_le_bytes(*b"MRJ1");
/// The first block: magic, CRC, secret.
const FILE_HEAD_BYTES: usize = 4 + 4 + 16;
/// Magic, CRC, secret, number, bytes, entries.
pub const HEAD_BYTES: usize = 4 + 4 + 16 + 8 + 4 + 4;
/// What the CRC does not cover.
const CRC_END: usize = 8;
/// Lengths of name, identity and bytes; segment; position; where the bytes begin in their blocks;
/// CRC of the batches' beginnings.
const ENTRY_HEAD_BYTES: usize = 2 + 2 + 4 + 8 + 8 + 2 + 4;
/// Where the bytes begin that are in the head.
const IN_HEAD: u16 = u16::MAX;
/// So many bytes are copied into the head; a write of their own blocks would cost more.
const IN_HEAD_BYTES_MAX: usize = 16 << 10;

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

/// Whether so many bytes are not copied into the head.
pub fn is_beside(bytes: usize) -> bool {
    bytes > IN_HEAD_BYTES_MAX
}

/// What so many bytes take in a file, on the average: those beside share their first block and
/// their last one with nothing.
pub fn taken_by(bytes: usize) -> usize {
    match is_beside(bytes) {
        true => bytes + BLOCK_BYTES as usize,
        false => bytes,
    }
}

/// What a commit takes.
#[derive(Clone, Copy, Debug)]
pub struct CommitSize {
    head: usize,
    beside: usize,
}

impl Default for CommitSize {
    fn default() -> Self {
        Self::new()
    }
}

impl CommitSize {
    /// Without entries.
    pub fn new() -> Self {
        Self {
            head: HEAD_BYTES,
            beside: 0,
        }
    }

    /// With one more entry: so many bytes, behind so many in their first block.
    pub fn add(&mut self, name: &[u8], identity: &[u8], carry: usize, bytes: usize) {
        self.head += ENTRY_HEAD_BYTES + name.len() + identity.len();
        match is_beside(bytes) {
            true => self.beside += whole_blocks(carry + bytes),
            false => self.head += bytes,
        }
    }

    /// In bytes, whole blocks.
    pub fn bytes(&self) -> usize {
        whole_blocks(self.head) + self.beside
    }
}

fn whole_blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES as usize)
}

/// The head of a commit of entries, each with how many bytes are before its own in their first
/// block. [`is_beside`] tells of which the blocks follow.
pub fn encode<'a>(
    secret: &Secret,
    number: u64,
    entries: impl Iterator<Item = (Entry<'a>, usize)>,
    size: CommitSize,
) -> DmaBuffer {
    let mut buffer = DmaBuffer::new(whole_blocks(size.head));
    let target = buffer.as_bytes_mut();
    let mut at = HEAD_BYTES;
    let mut put = |part: &[u8]| {
        target[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    let mut count = 0u32;
    for (entry, carry) in entries {
        let is_beside = is_beside(entry.bytes.len());
        let (begins, crc) = match is_beside {
            true => {
                let crc = crc_of_beginnings(entry.bytes);
                (carry as u16, crc.expect("whole batches"))
            }
            false => (IN_HEAD, 0),
        };
        put(&(entry.name.len() as u16).to_le_bytes());
        put(&(entry.identity.len() as u16).to_le_bytes());
        put(&(entry.bytes.len() as u32).to_le_bytes());
        put(&entry.at.segment.0.to_le_bytes());
        put(&entry.at.position.to_le_bytes());
        put(&begins.to_le_bytes());
        put(&crc.to_le_bytes());
        put(entry.name);
        put(entry.identity);
        if !is_beside {
            put(entry.bytes);
        }
        count += 1;
    }
    assert_eq!(at, size.head, "entries take what they were said to");
    target[at..].fill(0);
    target[..4].copy_from_slice(&MAGIC.to_le_bytes());
    target[8..24].copy_from_slice(secret);
    target[24..32].copy_from_slice(&number.to_le_bytes());
    target[32..36].copy_from_slice(&(size.head as u32).to_le_bytes());
    target[36..40].copy_from_slice(&count.to_le_bytes());
    let crc = crc32c::crc32c(&target[CRC_END..size.head]);
    target[4..8].copy_from_slice(&crc.to_le_bytes());
    buffer
}

/// The CRC-32C of all that the CRCs of whole batches do not cover; `None` if these are none.
fn crc_of_beginnings(mut batches: &[u8]) -> Option<u32> {
    let mut crc = 0;
    while !batches.is_empty() {
        let (batch, rest) = split_batch(batches)?;
        crc = crc32c::crc32c_append(crc, &batch[..ATTRIBUTES_AT]);
        batches = rest;
    }
    Some(crc)
}

/// Whether these are whole batches, and the beginnings have this CRC.
fn is_whole(mut batches: &[u8], crc: u32) -> bool {
    if crc_of_beginnings(batches) != Some(crc) {
        return false;
    }
    while let Some((batch, rest)) = split_batch(batches) {
        let of_batch = batch[CRC_AT..].first_chunk();
        let of_batch = of_batch.map(|crc| u32::from_be_bytes(*crc));
        if of_batch != Some(crc32c::crc32c(&batch[ATTRIBUTES_AT..])) {
            return false;
        }
        batches = rest;
    }
    batches.is_empty()
}

/// The first of some batches, and the others, as far as its length says.
fn split_batch(batches: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = batches.get(8..)?.first_chunk()?;
    let bytes = 12 + usize::try_from(i32::from_be_bytes(*length)).ok()?;
    let is_batch = bytes >= BATCH_HEADER_BYTES;
    is_batch.then(|| batches.split_at_checked(bytes))?
}

/// A commit whose head was found whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its number.
    pub number: u64,
    /// What it holds, of each log as far as it is whole.
    pub entries: Vec<Entry<'a>>,
    /// Whether that is all.
    pub is_whole: bool,
    /// Whole blocks that it takes.
    pub blocks: usize,
}

/// The commit of a file with this secret that `bytes` begin with, if they do.
pub fn decode<'a>(secret: &Secret, bytes: &'a [u8]) -> Option<Found<'a>> {
    let mut head = Reader(bytes);
    let is_former = match u32::from_le_bytes(head.array()?) {
        MAGIC => false,
        FORMER_MAGIC => true,
        _ => return None,
    };
    let crc = u32::from_le_bytes(head.array()?);
    if head.array()? != *secret {
        return None;
    }
    let number = u64::from_le_bytes(head.array()?);
    let length = u32::from_le_bytes(head.array()?) as usize;
    let count = u32::from_le_bytes(head.array()?);
    if crc32c::crc32c(bytes.get(CRC_END..length)?) != crc {
        return None;
    }
    let mut reader = Reader(bytes.get(HEAD_BYTES..length)?);
    let mut end = whole_blocks(length);
    let (mut entries, mut torn) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let head = reader.entry_head(is_former)?;
        // No segment reaches further than its indexes can name.
        if head.at.position > u32::MAX.into() {
            return None;
        }
        let (name, identity) = (reader.take(head.name)?, reader.take(head.identity)?);
        let body = match head.begins {
            IN_HEAD => Some(reader.take(head.bytes)?),
            carry => {
                let start = end + usize::from(carry);
                end = whole_blocks(start + head.bytes);
                let body = bytes.get(start..start + head.bytes);
                body.filter(|body| is_whole(body, head.crc))
            }
        };
        match body {
            Some(bytes) if !torn.contains(&name) => entries.push(Entry {
                name,
                identity,
                at: head.at,
                bytes,
            }),
            _ => torn.push(name),
        }
    }
    Some(Found {
        number,
        entries,
        is_whole: torn.is_empty(),
        blocks: end / BLOCK_BYTES as usize,
    })
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

/// What an entry begins with.
struct EntryHead {
    name: usize,
    identity: usize,
    bytes: usize,
    at: At,
    begins: u16,
    crc: u32,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn entry_head(&mut self, is_former: bool) -> Option<EntryHead> {
        Some(EntryHead {
            name: u16::from_le_bytes(self.array()?).into(),
            identity: u16::from_le_bytes(self.array()?).into(),
            bytes: u32::from_le_bytes(self.array()?) as usize,
            at: At {
                segment: Offset(i64::from_le_bytes(self.array()?)),
                position: u64::from_le_bytes(self.array()?),
            },
            begins: match is_former {
                true => IN_HEAD,
                false => u16::from_le_bytes(self.array()?),
            },
            crc: match is_former {
                true => 0,
                false => u32::from_le_bytes(self.array()?),
            },
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

    /// What the batch of so many bytes looks like to a journal.
    fn batch(bytes: usize) -> Vec<u8> {
        let mut batch: Vec<_> = (0..bytes).map(|at| (at * 7 + bytes) as u8).collect();
        batch[8..12].copy_from_slice(&(bytes as i32 - 12).to_be_bytes());
        let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
        batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        batch
    }

    /// A commit as it lies in the file; behind how much each entry begins in its blocks.
    fn commit(number: u64, bodies: &[(usize, &[u8])]) -> Vec<u8> {
        let mut size = CommitSize::new();
        for (carry, body) in bodies {
            size.add(b"t-0", b"version: 0", *carry, body.len());
        }
        let entries = bodies.iter().map(|(carry, body)| (entry(body), *carry));
        let head = encode(&SECRET, number, entries, size);
        let mut commit = head.as_bytes().to_vec();
        for (carry, body) in bodies.iter().filter(|(_, body)| is_beside(body.len())) {
            commit.extend_from_slice(&vec![0xcc; *carry]);
            commit.extend_from_slice(body);
            commit.resize(whole_blocks(commit.len()), 0);
        }
        assert_eq!(commit.len(), size.bytes());
        commit
    }

    #[test]
    fn a_commit_of_what_no_segment_reaches_is_none() {
        let far = |position| {
            let mut size = CommitSize::new();
            size.add(b"t-0", b"version: 0", 0, 4);
            let at = At {
                segment: Offset(7),
                position,
            };
            let entry = Entry {
                at,
                ..entry(&[1; 4])
            };
            encode(&SECRET, 1, [(entry, 0)].into_iter(), size)
        };
        let last = u64::from(u32::MAX);
        for (position, is_found) in [(last, true), (last + 1, false), (u64::MAX, false)] {
            let found = far(position);
            assert_eq!(decode(&SECRET, found.as_bytes()).is_some(), is_found);
        }
    }

    #[test]
    fn a_commit_is_found_as_it_was_written() {
        let (copied, two) = (vec![5; 9000], [batch(20_000), batch(61)].concat());
        let beside = batch(40_000);
        let bodies = [(100, &b"abc"[..]), (4095, &two), (0, &copied), (7, &beside)];
        let mut bytes = commit(42, &bodies);
        let length = bytes.len();
        assert_eq!(length, (12 << 10) + (24 << 10) + (40 << 10));
        bytes.extend_from_slice(&[0xee; 5000]);
        let found = decode(&SECRET, &bytes).expect("a commit");
        assert_eq!((found.number, found.blocks), (42, length / 4096));
        assert!(found.is_whole);
        assert_eq!(found.entries, bodies.map(|(_, body)| entry(body)));
    }

    #[test]
    fn a_commit_of_the_former_format_is_found() {
        let mut bytes = vec![0; 4096];
        let (head, body) = (HEAD_BYTES, b"\x03\0\x02\0\x03\0\0\0");
        let rest = [7_u64.to_le_bytes(), 9_u64.to_le_bytes()].concat();
        let body = [&body[..], &rest, b"t-0idabc"].concat();
        let length = head + body.len();
        bytes[..4].copy_from_slice(b"MRJ1");
        bytes[8..24].copy_from_slice(&SECRET);
        bytes[24] = 5;
        bytes[32] = length as u8;
        bytes[36] = 1;
        bytes[head..length].copy_from_slice(&body);
        let crc = crc32c::crc32c(&bytes[8..length]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        let found = decode(&SECRET, &bytes).expect("a commit");
        let at = At {
            segment: Offset(7),
            position: 9,
        };
        let expected = Entry {
            name: b"t-0",
            identity: b"id",
            at,
            bytes: b"abc",
        };
        assert_eq!((found.number, found.blocks), (5, 1));
        assert_eq!(found.entries, [expected]);
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
    fn no_part_of_a_head_and_no_head_that_was_changed_is_one() {
        let beside = [batch(100), batch(17_000)].concat();
        let bytes = commit(1, &[(0, b"abc"), (10, &beside), (0, b"d")]);
        assert_eq!(decode(&[4; 16], &bytes), None, "another file's");
        let head = HEAD_BYTES + 3 * (ENTRY_HEAD_BYTES + 13) + 4;
        let mut changed = bytes.clone();
        for at in 0..head {
            assert_eq!(decode(&SECRET, &bytes[..at]), None, "{at}");
            changed[at] ^= 0x10;
            assert_eq!(decode(&SECRET, &changed), None, "{at}");
            changed[at] ^= 0x10;
        }
        assert!(decode(&SECRET, &changed).is_some());
        assert_eq!(decode(&SECRET, &[0; 4096]), None);
    }

    #[test]
    fn what_is_torn_beside_the_head_is_left_out_with_what_follows_of_its_log() {
        let (large, other) = ([batch(100), batch(17_000)].concat(), batch(20_000));
        let mut size = CommitSize::new();
        let named = |name: &'static [u8], bytes| Entry {
            name,
            ..entry(bytes)
        };
        let entries = [
            named(b"t-0", &large),
            named(b"u-0", &other),
            named(b"t-0", b"abc"),
            named(b"v-0", b"d"),
        ];
        for entry in &entries {
            size.add(entry.name, entry.identity, 0, entry.bytes.len());
        }
        let head = encode(&SECRET, 1, entries.iter().map(|entry| (*entry, 0)), size);
        let mut bytes = head.as_bytes().to_vec();
        for beside in [&large, &other] {
            bytes.extend_from_slice(beside);
            bytes.resize(whole_blocks(bytes.len()), 0);
        }
        let blocks = bytes.len() / 4096;
        let torn = |bytes: &[u8], left: &[Entry<'_>], at: usize| {
            let found = decode(&SECRET, bytes).expect("a whole head");
            assert_eq!((found.is_whole, found.blocks), (false, blocks), "{at}");
            assert_eq!(found.entries, left, "{at}");
        };
        let others = [entries[1], entries[3]];
        let first = 4096..4096 + large.len();
        let mut changed = bytes.clone();
        for at in first.clone() {
            changed[at] ^= 0x10;
            torn(&changed, &others, at);
            changed[at] ^= 0x10;
        }
        // The file has ended, or holds what was there before: blocks of a former commit.
        for at in first.clone() {
            torn(&bytes[..at], &entries[3..], at);
        }
        for block in first.step_by(4096) {
            let mut stale = bytes.clone();
            let former = batch(17_000);
            let end = (block + 4096).min(4096 + large.len());
            stale[block..end].copy_from_slice(&former[..end - block]);
            torn(&stale, &others, block);
        }
    }
}
