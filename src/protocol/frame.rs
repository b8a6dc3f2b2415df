//! Frames: a length, a header and a message. Any shard; it never touches a socket.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

use crate::protocol::api::ApiKey;
use crate::protocol::error::{DecodeError, EncodeError};
use crate::protocol::messages::request_header;
use crate::protocol::messages::response_header::ResponseHeader;
use crate::protocol::reader::Reader;
use crate::protocol::wire::{Message, Request};
use crate::protocol::writer::Writer;

/// The length before a frame, in bytes. It does not count itself.
pub const LENGTH_BYTES: usize = 4;

/// The key, version and correlation id that every request's frame starts with, in bytes.
pub const FIXED_HEADER_BYTES: usize = 8;

/// A frame that cannot be answered: as in Kafka, the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A negative length, or one above `socket.request.max.bytes`.
    #[error(
        "a frame of {length} bytes, where 0 to {length_max} are allowed{}",
        resemblance(*length)
    )]
    Length {
        /// The length that was announced, in bytes.
        length: i32,
        /// The longest that is allowed, in bytes.
        length_max: usize,
    },
    /// An API that does not exist.
    #[error("API key {key} is unknown")]
    UnknownApi {
        /// The key.
        key: i16,
    },
    /// An API or version that the broker does not serve.
    #[error("{} version {version} is not served", key.name())]
    NotServed {
        /// The API.
        key: ApiKey,
        /// The version.
        version: i16,
    },
    /// A header that is malformed.
    #[error("the request's header is malformed: {0}")]
    Header(DecodeError),
    /// A message that is malformed.
    #[error("{message} version {version} is malformed: {error}")]
    Body {
        /// Kafka's name of the message.
        message: &'static str,
        /// Its version.
        version: i16,
        /// What is wrong with it.
        error: DecodeError,
    },
}

/// A request's header.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestHeader {
    /// The API.
    pub key: ApiKey,
    /// The version of request and response.
    pub version: i16,
    /// What the response repeats.
    pub correlation_id: i32,
    /// How the client calls itself; empty if it sent null, as in Kafka.
    pub client_id: ByteString,
}

/// A request whose header has been read.
#[derive(Clone, Debug)]
pub struct RequestFrame {
    /// The header.
    pub header: RequestHeader,
    /// What follows it.
    pub body: Bytes,
}

/// A frame ready to be sent.
#[derive(Clone, Default)]
pub struct Frame {
    /// Its pieces, in order, the length in front included.
    pub chunks: Vec<Bytes>,
    /// The bytes of all pieces.
    pub length: usize,
    /// The bytes of those that were made for it. The others are parts of a log's memory.
    pub own_length: usize,
}

/// What the broker sends: a frame with a response.
pub type Reply = Frame;

/// The length of the frame behind `prefix`, in bytes.
///
/// # Errors
/// It is negative or above `length_max`, which is `socket.request.max.bytes`.
pub fn frame_length(prefix: [u8; LENGTH_BYTES], length_max: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= length_max)
        .ok_or(FrameError::Length { length, length_max })
}

/// What a length that is none may be the start of: people see the number, and not what it spells.
fn resemblance(length: i32) -> &'static str {
    match &length.to_be_bytes() {
        // A record with a handshake, of the versions 3.0 to 3.4.
        [0x16, 3, 0..=4, _] => {
            ": it looks like TLS, and the listener has none: the client's security.protocol is to \
             be PLAINTEXT"
        }
        b"GET " | b"HEAD" | b"POST" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"PRI " => {
            ": it looks like HTTP, and the listener speaks Kafka's protocol"
        }
        _ => "",
    }
}

/// The API key at the start of a request's frame, before the frame has arrived: so that the budget
/// it comes out of can be chosen. Nothing is checked.
pub fn peek_api_key(frame: &[u8]) -> Option<i16> {
    Some(i16::from_be_bytes([*frame.first()?, *frame.get(1)?]))
}

