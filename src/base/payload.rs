//! Handles to immutable bytes, in memory or in a file. They may cross shards.
//!
//! A reply is a list of [`Chunk`]s: the connection's core writes the ones in memory by
//! scatter-gather and the ones in files by `sendfile`. Nothing here reads or copies the bytes.

use std::fmt;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

/// A range of an open file. The descriptor stays open while any slice of it lives, also when the
/// file has been unlinked or its descriptor evicted from the shard's cache.
#[derive(Clone)]
pub struct FileSlice {
    /// A descriptor opened for buffered reads, never with `O_DIRECT`.
    pub file: Arc<File>,
    /// Where the slice starts, in bytes from the start of the file.
    pub position: u64,
    /// Its length in bytes.
    pub length: u32,
}

impl fmt::Debug for FileSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file[{}..+{}]", self.position, self.length)
    }
}

/// A piece of a reply.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Bytes in memory.
    Memory(Bytes),
    /// Bytes in a file's page cache or on disk.
    File(FileSlice),
}

impl Chunk {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(slice) => slice.length as usize,
        }
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}
