//! The wire: frames, headers, messages, error codes. Depends on `base` alone so far.
//!
//! The messages are made by the build script from the facts in `messages.txt`, which
//! `tools/messages.py` takes out of a Kafka release. Nothing about a message is typed by hand.
//!
//! What must stay true:
//! - no input makes a decoder panic, loop, or take more memory than a small multiple of the frame's
//!   length (see `base::limits`);
//! - strings, bytes and records are handles to the frame that they came in, never copies; records
//!   leave as handles too;
//! - what Kafka refuses to read or write is an error here, and what it leaves out of an old
//!   version is left out here;
//! - this room knows no socket, no shard, and no reason for an error code.
//!
//! # Example
//!
//! A request comes in and is answered:
//!
//! ```
//! use millrace::protocol::api::ApiKey;
//! use millrace::protocol::error_code::ErrorCode;
//! use millrace::protocol::frame;
//! use millrace::protocol::messages::list_offsets_request::ListOffsetsRequest;
//! use millrace::protocol::messages::list_offsets_response::*;
//!
//! # use millrace::protocol::records::Records;
//! # let sent = frame::request(6, 7, &"me".into(), &ListOffsetsRequest::default())?;
//! # let received = Records::from(sent.chunks).to_bytes();
//! # let received = received.slice(frame::LENGTH_BYTES..);
//! let request = frame::parse_request(received)?;
//! assert_eq!((request.header.key, request.header.version), (ApiKey::ListOffsets, 6));
//! let body: ListOffsetsRequest = request.decode()?;
//! assert_eq!(body.replica_id, 0);
//!
//! let response = ListOffsetsResponse {
//!     topics: vec![ListOffsetsTopicResponse {
//!         name: "unknown".into(),
//!         partitions: vec![ListOffsetsPartitionResponse {
//!             error_code: ErrorCode::UnknownTopicOrPartition.into(),
//!             ..Default::default()
//!         }],
//!     }],
//!     ..Default::default()
//! };
//! let header = &request.header;
//! let reply = frame::reply(header.key, header.version, header.correlation_id, &response)?;
//! assert_eq!(reply.length, reply.chunks.iter().map(|chunk| chunk.len()).sum::<usize>());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod api;
pub mod error;
pub mod error_code;
pub mod frame;
pub mod messages;
pub mod reader;
pub mod records;
pub mod wire;
pub mod writer;

#[cfg(test)]
mod tests;
