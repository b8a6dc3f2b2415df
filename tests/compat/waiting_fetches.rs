//! Fetches that wait: for how many bytes, for how long, at what cost, and what ends the wait.

use std::fs;
use std::time::{Duration, Instant};

use kacrab_protocol::generated::fetch_request::{FetchPartition, FetchTopic};
use kacrab_protocol::generated::{ApiKey, FetchRequestData, FetchResponseData};

use crate::support::batches::batch;
use crate::support::broker::{Broker, Peer};
use crate::support::requests::{self, produced};
use crate::support::topics;
use crate::support::wire::{Wire, text};

const VERSION: i16 = 12;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

/// Far longer than any of these tests takes when its wait ends as it should.
const LONG: Duration = Duration::from_secs(15);

/// A fetch of the first `partitions` of "waited" from their start.
fn fetch(partitions: i32, min_bytes: usize, max_wait: Duration) -> FetchRequestData {
    let mut request = requests::fetch("waited", 0, 0)
        .with_min_bytes(i32::try_from(min_bytes).expect("a small number"))
        .with_max_wait_ms(i32::try_from(max_wait.as_millis()).expect("a short time"));
    let first = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = (0..partitions)
        .map(|partition| first.clone().with_partition(partition))
        .collect();
    request
}

fn send(wire: &mut Wire, request: &FetchRequestData) {
    let mut body = bytes::BytesMut::new();
    request
        .write(&mut body, VERSION)
        .expect("an encodable request");
    wire.send_request(ApiKey::Fetch as i16, VERSION, &body);
}

/// The error code and the bytes of each partition of the next answer.
fn receive(wire: &mut Wire) -> Vec<(i16, usize)> {
    let mut answer = wire.receive().expect("an answer");
    // The correlation id and no tagged fields.
    let _header = answer.split_to(5);
    let answer = FetchResponseData::read(&mut answer, VERSION).expect("a decodable answer");
    assert_eq!(answer.error_code, 0, "the answer as a whole");
    answer
        .responses
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .map(|row| {
            let bytes = row.records.map_or(0, |records| records.len());
            (row.error_code, bytes)
        })
        .collect()
}

fn produce(wire: &mut Wire, partition: i32, records: &[u8]) {
    let request = requests::produce("waited", partition, -1, records);
    let mut answer = wire.call(ApiKey::Produce, 9, |body, v| request.write(body, v));
    assert_eq!(produced(&mut answer, 9).error_code, 0);
}

/// The processor time that the broker has used so far.
fn processor_time(broker: &Broker) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", broker.pid())).expect("its stat");
    // The name in parentheses may hold spaces: fields 14 and 15 are the 12th and 13th behind it.
    let (_, behind) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields: Vec<_> = behind.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
    // USER_HZ is 100 on every architecture that this runs on.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

#[test]
fn a_fetch_with_too_few_bytes_waits_and_costs_nothing() {
    let broker = Broker::start();
    topics::create(&broker, "waited", 1, &[]);
    let mut wire = Wire::connect(broker.port());
    let records = batch(&[b"a"]);
    produce(&mut wire, 0, &records);

    let wait = Duration::from_secs(2);
    let (began, used) = (Instant::now(), processor_time(&broker));
    send(&mut wire, &fetch(1, records.len() + 1, wait));
    assert_eq!(receive(&mut wire), [(0, records.len())]);
    let used = processor_time(&broker) - used;
    let took = began.elapsed();
    assert!(took >= wait - Duration::from_millis(10), "{took:?}");
    // A JVM compiles and collects meanwhile, whatever it is asked.
    if broker.peer() == Peer::Millrace {
        assert!(
            used < wait / 4,
            "{used:?} of processor time for one idle fetch"
        );
    }
}

/// With two shards some of the partitions belong to the one and some to the other.
#[test]
fn bytes_of_all_partitions_together_end_the_wait() {
    let broker = Broker::start();
    topics::create(&broker, "waited", 6, &[]);
    let mut waiting = Wire::connect(broker.port());
    let mut producing = Wire::connect(broker.port());
    let records = batch(&[b"one of six"]);
    produce(&mut producing, 0, &records);

    let began = Instant::now();
    send(&mut waiting, &fetch(6, 6 * records.len(), LONG));
    for partition in 1..6 {
        std::thread::sleep(Duration::from_millis(50));
        produce(&mut producing, partition, &records);
    }
    let mut rows = receive(&mut waiting);
    rows.sort_unstable();
    assert_eq!(rows, [(0, records.len()); 6], "answered with all of it");
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
}

/// What a partition has beyond its own limit counts for nothing: Kafka's `DelayedFetch`.
#[test]
fn a_partition_counts_up_to_its_own_limit() {
    let broker = Broker::start();
    topics::create(&broker, "waited", 2, &[]);
    let mut waiting = Wire::connect(broker.port());
    let mut producing = Wire::connect(broker.port());
    let records = batch(&[b"a", b"b"]);

    let mut request = fetch(2, 3 * records.len(), LONG);
    for partition in &mut request.topics[0].partitions {
        partition.partition_max_bytes = i32::try_from(2 * records.len()).expect("small");
    }
    let began = Instant::now();
    send(&mut waiting, &request);
    for _ in 0..4 {
        produce(&mut producing, 0, &records);
    }
    std::thread::sleep(Duration::from_millis(100));
    produce(&mut producing, 1, &records);
    let mut rows = receive(&mut waiting);
    rows.sort_unstable();
    assert_eq!(rows, [(0, records.len()), (0, 2 * records.len())]);
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
}

