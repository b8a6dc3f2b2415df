//! Why bytes are no message, and why a message has no bytes. Pure data.

/// Bytes from a peer that are not what they should be. `at` is the position in the frame's part
/// that was being read, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field reaches past the end of the frame.
    #[error("{needed} bytes are needed at byte {at}, {left} are left")]
    Truncated {
        /// Where the field starts.
        at: usize,
        /// What the field takes.
        needed: usize,
        /// What the frame has left.
        left: usize,
    },
    /// A length or count below -1, or -1 or 0 where it stands for a null that is not allowed.
    #[error("a null or negative length where none is allowed, before byte {at}")]
    Null {
        /// Just behind the length.
        at: usize,
    },
    /// An array's count that the rest of the frame cannot hold.
    #[error("an array of {count} elements before byte {at}, with {left} bytes left")]
    Count {
        /// Just behind the count.
        at: usize,
        /// The elements that it announces.
        count: usize,
        /// What the frame has left.
        left: usize,
    },
    /// The message would take far more memory than its frame: see `base::limits`.
    #[error("the message takes too much memory for its length, at byte {at}")]
    Memory {
        /// Where the array is that takes too much.
        at: usize,
    },
    /// A string longer than 32,767 bytes.
    #[error("a string of {length} bytes before byte {at}")]
    StringLength {
        /// Just behind the length.
        at: usize,
        /// The length that it announces, in bytes.
        length: usize,
    },
    /// A string that is not UTF-8.
    #[error("a string that is not UTF-8 at byte {at}")]
    Utf8 {
        /// Where its bytes start.
        at: usize,
    },
    /// A variable-length number of more than 32 bits.
    #[error("a number of more than 32 bits before byte {at}")]
    Varint {
        /// Just behind its last byte.
        at: usize,
    },
    /// A tagged field that does not fill its length, or that the version does not have.
    #[error("tagged field {tag} is malformed, before byte {at}")]
    Tag {
        /// Where the reader stood.
        at: usize,
        /// The field's tag.
        tag: u32,
    },
    /// A version that does not exist.
    #[error("{message} has no version {version}")]
    Version {
        /// Kafka's name of the message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
}

/// A message of our own that its version cannot express.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A version that does not exist.
    #[error("{message} has no version {version}")]
    Version {
        /// Kafka's name of the message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A field that is not at its default, in a version without it.
    #[error("{message} version {version} has no field {field}, which is set")]
    UnknownField {
        /// Kafka's name of the message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// The version to be written.
        version: i16,
    },
    /// A null in a version that does not allow it.
    #[error("{message}: a null where none is allowed, at byte {at}")]
    Null {
        /// Kafka's name of the message.
        message: &'static str,
        /// Where the field would have started.
        at: usize,
    },
    /// A string of more than 32,767 bytes, or a frame, array or bytes of 2 GiB or more.
    #[error("{message}: {length} is too long, at byte {at}")]
    Length {
        /// Kafka's name of the message.
        message: &'static str,
        /// Where the field would have started.
        at: usize,
        /// The length, in bytes or elements.
        length: usize,
    },
}
