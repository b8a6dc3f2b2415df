//! Writes the protocol's types into a frame. Any shard; record batches are never copied, only their
//! handles are kept and set between the frame's own bytes.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use crate::base::ids::{TopicId, Uuid};
use crate::protocol::error::EncodeError;
use crate::protocol::reader::STRING_BYTES_MAX;
use crate::protocol::records::Records;
use crate::protocol::wire::Wire;

/// What a writer reserves at first, in bytes: most replies fit.
const CAPACITY_BYTES: usize = 512;

/// A frame in the making.
#[derive(Debug)]
pub struct Writer {
    buffer: BytesMut,
    /// Handles, each with its place in the buffer.
    splices: Vec<(usize, Bytes)>,
    spliced_bytes: usize,
    message: &'static str,
    /// Whether the message at hand has compact lengths and tagged fields.
    flexible: bool,
}

/// Where the count of a struct's tagged fields stands.
pub(crate) struct Tags(usize);

/// Where a tagged field's value starts.
pub(crate) struct Tag(usize);

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// An empty frame.
    pub fn new() -> Self {
        Self {
            buffer: BytesMut::with_capacity(CAPACITY_BYTES),
            splices: Vec::new(),
            spliced_bytes: 0,
            message: "",
            flexible: false,
        }
    }

    /// The bytes so far, with those of the handles.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.spliced_bytes
    }

    /// The bytes so far, without those of the handles.
    pub fn own_len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn begin_message(&mut self, message: &'static str, flexible: bool) {
        self.message = message;
        self.flexible = flexible;
    }

    /// Puts `value` over the four bytes at `at` of the frame's own bytes.
    pub(crate) fn patch_int32(&mut self, at: usize, value: i32) {
        self.buffer[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// What was written, in pieces: the frame's own bytes with the handles between them.
    pub fn into_chunks(self) -> Vec<Bytes> {
        let own = self.buffer.freeze();
        let mut chunks = Vec::with_capacity(2 * self.splices.len() + 1);
        let mut start = 0;
        for (at, chunk) in self.splices {
            if at > start {
                chunks.push(own.slice(start..at));
            }
            start = at;
            chunks.push(chunk);
        }
        if start < own.len() {
            chunks.push(own.slice(start..));
        }
        chunks
    }

    /// What was written, in one piece.
    pub fn into_bytes(self) -> Bytes {
        Records::from(self.into_chunks()).to_bytes()
    }

    pub(crate) fn too_long(&self, length: usize) -> EncodeError {
        EncodeError::Length {
            message: self.message,
            at: self.len(),
            length,
        }
    }

    pub(crate) fn unknown_field(&self, field: &'static str, version: i16) -> EncodeError {
        EncodeError::UnknownField {
            message: self.message,
            field,
            version,
        }
    }
}

macro_rules! number {
    ($($method:ident, $type:ty, $put:ident;)*) => {$(
        #[doc = concat!("Writes a big-endian `", stringify!($type), "`.")]
        pub fn $method(&mut self, value: $type) {
            self.buffer.$put(value);
        }
    )*};
}

/// Numbers and ids.
impl Writer {
    number! {
        int8, i8, put_i8;
        int16, i16, put_i16;
        uint16, u16, put_u16;
        int32, i32, put_i32;
        int64, i64, put_i64;
        float64, f64, put_f64;
    }

    /// Writes a byte, 1 or 0.
    pub fn bool(&mut self, value: bool) {
        self.int8(value.into());
    }

    /// Writes 16 bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.put_u128(value.0);
    }

    /// Writes the 16 bytes of a topic's id.
    pub fn topic_id(&mut self, value: TopicId) {
        self.buffer.put_u128(value.0);
    }

    /// Writes an unsigned number with 7 bits a byte, lowest first.
    pub fn unsigned_varint(&mut self, value: u32) {
        let (bytes, length) = varint(value);
        self.buffer.extend_from_slice(&bytes[..length]);
    }
}

/// Strings, bytes, records and arrays.
impl Writer {
    /// A length or count; `None` stands for null.
    fn length(
        &mut self,
        length: Option<usize>,
        legacy: bool,
        string: bool,
    ) -> Result<(), EncodeError> {
        let longest = if string {
            STRING_BYTES_MAX
        } else {
            i32::MAX as usize
        };
        if let Some(length) = length
            && length > longest
        {
            return Err(self.too_long(length));
        }
        // In range, as was just checked.
        let length = length.map_or(-1, |length| length as i32);
        if self.flexible && !legacy {
            self.unsigned_varint((i64::from(length) + 1) as u32);
        } else if string {
            self.int16(length as i16);
        } else {
            self.int32(length);
        }
        Ok(())
    }

    fn check_null(&self, is_null: bool, nullable: bool) -> Result<(), EncodeError> {
        if is_null && !nullable {
            return Err(EncodeError::Null {
                message: self.message,
                at: self.len(),
            });
        }
        Ok(())
    }

    fn write_string(
        &mut self,
        value: Option<&ByteString>,
        legacy: bool,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        self.check_null(value.is_none(), nullable)?;
        self.length(value.map(|value| value.len()), legacy, true)?;
        self.buffer
            .extend_from_slice(value.map_or(&[], |value| value.as_bytes()));
        Ok(())
    }

    /// Writes a string.
    ///
    /// # Errors
    /// It is longer than 32,767 bytes.
    pub fn string(&mut self, value: &ByteString) -> Result<(), EncodeError> {
        self.write_string(Some(value), false, false)
    }

    /// Writes a string that may be null if `nullable`.
    ///
    /// # Errors
    /// It is too long, or null where it may not be.
    pub fn nullable_string(
        &mut self,
        value: &Option<ByteString>,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        self.write_string(value.as_ref(), false, nullable)
    }

