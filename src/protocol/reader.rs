//! Reads the protocol's types from a frame, without copying its bytes. Any shard; it never trusts
//! a length: nothing is reserved that the rest of the frame could not fill.

use bytes::Bytes;
use bytestring::ByteString;

use crate::base::ids::{TopicId, Uuid};
use crate::base::limits::{DECODED_BYTES_PER_FRAME_BYTE_MAX, DECODED_BYTES_SLACK};
use crate::protocol::error::DecodeError;
use crate::protocol::wire::Wire;

/// Protocol strings are at most this long, in bytes: their length was once 16 bits.
pub(crate) const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// A position in a frame. Strings and bytes that it returns are handles to the frame, which lives
/// as long as any of them.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    position: usize,
    /// Whether the message at hand has compact lengths and tagged fields.
    flexible: bool,
    /// What arrays may still take, in bytes of memory.
    memory_left: usize,
}

impl Reader {
    /// A reader at the start of `bytes`: a frame without its length, or a record's key or value.
    pub fn new(bytes: Bytes) -> Self {
        let memory_left = bytes
            .len()
            .saturating_mul(DECODED_BYTES_PER_FRAME_BYTE_MAX)
            .saturating_add(DECODED_BYTES_SLACK);
        Self {
            bytes,
            position: 0,
            flexible: false,
            memory_left,
        }
    }

    /// The bytes that are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// A handle to everything that is left.
    pub fn rest(&self) -> Bytes {
        self.bytes.slice(self.position..)
    }

    pub(crate) fn begin_message(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    fn advance(&mut self, length: usize) -> Result<usize, DecodeError> {
        let at = self.position;
        let left = self.remaining();
        if length > left {
            return Err(DecodeError::Truncated {
                at,
                needed: length,
                left,
            });
        }
        self.position += length;
        Ok(at)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let at = self.advance(N)?;
        let mut fixed = [0; N];
        fixed.copy_from_slice(&self.bytes[at..at + N]);
        Ok(fixed)
    }

    fn slice(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let at = self.advance(length)?;
        Ok(self.bytes.slice(at..at + length))
    }
}

macro_rules! number {
    ($($method:ident -> $type:ty;)*) => {$(
        #[doc = concat!("Reads a big-endian `", stringify!($type), "`.")]
        ///
        /// # Errors
        /// The frame ends before it does.
        pub fn $method(&mut self) -> Result<$type, DecodeError> {
            Ok(<$type>::from_be_bytes(self.fixed()?))
        }
    )*};
}

/// Numbers and ids.
impl Reader {
    number! {
        int8 -> i8;
        int16 -> i16;
        uint16 -> u16;
        int32 -> i32;
        int64 -> i64;
        float64 -> f64;
    }

    /// Reads a byte that is 0 for false and anything else for true.
    ///
    /// # Errors
    /// The frame ends before it.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.int8()? != 0)
    }

    /// Reads 16 bytes.
    ///
    /// # Errors
    /// The frame ends before they do.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(u128::from_be_bytes(self.fixed()?)))
    }

    /// Reads the 16 bytes of a topic's id.
    ///
    /// # Errors
    /// The frame ends before they do.
    pub fn topic_id(&mut self) -> Result<TopicId, DecodeError> {
        Ok(TopicId(u128::from_be_bytes(self.fixed()?)))
    }

    /// Reads an unsigned number of 7 bits a byte, lowest first.
    ///
    /// # Errors
    /// The frame ends before it does, or it has more than 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint { at: self.position })
    }
}

/// Strings, bytes and arrays.
impl Reader {
    /// A length or count; `None` stands for null.
    fn length(&mut self, legacy_string: bool, string: bool) -> Result<Option<usize>, DecodeError> {
        let length = if self.flexible && !legacy_string {
            i64::from(self.unsigned_varint()?) - 1
        } else if string {
            i64::from(self.int16()?)
        } else {
            i64::from(self.int32()?)
        };
        match length {
            -1 => Ok(None),
            0.. if length <= i64::from(i32::MAX) => Ok(Some(length as usize)),
            _ => Err(DecodeError::Null { at: self.position }),
        }
    }

    fn null<T>(&self, nullable: bool) -> Result<Option<T>, DecodeError> {
        if nullable {
            Ok(None)
        } else {
            Err(DecodeError::Null { at: self.position })
        }
    }

    fn not_null<T>(&self, value: Option<T>) -> Result<T, DecodeError> {
        value.ok_or(DecodeError::Null { at: self.position })
    }

