//! InitProducerId: a fresh id for an idempotent producer (KIP-98). Each shard gives them out of a
//! block of its own, which the controller has made durable before the first of them is used.

use std::cell::Cell;

use crate::runtime::Semaphore;

use super::broker::Broker;
use crate::base::ids::{NodeId, ProducerId};
use crate::controller::{ControllerHandle, ProducerIdBlock};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::init_producer_id_request::InitProducerIdRequest;
use crate::protocol::messages::init_producer_id_response::InitProducerIdResponse;

/// What the protocol sends where there is no producer id or epoch.
const NONE: i8 = -1;

/// Answers a request.
pub async fn handle(broker: &Broker, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let timeout_max_ms = broker.config.transaction_max_timeout_ms;
    if let Some(error) = refusal(request, timeout_max_ms) {
        return refuse(error);
    }
    let next = broker.producer_ids.next(&broker.controller, broker.node_id);
    match next.await {
        Ok(id) => InitProducerIdResponse {
            producer_id: id.0,
            producer_epoch: 0,
            ..InitProducerIdResponse::default()
        },
        Err(error) => refuse(error),
    }
}

/// Why no id is given out. A transactional producer is sent to look for its coordinator, and finds
/// none as long as transactions are not built; an idempotent one may name the id and epoch that it
/// has, and gets a new id, as in Kafka.
fn refusal(request: &InitProducerIdRequest, timeout_max_ms: u32) -> Option<ErrorCode> {
    let allowed_timeouts = 1..=i64::from(timeout_max_ms);
    let has_id = request.producer_id != i64::from(NONE);
    let has_epoch = request.producer_epoch != i16::from(NONE);
    if has_id != has_epoch {
        return Some(ErrorCode::InvalidRequest);
    }
    match request.transactional_id.as_deref() {
        None => None,
        Some("") => Some(ErrorCode::InvalidRequest),
        Some(_) if !allowed_timeouts.contains(&request.transaction_timeout_ms.into()) => {
            Some(ErrorCode::InvalidTransactionTimeout)
        }
        Some(_) => Some(ErrorCode::CoordinatorNotAvailable),
    }
}

fn refuse(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: error.into(),
        producer_id: NONE.into(),
        producer_epoch: NONE.into(),
        ..InitProducerIdResponse::default()
    }
}

/// The producer ids that a shard may give out. Those that are left when it stops are lost.
#[derive(Debug)]
pub(super) struct ProducerIds {
    next: Cell<i64>,
    end: Cell<i64>,
    /// Held while a block is fetched, so that a crowd of producers takes one block, not one each.
    fetching: Semaphore,
}

impl Default for ProducerIds {
    fn default() -> Self {
        Self {
            next: Cell::new(0),
            end: Cell::new(0),
            fetching: Semaphore::new(1),
        }
    }
}

impl ProducerIds {
    /// An id that nobody else was or will be given.
    ///
    /// # Errors
    /// The code for a client: there is no id left, or the controller did not give out a block, and
    /// the producer tries again, as it does while Kafka fetches one.
    pub(super) async fn next(
        &self,
        controller: &ControllerHandle,
        node_id: NodeId,
    ) -> Result<ProducerId, ErrorCode> {
        if let Some(id) = self.take() {
            return Ok(id);
        }
        let turn = self.fetching.acquire_permit(1).await;
        let _turn = turn.map_err(|_| ErrorCode::CoordinatorLoadInProgress)?;
        loop {
            // Whoever had the turn before may have fetched enough.
            if let Some(id) = self.take() {
                return Ok(id);
            }
            let block = controller.allocate_producer_ids(node_id).await;
            let block = block.map_err(|_| ErrorCode::CoordinatorLoadInProgress)?;
            let block = block.map_err(|_| ErrorCode::UnknownServerError)?;
            self.refill(block);
        }
    }

    fn take(&self) -> Option<ProducerId> {
        let id = self.next.get();
        (id < self.end.get()).then(|| {
            self.next.set(id + 1);
            ProducerId(id)
        })
    }

    fn refill(&self, block: ProducerIdBlock) {
        assert!(block.count > 0, "a block holds ids");
        self.next.set(block.first.0);
        self.end.set(block.first.0 + block.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(transactional_id: Option<&str>, id: i64, epoch: i16) -> InitProducerIdRequest {
        InitProducerIdRequest {
            transactional_id: transactional_id.map(Into::into),
            producer_id: id,
            producer_epoch: epoch,
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        }
    }

    #[test]
    fn who_gets_no_id_is_told_why() {
        let cases = [
            (request(None, -1, -1), None),
            (request(None, 5, 3), None),
            (request(None, 5, -1), Some(ErrorCode::InvalidRequest)),
            (request(None, -1, 0), Some(ErrorCode::InvalidRequest)),
            (request(Some(""), -1, -1), Some(ErrorCode::InvalidRequest)),
            (request(Some("t"), 5, -1), Some(ErrorCode::InvalidRequest)),
            (
                request(Some("t"), -1, -1),
                Some(ErrorCode::CoordinatorNotAvailable),
            ),
        ];
        for (request, expected) in cases {
            assert_eq!(refusal(&request, 900_000), expected, "{request:?}");
        }
        for timeout_ms in [0, -1, 900_001] {
            let mut request = request(Some("t"), -1, -1);
            request.transaction_timeout_ms = timeout_ms;
            let invalid = Some(ErrorCode::InvalidTransactionTimeout);
            assert_eq!(refusal(&request, 900_000), invalid);
            request.transactional_id = None;
            assert_eq!(refusal(&request, 900_000), None, "it is not looked at");
        }
        let refused = refuse(ErrorCode::InvalidRequest);
        assert_eq!((refused.producer_id, refused.producer_epoch), (-1, -1));
    }

    #[test]
    fn a_block_is_given_out_id_by_id_and_no_further() {
        let ids = ProducerIds::default();
        assert_eq!(ids.take(), None);
        let (first, count) = (ProducerId(7000), 3);
        ids.refill(ProducerIdBlock { first, count });
        let given: Vec<_> = std::iter::from_fn(|| ids.take()).collect();
        assert_eq!(
            given,
            [ProducerId(7000), ProducerId(7001), ProducerId(7002)]
        );
    }
}
