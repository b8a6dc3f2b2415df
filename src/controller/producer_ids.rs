//! Plans for giving out blocks of producer ids, which are never given out twice. Pure.

use super::Plan;
use crate::base::ids::{NodeId, ProducerId};
use crate::metadata::MetadataImage;
use crate::protocol::messages::producer_ids_record::ProducerIdsRecord;

/// How many ids a block holds, as in Kafka.
pub const PRODUCER_IDS_PER_BLOCK: i64 = 1000;

/// Producer ids that belong to whoever was given them. Unused ones are lost, never given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first.
    pub first: ProducerId,
    /// How many.
    pub count: i64,
}

/// All ids were given out: 9 trillion blocks were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Exhausted all producerIds as the next block's end producerId has exceeded long type limit"
)]
pub struct ProducerIdsExhausted;

/// Plans the next block for `broker`.
pub fn allocate_producer_ids(
    image: &MetadataImage,
    broker: NodeId,
) -> Plan<Result<ProducerIdBlock, ProducerIdsExhausted>> {
    let first = image.next_producer_id();
    let Some(next) = first.0.checked_add(PRODUCER_IDS_PER_BLOCK) else {
        return Plan::only_reply(Err(ProducerIdsExhausted));
    };
    let record = ProducerIdsRecord {
        broker_id: broker.0,
        broker_epoch: image.broker(broker).map_or(-1, |broker| broker.epoch),
        next_producer_id: next,
    };
    let count = PRODUCER_IDS_PER_BLOCK;
    Plan {
        records: vec![record.into()],
        reply: Ok(ProducerIdBlock { first, count }),
    }
}