    /// Writes a string whose length takes 16 bits even in flexible versions.
    ///
    /// # Errors
    /// It is too long, or null where it may not be.
    pub fn legacy_nullable_string(
        &mut self,
        value: &Option<ByteString>,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        self.write_string(value.as_ref(), true, nullable)
    }

    /// Writes bytes, as a copy.
    ///
    /// # Errors
    /// There are 2 GiB or more.
    pub fn bytes(&mut self, value: &Bytes) -> Result<(), EncodeError> {
        self.length(Some(value.len()), false, false)?;
        self.buffer.extend_from_slice(value);
        Ok(())
    }

    /// Writes bytes that may be null if `nullable`.
    ///
    /// # Errors
    /// There are too many, or they are null where they may not be.
    pub fn nullable_bytes(
        &mut self,
        value: &Option<Bytes>,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.bytes(value),
            None => {
                self.check_null(true, nullable)?;
                self.length(None, false, false)
            }
        }
    }

    /// Writes records by reference: the handles go into the frame.
    ///
    /// # Errors
    /// There are too many, or they are null where they may not be.
    pub fn nullable_records<T: RecordBytes>(
        &mut self,
        value: &Option<T>,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        self.check_null(value.is_none(), nullable)?;
        match value {
            Some(value) => self.records(value),
            None => self.length(None, false, false),
        }
    }

    /// Writes records by reference: the handles go into the frame.
    ///
    /// # Errors
    /// There are 2 GiB or more.
    pub fn records<T: RecordBytes>(&mut self, value: &T) -> Result<(), EncodeError> {
        let mut length = 0;
        value.for_each_chunk(|chunk| length += chunk.len());
        self.length(Some(length), false, false)?;
        let at = self.buffer.len();
        value.for_each_chunk(|chunk| {
            if !chunk.is_empty() {
                self.splices.push((at, chunk));
            }
        });
        self.spliced_bytes += length;
        Ok(())
    }

    /// Writes an array.
    ///
    /// # Errors
    /// An element cannot be written.
    pub fn array<T: Wire>(&mut self, value: &[T], version: i16) -> Result<(), EncodeError> {
        self.length(Some(value.len()), false, false)?;
        value
            .iter()
            .try_for_each(|element| element.write(self, version))
    }

    /// Writes an array that may be null if `nullable`.
    ///
    /// # Errors
    /// An element cannot be written, or the array is null where it may not be.
    pub fn nullable_array<T: Wire>(
        &mut self,
        value: &Option<Vec<T>>,
        version: i16,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.array(value, version),
            None => {
                self.check_null(true, nullable)?;
                self.length(None, false, false)
            }
        }
    }

    /// Writes a struct behind a byte that is -1 for null and 1 otherwise, where `nullable`.
    ///
    /// # Errors
    /// The struct cannot be written, or is null where it may not be.
    pub fn nullable_struct<T: Wire>(
        &mut self,
        value: &Option<T>,
        version: i16,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        self.check_null(value.is_none(), nullable)?;
        if nullable {
            self.int8(if value.is_some() { 1 } else { -1 });
        }
        value
            .as_ref()
            .map_or(Ok(()), |value| value.write(self, version))
    }
}

/// Tagged fields.
impl Writer {
    /// Says that a struct has no tagged fields, if the message could have any.
    pub(crate) fn no_tags(&mut self) {
        if self.flexible {
            self.int8(0);
        }
    }

    /// Starts a struct's tagged fields, if the message can have any. They follow in the order of
    /// their tags.
    pub(crate) fn begin_tags(&mut self) -> Option<Tags> {
        self.flexible.then(|| {
            self.int8(0);
            Tags(self.buffer.len() - 1)
        })
    }

    pub(crate) fn begin_tag(&mut self, tags: &Tags, tag: u32) -> Tag {
        self.buffer[tags.0] += 1;
        assert!(
            self.buffer[tags.0] < 0x80,
            "the count of tagged fields is one byte"
        );
        self.unsigned_varint(tag);
        Tag(self.buffer.len())
    }

    /// Ends a tagged field: its length goes before it.
    pub(crate) fn end_tag(&mut self, Tag(start): Tag) {
        let length = self.buffer.len() - start;
        let (bytes, width) = varint(length as u32);
        self.buffer.extend_from_slice(&bytes[..width]);
        self.buffer
            .copy_within(start..start + length, start + width);
        self.buffer[start..start + width].copy_from_slice(&bytes[..width]);
    }

    /// Writes a struct in a tagged field, behind a number that is 0 for null and 1 otherwise.
    pub(crate) fn nullable_tagged_struct<T: Wire>(
        &mut self,
        value: &Option<T>,
        version: i16,
    ) -> Result<(), EncodeError> {
        self.unsigned_varint(value.is_some().into());
        value
            .as_ref()
            .map_or(Ok(()), |value| value.write(self, version))
    }
}

/// What a `records` field can be: one handle in a request, several in a response.
pub trait RecordBytes {
    /// Calls `with` with each handle, in order.
    fn for_each_chunk(&self, with: impl FnMut(Bytes));
}

impl RecordBytes for Bytes {
    fn for_each_chunk(&self, mut with: impl FnMut(Bytes)) {
        with(self.clone());
    }
}

impl RecordBytes for Records {
    fn for_each_chunk(&self, with: impl FnMut(Bytes)) {
        self.chunks().iter().cloned().for_each(with);
    }
}

/// The bytes of a variable-length number, and how many there are.
fn varint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut length = 0;
    loop {
        bytes[length] = (value & 0x7f) as u8;
        length += 1;
        value >>= 7;
        if value == 0 {
            return (bytes, length);
        }
        bytes[length - 1] |= 0x80;
    }
}
