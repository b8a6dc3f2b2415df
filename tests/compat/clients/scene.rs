//! Where scenarios play: the broker that all share, and topics and groups of each one's own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use kacrab_protocol::generated::ApiKey;
use kacrab_protocol::generated::fetch_response::PartitionData;
use serde_json::{Value, json};

use crate::client::{Client, Need, Program};
use crate::driver::{Driver, WITHIN};
use crate::member::{Member, Partition, Record};
use crate::support::batches::{batch, field};
use crate::support::broker::{Broker, Peer};
use crate::support::requests;
use crate::support::topics;
use crate::support::wire::Wire;

/// Groups settle at once, and members may have short sessions.
pub const SETTINGS: &[(&str, &str)] = &[
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
];

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

/// The session of a member that is not to die, with room for a machine that is busy.
pub const SESSION_MS: u32 = 8_000;

/// How often a member says that it is alive, and hears of a rebalance.
pub const HEARTBEAT_MS: u32 = 300;

/// The session of a member that a scenario kills.
pub const SHORT_SESSION_MS: u32 = 4_000;

/// The broker of all scenarios; it starts with the first of them.
#[derive(Default)]
pub struct Stage {
    /// The broker that was started, `None` where one is used that runs already.
    broker: Mutex<Option<Broker>>,
    address: OnceLock<(u16, Peer)>,
}

impl Stage {
    /// The broker's port, and what kind of broker it is.
    pub fn address(&self) -> (u16, Peer) {
        *self.address.get_or_init(|| {
            if let Ok(bootstrap) = std::env::var("MILLRACE_TEST_BOOTSTRAP") {
                let port = bootstrap
                    .rsplit(':')
                    .next()
                    .and_then(|port| port.parse().ok());
                let port = port.expect("MILLRACE_TEST_BOOTSTRAP is 127.0.0.1:<port>");
                // It may be any broker: it gets the time that Kafka needs.
                return (port, Peer::Kafka);
            }
            let broker = Broker::start_with(SETTINGS);
            let address = (broker.port(), broker.peer());
            *self.broker.lock().unwrap_or_else(PoisonError::into_inner) = Some(broker);
            address
        })
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.address().0)
    }

    pub fn wire(&self) -> Wire {
        Wire::connect(self.address().0)
    }

    pub fn create_topic(&self, name: &str, partitions: i32) {
        let (port, peer) = self.address();
        // Scenarios write records of long ago, which retention would take away meanwhile.
        topics::create_at(port, peer, name, partitions, &[("retention.ms", "-1")]);
    }

    /// Waits for the partitions of a topic that a client has created or grown.
    pub fn settle_topic(&self, name: &str, partitions: i32) {
        let (port, peer) = self.address();
        topics::settle_at(port, peer, name, partitions);
    }

    pub fn add_partitions(&self, name: &str, count: i32) {
        let (port, peer) = self.address();
        topics::grow_at(port, peer, name, count);
    }

    /// Waits until a topic that was deleted is not served any more.
    pub fn until_gone(&self, name: &str) {
        let end = Instant::now() + WITHIN;
        while self.fetch(&(name.to_owned(), 0)).error_code != UNKNOWN_TOPIC_OR_PARTITION {
            assert!(Instant::now() < end, "{name} was deleted and is served");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn fetch(&self, partition: &Partition) -> PartitionData {
        let request = requests::fetch(&partition.0, partition.1, 0);
        let mut answer = self.wire().call(ApiKey::Fetch, 12, |body, version| {
            request.write(body, version)
        });
        requests::fetched(&mut answer, 12)
    }

    /// Writes `count` records to a partition, in one batch, as no client under test; gives their
    /// values. They are `<tag>-<partition>-<number>`.
    pub fn feed(&self, partition: &Partition, tag: &str, count: usize) -> Vec<String> {
        let (topic, number) = partition;
        let values: Vec<_> = (0..count)
            .map(|at| format!("{tag}-{number}-{at}"))
            .collect();
        let bytes: Vec<_> = values.iter().map(String::as_bytes).collect();
        let request = requests::produce(topic, *number, -1, &batch(&bytes));
        let mut answer = self.wire().call(ApiKey::Produce, 9, |body, version| {
            request.write(body, version)
        });
        let error = requests::produced(&mut answer, 9).error_code;
        assert_eq!(error, 0, "a record for {partition:?}");
        values
    }

    /// The headers of the batches at the beginning of a partition.
    pub fn batches(&self, partition: &Partition) -> Vec<Batch> {
        let fetched = self.fetch(partition);
        assert_eq!(fetched.error_code, 0, "a fetch of {partition:?}");
        Batch::all(&fetched.records.unwrap_or_default())
    }

    /// Stops the broker that was started for the scenarios, and says what it had to say.
    pub fn end(&self, show_log: bool) {
        let mut broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut broker) = broker.take() {
            let mut lines = broker.log();
            if let Some((at, _)) = lines.char_indices().rev().nth(20_000) {
                lines.drain(..at);
            }
            if show_log {
                eprintln!("the broker's log:\n{lines}");
            }
            broker.end();
        }
    }
}

/// What a batch's header says.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub codec: u8,
    pub producer_id: i64,
    pub record_count: i32,
}

impl Batch {
    /// The whole batches in `bytes`.
    fn all(mut bytes: &[u8]) -> Vec<Self> {
        fn take<const COUNT: usize>(bytes: &[u8], at: usize) -> [u8; COUNT] {
            bytes[at..at + COUNT].try_into().expect("COUNT bytes")
        }
        let mut all = Vec::new();
        while bytes.len() > field::RECORDS {
            let length = i32::from_be_bytes(take(bytes, field::LENGTH));
            let size = field::LEADER_EPOCH + usize::try_from(length).expect("a length");
            if size > bytes.len() {
                break;
            }
            all.push(Self {
                codec: bytes[field::ATTRIBUTES + 1] & 7,
                producer_id: i64::from_be_bytes(take(bytes, field::PRODUCER_ID)),
                record_count: i32::from_be_bytes(take(bytes, field::RECORD_COUNT)),
            });
            bytes = &bytes[size..];
        }
        all
    }
}

