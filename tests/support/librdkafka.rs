//! librdkafka through the `rdkafka` crate: a producer that keeps every delivery report, a consumer
//! of assigned partitions, and everything that either of them complained of.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long one record, or one answer, may take.
pub const WITHIN: Duration = Duration::from_secs(60);

/// What became of the record that was sent with number `record`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub record: usize,
    pub outcome: Result<(i32, i64), String>,
}

/// Keeps what the client reports.
#[derive(Default)]
pub struct Reports {
    complaints: Mutex<Vec<String>>,
    deliveries: Mutex<Vec<Delivery>>,
}

impl Reports {
    /// Log lines at warning or above, and errors, so far.
    pub fn complaints(&self) -> Vec<String> {
        lock(&self.complaints).clone()
    }

    /// The delivery reports so far, in the order of their arrival.
    pub fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.deliveries).clone()
    }

    fn complain(&self, complaint: String) {
        lock(&self.complaints).push(complaint);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let is_complaint = level as i32 <= RDKafkaLogLevel::Warning as i32;
        if is_complaint && facility != "CONFWARN" {
            self.complain(format!("{facility}: {message}"));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is news that the consumer asked for.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        self.complain(format!("{error}: {reason}"));
    }
}

impl ConsumerContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, record: usize) {
        let outcome = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.to_string()),
        };
        lock(&self.deliveries).push(Delivery { record, outcome });
    }
}

/// A producer; a thread of its own serves its delivery reports.
pub struct Producer(pub ThreadedProducer<Reports>);

impl Producer {
    pub fn new(bootstrap: &str, settings: &[(&str, &str)]) -> Self {
        let config = config(bootstrap, settings);
        let producer = ThreadedProducer::from_config_and_context(&config, Reports::default());
        Self(producer.expect("a valid producer configuration"))
    }

    pub fn reports(&self) -> &Reports {
        self.0.context()
    }

    /// Queues a record, and waits while the client's own queue is full.
    pub fn send(&self, record: BaseRecord<'_, [u8], [u8], usize>) {
        if let Err(error) = self.try_send(record) {
            panic!("a record was not queued: {error}");
        }
    }

    /// As [`Producer::send`]; gives why the client does not take the record.
    pub fn try_send(&self, record: BaseRecord<'_, [u8], [u8], usize>) -> Result<(), KafkaError> {
        let end = Instant::now() + WITHIN;
        let mut record = record;
        loop {
            match self.0.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again))
                    if Instant::now() < end =>
                {
                    record = again;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Waits until every record has its report.
    pub fn flush(&self) {
        self.0.flush(WITHIN).expect("delivery reports");
    }

    /// The partition and offset of each record, by its number; every one must have been delivered.
    pub fn delivered(&self) -> Vec<(i32, i64)> {
        self.flush();
        let mut deliveries = self.reports().deliveries();
        deliveries.sort_by_key(|delivery| delivery.record);
        deliveries
            .into_iter()
            .enumerate()
            .map(|(at, delivery)| {
                assert_eq!(at, delivery.record, "one report for each record");
                delivery
                    .outcome
                    .unwrap_or_else(|error| panic!("record {at} was not delivered: {error}"))
            })
            .collect()
    }
}

/// A consumer of partitions that the test assigns.
pub struct Consumer(pub BaseConsumer<Reports>);

impl Consumer {
    pub fn new(bootstrap: &str, settings: &[(&str, &str)]) -> Self {
        let mut config = config(bootstrap, settings);
        // The library wants a group's name even where partitions are assigned by hand.
        config
            .set("group.id", "none")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true");
        let consumer = BaseConsumer::from_config_and_context(&config, Reports::default());
        Self(consumer.expect("a valid consumer configuration"))
    }

    pub fn reports(&self) -> &Reports {
        self.0.context()
    }

    /// Reads `topic`'s `partition` from `offset` on.
    pub fn assign(&self, topic: &str, partition: i32, offset: Offset) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, offset)
            .expect("an offset that can be assigned");
        self.0.assign(&list).expect("an assignment");
    }

    /// The next record, or `None` at the partition's end.
    pub fn next(&self) -> Option<BorrowedMessage<'_>> {
        match self.0.poll(WITHIN) {
            Some(Ok(message)) => Some(message),
            Some(Err(KafkaError::PartitionEOF(_))) => None,
            Some(Err(error)) => {
                panic!(
                    "instead of a record: {error}, after {:?}",
                    self.reports().complaints()
                )
            }
            None => panic!("neither a record nor the end within {WITHIN:?}"),
        }
    }

    /// What `read` makes of each record up to the partition's end.
    pub fn to_end<T>(&self, mut read: impl FnMut(&BorrowedMessage<'_>) -> T) -> Vec<T> {
        let mut all = Vec::new();
        while let Some(message) = self.next() {
            all.push(read(&message));
        }
        all
    }
}

fn config(bootstrap: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set_log_level(RDKafkaLogLevel::Info);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}
