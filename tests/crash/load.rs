//! Producers and a consumer that never stop while the broker dies under them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;
use rdkafka::producer::BaseRecord;
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::ledger::{Place, Promise, Seen, Sent};
use crate::support::Random;
use crate::support::broker::Broker;
use crate::support::librdkafka::{Consumer, Producer};
use crate::value::Value;

pub const PARTITIONS: i32 = 3;

/// Longer than any outage of a test: an idempotent producer never gives up.
const DELIVERED_WITHIN: Duration = Duration::from_secs(180);

/// One producer of a load.
#[derive(Clone)]
pub struct Plan {
    pub producer: u32,
    pub promise: Promise,
    pub settings: Vec<(&'static str, &'static str)>,
}

/// The three producers of a topic with acks=all, or the two with acks=1.
pub fn plans(acks: &'static str, promise: Promise) -> Vec<Plan> {
    let idempotent = if promise == Promise::Once {
        "true"
    } else {
        "false"
    };
    let common = vec![
        ("acks", acks),
        ("enable.idempotence", idempotent),
        ("message.timeout.ms", "170000"),
        ("socket.timeout.ms", "10000"),
        ("reconnect.backoff.ms", "20"),
        ("reconnect.backoff.max.ms", "100"),
        ("retry.backoff.ms", "20"),
        ("retry.backoff.max.ms", "100"),
        ("topic.metadata.refresh.fast.interval.ms", "50"),
        // What gathers while the broker is away has to fit into a small segment.
        ("batch.size", "200000"),
    ];
    let ways: [&[(&str, &str)]; 3] = [
        &[("linger.ms", "0")],
        &[("linger.ms", "5"), ("compression.codec", "lz4")],
        &[("linger.ms", "20")],
    ];
    (0..)
        .zip(ways)
        .map(|(producer, way)| Plan {
            producer,
            promise,
            settings: [&common[..], way].concat(),
        })
        .collect()
}

/// A load on one topic: it runs until [`Load::stop`].
pub struct Load {
    stop_producers: Arc<AtomicBool>,
    producers: Vec<JoinHandle<Sent>>,
    stop_consumer: Arc<AtomicBool>,
    consumer: JoinHandle<Seen>,
}

impl Load {
    pub fn start(broker: &Broker, topic: &str, plans: Vec<Plan>, seed: u64) -> Self {
        let stop_producers = Arc::new(AtomicBool::new(false));
        let producers = plans
            .into_iter()
            .map(|plan| {
                let (bootstrap, topic) = (broker.bootstrap(), topic.to_owned());
                let stop = Arc::clone(&stop_producers);
                spawn(move || produce(&bootstrap, &topic, &plan, seed, &stop))
            })
            .collect();
        let (bootstrap, name) = (broker.bootstrap(), topic.to_owned());
        let stop_consumer = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stop_consumer);
        let consumer = spawn(move || consume(&bootstrap, &name, &stop));
        Self {
            stop_producers,
            producers,
            stop_consumer,
            consumer,
        }
    }

    /// Ends the load, waits for every report, and gives what was sent and what was seen.
    pub fn stop(self) -> (Vec<Sent>, Seen) {
        self.stop_producers.store(true, Ordering::Relaxed);
        let sent = self
            .producers
            .into_iter()
            .map(|producer| producer.join().expect("a producer"))
            .collect();
        // The consumer reads on until the last record has been written.
        self.stop_consumer.store(true, Ordering::Relaxed);
        (sent, self.consumer.join().expect("the consumer"))
    }
}

fn produce(bootstrap: &str, topic: &str, plan: &Plan, seed: u64, stop: &AtomicBool) -> Sent {
    let producer = Producer::new(bootstrap, &plan.settings);
    let mut random = Random::new(seed ^ u64::from(plan.producer));
    let mut partitions = Vec::new();
    let mut gave_up = None;
    while !stop.load(Ordering::Relaxed) && gave_up.is_none() {
        // Bursts with pauses: batches of every size, and moments without anything in flight.
        for _ in 0..random.range(1, 30) {
            let partition = i32::try_from(random.range(0, PARTITIONS as u64)).expect("small");
            let value = Value {
                producer: plan.producer,
                number: partitions.len() as u64,
            };
            let bytes = value.encode();
            let record = BaseRecord::with_opaque_to(topic, partitions.len())
                .partition(partition)
                .payload(&bytes[..]);
            match producer.try_send(record) {
                Ok(()) => partitions.push(partition),
                // The topic is gone, or what the broker has does not go with what was acknowledged.
                Err(error) => {
                    gave_up = Some(error.to_string());
                    break;
                }
            }
        }
        sleep(Duration::from_micros(random.range(0, 20_000)));
    }
    if gave_up.is_none() {
        // What is left untold after this is a violation, which the ledger reports.
        let _ = producer.0.flush(DELIVERED_WITHIN);
    }
    let mut told = vec![None; partitions.len()];
    for delivery in producer.reports().deliveries() {
        told[delivery.record] = Some(delivery.outcome);
    }
    Sent {
        producer: plan.producer,
        promise: plan.promise,
        partitions,
        told,
        gave_up,
    }
}

/// Reads along at the log's end: whatever a consumer has seen must never be taken back.
fn consume(bootstrap: &str, topic: &str, stop: &AtomicBool) -> Seen {
    let settings = [
        ("auto.offset.reset", "error"),
        ("fetch.wait.max.ms", "50"),
        ("fetch.error.backoff.ms", "20"),
        ("reconnect.backoff.max.ms", "100"),
    ];
    let consumer = Consumer::new(bootstrap, &settings);
    assign_all(&consumer, topic);
    let mut seen = Seen::new();
    while !stop.load(Ordering::Relaxed) {
        // Errors are the broker's deaths; the client reconnects by itself.
        if let Some(Ok(message)) = consumer.0.poll(Duration::from_millis(50)) {
            let (place, value) = record(&message);
            seen.insert(place, value);
        }
    }
    seen
}

/// A topic's content from the beginning of each partition to its present end, read afresh.
pub fn read_all(broker: &Broker, topic: &str) -> Seen {
    let consumer = Consumer::new(&broker.bootstrap(), &[("auto.offset.reset", "error")]);
    let ends: BTreeMap<i32, i64> = (0..PARTITIONS)
        .map(|partition| {
            let watermarks = consumer
                .0
                .fetch_watermarks(topic, partition, DELIVERED_WITHIN);
            let (low, high) = watermarks.expect("watermarks");
            assert_eq!(low, 0, "{topic}-{partition} begins at 0");
            (partition, high)
        })
        .collect();
    assign_all(&consumer, topic);
    let mut log = Seen::new();
    let wanted: i64 = ends.values().sum();
    let deadline = Instant::now() + DELIVERED_WITHIN;
    while (log.len() as i64) < wanted && Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.0.poll(Duration::from_millis(100)) {
            let (place, value) = record(&message);
            let twice = log.insert(place, value);
            assert_eq!(twice, None, "a read went back to {place:?}");
        }
    }
    assert_eq!(log.len() as i64, wanted, "records up to {ends:?}");
    log
}

fn assign_all(consumer: &Consumer, topic: &str) {
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Offset(0))
            .expect("an offset that can be assigned");
    }
    consumer.0.assign(&list).expect("an assignment");
}

fn record(message: &rdkafka::message::BorrowedMessage<'_>) -> (Place, Option<Value>) {
    let place = (message.partition(), message.offset());
    (place, message.payload().and_then(Value::decode))
}