    fn read_string(
        &mut self,
        legacy: bool,
        nullable: bool,
    ) -> Result<Option<ByteString>, DecodeError> {
        let Some(length) = self.length(legacy, true)? else {
            return self.null(nullable);
        };
        let at = self.position;
        if length > STRING_BYTES_MAX {
            return Err(DecodeError::StringLength { at, length });
        }
        let bytes = self.slice(length)?;
        let string = ByteString::try_from(bytes).map_err(|_| DecodeError::Utf8 { at })?;
        Ok(Some(string))
    }

    /// Reads a string.
    ///
    /// # Errors
    /// It is null, too long, not UTF-8, or past the frame's end.
    pub fn string(&mut self) -> Result<ByteString, DecodeError> {
        let string = self.read_string(false, false)?;
        self.not_null(string)
    }

    /// Reads a string that may be null if `nullable`.
    ///
    /// # Errors
    /// As for [`Reader::string`].
    pub fn nullable_string(&mut self, nullable: bool) -> Result<Option<ByteString>, DecodeError> {
        self.read_string(false, nullable)
    }

    /// Reads a string whose length takes 16 bits even in flexible versions.
    ///
    /// # Errors
    /// As for [`Reader::string`].
    pub fn legacy_nullable_string(
        &mut self,
        nullable: bool,
    ) -> Result<Option<ByteString>, DecodeError> {
        self.read_string(true, nullable)
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// They are null or past the frame's end.
    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let bytes = self.nullable_bytes(false)?;
        self.not_null(bytes)
    }

    /// Reads bytes that may be null if `nullable`.
    ///
    /// # Errors
    /// As for [`Reader::bytes`].
    pub fn nullable_bytes(&mut self, nullable: bool) -> Result<Option<Bytes>, DecodeError> {
        match self.length(false, false)? {
            Some(length) => self.slice(length).map(Some),
            None => self.null(nullable),
        }
    }

    /// Reads an array.
    ///
    /// # Errors
    /// It is null, announces more elements than the frame can hold or than the memory for the
    /// frame allows, or an element is wrong.
    pub fn array<T: Wire>(&mut self, version: i16) -> Result<Vec<T>, DecodeError> {
        let array = self.nullable_array(version, false)?;
        self.not_null(array)
    }

    /// Reads an array that may be null if `nullable`.
    ///
    /// # Errors
    /// As for [`Reader::array`].
    pub fn nullable_array<T: Wire>(
        &mut self,
        version: i16,
        nullable: bool,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        const { assert!(T::BYTES_MIN > 0, "an element takes bytes of the frame") };
        let Some(count) = self.length(false, false)? else {
            return self.null(nullable);
        };
        let (at, left) = (self.position, self.remaining());
        if count > left / T::BYTES_MIN {
            return Err(DecodeError::Count { at, count, left });
        }
        // No overflow: count is below the frame's length, and T's size is a few hundred bytes.
        self.memory_left = self
            .memory_left
            .checked_sub(count * size_of::<T>())
            .ok_or(DecodeError::Memory { at })?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(self, version)?);
        }
        Ok(Some(elements))
    }

    /// Reads a struct behind a byte that is negative for null, where `nullable`.
    ///
    /// # Errors
    /// Whatever is wrong with the struct.
    pub fn nullable_struct<T: Wire>(
        &mut self,
        version: i16,
        nullable: bool,
    ) -> Result<Option<T>, DecodeError> {
        if nullable && self.int8()? < 0 {
            return Ok(None);
        }
        T::read(self, version).map(Some)
    }
}

/// Tagged fields.
impl Reader {
    /// Reads the tagged fields of a struct, if the message has any: `known` reads the one with the
    /// given tag and says whether there is such a one. Unknown fields are skipped.
    ///
    /// # Errors
    /// A field reaches past the frame's end, does not fill its length, or is wrong in itself.
    pub fn tags(
        &mut self,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let length = self.unsigned_varint()? as usize;
            let start = self.advance(length)?;
            let end = self.position;
            self.position = start;
            if !known(self, tag)? {
                self.position = end;
            } else if self.position != end {
                return Err(self.misplaced_tag(tag));
            }
        }
        Ok(())
    }

    /// Skips the tagged fields of a struct that knows none.
    ///
    /// # Errors
    /// A field reaches past the frame's end.
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        self.tags(|_, _| Ok(false))
    }

    /// Reads a struct in a tagged field, behind a number that is 0 for null.
    ///
    /// # Errors
    /// Whatever is wrong with the struct.
    pub fn nullable_tagged_struct<T: Wire>(
        &mut self,
        version: i16,
        nullable: bool,
    ) -> Result<Option<T>, DecodeError> {
        if nullable && self.unsigned_varint()? == 0 {
            return Ok(None);
        }
        T::read(self, version).map(Some)
    }

    pub(crate) fn misplaced_tag(&self, tag: u32) -> DecodeError {
        DecodeError::Tag {
            at: self.position,
            tag,
        }
    }
}
