//! Reads a segment batch by batch, whatever is in it. One batch is in memory at a time.
//!
//! A broker may write meanwhile, so what looks wrong at the end is looked at again for a while
//! before it is called so: a batch that is just being written, or a file that is cut to its size.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::base::limits::BATCH_HEADER_BYTES;
use crate::cli::CliError;
use crate::record::batches::first_batch;
use crate::record::header::crc_of;
use crate::record::{BatchFault, BatchHeader};

/// Room is looked through in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// The fields in front of what a batch's length counts.
const LENGTH_AT: usize = 8;
const COUNTED_FROM: usize = 12;

/// How often what looks wrong is looked at, and how long after the time before.
const LOOKS_MAX: usize = 20;
const LOOKED_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A segment that is being read.
pub(super) struct SegmentFile {
    path: PathBuf,
    file: BufReader<File>,
    position: u64,
    bytes: u64,
}

/// A whole batch.
pub(super) struct RawBatch {
    /// Where it begins in the segment.
    pub(super) position: u64,
    pub(super) header: BatchHeader,
    /// Whether the bytes are those that its CRC was computed over.
    pub(super) crc_valid: bool,
    pub(super) bytes: Vec<u8>,
}

/// What comes next in a segment.
pub(super) enum Piece {
    Batch(RawBatch),
    /// Nothing but zeros up to the end.
    Room {
        /// How many.
        bytes: u64,
    },
    /// Something that is no batch.
    Fault(String),
    End,
}

impl SegmentFile {
    pub(super) fn open(path: &Path) -> Result<Self, CliError> {
        let open = || -> io::Result<(File, u64)> {
            let file = File::open(path)?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        };
        let (file, bytes) = open().map_err(CliError::io(path.display().to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(PIECE_BYTES, file),
            position: 0,
            bytes,
        })
    }

    /// How long the file was when it was opened.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn next(&mut self) -> Result<Piece, CliError> {
        let what = self.path.display().to_string();
        let next = self.next_by(|| thread::sleep(LOOKED_AGAIN_AFTER));
        next.map_err(CliError::io(what))
    }

    /// The next piece, with `wait` between two looks at what looks wrong.
    fn next_by(&mut self, mut wait: impl FnMut()) -> io::Result<Piece> {
        let position = self.position;
        let mut looks = 0;
        loop {
            looks += 1;
            let piece = self.read_next();
            let is_settled = match &piece {
                Ok(Piece::Batch(batch)) => batch.crc_valid || !self.is_last()?,
                Ok(Piece::Room { .. } | Piece::End) => true,
                Ok(Piece::Fault(_)) => false,
                Err(error) => error.kind() != ErrorKind::UnexpectedEof,
            };
            if is_settled || looks >= LOOKS_MAX {
                return piece;
            }
            wait();
            self.bytes = self.file.get_ref().metadata()?.len();
            self.go_to(position)?;
        }
    }

    fn read_next(&mut self) -> io::Result<Piece> {
        let position = self.position;
        let left = self.bytes.saturating_sub(position);
        if left == 0 {
            return Ok(Piece::End);
        }
        let mut bytes = self.read(BATCH_HEADER_BYTES.min(as_usize(left)))?;
        if bytes.iter().all(|byte| *byte == 0) {
            return self.read_room(left);
        }
        let length = bytes.get(LENGTH_AT..).and_then(<[u8]>::first_chunk);
        let length = length.map_or(0, |length| u64::from(u32::from_be_bytes(*length)));
        let size = length + COUNTED_FROM as u64;
        if size > bytes.len() as u64 && size <= left {
            let rest = as_usize(size) - bytes.len();
            bytes.extend(self.read(rest)?);
        }
        Ok(match first_batch(&bytes, as_usize(position)) {
            Ok(header) => Piece::Batch(RawBatch {
                position,
                header,
                crc_valid: crc_of(&bytes) == header.crc,
                bytes,
            }),
            Err(BatchFault::Incomplete { needed_bytes, .. }) => Piece::Fault(format!(
                "at {position} begins a batch of {needed_bytes} bytes, and {left} are there: the \
                 file was cut"
            )),
            Err(fault) => Piece::Fault(fault.to_string()),
        })
    }

    /// Whether nothing is written behind the batch that was read.
    fn is_last(&mut self) -> io::Result<bool> {
        let position = self.position;
        let left = self.bytes.saturating_sub(position);
        let is_last = match self.read(BATCH_HEADER_BYTES.min(as_usize(left))) {
            Ok(bytes) => bytes.iter().all(|byte| *byte == 0),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => true,
            Err(error) => return Err(error),
        };
        self.go_to(position)?;
        Ok(is_last)
    }

    /// Reads on from `position`, and nothing of what was read ahead.
    fn go_to(&mut self, position: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(position))?;
        self.position = position;
        Ok(())
    }

    /// Looks whether there is nothing but zeros from here on, a header of which was read.
    fn read_room(&mut self, left: u64) -> io::Result<Piece> {
        let began = self.bytes.saturating_sub(left);
        while self.position < self.bytes {
            let piece = PIECE_BYTES.min(as_usize(self.bytes - self.position));
            let at = self.position;
            let read = self.read(piece)?;
            if let Some(index) = read.iter().position(|byte| *byte != 0) {
                let at = at + index as u64;
                return Ok(Piece::Fault(format!(
                    "nothing is written from {began} on, but at {at} there is something again"
                )));
            }
        }
        Ok(Piece::Room { bytes: left })
    }

    fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.file.read_exact(&mut bytes)?;
        self.position += count as u64;
        Ok(bytes)
    }
}

fn as_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a pointer has 64 bits")
}
