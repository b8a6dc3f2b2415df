//! The value of a response's `records` field: handles to record batches, in memory or in files. Any
//! shard; it never reads or copies the batches.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::base::payload::Chunk;

/// Record batches one after the other, as a list of handles to their bytes.
#[derive(Clone, Debug, Default)]
pub struct Records {
    chunks: Vec<Chunk>,
    length: usize,
}

impl Records {
    /// No records.
    pub fn new() -> Self {
        Self::default()
    }

    /// The handles, in order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The length of all of them, in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds a handle at the end. An empty one is left out.
    pub fn push(&mut self, chunk: Chunk) {
        if !chunk.is_empty() {
            self.length += chunk.len();
            self.chunks.push(chunk);
        }
    }

    /// The bytes, if all of them are in memory; copied only if they are in several pieces.
    pub fn to_bytes(&self) -> Option<Bytes> {
        let pieces: Vec<&Bytes> = self
            .chunks
            .iter()
            .map(|chunk| match chunk {
                Chunk::Memory(bytes) => Some(bytes),
                Chunk::File(_) => None,
            })
            .collect::<Option<_>>()?;
        Some(match pieces[..] {
            [] => Bytes::new(),
            [piece] => piece.clone(),
            _ => {
                let mut whole = BytesMut::with_capacity(self.length);
                pieces
                    .iter()
                    .for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        })
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::from_iter([Chunk::Memory(bytes)])
    }
}

impl From<Vec<Chunk>> for Records {
    fn from(chunks: Vec<Chunk>) -> Self {
        Self::from_iter(chunks)
    }
}

impl FromIterator<Chunk> for Records {
    fn from_iter<T: IntoIterator<Item = Chunk>>(chunks: T) -> Self {
        let mut records = Self::new();
        chunks.into_iter().for_each(|chunk| records.push(chunk));
        records
    }
}

/// Records in memory are equal if their bytes are, however they are cut; those in files only if
/// they are the same ranges of the same open file.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        match (self.to_bytes(), other.to_bytes()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, None) => {
                self.chunks.len() == other.chunks.len()
                    && self.chunks.iter().zip(&other.chunks).all(same_handle)
            }
            _ => false,
        }
    }
}

fn same_handle(pair: (&Chunk, &Chunk)) -> bool {
    match pair {
        (Chunk::Memory(ours), Chunk::Memory(theirs)) => ours == theirs,
        (Chunk::File(ours), Chunk::File(theirs)) => {
            Arc::ptr_eq(&ours.file, &theirs.file)
                && (ours.position, ours.length) == (theirs.position, theirs.length)
        }
        _ => false,
    }
}
