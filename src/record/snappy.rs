//! Snappy as Kafka's clients frame it. Any shard; it reads from memory only.
//!
//! Java writes the frame of the library snappy-java ("Xerial"): a 16-byte header, then blocks, each
//! a big-endian length and a raw Snappy block. librdkafka writes one raw block without a frame. A
//! block is decompressed whole, since later bytes refer back to earlier ones.

use crate::record::compression::CompressionError;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_BYTES: usize = 16;
/// What snappy-java puts into one block by default.
const BLOCK_BYTES: usize = 32 << 10;
/// No Snappy block says more than this for each of its bytes: a copy of 64 bytes takes 3.
const EXPANSION_MAX: u64 = 22;

/// The blocks of one compressed body, decompressed one after the other.
pub(crate) struct SnappyReader<'a> {
    rest: &'a [u8],
    is_framed: bool,
    block: &'a mut Vec<u8>,
    block_position: usize,
    bytes_max: u64,
}

impl<'a> SnappyReader<'a> {
    /// Reads `body` through the scratch `block`. No block may be larger than `bytes_max`.
    pub(crate) fn new(body: &'a [u8], block: &'a mut Vec<u8>, bytes_max: u64) -> Self {
        block.clear();
        let framed = body.strip_prefix(&MAGIC).and(body.get(HEADER_BYTES..));
        Self {
            rest: framed.unwrap_or(body),
            is_framed: framed.is_some(),
            block,
            block_position: 0,
            bytes_max,
        }
    }

    /// Copies decompressed bytes into `out`; 0 at the end.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, CompressionError> {
        while self.block_position == self.block.len() {
            match self.next_block()? {
                Some(block) => self.decompress(block)?,
                None => return Ok(0),
            }
        }
        let ready = &self.block[self.block_position..];
        let count = ready.len().min(out.len());
        out[..count].copy_from_slice(&ready[..count]);
        self.block_position += count;
        Ok(count)
    }

    fn next_block(&mut self) -> Result<Option<&'a [u8]>, CompressionError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if !self.is_framed {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        // Streams may follow one another, each with its header, as snappy-java reads them.
        while self.rest.starts_with(&MAGIC) {
            self.rest = self.rest.get(HEADER_BYTES..).ok_or(CompressionError::Cut)?;
            if self.rest.is_empty() {
                return Ok(None);
            }
        }
        let (length, rest) = self.rest.split_first_chunk().ok_or(CompressionError::Cut)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, rest) = rest.split_at_checked(length).ok_or(CompressionError::Cut)?;
        self.rest = rest;
        Ok(Some(block))
    }

    fn decompress(&mut self, block: &[u8]) -> Result<(), CompressionError> {
        let claimed = snap::raw::decompress_len(block).map_err(|_| CompressionError::Garbage)?;
        let claimed_bytes = claimed as u64;
        if claimed_bytes > EXPANSION_MAX * block.len() as u64 {
            return Err(CompressionError::Garbage);
        }
        if claimed_bytes > self.bytes_max {
            return Err(CompressionError::TooLarge {
                bytes_max: self.bytes_max,
            });
        }
        self.block.resize(claimed, 0);
        self.block_position = 0;
        snap::raw::Decoder::new()
            .decompress(block, self.block)
            .map_err(|_| CompressionError::Garbage)?;
        Ok(())
    }
}

/// Compresses in the frame that Kafka's Java client writes.
pub(crate) fn compress(body: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len() / 2);
    out.extend_from_slice(&MAGIC);
    // Version and oldest compatible version, both 1.
    out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    let mut encoder = snap::raw::Encoder::new();
    for block in body.chunks(BLOCK_BYTES) {
        let compressed = encoder
            .compress_vec(block)
            .map_err(|_| CompressionError::Garbage)?;
        out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}
