//! A client that goes about its business while a test does harm: it must notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use kacrab_protocol::generated::ApiKey;

use super::batches::batch;
use super::broker::Broker;
use super::requests::{self, fetched, produced};
use super::topics;
use super::wire::Wire;

const TOPIC: &str = "steady";

/// Produces and fetches on one connection until it is stopped.
pub struct Steady {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Steady {
    pub fn start(broker: &Broker) -> Self {
        topics::create(broker, TOPIC, 1, &[]);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut wire = Wire::connect(broker.port());
        let thread = std::thread::spawn(move || {
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) || rounds == 0 {
                round(&mut wire, i64::try_from(rounds).expect("few rounds"));
                rounds += 1;
            }
            rounds
        });
        Self { stop, thread }
    }

    /// Ends the client, which fails if it was disturbed; gives how often it went around.
    pub fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the steady client was disturbed")
    }
}

/// One record in, the same record out, at its offset.
fn round(wire: &mut Wire, offset: i64) {
    let value = offset.to_be_bytes();
    let produce = requests::produce(TOPIC, 0, -1, &batch(&[&value]));
    let mut answer = wire.call(ApiKey::Produce, 9, |body, version| {
        produce.write(body, version)
    });
    let answer = produced(&mut answer, 9);
    assert_eq!((answer.error_code, answer.base_offset), (0, offset));
    let fetch = requests::fetch(TOPIC, 0, offset);
    let mut answer = wire.call(ApiKey::Fetch, 12, |body, version| {
        fetch.write(body, version)
    });
    let answer = fetched(&mut answer, 12);
    assert_eq!(answer.error_code, 0);
    let records = answer.records.expect("the record just written");
    assert!(
        records.ends_with(&[&value[..], &[0]].concat()),
        "the value and its empty headers"
    );
}
