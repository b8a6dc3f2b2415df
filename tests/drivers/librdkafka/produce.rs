//! The verb `produce`: a record for each command, an event for each acknowledgement.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, Partitioner, Producer as _, ProducerContext, ThreadedProducer,
};
use serde_json::{Value, json};

use super::{Failure, commands, config, print, set, text};

/// How long the last acknowledgements may take.
const WITHIN: Duration = Duration::from_secs(60);

/// The partitioner of the contract: the sum of the key's bytes.
struct SumOfBytes;

impl Partitioner for SumOfBytes {
    fn partition(
        &self,
        _: &str,
        key: Option<&[u8]>,
        partitions: i32,
        _: impl Fn(i32) -> bool,
    ) -> i32 {
        let sum: i32 = key.unwrap_or_default().iter().copied().map(i32::from).sum();
        sum % partitions
    }
}

/// Tells the acknowledgements in the order of the commands.
#[derive(Default)]
struct Acknowledgements {
    custom: Option<SumOfBytes>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    next: usize,
    early: BTreeMap<usize, (i32, i64)>,
    failure: Option<KafkaError>,
}

impl ClientContext for Acknowledgements {}

impl ProducerContext<SumOfBytes> for Acknowledgements {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                told.early
                    .insert(index, (message.partition(), message.offset()));
            }
            Err((error, _)) => told.failure = Some(error.clone()),
        }
        while let Some(first) = told.early.first_entry()
            && *first.key() == told.next
        {
            let (index, (partition, offset)) = told.early.pop_first().expect("the first entry");
            print(&json!({
                "event": "produced", "index": index, "partition": partition, "offset": offset,
            }));
            told.next += 1;
        }
    }

    fn get_custom_partitioner(&self) -> Option<&SumOfBytes> {
        self.custom.as_ref()
    }
}

type Producer = ThreadedProducer<Acknowledgements, SumOfBytes>;

/// Sends what the commands say until they end, then waits for the last acknowledgement.
pub fn run(options: &Value) -> Result<(), Failure> {
    let mut config = config(options);
    config.set("acks", "all");
    set(&mut config, "compression.codec", options, "codec");
    set(&mut config, "enable.idempotence", options, "idempotent");
    set(&mut config, "batch.num.messages", options, "batch");
    let is_custom = options["partitioner"] == "custom";
    if is_custom {
        // Otherwise records without a key never reach the partitioner.
        config.set("sticky.partitioning.linger.ms", "0");
    }
    let context = Acknowledgements {
        custom: is_custom.then_some(SumOfBytes),
        ..Acknowledgements::default()
    };
    let producer = Producer::from_config_and_context(&config, context)?;
    let topic = text(options, "topic")?;
    for (index, command) in commands().enumerate() {
        send(&producer, topic, index, &command?)?;
    }
    producer.flush(WITHIN)?;
    let told = &producer.context().told;
    match told
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .failure
        .take()
    {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

fn send(producer: &Producer, topic: &str, index: usize, command: &Value) -> Result<(), Failure> {
    let mut headers = OwnedHeaders::new();
    for header in command["headers"].as_array().into_iter().flatten() {
        headers = headers.insert(Header {
            key: header[0].as_str().unwrap_or_default(),
            value: header[1].as_str(),
        });
    }
    let mut record: BaseRecord<'_, str, str, usize> = BaseRecord::with_opaque_to(topic, index);
    record.headers = (headers.count() > 0).then_some(headers);
    record.key = command["key"].as_str();
    record.payload = command["value"].as_str();
    record.timestamp = command["timestamp"].as_i64();
    record.partition = match command["partition"].as_i64() {
        Some(partition) => Some(i32::try_from(partition).map_err(|error| error.to_string())?),
        None => None,
    };
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}
