//! Joins the connections to the requests: what net serves is what api handles.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::api::broker::{Broker, Connection};
use crate::api::dispatch::{self, Handled, Outcome as ApiOutcome};
use crate::net::service::{Dispatched, Outcome, Service};

/// The requests of one listener on one shard.
#[derive(Debug)]
pub struct ApiService {
    broker: Rc<Broker>,
    listener: Arc<str>,
}

impl ApiService {
    /// Serves connections that come in by `listener`.
    pub fn new(broker: Rc<Broker>, listener: &str) -> Self {
        Self {
            broker,
            listener: listener.into(),
        }
    }
}

impl Service for ApiService {
    type Connection = Connection;

    fn connected(&self, peer: SocketAddr, _local: SocketAddr) -> Connection {
        Connection {
            listener: Arc::clone(&self.listener),
            peer,
        }
    }

    fn pipelines(&self, frame_start: &[u8]) -> bool {
        dispatch::pipelines(frame_start)
    }

    async fn dispatch(&self, connection: &Rc<Connection>, frame: Bytes) -> Dispatched {
        match dispatch::dispatch(&self.broker, connection, frame).await {
            Handled::Now(outcome) => Dispatched::Now(told(outcome)),
            Handled::Later(later) => Dispatched::Later(Box::pin(async move { told(later.await) })),
        }
    }
}

fn told(outcome: ApiOutcome) -> Outcome {
    match outcome {
        ApiOutcome::Reply(reply) => Outcome::Reply(reply),
        ApiOutcome::NoReply => Outcome::NoReply,
        ApiOutcome::Close(reason) => Outcome::Close(reason),
    }
}
