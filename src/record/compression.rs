//! The codecs of record batches: streaming decompression under a cap, and compression.
//! Any shard; it never decompresses more than a window at a time unless asked for all of it.
//!
//! A broker passes compressed batches through as they are. It decompresses only to check them, and
//! the bytes come from anyone: each codec's own claims about sizes are held against what the
//! compressed bytes can say and against the caller's cap, before memory is taken.

use std::fmt;
use std::io::{Read, Write};

use lz4_flex::frame::{FrameDecoder, FrameEncoder, FrameInfo};
use zstd::zstd_safe;

use crate::base::limits::{
    DECOMPRESSION_SCRATCH_KEPT_BYTES_MAX, DECOMPRESSION_WINDOW_BYTES, ZSTD_WINDOW_LOG_MAX,
};
use crate::record::snappy::{self, SnappyReader};

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// Gzip, RFC 1952.
    Gzip,
    /// Snappy, in snappy-java's frame or raw.
    Snappy,
    /// The LZ4 frame format, with independent blocks.
    Lz4,
    /// Zstandard, RFC 8878 (KIP-110).
    Zstd,
}

impl Codec {
    /// Every codec, in the order of their ids.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this id in a batch's attributes, or the id back.
    #[inline]
    pub fn from_id(id: u8) -> Result<Self, u8> {
        Self::ALL.get(usize::from(id)).copied().ok_or(id)
    }

    /// Its id in a batch's attributes.
    #[inline]
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Its name in Kafka's `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes could not be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// They are not what the codec writes.
    #[error("the compressed data is damaged")]
    Garbage,
    /// They end in the middle.
    #[error("the compressed data is cut off")]
    Cut,
    /// They are more than the cap when decompressed.
    #[error("the data is larger than {bytes_max} bytes when decompressed")]
    TooLarge {
        /// The cap.
        bytes_max: u64,
    },
}

/// Compresses the records of a batch with the codec's default level.
pub fn compress(codec: Codec, body: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let garbage = |_| CompressionError::Garbage;
    match codec {
        Codec::None => Ok(body.to_vec()),
        Codec::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(body).map_err(garbage)?;
            encoder.finish().map_err(garbage)
        }
        Codec::Snappy => snappy::compress(body),
        Codec::Lz4 => {
            let info = FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(body).map_err(garbage)?;
            encoder.finish().map_err(|_| CompressionError::Garbage)
        }
        Codec::Zstd => zstd::bulk::compress(body, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(garbage),
    }
}

/// Buffers for decompression, kept from one batch to the next. One a shard.
pub struct Decompressor {
    window: Box<[u8]>,
    snappy_block: Vec<u8>,
    zstd: Option<zstd_safe::DCtx<'static>>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decompressor({} bytes kept)", self.kept_bytes())
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Decompressor {
    /// Buffers, most of them taken only when a codec needs them.
    pub fn new() -> Self {
        Self {
            window: vec![0; DECOMPRESSION_WINDOW_BYTES].into_boxed_slice(),
            snappy_block: Vec::new(),
            zstd: None,
        }
    }

    /// The memory that it holds between batches, in bytes.
    pub fn kept_bytes(&self) -> usize {
        let zstd = self.zstd.as_ref().map_or(0, zstd_safe::DCtx::sizeof);
        self.window.len() + self.snappy_block.capacity() + zstd
    }

    /// Decompresses `body` as a stream of at most `bytes_max` bytes; one byte more is an error.
    pub fn stream<'a>(
        &'a mut self,
        codec: Codec,
        body: &'a [u8],
        bytes_max: u64,
    ) -> Result<BodyStream<'a>, CompressionError> {
        self.release_large();
        let source = match codec {
            Codec::None => Source::Plain(body),
            Codec::Gzip => Source::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(body))),
            Codec::Snappy => {
                let block = &mut self.snappy_block;
                Source::Snappy(SnappyReader::new(body, block, bytes_max))
            }
            Codec::Lz4 => Source::Lz4(open_lz4(body)?),
            Codec::Zstd => Source::Zstd(ZstdReader::new(&mut self.zstd, body)?),
        };
        Ok(BodyStream {
            source,
            window: &mut self.window,
            start: 0,
            end: 0,
            read_bytes: 0,
            bytes_max,
        })
    }

    /// Decompresses all of `body`, at most `bytes_max` bytes.
    pub fn decompress(
        &mut self,
        codec: Codec,
        body: &[u8],
        bytes_max: u64,
    ) -> Result<Vec<u8>, CompressionError> {
        let mut stream = self.stream(codec, body, bytes_max)?;
        let mut out = Vec::new();
        while stream.fill()? {
            out.extend_from_slice(stream.ready());
            stream.consume(stream.ready().len());
        }
        Ok(out)
    }

    /// One large batch must not make every shard keep its buffers for good.
    fn release_large(&mut self) {
        if self.snappy_block.capacity() > DECOMPRESSION_SCRATCH_KEPT_BYTES_MAX {
            self.snappy_block = Vec::new();
        }
        let is_large =
            |zstd: &zstd_safe::DCtx<'_>| zstd.sizeof() > DECOMPRESSION_SCRATCH_KEPT_BYTES_MAX;
        if self.zstd.as_ref().is_some_and(is_large) {
            self.zstd = None;
        }
    }
}

