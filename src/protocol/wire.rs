//! What a message and its parts can do: be read from a frame and written to one. Any shard; no I/O.
//!
//! The generated code implements these traits and imports everything from here.

pub use std::ops::RangeInclusive;

pub use bytes::Bytes;
pub use bytestring::ByteString;

pub use crate::base::ids::{TopicId, Uuid};
pub use crate::protocol::api::ApiKey;
pub use crate::protocol::error::{DecodeError, EncodeError};
pub use crate::protocol::reader::Reader;
pub use crate::protocol::records::Records;
pub use crate::protocol::writer::Writer;

/// A value with a form on the wire, within a message: a struct, or an array's element.
pub trait Wire: Sized {
    /// The fewest bytes that a value takes in any version; at least 1, so that a frame bounds the
    /// number of elements it can hold.
    const BYTES_MIN: usize;

    /// Reads a value in the form of `version` of the surrounding message.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    fn read(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the value in the form of `version` of the surrounding message.
    ///
    /// # Errors
    /// The value cannot be expressed in that version.
    fn write(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A whole request, response or record.
pub trait Message: Wire + Default {
    /// Kafka's name of it.
    const NAME: &'static str;
    /// The versions that exist in Kafka 4.3.1, whether the broker serves them or not.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
    const FLEXIBLE_SINCE: i16;
    /// The API's key or the record type's number; -1 for a message that has none.
    const KEY: i16;

    /// Reads the message. Bytes that follow it are left in the reader: Kafka ignores them at the
    /// end of a request.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes, or a version that does not exist.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if !Self::VERSIONS.contains(&version) {
            return Err(DecodeError::Version {
                message: Self::NAME,
                version,
            });
        }
        reader.begin_message(version >= Self::FLEXIBLE_SINCE);
        Self::read(reader, version)
    }

    /// Writes the message. After an error, what has been written so far is of no use.
    ///
    /// # Errors
    /// A value that the version cannot express, as in Kafka: a field that it does not know and
    /// that is neither ignorable nor at its default, or a null where none is allowed.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if !Self::VERSIONS.contains(&version) {
            return Err(EncodeError::Version {
                message: Self::NAME,
                version,
            });
        }
        writer.begin_message(Self::NAME, version >= Self::FLEXIBLE_SINCE);
        self.write(writer, version)
    }

    /// Reads a message that stands alone, such as a record's value.
    ///
    /// # Errors
    /// As for [`Message::decode`].
    fn from_bytes(bytes: Bytes, version: i16) -> Result<Self, DecodeError> {
        Self::decode(&mut Reader::new(bytes), version)
    }

    /// The message alone, such as a record's value.
    ///
    /// # Errors
    /// As for [`Message::encode`].
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        self.encode(&mut writer, version)?;
        Ok(writer.into_bytes())
    }
}

/// A request, which knows its API and its response.
pub trait Request: Message {
    /// What answers it, in the same version.
    type Response: Message;
    /// Its API.
    const API: ApiKey;
}

macro_rules! scalar {
    ($($type:ty, $method:ident, $bytes:literal;)*) => {$(
        impl Wire for $type {
            const BYTES_MIN: usize = $bytes;

            fn read(reader: &mut Reader, _: i16) -> Result<Self, DecodeError> {
                reader.$method()
            }

            fn write(&self, writer: &mut Writer, _: i16) -> Result<(), EncodeError> {
                writer.$method(*self);
                Ok(())
            }
        }
    )*};
}

scalar! {
    i8, int8, 1;
    i16, int16, 2;
    i32, int32, 4;
    i64, int64, 8;
    TopicId, topic_id, 16;
    Uuid, uuid, 16;
}

impl Wire for ByteString {
    const BYTES_MIN: usize = 1;

    fn read(reader: &mut Reader, _: i16) -> Result<Self, DecodeError> {
        reader.string()
    }

    fn write(&self, writer: &mut Writer, _: i16) -> Result<(), EncodeError> {
        writer.string(self)
    }
}
