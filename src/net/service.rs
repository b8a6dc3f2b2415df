//! What the connections serve: the border between sockets and requests.
//!
//! A broker implements [`Service`] by its api room; tests implement it by a few lines.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;

use crate::protocol::frame::Reply;

/// How a request ended.
#[derive(Debug)]
pub enum Outcome {
    /// The reply to write, in the request's turn.
    Reply(Reply),
    /// Nothing is written, as for Produce with acks=0.
    NoReply,
    /// The connection is closed in the request's turn, for this reason.
    Close(String),
}

/// A future of the shard that made it.
pub type LocalFuture<T> = std::pin::Pin<Box<dyn Future<Output = T>>>;

/// What is left of a request when its ordered phase is over.
pub enum Dispatched {
    /// Nothing.
    Now(Outcome),
    /// The completion, which runs beside the connection's next requests if the request pipelines.
    Later(LocalFuture<Outcome>),
}

/// Handles the requests of a shard's connections.
pub trait Service: 'static {
    /// What is kept of one connection.
    type Connection: 'static;

    /// A connection has been accepted.
    fn connected(&self, peer: SocketAddr, local: SocketAddr) -> Self::Connection;

    /// Whether the request that starts with these bytes, two at least, is dispatched while earlier
    /// ones of its connection are in progress. Such a request carries records; its memory comes out
    /// of the budget, whatever its size.
    fn pipelines(&self, frame_start: &[u8]) -> bool;

    /// Runs the ordered phase of a request: the connection's next one is dispatched when the future
    /// resolves. `frame` is the request without its length.
    fn dispatch(
        &self,
        connection: &Rc<Self::Connection>,
        frame: Bytes,
    ) -> impl Future<Output = Dispatched>;
}