#[test]
fn an_unknown_topic_does_not_end_the_wait_for_the_others() {
    let broker = Broker::start();
    topics::create(&broker, "waited", 1, &[]);
    let mut wire = Wire::connect(broker.port());
    let wait = Duration::from_millis(800);
    let mut request = fetch(1, 1, wait);
    let unknown = FetchTopic::default()
        .with_topic(text("unknown"))
        .with_partitions(vec![FetchPartition::default()]);
    request.topics.push(unknown);

    let began = Instant::now();
    send(&mut wire, &request);
    let mut rows = receive(&mut wire);
    rows.sort_unstable();
    assert_eq!(rows, [(0, 0), (UNKNOWN_TOPIC_OR_PARTITION, 0)]);
    let took = began.elapsed();
    assert!(took >= wait - Duration::from_millis(10), "{took:?}");

    // Alone it is answered at once.
    request.topics.remove(0);
    request.max_wait_ms = i32::try_from(LONG.as_millis()).expect("a short time");
    let began = Instant::now();
    send(&mut wire, &request);
    assert_eq!(receive(&mut wire), [(UNKNOWN_TOPIC_OR_PARTITION, 0)]);
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
}

/// A client that has more of an epoch than the log is told where to go on from (KIP-595), and does
/// not wait for it.
#[test]
fn a_history_that_parts_from_the_logs_is_answered_at_once() {
    let broker = Broker::start();
    topics::create(&broker, "waited", 1, &[]);
    let mut wire = Wire::connect(broker.port());
    produce(&mut wire, 0, &batch(&[b"a", b"b"]));
    let at = |offset: i64, last_fetched_epoch: i32| {
        let mut request = fetch(1, 1, LONG);
        let partition = &mut request.topics[0].partitions[0];
        partition.fetch_offset = offset;
        partition.last_fetched_epoch = last_fetched_epoch;
        request
    };
    let mut ask = |request: FetchRequestData| {
        let mut answer = wire.call(ApiKey::Fetch, VERSION, |body, v| request.write(body, v));
        let row = requests::fetched(&mut answer, VERSION);
        let bytes = row.records.map_or(0, |records| records.len());
        let diverging = (row.diverging_epoch.epoch, row.diverging_epoch.end_offset);
        (row.error_code, diverging, bytes)
    };
    let began = Instant::now();
    let none = (-1, -1);
    let bytes = batch(&[b"a", b"b"]).len();
    assert_eq!(ask(at(0, 0)), (0, none, bytes), "it follows");
    assert_eq!(ask(at(3, 0)), (0, (0, 2), 0), "it is one ahead");
    assert_eq!(ask(at(2, 1)), (OFFSET_OUT_OF_RANGE, none, 0), "to come");
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
}

/// What a fetch names is held while it waits, so only so much may wait; the others are answered at
/// once, and no ordinary one is among them.
#[test]
fn large_fetches_that_wait_stay_within_the_memory() {
    const CONNECTIONS: usize = 150;
    const PARTITIONS: i32 = 10_000;
    const MEMORY_BYTES: usize = 64 << 20;
    let memory = MEMORY_BYTES.to_string();
    let broker = Broker::start_with(&[("millrace.memory.bytes", &memory)]);
    if broker.peer() != Peer::Millrace {
        return;
    }
    topics::create(&broker, "waited", 1, &[]);
    let large = fetch(PARTITIONS, 1, Duration::from_secs(5));
    let port = broker.port();
    let asking: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let large = large.clone();
            let asking = std::thread::spawn(move || {
                let mut wire = Wire::connect(port);
                send(&mut wire, &large);
                receive(&mut wire).len()
            });
            // What a request takes while it is handled is not what this is about.
            std::thread::sleep(Duration::from_millis(20));
            asking
        })
        .collect();

    let (began, wait) = (Instant::now(), Duration::from_millis(500));
    let mut wire = Wire::connect(port);
    send(&mut wire, &fetch(2, 1, wait));
    receive(&mut wire);
    let took = began.elapsed();
    assert!(took >= wait - Duration::from_millis(10), "{took:?}");
    for asking in asking {
        assert_eq!(asking.join().expect("an answer"), PARTITIONS as usize);
    }
    let most = memory_max(&broker);
    assert!(most < MEMORY_BYTES, "{most} bytes");
}

/// The most memory that the broker has had at once.
fn memory_max(broker: &Broker) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("its status");
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = most.expect("a high-water mark").trim();
    let kib = most.strip_suffix(" kB").expect("a number of KiB");
    kib.parse::<usize>().expect("a number") << 10
}
