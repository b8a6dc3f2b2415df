//! Sockets: accepting connections, cutting their bytes into request frames, and writing the
//! replies.
//!
//! Each shard listens on every address by a socket of its own, and owns the connections that it
//! accepted. The room knows that a request is a length and that many bytes, and that some requests
//! pipeline; everything else about a request is a [`service::Service`]'s. Depends on `base`,
//! `config`, `protocol`, `runtime`, `shard` and `api`.
//!
//! What must stay true:
//! - replies of a connection leave in the order of its requests, and each leaves whole or the
//!   connection is closed;
//! - a request that does not pipeline is dispatched when every earlier reply of its connection has
//!   been written, so a client that does not read is not read from;
//! - no request is read before its memory was taken from the shard's budget, and an idle connection
//!   holds no buffer; while a peer owes the rest of a request, others may have that memory;
//! - a connection stays only as long as requests and replies get ahead on it, and what was made for
//!   replies that nobody reads is bounded;
//! - whatever a peer sends, or does not send, costs it its own connection and one log line at most;
//! - no call on a socket blocks, and no connection keeps the shard for more than
//!   [`crate::base::limits::BYTES_BEFORE_YIELD_MAX`] bytes at a time.

mod connection;
mod connections;
mod intake;
pub mod listener;
pub mod quota;
mod replies;
pub mod server;
pub mod service;
mod socket;
mod unread;

#[cfg(test)]
mod tests;
