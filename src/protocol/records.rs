//! The value of a response's `records` field: handles to record batches. Any shard; sending them
//! copies nothing.

use bytes::Bytes;

/// Record batches one after the other, as a list of handles to their bytes.
#[derive(Clone, Debug, Default)]
pub struct Records {
    chunks: Vec<Bytes>,
    length: usize,
}

impl Records {
    /// No records.
    pub fn new() -> Self {
        Self::default()
    }

    /// The handles, in order.
    pub fn chunks(&self) -> &[Bytes] {
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
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.length += chunk.len();
            self.chunks.push(chunk);
        }
    }

    /// The bytes in one piece; copied only if they are in several.
    pub fn to_bytes(&self) -> Bytes {
        match &self.chunks[..] {
            [] => Bytes::new(),
            [chunk] => chunk.clone(),
            chunks => chunks.concat().into(),
        }
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::from_iter([bytes])
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(chunks: Vec<Bytes>) -> Self {
        Self::from_iter(chunks)
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<T: IntoIterator<Item = Bytes>>(chunks: T) -> Self {
        let mut records = Self::new();
        chunks.into_iter().for_each(|chunk| records.push(chunk));
        records
    }
}

/// Records are equal if their bytes are, however they are cut.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}