/// Reads a request's header and checks that the broker serves it. `frame` is without its length.
///
/// A request of ApiVersions passes in any version:
/// [`RequestFrame::is_unsupported_api_versions`].
///
/// # Errors
/// The connection is to be closed.
pub fn parse_request(frame: Bytes) -> Result<RequestFrame, FrameError> {
    let mut reader = Reader::new(frame);
    let mut ahead = reader.clone();
    let code = ahead.int16().map_err(FrameError::Header)?;
    let version = ahead.int16().map_err(FrameError::Header)?;
    let key = ApiKey::from_code(code).ok_or(FrameError::UnknownApi { key: code })?;
    if key != ApiKey::ApiVersions && !key.serves(version) {
        return Err(FrameError::NotServed { key, version });
    }
    let header =
        request_header::RequestHeader::decode(&mut reader, key.request_header_version(version))
            .map_err(FrameError::Header)?;
    Ok(RequestFrame {
        header: RequestHeader {
            key,
            version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.unwrap_or_default(),
        },
        body: reader.rest(),
    })
}

impl RequestFrame {
    /// Whether this is ApiVersions in a version that the broker does not serve. Its body is then
    /// not to be read; the answer is a response of version 0 with UNSUPPORTED_VERSION and the
    /// served ranges.
    pub fn is_unsupported_api_versions(&self) -> bool {
        self.header.key == ApiKey::ApiVersions && !self.header.key.serves(self.header.version)
    }

    /// Reads the body. Bytes behind it are ignored, as in Kafka.
    ///
    /// # Errors
    /// It is malformed: the connection is to be closed.
    pub fn decode<R: Request>(&self) -> Result<R, FrameError> {
        debug_assert_eq!(self.header.key, R::API);
        decode_body(&mut Reader::new(self.body.clone()), self.header.version)
    }
}

/// The frame that answers a request with `response`. `version` is the request's, or 0 for an
/// ApiVersions request of a version that is not served.
///
/// # Errors
/// The response cannot be expressed in that version.
pub fn reply<M: Message>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Reply, EncodeError> {
    debug_assert_eq!(key.code(), M::KEY);
    let header = ResponseHeader { correlation_id };
    frame(
        &header,
        key.response_header_version(version),
        response,
        version,
    )
}

/// The frame of a request, for a client. An empty `client_id` is sent as such.
///
/// # Errors
/// The request cannot be expressed in that version.
pub fn request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: &ByteString,
    request: &R,
) -> Result<Frame, EncodeError> {
    let header = request_header::RequestHeader {
        request_api_key: R::API.code(),
        request_api_version: version,
        correlation_id,
        client_id: Some(client_id.clone()),
    };
    frame(
        &header,
        R::API.request_header_version(version),
        request,
        version,
    )
}

/// Reads the response to a request of `R` in `version`, for a client: its correlation id and the
/// message. `frame` is without its length.
///
/// # Errors
/// It is malformed.
pub fn parse_response<R: Request>(
    frame: Bytes,
    version: i16,
) -> Result<(i32, R::Response), FrameError> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, R::API.response_header_version(version))
        .map_err(FrameError::Header)?;
    Ok((header.correlation_id, decode_body(&mut reader, version)?))
}

fn decode_body<M: Message>(reader: &mut Reader, version: i16) -> Result<M, FrameError> {
    M::decode(reader, version).map_err(|error| FrameError::Body {
        message: M::NAME,
        version,
        error,
    })
}

fn frame<H: Message, M: Message>(
    header: &H,
    header_version: i16,
    message: &M,
    version: i16,
) -> Result<Frame, EncodeError> {
    let mut writer = Writer::new();
    writer.int32(0);
    header.encode(&mut writer, header_version)?;
    message.encode(&mut writer, version)?;
    let length = writer.len();
    let body = i32::try_from(length - LENGTH_BYTES).map_err(|_| writer.too_long(length))?;
    writer.patch_int32(0, body);
    Ok(Frame {
        own_length: writer.own_len(),
        chunks: writer.into_chunks(),
        length,
    })
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "frame of {} bytes, {} pieces",
            self.length,
            self.chunks.len()
        )
    }
}