/// Decompressed bytes, a window at a time.
pub struct BodyStream<'a> {
    source: Source<'a>,
    window: &'a mut [u8],
    start: usize,
    end: usize,
    read_bytes: u64,
    bytes_max: u64,
}

impl BodyStream<'_> {
    /// The bytes in the window that have not been consumed.
    #[inline]
    pub fn ready(&self) -> &[u8] {
        &self.window[self.start..self.end]
    }

    /// Counts the first `count` of the ready bytes as consumed.
    ///
    /// # Panics
    /// If fewer are ready.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        assert!(
            count <= self.end - self.start,
            "only ready bytes are consumed"
        );
        self.start += count;
    }

    /// How many bytes have been consumed since the start.
    #[inline]
    pub fn position(&self) -> u64 {
        self.read_bytes - (self.end - self.start) as u64
    }

    /// Makes sure that at least one byte is ready; false at the end.
    #[inline]
    pub fn fill(&mut self) -> Result<bool, CompressionError> {
        if self.start < self.end {
            return Ok(true);
        }
        self.refill()
    }

    #[cold]
    fn refill(&mut self) -> Result<bool, CompressionError> {
        let count = self.source.read(self.window)?;
        (self.start, self.end) = (0, count);
        self.read_bytes += count as u64;
        if self.read_bytes > self.bytes_max {
            return Err(CompressionError::TooLarge {
                bytes_max: self.bytes_max,
            });
        }
        Ok(count > 0)
    }
}

enum Source<'a> {
    Plain(&'a [u8]),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyReader<'a>),
    Lz4(Box<FrameDecoder<&'a [u8]>>),
    Zstd(ZstdReader<'a>),
    Ended,
}

impl Source<'_> {
    /// Reads at least one byte into `out`, or 0 at the end, and 0 forever after.
    fn read(&mut self, out: &mut [u8]) -> Result<usize, CompressionError> {
        let count = match self {
            Self::Plain(rest) => rest.read(out).map_err(io_error)?,
            Self::Gzip(decoder) => decoder.read(out).map_err(io_error)?,
            Self::Snappy(reader) => reader.read(out)?,
            Self::Lz4(decoder) => decoder.read(out).map_err(io_error)?,
            Self::Zstd(reader) => reader.read(out)?,
            Self::Ended => 0,
        };
        if count == 0 {
            // Only the first LZ4 frame counts, as in Kafka: its decoder would go on to the next.
            *self = Self::Ended;
        }
        Ok(count)
    }
}

fn io_error(error: std::io::Error) -> CompressionError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => CompressionError::Cut,
        _ => CompressionError::Garbage,
    }
}

const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const LZ4_VERSION_MASK: u8 = 0b1100_0000;
const LZ4_VERSION: u8 = 0b0100_0000;
const LZ4_INDEPENDENT_BLOCKS: u8 = 0b0010_0000;

/// Opens an LZ4 frame of the kind that Kafka's clients can read: not the legacy format, and with
/// blocks that do not depend on one another.
fn open_lz4(body: &[u8]) -> Result<Box<FrameDecoder<&[u8]>>, CompressionError> {
    let flags = *body.get(LZ4_MAGIC.len()).ok_or(CompressionError::Cut)?;
    let is_readable = body.starts_with(&LZ4_MAGIC)
        && flags & LZ4_VERSION_MASK == LZ4_VERSION
        && flags & LZ4_INDEPENDENT_BLOCKS != 0;
    if !is_readable {
        return Err(CompressionError::Garbage);
    }
    Ok(Box::new(FrameDecoder::new(body)))
}

const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

struct ZstdReader<'a> {
    context: &'a mut zstd_safe::DCtx<'static>,
    rest: &'a [u8],
    is_inside_frame: bool,
}

impl<'a> ZstdReader<'a> {
    fn new(
        context: &'a mut Option<zstd_safe::DCtx<'static>>,
        body: &'a [u8],
    ) -> Result<Self, CompressionError> {
        let context = context.get_or_insert_with(zstd_safe::DCtx::create);
        let prepared = context
            .reset(zstd_safe::ResetDirective::SessionAndParameters)
            .and_then(|_| {
                let window_log = zstd_safe::DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
                context.set_parameter(window_log)
            });
        prepared.map_err(|_| CompressionError::Garbage)?;
        Ok(Self {
            context,
            rest: body,
            is_inside_frame: false,
        })
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize, CompressionError> {
        loop {
            if !self.is_inside_frame {
                if self.rest.is_empty() {
                    return Ok(0);
                }
                // The library also knows the formats of before 1.0, which no Kafka client writes.
                if !self.rest.starts_with(&ZSTD_MAGIC) {
                    return Err(CompressionError::Garbage);
                }
                self.is_inside_frame = true;
            }
            let mut input = zstd_safe::InBuffer::around(self.rest);
            let mut output = zstd_safe::OutBuffer::around(&mut *out);
            let hint = self.context.decompress_stream(&mut output, &mut input);
            let hint = hint.map_err(|_| CompressionError::Garbage)?;
            let (consumed, written) = (input.pos(), output.pos());
            self.rest = &self.rest[consumed..];
            self.is_inside_frame = hint != 0;
            if written > 0 {
                return Ok(written);
            }
            if consumed == 0 && hint != 0 {
                return Err(CompressionError::Cut);
            }
        }
    }
}

#[cfg(test)]
mod tests;