/// A name for a topic or a group of `of`'s own: a broker that runs already may have seen the same
/// scenario before.
pub fn own_name(of: &str) -> String {
    format!("{}-{}", of.replace('_', "-"), std::process::id())
}

/// One scenario with one client.
pub struct Scene<'a> {
    pub stage: &'a Stage,
    pub client: &'static Client,
    program: Program,
    /// What its topics and groups are named after: nobody else's are.
    pub name: String,
}

impl<'a> Scene<'a> {
    pub fn new(stage: &'a Stage, client: &'static Client, program: Program, name: &str) -> Self {
        Self {
            stage,
            client,
            program,
            name: own_name(&format!("{}-{name}", client.name)),
        }
    }

    /// The same scenario, its topics and groups with another client.
    pub fn with(&self, client: &'static Client, program: Program) -> Self {
        Self {
            stage: self.stage,
            client,
            program,
            name: self.name.clone(),
        }
    }

    /// Creates a topic of the scenario's own; gives its partitions.
    pub fn topic(&self, partitions: i32) -> BTreeSet<Partition> {
        self.topic_called(&self.name, partitions)
    }

    pub fn topic_called(&self, name: &str, partitions: i32) -> BTreeSet<Partition> {
        self.stage.create_topic(name, partitions);
        (0..partitions).map(|at| (name.to_owned(), at)).collect()
    }

    /// Writes `count` records to each partition, as no client under test; gives all values, sorted.
    pub fn feed<'p>(
        &self,
        partitions: impl IntoIterator<Item = &'p Partition>,
        tag: &str,
        count: usize,
    ) -> Vec<String> {
        let mut values: Vec<_> = partitions
            .into_iter()
            .flat_map(|partition| self.stage.feed(partition, tag, count))
            .collect();
        values.sort_unstable();
        values
    }

    /// Starts a driver; `options` come on top of the broker's address.
    pub fn driver(&self, verb: &str, options: &Value) -> Driver {
        let mut all = json!({"bootstrap": self.stage.bootstrap()});
        merge(&mut all, options);
        let command = (self.program)().expect("what was installed a moment ago");
        Driver::start(command, self.client.name, verb, &all)
    }

    /// A member of the scenario's group on the scenario's topic, which reads from the beginning and
    /// commits by hand; `options` change that.
    pub fn member(&self, options: &Value) -> Member {
        let mut all = json!({
            "topics": [self.name],
            "group": self.name,
            "strategy": self.client.strategy,
            "reset": "earliest",
            "auto_commit": false,
            "session_ms": SESSION_MS,
            "heartbeat_ms": HEARTBEAT_MS,
            "isolation": "read_uncommitted",
            "metadata_max_age_ms": 1_000,
        });
        merge(&mut all, options);
        Member(self.driver("consume", &all))
    }

    /// Reads these partitions of the scenario's topic from their start: without a group, or in a
    /// group of its own where the client has no other way.
    pub fn read_all(&self, partitions: &BTreeSet<Partition>) -> Member {
        if self.client.can(&[Need::Ability("assign")]) {
            let starts: Vec<_> = partitions.iter().map(|p| (p.clone(), 0)).collect();
            return self.reader(&starts);
        }
        static READERS: AtomicU32 = AtomicU32::new(0);
        let number = READERS.fetch_add(1, Ordering::Relaxed);
        self.member(&json!({"group": format!("{}-reader-{number}", self.name)}))
    }

    /// A reader of these partitions from these offsets, without a group.
    pub fn reader(&self, offsets: &[(Partition, i64)]) -> Member {
        let rows: Vec<_> = offsets
            .iter()
            .map(|((topic, number), offset)| json!([topic, number, offset]))
            .collect();
        let options = json!({
            "assign": rows, "reset": "earliest", "auto_commit": false,
            "isolation": "read_uncommitted",
        });
        Member(self.driver("consume", &options))
    }

    /// Produces `records` to the scenario's topic; gives the partition and offset of each.
    pub fn produce(&self, options: &Value, records: &[Record]) -> Vec<(i32, i64)> {
        self.produce_to(options, records, true)
    }

    /// As [`Scene::produce`]; the client chooses the partition unless `by_hand`.
    pub fn produce_to(
        &self,
        options: &Value,
        records: &[Record],
        by_hand: bool,
    ) -> Vec<(i32, i64)> {
        let mut all = json!({
            "topic": self.name, "codec": "none", "partitioner": "default",
            "idempotent": false, "batch": 100,
        });
        merge(&mut all, options);
        let driver = self.driver("produce", &all);
        for record in records {
            driver.send(&json!({
                "key": record.key,
                "value": record.value,
                "headers": record.headers,
                "timestamp": record.timestamp,
                "partition": by_hand.then_some(record.partition.1),
            }));
        }
        let events = driver.finish_with_events();
        let places: Vec<_> = events
            .iter()
            .filter(|event| event["event"] == "produced")
            .enumerate()
            .map(|(at, event)| {
                assert_eq!(event["index"], at, "the order of acknowledgements");
                let partition = event["partition"].as_i64().expect("a partition");
                let offset = event["offset"].as_i64().expect("an offset");
                (i32::try_from(partition).expect("a small number"), offset)
            })
            .collect();
        assert_eq!(places.len(), records.len(), "records acknowledged");
        places
    }
}

fn merge(all: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
}
